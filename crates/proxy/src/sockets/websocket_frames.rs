//! [`FrameTracker`] tracks frame boundaries in a WebSocket byte stream (RFC 6455 §5.2), so that a close frame can
//! be inserted between two frames. Pure; it reads frame headers, never payloads.

/// The longest header: two bytes, eight of length, four of mask.
const HEADER_BYTES_MAX: usize = 14;

/// The longest payload of a control frame (RFC 6455 §5.5).
const CONTROL_BYTES_MAX: usize = 125;

const MASKED: u8 = 0x80;
const OPCODE: u8 = 0x0f;
const CLOSE: u8 = 0x8;
/// The flag of a message's last frame, which every control frame has.
const FIN: u8 = 0x80;

/// Tracks one direction of a WebSocket. Bytes that are not frames are tracked as if they were; then
/// [`FrameTracker::is_between`] is meaningless and harmless.
#[derive(Clone, Debug)]
pub struct FrameTracker {
    at: FramePosition,
    closed: bool,
}

#[derive(Clone, Debug)]
enum FramePosition {
    /// In a header of which this many bytes are known; between two frames when it is 0.
    Header([u8; HEADER_BYTES_MAX], usize),
    /// In a payload; `left` bytes are missing.
    Payload { left: u64, closes: bool },
}

/// Why a WebSocket ends (RFC 6455 §7.4.1).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct CloseFrame {
    pub code: u16,
    /// For people; at most 123 bytes.
    pub reason: &'static str,
}

impl FrameTracker {
    pub fn new() -> Self {
        Self { at: FramePosition::between(), closed: false }
    }

    /// Whether the position is between two frames.
    pub fn is_at_boundary(&self) -> bool {
        matches!(self.at, FramePosition::Header(_, 0))
    }

    /// Whether a complete close frame has passed: nothing may follow it (RFC 6455 §5.5.1).
    pub fn is_closed(&self) -> bool {
        self.closed
    }

    /// The number of bytes that the current frame still needs, as far as known.
    pub fn left(&self) -> u64 {
        match self.at {
            FramePosition::Header(..) => 0,
            FramePosition::Payload { left, .. } => left,
        }
    }

    /// Tracks bytes that were copied.
    pub fn pass(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            bytes = &bytes[self.pass_one(bytes)..];
        }
    }

    /// Tracks `bytes` up to the end of the current or first frame. Returns how many they are.
    pub fn pass_one(&mut self, bytes: &[u8]) -> usize {
        let mut passed = 0;
        while passed < bytes.len() {
            let rest = &bytes[passed..];
            match &mut self.at {
                FramePosition::Header(header, known) => {
                    header[*known] = rest[0];
                    *known += 1;
                    passed += 1;
                    let Some((left, closes)) = payload(&header[..*known]) else { continue };
                    self.at = FramePosition::Payload { left, closes };
                }
                FramePosition::Payload { left, .. } => {
                    let now =
                        usize::try_from(*left).map_or(rest.len(), |left| left.min(rest.len()));
                    *left -= now as u64;
                    passed += now;
                }
            }
            if let FramePosition::Payload { left: 0, closes } = self.at {
                self.closed |= closes;
                self.at = FramePosition::between();
                break;
            }
        }
        passed
    }
}

impl FramePosition {
    fn between() -> Self {
        Self::Header([0; HEADER_BYTES_MAX], 0)
    }
}

impl CloseFrame {
    /// The frame as a server sends it.
    pub fn to_client(self) -> Vec<u8> {
        let payload = self.payload();
        let mut frame = vec![FIN | CLOSE, payload.len() as u8];
        frame.extend(payload);
        frame
    }

    /// The frame as a client sends it, masked with `key`, which must be unpredictable (RFC 6455 §5.3).
    pub fn to_server(self, key: [u8; 4]) -> Vec<u8> {
        let payload = self.payload();
        let mut frame = vec![FIN | CLOSE, MASKED | payload.len() as u8];
        frame.extend(key);
        frame.extend(payload.iter().zip(key.iter().cycle()).map(|(byte, key)| byte ^ key));
        frame
    }

    /// The code and the reason, truncated to the length of a control frame.
    fn payload(self) -> Vec<u8> {
        let bytes = self.code.to_be_bytes().into_iter().chain(self.reason.bytes());
        bytes.take(CONTROL_BYTES_MAX).collect()
    }
}

/// The length of the payload, and whether the frame is a close frame; `None` while the header is incomplete.
fn payload(header: &[u8]) -> Option<(u64, bool)> {
    let [first, second, more @ ..] = header else { return None };
    let (length, mask) = more.split_at_checked(match second & !MASKED {
        126 => 2,
        127 => 8,
        _ => 0,
    })?;
    if mask.len() < if second & MASKED == 0 { 0 } else { 4 } {
        return None;
    }
    let long = length.iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte));
    let length = if length.is_empty() { u64::from(second & !MASKED) } else { long };
    Some((length, first & OPCODE == CLOSE))
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;
    use proptest::sample::Index;

    use super::*;

    /// A frame, its length in the shortest form unless `wide`.
    fn frame(first: u8, masked: bool, wide: bool, payload: &[u8]) -> Vec<u8> {
        let mask = if masked { MASKED } else { 0 };
        let mut frame = vec![first];
        match payload.len() {
            length @ 0..126 if !wide => frame.push(mask | length as u8),
            length @ 0..65_536 if !wide => {
                frame.push(mask | 126);
                frame.extend((length as u16).to_be_bytes());
            }
            length => {
                frame.push(mask | 127);
                frame.extend((length as u64).to_be_bytes());
            }
        }
        if masked {
            frame.extend([1, 2, 3, 4]);
        }
        frame.extend(payload);
        frame
    }

    fn any_frame() -> impl Strategy<Value = Vec<u8>> {
        let length = prop_oneof![0..130_usize, 65_530..65_540_usize];
        let payload = length.prop_flat_map(|length| vec(any::<u8>(), length));
        // No close frame, which is last.
        let first = any::<u8>().prop_filter("no close", |first| first & OPCODE != CLOSE);
        (first, any::<bool>(), any::<bool>(), payload)
            .prop_map(|(first, masked, wide, payload)| frame(first, masked, wide, &payload))
    }

    /// `bytes` in pieces that end at these places.
    fn pieces<'a>(bytes: &'a [u8], cuts: &[Index]) -> Vec<&'a [u8]> {
        let mut at: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
        at.extend([0, bytes.len()]);
        at.sort_unstable();
        at.windows(2).map(|pair| &bytes[pair[0]..pair[1]]).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn boundaries_are_where_frames_end_however_the_bytes_are_cut(
            frames in vec(any_frame(), 1..6),
            cuts in vec(any::<Index>(), 0..12),
        ) {
            let bytes = frames.concat();
            let ends: Vec<usize> = frames
                .iter()
                .scan(0, |end, frame| { *end += frame.len(); Some(*end) })
                .collect();
            let (mut stream, mut passed) = (FrameTracker::new(), 0);
            for piece in pieces(&bytes, &cuts) {
                stream.pass(piece);
                passed += piece.len();
                prop_assert_eq!(stream.is_at_boundary(), passed == 0 || ends.contains(&passed));
                let end = ends.iter().find(|end| **end >= passed).expect("the last one");
                prop_assert!(stream.left() <= (end - passed) as u64);
            }
            prop_assert!(!stream.is_closed());
        }

        #[test]
        fn one_frame_passes_at_a_time_however_the_bytes_are_cut(
            frames in vec(any_frame(), 1..6),
            cuts in vec(any::<Index>(), 0..12),
        ) {
            let bytes = frames.concat();
            let (mut stream, mut got) = (FrameTracker::new(), vec![vec![]]);
            for mut piece in pieces(&bytes, &cuts) {
                while !piece.is_empty() {
                    let passed = stream.pass_one(piece);
                    got.last_mut().expect("one").extend_from_slice(&piece[..passed]);
                    piece = &piece[passed..];
                    if stream.is_at_boundary() {
                        got.push(vec![]);
                    }
                }
            }
            prop_assert_eq!(got.pop(), Some(vec![]));
            prop_assert_eq!(got, frames);
        }

        #[test]
        fn tracking_any_bytes_does_not_panic(pieces in vec(vec(any::<u8>(), 0..64), 0..32)) {
            let mut stream = FrameTracker::new();
            for piece in pieces {
                stream.pass(&piece);
            }
        }
    }

    #[test]
    fn a_close_frame_counts_when_it_is_whole() {
        let close = CloseFrame { code: 1000, reason: "bye" };
        for bytes in [close.to_client(), close.to_server([9; 4]), vec![0x88, 0]] {
            let mut stream = FrameTracker::new();
            stream.pass(&frame(0x81, false, false, b"hello"));
            stream.pass(&bytes[..bytes.len() - 1]);
            assert!(!stream.is_closed() && !stream.is_at_boundary(), "{bytes:?}");
            stream.pass(&bytes[bytes.len() - 1..]);
            assert!(stream.is_closed() && stream.is_at_boundary(), "{bytes:?}");
        }
    }

    #[test]
    fn a_close_frame_says_why_and_is_masked_towards_a_server() {
        let close = CloseFrame { code: 1008, reason: "no" };
        assert_eq!(close.to_client(), [0x88, 4, 0x03, 0xf0, b'n', b'o']);
        let key = [0x10, 0x20, 0x30, 0x40];
        let masked = [0x03 ^ 0x10, 0xf0 ^ 0x20, b'n' ^ 0x30, b'o' ^ 0x40];
        assert_eq!(close.to_server(key)[..6], [0x88, 0x84, 0x10, 0x20, 0x30, 0x40]);
        assert_eq!(close.to_server(key)[6..], masked);
        let long = "x".repeat(500).leak();
        assert_eq!(
            CloseFrame { code: 1008, reason: long }.to_client().len(),
            2 + CONTROL_BYTES_MAX
        );
    }
}

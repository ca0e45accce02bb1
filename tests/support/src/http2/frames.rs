//! Hand-written HTTP/2 frames (RFC 9113 §4.1, §6; HPACK, RFC 7541) that no library would send.

use super::super::lab::Lab;
use super::super::wire::Wire;

pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const PRIORITY: u8 = 2;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PUSH_PROMISE: u8 = 5;
pub const PING: u8 = 6;
pub const GOAWAY: u8 = 7;
pub const WINDOW_UPDATE: u8 = 8;
pub const CONTINUATION: u8 = 9;

pub const END_STREAM: u8 = 1;
pub const ACK: u8 = 1;
pub const END_HEADERS: u8 = 4;

/// A frame as received.
#[derive(Clone, Debug)]
pub struct Frame {
    pub kind: u8,
    pub flags: u8,
    pub stream: u32,
    pub payload: Vec<u8>,
}

/// What became of a stream, or of all.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum End {
    /// An answer with this status.
    Answer(u16),
    /// RST_STREAM with this code.
    Reset(u32),
    /// GOAWAY with this code.
    GoAway(u32),
    /// The connection was closed without a word.
    Closed,
}

/// A frame to be sent.
pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("a length").to_be_bytes();
    let mut frame = vec![length[1], length[2], length[3], kind, flags];
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

/// A header block: each field a literal that is not indexed and not compressed.
pub fn block<N: AsRef<[u8]>, V: AsRef<[u8]>>(fields: &[(N, V)]) -> Vec<u8> {
    let mut block = vec![];
    for (name, value) in fields {
        block.push(0);
        for text in [name.as_ref(), value.as_ref()] {
            integer(&mut block, text.len());
            block.extend(text);
        }
    }
    block
}

/// An integer with a prefix of seven bits (RFC 7541 §5.1).
fn integer(block: &mut Vec<u8>, mut value: usize) {
    if value < 127 {
        return block.push(value as u8);
    }
    block.push(127);
    value -= 127;
    while value >= 128 {
        block.push((value % 128) as u8 | 128);
        value /= 128;
    }
    block.push(value as u8);
}

/// The `:status` of a block of h2's encoder: an entry of the static table, or a literal whose digits
/// are in the Huffman code of RFC 7541 Appendix B.
fn status(block: &[u8]) -> u16 {
    let updates = block.iter().take_while(|byte| **byte & 0xe0 == 0x20).count();
    let block = &block[updates..];
    if let 0x88..=0x8e = block[0] {
        return [200, 204, 206, 304, 400, 404, 500][usize::from(block[0] - 0x88)];
    }
    assert_eq!(block[0] & 0x0f, 8, "a literal `:status`: {block:x?}");
    let length = usize::from(block[1] & 0x7f);
    let coded = &block[2..2 + length];
    if block[1] & 0x80 == 0 {
        return String::from_utf8_lossy(coded).parse().expect("a number");
    }
    let mut bits = coded.iter().flat_map(|byte| (0..8).rev().map(move |bit| byte >> bit & 1));
    let mut take =
        |count| (0..count).fold(0_u16, |sum, _| sum * 2 + u16::from(bits.next().unwrap_or(1)));
    (0..3).fold(0, |sum, _| {
        let five = take(5);
        let digit = if five < 3 { five } else { five * 2 + take(1) - 0b01_1001 + 3 };
        sum * 10 + digit
    })
}

impl Lab {
    /// A tunnel of `ci` to `host` in which HTTP/2 was agreed on and nothing has been sent.
    pub async fn frames(&self, host: &str) -> Wire {
        let (answer, wire) = self.connect(&format!("{host}:443")).await;
        assert_eq!(answer.head.status(), 200, "{answer:?}");
        let (wire, alpn) = self.secure_offering(wire, host, &[b"h2"]).await;
        assert_eq!(alpn.as_deref(), Some(&b"h2"[..]));
        wire
    }
}

impl Wire {
    /// The next frame; `None` at the end.
    pub async fn frame(&mut self) -> Option<Frame> {
        let head = self.exactly(9).await;
        let &[a, b, c, kind, flags, s0, s1, s2, s3] = &head[..] else { return None };
        let length = u32::from_be_bytes([0, a, b, c]) as usize;
        let stream = u32::from_be_bytes([s0, s1, s2, s3]) & (u32::MAX >> 1);
        let payload = self.exactly(length).await;
        (payload.len() == length).then_some(Frame { kind, flags, stream, payload })
    }

    /// What becomes of `stream`: reads until it is answered or reset, or all has ended.
    pub async fn end_of(&mut self, stream: u32) -> End {
        while let Some(frame) = self.frame().await {
            match frame.kind {
                HEADERS if frame.stream == stream => return End::Answer(status(&frame.payload)),
                RST_STREAM if frame.stream == stream => return End::Reset(number(&frame.payload)),
                GOAWAY => return End::GoAway(number(&frame.payload[4..])),
                _ => {}
            }
        }
        End::Closed
    }
}

fn number(bytes: &[u8]) -> u32 {
    u32::from_be_bytes(bytes[..4].try_into().expect("four bytes"))
}

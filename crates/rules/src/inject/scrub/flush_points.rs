//! [`FlushPoints`]: the places in a body up to which held bytes are flushed, because the body may pause there.

use http::header::{self, HeaderMap};

use crate::inject::multipart::Delimiter;

/// Streams of messages: gRPC, gRPC-Web and Connect (<https://connectrpc.com/docs/protocol#streaming-response>), and events
/// of AWS.
const MESSAGE_TYPES: [(&str, Framing); 4] = [
    ("application/grpc", Framing::Flagged),
    ("application/grpc-web", Framing::Flagged),
    ("application/connect", Framing::Flagged),
    ("application/vnd.amazon.eventstream", Framing::Whole),
];

/// Where a body may pause. A needle that goes beyond such a place is not searched for.
#[derive(Debug)]
pub enum FlushPoints {
    /// Nowhere: its length is known, and what is held back follows with the rest.
    Nowhere,
    /// After each line.
    Lines,
    /// After each line, and after each delimiter of parts, which some servers send with the part before it.
    Parts(Delimiter),
    /// After each message, which may be binary.
    Messages(MessageEnds),
    /// Everywhere: nothing is held back. For bodies of unknown length and a secret that was not sent.
    Anywhere,
}

/// What a message begins with.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Framing {
    /// A byte of flags, and the length of what follows
    /// (<https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md>).
    Flagged,
    /// The length of the whole message, which ends with a checksum
    /// (<https://docs.aws.amazon.com/transcribe/latest/dg/event-stream.html>).
    Whole,
}

/// Follows the messages of a stream.
#[derive(Debug)]
pub struct MessageEnds {
    framing: Framing,
    /// The beginning of a prefix.
    prefix: Vec<u8>,
    /// Bytes of the message that have not come.
    left: usize,
    /// Bytes that came after the last message.
    since: usize,
}

impl FlushPoints {
    /// Of an answer with these fields and a body of this length, if it is known.
    pub fn of(fields: &HeaderMap, length: Option<u64>) -> Self {
        if length.is_some() {
            return Self::Nowhere;
        }
        match framing(fields) {
            Some(framing) => Self::Messages(MessageEnds::new(framing)),
            None => delimiter(fields).map_or(Self::Lines, Self::Parts),
        }
    }

    /// Takes the next bytes of the body.
    pub(super) fn pass(&mut self, bytes: &[u8]) {
        if let Self::Messages(ends) = self {
            ends.pass(bytes);
        }
    }

    /// Whether no needle is searched for beyond a line.
    pub(super) fn are_lines(&self) -> bool {
        matches!(self, Self::Lines | Self::Parts(_))
    }

    /// How many bytes at the end of `text`, which came last, are held back if its last `tail` bytes may begin a needle.
    pub(super) fn held(&self, tail: usize, text: &[u8]) -> usize {
        match self {
            Self::Nowhere | Self::Lines => tail,
            Self::Parts(delimiter) => {
                let delimiter = delimiter.as_bytes();
                let is_delimiter = tail <= delimiter.len() && text.ends_with(delimiter);
                if is_delimiter { 0 } else { tail }
            }
            Self::Messages(ends) => tail.min(ends.since),
            Self::Anywhere => 0,
        }
    }
}

impl Framing {
    /// How many bytes are read before the end of the message is known.
    fn prefix_bytes(self) -> usize {
        match self {
            Self::Flagged => 5,
            Self::Whole => 4,
        }
    }

    /// How many bytes follow a complete prefix.
    fn following(self, prefix: &[u8]) -> usize {
        let add = |length: usize, byte: &u8| (length << 8) | usize::from(*byte);
        match self {
            Self::Flagged => prefix[1..].iter().fold(0, add),
            Self::Whole => prefix.iter().fold(0, add).saturating_sub(prefix.len()),
        }
    }
}

impl MessageEnds {
    fn new(framing: Framing) -> Self {
        Self { framing, prefix: Vec::new(), left: 0, since: 0 }
    }

    fn pass(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let prefix_bytes = self.framing.prefix_bytes();
            let wanted = if self.left > 0 { self.left } else { prefix_bytes - self.prefix.len() };
            let (now, rest) = bytes.split_at(wanted.min(bytes.len()));
            if self.left > 0 {
                self.left -= now.len();
            } else {
                self.prefix.extend_from_slice(now);
                if self.prefix.len() == prefix_bytes {
                    self.left = self.framing.following(&self.prefix);
                    self.prefix.clear();
                }
            }
            let is_between = self.left == 0 && self.prefix.is_empty();
            self.since = if is_between { 0 } else { self.since.saturating_add(now.len()) };
            bytes = rest;
        }
    }
}

fn framing(fields: &HeaderMap) -> Option<Framing> {
    let value = fields.get(header::CONTENT_TYPE)?;
    let mut parts = value.as_bytes().split(|byte| matches!(byte, b'+' | b';' | b' '));
    let name = parts.next().unwrap_or_default();
    let mut types = MESSAGE_TYPES.into_iter();
    types.find(|(known, _)| name.eq_ignore_ascii_case(known.as_bytes())).map(|(_, framing)| framing)
}

/// The delimiter of an answer with several parts, such as results of GraphQL that come one by one.
fn delimiter(fields: &HeaderMap) -> Option<Delimiter> {
    let value = fields.get(header::CONTENT_TYPE)?.to_str().ok()?;
    let (kind, _) = value.split_once('/')?;
    kind.eq_ignore_ascii_case("multipart").then(|| Delimiter::of(value).ok())?
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn flush_points(media_type: &'static str, length: Option<u64>) -> FlushPoints {
        let value = HeaderValue::from_static(media_type);
        FlushPoints::of(&HeaderMap::from_iter([(header::CONTENT_TYPE, value)]), length)
    }

    #[test]
    fn only_message_streams_of_unknown_length_are_flushed_after_messages() {
        for other in ["application/json", "application/grpc-web-text", "application/grpcx", ""] {
            assert!(matches!(flush_points(other, None), FlushPoints::Lines), "{other}");
        }
        for messages in [
            "application/grpc",
            "Application/gRPC+proto",
            "application/connect+json",
            "application/grpc-web; a=b",
            "application/vnd.amazon.eventstream",
        ] {
            assert!(matches!(flush_points(messages, None), FlushPoints::Messages(_)), "{messages}");
            assert!(matches!(flush_points(messages, Some(9)), FlushPoints::Nowhere), "{messages}");
        }
    }

    #[test]
    fn only_multipart_answers_with_a_plain_boundary_are_flushed_after_delimiters() {
        for other in [
            "multipart/mixed",
            "multipart/mixed; boundary=a; boundary=b",
            "multipart/mixed; boundary=\"a b\"",
            "application/json; boundary=a",
        ] {
            assert!(matches!(flush_points(other, None), FlushPoints::Lines), "{other}");
        }
        for (parts, expected) in [
            ("multipart/mixed; boundary=\"-\"", "---"),
            ("Multipart/Mixed;boundary=\"graphql\";subscriptionSpec=1.0", "--graphql"),
        ] {
            let FlushPoints::Parts(delimiter) = flush_points(parts, None) else {
                panic!("{parts}")
            };
            assert_eq!(delimiter.as_bytes(), expected.as_bytes());
            assert!(matches!(flush_points(parts, Some(9)), FlushPoints::Nowhere), "{parts}");
        }
    }

    #[test]
    fn the_end_of_each_message_is_found_in_any_chunking() {
        let flagged = &b"\0\0\0\0\x03one\0\0\0\0\0\x01\0\0\0\x02ab\0\0\0"[..];
        let whole = &b"\0\0\0\x07one\0\0\0\x04\0\0\x01\0"[..];
        let long = [whole, &[b'x'; 252], b"\0\0"].concat();
        for (framing, text, expected) in [
            (Framing::Flagged, flagged, [0, 8, 13, 20]),
            (Framing::Whole, &long[..], [0, 7, 11, 267]),
        ] {
            for size in 1..=text.len() {
                let mut ends = MessageEnds::new(framing);
                let mut came = 0;
                for piece in text.chunks(size) {
                    ends.pass(piece);
                    came += piece.len();
                    let last = expected.into_iter().rfind(|end| *end <= came);
                    assert_eq!(Some(came - ends.since), last, "{came} bytes in pieces of {size}");
                }
            }
        }
    }
}

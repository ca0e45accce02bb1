//! [`Pauses`]: the places in a body before which nothing is held back, because it may pause there.

use http::header::{self, HeaderMap};

use super::needles::Needles;
use crate::inject::multipart::Delimiter;

/// Streams of messages: gRPC, gRPC-Web and Connect (<https://connectrpc.com/docs/protocol#streaming-response>).
const MESSAGE_TYPES: [&str; 3] =
    ["application/grpc", "application/grpc-web", "application/connect"];

/// Length of what stands before each message: a byte of flags, and four of the message's length
/// (<https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md>).
const PREFIX_BYTES: usize = 5;

/// Where a body may pause. A needle that goes beyond such a place is not searched for.
#[derive(Debug)]
pub enum Pauses {
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

/// Follows the messages of a stream.
#[derive(Debug, Default)]
pub struct MessageEnds {
    /// The beginning of a prefix.
    prefix: Vec<u8>,
    /// Bytes of the message that have not come.
    left: usize,
    /// Bytes that came after the last message.
    since: usize,
}

impl Pauses {
    /// Of an answer with these fields and a body of this length, if it is known.
    pub fn of(fields: &HeaderMap, length: Option<u64>) -> Self {
        match length {
            Some(_) => Self::Nowhere,
            None if has_messages(fields) => Self::Messages(MessageEnds::default()),
            None => delimiter(fields).map_or(Self::Lines, Self::Parts),
        }
    }

    /// Takes the next bytes of the body.
    pub(super) fn pass(&mut self, bytes: &[u8]) {
        if let Self::Messages(ends) = self {
            ends.pass(bytes);
        }
    }

    /// How many bytes at the end of `text`, which came last, are held back.
    pub(super) fn tail(&self, needles: &Needles, text: &[u8]) -> usize {
        match self {
            Self::Nowhere => needles.tail(text, false),
            Self::Lines => needles.tail(text, true),
            Self::Parts(delimiter) => {
                let (tail, delimiter) = (needles.tail(text, true), delimiter.as_bytes());
                let is_delimiter = tail <= delimiter.len() && text.ends_with(delimiter);
                if is_delimiter { 0 } else { tail }
            }
            Self::Messages(ends) => needles.tail(text, false).min(ends.since),
            Self::Anywhere => 0,
        }
    }
}

impl MessageEnds {
    fn pass(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let wanted = if self.left > 0 { self.left } else { PREFIX_BYTES - self.prefix.len() };
            let (now, rest) = bytes.split_at(wanted.min(bytes.len()));
            if self.left > 0 {
                self.left -= now.len();
            } else {
                self.prefix.extend_from_slice(now);
                if let Ok([_, a, b, c, d]) = <[u8; PREFIX_BYTES]>::try_from(&*self.prefix) {
                    let length = u32::from_be_bytes([a, b, c, d]);
                    self.left = usize::try_from(length).unwrap_or(usize::MAX);
                    self.prefix.clear();
                }
            }
            let is_between = self.left == 0 && self.prefix.is_empty();
            self.since = if is_between { 0 } else { self.since.saturating_add(now.len()) };
            bytes = rest;
        }
    }
}

fn has_messages(fields: &HeaderMap) -> bool {
    let Some(value) = fields.get(header::CONTENT_TYPE) else { return false };
    let mut parts = value.as_bytes().split(|byte| matches!(byte, b'+' | b';' | b' '));
    let name = parts.next().unwrap_or_default();
    MESSAGE_TYPES.iter().any(|known| name.eq_ignore_ascii_case(known.as_bytes()))
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

    fn pauses(media_type: &'static str, length: Option<u64>) -> Pauses {
        let value = HeaderValue::from_static(media_type);
        Pauses::of(&HeaderMap::from_iter([(header::CONTENT_TYPE, value)]), length)
    }

    #[test]
    fn only_streams_of_messages_pause_after_messages() {
        for other in ["application/json", "application/grpc-web-text", "application/grpcx", ""] {
            assert!(matches!(pauses(other, None), Pauses::Lines), "{other}");
        }
        for messages in [
            "application/grpc",
            "Application/gRPC+proto",
            "application/connect+json",
            "application/grpc-web; a=b",
        ] {
            assert!(matches!(pauses(messages, None), Pauses::Messages(_)), "{messages}");
            assert!(matches!(pauses(messages, Some(9)), Pauses::Nowhere), "{messages}");
        }
    }

    #[test]
    fn only_answers_of_parts_with_a_known_delimiter_pause_after_it() {
        for other in [
            "multipart/mixed",
            "multipart/mixed; boundary=a; boundary=b",
            "multipart/mixed; boundary=\"a b\"",
            "application/json; boundary=a",
        ] {
            assert!(matches!(pauses(other, None), Pauses::Lines), "{other}");
        }
        for (parts, expected) in [
            ("multipart/mixed; boundary=\"-\"", "---"),
            ("Multipart/Mixed;boundary=\"graphql\";subscriptionSpec=1.0", "--graphql"),
        ] {
            let Pauses::Parts(delimiter) = pauses(parts, None) else { panic!("{parts}") };
            assert_eq!(delimiter.as_bytes(), expected.as_bytes());
            assert!(matches!(pauses(parts, Some(9)), Pauses::Nowhere), "{parts}");
        }
    }

    #[test]
    fn the_end_of_each_message_is_found_in_any_chunking() {
        let text = b"\0\0\0\0\x03one\0\0\0\0\0\x01\0\0\0\x02ab\0\0\0";
        for size in 1..=text.len() {
            let mut ends = MessageEnds::default();
            let mut came = 0;
            for piece in text.chunks(size) {
                ends.pass(piece);
                came += piece.len();
                let last = [0, 8, 13, 20].into_iter().rfind(|end| *end <= came);
                assert_eq!(Some(came - ends.since), last, "{came} bytes in pieces of {size}");
            }
        }
    }
}

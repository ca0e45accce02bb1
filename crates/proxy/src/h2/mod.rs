//! Parts of HTTP/2 that both legs use, on top of the `h2` crate. hyper is not used for HTTP/2: it hides what a
//! proxy must pass on (resets and their codes, GOAWAY, which streams were not processed) and what it must limit.
//!
//! `server/h2.rs` serves agents, `pool/http2.rs` keeps the streams to upstreams.

pub mod flood_limit;
pub mod send_body;
#[cfg(test)]
pub mod unread_answer;
pub mod websocket;
pub mod write_buffer;

use std::any::Any;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};

/// The bytes of one exchange that h2 keeps until they are written, whatever window the peer announces. h2's default is
/// 400 KiB, which is much for a peer that has many exchanges and does not read.
pub const SEND_BUFFER_MAX: usize = 64 * 1024;

/// What pieces of a body keep until h2 has written them.
pub type BytesGuard = Arc<dyn Any + Send + Sync>;

/// The text of an error, without the debug data of a GOAWAY (RFC 9113 §6.8): a peer may repeat a credential there.
pub fn described(error: &h2::Error) -> String {
    let reason = error.reason().filter(|_| error.is_go_away());
    let Some(reason) = reason else { return error.to_string() };
    match error.is_remote() {
        true => format!("connection error received: {reason}"),
        false => format!("connection error detected: {reason}"),
    }
}

struct KeepingPiece {
    bytes: Bytes,
    _kept: BytesGuard,
}

impl AsRef<[u8]> for KeepingPiece {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

/// A piece of a body that keeps `kept` until h2 has written or dropped it.
pub fn bytes_with_guard(bytes: Bytes, kept: BytesGuard) -> Bytes {
    Bytes::from_owner(KeepingPiece { bytes, _kept: kept })
}

/// Converts a limit to 32 bits, for h2.
pub fn bytes_u32(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

/// Trims blanks from field values. h2 accepts them, but no message may have them (RFC 9113 §8.2.1), and HTTP/1.1
/// cannot express them.
pub fn without_outer_blanks(fields: &mut HeaderMap) {
    let is_blank = |byte: Option<&u8>| matches!(byte, Some(b' ' | b'\t'));
    for value in fields.values_mut() {
        let bytes = value.as_bytes();
        if (is_blank(bytes.first()) || is_blank(bytes.last()))
            && let Ok(inner) = HeaderValue::from_bytes(bytes.trim_ascii())
        {
            *value = inner;
        }
    }
}

/// Fields that HTTP/2 does not have (RFC 9113 §8.2.2).
static OF_HTTP1: [HeaderName; 5] = [
    header::CONNECTION,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
];

/// Removes fields that describe a stream and not the message.
pub fn without_fields_of_http1(fields: &mut HeaderMap) {
    for name in &OF_HTTP1 {
        fields.remove(name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn field_values_lose_only_leading_and_trailing_blanks() {
        for (sent, left) in
            [("a b", "a b"), (" a b", "a b"), ("a\t b \t", "a\t b"), (" ", ""), ("", "")]
        {
            let mut fields = HeaderMap::new();
            fields.append("x-a", HeaderValue::from_static(sent));
            fields.append("x-a", HeaderValue::from_static("other"));
            without_outer_blanks(&mut fields);
            let values: Vec<_> = fields.get_all("x-a").iter().collect();
            assert_eq!(values, [left, "other"]);
        }
    }
}

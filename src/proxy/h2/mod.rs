//! HTTP/2 on both legs, by the `h2` crate: hyper hides what a proxy must pass on (resets and their
//! codes, GOAWAY, which streams were not processed) and what it must bound.
//!
//! `agents` serves an agent's stream, `stream` one request of it; `upstream` keeps the streams that
//! many exchanges share; `pump` sends bodies on either leg.

pub mod agents;
pub mod gather;
pub mod meter;
mod pump;
mod stream;
pub mod upstream;
pub mod websocket;

use http::{HeaderMap, HeaderValue};

/// What one exchange may be sent before it is passed on, in bytes: 10 MiB/s at 50 ms of way.
const STREAM_WINDOW: u32 = 512 * 1024;

/// A bound for h2, which counts in 32 bits.
fn bytes_u32(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

/// Takes blanks from both ends of values, which the crate lets pass and no message may have
/// (RFC 9113 §8.2.1): HTTP/1.1 has no way to say them.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_lose_outer_blanks_and_nothing_else() {
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

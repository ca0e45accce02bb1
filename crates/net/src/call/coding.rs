//! Decodes the body of an answer whose server ignores `Accept-Encoding: identity`, as some gateways do: the answer may
//! contain a refresh token that exists nowhere else. Output is limited. `keyward-rules` decodes while it passes on.

use std::io::Read;

use brotli_decompressor::{BrotliDecompressStream, BrotliResult, BrotliState, StandardAlloc};
use bytes::Bytes;
use flate2::read::{DeflateDecoder, MultiGzDecoder, ZlibDecoder};
use http::{HeaderMap, header};

/// Why there is no decoded body.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum CodingError {
    /// It exceeds the limit.
    TooLarge,
    /// The coding is unknown, or the body is not valid for it.
    Undecodable,
}

/// The decoded body. An empty one has no coding, whatever its head says.
///
/// # Errors
/// When there are several codings or an unknown one, when the body is not valid for its coding, or when the result exceeds
/// `bytes_max`.
pub(super) fn decoded(
    fields: &HeaderMap,
    body: Bytes,
    bytes_max: usize,
) -> Result<Bytes, CodingError> {
    let values = fields.get_all(header::CONTENT_ENCODING).iter();
    let tokens = values.flat_map(|value| value.as_bytes().split(|byte| *byte == b','));
    let tokens = tokens.map(|token| token.trim_ascii().to_ascii_lowercase());
    // `identity` should not be listed but is (RFC 9110 §8.4.1).
    let codings: Vec<_> = tokens.filter(|it| !it.is_empty() && it != b"identity").collect();
    let decoded = match &codings[..] {
        [] => return Ok(body),
        _ if body.is_empty() => return Ok(body),
        [coding] => match &coding[..] {
            b"gzip" | b"x-gzip" => read(MultiGzDecoder::new(&body[..]), bytes_max)?,
            b"deflate" if is_zlib(&body) => read(ZlibDecoder::new(&body[..]), bytes_max)?,
            b"deflate" => read(DeflateDecoder::new(&body[..]), bytes_max)?,
            b"br" => brotli(&body, bytes_max)?,
            _ => return Err(CodingError::Undecodable),
        },
        _ => return Err(CodingError::Undecodable),
    };
    Ok(decoded.into())
}

/// Whether a body is RFC 1950 and not RFC 1951, which some servers send as `deflate`: its first two bytes are a multiple of 31
/// and have 8 in their low bits (RFC 1950 §2.2).
fn is_zlib(body: &[u8]) -> bool {
    matches!(body, [first, second, ..]
        if first & 15 == 8 && u16::from_be_bytes([*first, *second]).is_multiple_of(31))
}

fn read(decoder: impl Read, bytes_max: usize) -> Result<Vec<u8>, CodingError> {
    let mut decoded = Vec::new();
    let limit = u64::try_from(bytes_max).map_or(u64::MAX, |max| max.saturating_add(1));
    decoder.take(limit).read_to_end(&mut decoded).map_err(|_| CodingError::Undecodable)?;
    if decoded.len() > bytes_max { Err(CodingError::TooLarge) } else { Ok(decoded) }
}

/// Strict: without the windows beyond RFC 7932, whose memory the input selects.
fn brotli(body: &[u8], bytes_max: usize) -> Result<Vec<u8>, CodingError> {
    let alloc = StandardAlloc::default();
    let mut state = BrotliState::new_strict(alloc, alloc, alloc);
    let mut decoded = vec![0; bytes_max];
    let (mut left, mut consumed) = (body.len(), 0);
    let (mut room, mut produced, mut total) = (bytes_max, 0, 0);
    let result = BrotliDecompressStream(
        &mut left,
        &mut consumed,
        body,
        &mut room,
        &mut produced,
        &mut decoded,
        &mut total,
        &mut state,
    );
    decoded.truncate(produced);
    match result {
        BrotliResult::ResultSuccess => Ok(decoded),
        BrotliResult::NeedsMoreOutput => Err(CodingError::TooLarge),
        BrotliResult::NeedsMoreInput | BrotliResult::ResultFailure => Err(CodingError::Undecodable),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::{DeflateEncoder, GzEncoder, ZlibEncoder};
    use http::HeaderValue;

    use super::*;

    const BYTES_MAX: usize = 1_000;

    fn gzip(text: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(vec![], Compression::best());
        encoder.write_all(text).unwrap();
        encoder.finish().unwrap()
    }

    fn zlib(text: &[u8]) -> Vec<u8> {
        let mut encoder = ZlibEncoder::new(vec![], Compression::best());
        encoder.write_all(text).unwrap();
        encoder.finish().unwrap()
    }

    fn deflate(text: &[u8]) -> Vec<u8> {
        let mut encoder = DeflateEncoder::new(vec![], Compression::best());
        encoder.write_all(text).unwrap();
        encoder.finish().unwrap()
    }

    fn brotli(text: &[u8]) -> Vec<u8> {
        let mut encoder = brotli::CompressorWriter::new(vec![], 4096, 5, 22);
        encoder.write_all(text).unwrap();
        encoder.into_inner()
    }

    fn decoded_as(values: &[&'static str], body: &[u8]) -> Result<Bytes, CodingError> {
        let values = values.iter().copied().map(HeaderValue::from_static);
        let fields = values.map(|value| (header::CONTENT_ENCODING, value)).collect();
        decoded(&fields, Bytes::copy_from_slice(body), BYTES_MAX)
    }

    type Encoder = fn(&[u8]) -> Vec<u8>;
    const ENCODERS: [(&str, Encoder); 5] =
        [("gzip", gzip), ("X-GZip", gzip), ("deflate", zlib), ("deflate", deflate), ("br", brotli)];

    #[test]
    fn a_body_that_decodes_to_more_than_the_limit_is_too_large() {
        for (coding, encode) in ENCODERS {
            let bomb = encode(&vec![b'x'; 100 * BYTES_MAX]);
            assert!(bomb.len() < BYTES_MAX, "{coding}: {}", bomb.len());
            assert_eq!(decoded_as(&[coding], &bomb), Err(CodingError::TooLarge), "{coding}");
            assert_eq!(
                decoded_as(&[coding], &encode(&[b'x'; BYTES_MAX + 1])),
                Err(CodingError::TooLarge),
                "{coding}"
            );
        }
    }

    #[test]
    fn a_body_that_is_cut_or_not_of_its_coding_is_not_read() {
        for (coding, encode) in ENCODERS {
            let body = encode(br#"{"access_token":"a","refresh_token":"b"}"#);
            for length in 1..body.len() {
                let cut = decoded_as(&[coding], &body[..length]);
                assert_eq!(cut, Err(CodingError::Undecodable), "{coding}: {length}");
            }
            assert_eq!(decoded_as(&[coding], b"\xff{}"), Err(CodingError::Undecodable), "{coding}");
        }
        let body = gzip(b"{}");
        for values in [&["zstd"][..], &["compress"], &["gzip, gzip"], &["gzip", "br"]] {
            assert_eq!(decoded_as(values, &body), Err(CodingError::Undecodable), "{values:?}");
        }
    }

    #[test]
    fn a_body_in_a_coding_is_decoded_up_to_the_limit() {
        let text = [b'x'; BYTES_MAX];
        for (coding, encode) in ENCODERS {
            assert_eq!(decoded_as(&[coding], &encode(&text)).unwrap(), &text[..], "{coding}");
            assert_eq!(decoded_as(&[coding], &encode(b"")).unwrap(), "", "{coding}");
        }
        let members = [gzip(b"{"), gzip(b"}")].concat();
        assert_eq!(decoded_as(&["identity, gzip"], &members).unwrap(), "{}");
        for values in [&[][..], &["identity"], &["", " Identity ,"]] {
            assert_eq!(decoded_as(values, b"{}").unwrap(), "{}", "{values:?}");
        }
        assert_eq!(decoded_as(&["gzip"], b"").unwrap(), "", "an answer without a body");
    }
}

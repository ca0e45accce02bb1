//! Restricts what a request with a credential accepts: only codings that can be decoded, and no ranges so small
//! that a secret could be fetched in pieces.

use http::header::{self, HeaderMap, HeaderName, HeaderValue};

use super::decoder::Coding;

/// Smaller ranges are not requested, because secrets are not detected fully at their edges.
const RANGE_BYTES_MIN: u64 = 1024;

/// RFC 3229: delta encoding of responses.
static A_IM: HeaderName = HeaderName::from_static("a-im");

/// Restricts the fields. `has_room` says whether a decoder may take that many bytes now; a coding without room
/// is not requested.
pub fn for_what_can_be_scanned(fields: &mut HeaderMap, has_room: impl Fn(usize) -> bool) {
    fields.remove(&A_IM);
    let ranges: Vec<&HeaderValue> = fields.get_all(header::RANGE).iter().collect();
    match ranges[..] {
        [] => readable_codings(fields, has_room),
        [range] if is_one_long_range(range) => {
            // A part of a coded answer cannot be decoded.
            fields.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        }
        _ => {
            fields.remove(header::RANGE);
            fields.remove(header::IF_RANGE);
            readable_codings(fields, has_room);
        }
    }
}

/// Keeps the codings that the scrubber decodes. A request without the field accepts any coding, but servers
/// then send none; an unreadable coding is refused when it arrives.
fn readable_codings(fields: &mut HeaderMap, has_room: impl Fn(usize) -> bool) {
    if !fields.contains_key(header::ACCEPT_ENCODING) {
        if !has_room(Coding::Brotli.memory_max()) {
            fields.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        }
        return;
    }
    let is_readable = |member: &str| is_readable(member, &has_room);
    let values = fields.get_all(header::ACCEPT_ENCODING).iter();
    let texts: Vec<&str> = values.filter_map(|value| value.to_str().ok()).collect();
    let mut tokens = texts.iter().flat_map(|text| text.split(',')).map(str::trim);
    if texts.len() == 1 && tokens.clone().all(&is_readable) {
        return;
    }
    let mut kept = Vec::new();
    kept.extend(tokens.by_ref().filter(|token| is_readable(token)));
    let kept = if kept.is_empty() { "identity".to_owned() } else { kept.join(", ") };
    let value = HeaderValue::try_from(kept).expect("tokens of field values");
    fields.insert(header::ACCEPT_ENCODING, value);
}

/// Whether a member of `Accept-Encoding` is a coding that can be decoded now; its weight is ignored.
fn is_readable(member: &str, has_room: impl Fn(usize) -> bool) -> bool {
    let token = member.split(';').next().unwrap_or(member).trim().to_ascii_lowercase();
    token == "identity" || Coding::named(&token).is_some_and(|it| has_room(it.memory_max()))
}

/// Whether the value is a single byte range (RFC 9110 §14.1.2) that is long or open. Several ranges arrive as
/// one body with edges in the middle.
fn is_one_long_range(value: &HeaderValue) -> bool {
    let range = value.to_str().ok().and_then(|text| text.trim().strip_prefix("bytes="));
    let Some((first, last)) = range.and_then(|range| range.split_once('-')) else { return false };
    // `parse` takes a sign too.
    let is_number = |text: &&str| text.bytes().all(|byte| byte.is_ascii_digit());
    let number = |text: &str| Some(text).filter(is_number)?.parse::<u64>().ok();
    match (first.trim(), last.trim()) {
        ("", length) => number(length).is_some_and(|length| length >= RANGE_BYTES_MIN),
        (first, "") => number(first).is_some(),
        (first, last) => match (number(first), number(last)) {
            (Some(first), Some(last)) => last >= first && last - first >= RANGE_BYTES_MIN - 1,
            _ => false,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(name: &'static str, values: &[&str]) -> HeaderMap {
        asked_with(name, values, usize::MAX)
    }

    fn asked_with(name: &'static str, values: &[&str], room: usize) -> HeaderMap {
        let mut fields = HeaderMap::new();
        for value in values {
            fields.append(name, HeaderValue::from_str(value).unwrap());
        }
        for_what_can_be_scanned(&mut fields, |bytes| bytes <= room);
        fields
    }

    #[test]
    fn short_several_and_senseless_ranges_are_not_asked_for() {
        for range in [
            "bytes=0-0",
            "bytes=0-1022",
            "bytes=-1023",
            "bytes=0-2000,5000-9000",
            "bytes=5-4",
            "bytes=a-b",
            "bytes=",
            "bytes",
            "lines=0-4000",
            "bytes=0-+5000",
            "bytes=1-2-5000",
            "bytes=0-99999999999999999999999",
        ] {
            assert!(asked("range", &[range]).is_empty(), "{range}");
        }
        assert!(asked("range", &["bytes=0-", "bytes=0-"]).is_empty());
    }

    #[test]
    fn one_long_range_is_asked_for_uncoded() {
        for range in ["bytes=0-1023", "bytes=77-", "bytes=-1024", "bytes=5000-999999"] {
            let fields = asked("range", &[range]);
            assert_eq!(fields["range"], range);
            assert_eq!(fields["accept-encoding"], "identity");
        }
    }

    #[test]
    fn only_readable_codings_are_asked_for() {
        for (sent, goes) in [
            ("gzip, deflate, br, zstd", "gzip, deflate, br, zstd"),
            ("gzip;q=1.0, *;q=0", "gzip;q=1.0"),
            ("GZIP, x-gzip,compress", "GZIP, x-gzip"),
            ("dcb, dcz", "identity"),
            ("*", "identity"),
            ("identity", "identity"),
        ] {
            assert_eq!(asked("accept-encoding", &[sent])["accept-encoding"], goes, "{sent}");
        }
        let two = asked("accept-encoding", &["gzip", "lzma, br"]);
        assert_eq!(two.get_all("accept-encoding").iter().collect::<Vec<_>>(), ["gzip, br"]);
        assert!(asked("accept-encoding", &[]).is_empty());
    }

    #[test]
    fn a_coding_without_room_for_its_decoder_is_not_asked_for() {
        for (room, sent, goes) in [
            (0, "gzip, deflate, br, zstd", "identity"),
            (1 << 20, "gzip, deflate, br, zstd", "gzip, deflate"),
            (10 << 20, "gzip;q=0.1, br, zstd", "gzip;q=0.1, zstd"),
            (24 << 20, "gzip, br", "gzip, br"),
        ] {
            let fields = asked_with("accept-encoding", &[sent], room);
            assert_eq!(fields["accept-encoding"], goes, "{room}");
        }
        assert_eq!(asked_with("accept-encoding", &[], 10 << 20)["accept-encoding"], "identity");
    }
}

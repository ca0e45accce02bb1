//! Restricts what a request with a credential accepts: only codings that can be decoded, and no ranges in which a
//! secret is cut.

use http::header::{self, HeaderMap, HeaderName, HeaderValue};

use super::decoder::Coding;
use super::range::ByteRange;

/// RFC 3229: delta encoding of responses.
static A_IM: HeaderName = HeaderName::from_static("a-im");

/// Restricts the fields. `has_room` says whether a decoder may take that many bytes now; a coding without room
/// is not requested. `margin` is the length of the longest secret, if a short range may be widened by it. Returns the
/// range that was asked for, if it was widened.
pub fn for_what_can_be_scanned(
    fields: &mut HeaderMap,
    margin: Option<u64>,
    has_room: impl Fn(usize) -> bool,
) -> Option<ByteRange> {
    fields.remove(&A_IM);
    let mut ranges = fields.get_all(header::RANGE).iter();
    let Some(first) = ranges.next() else {
        readable_codings(fields, has_room);
        return None;
    };
    let range = ByteRange::parse(first).filter(|_| ranges.next().is_none());
    let Some(widened) = range.and_then(|range| range.widened(margin)) else {
        fields.remove(header::RANGE);
        fields.remove(header::IF_RANGE);
        readable_codings(fields, has_room);
        return None;
    };
    // A part of a coded answer cannot be decoded.
    fields.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    if range == Some(widened) {
        return None;
    }
    fields.insert(header::RANGE, widened.to_value());
    range
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
        assert_eq!(for_what_can_be_scanned(&mut fields, None, |bytes| bytes <= room), None);
        fields
    }

    #[test]
    fn short_several_and_senseless_ranges_are_not_asked_for_without_a_margin() {
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
    fn a_short_range_is_widened_and_asked_for_uncoded() {
        for (range, sent) in [("bytes=500-507", "bytes=400-607"), ("bytes=-8", "bytes=-108")] {
            let mut fields = HeaderMap::from_iter([
                (header::RANGE, HeaderValue::from_static(range)),
                (header::IF_RANGE, HeaderValue::from_static("\"e\"")),
            ]);
            let asked = for_what_can_be_scanned(&mut fields, Some(100), |_| true);
            assert_eq!(asked.map(ByteRange::to_value).unwrap(), range);
            assert_eq!(fields["range"], sent);
            assert_eq!(fields["if-range"], "\"e\"");
            assert_eq!(fields["accept-encoding"], "identity");
        }
        let mut several = HeaderMap::from_iter([(
            header::RANGE,
            HeaderValue::from_static("bytes=0-2000,5000-9000"),
        )]);
        assert_eq!(for_what_can_be_scanned(&mut several, Some(100), |_| true), None);
        assert!(several.is_empty());
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

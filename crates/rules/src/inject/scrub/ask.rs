//! Restricts what a request with a credential accepts: only codings that can be decoded, and no ranges in which a
//! secret is cut.

use http::header::{self, HeaderMap, HeaderName, HeaderValue};

use super::decoder::Coding;
use super::range::{AskedPart, ByteRange};

/// RFC 3229: delta encoding of responses.
static A_IM: HeaderName = HeaderName::from_static("a-im");

/// Azure Storage takes it before `Range`.
static X_MS_RANGE: HeaderName = HeaderName::from_static("x-ms-range");

/// The name of `Range` before RFC 2068. Some servers still take it.
static REQUEST_RANGE: HeaderName = HeaderName::from_static("request-range");

/// Restricts the fields. `has_room` says whether a decoder may take that many bytes now; a coding without room
/// is not requested. `margin` is the length of the longest secret, if a short range may be widened by it. Ranges of other
/// units than bytes, such as those of lists, stay. Returns what is asked for.
pub fn for_what_can_be_scanned(
    fields: &mut HeaderMap,
    margin: Option<u64>,
    has_room: impl Fn(usize) -> bool,
) -> AskedPart {
    fields.remove(&A_IM);
    fields.remove(&REQUEST_RANGE);
    let name = if fields.contains_key(&X_MS_RANGE) { &X_MS_RANGE } else { &header::RANGE };
    let mut ranges = fields.get_all(name).iter();
    let Some(first) = ranges.next() else {
        readable_codings(fields, has_room);
        return AskedPart::Whole;
    };
    if name == header::RANGE && fields.get_all(name).iter().all(is_of_another_unit) {
        readable_codings(fields, has_room);
        return AskedPart::Whole;
    }
    let range = ByteRange::parse(first).filter(|_| ranges.next().is_none());
    let widened = range.and_then(|range| Some((range, range.widened(margin)?)));
    for name in [&X_MS_RANGE, &header::RANGE] {
        fields.remove(name);
    }
    let Some((asked, sent)) = widened else {
        fields.remove(header::IF_RANGE);
        readable_codings(fields, has_room);
        return AskedPart::Whole;
    };
    // A part of a coded answer cannot be decoded.
    fields.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    fields.insert(name, sent.to_value());
    if asked == sent { AskedPart::AsSent } else { AskedPart::Widened { asked, sent } }
}

/// Whether a range has a unit of its service: Heroku's lists have `id ..; max=10`, those of PostgREST `0-24`.
fn is_of_another_unit(range: &HeaderValue) -> bool {
    range.to_str().is_ok_and(|range| !range.to_ascii_lowercase().contains("bytes"))
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
        for_what_can_be_scanned(&mut fields, None, |bytes| bytes <= room);
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
            "Bytes=0-4000",
            "bytes =0-4000",
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
            let value = |text| ByteRange::parse(&HeaderValue::from_static(text)).unwrap();
            assert_eq!(asked, AskedPart::Widened { asked: value(range), sent: value(sent) });
            assert_eq!(fields["range"], sent);
            assert_eq!(fields["if-range"], "\"e\"");
            assert_eq!(fields["accept-encoding"], "identity");
        }
        let mut several = HeaderMap::from_iter([(
            header::RANGE,
            HeaderValue::from_static("bytes=0-2000,5000-9000"),
        )]);
        let asked = for_what_can_be_scanned(&mut several, Some(100), |_| true);
        assert_eq!((asked, several.is_empty()), (AskedPart::Whole, true));
    }

    /// Azure Storage takes the one for the other.
    #[test]
    fn the_range_of_azure_is_restricted_as_any_other() {
        let mut fields = HeaderMap::from_iter([
            (header::RANGE, HeaderValue::from_static("bytes=0-4000")),
            (X_MS_RANGE.clone(), HeaderValue::from_static("bytes=500-507")),
            (REQUEST_RANGE.clone(), HeaderValue::from_static("bytes=500-507")),
        ]);
        let asked = for_what_can_be_scanned(&mut fields, Some(100), |_| true);
        assert!(matches!(asked, AskedPart::Widened { .. }), "{asked:?}");
        assert_eq!((&fields["x-ms-range"], fields.len()), (&"bytes=400-607".parse().unwrap(), 2));
        assert!(asked_with("x-ms-range", &["bytes=0-1,3-4"], usize::MAX).is_empty());
    }

    #[test]
    fn ranges_of_other_units_are_asked_for() {
        for range in ["0-24", "id ]5f..; max=200, order=desc", "items=0-9", "lines=0-4000"] {
            let mut fields =
                HeaderMap::from_iter([(header::RANGE, HeaderValue::from_static(range))]);
            let asked = for_what_can_be_scanned(&mut fields, Some(100), |_| true);
            assert_eq!((asked, &fields["range"]), (AskedPart::Whole, &range.parse().unwrap()));
            assert_eq!(fields.len(), 1, "{range}: its answer may be coded");
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

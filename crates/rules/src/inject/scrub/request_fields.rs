//! Restricts what a request with a credential accepts: only codings that can be decoded, and no ranges in which a
//! secret is cut.

use http::header::{self, HeaderMap, HeaderName, HeaderValue};

use super::decoder::Coding;
use super::range::{AskedPart, ByteRange};

/// RFC 3229: delta encoding of responses.
static A_IM: HeaderName = HeaderName::from_static("a-im");

static RANGE: HeaderName = header::RANGE;

/// Azure Storage takes it before `Range`.
static X_MS_RANGE: HeaderName = HeaderName::from_static("x-ms-range");

/// Azure Storage answers with digests of the part, which is another one than the agent gets. They are removed from answers,
/// and refused for more than 4 MiB (<https://learn.microsoft.com/rest/api/storageservices/get-blob>).
static PART_DIGESTS: [HeaderName; 2] = [
    HeaderName::from_static("x-ms-range-get-content-md5"),
    HeaderName::from_static("x-ms-range-get-content-crc64"),
];

/// The codings of single messages, which are not decoded. Without the field, servers send messages as they are:
/// <https://github.com/grpc/grpc/blob/master/doc/compression.md>, <https://connectrpc.com/docs/protocol>.
static MESSAGE_CODINGS: [HeaderName; 2] = [
    HeaderName::from_static("grpc-accept-encoding"),
    HeaderName::from_static("connect-accept-encoding"),
];

/// The name of `Range` before RFC 2068. Some servers still take it.
static REQUEST_RANGE: HeaderName = HeaderName::from_static("request-range");

/// Restricts the fields. `has_room` says whether a decoder may take that many bytes now; a coding without room
/// is not requested. `margin` is the length of the longest secret, by which a range is widened; `None`: the method reads no
/// part, and its fields for ranges mean something else. Ranges of other units than bytes, such as those of lists, stay.
/// Returns what is asked for.
pub fn restrict(
    fields: &mut HeaderMap,
    margin: Option<u64>,
    has_room: impl Fn(usize) -> bool,
) -> AskedPart {
    for gone in [&A_IM, &REQUEST_RANGE].into_iter().chain(&MESSAGE_CODINGS) {
        fields.remove(gone);
    }
    let part = margin.map_or(AskedPart::Whole, |margin| restricted_range(fields, margin));
    match part {
        AskedPart::Whole => readable_codings(fields, has_room),
        // A part of a coded answer cannot be decoded.
        AskedPart::Widened { .. } => {
            fields.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        }
    }
    part
}

/// Widens the range of a restricted request by another margin, because more is searched for.
pub fn with_margin(fields: &mut HeaderMap, part: AskedPart, margin: u64) -> AskedPart {
    match part {
        AskedPart::Whole => AskedPart::Whole,
        AskedPart::Widened { asked, .. } => widened(fields, Some(asked), margin),
    }
}

fn restricted_range(fields: &mut HeaderMap, margin: u64) -> AskedPart {
    let name = range_name(fields);
    let mut ranges = fields.get_all(name).iter();
    let Some(first) = ranges.next() else { return AskedPart::Whole };
    if *name == RANGE && fields.get_all(name).iter().all(is_of_another_unit) {
        return AskedPart::Whole;
    }
    let asked = ByteRange::parse(first).filter(|_| ranges.next().is_none());
    widened(fields, asked, margin)
}

/// Asks for the range with a margin, or for the whole if that is not possible.
fn widened(fields: &mut HeaderMap, asked: Option<ByteRange>, margin: u64) -> AskedPart {
    let name = range_name(fields);
    for gone in [&X_MS_RANGE, &RANGE].into_iter().chain(&PART_DIGESTS) {
        fields.remove(gone);
    }
    let Some((asked, sent)) = asked.and_then(|asked| Some((asked, asked.widened(margin)?))) else {
        fields.remove(header::IF_RANGE);
        return AskedPart::Whole;
    };
    fields.insert(name, sent.to_value());
    AskedPart::Widened { asked, margin }
}

/// The field that decides which part is asked for.
fn range_name(fields: &HeaderMap) -> &'static HeaderName {
    if fields.contains_key(&X_MS_RANGE) { &X_MS_RANGE } else { &RANGE }
}

/// Whether a range has a unit of its service: Heroku's lists have `id ..; max=10`, those of PostgREST `0-24`.
fn is_of_another_unit(range: &HeaderValue) -> bool {
    range.to_str().is_ok_and(|range| !range.to_ascii_lowercase().contains("bytes"))
}

/// Keeps the codings that the scrubber decodes. A request without the field accepts any coding, but servers
/// then send none; an unreadable coding is refused when it arrives.
fn readable_codings(fields: &mut HeaderMap, has_room: impl Fn(usize) -> bool) {
    // The coding that needs the most.
    let all_have_room = has_room(Coding::Brotli.memory_max());
    if !fields.contains_key(header::ACCEPT_ENCODING) {
        if !all_have_room {
            fields.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        }
        return;
    }
    let has_room = |bytes| all_have_room || has_room(bytes);
    let is_readable = |member: &str| is_readable(member, has_room);
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
    use std::cell::Cell;

    use super::*;

    const MARGIN: Option<u64> = Some(100);

    fn asked(name: &'static str, values: &[&str]) -> HeaderMap {
        asked_with(name, values, usize::MAX)
    }

    fn asked_with(name: &'static str, values: &[&str], room: usize) -> HeaderMap {
        let mut fields = HeaderMap::new();
        for value in values {
            fields.append(name, HeaderValue::from_str(value).unwrap());
        }
        restrict(&mut fields, MARGIN, |bytes| bytes <= room);
        fields
    }

    fn range(text: &'static str) -> ByteRange {
        ByteRange::parse(&HeaderValue::from_static(text)).unwrap()
    }

    #[test]
    fn multiple_and_invalid_ranges_are_removed_from_the_request() {
        for range in [
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
    fn every_range_is_widened_and_requested_without_a_content_coding() {
        for (asked, sent) in [
            ("bytes=500-507", "bytes=400-607"),
            ("bytes=-8", "bytes=-108"),
            ("bytes=0-1023", "bytes=0-1123"),
            ("bytes=77-", "bytes=0-"),
            ("bytes=5000-", "bytes=4900-"),
            ("bytes=-1024", "bytes=-1124"),
        ] {
            let mut fields = HeaderMap::from_iter([
                (header::RANGE, HeaderValue::from_static(asked)),
                (header::IF_RANGE, HeaderValue::from_static("\"e\"")),
                (header::ACCEPT_ENCODING, HeaderValue::from_static("gzip")),
            ]);
            let part = restrict(&mut fields, MARGIN, |_| true);
            assert_eq!(part, AskedPart::Widened { asked: range(asked), margin: 100 });
            assert_eq!(fields["range"], sent);
            assert_eq!(fields["if-range"], "\"e\"");
            assert_eq!(fields["accept-encoding"], "identity");
        }
    }

    #[test]
    fn no_coding_of_single_messages_is_accepted() {
        for name in ["grpc-accept-encoding", "connect-accept-encoding"] {
            let sent = (HeaderName::from_static(name), HeaderValue::from_static("gzip"));
            let mut fields = HeaderMap::from_iter([sent]);
            restrict(&mut fields, MARGIN, |_| true);
            assert!(fields.is_empty(), "{name}");
        }
    }

    #[test]
    fn a_new_margin_is_applied_to_the_original_range() {
        let mut fields = HeaderMap::from_iter([
            (header::RANGE, HeaderValue::from_static("bytes=5000-5007")),
            (header::IF_RANGE, HeaderValue::from_static("\"e\"")),
        ]);
        let part = restrict(&mut fields, MARGIN, |_| true);
        let part = with_margin(&mut fields, part, 300);
        let asked = range("bytes=5000-5007");
        assert_eq!(part, AskedPart::Widened { asked, margin: 300 });
        assert_eq!(fields["range"], "bytes=4700-5307");
        // The answer would be too long.
        assert_eq!(with_margin(&mut fields, part, 1 << 20), AskedPart::Whole);
        assert!(!fields.contains_key("range") && !fields.contains_key("if-range"));
        assert_eq!(with_margin(&mut fields, AskedPart::Whole, 1), AskedPart::Whole);
    }

    /// Azure Storage writes the part of a page blob or file that `x-ms-range` of a PUT names.
    #[test]
    fn ranges_of_methods_that_do_not_read_a_part_are_unchanged() {
        for (name, value) in
            [("x-ms-range", "bytes=0-511"), ("range", "bytes=0-511"), ("range", "bytes=0-1,5-6")]
        {
            let mut fields = HeaderMap::new();
            fields.append(name, HeaderValue::from_static(value));
            let before = fields.clone();
            let part = restrict(&mut fields, None, |_| true);
            assert_eq!((part, fields), (AskedPart::Whole, before), "{name}: {value}");
        }
    }

    /// Azure Storage takes the one for the other.
    #[test]
    fn x_ms_range_is_restricted_like_range() {
        let mut fields = HeaderMap::from_iter([
            (header::RANGE, HeaderValue::from_static("bytes=0-4000")),
            (X_MS_RANGE.clone(), HeaderValue::from_static("bytes=500-507")),
            (REQUEST_RANGE.clone(), HeaderValue::from_static("bytes=500-507")),
            (PART_DIGESTS[0].clone(), HeaderValue::from_static("true")),
        ]);
        let asked = restrict(&mut fields, MARGIN, |_| true);
        assert!(matches!(asked, AskedPart::Widened { .. }), "{asked:?}");
        assert_eq!((&fields["x-ms-range"], fields.len()), (&"bytes=400-607".parse().unwrap(), 2));
        assert!(asked_with("x-ms-range", &["bytes=0-1,3-4"], usize::MAX).is_empty());
    }

    #[test]
    fn ranges_of_other_units_are_sent_unchanged() {
        for range in ["0-24", "id ]5f..; max=200, order=desc", "items=0-9", "lines=0-4000"] {
            let mut fields =
                HeaderMap::from_iter([(header::RANGE, HeaderValue::from_static(range))]);
            let asked = restrict(&mut fields, Some(100), |_| true);
            assert_eq!((asked, &fields["range"]), (AskedPart::Whole, &range.parse().unwrap()));
            assert_eq!(fields.len(), 1, "{range}: its answer may be coded");
        }
    }

    #[test]
    fn only_codings_that_can_be_decoded_are_requested() {
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
    fn the_memory_for_all_codings_is_checked_once() {
        let looks = Cell::new(0);
        let codings = HeaderValue::from_static("gzip, deflate, br, zstd");
        let mut fields = HeaderMap::from_iter([(header::ACCEPT_ENCODING, codings.clone())]);
        restrict(&mut fields, MARGIN, |_| {
            looks.set(looks.get() + 1);
            true
        });
        assert_eq!((looks.get(), &fields["accept-encoding"]), (1, &codings));
    }

    #[test]
    fn a_coding_without_memory_for_its_decoder_is_not_requested() {
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

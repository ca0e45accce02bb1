//! Tests of [`Masker`]: its output does not depend on the chunks of the body, nor on what only begins or ends a needle.

use http::HeaderMap;
use http::header::{self, HeaderValue};
use proptest::prelude::*;

use super::super::range::{ByteRange, ContentRange, PassedPart};
use super::super::{FlushPoints, Masker, Needles};
use super::*;

/// What comes out. Of an even number of pieces the last one is known to be the last.
fn pushed(mut masker: Masker, mut pieces: Vec<Bytes>) -> Vec<u8> {
    let mut out = vec![];
    let last = if pieces.len().is_multiple_of(2) { pieces.pop() } else { None };
    for piece in pieces {
        out.extend(masker.push(piece));
    }
    out.extend(last.map(|piece| masker.push_last(piece)).into_iter().flatten());
    out.extend(masker.finish());
    out
}

fn run(secrets: &[&str], pieces: Vec<Bytes>) -> Vec<u8> {
    pushed(Masker::new(needles(secrets), FlushPoints::Lines), pieces)
}

/// How many bytes come out at each chunk, and at the end.
fn lengths(secret: &str, pauses: FlushPoints, pieces: Vec<Bytes>) -> Vec<usize> {
    let mut masker = Masker::new(needles(&[secret]), pauses);
    let mut out: Vec<usize> = pieces.into_iter().map(|piece| masker.push(piece).len()).collect();
    out.push(masker.finish().len());
    out
}

/// What an agent gets that asks for a range of `whole`, as the proxy widens and cuts it.
fn fetched(needles: &Arc<Needles>, whole: &[u8], asked: ByteRange) -> Option<Vec<u8>> {
    let margin = needles.longest() as u64;
    let came = part_for(asked.widened(margin)?, whole.len() as u64)?;
    let PassedPart::Bytes(passed) = asked.passed(came, margin)? else { return None };
    let within = |part: ContentRange, inner: ContentRange| {
        let positions = part.positions_of(inner);
        usize::try_from(positions.start).unwrap()..usize::try_from(positions.end).unwrap()
    };
    let all = content_range(&format!("bytes 0-{}/{}", whole.len() - 1, whole.len()));
    let body = Bytes::copy_from_slice(&whole[within(all, came)]);
    let out = pushed(Masker::new(needles.clone(), FlushPoints::Nowhere), vec![body]);
    Some(out[within(came, passed)].to_vec())
}

/// The part that a server answers with; `None` for 416.
fn part_for(sent: ByteRange, total: u64) -> Option<ContentRange> {
    let (first, last) = match sent {
        ByteRange::Bounded { first, last } => (first, last.min(total - 1)),
        ByteRange::From(first) => (first, total - 1),
        ByteRange::Suffix(length) => (total.saturating_sub(length), total - 1),
    };
    (first <= last).then(|| content_range(&format!("bytes {first}-{last}/{total}")))
}

fn content_range(text: &str) -> ContentRange {
    let value = HeaderValue::from_str(text).unwrap();
    ContentRange::of(&HeaderMap::from_iter([(header::CONTENT_RANGE, value)])).unwrap()
}

fn bytes_of(text: &str) -> Vec<Bytes> {
    text.bytes().map(|byte| Bytes::copy_from_slice(&[byte])).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn any_chunking_masks_as_if_the_body_were_whole((secrets, text, cuts) in confusable()) {
        let secrets: Vec<&str> = secrets.iter().map(String::as_str).collect();
        let forms = all_forms(&secrets);
        let out = run(&secrets, pieces(&text, &cuts));
        prop_assert_eq!(out.len(), text.len());
        prop_assert_eq!(&out, &masked(&forms, &text));
        prop_assert!(spans(&forms, &out).is_empty());
        prop_assert_eq!(run(&secrets, bytes_of(std::str::from_utf8(&text).unwrap())), out);
    }

    /// What is held back could be seen by the agent: it depends on the length of the secret alone.
    #[test]
    fn as_many_bytes_are_held_back_for_another_secret_of_the_same_length((secrets, text, cuts) in confusable()) {
        let other = "z".repeat(secrets[0].len());
        let pieces = pieces(&text, &cuts);
        let all: [fn() -> FlushPoints; 3] = [|| FlushPoints::Lines, || FlushPoints::Nowhere, || FlushPoints::Anywhere];
        for pauses in all {
            let out = lengths(&secrets[0], pauses(), pieces.clone());
            prop_assert_eq!(&out, &lengths(&other, pauses(), pieces.clone()));
            prop_assert_eq!(out.iter().sum::<usize>(), text.len());
        }
    }

    /// For every beginning of a needle that ends the part, and every end of one that begins it: if the needle is not
    /// whole, the agent gets what it wrote.
    #[test]
    fn a_range_with_incomplete_needles_at_its_edges_is_unchanged(
        form in 0..200_usize, begins in any::<prop::sample::Index>(), ends in any::<prop::sample::Index>(),
        before in "[x ]{0,30}", between in 0..2000_usize, after in "[x ]{0,30}",
    ) {
        let forms = all_forms(&[SECRET]);
        let form = &forms[form % forms.len()];
        let end = &form[1 + ends.index(form.len() - 1)..];
        let begin = &form[..begins.index(form.len())];
        let body = [end, &b"y".repeat(between)[..], begin].concat();
        let whole = [before.as_bytes(), &body, after.as_bytes()].concat();
        prop_assume!(!body.is_empty());
        let (first, last) = (before.len() as u64, (before.len() + body.len()) as u64 - 1);
        let needles = needles(&[SECRET]);
        let got = fetched(&needles, &whole, ByteRange::Bounded { first, last });
        prop_assert_eq!(got.as_deref(), Some(&body[..]));
        // The true beginning and end of an object are no edges either.
        let got = fetched(&needles, &body, ByteRange::From(0));
        prop_assert_eq!(got.as_deref(), Some(&body[..]));
        let some = body.len() as u64 / 2 + 1;
        let got = fetched(&needles, &body, ByteRange::Suffix(some));
        prop_assert_eq!(got.as_deref(), Some(&body[body.len() - some as usize..]));
    }

    #[test]
    fn every_range_is_a_slice_of_the_masked_whole(
        (secrets, text, _) in confusable(), long in any::<bool>(), kind in 0..3,
        first in any::<prop::sample::Index>(), length in any::<prop::sample::Index>(),
    ) {
        let secrets: Vec<&str> = secrets.iter().map(String::as_str).collect();
        // Not all parts reach to both ends.
        let filler = ".".repeat(if long { 3000 } else { 300 });
        let whole = [filler.as_bytes(), &text, filler.as_bytes()].concat();
        let masked = masked(&all_forms(&secrets), &whole);
        let first = first.index(whole.len());
        let last = first + length.index(whole.len() - first);
        let (asked, expected) = match kind {
            0 => (
                ByteRange::Bounded { first: first as u64, last: last as u64 },
                &masked[first..=last],
            ),
            1 => (ByteRange::From(first as u64), &masked[first..]),
            _ => (ByteRange::Suffix((whole.len() - first) as u64), &masked[first..]),
        };
        let got = fetched(&needles(&secrets), &whole, asked);
        prop_assert_eq!(got.as_deref(), Some(expected));
    }

    #[test]
    fn random_bytes_pass_as_they_are(text in prop::collection::vec(any::<u8>(), 0..4096),
                                     cuts in prop::collection::vec(any::<u16>(), 0..6)) {
        prop_assert_eq!(run(&[SECRET, "another-secret-of-some-length"], pieces(&text, &cuts)), text);
    }
}

#[test]
fn a_clean_body_is_not_copied() {
    let mut masker = Masker::new(needles(&[SECRET]), FlushPoints::Lines);
    let body = Bytes::from("nothing to see here. ".repeat(1000));
    let out = masker.push(body.clone());
    assert_eq!(out.as_ptr(), body.as_ptr());
    assert_eq!(out.len(), body.len());
    assert!(masker.finish().is_empty());
    assert_eq!(masker.take_masked(), 0);
}

#[test]
fn a_line_of_an_event_stream_is_never_held_back() {
    let mut masker = Masker::new(needles(&[SECRET]), FlushPoints::Lines);
    for line in ["data: kw\n\n", "data: kw/s3c\n\n", ": ping\n", "{\"a\":1}\n"] {
        assert_eq!(masker.push(Bytes::from(line)), line);
    }
}

/// A call of gRPC waits for each message, and messages end with any byte.
#[test]
fn a_message_of_a_stream_is_never_held_back() {
    let fields = HeaderMap::from_iter([(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/grpc+proto"),
    )]);
    let mut masker = Masker::new(needles(&["0123456789abcdef"]), FlushPoints::of(&fields, None));
    for message in ["\0\0\0\0\x040123", "\0\0\0\0\x09 01234567", "\0\0\0\0\0"] {
        assert_eq!(masker.push(Bytes::from(message)), message);
    }
    let mut push = |text: &'static str| masker.push(Bytes::from(text));
    assert_eq!(push("\0\0\0\0\x12>01234567"), "\0\0\0\0\x12>");
    assert_eq!(push("89abcdef<"), "****************<");
}

/// Its checksum may end with bytes of tokens.
#[test]
fn an_event_of_aws_is_never_held_back() {
    let kind = HeaderValue::from_static("application/vnd.amazon.eventstream");
    let fields = HeaderMap::from_iter([(header::CONTENT_TYPE, kind)]);
    let mut masker = Masker::new(needles(&["0123456789abcdef"]), FlushPoints::of(&fields, None));
    for event in ["\0\0\0\x18{\"bytes\":\"aGk=\"}sum1", "\0\0\0\x13\0\0\0\0head{}sum12"] {
        assert_eq!(masker.push(Bytes::from(event)), event);
    }
    assert_eq!(masker.push(Bytes::from("\0\0\0\x10>0123")), "\0\0\0\x10>");
}

/// The delimiter of the next part comes with the part before it, without a line end.
#[test]
fn a_delimiter_of_parts_is_never_held_back() {
    let kind = HeaderValue::from_static("multipart/mixed;boundary=\"graphql\"");
    let fields = HeaderMap::from_iter([(header::CONTENT_TYPE, kind)]);
    let mut masker = Masker::new(needles(&["0123456789abcdef"]), FlushPoints::of(&fields, None));
    let mut push = |text: &'static str| masker.push(Bytes::from(text));
    assert_eq!(push("{}\r\n--graph"), "{}\r\n");
    assert_eq!(push("ql"), "--graphql");
    assert_eq!(push("\r\n{}x--graphql"), "\r\n{}");
    assert_eq!(push("\r\n--graphql"), "x--graphql\r\n--graphql");
    assert_eq!(push("\r\n01234567"), "\r\n");
    assert_eq!(push("89abcdef\r\n--graphql"), "****************\r\n--graphql");
}

#[test]
fn nothing_is_held_back_of_a_body_that_may_pause_anywhere() {
    let mut masker = Masker::new(needles(&["0123456789abcdef"]), FlushPoints::Anywhere);
    assert_eq!(masker.push(Bytes::from("0123456789abcdef 01234567")), "**************** 01234567");
    assert_eq!(masker.push(Bytes::from("89abcdef")), "89abcdef");
    assert!(masker.finish().is_empty());
}

/// A private key is found in files, whatever their chunks.
#[test]
fn a_needle_of_several_lines_is_found_where_the_length_is_known() {
    let key = "-----BEGIN KEY-----\nMIGHAgEAMBMGByqG\nSM49AgEGCCqGSM49\n-----END KEY-----";
    let out = pushed(Masker::new(needles(&[key]), FlushPoints::Nowhere), bytes_of(key));
    assert_eq!(out, "*".repeat(key.len()).into_bytes());
    let mut masker = Masker::new(needles(&[key]), FlushPoints::Lines);
    for event in ["data: 1\n\n", "{}\n"] {
        assert_eq!(masker.push(Bytes::from(event)), event);
    }
}

#[test]
fn the_number_of_masked_needles_is_returned_once() {
    let mut masker = Masker::new(needles(&["0123456789abcdef"]), FlushPoints::Lines);
    masker.push(Bytes::from("0123456789abcdef and 0123456789abc"));
    masker.push(Bytes::from("def.\n"));
    assert_eq!(masker.take_masked(), 2);
    assert_eq!(masker.take_masked(), 0);
}

#[test]
fn a_written_value_is_a_needle_only_if_it_contains_no_secret() {
    let secret = |text: &str| Secret::from(text.to_owned());
    let (password, user) = (secret("short"), secret("Basic dXNlcjpzaG9ydCE="));
    let needles = Needles::new([&password], [&user]);
    assert!(needles.are_in(b"<dXNlcjpzaG9ydCE>"));
    assert!(!needles.are_in(b"Basic short"));
    let (token, bearer) = (secret("0123456789"), secret("Bearer 0123456789"));
    let needles = Needles::new([&token], [&bearer]);
    let (masked, count) = needles.masked(b"Bearer 0123456789").unwrap();
    assert_eq!((&*masked, count), (&b"Bearer **********"[..], 1));
    assert!(Needles::new([&password], []).is_empty());
}

#[test]
fn a_needle_is_not_shown_by_debug() {
    let shown = format!("{:?}", Masker::new(needles(&["0123456789abcdef"]), FlushPoints::Lines));
    assert!(!shown.contains("0123"), "{shown}");
}

//! Partial answers: a secret is not fetched in pieces.

use super::codings::gzip;
use super::*;

/// Serves a text that is made of the credential, in whatever part was asked for.
fn serving(text: fn(&str) -> String) -> Origin {
    Origin::answering(move |request: &Message| {
        let text = text(&credential(request));
        let range = request.head.one("range").and_then(|range| range.strip_prefix("bytes="));
        let Some((first, last)) = range.and_then(|range| range.split_once('-')) else {
            return ok(&text);
        };
        let end = text.len() - 1;
        let number = |text: &str| text.parse::<usize>().ok();
        let (first, last) = match (number(first), number(last)) {
            (None, length) => (text.len().saturating_sub(length.expect("a number")), end),
            (Some(first), last) => (first, last.unwrap_or(end).min(end)),
        };
        let part = &text[first..=last];
        format!(
            "HTTP/1.1 206 Partial Content\r\nContent-Range: bytes {first}-{last}/{}\r\n\
             ETag: \"e\"\r\nContent-Length: {}\r\n\r\n{part}",
            text.len(),
            part.len()
        )
    })
}

/// Serves the credential in the middle of a long text.
fn ranging() -> Origin {
    serving(|key| format!("{}{key}{}", "x".repeat(3000), "y".repeat(3000)))
}

#[tokio::test]
async fn a_credential_that_a_range_cuts_in_two_is_masked() {
    let lab = Plan::api_key().start(ranging()).await;
    let secret = 3000..3000 + lab.canary.text.len();
    let total = 6000 + lab.canary.text.len();
    let mut wire = lab.tunnel(HOST).await;
    // Both edges wander over the secret, and the whole of it is never asked for at once.
    for cut in secret.start..=secret.end {
        for (first, last) in [(1000, cut - 1), (cut, 5000)] {
            let (status, range, body) = part(&mut wire, &format!("{first}-{last}")).await;
            assert_eq!((status, body.len()), (206, last - first + 1));
            assert_eq!(range, Some(format!("bytes {first}-{last}/{total}")));
            for (at, byte) in (first..).zip(&body) {
                let plain = if at < secret.start { b'x' } else { b'y' };
                let expected = if secret.contains(&at) { b'*' } else { plain };
                assert_eq!(*byte, expected, "byte {at} of {first}-{last}");
            }
        }
    }
    drop(wire);
    lab.finish().await;
}

/// What an agent could upload to learn the credential: blocks that end with the beginning of one of its forms and a guess, or
/// begin with the end of one.
fn guesses(key: &str) -> Vec<String> {
    let begins = |form: &str| format!("{form:x>1024}");
    let ends = |form: &str| format!("{form:x<1024}");
    let mut blocks: Vec<String> = (0..16).map(|digit| begins(&format!("\\u00{digit:x}"))).collect();
    let base64 = BASE64_STANDARD.encode(key);
    for form in [key, &*base64, &*percent(key, true)] {
        blocks.extend([1, 4, 9, 20].map(|left| ends(&form[form.len() - left..])));
        blocks.extend([1, 4, 9, 20].map(|length| begins(&form[..length])));
        // No block completes another one.
        blocks.push("-".repeat(1024));
    }
    blocks.push(begins(&key[..key.len() - 1]));
    blocks.push("-".repeat(1024));
    blocks.push(ends(&key[1..]));
    blocks
}

#[tokio::test]
async fn a_prefix_or_suffix_of_the_credential_in_a_range_passes_unchanged() {
    let lab = Plan::api_key().start(serving(|key| guesses(key).concat())).await;
    let blocks = guesses(&lab.canary.text);
    let mut wire = lab.tunnel(HOST).await;
    for (number, block) in blocks.iter().enumerate() {
        let first = number * 1024;
        for (from, to) in [(0, 1023), (1016, 1023), (0, 7)] {
            let asked = format!("{}-{}", first + from, first + to);
            let (status, _, body) = part(&mut wire, &asked).await;
            assert_eq!(status, 206, "{asked}");
            assert_eq!(body, &block.as_bytes()[from..=to], "{asked}");
        }
    }
    drop(wire);
    let records = lab.finish().await;
    assert!(records.iter().all(|record| record["scrubbed"] == 0), "{records:?}");
}

/// The ends of an object are no edges of a part.
#[tokio::test]
async fn an_object_that_ends_with_a_prefix_of_the_credential_passes_unchanged() {
    let lab = Plan::api_key()
        .start(serving(|key| format!("{}{}{}", &key[9..], "x".repeat(2000), &key[..9])))
        .await;
    let key = lab.canary.text.clone();
    let text = format!("{}{}{}", &key[9..], "x".repeat(2000), &key[..9]);
    let mut wire = lab.tunnel(HOST).await;
    for (range, from) in [
        ("-8".to_owned(), text.len() - 8),
        ("-1500".to_owned(), text.len() - 1500),
        ("0-".to_owned(), 0),
        ("-999999".to_owned(), 0),
        (format!("{}-", text.len() - 9), text.len() - 9),
    ] {
        let (status, _, body) = part(&mut wire, &range).await;
        assert_eq!((status, &*body), (206, &text.as_bytes()[from..]), "{range}");
    }
    assert_eq!(wire.ask(request_text("GET /", HOST)).await.text(), text);
    drop(wire);
    lab.finish().await;
}

#[tokio::test]
async fn parts_without_the_credential_are_as_they_came() {
    let lab = Plan::api_key().start(ranging()).await;
    for (first, last) in [(0, 2000), (4000, 5999)] {
        let answer = lab.ask(&format!("GET /\r\nRange: bytes={first}-{last}")).await.is(206);
        let letter = if first == 0 { b'x' } else { b'y' };
        assert_eq!(answer.body, vec![letter; last - first + 1]);
    }
    let records = lab.finish().await;
    assert!(records.iter().all(|record| record["scrubbed"] == 0), "{records:?}");
}

/// What an agent sees of a range, with `Content-Range`.
async fn part(wire: &mut Wire, range: &str) -> (u16, Option<String>, Vec<u8>) {
    let answer = wire.ask(request_text(&format!("GET /\r\nRange: bytes={range}"), HOST)).await;
    let range = answer.head.one("content-range").map(str::to_owned);
    (answer.head.status(), range, answer.body)
}

#[tokio::test]
async fn a_credential_is_masked_in_answers_to_short_ranges() {
    let mut lab = Plan::api_key().start(ranging()).await;
    let length = lab.canary.text.len();
    let total = 6000 + length;
    let mut wire = lab.tunnel(HOST).await;
    for first in 2990..=3000 + length {
        let (status, range, body) = part(&mut wire, &format!("{first}-{}", first + 7)).await;
        assert_eq!((status, body.len()), (206, 8), "{first}");
        assert_eq!(range, Some(format!("bytes {first}-{}/{total}", first + 7)));
        for (at, byte) in (first..).zip(&body) {
            let expected = match at {
                ..3000 => b'x',
                at if at < 3000 + length => b'*',
                _ => b'y',
            };
            assert_eq!(*byte, expected, "byte {at} of the part from {first}");
        }
        let sent = lab.origin.arrival().await.head.one("range").map(str::to_owned);
        let (from, to) = sent.as_deref().and_then(|it| it[6..].split_once('-')).expect("a range");
        let (from, to): (usize, usize) = (from.parse().unwrap(), to.parse().unwrap());
        assert!(from + length <= first && first + 7 + length <= to, "{sent:?} for {first}");
    }
    drop(wire);
    lab.finish().await;
}

#[tokio::test]
async fn a_short_range_gets_exactly_its_bytes() {
    let lab = Plan::api_key().start(ranging()).await;
    let total = 6000 + lab.canary.text.len();
    let mut wire = lab.tunnel(HOST).await;
    // The footer of a file, its first bytes, and a range that the end of the file cuts.
    for (range, first, last, byte) in [
        ("-8", total - 8, total - 1, b'y'),
        ("0-3", 0, 3, b'x'),
        (&*format!("{}-{}", total - 4, total + 400), total - 4, total - 1, b'y'),
    ] {
        let expected = format!("bytes {first}-{last}/{total}");
        let body = vec![byte; last - first + 1];
        assert_eq!(part(&mut wire, range).await, (206, Some(expected), body), "{range}");
    }
    // Behind the end, but not so far that the wider range is.
    let (status, range, body) = part(&mut wire, &format!("{}-{}", total + 1, total + 8)).await;
    assert_eq!((status, range, body.len()), (416, Some(format!("bytes */{total}")), 0));
    drop(wire);
    let records = lab.finish().await;
    assert!(records.iter().all(|record| record["scrubbed"] == 0), "{records:?}");
}

#[tokio::test]
async fn a_206_that_does_not_match_its_fields_or_the_requested_range_is_502() {
    for (fields, body) in [
        ("Content-Range: bytes 0-3/10", "abcdefgh"),
        ("Content-Range: bytes 0-7/10", "abc"),
        ("X-None: 1", "abcdefgh"),
        ("Content-Type: multipart/byteranges; boundary=b", "--b"),
        ("Content-Range: bytes 0-999999/1000000", "abc"),
        // Less than the wider range: what is beside it is not known.
        ("Content-Range: bytes 2-5/10", "cdef"),
    ] {
        let origin = Origin::answering(move |_: &Message| {
            let length = body.len();
            format!(
                "HTTP/1.1 206 Partial Content\r\n{fields}\r\nContent-Length: {length}\r\n\r\n{body}"
            )
        });
        let lab = Plan::api_key().start(origin).await;
        let answer = lab.ask("GET /\r\nRange: bytes=2-5").await;
        assert_eq!(answer.head.status(), 502, "{fields}");
        lab.finish().await;
    }
}

#[tokio::test]
async fn a_request_for_several_ranges_gets_the_whole_object() {
    let mut lab = Plan::api_key().start(ranging()).await;
    let length = 6000 + lab.canary.text.len();
    for range in ["bytes=0-2999,3001-5000", "bytes=5-4"] {
        let answer = lab.ask(&format!("GET /\r\nRange: {range}\r\nIf-Range: \"e\"")).await;
        assert_eq!((answer.head.status(), answer.body.len()), (200, length), "{range}");
        let head = lab.origin.arrival().await.head;
        assert!(!head.has("range") && !head.has("if-range"), "{range}");
    }
    lab.finish().await;
}

/// Dropbox sends files on POST.
#[tokio::test]
async fn a_resumed_download_gets_the_rest_and_requests_a_wider_uncoded_range_upstream() {
    let mut lab = Plan::api_key().start(ranging()).await;
    let length = lab.canary.text.len();
    let total = 6000 + length;
    let mut wire = lab.tunnel(HOST).await;
    for (method, first) in [("GET", 4000), ("POST", 4000), ("GET", 3000 + length), ("GET", 100)] {
        let fields = format!(
            "Range: bytes={first}-\r\nIf-Range: \"e\"\r\nAccept-Encoding: gzip\r\nContent-Length: 0"
        );
        wire.send(request_text(&format!("{method} /\r\n{fields}"), HOST)).await;
        let answer = wire.answer(method).await;
        assert_eq!((answer.head.status(), answer.whole), (206, true), "{first}");
        let range = format!("bytes {first}-{}/{total}", total - 1);
        assert_eq!(answer.head.one("content-range"), Some(&*range));
        assert_eq!(answer.head.one("content-length"), Some(&*(total - first).to_string()));
        assert_eq!(answer.head.one("etag"), Some("\"e\""));
        assert_eq!(answer.body.len(), total - first);
        assert!(answer.body.ends_with(&[b'y'; 2000]), "{first}");
        let head = lab.origin.arrival().await.head;
        let sent = head.one("range").and_then(|it| it.strip_prefix("bytes=")?.strip_suffix("-"));
        let sent: usize = sent.expect("a range").parse().expect("a number");
        assert!(sent == 0 || sent + length <= first, "{sent} for {first}");
        assert_eq!(head.one("if-range"), Some("\"e\""));
        assert_eq!(head.one("accept-encoding"), Some("identity"));
    }
    assert_eq!(lab.origin.streams(), 1, "what is not passed on is read");
    drop(wire);
    lab.finish().await;
}

#[tokio::test]
async fn a_range_that_begins_at_the_end_of_the_object_is_416() {
    let lab = Plan::api_key().start(ranging()).await;
    let total = 6000 + lab.canary.text.len();
    let mut wire = lab.tunnel(HOST).await;
    let (status, range, body) = part(&mut wire, &format!("{total}-")).await;
    assert_eq!((status, range, body.len()), (416, Some(format!("bytes */{total}")), 0));
    drop(wire);
    lab.finish().await;
}

/// Azure Storage writes what `x-ms-range` of a PUT names.
#[tokio::test]
async fn the_x_ms_range_field_of_an_upload_is_forwarded_unchanged() {
    let mut lab = Lab::simple().await;
    lab.ask("PUT /\r\nx-ms-range: bytes=0-511\r\nContent-Length: 0").await;
    assert_eq!(lab.origin.arrival().await.head.one("x-ms-range"), Some("bytes=0-511"));
    lab.finish().await;
}

/// What is cut where the body ends early is not known.
#[tokio::test]
async fn a_206_shorter_than_its_range_is_502_or_visibly_cut() {
    let origin = Origin::answering(|request: &Message| {
        let range = request.head.one("range").expect("a range");
        let last = range.rsplit('-').next().expect("a number");
        let fields = format!("Content-Range: bytes 0-{last}/100000\r\n");
        let answer = chunked("x".repeat(4100).as_bytes(), 1000, &fields);
        String::from_utf8(answer).expect("text").replacen("200 OK", "206 Part", 1)
    });
    let lab = Plan::api_key().start(origin).await;
    let answer = lab.ask("GET /\r\nRange: bytes=0-4095").await;
    assert!(!answer.whole || answer.head.status() == 502, "{answer:?}");
    lab.finish().await;
}

/// The upstream takes another field for a range: a piece of the secret comes that nothing could mask.
#[tokio::test]
async fn an_unrequested_partial_answer_is_502() {
    for (fields, body, status) in [
        ("Content-Range: bytes 2-5/10", "cdef", 502),
        ("Content-Range: bytes 0-3/10", "abcd", 502),
        ("Content-Range: bytes 0-3/*", "abcd", 502),
        ("Content-Type: multipart/byteranges; boundary=b", "--b", 502),
        // Some services say it of the whole.
        ("Content-Range: bytes 0-3/4", "abcd", 206),
    ] {
        let origin = Origin::answering(move |_: &Message| {
            let length = body.len();
            format!(
                "HTTP/1.1 206 Partial Content\r\n{fields}\r\nContent-MD5: x\r\n\
                 Content-Length: {length}\r\n\r\n{body}"
            )
        });
        let mut lab = Plan::api_key().start(origin).await;
        let answer = lab.ask("GET /\r\nRequest-Range: bytes=2-5").await;
        assert_eq!(answer.head.status(), status, "{fields}");
        if status == 206 {
            assert_eq!((answer.head.one("content-md5"), &*answer.text()), (None, body));
        }
        assert_eq!(lab.origin.arrival().await.head.one("request-range"), None);
        lab.finish().await;
    }
}

/// Heroku's lists, and those of PostgREST: a client that gets the first page for each range never ends.
#[tokio::test]
async fn a_range_in_a_unit_other_than_bytes_is_forwarded_unchanged() {
    for (range, came) in [("id ]5f..; max=2", "id 60..61; max=2"), ("0-1", "0-1/3573")] {
        let page = gzip(b"[\"an app\"]");
        let expected = page.clone();
        let origin = Origin::answering(move |request: &Message| {
            assert_eq!(request.head.one("accept-encoding"), Some("gzip"));
            let fields = format!("Content-Range: {came}\r\nContent-Encoding: gzip");
            let length = page.len();
            let head = format!("HTTP/1.1 206 Part\r\n{fields}\r\nContent-Length: {length}\r\n\r\n");
            [head.as_bytes(), &page].concat()
        });
        let mut lab = Plan::api_key().start(origin).await;
        let asked = format!("GET /apps\r\nAccept-Encoding: gzip\r\nRange: {range}");
        let answer = lab.ask(&asked).await;
        assert_eq!((answer.head.status(), answer.body), (206, expected), "{range}");
        assert_eq!(lab.origin.arrival().await.head.one("range"), Some(range));
        lab.finish().await;
    }
}

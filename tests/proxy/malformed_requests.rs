//! Requests that RFC 9112 does not allow, each followed by one that must never be read as a
//! request of its own. Refused, or normalised; never forwarded as they came.

use test_support::*;

/// Would be a smuggled request if the bytes before it were read otherwise than meant.
const SMUGGLED: &str = "GET /smuggled HTTP/1.1\r\nHost: api.acme.test\r\n\r\n";

/// Refused with a 4xx or 5xx, or by the end of the stream.
const REFUSED: &[(&str, &str)] = &[
    ("no version", "GET /a\r\nHost: api.acme.test\r\n\r\n"),
    ("version 2", "GET /a HTTP/2.0\r\nHost: api.acme.test\r\n\r\n"),
    ("version 1.2", "GET /a HTTP/1.2\r\nHost: api.acme.test\r\n\r\n"),
    ("lower-case version", "GET /a http/1.1\r\nHost: api.acme.test\r\n\r\n"),
    ("no target", "GET HTTP/1.1\r\nHost: api.acme.test\r\n\r\n"),
    ("empty method", " /a HTTP/1.1\r\nHost: api.acme.test\r\n\r\n"),
    ("method that is no token", "G(T /a HTTP/1.1\r\nHost: api.acme.test\r\n\r\n"),
    ("method with NUL", "G\0T /a HTTP/1.1\r\nHost: api.acme.test\r\n\r\n"),
    ("two blanks", "GET  /a HTTP/1.1\r\nHost: api.acme.test\r\n\r\n"),
    ("tab for blank", "GET\t/a HTTP/1.1\r\nHost: api.acme.test\r\n\r\n"),
    ("blank in the target", "GET /a b HTTP/1.1\r\nHost: api.acme.test\r\n\r\n"),
    ("angle brackets in the query", "GET /a?b=<c> HTTP/1.1\r\nHost: api.acme.test\r\n\r\n"),
    ("quotation mark in the query", "GET /a?b=\"c HTTP/1.1\r\nHost: api.acme.test\r\n\r\n"),
    ("NUL in the target", "GET /a\0b HTTP/1.1\r\nHost: api.acme.test\r\n\r\n"),
    ("control byte in the target", "GET /a\x01b HTTP/1.1\r\nHost: api.acme.test\r\n\r\n"),
    ("DEL in the target", "GET /a\x7fb HTTP/1.1\r\nHost: api.acme.test\r\n\r\n"),
    ("asterisk for GET", "GET * HTTP/1.1\r\nHost: api.acme.test\r\n\r\n"),
    ("relative target", "GET a HTTP/1.1\r\nHost: api.acme.test\r\n\r\n"),
    ("authority-form for GET", "GET api.acme.test:443 HTTP/1.1\r\nHost: api.acme.test\r\n\r\n"),
    ("no colon", "GET /a HTTP/1.1\r\nHost: api.acme.test\r\nX-A\r\n\r\n"),
    ("blank before the colon", "GET /a HTTP/1.1\r\nHost: api.acme.test\r\nX-A : 1\r\n\r\n"),
    (
        "blank before CL's colon",
        "POST /a HTTP/1.1\r\nHost: api.acme.test\r\nContent-Length : 5\r\n\r\nhello",
    ),
    ("tab before the colon", "GET /a HTTP/1.1\r\nHost: api.acme.test\r\nX-A\t: 1\r\n\r\n"),
    ("empty name", "GET /a HTTP/1.1\r\nHost: api.acme.test\r\n: 1\r\n\r\n"),
    (
        "name that begins with a colon",
        "GET /a HTTP/1.1\r\nHost: api.acme.test\r\n:path: /b\r\n\r\n",
    ),
    ("name that is no token", "GET /a HTTP/1.1\r\nHost: api.acme.test\r\nX(A): 1\r\n\r\n"),
    ("NUL in a name", "GET /a HTTP/1.1\r\nHost: api.acme.test\r\nX\0A: 1\r\n\r\n"),
    ("NUL in a value", "GET /a HTTP/1.1\r\nHost: api.acme.test\r\nX-A: 1\x002\r\n\r\n"),
    ("bare CR in a value", "GET /a HTTP/1.1\r\nHost: api.acme.test\r\nX-A: 1\r2\r\n\r\n"),
    ("control byte in a value", "GET /a HTTP/1.1\r\nHost: api.acme.test\r\nX-A: 1\x082\r\n\r\n"),
    ("folded first line", "GET /a HTTP/1.1\r\n Host: api.acme.test\r\nHost: api.acme.test\r\n\r\n"),
    (
        "two lengths",
        "POST /a HTTP/1.1\r\nHost: api.acme.test\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
    ),
    (
        "list of lengths",
        "POST /a HTTP/1.1\r\nHost: api.acme.test\r\nContent-Length: 5, 6\r\n\r\nhello",
    ),
    ("signed length", "POST /a HTTP/1.1\r\nHost: api.acme.test\r\nContent-Length: +5\r\n\r\nhello"),
    (
        "negative length",
        "POST /a HTTP/1.1\r\nHost: api.acme.test\r\nContent-Length: -5\r\n\r\nhello",
    ),
    ("hex length", "POST /a HTTP/1.1\r\nHost: api.acme.test\r\nContent-Length: 0x5\r\n\r\nhello"),
    ("empty length", "POST /a HTTP/1.1\r\nHost: api.acme.test\r\nContent-Length:\r\n\r\nhello"),
    (
        "length with a blank",
        "POST /a HTTP/1.1\r\nHost: api.acme.test\r\nContent-Length: 5 5\r\n\r\nhello",
    ),
    (
        "length of words",
        "POST /a HTTP/1.1\r\nHost: api.acme.test\r\nContent-Length: five\r\n\r\nhello",
    ),
    (
        "length over 64 bits",
        "POST /a HTTP/1.1\r\nHost: api.acme.test\r\nContent-Length: 18446744073709551621\r\n\r\nhello",
    ),
    (
        "coding gzip",
        "POST /a HTTP/1.1\r\nHost: api.acme.test\r\nTransfer-Encoding: gzip\r\n\r\n0\r\n\r\n",
    ),
    (
        "gzip before chunked",
        "POST /a HTTP/1.1\r\nHost: api.acme.test\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    ),
    (
        "chunked twice",
        "POST /a HTTP/1.1\r\nHost: api.acme.test\r\nTransfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
    ),
    (
        "chunked in two fields",
        "POST /a HTTP/1.1\r\nHost: api.acme.test\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ),
    (
        "chunked not last",
        "POST /a HTTP/1.1\r\nHost: api.acme.test\r\nTransfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
    ),
    (
        "quoted chunked",
        "POST /a HTTP/1.1\r\nHost: api.acme.test\r\nTransfer-Encoding: \"chunked\"\r\n\r\n0\r\n\r\n",
    ),
    (
        "parameter of chunked",
        "POST /a HTTP/1.1\r\nHost: api.acme.test\r\nTransfer-Encoding: chunked;q=1\r\n\r\n0\r\n\r\n",
    ),
    (
        "look-alike of chunked",
        "POST /a HTTP/1.1\r\nHost: api.acme.test\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    ),
    (
        "chunked with a vertical tab",
        "POST /a HTTP/1.1\r\nHost: api.acme.test\r\nTransfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n",
    ),
    (
        "empty coding",
        "POST /a HTTP/1.1\r\nHost: api.acme.test\r\nTransfer-Encoding:\r\n\r\n0\r\n\r\n",
    ),
    (
        "coding by HTTP/1.0",
        "POST /a HTTP/1.0\r\nHost: api.acme.test\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ),
];

/// Bad in the body: the head may have gone on, the end of the body must not.
const CUT: &[(&str, &str)] = &[
    ("no size", "\r\nhello\r\n0\r\n\r\n"),
    ("size of words", "five\r\nhello\r\n0\r\n\r\n"),
    ("signed size", "+5\r\nhello\r\n0\r\n\r\n"),
    ("negative size", "-5\r\nhello\r\n0\r\n\r\n"),
    ("size with 0x", "0x5\r\nhello\r\n0\r\n\r\n"),
    ("size with an underscore", "0_5\r\nhello\r\n0\r\n\r\n"),
    ("size over 64 bits", "10000000000000005\r\nhello\r\n0\r\n\r\n"),
    ("size ended by CR alone", "5\rhello\r\n0\r\n\r\n"),
    ("bytes after the chunk", "5\r\nhelloXX\r\n0\r\n\r\n"),
    ("no CRLF after the chunk", "5\r\nhello0\r\n\r\n"),
    ("bare LF in an extension", "5;a=\n\r\nhello\r\n0\r\n\r\n"),
    ("NUL in the size", "5\0\r\nhello\r\n0\r\n\r\n"),
    ("trailer without colon", "5\r\nhello\r\n0\r\nX-A\r\n\r\n"),
];

/// Has one sound reading, which servers differ about: refused, or sent on in the strict form.
const NORMALISED: &[(&str, &str)] = &[
    ("LF for CRLF", "GET /a HTTP/1.1\nHost: api.acme.test\n\n"),
    ("LF after a field", "GET /a HTTP/1.1\r\nHost: api.acme.test\r\nX-A: 1\nX-B: 2\r\n\r\n"),
    ("folded value", "GET /a HTTP/1.1\r\nHost: api.acme.test\r\nX-A: 1\r\n 2\r\n\r\n"),
    (
        "equal lengths",
        "POST /a HTTP/1.1\r\nHost: api.acme.test\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\nhello",
    ),
    (
        "both framings",
        "POST /a HTTP/1.1\r\nHost: api.acme.test\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    ),
    ("empty line first", "\r\nGET /a HTTP/1.1\r\nHost: api.acme.test\r\n\r\n"),
    (
        "chunk extension",
        "POST /a HTTP/1.1\r\nHost: api.acme.test\r\nTransfer-Encoding: chunked\r\n\r\n5;a=b\r\nhello\r\n0\r\n\r\n",
    ),
    (
        "chunked in upper case",
        "POST /a HTTP/1.1\r\nHost: api.acme.test\r\nTransfer-Encoding: CHUNKED\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    ),
    ("HTTP/1.0", "GET /a HTTP/1.0\r\nHost: api.acme.test\r\n\r\n"),
];

/// What the origin got is strict by the parser of these tests; this is what that one lets pass.
fn assert_strict(lab: &Lab, name: &str) {
    for request in lab.origin.received() {
        let raw = &request.head.raw;
        let lone = |at: usize, byte: u8| match byte {
            b'\n' => at == 0 || raw[at - 1] != b'\r',
            b'\r' => raw.get(at + 1) != Some(&b'\n'),
            0 => true,
            _ => false,
        };
        let stray = raw.iter().enumerate().find(|(at, byte)| lone(*at, **byte));
        assert_eq!(stray, None, "{name}: {request:?}");
        // The last two bytes are the empty line that ends the head.
        let fields = &raw[..raw.len().saturating_sub(2)];
        let odd = |w: &[u8]| w == b"\n\r\n" || w == b"\n \t";
        assert!(!fields.windows(3).any(odd), "{name}: {request:?}");
        assert_ne!(request.head.target(), "/smuggled", "{name}");
    }
}

#[tokio::test]
async fn a_malformed_request_is_refused_and_ends_the_stream() {
    let lab = Lab::simple().await;
    for (name, bytes) in REFUSED {
        let mut wire = lab.tunnel(HOST).await;
        wire.send(format!("{bytes}{SMUGGLED}")).await;
        if let Some(answer) = wire.try_answer("GET").await {
            let status = answer.head.status();
            assert!((400..600).contains(&status), "{name}: {answer:?}");
        }
        let later = wire.rest().await;
        assert!(!later.starts_with(b"HTTP/1.1 200"), "{name}: a later byte became a request");
        assert_eq!(lab.origin.received().len(), 0, "{name} reached the origin");
    }
    lab.finish_after(0).await;
}

#[tokio::test]
async fn a_body_with_broken_chunks_is_never_whole_at_the_origin() {
    let lab = Lab::simple().await;
    for (name, chunks) in CUT {
        let mut wire = lab.tunnel(HOST).await;
        let head = request_text("POST /a\r\nTransfer-Encoding: chunked", HOST);
        wire.send(format!("{head}{chunks}{SMUGGLED}")).await;
        if let Some(answer) = wire.try_answer("POST").await {
            assert!(answer.head.status() >= 400, "{name}: {answer:?}");
        }
        let later = wire.rest().await;
        assert!(!later.starts_with(b"HTTP/1.1 200"), "{name}: a later byte became a request");
        let whole: Vec<Message> =
            lab.origin.received().into_iter().filter(|request| request.whole).collect();
        assert!(whole.is_empty(), "{name}: {whole:?}");
    }
    assert_strict(&lab, "all");
    lab.finish().await;
}

#[tokio::test]
async fn an_unusual_but_valid_request_is_forwarded_in_strict_form_or_refused() {
    for (name, bytes) in NORMALISED {
        let lab = Lab::simple().await;
        let mut wire = lab.tunnel(HOST).await;
        wire.send(bytes).await;
        wire.finish().await;
        let answer = wire.try_answer("GET").await;
        if let Some(answer) = &answer {
            let status = answer.head.status();
            assert!(status == 200 || (400..502).contains(&status), "{name}: {answer:?}");
        }
        for request in lab.origin.received() {
            assert_eq!(request.head.all("x-api-key"), [&*lab.canary.text], "{name}");
        }
        assert_strict(&lab, name);
        lab.finish().await;
    }
}

/// A head of `length` bytes that begins with `start`.
fn head_of(length: usize, start: &str) -> String {
    let others = start.len() + "X-A: \r\n\r\n".len();
    format!("{start}X-A: {}\r\n\r\n", "x".repeat(length - others))
}

#[tokio::test]
async fn heads_above_the_limit_are_refused_and_heads_of_its_length_pass_on_both_legs() {
    const HEAD_MAX: usize = 64 * 1024;
    const ANSWER: &str = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n";
    // The target of a request counts, and each of its fields with its line end.
    let uncounted = "GET  HTTP/1.1\r\n\r\n".len();
    let start = format!("GET /a HTTP/1.1\r\nHost: {HOST}\r\n");
    let origin = Origin::answering(|request| match request.head.target() {
        "/above" => head_of(HEAD_MAX + 1, ANSWER),
        _ => head_of(HEAD_MAX, ANSWER),
    });
    let lab = Plan::api_key().start(origin).await;

    let mut wire = lab.tunnel(HOST).await;
    wire.send(head_of(HEAD_MAX + uncounted + 1, &start)).await;
    assert_eq!(wire.answer("GET").await.head.status(), 431);
    assert!(lab.origin.received().is_empty());
    assert_eq!(lab.ask("GET /above").await.head.status(), 502);

    let mut wire = lab.tunnel(HOST).await;
    let longest = head_of(HEAD_MAX + uncounted, &start);
    wire.send(&longest).await;
    let answer = wire.answer("GET").await.is(200);
    let value = answer.head.one("x-a").expect("its field");
    assert_eq!(value.len(), HEAD_MAX - ANSWER.len() - "X-A: \r\n\r\n".len());
    let received = lab.origin.received();
    let value = received.last().and_then(|request| request.head.one("x-a")).expect("the field");
    assert!(longest.contains(&format!("X-A: {value}\r\n")));
    lab.finish().await;
}

#[tokio::test]
async fn a_target_or_head_beyond_the_limit_is_refused_and_not_forwarded() {
    let lab = Lab::simple().await;
    let long = "x".repeat(70_000);
    let many: String = (0..250).map(|n| format!("X-{n}: 1\r\n")).collect();
    for (name, head, status) in [
        ("target", format!("GET /{long} HTTP/1.1\r\nHost: {HOST}\r\n\r\n"), 414),
        ("field", format!("GET /a HTTP/1.1\r\nHost: {HOST}\r\nX-A: {long}\r\n\r\n"), 431),
        ("fields", format!("GET /a HTTP/1.1\r\nHost: {HOST}\r\n{many}\r\n"), 431),
    ] {
        let mut wire = lab.tunnel(HOST).await;
        assert_eq!(wire.ask(&head).await.head.status(), status, "{name}");
        assert_eq!(lab.origin.received().len(), 0, "{name}");
    }
    lab.finish().await;
}

#[tokio::test]
async fn a_target_of_20_kib_is_414() {
    let lab = Lab::simple().await;
    let answer = lab.ask(&format!("GET /{}", "x".repeat(20 * 1024))).await;
    assert_eq!(answer.refusal(), (414, Some("target_too_long")), "{:?}", answer.head);
    lab.finish().await;
}

#[tokio::test]
async fn the_plain_port_refuses_the_same_malformed_requests() {
    let lab = Lab::simple().await;
    let line = lab.authorization("ci");
    for (name, bytes) in REFUSED {
        let bytes = bytes.replacen("\r\n\r\n", &format!("\r\n{line}\r\n"), 1);
        let bytes = bytes.replacen(" /a", " https://api.acme.test/a", 1);
        let mut wire = lab.client().await;
        wire.send(format!("{bytes}{SMUGGLED}")).await;
        if let Some(answer) = wire.try_answer("GET").await {
            assert!((400..600).contains(&answer.head.status()), "{name}: {answer:?}");
        }
        drop(wire);
        assert_eq!(lab.origin.received().len(), 0, "{name} reached the origin");
    }
    lab.finish().await;
}

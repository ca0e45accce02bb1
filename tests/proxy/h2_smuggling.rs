//! Requests that HTTP/2 can carry and HTTP/1.1 cannot, or that have two readings: refused, never
//! forwarded. Each row goes before an upstream of either protocol.

use test_support::http2::frames::*;
use test_support::http2::{Offer, Reply};
use test_support::*;

type Fields = Vec<(Vec<u8>, Vec<u8>)>;

/// A request: what is in its head, then its body, then its trailers.
struct Row {
    name: &'static str,
    head: Fields,
    body: Option<&'static [u8]>,
    trailers: Option<Fields>,
}

fn pair(name: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> (Vec<u8>, Vec<u8>) {
    (name.as_ref().to_vec(), value.as_ref().to_vec())
}

fn sound() -> Fields {
    vec![
        pair(":method", "POST"),
        pair(":scheme", "https"),
        pair(":authority", HOST),
        pair(":path", "/a"),
    ]
}

/// The sound request with one pseudo-header field changed.
fn with(name: &str, value: impl AsRef<[u8]>) -> Fields {
    let value = value.as_ref();
    sound()
        .into_iter()
        .map(|(n, v)| if n == name.as_bytes() { pair(n, value) } else { (n, v) })
        .collect()
}

/// The sound request without one of them.
fn without(name: &str) -> Fields {
    sound().into_iter().filter(|(n, _)| n != name.as_bytes()).collect()
}

/// The sound request and one field more.
fn and(name: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Fields {
    [sound(), vec![pair(name, value)]].concat()
}

/// Bytes that end a line, or a head, elsewhere, or that no name has: RFC 9113 §8.2.1, §10.3.
fn in_fields() -> Vec<(&'static str, Fields)> {
    vec![
        ("CRLF in a value", and("x-a", "b\r\nx-injected: 1")),
        ("LF in a value", and("x-a", "b\nx-injected: 1")),
        ("CR in a value", and("x-a", "b\rx-injected: 1")),
        ("NUL in a value", and("x-a", "b\0c")),
        ("CRLF in a name", and("x-a: b\r\nx-injected", "1")),
        ("a colon in a name", and("x-a:b", "1")),
        ("a space in a name", and("x-a ", "1")),
        ("no name", and("", "1")),
        ("a name in capitals", and("X-Upper", "1")),
        ("a name that is not ASCII", and([b'x', 0xff], "1")),
    ]
}

/// What becomes the request line.
fn in_the_line() -> Vec<(&'static str, Fields)> {
    vec![
        ("CRLF in the path", with(":path", "/a HTTP/1.1\r\nx-injected: 1\r\n\r\n")),
        ("a space in the path", with(":path", "/a b")),
        ("a whole request line as path", with(":path", "/a HTTP/1.1")),
        ("NUL in the path", with(":path", "/a\0b")),
        ("an empty path", with(":path", "")),
        ("a path without a slash", with(":path", "a")),
        ("an asterisk for a POST", with(":path", "*")),
        ("a URI as path", with(":path", "https://third.acme.test/a")),
        ("CRLF in the method", with(":method", "GET / HTTP/1.1\r\nx-injected: 1\r\n\r\nPOST")),
        ("a space in the method", with(":method", "POST /b")),
        ("no method in the field", with(":method", "")),
        ("CRLF in the authority", with(":authority", "api.acme.test\r\nx-injected: 1")),
        ("a user in the authority", with(":authority", "u@api.acme.test")),
        ("a path in the authority", with(":authority", "api.acme.test/b")),
        ("another authority", with(":authority", STRANGER)),
        ("CRLF in the scheme", with(":scheme", "https://a/\r\nx-injected: 1")),
        ("another scheme", with(":scheme", "http")),
    ]
}

/// Pseudo-header fields: RFC 9113 §8.3.
fn in_pseudo_fields() -> Vec<(&'static str, Fields)> {
    let late = [vec![pair("x-a", "b")], sound()].concat();
    vec![
        ("no method", without(":method")),
        ("no path", without(":path")),
        ("no scheme", without(":scheme")),
        ("two methods", and(":method", "GET")),
        ("two paths", and(":path", "/b")),
        ("two authorities", and(":authority", STRANGER)),
        ("two schemes", and(":scheme", "http")),
        ("one of an answer", and(":status", "200")),
        ("one that is not known", and(":other", "1")),
        ("a protocol without CONNECT", and(":protocol", "websocket")),
        ("one after a field", late),
    ]
}

/// The stream's own fields (RFC 9113 §8.2.2), and two readings of where it goes or how long it is.
fn of_the_message() -> Vec<(&'static str, Fields)> {
    vec![
        ("connection", and("connection", "x-a")),
        ("transfer-encoding", and("transfer-encoding", "chunked")),
        ("keep-alive", and("keep-alive", "timeout=5")),
        ("proxy-connection", and("proxy-connection", "keep-alive")),
        ("upgrade", and("upgrade", "websocket")),
        ("te", and("te", "gzip")),
        ("another host", and("host", STRANGER)),
        ("two hosts", [and("host", HOST), vec![pair("host", STRANGER)]].concat()),
        ("CONNECT", vec![pair(":method", "CONNECT"), pair(":authority", STRANGER)]),
        ("two lengths", [and("content-length", "4"), vec![pair("content-length", "5")]].concat()),
        ("a list of lengths", and("content-length", "4, 5")),
        ("a signed length", and("content-length", "+4")),
        ("a negative length", and("content-length", "-4")),
        ("a length in hex", and("content-length", "0x4")),
        ("no number as length", and("content-length", "")),
        ("a length beyond 64 bits", and("content-length", "18446744073709551620")),
    ]
}

fn rows() -> Vec<Row> {
    let heads = [in_fields(), in_the_line(), in_pseudo_fields(), of_the_message()];
    let mut rows: Vec<Row> = heads
        .into_iter()
        .flatten()
        .map(|(name, head)| Row { name, head, body: Some(b"body"), trailers: None })
        .collect();
    let row = |name, length: &str, body, trailers| {
        let head = and("content-length", length);
        Row { name, head, body, trailers }
    };
    rows.push(row("a length and nothing", "4", None, None));
    rows.push(row("more than its length", "3", Some(b"body"), None));
    rows.push(row("less than its length", "5", Some(b"body"), None));
    let trailers = |name: &str| Some(vec![pair(name, "POST")]);
    rows.push(row("capitals in trailers", "4", Some(b"body"), trailers("X-Upper")));
    rows
}

impl Row {
    fn frames(&self) -> Vec<u8> {
        let end = |is: bool| if is { END_STREAM } else { 0 };
        let (nothing, alone) = (self.body.is_none(), self.trailers.is_none());
        let mut frames = frame(HEADERS, END_HEADERS | end(nothing), 1, &block(&self.head));
        if let Some(body) = self.body {
            frames.extend(frame(DATA, end(alone), 1, body));
        }
        if let Some(trailers) = &self.trailers {
            frames.extend(frame(HEADERS, END_HEADERS | END_STREAM, 1, &block(trailers)));
        }
        frames
    }

    /// Sends it on a tunnel of its own.
    async fn end(&self, lab: &Lab) -> End {
        let mut wire = lab.frames(HOST).await;
        let settings = frame(SETTINGS, 0, 0, &[]);
        wire.send([PREFACE, &settings, &self.frames()].concat()).await;
        wire.end_of(1).await
    }
}

#[tokio::test]
async fn an_ambiguous_or_malformed_http2_request_is_refused_and_never_forwarded() {
    for offer in [Offer::Http1, Offer::Http2] {
        let origin = Origin::speaking(offer, |_| Reply::ok("fine"));
        let lab = Plan::api_key().start(origin).await;
        let mut forwarded = vec![];
        for row in rows() {
            let end = row.end(&lab).await;
            // What ends in the body is cut on its way; a head that was sound may have gone.
            let whole = lab.origin.received().into_iter().filter(|request| request.whole).count();
            let refused = !matches!(end, End::Answer(200..400)) && whole == forwarded.len();
            if !refused {
                forwarded.push(format!("{}: {end:?}", row.name));
            }
        }
        assert!(forwarded.is_empty(), "{offer:?}: {forwarded:#?}\n{:#?}", lab.origin.received());
        lab.finish().await;
    }
}

#[tokio::test]
async fn a_valid_handmade_http2_request_is_answered() {
    for offer in [Offer::Http1, Offer::Http2] {
        let origin = Origin::speaking(offer, |_| Reply::ok("fine"));
        let lab = Plan::api_key().start(origin).await;
        let by_host = [without(":authority"), vec![pair("host", HOST)]].concat();
        let rows = [
            ("sound", sound(), "/a"),
            ("with the same host", and("host", HOST), "/a"),
            ("with a length", and("content-length", "4"), "/a"),
            ("by its host alone", by_host, "/a"),
            ("with trailers allowed", and("te", "trailers"), "/a"),
            ("with a query", with(":path", "/a?b=c&d=%20"), "/a?b=c&d=%20"),
            ("a query alone", with(":path", "/?b"), "/?b"),
            ("a query without a path", with(":path", "?b"), "/?b"),
            ("a fragment without a path", with(":path", "#b"), "/"),
        ];
        for (name, head, target) in rows {
            let row = Row { name, head, body: Some(b"body"), trailers: None };
            assert_eq!(row.end(&lab).await, End::Answer(200), "{offer:?} {name}");
            let request = lab.origin.received().pop().expect("a request");
            assert_eq!(
                (request.head.target(), request.text().as_str()),
                (target, "body"),
                "{name}"
            );
            assert_eq!(request.head.all("x-api-key"), [&*lab.canary.text], "{name}");
        }
        lab.finish().await;
    }
}

/// Frames, and the codes that may end their stream or connection.
type Broken = (&'static str, Vec<u8>, &'static [u32]);

/// RFC 9113 §7.
const PROTOCOL_ERROR: u32 = 1;
const FLOW_CONTROL_ERROR: u32 = 3;
const STREAM_CLOSED: u32 = 5;
const FRAME_SIZE_ERROR: u32 = 6;
const COMPRESSION_ERROR: u32 = 9;

const PROTOCOL: &[u32] = &[PROTOCOL_ERROR];
const SIZE: &[u32] = &[FRAME_SIZE_ERROR, PROTOCOL_ERROR];
const FLOW: &[u32] = &[FLOW_CONTROL_ERROR, PROTOCOL_ERROR];
const HPACK: &[u32] = &[COMPRESSION_ERROR, PROTOCOL_ERROR];
const CLOSED: &[u32] = &[STREAM_CLOSED, PROTOCOL_ERROR];

/// Each is wrong by itself (RFC 9113 §6).
fn broken_alone(head: &[u8]) -> Vec<Broken> {
    let huge_window = frame(SETTINGS, 0, 0, &[0, 4, 0xff, 0xff, 0xff, 0xff]);
    let beyond = frame(WINDOW_UPDATE, 0, 0, &[0x7f, 0xff, 0xff, 0xff]);
    let no_hpack = frame(HEADERS, END_HEADERS | END_STREAM, 1, &[0xff; 6]);
    let grant = frame(WINDOW_UPDATE, 0, 1, &[0, 0, 0, 1]);
    vec![
        ("DATA on stream 0", frame(DATA, 0, 0, b"a"), PROTOCOL),
        ("HEADERS on stream 0", frame(HEADERS, END_HEADERS, 0, head), PROTOCOL),
        ("an even stream", frame(HEADERS, END_HEADERS, 2, head), PROTOCOL),
        ("DATA on an idle stream", frame(DATA, 0, 1, b"a"), PROTOCOL),
        ("RST_STREAM on an idle stream", frame(RST_STREAM, 0, 1, &[0; 4]), PROTOCOL),
        ("WINDOW_UPDATE on an idle stream", grant, PROTOCOL),
        ("a short PING", frame(PING, 0, 0, &[0; 7]), SIZE),
        ("PING on a stream", frame(PING, 0, 1, &[0; 8]), PROTOCOL),
        ("a short SETTINGS", frame(SETTINGS, 0, 0, &[0; 5]), SIZE),
        ("SETTINGS on a stream", frame(SETTINGS, 0, 1, &[]), PROTOCOL),
        ("an acknowledgement with settings", frame(SETTINGS, ACK, 0, &[0; 6]), SIZE),
        ("a window of 2^32 - 1", huge_window, FLOW),
        ("a window beyond 2^31", beyond, FLOW),
        ("CONTINUATION alone", frame(CONTINUATION, END_HEADERS, 1, head), PROTOCOL),
        ("no HPACK", no_hpack, HPACK),
    ]
}

/// Each is wrong where it comes (RFC 9113 §5.1).
fn broken_in_place(head: &[u8]) -> Vec<Broken> {
    let open = frame(HEADERS, END_HEADERS, 1, head);
    let ended = frame(HEADERS, END_HEADERS | END_STREAM, 1, head);
    let later = frame(HEADERS, END_HEADERS | END_STREAM, 3, head);
    let unfinished = frame(HEADERS, 0, 1, head);
    let then = |first: &[u8], second: Vec<u8>| [first, &second].concat();
    let push = frame(PUSH_PROMISE, END_HEADERS, 1, &[0, 0, 0, 2]);
    let padded = frame(DATA, 0x8, 1, &[200, b'a']);
    let large = frame(DATA, 0, 1, &[0; 20_000]);
    vec![
        ("PUSH_PROMISE", then(&open, push), PROTOCOL),
        ("PING within a head", then(&unfinished, frame(PING, 0, 0, &[0; 8])), PROTOCOL),
        ("too much padding", then(&open, padded), PROTOCOL),
        ("an older stream", then(&later, ended), CLOSED),
        ("a frame beyond 16 KiB", then(&open, large), SIZE),
    ]
}

#[tokio::test]
async fn an_invalid_frame_is_answered_with_goaway_or_rst_stream() {
    let head = block(&sound());
    let ended = frame(HEADERS, END_HEADERS | END_STREAM, 1, &head);
    let to_itself = frame(PRIORITY, 0, 1, &[0, 0, 0, 1, 16]);
    let origin = Origin::speaking(Offer::Both, |_| Reply::ok("fine"));
    let lab = Plan::api_key().start(origin).await;
    for (name, frames, codes) in [broken_alone(&head), broken_in_place(&head)].concat() {
        let mut wire = lab.frames(HOST).await;
        wire.send([PREFACE, &frame(SETTINGS, 0, 0, &[]), &frames].concat()).await;
        let end = loop {
            // An older stream was answered before it was used again.
            match wire.end_of(1).await {
                End::Answer(_) => {}
                end => break end,
            }
        };
        let code = match end {
            End::GoAway(code) | End::Reset(code) => code,
            _ => panic!("{name}: {end:?}"),
        };
        assert!(codes.contains(&code), "{name}: {code}");
    }
    // A stream that depends on itself is no fault any more: priorities are ignored (RFC 9113 §5.3).
    let mut wire = lab.frames(HOST).await;
    wire.send([PREFACE, &frame(SETTINGS, 0, 0, &[]), &to_itself, &ended].concat()).await;
    let end = wire.end_of(1).await;
    assert!(matches!(end, End::Answer(200) | End::Reset(1) | End::GoAway(1)), "{end:?}");
    lab.finish().await;
}

#[tokio::test]
async fn a_stream_that_does_not_begin_with_the_preface_is_closed() {
    let lab = Lab::simple().await;
    for first in
        [&b"GET / HTTP/1.1\r\nHost: api.acme.test\r\n\r\n"[..], b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r."]
    {
        let mut wire = lab.frames(HOST).await;
        wire.send(first).await;
        let end = wire.end_of(u32::MAX).await;
        assert!(matches!(end, End::GoAway(1) | End::Closed), "{end:?}");
    }
    assert!(lab.origin.received().is_empty());
    lab.finish().await;
}

#[tokio::test]
async fn a_pseudo_header_field_in_trailers_is_not_forwarded() {
    for offer in [Offer::Http1, Offer::Http2] {
        let origin = Origin::speaking(offer, |_| Reply::ok("fine"));
        let lab = Plan::api_key().start(origin).await;
        let trailers = Some(vec![pair(":method", "GET"), pair("x-after", "1")]);
        Row { name: "", head: sound(), body: Some(b"body"), trailers }.end(&lab).await;
        for request in lab.origin.received() {
            let pseudo = request.trailers.iter().any(|(name, _)| name.contains("method"));
            assert!(!pseudo, "{offer:?}: {request:?}");
        }
        lab.finish().await;
    }
}

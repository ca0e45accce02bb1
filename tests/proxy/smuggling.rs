//! Requests whose end two readers may see at two places (CL.TE, TE.CL, TE.TE and their kin), with a
//! second request where one of them would look for it. Each is refused, or goes on as one request that
//! has one reading.

use test_support::*;

/// What an attacker wants to have read as a request of its own.
const SMUGGLED: &str = "GET /smuggled HTTP/1.1\r\nHost: api.acme.test\r\nX-Smuggled: 1\r\n\r\n";

/// What becomes of a request.
enum Read {
    /// The origin receives nothing of it.
    Refused,
    /// The origin receives it once, with this body and one framing.
    As(&'static str),
}

use Read::{As, Refused};

struct Case {
    name: &'static str,
    /// The fields after `Host`.
    fields: &'static str,
    body: &'static str,
    read: Read,
}

const fn case(name: &'static str, fields: &'static str, body: &'static str, read: Read) -> Case {
    Case { name, fields, body, read }
}

/// `{S}` stands for [`SMUGGLED`], which is 62 bytes (3e in hex) long.
const CASES: &[Case] = &[
    // One framing: the body is what it says, whatever is in it.
    case("a request in a body with a length", "Content-Length: 62", "{S}", As("{S}")),
    case("a request in a chunk", "Transfer-Encoding: chunked", "3e\r\n{S}\r\n0\r\n\r\n", As("{S}")),
    // CL.TE: by the length all is body, by the coding the second request follows.
    case("CL.TE", "Content-Length: 67\r\nTransfer-Encoding: chunked", "0\r\n\r\n{S}", As("")),
    case(
        "CL.TE, reversed",
        "Transfer-Encoding: chunked\r\nContent-Length: 67",
        "0\r\n\r\n{S}",
        As(""),
    ),
    case(
        "CL.TE with two lengths",
        "Content-Length: 67\r\nTransfer-Encoding: chunked\r\nContent-Length: 3",
        "0\r\n\r\n{S}",
        As(""),
    ),
    // TE.CL: by the coding all is body, by the length the second request follows.
    case(
        "TE.CL",
        "Content-Length: 4\r\nTransfer-Encoding: chunked",
        "3e\r\n{S}\r\n0\r\n\r\n",
        As("{S}"),
    ),
    case(
        "TE.CL of nothing",
        "Content-Length: 0\r\nTransfer-Encoding: chunked",
        "3e\r\n{S}\r\n0\r\n\r\n",
        As("{S}"),
    ),
    case(
        "TE.CL with a wrong length",
        "Content-Length: x\r\nTransfer-Encoding: chunked",
        "0\r\n\r\n{S}",
        Refused,
    ),
    // TE.TE: the coding is written so that one of two readers overlooks it.
    case(
        "TE.TE, look-alike",
        "Content-Length: 67\r\nTransfer-Encoding: xchunked",
        "0\r\n\r\n{S}",
        Refused,
    ),
    case(
        "TE.TE, blank before the colon",
        "Content-Length: 67\r\nTransfer-Encoding : chunked",
        "0\r\n\r\n{S}",
        Refused,
    ),
    case(
        "TE.TE, tab before the colon",
        "Content-Length: 67\r\nTransfer-Encoding\t: chunked",
        "0\r\n\r\n{S}",
        Refused,
    ),
    case(
        "TE.TE, tab before the value",
        "Content-Length: 67\r\nTransfer-Encoding:\tchunked",
        "0\r\n\r\n{S}",
        As(""),
    ),
    case(
        "TE.TE, blanks after the value",
        "Content-Length: 67\r\nTransfer-Encoding: chunked \t",
        "0\r\n\r\n{S}",
        As(""),
    ),
    case(
        "TE.TE, no blank",
        "Content-Length: 67\r\nTransfer-Encoding:chunked",
        "0\r\n\r\n{S}",
        As(""),
    ),
    case(
        "TE.TE, upper case",
        "Content-Length: 67\r\nTRANSFER-ENCODING: CHUNKED",
        "0\r\n\r\n{S}",
        As(""),
    ),
    case(
        "TE.TE, vertical tab",
        "Content-Length: 67\r\nTransfer-Encoding: \x0bchunked",
        "0\r\n\r\n{S}",
        Refused,
    ),
    case(
        "TE.TE, NUL",
        "Content-Length: 67\r\nTransfer-Encoding: chunked\0",
        "0\r\n\r\n{S}",
        Refused,
    ),
    case(
        "TE.TE, NUL in the name",
        "Content-Length: 67\r\nTransfer-Encoding\0: chunked",
        "0\r\n\r\n{S}",
        Refused,
    ),
    case(
        "TE.TE, quoted",
        "Content-Length: 67\r\nTransfer-Encoding: \"chunked\"",
        "0\r\n\r\n{S}",
        Refused,
    ),
    case(
        "TE.TE, parameter",
        "Content-Length: 67\r\nTransfer-Encoding: chunked;q=1",
        "0\r\n\r\n{S}",
        Refused,
    ),
    case("TE.TE, empty", "Content-Length: 67\r\nTransfer-Encoding:", "0\r\n\r\n{S}", Refused),
    case(
        "TE.TE, a comma before",
        "Content-Length: 67\r\nTransfer-Encoding: ,chunked",
        "0\r\n\r\n{S}",
        Refused,
    ),
    case(
        "TE.TE, identity before",
        "Content-Length: 67\r\nTransfer-Encoding: identity, chunked",
        "0\r\n\r\n{S}",
        Refused,
    ),
    case(
        "TE.TE, identity behind",
        "Content-Length: 67\r\nTransfer-Encoding: chunked, identity",
        "0\r\n\r\n{S}",
        Refused,
    ),
    case(
        "TE.TE, twice",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
        "0\r\n\r\n{S}",
        Refused,
    ),
    case(
        "TE.TE, another first",
        "Transfer-Encoding: x\r\nTransfer-Encoding: chunked",
        "0\r\n\r\n{S}",
        Refused,
    ),
    case(
        "TE.TE, another second",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: x",
        "0\r\n\r\n{S}",
        Refused,
    ),
    case(
        "TE.TE, another name",
        "Content-Length: 67\r\nTransfer_Encoding: chunked",
        "0\r\n\r\n{S}",
        As("0\r\n\r\n{S}"),
    ),
    // Lengths.
    case("two lengths that agree", "Content-Length: 5\r\nContent-Length: 5", "hello", As("hello")),
    case(
        "two lengths, the first shorter",
        "Content-Length: 0\r\nContent-Length: 62",
        "{S}",
        Refused,
    ),
    case(
        "two lengths, the first longer",
        "Content-Length: 62\r\nContent-Length: 0",
        "{S}",
        Refused,
    ),
    case("a list of equal lengths", "Content-Length: 62, 62", "{S}", Refused),
    case("a list of lengths", "Content-Length: 0, 62", "{S}", Refused),
    case("plus", "Content-Length: +62", "{S}", Refused),
    case("minus", "Content-Length: -62", "{S}", Refused),
    case("minus nothing", "Content-Length: -0", "{S}", Refused),
    case("hex", "Content-Length: 0x3e", "{S}", Refused),
    case("a fraction", "Content-Length: 62.0", "{S}", Refused),
    case("an exponent", "Content-Length: 6e1", "{S}", Refused),
    case("an underscore", "Content-Length: 6_2", "{S}", Refused),
    case("a blank within", "Content-Length: 6 2", "{S}", Refused),
    case("quoted", "Content-Length: \"62\"", "{S}", Refused),
    case("empty", "Content-Length:", "{S}", Refused),
    case("over 64 bits", "Content-Length: 18446744073709551678", "{S}", Refused),
    case("zeros before", "Content-Length: 005", "hello", As("hello")),
    case("blanks around", "Content-Length: \t 5 \t", "hello", As("hello")),
    case("blank before the length's colon", "Content-Length : 62", "{S}", Refused),
    case("NUL behind the length", "Content-Length: 62\0", "{S}", Refused),
    // Lines.
    case(
        "LF between framings",
        "Content-Length: 67\nTransfer-Encoding: chunked",
        "0\r\n\r\n{S}",
        As(""),
    ),
    case("LF that hides a coding", "X-A: 1\nTransfer-Encoding: chunked", "0\r\n\r\n", As("")),
    case("CR that hides a coding", "X-A: 1\rTransfer-Encoding: chunked", "0\r\n\r\n{S}", Refused),
    case("CR that hides a length", "X-A: 1\rContent-Length: 62", "{S}", Refused),
    case("LF before a colon", "Transfer-Encoding\n: chunked", "0\r\n\r\n{S}", Refused),
    case("LF LF ends the head", "X-A: 1\n\nContent-Length: 62", "{S}", As("")),
    case("LF in chunks", "Transfer-Encoding: chunked", "5\nhello\n0\n\n{S}", Refused),
    case("LF ends the last chunk", "Transfer-Encoding: chunked", "0\n\n{S}", Refused),
    case("CR ends a chunk's line", "Transfer-Encoding: chunked", "3e\r{S}\r\n0\r\n\r\n", Refused),
    // Folds (RFC 9112 §5.2).
    case("fold before a coding", "X-A: 1\r\n Transfer-Encoding: chunked", "0\r\n\r\n{S}", Refused),
    case("fold within a coding", "Transfer-Encoding:\r\n chunked", "0\r\n\r\n{S}", Refused),
    case("fold within a length", "Content-Length: 6\r\n 2", "{S}", Refused),
    case("fold by a tab", "Content-Length: 62\r\n\tX: 1", "{S}", Refused),
    case("fold of nothing", "Content-Length: 62\r\n \r\nX-A: 1", "{S}", Refused),
    // Framing that `Connection` names stays (RFC 9110 §7.6.1).
    case(
        "Connection names the length",
        "Content-Length: 62\r\nConnection: Content-Length",
        "{S}",
        As("{S}"),
    ),
    case(
        "Connection names the coding",
        "Transfer-Encoding: chunked\r\nConnection: Transfer-Encoding",
        "3e\r\n{S}\r\n0\r\n\r\n",
        As("{S}"),
    ),
    // Chunks.
    case(
        "chunk size with a sign",
        "Transfer-Encoding: chunked",
        "+3e\r\n{S}\r\n0\r\n\r\n",
        Refused,
    ),
    case(
        "chunk size over 64 bits",
        "Transfer-Encoding: chunked",
        "1000000000000003e\r\n{S}\r\n0\r\n\r\n",
        Refused,
    ),
    case(
        "chunk longer than it says",
        "Transfer-Encoding: chunked",
        "2\r\n{S}\r\n0\r\n\r\n",
        Refused,
    ),
    case(
        "chunk with an extension",
        "Transfer-Encoding: chunked",
        "3e;a=\"b\"\r\n{S}\r\n0\r\n\r\n",
        As("{S}"),
    ),
    case("LF in an extension", "Transfer-Encoding: chunked", "3e;a\n{S}\r\n0\r\n\r\n", Refused),
    case(
        "framing as a trailer",
        "Transfer-Encoding: chunked",
        "5\r\nhello\r\n0\r\nContent-Length: 62\r\n\r\n",
        As("hello"),
    ),
];

/// One case on a stream of its own: what became of it, and that nothing else did.
async fn check(lab: &Lab, wire: &mut Wire, case: &Case, line: &str) {
    let Case { name, fields, body, read } = case;
    let before = lab.origin.received().len();
    let body = body.replace("{S}", SMUGGLED);
    wire.send(format!("POST {line}Host: {HOST}\r\n{fields}\r\n\r\n{body}")).await;
    let answer = wire.try_answer("POST").await;
    wire.finish().await;
    let later = String::from_utf8_lossy(&wire.rest().await).into_owned();
    assert!(!later.contains("HTTP/1.1 200"), "{name}: the second request was answered: {later}");
    let received = lab.origin.received().split_off(before);
    for request in &received {
        assert_ne!(request.head.target(), "/smuggled", "{name}");
        assert!(!request.head.has("x-smuggled"), "{name}: {request:?}");
    }
    match read {
        Refused => {
            let status = answer.map(|answer| answer.head.status());
            assert!(status.is_none_or(|status| (400..600).contains(&status)), "{name}: {status:?}");
            let whole: Vec<_> = received.iter().filter(|request| request.whole).collect();
            assert!(whole.is_empty(), "{name}: {whole:?}");
        }
        As(body) => {
            let status = answer.map(|answer| answer.head.status());
            assert_eq!((status, received.len()), (Some(200), 1), "{name}");
            let request = &received[0];
            assert_eq!(request.text(), body.replace("{S}", SMUGGLED), "{name}");
            assert!(request.whole && request.trailers.is_empty(), "{name}: {request:?}");
            assert_one_reading(name, request);
        }
    }
}

/// A length of digits or `chunked`, once; lines end with CRLF, and none is folded.
fn assert_one_reading(name: &str, request: &Message) {
    let Head { raw, .. } = &request.head;
    let framings: Vec<&str> = ["content-length", "transfer-encoding"]
        .iter()
        .flat_map(|field| request.head.all(field))
        .collect();
    let sound = |value: &str| value == "chunked" || value.bytes().all(|b| b.is_ascii_digit());
    assert!(
        framings.len() <= 1 && framings.iter().all(|value| sound(value)),
        "{name}: {request:?}"
    );
    let text = String::from_utf8_lossy(raw);
    assert!(!text.contains("\n ") && !text.contains("\n\t"), "{name}: folded: {text:?}");
    let stray = text.replace("\r\n", "");
    assert!(!stray.contains(['\r', '\n', '\0']), "{name}: {text:?}");
}

#[tokio::test]
async fn an_ambiguously_framed_request_in_a_tunnel_is_refused_or_gets_one_framing() {
    assert_eq!(SMUGGLED.len(), 62);
    let lab = Lab::simple().await;
    for case in CASES {
        let mut wire = lab.tunnel(HOST).await;
        check(&lab, &mut wire, case, "/a HTTP/1.1\r\n").await;
    }
    lab.finish().await;
}

#[tokio::test]
async fn an_ambiguously_framed_request_on_the_plain_port_is_refused_or_gets_one_framing() {
    let lab = Lab::simple().await;
    let line = format!("https://{HOST}/a HTTP/1.1\r\n{}", lab.authorization("ci"));
    for case in CASES {
        let mut wire = lab.client().await;
        check(&lab, &mut wire, case, &line).await;
    }
    lab.finish().await;
}

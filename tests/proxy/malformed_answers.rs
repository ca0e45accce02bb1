//! Answers that RFC 9112 does not allow: a 502, or an answer that is visibly cut; never repaired,
//! never another request's answer.

use test_support::*;

/// Bad in the head: 502 `upstream_protocol`.
const REFUSED: &[(&str, &str)] = &[
    ("nothing", ""),
    ("half a head", "HTTP/1.1 200 OK\r\nContent-Le"),
    ("no status line", "hello\r\n\r\n"),
    ("no status", "HTTP/1.1\r\n\r\n"),
    ("status of letters", "HTTP/1.1 abc OK\r\nContent-Length: 0\r\n\r\n"),
    ("status of two digits", "HTTP/1.1 20 OK\r\nContent-Length: 0\r\n\r\n"),
    ("status of four digits", "HTTP/1.1 2000 OK\r\nContent-Length: 0\r\n\r\n"),
    ("status 0", "HTTP/1.1 000 OK\r\nContent-Length: 0\r\n\r\n"),
    ("status 99", "HTTP/1.1 099 OK\r\nContent-Length: 0\r\n\r\n"),
    ("status 600", "HTTP/1.1 600 OK\r\nContent-Length: 0\r\n\r\n"),
    ("status 999", "HTTP/1.1 999 OK\r\nContent-Length: 0\r\n\r\n"),
    ("version 2", "HTTP/2.0 200 OK\r\nContent-Length: 0\r\n\r\n"),
    ("version 3.0", "HTTP/3.0 200 OK\r\nContent-Length: 0\r\n\r\n"),
    ("another protocol", "ICY 200 OK\r\nContent-Length: 0\r\n\r\n"),
    ("a request", "GET / HTTP/1.1\r\nHost: x\r\n\r\n"),
    (
        "differing lengths",
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello!",
    ),
    ("list of lengths", "HTTP/1.1 200 OK\r\nContent-Length: 5, 6\r\n\r\nhello!"),
    ("signed length", "HTTP/1.1 200 OK\r\nContent-Length: +5\r\n\r\nhello"),
    ("negative length", "HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\nhello"),
    ("hex length", "HTTP/1.1 200 OK\r\nContent-Length: 0x5\r\n\r\nhello"),
    ("length of words", "HTTP/1.1 200 OK\r\nContent-Length: five\r\n\r\nhello"),
    ("length over 64 bits", "HTTP/1.1 200 OK\r\nContent-Length: 18446744073709551621\r\n\r\nhello"),
    ("coding gzip", "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nhello"),
    ("chunked not last", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n"),
    ("look-alike of chunked", "HTTP/1.1 200 OK\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n"),
    ("no colon", "HTTP/1.1 200 OK\r\nX-A\r\nContent-Length: 0\r\n\r\n"),
    ("blank in a name", "HTTP/1.1 200 OK\r\nX A: 1\r\nContent-Length: 0\r\n\r\n"),
    ("blank before the colon", "HTTP/1.1 200 OK\r\nX-A : 1\r\nContent-Length: 0\r\n\r\n"),
    ("empty name", "HTTP/1.1 200 OK\r\n: 1\r\nContent-Length: 0\r\n\r\n"),
    ("NUL in a value", "HTTP/1.1 200 OK\r\nX-A: 1\x002\r\nContent-Length: 0\r\n\r\n"),
    ("NUL in a name", "HTTP/1.1 200 OK\r\nX\0A: 1\r\nContent-Length: 0\r\n\r\n"),
    ("NUL in the reason", "HTTP/1.1 200 O\0K\r\nContent-Length: 0\r\n\r\n"),
    ("bare CR in a value", "HTTP/1.1 200 OK\r\nX-A: 1\r2\r\nContent-Length: 0\r\n\r\n"),
];

/// Bad in the body: the head may already be with the client, the end must not come.
const CUT: &[(&str, &str)] = &[
    ("size of words", "five\r\nhello\r\n0\r\n\r\n"),
    ("negative size", "-5\r\nhello\r\n0\r\n\r\n"),
    ("size with 0x", "0x5\r\nhello\r\n0\r\n\r\n"),
    ("size over 64 bits", "10000000000000005\r\nhello\r\n0\r\n\r\n"),
    ("no CRLF after the chunk", "5\r\nhello0\r\n\r\n"),
    ("bytes after the chunk", "5\r\nhelloXX\r\n0\r\n\r\n"),
    ("no last chunk", "5\r\nhello\r\n"),
    ("no end of trailers", "5\r\nhello\r\n0\r\n"),
    ("NUL in the size", "5\0\r\nhello\r\n0\r\n\r\n"),
];

/// Sound in one reading: 502, or passed on in the strict form, which the tests' parser checks.
const NORMALISED: &[(&str, &str)] = &[
    (
        "both framings",
        "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    ),
    ("equal lengths", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\nhello"),
    ("LF for CRLF", "HTTP/1.1 200 OK\nContent-Length: 5\n\nhello"),
    (
        "folded coding",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding:\r\n chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    ),
    ("folded length", "HTTP/1.1 200 OK\r\nContent-Length:\r\n\t5\r\n\r\nhello"),
    ("no reason", "HTTP/1.1 200\r\nContent-Length: 5\r\n\r\nhello"),
    ("HTTP/1.0", "HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nhello"),
    (
        "coding by HTTP/1.0",
        "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    ),
    (
        "chunk extension",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5;a=b\r\nhello\r\n0\r\n\r\n",
    ),
    ("Latin-1 in a value", "HTTP/1.1 200 OK\r\nX-A: caf\u{e9}\r\nContent-Length: 5\r\n\r\nhello"),
];

async fn lab(answer: String) -> Lab {
    let origin = Origin::sharing(answer, move |mut stream, answer| async move {
        if stream.request().await.is_some() {
            // Some of these are refused before they are sent whole.
            drop(stream.try_send(&answer).await);
            stream.finish().await;
        }
    });
    Plan::api_key().start(origin).await
}

#[tokio::test]
async fn a_malformed_head_is_502() {
    for (name, bytes) in REFUSED {
        let lab = lab((*bytes).to_owned()).await;
        let answer = lab.ask("POST /a\r\nContent-Length: 0").await;
        assert_eq!(answer.head.status(), 502, "{name}: {answer:?}");
        let code = answer.head.one("keyward-error").expect("our own answer");
        assert!(matches!(code, "upstream_protocol" | "upstream_unreachable"), "{name}: {code}");
        assert!(!answer.text().contains("127.0.0.1"), "{name}: {}", answer.text());
        lab.finish().await;
    }
}

#[tokio::test]
async fn a_malformed_chunked_body_is_502_or_visibly_cut() {
    for (name, chunks) in CUT {
        let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
        let lab = lab(format!("{head}{chunks}")).await;
        let mut wire = lab.sent("GET /a").await;
        if let Some(answer) = wire.try_answer("GET").await {
            let refused = answer.head.status() == 502;
            assert!(refused || !answer.whole, "{name}: {answer:?}");
        }
        lab.finish().await;
    }
}

/// curl sends a request again, also a POST, if a stream that was used before ends without any byte of an answer.
#[tokio::test]
async fn the_head_of_an_answer_is_passed_on_although_its_body_breaks_at_once() {
    let head = "HTTP/1.1 201 Created\r\nX-Id: 7\r\nTransfer-Encoding: chunked\r\n\r\n";
    for body in ["5\nhello\n0\n\n", "five\r\nhello\r\n0\r\n\r\n", "0x5\r\nhello\r\n0\r\n\r\n"] {
        let lab = lab(format!("{head}{body}")).await;
        let answer = lab.ask("POST /a\r\nContent-Length: 0").await;
        assert_eq!((answer.head.status(), answer.head.one("x-id")), (201, Some("7")), "{body:?}");
        assert!(!answer.whole, "{body:?}: {answer:?}");
        assert_eq!(lab.origin.only().head.method(), "POST", "it was sent once");
        let records = lab.finish().await;
        assert_eq!(records[0]["outcome"], "upstream_aborted", "{body:?}");
    }
}

#[tokio::test]
async fn a_body_shorter_than_its_content_length_is_502_or_visibly_cut() {
    let lab = lab("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhello".to_owned()).await;
    let mut wire = lab.sent("GET /a").await;
    let answer = wire.answer("GET").await;
    assert!(!answer.whole || answer.head.status() == 502, "{answer:?}");
    lab.finish().await;
}

#[tokio::test]
async fn an_unusual_but_valid_answer_is_passed_in_strict_form_or_is_502() {
    for (name, bytes) in NORMALISED {
        let lab = lab((*bytes).to_owned()).await;
        let answer = lab.ask("GET /a").await;
        match answer.head.status() {
            200 => assert_eq!((&*answer.text(), answer.whole), ("hello", true), "{name}"),
            status => assert_eq!(status, 502, "{name}: {answer:?}"),
        }
        lab.finish().await;
    }
}

/// RFC 9110 §8.6. A second one is a protocol error over HTTP/2, and hyper cannot write it in an answer to HEAD.
#[tokio::test]
async fn a_repeated_length_is_passed_on_once_to_agents_of_both_protocols() {
    for lengths in ["Content-Length: 5\r\nContent-Length: 5", "Content-Length: 5, 5"] {
        let origin = Origin::answering(move |request: &Message| {
            let body = if request.head.method() == "HEAD" { "" } else { "hello" };
            format!("HTTP/1.1 200 OK\r\n{lengths}\r\n\r\n{body}")
        });
        let lab = Plan::api_key().start(origin).await;
        let client = lab.h2(HOST).await;
        for (method, body) in [("GET", "hello"), ("HEAD", "")] {
            let request = format!("{method} /a");
            for answer in [lab.ask(&request).await, client.ask(&request).await] {
                assert_eq!(answer.head.status(), 200, "{lengths}: {answer:?}");
                assert_eq!(answer.head.all("content-length"), ["5"], "{lengths}, {method}");
                assert_eq!((&*answer.text(), answer.whole), (body, true), "{lengths}, {method}");
            }
        }
        assert_eq!(lab.origin.received().len(), 4);
        lab.finish().await;
    }
}

#[tokio::test]
async fn an_invalid_length_of_an_answer_to_head_is_removed() {
    for length in ["+5", "5, 6", "0x5", "five", ""] {
        let lab = lab(format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n")).await;
        let answer = lab.ask("HEAD /a").await;
        assert_eq!((answer.head.status(), answer.whole), (200, true), "{length:?}: {answer:?}");
        assert!(!answer.head.has("content-length"), "{length:?}: {answer:?}");
        lab.finish().await;
    }
}

/// RFC 9112 §5.2: a folded value goes on as one line.
#[tokio::test]
async fn a_folded_value_is_unfolded() {
    let folded = "HTTP/1.1 200 OK\r\nX-A: 1\r\n 2\r\n\t \t3\r\nContent-Length: 5\r\n\r\nhello";
    let lab = lab(folded.to_owned()).await;
    let answer = lab.ask("GET /a").await;
    assert_eq!((answer.head.status(), &*answer.text()), (200, "hello"), "{answer:?}");
    assert_eq!(answer.head.one("x-a"), Some("1 2 3"), "{answer:?}");
    lab.finish().await;
}

#[tokio::test]
async fn a_head_without_end_is_502() {
    let field = format!("X-A: {}\r\n", "x".repeat(1000));
    for answer in [
        format!("HTTP/1.1 200 OK\r\n{}", field.repeat(200)),
        format!("HTTP/1.1 200 OK\r\nX-A: {}", "x".repeat(200_000)),
        format!("HTTP/1.1 200 OK\r\n{}\r\n", "X-A: 1\r\n".repeat(1000)),
        format!("HTTP/1.1 200 {}", "x".repeat(200_000)),
    ] {
        let lab = lab(answer).await;
        assert_eq!(lab.ask("GET /a").await.head.status(), 502);
        lab.finish().await;
    }
}

#[tokio::test]
async fn endless_interim_answers_are_502() {
    let interim = "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n";
    let lab = lab(format!("{}{}", interim.repeat(1000), ok("late"))).await;
    let answer = lab.ask("GET /a").await;
    assert_eq!(answer.head.status(), 502, "{:?}", answer.head);
    assert!(answer.interim.len() <= 16, "{}", answer.interim.len());
    lab.finish().await;
}

#[tokio::test]
async fn a_few_interim_answers_do_not_disturb_the_final_answer() {
    let interim = "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 102 Processing\r\n\r\n";
    let lab = lab(format!("{interim}{}", ok("final"))).await;
    assert_eq!(lab.ask("GET /a").await.text(), "final");
    lab.finish().await;
}

#[tokio::test]
async fn interim_answers_beyond_the_limit_are_502_and_up_to_it_are_not() {
    let interim = "HTTP/1.1 102 Processing\r\n\r\n";
    for (count, status) in [(16, 200), (17, 502)] {
        let lab = lab(format!("{}{}", interim.repeat(count), ok("late"))).await;
        let answer = lab.ask("GET /a").await;
        assert_eq!(answer.head.status(), status, "{count}");
        assert!(answer.interim.len() <= 16, "{}", answer.interim.len());
        lab.finish().await;
    }
}

#[tokio::test]
async fn an_answer_with_a_longer_head_than_is_read_names_the_limit() {
    let fields: String = (0..250).map(|number| format!("X-{number}: v\r\n")).collect();
    let long = format!("X-Long: {}\r\n", "a".repeat(100_000));
    for fields in [fields, long] {
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n{fields}\r\nok");
        let lab = lab(head).await;
        let answer = lab.ask("GET /a").await;
        assert_eq!(answer.refusal(), (502, Some("upstream_protocol")));
        let message = answer.json()["error"]["message"].as_str().expect("text").to_owned();
        assert!(message.contains("limits.head_fields_max"), "{message}");
        lab.finish().await;
    }
}

#[tokio::test]
async fn an_origin_that_never_answers_is_504() {
    let origin = Origin::scripted(|mut stream: Stream| async move {
        stream.request().await;
        stream.rest().await;
    });
    let plan = Plan::api_key().limit("answer_timeout: 300ms");
    let lab = plan.start(origin).await;
    let answer = lab.ask("GET /a").await;
    assert_eq!(answer.refusal(), (504, Some("upstream_timeout")), "{answer:?}");
    lab.finish().await;
}

#[tokio::test]
async fn an_origin_that_cannot_be_reached_is_502() {
    let origin = Origin::saying("fine");
    let addr = test_support::process::reserved_address();
    let lab = Plan::api_key()
        .hosts("api.acme.test, gone.acme.test")
        .resolve(&format!("gone.acme.test: \"{addr}\""))
        .allow(&addr.to_string())
        .start(origin)
        .await;
    let mut wire = lab.tunnel("gone.acme.test").await;
    let answer = wire.ask(request_text("GET /a", "gone.acme.test")).await;
    assert_eq!(answer.refusal(), (502, Some("upstream_unreachable")), "{answer:?}");
    assert!(!answer.text().contains(&addr.to_string()), "{}", answer.text());
    lab.finish().await;
}

#[tokio::test]
async fn keyward_error_and_keyward_proxy_status_of_an_origin_are_removed() {
    let origin = Origin::answering(|_: &Message| {
        "HTTP/1.1 403 default_deny\r\nKeyward-Error: default_deny\r\n\
         Proxy-Status: keyward; error=x\r\nContent-Length: 0\r\n\r\n"
    });
    let lab = Plan::api_key().start(origin).await;
    let answer = lab.ask("GET /a").await;
    assert!(!answer.head.has("keyward-error"), "{answer:?}");
    let status = answer.head.one("proxy-status").unwrap_or_default();
    assert!(!status.starts_with("keyward"), "{answer:?}");
    lab.finish().await;
}

#[tokio::test]
async fn no_member_of_an_upstream_s_proxy_status_is_named_as_the_gateway() {
    for theirs in [
        "Proxy-Status: cdn; error=dns_timeout, keyward; error=x; details=\"denied\"",
        "Proxy-Status: cdn; details=\"a, b\",keyward",
        "Proxy-Status: \"keyward\"; error=x",
        "Proxy-Status: Keyward; error=x",
        "Proxy-Status: cdn; error=dns_timeout\r\nProxy-Status: keyward; error=x",
        "Proxy-Status: cdn; details=\"\r\nProxy-Status: \tkeyward; error=x",
        "Trailer: Proxy-Status",
    ] {
        let origin = Origin::answering(move |_: &Message| match theirs.starts_with("Trailer") {
            false => format!("HTTP/1.1 200 OK\r\n{theirs}\r\nContent-Length: 0\r\n\r\n"),
            true => format!(
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n{theirs}\r\n\r\n1\r\nx\r\n0\r\n\
                 Proxy-Status: cdn, keyward; error=x\r\n\r\n"
            ),
        });
        let lab = Plan::api_key().start(origin).await;
        let answer = lab.ask("GET /a\r\nTE: trailers").await.is(200);
        let told = answer.head.all("proxy-status").join(" ");
        assert!(!told.to_lowercase().contains("keyward"), "{theirs}: {answer:?}");
        assert!(
            answer.trailers.iter().all(|(_, value)| !value.contains("keyward")),
            "{:?}",
            answer.trailers
        );
        lab.finish().await;
    }
    let theirs =
        "HTTP/1.1 200 OK\r\nProxy-Status: cdn; error=dns_timeout\r\nContent-Length: 0\r\n\r\n";
    let lab = Plan::api_key().start(Origin::answering(move |_: &Message| theirs)).await;
    let answer = lab.ask("GET /a").await;
    assert_eq!(answer.head.all("proxy-status"), ["cdn; error=dns_timeout"], "RFC 9209 §2");
    lab.finish().await;
}

#[tokio::test]
async fn every_error_answer_of_the_gateway_has_nosniff() {
    let plan = Plan::api_key().limit("auth_failures_per_minute_max: 1000");
    let lab = plan.start(Origin::saying("never")).await;
    let mut answers = vec![
        lab.ask("TRACE /a").await,
        lab.ask("POST /a\r\nContent-Type: application/grpc\r\nExpect: x\r\nContent-Length: 0")
            .await,
        lab.connect("unknown.test:443").await.0,
    ];
    for request in [
        "GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        "GET http://api.acme.test/ HTTP/1.1\r\nHost: api.acme.test\r\n\r\n",
        "CONNECT api.acme.test:443 HTTP/1.1\r\nHost: api.acme.test\r\n\r\n",
        "GET /to/acme/ HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
    ] {
        let mut wire = lab.client().await;
        answers.push(wire.ask(request).await);
    }
    for answer in answers {
        assert!(answer.head.has("keyward-error"), "{answer:?}");
        assert_eq!(answer.head.one("x-content-type-options"), Some("nosniff"), "{answer:?}");
    }
    lab.finish().await;
}

/// RFC 6455 §4.1. What follows such a 101 need not be a WebSocket.
#[tokio::test]
async fn a_101_that_does_not_accept_the_agent_s_key_is_502_and_the_tunnel_goes_on() {
    let key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==";
    let handshake = format!("GET /chat\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n{key}");
    let accept = "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";
    let agrees = format!(
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n{accept}\r\n\r\n"
    );
    let unchanged = ("", "");
    for (in_request, in_answer) in [
        (unchanged, (accept, "Sec-WebSocket-Accept: S3pPLMBiTxaQ9kYGzzhZRbK+xOo=")),
        (unchanged, (accept, "X-Own: yes")),
        (unchanged, (accept, &*format!("{accept}\r\n{accept}"))),
        ((key, "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA=="), unchanged),
        ((key, "X-Own: yes"), unchanged),
        ((key, &*format!("{key}\r\n{key}")), unchanged),
    ] {
        let said = format!("{}bytes", agrees.replace(in_answer.0, in_answer.1));
        let origin =
            Origin::answering(move |request: &Message| match request.head.has("upgrade") {
                true => said.clone(),
                false => ok("fine"),
            });
        let mut lab = Plan::api_key().start(origin).await;
        let mut wire = lab.tunnel(HOST).await;
        wire.send(request_text(&handshake.replace(in_request.0, in_request.1), HOST)).await;
        let answer = wire.answer("GET").await;
        assert_eq!(answer.refusal(), (502, Some("upstream_protocol")), "{answer:?}");
        assert!(!answer.text().contains("bytes"), "{answer:?}");
        assert!(lab.origin.arrival().await.head.has("upgrade"));
        assert_eq!(wire.ask(request_text("GET /other", HOST)).await.text(), "fine");
        let records = lab.finish().await;
        assert_eq!(records[0]["status"], 502);
        assert_eq!(records[0]["outcome"], "refused");
    }
}

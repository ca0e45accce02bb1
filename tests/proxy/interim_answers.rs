//! Interim (1xx) answers: agents get them before the final answer (RFC 9110 §15.2), without the credential.

use test_support::http2::{Ask, Offer, Reply};
use test_support::*;

const HINTS: &str = "HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\nAlt-Svc: h3=\":443\"\r\n\
    Connection: X-Hop\r\nX-Hop: 1\r\n\r\n";

#[tokio::test]
async fn interim_answers_are_passed_on_in_order_and_without_fields_of_the_hop() {
    let origin = Origin::answering(|_: &Message| {
        format!("{HINTS}HTTP/1.1 102 Processing\r\n\r\n{HINTS}{}", ok("final"))
    });
    let lab = Plan::api_key().start(origin).await;
    let mut wire = lab.tunnel(HOST).await;
    for _ in 0..2 {
        let answer = wire.ask(request_text("GET /a", HOST)).await;
        assert_eq!((answer.head.status(), &*answer.text()), (200, "final"));
        let statuses: Vec<u16> = answer.interim.iter().map(|head| head.status()).collect();
        assert_eq!(statuses, [103, 102, 103]);
        assert_eq!(answer.interim[0].one("link"), Some("</a.css>; rel=preload"));
        for gone in ["alt-svc", "connection", "x-hop"] {
            assert!(!answer.interim[0].has(gone), "{gone}");
        }
    }
    lab.finish().await;
}

#[tokio::test]
async fn an_interim_answer_comes_before_the_final_one_is_sent_and_shows_no_credential() {
    for offer in [Offer::Http1, Offer::Http2] {
        let http1 = |mut stream: Stream| async move {
            let Some(request) = stream.request().await else { return };
            let key = request.head.one("x-api-key").expect("a key").to_owned();
            stream.send(format!("HTTP/1.1 103 Early Hints\r\nLink: <{key}>\r\n\r\n")).await;
            // The agent goes on only when it has got the interim answer.
            let again = stream.request().await;
            assert!(again.is_none(), "{again:?}");
        };
        let http2 = |mut ask: Ask| async move {
            let key = ask.head.one("x-api-key").expect("a key").to_owned();
            ask.interim(103, &[("link", &key)]);
            ask.reply(&Reply::ok("final")).await;
        };
        let lab = Plan::api_key().start(Origin::either(offer, http1, http2)).await;
        let client = lab.h2(HOST).await;
        let mut stream = client.open("GET /a", true).await;
        assert_eq!(stream.interim().await, 103, "{offer:?}");
        drop((stream, client));
        lab.finish().await;
    }
}

/// The lab's end searches all that the agent has read for the credential.
#[tokio::test]
async fn the_credential_is_masked_in_an_interim_answer() {
    let origin = Origin::answering(|request: &Message| {
        let key = request.head.one("x-api-key").expect("a key");
        format!("HTTP/1.1 103 Early Hints\r\nX-Key: {key}\r\n\r\n{}", ok("final"))
    });
    let lab = Plan::api_key().start(origin).await;
    let answer = lab.ask("GET /a").await;
    assert_eq!((answer.interim.len(), answer.text()), (1, "final".to_owned()));
    let masked = answer.interim[0].one("x-key").expect("a field");
    assert!(masked.bytes().all(|byte| byte == b'*'), "{masked}");
    lab.finish().await;
}

#[tokio::test]
async fn an_agent_of_http_1_0_gets_no_interim_answer() {
    let origin = Origin::answering(|_: &Message| format!("{HINTS}{}", ok("final")));
    let lab = Plan::api_key().start(origin).await;
    let mut wire = lab.tunnel(HOST).await;
    wire.send(format!("GET /a HTTP/1.0\r\nHost: {HOST}\r\n\r\n")).await;
    let answer = wire.answer("GET").await;
    assert_eq!((answer.interim.len(), answer.text()), (0, "final".to_owned()));
    lab.finish().await;
}

#[tokio::test]
async fn the_interim_answers_of_pipelined_requests_are_within_no_other_answer() {
    let origin = Origin::answering(|request: &Message| {
        format!("{HINTS}{}", ok(&request.head.target().repeat(2_000)))
    });
    let lab = Plan::api_key().start(origin).await;
    let mut wire = lab.tunnel(HOST).await;
    let requests: String =
        ["/a", "/b", "/c"].map(|path| request_text(&format!("GET {path}"), HOST)).concat();
    wire.send(requests).await;
    for path in ["/a", "/b", "/c"] {
        let answer = wire.answer("GET").await;
        assert_eq!((answer.interim.len(), answer.text()), (1, path.repeat(2_000)));
    }
    lab.finish().await;
}

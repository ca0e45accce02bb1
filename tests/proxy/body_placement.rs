//! A credential in a request's body: there and nowhere else, in bodies of every framing, and in none
//! that cannot take it.

use std::sync::atomic::{AtomicUsize, Ordering};

use futures_util::FutureExt;
use serde_json::{Value, json};

use test_support::authorization::{Authorization, Issuer};
use test_support::canary::Canary;
use test_support::http2::{Offer, Reply};
use test_support::tokens::*;
use test_support::*;

mod forms;

const JSON: &str = "Content-Type: application/json";
const FORM: &str = "Content-Type: application/x-www-form-urlencoded";

/// A key in the member `auth.key`.
fn plan() -> Plan {
    Plan::new(
        "{ id: key, kind: api_key, placement: { body: auth.key } }",
        "{ api_key: { env: CANARY } }",
    )
}

async fn lab() -> Lab {
    plan().start(Origin::saying("fine")).await
}

/// Sends `body` in one piece with its length.
async fn post(lab: &Lab, head: &str, body: &str) -> Message {
    let mut wire = lab.tunnel(HOST).await;
    let method = head.split(' ').next().unwrap_or_default();
    let length = body.len();
    wire.send(request_text(&format!("{head}\r\nContent-Length: {length}"), HOST)).await;
    // A refusal may come before it is read.
    let _ = wire.try_send(body).await;
    wire.answer(method).await
}

fn error(answer: &Message) -> (u16, String, String) {
    let told = answer.json();
    let text = |key: &str| told["error"][key].as_str().unwrap_or_default().to_owned();
    (answer.head.status(), text("code"), text("message") + "; " + &text("hint"))
}

#[tokio::test]
async fn a_body_that_cannot_carry_the_credential_is_refused_and_not_sent() {
    let lab = lab().await;
    let multipart = "POST /a\r\nContent-Type: multipart/form-data; boundary=x";
    for (head, body, wanted) in [
        ("GET /a", "", "the request has none; send a JSON object or a form"),
        (&*format!("GET /a\r\n{JSON}"), "", "the request has none"),
        ("POST /a", "", "the request has none"),
        ("POST /a", "{}", "this one is without a Content-Type"),
        (multipart, "--y--", "multipart/form-data with text where a delimiter belongs"),
        ("POST /a\r\nContent-Type: application/x-ndjson", "{}", "this one is application/x-ndjson"),
        (&format!("POST /a\r\n{JSON}\r\n{FORM}"), "{}", "this one is of several"),
        (&format!("POST /a\r\n{JSON}\r\nContent-Encoding: gzip"), "x", "send it without a coding"),
        (&format!("POST /a\r\n{JSON}"), "[]", "no JSON object; send"),
        (&format!("POST /a\r\n{JSON}"), "{\"auth\":1}", "`auth` is no object"),
        (&format!("POST /a\r\n{JSON}"), "{\"auth\":{},\"Auth\":{}}", "`auth` is there twice"),
    ] {
        let (status, code, words) = error(&post(&lab, head, body).await);
        assert_eq!((status, &*code), (400, "bad_request"), "{head} {body}: {words}");
        assert!(words.contains(wanted), "{head} {body}: {words}");
    }
    let grpc = post(&lab, "POST /a\r\nContent-Type: application/grpc", "\0\0\0\0\0").await;
    assert_eq!(grpc.head.one("grpc-status"), Some("3"), "{grpc:?}");
    let records = lab.finish_after(0).await;
    assert_eq!(records.len(), 12);
    assert!(records.iter().all(|record| record["code"] == "bad_request"), "{records:#?}");
}

#[tokio::test]
async fn a_body_over_the_limit_is_refused_whether_it_says_its_length_or_not() {
    let plan = plan().limit("written_body_bytes_max: 1000").limit("written_body_bytes_total: 1000");
    let lab = plan.start(Origin::saying("fine")).await;
    let long = format!("{{\"x\":\"{}\"}}", "y".repeat(992));
    assert_eq!(long.len(), 1_000);
    assert_eq!(post(&lab, &format!("POST /a\r\n{JSON}"), &long).await.text(), "fine");
    let longer = format!("{long} ");
    let declared = post(&lab, &format!("POST /a\r\n{JSON}"), &longer).await;
    let mut wire = lab.tunnel(HOST).await;
    wire.send(request_text(&format!("POST /a\r\n{JSON}\r\nTransfer-Encoding: chunked"), HOST))
        .await;
    wire.send(format!("3e8\r\n{long}\r\n1\r\n \r\n")).await;
    for answer in [declared, wire.answer("POST").await] {
        let (status, code, words) = error(&answer);
        assert_eq!((status, &*code), (413, "too_large"), "{words}");
        assert!(words.contains("exceeds 1000 bytes; `limits.written_body_bytes_max`"), "{words}");
    }
    lab.finish_after(1).await;
}

#[tokio::test]
async fn the_memory_of_all_kept_bodies_is_bounded_and_released() {
    let plan = plan().limit("written_body_bytes_max: 1000").limit("written_body_bytes_total: 1500");
    let lab = plan.start(Origin::saying("fine")).await;
    let body = format!("{{\"x\":\"{}\"}}", "y".repeat(900));
    let head = format!("POST /a\r\n{JSON}\r\nContent-Length: {}", body.len());
    // One that never ends keeps what has come of it.
    let taken = async {
        loop {
            let mut slow = lab.sent(&head).await;
            slow.send(&body[..900]).await;
            // Until those bytes were read there is room; and another may be there before them.
            while slow.some().now_or_never().is_none() {
                let answer = post(&lab, &format!("POST /a\r\n{JSON}"), &body).await;
                if answer.head.status() == 503 {
                    assert_eq!(answer.head.one("keyward-error"), Some("overloaded"));
                    assert_eq!(answer.head.one("retry-after"), Some("1"));
                    return slow;
                }
                assert_eq!(answer.head.status(), 200);
            }
        }
    };
    let mut slow = patiently("the room to be taken", taken).await;
    slow.send(&body[900..]).await;
    assert_eq!(slow.answer("POST").await.text(), "fine", "who had room is served");
    assert_eq!(post(&lab, &format!("POST /a\r\n{JSON}"), &body).await.text(), "fine");
    // Who hangs up in the middle gives it back too.
    let mut gone = lab.sent(&head).await;
    gone.send(&body[..900]).await;
    gone.abort();
    until("the room to be given back", async || {
        post(&lab, &format!("POST /a\r\n{JSON}"), &body).await.head.status() == 200
    })
    .await;
    lab.finish().await;
}

#[tokio::test]
async fn the_agent_s_value_is_replaced_and_the_other_parts_of_the_body_are_kept() {
    let mut lab = lab().await;
    let placeholder = lab.placeholder("api_key");
    let secret = lab.canary.text.clone();
    for (kind, body, want) in [
        (
            JSON,
            format!("{{\"n\":1.0e+2, \"auth\":{{\"KEY\":\"mine\",\"key\":\"{placeholder}\"}}}}"),
            format!("{{\"n\":1.0e+2,\"auth\":{{\"key\":\"{secret}\"}}}}"),
        ),
        (JSON, String::new(), format!("{{\"auth\":{{\"key\":\"{secret}\"}}}}")),
        (
            FORM,
            format!("a=1&auth.key={placeholder}&Auth%2EKey=mine&b=%20+"),
            format!("a=1&b=%20+&auth.key={secret}"),
        ),
    ] {
        let head = format!("POST /a\r\n{kind}\r\nDigest: sha-256=x\r\nContent-MD5: x\r\nX-Kept: 1");
        assert_eq!(post(&lab, &head, &body).await.text(), "fine", "{body}");
        let received = lab.origin.arrival().await;
        assert_eq!(received.text(), want, "{body}");
        assert_eq!(received.head.all("content-length"), [want.len().to_string()]);
        for gone in ["digest", "content-md5", "transfer-encoding", "authorization"] {
            assert!(!received.head.has(gone), "{gone}");
        }
        assert_eq!(received.head.one("x-kept"), Some("1"));
        assert!(
            !String::from_utf8_lossy(&received.head.raw).contains(&secret),
            "in the body alone"
        );
    }
    let records = lab.finish().await;
    assert!(records.iter().all(|record| record["connection"].is_string()), "{records:#?}");
    assert!(records[2]["bytes_in"].as_u64().expect("a number") > 50, "what the agent sent");
}

#[tokio::test]
async fn a_placeholder_repeated_in_the_body_is_removed_and_every_other_body_passes_unchanged() {
    let plan = Plan::bearer().keys("repeats: [token, auth.key]");
    let mut lab = plan.limit("written_body_bytes_max: 400").start(Origin::saying("fine")).await;
    let held = lab.placeholder("token");
    let long = format!("token={held}&x={}", "y".repeat(400));
    let other = format!("text={held}&a=1");
    let deep = format!("{{\"a\": 1, \"auth\":{{\"key\":\"{held}\",\"b\":2}}}}");
    for (kind, body, want) in [
        (FORM, "token=mine&a=1", "token=mine&a=1"),
        (FORM, &*other, &*other),
        (FORM, &*long, &*long),
        (JSON, "{\"token\": 1}", "{\"token\": 1}"),
        (JSON, "[", "["),
        ("Content-Type: text/plain", &*format!("token={held}"), &*format!("token={held}")),
        (FORM, &*format!("token={held}&a=%20+"), "a=%20+"),
        (JSON, &*format!("{{\"token\":\"{held}\",\"a\":[1, 2]}}"), "{\"a\":[1, 2]}"),
        (JSON, &*deep, "{\"a\":1,\"auth\":{\"b\":2}}"),
    ] {
        assert_eq!(post(&lab, &format!("POST /a\r\n{kind}"), body).await.text(), "fine", "{body}");
        let received = lab.origin.arrival().await;
        assert_eq!(received.text(), want, "{body}");
        assert_eq!(received.head.all("content-length"), [want.len().to_string()]);
        let live = format!("Bearer {}", lab.canary.text);
        assert_eq!(received.head.all("authorization"), [live]);
    }
    lab.finish().await;
}

#[tokio::test]
async fn a_chunked_body_arrives_whole_and_its_trailers_are_not_forwarded() {
    let mut lab = lab().await;
    let mut wire = lab.tunnel(HOST).await;
    let head = format!("PUT /a\r\n{JSON}\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum");
    wire.send(request_text(&head, HOST)).await;
    for piece in ["2\r\n{\"\r\n", "1\r\na\r\n", "5\r\n\":[1]\r\n", "1\r\n}\r\n"] {
        wire.send(piece).await;
    }
    wire.send("0\r\nX-Sum: 1\r\n\r\n").await;
    assert_eq!(wire.answer("PUT").await.text(), "fine");
    let received = lab.origin.arrival().await;
    let want = format!("{{\"a\":[1],\"auth\":{{\"key\":\"{}\"}}}}", lab.canary.text);
    assert_eq!(received.text(), want);
    assert!(!received.head.has("trailer") && received.trailers.is_empty(), "{received:?}");
    // The stream is in order.
    wire.send(request_text(&format!("POST /b\r\n{JSON}\r\nContent-Length: 2"), HOST)).await;
    wire.send("{}").await;
    assert_eq!(wire.answer("POST").await.text(), "fine");
    lab.finish().await;
}

#[tokio::test]
async fn a_body_that_breaks_off_is_not_sent() {
    let lab = lab().await;
    for framing in ["Content-Length: 100", "Transfer-Encoding: chunked"] {
        let mut wire = lab.tunnel(HOST).await;
        wire.send(request_text(&format!("POST /a\r\n{JSON}\r\n{framing}"), HOST)).await;
        wire.send("2\r\n{}\r\n").await;
        wire.finish().await;
        assert!(wire.try_answer("POST").await.is_none_or(|answer| answer.head.status() == 400));
    }
    assert_eq!(lab.origin.received().len(), 0);
    assert_eq!(lab.finish().await.len(), 2);
}

#[tokio::test]
async fn the_gateway_answers_expect_with_100_itself_and_does_not_forward_it() {
    // Nobody waits for the upstream's word.
    let plan = plan().limit("continue_timeout: 1h");
    let mut lab = plan.start(Origin::saying("fine")).await;
    let mut wire = lab.tunnel(HOST).await;
    let head = format!("PUT /a\r\n{JSON}\r\nContent-Length: 7\r\nExpect: 100-continue");
    wire.send(request_text(&head, HOST)).await;
    assert_eq!(wire.head().await.expect("an interim answer").status(), 100);
    wire.send("{\"a\":1}").await;
    assert_eq!(wire.answer("PUT").await.text(), "fine");
    let received = lab.origin.arrival().await;
    assert!(!received.head.has("expect"), "{received:?}");
    assert!(received.text().starts_with("{\"a\":1,\"auth\":"), "{}", received.text());
    // What could not be written into is not asked for.
    let mut wire = lab.tunnel(HOST).await;
    let head = "PUT /a\r\nContent-Type: text/plain\r\nContent-Length: 7\r\nExpect: 100-continue";
    wire.send(request_text(head, HOST)).await;
    assert_eq!(wire.head().await.expect("an answer").status(), 400);
    lab.finish().await;
}

#[tokio::test]
async fn the_credential_is_written_into_http2_bodies_as_into_http1_bodies() {
    for offer in [Offer::Both, Offer::Http1] {
        let mut lab = plan().start(Origin::speaking(offer, |_| Reply::ok("fine"))).await;
        let client = lab.h2(HOST).await;
        let answer = client.post(&format!("POST /a\r\n{JSON}"), "{\"a\":1}").await;
        assert_eq!(answer.text(), "fine");
        let received = lab.origin.arrival().await;
        let want = format!("{{\"a\":1,\"auth\":{{\"key\":\"{}\"}}}}", lab.canary.text);
        assert_eq!(received.text(), want);
        assert_eq!(received.head.all("content-length"), [want.len().to_string()]);
        let mut waits =
            client.open(&format!("POST /a\r\n{JSON}\r\nexpect: 100-continue"), false).await;
        assert_eq!(waits.interim().await, 100);
        waits.send(b"{}").await;
        waits.trailers(&[("x-sum", "1")]);
        assert_eq!(waits.answer().await.text(), "fine");
        let received = lab.origin.arrival().await;
        assert!(received.trailers.is_empty() && !received.head.has("expect"), "{received:?}");
        client.post("POST /a\r\nContent-Type: text/plain", "x").await.is(400);
        assert_eq!(client.post(&format!("POST /b\r\n{JSON}"), "{}").await.text(), "fine");
        lab.finish().await;
    }
}

#[tokio::test]
async fn a_credential_that_an_answer_repeats_is_masked() {
    let echo = |request: &Message| ok(&request.text());
    let lab = plan().start(Origin::answering(echo)).await;
    let answer = post(&lab, &format!("POST /a\r\n{JSON}"), "{\"a\":1}").await.is(200);
    assert!(answer.text().starts_with("{\"a\":1,\"auth\":{\"key\":\"***"), "{}", answer.text());
    lab.finish().await;
}

#[tokio::test]
async fn a_method_with_several_placements_writes_all_of_them() {
    let id = Canary::new("id-of-acme-");
    let mut lab = Plan::new(
        "{ id: pair, kind: custom, fields: [{ name: id }, { name: key }], place: [\
         { header: X-Id, value: '{id}' }, { body: client.id, value: '{id}' }, \
         { body: client.secret, value: 'k-{key}' }, { query: v, value: '{id}' }] }",
        "{ id: { env: ID }, key: { env: CANARY } }",
    )
    .secret("ID", &id)
    .start(Origin::saying("fine"))
    .await;
    let head = format!("POST /a?v=mine&w=1\r\n{JSON}");
    assert_eq!(post(&lab, &head, "{\"client\":{\"x\":2}}").await.text(), "fine");
    let received = lab.origin.arrival().await;
    let want =
        json!({"client": {"x": 2, "id": id.text, "secret": format!("k-{}", lab.canary.text)}});
    assert_eq!(received.json(), want);
    assert_eq!(received.head.target(), format!("/a?w=1&v={}", id.text));
    assert_eq!(received.head.all("x-id"), [&*id.text]);
    lab.finish().await;
}

#[tokio::test]
async fn bodies_for_paths_without_a_body_placement_are_streamed_without_a_limit() {
    let mut lab = Plan::new(
        "{ id: key, kind: api_key, placements: [\
         { hosts: [api.acme.test], paths: [/files/**], place: [{ header: X-Api-Key }] }, \
         { hosts: [api.acme.test], place: [{ body: key }] }] }",
        "{ api_key: { env: CANARY } }",
    )
    .limit("written_body_bytes_max: 100")
    .limit("written_body_bytes_total: 100")
    .start(Origin::saying("fine"))
    .await;
    let large = "x".repeat(100_000);
    let answer = post(&lab, "PUT /files/a\r\nContent-Type: text/plain", &large).await;
    assert_eq!(answer.text(), "fine");
    let received = lab.origin.arrival().await;
    assert_eq!(received.text(), large);
    assert_eq!(received.head.all("x-api-key"), [&*lab.canary.text]);
    assert_eq!(post(&lab, &format!("POST /a\r\n{FORM}"), "a=1").await.text(), "fine");
    let received = lab.origin.arrival().await;
    assert_eq!(received.text(), format!("a=1&key={}", lab.canary.text));
    assert!(!received.head.has("x-api-key"));
    lab.finish().await;
}

#[tokio::test]
async fn a_retry_sends_the_whole_body_with_the_credential() {
    let count = AtomicUsize::new(0);
    let failing = move |_: &Message| match count.fetch_add(1, Ordering::SeqCst) {
        0 => "HTTP/1.1 503 X\r\nContent-Length: 0\r\n\r\n".to_owned(),
        _ => ok("fine"),
    };
    let plan = plan().settings("{ retry: { wait_max: 20ms } }");
    let lab = plan.start(Origin::answering(failing)).await;
    assert_eq!(post(&lab, &format!("PUT /a\r\n{JSON}"), "{\"a\":1}").await.text(), "fine");
    let received = lab.origin.received();
    let want = format!("{{\"a\":1,\"auth\":{{\"key\":\"{}\"}}}}", lab.canary.text);
    assert_eq!(received.iter().map(Message::text).collect::<Vec<_>>(), [&*want, &*want]);
    assert_eq!(lab.finish().await[0]["attempts"], 2);
}

/// An API that reads its token in the body.
fn api_of(issuer: Issuer) -> Origin {
    Origin::answering(move |request: &Message| {
        let body: Value = serde_json::from_slice(&request.body).unwrap_or_default();
        match body["token"].as_str().is_some_and(|token| issuer.is_live(token)) {
            true => ok("fine"),
            false => "HTTP/1.1 401 No\r\nContent-Length: 2\r\n\r\nno".to_owned(),
        }
    })
}

#[tokio::test]
async fn a_rejected_token_is_renewed_and_the_body_is_sent_again_with_the_new_one() {
    let authorization = Authorization::with(rules()).await;
    let pair = refresh_only(&authorization);
    let origin = api_of(authorization.issuer().clone());
    let method = method(", placement: { body: token }");
    let lab = plan_of(&authorization, &pair, &method).start(origin).await;
    let head = format!("POST /a\r\n{JSON}");
    assert_eq!(post(&lab, &head, "{\"a\":1}").await.text(), "fine");
    authorization.issuer().expire_all();
    // Its trailers end here, so that they are no reason against another time.
    let mut wire = lab.tunnel(HOST).await;
    let chunked = format!("{head}\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum");
    wire.send(request_text(&chunked, HOST)).await;
    let body = format!("{{\"a\":\"{}\"}}", "y".repeat(100_000));
    wire.send(format!("{:x}\r\n{body}\r\n0\r\nX-Sum: 1\r\n\r\n", body.len())).await;
    assert_eq!(wire.answer("POST").await.text(), "fine");
    let received = lab.origin.received();
    let token = |request: &Message| request.json()["token"].as_str().expect("one").to_owned();
    assert_eq!(token(&received[0]), token(&received[1]));
    assert_ne!(token(&received[1]), token(&received[2]), "the newer one");
    assert_eq!(received[1].json()["a"], received[2].json()["a"]);
    assert_eq!(received.len(), 3);
    lab.finish().await;
}

#[tokio::test]
async fn a_connection_test_and_a_direct_call_carry_the_credential_in_the_body() {
    let test = "{ method: POST, url: 'https://api.acme.test/me', json: { a: 1 } }";
    let mut lab = plan().test(test).start(Origin::saying("fine")).await;
    lab.gateway.api("POST", "/connections/acme/test", "").await.is(200);
    let key = json!({"key": lab.canary.text});
    assert_eq!(lab.origin.arrival().await.json(), json!({"a": 1, "auth": key}));
    let call = json!({"path": "/b", "method": "POST", "body": "x=1",
                      "headers": {"Content-Type": "application/x-www-form-urlencoded"}});
    lab.gateway.api("POST", "/connections/acme/request", &call.to_string()).await.is(200);
    let form = format!("x=1&auth.key={}", lab.canary.text);
    assert_eq!(lab.origin.arrival().await.text(), form);
    let call = json!({"path": "/b", "method": "GET"}).to_string();
    let said = lab.gateway.api("POST", "/connections/acme/request", &call).await;
    assert!(said.text().contains("the request has none"), "{}", said.text());
    lab.finish().await;
}

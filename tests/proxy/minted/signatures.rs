//! Requests that are signed by an HMAC as data: what arrives, how bodies are held, and what is refused.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use sha2::{Digest, Sha256};

use test_support::*;

/// Signs time, method, path with query, and body.
const SIGNED: &str = "{ id: key, kind: hmac, fields: [{ name: api_key }, { name: secret }], signature: { key: secret, \
     message: \"{seconds}\\n{method}\\n{target}\\n{body}\", encoding: base64 }, place: [{ header: X-Key, value: \"{api_key}\" }, \
     { header: X-Time, value: \"{seconds}\" }, { header: X-Sign, value: \"v1={signature}\" }] }";

fn plan(auth: &str) -> Plan {
    Plan::new(auth, "{ api_key: { env: API_KEY }, secret: { env: CANARY } }")
        .variable("API_KEY", "public-part")
}

/// HMAC-SHA-256 in base64, by its definition (RFC 2104 §2), for keys of at most a block.
fn mac(key: &str, message: &str) -> String {
    let mut block = [0; 64];
    block[..key.len()].copy_from_slice(key.as_bytes());
    let padded = |with: u8| block.map(|byte| byte ^ with);
    let inner = Sha256::new().chain_update(padded(0x36)).chain_update(message).finalize();
    let outer = Sha256::new().chain_update(padded(0x5c)).chain_update(inner).finalize();
    BASE64_STANDARD.encode(outer)
}

async fn lab(plan: Plan) -> Lab {
    plan.start(Origin::answering(|_: &Message| ok("fine"))).await
}

fn post(path: &str, fields: &str, body: &str) -> String {
    let head = format!("POST {path}\r\nContent-Length: {}{fields}", body.len());
    request_text(&head, HOST) + body
}

#[tokio::test]
async fn a_request_is_signed_with_the_live_key_instead_of_the_agent_s_signature() {
    let lab = lab(plan(SIGNED)).await;
    let mut wire = lab.tunnel(HOST).await;
    wire.send(post("/orders?a=%20b", "\r\nX-Sign: v1=stale\r\nX-Time: 1", "{\"amount\": 1}")).await;
    assert_eq!(wire.answer("POST").await.text(), "fine");
    let received = lab.origin.only();
    let time = received.head.one("x-time").expect("a time");
    assert_ne!(time, "1");
    let message = format!("{time}\nPOST\n/orders?a=%20b\n{{\"amount\": 1}}");
    let expected = format!("v1={}", mac(&lab.canary.text, &message));
    assert_eq!(received.head.all("x-sign"), [expected]);
    assert_eq!(received.head.all("x-key"), ["public-part"]);
    assert_eq!(received.text(), "{\"amount\": 1}");
    lab.finish().await;
}

#[tokio::test]
async fn a_body_beyond_the_limit_is_refused_where_it_is_signed_and_streamed_where_it_is_not() {
    let body = "x".repeat(4096);
    let without_body = SIGNED.replace("\\n{body}", "");
    for (auth, status) in [(SIGNED, 413), (&*without_body, 200)] {
        let lab = lab(plan(auth).limit("written_body_bytes_max: 1024")).await;
        let mut wire = lab.tunnel(HOST).await;
        wire.send(post("/orders", "", &body)).await;
        wire.answer("POST").await.is(status);
        lab.finish_after(usize::from(status == 200)).await;
    }
}

#[tokio::test]
async fn a_signature_in_the_query_is_the_last_parameter_and_covers_the_others() {
    let auth = "{ id: key, kind: hmac, fields: [{ name: api_key }, { name: secret }], signature: { key: secret, message: \"{query}\", \
         encoding: base64 }, place: [{ header: X-Key, value: \"{api_key}\" }, { query: timestamp, value: \"{milliseconds}\" }, \
         { query: signature, value: \"{signature}\" }] }";
    let lab = lab(plan(auth)).await;
    let held = lab.gateway.placeholder("ci", "acme", "secret");
    let answer = lab.ask(&format!("GET /account?signature=stale&a=1&timestamp=2&key={held}")).await;
    assert_eq!(answer.text(), "fine");
    let received = lab.origin.only();
    let (_, query) = received.head.target().split_once('?').expect("a query");
    let (signed, signature) = query.split_once("&signature=").expect("a signature");
    let (rest, time) = signed.split_once("&timestamp=").expect("a time");
    assert!(rest == "a=1" && time.len() == 13, "{query}");
    let decoded = percent_encoding::percent_decode_str(signature).decode_utf8_lossy();
    assert_eq!(decoded, mac(&lab.canary.text, signed));
    lab.finish().await;
}

//! Streams that are open now: what is listed, and that a cut ends one of them and nothing else. `h2_websocket/ends.rs` has
//! the same over HTTP/2.

use std::sync::Arc;

use serde_json::{Value, json};
use tokio::sync::Notify;

use crate::admin_network::{ask_at, user};
use test_support::*;

/// Begins an answer, and ends it at a signal.
fn slow(go_on: &Arc<Notify>) -> Origin {
    Origin::sharing(go_on.clone(), move |mut stream, go_on| async move {
        while stream.request().await.is_some() {
            stream.send("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhell\n").await;
            go_on.notified().await;
            // The gateway may have gone.
            if stream.try_send(b"world").await.is_err() {
                return;
            }
        }
    })
}

/// Reads, and answers nothing.
fn silent() -> Origin {
    Origin::scripted(|mut stream: Stream| async move {
        stream.rest().await;
    })
}

async fn listed(lab: &Lab, query: &str) -> Vec<Value> {
    let answer = lab.gateway.api("GET", &format!("/streams{query}"), "").await;
    assert_eq!(answer.head.status(), 200, "{query}: {}", answer.text());
    answer.json()["items"].as_array().expect("a list").clone()
}

/// The id of the only stream that a query finds.
async fn id(lab: &Lab, query: &str) -> String {
    let all = listed(lab, query).await;
    assert_eq!(all.len(), 1, "{query}: {all:#?}");
    all[0]["id"].as_str().expect("an id").to_owned()
}

async fn cut(lab: &Lab, id: &str) -> Message {
    lab.gateway.api("DELETE", &format!("/streams/{id}"), "").await
}

/// An answer of `ci` that has begun, in a tunnel of its own.
async fn begun(lab: &Lab, path: &str) -> Wire {
    let mut wire = lab.tunnel(HOST).await;
    wire.send(request_text(&format!("GET {path}"), HOST)).await;
    assert_eq!(wire.head().await.expect("a head").status(), 200);
    assert_eq!(wire.exactly(5).await, b"hell\n");
    wire
}

fn record_of<'a>(records: &'a [Value], id: &str) -> &'a Value {
    let own = |it: &&Value| it["exchange"] == id && it["change"].is_null();
    records.iter().find(own).expect("a record")
}

#[tokio::test]
async fn a_user_lists_and_cuts_only_what_they_may() {
    let go_on = Arc::default();
    let mut lab = Plan::api_key().start(slow(&go_on)).await;
    let mut wire = begun(&lab, "/a").await;
    let id = id(&lab, "").await;
    let (auditor, member) =
        (user(&mut lab, "eve", "auditor").await, user(&mut lab, "max", "member").await);
    let foreign = {
        let org = "Keyward-Org: other\r\n";
        let new = json!({"name": "other"}).to_string();
        lab.gateway.api("POST", "/orgs", &new).await.is(201);
        let new = json!({"name": "ann", "role": "admin"}).to_string();
        lab.gateway.api_with(org, ("POST", "/users"), &new).await;
        let token = json!({"user": "ann"}).to_string();
        let made = lab.gateway.api_with(org, ("POST", "/tokens"), &token).await.json();
        made["token"].as_str().expect("shown once").to_owned()
    };
    for (token, seen, status) in [(&auditor, 1, 403), (&member, 0, 404), (&foreign, 0, 404)] {
        let bearer = format!("Authorization: Bearer {token}\r\n");
        let list = ask_at(&lab, "GET /api/v1/streams", &bearer, "").await.json();
        assert_eq!(list["items"].as_array().map(Vec::len), Some(seen), "{list}");
        ask_at(&lab, &format!("DELETE /api/v1/streams/{id}"), &bearer, "").await.is(status);
    }
    for unknown in ["exc_0123456789abcdefghjk", "exc_", "con_x", "%2e%2e"] {
        let refused = cut(&lab, unknown).await;
        assert_eq!(refused.head.status(), 404, "{unknown}");
        let hint = refused.json()["error"]["hint"].clone();
        assert_eq!(hint, "`keyward stream list` shows those that are open");
    }
    go_on.notify_one();
    assert_eq!(wire.exactly(5).await, b"world", "nothing was cut");
    drop(wire);
    let records = lab.finish().await;
    assert_eq!(record_of(&records, &id)["outcome"], "completed");
}

#[tokio::test]
async fn a_cut_ends_one_of_two_answers_of_an_agent_and_the_other_goes_on() {
    let go_on = Arc::default();
    let lab = Plan::api_key().start(slow(&go_on)).await;
    assert_eq!(listed(&lab, "").await, [] as [Value; 0]);
    let (mut one, mut two) = (begun(&lab, "/one?key=x").await, begun(&lab, "/two").await);
    let all = listed(&lab, "?agent=ci&connection=acme&host=api.acme.test").await;
    assert_eq!(all.len(), 2, "{all:#?}");
    let (cut_one, other) = (id(&lab, "?q=/one").await, id(&lab, "?q=/two").await);
    let shown = all.iter().find(|it| it["id"] == *cut_one).expect("the first");
    for (field, value) in [
        ("kind", json!("request")),
        ("agent", json!("ci")),
        ("connection", json!("acme")),
        ("target", json!("https://api.acme.test")),
        ("method", json!("GET")),
        ("path", json!("/one")),
        ("bytes_in", json!(0)),
        ("bytes_out", json!(5)),
    ] {
        assert_eq!(shown[field], value, "{field} of {shown}");
    }
    assert_eq!(listed(&lab, "?host=api.acme.test:8443").await.len(), 0);
    lab.gateway.api("GET", "/streams?agent=unknown", "").await.is(404);
    lab.gateway.api("GET", "/streams?host=a%20b", "").await.is(422);
    assert_eq!(cut(&lab, &cut_one).await.head.status(), 204);
    assert_eq!(one.rest().await, b"", "five bytes are missing, and the stream has ended");
    assert_eq!(cut(&lab, &cut_one).await.head.status(), 404, "it was cut before");
    assert_eq!(id(&lab, "").await, other);
    go_on.notify_waiters();
    assert_eq!(two.exactly(5).await, b"world");
    // The agent keeps its access, on the same stream.
    two.send(request_text("GET /three", HOST)).await;
    assert_eq!(two.head().await.expect("a head").status(), 200);
    drop(two);
    until("an empty list", async || listed(&lab, "").await.is_empty()).await;
    // The newest is the second attempt, which was refused.
    let found = lab.gateway.api("GET", &format!("/audit?changed={cut_one}"), "").await.json();
    let items = found["items"].as_array().expect("a list");
    assert_eq!(items.len(), 2, "{found}");
    let change = &items[1]["change"];
    assert_eq!((&change["what"], &change["action"]), (&json!("stream"), &json!("cut")));
    assert_eq!((&change["by"], &change["name"]), (&json!("operator"), &json!("ci")));
    assert_eq!(change["why"], "GET https://api.acme.test/one with connection acme");
    let records = lab.finish().await;
    let record = record_of(&records, &cut_one);
    for (field, value) in
        [("outcome", "ended"), ("code", "stream_cut"), ("cut_by", "operator"), ("agent", "ci")]
    {
        assert_eq!(record[field], value, "{record}");
    }
    let record = record_of(&records, &other);
    assert_eq!((&record["outcome"], &record["code"]), (&json!("completed"), &Value::Null));
    assert_eq!(record.get("cut_by"), None);
}

#[tokio::test]
async fn an_answer_that_has_not_begun_is_cut_too() {
    let lab = Plan::api_key().start(silent()).await;
    let mut wire = lab.client().await;
    let authorization = lab.authorization("ci");
    wire.send(format!("GET https://{HOST}/a HTTP/1.1\r\nHost: {HOST}\r\n{authorization}\r\n"))
        .await;
    until("the request", async || !listed(&lab, "").await.is_empty()).await;
    let id = id(&lab, "").await;
    assert_eq!(cut(&lab, &id).await.head.status(), 204);
    assert_eq!(wire.rest().await, b"");
    let records = lab.finish().await;
    let record = record_of(&records, &id);
    assert_eq!((&record["code"], &record["status"]), (&json!("stream_cut"), &Value::Null));
}

#[tokio::test]
async fn a_cut_websocket_is_closed_with_code_1008_and_the_reason() {
    let origin = Origin::scripted(|mut stream: Stream| async move {
        if let Some(request) = stream.request().await {
            stream.send(switching(&request)).await;
            stream.rest().await;
        }
    });
    let mut lab = Plan::api_key().start(origin).await;
    let token = user(&mut lab, "ann", "admin").await;
    let (mut first, mut second) = (lab.tunnel(HOST).await, lab.tunnel(HOST).await);
    for (wire, path) in [(&mut first, "/one"), (&mut second, "/two")] {
        let asks = format!(
            "GET {path}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="
        );
        wire.send(request_text(&asks, HOST)).await;
        assert_eq!(wire.head().await.expect("a head").status(), 101);
    }
    first.send(b"\x81\x82abcd\x09\x0b").await;
    lab.origin.has_read("abcd").await;
    until("the bytes", async || listed(&lab, "?q=/one").await[0]["bytes_in"] == 8).await;
    let all = listed(&lab, "?q=/one").await;
    assert_eq!(all[0]["kind"], "websocket");
    let id = id(&lab, "?q=/one").await;
    let bearer = format!("Authorization: Bearer {token}\r\n");
    ask_at(&lab, &format!("DELETE /api/v1/streams/{id}"), &bearer, "").await.is(204);
    assert_eq!(first.rest().await, b"\x88\x11\x03\xf0cut by a person");
    assert_eq!(listed(&lab, "").await[0]["path"], "/two");
    drop(second);
    let records = lab.finish().await;
    let record = record_of(&records, &id);
    assert_eq!((&record["code"], &record["outcome"]), (&json!("stream_cut"), &json!("ended")));
    assert!(record["cut_by"].as_str().is_some_and(|by| by.starts_with("usr_")), "{record}");
}

#[tokio::test]
async fn a_tunnel_is_listed_without_a_path_and_is_cut() {
    let rule = format!("{{ name: blind, hosts: [{STRANGER}], action: tunnel }}");
    let lab = Plan::api_key().rule(&rule).hosts(&format!("{HOST}, {STRANGER}"));
    let lab = lab.start(silent()).await;
    let (_, mut wire) = lab.connect(&format!("{STRANGER}:443")).await;
    let all = listed(&lab, "").await;
    assert_eq!(all.len(), 1, "{all:#?}");
    assert_eq!((&all[0]["kind"], &all[0]["method"]), (&json!("tunnel"), &Value::Null));
    assert_eq!(all[0]["target"], format!("https://{STRANGER}"));
    let id = id(&lab, &format!("?host={STRANGER}:443")).await;
    assert_eq!(cut(&lab, &id).await.head.status(), 204);
    assert!(wire.is_closed().await);
    let records = lab.finish().await;
    assert_eq!(record_of(&records, &id)["code"], "stream_cut");
}

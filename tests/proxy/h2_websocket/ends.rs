//! Whatever ends one WebSocket ends nothing else on its HTTP/2 stream, and says why.

use std::time::{Duration, Instant};

use h2::Reason;
use keyward_base::id::OrgId;
use keyward_state::directory::ManagedBy;
use tokio::time::{MissedTickBehavior, interval};

use super::{HANDSHAKE, HELLO, code, origin, talking};
use test_support::*;

/// An unmasked close frame.
fn close(code: u16, reason: &str) -> Vec<u8> {
    let length = u8::try_from(2 + reason.len()).expect("short");
    [&[0x88, length], &code.to_be_bytes()[..], reason.as_bytes()].concat()
}

async fn pause(lab: &Lab, name: &str) {
    let services = lab.gateway.running().services();
    let (org, view) = (OrgId::default_org(), services.directory.view());
    let id = view.find_connection(&org, name).expect("the connection").id.clone();
    let directory = &services.directory;
    directory.set_connection_paused(&org, &id, true, ManagedBy::File).await.expect("paused");
}

async fn revoke(lab: &Lab) {
    let services = lab.gateway.running().services();
    let (org, view) = (OrgId::default_org(), services.directory.view());
    let agent = view.find_agent(&org, "ci").expect("the agent");
    let (token, by) = (&agent.facts.tokens[0].id, ManagedBy::File);
    services.directory.revoke_token_by(&org, &agent.id, token, by).await.expect("revoked");
}

#[tokio::test]
async fn an_agent_that_resets_its_websocket_closes_it_upstream_and_ends_nothing_else() {
    let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
    let origin = Origin::sharing(tell, move |mut stream, tell| async move {
        while let Some(request) = stream.request().await {
            if request.head.has("upgrade") {
                stream.send(switching(&request)).await;
                let rest = stream.rest().await;
                return tell.send(rest).expect("it is waited for");
            }
            stream.send(ok("fine")).await;
        }
    });
    let lab = Plan::api_key().start(origin).await;
    let client = lab.h2(HOST).await;
    let mut socket = client.websocket(HANDSHAKE).await;
    socket.send(HELLO).await;
    lab.origin.has_read("abcd").await;
    socket.reset(Reason::CANCEL);
    assert_eq!(patiently("the end", told.recv()).await.expect("told"), HELLO);
    assert_eq!(client.ask("GET /other").await.text(), "fine");
    let records = lab.finish().await;
    assert_eq!(
        (&records[0]["status"], &records[0]["outcome"]),
        (&101.into(), &"client_aborted".into())
    );
}

#[tokio::test]
async fn an_upstream_that_breaks_off_resets_its_stream_and_no_other() {
    let lab = Plan::api_key().start(origin()).await;
    let client = lab.h2(HOST).await;
    let (mut broken, mut other) = (talking(&client).await, talking(&client).await);
    broken.send(b"\x81\x05break").await;
    let (bytes, reason) = broken.rest().await;
    assert_eq!((bytes, reason), (vec![], Some(Reason::CANCEL)), "RFC 8441 §5");
    assert_eq!(other.send_and_read(HELLO, HELLO.len()).await, HELLO);
    assert_eq!(client.ask("GET /other").await.text(), "fine");
    other.finish();
    assert_eq!(other.rest().await, (vec![], None));
    let mut outcomes: Vec<_> =
        lab.finish().await.iter().map(|record| record["outcome"].to_string()).collect();
    outcomes.sort();
    assert_eq!(outcomes, ["\"completed\"", "\"completed\"", "\"upstream_aborted\""]);
}

#[tokio::test]
async fn a_websocket_closed_by_both_sides_ends_even_if_the_agent_keeps_its_stream_open() {
    const BYE: &[u8] = b"\x88\x82abcd\x62\x8a";
    let origin = Origin::scripted(|mut stream: Stream| async move {
        while let Some(request) = stream.request().await {
            if !request.head.has("upgrade") {
                stream.send(ok("fine")).await;
                continue;
            }
            stream.send(switching(&request)).await;
            stream.exactly(BYE.len()).await;
            stream.send(close(1000, "")).await;
            return stream.finish().await;
        }
    });
    let lab = Plan::api_key().start(origin).await;
    let client = lab.h2(HOST).await;
    let mut socket = client.websocket(HANDSHAKE).await;
    let all = close(1000, "");
    assert_eq!(socket.send_and_read(BYE, all.len()).await, all);
    assert_eq!(socket.reset_by_peer().await, Reason::NO_ERROR);
    assert_eq!(client.ask("GET /other").await.text(), "fine");
    let records = lab.finish().await;
    assert_eq!((&records[0]["status"], &records[0]["outcome"]), (&101.into(), &"completed".into()));
}

#[tokio::test]
async fn a_revoked_token_closes_websockets_with_1008_and_ends_all_other_exchanges() {
    let lab = Plan::api_key().start(origin()).await;
    let client = lab.h2(HOST).await;
    let (one, two) = (talking(&client).await, talking(&client).await);
    let mut open = client.open("GET /open", true).await;
    let mut coming = open.head().await.expect("a head");
    assert_eq!(&coming.chunk().await.expect("a chunk").expect("a part")[..], b"part\n");
    let begun = Instant::now();
    revoke(&lab).await;
    for socket in [one, two] {
        assert_eq!(socket.rest().await, (close(1008, "access was revoked"), None));
    }
    let (rest, reason) = coming.rest().await;
    assert!(!rest.whole && reason.is_some(), "{rest:?}");
    drop(open);
    // The connection ends too.
    drop(client.ended().await);
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    for record in lab.finish().await {
        assert_eq!(record["outcome"], "ended");
    }
}

/// The id of the only open stream that `query` finds.
async fn stream_id(lab: &Lab, query: &str) -> String {
    let list = lab.gateway.api("GET", &format!("/streams{query}"), "").await.json();
    let items = list["items"].as_array().expect("a list");
    assert_eq!(items.len(), 1, "{list:#}");
    items[0]["id"].as_str().expect("an id").to_owned()
}

async fn cut(lab: &Lab, id: &str) {
    lab.gateway.api("DELETE", &format!("/streams/{id}"), "").await.is(204);
}

#[tokio::test]
async fn a_cut_ends_one_exchange_of_a_stream_and_the_others_go_on() {
    let lab = Plan::api_key().start(origin()).await;
    let client = lab.h2(HOST).await;
    let first = talking(&client).await;
    let closed = stream_id(&lab, "").await;
    let mut other = talking(&client).await;
    let mut open = client.open("GET /open", true).await;
    let mut coming = open.head().await.expect("a head");
    assert_eq!(&coming.chunk().await.expect("a chunk").expect("a part")[..], b"part\n");
    cut(&lab, &closed).await;
    assert_eq!(first.rest().await, (close(1008, "cut by a person"), None));
    let reset = stream_id(&lab, "?q=/open").await;
    cut(&lab, &reset).await;
    let (rest, reason) = coming.rest().await;
    assert!(!rest.whole && reason.is_some(), "{rest:?}");
    drop(open);
    assert_eq!(other.send_and_read(HELLO, HELLO.len()).await, HELLO);
    assert_eq!(client.ask("GET /other").await.text(), "fine");
    let left = stream_id(&lab, "").await;
    other.finish();
    assert_eq!(other.rest().await, (vec![], None));
    let records = lab.finish().await;
    let result = |id: &str| {
        let record = records.iter().find(|it| it["exchange"] == id).expect("a record");
        (record["outcome"].clone(), record["code"].clone())
    };
    for id in [closed, reset] {
        assert_eq!(result(&id), ("ended".into(), "stream_cut".into()));
    }
    assert_eq!(result(&left), ("completed".into(), serde_json::Value::Null));
}

#[tokio::test]
async fn a_paused_connection_closes_its_websockets_with_1008_and_leaves_another_s_alone() {
    let plan = Plan::api_key()
        .no_agents()
        .agent("ci", "acme, second")
        .connection("{ name: second, provider: acme, fields: { api_key: { env: CANARY } } }");
    let lab = plan.start(origin()).await;
    let client = lab.h2(HOST).await;
    let of = |name: &str| format!("{HANDSHAKE}\r\nkeyward-connection: {name}");
    let (paused, mut other) =
        (client.websocket(&of("acme")).await, client.websocket(&of("second")).await);
    let mut open = client.open("GET /open\r\nkeyward-connection: second", true).await;
    let mut coming = open.head().await.expect("a head");
    assert_eq!(&coming.chunk().await.expect("a chunk").expect("a part")[..], b"part\n");
    pause(&lab, "acme").await;
    assert_eq!(paused.rest().await, (close(1008, "access was revoked"), None));
    assert_eq!(other.send_and_read(HELLO, HELLO.len()).await, HELLO);
    let refused = client.extended("websocket", &of("acme")).await.answer().await;
    assert_eq!((refused.head.status(), code(&refused)), (424, Some("connection_paused")));
    let answer = client.ask("GET /other\r\nkeyward-connection: second").await;
    assert_eq!(answer.text(), "fine");
    other.finish();
    assert_eq!(other.rest().await, (vec![], None));
    // The answer that was under way still is.
    open.reset(Reason::CANCEL);
    drop(coming);
    let records = lab.finish().await;
    let outcomes = |name: &str| -> Vec<String> {
        let of = records.iter().filter(|record| record["connection"] == name);
        let mut outcomes: Vec<_> = of.map(|record| record["outcome"].to_string()).collect();
        outcomes.sort();
        outcomes
    };
    assert_eq!(outcomes("second"), ["\"client_aborted\"", "\"completed\"", "\"completed\""]);
    assert!(outcomes("acme").contains(&"\"ended\"".to_owned()), "{records:#?}");
}

#[tokio::test]
async fn a_silent_websocket_is_not_ended_by_head_body_or_idle_timeouts() {
    let plan = Plan::api_key().limit("body_idle_timeout: 200ms").limit("idle_timeout: 200ms");
    let lab = plan.limit("head_timeout: 200ms").start(origin()).await;
    let client = lab.h2(HOST).await;
    let mut socket = talking(&client).await;
    let mut time = interval(Duration::from_millis(100));
    time.set_missed_tick_behavior(MissedTickBehavior::Delay);
    for _ in 0..10 {
        time.tick().await;
    }
    assert_eq!(socket.send_and_read(HELLO, HELLO.len()).await, HELLO);
    // An answer that stands still beside it ends alone.
    let (answer, reason) = client.open("GET /open", true).await.outcome().await;
    assert!(!answer.whole && reason.is_some(), "{answer:?}");
    assert_eq!(socket.send_and_read(HELLO, HELLO.len()).await, HELLO);
    socket.finish();
    assert_eq!(socket.rest().await, (vec![], None));
    lab.finish().await;
}

#[tokio::test]
async fn a_websocket_idle_for_tunnel_idle_timeout_is_closed_with_1001() {
    let plan = Plan::api_key().limit("tunnel_idle_timeout: 300ms");
    let lab = plan.start(origin()).await;
    let client = lab.h2(HOST).await;
    let socket = talking(&client).await;
    assert_eq!(socket.rest().await, (close(1001, "idle for too long"), None));
    assert_eq!(client.ask("GET /other").await.text(), "fine");
    let records = lab.finish().await;
    assert_eq!(records[0]["outcome"], "ended");
}

#[tokio::test]
async fn a_drain_waits_for_a_websocket_and_then_closes_it_with_1001() {
    let mut lab = Plan::api_key().start(origin()).await;
    let client = lab.h2(HOST).await;
    let mut socket = talking(&client).await;
    let (records, last) = tokio::join!(lab.gateway.stop(), async {
        assert_eq!(socket.send_and_read(HELLO, HELLO.len()).await, HELLO);
        socket.rest().await
    });
    assert_eq!(last, (close(1001, "the gateway stops"), None));
    assert_eq!(records.len(), 1, "{records:?}");
    assert_eq!(records[0]["outcome"], "ended");
    lab.finish().await;
}

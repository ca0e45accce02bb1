//! An answer that comes before the end of its request's body: over HTTP/2 the rest is read and discarded within limits, so
//! that no RST_STREAM follows the answer at once. curl 7.88 loses the answer when one does.

use std::sync::Arc;

use keyward_base::id::OrgId;
use keyward_state::directory::ManagedBy;
use tokio::sync::Notify;

use test_support::http2::frames::*;
use test_support::http2::{Ask, Offer};
use test_support::*;

const DENY: &str =
    "{ name: no-uploads, hosts: [api.acme.test], paths: [\"/denied/**\"], action: deny }";

/// What is discarded is bounded by its bytes alone.
const UNTIMED: &str = "discarded_body_timeout: 1h";

const NO_ERROR: u32 = 0;

/// As much as one frame holds.
const PIECE: usize = 16 * 1024;

/// An agent's HTTP/2 connection, frame by frame.
struct Agent {
    wire: Wire,
    pings: u8,
}

/// What came on one stream.
#[derive(Debug, Default)]
struct Came {
    head: Vec<u8>,
    body: Vec<u8>,
    ended: bool,
}

impl Agent {
    async fn of(lab: &Lab) -> Self {
        let mut wire = lab.frames(HOST).await;
        wire.send([PREFACE, &frame(SETTINGS, 0, 0, &[])].concat()).await;
        Self { wire, pings: 0 }
    }

    /// Sends the head of a POST whose body follows.
    async fn post(&mut self, stream: u32, path: &str, more: &[(&str, &str)]) {
        let mut fields =
            vec![(":method", "POST"), (":scheme", "https"), (":authority", HOST), (":path", path)];
        fields.extend(more);
        self.wire.send(frame(HEADERS, END_HEADERS, stream, &block(&fields))).await;
    }

    async fn data(&mut self, stream: u32, flags: u8, bytes: &[u8]) {
        self.wire.send(frame(DATA, flags, stream, bytes)).await;
    }

    /// The whole answer on `stream`.
    async fn answer(&mut self, stream: u32) -> Came {
        let mut came = Came::default();
        while !came.ended {
            let frame = self.wire.frame().await.expect("the connection stands");
            assert!(!matches!(frame.kind, RST_STREAM | GOAWAY), "{frame:?} after {came:?}");
            if frame.stream != stream || !matches!(frame.kind, HEADERS | DATA) {
                continue;
            }
            came.ended = frame.flags & END_STREAM != 0;
            match frame.kind {
                HEADERS => came.head.extend(frame.payload),
                _ => came.body.extend(frame.payload),
            }
        }
        came
    }

    /// The streams that were reset, and with which code, before all that was sent so far was read.
    async fn resets(&mut self) -> Vec<(u32, u32)> {
        self.pings += 1;
        let ping = [self.pings; 8];
        self.wire.send(frame(PING, 0, 0, &ping)).await;
        let mut resets = vec![];
        loop {
            let frame = self.wire.frame().await.expect("the connection stands");
            match frame.kind {
                PING if frame.flags & ACK != 0 && frame.payload == ping => return resets,
                RST_STREAM => resets.push((frame.stream, code(&frame.payload))),
                GOAWAY => panic!("{frame:?}"),
                _ => {}
            }
        }
    }

    /// Waits for a PING of the gateway's: curl 7.88 that has ended its upload after the answer waits for something to
    /// come before it sees that the exchange is over.
    async fn pinged(&mut self) {
        loop {
            let Frame { kind, flags, payload, .. } = self.wire.frame().await.expect("a PING");
            assert!(!matches!(kind, RST_STREAM | GOAWAY), "{kind}");
            if kind == PING && flags & ACK == 0 {
                return self.wire.send(frame(PING, ACK, 0, &payload)).await;
            }
        }
    }

    /// Waits until `stream` is reset, and with which code.
    async fn reset(&mut self, stream: u32) -> u32 {
        loop {
            let frame = self.wire.frame().await.expect("the connection stands");
            if (frame.kind, frame.stream) == (RST_STREAM, stream) {
                return code(&frame.payload);
            }
        }
    }
}

fn code(payload: &[u8]) -> u32 {
    u32::from_be_bytes(payload.try_into().expect("a code"))
}

async fn lab(limits: &[&str]) -> Lab {
    let plan = limits.iter().fold(Plan::api_key().rule(DENY), |plan, limit| plan.limit(limit));
    plan.start(Origin::saying("fine")).await
}

/// Sends the rest of a body whose answer has come, by and by; the stream stands until its end.
async fn upload_ends(agent: &mut Agent, stream: u32) {
    assert_eq!(agent.resets().await, [], "right after the answer");
    for _ in 0..3 {
        agent.data(stream, 0, &[b'.'; PIECE]).await;
        assert_eq!(agent.resets().await, [], "during the upload");
    }
    agent.data(stream, END_STREAM, b"the end").await;
    agent.pinged().await;
    assert_eq!(agent.resets().await, [], "after the upload");
}

// === who answers ===

#[tokio::test]
async fn a_refused_upload_is_read_to_its_end_and_its_stream_is_not_reset() {
    let lab = lab(&[UNTIMED]).await;
    let mut agent = Agent::of(&lab).await;
    agent.post(1, "/denied/a", &[]).await;
    let body = String::from_utf8(agent.answer(1).await.body).expect("JSON");
    assert!(body.contains("rule `file:no-uploads` denies this"), "{body}");
    upload_ends(&mut agent, 1).await;
    // Also with a length, and where part of it came before the answer.
    agent.post(3, "/denied/b", &[("content-length", "6")]).await;
    agent.data(3, 0, b"abc").await;
    agent.answer(3).await;
    agent.data(3, END_STREAM, b"def").await;
    assert_eq!(agent.resets().await, []);
    assert!(lab.origin.received().is_empty());
    for record in lab.finish().await {
        assert_eq!((&record["status"], &record["code"]), (&403.into(), &"denied".into()));
        assert_eq!((&record["outcome"], &record["bytes_in"]), (&"refused".into(), &0.into()));
    }
}

#[tokio::test]
async fn a_refused_grpc_call_is_read_to_its_end() {
    let lab = lab(&[UNTIMED]).await;
    let mut agent = Agent::of(&lab).await;
    agent.post(1, "/denied/a.Service/Call", &[("content-type", "application/grpc")]).await;
    let came = agent.answer(1).await;
    assert!(came.body.is_empty(), "trailers alone: {came:?}");
    upload_ends(&mut agent, 1).await;
    lab.finish().await;
}

#[tokio::test]
async fn an_upload_that_its_upstream_answers_early_is_read_to_its_end() {
    for (offer, status) in
        [(Offer::Http1, 413), (Offer::Http1, 401), (Offer::Http2, 413), (Offer::Http2, 401)]
    {
        let http1 = move |mut stream: Stream| async move {
            stream.head().await;
            stream.send(format!("HTTP/1.1 {status} No\r\nContent-Length: 2\r\n\r\nno")).await;
            stream.finish().await;
        };
        let http2 = move |mut ask: Ask| async move {
            let mut sending = ask.begin(status, &[], false).expect("asked");
            sending.send(b"no").await;
            sending.end();
        };
        let plan = Plan::api_key().limit(UNTIMED);
        let lab = plan.start(Origin::either(offer, http1, http2)).await;
        let mut agent = Agent::of(&lab).await;
        agent.post(1, "/a", &[]).await;
        agent.data(1, 0, b"a part").await;
        assert_eq!(agent.answer(1).await.body, b"no", "{offer:?}");
        upload_ends(&mut agent, 1).await;
        lab.finish().await;
    }
}

#[tokio::test]
async fn a_refused_websocket_handshake_is_not_reset_at_once() {
    let lab = lab(&[UNTIMED]).await;
    let mut agent = Agent::of(&lab).await;
    let fields = [
        (":method", "CONNECT"),
        (":protocol", "websocket"),
        (":scheme", "https"),
        (":authority", HOST),
        (":path", "/denied/chat"),
        ("sec-websocket-version", "13"),
    ];
    agent.wire.send(frame(HEADERS, END_HEADERS, 1, &block(&fields))).await;
    agent.answer(1).await;
    upload_ends(&mut agent, 1).await;
    lab.finish().await;
}

// === the limits ===

#[tokio::test]
async fn an_upload_that_goes_on_beyond_the_limit_is_reset_without_error_after_its_whole_answer() {
    let lab = lab(&[UNTIMED, "discarded_body_bytes_max: 32768"]).await;
    let mut agent = Agent::of(&lab).await;
    agent.post(1, "/denied/a", &[]).await;
    agent.answer(1).await;
    for _ in 0..2 {
        agent.data(1, 0, &[b'.'; PIECE]).await;
        assert_eq!(agent.resets().await, []);
    }
    agent.data(1, 0, b".").await;
    assert_eq!(agent.resets().await, [(1, NO_ERROR)]);
    lab.finish().await;
}

#[tokio::test]
async fn an_upload_that_does_not_end_in_time_is_reset_without_error() {
    let lab = lab(&["discarded_body_timeout: 50ms"]).await;
    let mut agent = Agent::of(&lab).await;
    agent.post(1, "/denied/a", &[]).await;
    assert_eq!(agent.reset(1).await, NO_ERROR);
    lab.finish().await;
}

#[tokio::test]
async fn an_upload_to_an_http1_upstream_that_does_not_end_in_time_ends_there_too() {
    let ended = Arc::new(Notify::new());
    let plan = Plan::api_key().limit("discarded_body_timeout: 50ms");
    let lab = plan.start(Origin::answering_early(&ended)).await;
    let mut agent = Agent::of(&lab).await;
    agent.post(1, "/a", &[]).await;
    assert_eq!(agent.answer(1).await.body, b"early");
    let upload = async {
        loop {
            agent.data(1, 0, &[b'.'; PIECE]).await;
            let resets = agent.resets().await;
            if !resets.is_empty() {
                return resets;
            }
        }
    };
    assert_eq!(patiently("the end of the upload", upload).await, [(1, NO_ERROR)]);
    patiently("its end at the origin", ended.notified()).await;
    let records = lab.finish().await;
    assert_eq!(records.len(), 1, "{records:?}");
    assert_eq!(records[0]["outcome"], "completed");
}

#[tokio::test]
async fn uploads_on_one_client_stream_share_the_limit_of_discarded_bytes() {
    let lab = lab(&[UNTIMED, "discarded_body_bytes_max: 16384"]).await;
    let mut agent = Agent::of(&lab).await;
    let streams: Vec<u32> = (0..40).map(|at| 2 * at + 1).collect();
    for stream in &streams {
        agent.post(*stream, "/denied/a", &[]).await;
        agent.answer(*stream).await;
    }
    let mut resets = vec![];
    for stream in &streams {
        agent.data(*stream, 0, &[b'.'; PIECE]).await;
        resets.extend(agent.resets().await);
    }
    // Eight bodies' worth at once, then one per second.
    let first = resets.iter().map(|(stream, _)| stream).min();
    assert!(first.is_some_and(|first| *first >= streams[8]), "{resets:?}");
    assert!(resets.iter().all(|(_, code)| *code == NO_ERROR), "{resets:?}");
    // Another connection has its own.
    let mut other = Agent::of(&lab).await;
    other.post(1, "/denied/a", &[]).await;
    other.answer(1).await;
    other.data(1, 0, &[b'.'; PIECE]).await;
    assert_eq!(other.resets().await, []);
    lab.finish().await;
}

#[tokio::test]
async fn a_refused_upload_with_expect_100_continue_is_reset_without_error() {
    let lab = lab(&[UNTIMED]).await;
    let mut agent = Agent::of(&lab).await;
    agent.post(1, "/denied/a", &[("expect", "100-continue")]).await;
    assert_eq!(agent.reset(1).await, NO_ERROR);
    lab.finish().await;
}

// === what else is on the connection ===

#[tokio::test]
async fn discarded_bytes_are_returned_to_the_flow_control_windows_for_other_exchanges() {
    // More than the window of the connection, 8 MiB.
    const ALL: usize = 12 << 20;
    let lab = lab(&[UNTIMED, "discarded_body_bytes_max: 67108864"]).await;
    let client = lab.h2(HOST).await;
    let mut refused = client.open("POST /denied/a", false).await;
    let coming = refused.head().await.expect("an answer");
    assert_eq!(coming.head.status(), 403);
    let others = async {
        for _ in 0..20 {
            assert_eq!(client.post("POST /a", &".".repeat(100_000)).await.text(), "fine");
        }
    };
    let upload = async {
        refused.send(&vec![b'.'; ALL]).await;
        refused.end();
    };
    tokio::join!(upload, others);
    let (answer, reset) = coming.rest().await;
    assert_eq!((answer.whole, reset), (true, None));
    assert_eq!(lab.finish().await.len(), 21);
}

#[tokio::test]
async fn a_refused_upload_that_the_agent_resets_no_longer_counts_as_an_exchange() {
    let lab = lab(&[UNTIMED, "exchanges_per_stream_max: 1"]).await;
    let mut agent = Agent::of(&lab).await;
    for stream in [1, 3, 5] {
        agent.post(stream, "/denied/a", &[]).await;
        agent.answer(stream).await;
        agent.wire.send(frame(RST_STREAM, 0, stream, &[0, 0, 0, 8])).await;
        assert_eq!(agent.resets().await, []);
    }
    lab.finish().await;
}

#[tokio::test]
async fn removing_the_agent_ends_a_refused_upload_that_is_being_discarded() {
    let lab = lab(&[UNTIMED]).await;
    let mut agent = Agent::of(&lab).await;
    agent.post(1, "/denied/a", &[]).await;
    agent.answer(1).await;
    assert_eq!(agent.resets().await, []);
    let (org, services) = (OrgId::default_org(), lab.gateway.running().services());
    let id = services.directory.view().find_agent(&org, "ci").expect("the agent").id.clone();
    services
        .directory
        .remove::<keyward_model::Agent>(&org, &id, ManagedBy::File)
        .await
        .expect("removed");
    while let Some(frame) = agent.wire.frame().await {
        assert!(matches!(frame.kind, RST_STREAM | GOAWAY), "{frame:?}");
    }
    lab.finish().await;
}

#[tokio::test]
async fn a_gateway_that_drains_reads_a_refused_upload_to_its_end() {
    let mut lab = lab(&[UNTIMED, "drain_timeout: 1h"]).await;
    let mut agent = Agent::of(&lab).await;
    agent.post(1, "/denied/a", &[]).await;
    agent.answer(1).await;
    let rest = async {
        // It is told to open no more, and its exchange stands.
        let mut ended = false;
        while let Some(Frame { kind, flags, payload, .. }) = agent.wire.frame().await {
            assert_ne!(kind, RST_STREAM);
            if kind == PING && flags & ACK == 0 {
                agent.wire.send(frame(PING, ACK, 0, &payload)).await;
            }
            if kind == GOAWAY && !std::mem::replace(&mut ended, true) {
                agent.data(1, END_STREAM, b"the end").await;
            }
        }
        assert!(ended, "GOAWAY");
    };
    tokio::join!(lab.gateway.stop(), rest);
    lab.finish().await;
}

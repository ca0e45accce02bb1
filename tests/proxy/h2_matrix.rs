//! The same exchange in every pair of protocols: the same injection, the same answer or refusal, the
//! same audit event.

use std::sync::Arc;

use serde_json::Value;
use tokio::sync::Notify;

use test_support::http2::frames::*;
use test_support::http2::{Ask, Client, Offer, Order, Reply};
use test_support::*;

/// What the agent speaks, and what the upstream offers.
#[derive(Clone, Copy, Debug)]
struct Legs(Agent, Offer);

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Agent {
    Http1,
    Http2,
}

const ALL: [Legs; 6] = [
    Legs(Agent::Http1, Offer::Http1),
    Legs(Agent::Http2, Offer::Http2),
    Legs(Agent::Http2, Offer::Http1),
    Legs(Agent::Http1, Offer::Http2),
    Legs(Agent::Http1, Offer::Both),
    Legs(Agent::Http2, Offer::Both),
];

/// A tunnel in either protocol.
enum Tunnel {
    Http1(Wire),
    Http2(Client),
}

impl Legs {
    async fn tunnel(self, lab: &Lab) -> Tunnel {
        match self.0 {
            Agent::Http1 => Tunnel::Http1(lab.tunnel(HOST).await),
            Agent::Http2 => Tunnel::Http2(lab.h2(HOST).await),
        }
    }

    /// Which protocol the upstream is expected to be spoken to in.
    fn upstream_speaks_http2(self) -> bool {
        match self.1 {
            Offer::Http2 => true,
            Offer::Http1 => false,
            Offer::Both => self.0 == Agent::Http2,
        }
    }
}

impl Tunnel {
    async fn post(&mut self, text: &str, body: &str) -> Message {
        match self {
            Self::Http1(wire) => {
                let text = format!("{text}\r\nContent-Length: {}", body.len());
                wire.send(request_text(&text, HOST)).await;
                wire.send(body).await;
                wire.answer("POST").await
            }
            Self::Http2(client) => client.post(text, body).await,
        }
    }

    /// The answer to a request without a body.
    async fn ask(&mut self, method: &str) -> Message {
        match self {
            Self::Http1(wire) => {
                wire.send(request_text(&format!("{method} /a"), HOST)).await;
                wire.answer(method).await
            }
            Self::Http2(client) => client.open(&format!("{method} /a"), true).await.answer().await,
        }
    }
}

/// What an audit event says beside when, which and how long.
fn timeless(mut record: Value) -> Value {
    let fields = record.as_object_mut().expect("an object");
    for name in ["seq", "prev", "time", "exchange", "duration_ms", "token"] {
        assert!(fields.remove(name).is_some(), "{name}");
    }
    // The id is another in each lab.
    let rule = fields["rule"].as_str().and_then(|rule| rule.split(':').next()).map(str::to_owned);
    fields.insert("rule".to_owned(), rule.into());
    record
}

/// Runs `exchange` on each pair of legs and compares the audit events that they leave.
async fn the_same(
    plan: fn() -> Plan,
    origin: impl Fn(Legs) -> Origin,
    exchange: impl AsyncFn(Legs, &mut Lab),
) {
    let mut first: Option<Vec<Value>> = None;
    for legs in ALL {
        let mut lab = plan().start(origin(legs)).await;
        exchange(legs, &mut lab).await;
        let records: Vec<Value> = lab.finish().await.into_iter().map(timeless).collect();
        match &first {
            None => first = Some(records),
            Some(first) => assert_eq!(*first, records, "{legs:?}"),
        }
    }
}

fn answering(legs: Legs) -> Origin {
    Origin::speaking(legs.1, |request| Reply {
        status: 201,
        fields: vec![("x-answer", "yes"), ("content-type", "text/plain")],
        body: [b"got ", &*request.body].concat(),
        trailers: vec![],
    })
}

#[tokio::test]
async fn an_allowed_request_is_injected_answered_and_audited_the_same_in_all_protocols() {
    the_same(Plan::api_key, answering, async |legs, lab| {
        let placeholder = lab.placeholder("api_key");
        let mut tunnel = legs.tunnel(lab).await;
        let text = format!(
            "POST /a/b?c=d%20e\r\nx-api-key: {placeholder}\r\nte: trailers\r\nx-own: kept\r\n\
             cookie: a=1; b=2"
        );
        let answer = tunnel.post(&text, "a body").await;
        assert_eq!(answer.head.status(), 201, "{legs:?}");
        assert_eq!(answer.text(), "got a body", "{legs:?}");
        assert_eq!(answer.head.one("x-answer"), Some("yes"));
        assert!(!answer.head.has("keyward-error"));
        let request = lab.origin.arrival().await;
        let head = &request.head;
        assert_eq!(head.start.ends_with("HTTP/2"), legs.upstream_speaks_http2(), "{legs:?}");
        assert_eq!((head.method(), head.target()), ("POST", "/a/b?c=d%20e"));
        assert_eq!(head.all("x-api-key"), [&*lab.canary.text], "{legs:?}");
        assert_eq!(head.one("x-own"), Some("kept"));
        assert_eq!(head.one("cookie"), Some("a=1; b=2"));
        assert!(!head.has("proxy-authorization") && !head.has("via"));
        match legs.upstream_speaks_http2() {
            true => {
                assert_eq!(head.one(":authority"), Some(HOST));
                assert_eq!(head.one(":scheme"), Some("https"));
                assert!(!head.has("host") && !head.has("connection"), "{head:?}");
                assert_eq!(head.one("te"), Some("trailers"));
            }
            false => assert_eq!(head.one("host"), Some(HOST)),
        }
        assert_eq!(request.text(), "a body");
        assert!(request.whole);
    })
    .await;
}

fn with_a_deny() -> Plan {
    Plan::api_key()
        .rule(&format!("{{ name: no, hosts: [{HOST}], paths: [\"/no/*\"], action: deny }}"))
}

#[tokio::test]
async fn a_denied_request_is_refused_and_audited_the_same_in_all_protocols() {
    the_same(with_a_deny, answering, async |legs, lab| {
        let mut tunnel = legs.tunnel(lab).await;
        let answer = tunnel.post("POST /no/way", "a body").await;
        assert_eq!(answer.refusal(), (403, Some("denied")), "{legs:?}");
        assert_eq!(answer.head.one("content-type"), Some("application/json"));
        assert!(answer.head.one("proxy-status").expect("one").contains("details=\"denied\""));
        assert_eq!(answer.json()["error"]["code"], "denied");
        // The stream goes on.
        let answer = tunnel.post("POST /yes", "b").await;
        assert_eq!(answer.head.status(), 201, "{legs:?}");
        assert_eq!(lab.origin.only().head.target(), "/yes");
    })
    .await;
}

fn trailing(legs: Legs) -> Origin {
    Origin::speaking(legs.1, |_| Reply {
        trailers: vec![("grpc-status", "0"), ("x-sum", "12")],
        ..Reply::ok("a message")
    })
}

#[tokio::test]
async fn trailers_pass_both_ways_without_credentials_cookies_or_fields_that_policy_decides_on() {
    the_same(Plan::api_key, trailing, async |legs, lab| {
        let placeholder = lab.placeholder("api_key");
        let up = [
            ("x-up", "7"),
            ("x-api-key", "mine"),
            ("x_api_key", "mine"),
            ("x-held", &*placeholder),
            ("x-http-method-override", "DELETE"),
            ("destination", "/secret"),
            ("x_amz-copy-source", "secret/a"),
            ("x-ms-rename-source", "/secret/a"),
            ("x-amz-target", "IAM.CreateAccessKey"),
            ("x-original-url", "/admin"),
            ("cookie", "a=b"),
            ("authorization", "Bearer mine"),
        ];
        let answer = match legs.tunnel(lab).await {
            Tunnel::Http1(mut wire) => {
                let names = up.map(|(name, _)| name).join(", ");
                let head = format!(
                    "POST /a\r\nTE: trailers\r\nConnection: TE\r\nTrailer: {names}\r\n\
                     Transfer-Encoding: chunked"
                );
                wire.send(request_text(&head, HOST)).await;
                let lines: String =
                    up.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
                wire.send(format!("2\r\nup\r\n0\r\n{lines}\r\n")).await;
                wire.answer("POST").await
            }
            Tunnel::Http2(client) => {
                let text = "POST /a\r\nte: trailers\r\ntrailer: x-up";
                let mut call = client.open(text, false).await;
                call.send(b"up").await;
                call.trailers(&up);
                call.answer().await
            }
        };
        let lower = |trailers: &[(String, String)]| -> Vec<(String, String)> {
            trailers.iter().map(|(name, value)| (name.to_lowercase(), value.clone())).collect()
        };
        let pairs = |pairs: &[(&str, &str)]| -> Vec<(String, String)> {
            pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
        };
        assert_eq!(
            lower(&answer.trailers),
            pairs(&[("grpc-status", "0"), ("x-sum", "12")]),
            "{legs:?}"
        );
        // A server may merge them into the head, which was checked without them.
        let request = lab.origin.arrival().await;
        assert_eq!(lower(&request.trailers), pairs(&[("x-up", "7")]), "{legs:?}: {request:?}");
        assert_eq!(request.text(), "up");
    })
    .await;
}

/// Sends a head and a part before it reads the request's body; then waits until it is given up, and tells so. It breaks
/// off if no test waits for that.
fn breaking(offer: Offer, given_up: Option<&Arc<Notify>>) -> Origin {
    let (tell, also) = (given_up.cloned(), given_up.cloned());
    let http1 = move |mut stream: Stream| {
        let tell = tell.clone();
        async move {
            stream.head().await;
            stream.send("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\na part\n").await;
            stream.exactly(4).await;
            let Some(tell) = tell else { return stream.into_wire().abort() };
            stream.rest().await;
            tell.notify_one();
        }
    };
    let http2 = move |mut ask: Ask| {
        let tell = also.clone();
        async move {
            let mut sending = ask.begin(200, &[("content-length", "100")], false).expect("asked");
            assert!(sending.send(b"a part\n").await);
            ask.whole().await;
            let Some(tell) = tell else { return ask.order(Order::Break) };
            assert_eq!(sending.given_up().await, h2::Reason::CANCEL);
            tell.notify_one();
        }
    };
    Origin::either(offer, http1, http2)
}

#[tokio::test]
async fn an_exchange_that_the_agent_aborts_is_audited_the_same_in_all_protocols() {
    let given_up = Arc::new(Notify::new());
    let origin = |legs: Legs| breaking(legs.1, Some(&given_up));
    the_same(Plan::api_key, origin, async |legs, lab| {
        match legs.tunnel(lab).await {
            Tunnel::Http1(mut wire) => {
                wire.send(request_text("POST /a\r\nContent-Length: 4", HOST)).await;
                assert_eq!(wire.head().await.expect("a head").status(), 200);
                assert_eq!(wire.exactly(7).await, b"a part\n");
                wire.send("seen").await;
                lab.origin.has_read("seen").await;
                wire.abort();
            }
            Tunnel::Http2(client) => {
                let mut call = client.open("POST /a", false).await;
                let mut coming = call.head().await.expect("a head");
                let part = coming.chunk().await.expect("a chunk").expect("a part");
                assert_eq!(&part[..], b"a part\n");
                call.send(b"seen").await;
                call.end();
                lab.origin.has_read("seen").await;
                call.reset(h2::Reason::CANCEL);
                drop(coming);
            }
        }
        patiently(&format!("the upstream learns of it: {legs:?}"), given_up.notified()).await;
    })
    .await;
}

#[tokio::test]
async fn an_answer_cut_by_the_upstream_is_visible_and_audited_the_same_in_all_protocols() {
    let origin = |legs: Legs| breaking(legs.1, None);
    the_same(Plan::api_key, origin, async |legs, lab| match legs.tunnel(lab).await {
        Tunnel::Http1(mut wire) => {
            wire.send(request_text("POST /a\r\nContent-Length: 4", HOST)).await;
            assert_eq!(wire.head().await.expect("a head").status(), 200);
            assert_eq!(wire.exactly(7).await, b"a part\n");
            wire.send("seen").await;
            assert!(wire.is_closed().await, "{legs:?}");
        }
        Tunnel::Http2(client) => {
            let mut call = client.open("POST /a", false).await;
            let mut coming = call.head().await.expect("a head");
            assert_eq!(&coming.chunk().await.expect("a chunk").expect("a part")[..], b"a part\n");
            call.send(b"seen").await;
            call.end();
            let (answer, reason) = coming.rest().await;
            assert!(!answer.whole && reason.is_some(), "{legs:?} {answer:?}");
        }
    })
    .await;
}

/// Answers each request with a head of this status that announces five bytes, and with DATA of `content`. Notes resets.
fn ended_by_data(status: u16, content: &'static str) -> Origin {
    Origin::framed(move |mut stream: Stream| async move {
        stream.exactly(PREFACE.len()).await;
        stream.send(frame(SETTINGS, 0, 0, &[])).await;
        let head = block(&[(":status", &*status.to_string()), ("content-length", "5")]);
        while let Some(got) = stream.frame().await {
            match got.kind {
                SETTINGS if got.flags & ACK == 0 => stream.send(frame(SETTINGS, ACK, 0, &[])).await,
                HEADERS => {
                    let mut answer = frame(HEADERS, END_HEADERS, got.stream, &head);
                    answer.extend(frame(DATA, END_STREAM, got.stream, content.as_bytes()));
                    stream.send(answer).await;
                }
                RST_STREAM => stream.note(Message::default()),
                _ => {}
            }
        }
    })
}

/// RFC 9112 §6.3: such an answer ends with its head, also if an upstream sends content with it.
#[tokio::test]
async fn an_answer_without_content_ends_with_its_head_whatever_frames_follow_it() {
    for legs in [Legs(Agent::Http1, Offer::Http2), Legs(Agent::Http2, Offer::Http2)] {
        for (method, status) in [("GET", 204), ("GET", 304), ("HEAD", 204), ("HEAD", 200)] {
            for content in ["", "hello"] {
                let lab = Plan::api_key().start(ended_by_data(status, content)).await;
                let mut tunnel = legs.tunnel(&lab).await;
                let mut streams = vec![];
                for _ in 0..2 {
                    let answer = tunnel.ask(method).await;
                    assert_eq!((answer.head.status(), &*answer.text()), (status, ""), "{legs:?}");
                    let length = answer.head.one("content-length");
                    assert!(length.is_none() || status != 204, "{method} {legs:?}");
                    assert!(length == Some("5") || method != "HEAD" || status != 200);
                    streams.push(lab.origin.streams());
                }
                assert_eq!(streams[0], streams[1], "{method} {status} {content:?} {legs:?}");
                // h2 itself resets other answers, because they are shorter than announced.
                let may_be_reset = method != "HEAD" || !content.is_empty();
                assert!(may_be_reset || lab.origin.received().is_empty(), "{status} {legs:?}");
                for record in lab.finish().await {
                    assert_eq!(record["outcome"], "completed", "{record}");
                    assert_eq!(
                        (&record["status"], &record["bytes_out"]),
                        (&status.into(), &0.into())
                    );
                }
            }
        }
    }
}

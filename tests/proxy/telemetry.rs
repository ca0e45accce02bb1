//! Traces: what a collector gets of an exchange, what it never gets, and what upstreams get of the trace.

use std::sync::atomic::{AtomicUsize, Ordering};

use test_support::collector::{CLIENT, Collector, ERROR, Item, SERVER};
use test_support::http2::{Offer, Reply};
use test_support::wire::find;
use test_support::*;

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const SPAN: &str = "b7ad6b7169203331";

fn parent(flags: &str) -> String {
    format!("traceparent: 00-{TRACE}-{SPAN}-{flags}\r\ntracestate: vendor=agent's")
}

/// A lab that exports to `collector`.
async fn lab(collector: &Collector, more: &str) -> Lab {
    collector.reached(Plan::api_key(), more).start(Origin::saying("fine")).await
}

/// Values of attributes; empty where there is none.
fn values<const N: usize>(item: &Item, names: [&str; N]) -> [String; N] {
    names.map(|name| item.attributes.get(name).cloned().unwrap_or_default())
}

#[tokio::test]
async fn without_a_collector_nothing_is_sent_and_the_agents_trace_passes() {
    let collector = Collector::start().await;
    let mut lab = Plan::api_key().top("telemetry: {}").start(Origin::saying("fine")).await;
    let head = lab.delivered(&format!("GET /a\r\n{}", parent("01"))).await;
    assert_eq!(head.all("traceparent"), [format!("00-{TRACE}-{SPAN}-01")]);
    assert_eq!(head.all("tracestate"), ["vendor=agent's"]);
    let status = lab.gateway.api("GET", "/status", "").await.json();
    assert!(status.get("telemetry").is_none(), "{status}");
    lab.finish().await;
    assert_eq!(collector.origin.streams(), 0);
}

#[tokio::test]
async fn an_exchange_is_a_span_with_its_attempt_and_no_secret_is_in_it() {
    let collector = Collector::start().await;
    let mut lab = lab(&collector, "service_name: gate, resource_attributes: { a.b: c }").await;
    let placeholder = lab.placeholder("api_key");
    let request = format!(
        "POST /v1/things?token={placeholder}&q=private-query\r\nX-Api-Key: {placeholder}\r\n\
         X-Note: private-field\r\nContent-Length: 12\r\n\r\nprivate-body"
    );
    let mut wire = lab.tunnel(HOST).await;
    wire.send(request.replacen("\r\n", &format!(" HTTP/1.1\r\nHost: {HOST}\r\n"), 1)).await;
    assert_eq!(wire.answer("POST").await.head.status(), 200);
    assert!(!lab.origin.arrival().await.head.has("traceparent"));
    // Refused, because its path has a placeholder where no credential goes.
    let refused = lab.ask(&format!("GET /bot{placeholder}/x")).await.head.status();
    let (canary, token) = (lab.canary.clone(), lab.token("ci").to_owned());
    let records = lab.finish().await;
    let bytes = collector.origin.bytes();
    canary.assert_absent("what the collector got", &bytes);
    for private in [&*token, &placeholder, "private-query", "private-field", "private-body"] {
        assert!(find(&bytes, private.as_bytes()).is_none(), "{private}");
    }
    let spans = collector.spans();
    let [own, attempt, denied, ..] = &spans[..] else { panic!("{spans:#?}") };
    assert_eq!((own.kind, &*own.name, own.level, &*own.parent), (SERVER, "POST", 0, ""));
    assert_eq!((attempt.kind, &*attempt.name, attempt.level), (CLIENT, "POST", 0));
    assert_eq!((&attempt.parent, &attempt.trace), (&own.id, &own.trace));
    assert!(own.times.0 <= attempt.times.0 && attempt.times.1 <= own.times.1, "{spans:#?}");
    let place = ["http.request.method", "url.scheme", "server.address", "server.port"];
    for span in [own, attempt] {
        assert_eq!(values(span, place), ["POST", "https", HOST, "443"]);
        assert_eq!(values(span, ["http.response.status_code", "error.type"]), ["200", ""]);
    }
    let names = ["keyward.agent", "keyward.connection", "keyward.exchange", "keyward.outcome"];
    let exchange = records[0]["exchange"].as_str().expect("an id");
    assert_eq!(values(own, names), ["ci", "acme", exchange, "completed"]);
    let sizes = ["http.request.body.size", "http.response.body.size", "url.path"];
    assert_eq!(values(own, sizes), ["12", "4", "/v1/things"]);
    let url = format!("https://{HOST}/v1/things");
    assert_eq!(values(attempt, ["url.full", "http.request.resend_count"]), [&*url, ""]);
    let service = ["service.name", "a.b"].map(|name| own.resource[name].as_str());
    assert_eq!(service, ["gate", "c"]);
    assert_eq!(values(denied, ["url.path"]), ["/***/x"]);
    assert_eq!(values(denied, ["http.response.status_code"]), [refused.to_string()]);
}

#[tokio::test]
async fn the_span_of_a_refusal_has_no_error_status_and_no_attempt_span() {
    let collector = Collector::start().await;
    let lab = lab(&collector, "").await;
    let mut wire = lab.client().await;
    let authorization = lab.authorization("ci");
    wire.send(format!(
        "CONNECT {STRANGER}:443 HTTP/1.1\r\nHost: {STRANGER}:443\r\n{authorization}{}\r\n\r\n",
        parent("01")
    ))
    .await;
    assert_eq!(wire.answer("CONNECT").await.head.status(), 403);
    let mut wire = lab.client().await;
    wire.send(format!(
        "BREW http://{STRANGER}/a HTTP/1.1\r\nHost: {STRANGER}\r\n{authorization}\r\n"
    ))
    .await;
    assert_eq!(wire.answer("BREW").await.head.status(), 403);
    lab.finish().await;
    let spans = collector.spans();
    let [connect, brew] = &spans[..] else { panic!("{spans:#?}") };
    let said = ["http.response.status_code", "error.type", "keyward.code", "keyward.connection"];
    for span in [connect, brew] {
        assert_eq!((span.kind, span.level), (SERVER, 0));
        assert_eq!(values(span, said), ["403", "default_deny", "default_deny", ""]);
    }
    assert_eq!((&*connect.name, &*connect.trace, &*connect.parent), ("CONNECT", TRACE, SPAN));
    // An agent may invent methods, but names of spans are a closed set.
    let method = ["http.request.method", "http.request.method_original"];
    assert_eq!((&*brew.name, values(brew, method)), ("HTTP", ["_OTHER".into(), "BREW".into()]));
}

#[tokio::test]
async fn the_agent_s_span_is_the_parent_and_its_sampled_flag_decides_on_export() {
    let collector = Collector::start().await;
    // None that begins here.
    let lab = lab(&collector, "sample: 0").await;
    let invalid = [
        String::new(),
        format!("traceparent: 00-{TRACE}-{SPAN}-1"),
        format!("traceparent: ff-{TRACE}-{SPAN}-01"),
        format!("traceparent: 00-{}-{SPAN}-01", TRACE.to_uppercase()),
        format!("traceparent: 00-{}-{SPAN}-01", "0".repeat(32)),
        format!("traceparent: 00-{TRACE}-{SPAN}-01\r\ntraceparent: 00-{TRACE}-{SPAN}-01"),
    ];
    for fields in invalid.iter().chain([&parent("00"), &parent("02")]) {
        let request = format!("GET /unsampled\r\n{fields}");
        assert_eq!(lab.ask(request.trim_end()).await.head.status(), 200);
    }
    assert_eq!(lab.ask(&format!("GET /sampled\r\n{}", parent("01"))).await.head.status(), 200);
    assert_eq!(lab.finish().await.len(), 9);
    let spans = collector.spans();
    let [own, attempt] = &spans[..] else { panic!("{spans:#?}") };
    assert_eq!(values(own, ["url.path"]), ["/sampled"]);
    assert_eq!((&*own.trace, &*own.parent), (TRACE, SPAN));
    assert_eq!((&*attempt.trace, &attempt.parent), (TRACE, &own.id));
    assert!(own.id != SPAN && own.id != attempt.id);
}

#[tokio::test]
async fn an_invalid_traceparent_starts_a_new_trace() {
    let collector = Collector::start().await;
    let lab = lab(&collector, "").await;
    let invalid = format!("traceparent: 00-{TRACE}-{}-01", "0".repeat(16));
    assert_eq!(lab.ask(&format!("GET /a\r\n{invalid}")).await.head.status(), 200);
    lab.finish().await;
    let own = &collector.spans()[0];
    assert_ne!(own.trace, TRACE);
    assert_eq!((own.trace.len(), &*own.parent), (32, ""));
}

#[tokio::test]
async fn traceparent_is_sent_upstream_only_with_propagate_over_http1_and_http2() {
    for propagate in [false, true] {
        let collector = Collector::start().await;
        let plan = collector.reached(Plan::api_key(), &format!("propagate: {propagate}"));
        let mut lab = plan.start(Origin::speaking(Offer::Both, |_| Reply::ok("fine"))).await;
        let request = |path: &str, flags: &str| format!("GET {path}\r\n{}", parent(flags));
        lab.h2(HOST).await.ask(&request("/h2", "01")).await;
        lab.ask(&request("/h1", "01")).await;
        lab.ask(&request("/unsampled", "00")).await;
        lab.ask(&format!("GET /invalid\r\n{}", parent("zz"))).await;
        let mut heads = vec![];
        for _ in 0..4 {
            heads.push(lab.origin.arrival().await.head);
        }
        lab.finish().await;
        let spans = collector.spans();
        for head in heads {
            let said = head.all("traceparent");
            if !propagate {
                assert_eq!((said, head.has("tracestate")), (vec![], false), "{head:?}");
                continue;
            }
            let [said] = said[..] else { panic!("{head:?}") };
            let parts: Vec<_> = said.split('-').collect();
            let [version, trace, span, flags] = parts[..] else { panic!("{said}") };
            assert_eq!(version, "00");
            assert_ne!(span, SPAN, "Keyward is the caller");
            let is_there =
                |kind| spans.iter().any(|it| it.kind == kind && it.id == span && it.trace == trace);
            let state = head.all("tracestate");
            match head.target() {
                "/h1" | "/h2" => {
                    assert_eq!((trace, flags, &state[..]), (TRACE, "01", &["vendor=agent's"][..]));
                    assert!(is_there(CLIENT), "{said} {spans:#?}");
                }
                "/unsampled" => {
                    assert_eq!((trace, flags, &state[..]), (TRACE, "00", &["vendor=agent's"][..]));
                }
                _ => {
                    assert_eq!((flags, state.len()), ("01", 0), "{head:?}");
                    assert!(trace != TRACE && is_there(CLIENT), "{said} {spans:#?}");
                }
            }
        }
    }
}

#[tokio::test]
async fn each_attempt_has_a_span_and_a_failed_one_has_an_error_type() {
    let collector = Collector::start().await;
    let count = AtomicUsize::new(0);
    let origin = Origin::answering(move |_| match count.fetch_add(1, Ordering::SeqCst) {
        0 => "HTTP/1.1 503 X\r\nContent-Length: 0\r\n\r\n".to_owned(),
        1 => ok("fine"),
        _ => "HTTP/1.1 500 X\r\nContent-Length: 0\r\n\r\n".to_owned(),
    });
    let plan = Plan::api_key().settings("{ retry: { wait_max: 20ms } }");
    let lab = collector.reached(plan, "propagate: true").start(origin).await;
    assert_eq!(lab.ask("GET /again").await.head.status(), 200);
    assert_eq!(lab.ask("POST /failed\r\nContent-Length: 0").await.head.status(), 500);
    let received = lab.origin.received();
    lab.finish().await;
    let spans = collector.spans();
    let [own, first, second, failed, only] = &spans[..] else { panic!("{spans:#?}") };
    let said = ["http.response.status_code", "error.type", "http.request.resend_count"];
    assert_eq!((own.level, values(own, said)), (0, ["200".into(), "".into(), "".into()]));
    assert_eq!(
        (first.level, values(first, said)),
        (ERROR, ["503".into(), "503".into(), "".into()])
    );
    assert_eq!((second.level, values(second, said)), (0, ["200".into(), "".into(), "1".into()]));
    assert!(first.times.1 <= second.times.0, "{spans:#?}");
    assert_eq!((failed.level, only.level), (ERROR, ERROR));
    for (request, span) in received.iter().zip([first, second, only]) {
        let sent = request.head.one("traceparent").expect("it is propagated");
        assert_eq!(sent, format!("00-{}-{}-01", span.trace, span.id));
    }
}

//! The same exchange in every protocol and by every entry: the same injection, the same refusal, the
//! same audit event. One lab for each fate of an exchange, with all cells of the table in it at once.

mod origin;
mod table;

use std::collections::HashSet;

use h2::Reason;
use h2::client::Builder;
use keyward_app::config::ListenAt;
use keyward_base::id::OrgId;
use keyward_model::Connection;
use keyward_state::directory::{BrokenReason, ConnectionRecord, ConnectionState, ManagedBy};
use serde_json::Value;
use tokio::net::UnixStream;

use self::origin::{Beside, Marks, origin};
use self::table::*;
use test_support::http2::{Call, Client};
use test_support::*;

// === the agent ===

impl Entry {
    /// A stream on which HTTP/1.1 is spoken.
    async fn http1(self, lab: &Lab) -> Wire {
        match self {
            Self::Absolute | Self::BaseUrl => lab.client().await,
            Self::AbsoluteUnix => self.reached(lab).await,
            Self::Connect => lab.tunnel(HOST).await,
            Self::UnixSocket | Self::AgentListener => {
                lab.secure(self.opened(lab).await, HOST).await
            }
        }
    }

    /// A tunnel in which HTTP/2 is spoken.
    async fn http2(self, lab: &Lab) -> Client {
        match self {
            Self::Connect => lab.h2(HOST).await,
            _ => lab.h2_over(self.opened(lab).await, HOST, &Builder::new()).await,
        }
    }

    /// A stream to a listener of the agent's own.
    async fn reached(self, lab: &Lab) -> Wire {
        let at = lab.gateway.running().agent_addrs();
        match &at[usize::from(self != Self::AgentListener)].1 {
            ListenAt::Unix(path) => {
                let stream = UnixStream::connect(path).await.expect("it listens");
                Wire::over(stream, None, Default::default())
            }
            at => lab.client_at(at.tcp().expect("TCP")).await,
        }
    }

    /// A tunnel by it, without credentials.
    async fn opened(self, lab: &Lab) -> Wire {
        let mut wire = self.reached(lab).await;
        wire.ask(format!("CONNECT {HOST}:443 HTTP/1.1\r\nHost: {HOST}:443\r\n\r\n")).await.is(200);
        wire
    }

    fn has_token(self) -> bool {
        !matches!(self, Self::UnixSocket | Self::AbsoluteUnix | Self::AgentListener)
    }
}

impl Fate {
    fn connection(self) -> &'static str {
        if matches!(self, Self::Paused | Self::Broken) { "shut" } else { "acme" }
    }

    /// Status, status in gRPC, and code of a refusal.
    fn refusal(self) -> Option<(u16, &'static str, &'static str)> {
        match self {
            Self::Denied => Some((403, "7", "denied")),
            Self::Paused => Some((424, "9", "connection_paused")),
            Self::Broken => Some((424, "9", "connection_broken")),
            _ => None,
        }
    }
}

/// Method, path and fields; by HTTP/1.1 with the line end of the last.
fn head(Cell(kind, entry): Cell, fate: Fate, lab: &Lab) -> String {
    let (method, path) = (kind.method(), Cell(kind, entry).path(fate));
    let (connection, token) = (fate.connection(), lab.token("ci"));
    let placeholder = lab.gateway.placeholder("ci", connection, "api_key");
    let own =
        format!("{}x-api-key: {placeholder}\r\nx-own: kept\r\ncookie: a=1; b=2\r\n", kind.fields());
    let named = format!("keyward-connection: {connection}\r\n");
    let length = if kind.is_websocket() { 0 } else { ASKED.len() };
    let http1 = |target: &str, host: &str, more: &str| {
        let length = format!("content-length: {length}\r\n");
        let length = if kind.is_websocket() { "" } else { &length };
        format!("{method} {target} HTTP/1.1\r\nHost: {host}\r\n{length}{own}{more}\r\n")
    };
    match entry {
        _ if kind == Kind::WebSocketHttp2 => format!("{path}\r\n{}{named}", own).trim_end().into(),
        _ if kind.is_http2() => format!("{method} {path}\r\n{own}{named}").trim_end().into(),
        Entry::Absolute => {
            let more = format!("{named}{}", lab.authorization("ci"));
            http1(&format!("https://{HOST}{path}"), HOST, &more)
        }
        Entry::AbsoluteUnix => http1(&format!("https://{HOST}{path}"), HOST, &named),
        Entry::BaseUrl => {
            let more = format!("keyward-token: {token}\r\n");
            http1(&format!("/to/{connection}{path}"), "127.0.0.1:8080", &more)
        }
        _ => http1(&path, HOST, &named),
    }
}

async fn exchange(cell: Cell, lab: &Lab, beside: &Beside) {
    match cell.0.is_http2() {
        true => exchange_http2(cell, lab, beside).await,
        false => exchange_http1(cell, lab, beside).await,
    }
}

async fn exchange_http1(cell: Cell, lab: &Lab, beside: &Beside) {
    let (Cell(kind, entry), fate, path) = (cell, beside.fate, cell.path(beside.fate));
    let mut wire = entry.http1(lab).await;
    wire.send(head(cell, fate, lab)).await;
    if !kind.is_websocket() {
        wire.send(ASKED).await;
    }
    if fate.refusal().is_some() {
        return is_refused(cell, fate, &wire.answer(kind.method()).await);
    }
    let status = wire.head().await.expect("a head").status();
    assert_eq!(status, if kind.is_websocket() { 101 } else { 200 }, "{cell:?}");
    match kind.is_websocket() {
        true => assert_eq!(wire.exactly(FRAME.len()).await, FRAME, "{cell:?}"),
        false => assert_eq!(wire.chunk().await.as_deref(), Some(PIECE), "{cell:?}"),
    }
    if fate == Fate::AgentAborts {
        wire.abort();
        return beside.left.wait(&path).await;
    }
    beside.read.set(&path);
    match (fate, kind.is_websocket()) {
        (Fate::Allowed, true) => {
            wire.finish().await;
            assert_eq!(wire.rest().await, kind.rest(), "{cell:?}");
        }
        (Fate::Allowed, false) => {
            assert_eq!(wire.chunk().await.as_deref(), Some(PIECE), "{cell:?}");
            assert_eq!(wire.chunk().await, Some(vec![]), "{cell:?}");
        }
        (_, true) => assert!(wire.is_closed().await, "{cell:?}"),
        (_, false) => assert_eq!(wire.chunk().await, None, "{cell:?}"),
    }
}

async fn exchange_http2(cell: Cell, lab: &Lab, beside: &Beside) {
    let (Cell(kind, entry), fate, path) = (cell, beside.fate, cell.path(beside.fate));
    let client = entry.http2(lab).await;
    let text = head(cell, fate, lab);
    let mut call = match kind.is_websocket() {
        true => client.extended("websocket", &text).await,
        false => client.open(&text, false).await,
    };
    send(kind, &mut call, kind == Kind::GrpcStream).await;
    if fate.refusal().is_some() {
        return is_refused(cell, fate, &call.answer().await);
    }
    let mut coming = call.head().await.expect("a head");
    assert_eq!(coming.head.status(), 200, "{cell:?}");
    let piece = coming.chunk().await.expect("a chunk").expect("a piece");
    assert_eq!(&piece[..], kind.piece(), "{cell:?}");
    if fate == Fate::AgentAborts {
        call.reset(Reason::CANCEL);
        drop(coming);
        return beside.left.wait(&path).await;
    }
    match kind {
        Kind::GrpcStream => send(kind, &mut call, false).await,
        Kind::WebSocketHttp2 if fate == Fate::Allowed => call.end(),
        _ => {}
    }
    beside.read.set(&path);
    let (answer, reason) = coming.rest().await;
    match fate {
        Fate::Allowed => {
            assert_eq!((answer.body, reason), (kind.rest(), None), "{cell:?}");
            let status = [("grpc-status".to_owned(), "0".to_owned())];
            assert_eq!(answer.trailers, &status[..usize::from(kind.is_grpc())], "{cell:?}");
        }
        _ => assert!(answer.body.is_empty() && reason.is_some(), "{cell:?}: {answer:?}"),
    }
}

/// Sends a message, the last one unless there are more.
async fn send(kind: Kind, call: &mut Call, more: bool) {
    if kind.is_websocket() {
        return;
    }
    // Whoever is refused need not read it.
    if call.try_send(ASKED).await && !more {
        let ended = call.upload().send_data(bytes::Bytes::new(), true);
        drop(ended);
    }
}

fn is_refused(cell: Cell, fate: Fate, answer: &Message) {
    let (status, in_grpc, code) = fate.refusal().expect("it is refused");
    assert_eq!(answer.head.one("keyward-error"), Some(code), "{cell:?}: {answer:?}");
    let proxy_status = answer.head.one("proxy-status").expect("one");
    assert!(proxy_status.ends_with(&format!("details=\"{code}\"")), "{cell:?}: {proxy_status}");
    if cell.0.is_grpc() {
        assert_eq!((answer.head.status(), answer.head.one("grpc-status")), (200, Some(in_grpc)));
        let message = answer.head.one("grpc-message").expect("words");
        assert!(message.starts_with(&format!("{code}: ")), "{cell:?}: {message}");
        return;
    }
    assert_eq!(answer.head.status(), status, "{cell:?}");
    assert_eq!(answer.json()["error"]["code"], code, "{cell:?}");
}

// === what is alike ===

/// What the origin received: nothing of Keyward's, the credential once, the agent's own as it was.
fn is_injected(lab: &Lab, fate: Fate) {
    let mut seen = HashSet::new();
    for request in lab.origin.received() {
        let head = &request.head;
        let cell = Cell::of(head.target());
        assert!(seen.insert(head.target().to_owned()), "{cell:?}: twice");
        assert_eq!(head.target(), cell.path(fate));
        assert_eq!(head.method(), cell.0.method(), "{cell:?}");
        assert_eq!(head.all("x-api-key"), [&*lab.canary.text], "{cell:?}");
        assert_eq!((head.one("x-own"), head.one("cookie")), (Some("kept"), Some("a=1; b=2")));
        for name in
            ["keyward-connection", "keyward-token", "proxy-authorization", "via", "forwarded"]
        {
            assert!(!head.has(name), "{cell:?}: {name}");
        }
        let authority = if head.has(":authority") { ":authority" } else { "host" };
        assert_eq!(head.all(authority), [HOST], "{cell:?}");
        let upgrade = head.one("upgrade").map(str::to_lowercase);
        assert_eq!(upgrade.as_deref(), cell.0.is_websocket().then_some("websocket"), "{cell:?}");
    }
    let reached = if fate.refusal().is_some() { 0 } else { Cell::of_fate(fate).count() };
    assert_eq!(seen.len(), reached);
}

/// The audit event without when, which, how long and how many bytes, and without what has the right to
/// differ, which is checked here.
fn likened(mut record: Value, fate: Fate) -> (String, Value) {
    let fields = record.as_object_mut().expect("an object");
    for name in ["seq", "prev", "time", "exchange", "duration_ms", "bytes_in", "bytes_out"] {
        assert!(fields.remove(name).is_some(), "{name}");
    }
    let path = fields["path"].as_str().expect("a path").to_owned();
    let Cell(kind, entry) = Cell::of(&path);
    for name in ["path", "method", "status", "token"] {
        let value = fields.remove(name).expect("a field");
        let awaited: Value = match name {
            "path" => Cell(kind, entry).path(fate).into(),
            "method" => kind.method().into(),
            "token" if entry.has_token() => {
                assert!(value.is_string(), "{path}: {value}");
                continue;
            }
            "token" => Value::Null,
            _ => match (fate.refusal(), kind.is_websocket()) {
                (Some((status, ..)), _) => status.into(),
                (None, true) => 101.into(),
                (None, false) => 200.into(),
            },
        };
        assert_eq!(value, awaited, "{path}: {name}");
    }
    (path, record)
}

/// Runs the table and answers the one event that all of it leaves.
async fn all_alike(fate: Fate) -> Value {
    let beside = Beside { fate, read: Marks::new(), left: Marks::new() };
    let deny = format!("{{ name: no, hosts: [{HOST}], paths: [\"/denied/**\"], action: deny }}");
    let plan = Plan::api_key()
        .no_agents()
        .agent("ci", "acme, shut")
        .connection("{ name: shut, provider: acme, fields: { api_key: { env: CANARY } } }")
        .rule(&deny)
        .listen(LISTEN);
    let lab = plan.start(origin(beside.clone())).await;
    let services = lab.gateway.running().services();
    let (org, view) = (OrgId::default_org(), services.directory.view());
    let shut = view.find_connection(&org, "shut").expect("the connection").id.clone();
    let directory = &services.directory;
    match fate {
        Fate::Broken => {
            let broken = ConnectionState::Broken { reason: BrokenReason::Revoked, detail: None };
            let breaks = move |record: &mut ConnectionRecord| record.facts.state = broken.clone();
            directory.change::<Connection>(&org, &shut, breaks).await.expect("broken");
        }
        _ => {
            let paused = directory.set_connection_paused(&org, &shut, true, ManagedBy::File);
            paused.await.expect("paused");
        }
    }
    futures_util::future::join_all(Cell::of_fate(fate).map(|cell| exchange(cell, &lab, &beside)))
        .await;
    is_injected(&lab, fate);
    let records: Vec<_> =
        lab.finish().await.into_iter().map(|record| likened(record, fate)).collect();
    assert_eq!(records.len(), Cell::of_fate(fate).count());
    let (_, first) = records[0].clone();
    for (path, record) in records {
        assert_eq!(record, first, "{path}");
    }
    first
}

#[tokio::test]
async fn allowed_exchanges_are_injected_and_audited_the_same_in_every_protocol() {
    let event = all_alike(Fate::Allowed).await;
    assert_eq!((&event["outcome"], &event["code"]), (&"completed".into(), &Value::Null));
    assert_eq!((&event["agent"], &event["connection"]), (&"ci".into(), &"acme".into()));
    assert_eq!(event["target"], format!("https://{HOST}"));
    assert_eq!(event["attempts"], 1);
}

#[tokio::test]
async fn denied_exchanges_are_refused_and_audited_the_same_in_every_protocol() {
    let event = all_alike(Fate::Denied).await;
    assert_eq!((&event["outcome"], &event["code"]), (&"refused".into(), &"denied".into()));
    assert_eq!((&event["generation"], &event["attempts"]), (&Value::Null, &0.into()));
}

#[tokio::test]
async fn exchanges_with_a_paused_connection_are_refused_the_same_in_every_protocol() {
    let event = all_alike(Fate::Paused).await;
    assert_eq!(
        (&event["outcome"], &event["code"]),
        (&"refused".into(), &"connection_paused".into())
    );
    assert_eq!((&event["generation"], &event["attempts"]), (&Value::Null, &0.into()));
}

#[tokio::test]
async fn exchanges_with_a_broken_connection_are_refused_the_same_in_every_protocol() {
    let event = all_alike(Fate::Broken).await;
    assert_eq!(
        (&event["outcome"], &event["code"]),
        (&"refused".into(), &"connection_broken".into())
    );
    assert_eq!((&event["generation"], &event["attempts"]), (&Value::Null, &0.into()));
}

/// The cells that there are not: who is not asked for a token gets nothing by a base URL.
#[tokio::test]
async fn a_base_url_on_a_listener_without_authentication_is_refused() {
    let beside = Beside { fate: Fate::Allowed, read: Marks::new(), left: Marks::new() };
    let plan = Plan::api_key().no_agents().agent("ci", "acme").listen(LISTEN);
    let lab = plan.start(origin(beside)).await;
    let kinds = KINDS.into_iter().filter(|kind| !kind.is_http2());
    for kind in kinds.clone() {
        for entry in [Entry::UnixSocket, Entry::AgentListener] {
            let mut wire = entry.reached(&lab).await;
            wire.send(head(Cell(kind, Entry::BaseUrl), Fate::Allowed, &lab)).await;
            let answer = wire.answer(kind.method()).await;
            let code = answer.head.one("keyward-error");
            assert_eq!((answer.head.status(), code), (403, Some("base_url_refused")), "{kind:?}");
        }
    }
    assert!(lab.origin.received().is_empty());
    let records = lab.finish().await;
    assert_eq!(records.len(), 2 * kinds.count());
    for record in records {
        assert_eq!((&record["code"], &record["agent"]), (&"base_url_refused".into(), &Value::Null));
    }
}

#[tokio::test]
async fn exchanges_that_the_agent_aborts_are_audited_the_same_in_every_protocol() {
    let event = all_alike(Fate::AgentAborts).await;
    assert_eq!((&event["outcome"], &event["code"]), (&"client_aborted".into(), &Value::Null));
    assert_eq!(event["connection"], "acme");
}

#[tokio::test]
async fn exchanges_that_the_upstream_aborts_are_audited_the_same_in_every_protocol() {
    let event = all_alike(Fate::UpstreamAborts).await;
    assert_eq!((&event["outcome"], &event["code"]), (&"upstream_aborted".into(), &Value::Null));
    assert_eq!(event["connection"], "acme");
}

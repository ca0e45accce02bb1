//! Listeners for databases: what is refused before a token is proved, servers that prove nothing, floods, TLS, and what ends
//! a session. `tests/real/postgres.rs` has the same with a real server and real clients.

mod client;
mod cloud;
mod commands;
mod server;
mod sessions;
mod stored;

use futures_util::future::select_all;

use self::client::{Client, TLS_REQUEST, startup};
use self::server::{Behaviour, CANCEL, NAME, Server, TLS_REQUEST_BYTES, UNANSWERED, message};
use test_support::collector::{CLIENT, Collector};
use test_support::wire::find;
use test_support::*;

/// A server, and a gateway with the connections `main` and `reports`, of which the second is read-only.
struct Databases {
    server: Server,
    lab: Lab,
}

impl Databases {
    async fn planned(behaviour: Behaviour, more: impl FnOnce(Plan) -> Plan) -> Self {
        let server = Server::start(behaviour).await;
        let connection = |name: &str, more: &str| {
            format!(
                "{{ name: {name}, provider: postgres, variables: {{ host: \"{NAME}:{}\", database: app }}, \
                 fields: {{ username: app, password: {{ env: CANARY }} }}{more} }}",
                server.at.port()
            )
        };
        let plan = Plan::api_key()
            .no_agents()
            .agent("ci", "main, reports")
            .agent("stranger", "acme")
            .connection(&connection("main", ""))
            .connection(&connection("reports", ", settings: { read_only: true }"))
            .resolve(&format!("{NAME}: \"{}\"", server.at))
            .allow(&server.at.to_string());
        let plan = more(plan);
        let lab = plan.start(Origin::saying("fine")).await;
        Self { server, lab }
    }

    fn one(plan: Plan) -> Plan {
        plan.listen("databases: [{ at: \"127.0.0.1:0\" }]")
    }

    async fn open(&self, database: &str) -> Result<Client, String> {
        Client::open(&self.lab, self.lab.token("ci"), database).await
    }

    async fn opened(&self, database: &str) -> Client {
        self.open(database).await.unwrap_or_else(|error| panic!("no session: {error}"))
    }
}

#[tokio::test]
async fn a_server_that_does_not_prove_its_name_gets_nothing_of_the_login() {
    for (behaviour, code) in [
        (Behaviour::Declines, "upstream_tls"),
        (Behaviour::IsAnother, "upstream_tls"),
        (Behaviour::Injects, "upstream_tls"),
        (Behaviour::IsHttp, "upstream_protocol"),
        (Behaviour::IsSilent, "upstream_protocol"),
    ] {
        let quick = |plan| Databases::one(plan).limit("connect_timeout: 1s");
        let databases = Databases::planned(behaviour, quick).await;
        let refused = databases.open("main").await.err().expect("no session");
        assert!(refused.contains(&format!("code {code}")), "{behaviour:?}: {refused}");
        let Databases { server, lab } = databases;
        let received = server.received();
        for secret in [&*lab.canary.text, lab.token("ci"), "user"] {
            assert_eq!(find(&received, secret.as_bytes()), None, "{behaviour:?}: {received:?}");
        }
        if behaviour == Behaviour::Declines {
            assert_eq!(received.len(), TLS_REQUEST_BYTES, "nothing follows a declined request");
        }
        let records = lab.finish().await;
        assert_eq!(records.len(), 1);
        assert_eq!(records[0]["code"], code);
    }
}

#[tokio::test]
async fn nothing_reaches_a_server_before_the_token_is_proved() {
    let mut databases = Databases::planned(Behaviour::Serves, Databases::one).await;
    let lab = &mut databases.lab;
    lab.add_agent("former").await;
    let revoked = lab.token("former").to_owned();
    let removed = lab.gateway.api("DELETE", "/agents/former", "").await;
    assert!(removed.head.status() < 300, "{}", removed.text());
    let query = message(b'Q', b"SELECT 'early'\0");
    let password = |text: &str| message(b'p', &[text.as_bytes(), b"\0"].concat());
    let stranger = lab.token("stranger").to_owned();
    for (sent, says) in [
        (query.clone(), "the password message was expected"),
        (message(b'P', b"\0SELECT 1\0\0\0"), "the password message was expected"),
        (password(""), "the password is no valid token of an agent"),
        (password("kwa_wrong"), "the password is no valid token of an agent"),
        (password(&revoked), "the password is no valid token of an agent"),
        (password(&stranger), "this agent has no connection to a database"),
    ] {
        let mut client = Client::connect(lab).await;
        // All at once, with a query behind it.
        client.wire.send([startup("main"), sent, query.clone()].concat()).await;
        client.expect(b'R').await.expect("it asks for the password");
        let refused = client.expect(b'Z').await.expect_err("no session");
        assert!(refused.contains(says), "{refused}");
        assert!(client.wire.rest().await.is_empty());
    }
    assert_eq!(databases.server.accepted(), 0);
    let records = databases.lab.finish().await;
    assert_eq!(records.len(), 6, "one for each");
    assert!(records.iter().all(|record| record["outcome"] == "refused"), "{records:?}");
}

#[tokio::test]
async fn a_query_sent_before_the_login_is_answered_is_served_after_it() {
    let databases = Databases::planned(Behaviour::Serves, Databases::one).await;
    let mut client = Client::connect(&databases.lab).await;
    let token = [databases.lab.token("ci").as_bytes(), b"\0"].concat();
    let early = [startup("main"), message(b'p', &token), message(b'Q', b"SELECT 'early'\0")];
    client.wire.send(early.concat()).await;
    client.expect(b'Z').await.expect("the session");
    let row = client.expect(b'Z').await.expect("the answer");
    assert!(row.contains("SELECT 'early'"), "{row}");
    databases.lab.finish().await;
}

/// Long statements are checked on another thread.
#[tokio::test]
async fn a_long_statement_reaches_the_server_and_a_refused_one_does_not() {
    let databases = Databases::planned(Behaviour::Serves, Databases::one).await;
    let mut session = databases.opened("reports").await;
    let padding = "x".repeat(200 * 1024);
    let (long, refused) = (format!("SELECT '{padding}'"), format!("DELETE FROM t -- {padding}"));
    for (statement, answer) in [
        ("SELECT 1", "SELECT 1"),
        (&*long, &*long),
        (&*refused, "only statements that read"),
        ("SELECT 2", "SELECT 2"),
    ] {
        let answered = session.query(statement).await.expect("an answer");
        assert!(answered.contains(answer), "{answered:.200}");
    }
    let received = databases.server.received();
    assert!(find(&received, long.as_bytes()).is_some());
    assert!(find(&received, b"DELETE FROM t").is_none());
    databases.lab.finish().await;
}

#[tokio::test]
async fn the_span_of_a_session_has_database_attributes_and_no_http_attributes() {
    let collector = Collector::start().await;
    let exported = |plan| collector.reached(Databases::one(plan), "");
    let databases = Databases::planned(Behaviour::Serves, exported).await;
    drop(databases.opened("main").await);
    let port = databases.server.at.port().to_string();
    databases.lab.finish().await;
    let spans = collector.spans();
    let [own] = &spans[..] else { panic!("{spans:#?}") };
    assert_eq!((own.kind, &*own.name), (CLIENT, "postgresql"));
    for (name, value) in [
        ("db.system.name", "postgresql"),
        ("db.namespace", "app"),
        ("server.address", NAME),
        ("server.port", &*port),
        ("keyward.connection", "main"),
    ] {
        assert_eq!(own.attributes.get(name).map(String::as_str), Some(value), "{name}");
    }
    assert_eq!(own.attributes.keys().find(is_of_http), None);
}

fn is_of_http(name: &&String) -> bool {
    name.starts_with("http.") || name.starts_with("url.")
}

/// The protocol is that of the listener.
#[tokio::test]
async fn the_span_of_a_session_refused_before_its_permit_has_database_attributes_too() {
    let collector = Collector::start().await;
    let exported = |plan| collector.reached(Databases::one(plan), "");
    let databases = Databases::planned(Behaviour::Serves, exported).await;
    assert!(Client::open(&databases.lab, "kwa_wrong", "main").await.is_err());
    assert!(databases.open("unknown").await.is_err());
    databases.lab.finish().await;
    let spans = collector.spans();
    assert_eq!(spans.len(), 2, "{spans:#?}");
    for own in &spans {
        assert_eq!((own.kind, &*own.name), (CLIENT, "postgresql"), "{own:#?}");
        assert_eq!(own.attributes.get("db.system.name").map(String::as_str), Some("postgresql"));
        assert_eq!(own.attributes.get("db.namespace"), None);
        assert_eq!(own.attributes.keys().find(is_of_http), None);
    }
}

#[tokio::test]
async fn half_open_sessions_are_bounded_and_others_go_on() {
    const MAX: usize = 64;
    let limited = |plan| Databases::one(plan).limit("unauthenticated_streams_max: 64");
    let databases = Databases::planned(Behaviour::Serves, limited).await;
    let mut open = databases.opened("main").await;
    let mut half_open = std::collections::VecDeque::new();
    for number in 0..1_000 {
        let mut client = Client::connect(&databases.lab).await;
        // Some stop within the message, others before the password.
        let startup = startup("main");
        let sent = if number % 2 == 0 { &startup[..] } else { &startup[..6] };
        client.wire.send(sent).await;
        if number % 2 == 0 {
            client.expect(b'R').await.expect("it asks for the password");
        }
        half_open.push_back(client);
        if half_open.len() > MAX {
            let mut oldest = half_open.pop_front().expect("there are some");
            oldest.wire.rest().await;
        }
    }
    assert!(open.query("SELECT 1").await.expect("it goes on").contains("SELECT 1"));
    let mut new = databases.opened("main").await;
    assert!(new.query("SELECT 2").await.expect("it is served").contains("SELECT 2"));
    databases.lab.finish().await;
}

/// What clients of the other protocols begin with: nothing at all, since servers of MySQL speak first, and parts of a message.
const BEGUN: [(&str, &[u8]); 4] = [
    ("mysql", b""),
    ("redis", b"*3\r\n$4\r\nAUTH\r\n$4\r\nmain"),
    ("mongodb", b"\x40\0\0\0\x01\0\0\0\0\0\0\0\xdd"),
    ("bolt", b"\x60\x60\xb0\x17\0\x08\x08\x05"),
];

#[tokio::test]
async fn a_thousand_half_open_sessions_of_each_protocol_disturb_no_other() {
    const MAX: usize = 64;
    let listeners =
        BEGUN.map(|(protocol, _)| format!("{{ at: \"127.0.0.1:0\", protocol: {protocol} }}"));
    let listeners = format!("databases: [{{ at: \"127.0.0.1:0\" }}, {}]", listeners.join(", "));
    let planned = |plan: Plan| plan.listen(&listeners).limit("unauthenticated_streams_max: 64");
    let databases = Databases::planned(Behaviour::Serves, planned).await;
    let mut open = databases.opened("main").await;
    let addresses = databases.lab.gateway.running().database_addrs();
    let addresses: Vec<_> = addresses[1..].iter().map(|it| it.at.tcp().expect("TCP")).collect();
    let mut half_open = Vec::new();
    for number in 0..3_000 {
        let (_, begun) = BEGUN[number % BEGUN.len()];
        let mut wire = databases.lab.client_at(addresses[number % BEGUN.len()]).await;
        wire.send(begun).await;
        half_open.push(wire);
        // Listeners accept side by side, so any of them may be the gateway's oldest.
        if half_open.len() > MAX {
            let closed = half_open.iter_mut().map(|wire| Box::pin(wire.rest()));
            let (_, closed, _) = select_all(closed).await;
            half_open.swap_remove(closed);
        }
    }
    assert!(open.query("SELECT 1").await.expect("it goes on").contains("SELECT 1"));
    let mut new = databases.opened("main").await;
    assert!(new.query("SELECT 2").await.expect("it is served").contains("SELECT 2"));
    databases.lab.finish().await;
}

#[tokio::test]
async fn removing_the_binding_or_agent_pausing_the_connection_or_a_cut_ends_a_session() {
    let mut databases = Databases::planned(Behaviour::Serves, Databases::one).await;
    let url = format!(
        "postgres://app:{}@{NAME}:{}/app",
        databases.lab.canary.text,
        databases.server.at.port()
    );
    let stored = format!(r#"{{"name":"stored","provider":"postgres","fields":{{"url":"{url}"}}}}"#);
    databases.lab.gateway.api("POST", "/connections", &stored).await.is(201);
    for (number, path) in [
        "/agents/guest0/bindings/stored",
        "/agents/guest1",
        "/connections/stored/pause",
        "/streams/",
    ]
    .into_iter()
    .enumerate()
    {
        let guest = format!("guest{number}");
        databases.lab.add_agent(&guest).await;
        let (api, token) = (&databases.lab.gateway, databases.lab.token(&guest));
        let bound = format!("/agents/{guest}/bindings");
        let bound = api.api("POST", &bound, r#"{"connection":"stored"}"#).await;
        assert!(bound.head.status() < 300, "{}", bound.text());
        let mut session = Client::open(&databases.lab, token, "stored").await.expect("a session");
        session.query("SELECT 1").await.expect("it is open");
        let (method, path) = match path {
            "/streams/" => {
                let listed = api.api("GET", "/streams", "").await.json();
                let stream = &listed["items"][0];
                assert_eq!([&stream["kind"], &stream["agent"]], ["database", guest.as_str()]);
                ("DELETE", format!("/streams/{}", stream["id"].as_str().expect("an id")))
            }
            _ if path.ends_with("pause") => ("POST", path.to_owned()),
            _ => ("DELETE", path.to_owned()),
        };
        let done = api.api(method, &path, "").await;
        assert!(done.head.status() < 300, "{path}: {}", done.text());
        let told = session.expect(b'Z').await.expect_err(&path);
        assert!(told.contains("57P01") && told.contains("was revoked"), "{path}: {told}");
        assert!(session.wire.is_closed().await, "{path}");
        let resumed = api.api("POST", "/connections/stored/resume", "").await;
        assert!(resumed.head.status() < 500, "{}", resumed.text());
    }
    let records = databases.lab.finish().await;
    assert_eq!(records.len(), 4);
    for record in &records {
        assert_eq!([&record["outcome"], &record["connection"]], ["ended", "stored"], "{record}");
        assert_eq!(record["database_role"], "app");
        assert!(record["bytes_in"].as_u64() > Some(0), "{record}");
    }
    assert_eq!(records[3]["cut_by"], "operator");
}

#[tokio::test]
async fn what_a_session_runs_at_its_server_is_cancelled_if_the_gateway_ends_the_session() {
    let databases = Databases::planned(Behaviour::Serves, Databases::one).await;
    let mut idle = databases.opened("main").await;
    idle.query("SELECT 'idle'").await.expect("it is served");
    let mut busy = databases.opened("main").await;
    busy.wire.send(message(b'Q', &[UNANSWERED, b"\0"].concat())).await;
    let left = databases.opened("main").await;
    let has = |bytes: &[u8]| find(&databases.server.received(), bytes).is_some();
    until("the statement runs", async || has(UNANSWERED)).await;
    // The agent itself ends this one.
    drop(left);
    assert!(!has(CANCEL), "nothing has ended a session yet");
    let paused = databases.lab.gateway.api("POST", "/agents/ci/pause", "").await;
    assert!(paused.head.status() < 300, "{}", paused.text());
    for session in [&mut idle, &mut busy] {
        let told = session.expect(b'Z').await.expect_err("it ends");
        assert!(told.contains("57P01") && told.contains("was revoked"), "{told}");
    }
    until("it is cancelled", async || has(CANCEL)).await;
    let Databases { server, lab } = databases;
    lab.finish().await;
    assert_eq!(server.accepted(), 4, "three sessions and one cancel request");
}

#[tokio::test]
async fn a_pooler_that_drops_parameters_gives_no_read_only_session() {
    let databases = Databases::planned(Behaviour::DropsParameters, Databases::one).await;
    let refused = databases.open("reports").await.err().expect("no session");
    assert!(
        refused.contains("does not begin the session as the connection's settings say"),
        "{refused}"
    );
    let mut may_write = databases.opened("main").await;
    may_write.query("INSERT").await.expect("it is not read-only");
    let tested = databases.lab.gateway.api("POST", "/connections/reports/test", "").await;
    assert_eq!(tested.json()["ok"], false, "{}", tested.text());
    assert!(
        tested.text().contains("does not begin the session as the connection's settings say"),
        "{}",
        tested.text()
    );
    databases.lab.finish().await;
    let databases = Databases::planned(Behaviour::Serves, Databases::one).await;
    let mut session = databases.opened("reports").await;
    session.query("SELECT 1").await.expect("it is read-only");
    let received = databases.server.received();
    assert!(find(&received, b"default_transaction_read_only\0on\0").is_some());
    databases.lab.finish().await;
}

#[tokio::test]
async fn a_listener_with_tls_accepts_tls_after_an_ssl_request_or_from_the_first_byte() {
    let with_tls = |plan: Plan| plan.listen("databases: [{ at: \"127.0.0.1:0\", tls: {} }]");
    let databases = Databases::planned(Behaviour::Serves, with_tls).await;
    let lab = &databases.lab;
    let mut asked = Client::connect(lab).await;
    asked.wire.send(TLS_REQUEST).await;
    assert_eq!(asked.wire.exactly(1).await, b"S");
    let (wire, alpn) = lab.secure_offering(asked.wire, "localhost", &[b"postgresql"]).await;
    assert_eq!(alpn.as_deref(), Some(&b"postgresql"[..]));
    let mut asked = Client { wire };
    asked.log_in(lab.token("ci"), "main").await.expect("a session");
    assert!(asked.query("SELECT 1").await.expect("a row").contains("SELECT 1"));
    let direct = Client::connect(lab).await;
    let (wire, alpn) = lab.secure_offering(direct.wire, "localhost", &[b"postgresql"]).await;
    assert_eq!(alpn.as_deref(), Some(&b"postgresql"[..]));
    let mut direct = Client { wire };
    direct.log_in(lab.token("ci"), "main").await.expect("a session");
    // Before libpq 17, clients name no protocol.
    let older = Client::connect(lab).await;
    let mut older = Client { wire: lab.secure(older.wire, "localhost").await };
    older.log_in(lab.token("ci"), "main").await.expect("a session");
    // On this machine TLS is a choice.
    databases.opened("main").await;
    databases.lab.finish().await;
}

#[tokio::test]
async fn cleartext_sent_after_a_tls_request_is_not_read_as_a_message() {
    let with_tls = |plan: Plan| plan.listen("databases: [{ at: \"127.0.0.1:0\", tls: {} }]");
    let databases = Databases::planned(Behaviour::Serves, with_tls).await;
    let lab = &databases.lab;
    let mut client = Client::connect(lab).await;
    client.wire.send([TLS_REQUEST, &startup("main")].concat()).await;
    assert_eq!(client.wire.exactly(1).await, b"S");
    // A TLS alert at most: `R` would be the request for the password.
    let answered = client.wire.rest().await;
    assert!(answered.is_empty() || answered[0] == 21, "{answered:?}");
    assert_eq!(databases.server.accepted(), 0);
    // A client that trusts another CA ends the handshake.
    let mut stranger = Client::connect(lab).await;
    stranger.wire.send(TLS_REQUEST).await;
    assert_eq!(stranger.wire.exactly(1).await, b"S");
    let pki = &test_support::pki::pki().pem;
    assert!(lab.secure_trusting(pki, stranger.wire, "localhost").await.is_err());
    databases.lab.finish().await;
}

#[tokio::test]
async fn an_unsafe_or_incomplete_database_listener_in_the_file_is_refused() {
    let origin = Origin::saying("fine");
    for (listener, says) in [
        ("{ at: \"0.0.0.0:0\" }", "tokens would go over the network"),
        ("{ at: \"0.0.0.0:0\", agent: ci, tls: {}, unsafe_no_auth: true }", "every machine"),
        (
            "{ at: \"127.0.0.1:0\", agent: ci }",
            "every program of this machine can act as the agent",
        ),
        ("{ at: \"unix:db.sock\", tls: {} }", "a socket has no TLS"),
        ("{ at: \"127.0.0.1:0\", tls: { cert: a.pem } }", "belong together"),
        ("{ connection: main }", "`at` is missing"),
    ] {
        let plan = Plan::api_key().listen(&format!("databases: [{listener}]"));
        let refused = plan.refused(&origin).await;
        assert!(refused.contains(says) && refused.contains("listen.databases"), "{refused}");
    }
}

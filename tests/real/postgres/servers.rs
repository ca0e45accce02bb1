//! Connections with several hosts: a primary, its standby, a server whose sessions are read-only, one that is down and one
//! that does not answer.

use std::net::SocketAddr;

use rustix::process::Signal;

use super::server::{NAME, Server};
use super::stage::Stage;
use test_support::process::reserved_address;
use test_support::*;

/// Which server it is, and whether it may be written.
const WHERE: &str = "SELECT inet_server_port() || ' ' || current_setting('transaction_read_only')";

/// The name of a connection, its servers, `target_session_attrs`, and settings.
type Given<'a> = (&'a str, &'a [SocketAddr], &'a str, &'a str);

fn connection(name: &str, servers: &[SocketAddr], attrs: &str, settings: &str) -> String {
    let hosts: Vec<_> = servers.iter().map(|at| format!("{NAME}:{}", at.port())).collect();
    format!(
        "{{ name: {name}, provider: postgres, variables: {{ host: \"{}\", more_hosts: \"{}\", \
         target_session_attrs: {attrs}, database: app }}, \
         fields: {{ username: app, password: {{ env: PG_SECRET }} }}, settings: {settings} }}",
        hosts[0],
        hosts[1..].join(",")
    )
}

/// A gateway with these connections of the agent `ci`.
async fn stage(
    server: Server,
    password: canary::Canary,
    servers: &[SocketAddr],
    connections: &[Given<'_>],
) -> Stage {
    let names: Vec<_> = connections.iter().map(|(name, ..)| *name).collect();
    let plan = Plan::api_key()
        .no_agents()
        .agent("ci", &names.join(", "))
        .secret("PG_SECRET", &password)
        .listen("databases: [{ at: \"127.0.0.1:0\" }]");
    let plan = connections.iter().fold(plan, |plan, (name, servers, attrs, settings)| {
        plan.connection(&connection(name, servers, attrs, settings))
    });
    let plan = servers.iter().fold(plan, |plan, at| {
        plan.resolve(&format!("\"{NAME}:{}\": \"{at}\"", at.port())).allow(&at.to_string())
    });
    Stage::start(plan, server, password).await
}

fn at(server: SocketAddr, mode: &str) -> String {
    format!("{} {mode}", server.port())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_several_servers_the_first_of_the_wanted_kind_is_used() {
    let password = canary::Canary::new("pg");
    let primary = Server::start(&password.text);
    let (standby, dead) = (primary.standby(), reserved_address());
    let (first, second) = (primary.at, standby.at);
    let (all, both) = ([dead, second, first], [first, second]);
    let cases: &[(Given<'_>, Option<String>)] = &[
        (("any", &all, "any", "{}"), Some(at(second, "on"))),
        (("write", &all, "read-write", "{}"), Some(at(first, "off"))),
        (("main", &all, "primary", "{}"), Some(at(first, "off"))),
        (("read", &both, "read-only", "{}"), Some(at(second, "on"))),
        (("standby", &both, "standby", "{}"), Some(at(second, "on"))),
        (("prefer", &[first, dead, second], "prefer-standby", "{}"), Some(at(second, "on"))),
        (("prefer-none", &[first, dead], "prefer-standby", "{}"), Some(at(first, "off"))),
        // All its sessions are read-only: the primary is meant.
        (("reports", &all, "read-write", "{ read_only: true }"), Some(at(first, "on"))),
        (("reports-read", &both, "read-only", "{ read_only: true }"), Some(at(first, "on"))),
        (("none", &[dead, first], "standby", "{}"), None),
        (("gone", &[dead], "read-write", "{}"), None),
    ];
    let connections: Vec<_> = cases.iter().map(|(given, _)| *given).collect();
    let stage = stage(primary, password, &all, &connections).await;
    for ((name, ..), expected) in cases {
        let Some(expected) = expected else { continue };
        assert_eq!(stage.served("ci", name, WHERE).await, *expected, "{name}");
    }
    let none = "no server of the connection is `standby`: 1 opened a session of another kind, 1 opened none";
    for (name, says) in [("none", none), ("gone", "code upstream_unreachable")] {
        let refused = stage.refused(stage.lab.token("ci"), name).await;
        assert!(refused.contains("FATAL:  keyward: ") && refused.contains(says), "{refused}");
    }
    for (name, server, rights) in
        [("write", first, "sessions may write"), ("standby", second, "sessions are read-only")]
    {
        let path = format!("/connections/{name}/test");
        let tested = stage.lab.gateway.api("POST", &path, "{}").await.text();
        let says = format!("at {NAME}:{} accepted the login: role app, {rights}", server.port());
        assert!(tested.contains(&says), "{name}: {tested}");
    }
    let named: Vec<_> = all.iter().map(|at| format!("{NAME}:{}", at.port())).collect();
    let records = stage.finish().await;
    assert_eq!(records[0]["target"], format!("postgres://{}/app", named.join(",")));
    let refused: Vec<_> = records.iter().filter(|record| record["outcome"] == "refused").collect();
    assert_eq!(refused.len(), 2, "{refused:?}");
    assert!(refused.iter().all(|record| record["code"] == "upstream_unreachable"), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cancel_request_reaches_the_server_of_its_session_and_a_failover_is_followed() {
    let password = canary::Canary::new("pg");
    let primary = Server::start(&password.text);
    let standby = primary.standby();
    let (first, second) = (primary.at, standby.at);
    let both = [second, first];
    let connections =
        [("write", &both[..], "read-write", "{}"), ("main", &both[..], "primary", "{}")];
    let stage = stage(primary, password, &both, &connections).await;
    let mut command = stage.psql(stage.lab.token("ci"), "write");
    command.args(["-c", "SELECT pg_sleep(600)"]).stderr(std::process::Stdio::piped());
    let client = command.spawn().expect("psql");
    let sleeping = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'";
    until("the server's view of a session", async || stage.server.sql("app", sleeping) == "1")
        .await;
    let id = rustix::process::Pid::from_child(&client);
    rustix::process::kill_process(id, Signal::INT).expect("it runs");
    let ended = client.wait_with_output().expect("it ends");
    let said = crate::stage::said(&ended);
    assert!(said.contains("canceling statement due to user request"), "{said}");

    stage.server.stop();
    let refused = stage.refused(stage.lab.token("ci"), "write").await;
    assert!(refused.contains("no server of the connection is `read-write`"), "{refused}");
    standby.promote();
    for name in ["write", "main"] {
        assert_eq!(stage.served("ci", name, WHERE).await, at(second, "off"));
    }
    let records = stage.finish().await;
    let refused: Vec<_> = records.iter().filter(|record| record["outcome"] == "refused").collect();
    assert_eq!(refused.len(), 1, "{refused:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_server_is_tried_after_a_rejected_login_and_a_silent_one_is_skipped() {
    let password = canary::Canary::new("pg");
    let (one, two) = (Server::start(&password.text), Server::start(&password.text));
    let (first, second) = (one.at, two.at);
    let both: &[SocketAddr] = &[first, second];
    let connections = [("any", both, "any", "{}"), ("write", both, "read-write", "{}")];
    let stage = stage(one, password, both, &connections).await;
    // A server whose sessions are read-only, though it is no standby.
    stage.server.sql("postgres", "ALTER SYSTEM SET default_transaction_read_only = on");
    stage.server.sql("postgres", "SELECT pg_reload_conf()");
    until("the server's settings", async || {
        stage.server.sql("app", "SHOW default_transaction_read_only") == "on"
    })
    .await;
    assert_eq!(stage.served("ci", "any", WHERE).await, at(first, "on"));
    assert_eq!(stage.served("ci", "write", WHERE).await, at(second, "off"));
    // It accepts streams, and says nothing.
    stage.server.signal(Signal::STOP);
    let served = stage.served("ci", "any", WHERE).await;
    stage.server.signal(Signal::CONT);
    assert_eq!(served, at(second, "off"));

    // The second one knows the right password, and would serve.
    let other = "BEGIN READ WRITE; ALTER ROLE app PASSWORD 'other'; COMMIT";
    stage.server.sql("postgres", other);
    let refused = stage.refused(stage.lab.token("ci"), "any").await;
    assert!(refused.contains("the database server refuses the login: password"), "{refused}");
    let records = stage.finish().await;
    assert_eq!(records.len(), 4, "{records:?}");
    assert_eq!(records[3]["code"], "connection_broken");
}

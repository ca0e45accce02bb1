//! Replica sets: several hosts in a connection, servers that DNS lists, and rules about them. The DNS server is dnsmasq.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Command, Stdio};

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::LISTENER;
use super::raw::{command, login};
use super::server::{FAR, NAME, SECOND, Server, USER};
use super::stage::Stage;
use crate::stage::service;
use test_support::process::{OwnChild, reserved_address};
use test_support::*;

const INSERT: &str = "app.items.insert_one({'_id': 1}) and app.items.find_one()";

/// A name under which DNS lists servers.
const CLUSTER: &str = "cluster.acme.test";

fn connection(name: &str, variables: &str) -> String {
    format!(
        "{{ name: {name}, provider: mongodb, variables: {{ {variables} }}, \
         fields: {{ username: {USER}, password: {{ env: MONGO_SECRET }} }} }}"
    )
}

/// Lets a plan dial these, each by the name and its own port.
fn reaching(plan: Plan, name: &str, servers: &[SocketAddr]) -> Plan {
    servers.iter().fold(plan, |plan, at| {
        plan.resolve(&format!("\"{name}:{}\": \"{at}\"", at.port())).allow(&at.to_string())
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_several_hosts_the_primary_is_used_and_a_failover_is_followed_by_the_next_session() {
    let password = canary::Canary::new("mongodb");
    let [one, two] = [(); 2].map(|()| Server::start(&password.text));
    let [dead, late] = [(); 2].map(|()| reserved_address());
    let at = |port: u16| format!("{NAME}:{port}");
    let ports = [one.at.port(), two.at.port()];
    one.follows(&at(ports[1]));
    let hosts = |first: u16, more: &[u16]| {
        let more: Vec<_> = more.iter().map(|port| at(*port)).collect();
        format!("host: \"{}\", more_hosts: \"{}\"", at(first), more.join(","))
    };
    let plan = Plan::api_key()
        .no_agents()
        .agent("ci", "main, gone, seeds")
        .connection(&connection("main", &hosts(dead.port(), &ports)))
        .connection(&connection("gone", &hosts(dead.port(), &[late.port()])))
        // What a server names need not be listed.
        .connection(&connection("seeds", &hosts(dead.port(), &ports[..1])))
        .secret("MONGO_SECRET", &password)
        .listen(LISTENER);
    let plan = reaching(plan, NAME, &[one.at, two.at, dead, late]);
    let stage = Stage::start(plan, one, password).await;
    let login_at = |server: &Server| server.has_received("saslStart");
    assert_eq!(stage.says("ci", "main", INSERT).await, "{'_id': 1}");
    assert_eq!(stage.says("ci", "seeds", "app.items.find_one()").await, "{'_id': 1}");
    assert!(two.has_received("insert") && !login_at(&stage.server), "the secondary gets no login");

    let before = two.received().len();
    two.follows(&at(ports[0]));
    stage.server.is_elected();
    assert_eq!(stage.says("ci", "main", INSERT).await, "{'_id': 1}");
    assert!(stage.server.has_received("insert"));
    let later = &two.received()[before..];
    assert!(later.iter().all(|command| command["name"] == "isMaster"), "{later:?}");

    // During an election, a server may be read.
    two.follows("");
    stage.server.follows("");
    assert_eq!(stage.says("ci", "main", "app.items.find_one()").await, "{'_id': 1}");
    let refused = stage.says("ci", "gone", "client.admin.command('ping')").await;
    assert!(refused.contains("code upstream_unreachable"), "{refused}");
    let target =
        format!("mongodb://{NAME}:{},{NAME}:{},{NAME}:{}/test", dead.port(), ports[0], ports[1]);
    let records = stage.finish().await;
    assert!(records.iter().any(|record| record["target"] == target), "{records:?}");
    let unreached = records.iter().filter(|record| record["code"] == "upstream_unreachable");
    assert!(unreached.count() >= 1, "{records:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn servers_that_dns_lists_are_used_within_the_domain_of_the_name_and_nowhere_else() {
    let password = canary::Canary::new("mongodb");
    let start = |arguments| Server::with(&password.text, arguments);
    let (primary, far) = (start(&["SCRAM-SHA-256", "source=people"]), start(&["SCRAM-SHA-256"]));
    let (dead, port) = (reserved_address(), primary.at.port());
    let listed = |name: &str, server: &str, port: u16| {
        format!("--srv-host=_mongodb._tcp.{name},{server},{port}")
    };
    let dns = Dns::start(&[
        listed(CLUSTER, NAME, dead.port()),
        listed(CLUSTER, SECOND, port),
        format!("--txt-record={CLUSTER},authSource=people&replicaSet=rs0"),
        listed("elsewhere.own.test", FAR, far.at.port()),
        listed("options.acme.test", SECOND, port),
        "--txt-record=options.acme.test,tls=false".to_owned(),
    ]);
    let srv = |name: &str, host: &str| connection(name, &format!("host: {host}, seeds: srv"));
    let plan = Plan::api_key()
        .no_agents()
        .agent("ci", "main, elsewhere, options, none")
        .connection(&srv("main", CLUSTER))
        .connection(&srv("elsewhere", "elsewhere.own.test"))
        .connection(&srv("options", "options.acme.test"))
        .connection(&srv("none", "none.acme.test"))
        .secret("MONGO_SECRET", &password)
        .upstream(&format!("dns: [\"{}\"]", dns.at))
        .listen(LISTENER);
    let plan = reaching(plan, NAME, &[dead]);
    let plan = reaching(plan, SECOND, &[primary.at]);
    let plan = reaching(plan, FAR, &[far.at]);
    let stage = Stage::start(plan, primary, password).await;
    assert_eq!(stage.says("ci", "main", INSERT).await, "{'_id': 1}");
    for (name, says) in [
        ("elsewhere", "DNS lists a server in another domain than the name's"),
        ("options", "it may have authSource, replicaSet and loadBalanced only"),
        ("none", "DNS lists no servers under `_mongodb._tcp.none.acme.test`"),
    ] {
        let refused = stage.says("ci", name, "client.admin.command('ping')").await;
        assert!(refused.contains(says), "{name}: {refused}");
    }
    assert!(far.received().is_empty(), "not even hello");

    // The connection string of a console of MongoDB, by the API.
    let url =
        format!("mongodb+srv://{USER}:{}@{CLUSTER}/app?retryWrites=true", stage.password.text);
    let new = serde_json::json!({"name": "stored", "provider": "mongodb", "fields": {"url": url}});
    stage.lab.gateway.api("POST", "/connections", &new.to_string()).await.is(201);
    let tested = stage.lab.gateway.api("POST", "/connections/stored/test", "{}").await.text();
    assert!(tested.contains("app@admin") && tested.contains("7.0.99"), "{tested}");
    let records = stage.finish().await;
    assert_eq!(records[0]["target"], format!("mongodb+srv://{CLUSTER}/test"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_primary_beside_one_listed_server_is_used_also_if_another_listed_server_names_it() {
    let password = canary::Canary::new("mongodb");
    let [one, two] = [(); 2].map(|()| Server::start(&password.text));
    let dead = reserved_address();
    // `dead` and `two` differ in the port alone.
    one.follows(&two.plain.to_string());
    let hosts = format!("host: \"{dead}\", more_hosts: \"{NAME}:{}\"", one.plain.port());
    let plan = Plan::api_key()
        .no_agents()
        .agent("ci", "main")
        .connection(&connection("main", &format!("{hosts}, sslmode: disable")))
        .secret("MONGO_SECRET", &password)
        .listen(LISTENER)
        .allow(&dead.to_string())
        .allow(&two.plain.to_string());
    let plan = reaching(plan, NAME, &[one.plain]);
    let stage = Stage::start(plan, one, password).await;
    assert_eq!(stage.says("ci", "main", INSERT).await, "{'_id': 1}");
    assert!(two.has_received("insert") && !stage.server.has_received("saslStart"));
    stage.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_a_rule_denies_is_not_asked_where_a_server_or_dns_names_it() {
    let password = canary::Canary::new("mongodb");
    let [one, two] = [(); 2].map(|()| Server::start(&password.text));
    let at = |server: &Server| format!("{NAME}:{}", server.at.port());
    one.follows(&at(&two));
    let in_dns =
        |server: &Server| format!("--srv-host=_mongodb._tcp.{CLUSTER},{NAME},{}", server.at.port());
    let dns = Dns::start(&[in_dns(&one), in_dns(&two)]);
    let (first, more) = (at(&one), at(&two));
    let plan = Plan::api_key()
        .no_agents()
        .agent("ci", "main, both, cluster")
        .agent("free", "main")
        .connection(&connection("main", &format!("host: \"{first}\"")))
        .connection(&connection("both", &format!("host: \"{first}\", more_hosts: \"{more}\"")))
        .connection(&connection("cluster", &format!("host: {CLUSTER}, seeds: srv")))
        .rule(&format!("{{ name: no-two, agents: [ci], hosts: [\"{more}\"], action: deny }}"))
        .secret("MONGO_SECRET", &password)
        .upstream(&format!("dns: [\"{}\"]", dns.at))
        .listen(LISTENER);
    let plan = reaching(plan, NAME, &[one.at, two.at]);
    let stage = Stage::start(plan, one, password).await;
    for name in ["main", "both", "cluster"] {
        let refused = stage.says("ci", name, "client.admin.command('ping')").await;
        assert!(refused.contains("rule `file:no-two` denies this"), "{name}: {refused}");
        assert!(refused.contains("code denied"), "{name}: {refused}");
    }
    // The other server that DNS lists is used.
    stage.server.is_elected();
    assert_eq!(stage.says("ci", "cluster", INSERT).await, "{'_id': 1}");
    assert!(stage.server.has_received("insert"));
    assert!(two.received().is_empty(), "not even hello");
    // A rule about another agent denies nothing.
    stage.server.follows(&at(&two));
    assert_eq!(stage.says("free", "main", INSERT).await, "{'_id': 1}");
    assert!(two.has_received("insert"));
    let records = stage.finish().await;
    let denied: Vec<_> = records.iter().filter(|record| record["code"] == "denied").collect();
    assert!(denied.len() >= 3, "{records:?}");
    for record in denied {
        assert!(record["rule"].as_str().is_some_and(|rule| rule.ends_with("no-two")), "{record}");
        assert_eq!((&record["outcome"], &record["agent"]), (&json!("refused"), &json!("ci")));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_at_a_server_that_another_one_named_ends_when_a_rule_denies_that_server() {
    let password = canary::Canary::new("mongodb");
    let [one, two] = [(); 2].map(|()| Server::start(&password.text));
    let at = |server: &Server| format!("{NAME}:{}", server.at.port());
    let named = at(&two);
    one.follows(&named);
    let plan = Plan::api_key()
        .no_agents()
        .agent("ci", "main")
        .connection(&connection("main", &format!("host: \"{}\"", at(&one))))
        .secret("MONGO_SECRET", &password)
        .listen(LISTENER);
    let plan = reaching(plan, NAME, &[one.at, two.at]);
    let stage = Stage::start(plan, one, password).await;
    let mut session = TcpStream::connect(stage.listener()).await.expect("a stream");
    let sent = [login(stage.lab.token("ci")), command("ping")].concat();
    session.write_all(&sent).await.expect("it is open");
    until("the command at the server", async || two.has_received("ping")).await;
    let deny = json!({"name": "no-two", "action": "deny", "hosts": [named]}).to_string();
    stage.lab.gateway.api("POST", "/rules", &deny).await.is(201);
    let mut answers = Vec::new();
    // A stream that is closed while bytes come may be reset.
    drop(patiently("the end of the session", session.read_to_end(&mut answers)).await);
    let records = stage.finish().await;
    assert_eq!((&records[0]["outcome"], records.len()), (&json!("ended"), 1), "{records:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_primary_a_secondary_is_read_and_an_arbiter_gets_no_login() {
    let password = canary::Canary::new("mongodb");
    let arbiter = Server::with(&password.text, &["SCRAM-SHA-256", "arbiter"]);
    let secondary = Server::start(&password.text);
    arbiter.follows("");
    secondary.follows("");
    let [first, more] = [&arbiter, &secondary].map(|it| format!("{NAME}:{}", it.at.port()));
    let plan = Plan::api_key()
        .no_agents()
        .agent("ci", "main, alone")
        .connection(&connection("main", &format!("host: \"{first}\", more_hosts: \"{more}\"")))
        .connection(&connection("alone", &format!("host: \"{first}\"")))
        .secret("MONGO_SECRET", &password)
        .listen(LISTENER);
    let plan = reaching(plan, NAME, &[arbiter.at, secondary.at]);
    let stage = Stage::start(plan, arbiter, password).await;
    assert_eq!(stage.says("ci", "main", "app.items.find_one()").await, "None");
    assert!(secondary.has_received("find"));
    let refused = stage.says("ci", "alone", "client.admin.command('ping')").await;
    assert!(refused.contains("no server of the replica set is its primary"), "{refused}");
    assert!(stage.server.received().iter().all(|it| it["name"] == "isMaster"), "no login");
    stage.finish().await;
}

/// dnsmasq, which answers for `.test` alone.
struct Dns {
    _process: OwnChild,
    at: SocketAddr,
}

impl Dns {
    fn start(records: &[String]) -> Self {
        let at = reserved_address();
        let mut command = Command::new(service("dnsmasq"));
        command.args(["--no-daemon", "--conf-file=/dev/null", "--no-resolv", "--no-hosts"]);
        command.args(["--local=/test/", "--listen-address=127.0.0.1", "--bind-interfaces"]);
        command.args(["--user=", "--pid-file=", &format!("--port={}", at.port())]).args(records);
        command.stdin(Stdio::null()).stderr(Stdio::piped());
        let mut process = command.spawn().expect("`tests/run` installs it");
        let mut said = BufReader::new(process.stderr.take().expect("it is piped"));
        let mut line = String::new();
        while !line.contains("started") {
            line.clear();
            assert!(said.read_line(&mut line).expect("it is text") > 0, "dnsmasq has ended");
        }
        // It writes little, but the pipe must stay open.
        std::thread::spawn(move || std::io::copy(&mut said, &mut std::io::sink()));
        Self { _process: OwnChild::from(process), at }
    }
}

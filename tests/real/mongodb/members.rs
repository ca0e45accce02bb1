//! Replica sets: several hosts in a connection, and servers that DNS lists. The DNS server is dnsmasq.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Command, Stdio};

use super::LISTENER;
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

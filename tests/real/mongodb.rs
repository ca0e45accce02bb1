//! PyMongo, the driver of Node and mongosh at a test server, through a listener for databases. The server is no MongoDB, which
//! cannot be installed from the registries that `tests/run` uses: `programs/mongodb/server.py` says what it is.

mod clients;
mod members;
mod raw;
mod server;
mod stage;

use std::process::{Command, Stdio};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use self::raw::{command, login};
use self::server::{FAR, NAME, SECOND, Server, USER, program};
use self::stage::Stage;
use crate::stage::{ca, installed, run, said};
use test_support::install::{Install, TOKEN_CI};
use test_support::*;

const LISTENER: &str = "databases: [{ at: \"127.0.0.1:0\", protocol: mongodb }]";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_uses_a_database_with_its_token_and_never_has_the_password() {
    let stage = Stage::new().await;
    let seen = "client.admin.command('connectionStatus')['authInfo']['authenticatedUsers']";
    assert_eq!(stage.says("ci", "main", seen).await, "[{'user': 'app', 'db': 'admin'}]");
    assert_eq!(stage.says("ci", "plain", seen).await, "[{'user': 'app', 'db': 'admin'}]");
    let insert = "app.items.insert_one({'_id': 1}) and app.items.find_one()";
    assert_eq!(stage.says("ci", "main", insert).await, "{'_id': 1}");
    // No login but Keyward's own, and no command before it.
    let received = stage.server.received();
    for command in &received {
        let is_early = ["isMaster", "saslStart", "saslContinue"]
            .contains(&command["name"].as_str().expect("text"));
        assert_eq!(command["user"] == USER, !is_early, "{command}");
    }
    let logins = received.iter().filter(|command| command["name"] == "saslStart").count();
    let port = stage.server.at.port();
    let records = stage.finish().await;
    assert_eq!(records.len(), logins, "one record for each session");
    assert_eq!(records[0]["target"], format!("mongodb://{NAME}:{port}/app"));
    assert_eq!([&records[0]["agent"], &records[0]["connection"]], ["ci", "main"]);
    assert_eq!([&records[0]["database_role"], &records[0]["outcome"]], ["app", "completed"]);
    assert!(records.iter().all(|record| record["outcome"] == "completed"), "{records:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pymongo_shows_the_message_of_each_refusal() {
    let mut stage = Stage::new().await;
    stage.lab.add_agent("former").await;
    let revoked = stage.lab.token("former").to_owned();
    let removed = stage.lab.gateway.api("DELETE", "/agents/former", "").await;
    assert!(removed.head.status() < 300, "{}", removed.text());
    let token = |agent: &str| stage.lab.token(agent).to_owned();
    for (token, user, says) in [
        ("kwa_wrong".to_owned(), "main", "give the agent's token (kwa_…) as the password"),
        (revoked, "main", "keyward: the password is no valid token of an agent"),
        (token("ci"), "prod", "name one as the user: main, plain"),
        (token("ci"), "default", "the agent has several connections to databases"),
        (token("ci"), "reports", "keyward: the user is none of the agent's connections"),
        (token("reader"), "main", "keyward: the user is none of the agent's connections"),
        (token("stranger"), "main", "this agent has no connection to a database"),
    ] {
        let url = stage.url(&token, user);
        let refused = said(&run(stage.python(&url, "client.admin.command('ping')")).await);
        assert!(
            refused.starts_with("OperationFailure: ") && refused.contains(says),
            "{user}: {refused}"
        );
    }
    // One connection is used without its name.
    let ping = "client.admin.command('ping')['ok']";
    assert_eq!(stage.says("reader", "default", ping).await, "1.0");
    let url = format!("mongodb://{}/?loadBalanced=true", stage.listener());
    let refused = said(&run(stage.python(&url, ping)).await);
    assert!(refused.contains("keyward: the command needs a login"), "{refused}");
    let refused = |text: &str| stage.server.received().iter().all(|it| it["name"] != text);
    assert!(refused("getnonce"));
    let records = stage.finish().await;
    let codes: Vec<_> = records.iter().filter_map(|record| record["code"].as_str()).collect();
    assert_eq!(
        codes[..3],
        ["agent_unauthenticated", "agent_unauthenticated", "connection_missing"]
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revocation_ends_an_open_session_at_once() {
    let client = |stage: &Stage, token: &str, _number: usize| {
        // Otherwise the driver tries again, with a session that is refused.
        let url = stage.url(token, "main") + "&retryReads=false";
        stage.python(&url, "app.items.find_one({'$where': 'sleep(600000)'})")
    };
    let is_open = |server: &Server, number: usize| {
        server.received().iter().filter(|command| command["name"] == "find").count() == number
    };
    let stage = Stage::new().await;
    stage.ends_sessions_when_revoked(client, is_open, "AutoReconnect: ").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_without_a_scram_proof_or_a_valid_certificate_is_not_used() {
    let password = canary::Canary::new("mongodb");
    let server = Server::with(&password.text, &["SCRAM-SHA-256", "unproved"]);
    let stage = Stage::before(server, password, LISTENER).await;
    let refused = stage.says("ci", "main", "app.items.insert_one({'_id': 1})").await;
    assert!(refused.contains("the server does not prove that it knows the password"), "{refused}");
    let received = stage.server.received();
    assert!(received.iter().all(|command| command["name"] != "insert"), "{received:?}");
    let records = stage.finish().await;
    assert_eq!(records[0]["code"], "upstream_tls");

    // Its certificate is for another name.
    let password = canary::Canary::new("mongodb");
    let server = Server::start(&password.text);
    let plan = Plan::api_key()
        .no_agents()
        .agent("ci", "main")
        .connection(&format!(
            "{{ name: main, provider: mongodb, variables: {{ host: \"wrong.acme.test:{}\" }}, \
             fields: {{ username: {USER}, password: {{ env: MONGO_SECRET }} }} }}",
            server.at.port()
        ))
        .secret("MONGO_SECRET", &password)
        .listen(LISTENER)
        .resolve(&format!("wrong.acme.test: \"{}\"", server.at))
        .allow(&server.at.to_string());
    let stage = Stage::start(plan, server, password).await;
    let refused = stage.says("ci", "main", "client.admin.command('ping')").await;
    assert!(refused.contains("OperationFailure: keyward: "), "{refused}");
    assert!(stage.server.received().is_empty(), "not even hello");
    let records = stage.finish().await;
    assert_eq!(records[0]["code"], "upstream_tls");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_login_goes_on_to_a_primary_in_the_same_domain_only() {
    let password = canary::Canary::new("mongodb");
    let primary = Server::start(&password.text);
    let seed = |host: &str| {
        let server = Server::start(&password.text);
        server.follows(&format!("{host}:{}", primary.at.port()));
        server
    };
    let (near, far) = (seed(SECOND), seed("second.evil.test"));
    let connection = |name: &str, host: &str, server: &Server| {
        format!(
            "{{ name: {name}, provider: mongodb, variables: {{ host: \"{host}:{}\" }}, \
             fields: {{ username: {USER}, password: {{ env: MONGO_SECRET }} }} }}",
            server.at.port()
        )
    };
    let plan = Plan::api_key()
        .no_agents()
        .agent("ci", "near, far")
        .connection(&connection("near", NAME, &near))
        .connection(&connection("far", FAR, &far))
        .secret("MONGO_SECRET", &password)
        .listen(LISTENER)
        .resolve(&format!("{NAME}: \"{}\"", near.at))
        .resolve(&format!("{SECOND}: \"{}\"", primary.at))
        .resolve(&format!("{FAR}: \"{}\"", far.at))
        .resolve(&format!("second.evil.test: \"{}\"", primary.at))
        .allow(&near.at.to_string())
        .allow(&far.at.to_string())
        .allow(&primary.at.to_string());
    let stage = Stage::start(plan, primary, password.clone()).await;
    let insert = "app.items.insert_one({'_id': 1}) and app.items.find_one()";
    assert_eq!(stage.says("ci", "near", insert).await, "{'_id': 1}");
    assert!(stage.server.has_received("insert"));
    let login_at = |server: &Server| server.has_received("saslStart");
    assert!(near.has_received("isMaster") && !login_at(&near), "the seed gets no login");
    let before = stage.server.received().len();
    let refused = stage.says("ci", "far", "client.admin.command('ping')").await;
    assert!(
        refused.contains("the primary of its replica set, which is in another domain"),
        "{refused}"
    );
    assert_eq!(stage.server.received().len(), before, "{refused}");
    assert!(!login_at(&far));
    stage.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_user_of_an_old_server_logs_in_by_sha_1() {
    let password = canary::Canary::new("mongodb");
    let server = Server::with(&password.text, &["SCRAM-SHA-1"]);
    let stage = Stage::before(server, password, LISTENER).await;
    let ping = "client.admin.command('ping')['ok']";
    assert_eq!(stage.says("ci", "main", ping).await, "1.0");
    assert_eq!(stage.says("ci", "plain", ping).await, "1.0");
    stage.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_read_only_session_changes_nothing() {
    let stage = Stage::new().await;
    stage.says("ci", "main", "app.items.insert_one({'_id': 1})").await;
    let read = "[app.items.count_documents({}), app.items.find_one(), app.items.aggregate([{'$match': {}}]).to_list()]";
    assert_eq!(stage.says("reader", "reports", read).await, "[1, {'_id': 1}, [{'_id': 1}]]");
    let before = stage.server.received().len();
    let mut command = stage.command(installed("real-venv/bin/python"));
    command.arg(program("ways_out.py")).arg(program("ways_out.txt"));
    command.env("MONGODB_URI", stage.url(stage.lab.token("reader"), "reports"));
    let text = said(&run(command).await);
    let ways = include_str!("mongodb/../programs/mongodb/ways_out.txt");
    let count = ways.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).count();
    assert_eq!(text.trim_end(), format!("refused {count} of {count}"));
    let received = stage.server.received();
    let names: Vec<_> =
        received[before..].iter().map(|it| it["name"].as_str().expect("text")).collect();
    let harmless = ["isMaster", "saslStart", "saslContinue", "ping", "endSessions"];
    assert!(names.iter().all(|name| harmless.contains(name)), "{names:?}");
    stage.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_malformed_message_ends_the_session_and_no_command_before_a_login_is_forwarded() {
    let stage = Stage::new().await;
    let exchanged = async |bytes: Vec<u8>| {
        let mut raw = TcpStream::connect(stage.listener()).await.expect("a stream");
        raw.write_all(&bytes).await.expect("it is open");
        raw.shutdown().await.expect("it is open");
        let mut answers = Vec::new();
        // A stream that is closed while bytes come may be reset.
        drop(patiently("the answers", raw.read_to_end(&mut answers)).await);
        String::from_utf8_lossy(&answers).into_owned()
    };
    let answered = exchanged([command("drop"), command("insert")].concat()).await;
    assert_eq!(answered.matches("the command needs a login").count(), 2, "{answered}");
    // What follows a refused login is not read.
    let answered = exchanged([login("kwa_wrong"), command("drop")].concat()).await;
    assert_eq!(answered.matches("AuthenticationFailed").count(), 1, "{answered}");
    let valid = login(stage.lab.token("ci"));
    for malformed in [
        b"\x0f\0\0\0\x01\0\0\0\0\0\0\0\xdd\x07\0\0".to_vec(),
        b"\xff\xff\xff\x7f\x01\0\0\0\0\0\0\0\xdd\x07\0\0".to_vec(),
        // OP_INSERT, OP_COMPRESSED.
        b"\x40\0\0\0\x01\0\0\0\0\0\0\0\xd2\x07\0\0".to_vec(),
        b"\x40\0\0\0\x01\0\0\0\0\0\0\0\xdc\x07\0\0".to_vec(),
        [&command("drop")[..20], &[1], &command("drop")[21..]].concat(),
    ] {
        let answered = exchanged([&valid[..], &malformed, &command("drop")].concat()).await;
        assert!(answered.contains("conversationId") && !answered.contains("errmsg"), "{answered}");
    }
    assert!(!stage.server.has_received("drop"));
    let records = stage.finish().await;
    let bad = records.iter().filter(|record| record["code"] == "bad_request").count();
    assert_eq!(bad, 5, "{records:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pymongo_verifies_the_listener_by_the_local_ca_and_a_socket_needs_no_token() {
    let password = canary::Canary::new("mongodb");
    let server = Server::start(&password.text);
    let listeners = "databases: [{ at: \"127.0.0.1:0\", protocol: mongodb, tls: {} }, \
         { at: \"unix:mongo.sock\", protocol: mongodb, agent: ci, connection: main }]";
    let stage = Stage::before(server, password, listeners).await;
    let (ping, ca) = ("client.admin.command('ping')['ok']", ca(&stage.lab));
    let plain = stage.url(stage.lab.token("ci"), "main");
    let url = format!("{plain}&tls=true&tlsCAFile={}", ca.display());
    assert_eq!(said(&run(stage.python(&url, ping)).await).trim_end(), "1.0");
    assert_eq!(stage.says("ci", "main", ping).await, "1.0", "without TLS on this machine");
    let socket = stage.lab.gateway.data().join("mongo.sock");
    let socket = socket.to_str().expect("text").replace('/', "%2F");
    let url = format!("mongodb://{socket}/?loadBalanced=true");
    let insert = "app.items.insert_one({'_id': 1}) and app.items.find_one()";
    assert_eq!(said(&run(stage.python(&url, insert)).await).trim_end(), "{'_id': 1}");
    stage.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_program_under_run_finds_its_database_and_a_url_becomes_a_connection() {
    let plan = Plan::api_key().no_agents().agent("ci", "main");
    let server = Server::start(&plan.canary().text);
    let plan = plan
        .connection(&format!(
            "{{ name: main, provider: mongodb, variables: {{ host: \"{NAME}:{}\", database: app }}, \
             fields: {{ username: {USER}, password: {{ env: CANARY }} }} }}",
            server.at.port()
        ))
        .resolve(&format!("{NAME}: \"{}\"", server.at))
        .allow(&server.at.to_string())
        .allow(&server.plain.to_string());
    let canary = plan.canary().clone();
    let origin = Origin::answering(|_| ok("fine"));
    let install = Install::new(&plan, &origin);
    let python = installed("real-venv/bin/python");
    let (python, ask) = (python.to_str().expect("text"), program("ask.py"));
    let script = "app.items.insert_one({'_id': 'by-run'}) and client.get_default_database().name";
    let ask = ask.to_str().expect("text");
    let command = install.keyward(&["run", "--quiet", "--agent", "ci", "--", python, ask, script]);
    let output = run(command).await;
    assert!(said(&output).contains("app\n"), "{}", said(&output));
    assert!(!said(&output).contains(TOKEN_CI), "the run has a token of its own");
    canary.assert_absent("what the program said", said(&output).as_bytes());
    assert!(server.has_received("insert"));
    let _gateway = install.serve();
    let tested = said(&run(install.keyward(&["connection", "test", "main"])).await);
    assert!(tested.contains("MongoDB 7.0.99") && tested.contains("app@admin"), "{tested}");
    let add = [
        "connection",
        "add",
        "mongodb",
        "--name",
        "stored",
        "--secret-env",
        "url=THE_URL",
        "--read-only",
    ];
    let mut command: Command = install.keyward(&add);
    let url = |password: &str| {
        format!("mongodb://{USER}:{password}@{}/app?authSource=admin", server.plain)
    };
    command.env("THE_URL", url(&canary.text)).stdin(Stdio::null());
    let added = said(&run(command).await);
    canary.assert_absent("what the command said", added.as_bytes());
    let shown = said(&run(install.keyward(&["connection", "show", "stored"])).await);
    assert!(shown.contains(&format!("mongodb://{}/app", server.plain)), "{added}\n{shown}");
    let wrong = ["connection", "add", "mongodb", "--name", "wrong", "--secret-env", "url=THE_URL"];
    let mut command = install.keyward(&wrong);
    command.env("THE_URL", url("not-it")).stdin(Stdio::null());
    let refused = said(&run(command).await);
    assert!(refused.contains("Authentication failed"), "{refused}");
    drop(server);
}

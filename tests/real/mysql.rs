//! The client of MariaDB, PyMySQL and mysql2 at a real MariaDB server, through a listener for databases.

mod clients;
mod large;
mod oracle;
mod rules;
pub(crate) mod server;
mod stage;

use self::server::{NAME, Server};
use self::stage::Stage;
use crate::stage::{ca, run, said, succeeded};
use test_support::install::{Install, TOKEN_CI};
use test_support::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_uses_a_database_with_its_token_and_never_has_the_password() {
    let stage = Stage::new().await;
    let who = "SELECT CURRENT_USER(), DATABASE(), IFNULL((SELECT VARIABLE_VALUE <> '' FROM information_schema.SESSION_STATUS \
               WHERE VARIABLE_NAME = 'Ssl_cipher'), 0)";
    assert_eq!(stage.served("ci", "main", who).await, "app@%\tapp\t1");
    assert_eq!(stage.served("ci", "plain", who).await, "app@%\tapp\t0");
    let prepared = "PREPARE p FROM 'SELECT ? + 1'; SET @n = 41; EXECUTE p USING @n";
    assert_eq!(stage.served("ci", "main", prepared).await, "42");
    let big = "SELECT REPEAT('x', 1000000) FROM seq_1_to_50";
    assert_eq!(stage.served("ci", "main", big).await.len(), 50 * 1_000_000 + 49);
    // The database of the server is a name too, when it is only one connection's.
    assert_eq!(stage.served("one", "app", "SELECT COUNT(*) FROM t").await, "1");
    let port = stage.server.at.port();
    let records = stage.finish().await;
    assert_eq!(records.len(), 5);
    assert_eq!(records[0]["target"], format!("mysql://{NAME}:{port}/app"));
    assert_eq!([&records[0]["agent"], &records[0]["connection"]], ["ci", "main"]);
    assert_eq!([&records[0]["database_role"], &records[0]["outcome"]], ["app", "completed"]);
    assert!(records[3]["bytes_out"].as_u64() > Some(50_000_000), "{}", records[3]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_client_shows_the_message_of_each_refusal() {
    let mut stage = Stage::new().await;
    stage.lab.add_agent("former").await;
    let revoked = stage.lab.token("former").to_owned();
    let removed = stage.lab.gateway.api("DELETE", "/agents/former", "").await;
    assert!(removed.head.status() < 300, "{}", removed.text());
    let token = |agent: &str| stage.lab.token(agent).to_owned();
    for (token, database, says) in [
        (
            "kwa_wrong".to_owned(),
            "main",
            "ERROR 1045 (28000): keyward: the password is no valid token of an agent",
        ),
        (revoked, "main", "give the agent's token (kwa_…) as the password"),
        (String::new(), "main", "no password was sent"),
        (token("ci"), "prod", "name one as the database: main, plain"),
        (token("one"), "prod", "name one as the database: main"),
        (token("ci"), "anybody", "the agent has several connections to databases"),
        (token("stranger"), "main", "this agent has no connection to a database"),
    ] {
        let mut command = stage.client(&token, database);
        command.args(["-e", "SELECT 'served'"]);
        let output = run(command).await;
        let refused = said(&output);
        assert!(!output.status.success() && refused.contains(says), "{database}: {refused}");
        assert!(!refused.contains("served"), "{refused}");
    }
    assert_eq!(
        stage.server.sql("SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE USER = 'app'"),
        "0"
    );
    let Stage { lab, server, .. } = stage;
    let (at, token) =
        (lab.gateway.running().database_addrs()[0].at.tcp().expect("TCP"), lab.token("one"));
    drop(server);
    let mut command = std::process::Command::new("mariadb");
    command.env("MYSQL_PWD", token).args(["--no-defaults", "-h", "127.0.0.1", "-u", "x"]);
    command.args(["-P", &at.port().to_string(), "-e", "SELECT 1"]);
    let refused = said(&run(command).await);
    assert!(refused.contains("code upstream_unreachable"), "{refused}");
    let records = lab.finish().await;
    let codes: Vec<_> = records.iter().filter_map(|record| record["code"].as_str()).collect();
    assert_eq!(codes[..3], ["agent_unauthenticated", "agent_unauthenticated", "bad_request"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revocation_ends_an_open_session_at_once() {
    let client = |stage: &Stage, token: &str, number: usize| {
        let mut client = stage.client(token, "main");
        client.args(["-e", &format!("SELECT SLEEP(600 + {number})")]);
        client
    };
    let is_open = |server: &Server, number: usize| {
        let sleeping = format!(
            "SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE USER = 'app' AND INFO LIKE '%SLEEP(600 + {number})%'"
        );
        server.sql(&sleeping) == "1"
    };
    let stage = Stage::new().await;
    stage.ends_sessions_when_revoked(client, is_open, "Lost connection to server").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revocation_ends_what_a_session_runs_at_the_server() {
    let stage = Stage::new().await;
    let running = async |number: &str| {
        // Unlike SLEEP, a BENCHMARK does not see that its client has gone.
        let question = "SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE INFO LIKE 'SELECT BENCHMARK%'";
        stage.server.sql(question) == number
    };
    let mut clients = Vec::new();
    for connection in ["main", "plain"] {
        let mut client = stage.client(stage.lab.token("ci"), connection);
        client.args(["-e", "SELECT BENCHMARK(1000000000000, SHA2('x', 512))"]);
        clients.push(tokio::spawn(run(client)));
    }
    until("two statements at the server", async || running("2").await).await;
    let paused = stage.lab.gateway.api("POST", "/agents/ci/pause", "{}").await;
    assert!(paused.head.status() < 300, "{}", paused.text());
    for client in clients {
        let ended = patiently("the end of the client", client).await.expect("no panic");
        assert!(said(&ended).contains("Lost connection to server"), "{}", said(&ended));
    }
    until("the end of both statements", async || running("0").await).await;
    stage.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_user_of_mariadb_with_ed25519_logs_in_without_tls() {
    let stage = Stage::new().await;
    stage.server.sql("INSTALL SONAME 'auth_ed25519'");
    let user = format!(
        "CREATE USER signer@'%' IDENTIFIED VIA ed25519 USING PASSWORD('{}'); GRANT ALL ON app.* TO signer@'%'",
        stage.password.text
    );
    stage.server.sql(&user);
    let who = "SELECT CONCAT(CURRENT_USER(), ' sees ', COUNT(*)) FROM t";
    assert_eq!(stage.served("signer", "signer", who).await, "signer@% sees 1");
    stage.server.sql("SET PASSWORD FOR signer@'%' = PASSWORD('another')");
    let refused = said(&stage.sql("signer", "signer", who).await);
    assert!(refused.contains("Access denied"), "{refused}");
    stage.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_statement_makes_a_read_only_session_write() {
    let stage = Stage::new().await;
    stage.server.sql(
        "EXECUTE IMMEDIATE 'CREATE FUNCTION app.write_one() RETURNS INT MODIFIES SQL DATA \
         BEGIN INSERT INTO app.t VALUES (5); RETURN 1; END'",
    );
    let text = stage.has_no_way_out().await;
    assert_eq!(stage.server.sql("SELECT COUNT(*) FROM app.t"), "1", "{text}");
    let dumped = "SELECT a FROM t; SHOW TABLES; DESCRIBE t; EXPLAIN SELECT * FROM t";
    stage.served("reader", "reports", dumped).await;
    stage.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_character_set_changed_by_the_server_is_refused_where_statements_are_checked() {
    let stage = Stage::new().await;
    stage.server.sql("SET GLOBAL init_connect = 'SET NAMES gbk'");
    for (agent, database) in [("reader", "reports"), ("ruled", "ruled")] {
        let refused = said(&stage.sql(agent, database, "SELECT 'served'").await);
        assert!(refused.contains("another character set"), "{agent}: {refused}");
        assert!(!refused.contains("served"), "{agent}: {refused}");
    }
    stage.served("ci", "main", "SELECT 1").await;
    stage.server.sql("SET GLOBAL init_connect = ''");
    stage.served("reader", "reports", "SELECT 1").await;
    stage.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_client_verifies_the_listener_by_the_local_ca() {
    let stage =
        Stage::listening("databases: [{ at: \"127.0.0.1:0\", protocol: mysql, tls: {} }]").await;
    let asks = "SHOW STATUS LIKE 'Ssl_cipher'";
    let mut command = stage.client(stage.lab.token("ci"), "main");
    command.arg("--ssl-verify-server-cert").arg("--ssl-ca").arg(ca(&stage.lab));
    command.args(["-e", asks]);
    let output = run(command).await;
    assert!(output.status.success() && said(&output).contains("TLS_"), "{}", said(&output));
    stage.served("ci", "main", "SELECT 1").await;
    // Without TLS, a client that insists on it ends.
    let plain = Stage::new().await;
    let mut command = plain.client(plain.lab.token("ci"), "main");
    command.arg("--ssl-verify-server-cert").arg("--ssl-ca").arg(ca(&plain.lab));
    command.args(["-e", asks]);
    let refused = said(&run(command).await);
    assert!(refused.contains("SSL is required"), "{refused}");
    plain.finish().await;
    stage.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agents_own_socket_needs_no_token() {
    let own =
        "databases: [{ at: \"unix:mysql.sock\", protocol: mysql, agent: ci, connection: main }]";
    let stage = Stage::listening(own).await;
    for password in ["", "anything"] {
        let mut command = std::process::Command::new("mariadb");
        command.env("MYSQL_PWD", password).args(["--no-defaults", "-BN", "-u", "x", "-S"]);
        command.arg(stage.lab.gateway.data().join("mysql.sock"));
        command.args(["-e", "SELECT CONCAT(CURRENT_USER(), ' at ', DATABASE())"]);
        let output = run(command).await;
        assert!(said(&output).contains("app@% at app"), "{password}: {}", said(&output));
    }
    stage.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_program_under_run_finds_its_database_and_a_url_becomes_a_connection() {
    let plan = Plan::api_key().no_agents().agent("ci", "main");
    let server = Server::start(&plan.canary().text);
    let plan = plan
        .connection(&format!(
            "{{ name: main, provider: mysql, variables: {{ host: \"{NAME}:{}\", database: app }}, \
             fields: {{ username: app, password: {{ env: CANARY }} }} }}",
            server.at.port()
        ))
        .resolve(&format!("{NAME}: \"{}\"", server.at))
        .allow(&server.at.to_string());
    let canary = plan.canary().clone();
    let origin = Origin::answering(|_| ok("fine"));
    let install = Install::new(&plan, &origin);
    let script = "mariadb --no-defaults -BNe 'SELECT CURRENT_USER(), DATABASE()'; echo \"$DATABASE_URL\" | sed 's/:[^:]*@.*:/:TOKEN@:/'";
    let command = install.keyward(&["run", "--quiet", "--agent", "ci", "--", "sh", "-c", script]);
    let output = run(command).await;
    let text = said(&output);
    assert!(text.contains("app@%\tapp") && text.contains("mysql://main:"), "{text}");
    assert!(text.contains("/app"), "the database has its own name: {text}");
    assert!(!text.contains(TOKEN_CI), "the run has a token of its own");
    canary.assert_absent("what the program said", text.as_bytes());
    let _gateway = install.serve();
    let tested = said(&run(install.keyward(&["connection", "test", "main"])).await);
    assert!(tested.contains("MySQL 10.") && tested.contains("app@%"), "{tested}");
    let add = ["connection", "add", "mysql", "--name", "stored", "--secret-env", "url=THE_URL"];
    let url = |password: &str| format!("mysql://app:{password}@{NAME}:{}/app", server.at.port());
    let mut command = install.keyward(&add);
    command.env("THE_URL", url(&canary.text));
    let added = said(&run(command).await);
    canary.assert_absent("what the command said", added.as_bytes());
    let shown = said(&run(install.keyward(&["connection", "show", "stored"])).await);
    assert!(
        shown.contains(&format!("mysql://{NAME}:{}/app", server.at.port())),
        "{added}\n{shown}"
    );
    let mut command = install.keyward(&[
        "connection",
        "add",
        "mysql",
        "--name",
        "wrong",
        "--secret-env",
        "url=THE_URL",
    ]);
    command.env("THE_URL", url("not-it"));
    let refused = said(&run(command).await);
    assert!(refused.contains("Access denied"), "{refused}");
    let refused =
        said(&run(install.keyward(&["connection", "set", "stored", "--role", "x"])).await);
    assert!(refused.contains("no effect"), "{refused}");
    succeeded(install.keyward(&["connection", "set", "stored", "--read-only"])).await;
    let tested = said(&run(install.keyward(&["connection", "test", "stored"])).await);
    assert!(tested.contains("sessions are read-only"), "{tested}");
    drop(server);
}

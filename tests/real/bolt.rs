//! The drivers of Neo4j for Python and Node at a test server, through a listener for databases. The server is no Neo4j, which
//! cannot be installed from the registries that `tests/run` uses: `programs/bolt/server.py` says what it is.

mod server;
mod stage;

use std::process::Stdio;

use self::server::{ALL, NAME, Server, USER, program};
use self::stage::Stage;
use crate::database_stage::Driver;
use crate::stage::{installed, run, said};
use test_support::install::{Install, TOKEN_CI};
use test_support::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_uses_a_graph_with_its_token_and_never_has_the_password() {
    let stage = Stage::new().await;
    for (user, uri) in [("main", "bolt://"), ("plain", "bolt://"), ("main", "neo4j://")] {
        let uri = stage.uri().replace("bolt://", uri);
        let command = stage.python(&uri, user, stage.lab.token("ci"), "ask('RETURN 1 AS x')");
        assert_eq!(said(&run(command).await).trim_end(), "1", "{user} {uri}");
    }
    // No login but Keyward's own, and no message before it.
    let received = stage.server.received();
    for message in &received {
        let is_early = ["HELLO", "LOGON"].contains(&message["name"].as_str().expect("text"));
        assert_eq!(message["user"] == USER, !is_early, "{message}");
        let agent = message["extra"]["user_agent"].as_str();
        assert!(
            agent.is_none_or(|agent| agent.starts_with("keyward/ci neo4j-python/")),
            "{message}"
        );
    }
    let logins = received.iter().filter(|message| message["name"] == "LOGON").count();
    let port = stage.server.at.port();
    let records = stage.finish().await;
    assert_eq!(records.len(), logins, "one record for each session");
    assert_eq!(records[0]["target"], format!("bolt://{NAME}:{port}/~"));
    assert_eq!([&records[0]["agent"], &records[0]["connection"]], ["ci", "main"]);
    assert_eq!([&records[0]["database_role"], &records[0]["outcome"]], ["app", "completed"]);
}

/// Runs the program with a valid token; it then tries a wrong one.
async fn serve(versions: &str, interpreter: &str, script: &str, driver: &str, says: &[&str]) {
    let stage = Stage::of_versions(versions, "").await;
    let variables = [
        ("NEO4J_URI", stage.uri()),
        ("NEO4J_USERNAME", "main".to_owned()),
        ("NEO4J_PASSWORD", stage.lab.token("ci").to_owned()),
        ("DRIVER", driver.to_owned()),
    ];
    let variables = &variables;
    assert!(stage.serves(&Driver { interpreter, script, variables, says }).await >= 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_driver_of_python_uses_a_graph() {
    let says = ["versions: (5, 8) (5, 8)"];
    serve(ALL, "real-venv/bin/python", "bolt/session.py", "", &says).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_login_within_a_session_is_refused_and_the_same_one_is_not_sent_on() {
    let stage = Stage::new().await;
    let ask = |token: &str| {
        format!(
            "driver.verify_connectivity() or \
             driver.session(auth=('main', '{token}')).run('RETURN 1 AS x').single()[0]"
        )
    };
    let other = stage.says("ci", "main", &ask("kwa_other")).await;
    assert!(other.contains("Neo.ClientError.Security.Unauthorized"), "{other}");
    let same = stage.says("ci", "main", &ask(stage.lab.token("ci"))).await;
    assert_eq!(same, "1");
    let received = stage.server.received();
    assert!(received.iter().all(|message| message["name"] != "LOGOFF"), "{received:?}");
    stage.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_drivers_of_node_use_a_graph() {
    let node = "real-node/node_modules/node24/bin/node";
    for driver in ["neo4j-driver", "neo4j-driver-5"] {
        serve(ALL, node, "bolt/session.mjs", driver, &[]).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_has_the_version_of_an_older_server_from_the_second_one_on() {
    for (versions, expected) in [("4.4", "(4, 4)"), ("0-0", "(5, 0)"), ("0-4", "(5, 4)")] {
        let stage = Stage::of_versions(versions, "").await;
        let asked = "tuple(driver.get_server_info().protocol_version)";
        let first = stage.says("ci", "main", asked).await;
        assert!(first.contains("which new sessions are offered from now on"), "{first}");
        assert_eq!(stage.says("ci", "main", asked).await, expected);
        assert_eq!(stage.says("ci", "main", "ask('RETURN 1 AS x')").await, "1");
        stage.finish().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_driver_shows_the_message_of_each_refusal() {
    let stage = Stage::new().await;
    for (agent, user, says) in [
        ("ci", "prod", "name one as the user: main, plain"),
        ("ci", "default", "the agent has several connections to databases"),
        ("ci", "reports", "keyward: the user is none of the agent's connections"),
        ("reader", "main", "keyward: the user is none of the agent's connections"),
        ("stranger", "main", "this agent has no connection to a database"),
    ] {
        let refused = stage.says(agent, user, "ask('RETURN 1 AS x')").await;
        assert!(refused.contains(says), "{agent} {user}: {refused}");
    }
    // One connection is used without its name.
    assert_eq!(stage.says("reader", "", "ask('RETURN 1 AS x')").await, "1");
    stage.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_read_only_session_keeps_its_mode_and_calls_what_is_listed() {
    let stage = Stage::new().await;
    let says = async |script: &str| stage.says("reader", "reports", script).await;
    let write = "driver.execute_query('CREATE (n)')";
    // The server would run it in the mode that the driver asks for.
    let refused = says(write).await;
    assert!(
        refused.contains("keyward: the connection is read-only, and CREATE writes"),
        "{refused}"
    );
    for script in [
        "ask('CALL dbms.killQuery(1)')",
        "ask('RETURN apoc.load.json($x) AS x')",
        "driver.session().begin_transaction().run('LOAD CSV FROM \"file:///x\" AS x RETURN x')",
    ] {
        let refused = says(script).await;
        assert!(refused.contains("Neo.ClientError.Security.Forbidden"), "{script}: {refused}");
    }
    assert_eq!(says("ask('RETURN 1 AS x')").await, "1");
    let received = stage.server.received();
    let runs: Vec<_> = received.iter().filter(|message| message["name"] == "RUN").collect();
    assert!(!runs.is_empty());
    for message in runs {
        assert_eq!(message["extra"]["mode"], "r", "{message}");
        assert_eq!(message["extra"]["db"], "movies", "{message}");
        assert_eq!(message["statement"], "RETURN 1 AS x", "{message}");
    }
    stage.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn statements_are_recorded_without_their_literals() {
    let stage = Stage::of_versions(ALL, ", settings: { audit_statements: true }").await;
    assert_eq!(
        stage.says("ci", "main", "ask(\"RETURN 'canary-literal'\")").await,
        "canary-literal"
    );
    stage.says("ci", "main", "ask('SHOW USERS')").await;
    let records = stage.finish().await;
    let statements: Vec<_> = records.iter().filter_map(|it| it["statement"].as_str()).collect();
    assert_eq!(statements, ["return ?", "show users"]);
    let refused = records.iter().find(|record| record["statement"] == "show users");
    assert_eq!(refused.expect("a record")["code"], "denied");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revocation_ends_an_open_session_at_once() {
    let client = |stage: &Stage, token: &str, _number: usize| {
        stage.python(&stage.uri(), "main", token, "ask('RETURN wait')")
    };
    let is_open = |server: &Server, number: usize| server.count("RETURN wait") == number;
    let stage = Stage::new().await;
    let words = "Neo.ClientError.Security.AuthorizationExpired";
    stage.ends_sessions_when_revoked(client, is_open, words).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_program_under_run_finds_its_graph_and_a_url_becomes_a_connection() {
    let plan = Plan::api_key().no_agents().agent("ci", "main");
    let server = Server::start(&plan.canary().text, ALL);
    let plan = plan
        .connection(&format!(
            "{{ name: main, provider: neo4j-bolt, variables: {{ host: \"{NAME}:{}\" }}, \
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
    let ask = ask.to_str().expect("text");
    let script = "ask('RETURN 1 AS x')";
    let command = install.keyward(&["run", "--quiet", "--agent", "ci", "--", python, ask, script]);
    let output = run(command).await;
    assert!(said(&output).contains("1\n"), "{}", said(&output));
    assert!(!said(&output).contains(TOKEN_CI), "the run has a token of its own");
    canary.assert_absent("what the program said", said(&output).as_bytes());
    let _gateway = install.serve();
    let tested = said(&run(install.keyward(&["connection", "test", "main"])).await);
    assert!(tested.contains("Neo4j 5.26.1 (enterprise)") && tested.contains("app"), "{tested}");
    let add = "connection add neo4j-bolt --name stored --secret-env url=THE_URL --read-only";
    let mut command = install.keyward(&add.split(' ').collect::<Vec<_>>());
    let url = |password: &str| format!("neo4j://{USER}:{password}@{}", server.plain);
    command.env("THE_URL", url(&canary.text)).stdin(Stdio::null());
    let added = said(&run(command).await);
    canary.assert_absent("what the command said", added.as_bytes());
    let shown = said(&run(install.keyward(&["connection", "show", "stored"])).await);
    assert!(shown.contains(&format!("bolt://{}/~", server.plain)), "{added}\n{shown}");
    let wrong = "connection add neo4j-bolt --name wrong --secret-env url=THE_URL";
    let mut command = install.keyward(&wrong.split(' ').collect::<Vec<_>>());
    command.env("THE_URL", url("not-it")).stdin(Stdio::null());
    let refused = said(&run(command).await);
    assert!(refused.contains("unauthorized due to authentication failure"), "{refused}");
    drop(server);
}

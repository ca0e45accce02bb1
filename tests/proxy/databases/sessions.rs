//! What holds for every session: passwords of the server stay, a stop ends what is idle, TLS ends with a close_notify; and what
//! the test of a connection shows.

use super::Databases;
use super::client::Client;
use super::server::{Behaviour, message};
use test_support::wire::find;
use test_support::*;

#[tokio::test]
async fn a_server_that_refuses_the_settings_of_a_session_is_named_with_the_remedy() {
    let databases = Databases::planned(Behaviour::RefusesParameters, Databases::one).await;
    let refused = databases.open("reports").await.err().expect("no session");
    assert!(refused.contains("unsupported startup parameter"), "{refused}");
    assert!(refused.contains("set it for the role by `ALTER ROLE"), "{refused}");
    databases.opened("main").await.query("SELECT 1").await.expect("it has no settings");
    databases.lab.finish().await;
}

#[tokio::test]
async fn no_session_changes_a_password_of_the_server() {
    let databases = Databases::planned(Behaviour::Serves, Databases::one).await;
    let mut session = databases.opened("main").await;
    let words = "SELECT 'keyward: a session cannot change a password of the server";
    for (statement, answer) in [
        ("ALTER USER app PASSWORD 'own'", words),
        ("SELECT 1; alter role current_user /* x */ password 'own'", words),
        ("UPDATE users SET password = 'own'", "UPDATE users SET password = 'own'"),
        ("DO $$ BEGIN ALTER ROLE app PASSWORD 'own'; END $$", "DO $$ BEGIN ALTER ROLE"),
    ] {
        let answered = session.query(statement).await.expect("an answer");
        assert!(answered.starts_with(answer) || answered.contains(answer), "{answered}");
    }
    let received = databases.server.received();
    assert!(find(&received, b"ALTER USER").is_none() && find(&received, b"alter role").is_none());
    databases.lab.finish().await;
}

#[tokio::test]
async fn a_test_shows_as_members_what_the_server_says_and_what_the_login_did_not_prove() {
    for (behaviour, weakness) in [
        (Behaviour::Serves, None),
        (Behaviour::AsksNothing, Some("the server requests no password")),
    ] {
        let databases = Databases::planned(behaviour, Databases::one).await;
        for (connection, read_only, rights) in [
            ("main", true, vec!["create roles"]),
            ("reports", true, vec!["create roles", "write to 3 tables"]),
        ] {
            let path = format!("/connections/{connection}/test");
            let tested = databases.lab.gateway.api("POST", &path, "").await.json();
            let found = &tested["database"];
            assert_eq!([&found["version"], &found["role"]], ["99.1", "app"], "{tested}");
            assert_eq!(found["rights"], serde_json::json!(rights), "{tested}");
            assert_eq!([&found["read_only"], &found["superuser"]], [read_only, false], "{tested}");
            assert_eq!(found["weakness"].as_str(), weakness, "{tested}");
            let hint = tested["hint"].as_str().unwrap_or_default();
            assert!(rights.iter().all(|right| hint.contains(right)), "{hint}");
            assert!(weakness.is_none_or(|weakness| hint.contains(weakness)), "{hint}");
        }
        let received = databases.server.received();
        assert!(find(&received, b"('dblink', 'dblink_exec', ").is_some(), "what it may call");
        databases.lab.finish().await;
    }
}

/// The limit is longer than a test may take.
#[tokio::test]
async fn a_stop_ends_idle_sessions_at_once_and_waits_for_those_that_run_something() {
    let planned = |plan| Databases::one(plan).limit("drain_timeout: 600s");
    let mut databases = Databases::planned(Behaviour::Serves, planned).await;
    let mut new = databases.opened("main").await;
    let mut idle = databases.opened("main").await;
    idle.query("SELECT 'idle'").await.expect("it is served");
    let mut open = databases.opened("main").await;
    open.query("BEGIN").await.expect("it is served");
    let ((), _) = tokio::join!(
        async {
            for session in [&mut new, &mut idle] {
                let told = session.expect(b'Z').await.expect_err("it ends");
                assert!(told.contains("57P01") && told.contains("the gateway stops"), "{told}");
            }
            // Its transaction goes on until it ends.
            assert!(open.query("BEGIN; SELECT 2").await.expect("an answer").contains("SELECT 2"));
            open.query("COMMIT").await.expect("an answer");
            assert!(open.expect(b'Z').await.expect_err("it ends").contains("57P01"));
        },
        databases.lab.gateway.stop()
    );
    databases.lab.finish().await;
}

#[tokio::test]
async fn a_client_without_sni_verifies_the_address_or_any_name_and_gets_a_close_notify() {
    let with_tls = |plan: Plan| {
        plan.listen("databases: [{ at: \"127.0.0.1:0\", tls: { names: [db.lab.test] } }]")
    };
    let databases = Databases::planned(Behaviour::Serves, with_tls).await;
    let lab = &databases.lab;
    for name in ["127.0.0.1", "localhost", "db.lab.test"] {
        let client = Client::connect(lab).await;
        let mut client = Client { wire: lab.secure_without_sni(client.wire, name).await };
        client.log_in(lab.token("ci"), "main").await.expect("a session");
        client.wire.send(message(b'X', b"")).await;
        assert!(client.wire.ends_cleanly().await, "{name}");
    }
    let client = Client::connect(lab).await;
    let mut refused = Client { wire: lab.secure_without_sni(client.wire, "localhost").await };
    refused.log_in("kwa_wrong", "main").await.expect_err("no session");
    assert!(refused.wire.ends_cleanly().await);
    databases.lab.finish().await;
}

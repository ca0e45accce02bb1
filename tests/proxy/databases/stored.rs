//! Listeners that are added while the gateway runs: what is refused, what survives a restart, and what ends their sessions.
//! `tests/real/postgres/listeners.rs` has the same with psql.

use std::net::{SocketAddr, TcpListener};

use serde_json::{Value, json};
use tokio::io::AsyncReadExt;

use super::Databases;
use super::client::Client;
use super::server::{Behaviour, NAME};
use test_support::cli::Cli;
use test_support::*;

const PATH: &str = "/database-listeners";

impl Databases {
    /// With no listener of the configuration.
    async fn without_listener() -> Self {
        Self::planned(Behaviour::Serves, |plan| plan).await
    }

    async fn asked(&self, method: &str, path: &str, body: Value) -> (u16, Value) {
        let answer = self.lab.gateway.api_json(method, path, &body).await;
        let json = if answer.body.is_empty() { Value::Null } else { answer.json() };
        (answer.head.status(), json)
    }

    async fn added(&self, new: Value) -> Value {
        let (status, made) = self.asked("POST", PATH, new).await;
        assert_eq!(status, 201, "{made}");
        assert_eq!(made["state"], "open", "{made}");
        made
    }

    /// The field of a token of a new user in an organisation. Their name is that of their role.
    async fn bearer_of(&self, org: &str, role: &str) -> String {
        let (api, of_org) = (&self.lab.gateway, format!("Keyward-Org: {org}\r\n"));
        let user = json!({"name": role, "role": role}).to_string();
        api.api_with(&of_org, ("POST", "/users"), &user).await.is(201);
        let token = json!({"user": role, "label": "test"}).to_string();
        let token = api.api_with(&of_org, ("POST", "/tokens"), &token).await.json();
        let token = token["token"].as_str().expect("shown once").to_owned();
        format!("Authorization: Bearer {token}\r\n")
    }

    async fn session_at(&self, at: SocketAddr) -> Client {
        let mut client = Client::at(&self.lab, at).await;
        client.log_in(self.lab.token("ci"), "main").await.expect("a session");
        client
    }

    /// Waits until a listener has this state.
    async fn until(&self, name: &str, state: &str) -> Value {
        let path = format!("{PATH}/{name}");
        until_some("another state of the listener", async || {
            let (_, shown) = self.asked("GET", &path, Value::Null).await;
            (shown["state"] == state).then_some(shown)
        })
        .await
    }
}

fn place(of: &Value) -> SocketAddr {
    let at = of["open_at"].as_str().expect("it is open");
    at.parse().expect("an address")
}

/// A port that a program of this machine has.
fn occupied() -> (TcpListener, SocketAddr) {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let at = taken.local_addr().expect("an address");
    (taken, at)
}

fn is_closed(at: SocketAddr) -> bool {
    std::net::TcpStream::connect(at).is_err()
}

#[tokio::test]
async fn a_listener_that_cannot_be_opened_is_refused_and_not_stored() {
    let databases = Databases::without_listener().await;
    let (_taken, taken) = occupied();
    let taken = taken.to_string();
    let free = || "127.0.0.1:0".to_owned();
    for (at, more, expected, says) in [
        (taken.clone(), json!({}), (409, "listener_unavailable"), "is in use"),
        ("0.0.0.0:0".to_owned(), json!({}), (422, "invalid_field"), "`listen.databases`"),
        ("192.0.2.1:6432".to_owned(), json!({}), (422, "invalid_field"), "`listen.databases`"),
        ("unix:/tmp/db.sock".to_owned(), json!({}), (422, "invalid_field"), "no folder"),
        ("unix:../db.sock".to_owned(), json!({}), (422, "invalid_field"), "no folder"),
        (free(), json!({"agent": "ci"}), (422, "invalid_field"), "is for a socket"),
        (free(), json!({"connection": "acme"}), (422, "invalid_field"), "is not for a database"),
        (free(), json!({"connection": "none"}), (404, "not_found"), "no connection is named"),
        ("unix:a".to_owned(), json!({"agent": "none"}), (404, "not_found"), "no agent is named"),
        (
            free(),
            json!({"server_version": "8.0.36"}),
            (422, "invalid_field"),
            "is for the protocol `mysql`",
        ),
        (
            free(),
            json!({"protocol": "mysql", "server_version": "8.0\0"}),
            (422, "invalid_field"),
            "SELECT VERSION()",
        ),
        (
            free(),
            json!({"connection": "main", "protocol": "redis"}),
            (422, "invalid_field"),
            "is for a database of `postgres`",
        ),
    ] {
        let mut new = json!({"name": "local", "at": at});
        new.as_object_mut().expect("an object").extend(more.as_object().expect("one").clone());
        let (status, answer) = databases.asked("POST", PATH, new.clone()).await;
        let error = &answer["error"];
        assert_eq!((status, error["code"].as_str()), (expected.0, Some(expected.1)), "{new}");
        assert!(answer.to_string().contains(says), "{new}: {answer}");
        let (_, listed) = databases.asked("GET", PATH, Value::Null).await;
        assert_eq!(listed["items"], json!([]), "{new}");
    }
    // A change to a place that is in use leaves the listener as it was.
    let made = databases.added(json!({"name": "local", "at": "127.0.0.1:0"})).await;
    let (status, _) =
        databases.asked("PATCH", &format!("{PATH}/local"), json!({"at": taken})).await;
    assert_eq!(status, 409);
    let shown = databases.until("local", "open").await;
    assert_eq!(shown["open_at"], made["open_at"]);
    databases.session_at(place(&made)).await;
    databases.lab.finish().await;
}

/// The version in the greeting of a listener for MySQL.
async fn greeted(at: SocketAddr) -> String {
    let mut stream = tokio::net::TcpStream::connect(at).await.expect("it listens");
    // A length, a number, and the version of the protocol.
    let mut head = [0; 5];
    patiently("the greeting", stream.read_exact(&mut head)).await.expect("a greeting");
    let mut version = Vec::new();
    loop {
        match patiently("the greeting", stream.read_u8()).await.expect("the rest of it") {
            0 => return String::from_utf8(version).expect("it is text"),
            byte => version.push(byte),
        }
    }
}

#[tokio::test]
async fn a_mysql_listener_greets_clients_with_the_configured_server_version() {
    let databases = Databases::without_listener().await;
    let made = databases
        .added(json!({
            "name": "maria",
            "at": "127.0.0.1:0",
            "protocol": "mysql",
            "server_version": "10.11.6-MariaDB",
        }))
        .await;
    assert_eq!(made["server_version"], "10.11.6-MariaDB");
    assert_eq!(greeted(place(&made)).await, "5.5.5-10.11.6-MariaDB");
    let path = format!("{PATH}/maria");
    for (version, expected) in
        [(json!("11.4.2-MariaDB"), "11.4.2-MariaDB"), (Value::Null, "8.0.11-keyward")]
    {
        let (status, changed) =
            databases.asked("PATCH", &path, json!({"server_version": version})).await;
        assert_eq!(status, 200, "{changed}");
        assert_eq!(greeted(place(&changed)).await, expected);
    }
    databases.lab.finish().await;
}

#[tokio::test]
async fn only_administrators_of_the_installation_may_add_a_database_listener() {
    let databases = Databases::without_listener().await;
    let api = &databases.lab.gateway;
    let new = json!({"name": "local", "at": "127.0.0.1:0"}).to_string();
    let org = databases.asked("POST", "/orgs", json!({"name": "acme"})).await;
    assert_eq!(org.0, 201);
    for (org, role, reads) in [
        ("default", "member", false),
        ("default", "auditor", true),
        ("acme", "admin", false),
        ("acme", "member", false),
    ] {
        let by = databases.bearer_of(org, role).await;
        let refused = api.api_with(&by, ("POST", PATH), &new).await;
        assert_eq!(refused.head.status(), 403, "{role} of {org}: {}", refused.text());
        let listed = api.api_with(&by, ("GET", PATH), "").await;
        let expected = if reads { 200 } else { 403 };
        assert_eq!(listed.head.status(), expected, "{role} of {org}: {}", listed.text());
    }
    databases.lab.finish().await;
}

#[tokio::test]
async fn other_organisations_see_only_a_listener_for_all_connections_and_not_its_name() {
    let mut databases = Databases::without_listener().await;
    databases.added(json!({"name": "for-all", "at": "127.0.0.1:0"})).await;
    let of_main = json!({"name": "of-main", "at": "127.0.0.1:0", "connection": "main"});
    databases.added(of_main).await;
    let (taken, at) = occupied();
    drop(taken);
    databases.added(json!({"name": "in-use", "at": at.to_string()})).await;
    databases.lab.gateway.stop().await;
    let _other = TcpListener::bind(at).expect("the gateway has stopped");
    databases.lab.gateway.restart().await;
    databases.until("in-use", "failed").await;
    for name in ["for-all", "of-main"] {
        databases.until(name, "open").await;
    }
    let org = databases.asked("POST", "/orgs", json!({"name": "acme"})).await;
    assert_eq!(org.0, 201);
    for (org, role, sees) in [
        ("default", "auditor", true),
        ("default", "member", true),
        ("acme", "admin", false),
        ("acme", "member", false),
    ] {
        let by = databases.bearer_of(org, role).await;
        let status = databases.lab.gateway.api_with(&by, ("GET", "/status"), "").await;
        assert_eq!(status.head.status(), 200, "{role} of {org}: {}", status.text());
        let named = ["for-all", "of-main", "in-use"].map(|name| status.text().contains(name));
        assert_eq!(named, [sees; 3], "{role} of {org}: {}", status.text());
        if !sees {
            let listed = status.json()["databases"].clone();
            assert_eq!(listed.as_array().map(Vec::len), Some(1), "{listed}");
            assert_eq!(listed[0]["name"], Value::Null);
        }
    }
    databases.lab.finish().await;
}

#[tokio::test]
async fn a_stored_listener_serves_after_a_restart_until_it_is_removed() {
    let mut databases = Databases::without_listener().await;
    let made = databases.added(json!({"name": "local", "at": "127.0.0.1:0"})).await;
    let url = format!("postgres://CONNECTION:TOKEN@{}/CONNECTION?sslmode=disable", place(&made));
    assert_eq!(made["url"], url);
    // The same port from now on: port 0 is another one at each start.
    let change = json!({"at": made["open_at"]});
    let (status, kept) = databases.asked("PATCH", &format!("{PATH}/local"), change).await;
    assert_eq!((status, &kept["open_at"]), (200, &made["open_at"]), "{kept}");
    let (taken, at) = occupied();
    drop(taken);
    let change = json!({"at": at.to_string(), "connection": "main"});
    let (status, moved) = databases.asked("PATCH", &format!("{PATH}/local"), change).await;
    assert_eq!((status, &moved["open_at"]), (200, &json!(at.to_string())), "{moved}");
    assert_eq!(moved["connection_name"], "main");
    assert!(is_closed(place(&made)), "the place before");
    databases.lab.gateway.restart().await;
    let shown = databases.until("local", "open").await;
    assert_eq!(place(&shown), at);
    let (_, status) = databases.asked("GET", "/status", Value::Null).await;
    let listed = json!([{"at": at.to_string(), "protocol": "postgres", "connection": "main", "name": "local"}]);
    assert_eq!(status["databases"], listed);
    let mut refused = Client::at(&databases.lab, at).await;
    let refused = refused.log_in("kwa_wrong", "main").await.expect_err("no session");
    assert!(refused.contains("the password is no valid token of an agent"), "{refused}");
    // A session that is open when the listener is removed ends, and so does one that has not proved a token.
    let mut open = databases.session_at(at).await;
    let row = open.query("SELECT 'there'").await.expect("an answer");
    assert!(row.contains("there"), "{row}");
    let mut half_open = Client::at(&databases.lab, at).await;
    half_open.wire.send(&super::startup("main")[..6]).await;
    let (status, _) = databases.asked("DELETE", &format!("{PATH}/local"), Value::Null).await;
    assert_eq!(status, 204);
    assert!(is_closed(at), "the port");
    let ended = open.expect(b'Z').await.expect_err("the session ends");
    assert!(ended.contains("the agent's access was revoked or changed"), "{ended}");
    assert!(half_open.wire.rest().await.is_empty());
    databases.lab.gateway.restart().await;
    assert!(is_closed(at), "also after a restart");
    let records = databases.lab.finish_with_changes().await;
    let changes = records.iter().filter(|it| it["change"]["name"] == "local").count();
    assert_eq!(changes, 4, "one for each request that was not refused: {records:?}");
    let session = records.iter().find(|it| it["connection"] == "main").expect("a record");
    assert_eq!([&session["agent"], &session["outcome"]], ["ci", "ended"]);
}

#[tokio::test]
async fn a_listener_address_in_use_does_not_fail_the_start_and_is_opened_once_free() {
    let mut databases = Databases::without_listener().await;
    let (taken, at) = occupied();
    drop(taken);
    databases.added(json!({"name": "local", "at": at.to_string()})).await;
    databases.lab.gateway.stop().await;
    let other = TcpListener::bind(at).expect("the gateway has stopped");
    databases.lab.gateway.restart().await;
    let failed = databases.until("local", "failed").await;
    assert_eq!(failed["problem"], format!("`{at}` is in use"));
    assert_eq!((&failed["url"], &failed["open_at"]), (&Value::Null, &Value::Null));
    let (_, status) = databases.asked("GET", "/status", Value::Null).await;
    let expected = json!([{"name": "local", "at": at.to_string(), "problem": failed["problem"]}]);
    assert_eq!(status["databases_failed"], expected);
    assert_eq!(status["databases"], Value::Null, "programs must not be led to it");
    drop(other);
    databases.until("local", "open").await;
    databases.session_at(at).await;
    databases.lab.finish().await;
}

#[tokio::test]
async fn a_listener_whose_connection_is_removed_closes() {
    let databases = Databases::without_listener().await;
    let url = format!("postgres://app:secret-of-a-guest@{NAME}:5432/app");
    let connection = json!({"name": "guest", "provider": "postgres", "fields": {"url": url}});
    assert_eq!(databases.asked("POST", "/connections", connection).await.0, 201);
    let new = json!({"name": "guest", "at": "127.0.0.1:0", "connection": "guest"});
    let made = databases.added(new).await;
    let removed = databases.asked("DELETE", "/connections/guest", Value::Null).await;
    assert!(removed.0 < 300, "{removed:?}");
    let failed = databases.until("guest", "failed").await;
    assert_eq!(failed["problem"], "its connection was removed");
    assert!(is_closed(place(&made)));
    // It can be moved all the same, and opens with another connection.
    let path = format!("{PATH}/guest");
    let (status, _) = databases.asked("PATCH", &path, json!({"connection": "none"})).await;
    assert_eq!(status, 404);
    let (taken, at) = occupied();
    drop(taken);
    let (status, moved) = databases.asked("PATCH", &path, json!({"at": at.to_string()})).await;
    assert_eq!((status, &moved["state"]), (200, &json!("failed")), "{moved}");
    let (status, opened) = databases.asked("PATCH", &path, json!({"connection": "main"})).await;
    assert_eq!((status, &opened["open_at"]), (200, &json!(at.to_string())), "{opened}");
    databases.lab.finish().await;
}

#[tokio::test]
async fn a_socket_listener_is_in_the_data_directory_and_its_agent_needs_no_token() {
    let databases = Databases::without_listener().await;
    let new =
        json!({"name": "own", "at": "unix:.s.PGSQL.5432", "agent": "ci", "connection": "main"});
    let made = databases.added(new).await;
    let path = databases.lab.gateway.data().join("databases/.s.PGSQL.5432");
    assert_eq!(made["open_at"], format!("unix:{}", path.display()));
    let stream = tokio::net::UnixStream::connect(&path).await.expect("it listens");
    let wire = Wire::over(stream, None, wire::Seen::default());
    let mut client = Client { wire };
    client.wire.send(super::startup("main")).await;
    client.expect(b'Z').await.expect("a session without a token");
    // The same name again, and the removal of the file with the listener.
    let again = json!({"name": "other", "at": "unix:.s.PGSQL.5432"});
    let (status, refused) = databases.asked("POST", PATH, again).await;
    assert_eq!((status, &refused["error"]["code"]), (409, &json!("listener_unavailable")));
    let (status, _) = databases.asked("DELETE", &format!("{PATH}/own"), Value::Null).await;
    assert_eq!(status, 204);
    assert!(!path.exists());
    assert!(client.expect(b'Z').await.is_err(), "its session ends");
    databases.lab.finish().await;
}

#[test]
fn the_command_line_stores_a_listener_without_a_gateway() {
    let cli = Cli::new();
    let refused = cli.run(&["database-listener", "add", "local", "--at", "0.0.0.0:6432"]);
    assert!(refused.code != 0 && refused.err.contains("`listen.databases`"), "{refused:?}");
    let added = cli.run(&["database-listener", "add", "local", "--at", "127.0.0.1:0"]);
    assert_eq!(added.code, 0, "{added:?}");
    assert!(added.out.contains("it opens when the gateway runs"), "{added:?}");
    let listed = cli.run(&["database-listener", "list"]);
    assert!(listed.out.contains("127.0.0.1:0") && listed.out.contains("closed"), "{listed:?}");
    let nothing = cli.run(&["database-listener", "set", "local"]);
    assert!(nothing.err.contains("nothing to change"), "{nothing:?}");
    let set = cli.run(&["database-listener", "set", "local", "--protocol", "redis"]);
    assert!(set.out.contains("redis"), "{set:?}");
    let removed = cli.run(&["database-listener", "remove", "local", "--yes"]);
    assert_eq!(
        (removed.code, &*removed.out),
        (0, "database listener local removed\n"),
        "{removed:?}"
    );
}

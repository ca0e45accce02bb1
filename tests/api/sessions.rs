//! Sessions of end users, through the proxy: what an agent may use in one, and what ends it.

mod generated;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};

use test_support::canary::Canary;
use test_support::*;

/// A gateway with the connection `acme`, which is bound to `ci`, and agent `support`, which serves end users.
struct World {
    lab: Lab,
}

/// A session: its id and token.
struct Session {
    id: String,
    token: String,
}

impl World {
    async fn new(origin: Origin) -> Self {
        let mut lab = Plan::api_key().limit("sessions_max: 4").start(origin).await;
        lab.add_agent("support").await;
        let world = Self { lab };
        let serve = json!({"user_providers": ["acme"]});
        world.done("PATCH", "/agents/support", serve, 200).await;
        world
    }

    async fn api(&self, method: &str, path: &str, body: Value) -> Message {
        self.lab.gateway.api(method, path, &body.to_string()).await
    }

    /// Calls the API and expects this status.
    async fn done(&self, method: &str, path: &str, body: Value, status: u16) -> Value {
        let answer = self.api(method, path, body).await;
        assert_eq!(answer.head.status(), status, "{method} {path}: {}", answer.text());
        if status == 204 { Value::Null } else { answer.json() }
    }

    async fn user(&self, name: &str) {
        self.done("POST", "/users", json!({"name": name, "role": "end_user"}), 201).await;
    }

    /// A connection of an end user, with a secret of its own.
    async fn connection(&mut self, name: &str, owner: &str) -> Canary {
        let secret = Canary::new("cnry");
        let fields = json!({"api_key": secret.text});
        let new = json!({"provider": "acme", "name": name, "owner": owner, "fields": fields});
        self.done("POST", "/connections", new, 201).await;
        self.lab.guard(secret.clone());
        secret
    }

    async fn session(&mut self, body: Value) -> Session {
        let made = self.done("POST", "/sessions", body, 201).await;
        let text = |key: &str| made[key].as_str().expect("text").to_owned();
        let session = Session { id: text("id"), token: text("token") };
        assert!(session.token.starts_with("kwa_") && session.id.starts_with("ses_"), "{made}");
        self.lab.guard(Canary::of(session.token.clone()));
        session
    }

    /// The answer to a request in absolute form, with the agent's name beside the session's token.
    async fn ask(&self, session: &Session, path: &str) -> Message {
        let mut wire = self.lab.client().await;
        let pair = BASE64_STANDARD.encode(format!("support:{}", session.token));
        wire.send(format!(
            "GET https://{HOST}{path} HTTP/1.1\r\nHost: {HOST}\r\nProxy-Authorization: Basic {pair}\r\n\r\n"
        ))
        .await;
        wire.answer("GET").await
    }

    /// Which code refuses a request.
    async fn code(&self, session: &Session) -> (u16, String) {
        let answer = self.ask(session, "/").await;
        let code = answer.head.one("keyward-error").unwrap_or("none").to_owned();
        (answer.head.status(), code)
    }

    /// Waits until the audit log has this many records of a query: they are written after the answer.
    async fn audited(&self, query: &str, count: usize) {
        until(query, async || {
            let all = self.done("GET", &format!("/audit?{query}"), json!({}), 200).await;
            all["items"].as_array().map(Vec::len) == Some(count)
        })
        .await;
    }

    /// The key that the origin receives.
    async fn key(&mut self, session: &Session) -> String {
        self.ask(session, "/").await.is(200);
        let head = self.lab.origin.arrival().await.head;
        head.one("x-api-key").expect("a key").to_owned()
    }
}

fn refused(code: &str) -> (u16, String) {
    let status = match code {
        "session_expired" => 401,
        "default_deny" => 403,
        _ => 424,
    };
    (status, code.to_owned())
}

#[tokio::test]
async fn in_a_session_an_agent_uses_the_connections_of_its_end_user_and_no_others() {
    let mut world = World::new(Origin::saying("fine")).await;
    for user in ["auth0|5f7c", "o'brien+2@example.com"] {
        world.user(user).await;
    }
    let theirs = world.connection("theirs", "o'brien+2@example.com").await;
    world.done("POST", "/agents/support/bindings", json!({"connection": "acme"}), 201).await;
    let session = world.session(json!({"agent": "support", "user": "auth0|5f7c"})).await;
    assert_eq!(world.code(&session).await, refused("default_deny"), "not the agent's own binding");
    assert_eq!(world.lab.origin.received().len(), 0);
    let own = world.connection("own", "auth0|5f7c").await;
    assert_eq!(world.key(&session).await, own.text, "added during the session");
    let other = json!({"agent": "support", "user": "o'brien+2@example.com", "label": "chat 7"});
    let other = world.session(other).await;
    assert_eq!(world.key(&other).await, theirs.text);
    world.done("POST", "/connections/own/pause", json!({}), 200).await;
    assert_eq!(world.code(&session).await, refused("connection_paused"));
    world.done("POST", "/connections/own/resume", json!({}), 200).await;
    assert_eq!(world.key(&session).await, own.text);
    world.done("DELETE", "/connections/own", json!({}), 200).await;
    assert_eq!(world.code(&session).await, refused("default_deny"));
    world.done("PATCH", "/agents/support", json!({"user_providers": []}), 200).await;
    assert_eq!(world.code(&other).await, refused("default_deny"));
    world.audited(&format!("session={}", other.id), 2).await;
    world.audited("user=auth0%7C5f7c&requests=true", 5).await;
    let records = world.lab.finish().await;
    let of_other = records.iter().find(|it| it["session"] == *other.id).expect("a record");
    let told = ["agent", "session_label", "user", "token"].map(|key| of_other[key].clone());
    let user = json!("o'brien+2@example.com");
    assert_eq!(told, [json!("support"), json!("chat 7"), user, Value::Null]);
}

#[tokio::test]
async fn named_connections_are_the_only_ones_and_each_must_be_allowed() {
    let mut world = World::new(Origin::saying("fine")).await;
    world.user("1").await;
    world.user("2").await;
    let one = world.connection("of-one", "1").await;
    world.connection("more-of-one", "1").await;
    world.connection("of-two", "2").await;
    for (body, named) in [
        (json!({"agent": "support", "connections": ["acme"]}), "`acme`"),
        (json!({"agent": "support", "user": "1", "connections": ["of-two"]}), "`of-two`"),
        (json!({"agent": "ci", "connections": ["acme", "of-one"]}), "`of-one`"),
        (json!({"agent": "support", "user": "1", "connections": ["of-on"]}), "`of-on`"),
    ] {
        let status = if named == "`of-on`" { 404 } else { 422 };
        let refused = world.done("POST", "/sessions", body, status).await;
        assert_eq!(refused["error"]["field"], "connections", "{refused}");
        assert!(refused["error"]["message"].as_str().is_some_and(|it| it.contains(named)));
    }
    for body in [
        json!({"agent": "support"}),
        json!({"agent": "support", "user": "1", "ttl": "25h"}),
        json!({"agent": "support", "user": "1", "ttl": "1s"}),
        json!({"agent": "support", "user": "1", "token": "kwa_twenty-characters-ok"}),
        json!({"agent": "support", "user": "1", "label": ""}),
    ] {
        let refused = world.done("POST", "/sessions", body, 422).await;
        assert_eq!(refused["error"]["code"], "invalid_field", "{refused}");
    }
    let body = json!({"agent": "support", "user": "1", "connections": ["of-one"], "ttl": "1m"});
    let session = world.session(body).await;
    assert_eq!(world.key(&session).await, one.text);
    let own = world.session(json!({"agent": "ci", "connections": ["acme"]})).await;
    let pair = BASE64_STANDARD.encode(format!("support:{}", own.token));
    let mut wire = world.lab.client().await;
    wire.send(format!(
        "GET https://{HOST}/ HTTP/1.1\r\nHost: {HOST}\r\nProxy-Authorization: Basic {pair}\r\n\r\n"
    ))
    .await;
    assert_eq!(wire.answer("GET").await.head.status(), 407, "the token is not of that agent");
    world.lab.finish().await;
}

#[tokio::test]
async fn a_session_that_reaches_nothing_of_its_end_user_is_made_with_a_warning() {
    let mut world = World::new(Origin::saying("fine")).await;
    world.user("1").await;
    world.connection("own", "1").await;
    let session = json!({"agent": "support", "user": "1"});
    let made = world.done("POST", "/sessions", session.clone(), 201).await;
    assert_eq!(made.get("warnings"), None, "the agent serves end users: {made}");
    world.done("PATCH", "/agents/support", json!({"user_providers": []}), 200).await;
    let made = world.done("POST", "/sessions", session.clone(), 201).await;
    let warning = made["warnings"][0].as_str().expect("a warning");
    assert!(warning.starts_with("agent `support` has no user providers"), "{made}");
    assert!(warning.contains("`keyward agent set support --user-provider ID`"), "{made}");
    assert_eq!(made["connection_names"], json!([]));
    world.done("PATCH", "/connections/own", json!({"visibility": "shared"}), 200).await;
    world.done("POST", "/agents/support/bindings", json!({"connection": "own"}), 201).await;
    for session in [session, json!({"agent": "support", "user": "1", "connections": ["own"]})] {
        let made = world.done("POST", "/sessions", session, 201).await;
        assert_eq!(made["connection_names"], json!(["own"]), "{made}");
        assert_eq!(made.get("warnings"), None, "{made}");
    }
    world.lab.finish().await;
}

#[tokio::test]
async fn open_streams_of_a_session_end_when_it_is_revoked_or_loses_its_access() {
    for ends in ["revoke", "agent", "user", "connection"] {
        let mut world = World::new(Origin::endless()).await;
        world.user("1").await;
        world.connection("own", "1").await;
        let session = world.session(json!({"agent": "support", "user": "1"})).await;
        let mut wire = world.lab.client().await;
        let pair = BASE64_STANDARD.encode(format!("support:{}", session.token));
        wire.send(format!(
            "CONNECT {HOST}:443 HTTP/1.1\r\nHost: {HOST}:443\r\nProxy-Authorization: Basic {pair}\r\n\r\n"
        ))
        .await;
        assert_eq!(wire.answer("CONNECT").await.head.status(), 200);
        let mut wire = world.lab.secure(wire, HOST).await;
        wire.send(request_text("GET /endless", HOST)).await;
        assert_eq!(wire.head().await.expect("a head").status(), 200);
        match ends {
            "revoke" => {
                world.done("DELETE", &format!("/sessions/{}", session.id), json!({}), 204).await;
            }
            "agent" => drop(world.done("POST", "/agents/support/pause", json!({}), 200).await),
            "user" => drop(world.done("PATCH", "/users/1", json!({"paused": true}), 200).await),
            _ => drop(world.done("DELETE", "/connections/own", json!({}), 200).await),
        }
        assert!(wire.rest().await.len() <= 5, "the answer ends: {ends}");
        let code = if ends == "connection" { "default_deny" } else { "session_expired" };
        assert_eq!(world.code(&session).await, refused(code), "{ends}");
        world.lab.finish().await;
    }
}

#[tokio::test]
async fn the_usage_of_a_connection_of_an_end_user_has_the_agents_that_use_it_in_sessions() {
    let mut world = World::new(Origin::saying("fine")).await;
    world.user("1").await;
    let own = world.connection("own", "1").await;
    let agents = async |world: &World| {
        let usage = world.done("GET", "/connections/own/usage", json!({}), 200).await;
        let agents = usage["agents"].as_array().expect("a list").iter();
        agents.map(|it| format!("{} {}", it["name"], it["by"])).collect::<Vec<_>>()
    };
    let expected = [r#""support" "session""#];
    assert_eq!(agents(&world).await, expected, "before its first session");
    let session = world.session(json!({"agent": "support", "user": "1"})).await;
    assert_eq!(world.key(&session).await, own.text);
    assert_eq!(agents(&world).await, expected);
    world.done("PATCH", "/users/1", json!({"paused": true}), 200).await;
    assert_eq!(agents(&world).await, expected, "while the end user is paused");
    world.lab.finish().await;
}

#[tokio::test]
async fn sessions_outlive_a_restart_and_are_bounded() {
    let mut world = World::new(Origin::saying("fine")).await;
    world.user("1").await;
    let own = world.connection("own", "1").await;
    let body = || json!({"agent": "support", "user": "1"});
    let session = world.session(body()).await;
    world.lab.gateway.restart().await;
    assert_eq!(world.key(&session).await, own.text);
    let shown = world.done("GET", &format!("/sessions/{}", session.id), json!({}), 200).await;
    assert_eq!(shown["connection_names"], json!(["own"]));
    assert_eq!((&shown["user_name"], shown.get("token")), (&json!("1"), None), "{shown}");
    for _ in 1..4 {
        world.session(body()).await;
    }
    let refused = world.done("POST", "/sessions", body(), 422).await;
    let hint = refused["error"]["hint"].as_str().expect("a hint");
    assert!(hint.contains("limits.sessions_max"), "{refused}");
    let at = format!("/sessions/{}", session.id);
    world.done("DELETE", &at, json!({}), 204).await;
    world.done("DELETE", &at, json!({}), 404).await;
    assert_eq!(world.code(&session).await, (401, "session_expired".to_owned()));
    world.session(body()).await;
    let all = world.done("GET", "/sessions", json!({}), 200).await;
    assert_eq!(all["items"].as_array().map(Vec::len), Some(4), "{all:#}");
    world.lab.finish().await;
}

#[tokio::test]
async fn only_admins_make_sessions_of_end_users_and_end_users_get_no_tokens() {
    let mut world = World::new(Origin::saying("fine")).await;
    world.user("1").await;
    let own = world.connection("own", "1").await;
    let refused = world.done("POST", "/tokens", json!({"user": "1"}), 422).await;
    assert_eq!(refused["error"]["field"], "user", "{refused}");
    world.done("POST", "/users", json!({"name": "ann", "role": "member"}), 201).await;
    let of_member = json!({"agent": "support", "user": "ann"});
    let refused = world.done("POST", "/sessions", of_member, 422).await;
    assert!(refused.to_string().contains("`ann` is none"), "{refused}");
    let token = world.done("POST", "/tokens", json!({"user": "ann"}), 201).await;
    world.done("PATCH", "/users/ann", json!({"role": "end_user"}), 422).await;
    let token = token["token"].as_str().expect("shown once").to_owned();
    world.lab.guard(Canary::of(token.clone()));
    let fields = format!("Authorization: Bearer {token}\r\n");
    let gateway = &world.lab.gateway;
    let as_ann = async |method: &str, path: &str, body: Value| {
        let answer = gateway.api_with(&fields, (method, path), &body.to_string()).await;
        (answer.head.status(), answer.text())
    };
    assert_eq!(as_ann("POST", "/agents", json!({"name": "hers"})).await.0, 201);
    for (method, path, body, status) in [
        ("PATCH", "/agents/hers", json!({"user_providers": ["acme"]}), 403),
        ("POST", "/agents", json!({"name": "x", "user_providers": ["*"]}), 403),
        ("POST", "/sessions", json!({"agent": "hers", "user": "1"}), 403),
        ("POST", "/sessions", json!({"agent": "support", "connections": ["acme"]}), 404),
        ("POST", "/sessions", json!({"agent": "hers", "connections": ["own"]}), 404),
    ] {
        let (found, text) = as_ann(method, path, body).await;
        assert_eq!(found, status, "{method} {path}: {text}");
        assert!(!text.contains(&own.text));
    }
    let bind = json!({"connection": "acme"});
    assert_eq!(as_ann("POST", "/agents/hers/bindings", bind).await.0, 201);
    let (status, made) =
        as_ann("POST", "/sessions", json!({"agent": "hers", "connections": ["acme"]})).await;
    assert_eq!(status, 201, "{made}");
    let session = world.session(json!({"agent": "support", "user": "1"})).await;
    let (status, listed) = world_list(&world, &fields).await;
    assert!(status == 200 && !listed.contains(&session.id), "{listed}");
    world.lab.finish().await;
}

async fn world_list(world: &World, fields: &str) -> (u16, String) {
    let answer = world.lab.gateway.api_with(fields, ("GET", "/sessions"), "").await;
    (answer.head.status(), answer.text())
}

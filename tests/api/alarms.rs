//! Honeytokens and expired tokens: they open nothing, the client learns nothing from them, and people are notified.

use serde_json::{Value, json};

use test_support::canary::Canary;
use test_support::hooks::Hooks;
use test_support::*;

struct World {
    lab: Lab,
    hooks: Hooks,
    key: Canary,
}

impl World {
    async fn with(change: impl FnOnce(Plan) -> Plan, events: &[&str]) -> Self {
        let hooks = Hooks::start().await;
        let plan = hooks.reached(change(Plan::api_key()));
        let mut lab = plan.start(Origin::saying("fine")).await;
        lab.add_agent("bot").await;
        let key = hooks.subscribed(&mut lab, events).await;
        Self { lab, hooks, key }
    }

    /// A new honeytoken's text.
    async fn bait(&self, name: &str, revokes: bool) -> String {
        let new = json!({"name": name, "provider": "acme", "revokes": revokes}).to_string();
        let made = self.lab.gateway.api("POST", "/honeytokens", &new).await.is(201);
        made.json()["text"].as_str().expect("its text").to_owned()
    }

    /// What `agent` gets for a request with `field`.
    async fn asks(&self, agent: &str, field: &str) -> (u16, Value) {
        self.asks_at(HOST, agent, field).await
    }

    /// A token of `agent` opens nothing.
    async fn is_unknown(&self, agent: &str) {
        let mut wire = self.lab.client().await;
        let who = self.lab.authorization(agent);
        wire.send(format!("CONNECT {HOST}:443 HTTP/1.1\r\nHost: {HOST}\r\n{who}\r\n")).await;
        assert_eq!(wire.answer("CONNECT").await.head.status(), 407, "{agent}");
    }

    async fn asks_at(&self, host: &str, agent: &str, field: &str) -> (u16, Value) {
        let mut wire = self.lab.tunnel_as(agent, host).await;
        let answer = wire.ask(format!("GET /x HTTP/1.1\r\nHost: {host}\r\n{field}\r\n\r\n")).await;
        let error =
            if answer.head.status() == 200 { Value::Null } else { answer.json()["error"].clone() };
        (answer.head.status(), error)
    }
}

#[tokio::test]
async fn a_honeytoken_is_refused_like_an_unknown_placeholder_and_raises_an_event() {
    let mut world = World::with(|plan| plan, &["honeytoken.used"]).await;
    let bait = world.bait("readme", false).await;
    let unknown = world.bait("gone", false).await;
    world.lab.gateway.api("DELETE", "/honeytokens/gone", "").await.is(204);
    let (status, mut caught) = world.asks("ci", &format!("X-Api-Key: {bait}")).await;
    let (_, mut stranger) = world.asks("ci", &format!("X-Api-Key: {unknown}")).await;
    assert_eq!((status, &caught["code"]), (403, &json!("placeholder_foreign")));
    for answer in [&mut caught, &mut stranger] {
        answer["exchange"].take();
    }
    assert_eq!(caught, stranger, "nobody can tell which of them is watched");
    let event = world.hooks.event(&world.key).await;
    assert_eq!(event.kind, "honeytoken.used");
    assert_eq!(
        (&event.data["honeytoken"], &event.data["agent"]["name"]),
        (&json!("readme"), &json!("ci"))
    );
    assert_eq!((&event.data["host"], &event.data["by"]), (&json!(HOST), &json!("gateway")));
    assert!(!event.message.text().contains(&bait), "an event repeats no text");
    assert_eq!(
        world.asks("ci", &format!("X-Api-Key: {}", world.lab.placeholder("api_key"))).await.0,
        200
    );
    assert_eq!(world.lab.origin.received().len(), 1, "nothing else went out");
    // It is told once in a while: the next one is of another agent.
    world.asks("ci", &format!("X-Api-Key: {bait}")).await;
    world.lab.gateway.api("POST", "/agents/bot/bindings", r#"{"connection":"acme"}"#).await.is(201);
    world.asks("bot", &format!("X-Api-Key: {bait}")).await;
    assert_eq!(world.hooks.event(&world.key).await.data["agent"]["name"], "bot");
    let records = world.lab.finish_with_changes().await;
    let told = records.iter().filter(|it| it["change"]["event"] == "honeytoken.used").count();
    assert_eq!(told, 2);
}

/// Wherever it stands and whatever the rules would do with the request.
#[tokio::test]
async fn a_honeytoken_is_seen_in_fields_and_cookies_under_inject_and_pass_rules() {
    let pass = "{ hosts: [api.acme.test, HOST], action: pass, agents: [ci] }";
    let pass = &*pass.replace("HOST", STRANGER);
    for (rule, host, place) in [
        ("{ hosts: [api.acme.test], use: acme, agents: [ci] }", HOST, "X-Api-Key: BAIT"),
        (pass, HOST, "Authorization: Bearer BAIT"),
        (pass, HOST, "Cookie: a=b; sid=BAIT"),
        (pass, STRANGER, "X-Api-Key: BAIT"),
    ] {
        let mut world = World::with(|plan| plan.rule(rule), &["honeytoken.used"]).await;
        let bait = world.bait("readme", false).await;
        let (status, error) = world.asks_at(host, "ci", &place.replace("BAIT", &bait)).await;
        assert_eq!(
            (status, &error["code"]),
            (403, &json!("placeholder_foreign")),
            "{rule} {host} {place}"
        );
        let event = world.hooks.event(&world.key).await;
        assert_eq!((&*event.kind, &event.data["host"]), ("honeytoken.used", &json!(host)));
        assert!(world.lab.origin.received().is_empty());
        world.lab.finish().await;
    }
}

/// What is refused before any rule is asked: malformed, for another host, not understood.
#[tokio::test]
async fn a_honeytoken_is_seen_in_requests_that_are_refused_before_policy() {
    let mut world =
        World::with(|plan| plan.limit("target_bytes_max: 1024"), &["honeytoken.used"]).await;
    for (number, (status, head)) in [
        (400, "GET /a/../b HTTP/1.1\r\nHost: HOST\r\nX-Api-Key: BAIT"),
        (400, "GET /a?key=BAIT HTTP/1.1\r\nHost: HOST\r\nX-HTTP-Method: G T"),
        (400, "GET /a HTTP/1.1\r\nX-Api-Key: BAIT"),
        (405, "TRACE /a HTTP/1.1\r\nHost: HOST\r\nX-Api-Key: BAIT"),
        (405, "CONNECT other.test:443 HTTP/1.1\r\nHost: HOST\r\nX-Api-Key: BAIT"),
        (414, "GET /LONG HTTP/1.1\r\nHost: HOST\r\nX-Api-Key: BAIT"),
        (417, "POST /a HTTP/1.1\r\nHost: HOST\r\nExpect: x\r\nX-Api-Key: BAIT"),
        (421, "GET /a HTTP/1.1\r\nHost: other.test\r\nX-Api-Key: BAIT"),
        (
            501,
            "POST /a HTTP/1.1\r\nHost: HOST\r\nTransfer-Encoding: gzip, chunked\r\nX-Api-Key: BAIT",
        ),
    ]
    .into_iter()
    .enumerate()
    {
        let name = format!("bait-{number}");
        let bait = world.bait(&name, false).await;
        let head =
            head.replace("BAIT", &bait).replace("HOST", HOST).replace("LONG", &"x".repeat(2000));
        let mut wire = world.lab.tunnel(HOST).await;
        wire.send(format!("{head}\r\n\r\n")).await;
        assert_eq!(wire.answer("GET").await.head.status(), status, "{head}");
        let event = world.hooks.event(&world.key).await;
        assert_eq!(event.data["honeytoken"], name, "{head}");
        assert_eq!(
            (&event.data["agent"]["name"], &event.data["host"]),
            (&json!("ci"), &json!(HOST))
        );
    }
    // By a base URL of a connection that there is not.
    let bait = world.bait("last", false).await;
    let mut wire = world.lab.client().await;
    let token = world.lab.token("ci");
    wire.send(format!(
        "GET /to/nothing/ HTTP/1.1\r\nHost: 127.0.0.1\r\nKeyward-Token: {token}\r\nX-Api-Key: {bait}\r\n\r\n"
    ))
    .await;
    assert_eq!(wire.answer("GET").await.head.status(), 424);
    assert_eq!(world.hooks.event(&world.key).await.data["honeytoken"], "last");
    // With the agent's token in the URL, too.
    let bait = world.bait("url", false).await;
    let mut wire = world.lab.client().await;
    let who = world.lab.authorization("ci");
    wire.send(format!(
        "GET https://{HOST}/{token} HTTP/1.1\r\nHost: {HOST}\r\n{who}X-Api-Key: {bait}\r\n\r\n"
    ))
    .await;
    let answer = wire.answer("GET").await.is(400);
    assert_eq!(world.hooks.event(&world.key).await.data["honeytoken"], "url");
    let message = answer.json()["error"]["message"].clone();
    assert_eq!(
        message,
        "the URL contains the agent's token; send it in `Proxy-Authorization` only"
    );
    assert!(world.lab.origin.received().is_empty());
    world.lab.finish().await;
}

/// A rule depends on the body, which is too large.
#[tokio::test]
async fn a_honeytoken_is_seen_in_requests_whose_body_cannot_be_read() {
    let provider = "{ id: tracker, name: Tracker, hosts: [HOST], auth: [{ id: key, kind: bearer }], actions: [{ name: \
                    look, label: Look, requests: [{ methods: [POST], paths: [/graphql], graphql: { operations: \
                    [query], fields: [issue*], without_fields: [issueSecrets] } }] }] }";
    let denies = |plan: Plan| {
        plan.provider(&provider.replace("HOST", HOST))
            .connection("{ name: tracked, provider: tracker, fields: { token: { env: CANARY } } }")
            .rule("{ name: no-looks, action: deny, actions: [\"tracker:look\"] }")
    };
    let mut world = World::with(denies, &["honeytoken.used"]).await;
    let bait = world.bait("bait", false).await;
    let mut wire = world.lab.tunnel(HOST).await;
    wire.send(format!(
        "POST /graphql HTTP/1.1\r\nHost: {HOST}\r\nContent-Type: application/json\r\nX-Api-Key: {bait}\r\n\
         Content-Length: 999999999\r\n\r\n"
    ))
    .await;
    assert_eq!(wire.answer("POST").await.head.status(), 413);
    assert_eq!(world.hooks.event(&world.key).await.data["honeytoken"], "bait");
    world.lab.finish().await;
}

/// An agent that has as many streams as it may.
#[tokio::test]
async fn a_honeytoken_is_seen_in_requests_that_are_refused_for_too_many_streams() {
    let limits = |plan: Plan| plan.limit("streams_per_agent_max: 1");
    let mut world = World::with(limits, &["honeytoken.used"]).await;
    let bait = world.bait("readme", false).await;
    let _open = world.lab.tunnel(HOST).await;
    let mut wire = world.lab.client().await;
    let who = world.lab.authorization("ci");
    wire.send(format!(
        "GET https://{HOST}/a HTTP/1.1\r\nHost: {HOST}\r\n{who}X-Api-Key: {bait}\r\n\r\n"
    ))
    .await;
    let answer = wire.answer("GET").await;
    assert_eq!(answer.refusal(), (503, Some("overloaded")));
    let event = world.hooks.event(&world.key).await;
    assert_eq!(
        (&event.data["honeytoken"], &event.data["agent"]["name"]),
        (&json!("readme"), &json!("ci"))
    );
    assert!(world.lab.origin.received().is_empty());
    world.lab.finish().await;
}

#[tokio::test]
async fn a_revoking_honeytoken_revokes_a_stored_token_or_pauses_an_agent_of_the_file() {
    let events = ["honeytoken.used", "token.refused"];
    let mut world = World::with(|plan| plan, &events).await;
    let bait = world.bait("env-file", true).await;
    for agent in ["ci", "bot"] {
        let bind =
            world.lab.gateway.api("POST", "/agents/bot/bindings", r#"{"connection":"acme"}"#);
        assert!([200, 201].contains(&bind.await.head.status()));
        assert_eq!(world.asks(agent, "X-A: b").await.0, 200);
        world.asks(agent, &format!("X-Api-Key: {bait}")).await;
        let event = world.hooks.event(&world.key).await;
        let done = if agent == "bot" { "token revoked" } else { "agent paused" };
        assert_eq!(event.data["detail"], done, "{event:?}");
        world.is_unknown(agent).await;
    }
    // The revoked one is known, and who sends it is told once, also after a restart.
    let event = world.hooks.event(&world.key).await;
    assert_eq!((&*event.kind, &event.data["reason"]), ("token.refused", &json!("revoked")));
    assert_eq!(event.data["agent"]["name"], "bot");
    world.is_unknown("bot").await;
    world.lab.add_agent("late").await;
    let bind = world.lab.gateway.api("POST", "/agents/late/bindings", r#"{"connection":"acme"}"#);
    assert_eq!(bind.await.head.status(), 201);
    world.asks("late", &format!("X-Api-Key: {bait}")).await;
    let next = world.hooks.event(&world.key).await;
    assert_eq!((&*next.kind, &next.data["agent"]["name"]), ("honeytoken.used", &json!("late")));
    world.lab.gateway.restart().await;
    world.is_unknown("bot").await;
    let again = world.hooks.event(&world.key).await;
    assert_eq!((&*again.kind, &again.data["agent"]["name"]), ("token.refused", &json!("bot")));
    assert_eq!(again.data["token"], event.data["token"]);
    let records = world.lab.finish_with_changes().await;
    let told = records.iter().filter(|it| it["change"]["event"] == "token.refused").count();
    assert_eq!(told, 2, "once by each of the two gateways");
}

#[tokio::test]
async fn an_agent_of_the_file_that_an_alarm_paused_is_resumed_by_a_person_and_by_nothing_else() {
    let mut world = World::with(|plan| plan, &["honeytoken.used"]).await;
    let bait = world.bait("env-file", true).await;
    world.asks("ci", &format!("X-Api-Key: {bait}")).await;
    assert_eq!(world.hooks.event(&world.key).await.data["detail"], "agent paused");
    world.is_unknown("ci").await;
    world.lab.gateway.api("POST", "/reload", "").await.is(200);
    world.is_unknown("ci").await;
    world.lab.gateway.restart().await;
    world.is_unknown("ci").await;
    let shown = world.lab.gateway.api("GET", "/agents/ci", "").await.json();
    assert_eq!((&shown["paused"], &shown["held"]), (&json!(true), &json!(true)));
    // A person who pauses it as well does not hide the alarm.
    let paused = world.lab.gateway.api("POST", "/agents/ci/pause", "").await.json();
    assert_eq!((&shown["held_by"], &paused["held_by"]), (&json!("alarm"), &json!("alarm")));
    let ask = json!({"agent": "ci", "url": format!("https://{HOST}/x")}).to_string();
    let told = world.lab.gateway.api("POST", "/rules/explain", &ask).await;
    assert!(told.text().contains("a person or an alarm paused it"), "{}", told.text());
    let resumed = world.lab.gateway.api("POST", "/agents/ci/resume", "").await;
    assert_eq!((resumed.head.status(), &resumed.json()["paused"]), (200, &json!(false)));
    assert_eq!(world.asks("ci", "X-A: b").await.0, 200);
    world.lab.finish().await;
}

/// Within the time in which it is not told again.
#[tokio::test]
async fn an_agent_that_sends_a_honeytoken_again_after_it_was_resumed_is_paused_again() {
    let mut world = World::with(|plan| plan, &["honeytoken.used"]).await;
    let bait = world.bait("env-file", true).await;
    world.asks("ci", &format!("X-Api-Key: {bait}")).await;
    assert_eq!(world.hooks.event(&world.key).await.data["detail"], "agent paused");
    world.lab.gateway.api("POST", "/agents/ci/resume", "").await.is(200);
    world.asks("ci", &format!("X-Api-Key: {bait}")).await;
    until("the second pause", async || {
        world.lab.gateway.api("GET", "/agents/ci", "").await.json()["held_by"] == "alarm"
    })
    .await;
    world.is_unknown("ci").await;
    let records = world.lab.finish_with_changes().await;
    let told = records.iter().filter(|it| it["change"]["event"] == "honeytoken.used").count();
    assert_eq!(told, 1, "the event is limited");
}

#[tokio::test]
async fn an_agent_that_a_person_paused_is_rejected_and_its_streams_end() {
    let world = World::with(|plan| plan, &[]).await;
    let mut open = world.lab.tunnel_as("ci", HOST).await;
    for unknown in ["nobody", "agt_0"] {
        world.lab.gateway.api("POST", &format!("/agents/{unknown}/pause"), "").await.is(404);
    }
    for agent in ["ci", "bot"] {
        let paused = world.lab.gateway.api("POST", &format!("/agents/{agent}/pause"), "").await;
        let (status, paused) = (paused.head.status(), paused.json());
        assert_eq!((status, &paused["held"]), (200, &json!(true)));
        assert_eq!(paused["held_by"], "person");
        world.is_unknown(agent).await;
    }
    assert!(open.is_closed().await, "what was open has ended");
    let run =
        world.lab.gateway.api("POST", "/runs", r#"{"agent":"bot","label":"r"}"#).await.is(422);
    let told = run.json()["error"].clone();
    let message = told["message"].as_str().unwrap_or_default();
    assert!(message.ends_with("agent `bot` is paused: a person or an alarm paused it"), "{told}");
    assert_eq!(told["hint"], "`keyward agent resume bot` ends it");
    for agent in ["ci", "bot"] {
        let resumed = world.lab.gateway.api("POST", &format!("/agents/{agent}/resume"), "").await;
        let (status, resumed) = (resumed.head.status(), resumed.json());
        assert_eq!((status, &resumed["held"]), (200, &json!(false)));
        assert_eq!(resumed["held_by"], Value::Null);
    }
    assert_eq!(world.asks("ci", "X-A: b").await.0, 200);
    let records = world.lab.finish_with_changes().await;
    let told = records.iter().filter(|it| it.to_string().contains("\"paused\"")).count();
    assert!(told >= 2, "who paused whom is in the audit log: {records:#?}");
}

#[tokio::test]
async fn honeytokens_are_of_one_organisation_and_no_member_sees_them() {
    let world = World::with(|plan| plan, &[]).await;
    world.bait("readme", false).await;
    let api = &world.lab.gateway;
    for bad in
        [json!({"name": ".."}), json!({"name": "readme"}), json!({"name": "a", "provider": "acne"})]
    {
        let refused = api.api("POST", "/honeytokens", &bad.to_string()).await;
        assert!([404, 409, 422].contains(&refused.head.status()), "{bad}: {}", refused.text());
    }
    api.api("POST", "/orgs", r#"{"name":"elsewhere"}"#).await;
    let theirs = "keyward-org: elsewhere\r\n";
    let seen = api.api_with(theirs, ("GET", "/honeytokens/readme"), "").await;
    let unknown = api.api_with(theirs, ("GET", "/honeytokens/nothing"), "").await;
    assert_eq!((seen.head.status(), unknown.head.status()), (404, 404));
    api.api("POST", "/users", r#"{"name":"bob","role":"member"}"#).await;
    let token = api.api("POST", "/tokens", r#"{"user":"bob"}"#).await.json()["token"].clone();
    let who = format!("authorization: Bearer {}\r\n", token.as_str().expect("shown once"));
    api.api_with(&who, ("GET", "/honeytokens"), "").await.is(403);
    world.lab.finish().await;
}

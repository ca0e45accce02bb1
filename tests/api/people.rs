//! People, organisations and ownership: a resource that a person may not see is answered byte for byte like one that does
//! not exist, on every route of the admin API and through the proxy.

pub(crate) mod routes;
mod runs;
mod status;
pub(crate) mod world;

use std::collections::BTreeSet;

use serde_json::{Value, json};

use self::routes::{Route, routes};
use self::world::{Ask, Own, Person, World};
use test_support::*;

/// An attempt for something that is not the attacker's, and the same for what there is not.
struct Attempt {
    by: Person,
    real: Ask,
    control: Ask,
    /// What was named, in both.
    named: (String, String),
}

/// What an answer says apart from the name that was asked for.
fn plain(answer: &Message, named: &str) -> String {
    let head = String::from_utf8_lossy(&answer.head.raw).into_owned();
    let of_request = |line: &str| line.starts_with("date:") || line.starts_with("keyward-request:");
    let head: String = head.lines().filter(|line| !of_request(line)).collect();
    // An organisation is told by its name, however it was asked for.
    let short = named.strip_prefix("org_").unwrap_or(named);
    let text = answer.text().replace(named, "NAMED").replace(short, "NAMED");
    format!("{head}\n{}", world::without_ids(&text))
}

impl Attempt {
    /// Both answers: alike, and neither tells anything of anybody else.
    async fn fails_alike(&self, world: &World) {
        let real = world.ask(Some(&self.by), &self.real).await;
        let control = world.ask(Some(&self.by), &self.control).await;
        let told = (plain(&real, &self.named.0), plain(&control, &self.named.1));
        let (by, ask) = (&self.by, &self.real);
        assert_eq!(told.0, told.1, "{} of {} as {}: {ask:?}", by.name, by.org, by.role);
        let hidden = world.hidden_from(by);
        for name in hidden.iter().filter(|name| !self.named.0.contains(*name)) {
            assert!(!told.0.contains(name), "{ask:?} tells {name}: {}", told.0);
        }
    }
}

/// Everything that somebody could try with one thing: each route that names one of its kind, and what
/// names one in a query or a body.
fn attempts(world: &World, by: &Person, of: &str, real: &str) -> Vec<Attempt> {
    let control = world.unknown(of, real);
    let mut all = Vec::new();
    let mut push = |make: &dyn Fn(&str) -> Ask| {
        let named = (real.to_owned(), control.clone());
        all.push(Attempt { by: by.clone(), real: make(real), control: make(&control), named });
    };
    let own = world.own(by);
    for route in routes() {
        let variable = format!("{{{of}}}");
        for method in route.methods.iter().filter(|_| route.path.contains(&variable)) {
            push(&|name| {
                let path = own.fill(&route.path.replace(&variable, name));
                Ask::new(method, &path, own.body(method, &route.path))
            });
        }
    }
    mentions(&own, of, &mut push);
    all
}

/// What names one of the kind in a query, a body or a field.
fn mentions(own: &Own, of: &str, mut push: impl FnMut(&dyn Fn(&str) -> Ask)) {
    let agent = format!("/agents/{}", own.agent);
    match of {
        "agent" => {
            let url = format!("https://{HOST}/");
            push(&|name| Ask::post("/rules/explain", json!({"agent": name, "url": url})));
            let case = |name: &str| json!({"agent": name, "request": url, "expect": "deny"});
            push(&|name| Ask::post("/rules/test", json!({"cases": [case(name)]})));
            push(&|name| Ask::post("/runs", json!({"agent": name, "label": "run 1"})));
            let own = json!([own.connection]);
            push(&|name| Ask::post("/sessions", json!({"agent": name, "connections": own})));
            push(&|name| Ask::get(&format!("/audit?agent={name}")));
            push(&|name| Ask::get(&format!("/audit/counts?by=rule&agent={name}")));
            push(&|name| Ask::get(&format!("/agents?q={name}")));
            push(&|name| Ask::get(&format!("/streams?agent={name}")));
            push(&|name| Ask::get(&format!("/rules?agent={name}")));
        }
        "connection" => {
            push(&|name| Ask::post(&format!("{agent}/bindings"), json!({"connection": name})));
            let session = |name: &str| json!({"agent": own.agent, "connections": [name]});
            push(&|name| Ask::post("/sessions", session(name)));
            push(&|name| Ask::post("/connect-sessions", json!({"connection": name})));
            push(&|name| Ask::get(&format!("/audit?connection={name}")));
            push(&|name| Ask::get(&format!("/connections?q={name}")));
            push(&|name| Ask::get(&format!("/streams?connection={name}")));
            push(&|name| Ask::get(&format!("/flows?connection={name}")));
            push(&|name| Ask::get(&format!("/rules?q={name}")));
        }
        "app" => {
            let new = |name: &str| json!({"provider": "google", "name": "new-one", "app": name});
            push(&|name| Ask::post("/connections", new(name)));
            push(&|name| Ask::get(&format!("/apps?q={name}")));
        }
        "user" => {
            push(&|name| Ask::post("/tokens", json!({"user": name})));
            let session = |name: &str| json!({"agent": own.agent, "user": name});
            push(&|name| Ask::post("/sessions", session(name)));
            let link = |name: &str| json!({"user": name, "providers": ["github"]});
            push(&|name| Ask::post("/connect-sessions", link(name)));
            push(&|name| Ask::post("/agents", json!({"name": "new-one", "owner": name})));
            push(&|name| Ask::new("PATCH", &agent, Some(json!({"owner": name}))));
            push(&|name| {
                let path = format!("/connections/{}", own.connection);
                Ask::new("PATCH", &path, Some(json!({"owner": name})))
            });
            push(&|name| Ask::get(&format!("/users?q={name}")));
            push(&|name| Ask::get(&format!("/connections?owner={name}")));
        }
        "org" => {
            for path in ["/agents", "/connections", "/apps", "/users", "/tokens", "/audit", "/orgs"]
            {
                push(&|name| Ask::get(path).in_org(name));
            }
            push(&|name| Ask::post("/agents", json!({"name": "new-one"})).in_org(name));
        }
        _ => {}
    }
}

#[tokio::test]
async fn a_resource_of_another_organisation_or_person_is_answered_like_an_unknown_one() {
    let world = World::new().await;
    let before = world.everything();
    let mut count = 0;
    for by in world.people() {
        let mut tried = BTreeSet::new();
        for thing in world.things_hidden_from(&by) {
            // Of each kind one for each organisation and owner: others are like it.
            if !tried.insert((thing.kind, thing.org.clone(), thing.owner.clone())) {
                continue;
            }
            for named in [&thing.id, &thing.name].into_iter().flatten() {
                for attempt in attempts(&world, &by, thing.kind, named) {
                    attempt.fails_alike(&world).await;
                    count += 1;
                }
            }
        }
    }
    assert!(count >= 300, "only {count} attempts");
    assert_eq!(world.everything(), before, "nothing was changed");
    assert_eq!(world.lab.origin.received().len(), 0, "nothing was sent");
    world.finish().await;
}

#[tokio::test]
async fn lists_contain_exactly_the_resources_that_their_caller_may_see() {
    let world = World::new().await;
    for by in world.people() {
        let hidden = world.hidden_from(&by);
        let seen = world.visible_to(&by);
        let mut told = String::new();
        let paths = ["/agents", "/connections", "/apps", "/users", "/tokens", "/orgs", "/rules"];
        for path in paths.into_iter().chain(["/status"]) {
            let answer = world.ask(Some(&by), &Ask::get(path)).await;
            assert_eq!(answer.head.status(), 200, "{path}: {}", answer.text());
            told += &answer.text();
        }
        for name in hidden {
            assert!(!told.contains(&name), "{} of {} sees {name}", by.role, by.org);
        }
        // The same claim the other way round: what is theirs is there.
        for name in seen {
            assert!(told.contains(&name), "{} of {} misses {name}", by.role, by.org);
        }
    }
    world.finish().await;
}

#[tokio::test]
async fn writes_of_auditors_and_of_members_to_shared_or_admin_resources_are_refused() {
    let world = World::new().await;
    let before = world.everything();
    for by in world.people().into_iter().filter(|by| by.role != "admin") {
        let own = world.own(&by);
        let shared = world.shared(&by.org);
        let writes = |route: &&Route| route.writes_something() && !route.is_of_oneself();
        for route in routes().iter().filter(writes) {
            let is_of_connection = route.path.starts_with("/connections/{connection}");
            for method in route.methods.iter().filter(|method| **method != "GET") {
                // What a member has of their own is theirs to change.
                let theirs = !is_of_connection && !route.is_of_admins();
                if by.role == "member" && (theirs || route.only_uses()) {
                    continue;
                }
                let path = route.path.replace("{connection}", &shared);
                let ask = Ask::new(method, &own.fill(&path), own.body(method, &route.path));
                let answer = world.ask(Some(&by), &ask).await;
                assert_eq!(answer.head.status(), 403, "{}: {ask:?} {}", by.role, answer.text());
                let code = &answer.json()["error"]["code"];
                assert_eq!(code, "not_allowed", "{ask:?}");
            }
        }
    }
    assert_eq!(world.everything(), before, "nothing was changed");
    world.finish().await;
}

#[tokio::test]
async fn installation_wide_routes_are_refused_to_members_and_other_organisations() {
    let world = World::new().await;
    let asks = || {
        [
            Ask::get("/keys"),
            Ask::post("/keys/rotate", json!({})),
            Ask::post("/plan", json!({})),
            Ask::post("/store/check", json!({})),
            Ask::post("/reload", json!({})),
        ]
    };
    for by in world.people() {
        for ask in asks() {
            let answer = world.ask(Some(&by), &ask).await;
            let is_own = by.org == "default" && by.role == "admin"
                || by.org == "default" && by.role == "auditor" && ask.method == "GET";
            match is_own {
                true => assert_eq!(answer.head.status(), 200, "{ask:?} {}", answer.text()),
                false => {
                    assert_eq!(answer.head.status(), 403, "{} of {}: {ask:?}", by.role, by.org);
                    let names_role = answer.text().contains("the role");
                    assert_eq!(names_role, by.org == "default", "{}", answer.text());
                }
            }
        }
        let new = Ask::post("/orgs", json!({"name": "umbrella"}));
        assert_eq!(world.ask(Some(&by), &new).await.head.status(), 403, "{} {}", by.role, by.org);
    }
    world.finish().await;
}

#[tokio::test]
async fn the_proxy_answers_names_of_other_organisations_like_unknown_ones() {
    let world = World::new().await;
    let agents = world.working_agents();
    let mut count = 0;
    for agent in &agents {
        for other in agents.iter().filter(|other| other.name != agent.name) {
            let mut answers = Vec::new();
            for (name, placeholder) in [
                (other.connection.clone(), other.placeholder.clone()),
                (world.unknown("connection", &other.connection), world.unissued()),
            ] {
                let mut told = vec![
                    world.through(agent, &format!("Keyward-Connection: {name}")).await,
                    world.through(agent, &format!("X-Api-Key: {placeholder}")).await,
                    world.base_url(agent, &name).await,
                ];
                for answer in &mut told {
                    assert!((400..500).contains(&answer.head.status()), "{answer:?}");
                }
                let plain = told.iter().map(|answer| world::without_exchange(answer, &name));
                answers.push(plain.collect::<Vec<_>>());
            }
            assert_eq!(answers[0], answers[1]);
            count += answers[0].len();
        }
    }
    assert!(count >= 18, "only {count} attempts");
    assert_eq!(world.lab.origin.received().len(), 0, "nothing was sent");
    // What is the agent's own works, and carries its own secret.
    for agent in &agents {
        let answer = world.through(agent, &format!("X-Api-Key: {}", agent.placeholder)).await;
        assert_eq!((answer.head.status(), &*answer.text()), (200, "fine"), "{answer:?}");
        let received = world.lab.origin.received();
        assert_eq!(received.last().unwrap().head.all("x-api-key"), [&*agent.secret]);
    }
    world.finish().await;
}

#[tokio::test]
async fn an_invalid_token_is_answered_401_and_never_treated_as_the_operator_s() {
    let world = World::new().await;
    let admin = world.person("acme", "admin");
    let revoked = {
        let made = world.ask(Some(&admin), &Ask::post("/tokens", json!({"label": "gone"}))).await;
        let made = made.json();
        let path = format!("/tokens/{}", made["id"].as_str().unwrap());
        world.ask(Some(&admin), &Ask::new("DELETE", &path, None)).await.is(204);
        made["token"].as_str().unwrap().to_owned()
    };
    let agent = world.working_agents()[0].token.clone();
    let other = if admin.token.ends_with('0') { '1' } else { '0' };
    let typo = format!("{}{other}", &admin.token[..admin.token.len() - 1]);
    for authorization in [
        format!("Bearer {revoked}"),
        format!("Bearer {typo}"),
        format!("Bearer {agent}"),
        format!("Basic {}", admin.token),
        "Bearer".to_owned(),
        String::new(),
        format!("Bearer {0}\r\nAuthorization: Bearer {0}", admin.token),
    ] {
        for ask in
            [Ask::get("/agents"), Ask::get("/nothing"), Ask::post("/agents", json!({"name": "x"}))]
        {
            let fields = format!("Authorization: {authorization}\r\n");
            let answer = world.lab.gateway.api_with(&fields, ask.line(), &ask.text()).await;
            assert_eq!(answer.head.status(), 401, "{ask:?}: {}", answer.text());
            assert_eq!(answer.head.one("www-authenticate"), Some("Bearer realm=\"keyward\""));
        }
    }
    world.ask(Some(&admin), &Ask::get("/agents")).await.is(200);
    world.finish().await;
}

#[tokio::test]
async fn scopes_and_expiry_limit_what_a_token_may_do_and_which_tokens_it_makes() {
    let world = World::new().await;
    let admin = world.person("acme", "admin");
    let made = |new: Value| Ask::post("/tokens", new);
    let reads = json!({"scopes": ["read", "users:write"], "ttl": "1h"});
    let reads = world.ask(Some(&admin), &made(reads)).await.json();
    let reader = Person { token: reads["token"].as_str().unwrap().to_owned(), ..admin.clone() };
    assert_eq!(world.ask(Some(&reader), &Ask::get("/agents")).await.head.status(), 200);
    let write = Ask::post("/agents", json!({"name": "robot"}));
    let refused = world.ask(Some(&reader), &write).await;
    assert_eq!(
        (refused.head.status(), refused.json()["error"]["code"].as_str()),
        (403, Some("scope_missing"))
    );
    let other = world.person("acme", "member").name;
    for (new, status) in [
        (json!({}), 403),
        (json!({"scopes": ["agents:write"], "ttl": "1m"}), 403),
        (json!({"scopes": ["read"]}), 422),
        (json!({"user": other, "scopes": ["read"]}), 422),
        (json!({"user": other, "scopes": ["read"], "ttl": "2h"}), 422),
        (json!({"user": other, "scopes": ["read"], "ttl": "1m"}), 201),
        (json!({"scopes": ["read"], "ttl": "2h"}), 422),
        (json!({"scopes": ["everything"], "ttl": "1m"}), 422),
        (json!({"scopes": ["connections:read"], "ttl": "1m"}), 201),
    ] {
        let answer = world.ask(Some(&reader), &made(new.clone())).await;
        assert_eq!(answer.head.status(), status, "{new}: {}", answer.text());
    }
    // The same token, by somebody who may do less from now on.
    let path = format!("/users/{}", admin.name);
    let demoted =
        world.ask(None, Ask::new("PATCH", &path, Some(json!({"role": "auditor"}))).in_org("acme"));
    assert_eq!(demoted.await.head.status(), 200);
    assert_eq!(world.ask(Some(&admin), &write).await.head.status(), 403);
    let paused =
        world.ask(None, Ask::new("PATCH", &path, Some(json!({"paused": true}))).in_org("acme"));
    assert_eq!(paused.await.head.status(), 200);
    assert_eq!(world.ask(Some(&admin), &Ask::get("/agents")).await.head.status(), 401);
    world.finish().await;
}

#[tokio::test]
async fn a_private_connection_is_bound_to_no_agent_of_somebody_else() {
    let world = World::new().await;
    let (admin, one, two) =
        (world.person("acme", "admin"), world.person("acme", "member"), world.member("acme", 1));
    let (own, other) = (world.own(&one), world.own(&two));
    let bind = |agent: &str, connection: &str| {
        Ask::post(&format!("/agents/{agent}/bindings"), json!({"connection": connection}))
    };
    let refused = world.ask(Some(&admin), &bind(&other.agent, &own.connection)).await.is(422);
    assert!(refused.text().contains("is private: only agents of its owner"), "{}", refused.text());
    let path = format!("/connections/{}", own.connection);
    let share = |how: &str| Ask::new("PATCH", &path, Some(json!({"visibility": how})));
    assert_eq!(world.ask(Some(&two), &share("shared")).await.head.status(), 404);
    assert_eq!(world.ask(Some(&one), &share("shared")).await.head.status(), 200);
    world.ask(Some(&two), &bind(&other.agent, &own.connection)).await.is(201);
    // Somebody else uses it now.
    world.ask(Some(&one), &share("private")).await.is(422);
    let give = json!({"owner": two.name});
    let agent = format!("/agents/{}", own.agent);
    world.ask(Some(&one), &Ask::new("PATCH", &agent, Some(give))).await.is(404);
    world.finish().await;
}

#[tokio::test]
async fn agents_of_a_paused_user_are_refused_and_a_user_who_owns_some_is_not_removed() {
    let world = World::new().await;
    let agent = world.working_agents().into_iter().find(|agent| agent.org == "acme").unwrap();
    let one = world.person("acme", "member");
    let (path, placeholder) =
        (format!("/users/{}", one.name), format!("X-Api-Key: {}", agent.placeholder));
    let patch = |paused: bool| {
        world.ask(None, Ask::new("PATCH", &path, Some(json!({"paused": paused}))).in_org("acme"))
    };
    let mut open = world.tunnel(&agent).await;
    assert_eq!(world.through(&agent, &placeholder).await.head.status(), 200);
    assert_eq!(patch(true).await.head.status(), 200);
    assert!(open.is_closed().await, "what was open ends");
    assert_eq!(world.connect(&agent).await, 407);
    assert_eq!(patch(false).await.head.status(), 200);
    assert_eq!(world.through(&agent, &placeholder).await.head.status(), 200);
    let remove = Ask::new("DELETE", &path, None).in_org("acme");
    world.ask(None, &remove).await.is(422).says("owns");
    world.finish().await;
}

#[tokio::test]
async fn changes_are_audited_with_who_made_them_and_only_in_their_organisation() {
    let world = World::new().await;
    let (one, admin) = (world.person("acme", "member"), world.person("acme", "admin"));
    let own = world.own(&one);
    let pause = Ask::post(&format!("/connections/{}/pause", own.connection), json!({}));
    assert_eq!(world.ask(Some(&one), &pause).await.head.status(), 200);
    let foreign = Ask::post(&format!("/connections/{}/pause", own.connection), json!({}));
    let stranger = world.person("globex", "member");
    assert_eq!(world.ask(Some(&stranger), &foreign).await.head.status(), 404);
    let connection = own.connection.clone();
    let changes = world.finish().await;
    let of = |org: &str| {
        let org = format!("org_{org}");
        changes.iter().filter(move |record| record["org"] == *org).collect::<Vec<_>>()
    };
    let paused = of("acme").into_iter().find(|record| record["change"]["action"] == "pause");
    let paused = paused.expect("a record");
    assert_eq!(paused["change"]["by"].as_str().map(|by| by.starts_with("usr_")), Some(true));
    assert_eq!(paused["change"]["user"], one.name);
    assert_eq!(paused["change"]["what"], "connection");
    assert_eq!(paused["change"]["name"], connection);
    assert_eq!((&paused["outcome"], &paused["status"]), (&json!("completed"), &json!(200)));
    let refused = of("globex").into_iter().find(|record| record["change"]["action"] == "pause");
    let refused = refused.expect("attempts are told as well");
    assert_eq!((&refused["outcome"], &refused["code"]), (&json!("refused"), &json!("not_found")));
    assert_eq!(refused["change"]["id"], Value::Null, "it had nothing to do with that one");
    assert!(
        !changes
            .iter()
            .any(|record| record["change"]["user"] == admin.name && record["outcome"] == "refused")
    );
}

#[tokio::test]
async fn people_and_their_resources_survive_a_restart() {
    let mut world = World::new().await;
    let before = world.everything();
    world.lab.gateway.restart().await;
    assert_eq!(world.everything(), before);
    let one = world.person("acme", "member");
    let answer = world
        .ask(Some(&one), &Ask::get(&format!("/connections/{}", world.own(&one).connection)))
        .await
        .is(200);
    assert_eq!(answer.json()["visibility"], "private");
    world.finish().await;
}

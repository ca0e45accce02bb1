//! 300 generated attempts: no request in a session is sent with a credential outside of what both the agent and the
//! session allow. An oracle that knows only this test's own data says what is allowed.

use std::collections::{BTreeMap, BTreeSet};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};

use test_support::canary::Canary;
use test_support::*;

const USERS: usize = 4;
const AGENTS: usize = 3;
const CONNECTIONS: usize = 20;
const SESSIONS: usize = 40;
const ATTEMPTS: usize = 300;

const PROVIDERS: [(&str, &str); 2] = [("acme", HOST), ("beta", "third.acme.test")];
const ENVIRONMENTS: [Option<&str>; 3] = [None, Some("dev"), Some("prod")];

/// A linear congruential generator: the same attempts in each run.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % bound
    }

    fn one_in(&mut self, chances: usize) -> bool {
        self.below(chances) == 0
    }
}

struct Connection {
    owner: Option<usize>,
    shared: bool,
    provider: usize,
    environment: Option<&'static str>,
    secret: Canary,
}

struct Agent {
    environment: Option<&'static str>,
    serves: BTreeSet<usize>,
    bound: BTreeSet<usize>,
}

struct Session {
    agent: usize,
    user: Option<usize>,
    named: Option<BTreeSet<usize>>,
    environment: Option<&'static str>,
    token: String,
}

struct World {
    lab: Lab,
    random: Random,
    connections: Vec<Connection>,
    agents: Vec<Agent>,
    sessions: Vec<Session>,
    /// Connections that rules use: a rule may refuse other requests with them.
    ruled: BTreeSet<usize>,
}

fn agree(one: Option<&str>, other: Option<&str>) -> bool {
    one.is_none() || other.is_none() || one == other
}

/// The oracle: whether the agent may use the connection in a session with this user and environment.
fn may_use(agent: &Agent, session: &Session, at: usize, connection: &Connection) -> bool {
    let environments = agree(agent.environment, connection.environment)
        && agree(session.environment, connection.environment);
    let owner =
        connection.owner.is_none() || session.user.is_none() || connection.owner == session.user;
    let served = connection.owner.is_some() && agent.serves.contains(&connection.provider);
    environments && owner && (served || agent.bound.contains(&at))
}

impl World {
    async fn api(&self, method: &str, path: &str, body: Value) -> (u16, Value) {
        let answer = self.lab.gateway.api(method, path, &body.to_string()).await;
        (answer.head.status(), answer.json())
    }

    async fn done(&self, method: &str, path: &str, body: Value) -> Value {
        let (status, answer) = self.api(method, path, body).await;
        assert!(status < 300, "{method} {path}: {answer}");
        answer
    }

    async fn new() -> Self {
        let beta = "{ id: beta, name: Beta, hosts: [third.acme.test], \
                    auth: [{ id: key, kind: api_key, placement: { header: X-Api-Key } }] }";
        let lab = Plan::api_key().no_agents().provider(beta).start(Origin::saying("fine")).await;
        let (connections, agents, sessions) = (vec![], vec![], vec![]);
        let (random, ruled) = (Random(14), BTreeSet::new());
        let mut world = Self { lab, random, connections, agents, sessions, ruled };
        for user in 0..USERS {
            let new = json!({"name": format!("auth0|{user}"), "role": "end_user"});
            world.done("POST", "/users", new).await;
        }
        for at in 0..CONNECTIONS {
            world.add_connection(at).await;
        }
        for at in 0..AGENTS {
            world.add_agent(at).await;
        }
        world.add_rules().await;
        world
    }

    async fn add_connection(&mut self, at: usize) {
        let random = &mut self.random;
        let owner = (!random.one_in(4)).then(|| random.below(USERS));
        let connection = Connection {
            owner,
            shared: owner.is_none() || random.one_in(3),
            provider: random.below(2),
            environment: ENVIRONMENTS[random.below(3)],
            secret: Canary::new("cnry"),
        };
        let new = json!({
            "provider": PROVIDERS[connection.provider].0, "name": format!("c{at}"),
            "environment": connection.environment,
            "visibility": if connection.shared { "shared" } else { "private" },
            "owner": owner.map(|user| format!("auth0|{user}")),
            "fields": {"api_key": connection.secret.text},
        });
        self.done("POST", "/connections", new).await;
        self.lab.guard(connection.secret.clone());
        self.connections.push(connection);
    }

    async fn add_agent(&mut self, at: usize) {
        let random = &mut self.random;
        let environment = ENVIRONMENTS[random.below(3)];
        let serves: BTreeSet<usize> = (0..2).filter(|_| random.one_in(2)).collect();
        let providers: Vec<_> = serves.iter().map(|provider| PROVIDERS[*provider].0).collect();
        let providers = if providers.len() == 2 { vec!["*"] } else { providers };
        let name = format!("a{at}");
        let new = json!({"name": name, "environment": environment, "user_providers": providers});
        self.done("POST", "/agents", new).await;
        let mut bound = BTreeSet::new();
        for _ in 0..6 {
            let connection = self.random.below(CONNECTIONS);
            let body = json!({"connection": format!("c{connection}")});
            let (status, _) = self.api("POST", &format!("/agents/{name}/bindings"), body).await;
            if status == 201 {
                bound.insert(connection);
            }
        }
        self.agents.push(Agent { environment, serves, bound });
    }

    /// Rules that grant, that narrow and that deny.
    async fn add_rules(&mut self) {
        let deny = json!({"name": "deny", "paths": ["/denied/**"], "action": "deny"});
        self.done("POST", "/rules", deny).await;
        for number in 0..6 {
            let used = self.random.below(CONNECTIONS);
            let agents =
                self.random.one_in(2).then(|| vec![format!("a{}", self.random.below(AGENTS))]);
            let mut rule = json!({
                "name": format!("r{number}"), "use": format!("c{used}"),
                "hosts": [PROVIDERS[self.connections[used].provider].1], "paths": ["/ruled/**"],
            });
            if let Some(agents) = agents {
                rule["agents"] = json!(agents);
            }
            // A grant across environments or owners is refused.
            if self.api("POST", "/rules", rule).await.0 == 201 {
                self.ruled.insert(used);
            }
        }
    }

    /// Tries to make a session; the oracle says whether it is refused.
    async fn try_session(&mut self) {
        let random = &mut self.random;
        let user = (!random.one_in(4)).then(|| random.below(USERS));
        let named = (user.is_none() || random.one_in(3))
            .then(|| (0..=random.below(2)).map(|_| random.below(CONNECTIONS)).collect());
        let (agent, token) = (random.below(AGENTS), String::new());
        let environment = ENVIRONMENTS[random.below(3)].filter(|_| random.one_in(2));
        let session = Session { agent, user, named, environment, token };
        let of_agent = &self.agents[agent];
        let names = session.named.as_ref();
        let mut wanted = names.into_iter().flatten();
        let allowed = agree(of_agent.environment, session.environment)
            && wanted.all(|at| may_use(of_agent, &session, *at, &self.connections[*at]));
        let mut body = json!({"agent": format!("a{agent}")});
        if let Some(user) = user {
            body["user"] = json!(format!("auth0|{user}"));
        }
        if let Some(names) = names {
            body["connections"] = names.iter().map(|at| format!("c{at}")).collect();
        }
        if let Some(environment) = environment {
            body["environment"] = json!(environment);
        }
        let (status, answer) = self.api("POST", "/sessions", body.clone()).await;
        assert_eq!(status == 201, allowed, "{body}: {answer}");
        if allowed {
            let token = answer["token"].as_str().expect("shown once").to_owned();
            self.lab.guard(Canary::of(token.clone()));
            self.sessions.push(Session { token, ..session });
        }
    }

    fn allowed(&self, session: &Session) -> BTreeSet<usize> {
        let agent = &self.agents[session.agent];
        let all = self.connections.iter().enumerate();
        let all = all.filter(|(at, connection)| may_use(agent, session, *at, connection));
        let wanted = all.filter(|(at, connection)| match &session.named {
            Some(named) => named.contains(at),
            None => connection.owner.is_some() && connection.owner == session.user,
        });
        wanted.map(|(at, _)| at).collect()
    }

    /// One request in a session. Whether a credential was injected.
    async fn attempt(&mut self) -> bool {
        let random = &mut self.random;
        let (session, provider) = (random.below(self.sessions.len()), random.below(2));
        let path = ["/", "/ruled/x", "/denied/x"][random.below(3)];
        let named = random.one_in(3).then(|| random.below(CONNECTIONS));
        let (session, host) = (&self.sessions[session], PROVIDERS[provider].1);
        let allowed = self.allowed(session);
        let pair = BASE64_STANDARD.encode(format!("a{}:{}", session.agent, session.token));
        let field = named.map(|at| format!("Keyward-Connection: c{at}\r\n")).unwrap_or_default();
        let before = self.lab.origin.received().len();
        let mut wire = self.lab.client().await;
        wire.send(format!(
            "GET https://{host}{path} HTTP/1.1\r\nHost: {host}\r\n{field}Proxy-Authorization: Basic {pair}\r\n\r\n"
        ))
        .await;
        let answer = wire.answer("GET").await;
        let received = self.lab.origin.received();
        let what = format!("{path} at {host} of {:?}, named {named:?}: {}", allowed, answer.text());
        let at_host = |at: &usize| self.connections[*at].provider == provider;
        let free = |at: &usize| at_host(at) && !self.ruled.contains(at);
        let must_pass = path == "/" && named.is_some_and(|at| allowed.contains(&at) && free(&at));
        assert!(!must_pass || answer.head.status() == 200, "{what}");
        let Some(request) = received.get(before) else { return false };
        assert_ne!(path, "/denied/x", "{what}");
        let sent = request.head.one("x-api-key").expect("no host is allowed without a credential");
        let mut all = self.connections.iter();
        let used = all.position(|it| it.secret.text == sent).expect("a connection of this test");
        assert!(allowed.contains(&used), "c{used} was injected: {what}");
        assert!(at_host(&used) && named.is_none_or(|at| at == used), "c{used}: {what}");
        true
    }

    /// Changes what an agent may use, which counts for live sessions.
    async fn change(&mut self) {
        let at = self.random.below(AGENTS);
        let serves: BTreeSet<usize> = (0..2).filter(|_| self.random.one_in(2)).collect();
        let providers: Vec<_> = serves.iter().map(|provider| PROVIDERS[*provider].0).collect();
        let path = format!("/agents/a{at}");
        self.done("PATCH", &path, json!({"user_providers": providers})).await;
        self.agents[at].serves = serves;
        if let Some(unbound) = self.agents[at].bound.pop_first() {
            let path = format!("{path}/bindings/c{unbound}");
            self.lab.gateway.api("DELETE", &path, "").await.is(204);
        }
    }
}

#[tokio::test]
async fn no_generated_attempt_reaches_more_than_agent_and_end_user_both_allow() {
    let mut world = World::new().await;
    let mut injected = BTreeMap::from([(false, 0), (true, 0)]);
    for attempt in 0..ATTEMPTS {
        if attempt % (ATTEMPTS / SESSIONS) == 0 {
            while world.sessions.len() <= attempt * SESSIONS / ATTEMPTS / 2 {
                world.try_session().await;
            }
            world.try_session().await;
        }
        if attempt % 50 == 49 {
            world.change().await;
        }
        let was = world.attempt().await;
        *injected.get_mut(&was).expect("both are there") += 1;
    }
    assert!(injected.values().all(|count| *count >= ATTEMPTS / 15), "{injected:?}");
    world.lab.finish().await;
}

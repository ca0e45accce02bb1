//! An hour of mixed load on one gateway, while grants are refreshed, the configuration is reloaded,
//! agents, connections and access tokens come and go, and at the end the process is killed again and
//! again: memory, threads and descriptors stay flat, no request fails, and every grant works
//! afterwards. Elsewhere than in `tests/run --soak` it takes half a minute.

mod load;
mod samples;

use std::collections::HashSet;
use std::fs;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::json;
use tokio::time::interval;

use self::load::Load;
use self::samples::{Flat, Samples};
use test_support::authorization::{Authorization, Rules};
use test_support::process::{Served, soak};
use test_support::tokens::{method, plan_of, refresh_only, short};
use test_support::*;

/// Connections that one agent may use.
const GRANTS_PER_AGENT: usize = 5;

/// A spent refresh token is taken once more within this time, as servers do that can be recovered
/// from: kill -9 between a server's answer and our disk would end any other grant.
const GRACE: Duration = Duration::from_secs(120);

/// What is done, and for how long.
pub(super) struct Pace {
    agents: usize,
    /// Requests a second that are due.
    rate: usize,
    /// Life of an access token in seconds: it is refreshed at half of it.
    token_life: f64,
    /// Without a kill: memory is measured.
    steady: Duration,
    /// Between two samples, and two changes.
    sampled_every: Duration,
    kills: usize,
    /// Answers between two kills, about.
    answers_per_life: usize,
}

impl Pace {
    fn here() -> Self {
        let seconds = Duration::from_secs;
        match soak() {
            true => Self {
                agents: 50,
                rate: 150,
                token_life: 20.0,
                steady: seconds(super::scaled(60.0 * 60.0) as u64),
                sampled_every: seconds(10),
                kills: super::scaled(30.0),
                answers_per_life: 28 * 150,
            },
            false => Self {
                agents: 4,
                rate: 40,
                token_life: 6.0,
                steady: seconds(15),
                sampled_every: seconds(1),
                kills: 2,
                answers_per_life: 3 * 40,
            },
        }
    }

    fn grants(&self) -> usize {
        self.agents * GRANTS_PER_AGENT
    }
}

/// The gateway, and what stands around it.
struct World {
    served: Served,
    authorization: Authorization,
    load: Arc<Load>,
    base: String,
    changes: usize,
}

impl World {
    async fn start(pace: &Pace) -> Self {
        let authorization =
            Authorization::with(Rules { grace: GRACE, ..short(pace.token_life) }).await;
        let origin = load::api(&authorization);
        let variables = variables(&authorization, pace);
        let plan = plan(&authorization, pace);
        let mut given: Vec<(&str, &str)> = vec![("CANARY", &plan.canary().text)];
        given.extend(variables.iter().map(|(name, value)| (&**name, &**value)));
        let served = Served::start_quietly(&plan, &origin, &given);
        let roots = served.roots();
        let base = fs::read_to_string(served.config()).expect("the configuration");
        let load = Arc::new(Load::new(origin, &roots, pace, served.proxy));
        Self { served, authorization, load, base, changes: 0 }
    }

    async fn api(&self, method: &str, path: &str, body: &str) -> Message {
        let answer = self.served.api(method, path, body).await;
        let status = answer.head.status();
        assert!(status < 300, "{method} {path}: {}", answer.text());
        answer
    }

    /// What an operator does, one thing after the other.
    async fn changes_something(&mut self) {
        self.changes += 1;
        match self.changes % 4 {
            0 => self.reloads().await,
            1 => self.revokes_an_agent().await,
            2 => self.lends_a_connection().await,
            // Each is renewed at its next 401, and the request sent once more. Between requests: one that meets
            // two tokens that have ended gets the second 401 (oauth 11.5).
            _ => self.load.between_requests(|| self.authorization.issuer().expire_seen()).await,
        }
    }

    /// Rules change by file.
    async fn reloads(&self) {
        let (file, number) = (self.served.config(), self.changes);
        let beside = file.with_extension("new");
        let rule = format!(
            "rules:\n  - {{ name: no{number}, hosts: [{HOST}], paths: [/never], action: deny }}\n"
        );
        fs::write(&beside, format!("{}{rule}", self.base)).expect("a file");
        fs::rename(beside, file).expect("renamed");
        self.api("POST", "/reload", "").await;
    }

    /// A new agent that may use a connection: its name and token.
    async fn guest(&self, connection: &str) -> (String, String) {
        let name = format!("guest-{}", self.changes);
        self.api("POST", "/agents", &json!({ "name": name }).to_string()).await;
        let bind = json!({ "connection": connection }).to_string();
        self.api("POST", &format!("/agents/{name}/bindings"), &bind).await;
        let token = self.api("POST", &format!("/agents/{name}/tokens"), "{}").await.json();
        (name, token["token"].as_str().expect("shown once").to_owned())
    }

    /// An agent comes, reads events, and is removed: its stream ends.
    async fn revokes_an_agent(&self) {
        let (name, token) = self.guest("g0").await;
        let mut events = self.load.events(&token, "g0").await.expect("a stream of events");
        assert!(events.chunk().await.is_some(), "an event");
        self.api("DELETE", &format!("/agents/{name}"), "").await;
        while events.chunk().await.is_some() {}
    }

    /// A connection with a grant of its own comes, is used, and goes.
    async fn lends_a_connection(&self) {
        let name = format!("lent-{}", self.changes);
        let grant = refresh_only(&self.authorization).refresh.expect("a refresh token");
        let new = json!({
            "provider": "acme", "auth": "oauth", "name": name, "fields": { "refresh_token": grant },
        });
        self.api("POST", "/connections", &new.to_string()).await;
        let (agent, token) = self.guest(&name).await;
        self.load.asks_once(&token, &name).await.expect("what is lent works");
        self.api("DELETE", &format!("/connections/{name}"), "").await;
        self.api("DELETE", &format!("/agents/{agent}"), "").await;
    }

    /// Load and changes; samples of the process meanwhile.
    async fn steady(&mut self, pace: &Pace) -> Samples {
        let (began, mut tick) = (Instant::now(), interval(pace.sampled_every));
        let mut samples = Samples::default();
        while began.elapsed() < pace.steady {
            tick.tick().await;
            samples.take(&self.served, began.elapsed(), &self.load);
            self.changes_something().await;
        }
        samples
    }

    /// The load and the refreshes were as intended, and no refresh token was sent twice: the grace is for
    /// kills alone. A busy machine, where this takes seconds, is slower.
    fn asserts_steady(&self, pace: &Pace) {
        let calls = self.authorization.calls();
        let sent: Vec<_> = calls.iter().filter_map(|call| call.form.get("refresh_token")).collect();
        let once: HashSet<_> = sent.iter().collect();
        assert_eq!(once.len(), sent.len(), "refresh tokens that were sent twice");
        if soak() {
            let seconds = pace.steady.as_secs_f64();
            let answers_due = pace.rate as f64 * seconds;
            // At half of its life each token is refreshed.
            let refreshes_due = pace.grants() as f64 * seconds / (pace.token_life / 2.0);
            let answers = self.load.answers() as f64;
            assert!(answers >= 0.8 * answers_due, "{answers} answers of {answers_due}");
            let refreshes = sent.len() as f64;
            assert!(refreshes >= 0.7 * refreshes_due, "{refreshes} refreshes of {refreshes_due}");
        }
    }

    /// Load and changes; the process dies without a word in between.
    async fn killed(&mut self, pace: &Pace) {
        for number in 0..pace.kills {
            // Each at another moment of the refreshes.
            let odd = number * 137 % pace.rate;
            self.load.answered(self.load.answers() + pace.answers_per_life + odd).await;
            self.changes_something().await;
            self.load.goes_down();
            self.served.kill();
            self.served.restart();
            self.load.is_up(self.served.proxy);
        }
    }

    /// Each grant answers a request; none is broken.
    async fn every_grant_works(&self, pace: &Pace) {
        for grant in 0..pace.grants() {
            let name = format!("g{grant}");
            let asked = self.load.asks_once(&load::token(grant / GRANTS_PER_AGENT), &name).await;
            assert_eq!(asked, Ok(()), "{name}");
            let shown = self.api("GET", &format!("/connections/{name}"), "").await.json();
            assert_eq!(shown["state"], "active", "{shown}");
        }
        let refused = self.authorization.calls().into_iter().filter_map(|call| call.error);
        assert_eq!(refused.collect::<Vec<_>>(), Vec::<String>::new(), "refused refreshes");
    }
}

/// Connections `g0`, `g1`, … and agents of five each.
fn plan(authorization: &Authorization, pace: &Pace) -> Plan {
    let first = refresh_only(authorization);
    let mut plan = plan_of(authorization, &first, &method("")).no_agents();
    for grant in 0..pace.grants() {
        let fields = format!("{{ refresh_token: {{ env: R{grant} }} }}");
        let connection = format!("{{ name: g{grant}, provider: acme, fields: {fields} }}");
        plan = plan.connection(&connection);
    }
    for agent in 0..pace.agents {
        let first = agent * GRANTS_PER_AGENT;
        let uses: Vec<_> = (first..first + GRANTS_PER_AGENT).map(|it| format!("g{it}")).collect();
        plan = plan.agent(&load::agent(agent), &uses.join(", "));
    }
    plan
}

/// What the configuration reads from the environment: refresh tokens, and the agents' tokens.
fn variables(authorization: &Authorization, pace: &Pace) -> Vec<(String, String)> {
    let grant = || refresh_only(authorization).refresh.expect("a refresh token");
    let mut variables = vec![("REFRESH".to_owned(), grant())];
    variables.extend((0..pace.grants()).map(|number| (format!("R{number}"), grant())));
    let agents = (0..pace.agents).map(|number| (load::variable(number), load::token(number)));
    variables.extend(agents);
    variables
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_hour_of_load_leaves_memory_and_threads_flat_and_every_grant_usable() {
    let pace = Pace::here();
    let mut world = World::start(&pace).await;
    let workers = world.load.clone().begin(&pace);
    let samples = world.steady(&pace).await;
    samples.print();
    world.asserts_steady(&pace);
    world.killed(&pace).await;
    let done = world.load.clone().ends(workers).await;
    println!("{done}; {} refreshes", world.authorization.calls().len());
    assert_eq!(done.failed, Vec::<String>::new());
    world.every_grant_works(&pace).await;
    assert_eq!(world.served.terminate(), Some(0));
    samples.assert_flat(&if soak() { Flat::over_an_hour() } else { Flat::over_seconds() });
}

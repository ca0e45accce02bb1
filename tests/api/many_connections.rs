//! Many connections and end users: a page of the console, a search and a request in a session take as much work as with
//! few. Work is counted in look-ups, or compared with that of a second gateway in the same run. Times are printed; they
//! are judged only in optimised builds in `tests/run --soak`, where there are ten thousand connections.

use std::time::{Duration, Instant};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use futures_util::StreamExt;
use serde_json::json;

use keyward_app::Services;
use keyward_base::id::{AgentId, OrgId, UserId};
use keyward_base::secret::Secret;
use keyward_base::shared_map;
use keyward_model::{
    Agent, AgentFacts, AgentSpec, ConnectionSpec, ManagedBy, Reference, Role, SessionSpec, User,
    UserFacts, UserSpec, Visibility,
};
use keyward_vault::NewConnection;
use test_support::gateway::Gateway;
use test_support::pki::pki;
use test_support::process::soak;
use test_support::*;

/// With fewer a page would not be full.
const FEW: usize = 100;

/// Sessions that send requests.
const ASKING: usize = 10;

/// Requests of each of them.
const REQUESTS: usize = 20;

/// Additions that are in progress at once.
const AT_ONCE: usize = 64;

/// Requests for a page.
const PAGES: usize = 5;

/// How many connections or end users there are.
fn many() -> usize {
    if soak() { 10_000 } else { 2_000 }
}

/// A gateway with its store in memory, which is filled without the API.
struct World {
    gateway: Gateway,
}

/// A page, and what it shows.
struct Asked {
    path: String,
    expected: String,
    /// Time that it may take in an optimised build.
    within: Duration,
}

/// What a page takes.
struct Cost {
    look_ups: u64,
    time: Duration,
}

impl World {
    async fn new(origin: &Origin) -> Self {
        let plan = Plan::api_key().no_agents().top("store: { memory: {} }");
        // No lab: its search for secrets asks for each connection.
        let variables = [("CANARY".to_owned(), plan.canary().text.clone())].into();
        let files = [("origin-ca.pem", &*pki().pem)];
        let gateway = Gateway::try_start(&plan.yaml(origin), &variables, &files).await;
        Self { gateway: gateway.expect("it starts") }
    }

    fn services(&self) -> &Services {
        self.gateway.running().services()
    }

    /// Connections `c-00000`…, each with a key `key-00000-…` of its own.
    async fn connections(&self, count: usize) {
        self.fill(count, async |number| self.connection(number, None).await).await;
    }

    /// The same connections, each of an end user `u-00000`….
    async fn end_users(&self, count: usize) -> Vec<UserId> {
        let add = async |number| {
            let name = format!("u-{number:05}");
            let spec = UserSpec { name, email: None, role: Role::EndUser, paused: false };
            let (directory, org) = (&self.services().directory, OrgId::default_org());
            let user = directory.add::<User>(&org, ManagedBy::Store, spec, UserFacts::default());
            let user = user.await.expect("a user").id.clone();
            self.connection(number, Some(user.clone())).await;
            user
        };
        self.fill(count, add).await
    }

    async fn fill<T>(&self, count: usize, add: impl AsyncFn(usize) -> T) -> Vec<T> {
        let began = Instant::now();
        let adding = futures_util::stream::iter((0..count).map(|number| add(number)));
        let added = adding.buffered(AT_ONCE).collect().await;
        self.services().rulebook.rebuild().await.expect("it compiles");
        println!("{count} connections: added in {:.1?}", began.elapsed());
        added
    }

    async fn connection(&self, number: usize, owner: Option<UserId>) {
        let spec = ConnectionSpec {
            name: name_of(number),
            provider: "acme".to_owned(),
            tags: [format!("tier-{}", number % 2)].into(),
            ..ConnectionSpec::default()
        };
        let visibility = if owner.is_some() { Visibility::Private } else { Visibility::Shared };
        let (org, managed_by) = (OrgId::default_org(), ManagedBy::Store);
        let new = NewConnection { org, spec, owner, visibility, managed_by };
        let fields = [("api_key".to_owned(), Secret::from(key_of(number)))].into();
        self.services().vault.lifecycle().add(new, fields).await.expect("a connection");
    }

    /// An agent that serves end users, and sessions of the first of them: their tokens.
    async fn sessions(&self, users: &[UserId]) -> Vec<Secret> {
        let (org, directory) = (OrgId::default_org(), &self.services().directory);
        let spec = AgentSpec {
            user_providers: vec!["acme".to_owned()],
            ..AgentSpec::named("support".to_owned())
        };
        let (by, facts) = (ManagedBy::Store, AgentFacts::default());
        let agent = directory.add::<Agent>(&org, by, spec, facts).await.expect("an agent");
        let mut tokens = Vec::with_capacity(users.len());
        for user in users {
            let spec = session(&agent.id, user);
            let expires = self.services().clock.now() + Duration::from_secs(3_600);
            let made =
                directory.add_session(&org, spec, expires, users.len()).await.expect("a session");
            tokens.push(made.token);
        }
        self.services().rulebook.rebuild().await.expect("it compiles");
        tokens
    }

    /// An admin's token for the API and the console.
    async fn admin(&self) -> String {
        let new = json!({"name": "ann", "role": "admin"}).to_string();
        self.gateway.api("POST", "/users", &new).await.is(201);
        let made = self.gateway.api("POST", "/tokens", &json!({"user": "ann"}).to_string()).await;
        made.json()["token"].as_str().expect("shown once").to_owned()
    }

    /// A stream of a session to the proxy.
    async fn stream(&self, token: &Secret) -> Asking {
        let token = token.expose_text().expect("text");
        let pair = BASE64_STANDARD.encode(format!("support:{token}"));
        let mut wire = Wire::to(self.gateway.proxy).await;
        wire.stop_recording();
        let request = format!(
            "GET https://{HOST}/a HTTP/1.1\r\nHost: {HOST}\r\nProxy-Authorization: Basic {pair}\r\n\r\n"
        );
        Asking { wire, request }
    }
}

/// A session that asks over one stream.
struct Asking {
    wire: Wire,
    request: String,
}

impl Asking {
    async fn ask(&mut self) -> Duration {
        let began = Instant::now();
        self.wire.send(&self.request).await;
        self.wire.answer("GET").await.is(200);
        began.elapsed()
    }
}

fn name_of(number: usize) -> String {
    format!("c-{number:05}")
}

fn key_of(number: usize) -> String {
    format!("key-{number:05}-0123456789abcdef")
}

fn session(agent: &AgentId, user: &UserId) -> SessionSpec {
    SessionSpec {
        agent: Reference::Id(agent.clone()),
        user: Some(Reference::Id(user.clone())),
        connections: None,
        environment: None,
        label: None,
    }
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}

/// The pages of the first test. The name is that of one connection.
fn pages(name: &str) -> Vec<Asked> {
    let [page, search] = [100, 50].map(Duration::from_millis);
    let one = |path: &str, expected: &str, within| Asked {
        path: path.replace("NAME", name),
        expected: expected.replace("NAME", name),
        within,
    };
    vec![
        one("/api/v1/connections?limit=50", "\"c-00000\"", page),
        one("/api/v1/connections?limit=50&tag=tier-1", "\"c-00001\"", search),
        one("/api/v1/connections?limit=50&q=NAME", "\"NAME\"", search),
        one("/connections", ">c-00000<", page),
        one("/connections?tag=tier-1", ">c-00001<", search),
        one("/connections?q=NAME", ">NAME<", search),
        one("/find?q=NAME", ">NAME<", search),
        one("/connections/NAME", "NAME", page),
        one("/", "Keyward", page),
    ]
}

/// Asks a few times over one stream. The gateway serves its API in this thread, and runs background jobs in it: so the
/// least of the look-ups counts.
async fn cost(world: &World, admin: &str, asked: &Asked) -> Cost {
    let (at, Asked { path, expected, .. }) = (world.gateway.admin, asked);
    let mut wire = Wire::to(at).await;
    wire.stop_recording();
    let (mut look_ups, mut times) = (Vec::new(), Vec::new());
    for _ in 0..PAGES {
        let (before, began) = (shared_map::so_far(), Instant::now());
        wire.send(format!(
            "GET {path} HTTP/1.1\r\nHost: {at}\r\nAuthorization: Bearer {admin}\r\n\r\n"
        ))
        .await;
        let answer = wire.answer("GET").await;
        times.push(began.elapsed());
        look_ups.push(shared_map::so_far() - before);
        let text = answer.text();
        assert_eq!(answer.head.status(), 200, "{path}: {text}");
        assert!(text.contains(expected.as_str()), "{path} lacks {expected}: {text}");
        assert!(!text.contains("0123456789abcdef"), "{path} shows a key");
    }
    Cost { look_ups: look_ups.into_iter().min().expect("some"), time: median(times) }
}

#[tokio::test]
async fn a_page_or_a_search_needs_the_same_look_ups_among_few_and_many_connections() {
    let (origin, count) = (Origin::saying("fine"), many());
    let (mut few, mut many) = (World::new(&origin).await, World::new(&origin).await);
    few.connections(FEW).await;
    many.connections(count).await;
    let admins = [few.admin().await, many.admin().await];
    for asked in pages(&name_of(FEW - 1)) {
        let small = cost(&few, &admins[0], &asked).await;
        let large = cost(&many, &admins[1], &asked).await;
        let (path, ratio) = (&asked.path, large.time.as_secs_f64() / small.time.as_secs_f64());
        println!(
            "{path}: {} and {} look-ups; {:.1?} among {FEW}, {:.1?} among {count}: × {ratio:.1}",
            small.look_ups, large.look_ups, small.time, large.time
        );
        assert_eq!(small.look_ups, large.look_ups, "{path}");
        let is_judged = soak() && !cfg!(debug_assertions);
        assert!(!is_judged || large.time < asked.within, "{path}: {:.1?}", large.time);
    }
    few.gateway.stop().await;
    many.gateway.stop().await;
}

#[tokio::test]
async fn a_request_in_a_session_costs_the_same_however_many_end_users_there_are() {
    let (mut origin, count) = (Origin::saying("fine"), many());
    let (mut few, mut many) = (World::new(&origin).await, World::new(&origin).await);
    let of_few = few.end_users(ASKING).await;
    let of_many = many.end_users(count).await;
    let sessions = count / 10;
    let tokens_of_few = few.sessions(&of_few).await;
    let tokens = many.sessions(&of_many[..sessions]).await;
    let mut streams = Vec::new();
    for (number, token) in tokens_of_few.iter().enumerate() {
        let at = number * sessions / ASKING;
        let mut pair = [few.stream(token).await, many.stream(&tokens[at]).await];
        for (asking, of) in pair.iter_mut().zip([number, at]) {
            asking.ask().await;
            let head = origin.arrival().await.head;
            assert_eq!(head.one("x-api-key"), Some(&*key_of(of)), "the end user's own");
        }
        streams.push(pair);
    }
    let mut times = [vec![], vec![]];
    for round in 0..REQUESTS {
        for pair in &mut streams {
            for at in 0..2 {
                let which = (at + round) % 2;
                times[which].push(pair[which].ask().await);
            }
        }
    }
    let [small, large] = times.map(median);
    let ratio = large.as_secs_f64() / small.as_secs_f64();
    println!(
        "a request: {small:.1?} among {ASKING} end users, {large:.1?} among {count} with \
         {sessions} sessions: × {ratio:.2}"
    );
    // Alike in the median of interleaved requests; a scan of all would cost many times as much.
    assert!(ratio < 2.0, "× {ratio:.2}");
    few.gateway.stop().await;
    many.gateway.stop().await;
}

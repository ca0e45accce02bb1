//! Digest authentication: the password answers challenges and is not sent. The origin checks each answer by the formula of
//! RFC 7616 §3.4.1, written here on its own.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use sha2::{Digest as _, Sha256};

use test_support::*;

/// A host with user `ann`, whose nonces are numbered.
#[derive(Clone, Default)]
struct Host {
    password: String,
    nonce: Arc<AtomicUsize>,
    /// Nonces up to this number are stale.
    stale: Arc<AtomicUsize>,
    challenges: Arc<AtomicUsize>,
}

fn hash(text: &str) -> String {
    Sha256::digest(text.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The parameters of an answer.
fn parameters(answer: &str) -> BTreeMap<&str, &str> {
    let pairs = answer.strip_prefix("Digest ").unwrap_or_default().split(", ");
    let pairs = pairs.filter_map(|pair| pair.split_once('='));
    pairs.map(|(name, value)| (name, value.trim_matches('"'))).collect()
}

impl Host {
    async fn lab(&self, plan: Plan) -> Lab {
        let host = Self { password: plan.canary().text.clone(), ..self.clone() };
        plan.start(Origin::answering(move |request: &Message| host.answer(request))).await
    }

    fn answer(&self, request: &Message) -> String {
        let answer = request.head.one("authorization").unwrap_or_default();
        let found = parameters(answer);
        let of = |name: &str| found.get(name).copied().unwrap_or_default();
        let first = hash(&format!("ann:acme:{}", self.password));
        let second = hash(&format!("{}:{}", request.head.method(), request.head.target()));
        let own =
            hash(&format!("{first}:{}:{}:{}:auth:{second}", of("nonce"), of("nc"), of("cnonce")));
        let number: usize = of("nonce").strip_prefix("nonce-").unwrap_or("0").parse().unwrap_or(0);
        let is_right = of("response") == own && of("uri") == request.head.target();
        if is_right && number > self.stale.load(Ordering::SeqCst) {
            return ok("fine");
        }
        self.challenges.fetch_add(1, Ordering::SeqCst);
        let next = self.nonce.fetch_add(1, Ordering::SeqCst) + 1;
        let stale = if is_right { ", stale=true" } else { "" };
        format!(
            "HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Basic realm=\"acme\"\r\nWWW-Authenticate: Digest realm=\"acme\", \
             nonce=\"nonce-{next}\", qop=\"auth\", algorithm=SHA-256, opaque=\"o\"{stale}\r\nContent-Length: 0\r\n\r\n"
        )
    }

    fn challenges(&self) -> usize {
        self.challenges.load(Ordering::SeqCst)
    }
}

fn plan() -> Plan {
    let fields = "{ username: { env: USER_NAME }, password: { env: CANARY } }";
    Plan::new("{ id: digest, kind: digest }", fields).variable("USER_NAME", "ann")
}

fn counts(lab: &Lab) -> Vec<String> {
    let received = lab.origin.received();
    let answers = received.iter().filter_map(|request| request.head.one("authorization"));
    answers.map(|answer| parameters(answer)["nc"].to_owned()).collect()
}

#[tokio::test]
async fn a_request_with_a_wrong_password_is_401_after_one_answered_challenge() {
    let host = Host::default();
    let origin = host.clone();
    let origin = Origin::answering(move |request: &Message| {
        Host { password: "another".to_owned(), ..origin.clone() }.answer(request)
    });
    let lab = plan().start(origin).await;
    for challenges in [2, 3] {
        lab.ask("GET /a").await.is(401);
        assert_eq!(host.challenges(), challenges, "the second request answers what is known");
    }
    lab.finish().await;
}

#[tokio::test]
async fn the_agent_s_authorization_field_is_not_forwarded() {
    let host = Host::default();
    let lab = host.lab(plan()).await;
    let request = "GET /a\r\nAuthorization: Basic YW5uOm93bg==";
    assert_eq!(lab.ask(request).await.text(), "fine");
    let received = lab.origin.received();
    assert!(
        received.iter().all(|it| !it.head.all("authorization").join("").contains("YW5uOm93bg"))
    );
    lab.finish().await;
}

#[tokio::test]
async fn a_challenge_is_fetched_once_and_a_body_is_sent_again() {
    let host = Host::default();
    let lab = host.lab(plan()).await;
    let post = "POST /a?b=%20c\r\nContent-Length: 5\r\n\r\nhello";
    let mut wire = lab.tunnel(HOST).await;
    wire.send(post.replacen("\r\n", &format!(" HTTP/1.1\r\nHost: {HOST}\r\n"), 1)).await;
    let answer = wire.answer("POST").await;
    assert_eq!((answer.head.status(), answer.text()), (200, "fine".to_owned()));
    for path in ["/a", "/b", "/c?x=1"] {
        assert_eq!(lab.ask(&format!("GET {path}")).await.text(), "fine", "{path}");
    }
    assert_eq!(host.challenges(), 1);
    assert_eq!(counts(&lab), ["00000001", "00000002", "00000003", "00000004"]);
    let bodies: Vec<String> = lab.origin.received().iter().take(2).map(Message::text).collect();
    assert_eq!(bodies, ["hello", "hello"]);
    lab.finish().await;
}

#[tokio::test]
async fn a_stale_nonce_is_replaced_without_the_agent_s_notice() {
    let host = Host::default();
    let lab = host.lab(plan()).await;
    assert_eq!(lab.ask("GET /a").await.text(), "fine");
    host.stale.store(1, Ordering::SeqCst);
    assert_eq!(lab.ask("GET /a").await.text(), "fine");
    assert_eq!(host.challenges(), 2);
    assert_eq!(counts(&lab), ["00000001", "00000002", "00000001"]);
    lab.finish().await;
}

#[tokio::test]
async fn requests_at_the_same_time_are_all_answered() {
    let host = Host::default();
    let lab = host.lab(plan()).await;
    let answers = futures_util::future::join_all((0..8).map(|_| lab.ask("GET /a"))).await;
    assert!(answers.iter().all(|answer| answer.text() == "fine"));
    let mut used: Vec<(String, String)> = Vec::new();
    for request in lab.origin.received() {
        if let Some(answer) = request.head.one("authorization") {
            let found = parameters(answer);
            used.push((found["nonce"].to_owned(), found["nc"].to_owned()));
        }
    }
    let count = used.len();
    used.sort();
    used.dedup();
    assert_eq!(used.len(), count, "no count of a nonce is used twice");
    lab.finish().await;
}

/// The built-in provider whose method it is.
#[tokio::test]
async fn the_key_of_mongodb_atlas_answers_the_challenges_of_its_host() {
    const ATLAS: &str = "cloud.mongodb.com";
    let plan = Plan::api_key().variable("USER_NAME", "ann").no_agents().agent("atlas", "atlas");
    let fields = "{ username: { env: USER_NAME }, password: { env: CANARY } }";
    let plan = plan.connection(&format!(
        "{{ name: atlas, provider: mongodb-atlas, auth: api_key, fields: {fields} }}"
    ));
    let host = Host { password: plan.canary().text.clone(), ..Host::default() };
    let origin = Origin::answering_as(&[ATLAS], move |request| host.answer(request));
    let addr = origin.addr;
    let lab = plan.resolve(&format!("{ATLAS}: \"{addr}\"")).start(origin).await;
    let mut wire = lab.tunnel_as("atlas", ATLAS).await;
    for path in ["/api/atlas/v2/orgs", "/api/atlas/v2/groups?pageNum=1"] {
        let answer = wire.ask(request_text(&format!("GET {path}"), ATLAS)).await;
        assert_eq!((answer.head.status(), &*answer.text()), (200, "fine"), "{path}");
    }
    assert_eq!(counts(&lab), ["00000001", "00000002"], "one challenge serves both");
    // The pages of the website are on the same host.
    wire.send(request_text("GET /v2", ATLAS)).await;
    assert_eq!(wire.answer("GET").await.head.one("keyward-error"), Some("default_deny"));
    lab.finish().await;
}

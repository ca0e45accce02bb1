//! A cut of the network between one replica and PostgreSQL: packets are lost without an error. The server runs in a
//! network namespace with one link for each replica. Needs root, as in CI.

use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use tempfile::TempDir;

use super::*;
use test_support::process::Served;

const TOKEN: &str = "kwa_token-of-the-agent-of-two-replicas";

/// A network namespace with three links. Removed when dropped, with the links.
pub(crate) struct Network {
    pub(crate) name: String,
    pub(crate) links: [Link; 3],
}

pub(crate) struct Link {
    /// The end in our namespace.
    device: String,
    /// The address of the other end.
    pub(crate) address: String,
}

fn ip(words: &str) {
    let output = Command::new("ip").args(words.split(' ')).output().expect("iproute2 is installed");
    assert!(output.status.success(), "ip {words}: {}", said(&output));
}

impl Network {
    pub(crate) fn new() -> Self {
        // Several tests may run in this process, and others in other processes.
        static MADE: AtomicU32 = AtomicU32::new(0);
        let (id, made) = (std::process::id(), MADE.fetch_add(1, Relaxed));
        let name = format!("keyward-{id}-{made}");
        ip(&format!("netns add {name}"));
        let links = [0, 1, 2].map(|number| {
            // RFC 2544: addresses for tests, four of them for each link.
            let base = ((id + made * 4_001) % 8_000) * 16 + number * 4;
            let at = |host: u32| {
                let [_, _, third, fourth] = (base + host).to_be_bytes();
                format!("198.{}.{third}.{fourth}", 18 + ((base >> 16) & 1))
            };
            let (device, inner) = (format!("kw{id}-{made}{number}"), format!("in{number}"));
            ip(&format!("link add {device} type veth peer name {inner} netns {name}"));
            ip(&format!("addr add {}/30 dev {device}", at(1)));
            ip(&format!("link set {device} up"));
            ip(&format!("-n {name} addr add {}/30 dev {inner}", at(2)));
            ip(&format!("-n {name} link set {inner} up"));
            Link { device, address: at(2) }
        });
        ip(&format!("-n {name} link set lo up"));
        Self { name, links }
    }

    pub(crate) fn cut(&self, link: usize) {
        ip(&format!("link set {} down", self.links[link].device));
    }

    pub(crate) fn mend(&self, link: usize) {
        ip(&format!("link set {} up", self.links[link].device));
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        for link in &self.links {
            drop(Command::new("ip").args(["link", "del", &link.device]).status());
        }
        drop(Command::new("ip").args(["netns", "del", &self.name]).status());
    }
}

/// Asks until a replica says this of its readiness.
async fn until_ready_is(replica: &Served, status: u16) {
    until(&format!("{status} of /readyz"), async || {
        let mut wire = replica.admin().await;
        wire.ask("GET /readyz HTTP/1.1\r\nHost: localhost\r\n\r\n").await.head.status() == status
    })
    .await;
}

async fn asked(replica: &Served, roots: &str) -> u16 {
    let mut wire = replica.tunnel_trusting(roots, HOST, TOKEN).await;
    wire.ask(request_text("GET /a", HOST)).await.head.status()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_is_cut_off_serves_what_it_knows_and_catches_up() {
    let network = Network::new();
    let database = Database::start_in(&network.name);
    let (origin, certificates) = (Origin::saying("fine"), TempDir::new().expect("a folder"));
    let at = |name: &str| certificates.path().join(name).display().to_string();
    let plan = Plan::api_key().top(STORE).top("master_key: { env: MASTER_KEY }").top(&format!(
        "ca: {{ cert: {}, key: {} }}",
        at("ca.pem"),
        at("ca.key")
    ));
    let start = |link: usize| {
        let url = database.url_at(&network.links[link].address);
        let variables = [
            ("DATABASE_URL", &*url),
            ("DATABASE_PASSWORD", &*database.password.text),
            ("MASTER_KEY", MASTER_KEY),
            ("CANARY", &plan.canary().text),
            ("TOKEN_CI", TOKEN),
        ];
        Served::start_quietly(&plan, &origin, &variables)
    };
    let replicas = [start(0), start(1)];
    let roots = std::fs::read_to_string(at("ca.pem")).expect("the CA");
    for replica in &replicas {
        assert_eq!(asked(replica, &roots).await, 200);
    }
    network.cut(0);
    // The other one goes on, with changes too.
    replicas[1].api("POST", "/agents", r#"{"name":"meanwhile"}"#).await.is(201);
    assert_eq!(asked(&replicas[0], &roots).await, 200, "of memory");
    let refused = replicas[0].api("POST", "/agents", r#"{"name":"nowhere"}"#).await;
    assert!(refused.head.status() >= 500, "{}", refused.text());
    // Longer than `stale_max`: revocations may be missing.
    until_ready_is(&replicas[0], 503).await;
    until_ready_is(&replicas[1], 200).await;
    assert_eq!(asked(&replicas[1], &roots).await, 200);
    network.mend(0);
    until_ready_is(&replicas[0], 200).await;
    let agents = replicas[0].api("GET", "/agents", "").await;
    assert!(agents.text().contains("meanwhile"), "{}", agents.text());
    replicas[0].api("POST", "/agents", r#"{"name":"again"}"#).await.is(201);
    assert_eq!(asked(&replicas[0], &roots).await, 200);
}

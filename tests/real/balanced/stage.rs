//! The parts: PostgreSQL in a network namespace with a link for each replica, the authorization server with a relay before it, an API, three replicas in processes of their
//! own, and HAProxy.

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;

use super::load::Owners;
use crate::issuer::{Issuer, Program, SECRET, bearer, client, code_method};
use crate::relay::Relay;
use crate::replicas::cut::{Link, Network};
use crate::replicas::{Database, MASTER_KEY};
use crate::stage::service;
use test_support::authorization::AUTH_HOST;
use test_support::canary::Canary;
use test_support::process::{OwnChild, Served, reserved_address};
use test_support::*;

const REPLICAS: usize = 3;
const AGENT: &str = "worker";
/// Of the agent in the configuration, which no request uses.
const OTHER_TOKEN: &str = "kwa_balanced-0123456789abc";

/// As in [`OFTEN`].
pub(super) const LEASE: Duration = Duration::from_secs(12);
/// Pauses and leases are short: a fault lasts some seconds.
const OFTEN: &str = "oauth: { backoff_first: 200ms, backoff_max: 1s, backoff_jitter_percent: 0, \
                     circuit_failures_max: 1000000, lease: 12s, exchange_timeout: 4s, wait_timeout: 3s }";
/// Longer than HAProxy needs to see that a replica is not ready.
const SHUTDOWN_DELAY: &str = "shutdown_delay: 4s";
const STORE: &str = "store: { postgres: { url: { env: DATABASE_URL }, trust: [origin-ca.pem], timeout: 2s, \
                     streams_max: 8, stale_max: 60s } }";

/// All of it.
pub(super) struct Fleet {
    pub(super) database: Database,
    pub(super) network: Network,
    pub(super) replicas: Vec<Served>,
    pub(super) connections: usize,
    pub(super) issuer: Arc<Issuer>,
    pub(super) balancer: Balancer,
    pub(super) owners: Arc<Owners>,
    /// The token of the agent.
    pub(super) token: String,
    /// The CA that signs leaves.
    pub(super) roots: String,
    _origin: Origin,
    _certificates: TempDir,
}

/// A running HAProxy.
pub(super) struct Balancer {
    _child: OwnChild,
    pub(super) at: SocketAddr,
    _folder: TempDir,
}

impl Balancer {
    /// Before replicas: where each serves agents, and where it says whether it is ready.
    fn before(replicas: &[(SocketAddr, SocketAddr)]) -> Self {
        let (folder, at) = (TempDir::new().expect("a directory"), reserved_address());
        let mut text = format!(
            "defaults\n  mode tcp\n  timeout connect 2s\n  timeout client 1m\n  timeout server 1m\n  timeout check 5s\n\
             frontend agents\n  bind {at}\n  default_backend keyward\n\
             backend keyward\n  balance roundrobin\n  option redispatch\n  retries 3\n\
             \x20 option httpchk\n  http-check send meth GET uri /readyz ver HTTP/1.1 hdr Host localhost:%[bc_dst_port]\n\
             \x20 default-server check inter 300ms fall 2 rise 1\n"
        );
        for (number, (proxy, admin)) in replicas.iter().enumerate() {
            text += &format!("  server keyward-{number} {proxy} port {}\n", admin.port());
        }
        let file = folder.path().join("haproxy.cfg");
        fs::write(&file, text).expect("a file");
        let said = fs::File::create(folder.path().join("said")).expect("a file");
        let mut command = Command::new(service("haproxy"));
        command.arg("-db").arg("-f").arg(file).stdin(Stdio::null());
        command.stdout(said.try_clone().expect("a file")).stderr(said);
        let child = command.spawn().expect("`tests/run` installs it");
        Self { at, _child: OwnChild::from(child), _folder: folder }
    }
}

impl Fleet {
    /// Three replicas of a program.
    pub(super) async fn start(program: &Path, connections: usize, token_life: u64) -> Self {
        let network = Network::new();
        let database = Database::start_in(&network.name);
        let issuer = Arc::new(Issuer::start(Program::OidcProvider));
        let relay = Arc::new(Relay::before(issuer.addr).await);
        let owners = Arc::new(Owners::new(relay.clone()));
        let origin = api(&owners);
        let certificates = TempDir::new().expect("a directory");
        let places: Vec<_> =
            (0..REPLICAS).map(|_| (reserved_address(), reserved_address())).collect();
        let start = |(place, link): (&(SocketAddr, SocketAddr), &Link)| {
            let url = database.url_at(&link.address);
            let variables = [
                ("DATABASE_URL", &*url),
                ("DATABASE_PASSWORD", &database.password.text),
                ("MASTER_KEY", MASTER_KEY),
                ("CANARY", "canary-of-a-connection-that-is-not-used"),
                ("TOKEN_CI", OTHER_TOKEN),
            ];
            let plan = plan(&relay, *place, &certificates);
            Served::start_program(program, &plan, &origin, &variables)
        };
        let replicas: Vec<_> = places.iter().zip(&network.links).map(start).collect();
        let roots = fs::read_to_string(certificates.path().join("ca.pem")).expect("the CA");
        let balancer = Balancer::before(&places);
        let token = prepared(&replicas[0], &issuer, &owners, (connections, token_life)).await;
        let (_origin, _certificates) = (origin, certificates);
        Self {
            database,
            network,
            replicas,
            connections,
            issuer,
            balancer,
            owners,
            token,
            roots,
            _origin,
            _certificates,
        }
    }

    /// The authorization server refused what was lost with a killed or stopped replica, and nothing else: it ends the grant when the
    /// token arrives again, and does not find it after that. It arrives a third time if the refusal could not be stored.
    pub(super) fn check(&self, lost: &BTreeMap<usize, String>) {
        let refused = self.issuer.log("refused");
        let with = |words: &str| {
            let detail = |one: &&Value| one["detail"].as_str().is_some_and(|it| it.contains(words));
            refused.iter().filter(detail).count()
        };
        assert_eq!(with("refresh token already used"), lost.len(), "{refused:?}");
        let later = with("refresh token not found");
        assert_eq!(refused.len(), lost.len() + later, "{refused:?}");
        assert_eq!(refused.len(), self.owners.arrived_again(), "{refused:?}");
        assert_eq!(self.issuer.log("revoked").len(), lost.len(), "{refused:?}");
        assert_eq!(self.issuer.log("failed"), Vec::<Value>::new());
        self.check_database();
    }

    /// The owner of the database reads no secret there.
    fn check_database(&self) {
        let mut secrets = self.owners.tokens();
        assert!(secrets.len() >= self.connections, "{} tokens", secrets.len());
        secrets.extend([SECRET, MASTER_KEY, &self.token].map(str::to_owned));
        self.database.assert_lacks(secrets.into_iter().map(Canary::of));
    }
}

fn plan(relay: &Relay, (proxy, admin): (SocketAddr, SocketAddr), certificates: &TempDir) -> Plan {
    let provider =
        format!("{{ id: svc, name: Service, hosts: [{HOST}], auth: [{}] }}", code_method());
    let server = relay.addr();
    let (certificate, key) = ("ca.pem", "ca.key");
    let at = |name: &str| certificates.path().join(name).display().to_string();
    Plan::api_key()
        .hosts("third.acme.test")
        .provider(&provider)
        .resolve(&format!("{AUTH_HOST}: \"{server}\""))
        .allow(&server.to_string())
        .proxy(&format!("\"{proxy}\""))
        .admin(&admin.to_string())
        .limit(SHUTDOWN_DELAY)
        .top(STORE)
        .top(OFTEN)
        .top("master_key: { env: MASTER_KEY }")
        .top(&format!("ca: {{ cert: {}, key: {} }}", at(certificate), at(key)))
}

/// The API: `/cN` is for the token of connection N alone. It tells which token it got by its status: 401 to one that has
/// ended, 418 to one of another connection.
fn api(owners: &Arc<Owners>) -> Origin {
    let owners = owners.clone();
    Origin::scripted(move |mut stream: Stream| {
        let owners = owners.clone();
        stream.stop_recording();
        async move {
            // A stream in a pool is silent for as long as the pool keeps it.
            while stream.comes().await {
                let Some(head) = stream.head().await else { return };
                let number = head.target().strip_prefix("/c").and_then(|it| it.parse().ok());
                let request = Message { head, ..Message::default() };
                let status = owners.status_for(number.expect("a number"), &bearer(&request));
                let answer = format!("HTTP/1.1 {status} It\r\nContent-Length: 0\r\n\r\n");
                if stream.try_send(answer).await.is_err() {
                    return;
                }
            }
        }
    })
}

/// Makes the app, the connections and the agent, through one replica; the agent's token.
async fn prepared(
    replica: &Served,
    issuer: &Issuer,
    owners: &Owners,
    (connections, token_life): (usize, u64),
) -> String {
    let call = async |path: String, body: Value| -> Value {
        replica.api("POST", &path, &body.to_string()).await.done(&path)
    };
    let secrets = json!({ "client_secret": SECRET });
    let app =
        json!({ "provider": "svc", "name": "keyward", "client_id": "keyward", "secrets": secrets });
    let app = call("/apps".to_owned(), app).await;
    let redirect = app["redirect_uri"].as_str().expect("one").to_owned();
    let registered = client("keyward", &redirect, "client_secret_basic", secrets);
    issuer.settle([registered], json!({ "access_ttl": token_life }));
    call("/agents".to_owned(), json!({ "name": AGENT })).await;
    for number in 0..connections {
        let issued = issuer.tell(&json!({ "do": "issue", "client": "keyward" }));
        let refresh = issued["refresh_token"].as_str().expect("one");
        owners.begin(number, refresh);
        let name = format!("c{number}");
        let fields = json!({ "refresh_token": refresh });
        let new = json!({ "provider": "svc", "name": name, "fields": fields });
        call("/connections".to_owned(), new).await;
        call(format!("/agents/{AGENT}/bindings"), json!({ "connection": name })).await;
    }
    let token = call(format!("/agents/{AGENT}/tokens"), json!({})).await;
    token["token"].as_str().expect("shown once").to_owned()
}

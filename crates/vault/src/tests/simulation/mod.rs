//! Simulated schedules of refreshes: two replicas over one store, a server that rotates tokens strictly, and faults
//! at every moment. The vault's own code runs; only time, the server's responses and the store's faults are
//! simulated.

mod candidates;
mod failures;
mod fleet;
mod idle;
mod rewritten;
mod rows;
mod runs;
mod schedules;
mod server;
mod verdicts;

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::task::JoinSet;

pub(crate) use self::server::Script;
use self::server::{Answer, What, grant};
use crate::grant::Grant;
use crate::grants::record;
use crate::*;
use keyward_base::id::AppId;
use keyward_base::secret::Secret;
use keyward_model::{
    AppSettings, AppSpec, ConnectionSpec, ConnectionState, ManagedBy, Reference, TokenOptions,
    Visibility,
};
use keyward_net::call::HttpClient;
use keyward_net::dial::Dialler;
use keyward_net::guard::Guard;
use keyward_rules::inject::credential::{Credential, RequiredConnection};
use keyward_rules::provider::check;
use keyward_state::store::memory::MemoryStore;
use keyward_state::store::{Expect, StoreError, Version};

const PROVIDER: &str = "
id: acme
name: Acme
hosts: [api.acme.test]
auth:
  - id: oauth
    kind: oauth2
    authorize: https://auth.acme.test/authorize
    token: https://auth.acme.test/token
    keep_alive: 30d
";

/// A provider whose access tokens are exchanged for newer ones while they live.
const EXCHANGING: &str = "
id: swap
name: Swap
hosts: [api.swap.test]
auth:
  - id: oauth
    kind: oauth2
    authorize: https://auth.swap.test/authorize
    token: https://auth.swap.test/token
    refresh: exchange_access_token
";

pub(crate) static CATALOGUE: LazyLock<Arc<Catalogue>> = LazyLock::new(catalogue);

/// The catalogue after a reload that changed the provider.
static RELOADED: LazyLock<Arc<Catalogue>> = LazyLock::new(catalogue);

fn catalogue() -> Arc<Catalogue> {
    let built_in = Catalogue::default();
    let read = |text| check::file("p", text, &built_in).expect("a provider");
    let providers: Vec<_> = [PROVIDER, EXCHANGING].into_iter().flat_map(read).collect();
    Arc::new(built_in.with(providers))
}

/// Never called, because a script gives the answers.
pub(crate) static CALLER: LazyLock<Arc<HttpClient>> = LazyLock::new(|| {
    let dialler = Dialler::new(Guard::new(Vec::new(), Vec::new()), Vec::new(), 1);
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth();
    Arc::new(HttpClient::new(Arc::new(dialler), Arc::new(tls)))
});

/// One step of a schedule.
#[derive(Clone, Debug)]
enum Step {
    /// Time passes, in milliseconds.
    Pass(u64),
    /// This number of agents request the credential from a replica.
    Want(usize, u8),
    /// The upstream refuses the last credential that an agent of this replica got.
    Refused(usize),
    /// The owner reconnects; the token is valid for this number of seconds.
    Connect(usize, Option<u32>),
    /// A person requests a refresh.
    Now(usize),
    /// This number of writes fail; `true`: after they were made.
    Fails(u8, bool),
    /// The configuration changes something of the provider.
    Reload(usize),
    /// The row of the grant is written again, with the same tokens.
    Rewrite(usize),
}

/// The state of the server, and the results of the checks.
#[derive(Debug)]
struct World {
    /// The last refresh token of each grant.
    rotated: Mutex<HashMap<u64, u64>>,
    answers: Mutex<VecDeque<Answer>>,
    asking: Mutex<HashSet<ConnectionId>>,
    asked: AtomicUsize,
    grants: AtomicU64,
    /// Whether the grant may be broken: the server has revoked it, or an answer was lost.
    may_break: AtomicBool,
    /// Whether a verdict may be in force for a while.
    may_refuse: AtomicBool,
    wrong: Mutex<Vec<String>>,
}

/// How long an answer is awaited by default, in milliseconds. An answer within this time is never lost.
const AWAITED: u64 = 180_000;

/// Time limit for the requests and flights of a schedule.
const ENDED_WITHIN: Duration = Duration::from_secs(3_600);

/// A store in memory that is slow and fails on demand.
#[derive(Debug)]
struct Watched {
    rows: MemoryStore,
    world: Arc<World>,
    newest: Mutex<HashMap<String, Version>>,
    fails: Mutex<(u8, bool)>,
}

impl World {
    fn new(answers: Vec<Answer>) -> Arc<Self> {
        Arc::new(Self {
            rotated: Mutex::default(),
            answers: Mutex::new(answers.into()),
            asking: Mutex::default(),
            asked: AtomicUsize::new(0),
            grants: AtomicU64::new(0),
            may_break: AtomicBool::new(false),
            may_refuse: AtomicBool::new(false),
            wrong: Mutex::default(),
        })
    }

    fn is_wrong(&self, what: impl Into<String>) {
        self.wrong.lock().push(what.into());
    }

    /// A grant of a new consent.
    fn consent(&self, clock: &Clock, life: Option<u32>) -> Grant {
        let family = self.grants.fetch_add(1, SeqCst);
        self.rotated.lock().insert(family, 0);
        grant(clock, family, 0, life)
    }
}

/// Lets simulated time pass.
async fn passes(ms: u64) {
    let _ = tokio::time::timeout(Duration::from_millis(ms), std::future::pending::<()>()).await;
}

/// Two replicas and a connection.
struct Stage {
    world: Arc<World>,
    store: Arc<Watched>,
    clock: Clock,
    vaults: Vec<Vault>,
    connection: Arc<ConnectionRecord>,
    last: Vec<Arc<Mutex<Option<Arc<Credential>>>>>,
    /// The total number of writes that fail.
    failed: AtomicUsize,
    keyring: Arc<Keyring>,
    /// The actions of the agents and people of the schedule.
    tasks: Mutex<JoinSet<()>>,
}

impl Stage {
    async fn new(world: Arc<World>, life: Option<u32>) -> Self {
        let clock = Clock::simulated();
        let store = Arc::new(Watched {
            rows: MemoryStore::new(),
            world: world.clone(),
            newest: Mutex::default(),
            fails: Mutex::default(),
        });
        let keyring = Arc::new(Keyring::ephemeral());
        let first = open(&store, &keyring, &clock, &world).await;
        let connection = add(&first, world.consent(&clock, life)).await;
        let second = open(&store, &keyring, &clock, &world).await;
        let (vaults, last) = (vec![first, second], vec![Arc::default(), Arc::default()]);
        let failed = AtomicUsize::new(0);
        let tasks = Mutex::default();
        Self { world, store, clock, vaults, connection, last, failed, keyring, tasks }
    }

    /// Agents request a credential from a replica. None gets an expired one.
    fn want(&self, replica: usize, count: u8) {
        for _ in 0..count {
            let (vault, last) = (self.vaults[replica].clone(), self.last[replica].clone());
            let (world, clock) = (self.world.clone(), self.clock.clone());
            let (org, wanted) = (self.connection.org.clone(), wanted(&self.connection));
            self.tasks.lock().spawn(async move {
                match vault.refresh().credential_in(&org, Some(&wanted)).await {
                    Ok(credential) => got(&world, &clock, credential, &last),
                    Err(error) => failed(&world, &error),
                }
            });
        }
    }

    fn refused(&self, replica: usize) {
        let Some(stale) = self.last[replica].lock().clone() else { return };
        let (vault, last) = (self.vaults[replica].clone(), self.last[replica].clone());
        let (world, clock) = (self.world.clone(), self.clock.clone());
        self.tasks.lock().spawn(async move {
            match vault.refresh().renew(&stale).await {
                Ok(Some(newer)) if newer.generation <= stale.generation => {
                    world.is_wrong("a refused credential was given again");
                }
                Ok(newer) => got(&world, &clock, newer, &last),
                Err(error) => failed(&world, &error),
            }
        });
    }

    fn connect(&self, replica: usize, life: Option<u32>) {
        let (vault, connection) = (self.vaults[replica].clone(), self.connection.clone());
        let (world, clock) = (self.world.clone(), self.clock.clone());
        self.tasks.lock().spawn(async move {
            let grant = world.consent(&clock, life);
            let facts = Granted::default();
            match vault.lifecycle().connect(&connection.org, &connection.id, grant, facts).await {
                Ok(_) | Err(VaultError::Store(StoreError::Io { .. })) => {}
                Err(error) => world.is_wrong(format!("connecting: {error}")),
            }
        });
    }

    fn rewrite(&self, replica: usize) {
        let (vault, connection) = (self.vaults[replica].clone(), self.connection.clone());
        let world = self.world.clone();
        self.tasks.lock().spawn(async move {
            match vault.refresh().ignore_test(&connection.org, &connection.id).await {
                Ok(()) | Err(VaultError::Store(StoreError::Io { .. })) => {}
                Err(error) => world.is_wrong(format!("rewriting: {error}")),
            }
        });
    }

    fn now(&self, replica: usize) {
        let (vault, connection) = (self.vaults[replica].clone(), self.connection.clone());
        let world = self.world.clone();
        self.tasks.lock().spawn(async move {
            if let Err(error) = vault.refresh().refresh_now(&connection.org, &connection.id).await {
                failed(&world, &error);
            }
        });
    }

    fn fails(&self, count: u8, after: bool) {
        let mut fails = self.store.fails.lock();
        *fails = (fails.0 + count, after);
        if self.failed.fetch_add(count.into(), SeqCst) + usize::from(count) > 4 {
            // More than one flight retries: the other replica may send the spent token, and its verdict is in force
            // until this replica has stored its answer.
            self.world.may_refuse.store(true, SeqCst);
        }
    }

    fn reload(&self, replica: usize) {
        let vault = &self.vaults[replica];
        let is_first = Arc::ptr_eq(&vault.shared_catalogue(), &CATALOGUE);
        vault.replace_catalogue(if is_first { RELOADED.clone() } else { CATALOGUE.clone() });
    }

    async fn play(&self, steps: &[Step]) {
        for step in steps {
            match step {
                Step::Pass(ms) => passes(*ms).await,
                Step::Want(replica, count) => self.want(*replica, *count),
                Step::Refused(replica) => self.refused(*replica),
                Step::Connect(replica, life) => self.connect(*replica, *life),
                Step::Now(replica) => self.now(*replica),
                Step::Fails(count, after) => self.fails(*count, *after),
                Step::Reload(replica) => self.reload(*replica),
                Step::Rewrite(replica) => self.rewrite(*replica),
            }
        }
        self.ends().await;
        // Reads the store, because a replica's view follows the feed of changes, which is not simulated here.
        let stored = self.vaults[0].grants().stored(&self.connection).await.expect("a row");
        if stored.broken.is_some() && !self.world.may_break.load(SeqCst) {
            self.world.is_wrong("a token that the server gave was lost");
        }
    }

    /// Waits for all requests and flights of the schedule. The tasks end first, because a task may still begin a
    /// flight. Saving an unsaved token counts as a flight.
    async fn ends(&self) {
        let mut tasks = std::mem::take(&mut *self.tasks.lock());
        let all_end = async {
            while let Some(ended) = tasks.join_next().await {
                ended.expect("no task panics");
            }
        };
        if tokio::time::timeout(ENDED_WITHIN, all_end).await.is_err() {
            self.world.is_wrong("a request never ended");
        }
        for vault in &self.vaults {
            if !vault.refresh().wait_for_flights(ENDED_WITHIN).await {
                self.world.is_wrong("a flight never ended");
            }
        }
    }
}

async fn open(
    store: &Arc<Watched>,
    keyring: &Arc<Keyring>,
    clock: &Clock,
    world: &Arc<World>,
) -> Vault {
    let store: Arc<dyn Store> = store.clone();
    let directory = Directory::open(store.clone(), keyring.clone(), clock.clone()).await.unwrap();
    let (directory, catalogue) = (Arc::new(directory), CATALOGUE.clone());
    let vault = Vault::open(store, keyring.clone(), directory, catalogue, clock.clone());
    let vault = vault.await.unwrap();
    let (world, clock, answered) = (world.clone(), clock.clone(), Arc::default());
    vault
        .refresh()
        .requester()
        .scripted(CALLER.clone(), Script { world, clock, answered, replica: None });
    vault
}

/// Adds a connection with a given token, then stores the grant itself.
async fn add(vault: &Vault, grant: Grant) -> Arc<ConnectionRecord> {
    add_named(vault, "work", None, grant).await
}

pub(crate) fn new_app(name: &str, tokens: TokenOptions) -> NewApp {
    let spec = AppSpec {
        name: name.to_owned(),
        provider: "acme".to_owned(),
        client_id: "client".to_owned(),
        settings: AppSettings { tokens, ..AppSettings::default() },
        ..AppSpec::default()
    };
    let (org, managed_by) = (OrgId::default_org(), ManagedBy::Store);
    NewApp { id: None, org, spec, registered: None, managed_by }
}

async fn add_named(
    vault: &Vault,
    name: &str,
    app: Option<AppId>,
    grant: Grant,
) -> Arc<ConnectionRecord> {
    add_of(vault, spec("acme", name, app), grant).await
}

fn spec(provider: &str, name: &str, app: Option<AppId>) -> ConnectionSpec {
    ConnectionSpec {
        name: name.to_owned(),
        provider: provider.to_owned(),
        app: app.map(Reference::Id),
        ..ConnectionSpec::default()
    }
}

async fn add_of(vault: &Vault, spec: ConnectionSpec, grant: Grant) -> Arc<ConnectionRecord> {
    let org = OrgId::default_org();
    let (owner, visibility, managed_by) = (None, Visibility::Shared, ManagedBy::Store);
    let new = NewConnection { org: org.clone(), spec, owner, visibility, managed_by };
    let pasted = BTreeMap::from([("refresh_token".to_owned(), Secret::new("pasted-0"))]);
    let made = vault.lifecycle().add(new, pasted).await.unwrap();
    vault.lifecycle().connect(&org, &made.id, grant, Granted::default()).await.unwrap()
}

fn wanted(connection: &ConnectionRecord) -> RequiredConnection {
    RequiredConnection { connection: connection.id.clone(), name: "work".into(), settings: None }
}

fn got(
    world: &World,
    clock: &Clock,
    credential: Option<Arc<Credential>>,
    last: &Mutex<Option<Arc<Credential>>>,
) {
    let Some(credential) = credential else { return };
    if credential.expires.is_some_and(|ends| ends <= clock.now()) {
        world.is_wrong("an expired credential went out");
    }
    *last.lock() = Some(credential);
}

fn failed(world: &World, error: &VaultError) {
    match error.root() {
        VaultError::RefreshUnavailable { .. } | VaultError::Store(StoreError::Io { .. }) => {}
        VaultError::Broken { .. }
            if world.may_break.load(SeqCst) || world.may_refuse.load(SeqCst) => {}
        error => world.is_wrong(format!("a request failed: {error}")),
    }
}

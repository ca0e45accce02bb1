//! Simulated schedules of refreshes: two replicas over one store, a server that rotates tokens strictly, and faults
//! at every moment. The vault's own code runs; only time, the server's responses and the store's faults are
//! simulated.

mod candidates;
mod idle;
mod rows;
mod schedules;
mod troubles;

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use parking_lot::Mutex;

use crate::grant::oauth::{ErrorCode, OAuth, Temporary, Tokens};
use crate::grant::{Dead, MintError};
use crate::*;
use keyward_base::id::AppId;
use keyward_model::Reference;
use keyward_net::call::HttpClient;
use keyward_net::dial::Dialler;
use keyward_net::guard::Guard;
use keyward_rules::provider::check;
use keyward_state::store::memory::MemoryStore;
use keyward_state::store::{StoreError, Version};

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

static CATALOGUE: LazyLock<Arc<Catalogue>> = LazyLock::new(|| {
    let built_in = Catalogue::default();
    let providers = check::file("p", PROVIDER, &built_in).expect("a provider");
    Arc::new(built_in.with(providers))
});

/// Never called: the answers are the script's.
static CALLER: LazyLock<Arc<HttpClient>> = LazyLock::new(|| {
    let dialler = Dialler::new(Guard::new(Vec::new(), Vec::new()), Vec::new(), 1);
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth();
    Arc::new(HttpClient::new(Arc::new(dialler), Arc::new(tls)))
});

/// What happens next.
#[derive(Clone, Debug)]
enum Step {
    /// Time passes, in milliseconds.
    Pass(u64),
    /// So many agents want the credential of a replica.
    Want(usize, u8),
    /// The upstream refuses the last credential that an agent of this replica got.
    Refused(usize),
    /// The owner connects anew; a token of so many seconds.
    Connect(usize, Option<u32>),
    /// A person asks for a refresh.
    Now(usize),
    /// The next writes fail, after they were done or before.
    Fails(u8, bool),
}

/// The server's next answer.
#[derive(Clone, Debug)]
struct Answer {
    /// How long it takes, in milliseconds.
    after: u64,
    what: What,
}

#[derive(Clone, Debug)]
enum What {
    /// A token of so many seconds, or of unknown life.
    Token(Option<u32>),
    /// Later, after so many seconds if it says so; nothing was done.
    Later(Option<u32>),
    /// The token is rotated, and the answer is lost.
    Lost,
    /// The grant is finished.
    Dead,
    /// The client is refused; nothing was done.
    Rejected,
    /// A code that nobody knows; nothing was done.
    Odd,
    /// The token is rotated, and the answer comes when nobody waits for it any more.
    GivenUp,
}

impl What {
    /// What becomes of an answer that comes `after` the client gave it up. Of one that should have been
    /// awaited nothing may be lost.
    fn too_late(self, after: u64, world: &World) -> Self {
        match self {
            Self::Token(_) => {
                if after > AWAITED {
                    world.may_break.store(true, SeqCst);
                }
                Self::GivenUp
            }
            Self::Lost | Self::GivenUp => Self::Lost,
            Self::Later(_) | Self::Dead | Self::Rejected | Self::Odd => Self::Later(None),
        }
    }
}

/// The server, and everything that is checked.
#[derive(Debug)]
struct World {
    /// The last refresh token of each grant.
    rotated: Mutex<HashMap<u64, u64>>,
    answers: Mutex<VecDeque<Answer>>,
    asking: Mutex<HashSet<ConnectionId>>,
    asked: AtomicUsize,
    grants: AtomicU64,
    /// The server took the grant away.
    may_break: AtomicBool,
    /// A verdict may stand for a while.
    may_refuse: AtomicBool,
    wrong: Mutex<Vec<String>>,
}

/// How long an answer is awaited by default: one that comes within is never lost.
const AWAITED: u64 = 180_000;

/// The answers that a vault gets.
#[derive(Clone)]
pub(crate) struct Script(Arc<World>, Clock);

/// Rows in memory, slowly, and not always.
#[derive(Debug)]
struct Watched {
    rows: MemoryStore,
    world: Arc<World>,
    /// By key.
    newest: Mutex<HashMap<String, Version>>,
    fails: Mutex<(u8, bool)>,
}

struct Asking<'a>(&'a World, &'a ConnectionId);

impl fmt::Debug for Script {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Script")
    }
}

impl Drop for Asking<'_> {
    fn drop(&mut self) {
        self.0.asking.lock().remove(self.1);
    }
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

    /// A grant that somebody consented to.
    fn consent(&self, clock: &Clock, life: Option<u32>) -> Grant {
        let family = self.grants.fetch_add(1, SeqCst);
        self.rotated.lock().insert(family, 0);
        grant(clock, (family, 0), life)
    }
}

fn grant(clock: &Clock, (family, number): (u64, u64), life: Option<u32>) -> Grant {
    let sent = clock.now();
    let expires = life.map(|life| sent + Duration::from_secs(life.into()));
    Grant::OAuth(OAuth::of(Tokens {
        access: Secret::from(format!("access-{family}-{number}")),
        refresh: Some(Secret::from(format!("{family}-{number}"))),
        sent,
        expires,
        refresh_expires: None,
        scope: None,
        captured: BTreeMap::new(),
        account: None,
        id_token: None,
    }))
}

impl Script {
    pub(crate) async fn asked(
        &self,
        connection: &ConnectionRecord,
        grant: &Grant,
        limit: Duration,
    ) -> Result<Grant, MintError> {
        let Self(world, clock) = self;
        if !world.asking.lock().insert(connection.id.clone()) {
            world.is_wrong("two mints at once");
        }
        let _asking = Asking(world, &connection.id);
        world.asked.fetch_add(1, SeqCst);
        let refresh = grant.revocable().and_then(|it| it.refresh).expect("a refresh token");
        let refresh = refresh.expose_text().expect("text").to_owned();
        let (family, number) = refresh.split_once('-').expect("two numbers");
        let (family, number): (u64, u64) = (family.parse().unwrap(), number.parse().unwrap());
        let usual = Answer { after: 5, what: What::Token(Some(3_600)) };
        let Answer { after, what } = world.answers.lock().pop_front().unwrap_or(usual);
        let (what, after) = match Duration::from_millis(after) > limit {
            true => (what.too_late(after, world), limit.as_millis() as u64),
            false => (what, after),
        };
        if matches!(what, What::Rejected) {
            passes(after).await;
            let (reason, code) = (Dead::ClientRejected, ErrorCode::of("invalid_client"));
            return Err(MintError::Dead { reason, code, said: None });
        }
        let spent = world.rotated.lock()[&family] != number;
        if spent || matches!(what, What::Dead) {
            if !spent {
                world.rotated.lock().insert(family, u64::MAX);
                world.may_break.store(true, SeqCst);
            }
            passes(after).await;
            let (reason, code) = (Dead::Revoked, ErrorCode::of("invalid_grant"));
            return Err(MintError::Dead { reason, code, said: None });
        }
        if matches!(what, What::Token(_) | What::Lost | What::GivenUp) {
            world.rotated.lock().insert(family, number + 1);
        }
        let sent = Clock::clone(clock);
        let newer = match what {
            What::Token(life) => Some(self::grant(&sent, (family, number + 1), life)),
            _ => None,
        };
        passes(after).await;
        let mut temporary = Temporary::of("later");
        match (newer, what) {
            (Some(newer), _) => return Ok(newer),
            (None, What::Odd) => {
                temporary.code = Some(ErrorCode::of("odd"));
                temporary.limited = true;
            }
            (None, What::Lost) => world.may_break.store(true, SeqCst),
            (None, What::Later(seconds)) => {
                temporary.retry_after = seconds.map(|it| Duration::from_secs(it.into()));
            }
            (None, _) => {}
        }
        Err(MintError::Unavailable(Box::new(temporary)))
    }
}

/// Simulated time.
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
    /// Writes that fail, in all.
    failed: AtomicUsize,
    keyring: Arc<Keyring>,
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
        Self { world, store, clock, vaults, connection, last, failed, keyring }
    }

    /// Agents of a replica: what each gets is alive.
    fn want(&self, replica: usize, count: u8) {
        for _ in 0..count {
            let (vault, last) = (self.vaults[replica].clone(), self.last[replica].clone());
            let (world, clock) = (self.world.clone(), self.clock.clone());
            let (org, wanted) = (self.connection.org.clone(), wanted(&self.connection));
            tokio::spawn(async move {
                match vault.credential_in(&org, Some(&wanted)).await {
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
        tokio::spawn(async move {
            match vault.renew(&stale).await {
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
        tokio::spawn(async move {
            let grant = world.consent(&clock, life);
            let facts = Granted::default();
            match vault.connect(&connection.org, &connection.id, grant, facts).await {
                Ok(_) | Err(VaultError::Store(StoreError::Io { .. })) => {}
                Err(error) => world.is_wrong(format!("connecting: {error}")),
            }
        });
    }

    fn now(&self, replica: usize) {
        let (vault, connection) = (self.vaults[replica].clone(), self.connection.clone());
        let world = self.world.clone();
        tokio::spawn(async move {
            if let Err(error) = vault.refresh_now(&connection.org, &connection.id).await {
                failed(&world, &error);
            }
        });
    }

    fn fails(&self, count: u8, after: bool) {
        let mut fails = self.store.fails.lock();
        *fails = (fails.0 + count, after);
        if self.failed.fetch_add(count.into(), SeqCst) + usize::from(count) > 4 {
            // More than one flight tries again: the other replica may ask with a spent token, and its
            // verdict stands until the store has taken what this one was answered.
            self.world.may_refuse.store(true, SeqCst);
        }
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
            }
        }
        for vault in &self.vaults {
            if !vault.landed(Duration::from_secs(3_600)).await {
                self.world.is_wrong("a flight never ended");
            }
        }
        passes(60_000).await;
        // What is stored: a replica's own view follows the store's news, which are not played here.
        let stored = self.vaults[0].stored(&self.connection).await.expect("a row");
        if stored.broken.is_some() && !self.world.may_break.load(SeqCst) {
            self.world.is_wrong("a token that the server gave was lost");
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
    vault.asker.scripted(CALLER.clone(), Script(world.clone(), clock.clone()));
    vault
}

/// With a token that was pasted, and then the grant itself.
async fn add(vault: &Vault, grant: Grant) -> Arc<ConnectionRecord> {
    add_named(vault, ("work", None), grant).await
}

async fn add_named(
    vault: &Vault,
    (name, app): (&str, Option<AppId>),
    grant: Grant,
) -> Arc<ConnectionRecord> {
    let org = OrgId::default_org();
    let spec = ConnectionSpec {
        name: name.to_owned(),
        provider: "acme".to_owned(),
        app: app.map(Reference::Id),
        ..ConnectionSpec::default()
    };
    let (owner, visibility, managed_by) = (None, Visibility::Shared, ManagedBy::Store);
    let new = NewConnection { org: org.clone(), spec, owner, visibility, managed_by };
    let pasted = BTreeMap::from([("refresh_token".to_owned(), Secret::new("pasted-0"))]);
    let made = vault.add(new, pasted).await.unwrap();
    vault.connect(&org, &made.id, grant, Granted::default()).await.unwrap()
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

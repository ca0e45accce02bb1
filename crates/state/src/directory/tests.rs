//! Tests of the directory over a memory store: permissions, crashes between two rows, and rows that an editor of the
//! database has changed.

mod busy_replica;
mod damage;
mod deliveries;
mod doubts;
mod golden;
mod hooks;
mod integrity;
mod life;
mod logins;
mod orgs_of_replicas;
mod people;
mod plugins;
mod plugins_of_replicas;
mod put_back;
mod reconcile;
mod rules;
mod sessions;
mod stored;
mod unknown_members;
mod usage;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicI64;

use jiff::Timestamp;

use super::*;
use crate::crypto::keyring::Keyring;
use crate::store::memory::MemoryStore;
use crate::store::{Expect, Row, RowRange, Store, Table};
use keyward_base::id::{AgentId, ConnectionId, OrgId, SessionId, TokenId};
use keyward_base::secret::Secret;
use keyward_model::{
    Agent, AgentFacts, AgentSpec, Connection, ConnectionFacts, ConnectionSpec, Honeytoken,
    HoneytokenFacts, HoneytokenSpec, Record, Role, User, UserFacts, UserSpec,
};
use keyward_rules::inject::placeholder::Placeholder;

/// A directory with its store, keys and clock.
struct World {
    store: Arc<MemoryStore>,
    keyring: Arc<Keyring>,
    clock: Clock,
    directory: Directory,
    org: OrgId,
}

impl World {
    async fn new() -> Self {
        let store = Arc::new(MemoryStore::new());
        let keyring = Arc::new(Keyring::ephemeral());
        let clock = Clock::Fixed(Arc::new(AtomicI64::new(1_800_000_000_000)));
        let shared: Arc<dyn Store> = store.clone();
        let directory = Directory::open(shared, keyring.clone(), clock.clone()).await.unwrap();
        Self { store, keyring, clock, directory, org: OrgId::default_org() }
    }

    /// With the agent `ci`.
    async fn with_agent() -> (Self, Arc<AgentRecord>) {
        let world = Self::new().await;
        let agent = world.agent("ci").await;
        (world, agent)
    }

    /// A replica on these rows.
    async fn open(&self, rows: impl Store + 'static) -> Directory {
        let (keyring, clock) = (self.keyring.clone(), self.clock.clone());
        Directory::open(Arc::new(rows), keyring, clock).await.unwrap()
    }

    /// Opens the same rows again.
    async fn reopen(&self) -> Result<Directory, DirectoryError> {
        self.reopen_with(self.keyring.clone()).await
    }

    async fn reopen_with(&self, keyring: Arc<Keyring>) -> Result<Directory, DirectoryError> {
        Directory::open(self.store.clone(), keyring, self.clock.clone()).await
    }

    fn now(&self) -> Timestamp {
        self.clock.now()
    }

    fn pass(&self, seconds: i64) {
        let Clock::Fixed(ms) = &self.clock else { unreachable!("the clock is fixed") };
        ms.fetch_add(seconds * 1000, std::sync::atomic::Ordering::SeqCst);
    }

    async fn other_org(&self) -> OrgId {
        let org = OrgId::named("other").unwrap();
        self.directory.add_org(&org, ManagedBy::Store).await.unwrap();
        org
    }

    async fn agent(&self, name: &str) -> Arc<AgentRecord> {
        add_agent(&self.directory, &self.org, name).await.unwrap()
    }

    async fn user(&self, name: &str, role: Role) -> Arc<Record<User>> {
        add_user(&self.directory, &self.org, name, role).await.unwrap()
    }

    async fn add<R: Stored>(
        &self,
        spec: R::Spec,
        facts: R::Facts,
    ) -> Result<Arc<Record<R>>, DirectoryError> {
        self.directory.add(&self.org, ManagedBy::Store, spec, facts).await
    }

    async fn change<R: Stored>(
        &self,
        id: &R::Id,
        change: impl Fn(&mut Record<R>) + Sync,
    ) -> Result<Arc<Record<R>>, DirectoryError> {
        self.directory.change(&self.org, id, change).await
    }

    async fn remove<R: Stored>(&self, id: &R::Id) -> Result<(), DirectoryError> {
        self.directory.remove::<R>(&self.org, id, ManagedBy::Store).await
    }

    async fn set_paused(
        &self,
        id: &ConnectionId,
        paused: bool,
    ) -> Result<Arc<ConnectionRecord>, DirectoryError> {
        self.directory.set_connection_paused(&self.org, id, paused, ManagedBy::Store).await
    }

    /// A token whose text the test knows.
    async fn token(&self, agent: &AgentId) -> (TokenId, String) {
        self.token_until(agent, None).await
    }

    async fn token_until(&self, agent: &AgentId, expires: Option<Timestamp>) -> (TokenId, String) {
        let text = format!("Chosen-{}", TokenId::random());
        let chosen = Some(Secret::from(text.clone()));
        let added =
            self.directory.add_token(&self.org, agent, None, expires, chosen).await.unwrap();
        (added.id, text)
    }

    async fn connection(&self, name: &str) -> Arc<ConnectionRecord> {
        let record = connection(&self.org, name, self.now());
        self.directory.add_record(record).await.unwrap()
    }

    async fn bind(&self, agent: &AgentId, connection: &ConnectionId) -> BindingRecord {
        let by = ManagedBy::Store;
        self.directory.bind(&self.org, agent, connection, placeholders("one"), by).await.unwrap()
    }

    async fn rows(&self, table: Table) -> Vec<Row> {
        self.store.list(table, RowRange::first(usize::MAX)).await.unwrap()
    }

    async fn all_rows(&self) -> Vec<(Table, Row)> {
        let mut all = Vec::new();
        for table in Table::ALL {
            all.extend(self.rows(table).await.into_iter().map(|row| (table, row)));
        }
        all
    }

    /// Replaces a row, or restores a deleted one, with these bytes and version 1.
    async fn replant(&self, table: Table, key: &str, value: &[u8]) {
        self.store.delete(table, key, Expect::Any).await.unwrap();
        self.store.put(table, key, value, Expect::Absent).await.unwrap();
    }
}

async fn add_agent(
    directory: &Directory,
    org: &OrgId,
    name: &str,
) -> Result<Arc<AgentRecord>, DirectoryError> {
    let (by, spec) = (ManagedBy::Store, AgentSpec::named(name));
    directory.add::<Agent>(org, by, spec, AgentFacts::default()).await
}

async fn add_user(
    directory: &Directory,
    org: &OrgId,
    name: &str,
    role: Role,
) -> Result<Arc<Record<User>>, DirectoryError> {
    let spec = UserSpec { name: name.to_owned(), email: None, role, paused: false };
    directory.add::<User>(org, ManagedBy::Store, spec, UserFacts::default()).await
}

async fn add_honeytoken(
    directory: &Directory,
    name: &str,
) -> Result<Arc<Record<Honeytoken>>, DirectoryError> {
    let spec = HoneytokenSpec { name: name.to_owned(), provider: None, revokes: false };
    let facts = HoneytokenFacts { placeholder: Placeholder::issue("", None) };
    directory.add::<Honeytoken>(&OrgId::default_org(), ManagedBy::Store, spec, facts).await
}

fn connection(org: &OrgId, name: &str, now: Timestamp) -> ConnectionRecord {
    let spec = ConnectionSpec {
        name: name.into(),
        provider: "github".into(),
        auth: Some("pat".into()),
        ..ConnectionSpec::default()
    };
    Record::new(org, ManagedBy::Store, spec, ConnectionFacts::default(), now)
}

fn placeholders(text: &str) -> BTreeMap<String, Placeholder> {
    let placeholder = Placeholder::issue(text, None);
    BTreeMap::from([("token".to_owned(), placeholder)])
}

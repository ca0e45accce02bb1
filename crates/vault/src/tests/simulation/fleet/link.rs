//! The link between a replica and the shared store. It can be cut; and the replica can be paused, or crash.

use std::io;

use tokio::sync::watch;
use tokio::time::Instant;

use super::*;
use keyward_state::store::memory::MemoryReplica;
use keyward_state::store::shared::{ReplicaChanges, ReplicaPosition};
use keyward_state::store::{
    AnnouncedReplica, KeptBytes, Lease, Row, RowRange, SharedStore, Snapshot, Write,
};

/// The time of one operation, in milliseconds.
const OPERATION: u64 = 1;

/// The time until an operation on a store that does not answer fails, in milliseconds.
const TIMEOUT: u64 = 2_000;

/// A replica that was paused or cut off stores its unsaved response within this time afterwards; before, no other
/// replica sends the token. Longer than half a lease.
const CATCHES_UP: Duration = Duration::from_secs(16);

/// A lease lasts at least this long without a renewal.
const LEASES_LAST: Duration = Duration::from_secs(15);

/// The state of a replica, which determines the result of its operations.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum LinkState {
    Up,
    /// The store cannot be reached: operations fail.
    Cut,
    /// The replica is paused: its operations wait until it resumes.
    Paused,
    /// The replica has crashed: its operations never end.
    Dead,
}

/// A replica's link to the store.
#[derive(Debug)]
pub(super) struct Link {
    rows: MemoryReplica,
    fleet: Arc<FleetWorld>,
    state: watch::Sender<LinkState>,
    /// When it was last up again.
    up_since: Mutex<Instant>,
    /// When the last fault began, or the first of several that followed each other.
    faulty_since: Mutex<Option<Instant>>,
    /// Whether the server has issued a token to the replica that is not in the store.
    has_unsaved: AtomicBool,
}

impl Link {
    pub(super) fn first(fleet: &Arc<FleetWorld>) -> Arc<Self> {
        Self::of(MemoryReplica::first(), fleet)
    }

    /// The link of another replica to the same store.
    pub(super) fn another(&self) -> Arc<Self> {
        Self::of(self.rows.another(), &self.fleet)
    }

    fn of(rows: MemoryReplica, fleet: &Arc<FleetWorld>) -> Arc<Self> {
        Arc::new(Self {
            rows,
            fleet: fleet.clone(),
            state: watch::Sender::new(LinkState::Up),
            up_since: Mutex::new(Instant::now()),
            faulty_since: Mutex::default(),
            has_unsaved: AtomicBool::new(false),
        })
    }

    pub(super) fn is(&self, state: LinkState) -> bool {
        *self.state.borrow() == state
    }

    /// Changes the state; that of a crashed replica stays.
    pub(super) fn set(&self, state: LinkState) {
        if self.is(LinkState::Dead) {
            return;
        }
        if state == LinkState::Dead && self.has_unsaved.load(SeqCst) {
            // The newer token is lost.
            self.fleet.world.may_break.store(true, SeqCst);
        }
        let has_settled = self.steady_for() >= CATCHES_UP;
        if state != LinkState::Up {
            let mut since = self.faulty_since.lock();
            *since = since.filter(|_| !has_settled).or(Some(Instant::now()));
        }
        *self.up_since.lock() = Instant::now();
        self.state.send_replace(state);
    }

    /// Whether the replica may have lost a lease that it needs: it crashed, or was cut off or paused for long.
    pub(super) fn is_excused(&self) -> bool {
        if self.is(LinkState::Dead) {
            return true;
        }
        let since = *self.faulty_since.lock();
        let steady = self.steady_for();
        let is_long = since.is_some_and(|since| since.elapsed() - steady >= LEASES_LAST);
        is_long && steady < CATCHES_UP
    }

    /// The time since the link was last restored; zero while it is not up.
    pub(super) fn steady_for(&self) -> Duration {
        match self.is(LinkState::Up) {
            true => self.up_since.lock().elapsed(),
            false => Duration::ZERO,
        }
    }

    /// Resolves when the replica runs: at once, after a pause, or never.
    pub(super) async fn running(&self) {
        let runs = |state: &LinkState| matches!(state, LinkState::Up | LinkState::Cut);
        // The usual case; a subscription would take a lock.
        if runs(&self.state.borrow()) {
            return;
        }
        let mut state = self.state.subscribe();
        if state.wait_for(runs).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    pub(super) fn unsaved(&self, is: bool) {
        self.has_unsaved.store(is, SeqCst);
    }

    fn is_unfenced(&self) -> bool {
        *self.fleet.weakness.lock() == Weakness::NoVersions
    }

    /// The name of a lease; unique for each call if leases exclude no other replica.
    fn leased(&self, name: &str) -> String {
        match *self.fleet.weakness.lock() {
            Weakness::NoLeases => format!("{name}/{:?}", Instant::now()),
            _ => name.to_owned(),
        }
    }

    /// Makes the writes of grants in a store that does not compare versions: they overwrite concurrent writes. Returns their
    /// versions; the other writes are left.
    async fn made_unfenced(&self, writes: &mut Vec<Write>) -> Result<Vec<Version>, StoreError> {
        let mut versions = Vec::new();
        for write in std::mem::take(writes) {
            match write {
                Write::Put { table: Table::Grants, key, value, expect: Expect::Version(over) } => {
                    self.rows.delete(Table::Grants, &key, Expect::Any).await?;
                    let row = Row { key: key.clone(), version: over.next(), value };
                    self.rows.load(vec![(Table::Grants, row)]).await?;
                    self.written(&key, over.next(), Expect::Version(over));
                    versions.push(over.next());
                }
                other => writes.push(other),
            }
        }
        Ok(versions)
    }

    /// A grant was written.
    fn written(&self, key: &str, version: Version, expect: Expect) {
        self.fleet.written(key, version, expect);
        self.unsaved(false);
    }

    /// Runs an operation, which may fail before or after the store has made it.
    async fn operation<T>(
        &self,
        work: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        self.passed().await?;
        let done = work.await;
        self.passed().await?;
        done
    }

    async fn passed(&self) -> Result<(), StoreError> {
        self.running().await;
        passes(OPERATION).await;
        self.running().await;
        if !self.is(LinkState::Cut) {
            return Ok(());
        }
        passes(TIMEOUT).await;
        self.running().await;
        let source = io::Error::new(io::ErrorKind::TimedOut, "the database does not answer");
        Err(StoreError::Io { action: "ask", source })
    }
}

#[async_trait::async_trait]
impl Store for Link {
    async fn get(&self, table: Table, key: &str) -> Result<Option<Row>, StoreError> {
        self.operation(self.rows.get(table, key)).await
    }

    /// One act: it fails before the store has made it, or after that without an answer.
    async fn commit(&self, writes: Vec<Write>) -> Result<Vec<Version>, StoreError> {
        let changed = writes.iter().filter_map(Write::changed);
        let changed: Vec<_> = changed.map(|(table, key)| (table, key.to_owned())).collect();
        let made = async {
            let mut writes = writes;
            let mut versions = match self.is_unfenced() {
                true => self.made_unfenced(&mut writes).await?,
                false => Vec::new(),
            };
            let puts = writes.iter().filter_map(|write| match write {
                Write::Put { table, key, expect, .. } => Some((*table, key.clone(), *expect)),
                _ => None,
            });
            let puts: Vec<_> = puts.collect();
            let others = self.rows.commit(writes).await?;
            for ((table, key, expect), version) in puts.iter().zip(&others) {
                // What is loaded is a row of before.
                if *table == Table::Grants && !matches!(expect, Expect::Load(_)) {
                    self.written(key, *version, *expect);
                }
            }
            versions.extend(others);
            Ok(versions)
        };
        let done = self.operation(made).await;
        if done.is_err() {
            changed.iter().for_each(|(table, key)| self.rows.answer_lost(*table, key));
        }
        done
    }

    async fn reseal(&self, table: Table, row: &Row, value: &[u8]) -> Result<(), StoreError> {
        self.operation(self.rows.reseal(table, row, value)).await
    }

    async fn list(&self, table: Table, range: RowRange<'_>) -> Result<Vec<Row>, StoreError> {
        self.operation(self.rows.list(table, range)).await
    }

    async fn snapshot(&self) -> Result<Snapshot, StoreError> {
        self.operation(self.rows.snapshot()).await
    }

    async fn lease(&self, name: &str, ttl: Duration) -> Result<Option<Lease>, StoreError> {
        let name = self.leased(name);
        self.operation(self.rows.lease(&name, ttl)).await
    }

    async fn renew_lease(&self, lease: &Lease, ttl: Duration) -> Result<bool, StoreError> {
        self.operation(self.rows.renew_lease(lease, ttl)).await
    }

    async fn changed(&self, table: Table, seen: Version) -> Result<Version, StoreError> {
        self.operation(self.rows.changed(table, seen)).await
    }

    fn shared(&self) -> Option<&dyn SharedStore> {
        Some(self)
    }
}

#[async_trait::async_trait]
impl SharedStore for Link {
    async fn position(&self) -> Result<ReplicaPosition, StoreError> {
        self.operation(self.shared_rows().position()).await
    }

    async fn changes_after(
        &self,
        position: &ReplicaPosition,
    ) -> Result<(ReplicaChanges, ReplicaPosition), StoreError> {
        self.operation(self.shared_rows().changes_after(position)).await
    }

    async fn is_alone(&self) -> Result<bool, StoreError> {
        self.operation(self.shared_rows().is_alone()).await
    }

    async fn claim_once(&self, name: &str, life: Duration) -> Result<bool, StoreError> {
        self.operation(self.shared_rows().claim_once(name, life)).await
    }

    async fn announce(&self, about: &str) -> Result<(), StoreError> {
        self.operation(self.shared_rows().announce(about)).await
    }

    async fn replicas(&self) -> Result<Vec<AnnouncedReplica>, StoreError> {
        self.operation(self.shared_rows().replicas()).await
    }

    async fn keep(&self, name: &str, sealed: &[u8], life: Duration) -> Result<(), StoreError> {
        self.operation(self.shared_rows().keep(name, sealed, life)).await
    }

    async fn kept(&self, name: &str) -> Result<Option<Vec<u8>>, StoreError> {
        self.operation(self.shared_rows().kept(name)).await
    }

    async fn kept_names(&self, prefix: &str) -> Result<Vec<String>, StoreError> {
        self.operation(self.shared_rows().kept_names(prefix)).await
    }

    async fn kept_within(
        &self,
        prefix: &str,
        life: Duration,
        within: Duration,
    ) -> Result<Vec<KeptBytes>, StoreError> {
        self.operation(self.shared_rows().kept_within(prefix, life, within)).await
    }

    async fn forget_old(&self) -> Result<(), StoreError> {
        self.operation(self.shared_rows().forget_old()).await
    }
}

impl Link {
    fn shared_rows(&self) -> &dyn SharedStore {
        &self.rows
    }
}

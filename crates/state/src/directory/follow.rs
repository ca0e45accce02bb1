//! Follows a store that other replicas write too: their changes are in the view within a second. A store of one process
//! is not followed.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::try_join_all;
use tokio::time::Instant;

use super::error::DirectoryError;
use super::follow_state::{Leftovers, Outage};
use super::rows::{ReadRecord, RowId};
use super::stored::Stored;
use super::tables::viewed;
use super::view::View;
use super::{Directory, DirectoryWriter, orgs};
use crate::store::shared::ReplicaChanges;
use crate::store::{AnnouncedReplica, SharedStore, StoreError, Table};
use keyward_base::id::{Id, OrgId, StoredRuleId};
use keyward_model::{Org, Record, Rule};

/// Rows that are read while the write lock is held once.
const ROWS_A_TURN: usize = 64;

/// The pause after a failure of the store.
const TRY_AGAIN_AFTER: Duration = Duration::from_millis(500);

/// How long [`Directory::catch_up`] waits.
const CATCH_UP_MAX: Duration = Duration::from_secs(2);

/// How long [`Directory::leave_replicas`] waits.
const LEAVE_MAX: Duration = Duration::from_secs(2);

/// The interval at which old records of changes are deleted.
const FORGET_EVERY: Duration = Duration::from_secs(600);

impl Directory {
    /// How opening treated rows that look like leftovers of a crash; other services that open the store do the same.
    pub fn leftovers(&self) -> Leftovers {
        self.shared.following.leftovers
    }

    /// The maximum age of missing changes of other replicas; zero if the store is not shared.
    pub fn staleness(&self) -> Duration {
        match self.shared.rows.store.shared() {
            None => Duration::ZERO,
            Some(_) => self.shared.following.fresh.lock().elapsed(),
        }
    }

    /// Sets how long changes may be missing until [`Directory::is_stale`].
    pub fn set_stale_max(&self, stale_max: Duration) {
        *self.shared.following.stale_max.lock() = stale_max;
    }

    /// Whether changes of other replicas may be missing for too long.
    pub fn is_stale(&self) -> bool {
        self.staleness() > *self.shared.following.stale_max.lock()
    }

    /// For how long changes may be missing until [`Directory::is_stale`].
    pub fn stale_max(&self) -> Duration {
        *self.shared.following.stale_max.lock()
    }

    /// Whether a newer program has changed the store so that this program may no longer write it.
    pub fn is_outdated(&self) -> bool {
        self.shared.rows.store.shared().is_some_and(SharedStore::is_outdated)
    }

    /// False while the store has been away for `outage` or longer, and for the time `settling` afterwards: leases could
    /// not be renewed meanwhile, though their holders may be running.
    pub fn has_recovered(&self, outage: Duration, settling: Duration) -> bool {
        match *self.shared.following.outage.lock() {
            Outage::Never => true,
            Outage::Now(from) => from.elapsed() < outage,
            Outage::Ended(length, at) => length < outage || at.elapsed() >= settling,
        }
    }

    /// Waits until the view has all changes that other replicas made before this call. Returns at once if there are
    /// none, or if this process does not follow them, as a command without a gateway.
    ///
    /// # Errors
    /// When the store fails, or the changes are not in the view after two seconds.
    pub async fn catch_up(&self) -> Result<(), DirectoryError> {
        let Some(store) = self.shared.rows.store.shared() else { return Ok(()) };
        if self.shared.following.begun.lock().is_some() {
            return Ok(());
        }
        let wanted = store.position().await?;
        let mut reached = self.shared.following.reached.subscribe();
        let caught_up = reached.wait_for(|reached| reached.has(&wanted));
        match tokio::time::timeout(CATCH_UP_MAX, caught_up).await {
            Ok(_) => Ok(()),
            Err(_) => Err(StoreError::Io {
                action: "follow the changes of other replicas",
                source: std::io::ErrorKind::TimedOut.into(),
            }
            .into()),
        }
    }

    /// Brings the stored version of a record into the view, which may not have the changes of other replicas yet. What is
    /// removed because a record is missing must be decided after this.
    pub(super) async fn follow_record<R: Stored>(
        &self,
        org: &OrgId,
        id: &R::Id,
    ) -> Result<(), DirectoryError> {
        let writer = self.turn().await?;
        let read = writer.read_uncertain::<R>(&RowId::new(R::TABLE, org, id)).await;
        DirectoryError::unless_removed(read)
    }

    /// Whether other replicas may write the store.
    pub fn is_shared(&self) -> bool {
        self.shared.rows.store.shared().is_some()
    }

    /// Lets operations of a shared store wait while it does not answer, for this time from now on.
    pub fn wait_out(&self, time: Duration) {
        if let Some(store) = self.shared.rows.store.shared() {
            store.wait_out(time);
        }
    }

    /// Announces this replica to all others, if the store is shared.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn announce_replica(&self, about: &str) -> Result<(), DirectoryError> {
        match self.shared.rows.store.shared() {
            None => Ok(()),
            Some(store) => Ok(store.announce(about).await?),
        }
    }

    /// Removes this replica from the list, if the store is shared. Called last before the process ends. If the store
    /// does not answer, the lease of the replica expires, and the list shows the replica until its announcement is an
    /// hour old.
    pub async fn leave_replicas(&self) {
        let Some(store) = self.shared.rows.store.shared() else { return };
        match tokio::time::timeout(LEAVE_MAX, store.leave()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::debug!(%error, "the replica stays in the list"),
            Err(_) => tracing::debug!("the replica stays in the list: the store does not answer"),
        }
    }

    /// The replicas that use the store; none if one process owns it.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn replicas(&self) -> Result<Vec<AnnouncedReplica>, DirectoryError> {
        match self.shared.rows.store.shared() {
            None => Ok(Vec::new()),
            Some(store) => Ok(store.replicas().await?),
        }
    }

    /// Brings changes of other replicas into the view, until dropped. `changed` is called for each row after the view
    /// shows it, also for tables that the view does not have.
    pub async fn follow(&self, changed: &(dyn Fn(Table, &str) + Send + Sync)) {
        let Some(store) = self.shared.rows.store.shared() else { return };
        let Some(mut position) = self.shared.following.begun.lock().take() else { return };
        let (mut unread, mut forget_at) = (BTreeSet::new(), Instant::now() + FORGET_EVERY);
        self.shared.following.reached.send_replace(position.clone());
        loop {
            let asked = Instant::now();
            let followed = async {
                let (mut changes, next) = store.changes_after(&position).await?;
                unread.append(&mut changes.unknown);
                changes.unknown = unread.clone();
                self.take_over(changes, changed).await?;
                unread.clear();
                Ok::<_, DirectoryError>(next)
            };
            match followed.await {
                Ok(next) => {
                    self.shared.following.record_answer(asked);
                    self.shared.following.reached.send_replace(next.clone());
                    position = next;
                }
                Err(error) => {
                    self.shared.following.record_failure(&error);
                    tokio::time::sleep(TRY_AGAIN_AFTER).await;
                }
            }
            if Instant::now() > forget_at {
                forget_at = Instant::now() + FORGET_EVERY;
                if let Err(error) = store.forget_old().await {
                    tracing::debug!(%error, "old records of changes stay");
                }
            }
        }
    }

    async fn take_over(
        &self,
        changes: ReplicaChanges,
        changed: &(dyn Fn(Table, &str) + Send + Sync),
    ) -> Result<(), DirectoryError> {
        let ReplicaChanges { mut rows, unknown } = changes;
        for table in unknown {
            tracing::warn!(
                table = table.name(),
                "this replica was away for long, or the database lost changes: the table is read again"
            );
            rows.extend(self.all_keys(table).await?.into_iter().map(|key| (table, key)));
        }
        let rows: Vec<_> = rows.into_iter().collect();
        for some in rows.chunks(ROWS_A_TURN) {
            let writer = self.turn().await?;
            // Tables are followed in order, because records name records of earlier tables. Rows of one table are read
            // concurrently.
            for of_table in some.chunk_by(|one, next| one.0 == next.0) {
                let rows = of_table.iter().map(|(table, key)| writer.follow_row(*table, key));
                try_join_all(rows).await?;
            }
            drop(writer);
            for (table, key) in some {
                changed(*table, key);
            }
        }
        Ok(())
    }

    /// The keys of a table, in the store and in the view.
    async fn all_keys(&self, table: Table) -> Result<BTreeSet<String>, DirectoryError> {
        let at = self.shared.rows.all_places(table).await?;
        let mut keys: BTreeSet<_> = at.iter().map(RowId::key).collect();
        let view = self.view();
        let shown: Vec<String> = match table {
            Table::Orgs => view.orgs().map(|org| orgs::at(&org.id).key()).collect(),
            table => viewed!(table, R => keys_of::<R>(&view, table), Vec::new()),
        };
        keys.extend(shown);
        Ok(keys)
    }
}

/// The keys of the rows that the view shows.
fn keys_of<R: Stored>(view: &View, table: Table) -> Vec<String> {
    let all = view.orgs().flat_map(|org| view.all::<R>(&org.id));
    all.map(|record| RowId::new(table, &record.org, Id::as_str(&record.id)).key()).collect()
}

impl DirectoryWriter {
    /// Updates the view to the stored row. If the row cannot be read, the view keeps the old record; an old rule refuses.
    pub(super) async fn follow_row(&self, table: Table, key: &str) -> Result<(), DirectoryError> {
        let Some(at) = RowId::parse(table, key) else { return Ok(()) };
        match table {
            Table::Orgs => Self::unless_unreadable(&at, self.follow_org(&at).await),
            _ => self.follow_record_at(&at).await,
        }
    }

    /// Brings all records of an organisation into the view, as they are stored.
    pub(super) async fn follow_org_records(&self, org: &OrgId) -> Result<(), DirectoryError> {
        for table in Table::ALL {
            if viewed!(table, R => R::TABLE == table, false) {
                for at in self.rows.places(table, org).await? {
                    self.follow_record_at(&at).await?;
                }
            }
        }
        Ok(())
    }

    /// Reads the row from the store. If the view differs, because another replica wrote it or a write failed half-way,
    /// the view is updated.
    pub(super) async fn read<R: Stored>(
        &self,
        at: &RowId,
    ) -> Result<ReadRecord<Record<R>>, DirectoryError> {
        self.refuse_if_uncertain(at)?;
        self.read_uncertain(at).await
    }

    /// Like [`Self::read`], for a row whose last write may be in doubt.
    pub(super) async fn read_uncertain<R: Stored>(
        &self,
        at: &RowId,
    ) -> Result<ReadRecord<Record<R>>, DirectoryError> {
        let read = self.rows.read::<Record<R>>(at).await?;
        let id = R::Id::parse(&at.id).map_err(|_| at.malformed())?;
        let seen = self.view.load().one::<R>(&at.org, &id).cloned();
        match read {
            Some(read) => {
                if seen.as_deref() != Some(&read.record) {
                    self.publish(|view| view.put(Arc::new(read.record.clone())));
                }
                Ok(read)
            }
            None => {
                if seen.is_some() {
                    self.publish(|view| view.take_out::<R>(&at.org, &id));
                }
                Err(DirectoryError::not_found(R::KIND.one, id.as_str()))
            }
        }
    }

    async fn follow_record_at(&self, at: &RowId) -> Result<(), DirectoryError> {
        let followed = viewed!(at.table, R => self.read_uncertain::<R>(at).await.map(drop), Ok(()));
        if followed.as_ref().is_err_and(DirectoryError::is_unreadable) && at.table == Table::Rules {
            self.distrust_rule(at);
        }
        Self::unless_unreadable(at, followed)
    }

    /// Makes a rule refuse its requests whose newer version cannot be read: what it permits may not be permitted any more.
    fn distrust_rule(&self, at: &RowId) {
        let view = self.view.load_full();
        let id = StoredRuleId::parse(&at.id).ok();
        let Some(rule) = id.and_then(|id| view.one::<Rule>(&at.org, &id)) else { return };
        let mut rule = Record::clone(rule);
        rule.facts.unknown = vec!["its newest change".to_owned()];
        self.publish(|view| view.put(Arc::new(rule)));
    }

    fn unless_unreadable(
        at: &RowId,
        followed: Result<(), DirectoryError>,
    ) -> Result<(), DirectoryError> {
        match followed {
            Err(error @ DirectoryError::Store(_)) if !error.is_rolled_back() => Err(error),
            // The row was removed, and the view shows that.
            Err(DirectoryError::NotFound { .. }) | Ok(()) => Ok(()),
            Err(error) => {
                let (table, key) = (at.table.name(), at.key());
                tracing::error!(id = "row_not_followed", table, key, %error, "a change of another replica is not in force here");
                Ok(())
            }
        }
    }

    async fn follow_org(&self, at: &RowId) -> Result<(), DirectoryError> {
        match self.rows.read::<Record<Org>>(at).await? {
            Some(read) => {
                let seen = self.view.load().org(&read.record.id).cloned();
                if seen.as_deref() != Some(&read.record) {
                    self.publish(|view| view.put_org(read.record.into()));
                }
                // A replica that finds records in an organisation that it has removed adds it again. The view has lost
                // them if it followed both changes.
                if seen.is_none() {
                    self.follow_org_records(&at.org).await?;
                }
            }
            // It has no row.
            None if at.org == OrgId::default_org() => {}
            None => self.publish(|view| view.remove_org(&at.org)),
        }
        Ok(())
    }
}

//! Opens the directory of a store: checks the sentinel row, which detects a wrong master key, and reads all records.
//!
//! Earlier versions wrote the rows of a change one after the other, so that a crash left some of them. If no other replica
//! has the store open, an index row without its record is deleted, a record without its index row gets one, and a plugin
//! without its agent is deleted. A binding for a slot without its plugin allows nothing, and the next change of a plugin of
//! its agent removes it.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

use arc_swap::ArcSwap;
use data_encoding::HEXLOWER;
use foldhash::fast::RandomState;
use jiff::Timestamp;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use super::commit::Viewed;
use super::directory_event::EventSender;
use super::error::DirectoryError;
use super::follow_state::{FollowState, Leftovers};
use super::index::{Claim, Index, Unique, everyone};
use super::orgs;
use super::rows::{DirectoryRows, ReadRecord, RowId, RowWrite};
use super::scan::RecordScan;
use super::stored::Stored;
use super::tables::{KeepsOrg, keeps_org, viewed};
use super::view::View;
use super::{Directory, Shared};
use crate::crypto::envelope::EnvelopeError;
use crate::crypto::keyring::Keyring;
use crate::crypto::source;
use crate::crypto::token::TokenHash;
use crate::store::{Store, Table, Version};
use keyward_base::id::Id;
use keyward_base::time::Clock;
use keyward_model::{Agent, Connection, Org, Plugin, Record, User};

/// The records of a store, and its index.
struct LoadedRecords {
    index: Index,
    view: View,
}

/// The row that every store begins with. The sentinel of a newer format may have other fields, but its format is still
/// read.
#[derive(Deserialize, Serialize)]
pub(super) struct Sentinel {
    /// The format of the directory's records.
    pub(super) format: u32,
    pub(super) created: Timestamp,
    /// Hex; see `index.rs`.
    #[serde(default)]
    pub(super) index_key: String,
}

/// The format of the directory's records.
pub(super) const FORMAT: u32 = 1;

impl Directory {
    /// Reads all records, and repairs index rows.
    ///
    /// # Errors
    /// [`DirectoryError::WrongKey`] if the store was sealed with another master key, and an error that names the row if one does not
    /// open. Nothing is changed then.
    pub async fn open(
        store: Arc<dyn Store>,
        keyring: Arc<Keyring>,
        clock: Clock,
    ) -> Result<Self, DirectoryError> {
        let opened = clock.now();
        let following = FollowState::begin(&*store).await?;
        let rows = DirectoryRows::new(store, keyring);
        let loaded = load(&rows, &clock, following.leftovers).await?;
        let shared = Shared {
            rows,
            index: loaded.index,
            view: ArcSwap::from_pointee(loaded.view),
            catalogue: ArcSwap::default(),
            changes: watch::Sender::new(0),
            event_sender: EventSender::new(),
            following,
            uncertain_changes: Mutex::default(),
            clock,
            opened,
        };
        Ok(Self { shared: shared.into(), turns: Arc::default() })
    }
}

/// Reads all records. While other replicas write, only records of removed organisations are removed: the owner of any
/// other row may be written now.
async fn load(
    rows: &DirectoryRows,
    clock: &Clock,
    leftovers: Leftovers,
) -> Result<LoadedRecords, DirectoryError> {
    let index = sentinel(rows, clock).await?;
    let (mut wanted, mut view) = (Claims::default(), View::default());
    let mut known = LoadingIndex { index: &index, wanted: &mut wanted, view: &mut view, leftovers };
    known.take_people(rows).await?;
    // Connections are read before agents, whose bindings share the ids of connections.
    known.take_all::<Connection>(rows).await?;
    known.take_agents(rows).await?;
    known.take_plugins(rows).await?;
    // An organisation that has a record of the other kinds was not removed, although its row may be lost.
    let is_last = |table: &Table| keeps_org(*table) == KeepsOrg::Since;
    let (last, others): (Vec<_>, Vec<_>) = Table::ALL.into_iter().partition(is_last);
    for table in others.into_iter().chain(last) {
        match table {
            Table::Users | Table::Connections | Table::Agents | Table::Plugins => {}
            table => viewed!(table, R => known.take_all::<R>(rows).await?, ()),
        }
    }
    if leftovers == Leftovers::Remove {
        repair(rows, wanted).await?;
    }
    Ok(LoadedRecords { index, view })
}

/// A record that was read, with its unique values.
struct UniqueValues<R: Stored> {
    at: RowId,
    record: Record<R>,
    version: Version,
    unique: Vec<Unique>,
}

/// The rows of the records that claim index rows. The keys of index rows are hashes with a secret key.
type Claims = HashMap<RowId, RowId, RandomState>;

/// The state while the records are loaded.
struct LoadingIndex<'a> {
    index: &'a Index,
    wanted: &'a mut Claims,
    view: &'a mut View,
    leftovers: Leftovers,
}

impl LoadingIndex<'_> {
    /// Takes all records of a kind. Those that an earlier version left in the store when it removed their organisation are
    /// deleted, so that a later organisation of the same name does not get them.
    async fn take_all<R: Stored>(&mut self, rows: &DirectoryRows) -> Result<(), DirectoryError> {
        let may_be_left = keeps_org(R::TABLE) == KeepsOrg::Since;
        let mut scan = self.scan::<R>(rows);
        while let Some(page) = scan.next().await? {
            for taken in page {
                match may_be_left && self.view.was_removed(&taken.record.org) {
                    true => drop_orphan(rows, taken).await?,
                    false => self.take(rows, taken).await?,
                }
            }
        }
        Ok(())
    }

    fn scan<R: Stored>(&self, rows: &DirectoryRows) -> RecordScan<UniqueValues<R>> {
        let index = self.index.clone();
        rows.scan(R::TABLE, move |at, ReadRecord { record, version, .. }: ReadRecord<Record<R>>| {
            if at != RowId::new(R::TABLE, &record.org, Id::as_str(&record.id)) {
                return Err(at.malformed());
            }
            let unique = R::unique(&record, &index);
            Ok(UniqueValues { at, record, version, unique })
        })
    }

    /// Claims the unique values of a record and puts it into the view.
    async fn take<R: Stored>(
        &mut self,
        rows: &DirectoryRows,
        taken: UniqueValues<R>,
    ) -> Result<(), DirectoryError> {
        let UniqueValues { mut at, mut record, unique, .. } = taken;
        if let Some(org) = self.view.org(&record.org) {
            (at.org, record.org) = (org.id.clone(), org.id.clone());
        }
        for unique in unique {
            self.claim::<R>(rows, unique, &at).await?;
        }
        Arc::new(record).show(self.view);
        Ok(())
    }

    /// Claims a unique value for a record. While other replicas write, a value may move from one record to another
    /// between the reads of their rows: then one of the two has changed since it was read, and the follower reads it again.
    async fn claim<R: Stored>(
        &mut self,
        rows: &DirectoryRows,
        unique: Unique,
        record: &RowId,
    ) -> Result<(), DirectoryError> {
        let (value, first) = match self.wanted.entry(unique.at) {
            Entry::Vacant(free) => {
                free.insert(record.clone());
                return Ok(());
            }
            Entry::Occupied(first) => (first.key().clone(), first.get().clone()),
        };
        if self.leftovers == Leftovers::Keep {
            if !self.has_value::<R>(rows, &first, &value).await? {
                self.wanted.insert(value, record.clone());
                return Ok(());
            }
            if !self.has_value::<R>(rows, record, &value).await? {
                return Ok(());
            }
        }
        let second = record.id.clone();
        Err(DirectoryError::Twice { what: unique.what, first: first.id, second })
    }

    /// Whether the stored record has a unique value now. Only records of one kind exchange values.
    async fn has_value<R: Stored>(
        &self,
        rows: &DirectoryRows,
        record: &RowId,
        value: &RowId,
    ) -> Result<bool, DirectoryError> {
        if record.table != R::TABLE {
            return Ok(true);
        }
        let read = rows.read::<Record<R>>(record).await?;
        let unique = read.map(|read| R::unique(&read.record, self.index)).unwrap_or_default();
        Ok(unique.iter().any(|unique| unique.at == *value))
    }

    async fn take_agents(&mut self, rows: &DirectoryRows) -> Result<(), DirectoryError> {
        let mut scan = self.scan::<Agent>(rows);
        while let Some(page) = scan.next().await? {
            for mut taken in page {
                let UniqueValues { at, record, .. } = &mut taken;
                if record.facts.tokens.iter().any(|it| TokenHash::from_hex(&it.hash).is_none()) {
                    return Err(at.malformed());
                }
                // Lists are read with spare capacity, which is a sixth of the memory of a large installation.
                record.facts.tokens.shrink_to_fit();
                record.facts.bindings.shrink_to_fit();
                for binding in &mut record.facts.bindings {
                    let known = self.view.connection(&record.org, &binding.connection);
                    if let Some(connection) = known {
                        binding.connection = connection.id.clone();
                    }
                }
                self.take(rows, taken).await?;
            }
        }
        Ok(())
    }

    /// A plugin without its agent is a leftover of an earlier version, or its agent is added or removed now.
    async fn take_plugins(&mut self, rows: &DirectoryRows) -> Result<(), DirectoryError> {
        let mut scan = self.scan::<Plugin>(rows);
        while let Some(page) = scan.next().await? {
            for taken in page {
                let UniqueValues { at, record, version, .. } = &taken;
                let agent = record.agent.id().ok_or_else(|| at.malformed())?;
                if self.view.agent(&record.org, agent).is_some() {
                    self.take(rows, taken).await?;
                } else if self.leftovers == Leftovers::Remove {
                    tracing::warn!(row = at.key(), "dropping a plugin whose agent was removed");
                    rows.delete(at, Some(*version)).await?;
                }
            }
        }
        Ok(())
    }

    /// Takes organisations and users. They come first, because other records name their owners.
    async fn take_people(&mut self, rows: &DirectoryRows) -> Result<(), DirectoryError> {
        self.view.put_org(Arc::new(orgs::default_org()));
        for (at, ReadRecord { record, .. }) in rows.all::<Record<Org>>(Table::Orgs).await? {
            if at != orgs::at(&record.id) {
                return Err(at.malformed());
            }
            self.view.put_org(Arc::new(record));
        }
        self.take_all::<User>(rows).await
    }
}

/// Deletes a record of a removed organisation with its keys and events, and its index rows.
async fn drop_orphan<R: Stored>(
    rows: &DirectoryRows,
    orphan: UniqueValues<R>,
) -> Result<(), DirectoryError> {
    let UniqueValues { at, record, unique, .. } = orphan;
    // Another replica has added the organisation since the organisations were read; the follower will read the record.
    if rows.version(&orgs::at(&record.org)).await?.is_some() {
        return Ok(());
    }
    tracing::warn!(row = at.key(), "dropping a row of an organisation that was removed");
    let mut gone: Vec<_> = unique.into_iter().map(|unique| unique.at).collect();
    // Its keys and events.
    for table in [Table::WebhookKeys, Table::HookKeys, Table::HookEvents] {
        gone.extend(rows.places_below(table, &at.key()).await?);
    }
    gone.push(at);
    let deletes: Vec<_> = gone.into_iter().map(|at| RowWrite::Delete { at, over: None }).collect();
    rows.commit(&deletes).await
}

/// The index with the key of the sentinel, which is created in an empty store.
async fn sentinel(rows: &DirectoryRows, clock: &Clock) -> Result<Index, DirectoryError> {
    let at = RowId::new(Table::Meta, &everyone(), "sentinel");
    match read_sentinel(rows, &at).await? {
        Some(index) => return Ok(index),
        None => refuse_unless_empty(rows).await?,
    }
    let key = Index::random_key();
    let index_key = HEXLOWER.encode(key.as_slice());
    let new = Sentinel { format: FORMAT, created: clock.now(), index_key };
    match rows.write(&at, &new, None).await {
        Ok(_) => Ok(Index::new(key)),
        // Another replica has created the row first: its key is used.
        Err(error) if error.is_conflict() => {
            read_sentinel(rows, &at).await?.ok_or(DirectoryError::SentinelMissing)
        }
        Err(error) => Err(error),
    }
}

/// The index of a store, which is not changed.
pub(super) async fn existing_index(rows: &DirectoryRows) -> Result<Index, DirectoryError> {
    let at = RowId::new(Table::Meta, &everyone(), "sentinel");
    read_sentinel(rows, &at).await?.ok_or(DirectoryError::SentinelMissing)
}

async fn read_sentinel(rows: &DirectoryRows, at: &RowId) -> Result<Option<Index>, DirectoryError> {
    let read = rows.read::<Sentinel>(at).await.map_err(|error| match error {
        DirectoryError::Unreadable { source: EnvelopeError::UnknownKey(sealed_by), .. } => {
            DirectoryError::WrongKey { sealed_by }
        }
        other => other,
    })?;
    let Some(ReadRecord { record, .. }) = read else { return Ok(None) };
    if record.format > FORMAT {
        return Err(DirectoryError::Newer { format: record.format, reads: FORMAT });
    }
    let key = source::hex32(record.index_key.as_bytes()).filter(|_| record.format == FORMAT);
    key.map(|key| Some(Index::new(key))).ok_or_else(|| at.malformed())
}

/// Refuses a store that has lost its sentinel, because it must not be treated as a new one.
async fn refuse_unless_empty(rows: &DirectoryRows) -> Result<(), DirectoryError> {
    for table in Table::ALL {
        if !rows.is_empty(table).await? {
            return Err(DirectoryError::SentinelMissing);
        }
    }
    Ok(())
}

/// Repairs the index rows according to the records.
async fn repair(rows: &DirectoryRows, mut wanted: Claims) -> Result<(), DirectoryError> {
    let mut stale: Vec<(RowId, Version)> = Vec::new();
    for table in [Table::Names, Table::Tokens] {
        let mut scan = rows.scan(table, |at, read: ReadRecord<Claim>| Ok((at, read)));
        while let Some(page) = scan.next().await? {
            for (at, read) in page {
                match wanted.entry(at) {
                    Entry::Occupied(owner) if owner.get().id == read.record.owner => {
                        drop(owner.remove());
                    }
                    other => stale.push((other.key().clone(), read.version)),
                }
            }
        }
    }
    for (at, version) in stale {
        tracing::warn!(row = at.key(), "dropping an index row that no record asks for");
        rows.delete(&at, Some(version)).await?;
    }
    for (at, owner) in wanted {
        tracing::warn!(row = at.key(), owner = owner.id, "making a missing index row");
        rows.write(&at, &Claim::of(&owner.id), None).await?;
    }
    Ok(())
}

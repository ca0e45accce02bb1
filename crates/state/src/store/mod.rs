//! [`Store`]: bytes by (table, key) with versions, compare-and-swap, leases and watches. A backend never sees
//! plaintext secrets: `directory` and `vault` seal values first.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

mod lease;
pub mod memory;
pub mod observed;
pub mod postgres;
mod row;
mod scan;
pub mod shared;
pub mod sled;
mod snapshot;
#[cfg(test)]
mod tests;
mod watch;

pub use lease::Lease;
pub use scan::{DamagedRow, Scan};
pub use shared::{AnnouncedReplica, KeptBytes, SharedStore};
pub use snapshot::Snapshot;

/// Maximum length of a key.
pub const KEY_BYTES_MAX: usize = 512;

/// Maximum length of a value: enough for an agent with 10,000 bindings, and small enough to read at once.
pub const VALUE_BYTES_MAX: usize = 4 * 1024 * 1024;

/// The tables. Each row is one aggregate; keys begin with the org's id.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Table {
    /// Data of the whole store.
    Meta,
    /// Organisations.
    Orgs,
    /// Users with their tokens.
    Users,
    /// Agents with their tokens and bindings.
    Agents,
    /// Connections, without secrets.
    Connections,
    /// Sealed grants of connections, and sealed secrets of apps.
    Grants,
    /// Bindings with a row of their own.
    Bindings,
    /// Index of unique names.
    Names,
    /// Index of token hashes.
    Tokens,
    /// Apps, without secrets.
    Apps,
    /// Consents in progress.
    Flows,
    /// Revocations that must be sent to providers.
    Outbox,
    /// Plugins installed for agents.
    Plugins,
    /// Failed refreshes.
    Refreshes,
    /// Webhooks: where events are delivered.
    Webhooks,
    /// Signing keys of webhooks.
    WebhookKeys,
    /// Events that have not been delivered yet.
    Deliveries,
    /// Placeholders without a binding.
    Honeytokens,
    /// Providers that organisations added.
    Providers,
    /// Rules that are stored, with their places in the order.
    Rules,
    /// Sessions of agents for end users.
    Sessions,
    /// Usage of connections, agents and organisations over time.
    Usage,
    /// Links by which people connect accounts.
    ConnectSessions,
    /// Browsers in which users are signed in.
    Logins,
    /// Hooks: URLs to which services post their webhooks.
    Hooks,
    /// Secrets of services, and keys that sign deliveries.
    HookKeys,
    /// Verified webhooks that have not been delivered yet, and the ids of delivered ones.
    HookEvents,
    /// Secret sources, without their credentials.
    Sources,
    /// Sealed credentials of secret sources.
    SourceKeys,
    /// Database listeners that are added while the gateway runs.
    DatabaseListeners,
}

/// A row's version: 1 for a new row, incremented at each write. A row that is deleted and recreated starts at 1
/// again.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Version(pub u64);

/// A stored row.
#[derive(Clone, Eq, PartialEq)]
pub struct Row {
    /// The key of the row.
    pub key: String,
    /// The sealed bytes.
    pub value: Vec<u8>,
    /// The version of the row.
    pub version: Version,
}

/// The precondition of a write.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Expect {
    /// The row does not exist.
    Absent,
    /// No precondition.
    Any,
    /// The row has this version.
    Version(Version),
}

/// Why a store operation failed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The precondition of the write is not met.
    #[error("{table} row {key} was changed by another writer")]
    Conflict {
        /// The table's name.
        table: &'static str,
        /// The row's key.
        key: String,
    },
    /// The value exceeds [`VALUE_BYTES_MAX`].
    #[error("{table} row {key} would have {bytes} bytes; the limit is {VALUE_BYTES_MAX}")]
    ValueTooLarge {
        /// The table's name.
        table: &'static str,
        /// The row's key.
        key: String,
        /// Length of the value.
        bytes: usize,
    },
    /// The key is empty, exceeds [`KEY_BYTES_MAX`], or has characters other than visible ASCII.
    #[error("a key of table {table} must be 1 to {KEY_BYTES_MAX} visible ASCII characters")]
    KeyRefused {
        /// The table's name.
        table: &'static str,
    },
    /// Another process has locked the files.
    #[error("store is locked by {}", owner(*.pid))]
    Locked {
        /// The id of that process, if it has written it already.
        pid: Option<u32>,
    },
    /// Other users can access the directory.
    #[error(
        "store directory {path} has mode {mode:04o}, so others can reach it: run `chmod 700` on it"
    )]
    Exposed {
        /// The directory.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// A row's bytes differ from what was written.
    #[error("{table} row {key} is damaged: restore the store from a backup")]
    Corrupt {
        /// The table's name.
        table: &'static str,
        /// The row's key, escaped.
        key: String,
    },
    /// The files are damaged as a whole. Nothing was repaired.
    #[error("store {path} is damaged ({what}): keep the files and restore a backup")]
    Damaged {
        /// The directory.
        path: PathBuf,
        /// What is damaged.
        what: String,
    },
    /// The operating system reported an error. After a failed write, the row may or may not exist.
    #[error("store could not {action}: {source}")]
    Io {
        /// The attempted operation.
        action: &'static str,
        /// The operating system's error.
        source: io::Error,
    },
}

/// A storage backend.
#[async_trait::async_trait]
pub trait Store: fmt::Debug + Send + Sync {
    /// Reads a row.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] when it differs from what was written; `Io`.
    async fn get(&self, table: Table, key: &str) -> Result<Option<Row>, StoreError>;

    /// Writes durably and returns the new version. If the future is dropped, the row is either written or not,
    /// never partially.
    ///
    /// # Errors
    /// `Conflict` when the precondition is not met; `ValueTooLarge`, `KeyRefused`, `Io`.
    async fn put(
        &self,
        table: Table,
        key: &str,
        value: &[u8],
        expect: Expect,
    ) -> Result<Version, StoreError>;

    /// Replaces the bytes of exactly this row, durably and with the same version: the content is the same, only
    /// sealed differently. Watchers are not notified.
    ///
    /// # Errors
    /// `Conflict` when version or bytes differ from `row`, or it does not exist; `ValueTooLarge`, `Io`.
    async fn reseal(&self, table: Table, row: &Row, value: &[u8]) -> Result<(), StoreError>;

    /// Deletes durably. Deleting an absent row is an error only with [`Expect::Version`].
    ///
    /// # Errors
    /// `Conflict` when the precondition is not met; `Io`.
    async fn delete(&self, table: Table, key: &str, expect: Expect) -> Result<(), StoreError>;

    /// Lists up to `limit` rows whose keys begin with `prefix` and come after `after`, in byte order.
    ///
    /// # Errors
    /// `Corrupt` for the first damaged row; `Io`.
    async fn list(
        &self,
        table: Table,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<Row>, StoreError>;

    /// Lists the keys and versions of rows as [`Store::list`] does, without their values, which a backend may leave unread and
    /// unchecked.
    ///
    /// # Errors
    /// As [`Store::list`], as far as values are read.
    async fn list_keys(
        &self,
        table: Table,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<(String, Version)>, StoreError> {
        let rows = self.list(table, prefix, after, limit).await?;
        Ok(rows.into_iter().map(|row| (row.key, row.version)).collect())
    }

    /// Reads all rows as of one point in time: a write is either in it or began after it. Writers wait meanwhile.
    ///
    /// # Errors
    /// `Corrupt` for the first damaged row; `Io`.
    async fn snapshot(&self) -> Result<Snapshot, StoreError>;

    /// Reads all rows as of one point in time, also when some are damaged.
    ///
    /// # Errors
    /// `Io`; `Corrupt` from a backend that cannot read the rows after a damaged one.
    async fn scan(&self) -> Result<Scan, StoreError> {
        Ok(self.snapshot().await?.into())
    }

    /// Deletes a row durably if the backend cannot read it, and returns whether it did. Other methods keep such a row,
    /// because it may be the only copy.
    ///
    /// # Errors
    /// `Io`.
    async fn discard_damaged(&self, _table: Table, _key: &str) -> Result<bool, StoreError> {
        Ok(false)
    }

    /// Adds rows of another store, durably and with their versions. None of them may exist here. After a failure,
    /// some may be there.
    ///
    /// # Errors
    /// `Conflict` when a row exists; `ValueTooLarge`, `KeyRefused`, `Io`.
    async fn load(&self, rows: Vec<(Table, Row)>) -> Result<(), StoreError>;

    /// Acquires a lease; `None` while another holder has it. It ends when dropped, when `ttl` expires, or with
    /// the process.
    ///
    /// # Errors
    /// `Io`, if leases are rows.
    async fn lease(&self, name: &str, ttl: Duration) -> Result<Option<Lease>, StoreError>;

    /// Extends a lease to `ttl` from now. One whose time is over is extended too, if no other holder had the name since: an
    /// outage may be longer than a lease. False if another holder has it or had it, or the end is an hour ago.
    ///
    /// # Errors
    /// `Io`, if leases are rows.
    async fn renew_lease(&self, lease: &Lease, ttl: Duration) -> Result<bool, StoreError>;

    /// Waits until the table's change counter exceeds `seen` and returns the new counter. Counters are at least
    /// 1 and may restart when the store is opened: begin with `Version(0)`, which returns at once.
    ///
    /// # Errors
    /// `Io`, if changes arrive over a network.
    async fn changed(&self, table: Table, seen: Version) -> Result<Version, StoreError>;

    /// The store as other replicas write it too; `None` when one process owns it.
    fn shared(&self) -> Option<&dyn SharedStore> {
        None
    }
}

impl Table {
    /// All tables, in the order of their declaration.
    pub const ALL: [Self; 30] = [
        Self::Meta,
        Self::Orgs,
        Self::Users,
        Self::Agents,
        Self::Connections,
        Self::Grants,
        Self::Bindings,
        Self::Names,
        Self::Tokens,
        Self::Apps,
        Self::Flows,
        Self::Outbox,
        Self::Plugins,
        Self::Refreshes,
        Self::Webhooks,
        Self::WebhookKeys,
        Self::Deliveries,
        Self::Honeytokens,
        Self::Providers,
        Self::Rules,
        Self::Sessions,
        Self::Usage,
        Self::ConnectSessions,
        Self::Logins,
        Self::Hooks,
        Self::HookKeys,
        Self::HookEvents,
        Self::Sources,
        Self::SourceKeys,
        Self::DatabaseListeners,
    ];

    /// The stable name: part of the file format and of every seal's associated data.
    pub fn name(self) -> &'static str {
        match self {
            Self::Meta => "meta",
            Self::Orgs => "orgs",
            Self::Users => "users",
            Self::Agents => "agents",
            Self::Connections => "connections",
            Self::Grants => "grants",
            Self::Bindings => "bindings",
            Self::Names => "names",
            Self::Tokens => "tokens",
            Self::Apps => "apps",
            Self::Flows => "flows",
            Self::Outbox => "outbox",
            Self::Plugins => "plugins",
            Self::Refreshes => "refreshes",
            Self::Webhooks => "webhooks",
            Self::WebhookKeys => "webhook_keys",
            Self::Deliveries => "deliveries",
            Self::Honeytokens => "honeytokens",
            Self::Providers => "providers",
            Self::Rules => "rules",
            Self::Sessions => "sessions",
            Self::Usage => "usage",
            Self::ConnectSessions => "connect_sessions",
            Self::Logins => "logins",
            Self::Hooks => "hooks",
            Self::HookKeys => "hook_keys",
            Self::HookEvents => "hook_events",
            Self::Sources => "sources",
            Self::SourceKeys => "source_keys",
            Self::DatabaseListeners => "database_listeners",
        }
    }

    /// The table with this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|table| table.name() == name)
    }
}

impl Version {
    /// The next version.
    pub fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl fmt::Debug for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Row({} v{})", self.key, self.version.0)
    }
}

impl Expect {
    /// The version that a write gives to a row that is at `found`.
    fn admits(
        self,
        table: Table,
        key: &str,
        found: Option<Version>,
    ) -> Result<Version, StoreError> {
        let met = match self {
            Self::Absent => found.is_none(),
            Self::Any => true,
            Self::Version(version) => found == Some(version),
        };
        match met {
            true => Ok(found.unwrap_or_default().next()),
            false => Err(conflict(table, key)),
        }
    }
}

impl StoreError {
    /// What the operator can do, if the message does not say it.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Locked { .. } => Some("stop the gateway, or let the CLI talk to it"),
            Self::Conflict { .. } => Some("read it again and repeat the change"),
            _ => None,
        }
    }
}

fn conflict(table: Table, key: &str) -> StoreError {
    StoreError::Conflict { table: table.name(), key: key.to_owned() }
}

fn owner(pid: Option<u32>) -> String {
    pid.map_or_else(|| "another process".to_owned(), |pid| format!("process {pid}"))
}

/// Checks that every backend makes before a write.
fn check(table: Table, key: &str, value: &[u8]) -> Result<(), StoreError> {
    let table = table.name();
    if key.is_empty() || key.len() > KEY_BYTES_MAX || !key.bytes().all(|b| b.is_ascii_graphic()) {
        return Err(StoreError::KeyRefused { table });
    }
    if value.len() > VALUE_BYTES_MAX {
        let bytes = value.len();
        return Err(StoreError::ValueTooLarge { table, key: key.to_owned(), bytes });
    }
    Ok(())
}

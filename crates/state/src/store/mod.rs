//! Bytes by (table, key): versions, compare-and-swap, leases, watches. A backend never sees
//! plaintext secrets: what it keeps was sealed by `directory/` or `vault/`.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

#[cfg(test)]
mod conformance;
mod lease;
pub mod memory;
mod row;
pub mod sled;
mod watch;

pub use lease::Lease;

/// Bytes that a key may have.
pub const KEY_BYTES_MAX: usize = 512;

/// Bytes that a value may have: an agent with 10,000 bindings fits, and a row stays something that
/// can be read at once.
pub const VALUE_BYTES_MAX: usize = 4 * 1024 * 1024;

/// One aggregate per row; keys begin with the org's id.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Table {
    /// What belongs to the whole store.
    Meta,
    /// Organisations.
    Orgs,
    /// People with their tokens.
    Users,
    /// Agents with their tokens and bindings.
    Agents,
    /// Connections' metadata.
    Connections,
    /// Connections' sealed grants, and apps' sealed secrets.
    Grants,
    /// Bindings that have a row of their own.
    Bindings,
    /// Index: names that are taken.
    Names,
    /// Index: tokens that are taken.
    Tokens,
    /// Apps' metadata.
    Apps,
    /// Consents under way.
    Flows,
    /// Revocations that are owed to providers.
    Outbox,
    /// Plugins that are installed for agents.
    Plugins,
    /// Refreshes that fail.
    Refreshes,
    /// Webhooks: where people want to be told what happens.
    Webhooks,
    /// What webhooks sign with.
    WebhookKeys,
    /// Events that webhooks have not been told yet.
    Deliveries,
    /// Placeholders that are bound to nothing.
    Honeytokens,
}

/// A row's version: 1 when new, one more at each write. A row that was deleted and made again
/// begins at 1 again.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Version(pub u64);

/// A stored value.
#[derive(Clone, Eq, PartialEq)]
pub struct Row {
    /// The key.
    pub key: String,
    /// The bytes, sealed.
    pub value: Vec<u8>,
    /// The version.
    pub version: Version,
}

/// What a write expects to find.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Expect {
    /// No row.
    Absent,
    /// Anything.
    Any,
    /// This version.
    Version(Version),
}

/// Why a store refused.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The row is not what the write expected.
    #[error("{table} row {key} was changed by someone else")]
    Conflict {
        /// The table's name.
        table: &'static str,
        /// The row's key.
        key: String,
    },
    /// Over [`VALUE_BYTES_MAX`].
    #[error("{table} row {key} would have {bytes} bytes; the limit is {VALUE_BYTES_MAX}")]
    ValueTooLarge {
        /// The table's name.
        table: &'static str,
        /// The row's key.
        key: String,
        /// Bytes of the value.
        bytes: usize,
    },
    /// Empty, over [`KEY_BYTES_MAX`], or with something else than visible ASCII.
    #[error("a key of table {table} must be 1 to {KEY_BYTES_MAX} visible ASCII characters")]
    KeyRefused {
        /// The table's name.
        table: &'static str,
    },
    /// Another process owns the files.
    #[error("store is locked by {}", owner(*.pid))]
    Locked {
        /// That process, unless it has not yet written its number down.
        pid: Option<u32>,
    },
    /// The directory is not private.
    #[error(
        "store directory {path} has mode {mode:04o}, so others can reach it: run `chmod 700` on it"
    )]
    Exposed {
        /// The directory.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// A row's bytes are not those that were written.
    #[error("{table} row {key} is damaged: restore the store from a backup")]
    Corrupt {
        /// The table's name.
        table: &'static str,
        /// The row's key, escaped.
        key: String,
    },
    /// The files as a whole are damaged. Nothing was repaired by guessing.
    #[error("store {path} is damaged ({what}): keep the files and restore a backup")]
    Damaged {
        /// The directory.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// The operating system failed. After a failed write, the row may or may not be there.
    #[error("store could not {action}: {source}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// Why not.
        source: io::Error,
    },
}

/// A backend.
#[async_trait::async_trait]
pub trait Store: fmt::Debug + Send + Sync {
    /// One row.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] when it is not what was written; `Io`.
    async fn get(&self, table: Table, key: &str) -> Result<Option<Row>, StoreError>;

    /// Writes durably, then answers the new version. A caller that goes away meanwhile leaves the
    /// row either written or not, never half.
    ///
    /// # Errors
    /// `Conflict` when the row is not as expected; `ValueTooLarge`, `KeyRefused`, `Io`.
    async fn put(
        &self,
        table: Table,
        key: &str,
        value: &[u8],
        expect: Expect,
    ) -> Result<Version, StoreError>;

    /// Puts other bytes in the place of exactly this row, durably and under the same version: what the
    /// row says is the same, it is only sealed otherwise. Nobody who waits for changes is told.
    ///
    /// # Errors
    /// `Conflict` when version or bytes are not those of `row`, or it is gone; `ValueTooLarge`, `Io`.
    async fn reseal(&self, table: Table, row: &Row, value: &[u8]) -> Result<(), StoreError>;

    /// Deletes durably; deleting what is absent is an error only under [`Expect::Version`].
    ///
    /// # Errors
    /// `Conflict` when the row is not as expected; `Io`.
    async fn delete(&self, table: Table, key: &str, expect: Expect) -> Result<(), StoreError>;

    /// Up to `limit` rows with keys after `after`, in byte order, of keys beginning with `prefix`.
    ///
    /// # Errors
    /// `Corrupt` for the first such row; `Io`.
    async fn list(
        &self,
        table: Table,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<Row>, StoreError>;

    /// A lease, or `None` while another holds it. It ends when it is dropped, when its `ttl` is
    /// over, or with the process.
    ///
    /// # Errors
    /// `Io`, where leases are rows.
    async fn lease(&self, name: &str, ttl: Duration) -> Result<Option<Lease>, StoreError>;

    /// Lengthens a lease to `ttl` from now. False when it had ended: another may hold the name by now.
    ///
    /// # Errors
    /// `Io`, where leases are rows.
    async fn renew_lease(&self, lease: &Lease, ttl: Duration) -> Result<bool, StoreError>;

    /// Waits until the table's change counter passes `seen`; answers the new counter. Counters are
    /// at least 1 and may begin anew when the store is opened: begin with `Version(0)`, which
    /// answers at once.
    ///
    /// # Errors
    /// `Io`, where changes come over a network.
    async fn changed(&self, table: Table, seen: Version) -> Result<Version, StoreError>;
}

impl Table {
    /// All tables.
    pub const ALL: [Self; 18] = [
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
    ];

    /// The stable name: part of the file format and of every seal.
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
        }
    }
}

impl Version {
    /// The version after this one.
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
    /// The version that a write makes of a row that is at `found`.
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
    /// What to do about it, where the message does not say so itself.
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

/// What every backend asks of a write before it touches anything.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_locked_store_names_its_owner_and_the_remedy() {
        let locked = StoreError::Locked { pid: Some(4121) };
        assert_eq!(locked.to_string(), "store is locked by process 4121");
        assert_eq!(locked.hint(), Some("stop the gateway, or let the CLI talk to it"));
        let nameless = StoreError::Locked { pid: None };
        assert_eq!(nameless.to_string(), "store is locked by another process");
    }

    #[test]
    fn table_names_are_distinct() {
        let names: std::collections::BTreeSet<_> = Table::ALL.map(Table::name).into();
        assert_eq!(names.len(), Table::ALL.len());
    }
}

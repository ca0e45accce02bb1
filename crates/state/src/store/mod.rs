//! [`Store`]: bytes by (table, key) with versions, commits of several rows with preconditions, leases and watches. A
//! backend never sees plaintext secrets: `directory` and `vault` seal values first.

use std::fmt;
use std::time::Duration;

mod entry;
mod error;
mod lease;
pub mod memory;
pub mod observed;
pub mod postgres;
mod row;
pub mod shared;
pub mod sled;
mod table;
#[cfg(test)]
mod tests;
mod watch;
mod wrapper;
mod write;

pub use entry::{DamagedRow, Row, RowRange, Snapshot, StoreScan};
pub use error::{KEY_BYTES_MAX, StoreError, VALUE_BYTES_MAX, is_no_answer};
pub use lease::Lease;
pub use shared::{AnnouncedReplica, KeptBytes, PRESENCE_LEAST, SharedStore};
pub use table::{Table, Version};
pub use wrapper::StoreWrapper;
pub use write::{Expect, Write};

/// A storage backend.
#[async_trait::async_trait]
pub trait Store: fmt::Debug + Send + Sync {
    /// Reads a row.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] when it differs from the written row; `Io`.
    async fn get(&self, table: Table, key: &str) -> Result<Option<Row>, StoreError>;

    /// Makes these writes durably, all or none, and returns the versions of the rows that it puts, in their order. Each row
    /// may be named once. If the future is dropped, all are made or none.
    ///
    /// # Errors
    /// `Conflict` with the row whose precondition is not met; `ValueTooLarge`, `KeyRefused`, `Io`.
    async fn commit(&self, writes: Vec<Write>) -> Result<Vec<Version>, StoreError>;

    /// A [`Store::commit`] of one row, which returns its version.
    ///
    /// # Errors
    /// As [`Store::commit`].
    async fn put(
        &self,
        table: Table,
        key: &str,
        value: &[u8],
        expect: Expect,
    ) -> Result<Version, StoreError> {
        Ok(self.commit(vec![Write::put(table, key, value, expect)]).await?[0])
    }

    /// Replaces the bytes of exactly this row, durably and with the same version: the content is the same, only
    /// sealed differently. Watchers are not notified.
    ///
    /// # Errors
    /// `Conflict` when version or bytes differ from `row`, or it does not exist; `ValueTooLarge`, `Io`.
    async fn reseal(&self, table: Table, row: &Row, value: &[u8]) -> Result<(), StoreError>;

    /// A [`Store::commit`] that deletes one row. Deleting an absent row is an error only with [`Expect::Version`].
    ///
    /// # Errors
    /// As [`Store::commit`].
    async fn delete(&self, table: Table, key: &str, expect: Expect) -> Result<(), StoreError> {
        self.commit(vec![Write::delete(table, key, expect)]).await.map(drop)
    }

    /// Lists the rows of a range, in byte order of their keys.
    ///
    /// # Errors
    /// `Corrupt` for the first damaged row; `Io`.
    async fn list(&self, table: Table, range: RowRange<'_>) -> Result<Vec<Row>, StoreError>;

    /// Lists the keys and versions of rows as [`Store::list`] does, without their values, which a backend may leave unread and
    /// unchecked.
    ///
    /// # Errors
    /// As [`Store::list`], as far as values are read.
    async fn list_keys(
        &self,
        table: Table,
        range: RowRange<'_>,
    ) -> Result<Vec<(String, Version)>, StoreError> {
        let rows = self.list(table, range).await?;
        Ok(rows.into_iter().map(|row| (row.key, row.version)).collect())
    }

    /// Reads all rows as of one point in time: it contains a write completely, or the write began later. Writers wait
    /// meanwhile.
    ///
    /// # Errors
    /// `Corrupt` for the first damaged row; `Io`.
    async fn snapshot(&self) -> Result<Snapshot, StoreError>;

    /// Reads all rows as of one point in time, also when some are damaged.
    ///
    /// # Errors
    /// `Io`; `Corrupt` from a backend that cannot read the rows after a damaged one.
    async fn scan(&self) -> Result<StoreScan, StoreError> {
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

    /// Adds rows of another store, durably and with their versions. None of them may exist here. After a failure of the
    /// embedded store, some may have been added.
    ///
    /// # Errors
    /// As [`Store::commit`].
    async fn load(&self, rows: Vec<(Table, Row)>) -> Result<(), StoreError> {
        let write = |(table, Row { key, value, version }): (Table, Row)| {
            Write::put(table, key, value, Expect::Load(version))
        };
        self.commit(rows.into_iter().map(write).collect()).await.map(drop)
    }

    /// Acquires a lease; `None` while another holder has it. It ends when dropped, when `ttl` expires, or with
    /// the process.
    ///
    /// # Errors
    /// `Io`, if leases are rows.
    async fn lease(&self, name: &str, ttl: Duration) -> Result<Option<Lease>, StoreError>;

    /// Extends a lease to `ttl` from now. An expired lease is extended too, if no other holder had the name since,
    /// because an outage may be longer than a lease. False if another holder has or had the name, or the lease expired
    /// more than an hour ago.
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

    /// The operations of a store that several replicas share; `None` when one process owns it.
    fn shared(&self) -> Option<&dyn SharedStore> {
        None
    }
}

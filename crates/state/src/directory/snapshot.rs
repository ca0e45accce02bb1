//! [`StateSnapshot`]: all rows of a store as of one point, with the keys that open them. Backups are written from it,
//! and [`OpenedRow::seal`] seals its rows for another master key.

use keyward_base::id::OrgId;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use zeroize::Zeroizing;

use super::Directory;
use super::error::DirectoryError;
use super::rows::{RowId, unreadable};
use crate::crypto::envelope::Place;
use crate::crypto::keyring::{OpeningKeys, Sealing};
use crate::store::{Row, Snapshot, Table, Version};

/// All rows, sealed.
#[derive(Debug)]
pub struct StateSnapshot {
    rows: Snapshot,
    keys: OpeningKeys,
}

/// A row that is not sealed. Its content is wiped when dropped.
pub struct OpenedRow {
    pub table: Table,
    pub key: String,
    /// Its version, which its content repeats.
    pub version: Version,
    /// The content that a store seals.
    pub content: Zeroizing<Vec<u8>>,
}

impl StateSnapshot {
    /// The rows, sealed.
    pub fn rows(&self) -> &Snapshot {
        &self.rows
    }

    /// The rows, each opened when the iterator reaches it.
    pub fn opened(&self) -> impl Iterator<Item = Result<OpenedRow, DirectoryError>> {
        self.rows.rows().iter().map(|(table, row)| {
            let at = place(*table, &row.key)?;
            let place = Place { org: &at.org, table: table.name(), key: &row.key };
            let content = self.keys.open(&place, &row.value);
            let content = content.map_err(|error| unreadable(table.name(), &row.key, error))?;
            Ok(OpenedRow { table: *table, key: row.key.clone(), version: row.version, content })
        })
    }
}

/// The content of rows other than grants.
#[derive(Deserialize)]
struct Versioned<T> {
    version: u64,
    record: T,
}

impl OpenedRow {
    /// The organisation and the id in its key.
    pub fn place(&self) -> Option<(OrgId, &str)> {
        let (org, id) = self.key.split_once('/')?;
        Some((OrgId::parse(org).ok()?, id))
    }

    /// Decodes the record.
    ///
    /// # Errors
    /// The problem, if the content is not a record of this kind or has another version than its row.
    pub fn decode<T: DeserializeOwned>(&self) -> Result<T, String> {
        let read: Result<Versioned<T>, _> = serde_json::from_slice(&self.content);
        match read {
            Ok(read) if read.version == self.version.0 => Ok(read.record),
            Ok(_) => Err("has an older version of its content".to_owned()),
            Err(_) => Err("has content that does not belong there".to_owned()),
        }
    }

    /// Seals it for a store with other master keys. It keeps its version.
    ///
    /// # Errors
    /// When its key names no organisation, or it cannot be sealed.
    pub fn seal(self, sealing: &Sealing) -> Result<(Table, Row), DirectoryError> {
        let at = place(self.table, &self.key)?;
        let place = Place { org: &at.org, table: self.table.name(), key: &self.key };
        let value = sealing.seal(&place, &self.content).map_err(DirectoryError::Seal)?;
        Ok((self.table, Row { key: self.key, value, version: self.version }))
    }
}

impl Directory {
    /// All rows as of one point in time. No change of the directory is incomplete in it, because this holds the write
    /// lock.
    ///
    /// # Errors
    /// When a row is damaged, or the disk fails.
    pub async fn snapshot(&self) -> Result<StateSnapshot, DirectoryError> {
        let writer = self.turn().await?;
        // While this guard is held, only its keys seal rows.
        let sealing = writer.rows.keyring.sealing().await;
        let rows = writer.rows.store.snapshot().await?;
        Ok(StateSnapshot { rows, keys: sealing.opening() })
    }
}

/// The place of the row. Every key begins with an organisation.
fn place(table: Table, key: &str) -> Result<RowId, DirectoryError> {
    RowId::parse(table, key)
        .ok_or_else(|| DirectoryError::Malformed { table: table.name(), key: key.to_owned() })
}

//! [`IndexStep`]: one step of the repair of index rows.

use crate::directory::error::DirectoryError;
use crate::directory::index::Claim;
use crate::directory::rows::{DirectoryRows, RowId};
use crate::store::{Expect, Table, Version};

/// One change of an index row.
#[derive(Debug)]
pub(super) enum IndexStep {
    /// Deletes a row that no record needs, or that names the wrong record.
    Delete { table: Table, key: String, version: Version },
    /// Deletes a row that the backend cannot read.
    Discard { table: Table, key: String },
    /// Makes a row that a record needs.
    Write { at: RowId, claim: Claim },
}

impl IndexStep {
    pub(super) async fn apply(&self, rows: &DirectoryRows) -> Result<(), DirectoryError> {
        match self {
            Self::Delete { table, key, version } => {
                Ok(rows.store.delete(*table, key, Expect::Version(*version)).await?)
            }
            Self::Discard { table, key } => {
                rows.store.discard_damaged(*table, key).await?;
                Ok(())
            }
            Self::Write { at, claim } => rows.write(at, claim, None).await.map(drop),
        }
    }
}

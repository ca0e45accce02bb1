//! [`Write`]: one row of a commit, with its precondition, or a condition about rows that stay as they are.

use super::error::{StoreError, check, conflict};
use super::table::{Table, Version};

/// The precondition of a write.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Expect {
    /// The row does not exist.
    Absent,
    /// No precondition.
    Any,
    /// The row has this version.
    Version(Version),
    /// The row does not exist, and is added with this version: it is one of another store.
    Load(Version),
}

/// A part of a commit.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Write {
    Put {
        table: Table,
        key: String,
        value: Vec<u8>,
        expect: Expect,
    },
    Delete {
        table: Table,
        key: String,
        expect: Expect,
    },
    /// The row exists, whatever its version, and is not deleted before the commit is made.
    Exists {
        table: Table,
        key: String,
    },
    /// No key of the table begins with this one. Complete if each commit that adds such a row has an
    /// [`Exists`](Self::Exists) of a row that this commit deletes.
    NoneBelow {
        table: Table,
        key: String,
    },
}

impl Expect {
    /// The new version of a row whose current version is `found`, if the write is permitted.
    fn admits(
        self,
        table: Table,
        key: &str,
        found: Option<Version>,
    ) -> Result<Version, StoreError> {
        let next = found.unwrap_or_default().next();
        match self {
            Self::Absent if found.is_none() => Ok(next),
            Self::Any => Ok(next),
            Self::Version(version) if found == Some(version) => Ok(next),
            Self::Load(version) if found.is_none() => Ok(version),
            _ => Err(conflict(table, key)),
        }
    }
}

impl Write {
    pub fn put(
        table: Table,
        key: impl Into<String>,
        value: impl Into<Vec<u8>>,
        expect: Expect,
    ) -> Self {
        Self::Put { table, key: key.into(), value: value.into(), expect }
    }

    pub fn delete(table: Table, key: impl Into<String>, expect: Expect) -> Self {
        Self::Delete { table, key: key.into(), expect }
    }

    pub fn table(&self) -> Table {
        self.parts().0
    }

    pub fn key(&self) -> &str {
        self.parts().1
    }

    fn parts(&self) -> (Table, &str) {
        match self {
            Self::Put { table, key, .. }
            | Self::Delete { table, key, .. }
            | Self::Exists { table, key }
            | Self::NoneBelow { table, key } => (*table, key),
        }
    }

    /// The place of the row that it changes; `None` for a condition.
    pub fn changed(&self) -> Option<(Table, &str)> {
        match self {
            Self::Put { .. } | Self::Delete { .. } => Some(self.parts()),
            Self::Exists { .. } | Self::NoneBelow { .. } => None,
        }
    }

    /// The length of the written value.
    pub(super) fn bytes(&self) -> usize {
        match self {
            Self::Put { value, .. } => value.len(),
            _ => 0,
        }
    }

    /// The check that every backend makes first.
    pub(super) fn check(&self) -> Result<(), StoreError> {
        match self {
            Self::Put { table, key, value, .. } => check(*table, key, value),
            _ => Ok(()),
        }
    }

    /// The version of the row after this write, if its precondition is met. `found`: the present version, or for
    /// [`Self::NoneBelow`] that of one of the rows.
    pub(super) fn admits(&self, found: Option<Version>) -> Result<Version, StoreError> {
        match self {
            Self::Put { table, key, expect, .. } | Self::Delete { table, key, expect } => {
                expect.admits(*table, key, found)
            }
            Self::Exists { table, key } => found.ok_or_else(|| conflict(*table, key)),
            Self::NoneBelow { table, key } => Expect::Absent.admits(*table, key, found),
        }
    }
}

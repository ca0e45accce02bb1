//! [`Row`]: a stored row with its version, and the precondition of a write.

use std::fmt;

use super::error::{StoreError, conflict};
use super::table::Table;
use super::version::Version;

#[derive(Clone, Eq, PartialEq)]
pub struct Row {
    pub key: String,
    /// The sealed bytes.
    pub value: Vec<u8>,
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

impl fmt::Debug for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Row({} v{})", self.key, self.version.0)
    }
}

impl Expect {
    /// The new version of a row whose current version is `found`, if the write is permitted.
    pub(super) fn admits(
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

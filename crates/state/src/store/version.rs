//! [`Version`] of a stored row.

/// A row's version: 1 for a new row, incremented at each write. A row that is deleted and recreated starts at 1
/// again.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Version(pub u64);

impl Version {
    pub fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

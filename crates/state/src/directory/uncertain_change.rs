//! [`UncertainChange`]: a change whose write has failed, and may have been made.

use super::directory_event::DirectoryEvent;
use super::index::IndexChange;
use super::rows::RowId;
use crate::store::Version;

/// A change of a row of which it is not known whether it was made.
#[derive(Clone, Debug)]
pub(super) struct UncertainChange {
    pub(super) at: RowId,
    /// The version of the row after the change; `None`: the change removes the row.
    pub(super) version: Option<Version>,
    /// Its events, which are stored.
    pub(super) events: Vec<DirectoryEvent>,
    pub(super) index: IndexChange,
}

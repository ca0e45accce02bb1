//! [`DoubtfulChange`]: a change whose write has failed, and may have been made.

use super::index::IndexChange;
use super::news::News;
use super::rows::At;
use crate::store::Version;

/// A change of a row that was or was not made.
#[derive(Clone, Debug)]
pub(super) struct DoubtfulChange {
    pub(super) at: At,
    /// The version of the row after the change; `None`: the change removes the row.
    pub(super) version: Option<Version>,
    /// Its events, which are stored.
    pub(super) news: Vec<News>,
    pub(super) index: IndexChange,
}

//! The query of the page of rules.

use serde::Deserialize;

/// The query of the page: the request of the tester, and that of a new rule.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct PageQuery {
    pub(super) agent: Option<String>,
    pub(super) method: Option<String>,
    pub(super) url: Option<String>,
    pub(super) graphql: Option<String>,
    pub(super) new: Option<String>,
    pub(super) host: Option<String>,
    pub(super) path: Option<String>,
    pub(super) from: usize,
}

//! The readings of a request: what its fields or query have a server take for its method, and what is
//! sent in place of its path. A request is permitted when every reading is permitted.

use http::Method;

use super::rule::Account;
use super::{Asked, Reason};
use keyward_base::id::RuleId;
use keyward_base::pattern::DecodedPath;

/// One way in which a server, or a rule, may read a request.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reading<'a> {
    pub(super) method: &'a Method,
    pub(super) path: &'a DecodedPath,
}

/// Every method with every path; first the agent's own.
pub(super) fn readings<'a>(
    asked: &Asked<'a>,
    sent: Option<&'a DecodedPath>,
) -> impl Iterator<Item = Reading<'a>> {
    let methods = std::iter::once(asked.method).chain(asked.overrides);
    let paths = std::iter::once(asked.path).chain(sent);
    paths.flat_map(move |path| methods.clone().map(move |method| Reading { method, path }))
}

/// The path that is sent in place of the agent's, where the account's credential stands in it. `rule`
/// depends on it.
pub(super) fn sent_path(
    account: &Account,
    asked: &Asked<'_>,
    rule: &RuleId,
) -> Result<Option<DecodedPath>, Reason> {
    let sent = account.sent_path(asked.target, asked.path);
    sent.map_err(|_| Reason::PathAmbiguous { rule: rule.clone() })
}

//! [`readings`]: the ways in which a server may read a request. Each method that a server may use is combined with the
//! original and the rewritten path. A request is permitted if every reading is.

use http::Method;

use super::rule::Account;
use super::{PolicyRequest, Reason};
use keyward_base::id::RuleId;
use keyward_base::pattern::DecodedPath;

/// One way in which a server or a rule may read a request.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reading<'a> {
    pub(super) method: &'a Method,
    pub(super) path: &'a DecodedPath,
}

/// All combinations of methods and paths; the agent's own comes first.
pub(super) fn readings<'a>(
    asked: &PolicyRequest<'a>,
    sent: Option<&'a DecodedPath>,
) -> impl Iterator<Item = Reading<'a>> {
    let methods = std::iter::once(asked.method).chain(asked.overrides);
    let paths = std::iter::once(asked.path).chain(sent);
    paths.flat_map(move |path| methods.clone().map(move |method| Reading { method, path }))
}

/// The path that is sent instead of the agent's, if the account's credential is part of it. `rule` is named in
/// a refusal.
pub(super) fn sent_path(
    account: &Account,
    asked: &PolicyRequest<'_>,
    rule: &RuleId,
) -> Result<Option<DecodedPath>, Reason> {
    let sent = account.sent_path(asked.target, asked.path);
    sent.map_err(|_| Reason::PathAmbiguous { rule: rule.clone() })
}

//! Rules with branches: a rule that allows matches a push only if all its references are among the branches; a rule
//! that denies matches if any is.

use super::rule::{Rule, RuleAction};
use super::{PolicyRequest, Reason};
use crate::git_push::RequestedPush;
use keyward_base::pattern::DecodedPath;

/// Whether the rule's branches match the request. Other requests than pushes match rules that allow, and no rule
/// that denies.
pub(super) fn in_branches(
    rule: &Rule,
    asked: &PolicyRequest<'_>,
    path: &DecodedPath,
) -> Result<bool, Reason> {
    let Some(scope) = &rule.branches else { return Ok(true) };
    let denies = matches!(rule.action, RuleAction::Deny);
    let id = || rule.id.clone();
    // A server may find the service in another reading of the path.
    if path.ambiguous() && !asked.method.is_safe() {
        return Err(Reason::PathAmbiguous { rule: id() });
    }
    if !RequestedPush::is_push(asked.method, path) {
        return Ok(!denies);
    }
    match asked.push.refs_alone() {
        Err(None) => Err(Reason::BodyUnread { rule: id() }),
        Err(Some(why)) => Err(Reason::PushUnclear { rule: id(), why }),
        Ok(refs) if denies => Ok(scope.has_any(refs)),
        Ok(refs) => Ok(scope.beyond(refs).is_none()),
    }
}

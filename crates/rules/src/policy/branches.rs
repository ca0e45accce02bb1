//! Rules with branches: a rule that allows takes a push only if all its references are among them, a rule that denies
//! takes one if any is.

use super::decide::{Evaluation, covers_actions};
use super::rule::{Rule, RuleAction};
use super::{PolicyRequest, Reason};
use crate::branches::BranchScope;
use crate::git_push::{PushedRefs, RequestedPush};
use keyward_base::pattern::DecodedPath;

/// Whether the rule's branches take the request. Requests other than pushes are taken by rules that allow.
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
    if !RequestedPush::is_asked(asked.method, path) {
        return Ok(!denies);
    }
    match asked.push {
        RequestedPush::Unread => Err(Reason::BodyUnread { rule: id() }),
        RequestedPush::Unclear(why) => Err(Reason::PushUnclear { rule: id(), why }),
        RequestedPush::Known(refs) if denies => Ok(scope.has_any(refs)),
        RequestedPush::Known(refs) => Ok(scope.beyond(refs).is_none()),
    }
}

impl Evaluation<'_> {
    /// The refusal of a push, if a rule would allow it to other branches. It says which.
    pub(super) fn beyond_branches(&self) -> Option<Reason> {
        let RequestedPush::Known(refs) = self.asked.push else { return None };
        let candidates = self.org.rules.candidates(&self.agent.id, self.asked.target);
        for candidate in candidates {
            let rule = &candidate.compiled.rule;
            let (RuleAction::Use(account), Some(scope)) = (&rule.action, &rule.branches) else {
                continue;
            };
            let takes = rule.takes(self.asked.method)
                && account.owning(self.asked.target).is_some()
                && self.takes(&rule.paths, &rule.id).unwrap_or(false)
                && covers_actions(rule, &self.asked, self.path).unwrap_or(false);
            if takes && let Some(reason) = refused(rule, scope, refs) {
                return Some(reason);
            }
        }
        None
    }
}

fn refused(rule: &Rule, scope: &BranchScope, refs: &PushedRefs) -> Option<Reason> {
    let update = scope.beyond(refs)?;
    Some(Reason::BeyondBranches {
        rule: rule.id.clone(),
        reference: update.name.as_ref().into(),
        deletes: update.deletes,
        branches: scope.names().into(),
    })
}

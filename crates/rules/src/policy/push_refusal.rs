//! The refusal of a push to other branches than a rule allows.

use super::Reason;
use super::decide::Evaluation;
use super::matching::covers_actions;
use super::rule::{Rule, RuleAction};
use crate::branches::BranchScope;
use crate::git_push::{PushedRefs, RequestedPush};

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
            let matches = rule.matches_method(self.asked.method)
                && account.owning(self.asked.target).is_some()
                && self.has_path(rule).unwrap_or(false)
                && covers_actions(rule, &self.asked, self.path).unwrap_or(false);
            if matches && let Some(reason) = refused(rule, scope, refs) {
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

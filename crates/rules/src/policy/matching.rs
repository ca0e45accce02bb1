//! Whether a rule matches a request: its methods, paths, actions and branches.

use super::branches::in_branches;
use super::rule::{Rule, RuleAction};
use super::{PolicyRequest, Reason};
use crate::actions::{ActionScope, ScopeShare, ScopedRequest, Unclear, belongs};
use keyward_base::id::RuleId;
use keyward_base::pattern::{DecodedPath, PathPattern};

/// Whether the rule matches the request's method, and its path read as `path`, and its connection owns the host and the
/// agent's path.
pub(super) fn applies(
    rule: &Rule,
    asked: &PolicyRequest<'_>,
    path: &DecodedPath,
) -> Result<bool, Reason> {
    if !rule.matches_method(asked.method) {
        return Ok(false);
    }
    if let RuleAction::Use(account) = &rule.action
        && account.owning(asked.target).is_none()
    {
        return Ok(false);
    }
    let owned = rule.account_paths(asked.target);
    Ok(has_path(rule, path)?
        && matches_paths(asked.path, owned, rule.share(), &rule.id)?
        && covers(rule, asked, path)?)
}

/// Whether the rule's paths match `path`.
pub(super) fn has_path(rule: &Rule, path: &DecodedPath) -> Result<bool, Reason> {
    matches_paths(path, &rule.paths, rule.share(), &rule.id)
}

/// Whether `paths` match the path; an empty list matches all. `rule` is named if the path is ambiguous.
pub(super) fn matches_paths(
    path: &DecodedPath,
    paths: &[PathPattern],
    share: ScopeShare,
    rule: &RuleId,
) -> Result<bool, Reason> {
    let case = share.letter_case();
    let matches = |pattern: &PathPattern| pattern.matches_in(path, case);
    let may_match = |pattern: &PathPattern| pattern.may_match(path, case);
    match paths {
        [] => Ok(true),
        _ if path.ambiguous() => Err(Reason::PathAmbiguous { rule: rule.clone() }),
        paths if paths.iter().any(matches) => Ok(true),
        paths if path.is_masked() && paths.iter().any(may_match) => {
            Err(Reason::CredentialInPath { rule: rule.clone() })
        }
        _ => Ok(false),
    }
}

/// Whether the actions and branches of the rule match the request at `path`; a rule without them matches all requests.
/// If a request has several parts, one part is enough for a rule that denies.
pub(super) fn covers(
    rule: &Rule,
    asked: &PolicyRequest<'_>,
    path: &DecodedPath,
) -> Result<bool, Reason> {
    Ok(covers_actions(rule, asked, path)? && in_branches(rule, asked, path)?)
}

/// Whether the request, at `path`, belongs to the rule's actions.
pub(super) fn covers_actions(
    rule: &Rule,
    asked: &PolicyRequest<'_>,
    path: &DecodedPath,
) -> Result<bool, Reason> {
    if rule.actions.is_empty() {
        return Ok(true);
    }
    in_scopes(&rule.actions, asked, path, rule.share()).map_err(|why| unclear(why, &rule.id))
}

/// Whether the request, at `path`, belongs to the scopes.
pub(super) fn in_scopes(
    scopes: &[ActionScope],
    asked: &PolicyRequest<'_>,
    path: &DecodedPath,
    share: ScopeShare,
) -> Result<bool, Unclear> {
    let PolicyRequest { target, method, query, operations, push, .. } = *asked;
    belongs(scopes, ScopedRequest { target, method, path, query, operations, push }, share)
}

pub(super) fn unclear(why: Unclear, rule: &RuleId) -> Reason {
    let rule = rule.clone();
    match why {
        Unclear::Path => Reason::PathAmbiguous { rule },
        Unclear::CredentialInPath => Reason::CredentialInPath { rule },
        Unclear::Query => Reason::QueryAmbiguous { rule },
        Unclear::BodyUnread => Reason::BodyUnread { rule },
        Unclear::Operations(why) => Reason::OperationsUnclear { rule, why },
        Unclear::Push(why) => Reason::PushUnclear { rule, why },
        Unclear::Indirect => Reason::Indirect { rule },
    }
}

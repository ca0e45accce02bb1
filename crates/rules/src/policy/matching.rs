//! Whether a rule matches a request: its methods, paths, actions and branches, in each way in which a server may read
//! the request ([`readings`]). A rule that allows matches a push only if all its references are among the branches; a
//! rule that denies matches if any is. OAuth endpoints of providers are refused: nothing is injected there, and neither
//! the default nor a set of hosts passes requests to them.

use http::Method;

use super::rule::{Account, Rule, RuleAction};
use super::steps::RuleOutcome;
use super::{OrgPolicy, Policy, PolicyRequest, Reason};
use crate::actions::{ActionScope, ScopeShare, ScopedRequest, Unclear, belongs};
use crate::git_push::RequestedPush;
use keyward_base::host::Target;
use keyward_base::id::RuleId;
use keyward_base::pattern::{DecodedPath, PathPattern};

/// Which of the request's method, its path read as `path`, its actions, and the hosts and paths of the rule's connection
/// the rule does not match; `None`: it matches all of them.
pub(super) fn misfit(
    rule: &Rule,
    asked: &PolicyRequest<'_>,
    path: &DecodedPath,
) -> Result<Option<RuleOutcome>, Reason> {
    if !rule.matches_method(asked.method) {
        return Ok(Some(RuleOutcome::Method));
    }
    if let RuleAction::Use(account) = &rule.action
        && account.owning(asked.target).is_none()
    {
        return Ok(Some(RuleOutcome::Host));
    }
    let owned = rule.account_paths(asked.target);
    if !has_path(rule, path)? || !matches_paths(asked.path, owned, rule.share(), &rule.id)? {
        return Ok(Some(RuleOutcome::Path));
    }
    Ok((!covers(rule, asked, path)?).then_some(RuleOutcome::Action))
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
fn covers(rule: &Rule, asked: &PolicyRequest<'_>, path: &DecodedPath) -> Result<bool, Reason> {
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

/// Whether the rule's branches match the request. Other requests than pushes match rules that allow, and no rule
/// that denies.
fn in_branches(rule: &Rule, asked: &PolicyRequest<'_>, path: &DecodedPath) -> Result<bool, Reason> {
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

impl Policy {
    /// Refuses a provider's OAuth endpoint, which only a `pass` rule may reach.
    pub(super) fn is_no_oauth_endpoint(
        &self,
        org: &OrgPolicy,
        target: &Target,
        path: &DecodedPath,
        rule: &RuleId,
    ) -> Result<(), Reason> {
        let share = ScopeShare::Any;
        let shared = self.shared.oauth_endpoints.matching(target).map(|entry| &entry.value);
        for endpoint in shared.chain(org.oauth_endpoints.matching(target)) {
            if !endpoint.path.may_match(path, share.letter_case()) {
                continue;
            }
            if matches_paths(path, std::slice::from_ref(&endpoint.path), share, rule)? {
                return Err(Reason::TokenEndpoint { provider: endpoint.provider.clone() });
            }
        }
        Ok(())
    }
}

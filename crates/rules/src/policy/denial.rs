//! Builds refusals: of a request that no rule or binding allows, whose message depends on what the agent may do at the
//! target; by a binding, of requests beyond its actions, denied actions, and logins that it restricts; and of a push to
//! other branches than a rule allows.

use http::Method;

use super::allow::is_web_port;
use super::allow::set_for;
use super::bindings::CompiledBinding;
use super::decide::Evaluation;
use super::matching::covers_actions;
use super::route::is_bound;
use super::rule::{Rule, RuleAction};
use super::slots::{ActionList, Parts};
use super::{CompiledBindings, Policy, Reason, RuleCandidate, WayIn};
use crate::branches::BranchScope;
use crate::git_push::{PushedRefs, RequestedPush};
use keyward_base::agent::Agent;
use keyward_base::host::Target;
use keyward_base::id::RuleId;
use keyward_base::pattern::DecodedPath;

impl Policy {
    /// The refusal of `default: deny`; without method and path, of a CONNECT.
    pub(super) fn default_denial(
        &self,
        agent: &Agent,
        held: Option<&CompiledBindings>,
        target: &Target,
        request: Option<(&Method, &DecodedPath)>,
    ) -> Reason {
        let others = self.allows_others(agent, held, target);
        let mut lost = held.into_iter().flat_map(|held| held.lost.matching(target));
        if let Some(lost) = lost.next().filter(|_| !others) {
            return Reason::ConnectionRemoved { name: lost.value.name.clone() };
        }
        let by_provider = || self.shared.with_port.matching(target).next().is_some();
        let set = set_for(target, request);
        match others || is_web_port(target.port()) || by_provider() {
            true if agent.session.is_some() && !others && set.is_none() => Reason::NoneInSession,
            true => {
                let held = held.into_iter().flat_map(|held| held.allow.names());
                let sets = set
                    .map(|set| held.filter(move |it| *it != set).chain([set]).map(str::to_owned));
                let (host, sets) = (target.authority(), sets.into_iter().flatten().collect());
                Reason::DefaultDeny { others, way: Box::new(WayIn { host, sets }) }
            }
            false => Reason::PortRefused { port: target.port(), rule: None },
        }
    }

    /// Whether a rule, binding or set allows the agent other requests to the target; then only method or path were
    /// wrong.
    fn allows_others(
        &self,
        agent: &Agent,
        held: Option<&CompiledBindings>,
        target: &Target,
    ) -> bool {
        let bound = is_bound(held, target);
        let allows =
            |RuleCandidate { compiled, pattern }: &RuleCandidate<'_>| match &compiled.rule.action {
                RuleAction::Deny | RuleAction::UseMissing(_) | RuleAction::UseRefused(_) => false,
                RuleAction::Inject => bound,
                RuleAction::Pass | RuleAction::Tunnel => {
                    pattern.is_some() || is_web_port(target.port())
                }
                RuleAction::Use(account) => {
                    let name = account.id.as_str();
                    let held = || held.is_some_and(|held| held.by_name(name).is_some());
                    account.owning(target).is_some() && (compiled.is_grant(agent) || held())
                }
            };
        let in_sets = || held.is_some_and(|held| held.allow.allowing_some(target).is_some());
        bound
            || in_sets()
            || self.org(&agent.org).rules.candidates(&agent.id, target).iter().any(allows)
    }
}

impl CompiledBinding {
    /// Checks that it allows all requests, and answers its label. For logins, in which no request is seen.
    pub(super) fn for_login(&self) -> Result<RuleId, Reason> {
        let connection = || self.account.name.clone();
        if let Some(list) = &self.deny {
            return Err(self.denied(list));
        }
        let Some(Parts { allow, slots }) = self.parts.as_deref() else {
            return Ok(self.id.clone());
        };
        match (slots.iter().find(|slot| slot.is_unlimited()), slots.first(), allow) {
            (Some(slot), ..) => match &slot.blocked {
                Some(blocked) => Err(Reason::PluginBlocked(blocked.clone())),
                None => Ok(self.id.clone()),
            },
            (None, Some(slot), _) => {
                Err(Reason::BeyondSlot { slot: slot.clone(), connection: connection() })
            }
            (None, None, Some(list)) => Err(self.beyond(list)),
            (None, None, None) => Err(Reason::ConnectionMissing { name: connection() }),
        }
    }

    /// The refusal of an action that it denies.
    pub(super) fn denied(&self, list: &ActionList) -> Reason {
        let (connection, lost) = (self.account.name.clone(), list.lost.clone());
        Reason::DeniedAction { connection, denied: list.text(), lost }
    }

    /// The refusal of a request that belongs to none of its actions.
    pub(super) fn beyond(&self, list: &ActionList) -> Reason {
        Reason::BeyondActions { connection: self.account.name.clone(), allowed: list.text() }
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

//! [`Policy::route`]: the decision about a CONNECT, when only agent and target are known. If a request might be
//! permitted, the route is `Intercept`, and each request is decided later.

use std::sync::Arc;

use super::allow::is_web_port;
use super::permit::{InterceptPermit, Route, TunnelPermit};
use super::rule::{DefaultAction, Rule, RuleAction};
use super::{CompiledBindings, OrgPolicy, Policy, Reason, RuleCandidate};
use keyward_base::agent::Agent;
use keyward_base::host::Target;
use keyward_base::id::RuleId;
use keyward_base::pattern::PathPattern;

/// What is known before a request arrives.
enum RouteOutcome {
    /// Some requests may be permitted, or a rule must inspect requests to refuse some.
    Inspect,
    /// A rule tunnels.
    Splice(RuleId),
    /// Every request would be refused, by this rule or the default.
    Refuse(Option<RuleId>, Reason),
}

/// The effect of one rule on all requests.
enum RuleEffect {
    Settled(RouteOutcome),
    /// It refuses some requests; later rules or the default decide about the others.
    RefusesSome,
    /// It needs a connection that the agent lacks; this reason applies unless bindings decide.
    Lacks(Reason),
    /// It has no effect.
    Passes,
}

impl Policy {
    /// Decides about a CONNECT (or the target of a request in absolute form).
    pub fn route(&self, agent: &Agent, target: &Target) -> Route {
        let org = self.org(&agent.org);
        match self.outcome(org, agent, target) {
            RouteOutcome::Inspect => Route::Intercept(InterceptPermit::new(target.clone())),
            RouteOutcome::Splice(rule) => Route::Tunnel(TunnelPermit::new(target.clone(), rule)),
            // The name is literal, so leaves for it are bounded, and every client sees the reason.
            RouteOutcome::Refuse(..) if self.is_known(org, target) => {
                Route::Intercept(InterceptPermit::new(target.clone()))
            }
            RouteOutcome::Refuse(rule, reason) => Route::Deny { rule, reason },
        }
    }

    /// Looks into the tunnel of a program that is only examined, wherever it leads: none of its requests is sent.
    pub fn route_examined(target: Target) -> InterceptPermit {
        InterceptPermit::new(target)
    }

    fn outcome(&self, org: &OrgPolicy, agent: &Agent, target: &Target) -> RouteOutcome {
        let held = self.held(org, agent);
        let (mut looks, mut missing) = (false, None);
        for candidate in org.rules.candidates(&agent.id, target) {
            match effect(candidate, agent, held, target) {
                RuleEffect::Settled(outcome) => return outcome,
                RuleEffect::RefusesSome => looks = true,
                RuleEffect::Lacks(reason) => {
                    let rule = &candidate.compiled.rule.id;
                    missing = missing.or(Some((rule, reason)));
                }
                RuleEffect::Passes => {}
            }
        }
        if is_bound(held, target) {
            return RouteOutcome::Inspect;
        }
        let empty = held.and_then(|held| held.empty.matching(target).next());
        match (missing, empty) {
            (Some((rule, reason)), _) => RouteOutcome::Refuse(Some(rule.clone()), reason),
            (None, Some(empty)) => {
                RouteOutcome::Refuse(None, Reason::PluginBlocked(empty.value.clone()))
            }
            (None, None) if held.is_some_and(|held| held.allow.allowing_some(target).is_some()) => {
                RouteOutcome::Inspect
            }
            (None, None) => self.default_outlook(looks, agent, held, target),
        }
    }

    fn default_outlook(
        &self,
        looks: bool,
        agent: &Agent,
        held: Option<&CompiledBindings>,
        target: &Target,
    ) -> RouteOutcome {
        match self.default {
            DefaultAction::Deny => {
                let reason = self.default_denial(agent, held, target, None);
                // The binding that would have decided is gone.
                let is_default = !matches!(reason, Reason::ConnectionRemoved { .. });
                RouteOutcome::Refuse(is_default.then(|| self.default_rule.clone()), reason)
            }
            _ if !is_web_port(target.port()) => {
                let rule = Some(self.default_rule.clone());
                let reason = Reason::PortRefused { port: target.port(), rule: rule.clone() };
                RouteOutcome::Refuse(rule, reason)
            }
            DefaultAction::Tunnel if !looks => RouteOutcome::Splice(self.default_rule.clone()),
            DefaultAction::Tunnel | DefaultAction::Pass => RouteOutcome::Inspect,
        }
    }
}

fn effect(
    candidate: RuleCandidate<'_>,
    agent: &Agent,
    held: Option<&CompiledBindings>,
    target: &Target,
) -> RuleEffect {
    let RuleCandidate { compiled, pattern } = candidate;
    let rule = &compiled.rule;
    let refuse = |reason| match rule.is_conditional() {
        true => RuleEffect::RefusesSome,
        false => RuleEffect::Settled(RouteOutcome::Refuse(Some(rule.id.clone()), reason)),
    };
    let port_refused = pattern.is_none() && !is_web_port(target.port());
    match &rule.action {
        RuleAction::Pass | RuleAction::Tunnel if port_refused => {
            refuse(Reason::PortRefused { port: target.port(), rule: Some(rule.id.clone()) })
        }
        RuleAction::Tunnel => RuleEffect::Settled(RouteOutcome::Splice(rule.id.clone())),
        RuleAction::Pass => RuleEffect::Settled(RouteOutcome::Inspect),
        RuleAction::Deny => refuse(Reason::Denied { rule: rule.id.clone() }),
        RuleAction::Inject if is_bound(held, target) => RuleEffect::Settled(RouteOutcome::Inspect),
        RuleAction::Inject => refuse(Reason::Unbound { rule: rule.id.clone() }),
        RuleAction::Use(account) if account.owning(target).is_none() => RuleEffect::Passes,
        RuleAction::Use(account) | RuleAction::UseRefused(account) => {
            let granted = compiled.is_grant(agent)
                || held.is_some_and(|held| held.by_name(account.id.as_str()).is_some());
            match granted {
                true => RuleEffect::Settled(RouteOutcome::Inspect),
                false => lacks(rule, &account.name, rule.account_paths(target)),
            }
        }
        RuleAction::UseMissing(name) if compiled.is_grant(agent) => {
            refuse(Reason::ConnectionMissing { name: name.clone() })
        }
        RuleAction::UseMissing(name) => lacks(rule, name, &[]),
    }
}

fn lacks(rule: &Rule, name: &Arc<str>, paths: &[PathPattern]) -> RuleEffect {
    match rule.is_conditional() || !paths.is_empty() {
        true => RuleEffect::RefusesSome,
        false => RuleEffect::Lacks(Reason::ConnectionMissing { name: name.clone() }),
    }
}

/// Whether one of the agent's connections owns the target's host.
pub(super) fn is_bound(held: Option<&CompiledBindings>, target: &Target) -> bool {
    held.is_some_and(|held| held.by_host.matching(target).next().is_some())
}

//! Builds the refusal of a request that no rule or binding allows. The message depends on what the agent may do
//! at the target.

use http::Method;

use super::allow::is_web_port;
use super::allow::set_for;
use super::route::is_bound;
use super::rule::RuleAction;
use super::{CompiledBindings, Policy, Reason, RuleCandidate, WayIn};
use keyward_base::agent::Agent;
use keyward_base::host::Target;
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

//! [`CompiledPolicy`]: a compiled policy with its inputs, so that the cost of a recompilation depends only on the
//! changes.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::RulebookError;
use super::account::OwnHosts;
use super::facts::{Changed, Facts};
use super::names::Names;
use super::placed_rule::{PlacedRule, PolicyInputs, RuleText};
use super::resolve::{Resolved, resolve};
use crate::directory::View;
use keyward_base::id::OrgId;
use keyward_model::Rule as Stored;
use keyward_rules::policy::{CompileError, Policy, Rule};

/// A compiled policy with its inputs.
#[derive(Debug)]
pub(super) struct CompiledPolicy {
    sources: Arc<PolicyInputs>,
    facts: Facts,
    /// The agents and connections that rules name, by name or id.
    named: HashMap<OrgId, HashSet<Box<str>>>,
    policy: Arc<Policy>,
}

impl PolicyInputs {
    /// The resolved rules, or all errors. A missing name in a stored rule is not an error, nor is a contradiction between
    /// stored rules: two replicas may have accepted one each. Both are logged.
    pub(super) fn judged(&self, names: Names<'_>) -> Result<Vec<Rule>, Vec<RulebookError>> {
        let mut stored = resolve(stored_texts(names.view), names);
        log_lost(std::mem::take(&mut stored.problems));
        let mut all = resolve(self.rules.iter().map(RuleText::from), names).then(stored);
        let mut problems = std::mem::take(&mut all.problems);
        problems.extend(self.contradictions_of_file(&all.for_every_agent()));
        if problems.is_empty() { Ok(self.settled(all.rules())) } else { Err(problems) }
    }

    /// Checks whether the rules of the configuration contradict each other or stored rules. A missing name is not an
    /// error.
    pub(super) fn check_file(&self, names: Names<'_>) -> Result<(), Vec<RulebookError>> {
        let of_file = resolve(self.rules.iter().map(RuleText::from), names);
        let all = of_file.then(resolve(stored_texts(names.view), names));
        let problems = self.contradictions_of_file(&all.rules());
        if problems.is_empty() { Ok(()) } else { Err(problems) }
    }

    /// The contradictions between rules, each with a place.
    pub(super) fn contradictions(&self, rules: &[Rule]) -> Vec<RulebookError> {
        self.placed(Policy::check(rules, self.hostless_rules_max))
    }

    /// Those that a rule of the configuration takes part in.
    fn contradictions_of_file(&self, rules: &[Rule]) -> Vec<RulebookError> {
        let mut errors = Policy::check(rules, self.hostless_rules_max);
        errors.retain(|error| self.rule_of(error).is_some());
        self.placed(errors)
    }

    /// The first rule of the configuration that an error is about.
    fn rule_of(&self, error: &CompileError) -> Option<&PlacedRule> {
        let is_about = |rule: &&PlacedRule| error.rules().any(|id| *id.as_str() == *rule.label());
        self.rules.iter().find(is_about)
    }

    fn placed(&self, errors: Vec<CompileError>) -> Vec<RulebookError> {
        let placed = |source: CompileError| {
            let place = match self.rule_of(&source) {
                Some(rule) => rule.place.clone(),
                None => "stored rules".to_owned(),
            };
            RulebookError::Compile { place, source }
        };
        errors.into_iter().map(placed).collect()
    }

    /// The rules without contradictions: a tunnel that hides requests from another rule refuses them. A warning is
    /// logged for each contradiction.
    fn settled(&self, mut rules: Vec<Rule>) -> Vec<Rule> {
        for problem in self.contradictions(&rules) {
            tracing::warn!(
                %problem,
                "rules contradict each other: a tunnel refuses what another rule would inspect"
            );
        }
        Policy::settle(&mut rules);
        rules
    }

    /// All rules in the order in which they decide. Those with missing names refuse, as do tunnels that contradict other
    /// rules, and a warning is logged.
    fn lenient(&self, names: Names<'_>) -> Vec<Rule> {
        let of_file = self.rules.iter().map(RuleText::from);
        self.found(resolve(of_file, names), resolve(stored_texts(names.view), names))
    }

    /// All rules of one org, as [`lenient`](Self::lenient).
    fn lenient_in(&self, org: &OrgId, names: Names<'_>) -> Vec<Rule> {
        let stored = names.view.rules_in_order(org);
        let of_file = self.rules.iter().filter(|rule| rule.org == *org).map(RuleText::from);
        let stored = stored.iter().map(|rule| RuleText::stored(rule));
        self.found(resolve(of_file, names), resolve(stored, names))
    }

    /// The settled rules; logs a warning for each missing name.
    fn found(&self, mut of_file: Resolved, mut stored: Resolved) -> Vec<Rule> {
        let lost = std::mem::take(&mut of_file.problems);
        if !self.is_at_rest {
            log_lost(lost);
        }
        log_lost(std::mem::take(&mut stored.problems));
        self.settled(of_file.then(stored).rules())
    }

    /// The agents and connections that rules name.
    fn named(&self, view: &View) -> HashMap<OrgId, HashSet<Box<str>>> {
        let orgs: HashSet<_> =
            self.rules.iter().map(|rule| &rule.org).chain(view.rules().map(|it| &it.org)).collect();
        orgs.into_iter().map(|org| (org.clone(), self.named_in(org, view))).collect()
    }

    fn named_in(&self, org: &OrgId, view: &View) -> HashSet<Box<str>> {
        let of_file = self.rules.iter().filter(|rule| rule.org == *org);
        let of_file =
            of_file.flat_map(|rule| rule.agents.iter().flatten().chain(&rule.use_connection));
        let stored = view.all::<Stored>(org).flat_map(|rule| rule.named());
        of_file.map(String::as_str).chain(stored).map(Into::into).collect()
    }
}

impl CompiledPolicy {
    /// Compiles strictly: a name that does not exist is an error.
    pub(super) fn strictly(
        sources: &Arc<PolicyInputs>,
        view: Arc<View>,
    ) -> Result<Self, Vec<RulebookError>> {
        let facts = Facts::new(sources.catalogue.clone(), view);
        let rules = sources.judged(facts.source().names())?;
        Self::of(sources, facts, rules)
    }

    /// Compiles leniently: a rule whose agent or connection was removed refuses its requests, as does a tunnel that
    /// contradicts another rule, and a warning is logged.
    pub(super) fn leniently(
        sources: &Arc<PolicyInputs>,
        view: Arc<View>,
    ) -> Result<Self, Vec<RulebookError>> {
        let facts = Facts::new(sources.catalogue.clone(), view);
        let rules = sources.lenient(facts.source().names());
        Self::of(sources, facts, rules)
    }

    fn of(
        sources: &Arc<PolicyInputs>,
        facts: Facts,
        rules: Vec<Rule>,
    ) -> Result<Self, Vec<RulebookError>> {
        let spec = facts.spec(rules, sources.default);
        let mut policy = Policy::compile(spec).map_err(|errors| sources.placed(errors))?;
        for (org, own) in facts.own_hosts() {
            add_own(&mut policy, &org, &own);
        }
        policy.set_source(facts.source().clone());
        for agent in facts.view().agents() {
            if facts.source().may_use_something(agent) {
                policy.register_agent(&agent.org, &agent.id);
            }
        }
        for session in facts.view().sessions() {
            let (org, id) = (&session.org, &session.id);
            policy.set_session(org, id, Some(facts.in_session(org, id).unwrap_or_default()));
        }
        let (policy, named) = (Arc::new(policy), sources.named(facts.view()));
        Ok(Self { sources: sources.clone(), facts, named, policy })
    }

    pub(super) fn policy(&self) -> Arc<Policy> {
        self.policy.clone()
    }

    /// Drops the compiled bindings of agents that made no request since the last call. Returns the number of these
    /// agents.
    pub(super) fn drop_idle(&mut self) -> usize {
        let mut policy = Policy::clone(&self.policy);
        let dropped = policy.drop_idle();
        if dropped > 0 {
            self.policy = Arc::new(policy);
        }
        dropped
    }

    /// Updates to the current view. The cost depends on the changes; everything is recompiled if the configuration
    /// changed or there is an error.
    pub(super) fn follow(
        mut self,
        sources: &Arc<PolicyInputs>,
        view: Arc<View>,
    ) -> Result<Self, Vec<RulebookError>> {
        if !Arc::ptr_eq(sources, &self.sources) {
            return Self::leniently(sources, view);
        }
        let changed = self.facts.follow(view.clone());
        match self.change(&changed) {
            Ok(()) => Ok(self),
            // Recompiles everything, which logs the errors of all rules in their order.
            Err(_) => Self::leniently(sources, view),
        }
    }

    fn change(&mut self, changed: &Changed) -> Result<(), Vec<CompileError>> {
        let mut policy = Policy::clone(&self.policy);
        // Set even if nothing has changed, because the old source would keep all records of its view in memory.
        policy.set_source(self.facts.source().clone());
        for org in &changed.rules {
            self.named.insert(org.clone(), self.sources.named_in(org, self.facts.view()));
        }
        for org in self.affected_orgs(changed) {
            policy.set_rules(org, self.sources.lenient_in(org, self.facts.source().names()))?;
        }
        for (org, agent) in &changed.agents {
            let source = self.facts.source();
            match source.view().agent(org, agent).is_some_and(|it| source.may_use_something(it)) {
                true => policy.register_agent(org, agent),
                false => policy.remove_agent(org, agent),
            }
        }
        for (org, session) in &changed.sessions {
            policy.set_session(org, session, self.facts.in_session(org, session));
        }
        // Additions come first, so that a moved value is not removed in between.
        changed.added.iter().for_each(|(org, own)| add_own(&mut policy, org, own));
        changed.removed.iter().for_each(|(org, own)| remove_own(&mut policy, org, own));
        self.policy = Arc::new(policy);
        Ok(())
    }

    /// The orgs whose rules changed, or name a changed agent or connection.
    fn affected_orgs<'a>(&self, changed: &'a Changed) -> HashSet<&'a OrgId> {
        let is_named = |(org, name): &&(OrgId, Arc<str>)| {
            self.named.get(org).is_some_and(|names| names.contains(&**name))
        };
        let orgs = changed.named.iter().filter(is_named).map(|(org, _)| org);
        orgs.chain(&changed.rules).collect()
    }
}

fn add_own(policy: &mut Policy, org: &OrgId, own: &OwnHosts) {
    own.known.iter().for_each(|host| policy.add_known_host(org, host));
    own.oauth_endpoints.iter().for_each(|endpoint| policy.add_oauth_endpoint(org, endpoint));
}

fn remove_own(policy: &mut Policy, org: &OrgId, own: &OwnHosts) {
    own.known.iter().for_each(|host| policy.remove_known_host(org, host));
    own.oauth_endpoints.iter().for_each(|endpoint| policy.remove_oauth_endpoint(org, endpoint));
}

/// All stored rules, those of an org in their order.
fn stored_texts(view: &View) -> Vec<RuleText<'_>> {
    let mut all: Vec<_> = view.rules().collect();
    all.sort_by(|a, b| (a.facts.position, &a.id).cmp(&(b.facts.position, &b.id)));
    all.into_iter().map(|rule| RuleText::stored(rule)).collect()
}

fn log_lost(problems: Vec<RulebookError>) {
    for problem in problems {
        tracing::warn!(%problem, "a rule cannot be resolved: it refuses its requests");
    }
}

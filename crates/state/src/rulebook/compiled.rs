//! [`CompiledPolicy`]: a compiled policy with its inputs, so that a recompilation costs only what has changed.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::facts::{Changed, Facts};
use super::resolve::{Resolved, resolve};
use super::{RulebookError, Sources};
use crate::directory::View;
use keyward_base::id::OrgId;
use keyward_rules::policy::{CompileError, Policy, Rule};

/// A compiled policy with its inputs.
#[derive(Debug)]
pub(super) struct CompiledPolicy {
    sources: Arc<Sources>,
    facts: Facts,
    /// The agents and connections that rules name, by name or id.
    named: HashMap<OrgId, HashSet<Box<str>>>,
    policy: Arc<Policy>,
}

impl Sources {
    /// The resolved rules, or all errors.
    pub(super) fn judged(&self, facts: &Facts) -> Result<Vec<Rule>, Vec<RulebookError>> {
        let Resolved { rules, mut problems } = resolve(&*self.rules, facts);
        let errors = Policy::check(&rules, self.hostless_rules_max);
        problems.extend(errors.into_iter().map(RulebookError::from));
        if problems.is_empty() { Ok(rules) } else { Err(problems) }
    }

    /// The agents and connections that rules name.
    fn named(&self) -> HashMap<OrgId, HashSet<Box<str>>> {
        let mut named: HashMap<OrgId, HashSet<Box<str>>> = HashMap::new();
        for rule in &*self.rules {
            let names = rule.agents.iter().flatten().chain(&rule.use_connection);
            named
                .entry(rule.org.clone())
                .or_default()
                .extend(names.map(|name| name.as_str().into()));
        }
        named
    }
}

impl CompiledPolicy {
    /// Compiles strictly: a name that does not exist is an error.
    pub(super) fn strictly(
        sources: &Arc<Sources>,
        view: Arc<View>,
    ) -> Result<Self, Vec<RulebookError>> {
        let facts = Facts::new(sources.catalogue.clone(), view);
        let rules = sources.judged(&facts)?;
        Self::of(sources, facts, rules)
    }

    /// Compiles leniently: a rule whose agent or connection was removed refuses its requests, and a warning is
    /// logged.
    pub(super) fn leniently(
        sources: &Arc<Sources>,
        view: Arc<View>,
    ) -> Result<Self, Vec<RulebookError>> {
        let facts = Facts::new(sources.catalogue.clone(), view);
        let rules = found(resolve(&*sources.rules, &facts));
        Self::of(sources, facts, rules)
    }

    fn of(
        sources: &Arc<Sources>,
        facts: Facts,
        rules: Vec<Rule>,
    ) -> Result<Self, Vec<RulebookError>> {
        let spec = facts.spec(rules, sources.default, sources.hostless_rules_max);
        let policy = Policy::compile(spec);
        let policy =
            policy.map_err(|all| all.into_iter().map(RulebookError::from).collect::<Vec<_>>())?;
        let policy = Arc::new(policy);
        Ok(Self { sources: sources.clone(), facts, named: sources.named(), policy })
    }

    pub(super) fn policy(&self) -> Arc<Policy> {
        self.policy.clone()
    }

    /// Updates to the present view. The cost depends on the changes; everything is recompiled if the
    /// configuration changed or there is an error.
    pub(super) fn follow(
        mut self,
        sources: &Arc<Sources>,
        view: Arc<View>,
    ) -> Result<Self, Vec<RulebookError>> {
        if !Arc::ptr_eq(sources, &self.sources) {
            return Self::leniently(sources, view);
        }
        let changed = self.facts.follow(view.clone());
        match self.change(&changed) {
            Ok(()) => Ok(self),
            // With the errors of all rules, in their order.
            Err(_) => Self::leniently(sources, view),
        }
    }

    fn change(&mut self, changed: &Changed) -> Result<(), Vec<CompileError>> {
        if changed.is_nothing() {
            return Ok(());
        }
        let mut policy = Policy::clone(&self.policy);
        for org in self.meant_otherwise(changed) {
            let texts = self.sources.rules.iter().filter(|rule| rule.org == *org);
            policy.set_rules(org, found(resolve(texts, &self.facts)))?;
        }
        for (org, agent) in &changed.agents {
            policy.set_held(org, agent, self.facts.held(org, agent));
        }
        // Additions come first, so that a moved value is not removed in between.
        changed
            .added_endpoints
            .iter()
            .for_each(|(org, endpoint)| policy.add_oauth_endpoint(org, endpoint));
        changed
            .removed_endpoints
            .iter()
            .for_each(|(org, endpoint)| policy.remove_oauth_endpoint(org, endpoint));
        self.policy = Arc::new(policy);
        Ok(())
    }

    /// The orgs whose rules name something that changed.
    fn meant_otherwise<'a>(&self, changed: &'a Changed) -> HashSet<&'a OrgId> {
        let is_named = |(org, name): &&(OrgId, Arc<str>)| {
            self.named.get(org).is_some_and(|names| names.contains(&**name))
        };
        changed.named.iter().filter(is_named).map(|(org, _)| org).collect()
    }
}

/// The rules; logs a warning for each missing name.
fn found(Resolved { rules, problems }: Resolved) -> Vec<Rule> {
    for problem in problems {
        tracing::warn!(%problem, "a rule lost what it names, and refuses what it meant");
    }
    rules
}

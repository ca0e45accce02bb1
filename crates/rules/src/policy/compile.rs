//! Compiles a [`PolicyInput`] into a [`Policy`]: checks the rules, then builds the indexes.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::bindings::NoBindings;
use super::index::HostIndex;
use super::rule::{AgentAllow, AgentBindings, CompileError, PolicyInput, Rule, RuleAction};
use super::{CompiledRule, OAuthEndpoint, OrgRules, Policy, SharedHosts, Uses};
use keyward_base::id::{AgentId, OrgId, RuleId};
use keyward_base::pattern::HostPattern;
use keyward_base::shared_map::SharedMap;

impl Policy {
    /// A policy that denies everything.
    pub fn empty() -> Arc<Self> {
        Arc::new(assemble(PolicyInput::default()))
    }

    /// Compiles `spec` and reports all errors at once.
    ///
    /// # Errors
    /// When rules contradict themselves or each other.
    pub fn compile(spec: PolicyInput) -> Result<Self, Vec<CompileError>> {
        let errors = check(&spec.rules, spec.hostless_rules_max);
        match errors.is_empty() {
            true => Ok(assemble(spec)),
            false => Err(errors),
        }
    }

    /// The errors of rules, in their order.
    pub fn check(rules: &[Rule], hostless_rules_max: usize) -> Vec<CompileError> {
        check(rules, hostless_rules_max)
    }

    /// Makes each tunnel that hides requests from another rule refuse them. For rules that were not checked together,
    /// such as those that two replicas accept at the same time.
    pub fn settle(rules: &mut [Rule]) {
        let hides = |at: &usize| hidden_by_tunnel(rules, *at).is_some();
        let hiding: Vec<usize> = (0..rules.len()).filter(hides).collect();
        for at in hiding {
            rules[at].action = RuleAction::Deny;
        }
    }
}

/// All errors, in the order of the rules.
pub(super) fn check(rules: &[Rule], hostless_rules_max: usize) -> Vec<CompileError> {
    let mut errors = Vec::new();
    let mut seen: HashSet<(&OrgId, &RuleId)> = HashSet::new();
    let mut hostless: HashMap<&OrgId, usize> = HashMap::new();
    for (at, rule) in rules.iter().enumerate() {
        if !seen.insert((&rule.org, &rule.id)) {
            errors.push(CompileError::DuplicateRule { rule: rule.id.clone() });
        }
        if rule.hosts.is_empty() && !rule.has_lost_hosts() {
            let count = hostless.entry(&rule.org).or_default();
            if *count == hostless_rules_max {
                let max = hostless_rules_max;
                errors.push(CompileError::TooManyHostless { rule: rule.id.clone(), max });
            }
            *count += 1;
        }
        check_rule(rule, &mut errors);
        errors.extend(hidden_by_tunnel(rules, at));
    }
    errors
}

/// Errors of a single rule.
fn check_rule(rule: &Rule, errors: &mut Vec<CompileError>) {
    let id = || rule.id.clone();
    if rule.agents.as_ref().is_some_and(Vec::is_empty) {
        errors.push(CompileError::NoAgents { rule: id() });
    }
    match &rule.action {
        RuleAction::Tunnel if rule.is_conditional() => {
            errors.push(CompileError::TunnelWithConditions { rule: id() });
        }
        RuleAction::Use(account) => {
            let foreign = rule.hosts.iter().filter(|host| !account.owns_all(host));
            errors.extend(foreign.map(|host| CompileError::HostNotOwned {
                rule: id(),
                connection: account.name.clone(),
                host: host.clone(),
                provider: account.provider.clone(),
            }));
        }
        _ => {}
    }
    let injects =
        rule.uses_nothing() || matches!(rule.action, RuleAction::Use(_) | RuleAction::Inject);
    let needing = [
        ("allow_plaintext", rule.allow_plaintext),
        ("own_authorization", rule.own_authorization.is_some()),
    ];
    let needing = needing.into_iter().filter(|(_, is_given)| *is_given && !injects);
    errors.extend(needing.map(|(key, _)| CompileError::WithoutInjection { rule: id(), key }));
}

/// The first rule that has no effect because the rule at `at` tunnels.
fn hidden_by_tunnel(rules: &[Rule], at: usize) -> Option<CompileError> {
    let tunnel = &rules[at];
    if !matches!(tunnel.action, RuleAction::Tunnel) {
        return None;
    }
    let mut others = rules.iter().enumerate().filter(|(_, other)| other.org == tunnel.org);
    let (_, other) = others.find(|(place, other)| {
        // A later rule for all hosts covers the rest; the tunnel takes precedence.
        let meets = tunnel.hosts.is_empty()
            || (other.hosts.is_empty() && *place < at)
            || other.hosts.iter().any(|host| tunnel.hosts.iter().any(|mine| mine.overlaps(host)));
        meets && *place != at && other.needs_inspection()
    })?;
    Some(CompileError::TunnelHidesRule { rule: tunnel.id.clone(), other: other.id.clone() })
}

/// Builds the indexes of checked rules.
pub(super) fn assemble(spec: PolicyInput) -> Policy {
    let mut shared = SharedHosts::default();
    for pattern in spec.known {
        note(&mut shared.known, &pattern);
        if pattern.has_explicit_port() {
            shared.with_port.insert(pattern, ());
        }
    }
    for (provider, host, path) in spec.oauth_endpoints {
        shared.oauth_endpoints.insert(host, OAuthEndpoint { provider, path });
    }
    let mut policy = Policy {
        default: spec.default,
        default_rule: RuleId::new("default"),
        hostless_rules_max: spec.hostless_rules_max,
        orgs: SharedMap::default(),
        nothing: Arc::default(),
        shared: Arc::new(shared),
        source: Arc::new(NoBindings),
    };
    let mut rules: HashMap<OrgId, Vec<Rule>> = HashMap::new();
    for rule in spec.rules {
        rules.entry(rule.org.clone()).or_default().push(rule);
    }
    for (org, rules) in rules {
        policy.org_mut(&org).rules = Arc::new(OrgRules::of(rules));
    }
    let mut held: HashMap<(OrgId, AgentId), AgentBindings> = HashMap::new();
    for bound in spec.bindings {
        bound.account.hosts.iter().for_each(|host| policy.add_known_host(&bound.org, host));
        held.entry((bound.org.clone(), bound.agent.clone())).or_default().bindings.push(bound);
    }
    for empty in spec.empty {
        held.entry((empty.org.clone(), empty.agent.clone())).or_default().empty.push(empty);
    }
    for AgentAllow { org, agent, sets } in spec.allow {
        held.entry((org, agent)).or_default().allow = sets;
    }
    for ((org, agent), held) in held {
        policy.set_held(&org, &agent, held);
    }
    for (org, session, held) in spec.sessions {
        policy.set_session(&org, &session, Some(held));
    }
    for (org, endpoint) in &spec.org_oauth_endpoints {
        policy.add_oauth_endpoint(org, endpoint);
    }
    policy
}

impl OrgRules {
    /// Indexes the checked rules of one org.
    pub(super) fn of(rules: Vec<Rule>) -> Self {
        let mut all = Self::default();
        rules.into_iter().for_each(|rule| all.add(rule));
        all
    }

    fn add(&mut self, rule: Rule) {
        let at = self.all.len();
        if rule.hosts.is_empty() && !rule.has_lost_hosts() {
            self.hostless.push(at);
        }
        for pattern in &rule.hosts {
            self.by_host.insert(pattern.clone(), at);
            note(&mut self.known, pattern);
        }
        if let Some(account) = rule.used() {
            self.uses.entry(account.id.clone()).or_default().add(at, rule.agents.as_deref());
        }
        if let RuleAction::Use(account) = &rule.action
            && rule.agents.is_some()
        {
            for key in [account.name.clone(), account.id.as_str().into()] {
                self.grants.entry(key).or_default().push(at);
            }
        }
        let agents = rule.agents.as_ref().map(|agents| agents.iter().cloned().collect());
        self.all.push(CompiledRule { rule, agents });
    }
}

impl Uses {
    fn add(&mut self, at: usize, agents: Option<&[AgentId]>) {
        match agents {
            None => self.by_everybody = self.by_everybody.or(Some(at)),
            Some(agents) => {
                for agent in agents {
                    self.by_agent.entry(agent.clone()).or_insert(at);
                }
            }
        }
    }
}

/// Records a literal host once, even if several patterns have it.
fn note(known: &mut HostIndex<()>, pattern: &HostPattern) {
    if pattern.literal().is_some() && !known.has(pattern) {
        known.insert(pattern.clone(), ());
    }
}

#[cfg(test)]
mod tests {
    use http::Method;

    use super::*;
    use crate::policy::tests::samples::Sample;
    use keyward_base::pattern::PathPattern;

    fn rule(name: &str, hosts: &[&str], action: RuleAction) -> Rule {
        Sample::rule(name, hosts, action)
    }

    fn errors(rules: Vec<Rule>) -> Vec<CompileError> {
        check(&rules, 2)
    }

    #[test]
    fn a_tunnel_with_method_or_path_is_refused() {
        let by_method =
            Rule { methods: vec![Method::GET], ..rule("m", &["a.test"], RuleAction::Tunnel) };
        let path = PathPattern::parse("/a").expect("a pattern");
        let by_path = Rule { paths: vec![path], ..rule("p", &["b.test"], RuleAction::Tunnel) };
        let looks = |name: &str| CompileError::TunnelWithConditions { rule: RuleId::new(name) };
        assert_eq!(errors(vec![by_method, by_path]), [looks("m"), looks("p")]);
    }

    #[test]
    fn a_tunnel_that_would_hide_requests_from_a_rule_is_refused() {
        let tunnel = || rule("t", &["*.a.test"], RuleAction::Tunnel);
        let blinds = CompileError::TunnelHidesRule { rule: tunnel().id, other: RuleId::new("o") };
        let only_get = |rule: Rule| Rule { methods: vec![Method::GET], ..rule };
        for (other, meets) in [
            (rule("o", &["x.a.test"], RuleAction::Pass), true),
            (rule("o", &["*.x.a.test"], RuleAction::Inject), true),
            (only_get(rule("o", &["x.a.test"], RuleAction::Deny)), true),
            (rule("o", &["x.a.test"], RuleAction::Deny), false),
            (rule("o", &["x.a.test"], RuleAction::Tunnel), false),
            (rule("o", &["a.test"], RuleAction::Pass), false),
            (rule("o", &["x.a.test:8443"], RuleAction::Pass), false),
            (Rule { org: OrgId::random(), ..rule("o", &["x.a.test"], RuleAction::Pass) }, false),
        ] {
            let wanted: &[CompileError] = if meets { std::slice::from_ref(&blinds) } else { &[] };
            assert_eq!(errors(vec![other.clone(), tunnel()]), wanted, "{other:?}");
            assert_eq!(errors(vec![tunnel(), other.clone()]), wanted, "{other:?}");
        }
    }

    #[test]
    fn a_rule_for_all_other_hosts_may_follow_a_tunnel_but_not_precede_it() {
        let tunnel = || rule("t", &["a.test"], RuleAction::Tunnel);
        let rest = || rule("rest", &[], RuleAction::Pass);
        assert_eq!(errors(vec![tunnel(), rest()]), []);
        let blinds = CompileError::TunnelHidesRule { rule: tunnel().id, other: rest().id };
        assert_eq!(errors(vec![rest(), tunnel()]), [blinds]);
    }

    #[test]
    fn of_contradicting_rules_the_tunnel_refuses_and_no_other_rule_changes() {
        let by_get = |rule: Rule| Rule { methods: vec![Method::GET], ..rule };
        let tunnel = |name: &str, host: &str| rule(name, &[host], RuleAction::Tunnel);
        let mut rules = vec![
            tunnel("hides", "*.a.test"),
            by_get(rule("sees", &["x.a.test"], RuleAction::Deny)),
            tunnel("hides-too", "x.a.test"),
            tunnel("apart", "b.test"),
            Rule { org: OrgId::random(), ..tunnel("elsewhere", "x.a.test") },
        ];
        assert_eq!(errors(rules.clone()).len(), 2);
        Policy::settle(&mut rules);
        assert_eq!(errors(rules.clone()), []);
        let refuses = rules.iter().map(|rule| matches!(rule.action, RuleAction::Deny));
        assert_eq!(refuses.collect::<Vec<_>>(), [true, true, true, false, false]);
        assert_eq!(rules[1].methods, [Method::GET]);
    }

    #[test]
    fn a_connection_is_never_used_on_a_host_its_provider_does_not_own() {
        let account = Sample::account("work", &["api.a.test", "*.b.test", "api.a.test:8443"]);
        for (host, owned) in [
            ("api.a.test", true),
            ("api.a.test:443", true),
            ("api.a.test:8443", true),
            ("x.b.test", true),
            ("*.x.b.test", true),
            ("*.b.test", true),
            ("b.test", false),
            ("*.a.test", false),
            ("api.a.test:9443", false),
            ("x.b.test:8443", false),
            ("api.a.test.evil.test", false),
        ] {
            let action = RuleAction::Use(account.clone());
            let found = errors(vec![rule("u", &[host], action)]);
            assert_eq!(found.is_empty(), owned, "{host}");
            assert!(found.iter().all(|e| matches!(e, CompileError::HostNotOwned { .. })));
        }
    }

    #[test]
    fn every_mistake_is_reported_at_once_and_names_its_rule() {
        let nobody = Rule { agents: Some(vec![]), ..rule("nobody", &["a.test"], RuleAction::Pass) };
        let plain = Rule { allow_plaintext: true, ..rule("plain", &["b.test"], RuleAction::Deny) };
        let found = errors(vec![
            nobody,
            plain,
            rule("twice", &["c.test"], RuleAction::Deny),
            rule("twice", &["d.test"], RuleAction::Deny),
            rule("one", &[], RuleAction::Deny),
            rule("two", &[], RuleAction::Deny),
            rule("three", &[], RuleAction::Deny),
            rule("four", &[], RuleAction::Deny),
        ]);
        let messages: Vec<_> = found.iter().map(ToString::to_string).collect();
        assert_eq!(messages.len(), 4, "{messages:?}");
        for (message, name) in messages.iter().zip(["nobody", "plain", "twice", "three"]) {
            assert!(message.starts_with(&format!("rule `{name}` ")), "{message}");
        }
    }
}

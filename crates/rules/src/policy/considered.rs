//! [`Policy::considered`]: every rule, binding and set that can decide about an agent's request, in their order, and why
//! each did not. For `explain`: decisions do not carry it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::decide::Evaluation;
use super::rule::RuleAction;
use super::taken::NotTaken;
use super::{CompiledRule, Policy, PolicyRequest, Reason, RuleCandidate};
use keyward_base::agent::Agent;
use keyward_base::id::RuleId;

/// A rule, binding or set, and its part in the decision.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct ConsideredRule {
    /// As explain and audit name it.
    pub rule: String,
    /// Its part.
    pub fit: RuleOutcome,
}

/// The part of a rule in a decision.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RuleOutcome {
    /// It decides.
    Decides,
    /// An earlier one decides.
    NotReached,
    /// It is for other agents.
    Agent,
    /// It is for other hosts.
    Host,
    /// It is for other methods.
    Method,
    /// It is for other paths.
    Path,
    /// It is for other actions.
    Action,
    /// It uses a connection that the agent is not bound to.
    Connection,
    /// The credential of its connection has no place in the request, which is decided as if it were not bound.
    NoPlace,
    /// The request has an authorization of its own, and is decided as if the connection were not bound.
    OwnAuthorization,
    /// It fits, but another one was chosen, or the request was refused before.
    NotChosen,
}

impl RuleOutcome {
    /// The part in two or three words, for people.
    pub fn words(self) -> &'static str {
        match self {
            Self::Decides => "decides",
            Self::NotReached => "not reached",
            Self::Agent => "another agent",
            Self::Host => "another host",
            Self::Method => "another method",
            Self::Path => "another path",
            Self::Action => "another action",
            Self::Connection => "not bound to it",
            Self::NoPlace => "not bound here: no place",
            Self::OwnAuthorization => "not used: own authorization",
            Self::NotChosen => "fits, not chosen",
        }
    }
}

impl From<NotTaken> for RuleOutcome {
    fn from(why: NotTaken) -> Self {
        match why {
            NotTaken::NoPlace => Self::NoPlace,
            NotTaken::OwnAuthorization => Self::OwnAuthorization,
        }
    }
}

impl RuleOutcome {
    /// Whether the request is decided as if its connection were not bound.
    pub fn is_not_taken(self) -> bool {
        matches!(self, Self::NoPlace | Self::OwnAuthorization)
    }
}

impl ConsideredRule {
    fn new(rule: &RuleId, fit: RuleOutcome) -> Self {
        Self { rule: rule.to_string(), fit }
    }
}

impl Policy {
    /// What was considered for a request, when `decided` is the rule of its explanation.
    pub fn considered(
        &self,
        agent: &Agent,
        asked: &PolicyRequest<'_>,
        decided: Option<&str>,
    ) -> Vec<ConsideredRule> {
        let evaluation = self.evaluation(agent, asked, asked.path);
        let is_it = |it: &ConsideredRule| Some(it.rule.as_str()) == decided;
        let mut rules = evaluation.rules();
        let at = rules.iter().position(is_it);
        if let Some(at) = at {
            // A rule that replaces a binding decides although it does not fit; then the others were compared too.
            let is_last = rules[at].fit == RuleOutcome::NotChosen;
            rules[at].fit = RuleOutcome::Decides;
            let later = rules.iter_mut().skip(at + 1).filter(|_| is_last);
            later.for_each(|rule| rule.fit = RuleOutcome::NotReached);
            let others = evaluation.bindings().into_iter().chain(evaluation.sets());
            rules.extend(others.map(|it| ConsideredRule { fit: RuleOutcome::NotReached, ..it }));
        } else {
            let mut bindings = evaluation.bindings();
            let mut sets = evaluation.sets();
            let binding = bindings.iter_mut().find(|it| is_it(it));
            let mut is_decided = binding.map(|it| it.fit = RuleOutcome::Decides).is_some();
            for set in &mut sets {
                if is_decided {
                    set.fit = RuleOutcome::NotReached;
                } else if is_it(set) {
                    (set.fit, is_decided) = (RuleOutcome::Decides, true);
                }
            }
            rules.extend(bindings.into_iter().chain(sets));
        }
        let is_default = decided == Some(self.default_rule.as_str());
        let fit = if is_default { RuleOutcome::Decides } else { RuleOutcome::NotReached };
        rules.push(ConsideredRule::new(&self.default_rule, fit));
        rules
    }
}

impl Evaluation<'_> {
    fn rules(&self) -> Vec<ConsideredRule> {
        let all = &self.org.rules;
        let candidates = all.candidates(&self.agent.id, self.asked.target);
        let candidate = |rule: &CompiledRule| {
            candidates.iter().find(|it| std::ptr::eq(it.compiled, rule)).copied()
        };
        let fit = |rule: &CompiledRule| match (rule.is_for(&self.agent.id), candidate(rule)) {
            (false, _) => RuleOutcome::Agent,
            (true, None) => RuleOutcome::Host,
            (true, Some(candidate)) => self.fit(candidate),
        };
        all.all.iter().map(|rule| ConsideredRule::new(&rule.rule.id, fit(rule))).collect()
    }

    fn fit(&self, candidate: RuleCandidate<'_>) -> RuleOutcome {
        let rule = &candidate.compiled.rule;
        match &rule.action {
            _ if !rule.matches_method(self.asked.method) => RuleOutcome::Method,
            RuleAction::Use(account) if account.owning(self.asked.target).is_none() => {
                RuleOutcome::Host
            }
            _ if let Some(why) = self.left_by(rule) => why.into(),
            _ if self.is_other_action(candidate) => RuleOutcome::Action,
            // A path that is ambiguous fits none.
            _ if !matches!(self.applies(candidate), Ok(true)) => RuleOutcome::Path,
            _ if self.missing(candidate).is_some() => RuleOutcome::Connection,
            _ => RuleOutcome::NotChosen,
        }
    }

    /// Whether the rule fails to match only because of its actions.
    fn is_other_action(&self, candidate: RuleCandidate<'_>) -> bool {
        let rule = &candidate.compiled.rule;
        matches!(self.covers(rule), Ok(false)) && matches!(self.has_path(rule), Ok(true))
    }

    fn bindings(&self) -> Vec<ConsideredRule> {
        let Some(held) = self.held else { return Vec::new() };
        let hosts: Vec<u32> =
            held.by_host.matching(self.asked.target).map(|entry| entry.value).collect();
        let untaken = |number: u32| held.numbered(number).account.not_taken(&self.asked);
        let fit = |number: u32| match hosts.contains(&number) {
            false => RuleOutcome::Host,
            true if let Some(why) = untaken(number) => why.into(),
            true => match self.is_within(held.numbered(number)) {
                Ok(_) => RuleOutcome::NotChosen,
                Err(
                    Reason::BeyondActions { .. }
                    | Reason::DeniedAction { .. }
                    | Reason::Indirect { .. },
                ) => RuleOutcome::Action,
                Err(_) => RuleOutcome::Path,
            },
        };
        let all = (0..).zip(&held.all);
        all.map(|(number, binding)| ConsideredRule::new(&binding.id, fit(number))).collect()
    }

    fn sets(&self) -> Vec<ConsideredRule> {
        let (target, method, query) = (self.asked.target, self.asked.method, self.asked.query);
        let sets = self.held.iter().flat_map(|held| held.allow.each());
        let fit = |set: &super::AllowedSets| match set.allowing_some(target) {
            None => RuleOutcome::Host,
            Some(_) if set.allowing(target, method, self.path, query).is_none() => {
                RuleOutcome::Path
            }
            Some(_) => RuleOutcome::NotChosen,
        };
        sets.map(|(rule, set)| ConsideredRule::new(rule, fit(&set))).collect()
    }
}

#[cfg(test)]
mod tests {
    use http::Method;

    use super::*;
    use crate::policy::tests::samples::Sample;
    use crate::policy::{AgentAllow, AllowedSets, PolicyInput, Rule};
    use keyward_base::id::AgentId;
    use keyward_base::pattern::PathPattern;

    /// Each rule, binding and set with its part, as `no-deletes:method`.
    fn considered(sample: &Sample, policy: &Policy, line: &str) -> String {
        Sample::ask(line, &[], None, |asked| {
            let decided = policy.explain(&sample.agent, asked).rule;
            let all = policy.considered(&sample.agent, asked, decided.as_deref());
            let word = |fit: RuleOutcome| serde_json::to_value(fit).expect("a word");
            let all = all.iter().map(|it| {
                let rule = it.rule.split_once(":con_").map_or(&*it.rule, |(kind, _)| kind);
                format!("{rule}:{}", word(it.fit).as_str().expect("a word"))
            });
            all.collect::<Vec<_>>().join(" ")
        })
    }

    #[test]
    fn each_rule_says_why_it_does_not_decide_and_one_decides() {
        let sample = Sample::new();
        let work = Sample::account("work", &["*.a.test"]);
        let rules = vec![
            Rule {
                agents: Some(vec![AgentId::random()]),
                ..Sample::rule("others", &[], RuleAction::Deny)
            },
            Rule {
                methods: vec![Method::DELETE],
                ..Sample::rule("no-deletes", &["x.a.test"], RuleAction::Deny)
            },
            Rule {
                paths: vec![PathPattern::parse("/admin/**").expect("a path")],
                ..Sample::rule("no-admin", &["x.a.test"], RuleAction::Deny)
            },
            Sample::rule("elsewhere", &["b.test"], RuleAction::Pass),
        ];
        let allow = vec![AgentAllow {
            org: sample.agent.org.clone(),
            agent: sample.agent.id.clone(),
            sets: AllowedSets::named(["npm"]),
        }];
        let bindings = vec![sample.bound(&work)];
        let policy = Policy::compile(PolicyInput {
            rules,
            bindings,
            allow,
            hostless_rules_max: 10,
            ..PolicyInput::default()
        })
        .expect("a policy");
        let of = |line| considered(&sample, &policy, line);
        for (line, expected) in [
            (
                "GET https://x.a.test/",
                "others:agent no-deletes:method no-admin:path elsewhere:host binding:decides \
                 allow:npm:not_reached default:not_reached",
            ),
            (
                "DELETE https://x.a.test/",
                "others:agent no-deletes:decides no-admin:not_reached elsewhere:not_reached \
                 binding:not_reached allow:npm:not_reached default:not_reached",
            ),
            (
                "GET https://registry.npmjs.org/x",
                "others:agent no-deletes:host no-admin:host elsewhere:host binding:host \
                 allow:npm:decides default:not_reached",
            ),
            (
                "GET https://c.test/",
                "others:agent no-deletes:host no-admin:host elsewhere:host binding:host \
                 allow:npm:host default:decides",
            ),
        ] {
            assert_eq!(of(line), expected, "{line}");
        }
    }

    #[test]
    fn the_first_rule_for_an_unbound_connection_decides_and_later_ones_say_so() {
        let sample = Sample::new();
        let work = Sample::account("work", &["*.a.test"]);
        let rules = vec![
            Sample::rule("first", &["x.a.test"], RuleAction::Use(work.clone())),
            Sample::rule("second", &["x.a.test"], RuleAction::Use(work)),
        ];
        let policy = Policy::compile(PolicyInput { rules, ..PolicyInput::default() });
        let policy = policy.expect("a policy");
        let found = considered(&sample, &policy, "GET https://x.a.test/");
        assert_eq!(found, "first:decides second:connection default:not_reached");
    }
}

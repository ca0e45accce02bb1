//! [`Policy::considered`]: every rule, binding and set that can decide about an agent's request, in their order, and why
//! each did not. For `explain`.

use super::decide::Evaluation;
use super::steps::{ConsideredRule, Explained, RuleOutcome};
use super::{AllowedSets, CompiledRule, Policy, PolicyRequest, Reason};
use keyward_base::agent::Agent;
use keyward_base::id::RuleId;

impl Policy {
    /// What was considered for a request by these steps, when `decided` is the rule of its explanation.
    pub(super) fn considered(
        &self,
        agent: &Agent,
        asked: &PolicyRequest<'_>,
        steps: &Explained,
        decided: Option<&RuleId>,
    ) -> Vec<ConsideredRule> {
        let evaluation = self.evaluation(agent, asked, asked.path);
        let (mut all, mut is_decided) = (Vec::new(), false);
        // Of the sets, the first that fits decides. The rules after the deciding one are marked already.
        for (group, is_ordered) in [
            (evaluation.rules(steps), false),
            (evaluation.bindings(), false),
            (evaluation.sets(), true),
        ] {
            let mut is_reached = !is_decided;
            for ConsideredRule { rule, fit } in group {
                let decides = decided.is_some_and(|decided| *rule == *decided.as_str());
                is_decided |= decides;
                let fit = match (decides, is_reached) {
                    (true, _) => RuleOutcome::Decides,
                    (false, true) => fit,
                    (false, false) => RuleOutcome::NotReached,
                };
                is_reached &= !(decides && is_ordered);
                all.push(ConsideredRule { rule, fit });
            }
        }
        let fit = match decided == Some(&self.default_rule) {
            true => RuleOutcome::Decides,
            false => RuleOutcome::NotReached,
        };
        all.push(ConsideredRule::new(&self.default_rule, fit));
        all
    }
}

impl Evaluation<'_> {
    fn rules(&self, steps: &Explained) -> Vec<ConsideredRule> {
        let all = &self.org.rules;
        let candidates = all.candidates(&self.agent.id, self.asked.target);
        let is_candidate =
            |rule: &CompiledRule| candidates.iter().any(|it| std::ptr::eq(it.compiled, rule));
        let mut is_reached = true;
        let part = |rule: &CompiledRule| {
            let fit = match is_reached {
                false => RuleOutcome::NotReached,
                true if !rule.is_for(&self.agent.id) => RuleOutcome::Agent,
                true if !is_candidate(rule) => RuleOutcome::Host,
                true => steps.part(&rule.rule.id),
            };
            is_reached &= fit != RuleOutcome::NotChosen;
            ConsideredRule::new(&rule.rule.id, fit)
        };
        all.all.iter().map(part).collect()
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
        let fit = |set: &AllowedSets| match set.allowing_some(target) {
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
    use crate::policy::{AgentAllow, PolicyInput, Rule, RuleAction};
    use keyward_base::id::AgentId;
    use keyward_base::pattern::PathPattern;

    /// Each rule, binding and set with its part, as `no-deletes:method`.
    fn considered(sample: &Sample, policy: &Policy, line: &str) -> String {
        Sample::ask(line, &[], None, |asked| {
            let all = policy.explain(&sample.agent, asked).considered;
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

    #[test]
    fn a_rule_for_a_method_that_a_server_may_use_instead_decides_after_one_for_the_own_method() {
        let sample = Sample::new();
        let rule = |name, method, action| Rule {
            methods: vec![method],
            ..Sample::rule(name, &["x.a.test"], action)
        };
        let rules = vec![
            rule("no-deletes", Method::DELETE, RuleAction::Deny),
            rule("reads", Method::GET, RuleAction::Pass),
        ];
        let policy = Policy::compile(PolicyInput { rules, ..PolicyInput::default() });
        let policy = policy.expect("a policy");
        Sample::ask("GET https://x.a.test/", &[], None, |asked| {
            let asked = PolicyRequest { overrides: &[Method::DELETE], ..*asked };
            let told = policy.explain(&sample.agent, &asked);
            let fits: Vec<_> = told.considered.iter().map(|it| it.fit).collect();
            let expected = [RuleOutcome::Decides, RuleOutcome::NotChosen, RuleOutcome::NotReached];
            assert_eq!(fits, expected);
            assert_eq!(told.rule.as_deref(), Some("no-deletes"));
        });
    }

    #[test]
    fn rules_after_one_that_refuses_a_path_which_servers_read_in_two_ways_are_not_reached() {
        let sample = Sample::new();
        let paths = vec![PathPattern::parse("/admin/**").expect("a path")];
        let rules = vec![
            Rule { paths, ..Sample::rule("no-admin", &["x.a.test"], RuleAction::Deny) },
            Sample::rule("rest", &["x.a.test"], RuleAction::Pass),
        ];
        let policy = Policy::compile(PolicyInput { rules, ..PolicyInput::default() });
        let policy = policy.expect("a policy");
        let found = considered(&sample, &policy, "GET https://x.a.test/a//b");
        assert_eq!(found, "no-admin:decides rest:not_reached default:not_reached");
    }
}

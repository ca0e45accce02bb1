//! Rules with named actions.

use http::Method;

use super::samples::Sample;
use crate::actions::ActionScope;
use crate::policy::{
    AccountState, ActionList, Policy, PolicyInput, PolicyRequest, Rule, RuleAction, RuleOutcome,
};
use keyward_base::pattern::{HostPattern, PathPattern};

/// `git-upload-pack` or `git-receive-pack` at git.a.test: the first request and the second.
fn service(name: &str) -> Vec<ActionScope> {
    let hosts = vec![HostPattern::parse("git.a.test").unwrap()];
    let path = |text: &str| vec![PathPattern::parse(text).unwrap()];
    vec![
        ActionScope {
            hosts: hosts.clone(),
            paths: path("/*/info/refs"),
            query: vec![("service".into(), name.into())],
            ..ActionScope::default()
        },
        ActionScope { hosts, paths: path(&format!("/*/{name}")), ..ActionScope::default() },
    ]
}

/// Who decides about a request: the rule, or the code of the refusal.
fn decided(sample: &Sample, policy: &Policy, line: &str) -> String {
    Sample::ask(line, &[], None, |asked| match policy.decide(&sample.agent, asked) {
        Ok(permit) => permit.rule().to_string().split(":con_").next().unwrap().to_owned(),
        Err(reason) => reason.code().to_string(),
    })
}

const FETCH: &str = "GET https://git.a.test/r/info/refs?service=git-upload-pack";
const PUSH: &str = "GET https://git.a.test/r/info/refs?service=git-receive-pack";
const PACK: &str = "POST https://git.a.test/r/git-receive-pack";
const TWICE: &str =
    "GET https://git.a.test/r/info/refs?service=git-upload-pack&service=git-receive-pack";
const API: &str = "GET https://api.a.test/user";

#[test]
fn a_connection_is_narrowed_to_the_actions_of_its_rule() {
    let sample = Sample::new();
    let work = Sample::account("work", &["git.a.test", "api.a.test"]);
    let uses = Sample::rule("clone-only", &["git.a.test"], RuleAction::Use(work.clone()));
    let rules = vec![Rule { actions: service("git-upload-pack"), ..uses }];
    let bindings = vec![sample.bound(&work)];
    let input = PolicyInput { rules, bindings, ..PolicyInput::default() };
    let policy = Policy::compile(input).unwrap();
    assert_eq!(work.state, AccountState::Active);
    for (line, expected) in [
        (PUSH, "denied"),
        (PACK, "denied"),
        (API, "denied"),
        (TWICE, "bad_target"),
        ("GET https://git.a.test/r/info/refs", "denied"),
        (FETCH, "clone-only"),
    ] {
        assert_eq!(decided(&sample, &policy, line), expected, "{line}");
    }
}

#[test]
fn an_action_is_denied_and_the_rest_is_left_to_later_rules_and_bindings() {
    let sample = Sample::new();
    let work = Sample::account("work", &["git.a.test", "api.a.test"]);
    let deny = Sample::rule("no-push", &["git.a.test"], RuleAction::Deny);
    let rules = vec![Rule { actions: service("git-receive-pack"), ..deny }];
    let bindings = vec![sample.bound(&work)];
    let input = PolicyInput { rules, bindings, ..PolicyInput::default() };
    let policy = Policy::compile(input).unwrap();
    for (line, expected) in [
        (PUSH, "denied"),
        (PACK, "denied"),
        (TWICE, "bad_target"),
        (FETCH, "binding"),
        (API, "binding"),
    ] {
        assert_eq!(decided(&sample, &policy, line), expected, "{line}");
    }
    let fit = Sample::ask(FETCH, &[], None, |asked| {
        policy.explain(&sample.agent, asked).considered.swap_remove(0).fit
    });
    assert_eq!(fit, RuleOutcome::Action);
}

#[test]
fn an_excluded_parameter_does_not_exempt_a_request_from_a_denied_action() {
    let sample = Sample::new();
    let work = Sample::account("work", &["api.a.test"]);
    let delete = || ActionScope {
        methods: vec![Method::DELETE],
        without_query: vec!["method".into()],
        ..ActionScope::default()
    };
    let mut binding = sample.bound(&work);
    let (names, scopes) = (vec!["delete".into()], vec![delete()]);
    binding.deny = Some(ActionList { names, scopes, lost: None });
    let deny = Sample::rule("no-deletes", &["api.a.test"], RuleAction::Deny);
    let rules = vec![Rule { actions: vec![delete()], ..deny }];
    let whole = vec![sample.bound(&work)];
    for input in [
        PolicyInput { bindings: vec![binding], ..PolicyInput::default() },
        PolicyInput { rules, bindings: whole, ..PolicyInput::default() },
    ] {
        let policy = Policy::compile(input).unwrap();
        for (line, overrides, is_denied) in [
            ("DELETE https://api.a.test/1?method=delete", vec![], true),
            ("DELETE https://api.a.test/1?a=1;method=post", vec![], true),
            ("GET https://api.a.test/1?method=delete", vec![Method::DELETE], true),
            ("GET https://api.a.test/1?method=get", vec![Method::GET], false),
        ] {
            let told = Sample::ask(line, &[], None, |asked| {
                let asked = PolicyRequest { overrides: &overrides, ..*asked };
                policy.explain(&sample.agent, &asked).message
            });
            let says_so = told.as_ref().is_some_and(|told| told.contains("denies this"));
            assert_eq!((says_so, told.is_some()), (is_denied, is_denied), "{line}: {told:?}");
        }
    }
}

#[test]
fn a_rule_with_actions_does_not_shadow_a_rule_for_more_actions() {
    let deny = |name: &str, actions| Rule {
        actions,
        ..Sample::rule(name, &["git.a.test"], RuleAction::Deny)
    };
    let push = || service("git-receive-pack");
    let both = || [push(), service("git-upload-pack")].concat();
    for (first, second, hidden) in [
        (push(), vec![], false),
        (push(), both(), false),
        (both(), push(), true),
        (vec![], push(), true),
    ] {
        assert_eq!(deny("first", first).shadows(&deny("second", second)), hidden);
    }
}

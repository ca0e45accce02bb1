//! Rules with branches of pushes by git.

use super::samples::Sample;
use crate::actions::ActionScope;
use crate::branches::{BranchScope, RefPattern};
use crate::git_push::{PushReader, PushUnclear, PushedRefs, RequestedPush};
use crate::policy::{Policy, PolicyInput, PolicyRequest, Reason, Rule, RuleAction};
use keyward_base::pattern::PathPattern;

const PUSH: &str = "POST https://git.a.test/o/r.git/git-receive-pack";

/// `clone` and `push` of a forge.
fn git() -> Vec<ActionScope> {
    let paths = ["/*/*/info/refs", "/*/*/git-upload-pack", "/*/*/git-receive-pack"];
    let paths = paths.map(|text| PathPattern::parse(text).unwrap()).into();
    vec![ActionScope { paths, ..ActionScope::default() }]
}

fn branches(patterns: &[&str], deletions: bool) -> Option<BranchScope> {
    let patterns = patterns.iter().map(|text| RefPattern::parse(text).unwrap()).collect();
    Some(BranchScope { patterns, deletions })
}

/// An agent that is bound to the account of a forge, with one rule.
fn policy(sample: &Sample, rule: impl FnOnce(Rule) -> Rule) -> Policy {
    let forge = Sample::account("forge", &["git.a.test"]);
    let uses = Sample::rule("narrow", &["git.a.test"], RuleAction::Use(forge.clone()));
    let rules = vec![rule(uses)];
    let bindings = vec![sample.bound(&forge)];
    Policy::compile(PolicyInput { rules, bindings, ..PolicyInput::default() }).unwrap()
}

/// Who decides about a request, whose body is a push to `refs` if they are given.
fn decided(sample: &Sample, policy: &Policy, line: &str, refs: Option<&[&str]>) -> String {
    let refs = refs.map(|refs| PushedRefs::to_branches(refs.iter().copied()).expect("names"));
    let push = refs.as_ref().map_or(RequestedPush::Unread, RequestedPush::Known);
    decision(sample, policy, line, push)
}

fn decision(sample: &Sample, policy: &Policy, line: &str, push: RequestedPush<'_>) -> String {
    Sample::ask(line, &[], None, |asked| {
        let asked = PolicyRequest { push, ..*asked };
        match policy.decide(&sample.agent, &asked) {
            Ok(permit) => permit.rule().to_string().split(":con_").next().unwrap().to_owned(),
            Err(Reason::BodyUnread { .. }) => "unread".to_owned(),
            Err(Reason::PushUnclear { .. }) => "unclear".to_owned(),
            Err(Reason::BeyondBranches { reference, deletes, .. }) => {
                format!("beyond {}{reference}", if deletes { "-" } else { "" })
            }
            Err(reason) => reason.code().to_string(),
        }
    })
}

#[test]
fn an_allowing_rule_permits_a_push_only_to_its_branches() {
    let sample = Sample::new();
    let policy = policy(&sample, |rule| Rule {
        actions: git(),
        branches: branches(&["agent/*"], false),
        ..rule
    });
    let of = |refs: &[&str]| decided(&sample, &policy, PUSH, Some(refs));
    assert_eq!(of(&["main"]), "beyond refs/heads/main");
    assert_eq!(of(&["agent/a", "main"]), "beyond refs/heads/main");
    assert_eq!(of(&["refs/tags/agent/a"]), "beyond refs/tags/agent/a");
    assert_eq!(of(&[":agent/a"]), "beyond -refs/heads/agent/a");
    assert_eq!(of(&["agent/a", "agent/b"]), "narrow");
    assert_eq!(of(&[]), "narrow", "a probe changes nothing");
    assert_eq!(decided(&sample, &policy, PUSH, None), "unread");
    let unclear = RequestedPush::Unclear(PushUnclear::Signed);
    assert_eq!(decision(&sample, &policy, PUSH, unclear), "unclear");
    for (line, expected) in [
        ("GET https://git.a.test/o/r.git/info/refs?service=git-receive-pack", "narrow"),
        ("POST https://git.a.test/o/r.git/git-upload-pack", "narrow"),
        ("POST https://git.a.test/api/v1/repos/o/r/branches", "denied"),
        // Spelled otherwise, and in a path of two readings.
        ("PUT https://git.a.test/o/r.git/git-receive-pack", "unread"),
        ("POST https://git.a.test/o/r.git/Git-Receive-Pack", "denied"),
        ("POST https://git.a.test/o%2fr/x/git-receive-pack", "bad_target"),
    ] {
        assert_eq!(decided(&sample, &policy, line, None), expected, "{line}");
    }
}

/// By options, GitLab merges into another branch.
#[test]
fn a_push_with_options_is_refused_where_branches_decide() {
    let sample = Sample::new();
    let mut reader = PushReader::default();
    let id = "1".repeat(40);
    let line = format!("{id} {id} refs/heads/agent/a\0 report-status push-options");
    let list = format!("{:04x}{line}0000", line.len() + 4);
    assert_eq!(reader.push(list.as_bytes()), Ok(true));
    let refs = reader.finish();
    for (action, patterns) in [(None, "agent/*"), (Some(RuleAction::Deny), "main")] {
        let policy = policy(&sample, |rule| Rule {
            actions: git(),
            branches: branches(&[patterns], false),
            action: action.unwrap_or(rule.action),
            ..rule
        });
        let decided = decision(&sample, &policy, PUSH, RequestedPush::Known(&refs));
        assert_eq!(decided, "unclear", "{patterns}");
    }
}

#[test]
fn deletions_are_allowed_only_if_the_rule_says_so() {
    let sample = Sample::new();
    let policy = policy(&sample, |rule| Rule {
        actions: git(),
        branches: branches(&["agent/**"], true),
        ..rule
    });
    assert_eq!(decided(&sample, &policy, PUSH, Some(&[":agent/a/b"])), "narrow");
    assert_eq!(decided(&sample, &policy, PUSH, Some(&[":main"])), "beyond -refs/heads/main");
}

#[test]
fn a_denying_rule_denies_a_push_that_changes_any_of_its_branches() {
    let sample = Sample::new();
    let policy = policy(&sample, |rule| Rule {
        action: RuleAction::Deny,
        branches: branches(&["main"], false),
        ..rule
    });
    let of = |refs: &[&str]| decided(&sample, &policy, PUSH, Some(refs));
    for refs in [&["main"][..], &["agent/a", "main"], &[":main"], &["MAIN"]] {
        assert_eq!(of(refs), "denied", "{refs:?}");
    }
    assert_eq!(of(&["agent/a"]), "binding");
    assert_eq!(of(&[]), "binding");
    assert_eq!(decided(&sample, &policy, PUSH, None), "unread");
    for (line, expected) in [
        ("GET https://git.a.test/o/r.git/info/refs?service=git-receive-pack", "binding"),
        ("POST https://git.a.test/api", "binding"),
        ("POST https://git.a.test/o/r.git/GIT-RECEIVE-PACK/", "unread"),
        ("GET https://git.a.test/o%2fr", "binding"),
        ("POST https://git.a.test/o%2fr", "bad_target"),
    ] {
        assert_eq!(decided(&sample, &policy, line, None), expected, "{line}");
    }
}

#[test]
fn the_next_rule_decides_about_other_branches() {
    let sample = Sample::new();
    let forge = Sample::account("forge", &["git.a.test"]);
    let uses = |name: &str, patterns: &[&str]| Rule {
        actions: git(),
        branches: branches(patterns, false),
        ..Sample::rule(name, &["git.a.test"], RuleAction::Use(forge.clone()))
    };
    let rules = vec![uses("first", &["agent/*"]), uses("second", &["docs"])];
    let bindings = vec![sample.bound(&forge)];
    let policy = Policy::compile(PolicyInput { rules, bindings, ..PolicyInput::default() });
    let policy = policy.expect("a policy: the second rule is not without effect");
    assert_eq!(decided(&sample, &policy, PUSH, Some(&["docs"])), "second");
    // No rule allows both.
    assert_eq!(
        decided(&sample, &policy, PUSH, Some(&["docs", "agent/a"])),
        "beyond refs/heads/docs"
    );
}

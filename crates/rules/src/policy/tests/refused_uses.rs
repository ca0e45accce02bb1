//! Rules with an action, host or path that is not valid for their connection: they allow nothing, and restrict its binding
//! as before.

use std::sync::Arc;

use http::Method;

use super::samples::Sample;
use super::world::{World, in_state, on_path, only, pattern, under, uses, work};
use crate::policy::{
    Account, AccountState, AgentBindings, DefaultAction, Policy, PolicyInput, Reason, Rule,
    RuleAction, RuleOutcome,
};
use keyward_base::agent::{Agent, AgentSession};
use keyward_base::id::{RuleId, SessionId};

const GET: &str = "GET https://api.a.test/v1/x";
const POST: &str = "POST https://api.a.test/v1/x";

/// The rule `u` for the connection, at its host.
fn refused(account: &Arc<Account>) -> Rule {
    Sample::rule("u", &["api.a.test"], RuleAction::UseRefused(account.clone()))
}

#[test]
fn an_invalid_rule_with_any_conditions_denies_all_requests_by_the_binding() {
    let mine = work();
    let limits: [fn(Rule) -> Rule; 5] = [
        |rule| rule,
        |rule| only(Method::GET, rule),
        |rule| on_path("/v2/**", rule),
        |rule| Rule { hosts: Vec::new(), ..rule },
        |rule| Rule { hosts: vec![pattern("old.test")], ..rule },
    ];
    for limit in limits {
        for names_agents in [false, true] {
            let world = World::new().bind(&mine).default(DefaultAction::Pass);
            let agents = names_agents.then(|| vec![world.ci.id.clone()]);
            let world = world.rule(Rule { agents, ..limit(refused(&mine)) });
            for line in [GET, POST] {
                assert_eq!(world.ci(line), "denied", "{line} {:?}", world.spec.rules);
                let said = world.says(&world.ci, line, &[world.core(&mine)], Some("work"));
                assert_eq!(said, "denied", "chosen: {line} {:?}", world.spec.rules);
            }
            assert_eq!(in_session(&world, &mine), Err("denied"), "{:?}", world.spec.rules);
        }
    }
}

/// The code of the answer to a request in a session that may use the connection.
fn in_session(world: &World, account: &Arc<Account>) -> Result<(), &'static str> {
    let id = SessionId::random();
    let session = AgentSession { id: id.clone(), label: None, user: None };
    let agent = Agent { session: Some(Arc::new(session)), ..world.ci.clone() };
    let bindings = vec![Sample { agent: agent.clone() }.bound(account)];
    let mut policy = world.policy();
    let held = AgentBindings { bindings, ..AgentBindings::default() };
    policy.set_session(&agent.org, &id, Some(held));
    let decided = Sample::ask(GET, &[], None, |asked| policy.decide(&agent, asked));
    decided.map(|_| ()).map_err(|reason| reason.code().as_str())
}

#[test]
fn no_later_rule_or_other_connection_replaces_an_invalid_rule() {
    let (mine, other) = (work(), Sample::account("other", &["api.a.test"]));
    let pass = || Sample::rule("p", &["api.a.test"], RuleAction::Pass);
    let world = World::new().bind(&mine).bind(&other).rule(refused(&mine)).rule(pass());
    assert_eq!(world.ci(GET), "denied");
    assert_eq!(world.dev(GET), "pass by p", "it is about agents with the connection");
    let world = World::new();
    let agents = Some(vec![world.ci.id.clone()]);
    let world = world.rule(Rule { agents, ..refused(&mine) }).rule(pass());
    assert_eq!(world.ci(GET), "denied");
    assert_eq!(world.dev(GET), "pass by p");
}

#[test]
fn an_invalid_rule_does_not_affect_paths_outside_its_connection() {
    let (mine, other) =
        (under("work", "api.a.test", "/v1/**"), under("other", "api.a.test", "/v2/**"));
    let world = World::new().bind(&mine).bind(&other).rule(refused(&mine));
    assert_eq!(world.ci(GET), "denied");
    assert_eq!(world.ci("GET https://api.a.test/v2/x"), "inject other by binding");
}

#[test]
fn an_invalid_rule_without_hosts_decides_no_request_without_its_connection() {
    let mine = work();
    let hostless = || Rule { hosts: Vec::new(), ..refused(&mine) };
    let world = World::new();
    let agents = Some(vec![world.ci.id.clone()]);
    let tunnel = Sample::rule("t", &["b.test"], RuleAction::Tunnel);
    let mut world = world.rule(Rule { agents, ..hostless() }).rule(tunnel);
    world.spec.hostless_rules_max = 0;
    assert_eq!(world.default(DefaultAction::Pass).ci(GET), "pass by default");
}

#[test]
fn a_call_by_a_person_is_denied_by_a_rule_after_an_invalid_one() {
    let mine = work();
    for lost in [RuleAction::UseRefused(mine.clone()), RuleAction::UseMissing("old".into())] {
        let lost = Sample::rule("u", &["api.a.test"], lost);
        let world = World::new().rule(lost).deny("no", &["api.a.test"]);
        let policy = world.policy();
        let called = Sample::ask(GET, &[], None, |asked| {
            policy.permit_call(&world.ci.org, &mine, asked).map(|_| ())
        });
        assert_eq!(called, Err(Reason::Denied { rule: RuleId::new("no") }));
    }
}

#[test]
fn a_call_by_a_person_is_denied_by_a_rule_after_one_that_uses_another_connection() {
    let (mine, other) = (work(), Sample::account("other", &["*.a.test", "b.test"]));
    let elsewhere = under("other", "api.a.test", "/v2/**");
    for (first, is_denied) in [
        (Sample::rule("u", &[], RuleAction::Use(other.clone())), true),
        (only(Method::GET, Sample::rule("u", &[], RuleAction::Use(other.clone()))), true),
        (uses("u", &other), true),
        (only(Method::GET, uses("u", &other)), true),
        (uses("u", &elsewhere), true),
        (uses("u", &mine), false),
        (Sample::rule("u", &[], RuleAction::Use(mine.clone())), false),
        (only(Method::POST, uses("u", &mine)), true),
        (on_path("/v2/**", uses("u", &mine)), true),
        (Sample::rule("u", &["api.a.test"], RuleAction::Pass), false),
    ] {
        let world = World::new().rule(first).deny("no", &["api.a.test"]);
        let policy = world.policy();
        let called = Sample::ask(GET, &[], None, |asked| {
            policy.permit_call(&world.ci.org, &mine, asked).map(|_| ())
        });
        let denied = Err(Reason::Denied { rule: RuleId::new("no") });
        assert_eq!(called, if is_denied { denied } else { Ok(()) }, "{:?}", world.spec.rules);
    }
}

#[test]
fn an_unusable_connection_is_the_reason_instead_of_the_invalid_rule() {
    for (state, code) in [
        (AccountState::Paused, "connection_paused"),
        (AccountState::Broken("revoked".into()), "connection_broken"),
        (AccountState::Draft(None), "connection_missing"),
    ] {
        let mine = in_state("work", state);
        assert_eq!(World::new().bind(&mine).rule(refused(&mine)).ci(GET), code);
    }
}

#[test]
fn the_refusal_names_the_rule_the_connection_and_the_remedy() {
    let (sample, mine) = (Sample::new(), work());
    for rule in [refused(&mine), only(Method::POST, refused(&mine))] {
        let bindings = vec![sample.bound(&mine)];
        let input = PolicyInput { rules: vec![rule], bindings, ..PolicyInput::default() };
        let policy = Policy::compile(input).expect("a policy");
        let told = sample.explain(&policy, GET);
        assert_eq!((told.rule.as_deref(), told.connection.as_deref()), (Some("u"), Some("work")));
        let message = told.message.expect("a refusal");
        assert!(message.starts_with("rule `u` allows nothing"), "{message}");
        assert!(message.ends_with("is not valid for connection `work`"), "{message}");
        assert!(told.hint.is_some_and(|hint| hint.contains("correct the rule")));
        assert_eq!(told.considered[0].fit, RuleOutcome::Decides);
    }
}

#[test]
fn an_agent_without_the_connection_gets_the_same_answer_as_for_a_valid_rule() {
    let mine = work();
    for rule in [uses("u", &mine), refused(&mine)] {
        let world = World::new().rule(rule).default(DefaultAction::Pass);
        assert_eq!(world.dev(GET), "connection_missing");
        assert_eq!(world.dev("GET https://b.test/"), "pass by default");
    }
}

//! Tests of the policy in force, with a catalogue and a directory in memory.

mod changes;
mod contradictions;
mod crossing;
mod lazy;
mod sessions;

use std::sync::Arc;

use super::*;
use crate::crypto::keyring::Keyring;
use crate::directory::{ConnectionRecord, ConnectionState, ManagedBy, View};
use crate::rulebook::facts::samples::{Samples, placed, text};
use crate::store::memory::MemoryStore;
use keyward_base::agent::Agent;
use keyward_base::host::{Scheme, Target};
use keyward_base::id::{AgentId, ConnectionId, TokenId};
use keyward_base::pattern::DecodedPath;
use keyward_base::time::Clock;
use keyward_model::{AgentFacts, AgentSpec, Connection, RuleFacts, RuleSpec};
use keyward_rules::git_push::RequestedPush;
use keyward_rules::graphql::RequestedOperations;
use keyward_rules::policy::Route;
use keyward_rules::policy::explain::ActionKind;
use keyward_rules::provider::Catalogue;

fn sources(rules: Vec<RuleSpec>) -> Arc<PolicyInputs> {
    let catalogue = Arc::new(Catalogue::built_in());
    let rules = rules.into_iter().map(placed).collect();
    Arc::new(PolicyInputs::new(catalogue, DefaultAction::Deny, rules, 10))
}

fn strictly(
    sources: &Arc<PolicyInputs>,
    view: Arc<View>,
) -> Result<Arc<Policy>, Vec<RulebookError>> {
    CompiledPolicy::strictly(sources, view).map(|made| made.policy())
}

fn code(policy: &Policy, agent: &Agent, host: &str) -> Result<String, &'static str> {
    code_of(&http::Method::GET, policy, agent, host)
}

fn code_of(
    method: &http::Method,
    policy: &Policy,
    agent: &Agent,
    host: &str,
) -> Result<String, &'static str> {
    let target = Target::parse(Scheme::Https, host).expect(host);
    let path = DecodedPath::parse("/v1/x").expect("a path");
    let asked = PolicyRequest {
        target: &target,
        method,
        overrides: &[],
        resources: &[],
        path: &path,
        query: None,
        placeholders: &[],
        named: None,
        own: None,
        operations: RequestedOperations::Unread,
        push: RequestedPush::default(),
    };
    let decided = policy.decide(agent, &asked);
    decided.map(|permit| permit.rule().to_string()).map_err(|reason| reason.code().as_str())
}

#[test]
fn a_binding_of_the_directory_becomes_a_permit() {
    let mut samples = Samples::new();
    let (agent, key) = (samples.agent("ci"), samples.connection("work", "openai"));
    let unbound = samples.view();
    samples.bind(&agent, &key);
    let sources = sources(Vec::new());
    let policy = strictly(&sources, unbound).expect("a policy");
    assert_eq!(code(&policy, &agent, "api.openai.com"), Err("default_deny"));
    let policy = strictly(&sources, samples.view()).expect("a policy");
    assert_eq!(code(&policy, &agent, "api.openai.com"), Ok(format!("binding:{key}")));
    assert_eq!(code(&policy, &agent, "api.openai.com.evil.test"), Err("default_deny"));
}

#[test]
fn rules_are_strict_at_the_start_and_refuse_later_when_a_connection_is_gone() {
    let mut samples = Samples::new();
    let agent = samples.agent("ci");
    let used = RuleSpec {
        agents: Some(vec!["ci".to_owned()]),
        use_connection: Some("work".to_owned()),
        ..text("gh", &["api.openai.com"])
    };
    let pass = RuleSpec { action: Some(ActionKind::Pass), ..text("p", &["api.openai.com"]) };
    let sources = sources(vec![used, pass]);
    let gone = samples.view();
    assert!(strictly(&sources, gone.clone()).is_err());
    samples.connection("work", "openai");
    let policy = strictly(&sources, samples.view()).expect("a policy");
    assert_eq!(code(&policy, &agent, "api.openai.com"), Ok("file:gh".to_owned()));
    let policy = CompiledPolicy::leniently(&sources, gone).expect("a policy").policy();
    assert_eq!(code(&policy, &agent, "api.openai.com"), Err("connection_missing"));
}

#[test]
fn all_errors_of_the_rules_are_reported_together() {
    let sources = sources(vec![
        text("nothing", &["a.test"]),
        RuleSpec { action: Some(ActionKind::Deny), ..text("bad", &["*.com", "a b"]) },
        RuleSpec { action: Some(ActionKind::Tunnel), ..text("t", &["c.test"]) },
        RuleSpec { action: Some(ActionKind::Pass), ..text("p", &["c.test"]) },
    ]);
    let errors = strictly(&sources, Samples::new().view()).expect_err("errors");
    let all: Vec<_> = errors.iter().map(ToString::to_string).collect();
    assert_eq!(all.len(), 4, "{all:?}");
    assert!(all[0].starts_with("rules[nothing]: "), "{all:?}");
    assert!(all[1].contains("public suffix") && all[2].contains("`a b`"), "{all:?}");
    assert!(all[3].contains("`file:t`") && all[3].contains("`file:p`"), "{all:?}");
}

/// A directory in memory with agent `ci`, and a rulebook of `rules` on it.
async fn live(rules: Vec<RuleSpec>) -> (Arc<Directory>, Arc<Rulebook>, Agent) {
    let (store, keyring) = (Arc::new(MemoryStore::new()), Arc::new(Keyring::ephemeral()));
    let directory = Directory::open(store, keyring, Clock::System).await.expect("a directory");
    let (org, spec) = (OrgId::default_org(), AgentSpec::named("ci"));
    let record = directory
        .add::<keyward_model::Agent>(&org, ManagedBy::Store, spec, AgentFacts::default())
        .await
        .expect("an agent");
    let (id, org) = (record.id.clone(), record.org.clone());
    let agent = Agent { id, org, name: "ci".into(), token: Some(TokenId::random()), session: None };
    let (directory, catalogue) = (Arc::new(directory), Arc::new(Catalogue::built_in()));
    let rules = rules.into_iter().map(placed).collect();
    let sources = PolicyInputs::new(catalogue, DefaultAction::Deny, rules, 10);
    let rulebook = Rulebook::new(sources, directory.clone());
    (directory, Arc::new(rulebook.expect("a rulebook")), agent)
}

/// Adds connection `work` of OpenAI and binds it to the agent.
async fn bind_work(directory: &Directory, agent: &Agent) -> ConnectionId {
    let mut samples = Samples::new();
    let id = samples.connection("work", "openai");
    directory.add_record(samples.connections.remove(0)).await.expect("a connection");
    let none = std::collections::BTreeMap::new();
    let bound = directory.bind(&agent.org, &agent.id, &id, none, ManagedBy::Store).await;
    bound.expect("a binding");
    id
}

#[tokio::test]
async fn a_change_is_in_force_once_the_follower_has_compiled_it() {
    let (directory, rulebook, agent) = live(Vec::new()).await;
    let following = tokio::spawn(rulebook.clone().follow());
    let settled = || async {
        let change = *directory.changes().borrow();
        let mut policies = rulebook.policies();
        policies.wait_for(|progress| progress.tried >= change).await.expect("it is compiled");
        code(&rulebook.current(), &agent, "api.openai.com")
    };
    let id = bind_work(&directory, &agent).await;
    assert_eq!(settled().await, Ok(format!("binding:{id}")));
    let pause = |record: &mut ConnectionRecord| record.facts.state = ConnectionState::Paused;
    directory.change::<Connection>(&agent.org, &id, pause).await.expect("it is paused");
    assert_eq!(settled().await, Err("connection_paused"));
    directory.unbind(&agent.org, &agent.id, &id).await.expect("it is unbound");
    assert_eq!(settled().await, Err("default_deny"));
    following.abort();
}

#[tokio::test]
async fn a_removed_connection_is_refused_although_a_rule_names_it() {
    let (directory, rulebook, agent) = live(Vec::new()).await;
    let id = bind_work(&directory, &agent).await;
    let agents = Some(vec!["ci".to_owned()]);
    let use_connection = Some("work".to_owned());
    let rule = RuleSpec { agents, use_connection, ..text("gh", &["api.openai.com"]) };
    let catalogue = rulebook.sources.load().catalogue.clone();
    let sources = PolicyInputs::new(catalogue, DefaultAction::Pass, vec![placed(rule)], 10);
    let rulebook = Rulebook::new(sources, directory.clone());
    let rulebook = rulebook.expect("a rulebook");
    let said = || code(&rulebook.current(), &agent, "api.openai.com");
    assert_eq!(said(), Ok("file:gh".to_owned()));
    directory.remove::<Connection>(&agent.org, &id, ManagedBy::Store).await.expect("it is removed");
    rulebook.rebuild().await.expect("it compiles");
    assert_eq!(said(), Err("connection_missing"));
}

/// A record of a stored rule, which is in no store.
fn stored(spec: RuleSpec, position: i64) -> Arc<Record<Rule>> {
    let (org, by) = (OrgId::default_org(), ManagedBy::Store);
    let facts = RuleFacts::at(position);
    Arc::new(Record::new(&org, by, spec, facts, jiff::Timestamp::UNIX_EPOCH))
}

fn doing(name: &str, action: ActionKind) -> RuleSpec {
    RuleSpec { action: Some(action), ..text(name, &["api.openai.com"]) }
}

#[test]
fn a_stored_rule_whose_names_are_gone_neither_stops_the_start_nor_permits_anything() {
    let mut samples = Samples::new();
    let agent = samples.agent("ci");
    let gone = || Some(vec![AgentId::random().to_string()]);
    let lost = Some(ConnectionId::random().to_string());
    let of_lost = RuleSpec { use_connection: lost, ..text("u", &["api.openai.com"]) };
    let decided = |rules: Vec<Arc<Record<Rule>>>| {
        let view = rules.into_iter().fold(View::clone(&samples.view()), View::with);
        let policy = strictly(&sources(Vec::new()), Arc::new(view)).expect("a policy");
        code(&policy, &agent, "api.openai.com")
    };
    let pass = || stored(doing("p", ActionKind::Pass), 9);
    // A rule of removed agents applies to no agent, whatever its action.
    let permits = RuleSpec { agents: gone(), ..doing("x", ActionKind::Pass) };
    assert_eq!(decided(vec![stored(permits, 0)]), Err("default_deny"));
    let denies = RuleSpec { agents: gone(), ..doing("d", ActionKind::Deny) };
    assert_eq!(decided(vec![stored(denies, 0), pass()]), Ok("store:p".to_owned()));
    // The rule stays in force for its remaining agent.
    let both = Some(vec![AgentId::random().to_string(), agent.id.to_string()]);
    let denies = RuleSpec { agents: both, ..doing("d", ActionKind::Deny) };
    assert_eq!(decided(vec![stored(denies, 0), pass()]), Err("denied"));
    // The connection of the rule was removed: no later rule takes its place.
    let own = RuleSpec { agents: Some(vec![agent.id.to_string()]), ..of_lost };
    assert_eq!(decided(vec![stored(own, 0), pass()]), Err("connection_missing"));
}

#[test]
fn a_stored_rule_that_is_not_valid_any_more_restricts_its_connection_as_before() {
    let mut samples = Samples::new();
    let (agent, key) = (samples.agent("ci"), samples.connection("work", "openai"));
    samples.bind(&agent, &key);
    let using =
        |hosts: &[&str]| RuleSpec { use_connection: Some("work".to_owned()), ..text("u", hosts) };
    let list = |text: &str| vec![text.to_owned()];
    for rule in [
        RuleSpec { actions: list("gone"), ..using(&["api.openai.com"]) },
        RuleSpec { actions: list("gone"), ..using(&[]) },
        RuleSpec { actions: list("gone"), methods: list("POST"), ..using(&[]) },
        RuleSpec { actions: list("stripe:read"), ..using(&[]) },
        using(&["evil.test"]),
        using(&["*.com"]),
        RuleSpec { paths: list("x"), ..using(&["api.openai.com"]) },
    ] {
        for agents in [None, Some(vec![agent.id.to_string()])] {
            let rule = RuleSpec { agents, ..rule.clone() };
            let view = View::clone(&samples.view()).with(stored(rule.clone(), 0));
            let policy = strictly(&sources(Vec::new()), Arc::new(view)).expect("a policy");
            assert_eq!(code(&policy, &agent, "api.openai.com"), Err("denied"), "{rule:?}");
        }
    }
}

#[test]
fn a_stored_rule_with_a_condition_of_a_newer_version_refuses_its_requests() {
    let mut samples = Samples::new();
    let (agent, key) = (samples.agent("ci"), samples.connection("work", "openai"));
    samples.bind(&agent, &key);
    let using = RuleSpec { use_connection: Some("work".to_owned()), ..text("u", &[]) };
    let own = Some(vec![agent.id.to_string()]);
    for rule in [
        using.clone(),
        RuleSpec { agents: own, ..using },
        doing("p", ActionKind::Pass),
        doing("i", ActionKind::Inject),
        doing("t", ActionKind::Tunnel),
        doing("d", ActionKind::Deny),
    ] {
        let mut record = Record::clone(&stored(rule.clone(), 0));
        record.facts.unknown = vec!["curfew".to_owned()];
        // A later rule does not take its place.
        let view = View::clone(&samples.view()).with(Arc::new(record));
        let view = view.with(stored(doing("later", ActionKind::Inject), 9));
        let policy = strictly(&sources(Vec::new()), Arc::new(view)).expect("a policy");
        assert_eq!(code(&policy, &agent, "api.openai.com"), Err("denied"), "{rule:?}");
    }
}

#[test]
fn rules_contradict_each_other_although_names_are_missing() {
    let samples = Samples::new();
    let gone = Some(vec![AgentId::random().to_string()]);
    let tunnel = RuleSpec { agents: gone, ..doing("t", ActionKind::Tunnel) };
    let view = View::clone(&samples.view()).with(stored(tunnel, 0));
    let sources = sources(vec![doing("p", ActionKind::Pass)]);
    let errors = strictly(&sources, Arc::new(view)).expect_err("a contradiction");
    let text = errors[0].to_string();
    assert!(text.starts_with("rules[p]: rule `store:t` tunnels"), "{text}");
    assert!(text.contains("`file:p`"), "{text}");
}

#[tokio::test]
async fn stored_rules_decide_in_order_after_those_of_the_file_and_follow_the_directory() {
    let no_post = RuleSpec { methods: vec!["POST".to_owned()], ..doing("f", ActionKind::Deny) };
    let (directory, rulebook, agent) = live(vec![no_post]).await;
    let post = || {
        let policy = rulebook.current();
        code_of(&http::Method::POST, &policy, &agent, "api.openai.com")
    };
    let org = &agent.org;
    let settled = || async {
        rulebook.rebuild().await.expect("it compiles");
        code(&rulebook.current(), &agent, "api.openai.com")
    };
    let add = |spec: RuleSpec, position| {
        directory.add::<Rule>(org, ManagedBy::Store, spec, RuleFacts::at(position))
    };
    let pass = add(doing("p", ActionKind::Pass), 5).await.expect("a rule");
    assert_eq!(settled().await, Ok("store:p".to_owned()));
    assert_eq!(post(), Err("denied"), "the rule of the file comes first");
    let own = RuleSpec { agents: Some(vec![agent.id.to_string()]), ..doing("d", ActionKind::Deny) };
    let deny = add(own, 9).await.expect("a rule");
    assert_eq!(settled().await, Ok("store:p".to_owned()));
    assert_eq!(rulebook.shadow(org, "store:d").as_deref(), Some("store:p"));
    assert_eq!(rulebook.shadow(org, "store:p"), None);
    let place = |rule: &mut Record<Rule>| rule.facts.position = 1;
    directory.change::<Rule>(org, &deny.id, place).await.expect("it is moved");
    assert_eq!(settled().await, Err("denied"));
    for rule in [&deny.id, &pass.id] {
        directory.remove::<Rule>(org, rule, ManagedBy::Store).await.expect("it is removed");
    }
    assert_eq!(settled().await, Err("default_deny"));
}

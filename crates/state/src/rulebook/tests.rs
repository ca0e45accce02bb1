//! Tests of the policy in force, with a catalogue and a directory in memory.

mod changes;

use std::sync::Arc;

use super::*;
use crate::crypto::keyring::Keyring;
use crate::directory::{ConnectionRecord, ConnectionState, ManagedBy};
use crate::rulebook::facts::samples::{Samples, text};
use crate::store::memory::MemoryStore;
use keyward_base::host::{Scheme, Target};
use keyward_base::id::{ConnectionId, TokenId};
use keyward_base::pattern::DecodedPath;
use keyward_base::time::Clock;
use keyward_model::{AgentFacts, AgentSpec};

fn sources(rules: Vec<RuleText>) -> Arc<Sources> {
    let catalogue = Arc::new(Catalogue::built_in());
    Arc::new(Sources::new(catalogue, DefaultAction::Deny, rules, 10))
}

fn strictly(sources: &Arc<Sources>, view: Arc<View>) -> Result<Arc<Policy>, Vec<RulebookError>> {
    CompiledPolicy::strictly(sources, view).map(|made| made.policy())
}

fn code(policy: &Policy, agent: &Agent, host: &str) -> Result<String, &'static str> {
    let target = Target::parse(Scheme::Https, host).expect(host);
    let path = DecodedPath::parse("/v1/x").expect("a path");
    let method = http::Method::GET;
    let asked = PolicyRequest {
        target: &target,
        method: &method,
        overrides: &[],
        path: &path,
        placeholders: &[],
        named: None,
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
    let used = RuleText {
        agents: Some(vec!["ci".to_owned()]),
        use_connection: Some("work".to_owned()),
        ..text("gh", &["api.openai.com"])
    };
    let pass = RuleText { action: Some("pass".to_owned()), ..text("p", &["api.openai.com"]) };
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
fn every_error_is_reported_at_once_with_its_place() {
    let sources = sources(vec![
        text("nothing", &["a.test"]),
        RuleText { action: Some("dney".to_owned()), ..text("typo", &["b.test"]) },
        RuleText { action: Some("deny".to_owned()), ..text("bad", &["*.com", "a b"]) },
        RuleText { action: Some("tunnel".to_owned()), ..text("t", &["c.test"]) },
        RuleText { action: Some("pass".to_owned()), ..text("p", &["c.test"]) },
    ]);
    let errors = strictly(&sources, Samples::new().view()).expect_err("errors");
    let all: Vec<_> = errors.iter().map(ToString::to_string).collect();
    assert_eq!(all.len(), 5, "{all:?}");
    assert!(all[0].starts_with("rules[nothing]: "), "{all:?}");
    assert!(all[1].contains("did you mean `deny`?"), "{all:?}");
    assert!(all[2].contains("public suffix") && all[3].contains("`a b`"), "{all:?}");
    assert!(all[4].contains("`file:t`") && all[4].contains("`file:p`"), "{all:?}");
}

/// A directory in memory with agent `ci`, and a rulebook of `rules` on it.
async fn live(rules: Vec<RuleText>) -> (Arc<Directory>, Arc<Rulebook>, Agent) {
    let (store, keyring) = (Arc::new(MemoryStore::new()), Arc::new(Keyring::ephemeral()));
    let directory = Directory::open(store, keyring, Clock::System).await.expect("a directory");
    let (org, spec) = (OrgId::default_org(), AgentSpec::named("ci"));
    let record = directory
        .add::<keyward_model::Agent>(&org, ManagedBy::Store, spec, AgentFacts::default())
        .await
        .expect("an agent");
    let (id, org) = (record.id.clone(), record.org.clone());
    let agent = Agent { id, org, name: "ci".into(), token: Some(TokenId::random()) };
    let (directory, catalogue) = (Arc::new(directory), Arc::new(Catalogue::built_in()));
    let sources = Sources::new(catalogue, DefaultAction::Deny, rules, 10);
    let rulebook = Rulebook::new(sources, directory.clone());
    (directory, Arc::new(rulebook.expect("a rulebook")), agent)
}

/// Adds connection `work` of OpenAI and binds it to the agent.
async fn bind_work(directory: &Directory, agent: &Agent) -> ConnectionId {
    let mut samples = Samples::new();
    let id = samples.connection("work", "openai");
    directory.add_connection(samples.connections.remove(0)).await.expect("a connection");
    let none = std::collections::BTreeMap::new();
    let bound = directory.bind(&agent.org, &agent.id, &id, none, ManagedBy::Store).await;
    bound.expect("a binding");
    id
}

#[tokio::test]
async fn a_change_is_in_force_once_the_policy_reflects_it() {
    let (directory, rulebook, agent) = live(Vec::new()).await;
    let following = tokio::spawn(rulebook.clone().follow());
    let settled = || async {
        let change = *directory.changes().borrow();
        rulebook.reflects(change).await.expect("it is in force");
        code(&rulebook.current(), &agent, "api.openai.com")
    };
    let id = bind_work(&directory, &agent).await;
    assert_eq!(settled().await, Ok(format!("binding:{id}")));
    let pause = |record: &mut ConnectionRecord| record.facts.state = ConnectionState::Paused;
    directory.update_connection(&agent.org, &id, &pause).await.expect("it is paused");
    assert_eq!(settled().await, Err("connection_paused"));
    directory.unbind(&agent.org, &agent.id, &id).await.expect("it is unbound");
    assert_eq!(settled().await, Err("default_deny"));
    following.abort();
}

#[tokio::test]
async fn a_removed_connection_is_out_of_force_though_a_rule_names_it() {
    let (directory, rulebook, agent) = live(Vec::new()).await;
    let id = bind_work(&directory, &agent).await;
    let agents = Some(vec!["ci".to_owned()]);
    let use_connection = Some("work".to_owned());
    let rule = RuleText { agents, use_connection, ..text("gh", &["api.openai.com"]) };
    let catalogue = rulebook.sources.load().catalogue.clone();
    let sources = Sources::new(catalogue, DefaultAction::Pass, vec![rule], 10);
    let rulebook = Rulebook::new(sources, directory.clone());
    let rulebook = rulebook.expect("a rulebook");
    let said = || code(&rulebook.current(), &agent, "api.openai.com");
    assert_eq!(said(), Ok("file:gh".to_owned()));
    directory.remove_connection(&agent.org, &id).await.expect("it is removed");
    rulebook.rebuild().await.expect("it compiles");
    assert_eq!(said(), Err("connection_missing"));
}

#[tokio::test]
async fn whoever_waits_for_a_change_is_told_when_it_cannot_come_into_force() {
    let (_, rulebook, _) = live(Vec::new()).await;
    rulebook.progress.send_replace(Progress { tried: 9, in_force: 8 });
    assert_eq!(rulebook.reflects(8).await, Ok(()));
    assert_eq!(rulebook.reflects(9).await, Err(RulebookError::NotInForce { change: 9 }));
}

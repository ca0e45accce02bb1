//! Stored rules that were accepted apart from each other, as by two replicas.

use super::*;
use crate::store::memory::MemoryReplica;

/// A tunnel, and a rule that inspects requests to the same host.
fn contradicting() -> [RuleSpec; 2] {
    let post = vec!["POST".to_owned()];
    let sees = RuleSpec { methods: post, ..doing("sees", ActionKind::Deny) };
    [doing("blind", ActionKind::Tunnel), sees]
}

async fn add(directory: &Directory, org: &OrgId, rules: impl IntoIterator<Item = RuleSpec>) {
    for (position, spec) in (0..).zip(rules) {
        let facts = RuleFacts::at(position);
        directory.add::<Rule>(org, ManagedBy::Store, spec, facts).await.expect("a rule");
    }
}

fn is_tunnelled(policy: &Policy, agent: &Agent) -> bool {
    let target = Target::parse(Scheme::Https, "api.openai.com").expect("a target");
    matches!(policy.route(agent, &target), Route::Tunnel(_))
}

#[tokio::test]
async fn contradicting_stored_rules_of_one_org_hold_up_no_revocation_in_another_and_no_start() {
    let (directory, rulebook, agent) = live(Vec::new()).await;
    let theirs = OrgId::named("theirs").expect("a name");
    directory.add_org(&theirs, ManagedBy::Store).await.expect("an org");
    let their_agent = Agent { id: AgentId::random(), org: theirs.clone(), ..agent.clone() };
    let connection = bind_work(&directory, &agent).await;
    add(&directory, &theirs, contradicting()).await;
    rulebook.rebuild().await.expect("it compiles");
    let bound = code(&rulebook.current(), &agent, "api.openai.com");
    assert_eq!(bound, Ok(format!("binding:{connection}")));
    directory.unbind(&agent.org, &agent.id, &connection).await.expect("it is unbound");
    rulebook.rebuild().await.expect("it compiles");
    let sources = PolicyInputs::clone(&rulebook.sources.load());
    let started = Rulebook::new(sources, directory.clone()).expect("it starts");
    for rulebook in [&*rulebook, &started] {
        let policy = rulebook.current();
        assert_eq!(code(&policy, &agent, "api.openai.com"), Err("default_deny"));
        assert_eq!(code(&policy, &their_agent, "api.openai.com"), Err("denied"));
        assert!(!is_tunnelled(&policy, &their_agent));
    }
    let blind = directory.view().find::<Rule>(&theirs, "blind").expect("it is stored").id.clone();
    directory.remove::<Rule>(&theirs, &blind, ManagedBy::Store).await.expect("it is removed");
    rulebook.rebuild().await.expect("it compiles");
    let policy = rulebook.current();
    assert_eq!(code(&policy, &their_agent, "api.openai.com"), Err("default_deny"));
    let post = code_of(&http::Method::POST, &policy, &their_agent, "api.openai.com");
    assert_eq!(post, Err("denied"));
}

/// The configuration of one replica has the tunnel already.
#[tokio::test]
async fn a_tunnel_of_the_file_that_hides_a_stored_rule_refuses_until_one_of_them_is_removed() {
    let [tunnel, sees] = contradicting();
    let (directory, rulebook, agent) = live(vec![tunnel]).await;
    assert!(is_tunnelled(&rulebook.current(), &agent));
    add(&directory, &agent.org, [sees]).await;
    rulebook.rebuild().await.expect("it compiles");
    assert!(!is_tunnelled(&rulebook.current(), &agent));
    assert_eq!(code(&rulebook.current(), &agent, "api.openai.com"), Err("denied"));
    let sources = PolicyInputs::clone(&rulebook.sources.load());
    let refused = Rulebook::at_rest(sources, directory.clone()).expect_err("a contradiction");
    assert!(refused[0].to_string().starts_with("rules[blind]: "), "{refused:?}");
    let sees = directory.view().find::<Rule>(&agent.org, "sees").expect("it is stored").id.clone();
    directory.remove::<Rule>(&agent.org, &sees, ManagedBy::Store).await.expect("it is removed");
    rulebook.rebuild().await.expect("it compiles");
    assert!(is_tunnelled(&rulebook.current(), &agent));
}

#[tokio::test]
async fn stored_rules_without_hosts_above_the_limit_stay_in_force() {
    let (directory, rulebook, agent) = live(Vec::new()).await;
    let hostless = |name: String, method: &str| RuleSpec {
        action: Some(ActionKind::Deny),
        methods: vec![method.to_owned()],
        ..text(&name, &[])
    };
    let rules = (0..10).map(|n| hostless(format!("put-{n}"), "PUT"));
    add(&directory, &agent.org, rules.chain([hostless("get".to_owned(), "GET")])).await;
    rulebook.rebuild().await.expect("it compiles");
    let sources = PolicyInputs::clone(&rulebook.sources.load());
    let started = Rulebook::new(sources, directory.clone()).expect("it starts");
    for rulebook in [&*rulebook, &started] {
        assert_eq!(code(&rulebook.current(), &agent, "other.test"), Err("denied"));
    }
}

#[tokio::test(start_paused = true)]
async fn a_change_of_rules_waits_for_that_of_another_replica_and_then_knows_its_rule() {
    let (keyring, rows) = (Arc::new(Keyring::ephemeral()), MemoryReplica::first());
    let open = async |rows: MemoryReplica| {
        let directory = Directory::open(Arc::new(rows), keyring.clone(), Clock::System).await;
        let directory = Arc::new(directory.expect("a directory"));
        let sources = PolicyInputs::clone(&sources(Vec::new()));
        (directory.clone(), Rulebook::new(sources, directory).expect("a rulebook"))
    };
    let (one, of_one) = open(rows.another()).await;
    let (other, of_other) = open(rows).await;
    let follower = other.clone();
    let following = tokio::spawn(async move { follower.follow(&|_, _| {}).await });
    let (org, [tunnel, sees]) = (OrgId::default_org(), contradicting());
    let turn = of_one.change_rules(&org).await.expect("a turn");
    let mut waiting = std::pin::pin!(of_other.change_rules(&org));
    let early = tokio::time::timeout(Duration::from_secs(1), waiting.as_mut()).await;
    assert!(early.is_err(), "the other replica is changing rules");
    add(&one, &org, [sees]).await;
    drop(turn);
    let turn = waiting.await.expect("its turn");
    let mut rules = other.view().rules_in_order(&org);
    assert_eq!(rules.iter().map(|rule| rule.name()).collect::<Vec<_>>(), ["sees"]);
    let tunnel = stored(tunnel, 9);
    rules.push(tunnel.clone());
    let refused = turn.check(&org, &rules, Some(&*tunnel)).expect_err("a contradiction");
    assert!(refused[0].to_string().contains("`store:blind` tunnels hosts"), "{refused:?}");
    following.abort();
}

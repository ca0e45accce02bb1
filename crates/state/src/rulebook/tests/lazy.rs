//! Data that is derived on demand, and how long it is kept.

use super::*;
use keyward_base::shared_map;

/// Whether a refusal for the host reaches the agent inside TLS.
fn is_known(policy: &Policy, agent: &Agent, host: &str) -> bool {
    let target = Target::parse(Scheme::Https, host).expect(host);
    matches!(policy.route(agent, &target), Route::Intercept(_))
}

#[tokio::test]
async fn a_host_from_a_connection_variable_is_known_while_the_connection_has_it() {
    let (directory, rulebook, agent) = live(Vec::new()).await;
    let settled = || async {
        rulebook.rebuild().await.expect("it compiles");
        is_known(&rulebook.current(), &agent, "s1.myshopify.com")
    };
    assert!(!settled().await);
    let mut samples = Samples::new();
    let (org, id) = (&agent.org, samples.connection("shop", "shopify"));
    let mut record = samples.connections.remove(0);
    record.variables.insert("shop".to_owned(), "s1".to_owned());
    directory.add_record(record).await.expect("a connection");
    assert!(settled().await, "no agent needs a binding");
    let sources = rulebook.sources.load_full();
    let compiled = CompiledPolicy::strictly(&sources, directory.view()).expect("a policy");
    assert!(is_known(&compiled.policy(), &agent, "s1.myshopify.com"), "nor a change");
    let other = |it: &mut ConnectionRecord| drop(it.variables.insert("shop".into(), "s2".into()));
    directory.change::<Connection>(org, &id, other).await.expect("it is changed");
    assert!(!settled().await);
    assert!(is_known(&rulebook.current(), &agent, "s2.myshopify.com"));
    directory.remove::<Connection>(org, &id, ManagedBy::Store).await.expect("it is removed");
    assert!(!settled().await && !is_known(&rulebook.current(), &agent, "s2.myshopify.com"));
}

#[tokio::test]
async fn dropped_bindings_of_an_idle_agent_are_compiled_again_from_the_current_state() {
    let (directory, rulebook, agent) = live(Vec::new()).await;
    let id = bind_work(&directory, &agent).await;
    rulebook.rebuild().await.expect("it compiles");
    let ask = || code(&rulebook.current(), &agent, "api.openai.com");
    assert_eq!(rulebook.drop_idle(), 0, "nothing is compiled before a request");
    assert_eq!(ask(), Ok(format!("binding:{id}")));
    assert_eq!((rulebook.drop_idle(), rulebook.drop_idle(), rulebook.drop_idle()), (0, 1, 0));
    let pause = |record: &mut ConnectionRecord| record.facts.state = ConnectionState::Paused;
    directory.change::<Connection>(&agent.org, &id, pause).await.expect("it is paused");
    rulebook.rebuild().await.expect("it compiles");
    assert_eq!(ask(), Err("connection_paused"));
}

#[tokio::test]
async fn no_policy_keeps_the_records_of_an_older_view() {
    let (directory, rulebook, agent) = live(Vec::new()).await;
    bind_work(&directory, &agent).await;
    rulebook.rebuild().await.expect("it compiles");
    assert!(code(&rulebook.current(), &agent, "api.openai.com").is_ok());
    let old = Arc::downgrade(&directory.view());
    // A connection that no policy depends on.
    let other = Samples::new().made("unbound", "github");
    directory.add_record(other).await.expect("a connection");
    rulebook.rebuild().await.expect("it compiles");
    assert_eq!(old.strong_count(), 0);
}

/// A list of rules names the warnings of each of them.
#[tokio::test]
async fn the_connections_are_read_once_for_the_warnings_of_many_rules() {
    let (directory, rulebook, agent) = live(Vec::new()).await;
    bind_work(&directory, &agent).await;
    let read = |rules: usize| {
        let deny = RuleSpec { action: Some(ActionKind::Deny), ..text("no", &["db.example.com"]) };
        let (found, read) =
            shared_map::count(|| rulebook.warnings(&agent.org, &vec![&deny; rules]));
        assert_eq!(found, vec![Vec::new(); rules]);
        read
    };
    assert_eq!(read(20), read(1));
}

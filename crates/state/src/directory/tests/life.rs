//! Agents, tokens, connections and bindings as their owners use them.

use super::*;
use crate::crypto::token::TokenHash;
use keyward_base::shared_map;
use keyward_model::{AGENT_TOKENS_MAX, TokenSpec};

fn chosen(text: &str) -> Option<Secret> {
    Some(Secret::from(text.to_owned()))
}

#[tokio::test]
async fn an_unknown_or_revoked_token_does_not_authenticate() {
    let (world, agent) = World::with_agent().await;
    let (id, token) = world.token(&agent.id).await;
    let view = world.directory.view();
    assert!(view.authenticate("", world.now()).is_none());
    assert!(view.authenticate("kwa_unknown", world.now()).is_none());
    assert!(view.authenticate(&token.to_lowercase(), world.now()).is_none());
    let held = view.authenticate(&token, world.now()).unwrap();
    assert_eq!((&held.id, &*held.name, &held.token), (&agent.id, "ci", &Some(id.clone())));
    world.directory.revoke_token(&world.org, &agent.id, &id).await.unwrap();
    let view = world.directory.view();
    assert!(view.authenticate(&token, world.now()).is_none());
    assert!(!view.is_still_authenticated(&held, world.now()));
}

#[tokio::test]
async fn a_token_expires_at_its_time_and_is_forgotten_a_day_later() {
    let (world, agent) = World::with_agent().await;
    let expires = Some(world.now() + jiff::SignedDuration::from_secs(60));
    let add = |expires| world.directory.add_token(&world.org, &agent.id, None, expires, None);
    let (_, token) = world.token_until(&agent.id, expires).await;
    world.pass(59);
    let view = world.directory.view();
    let held = view.authenticate(&token, world.now()).unwrap();
    assert!(view.is_still_authenticated(&held, world.now()));
    world.pass(1);
    assert!(view.authenticate(&token, world.now()).is_none());
    assert!(!view.is_still_authenticated(&held, world.now()));
    assert!(matches!(add(expires).await, Err(DirectoryError::TokenExpired)));
    let kept = async || {
        let tokens =
            world.directory.view().agent(&world.org, &agent.id).unwrap().facts.tokens.len();
        (tokens, world.rows(Table::Tokens).await.len())
    };
    world.pass(86_399);
    add(None).await.unwrap();
    assert_eq!(kept().await, (2, 2));
    assert!(world.directory.view().authenticate(&token, world.now()).is_none());
    world.pass(1);
    add(None).await.unwrap();
    assert_eq!(kept().await, (2, 2), "both without an end");
}

#[tokio::test]
async fn a_check_of_an_agent_looks_up_its_organisation_once() {
    let (world, agent) = World::with_agent().await;
    let (_, token) = world.token(&agent.id).await;
    let view = world.directory.view();
    let held = view.authenticate(&token, world.now()).unwrap();
    let (holds, looked) = shared_map::count(|| view.is_still_authenticated(&held, world.now()));
    assert!(holds && looked == 2, "{looked}");
}

#[tokio::test]
async fn a_token_that_expired_while_the_machine_slept_is_renewed_also_after_another_was_added() {
    let (world, agent) = World::with_agent().await;
    let in_two_minutes = || world.now() + jiff::SignedDuration::from_secs(120);
    let (id, token) = world.token_until(&agent.id, Some(in_two_minutes())).await;
    world.pass(130);
    world.token_until(&agent.id, Some(in_two_minutes())).await;
    assert!(world.directory.view().authenticate(&token, world.now()).is_none());
    world.directory.renew_token(&world.org, &agent.id, &id, in_two_minutes()).await.unwrap();
    assert!(world.directory.view().authenticate(&token, world.now()).is_some());
}

#[tokio::test]
async fn expired_tokens_leave_room_for_others() {
    let world = World::new().await;
    let soon = world.now() + jiff::SignedDuration::from_secs(60);
    let token = |number: usize| TokenRecord {
        id: TokenId::random(),
        hash: TokenHash::of(&number.to_string()).to_hex(),
        spec: TokenSpec { label: None },
        created: world.now(),
        expires: Some(soon),
        managed_by: ManagedBy::Store,
    };
    let tokens = (0..AGENT_TOKENS_MAX).map(token).collect();
    let facts = AgentFacts { tokens, ..AgentFacts::default() };
    let agent = world.add::<Agent>(AgentSpec::named("ci"), facts).await;
    let id = agent.unwrap().id.clone();
    let add = || world.directory.add_token(&world.org, &id, None, None, None);
    assert!(matches!(add().await, Err(DirectoryError::TooMany { .. })));
    world.pass(60);
    add().await.unwrap();
    let kept = world.directory.view().agent(&world.org, &id).unwrap().facts.tokens.len();
    assert_eq!(kept, 1);
}

#[tokio::test]
async fn a_renewed_token_stays_valid_and_a_token_without_expiry_is_not_renewed() {
    let (world, agent) = World::with_agent().await;
    let soon = world.now() + jiff::SignedDuration::from_secs(60);
    let later = soon + jiff::SignedDuration::from_secs(60);
    let (id, token) = world.token_until(&agent.id, Some(soon)).await;
    let (endless, _) = world.token(&agent.id).await;
    let renew = |id| world.directory.renew_token(&world.org, &agent.id, id, later);
    assert!(matches!(renew(&endless).await, Err(DirectoryError::NotFound { .. })));
    renew(&id).await.unwrap();
    world.pass(61);
    assert!(world.directory.view().authenticate(&token, world.now()).is_some());
    world.directory.revoke_token(&world.org, &agent.id, &id).await.unwrap();
    assert!(matches!(renew(&id).await, Err(DirectoryError::NotFound { .. })));
}

#[tokio::test]
async fn an_issued_token_is_kept_as_its_hash() {
    let (world, agent) = World::with_agent().await;
    let label = Some("laptop".to_owned());
    let add = world.directory.add_token(&world.org, &agent.id, label, None, None);
    let issued = add.await.unwrap();
    let view = world.directory.view();
    let kept = &view.agent(&world.org, &agent.id).unwrap().facts.tokens[0];
    assert_eq!(kept.hash, TokenHash::of_secret(&issued.text).to_hex());
    assert_eq!((&kept.id, kept.spec.label.as_deref()), (&issued.id, Some("laptop")));
    assert_eq!(format!("{:?}", issued.text), "Secret(…)");
}

#[tokio::test]
async fn weak_and_taken_tokens_are_refused() {
    let world = World::new().await;
    let (one, two) = (world.agent("one").await, world.agent("two").await);
    let add = |agent: &AgentId, token| {
        let agent = agent.clone();
        let (directory, org) = (&world.directory, &world.org);
        async move { directory.add_token(org, &agent, None, None, chosen(token)).await }
    };
    assert!(matches!(add(&one.id, "too-short").await, Err(DirectoryError::TokenRefused)));
    assert!(matches!(
        add(&one.id, "has blanks in the middle").await,
        Err(DirectoryError::TokenRefused)
    ));
    add(&one.id, "twenty-characters-ok").await.unwrap();
    for agent in [&one.id, &two.id] {
        assert!(matches!(
            add(agent, "twenty-characters-ok").await,
            Err(DirectoryError::TokenTaken)
        ));
    }
    let view = world.directory.view();
    assert_eq!(view.authenticate("twenty-characters-ok", world.now()).unwrap().id, one.id);
    world.remove::<Agent>(&one.id).await.unwrap();
    add(&two.id, "twenty-characters-ok").await.unwrap();
}

#[tokio::test]
async fn a_token_taken_in_one_org_is_taken_in_all() {
    let world = World::new().await;
    let other = world.other_org().await;
    let ours = world.agent("ci").await;
    let theirs = add_agent(&world.directory, &other, "ci").await.unwrap();
    let token = || chosen("twenty-characters-ok");
    world.directory.add_token(&world.org, &ours.id, None, None, token()).await.unwrap();
    let refused = world.directory.add_token(&other, &theirs.id, None, None, token()).await;
    assert!(matches!(refused, Err(DirectoryError::TokenTaken)));
}

#[tokio::test]
async fn names_are_unique_in_their_org_and_kind_only() {
    let world = World::new().await;
    world.agent("ci").await;
    let refused = add_agent(&world.directory, &world.org, "ci").await.unwrap_err();
    assert_eq!(refused.to_string(), "agent `ci` exists already: choose another name");
    add_agent(&world.directory, &world.other_org().await, "ci").await.unwrap();
    world.connection("ci").await;
    let taken = connection(&world.org, "ci", world.now());
    assert!(matches!(
        world.directory.add_record(taken).await,
        Err(DirectoryError::NameTaken { what: "connection", .. })
    ));
    assert!(add_agent(&world.directory, &world.org, "agt_1").await.is_err());
}

#[tokio::test]
async fn a_removed_agents_name_is_free_again_and_nothing_of_it_stays() {
    let (world, agent) = World::with_agent().await;
    world.token(&agent.id).await;
    world.remove::<Agent>(&agent.id).await.unwrap();
    let again = world.remove::<Agent>(&agent.id).await;
    assert!(matches!(again, Err(DirectoryError::NotFound { .. })));
    assert_eq!(world.all_rows().await.len(), 1, "the sentinel");
    world.agent("ci").await;
}

/// Another replica has removed the agent and added one of the same name with the same token, and its changes are read in
/// any order.
#[tokio::test]
async fn an_agent_that_replaces_another_is_found_by_name_and_token_in_any_order_of_the_changes() {
    let world = World::new().await;
    let (org, text) = (&world.org, "twenty-characters-ok");
    let add = async || {
        let agent = world.agent("ci").await;
        let token = world.directory.add_token(org, &agent.id, None, None, chosen(text));
        token.await.unwrap();
        world.directory.view().agent(org, &agent.id).unwrap().clone()
    };
    let old = add().await;
    world.remove::<Agent>(&old.id).await.unwrap();
    let new = add().await;
    for order in [[&old, &new], [&new, &old]] {
        let mut view = View::of(order.map(Arc::clone), []);
        view.take_out::<Agent>(org, &old.id);
        assert_eq!(view.find_agent(org, "ci"), Some(&new));
        let held = view.authenticate(text, world.now()).map(|agent| agent.id);
        assert_eq!(held.as_ref(), Some(&new.id));
        view.take_out::<Agent>(org, &new.id);
        assert!(view.find_agent(org, "ci").is_none());
        assert!(view.authenticate(text, world.now()).is_none());
    }
}

#[tokio::test]
async fn resources_of_another_org_do_not_exist() {
    let world = World::new().await;
    let other = OrgId::random();
    let (agent, connection) = (world.agent("ci").await, world.connection("gh").await);
    let view = world.directory.view();
    assert!(view.agent(&other, &agent.id).is_none());
    assert!(view.find_agent(&other, "ci").is_none());
    assert!(view.find_connection(&other, connection.id.as_str()).is_none());
    let not_found = |result: Result<(), DirectoryError>| {
        assert!(matches!(result, Err(DirectoryError::NotFound { .. })));
    };
    let directory = &world.directory;
    not_found(directory.remove::<Agent>(&other, &agent.id, ManagedBy::Store).await);
    not_found(directory.remove::<Connection>(&other, &connection.id, ManagedBy::Store).await);
    not_found(directory.add_token(&other, &agent.id, None, None, None).await.map(drop));
    let none = BTreeMap::new();
    let by = ManagedBy::Store;
    not_found(directory.bind(&other, &agent.id, &connection.id, none, by).await.map(drop));
    not_found(directory.change::<Connection>(&other, &connection.id, |_| {}).await.map(drop));
}

#[tokio::test]
async fn an_agent_and_a_connection_of_different_environments_are_never_bound() {
    let world = World::new().await;
    let spec = AgentSpec { environment: Some("dev".into()), ..AgentSpec::named("dev") };
    let agent = world.add::<Agent>(spec, AgentFacts::default()).await.unwrap();
    let mut record = connection(&world.org, "prod", world.now());
    record.environment = Some("production".into());
    let prod = world.directory.add_record(record).await.unwrap();
    let bind =
        world.directory.bind(&world.org, &agent.id, &prod.id, BTreeMap::new(), ManagedBy::Store);
    assert!(matches!(bind.await, Err(DirectoryError::EnvironmentMismatch { .. })));
    let anywhere = world.connection("anywhere").await;
    world.bind(&agent.id, &anywhere.id).await;
    let move_to = |environment: &'static str| {
        world.change::<Connection>(&anywhere.id, |it| it.environment = Some(environment.into()))
    };
    assert!(matches!(move_to("staging").await, Err(DirectoryError::EnvironmentMismatch { .. })));
    move_to("dev").await.unwrap();
    let relabel = |environment: &str| {
        let environment = Some(environment.to_owned());
        let change = move |it: &mut AgentRecord| it.spec.environment.clone_from(&environment);
        world.change::<Agent>(&agent.id, change)
    };
    assert!(matches!(relabel("staging").await, Err(DirectoryError::EnvironmentMismatch { .. })));
    relabel("dev").await.unwrap();
}

#[tokio::test]
async fn a_binding_keeps_its_placeholders_and_is_removed_with_its_connection() {
    let world = World::new().await;
    let (agent, connection) = (world.agent("ci").await, world.connection("gh").await);
    let first = world.bind(&agent.id, &connection.id).await;
    let bind = world.directory.bind(
        &world.org,
        &agent.id,
        &connection.id,
        placeholders("two"),
        ManagedBy::Store,
    );
    assert_eq!(bind.await.unwrap(), first, "programs hold its placeholders");
    let bound = |directory: &Directory| {
        directory.view().agent(&world.org, &agent.id).unwrap().facts.bindings.clone()
    };
    assert_eq!(bound(&world.reopen().await.unwrap()), [first]);
    world.remove::<Connection>(&connection.id).await.unwrap();
    assert!(bound(&world.directory).is_empty());
    let unbind = world.directory.unbind(&world.org, &agent.id, &connection.id).await;
    assert!(matches!(unbind, Err(DirectoryError::NotFound { what: "binding", .. })));
    let bind = world.directory.bind(
        &world.org,
        &agent.id,
        &connection.id,
        BTreeMap::new(),
        ManagedBy::Store,
    );
    assert!(matches!(bind.await, Err(DirectoryError::NotFound { what: "connection", .. })));
}

#[tokio::test]
async fn a_renamed_connection_is_found_by_its_new_name_alone_and_the_old_one_is_free() {
    let world = World::new().await;
    let (one, two) = (world.connection("one").await, world.connection("two").await);
    let rename = async |to: &'static str| {
        let change = |it: &mut ConnectionRecord| it.name = to.into();
        world.change::<Connection>(&one.id, change).await
    };
    assert!(matches!(rename("two").await, Err(DirectoryError::NameTaken { .. })));
    assert!(
        matches!(rename("con_x").await, Err(DirectoryError::Refused(it)) if it.field == "name")
    );
    rename("three").await.unwrap();
    for view in [world.directory.view(), world.reopen().await.unwrap().view()] {
        assert!(view.find_connection(&world.org, "one").is_none());
        let found = |name: &str| view.find_connection(&world.org, name).map(|it| it.id.clone());
        assert_eq!((found("three"), found("two")), (Some(one.id.clone()), Some(two.id.clone())));
    }
    world.connection("one").await;
}

#[tokio::test]
async fn fixed_fields_of_a_connection_cannot_be_changed() {
    let world = World::new().await;
    let connection = world.connection("gh").await;
    let change = |it: &mut ConnectionRecord| it.provider = "stripe".into();
    let refused = world.change::<Connection>(&connection.id, change).await;
    assert!(matches!(refused, Err(DirectoryError::Refused(it)) if it.field == "provider"));
    let change = |it: &mut ConnectionRecord| {
        (it.id, it.org) = (ConnectionId::random(), OrgId::random());
    };
    let kept = world.change::<Connection>(&connection.id, change).await.unwrap();
    assert_eq!((&kept.id, &kept.org), (&connection.id, &world.org));
    world.pass(1);
    let reason = BrokenReason::Revoked;
    let broken = ConnectionState::Broken { reason, detail: None };
    let breaks = |it: &mut ConnectionRecord| it.facts.state = broken.clone();
    let updated = world.change::<Connection>(&connection.id, breaks).await.unwrap();
    assert_eq!((&updated.facts.state, updated.updated), (&broken, Some(world.now())));
    let unpaused = world.set_paused(&connection.id, false).await.unwrap();
    assert_eq!(unpaused.facts.state, broken, "ending a pause mends nothing");
    assert_eq!(world.reopen().await.unwrap().view().connections().count(), 1);
}

#[tokio::test]
async fn a_watcher_finds_the_change_in_the_view() {
    let (world, agent) = World::with_agent().await;
    let mut changes = world.directory.changes();
    changes.mark_unchanged();
    let (id, token) = world.token(&agent.id).await;
    assert!(changes.has_changed().unwrap());
    let before = *changes.borrow_and_update();
    let revoke = world.directory.revoke_token(&world.org, &agent.id, &id);
    let watch = async {
        changes.changed().await.unwrap();
        world.directory.view().authenticate(&token, world.now())
    };
    let (revoked, found) = tokio::join!(revoke, watch);
    revoked.unwrap();
    assert!(found.is_none());
    assert_eq!(*world.directory.changes().borrow(), before + 1);
}

#[tokio::test]
async fn the_store_and_the_view_agree_after_a_caller_was_dropped() {
    for polls in 0..12 {
        let (world, agent) = World::with_agent().await;
        let (id, token) = world.token(&agent.id).await;
        let mut revoke = Box::pin(world.directory.revoke_token(&world.org, &agent.id, &id));
        for _ in 0..polls {
            if futures_util::poll!(revoke.as_mut()).is_ready() {
                break;
            }
        }
        drop(revoke);
        // The next writer waits for the write lock, so the abandoned write has ended.
        world.agent("next").await;
        let stored = world.reopen().await.unwrap().view().authenticate(&token, world.now());
        assert_eq!(world.directory.view().authenticate(&token, world.now()), stored);
    }
}

#[tokio::test]
async fn concurrent_writers_lose_nothing() {
    let (world, agent) = World::with_agent().await;
    let names: Vec<_> = (0..50).map(|n| format!("c{n}")).collect();
    let added = names.iter().map(|name| async {
        let connection = world.connection(name).await;
        world.bind(&agent.id, &connection.id).await;
        world.token(&agent.id).await;
    });
    futures_util::future::join_all(added).await;
    for view in [world.directory.view(), world.reopen().await.unwrap().view()] {
        let agent = view.find_agent(&world.org, "ci").unwrap();
        assert_eq!((agent.facts.bindings.len(), agent.facts.tokens.len()), (50, 50));
        assert_eq!(view.connections().count(), 50);
    }
}

#[tokio::test]
async fn connections_are_counted_by_state_through_every_change_and_a_restart() {
    let world = World::new().await;
    let count = |directory: &Directory| {
        let view = directory.view();
        ["draft", "active", "paused", "broken"].map(|state| view.connections_in_state(state))
    };
    assert_eq!(count(&world.directory), [0, 0, 0, 0]);
    let first = world.connection("first").await;
    let second = world.connection("second").await;
    let other = connection(&world.other_org().await, "elsewhere", world.now());
    world.directory.add_record(other).await.unwrap();
    assert_eq!(count(&world.directory), [0, 3, 0, 0]);
    world.set_paused(&first.id, true).await.unwrap();
    assert_eq!(count(&world.directory), [0, 2, 1, 0]);
    assert_eq!(count(&world.reopen().await.unwrap()), [0, 2, 1, 0]);
    world.remove::<Connection>(&second.id).await.unwrap();
    world.set_paused(&first.id, false).await.unwrap();
    assert_eq!(count(&world.directory), [0, 2, 0, 0]);
}

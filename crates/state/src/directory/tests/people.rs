//! Organisations, people and their tokens: identity, ownership, and removal.

use std::collections::BTreeSet;

use super::*;
use crate::store::memory::MemoryReplica;
use keyward_base::database::DatabaseProtocol;
use keyward_model::{
    DatabaseListener, DatabaseListenerSpec, Honeytoken, HoneytokenFacts, HoneytokenSpec, Hook,
    HookFacts, HookSpec, ListenerPlace, NoMembers, PersonalTokenSpec, Record, Role, Rule,
    RuleFacts, RuleSpec, Scope, User, UserFacts, UserSpec, Webhook, WebhookFacts, WebhookSpec,
};
use keyward_rules::policy::explain::ActionKind;

async fn user(world: &World, name: &str, email: Option<&str>) -> Arc<Record<User>> {
    add(&world.directory, name, email).await.unwrap()
}

async fn add(
    directory: &Directory,
    name: &str,
    email: Option<&str>,
) -> Result<Arc<Record<User>>, DirectoryError> {
    let (name, email) = (name.to_owned(), email.map(str::to_owned));
    let spec = UserSpec { name, email, role: Role::Member, paused: false };
    let org = OrgId::default_org();
    directory.add::<User>(&org, ManagedBy::Store, spec, UserFacts::default()).await
}

async fn token(
    world: &World,
    user: &Record<User>,
    expires: Option<Timestamp>,
) -> (TokenId, String) {
    let spec = PersonalTokenSpec { label: None, scopes: vec![Scope::Read] };
    let made = world.directory.add_personal_token(&user.org, &user.id, spec, expires);
    let made = made.await.unwrap();
    (made.id, made.text.expose_text().unwrap().to_owned())
}

#[tokio::test]
async fn a_personal_token_authenticates_until_it_expires_or_its_owner_is_paused() {
    let world = World::new().await;
    let ann = user(&world, "ann", None).await;
    let (first, text) = token(&world, &ann, None).await;
    let soon = world.now() + jiff::SignedDuration::from_secs(60);
    let (_, short) = token(&world, &ann, Some(soon)).await;
    let view = world.directory.view();
    assert!(
        view.person(&text, world.now()).is_some() && view.person(&short, world.now()).is_some()
    );
    assert!(view.authenticate(&text, world.now()).is_none(), "it is no agent's");
    let reopened = world.reopen().await.unwrap().view();
    let person = reopened.person(&text, world.now()).unwrap();
    assert_eq!((&person.user.name, &person.scopes[..]), (&"ann".to_owned(), &[Scope::Read][..]));
    world.pass(60);
    assert!(view.person(&short, world.now()).is_none());
    let set = |paused| move |user: &mut Record<User>| user.paused = paused;
    world.change(&ann.id, set(true)).await.unwrap();
    assert!(world.directory.view().person(&text, world.now()).is_none());
    world.change(&ann.id, set(false)).await.unwrap();
    assert!(world.directory.view().person(&text, world.now()).is_some());
    world.directory.revoke_personal_token(&world.org, &ann.id, &first).await.unwrap();
    assert!(world.directory.view().person(&text, world.now()).is_none());
    assert!(world.reopen().await.unwrap().view().person(&text, world.now()).is_none());
}

#[tokio::test]
async fn names_and_email_addresses_are_unique_and_free_after_removal_or_change() {
    let world = World::new().await;
    let ann = user(&world, "ann", Some("Ann@a.test")).await;
    let add = |name, email| add(&world.directory, name, Some(email));
    for (name, email) in [("ann", "other@a.test"), ("bob", "ann@A.test")] {
        let refused = add(name, email).await.unwrap_err();
        assert!(matches!(refused, DirectoryError::NameTaken { .. }), "{refused}");
    }
    for bad in ["ann", "@a.test", "ann@", "a b@a.test", "a@b@c"] {
        assert!(matches!(add("bob", bad).await, Err(DirectoryError::Refused(_))), "{bad}");
    }
    token(&world, &ann, None).await;
    world.remove::<User>(&ann.id).await.unwrap();
    assert_eq!(world.all_rows().await.len(), 1, "the sentinel");
    add("ann", "ann@a.test").await.unwrap();
    let moved = |user: &mut Record<User>| user.email = Some("new@a.test".into());
    let ann = world.directory.view().find::<User>(&world.org, "ann").cloned().unwrap();
    world.change(&ann.id, moved).await.unwrap();
    add("bob", "ann@a.test").await.unwrap();
    let rename = |user: &mut Record<User>| user.name = "bob".into();
    let refused = world.change(&ann.id, rename).await;
    assert!(matches!(refused, Err(DirectoryError::Refused(_))));
}

#[tokio::test]
async fn index_rows_of_people_are_repaired_at_the_next_start() {
    let world = World::new().await;
    let ann = user(&world, "ann", Some("ann@a.test")).await;
    let (_, text) = token(&world, &ann, None).await;
    for table in [Table::Names, Table::Tokens] {
        for row in world.rows(table).await {
            world.store.delete(table, &row.key, Expect::Any).await.unwrap();
        }
    }
    let again = world.reopen().await.unwrap();
    assert!(again.view().person(&text, world.now()).is_some());
    assert_eq!(
        (world.rows(Table::Names).await.len(), world.rows(Table::Tokens).await.len()),
        (2, 1)
    );
    let taken = add(&again, "ann", None).await;
    assert!(matches!(taken, Err(DirectoryError::NameTaken { .. })));
}

#[tokio::test]
async fn a_private_connection_is_bound_to_agents_of_its_owner_only() {
    let world = World::new().await;
    let (ann, bob) = (user(&world, "ann", None).await, user(&world, "bob", None).await);
    let agent = |name: &str, owner: &Record<User>| {
        let owner = Some(owner.id.clone());
        world.add::<Agent>(AgentSpec::named(name), AgentFacts { owner, ..AgentFacts::default() })
    };
    let (anns, bobs) = (agent("a", &ann).await.unwrap(), agent("b", &bob).await.unwrap());
    let mut record = connection(&world.org, "gh", world.now());
    record.facts.visibility = Visibility::Private;
    let nobodys = world.directory.add_record(record.clone()).await;
    assert!(matches!(nobodys, Err(DirectoryError::PrivateWithoutOwner(_))));
    record.facts.owner = Some(ann.id.clone());
    let private = world.directory.add_record(record).await.unwrap();
    world.bind(&anns.id, &private.id).await;
    let by = ManagedBy::Store;
    let across = world.directory.bind(&world.org, &bobs.id, &private.id, placeholders("x"), by);
    assert!(matches!(across.await, Err(DirectoryError::Private { .. })));
    let give = |record: &mut AgentRecord| record.facts.owner = Some(bob.id.clone());
    let given = world.change::<Agent>(&anns.id, give).await;
    assert!(matches!(given, Err(DirectoryError::Private { .. })));
    let give = |record: &mut ConnectionRecord| record.facts.owner = Some(bob.id.clone());
    let given = world.change::<Connection>(&private.id, give).await;
    assert!(matches!(given, Err(DirectoryError::Private { .. })));
    let owns = world.remove::<User>(&ann.id).await;
    assert!(matches!(owns, Err(DirectoryError::UserOwns { .. })));
}

/// A webhook that receives all events.
fn webhook() -> (WebhookSpec, WebhookFacts) {
    let (name, url) = ("ops".to_owned(), "https://ops.example.com/".to_owned());
    let spec = WebhookSpec { name, url, events: BTreeSet::new() };
    (spec, WebhookFacts::active())
}

/// Adds a resource to an organisation, and removes it. In between, the organisation cannot be removed.
async fn prevents_removal<R: Stored>(world: &World, org: &OrgId, spec: R::Spec, facts: R::Facts) {
    let made = world.directory.add::<R>(org, ManagedBy::Store, spec, facts).await.unwrap();
    let refused = world.directory.remove_org(org).await.unwrap_err();
    let expected = format!("has {} `{}`", R::KIND.one, made.name());
    assert!(refused.to_string().contains(&expected), "{refused}");
    world.directory.remove::<R>(org, &made.id, ManagedBy::Store).await.unwrap();
}

/// The other replica reads the removal of the organisation before that of its user, because tables are read in order.
#[tokio::test]
async fn the_token_of_a_removed_organisation_is_invalid_at_other_replicas_when_its_name_is_used_again()
 {
    let world = World::new().await;
    let (rows, acme) = (MemoryReplica::first(), OrgId::named("acme").unwrap());
    let one = world.open(rows.another()).await;
    one.add_org(&acme, ManagedBy::Store).await.unwrap();
    let eve = add_user(&one, &acme, "eve", Role::Admin).await.unwrap();
    let issued = one.add_personal_token(&acme, &eve.id, PersonalTokenSpec::default(), None);
    let issued = issued.await.unwrap();
    let token = issued.text.expose_text().unwrap();
    let other = world.open(rows.another()).await;
    assert!(other.view().person(token, world.now()).is_some());
    one.remove::<User>(&acme, &eve.id, ManagedBy::Store).await.unwrap();
    one.remove_org(&acme).await.unwrap();
    let (org_key, user_key) = (format!("{acme}/org"), format!("{acme}/{}", eve.id));
    let writer = other.turn().await.unwrap();
    writer.follow_row(Table::Orgs, &org_key).await.unwrap();
    writer.follow_row(Table::Users, &user_key).await.unwrap();
    assert_eq!(other.view().tokens().count(), 0);
    one.add_org(&acme, ManagedBy::Store).await.unwrap();
    writer.follow_row(Table::Orgs, &org_key).await.unwrap();
    drop(writer);
    assert!(other.view().org(&acme).is_some());
    assert!(other.view().person(token, world.now()).is_none());
}

/// A replica that was away for long reads the rows of all organisations that it knows.
#[tokio::test]
async fn the_default_organisation_which_has_no_row_stays_when_its_row_is_followed() {
    let (world, agent) = World::with_agent().await;
    let (_, token) = world.token(&agent.id).await;
    let writer = world.directory.turn().await.unwrap();
    writer.follow_row(Table::Orgs, &format!("{}/org", world.org)).await.unwrap();
    drop(writer);
    let view = world.directory.view();
    assert!(view.org(&world.org).is_some());
    assert_eq!(
        view.authenticate(&token, world.now()).map(|agent| agent.id),
        Some(agent.id.clone())
    );
}

#[tokio::test]
async fn an_organisation_is_not_removed_with_webhooks_hooks_honeytokens_or_listeners() {
    let world = World::new().await;
    let other = world.other_org().await;
    let (spec, facts) = webhook();
    prevents_removal::<Webhook>(&world, &other, spec, facts).await;
    let spec = HookSpec {
        name: "in".to_owned(),
        scheme: Some("github".to_owned()),
        ..HookSpec::default()
    };
    prevents_removal::<Hook>(&world, &other, spec, HookFacts::default()).await;
    let spec = HoneytokenSpec { name: "bait".to_owned(), provider: None, revokes: false };
    let facts = HoneytokenFacts { placeholder: Placeholder::issue("", None) };
    prevents_removal::<Honeytoken>(&world, &other, spec, facts).await;
    let spec = DatabaseListenerSpec {
        name: "local".to_owned(),
        at: ListenerPlace::Socket(".s.PGSQL.5432".to_owned()),
        protocol: DatabaseProtocol::default(),
        server_version: None,
        connection: None,
        agent: None,
    };
    prevents_removal::<DatabaseListener>(&world, &other, spec, NoMembers {}).await;
    world.directory.remove_org(&other).await.unwrap();
    world.reopen().await.unwrap();
    assert_eq!(world.all_rows().await.len(), 1, "the sentinel");
}

#[tokio::test]
async fn leftovers_of_a_removed_organisation_are_deleted_and_a_lost_one_keeps_its_records() {
    let world = World::new().await;
    let other = world.other_org().await;
    let add = async || {
        let (spec, facts) = webhook();
        world.directory.add::<Webhook>(&other, ManagedBy::Store, spec, facts).await.unwrap()
    };
    let forget = async || {
        let row = format!("{other}/org");
        world.store.delete(Table::Orgs, &row, Expect::Any).await.unwrap();
    };
    add().await;
    // Earlier versions removed an organisation that had a webhook.
    forget().await;
    let store: Arc<dyn Store> = world.store.clone();
    let check = StoreCheck::run(&store, &world.keyring, &|_, _| Ok(())).await.unwrap();
    let kinds: Vec<_> = check.faults.iter().map(|fault| fault.kind).collect();
    assert_eq!(kinds, [FaultKind::Leftover; 2], "the webhook and its name");
    let later = world.reopen().await.unwrap();
    assert_eq!(world.all_rows().await.len(), 1, "the sentinel");
    later.add_org(&other, ManagedBy::Store).await.unwrap();
    let view = world.reopen().await.unwrap().view();
    assert!(view.all::<Webhook>(&other).next().is_none(), "the next tenant has none");
    // The row of an organisation that has an agent was lost.
    add().await;
    add_agent(&world.directory, &other, "ci").await.unwrap();
    forget().await;
    let view = world.reopen().await.unwrap().view();
    assert!(view.find::<Webhook>(&other, "ops").is_some());
}

#[tokio::test]
async fn keys_and_events_that_a_removed_organisation_left_are_deleted() {
    let world = World::new().await;
    let (other, by) = (world.other_org().await, ManagedBy::Store);
    let (spec, facts) = webhook();
    let webhook = world.directory.add::<Webhook>(&other, by, spec, facts).await.unwrap();
    let scheme = Some("github".to_owned());
    let spec = HookSpec { name: "in".to_owned(), scheme, ..HookSpec::default() };
    let facts = HookFacts::default();
    let hook = world.directory.add::<Hook>(&other, by, spec, facts).await.unwrap();
    for (table, key) in [
        (Table::WebhookKeys, format!("{other}/{}", webhook.id)),
        (Table::HookKeys, format!("{other}/{}", hook.id)),
        (Table::HookEvents, format!("{other}/{}.first", hook.id)),
        (Table::HookEvents, format!("{other}/{}.second", hook.id)),
    ] {
        world.store.put(table, &key, b"sealed", Expect::Absent).await.unwrap();
    }
    world.store.delete(Table::Orgs, &format!("{other}/org"), Expect::Any).await.unwrap();
    world.reopen().await.unwrap();
    let left: Vec<_> =
        world.all_rows().await.into_iter().map(|(table, row)| (table, row.key)).collect();
    assert_eq!(left.len(), 1, "the sentinel: {left:?}");
}

#[tokio::test]
async fn an_organisation_that_has_rules_and_lost_its_row_keeps_its_webhooks() {
    let world = World::new().await;
    let (other, by) = (world.other_org().await, ManagedBy::Store);
    let (spec, facts) = webhook();
    world.directory.add::<Webhook>(&other, by, spec, facts).await.unwrap();
    let action = Some(ActionKind::Deny);
    let spec = RuleSpec { name: Some("no".to_owned()), action, ..RuleSpec::default() };
    world.directory.add::<Rule>(&other, by, spec, RuleFacts::at(0)).await.unwrap();
    world.store.delete(Table::Orgs, &format!("{other}/org"), Expect::Any).await.unwrap();
    let view = world.reopen().await.unwrap().view();
    assert!(view.find::<Webhook>(&other, "ops").is_some());
}

#[tokio::test]
async fn only_an_empty_organisation_is_removed_and_a_missing_one_gets_no_records() {
    let world = World::new().await;
    let nowhere = OrgId::named("nowhere").unwrap();
    let refused = add_agent(&world.directory, &nowhere, "ci").await.unwrap_err();
    assert_eq!(refused.to_string(), "organisation `nowhere` does not exist");
    let other = world.other_org().await;
    assert!(world.directory.add_org(&other, ManagedBy::Store).await.is_err());
    let agent = add_agent(&world.directory, &other, "ci").await.unwrap();
    let full = world.directory.remove_org(&other).await.unwrap_err();
    assert!(full.to_string().contains("has agent `ci`"), "{full}");
    assert!(world.reopen().await.unwrap().view().org(&other).is_some());
    world.directory.remove::<Agent>(&other, &agent.id, ManagedBy::Store).await.unwrap();
    world.directory.remove_org(&other).await.unwrap();
    assert!(world.directory.view().org(&other).is_none());
    assert!(matches!(
        world.directory.remove_org(&OrgId::default_org()).await,
        Err(DirectoryError::OrgIsDefault)
    ));
    assert_eq!(world.all_rows().await.len(), 1, "the sentinel");
}

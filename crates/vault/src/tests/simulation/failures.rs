//! Failures across restarts and replicas, and rejected clients.

use std::time::Duration;

use super::idle::app;
use super::*;
use crate::refresh::cache::{FlightResult, Lookup, Trigger};
use keyward_model::{ManagedBy, TokenOptions};
use keyward_state::directory::{AppRecord, BrokenReason};
use keyward_state::store::RowRange;

const HOUR: u64 = 3_600_000;

fn says(what: What) -> Answer {
    Answer { after: 5, what }
}

/// A stage whose token has expired.
async fn stage(answers: Vec<Answer>) -> (Stage, Arc<World>) {
    let world = World::new(answers);
    let stage = Stage::new(world.clone(), Some(3_600)).await;
    passes(2 * HOUR).await;
    (stage, world)
}

async fn ask(vault: &Vault, connection: &ConnectionRecord) -> Result<u64, VaultError> {
    let credential =
        vault.refresh().credential_in(&connection.org, Some(&wanted(connection))).await;
    assert!(vault.refresh().wait_for_flights(Duration::from_secs(60)).await);
    credential.map(|it| it.expect("it is wanted").generation)
}

fn rest(result: &Result<u64, VaultError>) -> u64 {
    match result.as_ref().expect_err("a pause").root() {
        VaultError::RefreshUnavailable { retry_after, .. } => retry_after.as_secs(),
        error => panic!("{error}"),
    }
}

async fn restarted(stage: &Stage, world: &Arc<World>) -> Vault {
    let vault = open(&stage.store, &stage.keyring, &stage.clock, world).await;
    vault.refresh().resume().await;
    vault
}

fn asked(world: &World) -> usize {
    assert_eq!(*world.wrong.lock(), Vec::<String>::new());
    world.asked.load(SeqCst)
}

async fn rows(stage: &Stage) -> usize {
    stage.store.rows.list(Table::Refreshes, RowRange::first(10)).await.unwrap().len()
}

fn state(vault: &Vault, connection: &ConnectionRecord) -> ConnectionState {
    let view = vault.directory().view();
    view.connection(&connection.org, &connection.id).unwrap().facts.state.clone()
}

fn is_rejected(state: &ConnectionState) -> bool {
    matches!(state, ConnectionState::Broken { reason: BrokenReason::ClientRejected, .. })
}

/// A credential is used as soon as it is published, which is before its flight ends.
#[tokio::test(start_paused = true)]
async fn a_credential_that_is_rejected_before_its_flight_ends_is_renewed() {
    let world = World::new(vec![]);
    let stage = Stage::new(world.clone(), Some(3_600)).await;
    let (vault, connection) = (&stage.vaults[0], &stage.connection);
    let stale = vault.refresh().credential_in(&connection.org, Some(&wanted(connection))).await;
    let stale = stale.unwrap().expect("it is wanted");
    let cell = vault.refresh().cache().cell(&connection.org, &connection.id);
    let why = Trigger::KeepAlive(stale.generation);
    let looked_up = cell.lookup(why, None, &stage.clock, &vault.token_settings());
    let Lookup::Begin(ticket) = looked_up else { panic!("{looked_up:?}") };
    let ends = async { ticket.land(FlightResult::Published) };
    let (newer, _) = tokio::join!(vault.refresh().renew(&stale), ends);
    let newer = newer.unwrap().expect("a rejection is not ignored");
    assert!(newer.generation > stale.generation);
    assert_eq!(asked(&world), 1);
}

/// oauth 10.durable: a pause lasts over a restart, and at the other replica
#[tokio::test(start_paused = true)]
async fn no_request_is_sent_within_a_pause_of_another_gateway() {
    let (stage, world) = stage(vec![says(What::Later(Some(600)))]).await;
    let connection = &stage.connection;
    assert!(rest(&ask(&stage.vaults[0], connection).await) >= 599);
    let since = stage.vaults[0].refresh().failing(connection).expect("it fails").since;
    passes(100_000).await;
    for vault in [&stage.vaults[1], &restarted(&stage, &world).await] {
        let left = rest(&ask(vault, connection).await);
        assert!((490..=500).contains(&left), "{left}");
        let failing = vault.refresh().failing(connection).expect("it still fails");
        assert_eq!((failing.since, failing.count), (since, 1));
    }
    assert_eq!(asked(&world), 1);
    assert_eq!(rows(&stage).await, 1);
    passes(501_000).await;
    let healed = restarted(&stage, &world).await;
    assert!(ask(&healed, connection).await.is_ok());
    assert_eq!((asked(&world), rows(&stage).await), (2, 0));
    assert!(healed.refresh().failing(connection).is_none());
}

/// oauth 10.1, 10.durable: reset by a reconnect, also over a restart
#[tokio::test(start_paused = true)]
async fn a_pause_ends_with_the_grant_that_it_belongs_to() {
    let (stage, world) = stage(vec![says(What::Later(Some(600)))]).await;
    let connection = &stage.connection;
    assert!(ask(&stage.vaults[0], connection).await.is_err());
    let grant = world.consent(&stage.clock, Some(1));
    let facts = Granted::default();
    stage.vaults[0]
        .lifecycle()
        .connect(&connection.org, &connection.id, grant, facts)
        .await
        .unwrap();
    passes(2_000).await;
    let vault = restarted(&stage, &world).await;
    assert!(vault.refresh().failing(connection).is_none());
    assert!(ask(&vault, connection).await.is_ok());
    assert_eq!((asked(&world), rows(&stage).await), (2, 0));
}

/// A row that cannot be read blocks no refresh.
#[tokio::test(start_paused = true)]
async fn an_unreadable_failure_is_ignored_and_a_removed_connection_leaves_none() {
    let (stage, world) = stage(vec![says(What::Later(Some(600))), says(What::Later(None))]).await;
    let connection = &stage.connection;
    assert!(ask(&stage.vaults[0], connection).await.is_err());
    let key = record::key(&connection.org, &connection.id);
    stage.store.rows.put(Table::Refreshes, &key, b"damaged", Expect::Any).await.unwrap();
    let vault = restarted(&stage, &world).await;
    assert!(ask(&vault, connection).await.is_err(), "it asked, and was told later");
    assert_eq!(asked(&world), 2);
    let again = restarted(&stage, &world).await;
    assert_eq!(again.refresh().failing(connection).expect("readable again").count, 1);
    again.lifecycle().remove(&connection.org, &connection.id).await.unwrap();
    assert_eq!(rows(&stage).await, 0);
}

/// oauth 9.5, 10.durable: five equal answers over an hour, also across restarts
#[tokio::test(start_paused = true)]
async fn an_unknown_code_is_counted_across_restarts() {
    let (stage, world) = stage((0..9).map(|_| says(What::Odd)).collect()).await;
    let connection = &stage.connection;
    for count in 1..=5 {
        let vault = restarted(&stage, &world).await;
        let result = ask(&vault, connection).await;
        let broken = matches!(result.as_ref().unwrap_err().root(), VaultError::Broken { .. });
        assert_eq!(broken, count == 5, "{count}: {result:?}");
        passes(HOUR / 3).await;
    }
    let vault = restarted(&stage, &world).await;
    let ConnectionState::Broken { detail, .. } = state(&vault, connection) else { panic!() };
    assert_eq!(detail.as_deref(), Some("odd"));
    assert_eq!(asked(&world), 5);
}

/// oauth 9.alert: an alert after a day, also across restarts; the connection does not become broken
#[tokio::test(start_paused = true)]
async fn a_day_of_failures_raises_an_alert_across_restarts_until_a_success() {
    let (stage, world) = stage((0..3).map(|_| says(What::Later(None))).collect()).await;
    let connection = &stage.connection;
    assert!(ask(&stage.vaults[0], connection).await.is_err());
    for (hours, alert) in [(23, false), (2, true)] {
        passes(hours * HOUR).await;
        let vault = restarted(&stage, &world).await;
        assert_eq!(vault.refresh().failing(connection).expect("failing").alert, alert);
        assert_eq!(vault.refresh().failing_counts(), (1, usize::from(alert)));
        assert!(ask(&vault, connection).await.is_err());
        assert!(!matches!(state(&vault, connection), ConnectionState::Broken { .. }));
    }
    passes(HOUR).await;
    let vault = restarted(&stage, &world).await;
    assert!(ask(&vault, connection).await.is_ok());
    assert_eq!(vault.refresh().failing_counts(), (0, 0));
}

async fn rejected(answers: Vec<Answer>) -> (Stage, Arc<World>, AppId, Arc<ConnectionRecord>) {
    let answers = std::iter::once(says(What::Rejected)).chain(answers).collect();
    let (stage, world) = stage(answers).await;
    let vault = &stage.vaults[0];
    let app = app(vault, "svc", TokenOptions::default()).await;
    let grant = world.consent(&stage.clock, Some(1));
    let connection = add_named(vault, "app-s", Some(app.clone()), grant).await;
    passes(2_000).await;
    assert!(ask(vault, &connection).await.is_err());
    assert!(is_rejected(&state(vault, &connection)));
    (stage, world, app, connection)
}

async fn change(vault: &Vault, app: &AppId, client_id: &str) {
    let set = |record: &mut AppRecord| -> Result<(), VaultError> {
        client_id.clone_into(&mut record.spec.client_id);
        Ok(())
    };
    vault.lifecycle().change_app(&OrgId::default_org(), app, &set, None).await.unwrap();
}

/// oauth 9.changed, 9.quiet: no further requests until the configuration changes
#[tokio::test(start_paused = true)]
async fn an_unchanged_rejected_client_sends_no_request() {
    let (stage, world, app, connection) = rejected(Vec::new()).await;
    change(&stage.vaults[0], &app, "client").await;
    for vault in [&stage.vaults[0], &restarted(&stage, &world).await] {
        assert!(is_rejected(&state(vault, &connection)));
        assert!(ask(vault, &connection).await.is_err());
    }
    assert_eq!(asked(&world), 1);
}

/// oauth 9.again, 10.durable: requests try again with growing pauses, across restarts, and the connection works once
/// the client is accepted
#[tokio::test(start_paused = true)]
async fn a_rejected_client_is_tried_again_automatically_with_growing_pauses() {
    let (stage, world, _, connection) = rejected(vec![says(What::Rejected); 2]).await;
    let wants = async |vault: &Vault| {
        vault.refresh().retry_rejected(&connection.org, &connection.name);
        assert!(vault.refresh().wait_for_flights(Duration::from_secs(60)).await);
    };
    let minute = 60_000;
    let table = [(30_000, 1), (minute, 2), (minute, 2), (2 * minute, 3), (2 * minute, 3)];
    for (after, times) in table {
        passes(after).await;
        let vault = restarted(&stage, &world).await;
        for _ in 0..3 {
            wants(&vault).await;
        }
        assert_eq!(asked(&world), times, "{after} ms later");
        assert!(is_rejected(&state(&vault, &connection)));
    }
    passes(6 * HOUR).await;
    let vault = &stage.vaults[0];
    wants(vault).await;
    assert_eq!((asked(&world), state(vault, &connection)), (4, ConnectionState::Active));
    assert!(ask(vault, &connection).await.is_ok());
    assert_eq!(asked(&world), 4);
}

/// oauth 9.again, 9.lifted: a person can try at once; requests do not try a connection that is broken for another reason
#[tokio::test(start_paused = true)]
async fn only_a_person_can_retry_a_revoked_grant_and_at_once_a_rejected_client() {
    let (stage, world, _, connection) =
        rejected(vec![says(What::Rejected), says(What::Token(Some(1))), says(What::Dead)]).await;
    let (vault, org, id) = (&stage.vaults[0], &connection.org, &connection.id);
    assert!(vault.refresh().refresh_now(org, id).await.is_err(), "refused again");
    assert!(is_rejected(&state(vault, &connection)));
    vault.refresh().refresh_now(org, id).await.unwrap();
    assert_eq!((asked(&world), state(vault, &connection)), (3, ConnectionState::Active));
    assert!(!vault.refresh().try_again(org, id).await.unwrap(), "it works");
    passes(2_000).await;
    assert!(ask(vault, &connection).await.is_err(), "revoked");
    passes(6 * HOUR).await;
    vault.refresh().retry_rejected(org, &connection.name);
    assert!(!vault.refresh().try_again(org, id).await.unwrap());
    assert!(vault.refresh().wait_for_flights(Duration::from_secs(60)).await);
    assert_eq!(asked(&world), 4, "nobody was asked again");
    assert!(vault.refresh().refresh_now(org, id).await.is_err(), "it has ended");
    assert_eq!(asked(&world), 5);
}

/// oauth 9.changed: retried when the configuration changes
#[tokio::test(start_paused = true)]
async fn a_refused_client_that_changes_is_tried_again_once_and_works_or_is_broken_again() {
    let (stage, world, app, connection) = rejected(vec![says(What::Rejected)]).await;
    let vault = &stage.vaults[0];
    change(vault, &app, "wrong").await;
    assert_eq!(state(vault, &connection), ConnectionState::Testing);
    assert!(ask(vault, &connection).await.is_err());
    assert!(is_rejected(&state(vault, &connection)), "broken again");
    assert!(ask(vault, &connection).await.is_err());
    assert_eq!(asked(&world), 2);
    change(vault, &app, "right").await;
    let later = restarted(&stage, &world).await;
    assert_eq!(state(&later, &connection), ConnectionState::Testing, "over a restart too");
    assert!(ask(&later, &connection).await.is_ok());
    assert_eq!(state(&later, &connection), ConnectionState::Active);
    assert_eq!(asked(&world), 3);
}

/// oauth 9.changed: the provider's configuration counts too, also if it changed while no gateway ran
#[tokio::test(start_paused = true)]
async fn a_provider_with_a_changed_endpoint_is_tried_again() {
    let (stage, world, _, connection) = rejected(Vec::new()).await;
    let moved = PROVIDER.replace("acme.test/token", "acme.test/other");
    let providers = check::file("p", &moved, &Catalogue::default()).unwrap();
    let moved = Arc::new(Catalogue::default().with(providers));
    let later = open(&stage.store, &stage.keyring, &stage.clock, &world).await;
    later.replace_catalogue(moved);
    later.refresh().resume().await;
    assert_eq!(state(&later, &connection), ConnectionState::Testing);
    assert!(ask(&later, &connection).await.is_ok());
    assert_eq!(state(&later, &connection), ConnectionState::Active);
}

/// A connection that a person paused stays paused, and is tried again when it is resumed.
#[tokio::test(start_paused = true)]
async fn a_paused_connection_whose_client_was_refused_stays_paused() {
    let (stage, world, app, connection) = rejected(Vec::new()).await;
    let vault = &stage.vaults[0];
    change(vault, &app, "right").await;
    let (org, id) = (&connection.org, &connection.id);
    let paused = vault.directory().set_connection_paused(org, id, true, ManagedBy::Store);
    assert_eq!(paused.await.unwrap().facts.state, ConnectionState::Paused);
    let later = restarted(&stage, &world).await;
    assert_eq!(state(&later, &connection), ConnectionState::Paused);
    let resumed = later.directory().set_connection_paused(org, id, false, ManagedBy::Store);
    assert!(resumed.await.unwrap().facts.state.is_usable());
    assert!(ask(&later, &connection).await.is_ok());
}

/// oauth 7.exchanged, 9.5: nothing says that the token is revoked, so it is used to its end
#[tokio::test(start_paused = true)]
async fn unknown_codes_of_exchanges_end_no_access_token_before_its_expiry() {
    let world = World::new(vec![says(What::Odd); 100]);
    let stage = Stage::new(world.clone(), Some(3_600)).await;
    let vault = &stage.vaults[0];
    let grant = world.consent(&stage.clock, Some(10 * 3_600));
    let connection = add_of(vault, spec("swap", "swapped", None), grant).await;
    passes(5 * HOUR + 60_000).await;
    for _ in 0..12 {
        ask(vault, &connection).await.expect("the token lives");
        passes(HOUR / 6).await;
    }
    assert!(asked(&world) >= 10, "it is tried again: {}", asked(&world));
    assert_eq!(
        vault.refresh().failing(&connection).expect("it fails").code.as_deref(),
        Some("odd")
    );
    assert_eq!(state(vault, &connection), ConnectionState::Active);
    passes(4 * HOUR).await;
    assert!(ask(vault, &connection).await.is_err());
    let state = state(vault, &connection);
    let reason = BrokenReason::Revoked;
    assert!(
        matches!(&state, ConnectionState::Broken { reason: it, .. } if *it == reason),
        "{state:?}"
    );
}

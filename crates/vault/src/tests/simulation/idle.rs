//! Connections that are unused for months.

use std::time::Duration;

use super::*;
use crate::grant::AppSecret;
use keyward_base::tokens::TokenSettings;
use keyward_model::ManagedBy;

const HOUR: u64 = 3_600_000;
const DAY: u64 = 24 * HOUR;

/// A stage whose replicas have keep-alive enabled or disabled.
async fn stage(keep_alive: bool, answers: Vec<Answer>) -> (Stage, Arc<World>) {
    let world = World::new(answers);
    let stage = Stage::new(world.clone(), Some(3_600)).await;
    for vault in &stage.vaults {
        wants(vault, keep_alive);
    }
    (stage, world)
}

fn wants(vault: &Vault, keep_alive: bool) {
    vault.replace_token_settings(TokenSettings { keep_alive, ..TokenSettings::default() });
}

/// Runs one complete walk. Returns the number of refreshes that each step started.
async fn walk(vault: &Vault) -> Vec<usize> {
    let (mut walk, mut begun) = (KeepAliveCursor::default(), Vec::new());
    loop {
        begun.push(vault.refresh().keep_alive_step(&mut walk).await);
        vault.refresh().wait_for_flights(Duration::from_secs(3_600)).await;
        if walk.is_whole() {
            return begun;
        }
    }
}

fn asked(world: &World) -> usize {
    assert_eq!(*world.wrong.lock(), Vec::<String>::new());
    world.asked.load(SeqCst)
}

pub(super) async fn app(vault: &Vault, name: &str, tokens: TokenOptions) -> AppId {
    vault.lifecycle().add_app(new_app(name, tokens), AppSecret::default()).await.unwrap().id.clone()
}

/// oauth 7.keep-alive: off by default
#[tokio::test(start_paused = true)]
async fn nothing_is_kept_alive_by_default() {
    assert!(!TokenSettings::default().keep_alive);
    let (stage, world) = stage(false, Vec::new()).await;
    passes(400 * DAY).await;
    assert_eq!(walk(&stage.vaults[0]).await, [0]);
    assert_eq!(asked(&world), 0);
}

/// oauth 7.keep-alive: before the refresh token expires from disuse
#[tokio::test(start_paused = true)]
async fn an_idle_connection_is_refreshed_once_before_its_refresh_token_expires() {
    let (stage, world) = stage(true, Vec::new()).await;
    assert_eq!(walk(&stage.vaults[0]).await, [0], "not at the start");
    passes(23 * DAY).await;
    assert_eq!(walk(&stage.vaults[0]).await, [0], "four fifths of 30 days are not over");
    passes(7 * DAY).await;
    assert_eq!(walk(&stage.vaults[0]).await, [1]);
    assert_eq!(walk(&stage.vaults[0]).await, [0]);
    assert_eq!(asked(&world), 1);
    passes(23 * DAY).await;
    let after_restart = open(&stage.store, &stage.keyring, &stage.clock, &world).await;
    wants(&after_restart, true);
    assert_eq!(walk(&after_restart).await, [0], "the last refresh is remembered");
    passes(7 * DAY).await;
    assert_eq!(walk(&after_restart).await, [1]);
    assert_eq!(asked(&world), 2);
}

/// oauth 7.keep-alive, 8.6: replicas
#[tokio::test(start_paused = true)]
async fn two_replicas_that_find_a_due_refresh_at_once_send_one_request() {
    let (stage, world) = stage(true, Vec::new()).await;
    passes(31 * DAY).await;
    let (mut one, mut two) = (KeepAliveCursor::default(), KeepAliveCursor::default());
    tokio::join!(
        stage.vaults[0].refresh().keep_alive_step(&mut one),
        stage.vaults[1].refresh().keep_alive_step(&mut two),
    );
    for vault in &stage.vaults {
        assert!(vault.refresh().wait_for_flights(Duration::from_secs(3_600)).await);
        assert_eq!(walk(vault).await, [0]);
    }
    assert_eq!(asked(&world), 1);
}

/// oauth 7.keep-alive, 9.quiet: broken, paused and removed connections are not refreshed
#[tokio::test(start_paused = true)]
async fn an_unusable_connection_is_not_kept_alive() {
    let (stage, world) = stage(true, vec![Answer { after: 5, what: What::Dead }]).await;
    let vault = &stage.vaults[0];
    let (org, broken) = (OrgId::default_org(), &stage.connection.id);
    let paused = add_named(vault, "paused", None, world.consent(&stage.clock, None)).await;
    let gone = add_named(vault, "gone", None, world.consent(&stage.clock, None)).await;
    let set = vault.directory().set_connection_paused(&org, &paused.id, true, ManagedBy::Store);
    set.await.unwrap();
    vault.lifecycle().remove(&org, &gone.id).await.unwrap();
    passes(31 * DAY).await;
    assert_eq!(walk(vault).await, [1]);
    let view = vault.directory().view();
    let state = view.connection(&org, broken).unwrap().facts.state.clone();
    assert!(matches!(state, ConnectionState::Broken { .. }), "{state:?}");
    passes(31 * DAY).await;
    assert_eq!(walk(vault).await, [0]);
    assert_eq!(asked(&world), 1);
}

/// oauth 7.keep-alive, 10.2: pauses hold
#[tokio::test(start_paused = true)]
async fn a_refresh_that_failed_is_not_begun_again_within_its_pause() {
    let later = Answer { after: 5, what: What::Later(Some(600)) };
    let (stage, world) = stage(true, vec![later]).await;
    passes(31 * DAY).await;
    assert_eq!(walk(&stage.vaults[0]).await, [1]);
    assert_eq!(walk(&stage.vaults[0]).await, [0]);
    passes(601_000).await;
    assert_eq!(walk(&stage.vaults[0]).await, [1]);
    assert_eq!(asked(&world), 2);
}

/// oauth 7.keep-alive: the setting of an app
#[tokio::test(start_paused = true)]
async fn an_app_sets_the_interval_or_disables_keep_alive() {
    let (stage, world) = stage(true, Vec::new()).await;
    let vault = &stage.vaults[0];
    let (daily, never) = (Some(Duration::from_secs(86_400)), Some(Duration::ZERO));
    for (name, tokens) in [
        ("daily", TokenOptions { keep_alive: daily, ..TokenOptions::default() }),
        ("never", TokenOptions { keep_alive: never, ..TokenOptions::default() }),
        ("by-hand", TokenOptions { auto_refresh: Some(false), ..TokenOptions::default() }),
    ] {
        let app = app(vault, name, tokens).await;
        add_named(vault, name, Some(app), world.consent(&stage.clock, None)).await;
    }
    passes(25 * HOUR).await;
    assert_eq!(walk(vault).await, [1], "daily");
    wants(vault, false);
    passes(31 * DAY).await;
    assert_eq!(walk(vault).await, [1], "daily, whatever the gateway does with the others");
    wants(vault, true);
    passes(31 * DAY).await;
    assert_eq!(walk(vault).await, [2], "daily, and the one without an app");
    assert_eq!(asked(&world), 4);
}

/// Adds a connection whose access token is exchanged for newer ones while it lives, for so many seconds.
async fn exchanging(stage: &Stage, app: Option<AppId>, life: u32) -> Arc<ConnectionRecord> {
    let grant = stage.world.consent(&stage.clock, Some(life));
    let name = format!("swap-{}", stage.world.grants.load(SeqCst));
    add_of(&stage.vaults[0], spec("swap", &name, app), grant).await
}

fn of_60_days(count: usize) -> Vec<Answer> {
    vec![Answer { after: 5, what: What::Token(Some(60 * 86_400)) }; count]
}

/// oauth 7.exchanged, 8.6: by default, and once for all replicas
#[tokio::test(start_paused = true)]
async fn an_idle_access_token_is_exchanged_by_one_replica_once_half_of_its_life_is_over() {
    let (stage, world) = stage(false, of_60_days(2)).await;
    exchanging(&stage, None, 60 * 86_400).await;
    let vaults =
        [stage.vaults[0].clone(), open(&stage.store, &stage.keyring, &stage.clock, &world).await];
    for exchanges in 1..=2 {
        passes(23 * DAY).await;
        for vault in &vaults {
            assert_eq!(walk(vault).await, [0], "four fifths of 30 days are not over");
        }
        passes(7 * DAY).await;
        let (mut one, mut two) = (KeepAliveCursor::default(), KeepAliveCursor::default());
        tokio::join!(
            vaults[0].refresh().keep_alive_step(&mut one),
            vaults[1].refresh().keep_alive_step(&mut two)
        );
        for vault in &vaults {
            assert!(vault.refresh().wait_for_flights(Duration::from_secs(3_600)).await);
            assert_eq!(walk(vault).await, [0]);
        }
        assert_eq!(asked(&world), exchanges);
    }
}

/// oauth 7.exchanged: a server without tokens that live for long
#[tokio::test(start_paused = true)]
async fn an_idle_access_token_of_an_hour_never_expires_while_the_gateway_runs() {
    let (stage, world) = stage(false, Vec::new()).await;
    let (vault, connection) = (&stage.vaults[0], exchanging(&stage, None, 3_600).await);
    for minute in (0..24 * 60).step_by(10) {
        walk(vault).await;
        let stored = vault.grants().stored(&connection).await.unwrap();
        let grant = stored.grant(vault.context(), &connection).unwrap();
        let tokens = grant.tokens().expect("tokens");
        assert!(tokens.is_live(stage.clock.now()), "after {minute} minutes");
        passes(10 * 60_000).await;
    }
    let exchanges = asked(&world);
    assert!((40..=72).contains(&exchanges), "{exchanges}: about twice an hour");
}

/// oauth 7.exchanged: the settings of an app
#[tokio::test(start_paused = true)]
async fn an_app_sets_the_interval_of_exchanges_or_disables_them() {
    let (stage, world) = stage(false, of_60_days(10)).await;
    let vault = &stage.vaults[0];
    let (daily, yearly) = (Duration::from_secs(86_400), Duration::from_secs(365 * 86_400));
    for tokens in [
        TokenOptions { keep_alive: Some(daily), ..TokenOptions::default() },
        TokenOptions { keep_alive: Some(yearly), ..TokenOptions::default() },
        TokenOptions { keep_alive: Some(Duration::ZERO), ..TokenOptions::default() },
        TokenOptions { auto_refresh: Some(false), ..TokenOptions::default() },
    ] {
        let mut new = new_app(&format!("app-{}", world.grants.load(SeqCst)), tokens);
        new.spec.provider = "swap".to_owned();
        let app = vault.lifecycle().add_app(new, AppSecret::default()).await.unwrap().id.clone();
        exchanging(&stage, Some(app), 60 * 86_400).await;
    }
    passes(25 * HOUR).await;
    assert_eq!(walk(vault).await, [1], "daily");
    passes(30 * DAY).await;
    assert_eq!(walk(vault).await, [2], "daily, and at half of the life instead of yearly");
    assert_eq!(asked(&world), 3);
}

/// oauth 7.exchanged, 8.6: 60 days, with requests in the 40th
#[tokio::test(start_paused = true)]
async fn requests_in_the_second_half_of_a_token_s_life_cost_one_exchange_and_do_not_wait_for_it() {
    let slow = Answer { after: 10_000, what: What::Token(Some(60 * 86_400)) };
    let (stage, world) = stage(false, vec![slow]).await;
    let connection = exchanging(&stage, None, 60 * 86_400).await;
    let vaults =
        [stage.vaults[0].clone(), open(&stage.store, &stage.keyring, &stage.clock, &world).await];
    let used = async |vault: &Vault| {
        let credential =
            vault.refresh().credential_in(&connection.org, Some(&wanted(&connection))).await;
        credential.unwrap().expect("it is wanted").generation
    };
    let first = [used(&vaults[0]).await, used(&vaults[1]).await];
    assert_eq!(asked(&world), 0, "it is young");
    passes(39 * DAY).await;
    let began = stage.clock.now();
    for _ in 0..2 {
        let now = [used(&vaults[0]).await, used(&vaults[1]).await];
        assert_eq!(now, first, "the old one is used");
    }
    let waited = stage.clock.now().duration_since(began).as_secs();
    assert!(waited < 10, "{waited} s: no request waits for the answer");
    for vault in &vaults {
        assert!(vault.refresh().wait_for_flights(Duration::from_secs(3_600)).await);
        assert!(used(vault).await > first[0], "the newer one");
    }
    assert_eq!(asked(&world), 1);
}

/// Refreshes are spread after a start that follows a long stop, and for connections that were added together.
#[tokio::test(start_paused = true)]
async fn a_thousand_due_connections_are_refreshed_in_several_steps_and_each_once() {
    let (stage, world) = stage(true, Vec::new()).await;
    let vault = &stage.vaults[0];
    for number in 1..1_000 {
        let grant = world.consent(&stage.clock, None);
        add_named(vault, &format!("c{number}"), None, grant).await;
    }
    passes(27 * DAY).await;
    let due: usize = walk(vault).await.iter().sum();
    assert!((300..700).contains(&due), "{due} of those connected together");
    passes(100 * DAY).await;
    let begun = walk(vault).await;
    assert!(begun.iter().all(|begun| *begun <= 50), "{begun:?}");
    assert_eq!(begun.iter().sum::<usize>(), 1_000);
    assert_eq!(asked(&world), due + 1_000);
    assert_eq!(walk(vault).await.iter().sum::<usize>(), 0);
}

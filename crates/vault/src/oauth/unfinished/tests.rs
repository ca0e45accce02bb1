//! Unfinished work of a replica that crashed or stopped is completed once, and overwrites no later grant.

use std::collections::BTreeMap;
use std::mem::discriminant;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use jiff::{SignedDuration, Timestamp};

use super::*;
use crate::grant::Grant;
use crate::grant::oauth::OAuthGrant;
use crate::oauth::flow::{Abandoned, Confirming, PendingRevocation, Polling, SealedText};
use crate::oauth::{FlowServices, FlowState};
use crate::tests::faulty_store::{Fault, FaultyStore};
use crate::tests::scripted_server::tokens;
use crate::tests::simulation::{CALLER, CATALOGUE};
use crate::tests::vault_over;
use crate::{Granted, NewConnection, RotationTerms};
use keyward_base::id::AppId;
use keyward_base::secret::Secret;
use keyward_base::time::Clock;
use keyward_base::tokens::TokenSettings;
use keyward_model::{ConnectionSpec, ConnectionState, ManagedBy, Visibility};
use keyward_state::crypto::keyring::Keyring;
use keyward_state::directory::ConnectionRecord;
use keyward_state::store::{Store, Table};

mod removals;

/// A replica with a draft.
struct World {
    store: Arc<FaultyStore>,
    flows: Arc<Flows>,
    connection: Arc<ConnectionRecord>,
    org: OrgId,
}

/// Lets simulated time pass.
async fn passes(time: Duration) {
    let _ = tokio::time::timeout(time, std::future::pending::<()>()).await;
}

fn grant(access: &str) -> Grant {
    Grant::OAuth(OAuthGrant::of(tokens(access, Some("refresh"))))
}

fn sealed(grant: &Grant) -> SealedText {
    SealedText::new(BASE64_STANDARD.encode(grant.encode().as_slice()))
}

/// The tokens of a consent, as earlier versions stored them.
fn received(access: &str) -> ReceivedTokens {
    ReceivedTokens {
        session: None,
        grant: sealed(&grant(access)),
        granted: Vec::new(),
        ends: None,
        renewable: true,
        captured: BTreeMap::new(),
        connection: None,
        reported_accounts: Vec::new(),
        accepted: false,
        replaces: None,
    }
}

impl World {
    async fn new() -> Self {
        Self::with_clock(Clock::System).await
    }

    /// Flows have this clock.
    async fn with_clock(clock: Clock) -> Self {
        let faulty = Arc::new(FaultyStore::default());
        let store: Arc<dyn Store> = faulty.clone();
        let keyring = Arc::new(Keyring::ephemeral());
        let vault = Arc::new(vault_over(store.clone(), &keyring, CATALOGUE.clone()).await);
        let org = OrgId::default_org();
        let spec = ConnectionSpec {
            name: "work".to_owned(),
            provider: "acme".to_owned(),
            ..ConnectionSpec::default()
        };
        let (owner, visibility, managed_by) = (None, Visibility::Shared, ManagedBy::Store);
        let new = NewConnection { org: org.clone(), spec, owner, visibility, managed_by };
        let connection = vault.lifecycle().add_draft(new).await.unwrap();
        let flows = Flows::new(FlowServices {
            store,
            keyring,
            vault,
            caller: CALLER.clone(),
            settings: TokenSettings::default(),
            clock,
            public_url: "http://127.0.0.1:8081".to_owned(),
        });
        Self { store: faulty, flows, connection, org }
    }

    /// Stores an expired flow in this stage.
    async fn left(&self, stage: FlowStage) -> Flow {
        let now = Timestamp::now();
        let flow = Flow {
            id: FlowId::random(),
            org: self.org.clone(),
            person: "operator".to_owned(),
            connection: self.connection.id.clone(),
            app: AppId::random(),
            scopes: Vec::new(),
            stepped_up: false,
            created: now,
            expires: now,
            cookie: None,
            session: None,
            held: false,
            stage,
        };
        self.flows.flows.put(&self.org, flow.id.as_str(), &flow, None).await.unwrap();
        flow
    }

    async fn stage(&self, flow: &Flow) -> FlowStage {
        self.flows.flows.get(&self.org, flow.id.as_str()).await.unwrap().expect("a flow").0.stage
    }

    /// Connects by another consent.
    async fn connects(&self, access: &str) {
        let facts = Granted { consent: Some(FlowId::random()), ..Granted::default() };
        let (vault, id) = (&self.flows.vault, &self.connection.id);
        vault.lifecycle().connect(&self.org, id, grant(access), facts).await.unwrap();
    }

    async fn rotates(&self) {
        let given = BTreeMap::from([("refresh_token".to_owned(), Secret::new("given"))]);
        let kept = RotationTerms { old_for: Duration::from_secs(60), expires: None };
        let (vault, id) = (&self.flows.vault, &self.connection.id);
        vault.lifecycle().put_untested_in_force(&self.org, id, given, kept).await.unwrap();
    }

    /// Stores newer tokens of the same grant.
    async fn refreshes(&self) {
        let vault = &self.flows.vault;
        let stored = vault.grants().stored(&self.connection).await.unwrap();
        let newer = stored.becomes(&self.connection, None, &grant("refreshed").encode());
        let over = Some(stored.version);
        vault.grants().write(&self.org, &self.connection.id, newer, over).await.unwrap();
    }

    /// The stage of a flow that has received tokens, which may replace the grant that is stored now.
    async fn came(&self, access: &str) -> FlowStage {
        let replaces = self.flows.vault.grants().grant_origin(&self.connection).await.unwrap();
        FlowStage::Received(ReceivedTokens { replaces: Some(replaces), ..received(access) })
    }

    /// Completes the unfinished work.
    async fn resumes(&self) {
        self.flows.look_for_unfinished(&mut SettledFlows::default()).await.unwrap();
        self.flows.close().await;
    }

    /// Starts the background job.
    fn runs(&self) {
        let flows = self.flows.clone();
        tokio::spawn(async move { flows.continue_unfinished().await });
    }

    async fn bytes(&self) -> Vec<u8> {
        self.flows.vault.grants().stored(&self.connection).await.unwrap().bytes.to_vec()
    }

    fn state(&self) -> ConnectionState {
        let view = self.flows.directory().view();
        let connection = view.connection(&self.org, &self.connection.id).expect("it is there");
        connection.facts.state.clone()
    }
}

fn polling() -> FlowStage {
    FlowStage::Polling(Polling {
        client_id: None,
        device_code: SealedText::new("device"),
        user_code: SealedText::new("ABCD"),
        verification_uri: "https://auth.acme.test/device".to_owned(),
        verification_uri_complete: None,
        interval_ms: 5_000,
    })
}

fn abandoned() -> FlowStage {
    let why = "it was declined".to_owned();
    FlowStage::Abandoned(Abandoned { why, account: None, received: received("abandoned") })
}

/// oauth 2.settled: in PostgreSQL, a lease outlives the crash of its holder.
#[tokio::test(start_paused = true)]
async fn unfinished_work_of_a_crashed_replica_is_completed_once_its_lease_has_ended() {
    for (left, connects) in [
        (FlowStage::Exchanging, false),
        (FlowStage::Received(received("received")), true),
        (polling(), false),
        (abandoned(), false),
    ] {
        let world = World::new().await;
        let flow = world.left(left).await;
        let lease = world.flows.lease_of(&flow.id).await.unwrap().expect("it is free");
        std::mem::forget(lease);
        world.runs();
        let ends = world.flows.lease_time();
        passes(ends - Duration::from_secs(1)).await;
        let stage = world.stage(&flow).await;
        assert_eq!(discriminant(&stage), discriminant(&flow.stage), "{stage:?}");
        passes(LOOK_EVERY + Duration::from_secs(2)).await;
        let stage = world.stage(&flow).await;
        match connects {
            true => assert!(matches!(stage, FlowStage::Connected { .. }), "{stage:?}"),
            false => assert!(matches!(stage, FlowStage::Failed { .. }), "{stage:?}"),
        }
        assert_eq!(world.state() == ConnectionState::Active, connects, "{flow:?}");
    }
}

/// oauth 2.settled: a running replica searches for unfinished work at intervals.
#[tokio::test(start_paused = true)]
async fn unfinished_work_of_a_stopped_replica_is_completed_by_a_running_one() {
    let world = World::new().await;
    world.runs();
    passes(Duration::from_secs(1)).await;
    let waiting = world
        .left(FlowStage::Confirming(Confirming {
            before: "ann".to_owned(),
            account: "bob".to_owned(),
            account_id: None,
            received: received("confirming"),
        }))
        .await;
    let pending = PendingRevocation {
        connection: ConnectionRecord::clone(&world.connection),
        grant: sealed(&grant("pending")),
        app: None,
        until: Timestamp::MAX,
        planned: None,
        answer_lost: false,
    };
    world.flows.outbox.put(&world.org, "pending", &pending, None).await.unwrap();
    passes(LOOK_EVERY * 2).await;
    let stage = world.stage(&waiting).await;
    assert!(matches!(stage, FlowStage::Failed { .. }), "{stage:?}");
    assert!(world.flows.outbox.get(&world.org, "pending").await.unwrap().is_none());
}

/// Two pollers would poll faster than the server permits.
#[tokio::test(start_paused = true)]
async fn a_stage_is_not_processed_while_another_holder_renews_its_lease() {
    for left in [FlowStage::Exchanging, FlowStage::Received(received("received")), polling()] {
        let world = World::new().await;
        let flow = world.left(left).await;
        let lease = world.flows.lease_of(&flow.id).await.unwrap().expect("it is free");
        world.runs();
        let works = passes(world.flows.lease_time() * 3);
        world.flows.renewing(&lease, works).await;
        let stage = world.stage(&flow).await;
        assert_eq!(discriminant(&stage), discriminant(&flow.stage), "{stage:?}");
    }
}

/// oauth 2.settled: never over a later grant. The refresh token of such a consent may be spent.
#[tokio::test]
async fn unfinished_tokens_replace_no_later_consent_and_no_rotation() {
    for (later, is_first) in [("a consent", true), ("a consent", false), ("a rotation", false)] {
        let world = World::new().await;
        if !is_first {
            world.connects("before").await;
        }
        let came = world.came("left").await;
        let flow = world.left(came).await;
        match later {
            "a rotation" => world.rotates().await,
            _ => world.connects("later").await,
        }
        let before = world.bytes().await;
        world.resumes().await;
        let stage = world.stage(&flow).await;
        let FlowStage::Failed { why } = &stage else { panic!("{later}: {stage:?}") };
        assert!(why.contains("got another grant meanwhile"), "{later}: {why}");
        assert_eq!(world.bytes().await, before, "{later}");
        assert_eq!(world.state(), ConnectionState::Active, "{later}");
    }
}

/// A connect session would remove the draft of a failed consent.
#[tokio::test]
async fn an_expired_consent_counts_as_failed_unless_its_code_is_exchanged_or_its_tokens_were_received()
 {
    let world = World::new().await;
    for (stage, is_open) in [
        (FlowStage::Offered, false),
        (FlowStage::Exchanging, true),
        (FlowStage::Received(received("left")), true),
    ] {
        let flow = world.left(stage).await;
        let state = world.flows.view(&world.org, &flow.id).await.unwrap().state;
        assert_eq!(state == FlowState::Open, is_open, "{state:?}");
    }
}

/// Earlier versions did not store which grant the tokens may replace.
#[tokio::test]
async fn unfinished_tokens_of_an_earlier_version_replace_no_grant() {
    let world = World::new().await;
    let flow = world.left(FlowStage::Received(received("left"))).await;
    world.connects("later").await;
    world.resumes().await;
    let stage = world.stage(&flow).await;
    assert!(matches!(stage, FlowStage::Failed { .. }), "{stage:?}");
    assert_eq!(world.bytes().await, grant("later").encode().to_vec());
    assert_eq!(world.state(), ConnectionState::Active);
}

/// oauth 2.settled: a refresh is no later grant.
#[tokio::test]
async fn unfinished_tokens_replace_the_grant_that_was_stored_before_them() {
    let world = World::new().await;
    world.connects("before").await;
    let came = world.came("left").await;
    let flow = world.left(came).await;
    world.refreshes().await;
    world.resumes().await;
    let stage = world.stage(&flow).await;
    assert!(matches!(stage, FlowStage::Connected { .. }), "{stage:?}");
    assert_eq!(world.bytes().await, grant("left").encode().to_vec());
    let stored = world.flows.vault.grants().stored(&world.connection).await.unwrap().header;
    assert_eq!((stored.consent, stored.app), (Some(flow.id), Some(flow.app)));
}

/// PostgreSQL may make a write whose acknowledgement is lost.
#[tokio::test(start_paused = true)]
async fn tokens_whose_write_was_reported_as_failed_are_put_in_force() {
    let world = World::new().await;
    let flow = world.left(FlowStage::Exchanging).await;
    world.store.fail(Table::Flows, Fault::Lost(1));
    world.flows.complete(&flow, received("received")).await.unwrap();
    let stage = world.stage(&flow).await;
    assert!(matches!(stage, FlowStage::Connected { .. }), "{stage:?}");
    assert_eq!(world.bytes().await, grant("received").encode().to_vec());
}

/// Else they would be put in force half a minute after their revocation.
#[tokio::test(start_paused = true)]
async fn tokens_that_may_be_stored_are_not_revoked_but_completed_later() {
    for (fault, may_be_stored) in [
        (Fault::Refused, false),
        (Fault::Unreached, false),
        (Fault::LostThenDown, true),
        (Fault::LostThenAway, true),
    ] {
        let world = World::new().await;
        let flow = world.left(FlowStage::Exchanging).await;
        let received = received("received");
        world.store.fail(Table::Flows, fault);
        let error = world.flows.complete(&flow, received.clone()).await.unwrap_err();
        assert!(error.is_of_store(), "{error}");
        assert_eq!(world.flows.is_unkept(&flow, &received).await, !may_be_stored, "{fault:?}");
        world.flows.note_failure(&flow, &error.to_string()).await;
        world.store.repair();
        world.resumes().await;
        let is_connected = matches!(world.stage(&flow).await, FlowStage::Connected { .. });
        assert_eq!(is_connected, may_be_stored, "{fault:?}");
    }
}

/// oauth 2.account: some providers end all access of an account with one token.
#[tokio::test(start_paused = true)]
async fn tokens_that_are_not_stored_are_not_revoked_if_a_connection_in_use_may_share_their_access()
{
    for is_in_use in [false, true] {
        let world = World::new().await;
        if is_in_use {
            world.connects("before").await;
        }
        let connection = Some(Box::new(ConnectionRecord::clone(&world.connection)));
        let received = ReceivedTokens { connection, ..received("received") };
        assert_eq!(world.flows.revoke_unkept(&received).await, !is_in_use);
    }
}

/// The grant and the record of its connection are two rows.
#[tokio::test(start_paused = true)]
async fn tokens_whose_connection_cannot_be_written_are_not_revoked() {
    for (table, fault, is_stored) in [
        (Table::Grants, Fault::Refused, false),
        (Table::Connections, Fault::Refused, true),
        (Table::Grants, Fault::Unreached, false),
        (Table::Connections, Fault::Unreached, true),
    ] {
        let world = World::new().await;
        let flow = world.left(FlowStage::Exchanging).await;
        world.store.fail(table, fault);
        world.flows.complete(&flow, received("received")).await.unwrap_err();
        let stage = world.stage(&flow).await;
        assert!(matches!(stage, FlowStage::Received(_)), "{table:?}: {stage:?}");
        let stored = world.flows.vault.grants().stored(&world.connection).await;
        assert_eq!(stored.is_ok(), is_stored, "{table:?}");
        world.store.repair();
        world.resumes().await;
        let stage = world.stage(&flow).await;
        assert!(matches!(stage, FlowStage::Connected { .. }), "{table:?}: {stage:?}");
        assert_eq!(world.bytes().await, grant("received").encode().to_vec());
        assert_eq!(world.state(), ConnectionState::Active, "{table:?}");
    }
}

/// Ten thousand consents of a day would be ten thousand reads each half minute.
#[tokio::test]
async fn flows_that_need_no_work_are_read_once_until_they_change_and_deleted_when_they_are_old() {
    let world = World::new().await;
    let ended = || FlowStage::Failed { why: "it was declined".to_owned() };
    let changed = world.left(FlowStage::Offered).await;
    for _ in 0..999 {
        world.left(ended()).await;
    }
    let (mut settled, all) = (SettledFlows::default(), &world.flows.flows);
    world.store.reads();
    assert_eq!(all.all(&world.org).await.unwrap().len(), 1_000);
    assert!(world.store.reads() <= 6, "a row of a page was read again");
    for expected in [1_000, 0] {
        world.flows.look_for_unfinished(&mut settled).await.unwrap();
        assert_eq!(world.store.reads(), expected);
    }
    world.flows.stage(&changed, ended()).await.unwrap();
    world.store.reads();
    world.flows.look_for_unfinished(&mut settled).await.unwrap();
    assert_eq!(world.store.reads(), 1);
    let (mut old, version) = all.get(&world.org, changed.id.as_str()).await.unwrap().unwrap();
    old.expires = Timestamp::now() - SignedDuration::from_hours(25);
    all.put(&world.org, old.id.as_str(), &old, Some(version)).await.unwrap();
    world.flows.look_for_unfinished(&mut settled).await.unwrap();
    assert!(all.get(&world.org, old.id.as_str()).await.unwrap().is_none());
    assert_eq!(all.keys().await.unwrap().len(), 999);
}

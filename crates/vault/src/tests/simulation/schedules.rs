//! Random schedules, and the properties that hold in all of them.

use jiff::Timestamp;
use proptest::prelude::*;

use super::runs::{Cases, other_parts};
use super::*;

const CASES: Cases = Cases { usual: 5_000, soak: 1_000_000, parts: PARTS };

fn lives() -> impl Strategy<Value = Option<u32>> {
    prop_oneof![Just(None), Just(Some(1)), (2_u32..120).prop_map(Some), Just(Some(3_600))]
}

fn answers() -> impl Strategy<Value = Answer> {
    let what = prop_oneof![
        6 => lives().prop_map(What::Token),
        2 => prop::option::of(0_u32..2_000).prop_map(What::Later),
        1 => Just(What::Lost),
        1 => Just(What::Dead),
    ];
    // Within `exchange_timeout`, late, and later than any answer is awaited.
    let after = prop_oneof![4 => 0_u64..50, 4 => 0_u64..15_000, 1 => 15_000_u64..240_000];
    (after, what).prop_map(|(after, what)| Answer { after, what })
}

fn steps() -> impl Strategy<Value = Step> {
    let replica = 0_usize..2;
    prop_oneof![
        4 => prop_oneof![0_u64..20, 0_u64..5_000, 0_u64..4_000_000].prop_map(Step::Pass),
        4 => (replica.clone(), 1_u8..5).prop_map(|(at, count)| Step::Want(at, count)),
        2 => replica.clone().prop_map(Step::Refused),
        1 => (replica.clone(), lives()).prop_map(|(at, life)| Step::Connect(at, life)),
        1 => replica.clone().prop_map(Step::Now),
        1 => replica.clone().prop_map(Step::Reload),
        1 => replica.prop_map(Step::Rewrite),
        1 => (1_u8..12, any::<bool>()).prop_map(|(count, after)| Step::Fails(count, after)),
    ]
}

fn simulated(life: Option<u32>, answers: Vec<Answer>, steps: &[Step]) -> Vec<String> {
    let runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = { runtime }.enable_time().start_paused(true).build().unwrap();
    let world = World::new(answers);
    runtime.block_on(async { Stage::new(world.clone(), life).await.play(steps).await });
    let wrong = world.wrong.lock();
    wrong.clone()
}

/// oauth 5.answer, 7.3, 8.1, 8.4, 8.5, 8.6, 8.7: no expired credential is used, no two requests run at once, no write
/// replaces a newer one, and no issued token is lost.
#[test]
fn no_schedule_loses_a_token_or_uses_an_expired_one() {
    all_hold(0);
}

other_parts! {
    all_hold:
    no_schedule_of_part_2_loses_a_token = 1,
    no_schedule_of_part_3_loses_a_token = 2,
    no_schedule_of_part_4_loses_a_token = 3,
    no_schedule_of_part_5_loses_a_token = 4,
    no_schedule_of_part_6_loses_a_token = 5,
    no_schedule_of_part_7_loses_a_token = 6,
    no_schedule_of_part_8_loses_a_token = 7,
}

fn all_hold(part: u32) {
    let schedules =
        (lives(), prop::collection::vec(answers(), 0..12), prop::collection::vec(steps(), 1..24));
    CASES.hold(part, &schedules, |(life, answers, steps)| {
        let wrong = simulated(life, answers, &steps);
        prop_assert!(wrong.is_empty(), "{wrong:?}");
        Ok(())
    });
}

/// oauth 8.7: the store refuses a rotated token for a minute, and the other replica sends the spent one meanwhile. Its
/// verdict does not outlast the next attempt to store the token.
#[test]
fn a_token_that_is_stored_late_replaces_the_verdict_of_the_other_replica() {
    let token = |after| Answer { after, what: What::Token(None) };
    let steps = [
        Step::Want(0, 1),
        Step::Fails(10, false),
        Step::Pass(2),
        Step::Connect(0, None),
        Step::Refused(0),
        Step::Now(1),
    ];
    let wrong = simulated(Some(9), vec![token(0), token(29_943)], &steps);
    assert_eq!(wrong, Vec::<String>::new());
}

/// oauth 8.1, 8.4: a reload drops credentials, but no unsaved token. A server that detects the reuse of a refresh token
/// would revoke the whole grant.
#[test]
fn a_reload_forgets_no_token_that_is_not_stored_yet() {
    let steps = [
        Step::Fails(5, false),
        Step::Pass(10_000),
        Step::Want(0, 1),
        Step::Pass(4_000),
        Step::Reload(0),
        Step::Pass(500),
        Step::Want(0, 1),
    ];
    let wrong = simulated(Some(9), Vec::new(), &steps);
    assert_eq!(wrong, Vec::<String>::new());
}

/// oauth 5.answer, 8.6: an answer that arrives minutes after the lease time is kept; the other replica sends no request
/// meanwhile, and agents are refused at once.
#[test]
fn a_late_answer_is_awaited_under_a_lease_that_is_renewed() {
    let late = Answer { after: 170_000, what: What::Token(Some(3_600)) };
    let runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = { runtime }.enable_time().start_paused(true).build().unwrap();
    runtime.block_on(async {
        let world = World::new(vec![late]);
        let stage = Stage::new(world.clone(), Some(1)).await;
        let mut steps = vec![Step::Pass(2_000), Step::Want(0, 2)];
        for _ in 0..16 {
            steps.extend([Step::Pass(10_000), Step::Want(0, 1), Step::Want(1, 1)]);
        }
        steps.extend([Step::Pass(20_000), Step::Want(0, 1), Step::Want(1, 1), Step::Pass(1_000)]);
        stage.play(&steps).await;
        assert_eq!(*world.wrong.lock(), Vec::<String>::new());
        assert_eq!(world.asked.load(SeqCst), 1);
        let generation = |at: usize| stage.last[at].lock().as_ref().map(|it| it.generation);
        assert_eq!((generation(0), generation(1)), (Some(3), Some(3)));
        assert!(!world.may_break.load(SeqCst));
    });
}

/// A replica holds its lease for long, and the owner reconnects. A flight that waits for the lease has read the older
/// row before, and uses the new token at once.
#[test]
fn a_token_that_is_stored_while_a_lease_is_held_ends_the_wait_for_it() {
    let runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = { runtime }.enable_time().start_paused(true).build().unwrap();
    runtime.block_on(async {
        let world = World::new(Vec::new());
        let stage = Stage::new(world.clone(), Some(1)).await;
        passes(2_000).await;
        let name = format!("refresh/{}", stage.connection.id);
        let held = stage.store.lease(&name, Duration::from_secs(600)).await.unwrap();
        assert!(held.is_some());
        stage.want(0, 1);
        passes(1_000).await;
        assert!(stage.last[0].lock().is_none());
        stage.connect(1, Some(3_600));
        passes(500).await;
        let generation = stage.last[0].lock().as_ref().map(|it| it.generation);
        assert_eq!(generation, Some(3));
        assert_eq!(world.asked.load(SeqCst), 0);
        assert_eq!(*world.wrong.lock(), Vec::<String>::new());
    });
}

/// The simulation covers refreshes and broken grants. oauth 8.6, 9.quiet: two replicas.
#[test]
fn the_simulation_covers_a_refresh_and_a_broken_grant() {
    let token = |life| Answer { after: 5, what: What::Token(life) };
    let dead = Answer { after: 5, what: What::Dead };
    let hour = [Step::Want(0, 2), Step::Pass(3_600_000), Step::Want(1, 2), Step::Pass(1_000)];
    let runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = { runtime }.enable_time().start_paused(true).build().unwrap();
    runtime.block_on(async {
        let world = World::new(vec![token(Some(3_600)), dead]);
        let stage = Stage::new(world.clone(), Some(3_600)).await;
        stage.play(&hour).await;
        assert_eq!(world.asked.load(SeqCst), 1);
        let generation = |at: usize| stage.last[at].lock().as_ref().map(|it| it.generation);
        assert_eq!((generation(0), generation(1)), (Some(2), Some(3)));
        stage.play(&hour).await;
        assert_eq!(world.asked.load(SeqCst), 2, "{:?}", world.wrong.lock());
        let view = stage.vaults[1].directory().view();
        let record = view.connection(&stage.connection.org, &stage.connection.id).cloned();
        assert!(matches!(record.unwrap().facts.state, ConnectionState::Broken { .. }));
        let now: Timestamp = stage.clock.now();
        assert!(now > Timestamp::UNIX_EPOCH);
        assert_eq!(*world.wrong.lock(), Vec::<String>::new());
    });
}

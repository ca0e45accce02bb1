//! A rolling upgrade under load: replicas of an older program are replaced, one after the other.

use std::path::PathBuf;
use std::time::Duration;

use super::load::Load;
use super::stage::Fleet;
use test_support::process::built;

const CONNECTIONS: usize = 20;
const TOKEN_LIFE: u64 = 8;
const WORKERS: usize = 4;

/// Before, between and after the replacements. Each token is renewed in it.
const CALM: Duration = Duration::from_secs(15);

/// The program that replicas run before: `KEYWARD_TEST_OLDER`, which must know `limits.shutdown_delay`, or the one that was
/// built, which makes it a rolling restart.
fn older() -> PathBuf {
    std::env::var_os("KEYWARD_TEST_OLDER").map_or_else(built, PathBuf::from)
}

/// Tokens are renewed by old and new replicas in turn: none is used twice, none is lost, and no request fails.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replicas_are_replaced_one_after_the_other_and_no_token_is_lost() {
    let mut fleet = Fleet::start(&older(), CONNECTIONS, TOKEN_LIFE).await;
    let load = Load::new(&fleet);
    load.phase("first use of each connection");
    load.each_connection(&fleet).await;
    let mut running = load.run(WORKERS);
    load.phase("the older program alone");
    load.goes_on(CALM).await;
    for (at, phase) in
        ["one is replaced", "two are replaced", "all are replaced"].iter().enumerate()
    {
        load.phase(phase);
        let replica = &mut fleet.replicas[at];
        let ended = tokio::task::block_in_place(|| replica.terminate());
        assert_eq!(ended, Some(0), "{}", replica.output());
        tokio::task::block_in_place(|| replica.restart_as(&built()));
        load.goes_on(CALM).await;
    }
    running.abort_all();
    load.phase("each connection, in the end");
    let lost = load.each_connection(&fleet).await;
    println!("{}", load.report());
    assert!(lost.is_empty(), "{lost:?}");
    load.check(&lost);
    fleet.check(&lost);
}

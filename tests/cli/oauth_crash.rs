//! `kill -9` around refreshes: a token is never used before it is on disk, so a crash loses at most an answer that was
//! not read yet.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use aho_corasick::AhoCorasick;
use tokio::net::TcpStream;

use test_support::authorization::{Authorization, Rules, TokenCall};
use test_support::canary::Canary;
use test_support::install::TOKEN_CI;
use test_support::process::{Served, soak};
use test_support::tokens::{api, plan, refresh_only, short};
use test_support::*;

/// What was sent, answered and stored.
#[derive(Debug, Default)]
struct Count {
    asked: usize,
    answered: usize,
    /// Answers that a crash took with it before they were stored.
    lost: usize,
}

/// oauth 8.4, 8.9, 8.10
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_that_was_used_is_there_after_kill_9() {
    // A spent token is taken once more for a while, as servers do that can be recovered from.
    let rules = Rules { grace: Duration::from_secs(3_600), ..short(0.3) };
    let authorization = Authorization::with(rules).await;
    let pair = refresh_only(&authorization);
    let refresh = pair.refresh.clone().expect("one");
    let origin = api(&authorization);
    let plan = plan(&authorization, &pair);
    let variables = [("REFRESH", &*refresh)];
    let mut served = Served::start(&plan, &origin, &variables);
    let mut count = Count::default();
    let mut family = vec![refresh.clone()];
    for round in 0..if soak() { 200 } else { 20 } {
        let before = authorization.calls().len();
        let agent = tokio::spawn(asks_on_and_on(served.proxy));
        authorization.asked(before + 1 + round % 3).await;
        spin(Duration::from_micros(u64::from(random()) % 30_000));
        served.kill();
        agent.abort();
        let calls = authorization.calls();
        let used = used(&origin, &calls);
        served.restart();
        assert_eq!(ask(served.proxy).await, Some(200), "round {round}");
        let after = authorization.calls();
        check(&after[calls.len()..], (&calls, used), &refresh, &mut count);
        family.extend(after.iter().filter_map(|call| call.issued.as_ref()?.refresh.clone()));
    }
    let calls = authorization.calls();
    (count.asked, count.answered) = (calls.len(), calls.iter().filter(|it| it.delivered).count());
    assert!(count.asked >= 20 && count.lost <= count.asked, "{count:?}");
    println!("{count:?}");
    let output = served.output();
    let plain = AhoCorasick::new(&family).expect("tokens");
    assert!(!plain.is_match(&output), "a token is in the output");
    // In every coding the last ones: all of them would take longer than the rounds.
    for token in family.iter().rev().take(20) {
        Canary::of(token.clone()).assert_absent("the output", output.as_bytes());
    }
}

/// The last call whose access token the API has seen, 1 for the first; 0 for none.
fn used(origin: &Origin, calls: &[TokenCall]) -> usize {
    let seen: Vec<String> = origin
        .received()
        .iter()
        .filter_map(|request| request.head.one("authorization").map(str::to_owned))
        .collect();
    let is_seen = |call: &TokenCall| {
        let issued = call.issued.as_ref();
        issued.is_some_and(|pair| seen.contains(&format!("Bearer {}", pair.access)))
    };
    calls.iter().rposition(is_seen).map_or(0, |at| at + 1)
}

/// What is presented after a crash is no older than what was used before it.
fn check(
    after: &[TokenCall],
    (before, used): (&[TokenCall], usize),
    first: &str,
    count: &mut Count,
) {
    let Some(next) = after.first() else { return };
    let presented = next.form.get("refresh_token").expect("a refresh");
    let of = |call: &TokenCall| call.issued.as_ref().and_then(|pair| pair.refresh.clone());
    let number = before.iter().rposition(|call| of(call).as_ref() == Some(presented));
    let number = match number {
        Some(at) => at + 1,
        None => {
            assert_eq!(presented, first, "a token that nobody issued");
            0
        }
    };
    assert!(number >= used, "token {used} was used, and token {number} is what was stored");
    count.lost += before.len() - number;
}

async fn asks_on_and_on(proxy: SocketAddr) {
    while ask(proxy).await.is_some() {}
}

async fn ask(proxy: SocketAddr) -> Option<u16> {
    let mut wire = Wire::plain(TcpStream::connect(proxy).await.ok()?);
    let request = absolute("GET /", HOST, TOKEN_CI);
    wire.try_send(request).await.ok()?;
    Some(wire.try_answer("GET").await?.head.status())
}

fn spin(time: Duration) {
    let until = Instant::now() + time;
    while Instant::now() < until {
        std::hint::spin_loop();
    }
}

fn random() -> u32 {
    getrandom::u32().expect("randomness")
}

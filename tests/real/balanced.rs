//! Three replicas behind HAProxy on one PostgreSQL server, with tokens that `oidc-provider` rotates, under load and
//! faults: what clients saw, what the API received, and what the authorization server says of it.
//!
//! The server ends a grant whose refresh token arrives twice. The only excuses are `kill -9` during a refresh, and a stop
//! for longer than its lease: they take an answer with them, which no other replica can know.

mod load;
mod stage;
mod upgrade;

use std::time::{Duration, Instant};

use rustix::process::Signal;

use self::load::Load;
use self::stage::{Fleet, LEASE};
use test_support::process::{built, soak};

/// How much, and for how long.
struct Pace {
    connections: usize,
    /// Life of an access token, in seconds.
    token_life: u64,
    workers: usize,
    /// Without a fault, at the beginning, after each fault and at the end.
    calm: Duration,
    /// Faults begin until then.
    faults: Duration,
}

impl Pace {
    fn here() -> Self {
        let seconds = Duration::from_secs;
        match soak() {
            true => Self {
                connections: (1_000.0 * scale()) as usize,
                token_life: 60,
                workers: 6,
                calm: seconds(20),
                faults: seconds(30 * 60).mul_f64(scale()),
            },
            false => Self {
                connections: 20,
                token_life: 8,
                workers: 4,
                calm: seconds(8),
                faults: Duration::ZERO,
            },
        }
    }
}

/// The part of a soak that `KEYWARD_TEST_SCALE` asks for.
fn scale() -> f64 {
    let set = std::env::var("KEYWARD_TEST_SCALE").ok();
    set.and_then(|scale| scale.parse().ok()).unwrap_or(1.0)
}

#[derive(Clone, Copy, Debug)]
enum Fault {
    /// `kill -9` of a replica, and its start.
    Kill(usize),
    /// `pg_ctl stop -m immediate`, and the start.
    Restart,
    /// All processes of the database are stopped for a while.
    Pause,
    /// A replica does not reach the database: packets are lost without an error.
    Cut(usize),
    /// A replica is stopped for longer than its leases.
    Freeze(usize),
}

impl Fault {
    fn name(self) -> &'static str {
        match self {
            Self::Kill(_) => "kill -9 of a replica",
            Self::Restart => "restart of PostgreSQL",
            Self::Pause => "SIGSTOP of PostgreSQL",
            Self::Cut(_) => "a cut between a replica and PostgreSQL",
            Self::Freeze(_) => "SIGSTOP of a replica",
        }
    }

    async fn happens(self, fleet: &mut Fleet, load: &Load) {
        match self {
            Self::Kill(at) => {
                load.takes_answers();
                fleet.replicas[at].kill();
                load.goes_on(Duration::from_secs(3)).await;
                fleet.replicas[at].restart();
            }
            Self::Restart => {
                fleet.database.server.stop();
                load.goes_on(Duration::from_secs(1)).await;
                fleet.database.server.run();
            }
            Self::Pause => {
                fleet.database.server.signal(Signal::STOP);
                load.goes_on(Duration::from_secs(6)).await;
                fleet.database.server.signal(Signal::CONT);
            }
            Self::Cut(at) => {
                fleet.network.cut(at);
                load.goes_on(Duration::from_secs(6)).await;
                fleet.network.mend(at);
            }
            Self::Freeze(at) => {
                load.takes_answers();
                fleet.replicas[at].signal(Signal::STOP);
                load.goes_on(LEASE + Duration::from_secs(3)).await;
                fleet.replicas[at].signal(Signal::CONT);
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_replicas_behind_haproxy_lose_no_token_and_use_none_twice_under_faults() {
    let pace = Pace::here();
    let mut fleet = Fleet::start(&built(), pace.connections, pace.token_life).await;
    let load = Load::new(&fleet);
    load.phase("first use of each connection");
    load.each_connection(&fleet).await;
    let mut running = load.run(pace.workers);
    load.phase("no fault");
    load.goes_on(pace.calm).await;
    let until = Instant::now() + pace.faults;
    for round in 0.. {
        let [first, second, third] = [0, 1, 2].map(|at| (round + at) % 3);
        let faults = [
            Fault::Kill(first),
            Fault::Restart,
            Fault::Cut(second),
            Fault::Pause,
            Fault::Freeze(third),
        ];
        for fault in faults {
            load.phase(fault.name());
            fault.happens(&mut fleet, &load).await;
            load.goes_on(pace.calm).await;
        }
        if Instant::now() >= until {
            break;
        }
    }
    load.phase("after the faults");
    load.goes_on(pace.calm).await;
    running.abort_all();
    load.phase("each connection, in the end");
    let lost = load.each_connection(&fleet).await;
    println!("{}", load.report());
    load.check(&lost);
    fleet.check(&lost);
}

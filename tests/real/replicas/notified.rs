//! Notifications of the database: a change is known at the other replica sooner than by polling, and nothing is lost with the
//! stream that listens.

use std::time::{Duration, Instant};

use tokio::time::{MissedTickBehavior, interval};

use super::*;

/// Changes of each pair of replicas.
const CHANGES: usize = 21;

/// The interval of polls.
const POLL: Duration = Duration::from_millis(200);

/// Waits until so many streams of replicas listen at a server.
pub(super) async fn until_listening(server: &Server, count: usize) {
    let listening = "SELECT count(*) FROM pg_stat_activity \
                     WHERE application_name = 'keyward notifications' AND state = 'idle'";
    let all_listen = async {
        while server.sql("app", listening) != count.to_string() {
            tokio::task::yield_now().await;
        }
    };
    patiently(&format!("{count} streams that listen"), all_listen).await;
}

/// Two replicas with a database of their own.
struct Pair {
    database: Database,
    lab: Lab,
    other: Gateway,
    waits: Vec<Duration>,
}

impl Pair {
    async fn start(database: Database) -> Self {
        let lab = database.under(Plan::api_key()).start(Origin::saying("fine").await).await;
        let other = lab.gateway.replica().await;
        Self { database, lab, other, waits: Vec::new() }
    }

    /// Makes an agent at one replica, and measures the time of the read at the other one, which waits until it knows it.
    async fn change(&mut self, name: &str) {
        call(&self.lab.gateway, "POST", "/agents", &json!({ "name": name })).await;
        let made = Instant::now();
        call(&self.other, "GET", &format!("/agents/{name}"), &Value::Null).await;
        self.waits.push(made.elapsed());
    }

    fn median(&mut self) -> Duration {
        self.waits.sort_unstable();
        self.waits[self.waits.len() / 2]
    }

    async fn finish(mut self) {
        self.other.stop().await;
        self.lab.finish().await;
    }
}

/// The changes come at different moments of the interval of polls.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_is_known_at_the_other_replica_sooner_by_a_notification_than_by_a_poll() {
    let silent = Database::start();
    let refused = "REVOKE EXECUTE ON FUNCTION pg_catalog.pg_notify(text, text) FROM PUBLIC";
    silent.server.sql("app", refused);
    let (mut notified, mut polled) =
        (Pair::start(Database::start()).await, Pair::start(silent).await);
    until_listening(&notified.database.server, 2).await;
    let mut turns = interval(POLL * 5 / 3);
    turns.set_missed_tick_behavior(MissedTickBehavior::Delay);
    for number in 0..CHANGES {
        for pair in [&mut notified, &mut polled] {
            turns.tick().await;
            pair.change(&format!("agent-{number}")).await;
        }
    }
    let (by_notification, by_poll) = (notified.median(), polled.median());
    println!("median of {CHANGES} changes: {by_notification:?} notified, {by_poll:?} polled");
    assert!(by_notification + POLL / 10 < by_poll, "{by_notification:?}, {by_poll:?}");
    notified.finish().await;
    polled.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_change_is_lost_with_the_streams_that_listen_and_they_come_back() {
    let mut pair = Pair::start(Database::start()).await;
    let end = "SELECT count(pg_terminate_backend(pid, 10000)) FROM pg_stat_activity \
               WHERE application_name = 'keyward notifications'";
    for round in 0..2 {
        until_listening(&pair.database.server, 2).await;
        assert_eq!(pair.database.server.sql("postgres", end), "2");
        for number in 0..4 {
            pair.change(&format!("killed-{round}-{number}")).await;
        }
    }
    pair.database.server.stop();
    pair.database.server.run();
    let name = r#"{"name":"restarted"}"#;
    let made =
        async { while pair.lab.gateway.api("POST", "/agents", name).await.head.status() != 201 {} };
    patiently("a write after the restart", made).await;
    until_listening(&pair.database.server, 2).await;
    for name in ["listening-1", "listening-2"] {
        pair.change(name).await;
    }
    call(&pair.other, "GET", "/agents/restarted", &Value::Null).await;
    pair.finish().await;
}

//! Notifications of changes: changes are read at once, and a lost notification loses no change.

use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::MissedTickBehavior;

use super::*;
use crate::store::shared::ReplicaPosition;

/// No test waits for a poll of this interval.
const NEVER: Duration = Duration::from_secs(3_600);

/// Notifications arrive within this time, also on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// A replica that follows the others' changes.
struct Following {
    store: Arc<PostgresStore>,
    changes: mpsc::UnboundedReceiver<(Table, String)>,
    task: JoinHandle<()>,
}

impl Following {
    async fn begin(settings: PostgresSettings, poll: Duration) -> Self {
        let mut store = PostgresStore::open(settings).await.unwrap();
        store.poll = poll;
        let (store, position) = (Arc::new(store), ReplicaPosition::default());
        let (sender, changes) = mpsc::unbounded_channel();
        let following = store.clone();
        let task = tokio::spawn(async move {
            let mut position = position;
            while let Ok((changes, next)) = following.changes_after(&position).await {
                position = next;
                changes.rows.into_iter().for_each(|row| drop(sender.send(row)));
            }
        });
        Self { store, changes, task }
    }

    async fn adds(&self, key: &str) {
        self.store.put(Table::Agents, key, b"x", Expect::Absent).await.unwrap();
    }

    /// Waits for the next change of the others.
    async fn heard(&mut self) -> String {
        let heard = tokio::time::timeout(PATIENCE, self.changes.recv()).await;
        heard.expect("a change of another replica").expect("the database answers").1
    }

    /// Waits until `count` streams of replicas listen.
    async fn until_listening(&self, count: i64) {
        let listening = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() \
                         AND application_name = 'keyward notifications' AND state = 'idle'";
        let all_listen = async {
            while self.store.pool.query("count", listening, &[]).await.unwrap()[0].get::<_, i64>(0)
                != count
            {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(PATIENCE, all_listen).await.expect("streams that listen");
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The settings of a role that may write, and may not notify.
fn without_notify(server: &Server, database: &str) -> PostgresSettings {
    let role = format!("{database}_writer");
    for text in [
        format!("CREATE ROLE {role} LOGIN"),
        format!("GRANT ALL ON SCHEMA public TO {role}"),
        "REVOKE EXECUTE ON FUNCTION pg_catalog.pg_notify(text, text) FROM PUBLIC".to_owned(),
    ] {
        server.sql(database, &text);
    }
    let mut settings = server.settings(database);
    settings.database.user(role);
    settings
}

async fn pair(settings: PostgresSettings, poll: Duration) -> (Following, Following) {
    let one = Following::begin(settings.clone(), poll).await;
    (one, Following::begin(settings, poll).await)
}

#[tokio::test]
async fn a_change_is_read_without_a_poll() {
    let server = Server::shared();
    let (writer, mut reader) = pair(server.settings(&server.database()), NEVER).await;
    for number in 0..5 {
        let key = format!("o/{number}");
        writer.adds(&key).await;
        assert_eq!(reader.heard().await, key);
    }
}

#[tokio::test]
async fn changes_while_the_listening_streams_are_lost_are_read_when_they_are_back() {
    let server = Server::shared();
    let database = server.database();
    let (writer, mut reader) = pair(server.settings(&database), NEVER).await;
    let end = "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity \
               WHERE datname = current_database() AND application_name = 'keyward notifications'";
    for round in 0..2 {
        reader.until_listening(2).await;
        server.sql(&database, end);
        for number in 0..3 {
            let key = format!("o/{round}-{number}");
            writer.adds(&key).await;
            assert_eq!(reader.heard().await, key);
        }
    }
    reader.until_listening(2).await;
}

#[tokio::test]
async fn a_database_that_refuses_to_notify_accepts_writes_and_changes_are_polled() {
    let server = Server::shared();
    let database = server.database();
    let (writer, mut reader) = pair(without_notify(server, &database), POLL).await;
    for number in 0..3 {
        let key = format!("o/{number}");
        writer.adds(&key).await;
        assert_eq!(reader.heard().await, key);
    }
    // Waits for the stream of the replica that may not notify.
    writer.until_listening(1).await;
}

#[tokio::test]
async fn no_stream_is_reserved_for_notifications_when_the_limit_is_two() {
    let server = Server::shared();
    let settings = PostgresSettings { streams_max: 2, ..server.settings(&server.database()) };
    let (writer, mut reader) = pair(settings, POLL).await;
    writer.adds("o/a").await;
    assert_eq!(reader.heard().await, "o/a");
    assert!(reader.store.listening.get().is_none());
}

/// Changes come at different moments of the interval of polls, so half of it is the median wait for a poll.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn notified_changes_are_read_sooner_than_polled_ones() {
    const CHANGES: usize = 21;
    let server = Server::shared();
    let (notified, polled) = (server.database(), server.database());
    let mut pairs = [
        pair(server.settings(&notified), POLL).await,
        pair(without_notify(server, &polled), POLL).await,
    ];
    pairs[0].1.until_listening(2).await;
    let mut waits = [Vec::new(), Vec::new()];
    let mut turns = tokio::time::interval(POLL * 5 / 3);
    turns.set_missed_tick_behavior(MissedTickBehavior::Delay);
    for number in 0..CHANGES {
        for ((writer, reader), waits) in pairs.iter_mut().zip(&mut waits) {
            turns.tick().await;
            let key = format!("o/{number}");
            writer.adds(&key).await;
            let written = Instant::now();
            assert_eq!(reader.heard().await, key);
            waits.push(written.elapsed());
        }
    }
    let [notified, polled] = waits.map(|mut waits| {
        waits.sort_unstable();
        waits[CHANGES / 2]
    });
    println!("median of {CHANGES} changes: {notified:?} with notifications, {polled:?} without");
    assert!(notified + POLL / 8 < polled, "{notified:?}, {polled:?}");
}

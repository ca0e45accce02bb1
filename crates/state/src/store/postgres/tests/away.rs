//! A database that is away for a moment, that drops streams in silence, or whose defaults lose answered writes.

use std::path::PathBuf;

use tokio::io::copy_bidirectional;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::watch;

use super::*;

/// Forwards streams to the server until it drops those that are open: they stay open, and nothing passes.
struct Relay {
    folder: PathBuf,
    drops: watch::Sender<()>,
}

impl Relay {
    async fn before(server: &Server) -> Self {
        let folder = tempfile::tempdir().unwrap().keep();
        let (name, drops) = (".s.PGSQL.5432", watch::Sender::new(()));
        let listener = UnixListener::bind(folder.join(name)).unwrap();
        let (to, dropping) = (server.folder().join(name), drops.clone());
        tokio::spawn(async move {
            while let Ok((mut one, _)) = listener.accept().await {
                let (mut dropped, to) = (dropping.subscribe(), to.clone());
                tokio::spawn(async move {
                    let mut other = UnixStream::connect(to).await.unwrap();
                    tokio::select! {
                        _ = copy_bidirectional(&mut one, &mut other) => {}
                        _ = dropped.changed() => std::future::pending().await,
                    }
                });
            }
        });
        Self { folder, drops }
    }

    /// A store behind it that waits two seconds for an answer.
    async fn store(&self, server: &Server) -> PostgresStore {
        let mut settings = server.settings(&server.database());
        let mut database = tokio_postgres::Config::new();
        database.host_path(&self.folder).user("postgres");
        database.dbname(settings.database.get_dbname().unwrap());
        (settings.database, settings.timeout) = (database, Duration::from_secs(2));
        PostgresStore::open(settings).await.unwrap()
    }
}

#[tokio::test]
async fn after_one_timeout_all_streams_that_were_unused_as_long_are_closed() {
    let server = Server::shared();
    let relay = Relay::before(server).await;
    let store = relay.store(server).await;
    let read = async || store.get(Table::Agents, "o/a").await;
    let all = futures_util::future::join_all((0..6).map(|_| read())).await;
    assert!(all.iter().all(Result::is_ok), "{all:?}");
    let open = store.pool.open_streams();
    assert!(open > 2, "{open} streams");
    // Longer than the timeout, by the clock of the server.
    server.sql("postgres", "SELECT pg_sleep(2.1)");
    relay.drops.send_replace(());
    let first = read().await;
    assert!(first.as_ref().is_err_and(StoreError::is_away), "{first:?}");
    for _ in 0..open {
        read().await.unwrap();
    }
}

/// Nothing was written before the end of a transaction. Without its repetition, the first change after a database was away
/// fails.
#[tokio::test]
async fn a_commit_whose_stream_was_dropped_in_silence_is_made_on_another_one() {
    let server = Server::shared();
    let relay = Relay::before(server).await;
    let store = relay.store(server).await;
    store.get(Table::Agents, "o/a").await.unwrap();
    server.sql("postgres", "SELECT pg_sleep(2.1)");
    relay.drops.send_replace(());
    let put = |table| Write::put(table, "o/a", b"x", Expect::Absent);
    let made = store.commit(vec![put(Table::Agents), put(Table::Names)]).await;
    assert_eq!(made.unwrap(), [Version(1); 2]);
}

#[tokio::test]
async fn answered_writes_are_on_disk_whatever_the_default_of_the_database_is() {
    let server = Server::shared();
    for (default, used) in [("off", "on"), ("local", "on"), ("remote_apply", "remote_apply")] {
        let database = server.database();
        server.sql(
            &database,
            &format!("ALTER DATABASE {database} SET synchronous_commit = {default}"),
        );
        let store = server.open_in(&database).await;
        let setting = "SELECT current_setting('synchronous_commit')";
        let rows = store.pool.query("read a setting", setting, &[]).await.unwrap();
        assert_eq!(rows[0].get::<_, &str>(0), used, "{default}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_a_process_starts_operations_wait_for_a_server_that_is_restarted() {
    let server = Arc::new(Server::start());
    let store = server.open().await;
    server.stop();
    let refused = store.put(Table::Agents, "o/a", b"x", Expect::Absent).await;
    assert!(refused.as_ref().is_err_and(StoreError::is_away), "{refused:?}");
    store.wait_out(Duration::from_secs(60));
    let again = server.clone();
    let (put, started) = tokio::join!(
        store.put(Table::Agents, "o/a", b"x", Expect::Absent),
        tokio::task::spawn_blocking(move || again.run()),
    );
    started.unwrap();
    assert_eq!(put.unwrap(), Version(1));
}

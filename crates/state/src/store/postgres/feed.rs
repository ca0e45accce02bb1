//! The feed of changes: counters for each part of a table, which replicas poll, and the log of changed keys.
//!
//! Polling costs one small statement a few times a second, works through connection poolers and on every dialect, and
//! loses no change while a replica is away. After a notification of another replica, the next poll follows at once.
//!
//! A failover without synchronous replication loses changes, and their numbers are given to other changes. Each replica
//! notices that, also if it polls again only then, and reads the tables again.
//!
//! A replica notifies the others of its changes, and receives their notifications, on a stream of the pool.
//!
//! `NOTIFY` is sent as a separate statement after the commit: within the transaction of a change, all writers of the
//! database would wait for one lock. If the database does not support it, and while the stream is lost, replicas only
//! poll.

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use deadpool_postgres::Object;
use jiff::Timestamp;
use tokio::sync::watch;
use tokio::time::Instant;

use super::change_notice::{ChangeNotice, KnownChange, Listening, PAUSE, Place};
use super::failure::{PostgresError, PostgresFailure};
use super::pool::PostgresPool;
use super::sql::{Parameter, typed};
use super::{PostgresStore, key, random_number, schema, sql};
use crate::store::shared::{
    AnnouncedReplica, KeptBytes, ReplicaChanges, ReplicaPosition, SharedStore,
};
use crate::store::{Lease, StoreError, Table};

/// After this number of polls without a change, the feed returns, so that the caller knows that the store answers.
const POLLS: usize = 5;

/// The pause between two searches for lost changes.
const SEARCH_PAUSE: Duration = Duration::from_secs(1);

/// With fewer streams, none is used for listening, because operations need them all.
const STREAMS_WITH_LISTENER: usize = 3;

/// Most keys per query. If there are more changes, the rest is read at once.
const CHANGES_MAX: i64 = 1_000;
/// The pause before a new stream, after the last one was lost.
const AGAIN_AFTER: Duration = Duration::from_secs(1);

/// The pause before a new attempt, if the database does not know or permit the statements.
const REFUSED_AGAIN_AFTER: Duration = Duration::from_secs(60);

/// The interval of checks that the stream is open and connected to the server in use.
const CHECK_EVERY: Duration = Duration::from_secs(1);

#[async_trait::async_trait]
impl SharedStore for PostgresStore {
    async fn position(&self) -> Result<ReplicaPosition, StoreError> {
        let rows = self.pool.query("look for changes", sql::COUNTS, &[]).await?;
        let counts = rows.into_iter().filter_map(|row| {
            if row.get::<_, &str>(0).is_empty() {
                self.version.see(row.get(2));
            }
            // Ignores tables of newer versions.
            let table = Table::named(row.get(0))?;
            let (part, count): (i16, i64) = (row.get(1), row.get(2));
            Some(((table, part.cast_unsigned()), count.cast_unsigned()))
        });
        Ok(ReplicaPosition(counts.collect()))
    }

    async fn changes_after(
        &self,
        position: &ReplicaPosition,
    ) -> Result<(ReplicaChanges, ReplicaPosition), StoreError> {
        self.listen();
        let mut heard = self.notice.subscribe();
        let (mut changes, mut reached) = (ReplicaChanges::default(), position.clone());
        self.search_lost(position).await?;
        let first = *self.next_poll.lock();
        tokio::time::sleep_until(first).await;
        for poll in 0..POLLS {
            let (begun, mut is_whole) = (Instant::now(), true);
            let own = self.known.lock().own_numbers();
            let now = self.position().await?;
            self.known.lock().compare_own(&own, &now);
            for (place, count) in now.0 {
                let seen = position.0.get(&place).copied().unwrap_or_default();
                if count != seen {
                    // A change that was made after the counters were read may need one of a table that was read before.
                    let new = seen + 1..=count;
                    let mut followed = self.follow(place, new, &mut changes).await?;
                    // The log does not reach back to the position of this replica, or the database lost changes.
                    if followed == seen {
                        changes.unknown.insert(place.0);
                        followed = count;
                    }
                    is_whole &= followed >= count;
                    reached.0.insert(place, followed);
                }
            }
            if reached != *position {
                *self.next_poll.lock() = if is_whole { begun + PAUSE } else { begun };
                break;
            }
            if poll + 1 < POLLS {
                self.until_next_poll(begun, &mut heard).await;
            }
        }
        changes.unknown.append(&mut self.known.lock().take_lost());
        Ok((changes, reached))
    }

    fn is_outdated(&self) -> bool {
        self.version.is_outdated()
    }

    fn wait_out(&self, time: Duration) {
        self.pool.wait_out(time);
    }

    async fn is_alone(&self) -> Result<bool, StoreError> {
        let own = self.presence.name();
        Ok(self.pool.query("look for other replicas", sql::OTHERS, &[&own]).await?.is_empty())
    }

    fn own_name(&self) -> String {
        String::from_utf8_lossy(self.presence.name()).into_owned()
    }

    async fn end_replica(&self, name: &str) -> Result<(), StoreError> {
        self.pool.query("end a replica", sql::END, &[&name.as_bytes()]).await.map(drop)
    }

    async fn claim_once(&self, name: &str, life: Duration) -> Result<bool, StoreError> {
        let claim = self.claim_lease(name, random_number()?, life, None).await?;
        Ok(claim.map(Lease::keep_until_expiry).is_some())
    }

    async fn leave(&self) -> Result<(), StoreError> {
        self.presence.leave(&self.pool).await?;
        // The process may end before leases are released that were dropped just now.
        let releases = std::mem::take(&mut *self.releases.lock());
        for release in releases {
            drop(release.await);
        }
        Ok(())
    }

    async fn announce(&self, about: &str) -> Result<(), StoreError> {
        let own = self.presence.name();
        self.pool.query("announce a replica", sql::ANNOUNCE, &[&own, &about]).await.map(drop)
    }

    async fn replicas(&self) -> Result<Vec<AnnouncedReplica>, StoreError> {
        let rows = self.pool.query("list replicas", sql::REPLICAS, &[]).await?;
        let replica = |row: tokio_postgres::Row| AnnouncedReplica {
            is_own: row.get::<_, &[u8]>(0) == self.presence.name(),
            about: row.get(1),
            ago: Duration::from_secs_f64(row.get::<_, f64>(2).max(0.0)),
            // A number of microseconds is exact in a float until the year 2255.
            seen: Timestamp::from_microsecond((row.get::<_, f64>(3) * 1e6) as i64).ok(),
        };
        Ok(rows.into_iter().map(replica).collect())
    }

    async fn keep(&self, name: &str, sealed: &[u8], life: Duration) -> Result<(), StoreError> {
        let parameters: [&dyn Parameter; 3] = [&name.as_bytes(), &sealed, &life.as_secs_f64()];
        self.version.may_write("keep an answer")?;
        self.pool.query("keep an answer", sql::KEEP, &parameters).await.map(drop)
    }

    async fn kept(&self, name: &str) -> Result<Option<Vec<u8>>, StoreError> {
        let rows = self.pool.query("read an answer", sql::KEPT, &[&name.as_bytes()]).await?;
        Ok(rows.first().map(|row| row.get(0)))
    }

    async fn kept_names(&self, prefix: &str) -> Result<Vec<String>, StoreError> {
        let to = [prefix.as_bytes(), b"\xff"].concat();
        let parameters: [&dyn Parameter; 2] = [&prefix.as_bytes(), &to];
        let rows = self.pool.query("list what is kept", sql::KEPT_NAMES, &parameters).await?;
        let name = |row: tokio_postgres::Row| String::from_utf8(row.get(0)).ok();
        Ok(rows.into_iter().filter_map(name).collect())
    }

    async fn kept_within(
        &self,
        prefix: &str,
        life: Duration,
        within: Duration,
    ) -> Result<Vec<KeptBytes>, StoreError> {
        let (from, to) = (prefix.as_bytes(), [prefix.as_bytes(), b"\xff"].concat());
        let least = life.saturating_sub(within).as_secs_f64();
        let parameters: [&dyn Parameter; 3] = [&from, &to, &least];
        let rows = self.pool.query("read what is kept", sql::KEPT_WITHIN, &parameters).await?;
        let kept = |row: tokio_postgres::Row| {
            let ago = life.as_secs_f64() - row.get::<_, f64>(2);
            Some(KeptBytes {
                name: String::from_utf8(row.get(0)).ok()?,
                sealed: row.get(1),
                ago: Duration::from_secs_f64(ago.max(0.0)),
            })
        };
        Ok(rows.into_iter().filter_map(kept).collect())
    }

    async fn forget_old(&self) -> Result<(), StoreError> {
        schema::forget(&self.pool).await
    }
}

impl PostgresStore {
    /// Starts to listen at the first poll, because a process that does not follow changes needs no notifications.
    fn listen(&self) {
        if self.pool.streams_max() >= STREAMS_WITH_LISTENER {
            let (pool, notice) = (self.pool.clone(), self.notice.clone());
            let listening = || Listening::spawn(run(pool, notice));
            self.listening.get_or_init(listening);
        }
    }

    /// Waits until the next poll is due, after the poll that began at `begun`.
    async fn until_next_poll(&self, begun: Instant, heard: &mut watch::Receiver<()>) {
        tokio::select! {
            () = tokio::time::sleep_until(begun + self.poll) => {}
            _ = heard.changed() => tokio::time::sleep_until(begun + PAUSE).await,
        }
    }

    /// Compares the last change of each part with the one that this replica has read.
    async fn search_lost(&self, position: &ReplicaPosition) -> Result<(), StoreError> {
        if Instant::now() < *self.next_search.lock() {
            return Ok(());
        }
        let rows = self.pool.query("look for lost changes", sql::LAST_CHANGES, &[]).await?;
        let mut known = self.known.lock();
        for row in rows {
            let Some(table) = Table::named(row.get(0)) else { continue };
            let place = (table, row.get::<_, i16>(1).cast_unsigned());
            let last = KnownChange::of(&row, 2, 3);
            if position.0.get(&place) == Some(&last.number) {
                known.read(place, last);
            }
        }
        drop(known);
        *self.next_search.lock() = Instant::now() + SEARCH_PAUSE;
        Ok(())
    }

    /// Adds the changes of one part of a table that have these numbers, and returns the last number up to which all were
    /// read.
    pub(super) async fn follow(
        &self,
        place: Place,
        numbers: RangeInclusive<u64>,
        changes: &mut ReplicaChanges,
    ) -> Result<u64, StoreError> {
        let ((table, part), seen) = (place, numbers.start() - 1);
        let (name, from, to) = (table.name(), seen.cast_signed(), numbers.end().cast_signed());
        let parameters: [&dyn Parameter; 5] =
            [&name, &part.cast_signed(), &from, &to, &CHANGES_MAX];
        let rows = self.pool.query("read changes", sql::CHANGES, &parameters).await?;
        let mut last = seen;
        let mut known = self.known.lock();
        for row in rows {
            let change = KnownChange::of(&row, 0, 2);
            // It was read before, unless the database lost it.
            if change.number == seen {
                known.read(place, change);
                continue;
            }
            if change.number != last + 1 {
                break;
            }
            last = change.number;
            known.read(place, change);
            if !known.take_own(place, change) {
                changes.rows.insert((table, key(table, row.get(1))?));
            }
        }
        known.forget_own(place, last);
        Ok(last)
    }
}

/// A stream that listens. It is closed when dropped: no other operation of the pool gets it.
struct ListeningStream(Option<Object>);

impl Drop for ListeningStream {
    fn drop(&mut self) {
        drop(self.0.take().map(Object::take));
    }
}

/// Runs until dropped.
pub(super) async fn run(pool: PostgresPool, notice: Arc<ChangeNotice>) {
    let mut is_refused = false;
    loop {
        let pause = match serve(&pool, &notice).await {
            Err(PostgresError::Unusable(failure)) if failure.is_refusal() => {
                if !is_refused {
                    tracing::info!(%failure, "the database passes on no notifications: changes of other replicas are polled only");
                }
                is_refused = true;
                REFUSED_AGAIN_AFTER
            }
            ended => {
                is_refused = false;
                let error = ended.err().map(|error| error.to_string());
                tracing::debug!(error, "the stream that listens for changes is opened again");
                AGAIN_AFTER
            }
        };
        tokio::time::sleep(pause).await;
    }
}

/// Listens and notifies until the stream ends, or leads to a server that is no longer used.
async fn serve(pool: &PostgresPool, notice: &ChangeNotice) -> Result<(), PostgresError> {
    let stream = ListeningStream(Some(pool.connect().await?));
    let open = stream.0.as_ref().expect("taken only when dropped");
    pool.bounded(open.batch_execute(sql::LISTEN)).await?;
    // Notifications that were sent before were missed, so there may be changes.
    notice.may_have_changed();
    while !open.is_closed() && !pool.has_left(open) {
        tokio::select! {
            () = notice.committed.notified() => {
                notify(pool, open, notice).await?;
                tokio::time::sleep(PAUSE).await;
            }
            () = notice.stream_ended.notified() => {}
            () = tokio::time::sleep(CHECK_EVERY) => {}
        }
    }
    Ok(())
}

async fn notify(
    pool: &PostgresPool,
    stream: &Object,
    notice: &ChangeNotice,
) -> Result<(), PostgresFailure> {
    let own = typed(&[&notice.own]);
    pool.bounded(stream.query_typed(sql::NOTIFY, &own)).await.map(drop)
}

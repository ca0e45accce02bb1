//! [`LimitExchange`]: publishes the buckets of a replica, and adds the counts of other replicas. Pure: the caller
//! writes and reads the rows, and passes the time.
//!
//! A row has the sums of all buckets in use, not single requests. So if a row is written or read twice, late, or not at
//! all, the counts stay correct, and only arrive later.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::{LimitId, LimitSpace, Published, PublishedBucket, SharedBucket, SharedLimits};

/// Buckets of one space that a row has. Of more, those that were listed first are missing: a replica that starts later
/// does not find them.
const LISTED_MAX: usize = 1_024;

/// How long the last counts of a silent replica are remembered: longer than its row is kept.
const REMEMBERED: Duration = Duration::from_secs(5 * 3_600);

/// The state of the exchange with other replicas.
#[derive(Debug)]
pub struct LimitExchange {
    limits: Arc<SharedLimits>,
    /// The buckets in the row of this replica.
    listed: Vec<Arc<SharedBucket>>,
    /// Whether the row differs from the one that is stored.
    is_due: bool,
    generations: u32,
    replicas: HashMap<String, KnownReplica>,
}

/// What was read of another replica.
#[derive(Debug)]
struct KnownReplica {
    at: Instant,
    buckets: HashMap<(LimitSpace, LimitId), KnownBucket>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct KnownBucket {
    generation: u32,
    own: u32,
}

/// A row that another replica has written.
#[derive(Clone, Copy, Debug)]
pub struct ReplicaRow<'a> {
    /// The name of the replica.
    pub replica: &'a str,
    /// What it published.
    pub bytes: &'a [u8],
    /// How long ago.
    pub ago: Duration,
}

impl LimitExchange {
    /// An exchange that has not heard of any replica.
    pub fn new(limits: Arc<SharedLimits>) -> Self {
        let (listed, replicas) = (Vec::new(), HashMap::new());
        Self { limits, listed, is_due: false, generations: 0, replicas }
    }

    /// The row to write, if requests were allowed or heard of since the last one. The caller reports whether it was
    /// [written](Self::written).
    pub fn row(&mut self, now: Instant) -> Option<Vec<u8>> {
        let unpublished = std::mem::take(&mut *self.limits.unpublished.lock());
        if unpublished.is_empty() && !self.is_due {
            return None;
        }
        self.is_due = true;
        for bucket in unpublished {
            let mut state = bucket.state.lock();
            state.is_unpublished = false;
            if !state.is_listed {
                self.generations = self.generations.wrapping_add(1);
                (state.is_listed, state.generation) = (true, self.generations);
                drop(state);
                self.listed.push(bucket);
            }
        }
        self.unlist(now);
        let buckets = self.listed.iter().map(|bucket| bucket.published(now)).collect();
        serde_json::to_vec(&Published { buckets }).ok()
    }

    /// The row of [`LimitExchange::row`] is stored.
    pub fn written(&mut self) {
        self.is_due = false;
    }

    /// Removes buckets that say nothing any more, and the oldest of too many.
    fn unlist(&mut self, now: Instant) {
        let mut counts = [0; LimitSpace::ALL.len()];
        let mut kept: Vec<_> = Vec::with_capacity(self.listed.len());
        for bucket in self.listed.drain(..).rev() {
            let mut state = bucket.state.lock();
            let count = &mut counts[bucket.space as usize];
            if *count == LISTED_MAX || state.bucket.is_free(now) {
                (state.is_listed, state.own) = (false, 0);
            } else {
                *count += 1;
                drop(state);
                kept.push(bucket);
            }
        }
        kept.reverse();
        self.listed = kept;
    }

    /// The rows that were there when this replica started: its buckets become as empty as those.
    pub fn begin(&mut self, rows: &[ReplicaRow<'_>], now: Instant) {
        for row in rows {
            for one in self.read(row, now) {
                let bucket = self.limits.bucket_at(one.space, one.id, one.rate, now);
                let used = Duration::from_millis(one.used_ms).saturating_sub(row.ago);
                bucket.state.lock().bucket.use_up(used, now);
            }
        }
    }

    /// Adds what another replica has allowed since its last row. Returns how many requests that were.
    ///
    /// `is_first`: whether these are the first rows after a time without news. Counts that were assumed for other
    /// replicas are then offset against them.
    pub fn add_row(&mut self, row: &ReplicaRow<'_>, is_first: bool, now: Instant) -> u64 {
        let known = self.replicas.remove(row.replica).map(|heard| heard.buckets);
        let known = known.unwrap_or_default();
        let then = now.checked_sub(row.ago).unwrap_or(now);
        let mut total = 0;
        for one in self.read(row, now) {
            let before = known.get(&(one.space, one.id));
            let before = before.filter(|before| before.generation == one.generation);
            let count = one.own.saturating_sub(before.map_or(0, |before| before.own));
            if count == 0 {
                continue;
            }
            total += u64::from(count);
            let bucket = self.limits.bucket_at(one.space, one.id, one.rate, now);
            let mut state = bucket.state.lock();
            let covered = if is_first { count.min(state.assumed) } else { 0 };
            state.assumed = if is_first { state.assumed - covered } else { 0 };
            state.bucket.add(count - covered, then, now);
            // A starting replica uses one row per bucket, so each row must include the requests of all replicas.
            self.is_due |= state.is_listed;
        }
        self.replicas.retain(|_, heard| now.duration_since(heard.at) < REMEMBERED);
        total
    }

    /// The buckets of a row, which are remembered. A row of another version of Keyward may be unreadable: that replica
    /// then counts alone.
    fn read(&mut self, row: &ReplicaRow<'_>, now: Instant) -> Vec<PublishedBucket> {
        let Some(buckets) = Published::read(row.bytes) else {
            tracing::debug!(
                replica = row.replica,
                "the limits that a replica published cannot be read"
            );
            return Vec::new();
        };
        let heard =
            |one: &PublishedBucket| KnownBucket { generation: one.generation, own: one.own };
        let buckets_now = buckets.iter().map(|one| ((one.space, one.id), heard(one))).collect();
        let heard = KnownReplica { at: now, buckets: buckets_now };
        self.replicas.insert(row.replica.to_owned(), heard);
        buckets
    }
}

impl SharedBucket {
    fn published(&self, now: Instant) -> PublishedBucket {
        let state = self.state.lock();
        PublishedBucket {
            space: self.space,
            id: self.id,
            generation: state.generation,
            own: state.own,
            used_ms: u64::try_from(state.bucket.used(now).as_millis()).unwrap_or(u64::MAX),
            rate: state.bucket.rate(),
        }
    }
}

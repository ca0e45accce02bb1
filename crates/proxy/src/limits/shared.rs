//! [`SharedLimits`]: rate limits that all replicas of a store count together. Each counts in its own memory, publishes what
//! it allowed, and adds what the others allowed (`shared/exchange.rs`), so no request waits for the store. Replicas may
//! exceed a rate by what they allow before they hear of each other; that is paid back afterwards.
//!
//! A gateway that owns its store counts the same way, and publishes nothing.

mod exchange;
mod published;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::Duration;

use lru::LruCache;
use parking_lot::Mutex;
use sha2::{Digest, Sha256};
use tokio::time::Instant;

use super::rate::RateBucket;
use keyward_base::settings::Rate;

pub use exchange::{LimitExchange, ReplicaRow};
use published::LimitId;
pub use published::LimitSpace;
#[cfg(test)]
use published::Published;

/// From this number on, unused buckets of connections are removed.
const SWEPT_FROM: usize = 1_024;

/// Buckets that wait for the next publication. Requests of further ones are published with a later request.
const UNPUBLISHED_MAX: usize = 8_192;

/// The buckets of all rate limits of a gateway.
#[derive(Debug)]
pub struct SharedLimits {
    /// Hides addresses and names from the owner of the database.
    key: [u8; 32],
    /// Whether other replicas may count too.
    is_shared: bool,
    spaces: [Mutex<LruCache<LimitId, Arc<SharedBucket>>>; LimitSpace::ALL.len()],
    unpublished: Mutex<Vec<Arc<SharedBucket>>>,
    /// How many times a request counts: once, or once for each replica while they do not hear of each other.
    weight: AtomicU32,
}

/// The bucket of one connection, client or user.
#[derive(Debug)]
pub struct SharedBucket {
    space: LimitSpace,
    id: LimitId,
    state: Mutex<BucketState>,
}

#[derive(Debug)]
struct BucketState {
    bucket: RateBucket,
    /// Requests that this replica allowed since its bucket was listed.
    own: u32,
    /// Distinguishes the times that the bucket was listed.
    generation: u32,
    is_listed: bool,
    is_unpublished: bool,
    /// Requests that were counted for other replicas in advance, while nothing was heard of them.
    assumed: u32,
}

impl SharedLimits {
    /// Limits that replicas with the same key share; without a key, those of a gateway that owns its store.
    ///
    /// # Errors
    /// When the system has no randomness.
    pub fn new(shared_key: Option<&[u8; 32]>) -> Result<Arc<Self>, getrandom::Error> {
        let mut key = [0; 32];
        match shared_key {
            Some(shared) => key = *shared,
            None => getrandom::fill(&mut key)?,
        }
        Ok(Arc::new(Self {
            key,
            is_shared: shared_key.is_some(),
            spaces: LimitSpace::ALL.map(|_| Mutex::new(LruCache::unbounded())),
            unpublished: Mutex::default(),
            weight: AtomicU32::new(1),
        }))
    }

    /// Takes one request of `of`.
    ///
    /// # Errors
    /// The time until the next request is allowed.
    pub fn take(&self, space: LimitSpace, of: &[u8], rate: Rate) -> Result<(), Duration> {
        let now = Instant::now();
        self.take_from(&self.bucket(space, of, rate, now), rate, now)
    }

    /// The bucket of `of`.
    pub fn bucket(
        &self,
        space: LimitSpace,
        of: &[u8],
        rate: Rate,
        now: Instant,
    ) -> Arc<SharedBucket> {
        // The result is cut to half, so a plain hash after a secret key cannot be extended.
        let digest = Sha256::new().chain_update(self.key).chain_update([space as u8]);
        let digest: [u8; 32] = digest.chain_update(of).finalize().into();
        self.bucket_at(space, LimitId::of(&digest), rate, now)
    }

    fn bucket_at(
        &self,
        space: LimitSpace,
        id: LimitId,
        rate: Rate,
        now: Instant,
    ) -> Arc<SharedBucket> {
        let mut all = self.spaces[space as usize].lock();
        if let Some(bucket) = all.get(&id) {
            return bucket.clone();
        }
        match space.buckets_max() {
            Some(max) => {
                while all.len() >= max {
                    all.pop_lru();
                }
            }
            None if all.len() >= SWEPT_FROM && all.len().is_power_of_two() => sweep(&mut all, now),
            None => {}
        }
        let bucket = Arc::new(SharedBucket::new(space, id, rate, now));
        all.put(id, bucket.clone());
        bucket
    }

    /// Takes one request of a bucket.
    ///
    /// # Errors
    /// The time until the next request is allowed.
    pub fn take_from(
        &self,
        bucket: &Arc<SharedBucket>,
        rate: Rate,
        now: Instant,
    ) -> Result<(), Duration> {
        let weight = self.weight.load(Relaxed);
        let mut state = bucket.state.lock();
        if state.bucket.is_free(now) {
            state.assumed = 0;
        }
        state.bucket.take(rate, weight, now)?;
        if !self.is_shared {
            return Ok(());
        }
        state.own = state.own.saturating_add(1);
        state.assumed = state.assumed.saturating_add(weight - 1);
        if !state.is_unpublished {
            let mut unpublished = self.unpublished.lock();
            if unpublished.len() < UNPUBLISHED_MAX {
                state.is_unpublished = true;
                unpublished.push(bucket.clone());
            }
        }
        Ok(())
    }

    /// While replicas do not hear of each other, each request counts for all of them: together they stay within the limit,
    /// whichever of them a client uses.
    pub fn count_for(&self, replicas: u32) {
        self.weight.store(replicas.max(1), Relaxed);
    }

    /// The number of buckets in memory.
    #[cfg(test)]
    pub(crate) fn len(&self, space: LimitSpace) -> usize {
        self.spaces[space as usize].lock().len()
    }
}

/// Removes buckets that say nothing.
fn sweep(all: &mut LruCache<LimitId, Arc<SharedBucket>>, now: Instant) {
    let unused = all.iter().filter(|(_, one)| Arc::strong_count(one) == 1 && one.is_free(now));
    let unused: Vec<_> = unused.map(|(id, _)| *id).collect();
    for id in unused {
        all.pop(&id);
    }
}

impl SharedBucket {
    fn new(space: LimitSpace, id: LimitId, rate: Rate, now: Instant) -> Self {
        let state = BucketState {
            bucket: RateBucket::new(rate, now),
            own: 0,
            generation: 0,
            is_listed: false,
            is_unpublished: false,
            assumed: 0,
        };
        Self { space, id, state: Mutex::new(state) }
    }

    /// Whether a new bucket would be equal.
    pub fn is_free(&self, now: Instant) -> bool {
        self.state.lock().bucket.is_free(now)
    }
}

//! [`SharedLimits`]: rate limits that all replicas of a store count together. Each counts in its own memory, publishes what
//! it allowed, and adds what the others allowed (`shared/exchange.rs`), so no request waits for the store. Replicas may
//! exceed a rate by what they allow before they hear of each other; that is paid back afterwards.
//!
//! A gateway that owns its store counts the same way, and publishes nothing.

mod exchange;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::Duration;

use lru::LruCache;
use parking_lot::Mutex;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest, Sha256};
use tokio::time::Instant;

use super::rate::RateBucket;
use keyward_base::settings::Rate;

pub use exchange::{LimitExchange, ReplicaRow};

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

/// What a limit counts.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum LimitSpace {
    /// Requests with a connection.
    Connections,
    /// Failed authentications at the proxy, by address.
    AgentTokens,
    /// Failed authentications at the API, by address.
    ApiTokens,
    /// Requests to the API, by token or login.
    ApiRequests,
    /// Links that do not work, by address.
    SignInLinks,
    /// Passwords and one-time codes, by address and by user.
    SignIns,
}

/// A bucket within its space: a keyed hash of what it counts.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
struct LimitId(u128);

/// All buckets of a replica from which requests were taken and that are not full again.
#[derive(Debug, Serialize)]
struct Published {
    buckets: Vec<PublishedBucket>,
}

/// The same, as it is read: another version of Keyward may have other spaces.
#[derive(Deserialize)]
struct ReadCounts {
    buckets: Vec<serde_json::Value>,
}

#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
struct PublishedBucket {
    space: LimitSpace,
    id: LimitId,
    /// Changes when `own` begins at 0 again.
    generation: u32,
    /// Requests that this replica allowed.
    own: u32,
    /// In this time the bucket is full again, with the requests of all replicas that are known to this one.
    used_ms: u64,
    #[serde(with = "as_text")]
    rate: Rate,
}

impl Published {
    /// The buckets that this version knows.
    fn read(bytes: &[u8]) -> Option<Vec<PublishedBucket>> {
        let ReadCounts { buckets } = serde_json::from_slice(bytes).ok()?;
        Some(buckets.into_iter().filter_map(|one| serde_json::from_value(one).ok()).collect())
    }
}

impl LimitSpace {
    /// All spaces, in the order of their declaration.
    pub const ALL: [Self; 6] = [
        Self::Connections,
        Self::AgentTokens,
        Self::ApiTokens,
        Self::ApiRequests,
        Self::SignInLinks,
        Self::SignIns,
    ];

    /// The most buckets in memory; the one that was used longest ago is forgotten first. Agents cannot add connections, so
    /// those need no limit.
    fn buckets_max(self) -> Option<usize> {
        match self {
            Self::Connections => None,
            Self::AgentTokens | Self::ApiTokens | Self::ApiRequests | Self::SignInLinks => {
                Some(4_096)
            }
            Self::SignIns => Some(8_192),
        }
    }
}

impl LimitId {
    /// Of the first half of a hash.
    fn of(digest: &[u8; 32]) -> Self {
        let mut half = [0; 16];
        half.copy_from_slice(&digest[..16]);
        Self(u128::from_be_bytes(half))
    }
}

/// JSON has no numbers of this size.
impl Serialize for LimitId {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&format!("{:032x}", self.0))
    }
}

impl<'de> Deserialize<'de> for LimitId {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        u128::from_str_radix(&text, 16).map(Self).map_err(serde::de::Error::custom)
    }
}

mod as_text {
    use super::*;

    pub(super) fn serialize<S: Serializer>(rate: &Rate, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(rate)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Rate, D::Error> {
        String::deserialize(from)?.parse().map_err(serde::de::Error::custom)
    }
}

//! [`Usage`]: statistics of each connection and token since the start of the process, and the counts that a background
//! job must add to the stored histories ([`UsageHistory`]). The audit log is permanent.
//!
//! Each thread counts in its own shard, so that requests do not contend; a reader sums the shards. [`Recent`] has the
//! counts of a shard since the last collection. An entry of the shard stores its place in this list, so that counting
//! needs no second look-up. A collection takes the whole list and leaves an empty one.

mod collect;
mod history;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::hash::{BuildHasher, Hash};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use foldhash::fast::RandomState;
use jiff::Timestamp;
use parking_lot::Mutex;

use history::Unsaved;
use keyward_base::id::{AgentId, ConnectionId, OrgId, TokenId};

pub use self::history::{
    ExchangeUse, LatencyCounts, Remaining, UsageHistory, UsageKey, UsageOf, UsagePeriod, UsageStep,
    UsageSum,
};

/// Number of shards; more than there are cores. Threads that share one only wait for each other.
const PARTS: usize = 64;

/// Maximum number of connections and tokens per shard; further ones are not counted until removed ones are
/// forgotten.
const ENTRIES_MAX: usize = 100_000;

/// Maximum number of agents per connection and shard.
const AGENTS_MAX: usize = 10_000;

/// The statistics of all connections and tokens.
#[derive(Debug)]
pub struct Usage {
    since: OnceLock<Timestamp>,
    parts: Box<[Mutex<UsageShard>]>,
    /// Collected, but not stored yet.
    unsaved: Mutex<HashMap<UsageKey, Unsaved>>,
    /// The last hour of each organisation by minute.
    minutes: Mutex<HashMap<OrgId, Vec<UsagePeriod>>>,
    /// Held while histories are stored, and by readers of a stored history with its unsaved counts.
    saving: tokio::sync::RwLock<()>,
}

/// The counts of one or a few threads.
#[derive(Debug, Default)]
struct UsageShard {
    connections: HashMap<ConnectionId, CountedUsage<ConnectionUse>, RandomState>,
    tokens: HashMap<TokenId, CountedUsage<TokenUse>, RandomState>,
    /// Agents that were identified without a token: by a session or by their own listener.
    agents: HashMap<AgentId, RecentPlace, RandomState>,
    recent: Recent,
}

/// Statistics since the start, and the place of those since the last collection.
#[derive(Debug, Default)]
struct CountedUsage<T> {
    total: T,
    recent: RecentPlace,
}

/// The existing resources; statistics of others are dropped.
#[derive(Debug)]
pub struct Existing<'a> {
    pub connections: HashSet<&'a ConnectionId, RandomState>,
    pub agents: HashSet<&'a AgentId, RandomState>,
    pub tokens: HashSet<&'a TokenId, RandomState>,
}

/// Statistics of a connection.
#[derive(Clone, Debug, Default)]
pub struct ConnectionUse {
    /// Number of requests.
    pub requests: u64,
    /// Requests that were refused, got a status of 400 or more, or were cut by the provider.
    pub failed: u64,
    /// Responses of the provider with a status of 400 or more.
    pub statuses: BTreeMap<u16, u64>,
    /// Refusals by Keyward.
    pub refusals: BTreeMap<&'static str, u64>,
    /// Body bytes to the provider.
    pub bytes_in: u64,
    /// Body bytes from it.
    pub bytes_out: u64,
    /// Start of the last request.
    pub last: Option<Timestamp>,
    /// Counts by agent.
    pub agents: HashMap<AgentId, TokenUse, RandomState>,
    /// The provider's last reported rate limit.
    pub remaining: Option<Remaining>,
    /// Times until answers began.
    pub latency: LatencyCounts,
}

/// Number and last time of requests.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct TokenUse {
    /// Number of requests.
    pub requests: u64,
    /// Start of the last request.
    pub last: Option<Timestamp>,
}

impl Default for Usage {
    fn default() -> Self {
        let parts = (0..PARTS).map(|_| Mutex::default()).collect();
        Self {
            since: OnceLock::new(),
            parts,
            unsaved: Mutex::default(),
            minutes: Mutex::default(),
            saving: tokio::sync::RwLock::default(),
        }
    }
}

impl Usage {
    /// Starts counting. Only the first call has an effect.
    pub fn begin(&self, now: Timestamp) {
        let _ = self.since.set(now);
    }

    /// When counting started.
    pub fn since(&self) -> Option<Timestamp> {
        self.since.get().copied()
    }

    /// Counts an exchange.
    pub fn count(&self, used: &ExchangeUse<'_>) {
        if used.connection.is_none() && used.agent.is_none() && used.token.is_none() {
            return;
        }
        let mut part = self.part().lock();
        let UsageShard { connections, tokens, agents, recent } = &mut *part;
        if let Some(id) = used.connection {
            count_in(connections, id, ENTRIES_MAX, |of| {
                of.total.count(used);
                recent.count(&mut of.recent, used, || UsageOf::Connection(id.clone()));
            });
        }
        let mut count_agent = |place: &mut RecentPlace| {
            if let Some(agent) = used.agent {
                recent.count(place, used, || UsageOf::Agent(agent.clone()));
            }
        };
        match (used.token, used.agent) {
            (Some(token), _) => count_in(tokens, token, ENTRIES_MAX, |of| {
                of.total.count(used.at);
                count_agent(&mut of.recent);
            }),
            (None, Some(agent)) => count_in(agents, agent, ENTRIES_MAX, count_agent),
            (None, None) => {}
        }
    }

    /// Counts a control plane request with a token.
    pub fn count_token(&self, token: &TokenId, at: Timestamp) {
        let mut part = self.part().lock();
        count_in(&mut part.tokens, token, ENTRIES_MAX, |of| of.total.count(at));
    }

    /// The statistics of a connection.
    pub fn connection(&self, id: &ConnectionId) -> ConnectionUse {
        let mut sum = ConnectionUse::default();
        for part in &self.parts {
            if let Some(of) = part.lock().connections.get(id) {
                sum.add(&of.total);
            }
        }
        sum
    }

    /// When a request last used the connection.
    pub fn last_used(&self, id: &ConnectionId) -> Option<Timestamp> {
        let parts = self.parts.iter();
        parts.filter_map(|part| part.lock().connections.get(id)?.total.last).max()
    }

    /// The statistics of a token.
    pub fn token(&self, id: &TokenId) -> TokenUse {
        let mut sum = TokenUse::default();
        for part in &self.parts {
            if let Some(of) = part.lock().tokens.get(id) {
                sum.add(&of.total);
            }
        }
        sum
    }

    /// Drops the statistics of removed resources.
    pub fn keep(&self, existing: &Existing<'_>) {
        for part in &self.parts {
            let mut part = part.lock();
            part.connections.retain(|id, of| {
                of.total.agents.retain(|agent, _| existing.agents.contains(agent));
                existing.connections.contains(id)
            });
            part.tokens.retain(|id, _| existing.tokens.contains(id));
            part.agents.retain(|id, _| existing.agents.contains(id));
        }
    }

    fn part(&self) -> &Mutex<UsageShard> {
        static THREADS: AtomicUsize = AtomicUsize::new(0);
        thread_local! {
            static OWN: usize = THREADS.fetch_add(1, Relaxed) % PARTS;
        }
        &self.parts[OWN.with(|own| *own)]
    }
}

/// Counts in the entry of a key, which is inserted if there is room. The key is copied, and hashed again, only then.
fn count_in<K: Clone + Eq + Hash, V: Default, S: BuildHasher>(
    map: &mut HashMap<K, V, S>,
    key: &K,
    max: usize,
    count: impl FnOnce(&mut V),
) {
    if let Some(found) = map.get_mut(key) {
        count(found);
    } else if map.len() < max {
        count(map.entry(key.clone()).or_default());
    }
}

impl TokenUse {
    fn count(&mut self, at: Timestamp) {
        self.requests += 1;
        self.last = self.last.max(Some(at));
    }

    fn add(&mut self, other: &Self) {
        self.requests += other.requests;
        self.last = self.last.max(other.last);
    }
}

impl ConnectionUse {
    fn count(&mut self, used: &ExchangeUse<'_>) {
        self.requests += 1;
        self.bytes_in += used.bytes.0;
        self.bytes_out += used.bytes.1;
        self.last = self.last.max(Some(used.at));
        let refused = used.status.filter(|status| *status >= 400);
        match (used.code, refused) {
            (Some(code), _) => *self.refusals.entry(code.as_str()).or_default() += 1,
            (None, Some(status)) => *self.statuses.entry(status).or_default() += 1,
            (None, None) => {}
        }
        if used.code.is_some() || refused.is_some() || used.aborted {
            self.failed += 1;
        }
        if let Some(waited) = used.waited {
            self.latency.count(waited);
        }
        if let Some(agent) = used.agent {
            count_in(&mut self.agents, agent, AGENTS_MAX, |of| of.count(used.at));
        }
        self.remaining = used.limit.or(self.remaining);
    }

    fn add(&mut self, other: &Self) {
        self.requests += other.requests;
        self.failed += other.failed;
        self.bytes_in += other.bytes_in;
        self.bytes_out += other.bytes_out;
        self.last = self.last.max(other.last);
        for (status, count) in &other.statuses {
            *self.statuses.entry(*status).or_default() += count;
        }
        for (code, count) in &other.refusals {
            *self.refusals.entry(code).or_default() += count;
        }
        for (agent, of) in &other.agents {
            self.agents.entry(agent.clone()).or_default().add(of);
        }
        self.latency.add(&other.latency);
        self.remaining = Remaining::newer(self.remaining, other.remaining);
    }
}

/// The sums of a shard.
#[derive(Debug)]
struct Recent {
    /// The number of the list, which increases when the list is taken. Places in earlier lists are no longer valid.
    round: u64,
    sums: Vec<RecentSum>,
}

/// A sum and its key. A key may occur more than once, because an agent may have several tokens.
#[derive(Debug)]
struct RecentSum {
    key: UsageKey,
    sum: UsageSum,
}

/// A place in [`Recent`]. The default place is never valid.
#[derive(Clone, Copy, Debug, Default)]
struct RecentPlace {
    round: u64,
    index: usize,
}

impl Default for Recent {
    fn default() -> Self {
        Self { round: 1, sums: Vec::new() }
    }
}

impl Recent {
    /// Adds an exchange to the sum at a place. An exchange without an organisation is not counted.
    fn count(
        &mut self,
        place: &mut RecentPlace,
        used: &ExchangeUse<'_>,
        of: impl FnOnce() -> UsageOf,
    ) {
        if let Some(org) = used.org {
            self.at(place, || UsageKey { org: org.clone(), of: of() }).count(used);
        }
    }

    /// The sum at a place; a new one if the place is of an earlier round.
    fn at(&mut self, place: &mut RecentPlace, key: impl FnOnce() -> UsageKey) -> &mut UsageSum {
        if place.round != self.round {
            *place = RecentPlace { round: self.round, index: self.sums.len() };
            self.sums.push(RecentSum { key: key(), sum: UsageSum::default() });
        }
        &mut self.sums[place.index].sum
    }

    fn take(&mut self) -> Vec<RecentSum> {
        self.round += 1;
        let room = Vec::with_capacity(self.sums.len());
        std::mem::replace(&mut self.sums, room)
    }

    fn sums(&self) -> &[RecentSum] {
        &self.sums
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::thread;
    use std::time::Duration;

    use super::*;
    use keyward_base::codes::Code;

    fn used<'a>(connection: &'a ConnectionId, agent: &'a AgentId) -> ExchangeUse<'a> {
        ExchangeUse {
            connection: Some(connection),
            agent: Some(agent),
            status: Some(200),
            waited: Some(Duration::from_millis(3)),
            bytes: (1, 2),
            ..ExchangeUse::begun(Timestamp::UNIX_EPOCH)
        }
    }

    #[test]
    fn requests_counted_by_several_threads_are_added_up() {
        let (usage, id, agent) =
            (Arc::new(Usage::default()), ConnectionId::random(), AgentId::random());
        let threads = (0..4).map(|_| {
            let (usage, id, agent) = (usage.clone(), id.clone(), agent.clone());
            thread::spawn(move || (0..100).for_each(|_| usage.count(&used(&id, &agent))))
        });
        threads.collect::<Vec<_>>().into_iter().for_each(|it| it.join().expect("it counts"));
        let sum = usage.connection(&id);
        assert_eq!((sum.requests, sum.failed, sum.bytes_in, sum.bytes_out), (400, 0, 400, 800));
        assert_eq!(sum.agents[&agent].requests, 400);
        assert_eq!(usage.connection(&ConnectionId::random()).requests, 0);
    }

    #[test]
    fn a_full_map_accepts_no_new_key_and_still_counts_existing_keys() {
        let mut map: HashMap<&str, u64, RandomState> = HashMap::default();
        for key in ["a", "b", "a", "c", "b", "a"] {
            count_in(&mut map, &key, 2, |count| *count += 1);
        }
        assert_eq!((map.len(), map["a"], map["b"]), (2, 3, 2));
    }

    #[test]
    fn statistics_of_removed_resources_are_dropped() {
        let usage = Usage::default();
        let [kept, gone] = [(); 2].map(|()| ConnectionId::random());
        let [stays, left] = [(); 2].map(|()| AgentId::random());
        let [valid, revoked] = [(); 2].map(|()| TokenId::random());
        for (connection, agent) in [(&kept, &stays), (&kept, &left), (&gone, &stays)] {
            usage.count(&used(connection, agent));
        }
        for token in [&valid, &revoked] {
            usage.count_token(token, Timestamp::UNIX_EPOCH);
        }
        usage.keep(&Existing {
            connections: [&kept].into_iter().collect(),
            agents: [&stays].into_iter().collect(),
            tokens: [&valid].into_iter().collect(),
        });
        let of = usage.connection(&kept);
        assert_eq!((of.requests, of.agents.len()), (2, 1));
        assert_eq!(usage.connection(&gone).requests, 0);
        assert_eq!([&valid, &revoked].map(|token| usage.token(token).requests), [1, 0]);
    }

    #[test]
    fn a_failure_is_counted_by_its_origin() {
        let (usage, id, agent) = (Usage::default(), ConnectionId::random(), AgentId::random());
        let one = || used(&id, &agent);
        usage.count(&ExchangeUse { status: Some(503), ..one() });
        usage.count(&ExchangeUse { status: Some(429), code: Some(Code::RateLimited), ..one() });
        usage.count(&ExchangeUse { aborted: true, ..one() });
        usage.count(&one());
        let sum = usage.connection(&id);
        assert_eq!((sum.requests, sum.failed), (4, 3));
        assert_eq!((sum.statuses[&503], sum.statuses.len()), (1, 1));
        assert_eq!((sum.refusals["rate_limited"], sum.refusals.len()), (1, 1));
    }
}

//! [`Evictable`]: streams that may be closed to make room for new ones, because their peer has not
//! authenticated or sent a request yet. The address with the most such streams loses its oldest one first,
//! so that a client that opens many takes no room from clients at other addresses.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

use foldhash::fast::RandomState;
use parking_lot::Mutex;
use tokio::sync::Notify;

/// Bits of an IPv6 address that identify a client: a host usually gets a whole /64.
const IPV6_PREFIX: u32 = 64;

/// The evictable streams of one or several listeners. Each holds a `T`, such as a permit, which passes to
/// the stream that replaces it.
#[derive(Debug)]
pub struct Evictable<T> {
    max: usize,
    waiting: Mutex<WaitingStreams<T>>,
}

/// One stream's place in the set; released when dropped.
#[derive(Debug)]
pub struct EvictableSlot<T> {
    of: Arc<Evictable<T>>,
    source: PeerAddress,
    shared: Arc<EvictableShared<T>>,
    has_evicted_another: bool,
    /// Its key in [`WaitingStreams::order`]; `None` while the stream is not evictable.
    number: Mutex<Option<u64>>,
}

/// The peer's IPv4 address or IPv6 prefix; `None` for a Unix socket.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct PeerAddress(Option<IpAddr>);

/// State that an [`EvictableSlot`] shares with its entry in [`WaitingStreams`].
#[derive(Debug)]
struct EvictableShared<T> {
    held: Mutex<Option<T>>,
    evicted: AtomicBool,
    eviction: Notify,
}

#[derive(Debug)]
struct WaitingStreams<T> {
    /// Evictable streams by number, the oldest first.
    order: BTreeMap<u64, (PeerAddress, Arc<EvictableShared<T>>)>,
    counts: HashMap<PeerAddress, usize, RandomState>,
    next: u64,
}

impl<T> Evictable<T> {
    /// A set of at most `max` evictable streams.
    pub fn new(max: usize) -> Arc<Self> {
        let waiting =
            WaitingStreams { order: BTreeMap::new(), counts: HashMap::default(), next: 0 };
        Arc::new(Self { max: max.max(1), waiting: Mutex::new(waiting) })
    }

    /// Adds a stream from address `from`. It holds the result of `take`; when that is `None`, or the set is
    /// full, another stream is evicted and its `T` is used. `None` when no stream can be evicted.
    pub fn enter(
        self: &Arc<Self>,
        from: Option<IpAddr>,
        take: impl FnOnce() -> Option<T>,
    ) -> Option<EvictableSlot<T>> {
        let source = PeerAddress::of(from);
        let mut waiting = self.waiting.lock();
        let free = if waiting.order.len() < self.max { take() } else { None };
        let has_evicted_another = free.is_none();
        let held = free.or_else(|| waiting.evict())?;
        let (evicted, eviction) = (AtomicBool::new(false), Notify::new());
        let shared = Arc::new(EvictableShared { held: Mutex::new(Some(held)), evicted, eviction });
        let number = waiting.add(source, &shared);
        drop(waiting);
        let number = Mutex::new(Some(number));
        Some(EvictableSlot { of: self.clone(), source, shared, has_evicted_another, number })
    }
}

impl<T> EvictableSlot<T> {
    /// Makes the stream not evictable. `false` when it has been evicted before.
    pub fn make_permanent(&self) -> bool {
        let Some(number) = self.number.lock().take() else { return !self.is_evicted() };
        self.of.waiting.lock().remove(number, self.source);
        // An eviction holds the lock while it sets the flag.
        !self.is_evicted()
    }

    /// Makes the stream evictable again, as the newest one.
    pub fn make_evictable(&self) {
        let mut number = self.number.lock();
        if number.is_none() && !self.is_evicted() {
            *number = Some(self.of.waiting.lock().add(self.source, &self.shared));
        }
    }

    /// Whether another stream was evicted for this one.
    pub fn has_evicted_another(&self) -> bool {
        self.has_evicted_another
    }

    /// Whether the stream has been evicted.
    pub fn is_evicted(&self) -> bool {
        self.shared.evicted.load(SeqCst)
    }

    /// Resolves when the stream is evicted.
    pub async fn evicted(&self) {
        while !self.is_evicted() {
            self.shared.eviction.notified().await;
        }
    }
}

impl<T> Drop for EvictableSlot<T> {
    fn drop(&mut self) {
        self.make_permanent();
    }
}

impl<T> WaitingStreams<T> {
    fn add(&mut self, source: PeerAddress, shared: &Arc<EvictableShared<T>>) -> u64 {
        let number = self.next;
        self.next += 1;
        self.order.insert(number, (source, shared.clone()));
        *self.counts.entry(source).or_default() += 1;
        number
    }

    fn remove(&mut self, number: u64, source: PeerAddress) -> Option<Arc<EvictableShared<T>>> {
        let (_, shared) = self.order.remove(&number)?;
        if let Some(count) = self.counts.get_mut(&source) {
            *count -= 1;
            if *count == 0 {
                self.counts.remove(&source);
            }
        }
        Some(shared)
    }

    /// Evicts the oldest stream of the address that has the most, and returns what it held.
    fn evict(&mut self) -> Option<T> {
        let most = self.counts.values().max()?;
        let has_most = |source: &PeerAddress| self.counts.get(source) == Some(most);
        let longest = self.order.iter().find(|(_, (source, _))| has_most(source));
        let (number, source) = longest.map(|(number, (source, _))| (*number, *source))?;
        let shared = self.remove(number, source)?;
        shared.evicted.store(true, SeqCst);
        shared.eviction.notify_one();
        shared.held.lock().take()
    }
}

impl PeerAddress {
    /// The one that counts as one client with `from`.
    pub fn of(from: Option<IpAddr>) -> Self {
        Self(from.map(|address| match address {
            IpAddr::V4(_) => address,
            IpAddr::V6(v6) => {
                let prefix = u128::from(v6) & (u128::MAX << (128 - IPV6_PREFIX));
                Ipv6Addr::from(prefix).into()
            }
        }))
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    const FIRST: &str = "192.0.2.1";
    const SECOND: &str = "192.0.2.2";

    fn enter(
        set: &Arc<Evictable<u32>>,
        from: &str,
        held: Option<u32>,
    ) -> Option<EvictableSlot<u32>> {
        set.enter(Some(from.parse().expect("an address")), || held)
    }

    fn held(place: &EvictableSlot<u32>) -> Option<u32> {
        *place.shared.held.lock()
    }

    #[test]
    fn the_oldest_waiting_stream_of_the_address_with_the_most_is_evicted_first() {
        let set = Evictable::new(4);
        let few = enter(&set, SECOND, Some(0)).unwrap();
        let many: Vec<_> = (1..4).map(|n| enter(&set, FIRST, Some(n)).unwrap()).collect();
        let next = enter(&set, SECOND, Some(9)).unwrap();
        let gone: Vec<_> = many.iter().map(EvictableSlot::is_evicted).collect();
        assert_eq!(gone, [true, false, false]);
        assert!(!few.is_evicted() && !next.is_evicted());
        assert_eq!((held(&next), held(&many[0])), (Some(1), None), "what it held is handed over");
        assert!(many[0].evicted().now_or_never().is_some());
        assert!(few.evicted().now_or_never().is_none());
    }

    #[test]
    fn without_a_free_permit_a_new_stream_gets_that_of_an_evicted_one() {
        let set = Evictable::new(4);
        assert!(enter(&set, FIRST, None).is_none(), "nobody waits");
        let first = enter(&set, FIRST, Some(1)).unwrap();
        assert_eq!(held(&enter(&set, SECOND, None).unwrap()), Some(1));
        assert!(first.is_evicted());
    }

    #[test]
    fn a_permanent_stream_is_not_evicted_until_it_is_evictable_again() {
        let set = Evictable::new(2);
        let [first, second] = [1, 2].map(|n| enter(&set, FIRST, Some(n)).unwrap());
        assert!(first.make_permanent() && first.make_permanent());
        let third = enter(&set, FIRST, Some(3)).unwrap();
        assert!(!second.is_evicted(), "two wait");
        first.make_evictable();
        first.make_evictable();
        drop(third);
        assert_eq!(set.waiting.lock().order.len(), 2);
        let fourth = enter(&set, FIRST, Some(4)).unwrap();
        assert!(second.is_evicted() && !first.is_evicted(), "it has waited for the longest time");
        assert!(!second.make_permanent());
        second.make_evictable();
        drop((first, second, fourth));
        let waiting = set.waiting.lock();
        assert!(waiting.order.is_empty() && waiting.counts.is_empty(), "nothing is left behind");
    }

    #[test]
    fn addresses_of_one_ipv6_host_count_together() {
        let set = Evictable::new(3);
        let other = enter(&set, "2001:db8:0:2::1", Some(0)).unwrap();
        let one = enter(&set, "2001:db8:0:1::1", Some(1)).unwrap();
        let two = enter(&set, "2001:db8:0:1:ffff::2", Some(2)).unwrap();
        drop(enter(&set, "2001:db8:0:3::1", Some(3)).unwrap());
        assert!(one.is_evicted() && !other.is_evicted() && !two.is_evicted());
    }
}

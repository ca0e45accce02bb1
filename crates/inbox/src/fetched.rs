//! [`FetchedKeys`]: a cache of the certificates and sets of keys that services sign with.
//!
//! Anyone can send a request that needs a key, so the numbers of fetches and of kept documents are bounded. Requests to
//! one hook must not use up the fetches of others, and requests that name new places not those of places in use.

use std::collections::HashMap;

use bytes::Bytes;
use jiff::{SignedDuration, Timestamp};
use parking_lot::Mutex;

use keyward_base::id::{ConnectionId, HookId};
use keyward_hooks::KeyPlace;

/// How long a document is used. Services publish new keys earlier than they sign with them.
const KEPT_FOR: SignedDuration = SignedDuration::from_hours(1);

/// Documents of at most 64 KiB each.
const KEPT_MAX: usize = 64;

/// Fetches a minute from new places, for all hooks.
const FETCHES_MAX: usize = 60;

/// Fetches a minute from new places for one hook. A service has one or two keys.
const HOOK_FETCHES_MAX: usize = 10;

/// Fetches a minute from a place whose document is kept, or was until it expired: requests at the same time make one
/// each.
const PLACE_FETCHES_MAX: usize = 10;

/// The place of a document, and the connection if the place needs a credential.
pub(crate) type Origin = (Option<ConnectionId>, KeyPlace);

/// Fetched documents.
#[derive(Debug)]
pub(crate) struct FetchedKeys {
    kept: Mutex<HashMap<Origin, FetchedDocument>>,
    fetches: Mutex<Fetches>,
}

/// Fetches of the current minute.
#[derive(Debug)]
struct Fetches {
    since: Timestamp,
    of_hooks: HashMap<HookId, usize>,
    of_places: HashMap<Origin, usize>,
}

#[derive(Clone, Debug)]
pub(crate) struct FetchedDocument {
    pub(crate) document: Bytes,
    pub(crate) at: Timestamp,
}

impl Default for FetchedKeys {
    fn default() -> Self {
        Self { kept: Mutex::default(), fetches: Mutex::new(Fetches::since(Timestamp::MIN)) }
    }
}

impl Fetches {
    fn since(since: Timestamp) -> Self {
        Self { since, of_hooks: HashMap::new(), of_places: HashMap::new() }
    }

    /// Counts a fetch from a place that was fetched before.
    fn may_repeat(&mut self, origin: &Origin) -> bool {
        let of_place = self.of_places.entry(origin.clone()).or_default();
        *of_place += 1;
        *of_place <= PLACE_FETCHES_MAX
    }

    /// Counts a fetch from a new place.
    fn may_begin(&mut self, hook: &HookId) -> bool {
        let of_all: usize = self.of_hooks.values().sum();
        let of_hook = self.of_hooks.entry(hook.clone()).or_default();
        let may = of_all < FETCHES_MAX && *of_hook < HOOK_FETCHES_MAX;
        *of_hook += usize::from(may);
        may
    }
}

impl FetchedKeys {
    pub(crate) fn get(&self, origin: &Origin, now: Timestamp) -> Option<FetchedDocument> {
        let kept = self.kept.lock().get(origin).cloned();
        kept.filter(|kept| now.duration_since(kept.at) < KEPT_FOR)
    }

    pub(crate) fn put(&self, origin: Origin, document: Bytes, at: Timestamp) {
        let mut kept = self.kept.lock();
        if kept.len() >= KEPT_MAX && !kept.contains_key(&origin) {
            let oldest = kept.iter().min_by_key(|(_, kept)| kept.at);
            if let Some(oldest) = oldest.map(|(origin, _)| origin.clone()) {
                kept.remove(&oldest);
            }
        }
        kept.insert(origin, FetchedDocument { document, at });
    }

    /// Whether a document may be fetched for a request to this hook.
    pub(crate) fn may_fetch(&self, hook: &HookId, origin: &Origin, now: Timestamp) -> bool {
        let is_known = self.kept.lock().contains_key(origin);
        let mut fetches = self.fetches.lock();
        if now.duration_since(fetches.since) >= SignedDuration::from_mins(1) {
            *fetches = Fetches::since(now);
        }
        match is_known {
            true => fetches.may_repeat(origin),
            false => fetches.may_begin(hook),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(number: usize) -> Origin {
        (None, KeyPlace::Public(format!("https://service.example/{number}")))
    }

    /// How many of so many new places a hook may fetch at this second.
    fn fetched(keys: &FetchedKeys, hook: &HookId, places: usize, second: i64) -> usize {
        let now = Timestamp::from_second(second).unwrap();
        (0..places).filter(|number| keys.may_fetch(hook, &place(*number), now)).count()
    }

    #[test]
    fn fetches_from_new_places_are_bounded_for_each_hook_and_for_all() {
        let keys = FetchedKeys::default();
        let hooks: Vec<_> = (0..7).map(|_| HookId::random()).collect();
        assert_eq!(fetched(&keys, &hooks[0], 100, 0), 10);
        assert_eq!(fetched(&keys, &hooks[0], 100, 59), 0);
        for hook in &hooks[1..6] {
            assert_eq!(fetched(&keys, hook, 100, 59), 10, "another hook has its own");
        }
        assert_eq!(fetched(&keys, &hooks[6], 100, 59), 0, "all of them are used up");
        assert_eq!(fetched(&keys, &hooks[6], 100, 60), 10);
    }

    #[test]
    fn a_kept_document_is_fetched_again_when_the_fetches_from_new_places_are_used_up() {
        let (keys, hook) = (FetchedKeys::default(), HookId::random());
        let (known, now) = (place(1000), Timestamp::from_second(7200).unwrap());
        keys.put(known.clone(), Bytes::new(), Timestamp::UNIX_EPOCH);
        assert_eq!(fetched(&keys, &hook, 100, 7200), 10);
        assert!(keys.get(&known, now).is_none(), "it has expired");
        let again = (0..100).filter(|_| keys.may_fetch(&hook, &known, now)).count();
        assert_eq!(again, 10);
    }
}

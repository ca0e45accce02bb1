//! [`FetchedKeys`]: a cache of the certificates and sets of keys that services sign with.
//!
//! Anyone can send a request that needs a key, so the numbers of fetches and of kept documents are bounded.

use std::collections::HashMap;

use bytes::Bytes;
use jiff::{SignedDuration, Timestamp};
use parking_lot::Mutex;

use keyward_base::id::ConnectionId;
use keyward_hooks::KeyPlace;

/// How long a document is used. Services publish new keys earlier than they sign with them.
const KEPT_FOR: SignedDuration = SignedDuration::from_hours(1);

/// Documents of at most 64 KiB each.
const KEPT_MAX: usize = 64;

/// Fetches a minute, of all hooks.
const FETCHES_MAX: usize = 60;

/// The place of a document, and the connection if the place needs a credential.
pub(crate) type Origin = (Option<ConnectionId>, KeyPlace);

/// Fetched documents.
#[derive(Debug)]
pub(crate) struct FetchedKeys {
    kept: Mutex<HashMap<Origin, FetchedDocument>>,
    /// Fetches, and since when they are counted.
    fetches: Mutex<(Timestamp, usize)>,
}

#[derive(Clone, Debug)]
pub(crate) struct FetchedDocument {
    pub(crate) document: Bytes,
    pub(crate) at: Timestamp,
}

impl Default for FetchedKeys {
    fn default() -> Self {
        Self { kept: Mutex::default(), fetches: Mutex::new((Timestamp::MIN, 0)) }
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

    pub(crate) fn may_fetch(&self, now: Timestamp) -> bool {
        let mut fetches = self.fetches.lock();
        if now.duration_since(fetches.0) >= SignedDuration::from_mins(1) {
            *fetches = (now, 0);
        }
        fetches.1 += 1;
        fetches.1 <= FETCHES_MAX
    }
}

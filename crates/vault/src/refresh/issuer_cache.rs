//! The metadata of issuers in memory, and the pauses after failures. [`EndpointChanges`]: connections whose authorization
//! server may have changed its endpoints, queued for the reader of metadata.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use lru::LruCache;
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::backoff::Backoff;
use crate::grant::oauth::{Metadata, MetadataError};
use keyward_base::id::{ConnectionId, OrgId};
use keyward_base::time::Moment;
use keyward_base::tokens::TokenSettings;

/// Most cached issuers.
const KEPT_MAX: usize = 256;

/// All issuers whose metadata was read.
#[derive(Debug)]
pub(crate) struct Issuers(pub(crate) Mutex<LruCache<String, Arc<Issuer>>>);

#[derive(Debug, Default)]
pub(crate) struct Issuer {
    /// Held while the metadata is read.
    pub(crate) reading: tokio::sync::Mutex<()>,
    pub(crate) state: Mutex<IssuerState>,
}

#[derive(Debug, Default)]
pub(crate) struct IssuerState {
    pub(crate) read: Option<(Timestamp, Arc<Metadata>)>,
    /// The number of failures: callers that waited for a reader share its failure.
    pub(crate) failures: u64,
    pub(crate) failed: Option<Arc<MetadataError>>,
    pub(crate) backoff: Backoff,
}

impl Default for Issuers {
    fn default() -> Self {
        Self(Mutex::new(LruCache::new(NonZeroUsize::new(KEPT_MAX).expect("not zero"))))
    }
}

impl Issuers {
    pub(crate) fn issuer(&self, issuer: &str) -> Arc<Issuer> {
        self.0.lock().get_or_insert(issuer.to_owned(), Arc::default).clone()
    }
}

impl Issuer {
    /// The metadata that was read recently.
    pub(crate) fn known(&self, now: Timestamp, settings: &TokenSettings) -> Option<Arc<Metadata>> {
        let age = SignedDuration::try_from(settings.metadata_age_max);
        let age = age.unwrap_or(SignedDuration::MAX);
        let state = self.state.lock();
        let (read, metadata) = state.read.as_ref()?;
        (now.duration_since(*read) < age).then(|| metadata.clone())
    }

    pub(crate) fn failures(&self) -> u64 {
        self.state.lock().failures
    }

    /// The rest of the pause after the last failure, with the failure.
    pub(crate) fn paused(&self, now: Moment) -> Option<(Duration, Arc<MetadataError>)> {
        let state = self.state.lock();
        Some((state.backoff.rest(now)?, state.failed.clone()?))
    }

    /// The failure of the reader that this caller waited for.
    pub(crate) fn failed_since(&self, failures: u64) -> Option<Arc<MetadataError>> {
        let state = self.state.lock();
        state.failed.clone().filter(|_| state.failures > failures)
    }
}

/// Longest queue; dropped connections are queued again by their next failure.
const WAITING_MAX: usize = 256;

/// The queue; flights add to it.
#[derive(Default)]
pub(crate) struct EndpointChanges(Mutex<Waiting>, Notify);

/// Waiting connections, in order.
type Waiting = Vec<(OrgId, ConnectionId)>;

impl EndpointChanges {
    /// Queues a connection whose server does not know an endpoint or the client any more.
    pub(crate) fn report(&self, org: &OrgId, connection: &ConnectionId) {
        let Self(waiting, told) = self;
        let mut waiting = waiting.lock();
        let one = (org.clone(), connection.clone());
        if waiting.len() < WAITING_MAX && !waiting.contains(&one) {
            waiting.push(one);
            told.notify_one();
        }
    }

    /// Waits for queued connections and takes them all; for one reader.
    pub(crate) async fn all(&self) -> Vec<(OrgId, ConnectionId)> {
        let Self(waiting, told) = self;
        loop {
            let all = std::mem::take(&mut *waiting.lock());
            if !all.is_empty() {
                return all;
            }
            told.notified().await;
        }
    }
}

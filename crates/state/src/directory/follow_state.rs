//! [`FollowState`]: how far this replica has followed a store that other replicas write, and how long the store has not
//! answered.

use std::mem;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::Instant;

use super::error::DirectoryError;
use crate::store::shared::ReplicaPosition;
use crate::store::{Store, StoreError};

/// How opening treats rows that look like leftovers of a crash.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Leftovers {
    /// No other process can be writing them.
    Remove,
    /// Another replica may be writing them now.
    Keep,
}

/// How far this replica has followed the store.
#[derive(Debug)]
pub(super) struct FollowState {
    /// The position at the start; taken by the first follower.
    pub(super) begun: Mutex<Option<ReplicaPosition>>,
    /// The position up to which the view is complete.
    pub(super) reached: watch::Sender<ReplicaPosition>,
    pub(super) leftovers: Leftovers,
    /// When the view was last known to have all changes.
    pub(super) fresh: Mutex<Instant>,
    /// For how long the view may lack changes until it is stale.
    pub(super) stale_max: Mutex<Duration>,
    pub(super) outage: Mutex<Outage>,
    logged: Mutex<OutageLog>,
}

/// The last time that the store did not answer.
#[derive(Clone, Copy, Debug, Default)]
pub(super) enum Outage {
    #[default]
    Never,
    /// The store has not answered since then.
    Now(Instant),
    /// The duration and the end of the last outage.
    Ended(Duration, Instant),
}

impl FollowState {
    /// Called before the rows are read, so that changes during the read are followed too.
    pub(super) async fn begin(store: &dyn Store) -> Result<Self, StoreError> {
        let (begun, leftovers) = match store.shared() {
            None => (None, Leftovers::Remove),
            Some(shared) => {
                let leftovers = match shared.is_alone().await? {
                    true => Leftovers::Remove,
                    false => Leftovers::Keep,
                };
                (Some(shared.position().await?), leftovers)
            }
        };
        let (fresh, stale_max) = (Mutex::new(Instant::now()), Mutex::new(Duration::MAX));
        let (reached, outage) = (watch::Sender::default(), Mutex::default());
        let (begun, logged) = (Mutex::new(begun), Mutex::default());
        Ok(Self { begun, reached, leftovers, fresh, stale_max, outage, logged })
    }
}

impl FollowState {
    /// Records that the store has answered: the view has all changes that were made before `asked`.
    pub(super) fn record_answer(&self, asked: Instant) {
        let mut outage = self.outage.lock();
        if let Outage::Now(from) = *outage {
            *outage = Outage::Ended(from.elapsed(), Instant::now());
        }
        if self.logged.lock().answers() {
            tracing::info!(id = "store_back", "the store answers again");
        }
        *self.fresh.lock() = asked;
    }

    /// Records that the store did not answer.
    pub(super) fn record_failure(&self, error: &DirectoryError) {
        let mut outage = self.outage.lock();
        if !matches!(*outage, Outage::Now(_)) {
            // The outage begins with the last answer.
            *outage = Outage::Now(*self.fresh.lock());
        }
        if self.logged.lock().fails(error.to_string()) {
            tracing::error!(id = "store_away", %error, "changes of other replicas cannot be read: requests are served from memory");
        }
    }
}

/// Which failures of the store are logged: each cause, but not the first failure of an outage, which may be the end of
/// a stream that is opened again at once.
#[derive(Debug, Default)]
struct OutageLog {
    has_failed: bool,
    /// The last cause that was logged.
    cause: Option<String>,
}

impl OutageLog {
    /// Whether this failure is logged.
    fn fails(&mut self, cause: String) -> bool {
        let is_logged = self.has_failed && self.cause.as_ref() != Some(&cause);
        self.has_failed = true;
        if is_logged {
            self.cause = Some(cause);
        }
        is_logged
    }

    /// Whether the end of the outage is logged.
    fn answers(&mut self) -> bool {
        mem::take(self).cause.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outage_is_logged_with_each_cause_but_not_a_single_failure() {
        let mut log = OutageLog::default();
        assert!(!log.answers());
        assert!(!log.fails("cut".to_owned()));
        assert!(!log.answers(), "the next poll succeeded");
        let causes = ["cut", "refused", "refused", "starting", "starting"];
        let logged = causes.map(|cause| log.fails(cause.to_owned()));
        assert_eq!(logged, [false, true, false, true, false]);
        assert!(log.answers());
        assert!(!log.answers());
        let logged = ["silent", "silent", "silent"].map(|cause| log.fails(cause.to_owned()));
        assert_eq!(logged, [false, true, false]);
    }
}

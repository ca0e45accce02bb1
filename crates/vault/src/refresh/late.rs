//! Collects tokens that arrive after their connection was removed, so that they are revoked too. Pending refreshes
//! are counted for each connection; a late token is kept only while a removal waits for it.
//!
//! [`OrphanedGrants`]: responses to refreshes of connections that another replica has removed. If the removal must revoke the
//! grant, they are queued for `oauth/revoke.rs`.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use zeroize::Zeroizing;

use keyward_base::id::ConnectionId;
use keyward_state::directory::ConnectionRecord;

/// The running refreshes by connection.
#[derive(Clone, Default)]
pub(crate) struct PendingRefreshes(Arc<Mutex<HashMap<ConnectionId, PendingConnection>>>);

#[derive(Default)]
struct PendingConnection {
    flights: usize,
    /// Whether the connection is being removed, so that late responses are kept.
    wanted: bool,
    answers: Vec<Zeroizing<Vec<u8>>>,
    is_lost: bool,
    landed: Arc<Notify>,
}

/// A running refresh; ends when dropped.
pub(crate) struct PendingRefresh(PendingRefreshes, ConnectionId);

/// Late responses to the refreshes of a removed connection, for revocation.
pub struct LateAnswers(PendingRefreshes, ConnectionId);

impl PendingRefreshes {
    pub(crate) fn register(&self, id: &ConnectionId) -> PendingRefresh {
        self.0.lock().entry(id.clone()).or_default().flights += 1;
        PendingRefresh(self.clone(), id.clone())
    }

    /// Whether a refresh of one of these connections is running.
    pub(crate) fn is_pending<'a>(&self, mut ids: impl Iterator<Item = &'a ConnectionId>) -> bool {
        let all = self.0.lock();
        !all.is_empty() && ids.any(|id| all.get(id).is_some_and(|entry| entry.flights > 0))
    }

    /// Keeps late responses until the returned value is dropped.
    pub(crate) fn collect_late(&self, id: &ConnectionId) -> LateAnswers {
        self.0.lock().entry(id.clone()).or_default().wanted = true;
        LateAnswers(self.clone(), id.clone())
    }

    /// Keeps a newer grant of a removed connection, for its revocation. Returns whether a removal in this process
    /// waits for it.
    pub(crate) fn keep_answer(&self, id: &ConnectionId, newer: &Zeroizing<Vec<u8>>) -> bool {
        let mut all = self.0.lock();
        let Some(entry) = all.get_mut(id).filter(|entry| entry.wanted) else { return false };
        entry.answers.push(newer.clone());
        true
    }

    /// Notes that a request was sent and its response was lost.
    pub(crate) fn mark_lost(&self, id: &ConnectionId) {
        if let Some(entry) = self.0.lock().get_mut(id) {
            entry.is_lost = true;
        }
    }
}

impl Drop for PendingRefresh {
    fn drop(&mut self) {
        let Self(PendingRefreshes(all), id) = self;
        let mut all = all.lock();
        let Some(entry) = all.get_mut(id) else { return };
        entry.flights -= 1;
        if entry.flights > 0 {
            return;
        }
        entry.landed.notify_waiters();
        if !entry.wanted {
            all.remove(id);
        }
    }
}

impl LateAnswers {
    /// Whether a refresh is running.
    pub(crate) fn is_awaited(&self) -> bool {
        self.0.0.lock().get(&self.1).is_some_and(|entry| entry.flights > 0)
    }

    /// Waits until no refresh is running.
    pub async fn landed(&mut self) {
        loop {
            let landed = {
                let all = self.0.0.lock();
                let Some(entry) = all.get(&self.1).filter(|entry| entry.flights > 0) else {
                    return;
                };
                // Registered while the lock is held, so that no end is missed.
                entry.landed.clone().notified_owned()
            };
            landed.await;
        }
    }

    /// The encoded late grants, and whether a response was lost.
    pub fn answers(self) -> (Vec<Zeroizing<Vec<u8>>>, bool) {
        let mut all = self.0.0.lock();
        let entry = all.get_mut(&self.1);
        entry.map(|entry| (std::mem::take(&mut entry.answers), entry.is_lost)).unwrap_or_default()
    }
}

impl Drop for LateAnswers {
    fn drop(&mut self) {
        let mut all = self.0.0.lock();
        if let Some(entry) = all.get_mut(&self.1) {
            entry.wanted = false;
            entry.answers.clear();
            if entry.flights == 0 {
                all.remove(&self.1);
            }
        }
    }
}

impl fmt::Debug for LateAnswers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LateAnswers").field("connection", &self.1).finish_non_exhaustive()
    }
}

/// Longest queue.
const WAITING_MAX: usize = 1_024;

/// How long the note that the grant of a removed connection must be revoked is kept: longer than a response is awaited,
/// and longer than a database is usually away.
pub(crate) const WANTED_FOR: Duration = Duration::from_secs(3_600);

/// A newer grant of a removed connection.
#[derive(Clone)]
pub(crate) struct OrphanedGrant {
    pub(crate) connection: Arc<ConnectionRecord>,
    /// Its encoding.
    pub(crate) grant: Zeroizing<Vec<u8>>,
}

/// The queue; flights add to it.
#[derive(Default)]
pub(crate) struct OrphanedGrants(Mutex<Vec<OrphanedGrant>>, Notify);

impl OrphanedGrants {
    pub(crate) fn add(&self, orphan: OrphanedGrant) {
        let Self(waiting, told) = self;
        let mut waiting = waiting.lock();
        if waiting.len() == WAITING_MAX {
            let id = &orphan.connection.id;
            return tracing::error!(connection = %id, "a late refresh is not revoked: there are too many");
        }
        waiting.push(orphan);
        told.notify_one();
    }

    /// Takes the queued grants.
    pub(crate) fn take(&self) -> Vec<OrphanedGrant> {
        std::mem::take(&mut *self.0.lock())
    }

    /// Waits until a grant is queued; for one reader.
    pub(crate) async fn added(&self) {
        self.1.notified().await;
    }
}

/// The name of the note that the grant of a removed connection must be revoked.
pub(crate) fn note_name(id: &ConnectionId) -> String {
    format!("revoke/{id}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grant(text: &str) -> Zeroizing<Vec<u8>> {
        Zeroizing::new(text.as_bytes().to_vec())
    }

    #[tokio::test]
    async fn a_late_answer_is_kept_only_while_a_removal_waits_for_it() {
        let (refreshes, id) = (PendingRefreshes::default(), ConnectionId::random());
        assert!(!refreshes.keep_answer(&id, &grant("not awaited")));
        let first = refreshes.register(&id);
        assert!(!refreshes.keep_answer(&id, &grant("not yet")));
        let mut late = refreshes.collect_late(&id);
        assert!(late.is_awaited());
        let second = refreshes.register(&id);
        assert!(refreshes.keep_answer(&id, &grant("newer")));
        drop(first);
        assert!(late.is_awaited());
        let (waits, ()) = tokio::join!(late.landed(), async { drop(second) });
        let () = waits;
        assert_eq!(late.answers(), (vec![grant("newer")], false));
        assert!(refreshes.0.lock().is_empty());
        drop(refreshes.register(&id));
        assert!(refreshes.0.lock().is_empty());
    }

    #[tokio::test]
    async fn a_lost_answer_is_reported() {
        let (refreshes, id) = (PendingRefreshes::default(), ConnectionId::random());
        let flight = refreshes.register(&id);
        refreshes.mark_lost(&id);
        let mut late = refreshes.collect_late(&id);
        drop(flight);
        late.landed().await;
        assert_eq!(late.answers(), (vec![], true));
        assert!(refreshes.0.lock().is_empty());
    }
}

//! Connections whose authorization server may have changed its endpoints, queued for the reader of metadata.

use std::fmt;

use parking_lot::Mutex;
use tokio::sync::Notify;

use keyward_base::id::{ConnectionId, OrgId};

/// Longest queue; dropped connections are queued again by their next failure.
const WAITING_MAX: usize = 256;

/// The queue; flights add to it.
#[derive(Default)]
pub(super) struct EndpointChanges(Mutex<Waiting>, Notify);

/// Waiting connections, in order.
type Waiting = Vec<(OrgId, ConnectionId)>;

impl fmt::Debug for EndpointChanges {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EndpointChanges").finish_non_exhaustive()
    }
}

impl EndpointChanges {
    /// Queues a connection whose server does not know an endpoint or the client any more.
    pub(super) fn report(&self, org: &OrgId, connection: &ConnectionId) {
        let Self(waiting, told) = self;
        let mut waiting = waiting.lock();
        let one = (org.clone(), connection.clone());
        if waiting.len() < WAITING_MAX && !waiting.contains(&one) {
            waiting.push(one);
            told.notify_one();
        }
    }

    /// Waits for queued connections and takes them all; for one reader.
    pub(super) async fn all(&self) -> Vec<(OrgId, ConnectionId)> {
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

//! [`SharedStreams`]: the HTTP/2 streams to upstreams on a core, and the dials in progress. Exchanges on one core with an
//! equal key share a stream.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::http2::{EXCHANGES_MAX, SharedStream, StreamUse};
use super::{KeyedStreams, PoolKey};
use keyward_base::limits::ReceiveWindow;

/// The shared streams of a core by key, and the dials in progress.
pub struct SharedStreams {
    state: Mutex<PoolState>,
    idle_timeout: Duration,
}

#[derive(Default)]
struct PoolState {
    streams: KeyedStreams<SharedStream>,
    /// An exchange waits only for a stream that has its window.
    dialling: HashMap<(PoolKey, ReceiveWindow), Arc<PendingDial>>,
}

/// What an exchange that needs a stream must do next.
pub enum StreamLookup {
    Send(SharedStream, StreamUse),
    /// Dial. Dropping the guard wakes the waiting exchanges.
    Dial(DialGuard),
    Wait(Arc<PendingDial>),
}

/// A stream that is being dialled.
#[derive(Debug, Default)]
pub struct PendingDial {
    done: Notify,
    succeeded: AtomicBool,
}

/// Held by the exchange that dials; others wait for it.
pub struct DialGuard {
    streams: Arc<SharedStreams>,
    key: (PoolKey, ReceiveWindow),
    dial: Arc<PendingDial>,
}

impl SharedStreams {
    /// No streams. They may be idle for `idle_timeout`.
    pub fn new(idle_timeout: Duration) -> Arc<Self> {
        Arc::new(Self { state: Mutex::default(), idle_timeout })
    }

    /// Finds a stream that has this window and room, and `fits`; otherwise decides which exchange dials.
    pub fn find(
        self: &Arc<Self>,
        key: &PoolKey,
        window: ReceiveWindow,
        fits: impl Fn(&SharedStream) -> bool,
    ) -> StreamLookup {
        let mut state = self.state.lock();
        let serves =
            |stream: &&SharedStream| stream.window == window && stream.has_room() && fits(stream);
        if let Some(found) = state.streams.get(key).iter().find(serves) {
            return StreamLookup::Send(found.clone(), found.begin_use());
        }
        let key = (key.clone(), window);
        if let Some(others) = state.dialling.get(&key) {
            return StreamLookup::Wait(others.clone());
        }
        let dial = Arc::new(PendingDial::default());
        state.dialling.insert(key.clone(), dial.clone());
        StreamLookup::Dial(DialGuard { streams: self.clone(), key, dial })
    }

    pub fn add(&self, key: PoolKey, stream: SharedStream) {
        self.state.lock().streams.entry(key).push(stream);
    }

    /// How many exchanges a new stream is expected to allow: as few as others with this key. Its settings arrive later than
    /// the first exchanges begin.
    pub fn expected_exchanges_max(&self, key: &PoolKey) -> usize {
        let state = self.state.lock();
        let others = state.streams.get(key).iter().map(SharedStream::exchanges_max);
        others.min().map_or(EXCHANGES_MAX, |max| max.max(1))
    }

    /// Drops streams that are closed or have expired. Dropping the last handle closes a stream.
    pub fn sweep(&self, now: Instant) {
        let mut state = self.state.lock();
        state.streams.retain(|stream| !stream.is_spent(self.idle_timeout, now));
    }

    /// Drops the streams of a session. Running exchanges continue.
    pub fn drop_session(&self, session: u64) {
        let mut state = self.state.lock();
        state.streams.remove_session(session);
    }

    /// Since when each idle stream has been idle.
    pub fn idle_since(&self) -> Vec<Instant> {
        self.state.lock().streams.iter().filter_map(SharedStream::idle_since).collect()
    }

    /// Drops streams that have been idle since `since` or for longer.
    pub fn drop_idle(&self, since: Instant) {
        let is_newer = |stream: &SharedStream| stream.idle_since().is_none_or(|at| at > since);
        self.state.lock().streams.retain(is_newer);
    }
}

impl Drop for DialGuard {
    fn drop(&mut self) {
        self.streams.state.lock().dialling.remove(&self.key);
        self.dial.done.notify_waiters();
    }
}

impl PendingDial {
    /// Waits for the end of the dial. Returns whether there is a stream now. Must be polled before anything else of
    /// this core can run.
    pub async fn ended(&self) -> bool {
        self.done.notified().await;
        self.succeeded.load(Relaxed)
    }
}

impl DialGuard {
    /// Marks the dial as successful: the stream is shared.
    pub fn succeeded(self) {
        self.dial.succeeded.store(true, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use keyward_base::host::{Scheme, Target};
    use keyward_base::id::OrgId;

    #[test]
    fn an_exchange_does_not_wait_for_a_stream_with_another_window() {
        let target = Target::parse(Scheme::Https, "a.test").unwrap();
        let key = PoolKey { org: OrgId::default_org(), target, session: None, tls: None };
        let streams = SharedStreams::new(Duration::from_secs(1));
        let found = |window| streams.find(&key, window, |_| true);
        let StreamLookup::Dial(small) = found(ReceiveWindow::Small) else { panic!("no dial") };
        let StreamLookup::Dial(large) = found(ReceiveWindow::Large) else { panic!("it waits") };
        assert!(matches!(found(ReceiveWindow::Small), StreamLookup::Wait(_)));
        drop(small);
        assert!(matches!(found(ReceiveWindow::Large), StreamLookup::Wait(_)));
        assert!(matches!(found(ReceiveWindow::Small), StreamLookup::Dial(_)));
        drop(large);
        assert!(matches!(found(ReceiveWindow::Large), StreamLookup::Dial(_)));
    }
}

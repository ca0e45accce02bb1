//! [`PassStreams`]: the idle upstream streams of `pass` requests of one accepted stream. The agent may have bound them to an
//! identity of its own, so only that agent uses them, and they are closed when its stream ends.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::gateway::Core;

/// Ends the session when it is dropped.
pub struct PassStreams {
    core: Arc<Core>,
    /// The session in the keys of the streams, unique in the process.
    session: AtomicU64,
}

impl PassStreams {
    /// For a stream that `core` serves.
    pub fn new(core: Arc<Core>) -> Self {
        Self { core, session: AtomicU64::new(next_session()) }
    }

    pub fn session(&self) -> u64 {
        self.session.load(Relaxed)
    }

    /// Ends the session and begins another: the accepted stream has another agent.
    pub fn renew(&self) {
        let ended = self.session.swap(next_session(), Relaxed);
        self.core.drop_session(ended);
    }
}

fn next_session() -> u64 {
    static SESSIONS: AtomicU64 = AtomicU64::new(1);
    SESSIONS.fetch_add(1, Relaxed)
}

impl Drop for PassStreams {
    fn drop(&mut self) {
        self.core.drop_session(self.session());
    }
}

impl fmt::Debug for PassStreams {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PassStreams").field("session", &self.session).finish_non_exhaustive()
    }
}

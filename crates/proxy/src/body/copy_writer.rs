//! [`BodyCopyWriter`]: the sent body's end of a copy of it. `replay.rs` has the other end. `B` is the type of the body,
//! of which a copy keeps the unsent rest.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::limits::body_buffer::BodyBuffer;
use crate::limits::budget::Budget;
use keyward_base::id::AgentId;

/// The sent body's end of the copy.
#[derive(Debug)]
pub struct BodyCopyWriter<B>(Arc<CopyState<B>>);

/// What both ends share.
#[derive(Debug)]
pub struct CopyState<B> {
    bytes_max: usize,
    budget: Arc<Budget>,
    /// The agent whose memory budget is charged.
    owner: Option<AgentId>,
    state: Mutex<ReplayState<B>>,
    /// Notified when the body is dropped.
    left: Notify,
}

#[derive(Debug)]
struct ReplayState<B> {
    pieces: BodyBuffer,
    /// More was sent than is kept.
    lost: bool,
    rest: Option<Box<B>>,
}

impl<B> CopyState<B> {
    /// An empty copy of at most `bytes_max` bytes.
    pub fn new(bytes_max: usize, budget: Arc<Budget>, owner: Option<AgentId>) -> Arc<Self> {
        let state = ReplayState { pieces: BodyBuffer::default(), lost: false, rest: None };
        Arc::new(Self { bytes_max, budget, owner, state: Mutex::new(state), left: Notify::new() })
    }

    pub fn writer(self: &Arc<Self>) -> BodyCopyWriter<B> {
        BodyCopyWriter(self.clone())
    }

    /// Drops the copy: the body cannot be sent again.
    pub fn discard(&self) {
        self.state.lock().discard();
    }

    /// Whether no byte of what was sent is missing.
    pub fn is_complete(&self) -> bool {
        !self.state.lock().lost
    }

    pub fn is_body_dropped(&self) -> bool {
        self.state.lock().rest.is_some()
    }

    /// Notified when the body is dropped.
    pub fn left(&self) -> &Notify {
        &self.left
    }

    /// The unsent rest and what was sent before it, if the body was dropped and no byte is missing.
    pub fn take(&self) -> Option<(B, VecDeque<Bytes>)> {
        let mut state = self.state.lock();
        let rest = state.rest.take().filter(|_| !state.lost)?;
        Some((*rest, std::mem::take(&mut state.pieces).into_slices()))
    }
}

impl<B> ReplayState<B> {
    fn discard(&mut self) {
        self.lost = true;
        self.pieces = BodyBuffer::default();
    }
}

impl<B> BodyCopyWriter<B> {
    /// Copies a received piece that is sent. `more` is the number of bytes that follow, if known.
    pub fn copy(&self, data: &Bytes, more: Option<u64>) {
        let share = || self.0.budget.share(self.0.owner.as_ref());
        self.add(data.len(), |pieces| pieces.copy(data, more, share));
    }

    /// Adds a piece that is sent from a buffer of ours, which is counted there.
    pub fn add_own(&self, data: &Bytes) {
        self.add(data.len(), |pieces| {
            pieces.add(data.clone());
            true
        });
    }

    fn add(&self, bytes: usize, keep: impl FnOnce(&mut BodyBuffer) -> bool) {
        let mut state = self.0.state.lock();
        if state.lost {
            return;
        }
        if state.pieces.len() + bytes > self.0.bytes_max || !keep(&mut state.pieces) {
            state.discard();
        }
    }

    /// Drops the copy: the body cannot be sent again.
    pub fn discard(&self) {
        self.0.discard();
    }

    /// Restarts the copy: the body is sent from its beginning.
    pub fn restart(&self) {
        self.0.state.lock().pieces = BodyBuffer::default();
    }

    /// The body was dropped; `rest` is the unsent part.
    pub fn body_dropped(self, rest: B) {
        self.0.state.lock().rest = Some(Box::new(rest));
        self.0.left.notify_one();
    }
}

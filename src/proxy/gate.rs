//! Bodies that are waited for (RFC 9110 §10.1.1): held back until the upstream says `100 Continue`, or for
//! a while, and told to whoever must ask the agent for them.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::task::AtomicWaker;
use tokio::time::Sleep;

/// Holds a body back until the upstream says `100 Continue`, or for a while.
#[derive(Debug, Default)]
pub struct Gate {
    state: AtomicBool,
    abandoned: AtomicBool,
    waker: AtomicWaker,
}

/// A body's wait at its gate.
#[derive(Debug)]
pub struct Held {
    gate: Arc<Gate>,
    patience: Duration,
    patient: Pin<Box<Sleep>>,
}

/// Tells that a body is asked for, to whoever must say `100 Continue` by himself.
#[derive(Debug, Default)]
pub struct Passed {
    asked: AtomicBool,
    waker: AtomicWaker,
}

impl Gate {
    /// The upstream wants the body.
    pub fn open(&self) {
        self.state.store(true, SeqCst);
        self.waker.wake();
    }

    /// Whether the body is held back still.
    pub fn is_closed(&self) -> bool {
        !self.state.load(SeqCst) && !self.abandoned.load(SeqCst)
    }

    /// The upstream answered without the body: it is never asked for.
    pub fn abandon(&self) {
        if !self.state.load(SeqCst) {
            self.abandoned.store(true, SeqCst);
            self.waker.wake();
        }
    }
}

impl Held {
    /// At a closed gate, at most for `patience`.
    pub fn new(patience: Duration) -> Self {
        let patient = Box::pin(tokio::time::sleep(patience));
        Self { gate: Arc::default(), patience, patient }
    }

    /// At another gate, for as long.
    pub fn again(&self) -> Self {
        Self::new(self.patience)
    }

    /// The gate.
    pub fn gate(&self) -> Arc<Gate> {
        self.gate.clone()
    }

    /// Ready when the body may go, or is not wanted: whether it may.
    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<bool> {
        let Self { gate, patient, .. } = self;
        gate.waker.register(cx.waker());
        if gate.abandoned.load(SeqCst) {
            return Poll::Ready(false);
        }
        if gate.state.load(SeqCst) || patient.as_mut().poll(cx).is_ready() {
            gate.state.store(true, SeqCst);
            return Poll::Ready(true);
        }
        Poll::Pending
    }
}

impl Passed {
    /// Somebody asks for the body.
    pub fn tell(&self) {
        self.asked.store(true, SeqCst);
        self.waker.wake();
    }

    /// Ready once, when the body is asked for.
    pub fn poll(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.waker.register(cx.waker());
        if self.asked.swap(false, SeqCst) { Poll::Ready(()) } else { Poll::Pending }
    }
}

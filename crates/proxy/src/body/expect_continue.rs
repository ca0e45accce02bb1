//! Bodies of requests with `Expect: 100-continue` (RFC 9110 §10.1.1). [`ContinueGate`] holds a body back until the
//! upstream says `100 Continue` or a timeout expires. [`BodyDemand`] signals that the agent must be asked for the
//! body.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::task::AtomicWaker;
use tokio::time::Sleep;

/// Holds a body back until the upstream says `100 Continue`.
#[derive(Debug, Default)]
pub struct ContinueGate {
    state: AtomicBool,
    abandoned: AtomicBool,
    waker: AtomicWaker,
}

/// Waits for a [`ContinueGate`], with a timeout.
#[derive(Debug)]
pub struct ContinueWait {
    gate: Arc<ContinueGate>,
    timeout: Duration,
    timer: Pin<Box<Sleep>>,
}

/// Signals that the body is wanted, for a server that must send `100 Continue` itself.
#[derive(Debug, Default)]
pub struct BodyDemand {
    is_wanted: AtomicBool,
    waker: AtomicWaker,
}

impl ContinueGate {
    /// The upstream wants the body.
    pub fn open(&self) {
        self.state.store(true, SeqCst);
        self.waker.wake();
    }

    /// The upstream answered without the body, so the body is never wanted.
    pub fn abandon(&self) {
        if !self.state.load(SeqCst) {
            self.abandoned.store(true, SeqCst);
            self.waker.wake();
        }
    }
}

impl ContinueWait {
    /// A wait at a closed gate, for at most `timeout`.
    pub fn new(timeout: Duration) -> Self {
        let timer = Box::pin(tokio::time::sleep(timeout));
        Self { gate: Arc::default(), timeout, timer }
    }

    /// A wait at another gate with the same timeout.
    pub fn again(&self) -> Self {
        Self::new(self.timeout)
    }

    pub fn gate(&self) -> Arc<ContinueGate> {
        self.gate.clone()
    }

    /// Ready when the wait is over. Returns whether the body may be sent.
    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<bool> {
        let Self { gate, timer, .. } = self;
        gate.waker.register(cx.waker());
        if gate.abandoned.load(SeqCst) {
            return Poll::Ready(false);
        }
        if gate.state.load(SeqCst) || timer.as_mut().poll(cx).is_ready() {
            gate.state.store(true, SeqCst);
            return Poll::Ready(true);
        }
        Poll::Pending
    }
}

impl BodyDemand {
    /// Signals that the body is wanted.
    pub fn signal(&self) {
        self.is_wanted.store(true, SeqCst);
        self.waker.wake();
    }

    /// Ready once, when the body is wanted.
    pub fn poll(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.waker.register(cx.waker());
        if self.is_wanted.swap(false, SeqCst) { Poll::Ready(()) } else { Poll::Pending }
    }
}

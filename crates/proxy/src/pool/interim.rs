//! [`Interim`] handles interim (1xx) answers: `100 Continue` opens the gate of the request's body; the others are
//! counted and limited. 103 is not passed on, because hyper cannot write it to an HTTP/1.1 agent.

use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::AcqRel, Ordering::Acquire};
use std::task::Poll;

use futures_util::task::AtomicWaker;
use http::StatusCode;

use crate::body::expect_continue::ContinueGate;

/// Counts the interim answers to one request.
#[derive(Debug)]
pub struct Interim {
    gate: Option<Arc<ContinueGate>>,
    count: AtomicUsize,
    max: usize,
    flood: AtomicWaker,
}

impl Interim {
    /// Allows at most `max` interim answers.
    pub fn new(gate: Option<Arc<ContinueGate>>, max: usize) -> Arc<Self> {
        Arc::new(Self { gate, count: AtomicUsize::new(0), max, flood: AtomicWaker::new() })
    }

    /// The gate that `100 Continue` opens.
    pub fn gate(&self) -> Option<Arc<ContinueGate>> {
        self.gate.clone()
    }

    pub fn on_answer(&self, status: StatusCode) {
        if self.count.fetch_add(1, AcqRel) == self.max {
            self.flood.wake();
        }
        if status == StatusCode::CONTINUE
            && let Some(gate) = &self.gate
        {
            gate.open();
        }
    }

    /// Resolves when there were too many interim answers.
    pub async fn flooded(&self) {
        poll_fn(|cx| {
            self.flood.register(cx.waker());
            match self.count.load(Acquire) > self.max {
                true => Poll::Ready(()),
                false => Poll::Pending,
            }
        })
        .await;
    }
}

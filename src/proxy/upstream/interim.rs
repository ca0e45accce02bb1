//! Interim (1xx) answers: `100 Continue` opens the body's gate, the others are counted. 103 is not
//! passed on: hyper cannot write it to an HTTP/1.1 agent.

use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::AcqRel, Ordering::Acquire};
use std::task::Poll;

use futures_util::task::AtomicWaker;
use http::StatusCode;

use crate::proxy::gate::Gate;

/// What became of the interim answers to one request.
#[derive(Debug)]
pub struct Interim {
    gate: Option<Arc<Gate>>,
    count: AtomicUsize,
    max: usize,
    flood: AtomicWaker,
}

impl Interim {
    /// None so far, and no more than `max`.
    pub fn new(gate: Option<Arc<Gate>>, max: usize) -> Arc<Self> {
        Arc::new(Self { gate, count: AtomicUsize::new(0), max, flood: AtomicWaker::new() })
    }

    /// One came.
    pub fn saw(&self, status: StatusCode) {
        if self.count.fetch_add(1, AcqRel) == self.max {
            self.flood.wake();
        }
        if status == StatusCode::CONTINUE
            && let Some(gate) = &self.gate
        {
            gate.open();
        }
    }

    /// Resolves when there were too many.
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

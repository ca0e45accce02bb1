//! Interim (1xx) answers: `100 Continue` opens the body's gate, the others are counted. 103 is not
//! passed on: hyper cannot write it to an HTTP/1.1 agent.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use http::StatusCode;
use tokio::sync::Notify;

use crate::proxy::body::Gate;

/// What became of the interim answers to one request.
#[derive(Debug)]
pub struct Interim {
    gate: Option<Arc<Gate>>,
    count: AtomicUsize,
    max: usize,
    flood: Notify,
}

impl Interim {
    /// None so far, and no more than `max`.
    pub fn new(gate: Option<Arc<Gate>>, max: usize) -> Arc<Self> {
        Arc::new(Self { gate, count: AtomicUsize::new(0), max, flood: Notify::new() })
    }

    /// One came.
    pub fn saw(&self, status: StatusCode) {
        if self.count.fetch_add(1, Relaxed) == self.max {
            self.flood.notify_one();
        }
        if status == StatusCode::CONTINUE
            && let Some(gate) = &self.gate
        {
            gate.open();
        }
    }

    /// Resolves when there were too many.
    pub async fn flooded(&self) {
        self.flood.notified().await;
    }
}

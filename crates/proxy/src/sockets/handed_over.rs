//! [`HandedOver`]: whether another process has taken the listening sockets of this one.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Set when another process has the listeners: their socket files then stay. Clones share the state.
#[derive(Clone, Debug, Default)]
pub struct HandedOver(Arc<AtomicBool>);

impl HandedOver {
    /// Another process accepts from now on.
    pub fn set(&self) {
        self.0.store(true, Ordering::Release);
    }

    /// Whether another process accepts.
    pub fn is_set(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

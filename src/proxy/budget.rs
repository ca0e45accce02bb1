//! [`Budget`]: what bodies may take in memory that are kept, all together.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// A number of bytes that many share.
#[derive(Debug)]
pub struct Budget {
    bytes_max: AtomicUsize,
    bytes: AtomicUsize,
}

/// A part of it, given back when dropped.
#[derive(Debug)]
pub struct Share {
    budget: Arc<Budget>,
    bytes: usize,
}

impl Budget {
    /// At most so many bytes.
    pub fn new(bytes_max: usize) -> Arc<Self> {
        Arc::new(Self { bytes_max: AtomicUsize::new(bytes_max), bytes: AtomicUsize::new(0) })
    }

    /// At most so many from now on. What is taken stays taken.
    pub fn resize(&self, bytes_max: usize) {
        self.bytes_max.store(bytes_max, Relaxed);
    }

    /// Nothing of it yet.
    pub fn share(self: &Arc<Self>) -> Share {
        Share { budget: self.clone(), bytes: 0 }
    }

    /// How much is taken.
    #[cfg(test)]
    pub fn taken(&self) -> usize {
        self.bytes.load(Relaxed)
    }
}

impl Share {
    /// Takes more. `false`, and as much as before, where that is not there.
    #[must_use]
    pub fn take(&mut self, bytes: usize) -> bool {
        let bytes_max = self.budget.bytes_max.load(Relaxed);
        let more = |taken: usize| taken.checked_add(bytes).filter(|all| *all <= bytes_max);
        let is_there = self.budget.bytes.fetch_update(Relaxed, Relaxed, more).is_ok();
        if is_there {
            self.bytes += bytes;
        }
        is_there
    }

    /// How much it is.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Gives all of it back.
    pub fn give_back(&mut self) {
        self.budget.bytes.fetch_sub(std::mem::take(&mut self.bytes), Relaxed);
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.give_back();
    }
}

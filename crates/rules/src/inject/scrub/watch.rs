//! [`Watch`]: searches for needles in a body that arrives in chunks, and tracks how much of it is known to be
//! clean.

use std::sync::Arc;

use super::needles::{Matches, Needles};

/// A searcher that keeps only bytes that begin a needle.
#[derive(Debug)]
pub(super) struct NeedleSearch {
    needles: Arc<Needles>,
    held: Vec<u8>,
    seen: u64,
}

impl NeedleSearch {
    pub(super) fn new(needles: Arc<Needles>) -> Self {
        Self { needles, held: Vec::new(), seen: 0 }
    }

    /// Takes a chunk. Returns whether a needle was found so far.
    pub(super) fn sees(&mut self, piece: &[u8]) -> bool {
        self.seen += piece.len() as u64;
        if self.held.is_empty() {
            let found = self.needles.search(piece);
            self.held.extend_from_slice(&piece[found.open..]);
            return !found.spans.is_empty();
        }
        self.held.extend_from_slice(piece);
        // A longer needle may begin with a shorter one, so the search continues immediately.
        let Matches { spans, open } = self.needles.search(&self.held);
        self.held.drain(..open);
        !spans.is_empty()
    }

    /// How many bytes are known to contain neither a needle nor the beginning of one.
    pub(super) fn cleared(&self) -> u64 {
        self.seen - self.held.len() as u64
    }
}

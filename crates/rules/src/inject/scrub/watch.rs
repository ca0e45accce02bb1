//! [`Watch`]: whether a needle stands in a body that comes in pieces, and up to where it is known that
//! none does.

use std::sync::Arc;

use super::needles::{Found, Needles};

/// Looks, and keeps only what begins a needle.
#[derive(Debug)]
pub(super) struct Watch {
    needles: Arc<Needles>,
    held: Vec<u8>,
    seen: u64,
}

impl Watch {
    pub(super) fn new(needles: Arc<Needles>) -> Self {
        Self { needles, held: Vec::new(), seen: 0 }
    }

    /// Takes a piece. Answers whether a needle stands in what came so far.
    pub(super) fn sees(&mut self, piece: &[u8]) -> bool {
        self.seen += piece.len() as u64;
        if self.held.is_empty() {
            let found = self.needles.search(piece);
            self.held.extend_from_slice(&piece[found.open..]);
            return !found.spans.is_empty();
        }
        self.held.extend_from_slice(piece);
        // A shorter needle may stand in the beginning of a longer one: the search is not put off.
        let Found { spans, open } = self.needles.search(&self.held);
        self.held.drain(..open);
        !spans.is_empty()
    }

    /// How many bytes are known to hold no needle, nor the beginning of one.
    pub(super) fn cleared(&self) -> u64 {
        self.seen - self.held.len() as u64
    }
}

//! [`NeedleSearch`]: searches for needles in a body that arrives in chunks, and tracks how much of it may be sent.

use std::sync::Arc;

use super::flush_points::FlushPoints;
use super::needles::Needles;

/// A search that keeps only bytes that may begin a needle.
#[derive(Debug)]
pub(super) struct NeedleSearch {
    needles: Arc<Needles>,
    flush_points: FlushPoints,
    held: Vec<u8>,
    seen: u64,
    /// How many bytes at the end may begin a needle, judged by their kinds alone.
    tail: usize,
}

impl NeedleSearch {
    pub(super) fn new(needles: Arc<Needles>, flush_points: FlushPoints) -> Self {
        Self { needles, flush_points, held: Vec::new(), seen: 0, tail: 0 }
    }

    /// Takes a chunk. Returns whether a needle was found so far.
    pub(super) fn sees(&mut self, piece: &[u8]) -> bool {
        self.seen += piece.len() as u64;
        self.flush_points.pass(piece);
        let is_joined = !self.held.is_empty();
        if is_joined {
            self.held.extend_from_slice(piece);
        }
        let text = if is_joined { &self.held[..] } else { piece };
        let found = self.needles.search(text);
        // What may be sent stays so, and is not judged again: how much of it is held depends on the needles.
        let uncleared = self.tail + piece.len();
        self.tail = self.flush_points.tail(&self.needles, &text[text.len() - uncleared..]);
        // A needle of several lines may begin before the tail.
        let kept = found.open.min(text.len() - self.tail);
        match is_joined {
            true => drop(self.held.drain(..kept)),
            false => self.held.extend_from_slice(&piece[kept..]),
        }
        !found.spans.is_empty()
    }

    /// How many bytes may be sent. A tail of fewer than `least` bytes counts as clean. This is the same for all secrets of the
    /// same length and alphabet.
    pub(super) fn cleared(&self, least: usize) -> u64 {
        let tail = if self.tail < least { 0 } else { self.tail };
        self.seen - tail as u64
    }
}

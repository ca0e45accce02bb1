//! [`HeldTail`]: how many bytes at the end of a body that arrives in chunks are held back.

use super::flush_points::FlushPoints;
use super::needles::Needles;
use super::tail::TailRuns;

/// Follows a body chunk by chunk. A chunk costs what its own length costs, however much is held back.
#[derive(Debug)]
pub(super) struct HeldTail {
    flush_points: FlushPoints,
    runs: TailRuns,
    length: usize,
}

impl HeldTail {
    pub(super) fn new(flush_points: FlushPoints) -> Self {
        Self { flush_points, runs: TailRuns::default(), length: 0 }
    }

    /// How many bytes are held back.
    pub(super) fn length(&self) -> usize {
        self.length
    }

    /// Takes a chunk, the last `new` bytes of `text`. What was held back is before it.
    pub(super) fn push(&mut self, needles: &Needles, text: &[u8], new: usize) {
        let text = &text[text.len() - new - self.length..];
        let piece = &text[self.length..];
        self.flush_points.pass(piece);
        let tail = needles.tail(&mut self.runs, piece, self.flush_points.are_lines());
        self.length = self.flush_points.held(tail, text);
        self.runs.cut(self.length);
    }
}

//! [`Masker`]: masks needles in uncompressed bodies as they stream, at equal length, so that the framing stays
//! valid.

use std::ops::Range;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use super::MASK;
use super::needles::{Matches, Needles};

/// The shortest part of a needle that is masked at the edge of a partial response. Three bytes of a secret are
/// of little use, and unrelated text often matches them.
const PART_BYTES_MIN: usize = 4;

/// Masks needles in a body that arrives in chunks. The output does not depend on the chunk boundaries. Without
/// a match nothing is copied; only bytes that begin a needle are held back.
#[derive(Debug)]
pub struct Masker {
    needles: Arc<Needles>,
    /// The tail of the input, which begins a needle.
    held: BytesMut,
    /// How many bytes of `held` are masked in any case, because a needle ends there.
    condemned: usize,
    edges: Edges,
    masked: u64,
}

/// Whether the body is partial content, whose edges may cut a needle.
#[derive(Debug)]
enum Edges {
    Whole,
    /// Undecided: all bytes so far match the middle of a needle.
    Begins,
    Begun,
}

impl Masker {
    /// A masker for a complete body.
    pub fn new(needles: Arc<Needles>) -> Self {
        let (held, edges) = (BytesMut::new(), Edges::Whole);
        Self { needles, held, condemned: 0, edges, masked: 0 }
    }

    /// A masker for partial content (206): parts of needles at its edges are masked too.
    pub fn of_part(needles: Arc<Needles>) -> Self {
        Self { edges: Edges::Begins, ..Self::new(needles) }
    }

    /// The number of needles masked since the last call.
    pub fn take_masked(&mut self) -> u64 {
        std::mem::take(&mut self.masked)
    }

    /// Takes a chunk and returns what can be sent; empty when all of it may begin a needle.
    pub fn push(&mut self, piece: Bytes) -> Bytes {
        if self.held.is_empty() && !matches!(self.edges, Edges::Begins) {
            return self.pass(piece);
        }
        self.held.extend_from_slice(&piece);
        if self.is_undecided() {
            return Bytes::new();
        }
        let joined = std::mem::take(&mut self.held).freeze();
        self.pass(joined)
    }

    /// Ends the body and returns what was held back.
    pub fn finish(&mut self) -> Bytes {
        if matches!(self.edges, Edges::Begins) {
            let inside = self.needles.are_around(&self.held);
            self.begin(inside.then_some(self.held.len()));
        }
        let rest = std::mem::take(&mut self.held).freeze();
        let Matches { mut spans, open } = self.needles.search(&rest);
        if !matches!(self.edges, Edges::Whole) && rest.len() - open >= PART_BYTES_MIN {
            spans.push(open..rest.len());
        }
        self.mask(rest, &spans)
    }

    /// Whether the held bytes, from the first on, may still become a needle or the end of one. Then nothing can
    /// be sent and no search is needed.
    fn is_undecided(&mut self) -> bool {
        match self.edges {
            Edges::Begins if self.needles.are_around(&self.held) => true,
            Edges::Begins => {
                self.begin(None);
                false
            }
            Edges::Whole | Edges::Begun => self.needles.begins(&self.held),
        }
    }

    /// Decides how much of the held beginning is part of a needle.
    fn begin(&mut self, known: Option<usize>) {
        let part = known.unwrap_or_else(|| self.needles.end_at_start_of(&self.held));
        if part >= PART_BYTES_MIN {
            self.condemned = part;
            self.masked += 1;
        }
        self.edges = Edges::Begun;
    }

    fn pass(&mut self, mut bytes: Bytes) -> Bytes {
        let Matches { mut spans, open } = self.needles.search(&bytes);
        self.held.extend_from_slice(&bytes.split_off(open));
        // A complete needle in the held rest is found by the next search.
        spans.retain(|span| span.start < open);
        let condemned = spans.last().map_or(0, |span| span.end).max(self.condemned);
        let masked = self.mask(bytes, &spans);
        self.condemned = condemned.saturating_sub(open);
        masked
    }

    /// Masks the spans and the `condemned` bytes; copies only if there are any.
    fn mask(&mut self, bytes: Bytes, spans: &[Range<usize>]) -> Bytes {
        let condemned = std::mem::take(&mut self.condemned).min(bytes.len());
        if spans.is_empty() && condemned == 0 {
            return bytes;
        }
        self.masked += spans.len() as u64;
        let mut masked = BytesMut::from(bytes);
        masked[..condemned].fill(MASK);
        for span in spans {
            let end = span.end.min(masked.len());
            masked[span.start..end].fill(MASK);
        }
        masked.freeze()
    }
}

//! [`Masker`]: plain bodies, masked at equal length as they pass, so that their framing stays true.

use std::ops::Range;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use super::MASK;
use super::needles::{Found, Needles};

/// The shortest part of a needle that is masked at the edge of a partial answer. Three bytes of a
/// secret are worth little, and any three bytes stand at the edge of some innocent part.
const PART_BYTES_MIN: usize = 4;

/// Masks needles in a body that comes in pieces. What comes out does not depend on where the pieces are
/// cut. Nothing is copied while nothing is found; held back is only what begins a needle.
#[derive(Debug)]
pub struct Masker {
    needles: Arc<Needles>,
    /// The end of what came: a needle begins with it.
    held: BytesMut,
    /// How much of `held` is to be masked whatever follows: the end of a needle stands there.
    condemned: usize,
    edges: Edges,
    masked: u64,
}

/// Whether the body is a part of something, so that its edges may cut a needle.
#[derive(Debug)]
enum Edges {
    Whole,
    /// Nothing is decided yet: all that came stands in the middle of a needle.
    Begins,
    Begun,
}

impl Masker {
    /// For a whole body.
    pub fn new(needles: Arc<Needles>) -> Self {
        let (held, edges) = (BytesMut::new(), Edges::Whole);
        Self { needles, held, condemned: 0, edges, masked: 0 }
    }

    /// For a part of one (206): parts of needles at its edges are masked too.
    pub fn of_part(needles: Arc<Needles>) -> Self {
        Self { edges: Edges::Begins, ..Self::new(needles) }
    }

    /// How many needles were masked since this was asked last.
    pub fn take_masked(&mut self) -> u64 {
        std::mem::take(&mut self.masked)
    }

    /// Takes a piece and gives what can go on: empty when all of it begins a needle.
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

    /// The body has ended: gives what was held back.
    pub fn finish(&mut self) -> Bytes {
        if matches!(self.edges, Edges::Begins) {
            let inside = self.needles.are_around(&self.held);
            self.begin(inside.then_some(self.held.len()));
        }
        let rest = std::mem::take(&mut self.held).freeze();
        let Found { mut spans, open } = self.needles.search(&rest);
        if !matches!(self.edges, Edges::Whole) && rest.len() - open >= PART_BYTES_MIN {
            spans.push(open..rest.len());
        }
        self.mask(rest, &spans)
    }

    /// Whether what is held may still become a needle, or the end of one, from its first byte on: then
    /// there is nothing to give, and nothing else to look for yet.
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

    /// Decides how much of the beginning, which is held, is a part of a needle.
    fn begin(&mut self, known: Option<usize>) {
        let part = known.unwrap_or_else(|| self.needles.end_at_start_of(&self.held));
        if part >= PART_BYTES_MIN {
            self.condemned = part;
            self.masked += 1;
        }
        self.edges = Edges::Begun;
    }

    fn pass(&mut self, mut bytes: Bytes) -> Bytes {
        let Found { mut spans, open } = self.needles.search(&bytes);
        self.held.extend_from_slice(&bytes.split_off(open));
        // What is whole in the rest that is held is found again.
        spans.retain(|span| span.start < open);
        let condemned = spans.last().map_or(0, |span| span.end).max(self.condemned);
        let masked = self.mask(bytes, &spans);
        self.condemned = condemned.saturating_sub(open);
        masked
    }

    /// `bytes` with the spans and what was condemned masked; copied only then.
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

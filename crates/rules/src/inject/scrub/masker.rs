//! [`Masker`]: masks needles in uncompressed bodies as they stream, at equal length, so that the framing stays
//! valid.

use std::ops::Range;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use super::MASK;
use super::flush_points::FlushPoints;
use super::held_tail::HeldTail;
use super::needles::{Matches, Needles};

/// Masks needles in a body that arrives in chunks. The output does not depend on the chunk boundaries, and what is held
/// back of it does not depend on the needles' content. Without a match and without held bytes nothing is copied.
#[derive(Debug)]
pub struct Masker {
    needles: Arc<Needles>,
    tail: HeldTail,
    /// The tail of the input, which may begin a needle.
    held: BytesMut,
    /// How many bytes of `held` are masked in any case, because a needle ends there.
    masked_anyway: usize,
    masked: u64,
}

impl Masker {
    pub fn new(needles: Arc<Needles>, flush_points: FlushPoints) -> Self {
        let tail = HeldTail::new(flush_points);
        Self { needles, tail, held: BytesMut::new(), masked_anyway: 0, masked: 0 }
    }

    /// The number of needles masked since the last call.
    pub fn take_masked(&mut self) -> u64 {
        std::mem::take(&mut self.masked)
    }

    /// Takes a chunk and returns what can be sent; empty when all of it may begin a needle.
    pub fn push(&mut self, piece: Bytes) -> Bytes {
        let new = piece.len();
        let bytes = self.after_held(piece);
        self.tail.push(&self.needles, &bytes, new);
        match bytes.len() - self.tail.length() {
            0 => {
                self.held = BytesMut::from(bytes);
                Bytes::new()
            }
            open => self.pass(bytes, open),
        }
    }

    /// Takes the last chunk and returns the rest of the body.
    pub fn push_last(&mut self, piece: Bytes) -> Bytes {
        let rest = self.after_held(piece);
        let spans = self.needles.search(&rest).spans;
        self.mask(rest, &spans)
    }

    /// Ends the body and returns what was held back.
    pub fn finish(&mut self) -> Bytes {
        match self.held.is_empty() {
            true => Bytes::new(),
            false => self.push_last(Bytes::new()),
        }
    }

    /// The held bytes and the chunk, which is not copied if none are held.
    fn after_held(&mut self, piece: Bytes) -> Bytes {
        if self.held.is_empty() {
            return piece;
        }
        self.held.extend_from_slice(&piece);
        std::mem::take(&mut self.held).freeze()
    }

    /// Masks the bytes, and holds those from `open` on.
    fn pass(&mut self, mut bytes: Bytes, open: usize) -> Bytes {
        let Matches { mut spans, .. } = self.needles.search(&bytes);
        self.held.extend_from_slice(&bytes.split_off(open));
        // A needle in the held rest is found by the next search.
        spans.retain(|span| span.start < open);
        let masked_anyway = spans.last().map_or(0, |span| span.end).max(self.masked_anyway);
        let masked = self.mask(bytes, &spans);
        self.masked_anyway = masked_anyway.saturating_sub(open);
        masked
    }

    /// Masks the spans and the `masked_anyway` bytes; copies only if there are any.
    fn mask(&mut self, bytes: Bytes, spans: &[Range<usize>]) -> Bytes {
        let masked_anyway = std::mem::take(&mut self.masked_anyway).min(bytes.len());
        if spans.is_empty() && masked_anyway == 0 {
            return bytes;
        }
        self.masked += spans.len() as u64;
        let mut masked = BytesMut::from(bytes);
        masked[..masked_anyway].fill(MASK);
        for span in spans {
            let end = span.end.min(masked.len());
            masked[span.start..end].fill(MASK);
        }
        masked.freeze()
    }
}

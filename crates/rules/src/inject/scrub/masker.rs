//! [`Masker`]: masks needles in uncompressed bodies as they stream, at equal length, so that the framing stays valid.
//! [`NeedleSearch`] searches for needles in a body that arrives in chunks, and tracks how much of it may be sent;
//! [`HeldTail`] is how many bytes at its end are held back.

use std::ops::Range;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use super::MASK;
use super::flush_points::FlushPoints;
use super::needles::{Matches, Needles};
use super::tail::TailRuns;

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
        match bytes.len() - self.tail.length {
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

/// Follows a body chunk by chunk. A chunk costs what its own length costs, however much is held back.
#[derive(Debug)]
pub(super) struct HeldTail {
    flush_points: FlushPoints,
    runs: TailRuns,
    /// How many bytes are held back.
    length: usize,
}

impl HeldTail {
    pub(super) fn new(flush_points: FlushPoints) -> Self {
        Self { flush_points, runs: TailRuns::default(), length: 0 }
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

/// A search that keeps only bytes that may begin a needle.
#[derive(Debug)]
pub(super) struct NeedleSearch {
    needles: Arc<Needles>,
    held: Vec<u8>,
    /// From this position on, what is held begins a needle. What is before it is not searched again.
    open: usize,
    seen: u64,
    /// The bytes at the end that may begin a needle, judged by their kinds alone.
    tail: HeldTail,
}

impl NeedleSearch {
    pub(super) fn new(needles: Arc<Needles>, flush_points: FlushPoints) -> Self {
        let tail = HeldTail::new(flush_points);
        Self { needles, held: Vec::new(), open: 0, seen: 0, tail }
    }

    /// Takes a chunk. Returns whether a needle was found so far.
    pub(super) fn sees(&mut self, piece: &[u8]) -> bool {
        self.seen += piece.len() as u64;
        let is_joined = !self.held.is_empty();
        if is_joined {
            self.held.extend_from_slice(piece);
        }
        let text = if is_joined { &self.held[..] } else { piece };
        let found = self.needles.search(&text[self.open..]);
        let open = self.open + found.open;
        // What may be sent stays so, and is not judged again: how much of it is held depends on the needles.
        self.tail.push(&self.needles, text, piece.len());
        // A needle of several lines may begin before the tail.
        let kept = open.min(text.len() - self.tail.length);
        match is_joined {
            true => drop(self.held.drain(..kept)),
            false => self.held.extend_from_slice(&piece[kept..]),
        }
        self.open = open - kept;
        !found.spans.is_empty()
    }

    /// How many bytes may be sent. A tail of fewer than `least` bytes counts as clean. This is the same for all secrets of the
    /// same length and alphabet.
    pub(super) fn cleared(&self, least: usize) -> u64 {
        let tail = self.tail.length;
        let tail = if tail < least { 0 } else { tail };
        self.seen - tail as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use keyward_base::secret::Secret;

    #[test]
    fn only_what_begins_a_needle_is_searched_again() {
        let secret = Secret::from("0123456789abcdef".to_owned());
        let needles = Arc::new(Needles::new([&secret], []));
        let mut search = NeedleSearch::new(needles, FlushPoints::Lines);
        let mut again = |text: &str| {
            for byte in text.as_bytes().chunks(1) {
                assert!(!search.sees(byte), "{text}");
            }
            (search.held.len(), search.held.len() - search.open)
        };
        assert_eq!(again(&"x".repeat(40)), (40, 0));
        assert_eq!(again("0123456789abcde"), (55, 15));
        assert_eq!(again("x"), (56, 0));
        assert_eq!(again("0123456789abcde"), (71, 15));
        assert!(search.sees(b"f"));
    }
}

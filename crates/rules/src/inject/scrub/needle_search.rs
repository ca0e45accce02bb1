//! [`NeedleSearch`]: searches for needles in a body that arrives in chunks, and tracks how much of it may be sent.

use std::sync::Arc;

use super::flush_points::FlushPoints;
use super::held_tail::HeldTail;
use super::needles::Needles;

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
        let kept = open.min(text.len() - self.tail.length());
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
        let tail = self.tail.length();
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

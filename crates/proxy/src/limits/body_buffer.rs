//! [`BodyBuffer`]: a copy of body bytes in buffers of our own. A slice received from a stream keeps the whole
//! buffer that it was read into, which can be a hundred times larger; so bytes are copied, and the size of the
//! copies is counted against a budget.

use std::collections::VecDeque;

use bytes::Bytes;

use super::budget::BudgetShare;

/// The smallest buffer when the length of the body is unknown.
const BUFFER_BYTES_MIN: usize = 512;

const BUFFER_BYTES_MAX: usize = 64 * 1024;

/// The memory of a buffer in addition to its bytes.
const OVERHEAD: usize = 160;

/// Bytes in order. The size of their buffers is counted.
#[derive(Debug, Default)]
pub struct BodyBuffer {
    full: VecDeque<Bytes>,
    /// The last buffer, which has room left.
    open: Option<Buffer>,
    bytes: usize,
}

/// A buffer and its share of the budget.
#[derive(Debug)]
struct Buffer {
    bytes: Vec<u8>,
    /// Returned when the last slice of the buffer is dropped.
    _share: BudgetShare,
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl BodyBuffer {
    /// The maximum memory for `bytes` bytes, in pieces of any size.
    pub fn size_max(bytes: usize) -> usize {
        let buffers = bytes.div_ceil(BUFFER_BYTES_MAX) + 8;
        bytes.saturating_mul(2).saturating_add(BUFFER_BYTES_MIN + buffers * OVERHEAD)
    }

    /// Adds a copy of `data`. `more` is the number of bytes that follow, if known. Returns `false` when a new
    /// `share` cannot be taken; then a part of `data` may be missing.
    #[must_use]
    pub fn copy(
        &mut self,
        mut data: &[u8],
        more: Option<u64>,
        share: impl Fn() -> BudgetShare,
    ) -> bool {
        while !data.is_empty() {
            let room = self.open.as_ref().map_or(0, Buffer::room);
            if room == 0 {
                self.close();
                let Some(buffer) = Buffer::new(self.next_size(data.len(), more), share()) else {
                    return false;
                };
                self.open = Some(buffer);
                continue;
            }
            let (now, rest) = data.split_at(room.min(data.len()));
            if let Some(open) = &mut self.open {
                open.bytes.extend_from_slice(now);
            }
            self.bytes += now.len();
            data = rest;
        }
        true
    }

    /// Adds bytes that are already counted by their owner.
    pub fn add(&mut self, data: Bytes) {
        self.close();
        self.bytes += data.len();
        self.full.push_back(data);
    }

    /// How many bytes there are.
    pub fn len(&self) -> usize {
        self.bytes
    }

    /// All bytes in order. Each slice stays counted until it is dropped.
    pub fn into_slices(mut self) -> VecDeque<Bytes> {
        self.close();
        self.full
    }

    fn close(&mut self) {
        if let Some(buffer) = self.open.take() {
            self.full.push_back(Bytes::from_owner(buffer));
        }
    }

    /// The number of bytes to come, or else as many as there are so far.
    fn next_size(&self, now: usize, more: Option<u64>) -> usize {
        let wanted = match more {
            Some(more) => now.saturating_add(usize::try_from(more).unwrap_or(usize::MAX)),
            None => self.bytes.max(now).max(BUFFER_BYTES_MIN),
        };
        wanted.min(BUFFER_BYTES_MAX)
    }
}

impl Buffer {
    fn new(capacity: usize, mut share: BudgetShare) -> Option<Self> {
        let taken = share.take(capacity + OVERHEAD);
        taken.then(|| Self { bytes: Vec::with_capacity(capacity), _share: share })
    }

    fn room(&self) -> usize {
        self.bytes.capacity() - self.bytes.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::budget::{Budget, PerAgent};

    const BUDGET: usize = 16 * 1024 * 1024;

    #[test]
    fn a_body_copied_byte_by_byte_takes_little_more_memory_than_its_length() {
        let budget = Budget::new(BUDGET, PerAgent::at_least(0));
        for (length, declared) in
            [(1, true), (1, false), (3_000, false), (1 << 20, true), (1 << 20, false)]
        {
            let mut pieces = BodyBuffer::default();
            for at in 0..length {
                let more = declared.then_some((length - at - 1) as u64);
                assert!(pieces.copy(b"x", more, || budget.share(None)));
            }
            assert_eq!(pieces.len(), length);
            let buffers = length.div_ceil(BUFFER_BYTES_MAX);
            let most = match declared {
                true => length + buffers * OVERHEAD,
                false => BodyBuffer::size_max(length),
            };
            assert!(budget.taken() <= most, "{length}: {}", budget.taken());
            let slices = pieces.into_slices();
            let whole: Vec<u8> = slices.iter().flatten().copied().collect();
            assert_eq!(whole, vec![b'x'; length]);
            let last = slices.back().cloned();
            drop(slices);
            assert!(budget.taken() > 0, "a slice that is on its way is counted");
            drop(last);
            assert_eq!(budget.taken(), 0);
        }
    }

    #[test]
    fn a_slice_of_a_large_buffer_does_not_keep_it() {
        let budget = Budget::new(BUDGET, PerAgent::at_least(0));
        let large = Bytes::from(vec![b'x'; 400 * 1024]);
        let mut pieces = BodyBuffer::default();
        assert!(pieces.copy(&large[..10], Some(0), || budget.share(None)));
        assert!(large.is_unique());
        assert_eq!(budget.taken(), 10 + OVERHEAD);
    }

    #[test]
    fn bytes_that_are_counted_elsewhere_are_added_without_a_copy_and_in_order() {
        let budget = Budget::new(BUDGET, PerAgent::at_least(0));
        let mut pieces = BodyBuffer::default();
        assert!(pieces.copy(b"one ", None, || budget.share(None)));
        let own = Bytes::from(vec![b'x'; 3]);
        pieces.add(own.clone());
        assert!(pieces.copy(b" two", None, || budget.share(None)));
        assert!(!own.is_unique());
        let whole: Vec<u8> = pieces.into_slices().iter().flatten().copied().collect();
        assert_eq!(whole, b"one xxx two");
    }

    #[test]
    fn bytes_that_exceed_the_budget_are_refused() {
        let budget = Budget::new(1_000, PerAgent::at_least(1_000));
        let mut pieces = BodyBuffer::default();
        assert!(pieces.copy(&[0; 700], Some(0), || budget.share(None)));
        assert!(!pieces.copy(&[0; 700], Some(0), || budget.share(None)));
    }
}

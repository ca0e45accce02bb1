//! [`chunks`]: work on a long list, shared by the processor's cores.

use std::panic::resume_unwind;
use std::sync::OnceLock;
use std::thread;

/// For fewer items, threads cost more than they save.
const ALONE: usize = 4_096;

const THREADS_MAX: usize = 8;

/// The number of cores that this process may use; cached, because Linux reads several files for it.
pub fn cores() -> usize {
    static CORES: OnceLock<usize> = OnceLock::new();
    *CORES.get_or_init(|| thread::available_parallelism().map_or(1, usize::from))
}

/// The results of `work` for consecutive parts of `items`, in their order. Returns when all are done.
///
/// # Panics
/// When `work` panics.
pub fn chunks<T: Sync, O: Send>(items: &[T], work: impl Fn(&[T]) -> O + Sync) -> Vec<O> {
    chunks_from(ALONE, items, work)
}

/// Like [`chunks`], for work that takes longer per item: from `alone` items on, several threads are used.
///
/// # Panics
/// When `work` panics.
pub fn chunks_from<T: Sync, O: Send>(
    alone: usize,
    items: &[T],
    work: impl Fn(&[T]) -> O + Sync,
) -> Vec<O> {
    let threads = cores().min(THREADS_MAX);
    if items.len() < alone || threads == 1 {
        return vec![work(items)];
    }
    let work = &work;
    thread::scope(|scope| {
        let parts = items.chunks(items.len().div_ceil(threads));
        let running: Vec<_> = parts.map(|part| scope.spawn(move || work(part))).collect();
        let joined = running.into_iter().map(|part| part.join());
        joined.map(|done| done.unwrap_or_else(|panic| resume_unwind(panic))).collect()
    })
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use super::*;

    #[test]
    fn parts_come_in_order_and_have_every_item_once() {
        for count in [0, 1, ALONE - 1, ALONE, 3 * ALONE + 1] {
            let items: Vec<usize> = (0..count).collect();
            let parts = chunks(&items, <[usize]>::to_vec);
            assert_eq!(parts.concat(), items, "{count}");
            assert!((1..=THREADS_MAX).contains(&parts.len()));
        }
    }

    #[test]
    fn a_panic_reaches_the_caller() {
        let items: Vec<usize> = (0..2 * ALONE).collect();
        let work = |part: &[usize]| assert!(part.last() != items.last(), "the last one");
        let panic = catch_unwind(AssertUnwindSafe(|| chunks(&items, work))).expect_err("it panics");
        assert_eq!(panic.downcast_ref::<&str>(), Some(&"the last one"));
    }
}

//! Counts look-ups in debug builds. Tests of cost compare counts instead of times.

use std::cell::Cell;

thread_local! {
    static COUNT: Cell<u64> = const { Cell::new(0) };
}

/// Records one look-up. Does nothing in optimised builds.
pub fn increment() {
    if cfg!(debug_assertions) {
        COUNT.set(COUNT.get() + 1);
    }
}

/// How often [`increment`] was called on this thread so far.
pub fn so_far() -> u64 {
    COUNT.get()
}

/// How often `work` called [`increment`] on this thread.
pub fn count<T>(work: impl FnOnce() -> T) -> (T, u64) {
    let before = so_far();
    let done = work();
    (done, so_far() - before)
}

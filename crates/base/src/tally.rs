//! Counts look-ups in debug builds, so that a test of a claim about cost needs no clock.

use std::cell::Cell;

thread_local! {
    static COUNT: Cell<u64> = const { Cell::new(0) };
}

/// Something was looked up or at. Does nothing in optimised builds.
pub fn one() {
    if cfg!(debug_assertions) {
        COUNT.set(COUNT.get() + 1);
    }
}

/// How often [`one`] was called by `work` on this thread.
pub fn count<T>(work: impl FnOnce() -> T) -> (T, u64) {
    let before = COUNT.get();
    let done = work();
    (done, COUNT.get() - before)
}

//! [`bytes_of`]: the size of a future, for tests that bound it.

/// The size of the future that `make` returns, in bytes. `make` is not called.
pub fn bytes_of<F: Future>(_make: impl FnOnce() -> F) -> usize {
    size_of::<F>()
}

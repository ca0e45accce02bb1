//! [`OpaqueArc`]: a shared value whose parts rustc does not look at when it proves that a future is `Send`.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

/// An `Arc` that is `Send` and `Sync` by its type alone. For services with many parts: rustc proves `Send` anew in every
/// async function that holds one, and below an `Arc` it looks at each type of each part every time. Access costs a virtual
/// call.
pub struct OpaqueArc<T>(Arc<dyn Opaque<T>>);

trait Opaque<T>: Send + Sync {
    fn value(&self) -> &T;
}

impl<T: Send + Sync> Opaque<T> for T {
    fn value(&self) -> &T {
        self
    }
}

impl<T: Send + Sync + 'static> OpaqueArc<T> {
    pub fn new(value: T) -> Self {
        Self(Arc::new(value))
    }
}

impl<T> Clone for OpaqueArc<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> Deref for OpaqueArc<T> {
    type Target = T;

    fn deref(&self) -> &T {
        (*self.0).value()
    }
}

impl<T: fmt::Debug> fmt::Debug for OpaqueArc<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

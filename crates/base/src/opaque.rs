//! [`OpaqueArc`]: a shared value whose parts rustc does not look at when it proves that a future is `Send`.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

/// An `Arc` whose type alone shows that it is `Send` and `Sync`, for services with many parts. rustc proves in each async
/// function that what it holds is `Send`; below an `Arc`, that proof visits the type of each part every time. An access costs
/// a virtual call.
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

//! [`UnclearResource`]: the error for a named resource that servers may read differently.

use keyward_base::pattern::PathError;

/// The path of a named resource cannot be decided on.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{}", Self::TEXT)]
pub struct UnclearResource;

impl UnclearResource {
    /// What is wrong with the request.
    pub const TEXT: &str = "a field or a parameter names another resource by a path with dot segments, a backslash, a \
                            control byte or invalid UTF-8, or a layer's repository in two ways";
}

impl From<PathError> for UnclearResource {
    fn from(_: PathError) -> Self {
        Self
    }
}

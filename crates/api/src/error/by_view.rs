//! Which refusals depend on the resources that this gateway knows.

use super::ApiError;

impl ApiError {
    /// Whether it depends on which resources this gateway knows, and refuses before anything is done.
    pub(super) fn is_by_view(&self) -> bool {
        matches!(
            self,
            Self::NotFound { .. }
                | Self::NotFoundIn { .. }
                | Self::NotYours { .. }
                | Self::Taken { .. }
                | Self::ManagedByFile { .. }
                | Self::Environments { .. }
                | Self::Stale { .. }
                | Self::Field { .. }
                | Self::Prevented { .. }
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_with_a_wrong_password_is_not_run_again() {
        let wrong = ApiError::WrongProof { field: "current", message: "is wrong", hint: None };
        assert!(!wrong.is_by_view());
        assert!(ApiError::field("user", "is unknown").is_by_view());
    }
}

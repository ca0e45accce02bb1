//! Converts the errors of other crates into [`ApiError`]s, and says which refusals depend on the resources that
//! this gateway knows.

use super::ApiError;
use crate::request_refusal::RequestRefusal;
use keyward_base::codes::{Code, RefusalText};
use keyward_base::time::whole_seconds;
use keyward_state::directory::DirectoryError;
use keyward_vault::VaultError;
use keyward_vault::events::EventsError;

impl From<DirectoryError> for ApiError {
    fn from(error: DirectoryError) -> Self {
        match error {
            DirectoryError::NameTaken { what, name } => Self::Taken { what, name },
            DirectoryError::Refused(refusal) => refusal.into(),
            DirectoryError::NotFound { what, name } => {
                Self::NotFound { what, name, near: None, field: None }
            }
            DirectoryError::ManagedByFile { what, name } => Self::ManagedByFile { what, name },
            DirectoryError::Changed { what, name } => {
                Self::Stale { what: format!("{what} `{name}`") }
            }
            DirectoryError::EnvironmentMismatch { agent, agent_in, connection, connection_in } => {
                Self::Environments { agent, agent_in, connection, connection_in }
            }
            DirectoryError::TokenTaken | DirectoryError::TokenRefused => {
                Self::field("token", error.to_string())
            }
            DirectoryError::LabelRefused => {
                Self::field("label", "must be 1 to 64 printable characters")
            }
            DirectoryError::TokenExpired
            | DirectoryError::TooMany { .. }
            | DirectoryError::AppInUse { .. }
            | DirectoryError::SourceInUse { .. }
            | DirectoryError::ProviderInUse { .. }
            | DirectoryError::SlotProvider { .. }
            | DirectoryError::NoSlot { .. }
            | DirectoryError::OtherPlugin { .. }
            | DirectoryError::BoundBySlot { .. }
            | DirectoryError::Private { .. }
            | DirectoryError::UserOwns { .. }
            | DirectoryError::OrgInUse { .. }
            | DirectoryError::OrgIsDefault
            | DirectoryError::NamedByRule { .. }
            | DirectoryError::NamedByHook { .. }
            | DirectoryError::ProviderBound { .. }
            | DirectoryError::TooManySessions { .. }
            | DirectoryError::TooManyConnectSessions { .. } => {
                let hint = error.hint().map(str::to_owned);
                Self::Prevented { message: error.to_string(), hint }
            }
            DirectoryError::PrivateWithoutOwner(_) => Self::field("visibility", error.to_string()),
            // It is transparent: the store's own error would not be found below it.
            DirectoryError::Store(error) => Self::internal(error),
            // Keys and rows concern only the operator.
            broken => Self::internal(broken),
        }
    }
}

impl From<RequestRefusal> for ApiError {
    fn from(refusal: RequestRefusal) -> Self {
        Self::Request(refusal)
    }
}

impl From<RefusalText> for ApiError {
    fn from(text: RefusalText) -> Self {
        Self::Refused { text, retry_after: None }
    }
}

impl From<EventsError> for ApiError {
    fn from(error: EventsError) -> Self {
        match error {
            EventsError::Directory(error) => error.into(),
            EventsError::NoKey | EventsError::NoClient => Self::refused(error.to_string()),
            broken => Self::internal(broken),
        }
    }
}

impl From<VaultError> for ApiError {
    fn from(error: VaultError) -> Self {
        if let Some(wait) = error.retry_after() {
            let code = match error.root() {
                VaultError::RefreshUnavailable { .. } => Code::RefreshUnavailable,
                _ => Code::SourceUnavailable,
            };
            let text = code.because(error.to_string()).hint_if(error.hint());
            return Self::Refused { text, retry_after: Some(whole_seconds(wait)) };
        }
        match error {
            VaultError::Directory(error) => error.into(),
            of_connection if of_connection.hint().is_some() => {
                Self::refused(of_connection.to_string()).hint_if(of_connection.hint())
            }
            VaultError::UnknownProvider(_) => not_found_in("provider", &error),
            VaultError::UnknownAuth { .. } => Self::field("auth", error.to_string()),
            VaultError::Form(error) => Self::field("variables", error.to_string()),
            VaultError::Grant(_) | VaultError::Url(_) => Self::field("fields", error.to_string()),
            VaultError::SettingWithoutEffect { .. } => Self::field("settings", error.to_string()),
            VaultError::SettingsField { .. } => Self::field("settings.headers", error.to_string()),
            VaultError::UnknownSource { .. } => not_found_in("fields", &error),
            VaultError::UnknownApp { .. } => not_found_in("app", &error),
            VaultError::App { field, what } => Self::field(field, what),
            VaultError::AppPaused { .. } | VaultError::ConnectionMissing => {
                Self::refused(error.to_string())
            }
            broken => Self::internal(broken),
        }
    }
}

fn not_found_in(field: &'static str, error: &VaultError) -> ApiError {
    ApiError::NotFoundIn { field: field.into(), message: error.to_string(), hint: None }
}

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
    use std::io;

    use super::*;
    use keyward_state::store::StoreError;
    use keyward_vault::RowError;
    use keyward_vault::oauth::FlowError;

    /// The codes of a failed write of a row beside a record: of a webhook's keys, and of a consent.
    fn codes(failed: impl Fn() -> StoreError) -> [Code; 2] {
        let row = || RowError::Store(failed());
        let refused = [ApiError::from(EventsError::Row(row())), FlowError::Row(row()).into()];
        refused.map(|refusal| refusal.text().code)
    }

    #[test]
    fn a_row_that_another_request_changed_is_stale_and_a_failing_store_is_named() {
        let conflict = || StoreError::Conflict { table: "flows", key: "org_default/f".to_owned() };
        assert_eq!(codes(conflict), [Code::Stale; 2]);
        let io = || io::Error::other("read-only");
        let unreached = || StoreError::Unreached { action: "write a row", source: io() };
        assert_eq!(codes(unreached), [Code::StoreUnavailable; 2]);
        let failed = || StoreError::Io { action: "write a row", source: io() };
        assert_eq!(codes(failed), [Code::StoreFailed; 2]);
    }

    #[test]
    fn a_request_with_a_wrong_password_is_not_run_again() {
        let wrong = ApiError::WrongProof { field: "current", message: "is wrong", hint: None };
        assert!(!wrong.is_by_view());
        assert!(ApiError::field("user", "is unknown").is_by_view());
    }
}

//! [`ApiError`]: every refusal of the control plane, its status, its stable code and its JSON.
//! Messages are for people who call the API; causes inside the gateway go to the log only.

use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};

use super::ledger::Code;
use super::wire::{ErrorBody, ErrorView};
use crate::directory::DirectoryError;
use crate::events::EventsError;
use crate::provider::decode::nearest;
use crate::proxy::call::Declined;
use crate::store::StoreError;
use crate::vault::VaultError;

/// A refusal.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum ApiError {
    /// The body, query or path cannot be read at all.
    #[error("{0}")]
    Unreadable(String),
    /// Nothing is served at that path.
    #[error("there is nothing at this path")]
    NoSuchPath,
    /// A named thing that does not exist.
    #[error("no {what} is named `{name}`")]
    NotFound {
        /// Its kind.
        what: &'static str,
        /// As asked for.
        name: String,
        /// What has nearly that name.
        near: Option<String>,
    },
    /// The path exists, for other methods.
    #[error("this path does not take that method")]
    Method,
    /// No token, or none that is good.
    #[error("this needs a personal access token that is known and has not ended")]
    Unauthenticated,
    /// The token's scopes.
    #[error("the token lacks the scope `{0}`")]
    ScopeMissing(String),
    /// The user's role.
    #[error("the role `{0}` does not allow this")]
    RoleRefused(&'static str),
    /// Somebody else's, and only to be used.
    #[error("{what} `{name}` is somebody else's: it is yours to use, not to change")]
    NotYours {
        /// Its kind.
        what: &'static str,
        /// Its name.
        name: String,
    },
    /// Nothing is changed without its record.
    #[error("the audit log cannot be written, and nothing is changed without its record")]
    AuditUnavailable,
    /// The name is in use.
    #[error("{what} `{name}` exists already")]
    Taken {
        /// Its kind.
        what: &'static str,
        /// The name.
        name: String,
    },
    /// The configuration file owns it.
    #[error("{what} `{name}` is managed by the configuration file")]
    ManagedByFile {
        /// Its kind.
        what: &'static str,
        /// Its name.
        name: String,
    },
    /// Agent and connection belong to two environments.
    #[error("agent `{agent}` is in {agent_in} and connection `{connection}` in {connection_in}")]
    Environments {
        /// The agent's name.
        agent: String,
        /// Its environment.
        agent_in: String,
        /// The connection's name.
        connection: String,
        /// Its environment.
        connection_in: String,
    },
    /// A body over the limit.
    #[error("the body is longer than {max_bytes} bytes")]
    TooLarge {
        /// The limit.
        max_bytes: usize,
    },
    /// A body that does not say it is JSON.
    #[error("the body must be sent as application/json")]
    MediaType,
    /// `Host` is none of our names.
    #[error("this name is not served here")]
    Misdirected,
    /// A field of the request that cannot be accepted.
    #[error("{message}")]
    Field {
        /// Path of the field, `fields.token`.
        field: String,
        /// What is wrong; never quotes a value.
        message: String,
        /// What to do.
        hint: Option<String>,
    },
    /// What the services behind refuse.
    #[error("{0}")]
    Refused(String),
    /// The same, with what to do about it.
    #[error("{message}")]
    RefusedUntil {
        /// Why.
        message: String,
        /// What to do.
        hint: String,
    },
    /// The provider was asked first, and did not take it: nothing was changed.
    #[error("{message}")]
    TestFailed {
        /// What was found.
        message: String,
        /// What to do.
        hint: Option<String>,
    },
    /// Stored, but the rules no longer compile: the policy before the change still decides.
    #[error("the change is stored but not in force: {causes}")]
    NotInForce {
        /// Why the rules do not compile.
        causes: String,
    },
    /// The configuration on disk is wrong; the old one stays.
    #[error("{}", .errors.join("\n"))]
    ConfigRefused {
        /// Everything that is wrong.
        errors: Vec<String>,
    },
    /// The audit log's files.
    #[error("the audit log cannot be read: {cause}")]
    Audit {
        /// What the system said.
        cause: String,
    },
    /// A call that Keyward did not send, or whose answer it keeps back.
    #[error("{}", .0.message)]
    Declined(Declined),
    /// An answer over the limit.
    #[error("the answer is longer than {max_bytes} bytes")]
    AnswerTooLarge {
        /// The limit.
        max_bytes: usize,
    },
    /// An answer that did not come to its end.
    #[error("the provider's answer was cut off")]
    AnswerCut,
    /// The gateway has begun to stop.
    #[error("the gateway is stopping")]
    Draining,
    /// The disk is full, gone or read-only. The cause is in the log.
    #[error("the store cannot be used: the change may or may not be there")]
    StoreFailed,
    /// A fault of ours. The cause is in the log.
    #[error("something went wrong inside the gateway")]
    Internal,
}

impl ApiError {
    /// A thing that is not there.
    pub(super) fn not_found(what: &'static str, name: &str) -> Self {
        Self::NotFound { what, name: shown(name), near: None }
    }

    /// The same, where one of these may have been meant.
    pub(super) fn not_found_among<'a>(
        what: &'static str,
        name: &str,
        known: impl IntoIterator<Item = &'a str>,
    ) -> Self {
        let near = nearest(name, known).map(str::to_owned);
        Self::NotFound { what, name: shown(name), near }
    }

    /// A field that is wrong. `message` must not quote its value.
    pub(super) fn field(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self::Field { field: field.into(), message: message.into(), hint: None }
    }

    /// A fault that the caller cannot mend: the cause is logged, the caller learns its kind.
    pub(super) fn internal(cause: impl std::error::Error + 'static) -> Self {
        let mut chain = String::new();
        let mut refusal = Self::Internal;
        let mut next: Option<&(dyn std::error::Error + 'static)> = Some(&cause);
        while let Some(error) = next {
            if let Some(StoreError::Io { .. }) = error.downcast_ref() {
                refusal = Self::StoreFailed;
            }
            let words = error.to_string();
            if !chain.ends_with(&words) {
                let colon = if chain.is_empty() { "" } else { ": " };
                chain = format!("{chain}{colon}{words}");
            }
            next = error.source();
        }
        tracing::error!(cause = %chain, "admin request failed");
        refusal
    }

    /// A failure to read the audit log.
    pub(super) fn audit(error: &std::io::Error) -> Self {
        Self::Audit { cause: error.to_string() }
    }

    /// The HTTP status.
    pub fn status(&self) -> StatusCode {
        match self {
            Self::Unreadable(_) => StatusCode::BAD_REQUEST,
            Self::NoSuchPath | Self::NotFound { .. } => StatusCode::NOT_FOUND,
            Self::Method => StatusCode::METHOD_NOT_ALLOWED,
            Self::Unauthenticated => StatusCode::UNAUTHORIZED,
            Self::ScopeMissing(_) | Self::RoleRefused(_) | Self::NotYours { .. } => {
                StatusCode::FORBIDDEN
            }
            Self::Taken { .. } | Self::ManagedByFile { .. } | Self::Environments { .. } => {
                StatusCode::CONFLICT
            }
            Self::TooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            Self::MediaType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::Misdirected => StatusCode::MISDIRECTED_REQUEST,
            Self::Field { .. }
            | Self::Refused(_)
            | Self::RefusedUntil { .. }
            | Self::TestFailed { .. }
            | Self::ConfigRefused { .. } => StatusCode::UNPROCESSABLE_ENTITY,
            Self::Declined(declined) => declined.status,
            Self::AnswerTooLarge { .. } | Self::AnswerCut => StatusCode::BAD_GATEWAY,
            Self::Draining | Self::AuditUnavailable => StatusCode::SERVICE_UNAVAILABLE,
            Self::NotInForce { .. } | Self::Audit { .. } | Self::StoreFailed | Self::Internal => {
                StatusCode::INTERNAL_SERVER_ERROR
            }
        }
    }

    /// The stable code that scripts compare.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Unreadable(_) => "bad_request",
            Self::NoSuchPath | Self::NotFound { .. } => "not_found",
            Self::Method => "method_refused",
            Self::Unauthenticated => "unauthenticated",
            Self::ScopeMissing(_) => "scope_missing",
            Self::RoleRefused(_) | Self::NotYours { .. } => "not_allowed",
            Self::AuditUnavailable => "audit_unavailable",
            Self::Taken { .. } => "name_taken",
            Self::ManagedByFile { .. } => "managed_by_file",
            Self::Environments { .. } => "environment_mismatch",
            Self::TooLarge { .. } => "too_large",
            Self::MediaType => "media_type_refused",
            Self::Misdirected => "host_mismatch",
            Self::Field { .. } => "invalid_field",
            Self::Refused(_) | Self::RefusedUntil { .. } => "refused",
            Self::TestFailed { .. } => "test_failed",
            Self::NotInForce { .. } => "not_in_force",
            Self::ConfigRefused { .. } => "config_refused",
            Self::Audit { .. } => "audit_unreadable",
            Self::Declined(declined) => declined.code,
            Self::AnswerTooLarge { .. } => "answer_too_large",
            Self::AnswerCut => "answer_cut",
            Self::Draining => "draining",
            Self::StoreFailed => "store_failed",
            Self::Internal => "internal",
        }
    }

    /// What the caller can do about it.
    pub fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::Field { hint, .. } => return hint.clone(),
            Self::RefusedUntil { hint, .. } => return Some(hint.clone()),
            Self::Declined(declined) => return declined.hint.clone(),
            Self::AnswerTooLarge { .. } => {
                "send the request through the proxy, which passes on any size"
            }
            Self::TestFailed { hint, .. } => return hint.clone(),
            Self::NotFound {
                what: what @ ("agent" | "app" | "connection" | "plugin" | "provider"),
                near,
                ..
            } => {
                let near = near.as_ref().map(|near| format!("did you mean `{near}`? "));
                let near = near.unwrap_or_default();
                return Some(format!("{near}`keyward {what} list` shows which there are"));
            }
            Self::NotFound { what: "token" | "binding", .. } => {
                "`keyward agent show NAME` lists tokens and connections"
            }
            Self::Unauthenticated => "an admin of your organisation makes one: keyward token add",
            Self::ScopeMissing(_) => "use a token with that scope",
            Self::NotFound { what: "user", .. } => "`keyward user list` shows which there are",
            Self::AuditUnavailable => "the gateway's log says why",
            Self::Taken { .. } => "choose another name, or remove that one first",
            Self::ManagedByFile { what: "agent", .. } => {
                "change it in the configuration file: `use` names its connections, `plugins:` its plugins"
            }
            Self::ManagedByFile { what: "plugin", .. } => {
                "change it, or its manifest, under `plugins:` of the configuration file"
            }
            Self::ManagedByFile { what: "honeytoken", .. } => {
                "take it out under `honeytokens:` of the configuration file"
            }
            Self::ManagedByFile { .. } => "change it in the configuration file",
            Self::Environments { .. } => "bind a connection of the agent's own environment",
            Self::NotInForce { .. } => "mend the named rule, or take the change back",
            Self::ConfigRefused { .. } => {
                "the old configuration stays in force until this is mended"
            }
            Self::StoreFailed => {
                "make sure that its disk has room and is writable, then restart the gateway"
            }
            Self::Audit { .. } => "read it as the gateway's user; `audit.file` says where it is",
            Self::Internal => "the gateway's log names the cause",
            Self::Misdirected => "use the listener's own address, or set `public_url`",
            _ => return None,
        };
        Some(hint.to_owned())
    }

    fn body(&self) -> ErrorBody {
        let field = match self {
            Self::Field { field, .. } if !field.is_empty() => Some(field.clone()),
            _ => None,
        };
        let (code, message) = (self.code().to_owned(), self.to_string());
        ErrorBody { error: ErrorView { code, message, field, hint: self.hint() } }
    }
}

impl From<DirectoryError> for ApiError {
    fn from(error: DirectoryError) -> Self {
        match error {
            DirectoryError::NameTaken { what, name } => Self::Taken { what, name },
            DirectoryError::NameRefused { rule, .. } => {
                Self::field("name", format!("must be {rule}"))
            }
            DirectoryError::NotFound { what, name } => Self::NotFound { what, name, near: None },
            DirectoryError::ManagedByFile { what, name } => Self::ManagedByFile { what, name },
            DirectoryError::EnvironmentMismatch { agent, agent_in, connection, connection_in } => {
                Self::Environments { agent, agent_in, connection, connection_in }
            }
            DirectoryError::TokenTaken | DirectoryError::TokenRefused => {
                Self::field("token", error.to_string())
            }
            DirectoryError::TextRefused { what, .. } => Self::field(what, error.to_string()),
            DirectoryError::TagsRefused => Self::field("tags", error.to_string()),
            DirectoryError::RotateEvery => Self::field("rotate_every", error.to_string()),
            DirectoryError::LabelRefused(_)
            | DirectoryError::TokenExpired
            | DirectoryError::TooMany { .. }
            | DirectoryError::AppInUse { .. }
            | DirectoryError::FixedOfApp(_)
            | DirectoryError::SlotProvider { .. }
            | DirectoryError::NoSlot { .. }
            | DirectoryError::OtherPlugin { .. }
            | DirectoryError::BoundBySlot { .. }
            | DirectoryError::FixedOfUser
            | DirectoryError::Private { .. }
            | DirectoryError::UserOwns { .. }
            | DirectoryError::OrgInUse { .. }
            | DirectoryError::OrgStays
            | DirectoryError::Fixed(_) => Self::Refused(error.to_string()),
            DirectoryError::PrivateOfNobody(_) => Self::field("visibility", error.to_string()),
            DirectoryError::EmailRefused => Self::field("email", error.to_string()),
            DirectoryError::WebhookUrl { .. } => Self::field("url", error.to_string()),
            // It is transparent: the store's own error would not be found below it.
            DirectoryError::Store(error) => Self::internal(error),
            // Keys and rows are the operator's affair.
            broken => Self::internal(broken),
        }
    }
}

impl From<EventsError> for ApiError {
    fn from(error: EventsError) -> Self {
        match error {
            EventsError::Directory(error) => error.into(),
            EventsError::NoWayOut => Self::Refused(error.to_string()),
            broken => Self::internal(broken),
        }
    }
}

impl From<VaultError> for ApiError {
    fn from(error: VaultError) -> Self {
        match error {
            VaultError::Directory(error) => error.into(),
            of_connection if of_connection.hint().is_some() => Self::RefusedUntil {
                message: of_connection.to_string(),
                hint: of_connection.hint().unwrap_or_default(),
            },
            VaultError::UnknownProvider(_) => Self::field("provider", error.to_string()),
            VaultError::UnknownAuth { .. } => Self::field("auth", error.to_string()),
            VaultError::Form(error) => Self::field("variables", error.to_string()),
            VaultError::Grant(error) => Self::field("fields", error.to_string()),
            VaultError::SettingsField { .. } => Self::field("settings.headers", error.to_string()),
            VaultError::UnknownApp { .. } => Self::field("app", error.to_string()),
            VaultError::App { field, what } => Self::field(field, what),
            VaultError::AppPaused { .. } => Self::Refused(error.to_string()),
            VaultError::ConnectionMissing => Self::Refused(error.to_string()),
            broken => Self::internal(broken),
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = (self.status(), axum::Json(self.body())).into_response();
        response.extensions_mut().insert(Code(self.code()));
        if self == Self::Unauthenticated {
            let scheme = HeaderValue::from_static("Bearer realm=\"keyward\"");
            response.headers_mut().insert(header::WWW_AUTHENTICATE, scheme);
        }
        response
    }
}

/// A name as asked for, cut and without control characters, fit for a message.
pub(super) fn shown(text: &str) -> String {
    const NAME_CHARS_MAX: usize = 80;
    clean(text, NAME_CHARS_MAX)
}

/// A sentence with names in it, likewise.
pub(super) fn shown_long(text: &str) -> String {
    const SENTENCE_CHARS_MAX: usize = 400;
    clean(text, SENTENCE_CHARS_MAX)
}

fn clean(text: &str, chars_max: usize) -> String {
    text.chars().filter(|c| !c.is_control()).take(chars_max).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_internal_fault_tells_the_caller_no_cause() {
        let error = ApiError::internal(std::io::Error::other("/var/lib/secret-place"));
        let json = serde_json::to_string(&error.body()).unwrap();
        assert!(!json.contains("secret-place"), "{json}");
        assert_eq!(error.status(), StatusCode::INTERNAL_SERVER_ERROR);
    }

    #[test]
    fn a_full_disk_is_told_apart_from_a_fault_of_ours_without_naming_paths() {
        let full = std::io::Error::new(std::io::ErrorKind::StorageFull, "/var/lib/secret-place");
        let failed = StoreError::Io { action: "write a row", source: full };
        let error = ApiError::from(VaultError::Directory(DirectoryError::Store(failed)));
        let full = std::io::Error::from(std::io::ErrorKind::StorageFull);
        let failed = StoreError::Io { action: "write a row", source: full };
        assert_eq!(ApiError::from(VaultError::Store(failed)), error);
        assert_eq!(
            (error.code(), error.status()),
            ("store_failed", StatusCode::INTERNAL_SERVER_ERROR)
        );
        let json = serde_json::to_string(&error.body()).unwrap();
        assert!(json.contains("restart the gateway") && !json.contains("secret-place"), "{json}");
    }

    #[test]
    fn names_are_cut_and_cleaned_before_they_are_quoted() {
        let asked = format!("a\r\nb\u{1b}[31m{}", "x".repeat(500));
        let message = ApiError::not_found("agent", &asked).to_string();
        assert!(message.len() < 120 && !message.chars().any(char::is_control), "{message:?}");
    }

    #[test]
    fn the_body_has_the_shape_of_the_interface() {
        let error = ApiError::field("fields.token", "is missing");
        let json = serde_json::to_value(error.body()).unwrap();
        let expected = serde_json::json!({"error": {
            "code": "invalid_field", "message": "is missing", "field": "fields.token",
        }});
        assert_eq!(json, expected);
    }
}

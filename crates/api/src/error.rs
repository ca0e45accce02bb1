//! [`ApiError`]: every refusal of the control plane. [`ApiError::text`] is the table of code, message and hint
//! of each. Internal causes are only logged.

mod from;
mod texts;

use std::borrow::Cow;
use std::fmt;

use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};

use self::texts::{
    another_user, answer_too_large, audit_unavailable, audit_unreadable, content_coding,
    environments, managed_by_file, media_type, misdirected, name_taken, not_found, not_in_force,
    not_yours, prevented, reload_incomplete, rules_refused, scope_missing, unauthenticated,
    wrong_proof,
};
use super::request_id;
use super::request_refusal::RequestRefusal;
use super::wire::{ErrorBody, ErrorView};
use keyward_base::codes::{Code, RefusalText};
use keyward_rules::provider::decode::nearest;
use keyward_state::store::StoreError;

/// Marks the response to a request that was refused for what this gateway knows of resources: nothing was done, and a
/// replica that knows more may decide otherwise.
#[derive(Clone, Copy, Debug)]
pub(super) struct RefusedByView;

/// A refusal.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum ApiError {
    /// The body, query or path cannot be parsed.
    Unreadable(String),
    /// The path does not exist.
    NoSuchPath,
    /// The named resource does not exist.
    NotFound {
        /// The kind of resource.
        what: &'static str,
        name: String,
        /// A resource with a similar name.
        near: Option<String>,
        /// The field of the body that names it, unless it is the path.
        field: Option<&'static str>,
    },
    /// The path exists, but not for this method.
    Method,
    /// The token is missing or invalid.
    Unauthenticated,
    /// The token lacks this scope.
    ScopeMissing(String),
    /// The user's role does not allow it.
    RoleRefused(&'static str),
    /// The resource belongs to another user, and the caller may only use it.
    NotYours {
        /// The kind of resource.
        what: &'static str,
        /// The name of the resource.
        name: String,
    },
    /// The request is about this user, and the caller is another one.
    AnotherUser(String),
    /// The audit log cannot be written, so nothing is changed.
    AuditUnavailable,
    /// The name is in use.
    Taken {
        /// The kind of resource.
        what: &'static str,
        /// The name that is in use.
        name: String,
    },
    /// The configuration file manages the resource.
    ManagedByFile {
        /// The kind of resource.
        what: &'static str,
        /// The name of the resource.
        name: String,
    },
    /// Agent and connection belong to different environments.
    Environments { agent: String, agent_in: String, connection: String, connection_in: String },
    /// It was changed since the caller read it.
    Stale {
        /// The resource, or the list of resources.
        what: String,
    },
    /// The body exceeds the limit.
    TooLarge {
        /// The limit in bytes.
        max_bytes: usize,
    },
    /// The body has another type than JSON.
    MediaType,
    /// The body is compressed.
    ContentCoding,
    /// `Host` is not one of our names.
    Misdirected,
    /// A field of the request is invalid.
    Field {
        /// The path of the field, such as `fields.token`.
        field: String,
        /// The error; quotes no value.
        message: String,
        /// What the caller can do.
        hint: Option<String>,
    },
    /// A field names a resource that does not exist, or does not fit.
    NotFoundIn { field: Cow<'static, str>, message: String, hint: Option<String> },
    /// A password or a code that proves who the caller is, is wrong; guesses are counted.
    WrongProof {
        /// The field that has it.
        field: &'static str,
        message: &'static str,
        hint: Option<&'static str>,
    },
    /// The present state of resources does not permit the change, such as one that still names the resource.
    Prevented { message: String, hint: Option<String> },
    /// A service refuses the operation, or cannot do it now.
    Refused {
        text: RefusalText,
        /// Seconds until a retry makes sense.
        retry_after: Option<u64>,
    },
    /// The change is stored, but the rules no longer compile: the previous policy stays in force.
    NotInForce {
        /// Why the rules do not compile.
        causes: String,
    },
    /// The configuration on disk is invalid; the old one stays.
    ConfigRefused { errors: Vec<String> },
    /// A reload was interrupted, and a part of the configuration may be in force.
    ReloadIncomplete {
        /// What interrupted it.
        causes: String,
    },
    /// No gateway would start with the rules of the configuration, so nothing is decided by them.
    RulesRefused { errors: Vec<String> },
    /// The audit log's files cannot be read.
    Audit {
        /// The operating system's error.
        cause: String,
    },
    /// The response exceeds the limit.
    AnswerTooLarge {
        /// The limit in bytes.
        max_bytes: usize,
    },
    /// The response ended early.
    AnswerCut,
    /// The request is refused regardless of what it asks for.
    Request(RequestRefusal),
    /// The gateway is stopping.
    Draining,
    /// The store failed while it was used: a write may have been made. The cause is in the log.
    StoreFailed,
    /// The store was not reached, or refused before it wrote: the disk is full, or the database is away. The cause is in
    /// the log.
    StoreUnreached,
    /// An internal error. The cause is in the log.
    Internal,
}

impl ApiError {
    /// The resource does not exist.
    pub(super) fn not_found(what: &'static str, name: &str) -> Self {
        Self::not_found_near(what, name, None)
    }

    /// The resource does not exist; suggests a similar one of `among`.
    pub(super) fn not_found_among<'a>(
        what: &'static str,
        name: &str,
        known: impl IntoIterator<Item = &'a str>,
    ) -> Self {
        Self::not_found_near(what, name, nearest(name, known))
    }

    /// The resource does not exist; suggests `near`.
    pub(super) fn not_found_near(what: &'static str, name: &str, near: Option<&str>) -> Self {
        Self::NotFound { what, name: shown(name), near: near.map(str::to_owned), field: None }
    }

    /// A field is invalid. `message` must not quote its value.
    pub(super) fn field(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self::Field { field: field.into(), message: message.into(), hint: None }
    }

    /// A service refuses the operation.
    pub(super) fn refused(message: impl Into<String>) -> Self {
        Code::Refused.because(message).into()
    }

    /// The provider rejected the credential in a test, so nothing was changed.
    pub(super) fn test_failed(message: impl Into<String>) -> Self {
        Code::TestFailed.because(message).into()
    }

    /// Names the field of the body that has the name of what does not exist.
    pub(super) fn in_field(mut self, named_in: &'static str) -> Self {
        if let Self::NotFound { field, .. } = &mut self {
            *field = Some(named_in);
        }
        self
    }

    /// Adds what the caller can do to the refusal of a field or of a service.
    pub(super) fn hint(self, hint: impl Into<String>) -> Self {
        self.hint_if(Some(hint.into()))
    }

    /// The same, if there is something.
    pub(super) fn hint_if(mut self, given: Option<String>) -> Self {
        match &mut self {
            Self::Field { hint, .. } | Self::Prevented { hint, .. } => *hint = given,
            Self::Refused { text, .. } => text.hint = given,
            _ => {}
        }
        self
    }

    /// An error that the caller cannot fix: the cause is logged, the caller gets its kind.
    pub(super) fn internal(cause: impl std::error::Error + 'static) -> Self {
        let mut chain = String::new();
        let mut refusal = Self::Internal;
        let mut next: Option<&(dyn std::error::Error + 'static)> = Some(&cause);
        while let Some(error) = next {
            match error.downcast_ref() {
                Some(StoreError::Io { .. }) if !request_id::is_read() => {
                    refusal = Self::StoreFailed;
                }
                Some(StoreError::Io { .. } | StoreError::Unreached { .. }) => {
                    refusal = Self::StoreUnreached;
                }
                Some(StoreError::Conflict { .. }) => {
                    let text = Code::Stale.because("another request changed it at the same time");
                    refusal = text.usual_hint().into();
                }
                _ => {}
            }
            let words = error.to_string();
            if !chain.ends_with(&words) {
                let colon = if chain.is_empty() { "" } else { ": " };
                chain = format!("{chain}{colon}{words}");
            }
            next = error.source();
        }
        let request = request_id::current();
        let request = request.as_ref().map(|id| id.as_str());
        tracing::error!(request, cause = %chain, "admin request failed");
        refusal
    }

    /// Reading the audit log failed.
    pub(super) fn audit(error: &std::io::Error) -> Self {
        Self::Audit { cause: error.to_string() }
    }

    /// Code, message and hint of the refusal.
    pub fn text(&self) -> RefusalText {
        match self {
            Self::Unreadable(message) => Code::BadRequest.because(message),
            Self::NoSuchPath => Code::NotFound
                .because("there is nothing at this path")
                .hint("`GET /api/v1` lists the collections"),
            Self::NotFound { what, name, near, .. } => not_found(what, name, near.as_deref()),
            Self::Method => Code::MethodRefused.because("this path does not accept that method"),
            Self::Unauthenticated => unauthenticated(),
            Self::ScopeMissing(scope) => scope_missing(scope),
            Self::RoleRefused(role) => Code::NotAllowed
                .because(format!("the role `{role}` does not allow this"))
                .hint("ask an admin of your organisation"),
            Self::NotYours { what, name } => not_yours(what, name),
            Self::AnotherUser(name) => another_user(name),
            Self::AuditUnavailable => audit_unavailable(),
            Self::Taken { what, name } => name_taken(what, name),
            Self::ManagedByFile { what, name } => managed_by_file(what, name),
            Self::Environments { agent, agent_in, connection, connection_in } => {
                environments(agent, agent_in, connection, connection_in)
            }
            Self::Stale { what } => {
                Code::Stale.because(format!("{what} was changed since it was read")).usual_hint()
            }
            Self::TooLarge { max_bytes } => {
                Code::TooLarge.because(format!("the body is longer than {max_bytes} bytes"))
            }
            Self::MediaType => media_type(),
            Self::ContentCoding => content_coding(),
            Self::Misdirected => misdirected(),
            Self::Field { message, hint, .. } => {
                Code::InvalidField.because(message).hint_if(hint.clone())
            }
            Self::NotFoundIn { message, hint, .. } => {
                Code::NotFound.because(message).hint_if(hint.clone())
            }
            Self::WrongProof { message, hint, .. } => wrong_proof(message, *hint),
            Self::Prevented { message, hint } => prevented(message, hint.as_deref()),
            Self::Refused { text, .. } => text.clone(),
            Self::NotInForce { causes } => not_in_force(causes),
            Self::ConfigRefused { errors } => {
                Code::ConfigRefused.because(errors.join("\n")).usual_hint()
            }
            Self::ReloadIncomplete { causes } => reload_incomplete(causes),
            Self::RulesRefused { errors } => rules_refused(errors),
            Self::Audit { cause } => audit_unreadable(cause),
            Self::AnswerTooLarge { max_bytes } => answer_too_large(*max_bytes),
            Self::AnswerCut => Code::AnswerCut.because("the provider's answer was cut off"),
            Self::Request(refusal) => refusal.text(),
            Self::Draining => Code::Draining.because("the gateway is stopping"),
            Self::StoreFailed => Code::StoreFailed
                .because("the store failed: a change may or may not be stored")
                .usual_hint(),
            Self::StoreUnreached => Code::StoreUnavailable
                .because("the store cannot be used, and the request was not carried out")
                .usual_hint(),
            Self::Internal => {
                Code::Internal.because("something went wrong inside the gateway").usual_hint()
            }
        }
    }

    /// The code; it also determines the status.
    pub fn code(&self) -> Code {
        self.text().code
    }

    fn body(&self) -> ErrorBody {
        let field = match self {
            Self::Field { field, .. } if !field.is_empty() => Some(field.clone()),
            Self::NotFoundIn { field, .. } => Some(field.to_string()),
            Self::WrongProof { field, .. } | Self::NotFound { field: Some(field), .. } => {
                Some((*field).to_owned())
            }
            _ => None,
        };
        let RefusalText { code, message, hint } = self.text();
        let (code, docs) = (code.to_string(), None);
        let request = request_id::current().map(|id| id.to_string());
        ErrorBody { error: ErrorView { code, message, field, hint, docs, request } }
    }
}

impl fmt::Display for ApiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text().message)
    }
}

impl std::error::Error for ApiError {}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let (code, body) = (self.code(), self.body());
        let mut response = (code.status(), axum::Json(&body)).into_response();
        response.extensions_mut().insert(code);
        if self.is_by_view() {
            response.extensions_mut().insert(RefusedByView);
        }
        // For the link to the page of errors.
        response.extensions_mut().insert(body);
        if code.status() == StatusCode::UNAUTHORIZED {
            let scheme = HeaderValue::from_static("Bearer realm=\"keyward\"");
            response.headers_mut().insert(header::WWW_AUTHENTICATE, scheme);
        }
        let retry_after = match self {
            Self::Refused { retry_after, .. } => retry_after,
            Self::StoreUnreached => Some(1),
            Self::Request(refusal) => refusal.retry_after(),
            _ => None,
        };
        if let Some(retry_after) = retry_after {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(retry_after));
        }
        response
    }
}

/// A given name for a message: cut, and without control characters.
pub(super) fn shown(text: &str) -> String {
    const NAME_CHARS_MAX: usize = 80;
    clean(text, NAME_CHARS_MAX)
}

/// A sentence with given names for a message: cut, and without control characters.
pub(super) fn shown_long(text: &str) -> String {
    const SENTENCE_CHARS_MAX: usize = 400;
    clean(text, SENTENCE_CHARS_MAX)
}

fn clean(text: &str, chars_max: usize) -> String {
    text.chars().filter(|c| !c.is_control()).take(chars_max).collect()
}

#[cfg(test)]
mod tests {
    use http::StatusCode;

    use super::*;
    use keyward_state::directory::DirectoryError;
    use keyward_vault::VaultError;

    #[test]
    fn an_internal_error_does_not_disclose_its_cause() {
        let error = ApiError::internal(std::io::Error::other("/var/lib/secret-place"));
        let json = serde_json::to_string(&error.body()).unwrap();
        assert!(!json.contains("secret-place"), "{json}");
        assert_eq!(error.code().status(), StatusCode::INTERNAL_SERVER_ERROR);
    }

    #[test]
    fn a_full_disk_is_reported_as_a_failed_store_without_naming_paths() {
        let (action, kind) = ("write a row", std::io::ErrorKind::StorageFull);
        let full = || std::io::Error::new(kind, "/var/lib/secret-place");
        let failed = StoreError::Io { action, source: full() };
        let unreached = StoreError::Unreached { action, source: full() };
        for (error, code, status, may_be_stored) in [
            (DirectoryError::Store(failed), "store_failed", 500, true),
            (DirectoryError::Store(unreached), "store_unavailable", 503, false),
        ] {
            let error = ApiError::from(VaultError::Directory(error));
            assert_eq!((error.code().as_str(), error.code().status().as_u16()), (code, status));
            let json = serde_json::to_string(&error.body()).unwrap();
            assert!(json.contains("disk has room") && !json.contains("secret-place"), "{json}");
            assert!(json.contains("or that its database is reached"), "{json}");
            assert_eq!(json.contains("may or may not be stored"), may_be_stored, "{json}");
        }
    }

    #[test]
    fn names_are_cut_and_cleaned_before_they_are_quoted() {
        let asked = format!("a\r\nb\u{1b}[31m{}", "x".repeat(500));
        let message = ApiError::not_found("agent", &asked).to_string();
        assert!(message.len() < 120 && !message.chars().any(char::is_control), "{message:?}");
    }

    #[test]
    fn the_body_of_an_error_has_code_message_and_field() {
        let error = ApiError::field("fields.token", "is missing");
        let json = serde_json::to_value(error.body()).unwrap();
        let expected = serde_json::json!({"error": {
            "code": "invalid_field", "message": "is missing", "field": "fields.token",
        }});
        assert_eq!(json, expected);
    }
}

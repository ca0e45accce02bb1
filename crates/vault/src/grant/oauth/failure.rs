//! [`TokenFailure`]: why an authorization server issued no token, and who must act. Common error codes are in the table of
//! `keyward_rules::provider::error_codes`, the codes of one server in its provider file.

use std::fmt;
use std::time::Duration;

use http::{HeaderMap, HeaderValue, StatusCode, header};
use jiff::Timestamp;
use serde::de::value::StrDeserializer;
use serde::de::{DeserializeOwned, IntoDeserializer};

use keyward_base::secret::Secret;
use keyward_base::time;
use keyward_net::call::{CallError, CallFailure};
use keyward_rules::inject::scrub::Needles;
use keyward_rules::inject::sign::SignError;
use keyward_rules::provider::oauth::Quirks;
use keyward_rules::provider::{error_codes, error_notes};

/// A server's error code: 1 to 64 characters of `[A-Za-z0-9_.-]`. Safe to store and to show. It is displayed with the
/// code of the service itself: `invalid_client, AADSTS7000222`.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct ErrorCode {
    code: String,
    /// A code with a known meaning, from the description.
    of_service: Option<&'static str>,
}

/// Longest stored code.
const CODE_CHARS_MAX: usize = 64;

/// Longest stored description, in characters.
const SAID_CHARS_MAX: usize = 200;

/// Longest pause: a century, so that no sum overflows.
const PAUSE_MAX: Duration = Duration::from_secs(100 * 365 * 86_400);

/// Who must act before requests can succeed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ActingParty {
    /// The account's owner must reconnect.
    Person,
    /// The operator must correct the app.
    Operator(Correction),
}

/// What an operator must correct.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Correction {
    /// How the client proves itself: id, secret, key.
    Credentials,
    /// What the client asks for, and where: scopes, grant type, endpoints. Other credentials change nothing.
    Request,
}

/// Why there is no token.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum TokenFailure {
    /// The grant or the client is invalid: no requests until a person has acted.
    Permanent {
        /// Who must act.
        who: ActingParty,
        /// The server's code, or ours.
        code: ErrorCode,
        /// A description for people: at most 200 characters, no control characters, secrets masked.
        said: Option<String>,
    },
    /// Temporary; retry after a pause.
    Temporary(Temporary),
}

/// A temporary failure.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Temporary {
    /// A message for the log.
    pub what: String,
    /// The server's code, else its status: `http_404`.
    pub code: Option<ErrorCode>,
    /// Why there is no readable response.
    pub cause: Option<CallFailure>,
    /// The server's `Retry-After` (429 and 503), unbounded.
    pub retry_after: Option<Duration>,
    /// Unknown code: several equal failures over some time mean that the grant is invalid.
    pub unknown_code: bool,
    /// 429: the limit applies to the client, not to this connection.
    pub whole_client: bool,
    /// The server may have processed the request: a single-use token may be spent.
    pub ambiguous: bool,
    /// A description for people, as in [`TokenFailure::Permanent`].
    pub said: Option<String>,
}

/// An error response of a server.
#[derive(Debug)]
pub(super) struct ErrorAnswer<'a> {
    pub(super) status: StatusCode,
    pub(super) headers: &'a HeaderMap,
    /// The error code, if there is one.
    pub(super) code: Option<ErrorCode>,
    pub(super) said: Option<String>,
}

impl ErrorCode {
    /// A code of Keyward.
    pub fn of(word: &'static str) -> Self {
        Self::plain(word.to_owned())
    }

    fn plain(code: String) -> Self {
        Self { code, of_service: None }
    }

    /// A server's code, without invalid characters; `None` if nothing is left.
    pub fn clean(raw: &str) -> Option<Self> {
        let allowed = |c: &char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
        let text: String = raw.chars().filter(allowed).take(CODE_CHARS_MAX).collect();
        (!text.is_empty()).then(|| Self::plain(text))
    }

    /// A server's code, or `unknown`, with the code that its description begins with.
    pub fn received(raw: &str, description: Option<&str>) -> Self {
        Self::clean(raw).unwrap_or_else(|| Self::of("unknown")).described_by(description)
    }

    /// With the code that the description begins with.
    pub(super) fn described_by(self, said: Option<&str>) -> Self {
        Self { of_service: said.and_then(error_notes::code_of), ..self }
    }

    /// The code of the standards.
    pub fn as_str(&self) -> &str {
        &self.code
    }

    /// The code with its meaning, where it is known.
    pub fn explained(&self) -> String {
        match self.meaning() {
            Some(meaning) => format!("{self}: {meaning}"),
            None => self.to_string(),
        }
    }

    /// The meaning of the service's own code, or of the code, where it is known.
    pub fn meaning(&self) -> Option<&'static str> {
        error_notes::meaning(self.of_service.unwrap_or(&self.code))
    }

    pub(super) fn status(status: StatusCode) -> Self {
        Self::plain(format!("http_{}", status.as_u16()))
    }

    fn says(&self, word: &str) -> bool {
        error_codes::says(&self.code, word)
    }

    fn is_one_of(&self, codes: &[impl AsRef<str>]) -> bool {
        codes.iter().any(|code| code.as_ref().eq_ignore_ascii_case(&self.code))
    }
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.code)?;
        self.of_service.map_or(Ok(()), |own| write!(f, ", {own}"))
    }
}

impl TokenFailure {
    /// A failure that Keyward itself determines, without a request.
    pub(super) fn ours(who: ActingParty, code: &'static str, said: impl Into<String>) -> Self {
        Self::Permanent { who, code: ErrorCode::of(code), said: Some(said.into()) }
    }

    /// The failure of a response that reports success: its tokens are lost, and the sent one may be spent.
    pub(super) fn after_success(self) -> Self {
        match self {
            Self::Temporary(temporary) => {
                Self::Temporary(Temporary { ambiguous: true, ..temporary })
            }
            permanent => permanent,
        }
    }

    /// A response that cannot be read.
    pub(super) fn unreadable(what: &'static str) -> Self {
        Self::Temporary(Temporary::of(what))
    }

    /// Whether the reason may be the token of the request. Servers have many codes for that.
    pub(super) fn may_be_of_token(&self) -> bool {
        match self {
            Self::Permanent { who, .. } => *who == ActingParty::Person,
            Self::Temporary(temporary) => temporary.unknown_code,
        }
    }

    /// Whether the server says that the token of the request is not valid.
    pub(super) fn is_of_invalid_token(&self) -> bool {
        let is_invalid = |code: &ErrorCode| code.says("token");
        self.may_be_of_token() && self.code().is_some_and(is_invalid)
    }

    /// Whether the server does not know the client, or rejects its secret.
    pub fn is_of_invalid_client(&self) -> bool {
        let Self::Permanent { who, code, .. } = self else { return false };
        let is_of_credentials = *who == ActingParty::Operator(Correction::Credentials);
        code.says("client") || is_of_credentials && code.says("credentials_if_401")
    }

    /// The error code, of the server or of Keyward.
    pub fn code(&self) -> Option<&ErrorCode> {
        match self {
            Self::Permanent { code, .. } => Some(code),
            Self::Temporary(temporary) => temporary.code.as_ref(),
        }
    }
}

/// A setting that makes the request impossible.
pub(super) fn bad_endpoint() -> TokenFailure {
    let said = "an endpoint or a field of the provider cannot be used in a request";
    TokenFailure::ours(ActingParty::Operator(Correction::Request), "bad_endpoint", said)
}

/// A field that a request needs has no value, or cannot be sent.
pub(super) fn incomplete_field(error: SignError) -> TokenFailure {
    TokenFailure::ours(ActingParty::Person, "field_missing", error.to_string())
}

impl fmt::Display for TokenFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Permanent { who: ActingParty::Person, code, .. } => {
                write!(f, "the grant is no longer valid ({})", code.explained())
            }
            Self::Permanent { who: ActingParty::Operator(_), code, .. } => {
                write!(f, "the client is refused ({})", code.explained())
            }
            Self::Temporary(temporary) => temporary.fmt(f),
        }
    }
}

impl std::error::Error for TokenFailure {}

impl fmt::Display for Temporary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.code {
            Some(code) => write!(f, "{} ({})", self.what, code.explained()),
            None => f.write_str(&self.what),
        }
    }
}

impl Temporary {
    /// A temporary failure without details.
    pub fn of(what: impl Into<String>) -> Self {
        Self { what: what.into(), ..Self::default() }
    }
}

/// Classifies an error response. Only for 5xx and 429 does the status take precedence over the content.
pub(super) fn classify(refused: ErrorAnswer<'_>, quirks: &Quirks, now: Timestamp) -> TokenFailure {
    let ErrorAnswer { status, headers, code, said } = refused;
    let retry_after = || match status.as_u16() {
        429 | 503 => headers.get(header::RETRY_AFTER).and_then(|value| retry_after(value, now)),
        _ => None,
    };
    let temporary = |what: &str, unknown_code: bool| {
        TokenFailure::Temporary(Temporary {
            what: what.to_owned(),
            cause: None,
            code: Some(code.clone().unwrap_or_else(|| ErrorCode::status(status))),
            retry_after: retry_after(),
            unknown_code,
            whole_client: status == StatusCode::TOO_MANY_REQUESTS,
            ambiguous: false,
            said: said.clone(),
        })
    };
    match status.as_u16() {
        429 => return temporary("the authorization server reports too many requests", false),
        500..=599 => return temporary("the authorization server reports a server error", false),
        _ => {}
    }
    let permanent = |who, code| TokenFailure::Permanent { who, code, said: said.clone() };
    match code.clone() {
        Some(code) => match judge(&code, status, quirks) {
            Some(CodeMeaning::Over(who)) => permanent(who, code),
            Some(CodeMeaning::Passes) => {
                temporary("the authorization server asks to retry later", false)
            }
            None => temporary("the authorization server refused", status.as_u16() != 408),
        },
        None if status == StatusCode::REQUEST_TIMEOUT => temporary("the request timed out", false),
        None if status.is_client_error() => temporary("the authorization server refused", true),
        None => temporary("the authorization server's answer is not an OAuth response", false),
    }
}

enum CodeMeaning {
    Over(ActingParty),
    Passes,
}

/// The meaning in the provider's file, else in the common table. `None`: an unknown code.
fn judge(code: &ErrorCode, status: StatusCode, quirks: &Quirks) -> Option<CodeMeaning> {
    if code.is_one_of(&quirks.temporary) {
        return Some(CodeMeaning::Passes);
    }
    if code.is_one_of(&quirks.permanent) {
        return Some(CodeMeaning::Over(ActingParty::Person));
    }
    let operator = |correction| Some(CodeMeaning::Over(ActingParty::Operator(correction)));
    // With 401, `unauthorized_client` is the code of Keycloak for a wrong secret, and of older MCP SDKs for an unknown client.
    // Otherwise the client is known, and may not ask for such a token (RFC 6749 §5.2).
    let depends = code.says("credentials_if_401");
    let is_of_credentials = depends && status == StatusCode::UNAUTHORIZED;
    if code.is_one_of(&quirks.rejected) || code.says("credentials") || is_of_credentials {
        return operator(Correction::Credentials);
    }
    if depends || code.says("request") {
        return operator(Correction::Request);
    }
    if code.says("person") {
        return Some(CodeMeaning::Over(ActingParty::Person));
    }
    code.says("passes").then_some(CodeMeaning::Passes)
}

/// Whether a code of this server has a meaning, whatever the status, so that it is no unknown one.
pub(super) fn has_meaning(code: &str, quirks: &Quirks) -> bool {
    judge(&ErrorCode::plain(code.to_owned()), StatusCode::BAD_REQUEST, quirks).is_some()
}

/// Parses a code as a type of the `oauth2` crate.
pub(super) fn typed<T: DeserializeOwned>(code: &str) -> Option<T> {
    let code: StrDeserializer<'_, serde::de::value::Error> = code.into_deserializer();
    T::deserialize(code).ok()
}

/// The failure of a request without a complete response.
pub(super) fn unanswered(error: &CallError, now: Timestamp) -> TokenFailure {
    let mut failure = Temporary {
        ambiguous: error.was_sent(),
        cause: Some(error.cause()),
        ..Temporary::of(error.to_string())
    };
    if let CallError::Unusable { status: Some(status), retry_after: after, .. } = error {
        let later = matches!(status.as_u16(), 429 | 503);
        failure.retry_after =
            after.as_ref().filter(|_| later).and_then(|value| retry_after(value, now));
        failure.whole_client = *status == StatusCode::TOO_MANY_REQUESTS;
        failure.code = Some(ErrorCode::status(*status));
    }
    TokenFailure::Temporary(failure)
}

/// `Retry-After`, bounded.
pub(super) fn retry_after(value: &HeaderValue, now: Timestamp) -> Option<Duration> {
    let wait = time::retry_after(value.to_str().ok()?, now)?;
    Some(wait.min(PAUSE_MAX))
}

/// A server's description: short, without control characters, with masked secrets.
pub(super) fn cleaned<'a>(text: &str, secrets: impl Iterator<Item = &'a Secret>) -> Option<String> {
    let mut text = text.to_owned();
    let secrets: Vec<&Secret> = secrets.collect();
    for secret in &secrets {
        // Short values are not masked: they are words such as `refresh_token`.
        if let Some(secret) = secret.expose_text().filter(|secret| secret.len() >= SECRET_CHARS_MIN)
        {
            text = text.replace(secret, "***");
        }
    }
    // In the form in which servers quote parameters.
    if let Some((masked, _)) = Needles::new(secrets, []).masked(text.as_bytes()) {
        text = String::from_utf8_lossy(&masked).into_owned();
    }
    let words: Vec<&str> = text.split(|c: char| c.is_whitespace() || c.is_control()).collect();
    let words: Vec<&str> = words.into_iter().filter(|word| !word.is_empty()).collect();
    let text: String = words.join(" ").chars().take(SAID_CHARS_MAX).collect();
    (!text.is_empty()).then_some(text)
}

/// Shorter values are not masked.
const SECRET_CHARS_MIN: usize = 6;

//! [`Failure`]: why an authorization server issued no token, and who must act. The table of common error codes;
//! the codes of one server are data of its provider file.

use std::fmt;
use std::time::Duration;

use http::{HeaderMap, HeaderValue, StatusCode, header};
use jiff::Timestamp;
use oauth2::basic::BasicErrorResponseType as Standard;
use serde::de::value::StrDeserializer;
use serde::de::{DeserializeOwned, IntoDeserializer};

use keyward_base::secret::Secret;
use keyward_base::time;
use keyward_net::call::{CallError, Cause};
use keyward_rules::inject::scrub::Needles;
use keyward_rules::provider::oauth::Quirks;

/// A server's own code: 1 to 64 characters of `[A-Za-z0-9_.-]`. Safe to store and to show.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct ErrorCode(String);

/// Longest code that is kept.
const CODE_CHARS_MAX: usize = 64;

/// Longest description that is kept, in characters.
const SAID_CHARS_MAX: usize = 200;

/// A pause of a century is as good as any longer one, and no sum overflows with it.
const PAUSE_MAX: Duration = Duration::from_secs(100 * 365 * 86_400);

/// Who has to act before it works again.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ActingParty {
    /// The account's owner reconnects.
    Person,
    /// The operator corrects the app: id, secret, scopes, endpoints.
    Operator,
}

/// Why there is no token.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Failure {
    /// The grant or the client is finished: no further requests until someone has acted.
    Permanent {
        /// Who acts.
        who: ActingParty,
        /// What the server said, or our own word for it.
        code: ErrorCode,
        /// More of it, for people: at most 200 characters, no control characters, secrets masked.
        said: Option<String>,
    },
    /// It passes; ask again after a pause.
    Temporary(Temporary),
}

/// A failure that passes.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Temporary {
    /// What happened, in words for the log.
    pub what: String,
    /// The server's code; without one its status, `http_404`.
    pub code: Option<ErrorCode>,
    /// Why there is no answer to read, where there is none.
    pub cause: Option<Cause>,
    /// What the server asks for (429 and 503), unbounded.
    pub retry_after: Option<Duration>,
    /// An unknown kind: several equal ones over a time mean that the grant is over.
    pub limited: bool,
    /// 429: the server means the client, not this connection.
    pub whole_client: bool,
    /// The server may have acted on it: a single-use token may be spent.
    pub ambiguous: bool,
    /// More of it, for people, as in [`Failure::Permanent`].
    pub said: Option<String>,
}

/// Codes beside RFC 6749's that end a grant: of OpenID Connect Core §3.1.2.6 and of services.
const PERSON: &[&str] = &[
    "bad_refresh_token",
    "invalid_refresh_token",
    "token_revoked",
    "token_expired",
    "invalid_auth",
    "account_inactive",
    "interaction_required",
    "login_required",
    "consent_required",
];

/// Codes beside RFC 6749's that refuse the client or what it asks for.
const OPERATOR: &[&str] =
    &["invalid_client_id", "bad_client_secret", "incorrect_client_credentials", "invalid_target"];

/// Codes that pass.
const PASSING: &[&str] = &["temporarily_unavailable", "server_error", "slow_down", "ratelimited"];

/// What a server answered instead of a token.
#[derive(Debug)]
pub(super) struct ErrorAnswer<'a> {
    pub(super) status: StatusCode,
    pub(super) headers: &'a HeaderMap,
    /// Its code, where there is one.
    pub(super) code: Option<ErrorCode>,
    pub(super) said: Option<String>,
}

impl ErrorCode {
    /// A code of ours.
    pub fn of(word: &'static str) -> Self {
        Self(word.to_owned())
    }

    /// What a server wrote, without characters that no code has; `None` when nothing is left.
    pub fn clean(raw: &str) -> Option<Self> {
        let allowed = |c: &char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
        let text: String = raw.chars().filter(allowed).take(CODE_CHARS_MAX).collect();
        (!text.is_empty()).then_some(Self(text))
    }

    /// The code.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub(super) fn status(status: StatusCode) -> Self {
        Self(format!("http_{}", status.as_u16()))
    }

    fn is_one_of(&self, codes: &[impl AsRef<str>]) -> bool {
        codes.iter().any(|code| code.as_ref().eq_ignore_ascii_case(&self.0))
    }
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Failure {
    /// Our own verdict, before or without asking.
    pub(super) fn ours(who: ActingParty, code: &'static str, said: impl Into<String>) -> Self {
        Self::Permanent { who, code: ErrorCode::of(code), said: Some(said.into()) }
    }

    /// An answer that is none.
    pub(super) fn unreadable(what: &'static str) -> Self {
        Self::Temporary(Temporary::of(what))
    }

    /// The server's code, or ours.
    pub fn code(&self) -> Option<&ErrorCode> {
        match self {
            Self::Permanent { code, .. } => Some(code),
            Self::Temporary(temporary) => temporary.code.as_ref(),
        }
    }
}

/// A setting that no request can be made of.
pub(super) fn bad_endpoint() -> Failure {
    let said = "an endpoint or a field of the provider is not one that can be sent";
    Failure::ours(ActingParty::Operator, "bad_endpoint", said)
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Permanent { who: ActingParty::Person, code, .. } => {
                write!(f, "the grant is over ({code})")
            }
            Self::Permanent { who: ActingParty::Operator, code, .. } => {
                write!(f, "the client is refused ({code})")
            }
            Self::Temporary(temporary) => temporary.fmt(f),
        }
    }
}

impl std::error::Error for Failure {}

impl fmt::Display for Temporary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.code {
            Some(code) => write!(f, "{} ({code})", self.what),
            None => f.write_str(&self.what),
        }
    }
}

impl Temporary {
    /// A failure of which no more is known.
    pub fn of(what: impl Into<String>) -> Self {
        Self {
            what: what.into(),
            code: None,
            cause: None,
            retry_after: None,
            limited: false,
            whole_client: false,
            ambiguous: false,
            said: None,
        }
    }
}

/// Which kind of failure an answer is. The status decides before the content only for 5xx and 429.
pub(super) fn classify(refused: ErrorAnswer<'_>, quirks: &Quirks, now: Timestamp) -> Failure {
    let ErrorAnswer { status, headers, code, said } = refused;
    let retry_after = || match status.as_u16() {
        429 | 503 => headers.get(header::RETRY_AFTER).and_then(|value| retry_after(value, now)),
        _ => None,
    };
    let temporary = |what: &str, limited: bool| {
        Failure::Temporary(Temporary {
            what: what.to_owned(),
            cause: None,
            code: Some(code.clone().unwrap_or_else(|| ErrorCode::status(status))),
            retry_after: retry_after(),
            limited,
            whole_client: status == StatusCode::TOO_MANY_REQUESTS,
            ambiguous: false,
            said: said.clone(),
        })
    };
    match status.as_u16() {
        429 => return temporary("the authorization server asks for fewer requests", false),
        500..=599 => return temporary("the authorization server is not well", false),
        _ => {}
    }
    let permanent = |who, code| Failure::Permanent { who, code, said: said.clone() };
    match code.clone() {
        Some(code) => match judge(&code, quirks) {
            Some(CodeMeaning::Over(who)) => permanent(who, code),
            Some(CodeMeaning::Passes) => temporary("the authorization server says later", false),
            None => temporary("the authorization server refused", status.as_u16() != 408),
        },
        None if status == StatusCode::REQUEST_TIMEOUT => temporary("the request timed out", false),
        None if status.is_client_error() => temporary("the authorization server refused", true),
        None => temporary("the authorization server's answer is not one", false),
    }
}

/// What a code means.
enum CodeMeaning {
    Over(ActingParty),
    Passes,
}

/// The provider's file comes before the common table. `None`: an unknown code.
fn judge(code: &ErrorCode, quirks: &Quirks) -> Option<CodeMeaning> {
    if code.is_one_of(&quirks.temporary) {
        return Some(CodeMeaning::Passes);
    }
    if code.is_one_of(&quirks.permanent) {
        return Some(CodeMeaning::Over(ActingParty::Person));
    }
    if code.is_one_of(&quirks.rejected) || code.is_one_of(OPERATOR) {
        return Some(CodeMeaning::Over(ActingParty::Operator));
    }
    if code.is_one_of(PERSON) {
        return Some(CodeMeaning::Over(ActingParty::Person));
    }
    match typed(&code.0.to_ascii_lowercase())? {
        Standard::InvalidGrant => return Some(CodeMeaning::Over(ActingParty::Person)),
        Standard::InvalidClient
        | Standard::UnauthorizedClient
        | Standard::UnsupportedGrantType
        | Standard::InvalidScope => return Some(CodeMeaning::Over(ActingParty::Operator)),
        Standard::InvalidRequest | Standard::Extension(_) => {}
    }
    let is_rate = code.0.get(..10).is_some_and(|head| head.eq_ignore_ascii_case("rate_limit"));
    (is_rate || code.is_one_of(PASSING)).then_some(CodeMeaning::Passes)
}

/// A code as one of the types of the `oauth2` crate, such as [`Standard`].
pub(super) fn typed<T: DeserializeOwned>(code: &str) -> Option<T> {
    let code: StrDeserializer<'_, serde::de::value::Error> = code.into_deserializer();
    T::deserialize(code).ok()
}

/// What came of a request that has no whole answer.
pub(super) fn unanswered(error: &CallError, now: Timestamp) -> Failure {
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
    Failure::Temporary(failure)
}

/// `Retry-After`, bounded.
pub(super) fn retry_after(value: &HeaderValue, now: Timestamp) -> Option<Duration> {
    let wait = time::retry_after(value.to_str().ok()?, now)?;
    Some(wait.min(PAUSE_MAX))
}

/// What a server wrote for people: no control characters, none of what was sent to it, and short.
pub(super) fn cleaned<'a>(text: &str, secrets: impl Iterator<Item = &'a Secret>) -> Option<String> {
    let mut text = text.to_owned();
    let secrets: Vec<&Secret> = secrets.collect();
    for secret in &secrets {
        // Short values are words such as `refresh_token`, and not secret.
        if let Some(secret) = secret.expose_text().filter(|secret| secret.len() >= SECRET_CHARS_MIN)
        {
            text = text.replace(secret, "***");
        }
    }
    // As servers quote what they were sent.
    if let Some((masked, _)) = Needles::new(secrets, []).masked(text.as_bytes()) {
        text = String::from_utf8_lossy(&masked).into_owned();
    }
    let words: Vec<&str> = text.split(|c: char| c.is_whitespace() || c.is_control()).collect();
    let words: Vec<&str> = words.into_iter().filter(|word| !word.is_empty()).collect();
    let text: String = words.join(" ").chars().take(SAID_CHARS_MAX).collect();
    (!text.is_empty()).then_some(text)
}

/// No secret of a server is shorter.
const SECRET_CHARS_MIN: usize = 6;

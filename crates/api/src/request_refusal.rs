//! [`RequestRefusal`]: refusals of a request as such, before or beside its handler: how it was sent, how often, and
//! under which `Idempotency-Key`.

use keyward_base::codes::{Code, RefusalText};

/// Why a request is refused regardless of what it asks for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum RequestRefusal {
    /// It came over cleartext HTTP from another machine.
    Cleartext,
    /// `Origin` names another site.
    ForeignOrigin,
    /// Too many requests with an invalid token came from its address.
    AuthFailures {
        /// Seconds until a retry makes sense.
        retry_after: u64,
    },
    /// Its token has sent too many requests.
    TokenRate {
        /// Seconds until a retry makes sense.
        retry_after: u64,
    },
    /// Too many requests of its user or organisation are being answered.
    TooManyRunning,
    /// Its cookie is of no login, or of one that has ended.
    LoginEnded,
    /// It changes something and has a cookie, but not the CSRF value of its login.
    CsrfMissing,
    /// The link does not sign in, or not any more.
    LinkUsed,
    /// There is no such user, or they have another password or none.
    PasswordWrong,
    /// The password is right, and the user also needs a one-time code.
    CodeMissing,
    /// The one-time code is wrong or was used.
    CodeWrong,
    /// The configuration switches passwords off.
    PasswordOff,
    /// The passkey is unknown, or what it signed is not accepted.
    PasskeyRefused,
    /// The configuration switches passkeys off.
    PasskeysOff,
    /// Too many passwords are being checked.
    SignInsBusy,
    /// Too many sign-ins from its address failed.
    SignInFailures {
        /// Seconds until a retry makes sense.
        retry_after: u64,
    },
    /// `Idempotency-Key` is malformed.
    KeyMalformed,
    /// `Idempotency-Key` belongs to a request with another body or path, or in another role.
    KeyReused,
    /// The first request with this `Idempotency-Key` has not ended.
    KeyInProgress,
    /// The answer to the first request with this `Idempotency-Key` was too long to be kept.
    AnswerNotKept,
    /// Too many requests with an `Idempotency-Key` run at once.
    TooManyKeys,
    /// The bodies of senders that have proved nothing yet take too much memory.
    TooManyBodies,
}

/// Senders that are slow have at most `limits.head_timeout` for a body.
const BODIES_RETRY_AFTER: u64 = 30;

const TOO_MANY_KEYS: &str = "too many requests with an `Idempotency-Key` run at once";
const LATER: &str = "retry when `Retry-After` says";
const TOO_MANY_BODIES: &str =
    "too many bodies of senders that have not authenticated yet are being read";
const MORE_BODIES: &str =
    "retry when `Retry-After` says, or raise `limits.unproved_body_bytes_total`";

/// How soon a request that runs may be asked for again.
const IN_PROGRESS_RETRY_AFTER: u64 = 1;

impl RequestRefusal {
    /// Code, message and hint.
    pub(super) fn text(self) -> RefusalText {
        match self {
            Self::Cleartext => Code::CleartextRefused
                .because("the API accepts no token over cleartext HTTP from another machine")
                .hint(
                    "set `listen.admin_tls: { cert, key }`, or name the proxy that terminates TLS in \
                     `listen.admin_proxies`; revoke a token that was sent this way",
                ),
            Self::ForeignOrigin => Code::CrossSiteRefused
                .because("a page of another site sent this request")
                .hint("`listen.admin_cors` names the origins whose pages may use the API"),
            Self::AuthFailures { .. } => Code::RateLimited
                .because("too many requests with an invalid token came from this address")
                .hint("correct the token, and wait as long as `Retry-After` says"),
            Self::TokenRate { .. } => Code::RateLimited
                .because("this token or login has sent too many requests")
                .hint("wait as long as `Retry-After` says, or raise `limits.api_requests_per_minute_max`"),
            Self::TooManyRunning => Code::RateLimited
                .because("too many requests of this user or organisation are being answered, open runs among them")
                .hint("retry when `Retry-After` says, and end runs that are not needed"),
            Self::LoginEnded => Code::Unauthenticated
                .because("this browser is not signed in, or its login has ended")
                .hint("sign in again; `keyward login-link` prints a link"),
            Self::CsrfMissing => Code::CsrfRequired
                .because("`Keyward-CSRF` is missing, or is not that of this login")
                .usual_hint(),
            Self::LinkUsed => Code::Unauthenticated
                .because("the link has been used, has expired or was never made")
                .hint("get another one: `keyward login-link` on the gateway's machine, or from an admin"),
            Self::PasswordWrong => Code::Unauthenticated
                .because("user or password is wrong")
                .hint("a user of another organisation than `default` is given as `ORG/NAME`; `keyward login-link --user NAME` on \
                    the gateway's machine prints a link to sign in with"),
            Self::CodeMissing => Code::TotpRequired.because("a one-time code is required").usual_hint(),
            Self::CodeWrong => Code::TotpRequired
                .because("the one-time code is wrong, or was used")
                .hint("wait for the next code; check the clock of the device that shows it"),
            Self::PasswordOff => passwords_off(),
            Self::PasskeyRefused => passkey_refused(),
            Self::PasskeysOff => passkeys_off(),
            Self::SignInsBusy => Code::RateLimited
                .because("too many passwords are being checked")
                .hint("retry when `Retry-After` says"),
            Self::SignInFailures { .. } => Code::RateLimited
                .because("too many sign-ins of this user or from this address failed")
                .hint("wait as long as `Retry-After` says; a valid link is always accepted"),
            Self::KeyMalformed => Code::BadRequest
                .because("`Idempotency-Key` is not 1 to 255 visible ASCII characters")
                .hint("send a random key, such as a UUID, once"),
            Self::KeyReused => Code::IdempotencyKeyReused
                .because("this `Idempotency-Key` belongs to a request with another path or body, or in another role")
                .usual_hint(),
            Self::KeyInProgress => Code::RequestInProgress
                .because("the first request with this `Idempotency-Key` has not ended yet")
                .hint("retry when `Retry-After` says"),
            Self::AnswerNotKept => answer_not_kept(),
            Self::TooManyKeys => Code::RateLimited.because(TOO_MANY_KEYS).hint(LATER),
            Self::TooManyBodies => Code::RateLimited.because(TOO_MANY_BODIES).hint(MORE_BODIES),
        }
    }

    /// Seconds until a retry makes sense.
    pub(super) fn retry_after(self) -> Option<u64> {
        match self {
            Self::AuthFailures { retry_after }
            | Self::TokenRate { retry_after }
            | Self::SignInFailures { retry_after } => Some(retry_after),
            Self::KeyInProgress | Self::TooManyKeys | Self::TooManyRunning | Self::SignInsBusy => {
                Some(IN_PROGRESS_RETRY_AFTER)
            }
            Self::TooManyBodies => Some(BODIES_RETRY_AFTER),
            Self::Cleartext
            | Self::ForeignOrigin
            | Self::LoginEnded
            | Self::CsrfMissing
            | Self::LinkUsed
            | Self::PasswordWrong
            | Self::CodeMissing
            | Self::CodeWrong
            | Self::PasskeyRefused
            | Self::PasskeysOff
            | Self::PasswordOff
            | Self::KeyMalformed
            | Self::KeyReused
            | Self::AnswerNotKept => None,
        }
    }
}

fn answer_not_kept() -> RefusalText {
    Code::RequestInProgress
        .because("the first request with this `Idempotency-Key` has ended, but its answer was too long to be kept")
        .hint("read the state of the resource instead of repeating the request")
}

fn passwords_off() -> RefusalText {
    Code::Refused
        .because("sign-in with a password is switched off")
        .hint("use a link: `keyward login-link`; `sign_in.password: true` switches passwords on")
}

fn passkeys_off() -> RefusalText {
    Code::Refused
        .because("passkeys are switched off")
        .hint("`sign_in.passkeys: true` switches them on; links work in any case")
}

fn passkey_refused() -> RefusalText {
    Code::Unauthenticated
        .because("the passkey is not known here, or what it signed is not accepted")
        .hint("try again; a link signs in without it: `keyward login-link`")
}

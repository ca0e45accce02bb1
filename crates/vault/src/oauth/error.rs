//! Errors of consents. Anyone may read them, so they contain nothing from a server or a browser, except an
//! error code, truncated and cleaned.

use http::StatusCode;

use crate::grant::oauth::ErrorCode;
use crate::{RowError, VaultError};
use keyward_rules::provider::FormError;
use keyward_state::directory::DirectoryError;

/// The retry time while a server is down, in seconds.
const RETRY_AFTER_SECONDS: u64 = 10;

/// Why a flow cannot be started or ended.
#[derive(Debug, thiserror::Error)]
pub enum FlowError {
    /// The connection's auth method needs no consent.
    #[error("connection `{connection}` needs no consent")]
    NoConsent { connection: String, remedy: Option<String> },
    /// No app of the provider is known.
    #[error("{provider} needs an app: an OAuth client that you register there")]
    NoApp { provider: String },
    /// Several apps fit.
    #[error("{provider} has several apps ({apps}): name one")]
    WhichApp {
        provider: String,
        /// Their names.
        apps: String,
    },
    /// The given app is unknown, or of another provider.
    #[error("no app of {provider} is named `{app}`")]
    UnknownApp {
        provider: String,
        /// The given name.
        app: String,
    },
    /// An endpoint is unknown.
    #[error("app `{app}` does not know the {what} endpoint of its authorization server")]
    NoEndpoint {
        app: String,
        /// `authorization`, `token` or `device`.
        what: &'static str,
    },
    /// The server supports PKCE without S256.
    #[error("{issuer} does not support PKCE with S256, which every consent needs")]
    NoPkce {
        /// The authorization server.
        issuer: String,
    },
    /// The server requires authorization requests that are signed (RFC 9101).
    #[error(
        "{issuer} requires signed authorization requests (JAR), which Keyward does not support"
    )]
    SignedRequests {
        /// The authorization server.
        issuer: String,
    },
    /// A service of OAuth 1.0a does not confirm the callback.
    #[error("{provider} does not confirm the callback of a consent, as OAuth 1.0a requires")]
    CallbackNotConfirmed { provider: String },
    /// A parameter of the authorization request that Keyward sets itself.
    #[error("`{name}` cannot be set in `authorize_params`: it belongs to the consent itself")]
    Parameter { name: String },
    /// The URL of the authorization endpoint has a parameter that Keyward sets itself.
    #[error(
        "the authorization URL has the parameter `{name}`, which belongs to the consent itself: remove it from the URL"
    )]
    EndpointParameter { name: String },
    /// The client id of the app was changed during the consent.
    #[error(
        "the client id of app `{app}` was changed during this consent, whose code is for the client before: begin again"
    )]
    OtherClient {
        /// Its name.
        app: String,
    },
    /// A person has too many open flows.
    #[error("{0} consents are open: finish one, or wait until they expire")]
    TooMany(usize),
    /// The flow has ended or does not exist.
    #[error("there is no such consent: it may have expired")]
    NoFlow,
    /// No decision is pending.
    #[error("this consent does not wait for a decision")]
    NothingToConfirm,
    /// The tokens of a held flow are of another account than the connection's, or the provider does not name it.
    #[error("the person consented with another account than the connection had")]
    OtherAccount,
    /// The flow has ended.
    #[error("this consent is not open any more")]
    NotOpen,
    /// The flow had ended, for this reason, before its tokens were received.
    #[error("{0}")]
    Ended(String),
    /// The flow is being completed.
    #[error("this consent is being finished: it cannot be cancelled any more")]
    BeingFinished,
    /// The connection was removed meanwhile.
    #[error("there is no such connection")]
    NoConnection,
    /// The connection has a later grant.
    #[error("the connection got another grant meanwhile, by a later consent or a rotation")]
    Replaced,
    /// The user who started the flow is paused or removed, or the connection has another owner.
    #[error("the person who began this consent may not change the connection any more")]
    NotTheirs,
    /// The authorization server rejected the request, or cannot be used.
    #[error("{0}")]
    Server(String),
    /// The authorization server cannot be reached at present.
    #[error("{0}")]
    Down(String),
    /// Variables do not fit.
    #[error(transparent)]
    Form(#[from] FormError),
    /// The store or the keys failed.
    #[error(transparent)]
    Row(#[from] RowError),
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    /// The vault refused.
    #[error(transparent)]
    Vault(#[from] VaultError),
}

/// Why a callback connects nothing.
#[derive(Debug, thiserror::Error)]
pub enum CallbackRefusal {
    /// Rule 1.
    #[error("this request is malformed: {0}")]
    Malformed(&'static str),
    /// Rule 2.
    #[error(
        "the answer has no `state`: begin the consent in Keyward, and not on a page of the provider"
    )]
    NoState,
    /// Rule 2: used, expired, or unknown.
    #[error("this consent has ended: each link works once, and for ten minutes")]
    NoFlow,
    /// Rule 3.
    #[error("this consent was for another app")]
    OtherApp,
    /// Rule 4.
    #[error("this browser did not begin this consent")]
    OtherBrowser,
    /// Rule 5.
    #[error("the answer did not come from the authorization server of this consent")]
    OtherServer,
    /// Rule 6.
    #[error("{}", declined(.0))]
    Declined(ErrorCode),
    /// Rule 7.
    #[error("the authorization server sent no code")]
    NoCode,
    /// Rule 7, in OAuth 1.0a.
    #[error("the answer is for other temporary credentials than those of this consent")]
    OtherToken,
    /// Rule 7, in OAuth 1.0a.
    #[error("the service sent no verifier: the consent was not given")]
    NoVerifier,
    /// Rule 8.
    #[error("the authorization server did not give tokens for its code: {0}")]
    NoTokens(String),
    /// The connection was removed before its grant was in force.
    #[error("this connection was removed meanwhile")]
    Removed,
    /// The provider or the app has changed since the consent began.
    #[error("{0}")]
    Unfit(String),
    /// The authorization server cannot be reached now.
    #[error("{0}")]
    Down(String),
    /// An internal error, which is logged.
    #[error("something went wrong inside the gateway")]
    Internal,
}

impl FlowError {
    /// Why the vault does not store the grant of a consent.
    pub(super) fn of_grant(error: VaultError) -> Self {
        match error {
            VaultError::RotationOvertaken { .. } => Self::Replaced,
            error => error.into(),
        }
    }

    /// Whether the flow is intact: a server or the store is down.
    pub(super) fn is_temporary(&self) -> bool {
        matches!(
            self,
            Self::Down(_) | Self::Row(RowError::Store(_)) | Self::Vault(VaultError::Store(_))
        )
    }

    /// Whether the store failed. Then an earlier write of the flow may have been made, and a retry may succeed. This
    /// includes errors after which the failed operation itself was certainly not made.
    pub(super) fn is_of_store(&self) -> bool {
        match self {
            Self::Row(RowError::Store(error))
            | Self::Vault(VaultError::Store(error))
            | Self::Directory(DirectoryError::Store(error))
            | Self::Vault(VaultError::Directory(DirectoryError::Store(error))) => {
                error.is_io() || error.is_outcome_unknown()
            }
            Self::Directory(error) | Self::Vault(VaultError::Directory(error)) => {
                error.is_outcome_unknown()
            }
            _ => false,
        }
    }

    /// The remedy.
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Self::NoApp { provider } => {
                format!(
                    "`keyward connect` guides through it on a terminal; elsewhere register one \
                     there, then: keyward app add {provider} --client-id ID"
                )
            }
            Self::WhichApp { .. } | Self::UnknownApp { .. } => {
                "see `keyward app list`, and name one with --app".to_owned()
            }
            Self::NoEndpoint { app, .. } => {
                format!("give the app its issuer or its URLs: keyward app set {app}")
            }
            Self::NoPkce { .. } => {
                "ask the provider; `pkce: avoid` in a provider of your own turns it off".to_owned()
            }
            Self::CallbackNotConfirmed { .. } => {
                "ask the service for OAuth 1.0a: without it, anyone who has the link could end the consent; \
                 `unconfirmed_callback: true` in a provider of your own accepts that"
                    .to_owned()
            }
            Self::NoFlow | Self::NoConnection => "start again".to_owned(),
            Self::OtherAccount => {
                "send `other_account: true` to use it, or end the connect session".to_owned()
            }
            Self::TooMany(_) => {
                "`keyward connection consents` lists them; `keyward connection consents cancel ID` ends one"
                    .to_owned()
            }
            Self::NoConsent { remedy, .. } => return remedy.clone(),
            _ => return None,
        })
    }
}

impl CallbackRefusal {
    /// 4xx for invalid requests of the browser, 502 for failures of the server.
    pub fn status(&self) -> StatusCode {
        match self {
            Self::Malformed(_)
            | Self::NoState
            | Self::NoFlow
            | Self::OtherApp
            | Self::OtherServer
            | Self::NoCode
            | Self::OtherToken
            | Self::NoVerifier => StatusCode::BAD_REQUEST,
            Self::OtherBrowser | Self::Declined(_) => StatusCode::FORBIDDEN,
            Self::Removed => StatusCode::GONE,
            Self::Unfit(_) => StatusCode::CONFLICT,
            Self::Down(_) => StatusCode::SERVICE_UNAVAILABLE,
            Self::NoTokens(_) => StatusCode::BAD_GATEWAY,
            Self::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// Seconds after which the page may be opened again.
    pub fn retry_after(&self) -> Option<u64> {
        matches!(self, Self::Down(_)).then_some(RETRY_AFTER_SECONDS)
    }

    /// Why the code was not exchanged, or its tokens were refused.
    pub(super) fn of_exchange(error: FlowError) -> Self {
        match error {
            FlowError::Server(words) | FlowError::Down(words) => Self::NoTokens(words),
            error => error.into(),
        }
    }
}

impl From<FlowError> for CallbackRefusal {
    fn from(error: FlowError) -> Self {
        match error {
            FlowError::Down(words) => Self::Down(words),
            FlowError::Server(words) => Self::Unfit(words),
            FlowError::NoConnection | FlowError::Vault(VaultError::ConnectionMissing) => {
                Self::Removed
            }
            FlowError::NoFlow => Self::NoFlow,
            // Failures of keys and rows concern the operator: the cause is logged.
            FlowError::Row(_) | FlowError::Directory(_) | FlowError::Vault(_) => {
                tracing::error!(%error, "a consent could not be kept");
                Self::Internal
            }
            error => Self::Unfit(error.to_string()),
        }
    }
}

impl From<RowError> for CallbackRefusal {
    fn from(error: RowError) -> Self {
        FlowError::from(error).into()
    }
}

/// Messages for the codes of RFC 6749 §4.1.2.1 and of services.
fn declined(error: &ErrorCode) -> String {
    let words = match error.as_str() {
        _ if error.meaning().is_some() => None,
        // The OAuth Problem Reporting extension of OAuth 1.0a has the second and the third, LinkedIn the last two.
        "access_denied"
        | "permission_denied"
        | "user_refused"
        | "user_cancelled_login"
        | "user_cancelled_authorize" => Some("the consent was declined"),
        "invalid_scope" | "unauthorized_scope_error" => {
            Some("the provider does not grant these scopes to this app")
        }
        "unauthorized_client" => Some("the provider does not let this app request consent"),
        "redirect_uri_mismatch" | "redirect_mismatch" => Some(
            "the provider's app has another redirect URI: register the one that `keyward app show` names",
        ),
        "server_error" | "temporarily_unavailable" => {
            Some("the provider cannot process consents at present: try again later")
        }
        _ => None,
    };
    let refused = || format!("the provider refused the consent ({})", error.explained());
    words.map_or_else(refused, str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(code: &str, description: Option<&str>) -> String {
        CallbackRefusal::Declined(ErrorCode::received(code, description)).to_string()
    }

    /// oauth 2.6
    #[test]
    fn access_denied_is_shown_as_a_declined_consent_and_other_codes_are_cleaned() {
        assert_eq!(shown("access_denied", Some("evil-text")), "the consent was declined");
        let refused = |code: &str| format!("the provider refused the consent ({code})");
        assert_eq!(shown("<script>alert(1)</script>", None), refused("scriptalert1script"));
        assert_eq!(shown(&"a".repeat(100), None), refused(&"a".repeat(64)));
        assert_eq!(shown("<>", None), refused("unknown"));
    }

    /// oauth 2.6, 9.said
    #[test]
    fn a_known_code_of_a_service_in_a_callback_is_explained() {
        for (code, description, meaning) in [
            ("access_denied", "AADSTS65004: User declined to consent.", "declined the consent"),
            ("invalid_client", "AADSTS650052: The app needs x", "(invalid_client)"),
            ("invalid_request", "AADSTS90094: An administrator of", "an administrator"),
            ("OAUTH_APP_BLOCKED", "this app is blocked by admin", "an administrator"),
            ("application_suspended", "Your application has been", "suspended"),
            ("access_denied", "see AADSTS65004: x", "the consent was declined"),
            ("access_denied", "User is not assigned to the client application.", "must assign"),
            ("access_denied", "The user is not assigned.", "the consent was declined"),
        ] {
            let shown = shown(code, Some(description));
            assert!(shown.contains(meaning), "{code} {description}: {shown}");
            assert!(!shown.contains("this app is blocked"), "{shown}");
        }
    }
}

//! [`VaultError`]: why the vault refuses. Messages name connections, fields and remedies, never a value.

use std::sync::Arc;
use std::time::Duration;

use crate::grant::{GrantError, MintError};
use crate::rows::RowError;
use keyward_base::time::whole_seconds;
use keyward_rules::provider::FormError;
use keyward_rules::provider::connection_url::UrlError;
use keyward_state::crypto::envelope::EnvelopeError;
use keyward_state::directory::{BrokenReason, DirectoryError};
use keyward_state::store::StoreError;

/// What is said about a given refresh token whose successor is not stored.
pub(super) const SPENT_TOKEN: &str = "the server replaced the given refresh token, and its successor is not stored: correct the cause, get another one \
     from the provider, and give that";

/// Why there is no credential, or a connection was not added or changed.
#[derive(Debug, thiserror::Error)]
pub enum VaultError {
    /// The caller named a provider that does not exist.
    #[error("there is no provider `{0}`; `keyward provider list` shows them all")]
    UnknownProvider(String),
    /// The caller named an auth method that the provider does not have.
    #[error("provider `{provider}` has no auth method `{auth}`; it has: {known}")]
    UnknownAuth {
        provider: String,
        /// The given id.
        auth: String,
        /// The known ids.
        known: String,
    },
    /// The caller's variables do not fit the provider.
    #[error(transparent)]
    Form(#[from] FormError),
    /// A setting writes a field that the provider authenticates with.
    #[error(
        "field `{name}` cannot be set here: {provider} authenticates with it; credentials are given \
         as `fields`"
    )]
    SettingsField {
        /// The field.
        name: String,
        provider: String,
    },
    /// A setting that has no effect on connections of the provider.
    #[error("`{name}` has no effect on connections of {provider}: omit it")]
    SettingWithoutEffect {
        /// The setting.
        name: &'static str,
        provider: String,
    },
    /// The caller's connection string cannot be used.
    #[error(transparent)]
    Url(#[from] UrlError),
    /// The caller's fields do not fit the auth method.
    #[error(transparent)]
    Grant(#[from] GrantError),
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    /// The operator must look: the grant cannot be sealed.
    #[error("the grant cannot be sealed")]
    Seal(#[from] EnvelopeError),
    /// The operator must look: the store failed.
    #[error("the store failed")]
    Store(#[from] StoreError),
    /// The operator must look: the grant is missing.
    #[error("connection `{connection}` has no stored grant")]
    GrantMissing { connection: String, remedy: Option<String> },
    /// The operator must look: the grant cannot be opened.
    #[error("the grant of connection `{connection}` cannot be opened")]
    Sealed { connection: String, remedy: Option<String>, source: RecordError },
    /// The grant opens but gives no credential.
    #[error("connection `{connection}` gives no credential")]
    Mint { connection: String, remedy: Option<String>, source: MintError },
    /// The caller named an app that does not exist, or is another provider's.
    #[error("no app of {provider} is named `{name}`; `keyward app list` shows them all")]
    UnknownApp {
        /// The given id or name.
        name: String,
        provider: String,
    },
    /// The caller named a secret source that the organisation does not have.
    #[error("there is no source `{name}`; `keyward source list` shows them all")]
    UnknownSource {
        /// The given name.
        name: String,
    },
    /// The caller's app does not fit its provider.
    #[error("{what}")]
    App {
        field: &'static str,
        /// The problem and the remedy.
        what: String,
    },
    /// The operator must act: the app was removed from the configuration file.
    #[error("app `{app}` is not in the configuration any more; put it back, or use another app")]
    AppPaused { app: String },
    /// The operator must look: an app's secret is missing or cannot be opened.
    #[error("the secret of app `{app}` cannot be opened; give it again: `keyward app set {app}`")]
    AppSecret {
        app: String,
        /// The cause; `None` without a row.
        source: Option<RecordError>,
    },
    /// The connection was removed, or belongs to another org.
    #[error("there is no such connection")]
    ConnectionMissing,
    /// The owner must connect it first.
    #[error("connection `{connection}` is not connected yet")]
    Draft { connection: String, remedy: Option<String> },
    /// The owner or the operator must act: the provider rejected the grant for good.
    #[error("connection `{connection}` is broken: {}", verdict(*.reason, .detail.as_deref()))]
    Broken {
        connection: String,
        reason: BrokenReason,
        /// The provider's error code.
        detail: Option<String>,
        remedy: Option<String>,
    },
    /// Fetching a token fails at present: none is valid, or a person has asked for a newer one. No action is needed.
    #[error(
        "the token of connection `{connection}` cannot be refreshed just now{}",
        because(.why.as_deref())
    )]
    RefreshUnavailable {
        connection: String,
        /// The failure, if it is known.
        why: Option<String>,
        /// The operator's remedy, if action is needed.
        remedy: Option<&'static str>,
        retry_after: Duration,
    },
    /// The values of a connection's fields cannot be fetched at present, and the last ones are too old.
    #[error("the secret of connection `{connection}` cannot be fetched just now: {why}")]
    SourceUnavailable {
        connection: String,
        /// The failure.
        why: String,
        source_name: String,
        retry_after: Duration,
    },
    /// The secret of an app cannot be fetched at present, and the last one is too old.
    #[error("the secret of app `{app}` cannot be fetched just now: {why}")]
    AppSourceUnavailable {
        app: String,
        /// The failure.
        why: String,
        source_name: String,
        retry_after: Duration,
    },
    /// The owner must act: the app disables automatic refreshes.
    #[error("the token of connection `{connection}` has ended, and its app refreshes by hand only")]
    ByHand { connection: String, remedy: Option<String> },
    /// The credential cannot be refreshed.
    #[error("connection `{connection}` has no token that could be refreshed")]
    NotRefreshable { connection: String },
    /// The connection is not a draft.
    #[error("connection `{connection}` is no draft: there is nothing to resume")]
    NotADraft {
        connection: String,
        /// How to give it another secret.
        remedy: Option<String>,
    },
    /// The new secret equals the one in force.
    #[error("connection `{connection}` has this secret already: nothing was changed")]
    SameSecret { connection: String },
    /// The last rotation must be ended first.
    #[error("the last rotation of connection `{connection}` is neither confirmed nor rolled back")]
    RotationOpen { connection: String },
    /// There is no rotation to end.
    #[error(
        "no older secret of connection `{connection}` is kept: there is nothing to confirm or roll back"
    )]
    NoRotation { connection: String },
    /// Another secret was given meanwhile.
    #[error("another secret of connection `{connection}` was given meanwhile: nothing was changed")]
    RotationOvertaken { connection: String },
    /// The new secret gives no token.
    #[error(
        "the new secret of connection `{connection}` gives no token: {detail}; nothing was changed"
    )]
    CandidateRefused {
        connection: String,
        /// The provider's error code.
        detail: String,
    },
    /// The answer to the new secret has a newer refresh token and no usable access token.
    #[error(
        "the new secret of connection `{connection}` gives no usable token: {why}; nothing was changed"
    )]
    CandidateUnusable { connection: String, why: String },
    /// A connection by consent has no secret to rotate.
    #[error("connection `{connection}` has no secret to rotate: it was connected by consent")]
    NotRotatable {
        connection: String,
        /// How its credential is replaced.
        remedy: Option<String>,
    },
    /// The values are kept in a secret source, and must be changed there.
    #[error("connection `{connection}` has fields that are kept in a secret source")]
    Referred { connection: String },
    /// An error that several waiting requests share.
    #[error(transparent)]
    Shared(Arc<Self>),
}

/// Why a grant's row cannot be used. Names no content.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// It cannot be opened.
    #[error(transparent)]
    Sealed(#[from] EnvelopeError),
    /// It is not a grant record.
    #[error("the grant record is malformed")]
    Malformed,
    /// An older value under a newer version.
    #[error("the grant record was replaced by an older one: restore it from a backup")]
    RolledBack,
    /// Its purpose differs from the connection's.
    #[error("the grant was given for another provider or host than the connection names")]
    Purpose,
}

/// Why a flight gave no credential, for all waiting requests.
#[derive(Clone, Debug)]
pub enum FlightRefusal {
    /// See [`VaultError::Broken`].
    Broken {
        reason: BrokenReason,
        /// The provider's error code.
        detail: Option<String>,
        /// When it is tried again automatically; `None`: after a person has acted.
        rest: Option<Duration>,
        /// Whether the access token is used to its end.
        keeps_token: bool,
    },
    Failed(Arc<VaultError>),
}

impl From<RowError> for VaultError {
    fn from(error: RowError) -> Self {
        match error {
            RowError::Store(error) => error.into(),
            RowError::Sealed { source, .. } => source.into(),
            RowError::Malformed { .. } => DirectoryError::Interrupted.into(),
        }
    }
}

impl VaultError {
    /// Whether the store does not answer now, so that only cached data is available.
    pub fn is_store_away(&self) -> bool {
        matches!(self, Self::Store(error) if error.is_io())
    }

    /// The remedy, for errors about a connection.
    pub fn hint(&self) -> Option<String> {
        Some(match self.root() {
            Self::Broken { remedy, .. }
            | Self::ByHand { remedy, .. }
            | Self::Draft { remedy, .. }
            | Self::GrantMissing { remedy, .. }
            | Self::Sealed { remedy, .. }
            | Self::Mint { remedy, .. }
            | Self::NotADraft { remedy, .. }
            | Self::NotRotatable { remedy, .. } => return remedy.clone(),
            Self::RefreshUnavailable { retry_after, remedy, .. } => {
                let seconds = whole_seconds(*retry_after);
                match remedy {
                    Some(remedy) => format!("{remedy}; it is tried again in {seconds} s"),
                    None => format!("no action needed; retry in {seconds} s"),
                }
            }
            Self::SourceUnavailable { source_name, retry_after, .. }
            | Self::AppSourceUnavailable { source_name, retry_after, .. } => {
                let seconds = whole_seconds(*retry_after);
                format!("see `keyward source show {source_name}`; it is tried again in {seconds} s")
            }
            Self::Referred { .. } => {
                "change the value in the source, or the reference of the connection".to_owned()
            }
            Self::SameSecret { .. } => {
                "get another one from the provider, and give that".to_owned()
            }
            Self::RotationOpen { connection } => format!(
                "`keyward connection rotate confirm {connection}` wipes the old secret, \
                 `keyward connection rotate rollback {connection}` restores it"
            ),
            Self::NoRotation { connection } => {
                format!("see `keyward connection show {connection}`")
            }
            Self::RotationOvertaken { connection } => {
                format!("see `keyward connection show {connection}`, then give it again")
            }
            Self::CandidateRefused { .. } => "compare it with the original".to_owned(),
            Self::CandidateUnusable { .. } => SPENT_TOKEN.to_owned(),
            Self::NotRefreshable { .. } => {
                "its auth method has no token that ends, or it was added without a refresh token"
                    .to_owned()
            }
            _ => return None,
        })
    }

    /// When it is tried again, if a token or a value cannot be fetched at present.
    pub fn retry_after(&self) -> Option<Duration> {
        match self.root() {
            Self::RefreshUnavailable { retry_after, .. }
            | Self::SourceUnavailable { retry_after, .. }
            | Self::AppSourceUnavailable { retry_after, .. } => Some(*retry_after),
            _ => None,
        }
    }

    /// Whether a person must act.
    pub fn needs_a_person(&self) -> bool {
        matches!(
            self.root(),
            Self::ConnectionMissing
                | Self::Draft { .. }
                | Self::Broken { .. }
                | Self::ByHand { .. }
        )
    }

    /// The original of a shared error.
    pub fn root(&self) -> &Self {
        match self {
            Self::Shared(error) => error.root(),
            error => error,
        }
    }
}

/// The error code as the end of a sentence.
fn because(why: Option<&str>) -> String {
    why.map_or_else(String::new, |why| format!(": {why}"))
}

/// The reason in words, with the provider's error code.
fn verdict(reason: BrokenReason, detail: Option<&str>) -> String {
    let reason = reason.code();
    detail.map_or_else(|| reason.to_owned(), |detail| format!("{reason} ({detail})"))
}

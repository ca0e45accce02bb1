//! [`VaultError`]: why the vault refuses. Messages name connections, fields and remedies, never a value.

use std::sync::Arc;
use std::time::Duration;

use crate::grant::{GrantError, MintError};
use keyward_rules::provider::FormError;
use keyward_state::crypto::envelope::EnvelopeError;
use keyward_state::directory::{BrokenReason, ConnectionRecord, DirectoryError, Need};
use keyward_state::store::StoreError;

use super::Vault;
use super::record::RecordError;

/// Why there is no credential, or why a connection was not added or changed.
#[derive(Debug, thiserror::Error)]
pub enum VaultError {
    /// The caller named a provider that does not exist.
    #[error("there is no provider `{0}`; `keyward provider list` shows them all")]
    UnknownProvider(String),
    /// The caller named an auth method that the provider does not have.
    #[error("provider `{provider}` has no auth method `{auth}`; it has: {known}")]
    UnknownAuth {
        /// The provider.
        provider: String,
        /// As named.
        auth: String,
        /// What there is.
        known: String,
    },
    /// The caller's variables do not fit the provider.
    #[error(transparent)]
    Form(#[from] FormError),
    /// The caller's settings would write where the credential goes.
    #[error(
        "field `{name}` cannot be set here: {provider} authenticates with it; credentials are given \
         as `fields`"
    )]
    SettingsField {
        /// The field.
        name: String,
        /// The provider.
        provider: String,
    },
    /// The caller's fields do not fit the auth method.
    #[error(transparent)]
    Grant(#[from] GrantError),
    /// The directory refused.
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    /// The operator must look: the grant cannot be sealed.
    #[error("the grant cannot be sealed")]
    Seal(#[from] EnvelopeError),
    /// The operator must look: the store failed.
    #[error("the store failed")]
    Store(#[from] StoreError),
    /// The operator must look: the grant is not there, though its connection is.
    #[error("connection `{connection}` has no stored grant")]
    GrantMissing {
        /// The connection's name.
        connection: String,
        /// What a person does about it.
        remedy: Option<String>,
    },
    /// The operator must look: the grant does not open.
    #[error("the grant of connection `{connection}` cannot be opened")]
    Sealed {
        /// The connection's name.
        connection: String,
        /// What a person does about it.
        remedy: Option<String>,
        /// Why.
        source: RecordError,
    },
    /// The grant opens but gives no credential.
    #[error("connection `{connection}` gives no credential")]
    Mint {
        /// The connection's name.
        connection: String,
        /// What a person does about it.
        remedy: Option<String>,
        /// Why.
        source: MintError,
    },
    /// The caller named an app that does not exist, or is another provider's.
    #[error("there is no app `{name}` of {provider}; `keyward app list` shows them all")]
    UnknownApp {
        /// As named.
        name: String,
        /// The provider.
        provider: String,
    },
    /// The caller's app does not fit its provider.
    #[error("{what}")]
    App {
        /// Which field of it.
        field: &'static str,
        /// What is wrong, and the remedy.
        what: String,
    },
    /// The operator must look: the app was taken out of the configuration file.
    #[error("app `{app}` is not in the configuration any more; put it back, or use another app")]
    AppPaused {
        /// The app's name.
        app: String,
    },
    /// The operator must look: the secret of an app is not there, or does not open.
    #[error("the secret of app `{app}` cannot be opened; give it again: `keyward app set {app}`")]
    AppSecret {
        /// The app's name.
        app: String,
        /// Why; nothing, when there is no row.
        source: Option<RecordError>,
    },
    /// The connection was removed, or belongs to another org.
    #[error("there is no such connection")]
    ConnectionMissing,
    /// The owner must connect it first.
    #[error("connection `{connection}` is not connected yet")]
    Draft {
        /// The connection's name.
        connection: String,
        /// What a person does about it.
        remedy: Option<String>,
    },
    /// The owner or the operator must act: the provider says that the grant is finished.
    #[error("connection `{connection}` is broken: {}", verdict(*.reason, .detail.as_deref()))]
    Broken {
        /// The connection's name.
        connection: String,
        /// Why.
        reason: BrokenReason,
        /// The provider's own code.
        detail: Option<String>,
        /// What a person does about it.
        remedy: Option<String>,
    },
    /// The token has expired, and fetching another fails for now. No action is needed.
    #[error(
        "the token of connection `{connection}` has ended and cannot be refreshed just now{}",
        because(.why.as_deref())
    )]
    RefreshUnavailable {
        /// The connection's name.
        connection: String,
        /// What happened, where that is known.
        why: Option<String>,
        /// What an operator can do, where action is needed.
        remedy: Option<&'static str>,
        /// When it is worth trying again.
        retry_after: Duration,
    },
    /// The owner must act: its app says that nothing is refreshed by itself.
    #[error("the token of connection `{connection}` has ended, and its app refreshes by hand only")]
    ByHand {
        /// The connection's name.
        connection: String,
        /// What a person does about it.
        remedy: Option<String>,
    },
    /// The caller asked for a refresh of what cannot be refreshed.
    #[error("connection `{connection}` has no token that could be refreshed")]
    NotRefreshable {
        /// The connection's name.
        connection: String,
    },
    /// The caller resumes what is no draft.
    #[error("connection `{connection}` is no draft: there is nothing to resume")]
    NotADraft {
        /// The connection's name.
        connection: String,
        /// How it gets another secret.
        remedy: Option<String>,
    },
    /// The caller gave the secret that is in force already.
    #[error("connection `{connection}` has this secret already: nothing was changed")]
    SameSecret {
        /// The connection's name.
        connection: String,
    },
    /// The caller must end a rotation first.
    #[error("the last rotation of connection `{connection}` is neither confirmed nor rolled back")]
    RotationOpen {
        /// The connection's name.
        connection: String,
    },
    /// The caller ends a rotation where there is none.
    #[error(
        "no older secret of connection `{connection}` is kept: there is nothing to confirm or roll back"
    )]
    NoRotation {
        /// The connection's name.
        connection: String,
    },
    /// The caller's secret was overtaken by another one.
    #[error("another secret of connection `{connection}` was given meanwhile: nothing was changed")]
    RotationOvertaken {
        /// The connection's name.
        connection: String,
    },
    /// The caller's new secret gives no token.
    #[error(
        "the new secret of connection `{connection}` gives no token: {detail}; nothing was changed"
    )]
    CandidateRefused {
        /// The connection's name.
        connection: String,
        /// The provider's own code.
        detail: String,
    },
    /// The caller rotates what somebody consented to.
    #[error("connection `{connection}` has no secret that its owner gives: it was consented to")]
    NotRotatable {
        /// The connection's name.
        connection: String,
        /// How its credential is replaced.
        remedy: Option<String>,
    },
    /// The same that others were told who waited for it too.
    #[error(transparent)]
    Shared(Arc<Self>),
}

/// How a flight for a credential ended that brought none, for all who waited.
#[derive(Clone, Debug)]
pub enum FlightRefusal {
    /// See [`VaultError::Broken`].
    Broken {
        /// Why.
        reason: BrokenReason,
        /// The provider's own code.
        detail: Option<String>,
        /// When it is tried again automatically; `None`: not before a person acts.
        rest: Option<Duration>,
    },
    /// Everything else.
    Failed(Arc<VaultError>),
}

impl FlightRefusal {
    /// The error for one who waited; `vault` knows what a person does about it.
    pub fn of(self, connection: &ConnectionRecord, vault: &Vault) -> VaultError {
        match self {
            Self::Broken { reason, detail, .. } => {
                let need = Need::Broken { reason, detail: detail.as_deref() };
                let remedy = vault.remedy(connection, need);
                let connection = connection.name.clone();
                VaultError::Broken { connection, reason, detail, remedy }
            }
            Self::Failed(error) => VaultError::Shared(error),
        }
    }
}

impl VaultError {
    /// What to do about it, for errors that are about a connection.
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
                let seconds = retry_after.as_millis().div_ceil(1_000);
                match remedy {
                    Some(remedy) => format!("{remedy}; it is tried again in {seconds} s"),
                    None => format!("no action needed; retry in {seconds} s"),
                }
            }
            Self::SameSecret { .. } => {
                "get another one from the provider, and give that".to_owned()
            }
            Self::RotationOpen { connection } => format!(
                "`keyward connection rotate confirm {connection}` wipes the old secret, \
                 `keyward connection rotate rollback {connection}` takes it back"
            ),
            Self::NoRotation { connection } => {
                format!("see `keyward connection show {connection}`")
            }
            Self::RotationOvertaken { connection } => {
                format!("see `keyward connection show {connection}`, then give it again")
            }
            Self::CandidateRefused { .. } => "compare it with the original".to_owned(),
            Self::NotRefreshable { .. } => {
                "its kind has no token that ends, or it was given without a refresh token"
                    .to_owned()
            }
            _ => return None,
        })
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

    /// The error itself, where it is one that several were told.
    pub fn root(&self) -> &Self {
        match self {
            Self::Shared(error) => error.root(),
            error => error,
        }
    }
}

/// The end of a sentence.
fn because(why: Option<&str>) -> String {
    why.map_or_else(String::new, |why| format!(": {why}"))
}

/// In words: the reason, and the provider's own code where there is one.
fn verdict(reason: BrokenReason, detail: Option<&str>) -> String {
    let reason = reason.code();
    detail.map_or_else(|| reason.to_owned(), |detail| format!("{reason} ({detail})"))
}

//! Why the vault refuses. Names connections, fields and remedies; never a value.

use crate::crypto::envelope::EnvelopeError;
use crate::directory::DirectoryError;
use crate::grant::{GrantError, MintError};
use crate::provider::FormError;
use crate::store::StoreError;

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
    #[error("connection `{connection}` has no stored grant; remove it and add it again")]
    GrantMissing {
        /// The connection's name.
        connection: String,
    },
    /// The operator must look: the grant does not open.
    #[error("the grant of connection `{connection}` cannot be opened")]
    Sealed {
        /// The connection's name.
        connection: String,
        /// Why.
        source: RecordError,
    },
    /// The grant opens but gives no credential.
    #[error("connection `{connection}` gives no credential")]
    Mint {
        /// The connection's name.
        connection: String,
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
}

//! What every room of the vault reads: the connections' records, the providers, the time, and the limits of token
//! requests.

use std::sync::Arc;

use arc_swap::ArcSwap;

use crate::error::VaultError;
use crate::grant::{MintError, PrivatePaths};
use keyward_base::id::{AppId, ConnectionId, OrgId};
use keyward_base::opaque::OpaqueArc;
use keyward_base::time::Clock;
use keyward_base::tokens::TokenSettings;
use keyward_rules::provider::{AuthMethod, Catalogue, Provider};
use keyward_state::directory::{
    AppRecord, ConnectionRecord, Directory, DirectoryError, Remedies, RemedyCause,
};

/// Clones share one.
#[derive(Clone)]
pub(crate) struct VaultContext(OpaqueArc<ContextParts>);

pub(crate) struct ContextParts {
    pub(crate) directory: Arc<Directory>,
    pub(crate) clock: Clock,
    catalogue: ArcSwap<Catalogue>,
    settings: ArcSwap<TokenSettings>,
    private_paths: ArcSwap<PrivatePaths>,
}

room!(VaultContext: ContextParts);

impl VaultContext {
    pub(crate) fn new(directory: Arc<Directory>, catalogue: Arc<Catalogue>, clock: Clock) -> Self {
        directory.replace_catalogue(catalogue.clone());
        Self(OpaqueArc::new(ContextParts {
            directory,
            clock,
            catalogue: ArcSwap::new(catalogue),
            settings: ArcSwap::default(),
            private_paths: ArcSwap::default(),
        }))
    }

    /// Replaces the paths that no agent gets.
    pub(crate) fn replace_private_paths(&self, paths: PrivatePaths) {
        self.private_paths.store(Arc::new(paths));
    }

    /// The paths that no agent gets.
    pub(crate) fn private_paths(&self) -> Arc<PrivatePaths> {
        self.private_paths.load_full()
    }

    /// Replaces the limits of token requests.
    pub(crate) fn replace_token_settings(&self, settings: TokenSettings) {
        self.settings.store(Arc::new(settings));
    }

    /// The limits of token requests.
    pub(crate) fn token_settings(&self) -> Arc<TokenSettings> {
        self.settings.load_full()
    }

    /// The current shared providers, which all organisations have.
    pub(crate) fn shared_catalogue(&self) -> Arc<Catalogue> {
        self.catalogue.load_full()
    }

    /// The current providers of an organisation: the shared ones, and its own.
    pub(crate) fn catalogue(&self, org: &OrgId) -> Arc<Catalogue> {
        self.directory.view_guard().catalogue(org, &self.catalogue.load())
    }

    /// Replaces the providers. Returns the connections whose provider has changed.
    pub(crate) fn replace_catalogue(&self, catalogue: Arc<Catalogue>) -> Vec<ConnectionId> {
        self.directory.replace_catalogue(catalogue.clone());
        let before = self.catalogue.swap(catalogue.clone());
        let has_changed = |connection: &&Arc<ConnectionRecord>| {
            match (before.get(&connection.provider), catalogue.get(&connection.provider)) {
                (Some(before), Some(now)) => !Arc::ptr_eq(before, now),
                // A provider of its organisation, which has not changed.
                (None, None) => false,
                _ => true,
            }
        };
        let view = self.directory.view();
        view.connections().filter(has_changed).map(|it| it.id.clone()).collect()
    }

    pub(crate) fn connection(
        &self,
        org: &OrgId,
        id: &ConnectionId,
    ) -> Result<Arc<ConnectionRecord>, VaultError> {
        let view = self.directory.view_guard();
        view.connection(org, id).cloned().ok_or(VaultError::ConnectionMissing)
    }

    pub(crate) fn app(&self, org: &OrgId, id: &AppId) -> Result<Arc<AppRecord>, VaultError> {
        let missing = || DirectoryError::NotFound { what: "app", name: id.to_string() };
        Ok(self.directory.view().app(org, id).cloned().ok_or_else(missing)?)
    }

    /// The remedy for a connection; `None` if no action is needed.
    pub(crate) fn remedy(
        &self,
        connection: &ConnectionRecord,
        cause: RemedyCause<'_>,
    ) -> Option<String> {
        let (catalogue, view) = (self.catalogue(&connection.org), self.directory.view());
        Remedies::in_view(connection, &catalogue, &view).remedy(cause)
    }

    /// The error for a grant that can be opened, but gives no credential.
    pub(crate) fn unmintable(
        &self,
        connection: &ConnectionRecord,
        source: MintError,
    ) -> VaultError {
        let remedy = self.remedy(connection, RemedyCause::Credential);
        VaultError::Mint { connection: connection.name.clone(), source, remedy }
    }
}

/// The provider of this id, and its auth method.
pub(crate) fn method<'a>(
    catalogue: &'a Catalogue,
    provider: &str,
    auth: Option<&str>,
) -> Result<(&'a Arc<Provider>, &'a AuthMethod), VaultError> {
    let found = catalogue.get(provider);
    let found = found.ok_or_else(|| VaultError::UnknownProvider(provider.to_owned()))?;
    let method = found.auth(auth).ok_or_else(|| VaultError::UnknownAuth {
        provider: provider.to_owned(),
        auth: auth.unwrap_or_default().to_owned(),
        known: found.auth.iter().map(|a| a.id.as_str()).collect::<Vec<_>>().join(", "),
    })?;
    Ok((found, method))
}

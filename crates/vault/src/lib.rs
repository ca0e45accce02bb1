//! Seals grants, and keeps a usable credential for each connection in memory. Owns the `grants` table.
//! Whether an agent may use a connection is decided by `rules::policy` before the vault is asked.
//!
//! ```text
//! oidc  oauth  events  grant  keys    the folders; the map of the program describes them
//! lifecycle                           how connections, apps and sources get their secrets, and how they end
//! refresh                             credentials in memory, and how a new one is fetched and stored
//! sources                             values that are kept in secret sources
//! grants  rows                        the sealed rows
//! ```

/// A room is a handle of its parts: clones share them (see `OpaqueArc`).
macro_rules! room {
    ($room:ident: $parts:ident) => {
        impl std::ops::Deref for $room {
            type Target = $parts;

            fn deref(&self) -> &$parts {
                &self.0
            }
        }
    };
}

mod context;
mod error;
pub mod events;
pub mod grant;
mod grants;
pub mod keys;
mod lifecycle;
pub mod oauth;
pub mod oidc;
mod refresh;
mod rows;
mod sources;
#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::Arc;

use arc_swap::ArcSwap;

use context::VaultContext;
pub use error::VaultError;
pub use grants::Grants;
pub use grants::origin::Granted;
pub use keyward_model::{Failures, TokenStatus};
pub use lifecycle::app_check::{template_settings, with_template};
pub use lifecycle::apps::{ChangedApp, NewApp};
pub use lifecycle::candidate::CandidateSecret;
pub use lifecycle::connect::RemovedConnection;
pub use lifecycle::rotate::RotationTerms;
pub use lifecycle::stored_content::check_content;
pub use refresh::Refresh;
use refresh::RefreshServices;
pub use refresh::keep_alive::KeepAliveCursor;
pub use refresh::late::LateAnswers;
pub use refresh::references::ReferenceStatus;
pub use refresh::ssh;
pub use rows::{RowError, SealedRows, SecretText};
pub use sources::{SourceError, SourceHealth, Sources};

use keyward_base::id::{AgentId, ConnectionId, OrgId, UserId};
use keyward_base::opaque::OpaqueArc;
use keyward_base::time::Clock;
use keyward_base::tokens::{RotationSettings, TokenSettings};
use keyward_model::{BindTerms, Connection, ConnectionSpec, ManagedBy, Visibility};
use keyward_rules::provider::Catalogue;
use keyward_state::crypto::keyring::Keyring;
use keyward_state::directory::{
    BindingRecord, ConnectionRecord, Directory, Leftovers, RemedyCause,
};
use keyward_state::store::{Store, Table};

/// Sealed grants and the credentials minted from them. Clones share one vault; flights hold clones.
#[derive(Clone)]
pub struct Vault(OpaqueArc<Parts>);

#[doc(hidden)]
pub struct Parts {
    context: VaultContext,
    grants: Grants,
    sources: Sources,
    refresh: Refresh,
    directory: Arc<Directory>,
    clock: Clock,
    rotation: ArcSwap<RotationSettings>,
}

#[derive(Clone, Debug)]
pub struct NewConnection {
    pub org: OrgId,
    /// The spec, which names an app by its id.
    pub spec: ConnectionSpec,
    /// `None`: the organisation owns it.
    pub owner: Option<UserId>,
    /// Which agents may use it.
    pub visibility: Visibility,
    pub managed_by: ManagedBy,
}

room!(Vault: Parts);

impl fmt::Debug for Vault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Vault").finish_non_exhaustive()
    }
}

impl Vault {
    /// Opens a vault with the store and keys of `directory`. Removes grants without a connection, which a
    /// crash during [`Vault::add`] leaves.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn open(
        store: Arc<dyn Store>,
        keyring: Arc<Keyring>,
        directory: Arc<Directory>,
        catalogue: Arc<Catalogue>,
        clock: Clock,
    ) -> Result<Self, VaultError> {
        let context = VaultContext::new(directory.clone(), catalogue);
        let grants = Grants::new(
            context.clone(),
            directory.clone(),
            clock.clone(),
            store.clone(),
            keyring.clone(),
        );
        let sources =
            Sources::new(directory.clone(), clock.clone(), store.clone(), keyring.clone());
        let refresh = Refresh::new(RefreshServices {
            context: context.clone(),
            grants: grants.clone(),
            sources: sources.clone(),
            directory: directory.clone(),
            clock: clock.clone(),
            store,
            keyring,
        });
        let rotation = ArcSwap::default();
        let vault = Self(OpaqueArc::new(Parts {
            context,
            grants,
            sources,
            refresh,
            directory,
            clock,
            rotation,
        }));
        // In a shared store, a row that another replica is writing would look like a leftover of a crash.
        if vault.directory.leftovers() == Leftovers::Remove {
            vault.grants.sweep().await?;
            vault.cut_tests().await?;
            vault.wipe_untested().await?;
        }
        vault.refresh.settle().await?;
        vault.wipe_overdue().await?;
        Ok(vault)
    }

    /// Replaces the limits of token requests.
    pub fn replace_token_settings(&self, settings: TokenSettings) {
        self.context.replace_token_settings(settings);
    }

    /// The limits of token requests.
    pub fn token_settings(&self) -> Arc<TokenSettings> {
        self.context.token_settings()
    }

    /// Replaces the settings of secret rotation.
    pub fn replace_rotation_settings(&self, settings: RotationSettings) {
        self.rotation.store(Arc::new(settings));
    }

    /// The settings of secret rotation.
    pub fn rotation_settings(&self) -> Arc<RotationSettings> {
        self.rotation.load_full()
    }

    /// The current shared providers, which all organisations have.
    pub fn shared_catalogue(&self) -> Arc<Catalogue> {
        self.context.shared_catalogue()
    }

    /// The current providers of an organisation: the shared ones, and its own.
    pub fn catalogue(&self, org: &OrgId) -> Arc<Catalogue> {
        self.context.catalogue(org)
    }

    /// Replaces the providers. Credentials of changed providers are minted again, because they contain
    /// hosts and placements.
    pub fn replace_catalogue(&self, catalogue: Arc<Catalogue>) {
        for connection in self.context.replace_catalogue(catalogue) {
            self.refresh.forget(&connection);
        }
    }

    /// Drops cached data of a row that another replica has changed.
    pub fn changed_elsewhere(&self, table: Table, key: &str) {
        let Some((org, id)) = key.split_once('/') else { return };
        match table {
            Table::Grants | Table::Connections => {
                let Ok(connection) = ConnectionId::parse(id) else {
                    return self.refresh.forget_all_of(org);
                };
                self.refresh.forget(&connection);
                self.refresh.restore_answer(org, &connection);
            }
            // Credentials contain hosts, placements and clients of apps, providers and sources.
            Table::Apps | Table::Providers | Table::Sources => self.refresh.forget_all_of(org),
            _ => {}
        }
    }

    /// The stored grants and the secrets of apps.
    pub fn grants(&self) -> &Grants {
        &self.grants
    }

    /// The credentials in memory, and the flights that fetch new ones.
    pub fn refresh(&self) -> &Refresh {
        &self.refresh
    }

    /// The credentials, logins and health of secret sources.
    pub fn sources(&self) -> &Sources {
        &self.sources
    }

    /// The directory with the connections' records.
    pub fn directory(&self) -> &Arc<Directory> {
        &self.directory
    }

    /// Removes bindings, record and grant, in that order: a grant that a crash leaves is unusable.
    ///
    /// # Errors
    /// When there is no such connection, the file manages it, or the store fails.
    pub async fn remove(&self, org: &OrgId, id: &ConnectionId) -> Result<(), VaultError> {
        self.remove_by(org, id, ManagedBy::Store).await
    }

    /// [`Vault::remove`] on behalf of `by`.
    ///
    /// # Errors
    /// As [`Vault::remove`].
    pub async fn remove_by(
        &self,
        org: &OrgId,
        id: &ConnectionId,
        by: ManagedBy,
    ) -> Result<(), VaultError> {
        self.directory.remove::<Connection>(org, id, by).await?;
        self.refresh.remove(org, id).await;
        self.grants.delete(org, id).await?;
        Ok(())
    }

    /// Lets the agent use the connection, and issues its placeholders in the shape of the provider's keys.
    ///
    /// # Errors
    /// When either does not exist, the environments differ, or the store fails.
    pub async fn bind(
        &self,
        org: &OrgId,
        agent: &AgentId,
        connection: &ConnectionId,
        terms: impl Into<BindTerms>,
    ) -> Result<BindingRecord, VaultError> {
        let keys = self.keys(org, std::slice::from_ref(connection)).await;
        let placeholders = self.placeholders(&*self.context.connection(org, connection)?, &keys)?;
        Ok(self.directory.bind(org, agent, connection, placeholders, terms).await?)
    }

    /// The remedy for a connection; `None` if no action is needed.
    pub fn remedy(&self, connection: &ConnectionRecord, cause: RemedyCause<'_>) -> Option<String> {
        self.context.remedy(connection, cause)
    }
}

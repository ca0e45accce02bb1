//! Seals grants, and keeps a usable credential for each connection in memory. Owns the `grants` table.
//! Whether an agent may use a connection is decided by `rules::policy` before the vault is asked.
//!
//! ```text
//! oidc  oauth  events  keys    the folders; the map of the program describes them
//! lifecycle                    how connections, apps and sources get their secrets, and how they end
//! refresh                      credentials in memory, and how a new one is fetched and stored
//! sources                      values that are kept in secret sources
//! grants                       the sealed rows of grants and of the secrets of apps
//! context  rows  error         what all of them read; other sealed rows; why the vault refuses
//! grant                        the kinds of grants, and their requests
//! ```
//!
//! Each of the rooms from `grants` to `lifecycle` is a struct with its own state, and uses only those below it.

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

use context::VaultContext;
pub use error::VaultError;
pub use grant::PrivatePaths;
pub use grants::Grants;
pub use grants::origin::Granted;
pub use keyward_model::{Failures, TokenStatus};
pub use lifecycle::Lifecycle;
pub use lifecycle::add::NewConnection;
pub use lifecycle::app_check::{template_settings, with_template};
pub use lifecycle::apps::{ChangedApp, NewApp};
pub use lifecycle::candidate::CandidateSecret;
pub use lifecycle::connect::RemovedConnection;
pub use lifecycle::rotate::RotationTerms;
pub use lifecycle::stored_content::check_content;
pub use refresh::Refresh;
pub use refresh::keep_alive::KeepAliveCursor;
pub use refresh::late::LateAnswers;
pub use refresh::references::ReferenceStatus;
pub use refresh::ssh;
pub use rows::{RowError, SealedRows, SecretText};
pub use sources::{SourceError, SourceHealth, Sources};

use keyward_base::id::{ConnectionId, OrgId};
use keyward_base::opaque::OpaqueArc;
use keyward_base::time::Clock;
use keyward_base::tokens::TokenSettings;
use keyward_rules::provider::Catalogue;
use keyward_state::crypto::keyring::Keyring;
use keyward_state::directory::{ConnectionRecord, Directory, Leftovers, RemedyCause};
use keyward_state::store::{Store, Table};

/// Sealed grants and the credentials minted from them. Clones share one vault.
#[derive(Clone)]
pub struct Vault(OpaqueArc<Rooms>);

/// Each has its own state, and uses those above it.
struct Rooms {
    context: VaultContext,
    grants: Grants,
    sources: Sources,
    refresh: Refresh,
    lifecycle: Lifecycle,
}

impl fmt::Debug for Vault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Vault").finish_non_exhaustive()
    }
}

impl Vault {
    /// Opens a vault with the store and keys of `directory`. Removes grants without a connection, which a
    /// crash during [`Lifecycle::add`] leaves.
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
        let context = VaultContext::new(directory, catalogue, clock);
        let grants = Grants::new(&context, store.clone(), keyring.clone());
        let sources = Sources::new(&context, store.clone(), keyring.clone());
        let refresh = Refresh::new(&context, &grants, &sources, store, keyring);
        let lifecycle = Lifecycle::new(&context, &grants, &sources, &refresh);
        // In a shared store, a row that another replica is writing would look like a leftover of a crash.
        if context.directory.leftovers() == Leftovers::Remove {
            grants.sweep().await?;
            lifecycle.cut_tests().await?;
            lifecycle.wipe_untested().await?;
        }
        refresh.settle().await?;
        lifecycle.wipe_overdue().await?;
        Ok(Self(OpaqueArc::new(Rooms { context, grants, sources, refresh, lifecycle })))
    }

    /// Replaces the limits of token requests.
    pub fn replace_token_settings(&self, settings: TokenSettings) {
        self.0.context.replace_token_settings(settings);
    }

    /// Replaces the paths of Keyward's own files, which no agent gets.
    pub fn replace_private_paths(&self, paths: PrivatePaths) {
        self.0.context.replace_private_paths(paths);
    }

    /// The paths of Keyward's own files.
    pub fn private_paths(&self) -> Arc<PrivatePaths> {
        self.0.context.private_paths()
    }

    /// The limits of token requests.
    pub fn token_settings(&self) -> Arc<TokenSettings> {
        self.0.context.token_settings()
    }

    /// The current shared providers, which all organisations have.
    pub fn shared_catalogue(&self) -> Arc<Catalogue> {
        self.0.context.shared_catalogue()
    }

    /// The current providers of an organisation: the shared ones, and its own.
    pub fn catalogue(&self, org: &OrgId) -> Arc<Catalogue> {
        self.0.context.catalogue(org)
    }

    /// Replaces the providers. Credentials of changed providers are minted again, because they contain
    /// hosts and placements.
    pub fn replace_catalogue(&self, catalogue: Arc<Catalogue>) {
        for connection in self.0.context.replace_catalogue(catalogue) {
            self.0.refresh.forget(&connection);
        }
    }

    /// Drops cached data of a row that another replica has changed.
    pub fn changed_elsewhere(&self, table: Table, key: &str) {
        let Some((org, id)) = key.split_once('/') else { return };
        match table {
            Table::Grants | Table::Connections => {
                let Ok(connection) = ConnectionId::parse(id) else {
                    return self.0.refresh.forget_all_of(org);
                };
                self.0.refresh.forget(&connection);
                self.0.refresh.restore_answer(org, &connection);
            }
            // Credentials contain hosts, placements and clients of apps, providers and sources.
            Table::Apps | Table::Providers | Table::Sources => self.0.refresh.forget_all_of(org),
            _ => {}
        }
    }

    /// The stored grants and the secrets of apps.
    pub fn grants(&self) -> &Grants {
        &self.0.grants
    }

    /// The credentials in memory, and the flights that fetch new ones.
    pub fn refresh(&self) -> &Refresh {
        &self.0.refresh
    }

    /// The credentials, logins and health of secret sources.
    pub fn sources(&self) -> &Sources {
        &self.0.sources
    }

    /// The acts of people and of the configuration.
    pub fn lifecycle(&self) -> &Lifecycle {
        &self.0.lifecycle
    }

    /// The directory with the connections' records.
    pub fn directory(&self) -> &Arc<Directory> {
        &self.0.context.directory
    }

    /// The remedy for a connection; `None` if no action is needed.
    pub fn remedy(&self, connection: &ConnectionRecord, cause: RemedyCause<'_>) -> Option<String> {
        self.0.context.remedy(connection, cause)
    }
}

#[cfg(test)]
impl Vault {
    pub(crate) fn context(&self) -> &VaultContext {
        &self.0.context
    }
}

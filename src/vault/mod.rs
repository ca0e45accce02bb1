//! Grants sealed; credentials fresh. Owns the `grants` table; who may use a connection is
//! `policy/`'s to decide before it asks here.

mod apps;
mod error;
mod fresh;
mod record;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use arc_swap::ArcSwap;
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

pub use apps::NewApp;
pub use error::VaultError;
use fresh::Fresh;
use record::{Purpose, RecordError};

use crate::base::agent::Agent;
use crate::base::id::{AgentId, AppId, ConnectionId, OrgId};
use crate::base::secret::Secret;
use crate::base::settings::Settings;
use crate::base::time::Clock;
use crate::crypto::envelope::EnvelopeError;
use crate::crypto::keyring::Keyring;
use crate::directory::{
    BindingRecord, ConnectionRecord, ConnectionState, Directory, DirectoryError, ManagedBy,
};
use crate::grant::{Grant, MintContext};
use crate::inject::credential::{Credential, Wanted};
use crate::inject::placeholder::Placeholder;
use crate::provider::{AuthMethod, Catalogue, Provider};
use crate::store::{Expect, Row, Store, StoreError, Table, Version};

/// Rows read at once when the table is swept.
const PAGE: usize = 500;

/// Sealed grants and the credentials minted from them.
pub struct Vault {
    store: Arc<dyn Store>,
    keyring: Arc<Keyring>,
    directory: Arc<Directory>,
    catalogue: ArcSwap<Catalogue>,
    clock: Clock,
    fresh: Fresh,
}

/// A connection to be added.
#[derive(Clone, Debug)]
pub struct NewConnection {
    /// Its org.
    pub org: OrgId,
    /// Unique in the org.
    pub name: String,
    /// Id of the provider.
    pub provider: String,
    /// Id of the auth method; the provider's first when absent.
    pub auth: Option<String>,
    /// Variables of the provider's hosts.
    pub variables: BTreeMap<String, String>,
    /// The app that asks for its tokens.
    pub app: Option<AppId>,
    /// Scopes to ask for; empty: the app's, or the provider's.
    pub scopes: Vec<String>,
    /// Environment label.
    pub environment: Option<String>,
    /// How its requests are sent.
    pub settings: Settings,
    /// Who may edit it.
    pub managed_by: ManagedBy,
}

impl fmt::Debug for Vault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Vault").field("store", &self.store).finish_non_exhaustive()
    }
}

impl Vault {
    /// A vault over the same store and keys as `directory`. Grants without a connection, left by a
    /// crash between the two writes of [`Vault::add`], are removed.
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
        let (catalogue, fresh) = (ArcSwap::new(catalogue), Fresh::default());
        let vault = Self { store, keyring, directory, catalogue, clock, fresh };
        vault.sweep().await?;
        Ok(vault)
    }

    /// All providers, as they are known now.
    pub fn catalogue(&self) -> Arc<Catalogue> {
        self.catalogue.load_full()
    }

    /// Knows these providers from now on. Credentials of those that were read anew are minted anew: hosts
    /// and placements are part of them.
    pub fn know(&self, catalogue: Arc<Catalogue>) {
        let before = self.catalogue.swap(catalogue.clone());
        for connection in self.directory.view().connections() {
            let same = match (before.get(&connection.provider), catalogue.get(&connection.provider))
            {
                (Some(before), Some(now)) => Arc::ptr_eq(before, now),
                _ => false,
            };
            if !same {
                self.fresh.forget(&connection.id);
            }
        }
    }

    /// Whether [`Vault::add`] would take these fields, were `catalogue` known.
    ///
    /// # Errors
    /// When provider, variables or fields do not fit.
    pub fn check(
        catalogue: &Catalogue,
        new: &NewConnection,
        fields: BTreeMap<String, Secret>,
    ) -> Result<(), VaultError> {
        let (provider, auth) = method(catalogue, &new.provider, new.auth.as_deref())?;
        provider.instantiate(auth, &new.variables)?;
        not_authenticating(provider, &new.settings)?;
        Grant::from_fields(auth, fields)?;
        Ok(())
    }

    /// The connections' metadata.
    pub fn directory(&self) -> &Arc<Directory> {
        &self.directory
    }

    /// Validates, seals the grant, then puts the metadata. When this returns, both are durable.
    ///
    /// # Errors
    /// When provider, variables or fields do not fit, the name is taken, or the store fails.
    pub async fn add(
        &self,
        new: NewConnection,
        fields: BTreeMap<String, Secret>,
    ) -> Result<Arc<ConnectionRecord>, VaultError> {
        let catalogue = self.catalogue();
        let (provider, auth) = method(&catalogue, &new.provider, new.auth.as_deref())?;
        provider.instantiate(auth, &new.variables)?;
        not_authenticating(provider, &new.settings)?;
        let grant = Grant::from_fields(auth, fields)?;
        let record = self.new_record(new, auth);
        let purpose = Purpose::of(&record);
        let key = record::key(&record.org, &record.id);
        self.write((&record.org, &record.id), (purpose, grant.encode()), None).await?;
        match self.directory.add_connection(record).await {
            Ok(record) => Ok(record),
            Err(refused) => {
                self.store.delete(Table::Grants, &key, Expect::Any).await?;
                Err(refused.into())
            }
        }
    }

    fn new_record(&self, new: NewConnection, auth: &AuthMethod) -> ConnectionRecord {
        let now = self.clock.now();
        ConnectionRecord {
            id: ConnectionId::random(),
            org: new.org,
            name: new.name,
            provider: new.provider,
            auth: auth.id.clone(),
            variables: new.variables,
            environment: new.environment,
            settings: new.settings,
            captured: BTreeMap::new(),
            app: new.app,
            scopes: new.scopes,
            granted: Vec::new(),
            account: None,
            ends: None,
            state: ConnectionState::Active,
            managed_by: new.managed_by,
            created: now,
            updated: now,
        }
    }

    /// Whether a connection of the provider may have these settings.
    ///
    /// # Errors
    /// When a field of theirs is one that the provider authenticates with.
    pub fn check_settings(&self, provider: &str, settings: &Settings) -> Result<(), VaultError> {
        let catalogue = self.catalogue();
        let (provider, _) = method(&catalogue, provider, None)?;
        not_authenticating(provider, settings)
    }

    /// Replaces the grant when `fields` differ from what is stored. Answers whether they did.
    ///
    /// # Errors
    /// As [`Vault::add`].
    pub async fn replace(
        &self,
        org: &OrgId,
        id: &ConnectionId,
        fields: BTreeMap<String, Secret>,
    ) -> Result<bool, VaultError> {
        let connection = self.connection(org, id)?;
        let catalogue = self.catalogue();
        let (_, auth) = method(&catalogue, &connection.provider, Some(&connection.auth))?;
        let grant = Grant::from_fields(auth, fields)?.encode();
        let (row, old) = self.opened(&connection).await?;
        if bool::from(old.as_slice().ct_eq(grant.as_slice())) {
            return Ok(false);
        }
        self.write((org, id), (Purpose::of(&connection), grant), Some(row.version)).await?;
        self.fresh.forget(id);
        Ok(true)
    }

    /// Seals and puts a grant over the version that was read, or a new one over none. In a task of
    /// its own: the turn to seal must last until the row is on the disk, also when the caller goes
    /// away.
    async fn write(
        &self,
        (org, id): (&OrgId, &ConnectionId),
        (purpose, grant): (Purpose, Zeroizing<Vec<u8>>),
        over: Option<Version>,
    ) -> Result<(), VaultError> {
        let (store, keyring) = (Arc::clone(&self.store), Arc::clone(&self.keyring));
        let (org, id) = (org.clone(), id.clone());
        let work = tokio::spawn(async move {
            let sealing = keyring.sealing().await;
            let version = over.unwrap_or_default().next();
            let sealed = record::seal(&sealing, (&org, &id), version, (&purpose, &grant))?;
            let expect = over.map_or(Expect::Absent, Expect::Version);
            store.put(Table::Grants, &record::key(&org, &id), &sealed, expect).await?;
            Ok(())
        });
        work.await.unwrap_or(Err(VaultError::Directory(DirectoryError::Interrupted)))
    }

    /// Removes bindings, metadata and grant, in that order: what is left after a crash opens nothing.
    ///
    /// # Errors
    /// When there is no such connection, the file manages it, or the store fails.
    pub async fn remove(&self, org: &OrgId, id: &ConnectionId) -> Result<(), VaultError> {
        self.remove_by(org, id, ManagedBy::Store).await
    }

    /// [`Vault::remove`] by either side.
    ///
    /// # Errors
    /// As there.
    pub async fn remove_by(
        &self,
        org: &OrgId,
        id: &ConnectionId,
        by: ManagedBy,
    ) -> Result<(), VaultError> {
        self.directory.remove_connection_by(org, id, by).await?;
        self.fresh.forget(id);
        self.store.delete(Table::Grants, &record::key(org, id), Expect::Any).await?;
        Ok(())
    }

    /// Lets the agent use the connection, and issues the placeholders that it will hold instead of
    /// the secrets, in the shape of the provider's keys.
    ///
    /// # Errors
    /// When either does not exist, the environments differ, or the store fails.
    pub async fn bind(
        &self,
        org: &OrgId,
        agent: &AgentId,
        connection: &ConnectionId,
        managed_by: ManagedBy,
    ) -> Result<BindingRecord, VaultError> {
        let record = self.connection(org, connection)?;
        let catalogue = self.catalogue();
        let (_, auth) = method(&catalogue, &record.provider, Some(&record.auth))?;
        let placeholders = auth
            .carried()
            .map(|field| {
                let prefix = field.prefixes.first().map_or("", String::as_str);
                (field.name.clone(), Placeholder::issue(prefix, field.length))
            })
            .collect();
        Ok(self.directory.bind(org, agent, connection, placeholders, managed_by).await?)
    }

    /// The live credential of the connection that the permit wants; `None` when it wants none.
    /// Warm, this touches neither store nor keys.
    ///
    /// # Errors
    /// When the connection is not the agent's org's, or its grant cannot be opened or minted from.
    pub async fn credential(
        &self,
        agent: &Agent,
        wanted: Option<&Wanted>,
    ) -> Result<Option<Arc<Credential>>, VaultError> {
        self.credential_in(&agent.org, wanted).await
    }

    /// [`Vault::credential`] where no agent asks: the owner of a connection tests it.
    ///
    /// # Errors
    /// As there.
    pub async fn credential_in(
        &self,
        org: &OrgId,
        wanted: Option<&Wanted>,
    ) -> Result<Option<Arc<Credential>>, VaultError> {
        let Some(wanted) = wanted else { return Ok(None) };
        // The org is part of every look-up: one org's data never answers another's question.
        let connection = self.connection(org, &wanted.connection)?;
        if let Some(ready) = self.fresh.ready(&connection.id) {
            return Ok(Some(ready));
        }
        // On the heap: a request seldom comes here, and all have to have room for it.
        let filled = Box::pin(self.fresh.fill(&connection.id, self.mint(&connection)));
        Ok(Some(filled.await?))
    }

    /// The fields of a connection's grant that are no secrets, such as an account's id.
    ///
    /// # Errors
    /// When there is no such connection, or its grant cannot be opened.
    pub async fn shown_fields(
        &self,
        connection: &ConnectionRecord,
    ) -> Result<BTreeMap<String, String>, VaultError> {
        let catalogue = self.catalogue();
        let (_, auth) = method(&catalogue, &connection.provider, Some(&connection.auth))?;
        if auth.fields.iter().all(|field| field.secret) {
            return Ok(BTreeMap::new());
        }
        let (_, opened) = self.opened(connection).await?;
        let malformed = |source| VaultError::Mint { connection: connection.name.clone(), source };
        Ok(Grant::decode(&opened).map_err(malformed)?.shown_fields(auth))
    }

    async fn mint(&self, connection: &ConnectionRecord) -> Result<Arc<Credential>, VaultError> {
        let catalogue = self.catalogue();
        let (provider, auth) = method(&catalogue, &connection.provider, Some(&connection.auth))?;
        let instance = provider.instantiate(auth, &connection.host_variables())?;
        let (row, opened) = self.opened(connection).await?;
        let generation = row.version.0;
        let context = MintContext { connection: &connection.id, generation, instance: &instance };
        let malformed = |source| VaultError::Mint { connection: connection.name.clone(), source };
        let grant = Grant::decode(&opened).map_err(malformed)?;
        let minted = grant.mint(&context).await.map_err(malformed)?;
        Ok(Arc::new(minted.credential))
    }

    fn connection(
        &self,
        org: &OrgId,
        id: &ConnectionId,
    ) -> Result<Arc<ConnectionRecord>, VaultError> {
        let view = self.directory.glance();
        view.connection(org, id).cloned().ok_or(VaultError::ConnectionMissing)
    }

    async fn row(&self, connection: &ConnectionRecord) -> Result<Row, VaultError> {
        let key = record::key(&connection.org, &connection.id);
        let missing = || VaultError::GrantMissing { connection: connection.name.clone() };
        self.store.get(Table::Grants, &key).await?.ok_or_else(missing)
    }

    /// Reads and opens. A rotation of the master key may wrap the row anew between the two, and drop
    /// the key that it was read under: then it is read again.
    async fn opened(
        &self,
        connection: &ConnectionRecord,
    ) -> Result<(Row, Zeroizing<Vec<u8>>), VaultError> {
        let purpose = Purpose::of(connection);
        let mut before: Option<Row> = None;
        loop {
            let row = self.row(connection).await?;
            let place: (_, &dyn fmt::Display) = (&connection.org, &connection.id);
            match record::open(&self.keyring, place, &purpose, &row) {
                Ok(plain) => return Ok((row, plain)),
                Err(RecordError::Sealed(EnvelopeError::UnknownKey(_)))
                    if before.as_ref() != Some(&row) =>
                {
                    before = Some(row);
                }
                Err(source) => {
                    return Err(VaultError::Sealed { connection: connection.name.clone(), source });
                }
            }
        }
    }

    async fn sweep(&self) -> Result<(), StoreError> {
        let view = self.directory.view();
        let connections = view.connections().map(|c| record::key(&c.org, &c.id));
        let apps = view.apps().map(|app| record::key(&app.org, &app.id));
        let known: std::collections::HashSet<String> = connections.chain(apps).collect();
        let mut after: Option<String> = None;
        loop {
            let rows = self.store.list(Table::Grants, "", after.as_deref(), PAGE).await?;
            let Some(last) = rows.last() else { return Ok(()) };
            after = Some(last.key.clone());
            for row in rows.iter().filter(|row| !known.contains(&row.key)) {
                tracing::warn!(key = %row.key, "removed a grant that no connection or app names");
                self.store.delete(Table::Grants, &row.key, Expect::Version(row.version)).await?;
            }
        }
    }
}

fn not_authenticating(provider: &Provider, settings: &Settings) -> Result<(), VaultError> {
    match settings.headers.names().find(|name| provider.clears.covers(name)) {
        None => Ok(()),
        Some(name) => Err(VaultError::SettingsField {
            name: name.to_string(),
            provider: provider.id.to_string(),
        }),
    }
}

fn method<'a>(
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

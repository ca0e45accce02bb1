//! Installs plugins: the directory stores them, and the placeholders for their agents are issued here from the
//! provider's key shapes.

use std::sync::Arc;

use super::{Vault, VaultError, method};
use keyward_base::id::{OrgId, PluginId};
use keyward_model::{BindingLimits, Placeholders, PluginSpec};
use keyward_rules::inject::placeholder::Placeholder;
use keyward_state::directory::{
    BindingRecord, ConnectionRecord, DirectoryError, ManagedBy, NewPlugin, PluginRecord,
};

impl Vault {
    /// Installs a plugin for its agent; see [`keyward_state::directory::Directory::add_plugin`].
    ///
    /// # Errors
    /// Those of the directory.
    pub async fn add_plugin(
        &self,
        org: &OrgId,
        spec: PluginSpec,
        by: ManagedBy,
    ) -> Result<Arc<PluginRecord>, VaultError> {
        let bindings = self.bindings_for(org, &spec)?;
        Ok(self.directory.add_plugin(org, NewPlugin { spec, bindings, by }).await?)
    }

    /// Changes a plugin to the spec that `change` makes of it; see
    /// [`keyward_state::directory::Directory::change_plugin`].
    ///
    /// # Errors
    /// Those of the directory.
    pub async fn change_plugin<E: From<DirectoryError> + From<VaultError>>(
        &self,
        org: &OrgId,
        id: &PluginId,
        by: ManagedBy,
        change: &(dyn Fn(&PluginRecord) -> Result<PluginSpec, E> + Sync),
    ) -> Result<Arc<PluginRecord>, E> {
        let plug = |before: &PluginRecord| -> Result<NewPlugin, E> {
            let spec = change(before)?;
            let bindings = self.bindings_for(org, &spec)?;
            Ok(NewPlugin { spec, bindings, by })
        };
        self.directory.change_plugin(org, id, &plug).await
    }

    /// A binding for each connection that exists.
    fn bindings_for(
        &self,
        org: &OrgId,
        spec: &PluginSpec,
    ) -> Result<Vec<BindingRecord>, VaultError> {
        let view = self.directory.view();
        let existing = spec.connections().filter_map(|id| view.connection(org, id));
        let binding = |connection: &Arc<ConnectionRecord>| {
            Ok(BindingRecord {
                connection: connection.id.clone(),
                created: self.clock.now(),
                managed_by: ManagedBy::Store,
                placeholders: self.placeholders(connection)?,
                direct: false,
                preferred: None,
                limits: BindingLimits::default(),
            })
        };
        existing.map(binding).collect()
    }

    /// New placeholders, one for each secret field, in the shape of the provider's keys.
    pub(super) fn placeholders(
        &self,
        connection: &ConnectionRecord,
    ) -> Result<Placeholders, VaultError> {
        let catalogue = self.catalogue(&connection.org);
        let (_, auth) = method(&catalogue, &connection.provider, connection.auth.as_deref())?;
        let issued = auth
            .carried()
            .map(|field| (field.name.clone(), Placeholder::in_shape(field.placeholder_shape())));
        Ok(issued.collect())
    }
}

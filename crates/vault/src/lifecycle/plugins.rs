//! Installs plugins: the directory stores them, and the placeholders for their agents are issued here from the
//! provider's key shapes.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Lifecycle;
use crate::context::method;
use crate::error::VaultError;
use crate::grant::Grant;
use keyward_base::id::{ConnectionId, OrgId, PluginId};
use keyward_model::{BindingLimits, Placeholders, PluginSpec};
use keyward_rules::provider::Field;
use keyward_state::directory::{
    BindingRecord, ConnectionRecord, DirectoryError, ManagedBy, NewPlugin, PluginRecord,
};

impl Lifecycle {
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
        let connections: Vec<_> = spec.connections().cloned().collect();
        let keys = self.keys(org, &connections).await;
        let bindings = self.bindings_for(org, &spec, &keys)?;
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
        let before = self.directory.view().plugin(org, id).cloned();
        let planned = before.and_then(|before| change(&before).ok());
        let connections: Vec<_> =
            planned.iter().flat_map(|spec| spec.connections().cloned()).collect();
        let keys = self.keys(org, &connections).await;
        let plug = |before: &PluginRecord| -> Result<NewPlugin, E> {
            let spec = change(before)?;
            let bindings = self.bindings_for(org, &spec, &keys)?;
            Ok(NewPlugin { spec, bindings, by })
        };
        self.directory.change_plugin(org, id, &plug).await
    }

    /// A binding for each connection that exists.
    fn bindings_for(
        &self,
        org: &OrgId,
        spec: &PluginSpec,
        keys: &BTreeMap<ConnectionId, Grant>,
    ) -> Result<Vec<BindingRecord>, VaultError> {
        let view = self.directory.view();
        let existing = spec.connections().filter_map(|id| view.connection(org, id));
        let binding = |connection: &Arc<ConnectionRecord>| {
            Ok(BindingRecord {
                connection: connection.id.clone(),
                created: self.clock.now(),
                managed_by: ManagedBy::Store,
                placeholders: self.placeholders(connection, keys)?,
                direct: false,
                preferred: None,
                limits: BindingLimits::default(),
            })
        };
        existing.map(binding).collect()
    }

    /// The keys of connections where placeholders begin or end as the key does; what has none has no entry.
    pub(crate) async fn keys(
        &self,
        org: &OrgId,
        connections: &[ConnectionId],
    ) -> BTreeMap<ConnectionId, Grant> {
        let mut keys = BTreeMap::new();
        for id in connections {
            let Ok(connection) = self.context.connection(org, id) else { continue };
            let catalogue = self.context.catalogue(org);
            let found = method(&catalogue, &connection.provider, connection.auth.as_deref());
            if found.is_ok_and(|(_, auth)| auth.carried().any(Field::has_variants)) {
                let grant = self.grants.held_grant(&connection).await;
                keys.extend(grant.map(|grant| (id.clone(), grant)));
            }
        }
        keys
    }

    /// New placeholders, one for each secret field, in the shape of the connection's keys.
    pub(crate) fn placeholders(
        &self,
        connection: &ConnectionRecord,
        keys: &BTreeMap<ConnectionId, Grant>,
    ) -> Result<Placeholders, VaultError> {
        let catalogue = self.context.catalogue(&connection.org);
        let (provider, auth) =
            method(&catalogue, &connection.provider, connection.auth.as_deref())?;
        let mut variables = provider.defaults();
        variables.extend(connection.host_variables());
        let key = |field: &Field| keys.get(&connection.id)?.value(&field.name);
        let issue = |field: &Field| field.placeholder(key(field), &variables);
        Ok(auth.carried().map(|field| (field.name.clone(), issue(field))).collect())
    }
}

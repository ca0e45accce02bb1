//! Installs plugins: the directory stores them, and the placeholders for their agents are issued here from the
//! provider's key shapes.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Vault, VaultError, method};
use keyward_base::id::{AgentId, ConnectionId, OrgId, PluginId};
use keyward_rules::inject::placeholder::Placeholder;
use keyward_state::directory::{
    BindingRecord, ConnectionRecord, ManagedBy, Manifest, Plugged, PluginRecord,
};

impl Vault {
    /// Installs a plugin for an agent; see [`keyward_state::directory::Directory::add_plugin`].
    ///
    /// # Errors
    /// As there.
    pub async fn add_plugin(
        &self,
        agent: (&OrgId, &AgentId),
        (manifest, by): (Manifest, ManagedBy),
        slots: BTreeMap<String, ConnectionId>,
    ) -> Result<Arc<PluginRecord>, VaultError> {
        let new = self.plugged(agent.0, (manifest, by), slots)?;
        Ok(self.directory.add_plugin(agent, new).await?)
    }

    /// Changes a plugin; see [`keyward_state::directory::Directory::change_plugin`].
    ///
    /// # Errors
    /// As there.
    pub async fn change_plugin(
        &self,
        (org, id): (&OrgId, &PluginId),
        (manifest, by): (Manifest, ManagedBy),
        slots: BTreeMap<String, ConnectionId>,
    ) -> Result<Arc<PluginRecord>, VaultError> {
        let new = self.plugged(org, (manifest, by), slots)?;
        Ok(self.directory.change_plugin(org, id, new).await?)
    }

    /// Creates a binding for each existing connection.
    fn plugged(
        &self,
        org: &OrgId,
        (manifest, by): (Manifest, ManagedBy),
        slots: BTreeMap<String, ConnectionId>,
    ) -> Result<Plugged, VaultError> {
        let view = self.directory.view();
        let there = slots.values().filter_map(|id| view.connection(org, id));
        let binding = |connection: &Arc<ConnectionRecord>| {
            Ok(BindingRecord {
                connection: connection.id.clone(),
                created: self.clock.now(),
                managed_by: ManagedBy::Store,
                placeholders: self.placeholders(connection)?,
                direct: false,
            })
        };
        let bindings = there.map(binding).collect::<Result<_, VaultError>>()?;
        Ok(Plugged { manifest, slots, bindings, by })
    }

    /// New placeholders, one for each secret field, in the shape of the provider's keys.
    pub(super) fn placeholders(
        &self,
        connection: &ConnectionRecord,
    ) -> Result<BTreeMap<String, Placeholder>, VaultError> {
        let catalogue = self.catalogue();
        let (_, auth) = method(&catalogue, &connection.provider, connection.auth.as_deref())?;
        let issued = auth.carried().map(|field| {
            let prefix = field.prefixes.first().map_or("", String::as_str);
            (field.name.clone(), Placeholder::issue(prefix, field.length))
        });
        Ok(issued.collect())
    }
}

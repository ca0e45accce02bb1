//! Connections, apps, sources and plugins: how they get their secrets and other ones, and how they end.

pub(crate) mod add;
pub(crate) mod app_check;
pub(crate) mod apps;
pub(crate) mod candidate;
pub(crate) mod connect;
pub(crate) mod draft;
pub(crate) mod plugins;
pub(crate) mod rotate;
pub(crate) mod sources;
pub(crate) mod stored_content;

use std::sync::Arc;

use arc_swap::ArcSwap;

use crate::context::VaultContext;
use crate::error::VaultError;
use crate::grants::Grants;
use crate::refresh::Refresh;
use crate::sources::Sources;
use keyward_base::id::{AgentId, ConnectionId, OrgId};
use keyward_base::opaque::OpaqueArc;
use keyward_base::time::Clock;
use keyward_base::tokens::RotationSettings;
use keyward_model::{BindTerms, Connection, ManagedBy};
use keyward_state::directory::{BindingRecord, Directory};

/// The acts of people and of the configuration on connections, apps, sources and plugins.
#[derive(Clone)]
pub struct Lifecycle(OpaqueArc<LifecycleParts>);

#[doc(hidden)]
pub struct LifecycleParts {
    context: VaultContext,
    grants: Grants,
    sources: Sources,
    refresh: Refresh,
    directory: Arc<Directory>,
    clock: Clock,
    rotation: ArcSwap<RotationSettings>,
}

room!(Lifecycle: LifecycleParts);

impl Lifecycle {
    pub(crate) fn new(
        context: &VaultContext,
        grants: &Grants,
        sources: &Sources,
        refresh: &Refresh,
    ) -> Self {
        Self(OpaqueArc::new(LifecycleParts {
            context: context.clone(),
            grants: grants.clone(),
            sources: sources.clone(),
            refresh: refresh.clone(),
            directory: context.directory.clone(),
            clock: context.clock.clone(),
            rotation: ArcSwap::default(),
        }))
    }

    /// Replaces the settings of secret rotation.
    pub fn replace_rotation_settings(&self, settings: RotationSettings) {
        self.rotation.store(Arc::new(settings));
    }

    /// The settings of secret rotation.
    pub fn rotation_settings(&self) -> Arc<RotationSettings> {
        self.rotation.load_full()
    }

    /// Removes bindings, record and grant, in that order: a grant that a crash leaves is unusable.
    ///
    /// # Errors
    /// When there is no such connection, the file manages it, or the store fails.
    pub async fn remove(&self, org: &OrgId, id: &ConnectionId) -> Result<(), VaultError> {
        self.remove_by(org, id, ManagedBy::Store).await
    }

    /// [`Lifecycle::remove`] on behalf of `by`.
    ///
    /// # Errors
    /// As [`Lifecycle::remove`].
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
}

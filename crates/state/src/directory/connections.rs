//! Connections' metadata: put, changed, removed. Their grants are `vault/`'s, which stores a grant
//! before it puts the metadata here.

use std::sync::Arc;

use super::error::DirectoryError;
use super::index::Named;
use super::records::{AgentRecord, BrokenReason, ConnectionRecord, ConnectionState, ManagedBy};
use super::rows::{At, Read};
use super::{Directory, Writer, agents, check, to_the_end};
use crate::store::{StoreError, Table, Version};
use keyward_base::id::{AgentId, ConnectionId, OrgId};
use keyward_model::Agent;

impl Directory {
    /// Puts a connection's metadata; the grant is already stored. Name unique in the org.
    ///
    /// # Errors
    /// When the name is taken or cannot be one, or the environment is out of bounds.
    pub async fn add_connection(
        &self,
        record: ConnectionRecord,
    ) -> Result<Arc<ConnectionRecord>, DirectoryError> {
        check::connection_name(&record.name)?;
        check::environment(record.environment.as_deref())?;
        record.about.check()?;
        record.secret.check()?;
        self.write(|writer| async move { writer.add_connection(record).await }).await
    }

    /// Changes one in place (compare-and-swap inside; `change` may be called again). A change that
    /// changes nothing writes nothing; any other sets `updated`.
    ///
    /// Whether the file manages it is for the caller to check with [`ConnectionRecord::editable`]:
    /// a connection may break whoever manages it.
    ///
    /// # Errors
    /// When `change` touches id, org, provider or time of making, names it as another one is, moves
    /// the connection into another environment than an agent bound to it, or there is no such
    /// connection.
    pub async fn update_connection(
        &self,
        org: &OrgId,
        id: &ConnectionId,
        change: &(dyn Fn(&mut ConnectionRecord) + Sync),
    ) -> Result<Arc<ConnectionRecord>, DirectoryError> {
        let at = At::new(Table::Connections, org, id);
        for _ in 0..agents::EDIT_TRIES {
            let writer = self.turn().await;
            let Read { record: before, version } = writer.read_connection(&at, id).await?;
            let mut after = before.clone();
            change(&mut after);
            if after == before {
                return Ok(Arc::new(after));
            }
            after.updated = writer.clock.now();
            writer.check_update(&before, &after)?;
            let renames = before.name != after.name;
            let work = async move {
                match renames {
                    true => writer.rename(before, after, version).await,
                    false => writer.replace(after, version).await,
                }
            };
            match to_the_end(Box::pin(work)).await {
                Err(error) if error.is_conflict() => {}
                other => return other,
            }
        }
        Err(StoreError::Conflict { table: Table::Connections.name(), key: at.key() }.into())
    }

    /// Pauses a connection, or ends the pause or what a test that failed has made of it; one that is broken
    /// otherwise stays broken. Writes only when that is a change.
    ///
    /// # Errors
    /// When the file manages it (and `by` is not the file), or there is no such connection.
    pub async fn set_connection_paused(
        &self,
        org: &OrgId,
        id: &ConnectionId,
        paused: bool,
        by: ManagedBy,
    ) -> Result<Arc<ConnectionRecord>, DirectoryError> {
        if let Some(connection) = self.view().connection(org, id) {
            connection.editable(by)?;
        }
        self.update_connection(org, id, &|connection| match (&connection.state, paused) {
            (ConnectionState::Active | ConnectionState::Testing, true) => {
                connection.state = ConnectionState::Paused
            }
            // A person's test broke it: a person may say that it is to be used all the same.
            (
                ConnectionState::Paused
                | ConnectionState::Broken { reason: BrokenReason::TestFailed, .. },
                false,
            ) => connection.state = ConnectionState::Active,
            _ => {}
        })
        .await
    }

    /// Removes it and every binding to it.
    ///
    /// # Errors
    /// When there is none, or the file manages it (and still names it).
    pub async fn remove_connection(
        &self,
        org: &OrgId,
        id: &ConnectionId,
    ) -> Result<(), DirectoryError> {
        self.remove_connection_by(org, id, ManagedBy::Store).await
    }

    /// [`Directory::remove_connection`] by either side.
    ///
    /// # Errors
    /// As there.
    pub async fn remove_connection_by(
        &self,
        org: &OrgId,
        id: &ConnectionId,
        by: ManagedBy,
    ) -> Result<(), DirectoryError> {
        let at = At::new(Table::Connections, org, id);
        let id = id.clone();
        self.write(|writer| async move { writer.remove_connection(at, id, by).await }).await
    }
}

impl ConnectionRecord {
    /// Whether this side may edit it.
    ///
    /// # Errors
    /// [`DirectoryError::ManagedByFile`] when only the file may.
    pub fn editable(&self, by: ManagedBy) -> Result<(), DirectoryError> {
        check::editor(self.managed_by, by, ("connection", &self.name))
    }
}

impl Writer {
    async fn add_connection(
        &self,
        record: ConnectionRecord,
    ) -> Result<Arc<ConnectionRecord>, DirectoryError> {
        self.needs_org(&record.org)?;
        self.needs_owner(&record.org, record.owner.as_ref())?;
        check::visibility(&record)?;
        let name = self.index.name(&record.org, Named::Connection, &record.name);
        self.take_name(&name, &record.id, (Named::Connection, &record.name)).await?;
        let at = At::new(Table::Connections, &record.org, &record.id);
        let added = self.commit(&at, record, None).await;
        if added.is_err() {
            self.give_back(&[name]).await;
        }
        added
    }

    async fn replace(
        &self,
        record: ConnectionRecord,
        over: Version,
    ) -> Result<Arc<ConnectionRecord>, DirectoryError> {
        let at = At::new(Table::Connections, &record.org, &record.id);
        self.commit(&at, record, Some(over)).await
    }

    /// The new name is taken before the record says it, and the old one given back after.
    async fn rename(
        &self,
        before: ConnectionRecord,
        after: ConnectionRecord,
        over: Version,
    ) -> Result<Arc<ConnectionRecord>, DirectoryError> {
        let of = |name: &str| self.index.name(&after.org, Named::Connection, name);
        let (old, new) = (of(&before.name), of(&after.name));
        self.take_name(&new, &after.id, (Named::Connection, &after.name)).await?;
        match self.replace(after, over).await {
            Ok(record) => {
                self.give_back(&[old]).await;
                Ok(record)
            }
            Err(error) => {
                self.give_back(&[new]).await;
                Err(error)
            }
        }
    }

    async fn remove_connection(
        &self,
        at: At,
        id: ConnectionId,
        by: ManagedBy,
    ) -> Result<(), DirectoryError> {
        let Read { record, version } = self.read_connection(&at, &id).await?;
        check::connection_remover(&record, by)?;
        // Bindings first: after a crash in between there is a connection that nobody may use, and
        // not a binding to nothing.
        for agent in self.bound_agents(&at.org, &id) {
            let unbind = |agent: &mut AgentRecord| {
                agent.facts.bindings.retain(|binding| binding.connection != id);
                Ok(())
            };
            self.edit::<Agent>(&at.org, &agent, &unbind).await?;
        }
        self.erase(&at, Some(version), |view| view.remove_connection(&at.org, &id)).await?;
        let name = self.index.name(&at.org, Named::Connection, &record.name);
        Ok(self.rows.delete(&name, None).await?)
    }

    /// Reads a connection anew; the view follows, as in `read_agent`.
    pub(super) async fn read_connection(
        &self,
        at: &At,
        id: &ConnectionId,
    ) -> Result<Read<ConnectionRecord>, DirectoryError> {
        let read = self.rows.read::<ConnectionRecord>(at).await?;
        let seen = self.view.load().connection(&at.org, id).cloned();
        match read {
            Some(read) => {
                if seen.as_deref() != Some(&read.record) {
                    self.publish(|view| view.put_connection(Arc::new(read.record.clone())));
                }
                Ok(read)
            }
            None => {
                if seen.is_some() {
                    self.publish(|view| view.remove_connection(&at.org, id));
                }
                Err(DirectoryError::not_found("connection", id))
            }
        }
    }

    fn check_update(
        &self,
        before: &ConnectionRecord,
        after: &ConnectionRecord,
    ) -> Result<(), DirectoryError> {
        let fixed = [
            ("id", before.id != after.id),
            ("org", before.org != after.org),
            ("provider", before.provider != after.provider),
            ("time of making", before.created != after.created),
        ];
        if let Some((field, _)) = fixed.iter().find(|(_, changed)| *changed) {
            return Err(DirectoryError::Fixed(field));
        }
        check::connection_name(&after.name)?;
        check::environment(after.environment.as_deref())?;
        after.about.check()?;
        after.secret.check()?;
        check::visibility(after)?;
        after.about.check()?;
        after.secret.check()?;
        if before.owner != after.owner {
            self.needs_owner(&after.org, after.owner.as_ref())?;
        }
        let of = |record: &ConnectionRecord| {
            (record.environment.clone(), record.owner.clone(), record.visibility)
        };
        if of(before) == of(after) {
            return Ok(());
        }
        let view = self.view.load();
        let bound = self.bound_agents(&after.org, &after.id);
        let mut bound = bound.iter().filter_map(|agent| view.agent(&after.org, agent));
        bound.try_for_each(|agent| check::may_bind(agent, after))
    }

    fn bound_agents(&self, org: &OrgId, connection: &ConnectionId) -> Vec<AgentId> {
        let view = self.view.load();
        let bound = view
            .agents()
            .filter(|agent| agent.org == *org && agent.facts.binding(connection).is_some())
            .map(|agent| agent.id.clone());
        bound.collect()
    }
}

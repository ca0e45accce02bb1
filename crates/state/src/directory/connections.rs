//! Connections as a [`Stored`] resource: the checks against their owner, their agents and stored rules. Their grants
//! belong to the vault, which stores a grant before it puts the metadata here.

use std::sync::Arc;

use super::commit::RecordChange;
use super::error::DirectoryError;
use super::index::NameKind;
use super::records::{AgentRecord, ConnectionRecord, Selection};
use super::rows::RowId;
use super::stored::{Stored, stored_in};
use super::view::View;
use super::{Directory, DirectoryWriter, check, plain_kinds};
use crate::store::Table;
use keyward_base::id::{AgentId, ConnectionId, OrgId};
use keyward_model::{
    Agent, BrokenReason, Connection, ConnectionState, LostConnection, ManagedBy, Record,
};

impl Stored for Connection {
    const TABLE: Table = Table::Connections;
    const NAMED: NameKind = NameKind::Connection;

    stored_in!(connections);

    fn add_to_indexes(view: &mut View, record: &Arc<Record<Self>>) {
        view.selected.add(record);
        *view.org_mut(&record.org).in_state.entry(record.facts.state.code()).or_default() += 1;
    }

    fn remove_from_indexes(view: &mut View, record: &Arc<Record<Self>>) {
        view.selected.remove(record);
        let org = view.known_org_mut(&record.org);
        if let Some(count) = org.and_then(|it| it.in_state.get_mut(record.facts.state.code())) {
            *count -= 1;
        }
    }

    fn may_add(record: &Record<Self>, view: &View) -> Result<(), DirectoryError> {
        check::owner(view, &record.org, record.facts.owner.as_ref())?;
        check::visibility(record)
    }

    /// Environment and owner must fit the agents that are bound to it.
    fn may_change(
        before: &Record<Self>,
        after: &Record<Self>,
        view: &View,
    ) -> Result<(), DirectoryError> {
        check::visibility(after)?;
        if before.facts.owner != after.facts.owner {
            check::owner(view, &after.org, after.facts.owner.as_ref())?;
        }
        let may_use = |it: &ConnectionRecord| {
            (it.environment.clone(), it.facts.owner.clone(), it.facts.visibility)
        };
        if may_use(before) == may_use(after) {
            return Ok(());
        }
        let mut bound = bound_agents(view, &after.org, &after.id);
        bound.try_for_each(|agent| check::may_bind(agent, after))
    }

    /// Anyone may remove a connection that was removed from the configuration file.
    fn may_remove(record: &Record<Self>, by: ManagedBy, view: &View) -> Result<(), DirectoryError> {
        match record.facts.state {
            ConnectionState::Paused if !record.facts.held => {}
            _ => check::editable(record, by)?,
        }
        check::named_by_no_rule(record, view)?;
        plain_kinds::named_by_none(record, by, view)
    }

    /// Its bindings are removed with it.
    async fn removal<'a>(
        writer: &'a DirectoryWriter,
        record: &'a Record<Self>,
        change: &'a mut RecordChange,
    ) -> Result<(), DirectoryError> {
        let lost = LostConnection {
            name: record.name.clone(),
            provider: record.provider.clone(),
            auth: record.auth.clone(),
            variables: record.host_variables(),
            placeholders: None,
        };
        let view = writer.view.load_full();
        let bound = bound_agents(&view, &record.org, &record.id);
        let bound: Vec<AgentId> = bound.map(|agent| agent.id.clone()).collect();
        for agent in bound {
            let at = RowId::new(Table::Agents, &record.org, &agent);
            let read = match writer.read::<Agent>(&at).await {
                Err(DirectoryError::NotFound { .. }) => continue,
                read => read?,
            };
            let mut after = read.record.clone();
            after.facts.unbind_removed(&record.id, lost.clone());
            writer.change_in(change, &read, after)?;
        }
        Ok(())
    }
}

impl View {
    /// Connections whose secret is due at some time, or is being rotated.
    pub fn dated_connections(&self) -> impl Iterator<Item = &Arc<ConnectionRecord>> {
        self.found(&self.selected.dated)
    }

    /// Connections with fields in secret sources.
    pub fn referring_connections(&self) -> impl Iterator<Item = &Arc<ConnectionRecord>> {
        self.found(&self.selected.referring)
    }

    fn found<'a>(
        &'a self,
        selection: &'a Selection,
    ) -> impl Iterator<Item = &'a Arc<ConnectionRecord>> {
        selection.keys().filter_map(|(org, id)| self.connection(org, id))
    }
}

impl Directory {
    /// Pauses or resumes a connection. Resuming also repairs a connection that a failed test broke; one that is
    /// broken for another reason stays broken. Writes only if the state changes. One of the file may be paused by a person, who
    /// alone can resume it then.
    ///
    /// # Errors
    /// When the file manages it and has paused it (and `by` is not the file), or there is no such connection.
    pub async fn set_connection_paused(
        &self,
        org: &OrgId,
        id: &ConnectionId,
        paused: bool,
        by: ManagedBy,
    ) -> Result<Arc<ConnectionRecord>, DirectoryError> {
        if let Some(connection) = self.view().connection(org, id)
            && !paused
            && !connection.facts.held
        {
            check::editable(connection, by)?;
        }
        self.change::<Connection>(org, id, |connection| {
            let is_usable = connection.facts.state.is_usable();
            if is_usable || !paused || by == ManagedBy::File {
                connection.facts.held = is_usable && paused && connection.managed_by != by;
            }
            match (&connection.facts.state, paused) {
                (ConnectionState::Active | ConnectionState::Testing, true) => {
                    connection.facts.state = ConnectionState::Paused
                }
                // The test of a person broke the connection, so a person may override the result.
                (
                    ConnectionState::Paused
                    | ConnectionState::Broken { reason: BrokenReason::TestFailed, .. },
                    false,
                ) => connection.facts.state = ConnectionState::Active,
                _ => {}
            }
        })
        .await
    }
}

fn bound_agents<'a>(
    view: &'a View,
    org: &OrgId,
    connection: &'a ConnectionId,
) -> impl Iterator<Item = &'a Arc<AgentRecord>> {
    view.holders(org, connection).filter(move |agent| agent.facts.binding(connection).is_some())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use jiff::Timestamp;

    use super::*;
    use keyward_model::{ConnectionFacts, ConnectionSpec, FieldReference, ManagedBy, Record};

    #[test]
    fn connections_with_a_date_or_a_reference_are_selected_until_it_is_removed() {
        let named = |name: &str| -> ConnectionRecord {
            let spec = ConnectionSpec { name: name.to_owned(), ..ConnectionSpec::default() };
            let (org, by) = (OrgId::default_org(), ManagedBy::Store);
            Record::new(&org, by, spec, ConnectionFacts::default(), Timestamp::UNIX_EPOCH)
        };
        let (plain, mut dated, mut refers) = (named("plain"), named("dated"), named("refers"));
        dated.rotate_every = Some(Duration::from_secs(90 * 86_400));
        let (from, reference) = ("files".to_owned(), "key".to_owned());
        refers.references.insert("api_key".to_owned(), FieldReference { from, reference });
        let view = View::of([], [plain, dated.clone(), refers.clone()].map(Arc::new));
        let dates =
            |view: &View| view.dated_connections().map(|it| it.name.clone()).collect::<Vec<_>>();
        let references = |view: &View| {
            view.referring_connections().map(|it| it.name.clone()).collect::<Vec<_>>()
        };
        assert_eq!(
            (dates(&view), references(&view)),
            (vec!["dated".to_owned()], vec!["refers".to_owned()])
        );
        dated.rotate_every = None;
        refers.references.clear();
        let view = view.with(Arc::new(dated)).with(Arc::new(refers));
        assert!(dates(&view).is_empty() && references(&view).is_empty());
    }
}

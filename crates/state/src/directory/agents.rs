//! Agents as a [`Stored`] resource: their unique tokens, and the checks of their owner and environment. `tokens.rs` issues
//! tokens, `bindings.rs` binds connections.

use std::iter;
use std::sync::Arc;

use super::error::DirectoryError;
use super::holders::NamedConnections;
use super::index::{Index, NameKind, Unique};
use super::records::ManagedBy;
use super::stored::{Stored, stored_in};
use super::view::View;
use super::{DirectoryWriter, check};
use crate::store::Table;
use keyward_model::{Agent, Record};

impl Stored for Agent {
    const TABLE: Table = Table::Agents;
    const NAMED: NameKind = NameKind::Agent;

    stored_in!(agents);

    fn unique(record: &Record<Self>, index: &Index) -> Vec<Unique> {
        let name = index.unique_name(&record.org, Self::NAMED, record.name());
        let tokens = record.facts.tokens.iter();
        let tokens = tokens.filter_map(|token| index.unique_token(&token.hash));
        iter::once(name).chain(tokens).collect()
    }

    fn add_to_indexes(view: &mut View, record: &Arc<Record<Self>>) {
        view.put_tokens(record);
    }

    fn remove_from_indexes(view: &mut View, record: &Arc<Record<Self>>) {
        view.remove_tokens(record);
    }

    fn held(record: &Record<Self>) -> Option<NamedConnections> {
        let connections = record.facts.bindings.iter().map(|it| it.connection.clone());
        Some(NamedConnections { agent: record.id.clone(), connections: connections.collect() })
    }

    fn may_add(record: &Record<Self>, view: &View) -> Result<(), DirectoryError> {
        check::owner(view, &record.org, record.facts.owner.as_ref())
    }

    /// The agent's connections must fit its environment and its owner.
    fn may_change(
        before: &Record<Self>,
        after: &Record<Self>,
        view: &View,
    ) -> Result<(), DirectoryError> {
        if before.facts.owner != after.facts.owner {
            check::owner(view, &after.org, after.facts.owner.as_ref())?;
        } else if before.environment == after.environment {
            return Ok(());
        }
        let bound = after.facts.bindings.iter();
        let mut bound = bound.filter_map(|it| view.connection(&after.org, &it.connection));
        bound.try_for_each(|connection| check::may_bind(after, connection))
    }

    fn may_remove(record: &Record<Self>, by: ManagedBy, view: &View) -> Result<(), DirectoryError> {
        check::removable(record, by)?;
        check::named_by_no_rule(record, view)
    }

    async fn after_removal(
        writer: DirectoryWriter,
        record: Record<Self>,
    ) -> Result<(), DirectoryError> {
        writer.remove_plugins_of(&record.org, &record.id).await
    }
}

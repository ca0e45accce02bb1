//! Database listeners as a [`Stored`] resource: the agent and the connection that one names must exist.

use keyward_model::{DatabaseListener, Record};

use super::error::DirectoryError;
use super::index::NameKind;
use super::stored::{Stored, stored_in};
use super::view::View;
use crate::store::Table;

impl Stored for DatabaseListener {
    const TABLE: Table = Table::DatabaseListeners;
    const NAMED: NameKind = NameKind::DatabaseListener;

    stored_in!(database_listeners);

    fn may_add(record: &Record<Self>, view: &View) -> Result<(), DirectoryError> {
        has_connection(record, view)?;
        has_agent(record, view)
    }

    /// Agent and connection that the listener named before may have been removed: then the listener is closed.
    fn may_change(
        before: &Record<Self>,
        after: &Record<Self>,
        view: &View,
    ) -> Result<(), DirectoryError> {
        if before.connection != after.connection {
            has_connection(after, view)?;
        }
        if before.agent != after.agent {
            has_agent(after, view)?;
        }
        Ok(())
    }
}

fn has_connection(record: &Record<DatabaseListener>, view: &View) -> Result<(), DirectoryError> {
    let Some(named) = &record.connection else { return Ok(()) };
    let found = named.id().and_then(|id| view.connection(&record.org, id));
    found.map(|_| ()).ok_or_else(|| DirectoryError::not_found("connection", named))
}

fn has_agent(record: &Record<DatabaseListener>, view: &View) -> Result<(), DirectoryError> {
    let Some(named) = &record.agent else { return Ok(()) };
    let found = named.id().and_then(|id| view.agent(&record.org, id));
    found.map(|_| ()).ok_or_else(|| DirectoryError::not_found("agent", named))
}

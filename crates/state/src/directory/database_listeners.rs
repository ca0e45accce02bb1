//! Database listeners as a [`Stored`] resource: the agent and the connection that one names must exist.

use keyward_model::{Agent, Connection, DatabaseListener, Record};

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
        view.has_named::<Connection>(&record.org, record.connection.as_ref())?;
        view.has_named::<Agent>(&record.org, record.agent.as_ref())
    }

    /// Agent and connection that the listener named before may have been removed: then the listener is closed.
    fn may_change(
        before: &Record<Self>,
        after: &Record<Self>,
        view: &View,
    ) -> Result<(), DirectoryError> {
        if before.connection != after.connection {
            view.has_named::<Connection>(&after.org, after.connection.as_ref())?;
        }
        if before.agent != after.agent {
            view.has_named::<Agent>(&after.org, after.agent.as_ref())?;
        }
        Ok(())
    }
}

//! Database listeners as a [`Stored`] resource: the agent and the connection that one names must exist.

use keyward_model::{DatabaseListener, Record};

use super::collection::Collection;
use super::error::DirectoryError;
use super::index::NameKind;
use super::stored::Stored;
use super::view::{OrgView, View};
use crate::store::Table;

impl Stored for DatabaseListener {
    const TABLE: Table = Table::DatabaseListeners;
    const NAMED: NameKind = NameKind::DatabaseListener;

    fn of(org: &OrgView) -> &Collection<Self> {
        &org.database_listeners
    }

    fn of_mut(org: &mut OrgView) -> &mut Collection<Self> {
        &mut org.database_listeners
    }

    fn may_add(record: &Record<Self>, view: &View) -> Result<(), DirectoryError> {
        refers_to_what_exists(record, view)
    }

    fn may_change(
        _: &Record<Self>,
        after: &Record<Self>,
        view: &View,
    ) -> Result<(), DirectoryError> {
        refers_to_what_exists(after, view)
    }
}

fn refers_to_what_exists(
    record: &Record<DatabaseListener>,
    view: &View,
) -> Result<(), DirectoryError> {
    if let Some(named) = &record.connection {
        let found = named.id().and_then(|id| view.connection(&record.org, id));
        found.ok_or_else(|| DirectoryError::not_found("connection", named))?;
    }
    if let Some(named) = &record.agent {
        let found = named.id().and_then(|id| view.agent(&record.org, id));
        found.ok_or_else(|| DirectoryError::not_found("agent", named))?;
    }
    Ok(())
}

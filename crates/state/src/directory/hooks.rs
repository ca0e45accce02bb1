//! Hooks as a [`Stored`] resource: the connection that a hook names must exist.

use keyward_model::{Hook, Record};

use super::collection::Collection;
use super::error::DirectoryError;
use super::index::NameKind;
use super::stored::Stored;
use super::view::{OrgView, View};
use crate::store::Table;

impl Stored for Hook {
    const TABLE: Table = Table::Hooks;
    const NAMED: NameKind = NameKind::Hook;

    fn of(org: &OrgView) -> &Collection<Self> {
        &org.hooks
    }

    fn of_mut(org: &mut OrgView) -> &mut Collection<Self> {
        &mut org.hooks
    }

    fn may_add(record: &Record<Self>, view: &View) -> Result<(), DirectoryError> {
        has_connection(record, view)
    }

    fn may_change(
        _: &Record<Self>,
        after: &Record<Self>,
        view: &View,
    ) -> Result<(), DirectoryError> {
        has_connection(after, view)
    }
}

fn has_connection(record: &Record<Hook>, view: &View) -> Result<(), DirectoryError> {
    let Some(named) = &record.connection else { return Ok(()) };
    let found = named.id().and_then(|id| view.connection(&record.org, id));
    found.map(|_| ()).ok_or_else(|| DirectoryError::not_found("connection", named))
}

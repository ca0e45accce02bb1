//! Hooks as a [`Stored`] resource: the connection that a hook names must exist, and stays while one names it.

use keyward_model::{Connection, Hook, ManagedBy, Record, Reference};

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

    /// A connection that was named before may be gone: earlier versions removed it.
    fn may_change(
        before: &Record<Self>,
        after: &Record<Self>,
        view: &View,
    ) -> Result<(), DirectoryError> {
        match before.connection == after.connection {
            true => Ok(()),
            false => has_connection(after, view),
        }
    }
}

/// Refuses to remove a connection that a hook names. One of the configuration that was taken out of it does not count:
/// only the configuration could change it.
pub(super) fn named_by_none(
    connection: &Record<Connection>,
    view: &View,
) -> Result<(), DirectoryError> {
    let names_it = |hook: &Record<Hook>| {
        let is_left = hook.managed_by == ManagedBy::File && hook.facts.paused;
        let named = hook.connection.as_ref().and_then(Reference::id);
        named == Some(&connection.id) && !is_left
    };
    let mut naming = view.all::<Hook>(&connection.org).filter(|hook| names_it(hook));
    match naming.next() {
        None => Ok(()),
        Some(hook) => Err(DirectoryError::NamedByHook {
            connection: connection.name().to_owned(),
            hook: hook.name().to_owned(),
        }),
    }
}

fn has_connection(record: &Record<Hook>, view: &View) -> Result<(), DirectoryError> {
    let Some(named) = &record.connection else { return Ok(()) };
    let found = named.id().and_then(|id| view.connection(&record.org, id));
    found.map(|_| ()).ok_or_else(|| DirectoryError::not_found("connection", named))
}

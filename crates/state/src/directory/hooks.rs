//! Hooks as a [`Stored`] resource: the connection that a hook names must exist, and cannot be removed while a hook
//! names it.

use std::sync::Arc;

use keyward_base::id::{ConnectionId, OrgId};
use keyward_model::{Connection, Hook, ManagedBy, Record, Reference};

use super::error::DirectoryError;
use super::index::NameKind;
use super::stored::{Stored, stored_in};
use super::view::View;
use crate::store::Table;

impl Stored for Hook {
    const TABLE: Table = Table::Hooks;
    const NAMED: NameKind = NameKind::Hook;

    stored_in!(hooks);

    fn may_add(record: &Record<Self>, view: &View) -> Result<(), DirectoryError> {
        view.has_named::<Connection>(&record.org, record.connection.as_ref())
    }

    /// A connection that the hook named before may be missing, because earlier versions removed it.
    fn may_change(
        before: &Record<Self>,
        after: &Record<Self>,
        view: &View,
    ) -> Result<(), DirectoryError> {
        match before.connection == after.connection {
            true => Ok(()),
            false => view.has_named::<Connection>(&after.org, after.connection.as_ref()),
        }
    }
}

impl View {
    /// The hooks of an organisation that name a connection.
    pub fn hooks_naming<'a>(
        &'a self,
        org: &'a OrgId,
        id: &'a ConnectionId,
    ) -> impl Iterator<Item = &'a Arc<Record<Hook>>> {
        let hooks = self.all::<Hook>(org);
        hooks.filter(move |hook| hook.connection.as_ref().and_then(Reference::id) == Some(id))
    }
}

/// Refuses to remove a connection that a hook names. Hooks of the configuration do not prevent a removal by the
/// configuration, which changes them too. Nor do hooks that were removed from the configuration, because only the
/// configuration could change them.
pub(super) fn named_by_none(
    connection: &Record<Connection>,
    by: ManagedBy,
    view: &View,
) -> Result<(), DirectoryError> {
    let counts = |hook: &Record<Hook>| match hook.managed_by {
        ManagedBy::Store => true,
        ManagedBy::File => by == ManagedBy::Store && !hook.facts.paused,
    };
    let mut naming = view.hooks_naming(&connection.org, &connection.id);
    match naming.find(|hook| counts(hook)) {
        None => Ok(()),
        Some(hook) => Err(DirectoryError::NamedByHook {
            connection: connection.name().to_owned(),
            hook: hook.name().to_owned(),
        }),
    }
}

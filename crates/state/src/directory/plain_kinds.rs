//! The kinds of which the directory needs little more than the table ([`Stored`]): apps, secret sources, hooks,
//! webhooks, database listeners and honeytokens. What a record names must exist, and cannot be removed while a record
//! names it. Secrets of apps belong to the vault, which stores a secret before it puts the record here.

use std::sync::Arc;

use super::error::DirectoryError;
use super::index::NameKind;
use super::records::{AppRecord, ConnectionRecord};
use super::stored::{Stored, stored_in};
use super::view::View;
use super::{DirectoryWriter, check};
use crate::store::Table;
use keyward_base::id::{ConnectionId, OrgId};
use keyward_model::{
    Agent, App, Connection, DatabaseListener, Honeytoken, Hook, ManagedBy, Record, Reference,
    References, Source, Webhook, WebhookState,
};

impl Stored for App {
    const TABLE: Table = Table::Apps;
    const NAMED: NameKind = NameKind::App;

    stored_in!(apps);

    /// Anyone may remove an app that was removed from the configuration file. An app that a connection uses stays.
    fn may_remove(record: &Record<Self>, by: ManagedBy, view: &View) -> Result<(), DirectoryError> {
        if !record.facts.paused {
            check::editable(record, by)?;
        }
        let mut connections = view.all::<Connection>(&record.org);
        match connections.find(|connection| connection.app_id() == Some(&record.id)) {
            None => Ok(()),
            Some(connection) => Err(DirectoryError::AppInUse {
                app: record.name.clone(),
                connection: connection.name.clone(),
            }),
        }
    }
}

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

impl Stored for Honeytoken {
    const TABLE: Table = Table::Honeytokens;
    const NAMED: NameKind = NameKind::Honeytoken;

    stored_in!(honeytokens);

    fn add_to_indexes(view: &mut View, record: &Arc<Record<Self>>) {
        let org = view.org_mut(&record.org);
        let (core, id) = (record.facts.placeholder.core(), record.id.clone());
        org.honeytoken_cores.put(core, id, |id| *id == record.id);
    }

    fn remove_from_indexes(view: &mut View, record: &Arc<Record<Self>>) {
        let org = view.org_mut(&record.org);
        org.honeytoken_cores.remove(&record.facts.placeholder.core(), |id| *id == record.id);
    }
}

impl Stored for Webhook {
    const TABLE: Table = Table::Webhooks;
    const NAMED: NameKind = NameKind::Webhook;

    stored_in!(webhooks);

    /// A webhook that was removed from the configuration file is paused, and anyone may remove it.
    fn may_remove(record: &Record<Self>, by: ManagedBy, _: &View) -> Result<(), DirectoryError> {
        match record.facts.state {
            WebhookState::Paused => Ok(()),
            _ => check::editor(record.managed_by, by, "webhook", record.name()),
        }
    }

    /// Deletes the pending deliveries, without the write lock: there may be many rows, and the next writer need not
    /// wait.
    async fn after_removal(
        writer: DirectoryWriter,
        record: Record<Self>,
    ) -> Result<(), DirectoryError> {
        let shared = writer.shared.clone();
        drop(writer);
        shared.delete_deliveries_of(&record.org, &record.id).await;
        Ok(())
    }
}

impl Stored for Source {
    const TABLE: Table = Table::Sources;
    const NAMED: NameKind = NameKind::Source;

    stored_in!(sources);

    /// Refuses the removal of a source that connections or apps use, because they would lose their values.
    fn may_remove(record: &Record<Self>, by: ManagedBy, view: &View) -> Result<(), DirectoryError> {
        check::editor(record.managed_by, by, "source", record.name())?;
        let (org, name) = (&record.org, record.name());
        let in_use = |what, user: &str| DirectoryError::SourceInUse {
            source_name: name.to_owned(),
            what,
            user: user.to_owned(),
        };
        if let Some(connection) = view.connections_of_source(org, name).next() {
            return Err(in_use("connection", &connection.name));
        }
        match view.apps_of_source(org, name).next() {
            None => Ok(()),
            Some(app) => Err(in_use("app", &app.name)),
        }
    }
}

impl View {
    /// The connections of an organisation with fields in this source.
    pub fn connections_of_source<'a>(
        &'a self,
        org: &'a OrgId,
        source: &'a str,
    ) -> impl Iterator<Item = &'a Arc<ConnectionRecord>> {
        let all = self.referring_connections();
        all.filter(move |it| it.org == *org && names(&it.references, source))
    }

    /// The apps of an organisation with secrets in this source.
    pub fn apps_of_source<'a>(
        &'a self,
        org: &'a OrgId,
        source: &'a str,
    ) -> impl Iterator<Item = &'a Arc<AppRecord>> {
        self.apps().filter(move |it| it.org == *org && names(&it.references, source))
    }
}

fn names(references: &References, source: &str) -> bool {
    references.values().any(|reference| reference.from == source)
}

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

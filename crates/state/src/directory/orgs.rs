//! Adds and removes organisations. The default organisation always exists and has no row. `viewed!` has the tables
//! whose records the view has, with the kind of each.

use std::sync::Arc;

use jiff::Timestamp;

use super::error::DirectoryError;
use super::index::IndexChange;
use super::rows::RowId;
use super::stored::Stored;
use super::view::View;
use super::{Directory, DirectoryWriter};
use crate::store::Table;
use keyward_base::id::OrgId;
use keyward_model::{ManagedBy, NoMembers, Org, OrgSpec, Record};

/// `$shown`, with the kind of the records of a table in the view; `$other` for tables that the view does not have.
macro_rules! viewed {
    ($table:expr, $kind:ident => $shown:expr, $other:expr) => {
        viewed!(@ $table, $kind, $shown, $other; Users User, Agents Agent, Connections Connection, Apps App,
            Plugins Plugin, Webhooks Webhook, Honeytokens Honeytoken, Providers OwnProvider, Rules Rule,
            Sessions Session, ConnectSessions ConnectSession, Logins Login, Hooks Hook,
            Sources Source, DatabaseListeners DatabaseListener)
    };
    (@ $table:expr, $kind:ident, $shown:expr, $other:expr; $($of:ident $record:ident),*) => {
        match $table {
            $($crate::store::Table::$of => {
                type $kind = keyward_model::$record;
                $shown
            })*
            _ => $other,
        }
    };
}
pub(super) use viewed;

pub(super) fn default_org() -> Record<Org> {
    record(OrgId::default_org(), ManagedBy::Store, Timestamp::UNIX_EPOCH)
}

fn record(id: OrgId, managed_by: ManagedBy, created: Timestamp) -> Record<Org> {
    let spec = OrgSpec { name: id.name().to_owned() };
    Record { org: id.clone(), id, spec, facts: NoMembers {}, managed_by, created, updated: None }
}

pub(super) fn at(org: &OrgId) -> RowId {
    RowId::new(Table::Orgs, org, "org")
}

impl Directory {
    /// Adds an empty organisation.
    ///
    /// # Errors
    /// When the name is taken.
    pub async fn add_org(
        &self,
        org: &OrgId,
        managed_by: ManagedBy,
    ) -> Result<Arc<Record<Org>>, DirectoryError> {
        let org = org.clone();
        self.write(|writer| async move { writer.add_org(org, managed_by).await }).await
    }

    /// Removes an empty organisation.
    ///
    /// # Errors
    /// When it is not empty, is the default one, or does not exist.
    pub async fn remove_org(&self, org: &OrgId) -> Result<(), DirectoryError> {
        // Another replica may have just added something to it.
        self.catch_up().await?;
        let org = org.clone();
        self.write(|writer| async move { writer.remove_org(org).await }).await
    }
}

impl DirectoryWriter {
    async fn add_org(
        &self,
        org: OrgId,
        managed_by: ManagedBy,
    ) -> Result<Arc<Record<Org>>, DirectoryError> {
        let taken =
            || DirectoryError::NameTaken { what: "organisation", name: org.name().to_owned() };
        if self.view.load().org(&org).is_some() {
            return Err(taken());
        }
        // Of an earlier organisation with the same name.
        for table in [Table::Usage, Table::Flows] {
            self.remove_rows_of(&org, table).await?;
        }
        let record = record(org.clone(), managed_by, self.clock.now());
        match self.commit(&at(&org), record, None, IndexChange::default()).await {
            Err(error) if error.is_conflict() => Err(taken()),
            added => added,
        }
    }

    async fn remove_org(&self, org: OrgId) -> Result<(), DirectoryError> {
        self.needs_org(&org)?;
        if org == OrgId::default_org() {
            return Err(DirectoryError::OrgIsDefault);
        }
        let view = self.view.load_full();
        if let Some((what, name)) = view.record_preventing_removal(&org) {
            let org = org.name().to_owned();
            return Err(DirectoryError::OrgInUse { org, what, name });
        }
        let after = self.viewed(|view| view.remove_org(&org));
        self.erase(&at(&org), None, Vec::new(), after).await?;
        if let (Some(_), Some(removed)) = (self.rows.store.shared(), view.org(&org)) {
            self.restore_if_used(removed).await?;
        }
        // Consents of connections that were removed before.
        if let Err(error) = self.remove_rows_of(&org, Table::Flows).await {
            tracing::warn!(%error, "consents of a removed organisation stay in the store");
        }
        Ok(())
    }

    /// Removes the rows of a table that have no place in the view, of an organisation that does not exist.
    async fn remove_rows_of(&self, org: &OrgId, table: Table) -> Result<(), DirectoryError> {
        for at in self.rows.places(table, org).await? {
            self.rows.delete(&at, None).await?;
        }
        Ok(())
    }

    /// Adds a removed organisation again if another replica has added a record to it that this one had not seen. A
    /// record that is added after the removal is withdrawn by its replica ([`Self::add_to_org`]).
    async fn restore_if_used(&self, removed: &Record<Org>) -> Result<(), DirectoryError> {
        let org = &removed.id;
        self.follow_org_records(org).await?;
        let Some((what, name)) = self.view.load().record_preventing_removal(org) else {
            self.publish(|view| view.remove_org(org));
            return Ok(());
        };
        self.commit(&at(org), removed.clone(), None, IndexChange::default()).await?;
        Err(DirectoryError::OrgInUse { org: org.name().to_owned(), what, name })
    }

    /// Adds a record, and withdraws it if another replica has removed its organisation meanwhile: the next organisation
    /// of that name would get it.
    pub(super) async fn add_to_org<R: Stored>(
        &self,
        record: Record<R>,
    ) -> Result<Arc<Record<R>>, DirectoryError> {
        let added = self.add(record).await?;
        let org = &added.org;
        let is_shared = self.rows.store.shared().is_some();
        if !is_shared
            || *org == OrgId::default_org()
            || self.rows.version(&at(org)).await?.is_some()
        {
            return Ok(added);
        }
        let row = RowId::new(R::TABLE, org, &added.id);
        let index = R::unique(&added, &self.index).into_iter().map(|unique| unique.at).collect();
        let after = self.viewed(|view| view.take_out::<R>(org, &added.id));
        self.erase(&row, None, index, after).await?;
        Err(DirectoryError::not_found("organisation", org.name()))
    }

    /// Refuses an organisation that does not exist.
    pub(super) fn needs_org(&self, org: &OrgId) -> Result<(), DirectoryError> {
        match self.view.load().org(org) {
            Some(_) => Ok(()),
            None => Err(DirectoryError::not_found("organisation", org.name())),
        }
    }
}

impl View {
    /// Removes an organisation with all its records, which are also in indexes of the whole store. The next organisation
    /// of its name has the same id.
    pub(super) fn remove_org(&mut self, org: &OrgId) {
        for table in Table::ALL {
            viewed!(table, R => self.take_all_out::<R>(org), ());
        }
        self.forget_org(org);
    }

    fn take_all_out<R: Stored>(&mut self, org: &OrgId) {
        let ids: Vec<_> = self.all::<R>(org).map(|record| record.id.clone()).collect();
        ids.iter().for_each(|id| self.take_out::<R>(org, id));
    }
}

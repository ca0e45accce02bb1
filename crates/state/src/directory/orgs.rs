//! Adds and removes organisations. The default organisation always exists and has no row.

use std::sync::Arc;

use jiff::Timestamp;

use super::commit::RecordChange;
use super::error::DirectoryError;
use super::rows::{RowId, RowWrite};
use super::stored::Stored;
use super::tables::{KeepsOrg, keeps_org, viewed};
use super::view::View;
use super::{Directory, DirectoryWriter};
use crate::store::Table;
use keyward_base::id::OrgId;
use keyward_model::{ManagedBy, NoMembers, Org, OrgSpec, Record};

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
        let mut change = RecordChange::default();
        let added = change.write(at(&org), None, record)?;
        match self.commit(change).await {
            Err(error) if error.is_conflict() => Err(taken()),
            made => made.map(|()| added),
        }
    }

    /// A record that is added to the organisation by another replica is added before the removal, which fails then, or not
    /// at all ([`Self::need_org`]).
    async fn remove_org(&self, org: OrgId) -> Result<(), DirectoryError> {
        if self.view.load().org(&org).is_none() {
            return Err(no_org(&org));
        }
        if org == OrgId::default_org() {
            return Err(DirectoryError::OrgIsDefault);
        }
        self.refuse_if_used(&org)?;
        let mut change = RecordChange::default();
        change.delete(at(&org), None);
        for table in Table::ALL.into_iter().filter(|table| keeps_org(*table) != KeepsOrg::Not) {
            change.add(RowWrite::NoneOf(table, org.clone()));
        }
        let removed = org.clone();
        change.show(move |view| view.remove_org(&removed));
        let removed = self.commit(change).await;
        if removed.as_ref().is_err_and(DirectoryError::is_conflict) {
            self.follow_org_records(&org).await?;
            self.refuse_if_used(&org)?;
        }
        removed?;
        // Consents of connections that were removed before.
        if let Err(error) = self.remove_rows_of(&org, Table::Flows).await {
            tracing::warn!(%error, "consents of a removed organisation stay in the store");
        }
        Ok(())
    }

    fn refuse_if_used(&self, org: &OrgId) -> Result<(), DirectoryError> {
        match self.view.load().record_preventing_removal(org) {
            None => Ok(()),
            Some((what, name)) => {
                Err(DirectoryError::OrgInUse { org: org.name().to_owned(), what, name })
            }
        }
    }

    /// Removes the rows of a table that have no place in the view, of an organisation that does not exist.
    async fn remove_rows_of(&self, org: &OrgId, table: Table) -> Result<(), DirectoryError> {
        for at in self.rows.places(table, org).await? {
            self.rows.delete(&at, None).await?;
        }
        Ok(())
    }

    /// Refuses a change unless the organisation exists when it is made.
    pub(super) fn need_org(
        &self,
        change: &mut RecordChange,
        org: &OrgId,
    ) -> Result<(), DirectoryError> {
        if self.view.load().org(org).is_none() {
            return Err(no_org(org));
        }
        if *org != OrgId::default_org() {
            change.need(at(org), no_org(org));
        }
        Ok(())
    }
}

fn no_org(org: &OrgId) -> DirectoryError {
    DirectoryError::not_found("organisation", org.name())
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

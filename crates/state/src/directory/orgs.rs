//! Organisations: made and removed. Nothing of one exists for another; the default one is always
//! there and has no row.

use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::error::DirectoryError;
use super::records::ManagedBy;
use super::rows::At;
use super::{Directory, Writer};
use crate::store::Table;
use keyward_base::id::OrgId;

/// An organisation. Its id says its name.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct OrgRecord {
    /// Its id.
    pub id: OrgId,
    /// Who made it.
    pub managed_by: ManagedBy,
    /// When it was made.
    pub created: Timestamp,
}

impl OrgRecord {
    /// The organisation of a fresh install.
    pub(super) fn default_one() -> Self {
        let (id, created) = (OrgId::default_org(), Timestamp::UNIX_EPOCH);
        Self { id, managed_by: ManagedBy::Store, created }
    }

    fn at(org: &OrgId) -> At {
        At::new(Table::Orgs, org, "org")
    }

    pub(super) fn is_at(&self, at: &At) -> bool {
        *at == Self::at(&self.id)
    }
}

impl Directory {
    /// Makes one, empty.
    ///
    /// # Errors
    /// When there is one of this name.
    pub async fn add_org(
        &self,
        org: &OrgId,
        managed_by: ManagedBy,
    ) -> Result<Arc<OrgRecord>, DirectoryError> {
        let org = org.clone();
        self.write(|writer| async move { writer.add_org(org, managed_by).await }).await
    }

    /// Removes one that has nothing any more.
    ///
    /// # Errors
    /// When it has something, is the default one, or there is none.
    pub async fn remove_org(&self, org: &OrgId) -> Result<(), DirectoryError> {
        let org = org.clone();
        self.write(|writer| async move { writer.remove_org(org).await }).await
    }
}

impl Writer {
    async fn add_org(
        &self,
        org: OrgId,
        managed_by: ManagedBy,
    ) -> Result<Arc<OrgRecord>, DirectoryError> {
        let taken =
            || DirectoryError::NameTaken { what: "organisation", name: org.name().to_owned() };
        if self.view.load().org(&org).is_some() {
            return Err(taken());
        }
        let record = OrgRecord { id: org.clone(), managed_by, created: self.clock.now() };
        match self.commit(&OrgRecord::at(&org), record, None).await {
            Err(error) if error.is_conflict() => Err(taken()),
            added => added,
        }
    }

    async fn remove_org(&self, org: OrgId) -> Result<(), DirectoryError> {
        self.needs_org(&org)?;
        if org == OrgId::default_org() {
            return Err(DirectoryError::OrgStays);
        }
        if let Some((what, name)) = self.view.load().something_of(&org) {
            let org = org.name().to_owned();
            return Err(DirectoryError::OrgInUse { org, what, name });
        }
        self.erase(&OrgRecord::at(&org), None, |view| view.remove_org(&org)).await
    }

    /// Refuses to make anything in an organisation that there is not.
    pub(super) fn needs_org(&self, org: &OrgId) -> Result<(), DirectoryError> {
        match self.view.load().org(org) {
            Some(_) => Ok(()),
            None => Err(DirectoryError::not_found("organisation", org.name())),
        }
    }
}

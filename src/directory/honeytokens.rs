//! Honeytokens: placeholders that are bound to nothing. Nobody has a reason to send one.

use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::error::DirectoryError;
use super::index::Named;
use super::records::ManagedBy;
use super::rows::{At, Read};
use super::{Directory, Writer, check};
use crate::base::id::{HoneytokenId, OrgId};
use crate::inject::placeholder::Placeholder;
use crate::store::Table;

/// Honeytokens of one organisation.
pub const HONEYTOKENS_MAX: usize = 1_000;

/// A honeytoken. No secret: it opens nothing.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct HoneytokenRecord {
    /// Its id.
    pub id: HoneytokenId,
    /// Its org: only its agents raise an alarm with it.
    pub org: OrgId,
    /// Unique among the org's honeytokens: where it was left.
    pub name: String,
    /// What is left there.
    pub placeholder: Placeholder,
    /// Whose keys' shape that has; `None`: nobody's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider: Option<String>,
    /// Whether the token of the agent that sends it is revoked.
    pub revokes: bool,
    /// Who may edit it.
    #[serde(default)]
    pub managed_by: ManagedBy,
    /// When it was made.
    pub created: Timestamp,
}

/// A new one.
#[derive(Clone, Debug)]
pub struct NewHoneytoken {
    /// Unique among the org's honeytokens.
    pub name: String,
    /// What is left there.
    pub placeholder: Placeholder,
    /// Whose keys' shape that has.
    pub provider: Option<String>,
    /// Whether the token of the agent that sends it is revoked.
    pub revokes: bool,
    /// Who may edit it.
    pub managed_by: ManagedBy,
}

impl Directory {
    /// Makes one.
    ///
    /// # Errors
    /// When the name is taken or cannot be one, or there are too many.
    pub async fn add_honeytoken(
        &self,
        org: &OrgId,
        new: NewHoneytoken,
    ) -> Result<Arc<HoneytokenRecord>, DirectoryError> {
        check::honeytoken_name(&new.name)?;
        let record = HoneytokenRecord {
            id: HoneytokenId::random(),
            org: org.clone(),
            name: new.name,
            placeholder: new.placeholder,
            provider: new.provider,
            revokes: new.revokes,
            managed_by: new.managed_by,
            created: self.shared.clock.now(),
        };
        self.write(|writer| async move { writer.add_honeytoken(record).await }).await
    }

    /// Whether the token of whoever sends it is revoked, from now on.
    ///
    /// # Errors
    /// When there is none.
    pub async fn set_honeytoken_revokes(
        &self,
        org: &OrgId,
        id: &HoneytokenId,
        revokes: bool,
    ) -> Result<Arc<HoneytokenRecord>, DirectoryError> {
        let at = At::new(Table::Honeytokens, org, id);
        self.write(|writer| async move {
            let Read { record, version } = writer.read_honeytoken(&at).await?;
            writer.commit(&at, HoneytokenRecord { revokes, ..record }, Some(version)).await
        })
        .await
    }

    /// Removes one: it is a placeholder that nobody knows then.
    ///
    /// # Errors
    /// When there is none, or the file manages it (and `by` is not the file).
    pub async fn remove_honeytoken(
        &self,
        org: &OrgId,
        id: &HoneytokenId,
        by: ManagedBy,
    ) -> Result<(), DirectoryError> {
        let at = At::new(Table::Honeytokens, org, id);
        self.write(|writer| async move { writer.remove_honeytoken(at, by).await }).await
    }
}

impl Writer {
    async fn add_honeytoken(
        &self,
        record: HoneytokenRecord,
    ) -> Result<Arc<HoneytokenRecord>, DirectoryError> {
        self.needs_org(&record.org)?;
        if self.view.load().honeytokens(&record.org).count() >= HONEYTOKENS_MAX {
            return Err(DirectoryError::TooMany { what: "honeytokens", max: HONEYTOKENS_MAX });
        }
        let name = self.index.name(&record.org, Named::Honeytoken, &record.name);
        self.take_name(&name, &record.id, (Named::Honeytoken, &record.name)).await?;
        let at = At::new(Table::Honeytokens, &record.org, &record.id);
        let added = self.commit(&at, record, None).await;
        if added.is_err() {
            self.give_back(&[name]).await;
        }
        added
    }

    async fn read_honeytoken(&self, at: &At) -> Result<Read<HoneytokenRecord>, DirectoryError> {
        let read = self.rows.read(at).await?;
        read.ok_or_else(|| DirectoryError::not_found("honeytoken", &at.id))
    }

    async fn remove_honeytoken(&self, at: At, by: ManagedBy) -> Result<(), DirectoryError> {
        let Read { record, version } = self.read_honeytoken(&at).await?;
        check::editor(record.managed_by, by, ("honeytoken", &record.name))?;
        self.erase(&at, Some(version), |view| view.remove_honeytoken(&record)).await?;
        let name = self.index.name(&at.org, Named::Honeytoken, &record.name);
        Ok(self.rows.delete(&name, None).await?)
    }
}

//! Honeytokens: placeholders that are bound to nothing. Nobody has a reason to send one.

use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::error::DirectoryError;
use super::index::Named;
use super::rows::{At, Read};
use super::{Directory, Writer, check};
use crate::base::id::{HoneytokenId, OrgId};
use crate::inject::placeholder::Placeholder;
use crate::store::Table;

/// Honeytokens of one organisation.
const HONEYTOKENS_MAX: usize = 1_000;

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
    /// Whether the token of the agent that sends it is revoked.
    pub revokes: bool,
    /// When it was made.
    pub created: Timestamp,
}

impl Directory {
    /// Makes one.
    ///
    /// # Errors
    /// When the name is taken or cannot be one, or there are too many.
    pub async fn add_honeytoken(
        &self,
        org: &OrgId,
        name: String,
        (placeholder, revokes): (Placeholder, bool),
    ) -> Result<Arc<HoneytokenRecord>, DirectoryError> {
        check::honeytoken_name(&name)?;
        let (id, created) = (HoneytokenId::random(), self.shared.clock.now());
        let org = org.clone();
        let record = HoneytokenRecord { id, org, name, placeholder, revokes, created };
        self.write(|writer| async move { writer.add_honeytoken(record).await }).await
    }

    /// Removes one: it is a placeholder that nobody knows then.
    ///
    /// # Errors
    /// When there is none.
    pub async fn remove_honeytoken(
        &self,
        org: &OrgId,
        id: &HoneytokenId,
    ) -> Result<(), DirectoryError> {
        let at = At::new(Table::Honeytokens, org, id);
        self.write(|writer| async move { writer.remove_honeytoken(at).await }).await
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

    async fn remove_honeytoken(&self, at: At) -> Result<(), DirectoryError> {
        let read = self.rows.read::<HoneytokenRecord>(&at).await?;
        let Some(Read { record, version }) = read else {
            return Err(DirectoryError::not_found("honeytoken", &at.id));
        };
        self.erase(&at, Some(version), |view| view.remove_honeytoken(&record)).await?;
        let name = self.index.name(&at.org, Named::Honeytoken, &record.name);
        Ok(self.rows.delete(&name, None).await?)
    }
}

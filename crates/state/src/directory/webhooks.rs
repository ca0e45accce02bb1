//! Webhooks: where people want to be told what happens. What is signed with is `events/`'s.

use std::collections::BTreeSet;
use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::error::DirectoryError;
use super::index::Named;
use super::records::ManagedBy;
use super::rows::{At, Read};
use super::{Directory, Writer, agents, check};
use crate::observe::notice::NoticeKind;
use crate::store::{StoreError, Table};
use keyward_base::host::{Scheme, Target};
use keyward_base::id::{OrgId, WebhookId};

/// Webhooks of one organisation.
pub const WEBHOOKS_MAX: usize = 50;

/// Bytes of a URL.
const URL_BYTES_MAX: usize = 2_048;

/// Somewhere that is told what happens: safe to show, but for a URL whose path is a secret.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct WebhookRecord {
    /// Its id.
    pub id: WebhookId,
    /// Its org: it is told nothing of another one.
    pub org: OrgId,
    /// Unique among the org's webhooks.
    pub name: String,
    /// Where events are posted: https, or http to this machine.
    pub url: String,
    /// Of which events; empty: of all.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub kinds: BTreeSet<NoticeKind>,
    /// Whether it is told.
    pub state: WebhookState,
    /// Who may edit it.
    pub managed_by: ManagedBy,
    /// When it was made.
    pub created: Timestamp,
    /// When it was last changed.
    pub updated: Timestamp,
}

/// Whether a webhook is told what happens.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum WebhookState {
    /// It is.
    Active,
    /// By a person, or taken out of the file: what happens meanwhile is not told later.
    Paused,
    /// It answered 410: it wants nothing any more.
    Gone,
    /// It took nothing for as long as is tried.
    Failed,
}

/// A new one.
#[derive(Clone, Debug)]
pub struct NewWebhook {
    /// Unique among the org's webhooks.
    pub name: String,
    /// Where events are posted.
    pub url: String,
    /// Of which events; empty: of all.
    pub kinds: BTreeSet<NoticeKind>,
    /// Who may edit it.
    pub managed_by: ManagedBy,
}

impl WebhookState {
    /// The stable name, as in JSON.
    pub fn code(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Paused => "paused",
            Self::Gone => "gone",
            Self::Failed => "failed",
        }
    }
}

impl WebhookRecord {
    /// Whether it is told of such events.
    pub fn wants(&self, kind: NoticeKind) -> bool {
        self.state == WebhookState::Active && (self.kinds.is_empty() || self.kinds.contains(&kind))
    }

    /// Whether this side may edit it.
    ///
    /// # Errors
    /// [`DirectoryError::ManagedByFile`] when only the file may.
    pub fn editable(&self, by: ManagedBy) -> Result<(), DirectoryError> {
        check::editor(self.managed_by, by, ("webhook", &self.name))
    }
}

/// Whether events can be posted there.
///
/// # Errors
/// When it is no https URL with a host, nor an http URL of this machine, or holds a password.
pub fn check_webhook_url(url: &str) -> Result<(), DirectoryError> {
    let parsed: Option<http::Uri> = url.parse().ok().filter(|_| url.len() <= URL_BYTES_MAX);
    let is_one = parsed.and_then(|uri| {
        let authority = uri.authority()?.as_str();
        match uri.scheme_str()? {
            "https" => Target::parse(Scheme::Https, authority).ok().map(|_| true),
            "http" => Some(Target::parse(Scheme::Http, authority).ok()?.host().is_this_machine()),
            _ => None,
        }
    });
    match is_one {
        Some(true) => Ok(()),
        _ => Err(DirectoryError::WebhookUrl { bytes_max: URL_BYTES_MAX }),
    }
}

impl Directory {
    /// Makes one.
    ///
    /// # Errors
    /// When the name is taken or cannot be one, the URL cannot be posted to, or there are too many.
    pub async fn add_webhook(
        &self,
        org: &OrgId,
        new: NewWebhook,
    ) -> Result<Arc<WebhookRecord>, DirectoryError> {
        check::webhook_name(&new.name)?;
        check_webhook_url(&new.url)?;
        let now = self.shared.clock.now();
        let record = WebhookRecord {
            id: WebhookId::random(),
            org: org.clone(),
            name: new.name,
            url: new.url,
            kinds: new.kinds,
            state: WebhookState::Active,
            managed_by: new.managed_by,
            created: now,
            updated: now,
        };
        self.write(|writer| async move { writer.add_webhook(record).await }).await
    }

    /// Changes one; a change that changes nothing writes nothing.
    ///
    /// # Errors
    /// When the URL cannot be posted to, or there is none.
    pub async fn update_webhook(
        &self,
        org: &OrgId,
        id: &WebhookId,
        change: impl Fn(&mut WebhookRecord) + Send + Sync + 'static,
    ) -> Result<Arc<WebhookRecord>, DirectoryError> {
        let at = At::new(Table::Webhooks, org, id);
        self.write(|writer| async move { writer.update_webhook(&at, &change).await }).await
    }

    /// Removes one, with what it has not been told yet.
    ///
    /// # Errors
    /// When there is none, or the file manages it (and `by` is not the file).
    pub async fn remove_webhook(
        &self,
        org: &OrgId,
        id: &WebhookId,
        by: ManagedBy,
    ) -> Result<(), DirectoryError> {
        let at = At::new(Table::Webhooks, org, id);
        let id = id.clone();
        self.write(|writer| async move {
            let (shared, org) = (Arc::clone(&writer.shared), at.org.clone());
            writer.remove_webhook(at, by).await?;
            // Whoever writes next need not wait for as many rows as there may be.
            drop(writer);
            shared.settle_all(&org, &id).await;
            Ok(())
        })
        .await
    }
}

impl Writer {
    async fn add_webhook(
        &self,
        record: WebhookRecord,
    ) -> Result<Arc<WebhookRecord>, DirectoryError> {
        self.needs_org(&record.org)?;
        if self.view.load().webhooks(&record.org).count() >= WEBHOOKS_MAX {
            return Err(DirectoryError::TooMany { what: "webhooks", max: WEBHOOKS_MAX });
        }
        let name = self.index.name(&record.org, Named::Webhook, &record.name);
        self.take_name(&name, &record.id, (Named::Webhook, &record.name)).await?;
        let at = At::new(Table::Webhooks, &record.org, &record.id);
        let added = self.commit(&at, record, None).await;
        if added.is_err() {
            self.give_back(&[name]).await;
        }
        added
    }

    async fn update_webhook(
        &self,
        at: &At,
        change: &(impl Fn(&mut WebhookRecord) + Send + Sync),
    ) -> Result<Arc<WebhookRecord>, DirectoryError> {
        for _ in 0..agents::EDIT_TRIES {
            let Read { record: before, version } = self.read_webhook(at).await?;
            let mut after = before.clone();
            change(&mut after);
            check_webhook_url(&after.url)?;
            (after.id, after.org) = (before.id.clone(), before.org.clone());
            after.name.clone_from(&before.name);
            if after == before {
                return Ok(Arc::new(after));
            }
            after.updated = self.clock.now();
            match self.commit(at, after, Some(version)).await {
                Err(error) if error.is_conflict() => {}
                other => return other,
            }
        }
        Err(StoreError::Conflict { table: Table::Webhooks.name(), key: at.key() }.into())
    }

    async fn remove_webhook(&self, at: At, by: ManagedBy) -> Result<(), DirectoryError> {
        let Read { record, version } = self.read_webhook(&at).await?;
        if record.state != WebhookState::Paused {
            record.editable(by)?;
        }
        self.erase(&at, Some(version), |view| view.remove_webhook(&record.org, &record.id)).await?;
        let name = self.index.name(&at.org, Named::Webhook, &record.name);
        Ok(self.rows.delete(&name, None).await?)
    }

    /// Reads a webhook anew; the view follows, as in `read_agent`.
    async fn read_webhook(&self, at: &At) -> Result<Read<WebhookRecord>, DirectoryError> {
        let read = self.rows.read::<WebhookRecord>(at).await?;
        let id = WebhookId::parse(&at.id).map_err(|_| at.malformed())?;
        let seen = self.view.load().webhook(&at.org, &id).cloned();
        match read {
            Some(read) => {
                if seen.as_deref() != Some(&read.record) {
                    self.publish(|view| view.put_webhook(Arc::new(read.record.clone())));
                }
                Ok(read)
            }
            None => {
                if seen.is_some() {
                    self.publish(|view| view.remove_webhook(&at.org, &id));
                }
                Err(DirectoryError::not_found("webhook", &id))
            }
        }
    }
}

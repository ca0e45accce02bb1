//! Who is told what happens, and what raises an alarm.

use std::sync::Arc;

use jiff::Timestamp;

use super::View;
use crate::crypto::token::TokenHash;
use crate::directory::rows::At;
use crate::directory::webhooks::WebhookRecord;
use crate::store::Table;
use keyward_base::agent::Agent;
use keyward_base::id::{AppId, ConnectionId, OrgId, PluginId, TokenId, UserId, WebhookId};
use keyward_model::{Honeytoken, Record};
use keyward_rules::inject::placeholder::Core;

/// A token that opened something once.
#[derive(Clone, Debug)]
pub struct Former {
    /// Whose it was.
    pub agent: Agent,
    /// Which.
    pub token: TokenId,
    /// `revoked` or `expired`.
    pub reason: &'static str,
}

impl View {
    /// What a row is of: its kind, id and name.
    pub(in crate::directory) fn thing(&self, at: &At) -> Option<(&'static str, String, String)> {
        let org = self.orgs.get(&at.org)?;
        let (what, name) = match at.table {
            Table::Agents => return self.thing_of::<keyward_model::Agent>(at),
            Table::Apps => ("app", org.apps.get(&AppId::parse(&at.id).ok()?)?.name.clone()),
            Table::Connections => {
                let id = ConnectionId::parse(&at.id).ok()?;
                ("connection", org.connections.get(&id)?.name.clone())
            }
            Table::Honeytokens => return self.thing_of::<Honeytoken>(at),
            Table::Orgs => ("org", org.record.as_ref()?.id.name().to_owned()),
            Table::Plugins => {
                let id = PluginId::parse(&at.id).ok()?;
                ("plugin", org.plugins.get(&id)?.name().to_owned())
            }
            Table::Users => ("user", org.users.get(&UserId::parse(&at.id).ok()?)?.name.clone()),
            Table::Webhooks => {
                let id = WebhookId::parse(&at.id).ok()?;
                ("webhook", org.webhooks.get(&id)?.name.clone())
            }
            _ => return None,
        };
        Some((what, at.id.clone(), name))
    }

    /// All webhooks of an org.
    pub fn webhooks(&self, org: &OrgId) -> impl Iterator<Item = &Arc<WebhookRecord>> {
        self.orgs.get(org).into_iter().flat_map(|org| org.webhooks.values())
    }

    /// A webhook by id.
    pub fn webhook(&self, org: &OrgId, id: &WebhookId) -> Option<&Arc<WebhookRecord>> {
        self.orgs.get(org)?.webhooks.get(id)
    }

    /// By name or id. No name looks like an id.
    pub fn find_webhook(&self, org: &OrgId, name_or_id: &str) -> Option<&Arc<WebhookRecord>> {
        let mut all = self.webhooks(org);
        all.find(|hook| hook.id.as_str() == name_or_id || hook.name == name_or_id)
    }

    /// What a token was that opens nothing any more, as far as it is remembered.
    pub fn former(&self, token: &str, now: Timestamp) -> Option<Former> {
        let hash = TokenHash::of(token);
        let expired = self.tokens.get(&hash).filter(|holder| {
            holder.hash.matches(&hash) && holder.expires.is_some_and(|expires| expires <= now)
        });
        let expired = expired.and_then(|holder| {
            let token = holder.agent.token.clone()?;
            Some(Former { agent: holder.agent.clone(), token, reason: "expired" })
        });
        expired.or_else(|| self.revoked.get(&hash).cloned())
    }

    /// The honeytoken of this core.
    pub fn honeytoken(&self, org: &OrgId, core: &Core) -> Option<&Arc<Record<Honeytoken>>> {
        let id = self.orgs.get(org)?.honeytoken_cores.get(core)?;
        self.one::<Honeytoken>(org, id)
    }

    pub(in crate::directory) fn put_webhook(&mut self, webhook: Arc<WebhookRecord>) {
        let org = self.org_mut(&webhook.org);
        org.webhooks.insert(webhook.id.clone(), webhook);
    }

    pub(in crate::directory) fn remove_webhook(&mut self, org: &OrgId, id: &WebhookId) {
        if let Some(org) = self.known_org_mut(org) {
            org.webhooks.remove(id);
        }
    }
}

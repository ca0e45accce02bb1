//! Look-ups of the view beside requests: the contents of an organisation, which prevent its removal; whether an
//! organisation without a row was removed; and for events, the record of a changed row, a token that is no longer
//! valid, and a honeytoken.

use std::sync::Arc;

use jiff::Timestamp;

use super::{OrgView, View};
use crate::crypto::token::TokenHash;
use crate::directory::collection::{Collection, FormerToken};
use crate::directory::rows::RowId;
use crate::store::Table;
use keyward_base::id::{ConnectionId, OrgId};
use keyward_model::{
    App, ConnectSession, DatabaseListener, Honeytoken, Hook, Login, OwnProvider, Plugin, Record,
    Resource, Rule, Session, Source, User, Webhook,
};
use keyward_rules::inject::placeholder::PlaceholderCore;

impl View {
    /// A record that prevents the removal of an organisation: its kind and name.
    pub(in crate::directory) fn record_preventing_removal(
        &self,
        id: &OrgId,
    ) -> Option<(&'static str, String)> {
        let org = self.of_org(id)?;
        org.first_of_checked_kinds().or_else(|| org.first_of_added_kinds())
    }

    /// Whether an organisation has no row because it was removed. If it still has agents, users or other records of the
    /// checked kinds, it was not removed: its row is lost.
    pub(in crate::directory) fn was_removed(&self, id: &OrgId) -> bool {
        let is_kept =
            |org: &OrgView| org.record.is_some() || org.first_of_checked_kinds().is_some();
        !self.of_org(id).is_some_and(is_kept)
    }
}

impl OrgView {
    /// A record of a kind that prevents the removal in every version: its kind and name.
    fn first_of_checked_kinds(&self) -> Option<(&'static str, String)> {
        let each = [
            first(&self.agents),
            first(&self.connections),
            first(&self.apps),
            first(&self.users),
            first(&self.own_providers),
            first(&self.rules),
            first(&self.sources),
        ];
        each.into_iter().flatten().next()
    }

    /// A record of a kind that earlier versions did not check: its kind and name.
    fn first_of_added_kinds(&self) -> Option<(&'static str, String)> {
        let each = [
            first(&self.webhooks),
            first(&self.hooks),
            first(&self.honeytokens),
            first(&self.database_listeners),
        ];
        each.into_iter().flatten().next()
    }
}

/// One record of a collection: its kind and name.
fn first<R: Resource>(all: &Collection<R>) -> Option<(&'static str, String)> {
    all.values().next().map(|one| (R::KIND.one, one.name().to_owned()))
}

impl View {
    /// The record of a row: its kind, id and name.
    pub(in crate::directory) fn describe_row(
        &self,
        at: &RowId,
    ) -> Option<(&'static str, String, String)> {
        let org = self.orgs.get(&at.org)?;
        let (what, name) = match at.table {
            Table::Agents => return self.describe_record::<keyward_model::Agent>(at),
            Table::Apps => return self.describe_record::<App>(at),
            Table::Connections => {
                let id = ConnectionId::parse(&at.id).ok()?;
                ("connection", org.connections.get(&id)?.name.clone())
            }
            Table::Hooks => return self.describe_record::<Hook>(at),
            Table::DatabaseListeners => return self.describe_record::<DatabaseListener>(at),
            Table::Honeytokens => return self.describe_record::<Honeytoken>(at),
            Table::Logins => return self.describe_record::<Login>(at),
            Table::Orgs => ("org", org.record.as_ref()?.id.name().to_owned()),
            Table::Plugins => return self.describe_record::<Plugin>(at),
            Table::Providers => return self.describe_record::<OwnProvider>(at),
            Table::Rules => return self.describe_record::<Rule>(at),
            Table::Sessions => return self.describe_record::<Session>(at),
            Table::ConnectSessions => return self.describe_record::<ConnectSession>(at),
            Table::Sources => return self.describe_record::<Source>(at),
            Table::Users => return self.describe_record::<User>(at),
            Table::Webhooks => return self.describe_record::<Webhook>(at),
            _ => return None,
        };
        Some((what, at.id.clone(), name))
    }

    /// A token that was revoked or has expired, as far as it is remembered.
    pub fn former_token(&self, token: &str, now: Timestamp) -> Option<FormerToken> {
        let hash = TokenHash::of(token);
        let expired = self.tokens.get(&hash).filter(|holder| {
            holder.hash.matches(&hash) && holder.expires.is_some_and(|expires| expires <= now)
        });
        let expired = expired.and_then(|holder| {
            let token = holder.agent.token.clone()?;
            Some(FormerToken { agent: holder.agent.clone(), token, reason: "expired" })
        });
        expired.or_else(|| self.revoked.get(&hash).cloned())
    }

    pub fn honeytoken(
        &self,
        org: &OrgId,
        core: &PlaceholderCore,
    ) -> Option<&Arc<Record<Honeytoken>>> {
        let id = self.orgs.get(org)?.honeytoken_cores.get(core)?;
        self.one::<Honeytoken>(org, id)
    }
}

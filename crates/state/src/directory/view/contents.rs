//! Look-ups of the view beside requests: the contents of an organisation, which prevent its removal; whether an
//! organisation without a row was removed; and for events, the record of a changed row, a token that is no longer
//! valid, and a honeytoken.

use std::sync::Arc;

use jiff::Timestamp;

use super::{OrgView, View};
use crate::crypto::token::TokenHash;
use crate::directory::collection::{Collection, FormerToken};
use crate::directory::rows::RowId;
use crate::directory::stored::Stored;
use crate::directory::tables::{KeepsOrg, keeps_org, viewed};
use crate::store::Table;
use keyward_base::id::{Id, OrgId};
use keyward_model::{Honeytoken, Record, Resource};
use keyward_rules::inject::placeholder::PlaceholderCore;

impl View {
    /// A record that prevents the removal of an organisation: its kind and name.
    pub(in crate::directory) fn record_preventing_removal(
        &self,
        id: &OrgId,
    ) -> Option<(&'static str, String)> {
        self.of_org(id)?.record_that_keeps_it(&[KeepsOrg::Always, KeepsOrg::Since])
    }

    /// Whether an organisation has no row because it was removed. If it still has agents, users or other records of the
    /// checked kinds, it was not removed: its row is lost.
    pub(in crate::directory) fn was_removed(&self, id: &OrgId) -> bool {
        let is_kept = |org: &OrgView| {
            org.record.is_some() || org.record_that_keeps_it(&[KeepsOrg::Always]).is_some()
        };
        !self.of_org(id).is_some_and(is_kept)
    }
}

impl OrgView {
    /// A record that keeps the organisation from being removed, in these versions: its kind and name.
    fn record_that_keeps_it(&self, since: &[KeepsOrg]) -> Option<(&'static str, String)> {
        let keeps_it = |table: &Table| since.contains(&keeps_org(*table));
        let mut tables = Table::ALL.into_iter().filter(keeps_it);
        tables.find_map(|table| viewed!(table, R => first(<R as Stored>::of(self)), None))
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
        match at.table {
            Table::Orgs => Some(("org", at.id.clone(), self.org(&at.org)?.id.name().to_owned())),
            table => viewed!(table, R => self.describe_record::<R>(at), None),
        }
    }

    /// The record of a row of this kind: its kind, id and name.
    fn describe_record<R: Stored>(&self, at: &RowId) -> Option<(&'static str, String, String)> {
        let id = R::Id::parse(&at.id).ok()?;
        let record = self.one::<R>(&at.org, &id)?;
        Some((R::KIND.one, at.id.clone(), record.name().to_owned()))
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

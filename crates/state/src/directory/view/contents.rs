//! The contents of an organisation: a record that prevents its removal, and whether an organisation without a row was
//! removed.

use super::{OrgView, View};
use crate::directory::collection::Collection;
use keyward_base::id::OrgId;
use keyward_model::Resource;

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

//! Own providers in the directory: the definition of each is compiled when it is put into the view. A provider in use
//! cannot be removed.

use std::sync::Arc;

use super::check;
use super::error::DirectoryError;
use super::index::NameKind;
use super::org_catalogue::OrgCatalogue;
use super::records::{AppRecord, ConnectionRecord};
use super::stored::{Stored, stored_in};
use super::view::View;
use crate::store::Table;
use keyward_base::id::OrgId;
use keyward_model::{Connection, ManagedBy, OwnProvider, Record, Refusal, Visibility};
use keyward_rules::provider::Catalogue;
use keyward_rules::provider::changes::{self, TestChange};
use keyward_rules::provider::document::Problem;

impl Stored for OwnProvider {
    const TABLE: Table = Table::Providers;
    const NAMED: NameKind = NameKind::Provider;

    stored_in!(own_providers);

    fn add_to_indexes(view: &mut View, record: &Arc<Record<Self>>) {
        // An earlier version of Keyward may have accepted a definition that this one refuses.
        let warned = |problems: &Vec<Problem>, what: &str| {
            let why = problems.first().map(ToString::to_string).unwrap_or_default();
            tracing::warn!(provider = record.name(), %why, "{what}");
        };
        let provider = record.provider(&Catalogue::default());
        let provider = provider.or_else(|problems| {
            let partial = record.stored_provider()?;
            warned(&problems, "a part of a stored provider is not used");
            Ok(partial)
        });
        match provider {
            Ok(provider) => {
                let org = view.org_mut(&record.org);
                org.compiled_providers.insert(record.id.clone(), Arc::new(provider));
                org.catalogue = OrgCatalogue::default();
            }
            Err(problems) => warned(&problems, "a stored provider cannot be used"),
        }
    }

    fn remove_from_indexes(view: &mut View, record: &Arc<Record<Self>>) {
        let org = view.org_mut(&record.org);
        org.compiled_providers.remove(&record.id);
        org.catalogue = OrgCatalogue::default();
    }

    fn may_change(
        before: &Record<Self>,
        after: &Record<Self>,
        view: &View,
    ) -> Result<(), DirectoryError> {
        if before.name() != after.name() {
            let rule = format!("must stay `{}`", before.name());
            let hint = "a provider with another id is another one: `keyward provider add`";
            return Err(DirectoryError::Refused(Refusal::new("id", rule).hint(hint)));
        }
        let Some((what, name)) = user(before, view) else { return Ok(()) };
        let is_private = |it: &&Arc<ConnectionRecord>| it.facts.visibility == Visibility::Private;
        let tests = match connections(before, view).find(is_private) {
            Some(_) => TestChange::Same,
            None => TestChange::Reading,
        };
        match changes::first_fixed_change(&before.definition, &after.definition, tests) {
            None => Ok(()),
            Some(field) => {
                let provider = before.name().to_owned();
                Err(DirectoryError::ProviderBound { provider, field, what, name })
            }
        }
    }

    fn may_remove(record: &Record<Self>, by: ManagedBy, view: &View) -> Result<(), DirectoryError> {
        check::editor(record.managed_by, by, "provider", record.name())?;
        match user(record, view) {
            None => Ok(()),
            Some((what, name)) => {
                let (provider, uses) = (record.name().to_owned(), users(record, view).count());
                Err(DirectoryError::ProviderInUse { provider, what, name, uses })
            }
        }
    }
}

fn connections<'a>(
    provider: &'a Record<OwnProvider>,
    view: &'a View,
) -> impl Iterator<Item = &'a Arc<ConnectionRecord>> {
    let uses = |it: &&Arc<ConnectionRecord>| it.provider == provider.name();
    view.all::<Connection>(&provider.org).filter(uses)
}

/// The connections and then the apps that use the provider, so that their secrets depend on it: kind and name.
fn users<'a>(
    provider: &'a Record<OwnProvider>,
    view: &'a View,
) -> impl Iterator<Item = (&'static str, &'a str)> {
    let uses = |it: &&Arc<AppRecord>| it.org == provider.org && it.provider == provider.name();
    let apps = view.apps().filter(uses).map(|it| ("app", it.name.as_str()));
    connections(provider, view).map(|it| ("connection", it.name.as_str())).chain(apps)
}

fn user(provider: &Record<OwnProvider>, view: &View) -> Option<(&'static str, String)> {
    users(provider, view).next().map(|(what, name)| (what, name.to_owned()))
}

impl View {
    /// The providers of an organisation: `all`, and its own.
    pub fn catalogue(&self, org: &OrgId, all: &Arc<Catalogue>) -> Arc<Catalogue> {
        match self.of_org(org) {
            Some(org) if !org.compiled_providers.is_empty() => org
                .catalogue
                .merged_with(all, || all.with_org_providers(org.compiled_providers.values())),
            _ => Arc::clone(all),
        }
    }
}

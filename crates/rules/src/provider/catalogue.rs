//! [`Catalogue`]: all providers, the built-in ones (`built_in.rs`) and the user's own; their categories, in the order
//! of the index; and the provider that a host belongs to already, with which a new own provider of the same host would
//! compete.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, OnceLock};

use super::built_in::BuiltIn;
use super::host_template::HostTemplate;
use super::own_hosts::OwnHosts;
use super::{Configured, Provider};
use keyward_base::pattern::{HostPattern, PathPattern};

/// The name in provider files, and the title.
pub const CATEGORIES: &[(&str, &str)] = &[
    ("llm", "Models"),
    ("mcp", "MCP servers"),
    ("dev", "Development"),
    ("infra", "Infrastructure"),
    ("productivity", "Productivity"),
    ("comms", "Communication"),
    ("email", "Email"),
    ("search", "Search and web data"),
    ("crm", "Customers"),
    ("payments", "Payments"),
    ("ecommerce", "Shops"),
    ("data", "Data"),
    ("database", "Databases"),
    ("storage", "Storage"),
    ("observability", "Observability"),
    ("social", "Social"),
    ("maps", "Maps"),
];

/// All providers. A user's provider may not have the id of a built-in one.
#[derive(Clone, Debug, Default)]
pub struct Catalogue {
    /// Sorted by id; each is parsed at its first use.
    built_in: &'static [BuiltIn],
    /// The user's own; they take precedence. Shared by the catalogues of all organisations.
    own: Arc<BTreeMap<Arc<str>, Configured>>,
    /// Those of one organisation; they take precedence over both.
    of_org: Providers,
    /// Which provider a host without variables belongs to; `None`: several. Made at the first look-up.
    owners: OnceLock<HashMap<String, Option<Arc<str>>>>,
}

type Providers = BTreeMap<Arc<str>, Arc<Provider>>;

/// A provider's place in the catalogue: what lists and searches need, without parsing its file.
#[derive(Clone, Copy, Debug)]
pub struct CatalogueEntry<'a>(EntryKind<'a>);

#[derive(Clone, Copy, Debug)]
enum EntryKind<'a> {
    BuiltIn(&'a BuiltIn),
    Configured(&'a Configured),
    OfOrg(&'a Arc<Provider>),
}

impl Catalogue {
    pub(super) fn of(built_in: &'static [BuiltIn]) -> Self {
        Self { built_in, ..Self::default() }
    }

    /// Adds `own`, whose ids `check` has compared with the built-in ones.
    #[must_use]
    pub fn with<P: Into<Configured>>(&self, own: impl IntoIterator<Item = P>) -> Self {
        let mut all = BTreeMap::clone(&self.own);
        let own = own.into_iter().map(Into::into);
        for provider in own.filter(|own: &Configured| self.find(own.id()).is_none()) {
            all.entry(provider.id().clone()).or_insert(provider);
        }
        let of_org = self.of_org.clone();
        Self { built_in: self.built_in, own: Arc::new(all), of_org, owners: OnceLock::new() }
    }

    /// The catalogue of an organisation that has providers of its own. They take precedence, so that a later
    /// provider with the same id does not take over their connections.
    #[must_use]
    pub fn with_org_providers<'a>(&self, own: impl IntoIterator<Item = &'a Arc<Provider>>) -> Self {
        let own = own.into_iter().map(|own| (own.id.clone(), Arc::clone(own))).collect();
        let owners = OnceLock::new();
        Self { built_in: self.built_in, own: Arc::clone(&self.own), of_org: own, owners }
    }

    /// The same without an own provider of the organisation, which is about to change.
    #[must_use]
    pub fn without(&self, own: &str) -> Self {
        let mut of_org = self.of_org.clone();
        of_org.remove(own);
        let owners = OnceLock::new();
        Self { built_in: self.built_in, own: Arc::clone(&self.own), of_org, owners }
    }

    pub fn get(&self, id: &str) -> Option<&Arc<Provider>> {
        let configured = || self.own.get(id).map(Configured::provider);
        let own = self.of_org.get(id).or_else(configured);
        own.or_else(|| self.find(id).map(BuiltIn::provider))
    }

    /// The file of a built-in provider.
    pub fn text(&self, id: &str) -> Option<&'static str> {
        self.find(id).map(|it| it.file.text)
    }

    fn find(&self, id: &str) -> Option<&'static BuiltIn> {
        let at = self.built_in.binary_search_by(|it| (*it.id).cmp(id));
        at.ok().map(|at| &self.built_in[at])
    }

    /// All providers, sorted by id, without parsing their files.
    pub fn entries(&self) -> impl Iterator<Item = CatalogueEntry<'_>> {
        let is_own = |id: &Arc<str>| self.own.contains_key(id) || self.of_org.contains_key(id);
        let built_in = self.built_in.iter().filter(|it| !is_own(&it.id));
        let own = self.own.values().filter(|own| !self.of_org.contains_key(own.id()));
        let own = own.map(|it| CatalogueEntry(EntryKind::Configured(it)));
        let own = own.chain(self.of_org.values().map(|it| CatalogueEntry(EntryKind::OfOrg(it))));
        let mut all: Vec<_> =
            built_in.map(|it| CatalogueEntry(EntryKind::BuiltIn(it))).chain(own).collect();
        // Three sorted runs, which this sort merges.
        all.sort_by_key(CatalogueEntry::id);
        all.into_iter()
    }

    /// The ids of all providers, sorted.
    pub fn ids(&self) -> impl Iterator<Item = &str> {
        self.entries().map(|entry| &**entry.id())
    }

    /// All providers, sorted by id. Their files are parsed; [`Self::entries`] is for lists.
    pub fn all(&self) -> impl Iterator<Item = &Arc<Provider>> {
        self.entries().map(|entry| entry.provider())
    }

    /// The id of the only provider of a host, beside its [parts](is_part_of); `None` for a host of several providers. It is
    /// looked up for a host without variables, and else each provider is asked.
    pub fn owner_of(&self, host: &str) -> Option<&Arc<str>> {
        let owners = self.owners.get_or_init(|| {
            let mut owners = HashMap::new();
            for entry in self.entries() {
                for pattern in entry.known_hosts() {
                    // Sorted by id, a service comes before its parts.
                    let id = entry.id();
                    let owner =
                        owners.entry(pattern.to_string()).or_insert_with(|| Some(id.clone()));
                    let is_known = |owner: &Arc<str>| owner == id || is_part_of(id, owner);
                    if !owner.as_ref().is_some_and(is_known) {
                        *owner = None;
                    }
                }
            }
            owners
        });
        match owners.get(host) {
            Some(owner) => owner.as_ref(),
            None => self.owner_by_template(host),
        }
    }

    fn owner_by_template(&self, host: &str) -> Option<&Arc<str>> {
        let host = HostPattern::parse(host).ok()?;
        let mut owners = self.entries().filter(|entry| entry.has_host(&host));
        let first = owners.next()?.id();
        owners.all(|other| is_part_of(other.id(), first)).then_some(first)
    }

    /// Hosts without variables; refusals for them are sent inside TLS.
    pub fn known_hosts(&self) -> impl Iterator<Item = HostPattern> {
        self.entries().flat_map(|entry| entry.known_hosts())
    }

    /// OAuth endpoints on the providers' own hosts, each with its provider's id.
    pub fn oauth_endpoints(&self) -> impl Iterator<Item = (Arc<str>, HostPattern, PathPattern)> {
        self.entries().flat_map(|entry| {
            let id = entry.id().clone();
            entry.oauth_endpoints().into_iter().map(move |(host, path)| (id.clone(), host, path))
        })
    }
}

/// Whether the provider is for a part of a service that has a provider of its own, by their ids: `github-copilot` of `github`.
/// They may share hosts and formats of keys; who names such a host or key means the service.
pub fn is_part_of(id: &str, service: &str) -> bool {
    id.strip_prefix(service).is_some_and(|rest| rest.starts_with('-'))
}

impl<'a> CatalogueEntry<'a> {
    /// The provider's id.
    pub fn id(&self) -> &'a Arc<str> {
        match self.0 {
            EntryKind::BuiltIn(it) => &it.id,
            EntryKind::Configured(it) => it.id(),
            EntryKind::OfOrg(own) => &own.id,
        }
    }

    pub fn name(&self) -> &'a str {
        match self.0 {
            EntryKind::BuiltIn(it) => it.file.name,
            EntryKind::Configured(it) => it.name(),
            EntryKind::OfOrg(own) => &own.name,
        }
    }

    /// The category, such as `llm`.
    pub fn category(&self) -> Option<&'a str> {
        match self.0 {
            EntryKind::BuiltIn(it) => Some(it.file.category),
            EntryKind::Configured(it) => it.category(),
            EntryKind::OfOrg(own) => own.category.as_deref(),
        }
    }

    /// The provider; most are parsed now, if they were not before.
    pub fn provider(&self) -> &'a Arc<Provider> {
        match self.0 {
            EntryKind::BuiltIn(it) => it.provider(),
            EntryKind::Configured(it) => it.provider(),
            EntryKind::OfOrg(own) => own,
        }
    }

    /// As [`Provider::known_hosts`].
    pub fn known_hosts(&self) -> Vec<HostPattern> {
        match self.0 {
            EntryKind::BuiltIn(it) => it.known_hosts().collect(),
            EntryKind::Configured(it) => it.known_hosts(),
            EntryKind::OfOrg(own) => own.known_hosts().collect(),
        }
    }

    /// As [`Provider::has_host`].
    pub fn has_host(&self, pattern: &HostPattern) -> bool {
        match self.0 {
            EntryKind::BuiltIn(it) => it.has_host(pattern),
            EntryKind::Configured(it) => it.has_host(pattern),
            EntryKind::OfOrg(own) => own.has_host(pattern),
        }
    }

    pub(super) fn oauth_endpoints(&self) -> Vec<(HostPattern, PathPattern)> {
        match self.0 {
            EntryKind::BuiltIn(it) => it.oauth_endpoints().collect(),
            EntryKind::Configured(it) => it.oauth_endpoints(),
            EntryKind::OfOrg(own) => own.oauth_endpoints.clone(),
        }
    }
}

/// The title of a category; the name itself for one that a provider of a user has.
pub fn category_title(name: &str) -> &str {
    let known = CATEGORIES.iter().find(|(known, _)| *known == name);
    known.map_or(name, |(_, title)| title)
}

impl Catalogue {
    /// The provider that has one of these hosts, with the host.
    pub fn host_owner<'a>(
        &self,
        hosts: &'a [HostTemplate],
    ) -> Option<(CatalogueEntry<'_>, &'a HostTemplate)> {
        let owner = |host: &HostTemplate| {
            let pattern = host.literal()?;
            self.entries().find(|entry| entry.has_host(&pattern))
        };
        hosts.iter().find_map(|host| Some((owner(host)?, host)))
    }
}

impl Provider {
    /// Whether some target matches the pattern and a host of the provider, for some values of its variables. A host that
    /// the owner enters whole is compared by its default.
    pub fn has_host(&self, pattern: &HostPattern) -> bool {
        OwnHosts { hosts: &self.hosts, variables: &self.variables }.overlap(pattern)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_of_the_catalogue_is_found_with_its_provider() {
        let catalogue = Catalogue::built_in();
        for (host, owner) in [
            ("api.github.com", Some("github")),
            ("*.github.com", Some("github")),
            ("acme.myshopify.com", Some("shopify")),
            ("gitlab.com", Some("gitlab")),
            ("api.twilio.com", Some("twilio")),
            ("api.eu.mailgun.net", Some("mailgun")),
            ("api.us5.datadoghq.com", Some("datadog")),
            ("api.evil.example", None),
            ("myshopify.com", None),
            ("git.corp.example", None),
            ("api.github.com:8443", None),
        ] {
            let hosts = [HostTemplate::parse(host).unwrap()];
            let found = catalogue.host_owner(&hosts).map(|(owner, _)| &**owner.id());
            assert_eq!(found, owner, "{host}");
        }
    }
}

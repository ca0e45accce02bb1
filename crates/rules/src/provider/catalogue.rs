//! [`Catalogue`]: all providers, the built-in ones (`built_in.rs`) and the user's own.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, OnceLock};

use super::Provider;
use keyward_base::pattern::HostPattern;

/// All providers. A user's provider may not have the id of a built-in one.
#[derive(Clone, Debug, Default)]
pub struct Catalogue {
    providers: BTreeMap<Arc<str>, Arc<Provider>>,
    /// Which provider a host without variables belongs to; `None`: several. Made at the first look-up.
    owners: OnceLock<HashMap<String, Option<Arc<str>>>>,
}

impl Catalogue {
    /// Adds `own`, whose ids `check` has compared with the built-in ones.
    #[must_use]
    pub fn with(&self, own: impl IntoIterator<Item = Provider>) -> Self {
        let mut providers = self.providers.clone();
        for provider in own {
            providers.entry(provider.id.clone()).or_insert_with(|| Arc::new(provider));
        }
        Self { providers, owners: OnceLock::new() }
    }

    /// The catalogue of an organisation that has providers of its own. They come first, so that a provider
    /// which gets the same id later takes over none of their connections.
    #[must_use]
    pub fn beside<'a>(&self, own: impl IntoIterator<Item = &'a Arc<Provider>>) -> Self {
        let mut providers = self.providers.clone();
        providers.extend(own.into_iter().map(|own| (own.id.clone(), Arc::clone(own))));
        Self { providers, owners: OnceLock::new() }
    }

    /// The provider with this id.
    pub fn get(&self, id: &str) -> Option<&Arc<Provider>> {
        self.providers.get(id)
    }

    /// All providers, sorted by id.
    pub fn all(&self) -> impl Iterator<Item = &Arc<Provider>> {
        self.providers.values()
    }

    /// The id of the only provider of a host; `None` for hosts with variables, and for those of several providers.
    pub fn owner_of(&self, host: &str) -> Option<&Arc<str>> {
        let owners = self.owners.get_or_init(|| {
            let mut owners = HashMap::new();
            for provider in self.all() {
                for pattern in provider.known_hosts() {
                    let id = Some(provider.id.clone());
                    let owner = owners.entry(pattern.to_string()).or_insert_with(|| id.clone());
                    if *owner != id {
                        *owner = None;
                    }
                }
            }
            owners
        });
        owners.get(host)?.as_ref()
    }

    /// Hosts without variables; refusals for them are sent inside TLS.
    pub fn known_hosts(&self) -> impl Iterator<Item = HostPattern> {
        self.all().flat_map(|provider| provider.known_hosts())
    }
}

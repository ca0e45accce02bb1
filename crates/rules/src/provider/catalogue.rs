//! [`Catalogue`]: all providers, the built-in ones (`built_in.rs`) and the user's own.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Provider;
use keyward_base::pattern::HostPattern;

/// All providers. A user's provider may not have the id of a built-in one.
#[derive(Clone, Debug, Default)]
pub struct Catalogue {
    providers: BTreeMap<Arc<str>, Arc<Provider>>,
}

impl Catalogue {
    /// Adds `own`, whose ids `check` has compared with the built-in ones.
    #[must_use]
    pub fn with(&self, own: impl IntoIterator<Item = Provider>) -> Self {
        let mut providers = self.providers.clone();
        for provider in own {
            providers.entry(provider.id.clone()).or_insert_with(|| Arc::new(provider));
        }
        Self { providers }
    }

    /// The catalogue of an organisation that has providers of its own. They come first, so that a provider
    /// which gets the same id later takes over none of their connections.
    #[must_use]
    pub fn beside<'a>(&self, own: impl IntoIterator<Item = &'a Arc<Provider>>) -> Self {
        let mut providers = self.providers.clone();
        providers.extend(own.into_iter().map(|own| (own.id.clone(), Arc::clone(own))));
        Self { providers }
    }

    /// The provider with this id.
    pub fn get(&self, id: &str) -> Option<&Arc<Provider>> {
        self.providers.get(id)
    }

    /// All providers, sorted by id.
    pub fn all(&self) -> impl Iterator<Item = &Arc<Provider>> {
        self.providers.values()
    }

    /// Hosts without variables; refusals for them are sent inside TLS.
    pub fn known_hosts(&self) -> impl Iterator<Item = HostPattern> {
        self.all().flat_map(|provider| provider.known_hosts())
    }
}

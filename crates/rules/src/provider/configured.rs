//! [`Configured`]: a provider of the configuration, and [`Definition`], the same as it is written.

use std::sync::Arc;

use serde_json::Value;

use super::Provider;
use super::checked::CheckedProvider;
use keyward_base::pattern::{HostPattern, PathPattern};

/// A provider of the configuration.
#[derive(Clone, Debug)]
pub enum Configured {
    /// It was parsed and checked when the configuration was read.
    Parsed(Arc<Provider>),
    /// Its text was checked before; it is parsed at its first use.
    Checked(Arc<CheckedProvider>),
}

/// The definition of a provider of the configuration.
#[derive(Clone, Debug)]
pub enum Definition {
    Read(Value),
    /// In a text that is read when the definition is asked for.
    Checked(Arc<CheckedProvider>),
}

impl From<Provider> for Configured {
    fn from(provider: Provider) -> Self {
        Self::Parsed(Arc::new(provider))
    }
}

impl From<Arc<Provider>> for Configured {
    fn from(provider: Arc<Provider>) -> Self {
        Self::Parsed(provider)
    }
}

impl From<Arc<CheckedProvider>> for Configured {
    fn from(provider: Arc<CheckedProvider>) -> Self {
        Self::Checked(provider)
    }
}

impl Configured {
    pub fn id(&self) -> &Arc<str> {
        match self {
            Self::Parsed(it) => &it.id,
            Self::Checked(it) => it.id(),
        }
    }

    /// The provider, parsed now if it was not before.
    pub fn provider(&self) -> &Arc<Provider> {
        match self {
            Self::Parsed(it) => it,
            Self::Checked(it) => it.provider(),
        }
    }

    pub(super) fn name(&self) -> &str {
        match self {
            Self::Parsed(it) => &it.name,
            Self::Checked(it) => it.name(),
        }
    }

    pub(super) fn category(&self) -> Option<&str> {
        match self {
            Self::Parsed(it) => it.category.as_deref(),
            Self::Checked(it) => it.category(),
        }
    }

    pub(super) fn known_hosts(&self) -> Vec<HostPattern> {
        match self {
            Self::Parsed(it) => it.known_hosts().collect(),
            Self::Checked(it) => it.known_hosts(),
        }
    }

    pub(super) fn has_host(&self, pattern: &HostPattern) -> bool {
        match self {
            Self::Parsed(it) => it.has_host(pattern),
            Self::Checked(it) => it.has_host(pattern),
        }
    }

    pub(super) fn oauth_endpoints(&self) -> Vec<(HostPattern, PathPattern)> {
        match self {
            Self::Parsed(it) => it.oauth_endpoints.clone(),
            Self::Checked(it) => it.oauth_endpoints(),
        }
    }
}

impl Definition {
    /// The provider's id.
    pub fn id(&self) -> Option<&str> {
        match self {
            Self::Read(definition) => definition.get("id")?.as_str(),
            Self::Checked(provider) => Some(provider.id()),
        }
    }

    pub fn json(&self) -> Value {
        match self {
            Self::Read(definition) => definition.clone(),
            Self::Checked(provider) => provider.definition(),
        }
    }
}

//! [`CheckedProvider`]: an own provider whose text was checked before by the same version of the program. Lists and
//! searches use its [`ProviderFacts`]; its text is parsed at the first use of the provider, as a built-in one's is.

use std::ops::Range;
use std::sync::{Arc, OnceLock};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Provider;
use super::document::{Document, Problem};
use keyward_base::pattern::{HostPattern, PathPattern};

/// What is needed of all providers at once, as text.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct ProviderFacts {
    id: String,
    name: String,
    category: Option<String>,
    /// As [`Provider::known_hosts`].
    hosts: Vec<String>,
    /// Whether the provider has no other hosts.
    has_all_hosts: bool,
    oauth_endpoints: Vec<EndpointText>,
}

#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
struct EndpointText {
    host: String,
    path: String,
}

/// Parses the providers of a text, whose name comes first: [`super::check::file`].
pub type Parse = fn(&str, &str) -> Result<Vec<Provider>, Vec<Problem>>;

/// A provider of the configuration that is parsed when it is first used.
#[derive(Debug)]
pub struct CheckedProvider {
    id: Arc<str>,
    facts: ProviderFacts,
    /// The text of all of them; one is a list of one item.
    texts: Arc<str>,
    at: Range<usize>,
    parse: Parse,
    provider: OnceLock<Arc<Provider>>,
}

impl ProviderFacts {
    /// The facts of a provider; `None` if its patterns do not survive being written and parsed again.
    pub fn of(provider: &Provider) -> Option<Self> {
        let endpoint = |(host, path): &(HostPattern, PathPattern)| EndpointText {
            host: host.to_string(),
            path: path.to_string(),
        };
        let hosts: Vec<String> = provider.known_hosts().map(|host| host.to_string()).collect();
        let facts = Self {
            id: provider.id.to_string(),
            name: provider.name.clone(),
            category: provider.category.clone(),
            has_all_hosts: hosts.len() == provider.hosts.len(),
            hosts,
            oauth_endpoints: provider.oauth_endpoints.iter().map(endpoint).collect(),
        };
        let is_same = facts.known_hosts().eq(provider.known_hosts())
            && facts.oauth_endpoints() == provider.oauth_endpoints;
        is_same.then_some(facts)
    }

    /// What cannot be read back is in no facts: [`Self::of`] compares.
    fn known_hosts(&self) -> impl Iterator<Item = HostPattern> {
        self.hosts.iter().filter_map(|host| HostPattern::parse(host).ok())
    }

    fn oauth_endpoints(&self) -> Vec<(HostPattern, PathPattern)> {
        let read = |it: &EndpointText| {
            Some((HostPattern::parse(&it.host).ok()?, PathPattern::parse(&it.path).ok()?))
        };
        self.oauth_endpoints.iter().filter_map(read).collect()
    }
}

impl CheckedProvider {
    /// The provider at `at` of `texts`, where `parse` has found it; `None` if there is no such place.
    pub fn new(
        facts: ProviderFacts,
        texts: &Arc<str>,
        at: Range<usize>,
        parse: Parse,
    ) -> Option<Self> {
        texts.get(at.clone())?;
        let id = facts.id.as_str().into();
        Some(Self { id, facts, texts: Arc::clone(texts), at, parse, provider: OnceLock::new() })
    }

    pub fn id(&self) -> &Arc<str> {
        &self.id
    }

    pub(super) fn name(&self) -> &str {
        &self.facts.name
    }

    pub(super) fn category(&self) -> Option<&str> {
        self.facts.category.as_deref()
    }

    /// The provider; its text is parsed once.
    ///
    /// # Panics
    /// When the text is not that of a sound provider.
    pub(super) fn provider(&self) -> &Arc<Provider> {
        self.provider.get_or_init(|| {
            let found = (self.parse)(&self.id, self.text());
            let found = found.ok().and_then(|found| found.into_iter().next());
            Arc::new(found.expect("the same text was found sound by the same program"))
        })
    }

    /// The definition as it is written.
    pub fn definition(&self) -> Value {
        let document = Document::parse(&self.id, self.text()).ok();
        let item = document.as_ref().and_then(|list| list.root().get(0));
        item.and_then(|item| serde_json::to_value(item).ok()).unwrap_or_default()
    }

    pub(super) fn known_hosts(&self) -> Vec<HostPattern> {
        self.facts.known_hosts().collect()
    }

    pub(super) fn has_host(&self, pattern: &HostPattern) -> bool {
        match self.facts.has_all_hosts {
            true => self.facts.known_hosts().any(|host| host.overlaps(pattern)),
            false => self.provider().has_host(pattern),
        }
    }

    pub(super) fn oauth_endpoints(&self) -> Vec<(HostPattern, PathPattern)> {
        self.facts.oauth_endpoints()
    }

    fn text(&self) -> &str {
        &self.texts[self.at.clone()]
    }

    /// Whether the text was parsed.
    pub fn is_parsed(&self) -> bool {
        self.provider.get().is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::provider::{Catalogue, check};

    const ACME: &str = "  - id: acme\n    name: Acme\n    category: crm\n    hosts: [api.acme.test, '{shop}.acme.test', '*.files.acme.test:8443']\n    \
        variables: [{ name: shop }]\n    auth:\n    - { id: o, kind: oauth2, token: 'https://api.acme.test/o/{shop}/token', authorize: 'https://api.acme.test/a*b' }\n";
    const PLAIN: &str =
        "- { id: plain, name: Plain, hosts: [plain.test], auth: [{ id: k, kind: bearer }] }\n";

    fn file(name: &str, text: &str) -> Result<Vec<Provider>, Vec<Problem>> {
        check::file(name, text, &Catalogue::built_in())
    }

    fn parsed(text: &str) -> Provider {
        file("p", text).unwrap().remove(0)
    }

    fn checked(text: &str) -> CheckedProvider {
        let texts: Arc<str> = format!("# before\n{text}").into();
        CheckedProvider::new(
            ProviderFacts::of(&parsed(text)).unwrap(),
            &texts,
            9..texts.len(),
            file,
        )
        .unwrap()
    }

    #[test]
    fn a_range_outside_of_the_text_gives_no_provider() {
        let facts = ProviderFacts::of(&parsed(PLAIN)).unwrap();
        let texts: Arc<str> = "ä".into();
        for at in [0..3, 1..2, 5..9] {
            assert!(CheckedProvider::new(facts.clone(), &texts, at, file).is_none());
        }
    }

    #[test]
    fn the_facts_equal_those_of_the_parsed_provider_and_parse_no_text() {
        for text in [ACME, PLAIN] {
            let (provider, checked) = (parsed(text), checked(text));
            assert_eq!((&**checked.id(), checked.name()), (&*provider.id, &*provider.name));
            assert_eq!(checked.category(), provider.category.as_deref());
            assert_eq!(checked.known_hosts(), provider.known_hosts().collect::<Vec<_>>());
            assert_eq!(checked.oauth_endpoints(), provider.oauth_endpoints);
            assert_eq!(checked.definition()["id"], *provider.id);
            assert!(!checked.is_parsed());
            for host in
                ["api.acme.test", "x.acme.test", "a.files.acme.test:8443", "plain.test", "a.test"]
            {
                let host = HostPattern::parse(host).unwrap();
                assert_eq!(checked.has_host(&host), provider.has_host(&host), "{host}");
            }
            assert_eq!(checked.is_parsed(), text == ACME, "its hosts need variables");
            assert_eq!(format!("{:?}", checked.provider()), format!("{provider:?}"));
        }
    }

    #[test]
    fn a_provider_is_parsed_at_its_first_use() {
        let checked = Arc::new(checked(PLAIN));
        let catalogue = Catalogue::built_in().with([Arc::clone(&checked)]);
        assert_eq!(catalogue.owner_of("plain.test").map(|id| &**id), Some("plain"));
        assert!(catalogue.known_hosts().any(|host| host.to_string() == "plain.test"));
        assert!(catalogue.ids().any(|id| id == "plain") && !checked.is_parsed());
        assert_eq!(catalogue.get("plain").map(|it| &*it.name), Some("Plain"));
        assert!(checked.is_parsed());
    }
}

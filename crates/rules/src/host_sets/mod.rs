//! [`HostSet`]: a named set of hosts that an agent may be allowed to reach without a credential, such as the registries
//! of `pip`. Data, not code: `data/` has a file for each set, and [`HostSets`] has all of them.
//!
//! What a set allows is decided by `policy`.

use std::collections::HashSet;
use std::fmt::Display;
use std::sync::LazyLock;

use http::Method;
use serde::de::Error;
use serde::{Deserialize, Deserializer};

use keyward_base::pattern::{HostPattern, PathPattern};

macro_rules! files {
    ($($id:literal),*) => {
        &[$((concat!($id, ".yaml"), include_str!(concat!("data/", $id, ".yaml")))),*]
    };
}

/// The files, in the order in which they are listed: a set follows those that it includes.
#[rustfmt::skip]
const FILES: &[(&str, &str)] = files![
    "pip", "npm", "yarn", "cargo", "apt", "go", "rubygems", "maven", "gradle", "docker", "android", "rustup", "node",
    "composer", "nuget", "alpine", "conda", "r", "terraform", "hex", "pub", "playwright", "packages", "github-read",
    "hugging-face", "onedrive", "box", "zoom", "web"
];

#[derive(Debug)]
pub struct HostSets(Vec<HostSet>);

/// A named set of hosts, as its file has it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HostSet {
    /// The name that an agent's `allow` gives.
    pub id: String,
    /// A few words.
    pub title: String,
    /// What it allows, for people.
    pub description: String,
    /// Pages of the vendors that name the hosts.
    #[serde(default)]
    pub sources: Vec<String>,
    /// The sets that are part of it.
    #[serde(default)]
    pub includes: Vec<String>,
    /// Whether it contains every host, on the ports 80 and 443.
    #[serde(default)]
    pub every_host: bool,
    /// What it allows beside the sets that it includes.
    #[serde(default)]
    pub allow: Vec<Allowance>,
}

/// Requests to some hosts.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Allowance {
    #[serde(deserialize_with = "hosts")]
    pub hosts: Vec<HostPattern>,
    /// The methods; never empty.
    #[serde(deserialize_with = "methods")]
    pub methods: Vec<Method>,
    /// The paths; empty means all.
    #[serde(default, deserialize_with = "paths")]
    pub paths: Vec<PathPattern>,
    /// The whole query, if only that is allowed.
    pub query: Option<String>,
    /// Why it is in the set, where a method can send data or others publish content on the host.
    pub because: Option<String>,
}

impl HostSets {
    pub fn built_in() -> &'static Self {
        static READ: LazyLock<HostSets> = LazyLock::new(|| {
            let read = |(name, text): &(&str, &str)| {
                read(text).unwrap_or_else(|why| panic!("{name}: {why}: a test reads every file"))
            };
            HostSets(FILES.iter().map(read).collect())
        });
        &READ
    }

    /// The set with this name.
    pub fn get(&self, id: &str) -> Option<&HostSet> {
        self.0.iter().find(|set| set.id == id)
    }

    /// What a set allows, with the sets that it includes.
    pub fn allowances<'a>(&'a self, set: &'a HostSet) -> Vec<&'a Allowance> {
        let included = set.includes.iter().filter_map(|id| self.get(id));
        let included = included.flat_map(|other| self.allowances(other));
        let mut all: Vec<&Allowance> = set.allow.iter().collect();
        all.extend(included);
        // Two sets may include the same one.
        let mut seen = HashSet::new();
        all.retain(|allowance| seen.insert(std::ptr::from_ref(*allowance)));
        all
    }

    /// All sets; a set follows those that it includes.
    pub fn all(&self) -> &[HostSet] {
        &self.0
    }

    pub fn names(&self) -> impl Iterator<Item = &str> + Clone {
        self.0.iter().map(|set| set.id.as_str())
    }
}

fn read(text: &str) -> Result<HostSet, String> {
    serde_yaml::from_str(text).map_err(|error| error.to_string())
}

fn hosts<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<HostPattern>, D::Error> {
    parsed(from, HostPattern::parse)
}

fn methods<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<Method>, D::Error> {
    parsed(from, str::parse::<Method>)
}

fn paths<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<PathPattern>, D::Error> {
    parsed(from, PathPattern::parse)
}

fn parsed<'de, D: Deserializer<'de>, T, E: Display>(
    from: D,
    parse: impl Fn(&str) -> Result<T, E>,
) -> Result<Vec<T>, D::Error> {
    let texts = Vec::<String>::deserialize(from)?;
    texts.iter().map(|text| parse(text).map_err(D::Error::custom)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Where users publish content of their own, or see requests: such a host needs a reason.
    const OF_USERS: &[&str] = &[
        "amazonaws.com",
        "azureedge.net",
        "cloudflarestorage.com",
        "cloudfront.net",
        "core.windows.net",
        "fastly.net",
        "github.com",
        "github.io",
        "githubusercontent.com",
        "googleapis.com",
        "googleusercontent.com",
        "netlify.app",
        "pages.dev",
        "vercel.app",
        "workers.dev",
    ];

    #[test]
    fn a_set_with_an_unknown_key_a_public_suffix_or_no_method_is_refused() {
        let with = |allow: &str| {
            read(&format!("{{ id: a, title: A, description: A., allow: [{allow}] }}")).map(drop)
        };
        assert_eq!(with("{ hosts: [a.example], methods: [GET] }"), Ok(()));
        for bad in [
            "{ hosts: [a.example] }",
            "{ hosts: [a.example], methods: [GET], ports: [1] }",
            "{ hosts: ['*.co.uk'], methods: [GET] }",
            "{ hosts: ['*.com'], methods: [GET] }",
            "{ hosts: ['*'], methods: [GET] }",
            "{ hosts: ['https://a.example'], methods: [GET] }",
            "{ hosts: [a.example], methods: ['G ET'] }",
            "{ hosts: [a.example], methods: [GET], paths: [a] }",
        ] {
            assert!(with(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn every_data_file_is_a_set_named_after_the_file_with_sources() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/src/host_sets/data");
        let mut names: Vec<_> = std::fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort_unstable();
        let mut listed: Vec<_> = FILES.iter().map(|(name, _)| *name).collect();
        listed.sort_unstable();
        assert_eq!(names, listed);
        for ((name, _), set) in FILES.iter().zip(HostSets::built_in().all()) {
            assert_eq!(format!("{}.yaml", set.id), *name);
            assert_ne!(set.id, "none", "the command line's word for no set");
            assert!(!set.title.is_empty() && set.description.ends_with('.'), "{name}");
            assert_eq!(set.sources.is_empty(), set.allow.is_empty(), "{name}: sources of hosts");
            assert!(set.sources.iter().all(|url| url.starts_with("https://")), "{name}");
            let is_something = !(set.allow.is_empty() && set.includes.is_empty());
            assert_ne!(is_something, set.every_host, "{name}");
        }
    }

    #[test]
    fn a_set_includes_only_sets_before_it() {
        let mut before = HashSet::new();
        for set in HostSets::built_in().all() {
            assert!(set.includes.iter().all(|id| before.contains(id)), "{}", set.id);
            assert!(before.insert(set.id.clone()), "{} is there twice", set.id);
        }
    }

    #[test]
    fn allowances_that_can_send_data_or_reach_user_content_have_a_reason() {
        let mut reasons = 0;
        for set in HostSets::built_in().all() {
            for Allowance { hosts, methods, because, paths, .. } in &set.allow {
                assert!(!hosts.is_empty() && !methods.is_empty(), "{}", set.id);
                let reads = methods.iter().all(|it| [Method::GET, Method::HEAD].contains(it));
                assert!(reads || !paths.is_empty(), "{}: other methods have paths", set.id);
                let is_of_users = hosts.iter().map(ToString::to_string).any(|host| {
                    OF_USERS.iter().any(|of| host == *of || host.ends_with(&format!(".{of}")))
                });
                let has_wildcard = hosts.iter().any(|host| host.literal().is_none());
                let needs_reason = !reads || is_of_users || has_wildcard;
                assert_eq!(because.is_some(), needs_reason, "{}: {hosts:?}", set.id);
                reasons += usize::from(because.is_some());
                assert!(hosts.iter().all(|host| !host.has_explicit_port()), "{}", set.id);
            }
        }
        assert!(reasons > 5, "{reasons}");
    }
}

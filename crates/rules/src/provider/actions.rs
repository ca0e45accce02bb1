//! Named actions of a provider: `actions:` of its file, checked. [`Provider::action`] fills in the variables of a
//! connection.

use std::collections::BTreeMap;

use http::Method;
use serde::Deserialize;

use super::document::{Problems, item_of, key_of};
use super::form::{FormError, HostTemplate};
use super::own_hosts::{self, OwnHosts};
use super::{AuthMethod, Provider};
use crate::actions::ActionScope;
use crate::inject::placement::{Location, Place};
use crate::inject::template::Encoding;
use keyward_base::pattern::{HostPattern, PathPattern};

/// An action of a provider file.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ActionText {
    /// The name, such as `read-code`.
    pub name: String,
    /// What it allows, for people.
    pub label: String,
    /// The requests that belong to it.
    pub requests: Vec<RequestsText>,
}

/// Requests of an action.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RequestsText {
    /// The hosts, a subset of the provider's; empty means all.
    #[serde(default)]
    pub hosts: Vec<String>,
    /// The methods; empty means all.
    #[serde(default)]
    pub methods: Vec<String>,
    /// The paths; empty means all.
    #[serde(default)]
    pub paths: Vec<String>,
    /// Parameters that the query has.
    #[serde(default)]
    pub query: BTreeMap<String, String>,
}

/// A named part of a provider's API.
#[derive(Clone, Debug)]
pub struct NamedAction {
    /// The name, unique in the provider.
    pub name: String,
    /// What it allows, for people.
    pub label: String,
    requests: Vec<Requests>,
}

/// Requests of an action, before variables are filled in.
#[derive(Clone, Debug)]
struct Requests {
    hosts: Vec<HostTemplate>,
    methods: Vec<Method>,
    paths: Vec<PathPattern>,
    query: Vec<(Box<str>, Box<str>)>,
}

impl Provider {
    /// The requests of an action, on the hosts of a connection with these variables. `None`: there is no such action.
    ///
    /// # Errors
    /// When a variable is missing or invalid.
    pub fn action(
        &self,
        name: &str,
        variables: &BTreeMap<String, String>,
    ) -> Option<Result<Vec<ActionScope>, FormError>> {
        let action = self.actions.iter().find(|action| action.name == name)?;
        let scopes = self.values(variables).and_then(|values| {
            let fill = |host: &HostTemplate| host.fill(&values, &self.variables);
            let scope = |requests: &Requests| {
                // Without hosts of its own, it has all of the provider's.
                let hosts = match requests.hosts.is_empty() {
                    true => &self.hosts,
                    false => &requests.hosts,
                };
                Ok(requests.on(hosts.iter().map(fill).collect::<Result<_, FormError>>()?))
            };
            action.requests.iter().map(scope).collect()
        });
        Some(scopes)
    }

    /// The requests of an action on hosts that the rule names. `None`: there is no such action.
    pub fn action_anywhere(&self, name: &str) -> Option<Vec<ActionScope>> {
        let action = self.actions.iter().find(|action| action.name == name)?;
        let scope = |requests: &Requests| {
            let hosts = if requests.hosts.is_empty() { &self.hosts } else { &requests.hosts };
            let literal: Option<Vec<_>> = hosts.iter().map(HostTemplate::literal).collect();
            // A host with a variable is any that the rule names.
            requests.on(literal.unwrap_or_default())
        };
        Some(action.requests.iter().map(scope).collect())
    }

    /// Whether the hosts of the provider depend on the connection.
    pub fn has_host_variables(&self) -> bool {
        self.hosts.iter().any(|host| host.literal().is_none())
    }

    /// The hosts from which git clones by HTTPS with a connection of this method: those where the method writes Basic
    /// authentication.
    pub fn git_hosts(
        &self,
        auth: &AuthMethod,
        variables: &BTreeMap<String, String>,
    ) -> Vec<HostPattern> {
        let is_basic = |place: &Place| {
            place.at == Location::Header(http::header::AUTHORIZATION)
                && place.value.encoding() == Encoding::Basic
        };
        let is_for = |host: &&HostTemplate| {
            let mut scopes = auth.placements.iter();
            scopes.any(|it| {
                (it.hosts.is_empty() || it.hosts.contains(host)) && it.places.iter().any(is_basic)
            })
        };
        let Ok(values) = self.values(variables) else { return Vec::new() };
        let hosts = self.git.iter().filter(is_for);
        hosts.filter_map(|host| host.fill(&values, &self.variables).ok()).collect()
    }
}

impl Requests {
    fn on(&self, hosts: Vec<HostPattern>) -> ActionScope {
        let Self { methods, paths, query, .. } = self;
        let (methods, paths, query) = (methods.clone(), paths.clone(), query.clone());
        ActionScope { hosts, methods, paths, query }
    }
}

/// Checks `git:`: hosts of the provider.
pub(super) fn git_hosts(
    texts: &[String],
    path: &str,
    own: &OwnHosts<'_>,
    problems: &mut Problems<'_>,
) -> Vec<HostTemplate> {
    own_hosts_of(texts, path, own, problems)
}

/// Checks `actions:`.
pub(super) fn actions(
    texts: &[ActionText],
    path: &str,
    own: &OwnHosts<'_>,
    problems: &mut Problems<'_>,
) -> Vec<NamedAction> {
    let mut found: Vec<NamedAction> = Vec::new();
    for (index, text) in texts.iter().enumerate() {
        let at = item_of(path, index);
        if !is_name(&text.name) {
            let remedy = "write lower-case letters, digits and hyphens, such as `read-code`";
            problems.add(&key_of(&at, "name"), "this is not an action's name", remedy);
        }
        if found.iter().any(|other| other.name == text.name) {
            let message = format!("action `{}` is defined twice", text.name);
            problems.add(&key_of(&at, "name"), message, "rename or remove one");
        }
        if text.requests.is_empty() {
            let remedy = "name hosts, methods or paths";
            problems.add(&key_of(&at, "requests"), "the action covers nothing", remedy);
        }
        let all = key_of(&at, "requests");
        let each = text.requests.iter().enumerate();
        let requests = each.map(|(at, text)| requests(text, &item_of(&all, at), own, problems));
        let (name, label) = (text.name.clone(), text.label.clone());
        found.push(NamedAction { name, label, requests: requests.collect() });
    }
    found
}

fn requests(
    text: &RequestsText,
    path: &str,
    own: &OwnHosts<'_>,
    problems: &mut Problems<'_>,
) -> Requests {
    if text.hosts.is_empty() && text.methods.is_empty() && text.paths.is_empty() {
        problems.add(path, "this covers every request", "name hosts, methods or paths");
    }
    let mut methods = Vec::new();
    for (index, method) in text.methods.iter().enumerate() {
        match Method::from_bytes(method.as_bytes()) {
            Ok(method) => methods.push(method),
            Err(_) => {
                let at = item_of(&key_of(path, "methods"), index);
                problems.add(&at, "this is not a method", "write GET, POST or another");
            }
        }
    }
    let query = text.query.iter();
    Requests {
        hosts: own_hosts_of(&text.hosts, &key_of(path, "hosts"), own, problems),
        methods,
        paths: own_hosts::paths(&text.paths, &key_of(path, "paths"), problems),
        query: query.map(|(name, value)| (name.as_str().into(), value.as_str().into())).collect(),
    }
}

fn own_hosts_of(
    texts: &[String],
    path: &str,
    own: &OwnHosts<'_>,
    problems: &mut Problems<'_>,
) -> Vec<HostTemplate> {
    let hosts = own_hosts::hosts(texts, path, own.variables, problems);
    for host in hosts.iter().filter(|host| !own.owns(host)) {
        let message = format!("`{host}` is not one of the provider's hosts");
        problems.add(path, message, "list it under the provider's `hosts`");
    }
    hosts
}

/// Lower-case letters, digits and hyphens.
fn is_name(text: &str) -> bool {
    (1..=64).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        && text.starts_with(|c: char| c.is_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::actions::ScopedRequest;
    use crate::provider::Catalogue;
    use keyward_base::host::{Scheme, Target};
    use keyward_base::pattern::DecodedPath;

    /// Provider and action, what it covers, and what it does not.
    const TABLE: &[(&str, &str, &[&str], &[&str])] = &[
        (
            "github",
            "clone",
            &[
                "GET github.com/o/r.git/info/refs?service=git-upload-pack",
                "POST github.com/o/r/git-upload-pack",
                "GET gist.github.com/abc.git/info/refs?service=git-upload-pack",
                "POST gist.github.com/me/abc.git/git-upload-pack",
            ],
            &[
                "GET github.com/o/r.git/info/refs?service=git-receive-pack",
                "GET github.com/o/r.git/info/refs",
                "POST github.com/o/r.git/git-receive-pack",
                "GET github.com/o/r.git/git-upload-pack",
                "POST github.com/o/r.git/info/lfs/objects/batch",
                "GET github.com/o/r/settings",
                "GET api.github.com/repos/o/r",
                "GET github.com.evil.test/o/r.git/info/refs?service=git-upload-pack",
            ],
        ),
        (
            "github",
            "push",
            &[
                "GET github.com/o/r.git/info/refs?service=git-receive-pack",
                "POST github.com/o/r.git/git-receive-pack",
                "PUT github.com/o/r/git-receive-pack",
                "POST gist.github.com/abc/git-receive-pack",
            ],
            &[
                "GET github.com/o/r.git/info/refs?service=git-upload-pack",
                "POST github.com/o/r.git/git-upload-pack",
                "POST github.com/o/r.git/info/lfs/objects/batch",
                "POST api.github.com/repos/o/r/merges",
            ],
        ),
        (
            "github",
            "lfs",
            &["POST github.com/o/r.git/info/lfs/objects/batch"],
            &["POST github.com/o/r.git/git-upload-pack"],
        ),
        (
            "gitlab",
            "clone",
            &[
                "GET gitlab.com/g/r.git/info/refs?service=git-upload-pack",
                "POST gitlab.com/a/b/c/d/e/r.git/git-upload-pack",
            ],
            &[
                "POST gitlab.com/g/s/r.git/git-receive-pack",
                "GET gitlab.com/api/v4/projects",
                "GET git.acme.test/g/r.git/info/refs?service=git-upload-pack",
            ],
        ),
        (
            "gitlab",
            "push",
            &["POST gitlab.com/a/b/c/d/e/r.git/git-receive-pack"],
            &["POST gitlab.com/g/r.git/git-upload-pack"],
        ),
        (
            "hugging-face",
            "clone",
            &[
                "POST huggingface.co/bert/git-upload-pack",
                "POST huggingface.co/datasets/o/d/git-upload-pack",
            ],
            &["POST huggingface.co/o/m/git-receive-pack", "GET huggingface.co/api/models"],
        ),
        (
            "hugging-face",
            "push",
            &["POST huggingface.co/o/m/git-receive-pack"],
            &["POST huggingface.co/o/m/git-upload-pack"],
        ),
    ];

    fn covers(scopes: &[ActionScope], line: &str) -> bool {
        let (method, url) = line.split_once(' ').unwrap();
        let (host, rest) = url.split_at(url.find('/').unwrap());
        let (path, query) = rest.split_once('?').map_or((rest, None), |(p, q)| (p, Some(q)));
        let request = ScopedRequest {
            target: &Target::parse(Scheme::Https, host).unwrap(),
            method: &method.parse().unwrap(),
            path: &DecodedPath::parse(path).unwrap(),
            query,
        };
        scopes.iter().any(|scope| scope.covers(request) == Ok(true))
    }

    #[test]
    fn an_action_covers_its_requests_and_no_others() {
        let catalogue = Catalogue::built_in();
        for (id, action, within, beyond) in TABLE {
            let provider = catalogue.get(id).unwrap();
            let scopes = provider.action(action, &BTreeMap::new()).unwrap().unwrap();
            for line in *within {
                assert!(covers(&scopes, line), "{id} {action}: {line}");
            }
            for line in *beyond {
                assert!(!covers(&scopes, line), "{id} {action}: {line}");
            }
        }
    }

    #[test]
    fn every_action_of_the_catalogue_is_in_the_table() {
        for provider in Catalogue::built_in().all() {
            for action in &provider.actions {
                let is_it =
                    |row: &&(&str, &str, _, _)| (row.0, row.1) == (&*provider.id, &*action.name);
                let lfs = action.name == "lfs";
                assert!(
                    lfs || TABLE.iter().any(|row| is_it(&row)),
                    "{} {}",
                    provider.id,
                    action.name
                );
            }
        }
    }

    #[test]
    fn an_action_is_on_the_hosts_of_the_connection() {
        let catalogue = Catalogue::built_in();
        let gitlab = catalogue.get("gitlab").unwrap();
        let own = BTreeMap::from([("host".to_owned(), "git.acme.test:8443".to_owned())]);
        let scopes = gitlab.action("clone", &own).unwrap().unwrap();
        assert!(covers(&scopes, "POST git.acme.test:8443/g/r.git/git-upload-pack"));
        assert!(!covers(&scopes, "POST gitlab.com/g/r.git/git-upload-pack"));
        assert!(gitlab.action("clones", &own).is_none());
        let any = gitlab.action_anywhere("clone").unwrap();
        assert!(covers(&any, "POST git.other.test/g/r.git/git-upload-pack"));
        let github = catalogue.get("github").unwrap().action_anywhere("clone").unwrap();
        assert!(!covers(&github, "POST git.other.test/g/r.git/git-upload-pack"));
    }

    #[test]
    fn git_is_rewritten_only_for_hosts_where_the_method_writes_basic() {
        let hosts = |id: &str, auth: &str| -> Vec<String> {
            let catalogue = Catalogue::built_in();
            let provider = catalogue.get(id).unwrap();
            let auth = provider.auth(Some(auth)).unwrap();
            let found = provider.git_hosts(auth, &BTreeMap::new());
            found.iter().map(ToString::to_string).collect()
        };
        assert_eq!(hosts("github", "pat"), ["github.com", "gist.github.com"]);
        assert_eq!(hosts("gitlab", "oauth"), ["gitlab.com"]);
        assert_eq!(hosts("hugging-face", "token"), ["huggingface.co"]);
        assert_eq!(hosts("hugging-face", "oauth"), [""; 0], "it has no place for git");
        assert_eq!(hosts("openai", "api_key"), [""; 0]);
    }
}

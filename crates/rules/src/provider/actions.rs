//! Named actions of a provider: `actions:` of its file, checked. [`Provider::action`] fills in the variables of a
//! connection. `requests/*.yaml` has requests to each built-in provider and the actions that cover them, for the tests.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use http::Method;
use serde::Deserialize;

use super::decode::decode;
use super::document::{Document, Problems, item_of, key_of};
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
    /// Parameters that the query does not have.
    #[serde(default)]
    pub without_query: Vec<String>,
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
    without_query: Vec<Box<str>>,
}

/// The actions of a provider. Those of a built-in one are parsed at the first use: they are most of the catalogue, and
/// a gateway uses those of few providers.
#[derive(Clone, Debug, Default)]
pub(super) struct Actions {
    parsed: OnceLock<Vec<NamedAction>>,
    /// The text from `actions:` to the end of the file; empty if there is none.
    unparsed: &'static str,
}

/// The end of a built-in file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ActionsText {
    actions: Vec<ActionText>,
}

impl Actions {
    pub(super) fn parsed(actions: Vec<NamedAction>) -> Self {
        Self { parsed: actions.into(), unparsed: "" }
    }

    /// `text` begins with `actions:` or is empty.
    pub(super) fn unparsed(text: &'static str) -> Self {
        Self { parsed: OnceLock::new(), unparsed: text }
    }

    fn of(&self, provider: &Provider) -> &[NamedAction] {
        self.parsed.get_or_init(|| {
            if self.unparsed.is_empty() {
                return Vec::new();
            }
            let sound = "built-in actions are sound: a test reads them all";
            let document = Document::parse(&provider.id, self.unparsed).expect(sound);
            let mut problems = document.problems();
            let text: ActionsText = decode(document.root(), "", &mut problems).expect(sound);
            let own = OwnHosts { hosts: &provider.hosts, variables: &provider.variables };
            actions(&text.actions, "actions", &own, &mut problems)
        })
    }
}

impl Provider {
    /// Named parts of the API.
    pub fn actions(&self) -> &[NamedAction] {
        self.actions.of(self)
    }

    /// The requests of an action, on the hosts of a connection with these variables. `None`: there is no such action.
    ///
    /// # Errors
    /// When a variable is missing or invalid.
    pub fn action(
        &self,
        name: &str,
        variables: &BTreeMap<String, String>,
    ) -> Option<Result<Vec<ActionScope>, FormError>> {
        let action = self.actions().iter().find(|action| action.name == name)?;
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
        let action = self.actions().iter().find(|action| action.name == name)?;
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
        ActionScope {
            hosts,
            methods: self.methods.clone(),
            paths: self.paths.clone(),
            query: self.query.clone(),
            without_query: self.without_query.clone(),
        }
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
        without_query: text.without_query.iter().map(|name| name.as_str().into()).collect(),
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
    use crate::provider::{Catalogue, Instance, Variable};
    use keyward_base::host::{Scheme, Target};
    use keyward_base::pattern::DecodedPath;

    /// Requests of a provider, by the actions that cover them (`read-code`, `clone, push`, `none`):
    /// `METHOD HOST/PATH`, or `METHOD /PATH` for the first host.
    type RequestTable = BTreeMap<String, Vec<String>>;

    fn requests_to(provider: &Provider) -> RequestTable {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/src/provider/requests");
        match std::fs::read_to_string(format!("{folder}/{}.yaml", provider.id)) {
            Ok(text) => serde_yaml::from_str(&text).unwrap(),
            Err(_) => RequestTable::new(),
        }
    }

    /// Examples of the provider's variables.
    fn examples(provider: &Provider) -> BTreeMap<String, String> {
        let of = |it: &Variable| Some((it.name.clone(), it.example.clone()?));
        let without_default = provider.variables.iter().filter(|it| it.default.is_none());
        without_default.filter_map(of).collect()
    }

    fn with_host(provider: &Provider, line: &str) -> String {
        let Some((method, path)) = line.split_once(" /") else { return line.to_owned() };
        let values = provider.values(&examples(provider)).unwrap();
        let host = provider.hosts[0].fill(&values, &provider.variables).unwrap();
        format!("{method} {host}/{path}")
    }

    /// The actions that cover the request, sorted and separated by commas.
    fn covering(provider: &Provider, line: &str) -> String {
        let line = with_host(provider, line);
        let is_in = |action: &&NamedAction| {
            let scopes = provider.action(&action.name, &examples(provider));
            covers(&scopes.unwrap().unwrap(), &line)
        };
        sorted(provider.actions().iter().filter(is_in).map(|action| &*action.name))
    }

    fn sorted<'a>(names: impl Iterator<Item = &'a str>) -> String {
        let mut names: Vec<_> = names.collect();
        names.sort_unstable();
        if names.is_empty() { "none".to_owned() } else { names.join(", ") }
    }

    fn gets_credential(instance: &Instance, line: &str) -> bool {
        let Line { target, path, .. } = Line::parse(line);
        let owned = instance.hosts.iter().any(|host| host.matches(&target))
            && (instance.paths.is_empty() || instance.paths.iter().any(|it| it.matches(&path)));
        let endpoint = instance.oauth_endpoints.iter();
        let is_endpoint =
            endpoint.into_iter().any(|(host, at)| host.matches(&target) && at.matches(&path));
        // AWS signatures are written by code, not by a placement.
        let is_placed = instance.placements.is_empty()
            || instance.placements.iter().any(|scope| scope.matches(&target, &path));
        owned && !is_endpoint && is_placed
    }

    /// `GET host/path?query`.
    struct Line<'a> {
        method: Method,
        target: Target,
        path: DecodedPath,
        query: Option<&'a str>,
    }

    impl<'a> Line<'a> {
        fn parse(line: &'a str) -> Self {
            let (method, url) = line.split_once(' ').unwrap();
            let (host, rest) = url.split_at(url.find('/').unwrap());
            let (path, query) = rest.split_once('?').map_or((rest, None), |(p, q)| (p, Some(q)));
            Self {
                method: method.parse().unwrap(),
                target: Target::parse(Scheme::Https, host).unwrap(),
                path: DecodedPath::parse(path).unwrap(),
                query,
            }
        }
    }

    fn covers(scopes: &[ActionScope], line: &str) -> bool {
        let Line { method, target, path, query } = Line::parse(line);
        let request = ScopedRequest { target: &target, method: &method, path: &path, query };
        scopes.iter().any(|scope| scope.covers(request) == Ok(true))
    }

    #[test]
    fn actions_cover_their_requests_and_no_others() {
        let mut wrong = Vec::new();
        for provider in Catalogue::built_in().all() {
            for (names, lines) in requests_to(provider) {
                let expected = sorted(names.split(", "));
                for line in lines {
                    let found = covering(provider, &line);
                    if found != expected {
                        wrong.push(format!("{} {line}: {found}, not {expected}", provider.id));
                    }
                }
            }
        }
        assert!(wrong.is_empty(), "{wrong:#?}");
    }

    #[test]
    fn every_action_has_requests_that_it_covers_and_requests_that_it_does_not() {
        for provider in Catalogue::built_in().all().filter(|it| !it.actions().is_empty()) {
            let requests = requests_to(provider);
            let count = |is_wanted: &dyn Fn(&str) -> bool| {
                let wanted = requests.iter().filter(|(names, _)| is_wanted(names));
                wanted.map(|(_, lines)| lines.len()).sum::<usize>()
            };
            for action in provider.actions() {
                let name = &*action.name;
                let has = |names: &str| names.split(", ").any(|other| other == name);
                let (within, beyond) = (count(&has), count(&|names| !has(names)));
                assert!(within >= 2 && beyond >= 2, "{} {name}: {within}, {beyond}", provider.id);
            }
            let beyond_all = count(&|names| names == "none");
            assert!(beyond_all >= 2, "{}: {beyond_all} requests of no action", provider.id);
        }
    }

    #[test]
    fn an_action_covers_only_requests_that_get_the_credential() {
        for provider in Catalogue::built_in().all() {
            let usable = provider.auth.iter().filter(|auth| auth.later.is_none());
            let instances = usable.map(|auth| provider.instantiate(auth, &examples(provider)));
            let instances: Vec<_> = instances.collect::<Result<_, _>>().unwrap();
            let requests = requests_to(provider).into_iter().filter(|(names, _)| names != "none");
            for line in requests.flat_map(|(_, lines)| lines) {
                let line = with_host(provider, &line);
                let owned = instances.iter().any(|instance| gets_credential(instance, &line));
                assert!(owned, "{}: {line}", provider.id);
            }
        }
    }

    #[test]
    fn what_is_called_reading_changes_nothing_by_its_method() {
        // Their methods are named by the path.
        let by_path = ["dropbox", "slack", "telegram-bot"];
        for provider in Catalogue::built_in().all().filter(|it| !by_path.contains(&&*it.id)) {
            let read = |action: &&NamedAction| action.name.starts_with("read");
            for action in provider.actions().iter().filter(read) {
                for requests in &action.requests {
                    let reads =
                        |it: &Method| [Method::GET, Method::HEAD, Method::POST].contains(it);
                    let all_read = requests.methods.iter().all(reads);
                    let named = format!("{} {}", provider.id, action.name);
                    assert!(all_read && !requests.methods.is_empty(), "{named}");
                }
            }
        }
    }

    #[test]
    fn the_requests_are_those_of_known_providers_and_written_once() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/src/provider/requests");
        let catalogue = Catalogue::built_in();
        for file in std::fs::read_dir(folder).unwrap() {
            let name = file.unwrap().file_name().into_string().unwrap();
            let provider = catalogue.get(name.strip_suffix(".yaml").unwrap()).expect(&name);
            let mut seen = std::collections::BTreeSet::new();
            for line in requests_to(provider).values().flatten() {
                assert!(seen.insert(line.clone()), "{name}: {line} is written twice");
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

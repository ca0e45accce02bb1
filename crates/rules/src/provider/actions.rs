//! Named actions of a provider: `actions:` of its file, checked. [`Provider::action`] fills in the variables of a
//! connection. `requests/*.yaml` has requests to each built-in provider and the actions that cover them, for the tests.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use http::Method;
use serde::Deserialize;

use super::decode::decode;
use super::document::{Document, Problems, item_of, key_of};
use super::form::{FormError, HostTemplate};
use super::graphql::{self, OperationsText};
use super::methods;
use super::own_hosts::{self, OwnHosts};
use super::{AuthMethod, Provider, ScopedPlaces};
use crate::actions::ActionScope;
use crate::graphql::scope::OperationScope;
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
    /// The GraphQL operations of the body.
    #[serde(default)]
    pub graphql: Option<OperationsText>,
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
    graphql: Option<OperationScope>,
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
        let Ok(values) = self.values(variables) else { return Vec::new() };
        let hosts = self.git.iter().filter(|host| writes_basic(auth, host));
        hosts.filter_map(|host| host.fill(&values, &self.variables).ok()).collect()
    }

    /// Whether some method writes what git needs at one of the hosts of repositories.
    pub fn writes_for_git(&self) -> bool {
        let writes = |auth: &AuthMethod| self.git.iter().any(|host| writes_basic(auth, host));
        self.auth.iter().any(writes)
    }
}

/// Whether the method writes Basic authentication at the host.
fn writes_basic(auth: &AuthMethod, host: &HostTemplate) -> bool {
    let is_basic = |place: &Place| {
        place.at == Location::Header(http::header::AUTHORIZATION)
            && place.value.encoding() == Encoding::Basic
    };
    let is_for = |it: &ScopedPlaces| it.hosts.is_empty() || it.hosts.contains(host);
    auth.placements.iter().any(|it| is_for(it) && it.places.iter().any(is_basic))
}

impl Requests {
    fn on(&self, hosts: Vec<HostPattern>) -> ActionScope {
        ActionScope {
            hosts,
            methods: self.methods.clone(),
            paths: self.paths.clone(),
            query: self.query.clone(),
            without_query: self.without_query.clone(),
            graphql: self.graphql.clone(),
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
        let at = item_of(&key_of(path, "methods"), index);
        methods.extend(methods::method(method, &at, problems));
    }
    let query = text.query.iter();
    Requests {
        hosts: own_hosts_of(&text.hosts, &key_of(path, "hosts"), own, problems),
        methods,
        paths: own_hosts::paths(&text.paths, &key_of(path, "paths"), problems),
        query: query.map(|(name, value)| (name.as_str().into(), value.as_str().into())).collect(),
        without_query: text.without_query.iter().map(|name| name.as_str().into()).collect(),
        graphql: text.graphql.as_ref().map(|it| graphql::scope(it, text, path, problems)),
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
mod tests;

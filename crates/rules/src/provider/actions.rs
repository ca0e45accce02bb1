//! [`NamedAction`]: a named part of a provider's API, and the check of `actions:` and `indirect:` in its file, with the
//! GraphQL operations that belong to an action. `form.rs` fills in the variables of a connection. `requests/*.yaml` has
//! requests to each built-in provider and the actions that cover them, for the tests.

use std::sync::OnceLock;

use serde::Deserialize;

use super::decode::{decode, did_you_mean};
use super::document::{Document, Problems, item_of, key_of};
use super::host_template::HostTemplate;
use super::keys::{ActionText, IndirectText, OperationsText, RequestsText};
use super::methods;
use super::own_hosts::{self, OwnHosts};
use crate::actions::{ActionScope, PushOptions, ScopeKind};
use crate::aws_host;
use crate::graphql::{FieldPattern, OperationScope};
use keyward_base::pattern::HostPattern;

/// A named part of a provider's API.
#[derive(Clone, Debug)]
pub struct NamedAction {
    /// The name, unique in the provider.
    pub name: String,
    /// What it allows, for people.
    pub label: String,
    /// Its own requests, and those that can do the same indirectly.
    pub(super) requests: Vec<ActionRequests>,
}

/// Requests of an action, before variables are filled in.
#[derive(Clone, Debug, Default)]
pub(super) struct ActionRequests {
    pub(super) hosts: Vec<HostTemplate>,
    /// Without hosts.
    scope: ActionScope,
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
    #[serde(default)]
    indirect: Vec<IndirectText>,
}

/// The keys of a provider's file about its actions.
#[derive(Clone, Copy)]
pub(super) struct ActionTexts<'a> {
    pub(super) actions: &'a [ActionText],
    pub(super) indirect: &'a [IndirectText],
    /// Where the provider is in its file.
    pub(super) at: &'a str,
}

impl Actions {
    pub(super) fn parsed(actions: Vec<NamedAction>) -> Self {
        Self { parsed: actions.into(), unparsed: "" }
    }

    /// `text` begins with `actions:` or is empty.
    pub(super) fn unparsed(text: &'static str) -> Self {
        Self { parsed: OnceLock::new(), unparsed: text }
    }

    /// The actions of the provider with this id and these hosts.
    pub(super) fn of(&self, id: &str, own: &OwnHosts<'_>) -> &[NamedAction] {
        self.parsed.get_or_init(|| {
            if self.unparsed.is_empty() {
                return Vec::new();
            }
            let sound = "built-in actions are sound: a test reads them all";
            let document = Document::parse(id, self.unparsed).expect(sound);
            let mut problems = document.problems();
            let text: ActionsText = decode(document.root(), "", &mut problems).expect(sound);
            let ActionsText { actions, indirect } = &text;
            ActionTexts { actions, indirect, at: "" }.check(own, &mut problems)
        })
    }
}

impl ActionRequests {
    pub(super) fn on(&self, hosts: Vec<HostPattern>) -> ActionScope {
        ActionScope { hosts, ..self.scope.clone() }
    }
}

impl ActionTexts<'_> {
    /// Checks both keys.
    pub(super) fn check(self, own: &OwnHosts<'_>, problems: &mut Problems<'_>) -> Vec<NamedAction> {
        let mut found = actions(self.actions, &key_of(self.at, "actions"), own, problems);
        let all = key_of(self.at, "indirect");
        for (index, text) in self.indirect.iter().enumerate() {
            let at = item_of(&all, index);
            let requests = indirect(text, &at, own, problems);
            for (index, name) in text.actions.iter().enumerate() {
                if !found.iter().any(|action| action.name == *name) {
                    let at = item_of(&key_of(&at, "actions"), index);
                    let message = format_args!("the provider has no action `{name}`");
                    problems.add(&at, message, "name one of `actions`");
                }
            }
            let is_meant = |name: &String| text.actions.is_empty() || text.actions.contains(name);
            for action in found.iter_mut().filter(|action| is_meant(&action.name)) {
                action.requests.extend(requests.iter().cloned());
            }
        }
        found
    }
}

/// Checks an item of `indirect:`.
fn indirect(
    text: &IndirectText,
    path: &str,
    own: &OwnHosts<'_>,
    problems: &mut Problems<'_>,
) -> Vec<ActionRequests> {
    let all = key_of(path, "requests");
    if text.requests.is_empty() && !text.push_options {
        problems.add(&all, "this covers nothing", "name hosts, methods or paths");
    }
    let each = text.requests.iter().enumerate();
    let found = each.map(|(at, text)| requests(text, &item_of(&all, at), own, problems));
    let scope = ActionScope { push_options: PushOptions::Only, ..ActionScope::default() };
    let with_options = ActionRequests { scope, ..ActionRequests::default() };
    let mut found: Vec<_> = found.chain(text.push_options.then_some(with_options)).collect();
    found.iter_mut().for_each(|requests| requests.scope.kind = ScopeKind::Indirect);
    found
}

/// Checks `actions:`.
fn actions(
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
) -> ActionRequests {
    let lists = [&text.hosts, &text.aws_services, &text.methods, &text.paths];
    if lists.iter().all(|list| list.is_empty()) {
        problems.add(path, "this covers every request", "name hosts, methods or paths");
    }
    let mut methods = Vec::new();
    for (index, method) in text.methods.iter().enumerate() {
        let at = item_of(&key_of(path, "methods"), index);
        methods.extend(methods::method(method, &at, problems));
    }
    for (index, name) in text.aws_services.iter().enumerate() {
        if !aws_host::services().any(|service| service == name) {
            let at = item_of(&key_of(path, "aws_services"), index);
            let near = did_you_mean(name, aws_host::services());
            let remedy = near.unwrap_or_else(|| "name it as signatures do, or list `hosts`".into());
            problems.add(&at, format_args!("`{name}` is not a known service of AWS"), remedy);
        }
    }
    let names = |texts: &[String]| texts.iter().map(|name| name.as_str().into()).collect();
    let query =
        text.query.iter().map(|(name, value)| (name.as_str().into(), value.as_str().into()));
    let hosts = own_hosts::subset(&text.hosts, &key_of(path, "hosts"), own, problems);
    let scope = ActionScope {
        hosts: Vec::new(),
        aws_services: names(&text.aws_services),
        methods,
        paths: own_hosts::paths(&text.paths, &key_of(path, "paths"), problems),
        query: query.collect(),
        any_query: names(&text.any_query),
        without_query: names(&text.without_query),
        only_query: names(&text.only_query),
        push_options: match text.without_push_options {
            true => PushOptions::Without,
            false => PushOptions::With,
        },
        graphql: text.graphql.as_ref().map(|it| operation_scope(it, text, path, problems)),
        kind: ScopeKind::Own,
    };
    ActionRequests { hosts, scope }
}

/// Lower-case letters, digits and hyphens.
fn is_name(text: &str) -> bool {
    (1..=64).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        && text.starts_with(|c: char| c.is_ascii_lowercase())
}

/// Checks `graphql:` of these requests.
fn operation_scope(
    text: &OperationsText,
    requests: &RequestsText,
    path: &str,
    problems: &mut Problems<'_>,
) -> OperationScope {
    let at = key_of(path, "graphql");
    // A service may take operations of a GET from its URL, and of other methods from elsewhere.
    if requests.methods != ["POST"] || requests.paths.is_empty() {
        let remedy = "write `methods: [POST]` and the paths of the GraphQL endpoint";
        problems.add(&at, "GraphQL operations are read from the body of a POST only", remedy);
    }
    if text.operations.is_empty() {
        let remedy = "name `query`, `mutation` or `subscription`";
        problems.add(&key_of(&at, "operations"), "this covers no operation", remedy);
    }
    let mut fields = |key: &str, texts: &[String]| -> Vec<FieldPattern> {
        let each = texts.iter().enumerate();
        each.filter_map(|(index, text)| {
            let found = FieldPattern::parse(text);
            if found.is_none() {
                let remedy = "write a name, `issue*` or `*Delete`";
                let at = item_of(&key_of(&at, key), index);
                problems.add(&at, "this is not the name of a field", remedy);
            }
            found
        })
        .collect()
    };
    OperationScope {
        kinds: text.operations.clone(),
        fields: fields("fields", &text.fields),
        without_fields: fields("without_fields", &text.without_fields),
    }
}

#[cfg(test)]
mod tests;

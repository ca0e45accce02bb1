//! `rules:`: checked as text. What names mean, and whether rules contradict each other, is found by
//! `rulebook/`, which knows the store.

use http::Method;
use serde::Deserialize;
use serde_yaml::Value;

use super::names;
use super::reading::Reading;
use keyward_base::keys::section;
use keyward_base::pattern::{HostPattern, PathPattern, PatternError};
use keyward_rules::provider::decode::nearest;
use keyward_rules::provider::document::{item_of, key_of};
use keyward_state::rulebook::RuleText;

const ACTIONS: [&str; 4] = ["inject", "deny", "pass", "tunnel"];

section! {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    pub(super) struct Text {
        /// For refusals, `explain` and audit. Unique. 1 to 64 letters, digits or `-_.`.
        #[key("text")]
        name: Option<String>,
        /// Its organisation, made when it is first named. Nothing of one exists for another.
        #[key("name of an organisation", "default")]
        org: Option<String>,
        /// Whom it is for; left out: for all. With `use`, the rule is itself the grant.
        #[key("list of names of agents")]
        agents: Option<Vec<String>>,
        /// Exact names, or `*.` and a suffix for one label or more, with a port when it is not 443;
        /// left out: all hosts.
        #[key("list of host patterns")]
        #[serde(default)]
        hosts: Vec<String>,
        /// Left out: all methods.
        #[key("list of methods")]
        #[serde(default)]
        methods: Vec<String>,
        /// `*` is one segment or a part of one, a final `**` any rest; left out: all paths. Where a credential
        /// stands in the path, see [rules](getting-started.md#rules).
        #[key("list of path patterns")]
        #[serde(default)]
        paths: Vec<String>,
        /// `inject` is implied by `use`. `pass` looks inside and forwards without a credential,
        /// `tunnel` does not look inside.
        #[key(one of ["inject", "deny", "pass", "tunnel"])]
        action: Option<String>,
        /// The connection that is injected. Without `agents` it only narrows what bindings allow.
        #[key("name of a connection")]
        #[serde(rename = "use")]
        use_connection: Option<String>,
        /// A credential may go over cleartext to an address of `upstream.allow_private`.
        #[key(one of ["true", "false"], "false")]
        #[serde(default)]
        allow_plaintext: bool,
    }
}

/// Reads `rules:`, in order.
pub(super) fn rules(value: Option<&Value>, reading: &mut Reading<'_>) -> Vec<RuleText> {
    let mut found: Vec<RuleText> = Vec::new();
    for (index, item) in reading.items(value, "rules").iter().enumerate() {
        let path = item_of("rules", index);
        let Some(text) = reading.section::<Text>(Some(item), &path) else { continue };
        if let Some(name) = &text.name {
            let earlier = found.iter().filter_map(|rule| rule.name.as_deref());
            names::unique(name, earlier, &path, reading);
            names::plain(name, &path, reading);
        }
        check_lists(item, &text, &path, reading);
        check_action(&text, &path, reading);
        found.push(rule(text, &path, reading));
    }
    found
}

fn rule(text: Text, path: &str, reading: &mut Reading<'_>) -> RuleText {
    RuleText {
        org: reading.org(text.org.as_deref(), &key_of(path, "org")),
        name: text.name,
        agents: text.agents,
        hosts: text.hosts,
        methods: text.methods,
        paths: text.paths,
        action: text.action,
        use_connection: text.use_connection,
        allow_plaintext: text.allow_plaintext,
        place: reading.place(path),
    }
}

fn check_lists(item: &Value, text: &Text, path: &str, reading: &mut Reading<'_>) {
    // An empty list reads as "none", and would mean "all".
    for key in ["agents", "hosts", "methods", "paths"] {
        if item.get(key).and_then(Value::as_sequence).is_some_and(Vec::is_empty) {
            let remedy = format!("name one, or leave `{key}` out for all");
            reading.problems.add(&key_of(path, key), "the list is empty", remedy);
        }
    }
    patterns(&text.hosts, &key_of(path, "hosts"), HostPattern::parse, reading);
    patterns(&text.paths, &key_of(path, "paths"), PathPattern::parse, reading);
    for (index, method) in text.methods.iter().enumerate() {
        if Method::from_bytes(method.as_bytes()).is_err() {
            let at = item_of(&key_of(path, "methods"), index);
            reading.problems.add(&at, "this is not a method", "write GET, POST or another");
        }
    }
}

fn patterns<T>(
    texts: &[String],
    path: &str,
    parse: impl Fn(&str) -> Result<T, PatternError>,
    reading: &mut Reading<'_>,
) {
    for (index, text) in texts.iter().enumerate() {
        if let Err(error) = parse(text) {
            reading.problems.add(&item_of(path, index), error, "");
        }
    }
}

fn check_action(text: &Text, path: &str, reading: &mut Reading<'_>) {
    let at = key_of(path, "action");
    match (text.action.as_deref(), &text.use_connection) {
        (None, None) => {
            let remedy = "add `use: CONNECTION` or `action: deny`";
            reading.problems.add(path, "the rule says nothing", remedy);
        }
        (Some(action), _) if !ACTIONS.contains(&action) => {
            let remedy = match nearest(action, ACTIONS) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("write {}", ACTIONS.join(", ")),
            };
            reading.problems.add(&at, format!("there is no action `{action}`"), remedy);
        }
        (Some(action @ ("deny" | "pass" | "tunnel")), Some(_)) => {
            let message = format!("`{action}` injects nothing, but `use` names a connection");
            reading.problems.add(&at, message, "leave `use` or `action` out");
        }
        (Some("tunnel"), None) if !(text.methods.is_empty() && text.paths.is_empty()) => {
            let message = "methods and paths cannot be seen in a tunnel";
            reading.problems.add(&at, message, "leave them out, or write `action: pass`");
        }
        _ => {}
    }
}

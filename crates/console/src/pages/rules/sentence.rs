//! A rule as one sentence: who may do what, where, and with which connection.

use maud::{Markup, html};

use crate::visit::segment;
use keyward_api::wire::Explanation;
use keyward_model::RuleSpec;

/// Names and patterns that a sentence has of each kind; the others are counted.
const NAMED: usize = 3;

/// The parts of the sentence.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Sentence {
    who: String,
    may: &'static str,
    /// `GET or HEAD`; empty: any method.
    methods: String,
    /// Hosts and paths.
    what: String,
    is_pattern: bool,
    /// ` for clone or push`; empty: all requests.
    purpose: String,
    how: Treatment,
    /// `, with pushes to agent/* only`; empty: all branches.
    branches: String,
}

/// What happens to requests.
#[derive(Clone, Debug, Eq, PartialEq)]
enum Treatment {
    With(String),
    Bound,
    Plain,
    Tunnel,
    Blocked,
}

impl Sentence {
    pub(super) fn of(spec: &RuleSpec) -> Self {
        let action = spec.action.map_or("inject", |action| action.as_str());
        let how = match (action, &spec.use_connection) {
            ("deny", _) => Treatment::Blocked,
            ("pass", _) => Treatment::Plain,
            ("tunnel", _) => Treatment::Tunnel,
            (_, Some(connection)) => Treatment::With(connection.clone()),
            _ => Treatment::Bound,
        };
        let who = match (&spec.agents, &how) {
            (Some(agents), _) => listed(agents, "and"),
            (None, Treatment::With(connection)) => {
                format!("Each agent that is bound to {connection}")
            }
            (None, _) => "Every agent".to_owned(),
        };
        Self {
            who,
            may: if how == Treatment::Blocked { "may not" } else { "may" },
            methods: listed(&spec.methods, "or"),
            what: what(spec, &how),
            is_pattern: !spec.hosts.is_empty(),
            purpose: match &spec.actions[..] {
                [] => String::new(),
                actions => format!(" for {}", listed(actions, "or")),
            },
            branches: match (&spec.branches[..], &how) {
                ([], _) => String::new(),
                (branches, Treatment::Blocked) => {
                    format!(", where it pushes to {}", listed(branches, "or"))
                }
                (branches, _) => format!(", with pushes to {} only", listed(branches, "and")),
            },
            how,
        }
    }

    /// `reach` for all methods.
    fn verb(&self) -> &str {
        if self.methods.is_empty() { "reach" } else { &self.methods }
    }

    pub(super) fn show(&self) -> Markup {
        html! {
            b { (self.who) } " "
            @if self.how == Treatment::Blocked { span.status-bad { (self.may) } } @else { (self.may) }
            " "
            @if self.methods.is_empty() { (self.verb()) } @else { span.method { (self.verb()) } }
            " "
            @if self.is_pattern { code { (self.what) } } @else { (self.what) }
            (self.purpose)
            @match &self.how {
                Treatment::With(connection) => { " with " a href=(format!("/connections/{}", segment(connection))) { (connection) } }
                Treatment::Bound => " with the connection that it is bound to",
                Treatment::Plain => " without a credential",
                Treatment::Tunnel => " through a tunnel that is not inspected",
                Treatment::Blocked => {}
            }
            (self.branches)
        }
    }
}

/// Hosts and paths: `api.github.com/repos/**`.
fn what(spec: &RuleSpec, how: &Treatment) -> String {
    let hosts = match (&spec.hosts[..], how) {
        ([], Treatment::With(connection)) => format!("the hosts of {connection}"),
        ([], _) => "any host".to_owned(),
        (hosts, _) => listed(hosts, "and"),
    };
    match (&spec.paths[..], spec.hosts.len()) {
        ([], _) => hosts,
        ([path], 1) => hosts + path,
        (paths, _) => format!("{hosts} at {}", listed(paths, "and")),
    }
}

/// `a`, `a and b`, `a, b, c and 4 more`.
fn listed(all: &[String], word: &str) -> String {
    match all {
        [] => String::new(),
        [one] => one.clone(),
        all if all.len() > NAMED => {
            format!("{} {word} {} more", all[..NAMED].join(", "), all.len() - NAMED)
        }
        [first @ .., last] => format!("{} {word} {last}", first.join(", ")),
    }
}

/// What decided, with a link to it.
pub(crate) fn decider(now: &Explanation) -> Option<Markup> {
    let rule = now.rule.as_deref()?;
    let name = now.connection.as_ref().map(|it| it.name.as_str());
    Some(match rule.split_once(':') {
        Some(("file" | "store", name)) if !name.contains(':') => {
            html! { "rule " a href=(format!("/rules/{}", segment(name))) { (name) } }
        }
        Some(("file", place)) => html! { "rule at " code { (place) } },
        Some(("binding", _)) => html! {
            "the binding of " a href=(format!("/agents/{}", segment(&now.agent))) { (now.agent) }
            @if let Some(name) = name { " to " (name) }
        },
        Some(("allow", set)) => {
            html! { "set " code { (set) } " of " a href=(format!("/agents/{}", segment(&now.agent))) { (now.agent) } }
        }
        _ if rule == "default" => html! { "the default" },
        _ => html! { (rule) },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The sentence without markup.
    fn said(spec: serde_json::Value) -> String {
        let spec: RuleSpec = serde_json::from_value(spec).unwrap();
        let mut markup = Sentence::of(&spec).show().into_string();
        while let (Some(from), Some(to)) = (markup.find('<'), markup.find('>')) {
            markup.replace_range(from..=to, "");
        }
        markup
    }

    #[test]
    fn a_rule_is_one_sentence() {
        for (spec, sentence) in [
            (
                serde_json::json!({"agents": ["ci"], "hosts": ["api.github.com"], "methods": ["GET"],
                    "paths": ["/repos/**"], "use": "work"}),
                "ci may GET api.github.com/repos/** with work",
            ),
            (
                serde_json::json!({"hosts": ["a.test"], "action": "deny"}),
                "Every agent may not reach a.test",
            ),
            (
                serde_json::json!({"use": "work", "methods": ["GET", "HEAD"]}),
                "Each agent that is bound to work may GET or HEAD the hosts of work with work",
            ),
            (
                serde_json::json!({"agents": ["a", "b", "c", "d", "e"], "action": "pass",
                    "hosts": ["x.test", "*.y.test"], "paths": ["/a", "/b"]}),
                "a, b, c and 2 more may reach x.test and *.y.test at /a and /b without a credential",
            ),
            (
                serde_json::json!({"action": "tunnel"}),
                "Every agent may reach any host through a tunnel that is not inspected",
            ),
            (
                serde_json::json!({"agents": ["ci"], "hosts": ["a.test"], "action": "inject"}),
                "ci may reach a.test with the connection that it is bound to",
            ),
            (
                serde_json::json!({"agents": ["ci"], "hosts": ["github.com"], "actions": ["clone", "push"],
                    "branches": ["agent/*"], "use": "work"}),
                "ci may reach github.com for clone or push with work, with pushes to agent/* only",
            ),
            (
                serde_json::json!({"hosts": ["github.com"], "branches": ["main", "v*"], "action": "deny"}),
                "Every agent may not reach github.com, where it pushes to main or v*",
            ),
        ] {
            assert_eq!(said(spec.clone()), sentence, "{spec}");
        }
    }

    #[test]
    fn names_in_a_rule_sentence_are_escaped() {
        let spec = serde_json::json!({"agents": ["<b>"], "use": "<i>&"});
        let spec: RuleSpec = serde_json::from_value(spec).unwrap();
        let markup = Sentence::of(&spec).show().into_string();
        assert!(!markup.contains("<i>") && markup.contains("&lt;b&gt;"), "{markup}");
    }
}

//! The tester: explains one request of an agent, and shows a line for a file of rule tests that expects the same.
//! It is part of the query of the page of rules.

use maud::{Markup, PreEscaped, html};
use serde::Deserialize;

use super::sentence::decider;
use crate::pages::traffic::decided;
use crate::visit::{PageError, Visit, segment, sentence};
use keyward_api::wire::{ErrorView, ExplainRequest, Explanation};

/// Methods that the form offers.
const METHODS: [&str; 7] = ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"];

/// What came of the request.
pub(super) enum Tested {
    Explained(Box<Explanation>),
    /// No such request can be.
    Refused(Box<ErrorView>),
}

impl Tested {
    pub(super) fn explanation(&self) -> Option<&Explanation> {
        match self {
            Self::Explained(now) => Some(now),
            Self::Refused(_) => None,
        }
    }
}

/// Asks about the request of the query.
pub(super) async fn tested(visit: &Visit, asked: &PageQuery) -> Result<Option<Tested>, PageError> {
    let given = |text: &Option<String>| text.clone().filter(|text| !text.trim().is_empty());
    let (Some(agent), Some(url)) = (given(&asked.agent), given(&asked.url)) else {
        return Ok(None);
    };
    let ask = ExplainRequest {
        agent,
        method: given(&asked.method),
        url: whole(&url),
        graphql: given(&asked.graphql),
        ..ExplainRequest::default()
    };
    match visit.explain(&ask).await {
        Ok(now) => Ok(Some(Tested::Explained(Box::new(now)))),
        Err(PageError::Refused(_, error) | PageError::Missing(_, error)) => {
            Ok(Some(Tested::Refused(error)))
        }
        Err(stop) => Err(stop),
    }
}

/// People write `api.github.com/user`.
fn whole(url: &str) -> String {
    let url = url.trim();
    if url.contains("://") { url.to_owned() } else { format!("https://{url}") }
}

/// The agents that the form offers.
pub(super) struct Offered<'a> {
    pub(super) names: &'a [String],
    /// Whether there are others: their names are typed.
    pub(super) has_more: bool,
}

pub(super) fn panel(
    asked: &PageQuery,
    agents: &Offered<'_>,
    tested: Option<&Tested>,
    writes: bool,
) -> Markup {
    let refused = match tested {
        Some(Tested::Refused(error)) => Some(error),
        _ => None,
    };
    html! {
        section.panel {
            header { h2 { "Test a request" } }
            div.body {
                @if agents.names.is_empty() {
                    p.muted { "A request is one of an agent. " a href="/agents" { "Add the first agent" } }
                } @else {
                    form.tester action="/rules" method="get" {
                        (choices(asked, agents))
                        input.grow name="url" value=[asked.url.as_deref()] placeholder="https://api.github.com/user" aria-label="URL"
                            required autocomplete="off" autocapitalize="off" spellcheck="false"
                            aria-invalid=[refused.map(|_| "true")] aria-describedby=[refused.map(|_| "tester-wrong")];
                        button.first { "Test" }
                        details #graphql-document open[asked.graphql.as_ref().is_some_and(|text| !text.is_empty())] {
                            summary { "GraphQL" }
                            textarea name="graphql" rows="3" aria-label="GraphQL document" spellcheck="false"
                                placeholder="query { viewer { login } }" { (asked.graphql.as_deref().unwrap_or_default()) }
                        }
                    }
                }
                @if let Some(error) = refused {
                    p.wrong #tester-wrong role="alert" { (sentence(format!("{} {}", error.field.as_deref().unwrap_or_default(), error.message).trim())) }
                }
                @if let Some(now) = tested.and_then(Tested::explanation) { (answer(asked, now, writes)) }
            }
        }
    }
}

/// Agent and method. Those of the query are always among them, so that the form can be sent again.
fn choices(asked: &PageQuery, agents: &Offered<'_>) -> Markup {
    let agent = asked.agent.as_deref().filter(|text| !text.is_empty());
    let unlisted = agent.filter(|agent| agents.names.iter().all(|name| name != agent));
    let method = asked.method.as_deref().filter(|text| !text.is_empty()).unwrap_or(METHODS[0]);
    html! {
        @if agents.has_more {
            input name="agent" value=[agent] placeholder="Agent" aria-label="Agent" list="tester-agents"
                required autocomplete="off" autocapitalize="off" spellcheck="false";
            datalist #tester-agents { @for name in agents.names { option value=(name) {} } }
        } @else {
            select name="agent" aria-label="Agent" {
                @for name in agents.names { option value=(name) selected[agent == Some(name.as_str())] { (name) } }
                @if let Some(name) = unlisted { option value=(name) selected { (name) } }
            }
        }
        select name="method" aria-label="Method" {
            @for it in METHODS { option selected[it == method] { (it) } }
            @if !METHODS.contains(&method) { option selected { (method) } }
        }
    }
}

fn answer(asked: &PageQuery, now: &Explanation, writes: bool) -> Markup {
    let is_denied = now.action.as_str() == "deny";
    let code = now.stopped_by.first().map(|error| error.code.as_str());
    let lacks = matches!(code, Some("default_deny" | "unbound" | "connection_missing"));
    html! {
        div.answer #answer role="status" {
            (decided(now))
            div.actions {
                @if writes { a.button href=(new_rule(now)) { @if is_denied { "Allow…" } @else { "Add a rule for it…" } } }
                @if lacks { a.button href=(format!("/agents/{}", segment(&now.agent))) { "Bind a connection" } }
            }
            details #rule-test {
                summary { "Make a rule test" }
                p.small.muted { "A line for a file of tests, which " code { "keyward rule test" } " runs in CI." }
                (crate::parts::copyable(&test_line(asked, now)))
            }
        }
    }
}

/// The form of a rule for the request.
fn new_rule(now: &Explanation) -> String {
    let host = now.target.split_once("://").map_or(&*now.target, |(_, rest)| rest);
    let host = host.strip_suffix(":443").unwrap_or(host);
    format!(
        "/rules?new=1&agent={}&method={}&host={}&path={}",
        segment(&now.agent),
        segment(&now.method),
        segment(host),
        segment(&now.path)
    )
}

/// A case as YAML, in JSON strings, which are YAML.
fn test_line(asked: &PageQuery, now: &Explanation) -> String {
    let text = |text: &str| serde_json::Value::from(text).to_string();
    let url = whole(asked.url.as_deref().unwrap_or_default());
    let stop = now.stopped_by.first();
    let expect = if stop.is_some() { "deny" } else { now.action.as_str() };
    let mut line = format!(
        "- {{ agent: {}, request: {}, expect: {expect}",
        text(&now.agent),
        text(&format!("{} {url}", now.method))
    );
    if let Some(document) = asked.graphql.as_deref().filter(|text| !text.trim().is_empty()) {
        line += &format!(", graphql: {}", text(document));
    }
    match (stop, &now.connection) {
        (Some(stop), _) if !stop.code.is_empty() => line += &format!(", code: {}", stop.code),
        (None, Some(connection)) => line += &format!(", connection: {}", text(&connection.name)),
        _ => {}
    }
    let rule = now.rule.as_deref().and_then(|rule| rule.split_once(':'));
    if let Some(("file" | "store", name)) = rule.filter(|(_, name)| !name.contains(':')) {
        line += &format!(", rule: {}", text(name));
    }
    line + " }"
}

/// What the request would be decided by, for the form of a new rule.
pub(super) fn current_decision(now: &Explanation) -> Markup {
    html! {
        "Now it is " @if now.allowed { "sent" } @else { "refused" }
        @if let Some(by) = decider(now) { " because of " (by) }
        (PreEscaped("."))
    }
}

/// The query of the page: the request of the tester, and that of a new rule.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct PageQuery {
    pub(super) agent: Option<String>,
    pub(super) method: Option<String>,
    pub(super) url: Option<String>,
    pub(super) graphql: Option<String>,
    pub(super) new: Option<String>,
    pub(super) host: Option<String>,
    pub(super) path: Option<String>,
    pub(super) from: usize,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn explanation(more: &serde_json::Value) -> Explanation {
        let mut whole = serde_json::json!({
            "agent": "ci", "method": "DELETE", "target": "https://api.github.com:443", "path": "/user",
            "allowed": true, "action": "inject", "rule": "binding:con_1", "host": null, "connection": null,
            "placements": [], "addresses": [], "stopped_by": [],
        });
        whole.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        serde_json::from_value(whole).unwrap()
    }

    #[test]
    fn the_form_keeps_the_agent_and_method_of_its_query() {
        let names = ["alpha".to_owned()];
        let asked = PageQuery {
            agent: Some("zeta".to_owned()),
            method: Some("PROPFIND".to_owned()),
            ..PageQuery::default()
        };
        let form = |has_more| choices(&asked, &Offered { names: &names, has_more }).into_string();
        let few = form(false);
        assert!(few.contains(r#"<option value="zeta" selected>"#), "{few}");
        let many = form(true);
        assert!(many.contains(r#"<input name="agent" value="zeta""#), "{many}");
        assert!(
            many.contains(r#"<option value="alpha">"#) && !many.contains("<select name=\"agent")
        );
        for form in [few, many] {
            assert!(form.contains("<option selected>PROPFIND</option>"), "{form}");
            assert_eq!(
                form.matches(" selected").count(),
                1 + usize::from(form.contains("<select name=\"agent")),
                "{form}"
            );
        }
    }

    #[test]
    fn a_generated_test_case_expects_the_present_outcome() {
        let asked =
            PageQuery { url: Some("api.github.com/user".to_owned()), ..PageQuery::default() };
        let refused = serde_json::json!({
            "allowed": false, "action": "deny", "rule": "file:no-deletes",
            "stopped_by": [{ "code": "denied", "message": "rule `no-deletes` denies this" }],
        });
        assert_eq!(
            test_line(&asked, &explanation(&refused)),
            "- { agent: \"ci\", request: \"DELETE https://api.github.com/user\", expect: deny, \
             code: denied, rule: \"no-deletes\" }"
        );
        let line = test_line(&asked, &explanation(&serde_json::json!({})));
        assert!(line.ends_with("expect: inject }"), "{line}");
        let asked = PageQuery { graphql: Some("{ a(b: \"c\") }".to_owned()), ..asked };
        let line = test_line(&asked, &explanation(&serde_json::json!({})));
        assert!(line.contains(r#", graphql: "{ a(b: \"c\") }""#), "{line}");
    }

    #[test]
    fn the_link_to_a_new_rule_omits_the_default_port() {
        let path = new_rule(&explanation(&serde_json::json!({})));
        assert_eq!(path, "/rules?new=1&agent=ci&method=DELETE&host=api.github.com&path=%2Fuser");
    }
}

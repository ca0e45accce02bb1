//! The form of a rule: a new one, prefilled by a request that was refused, or a stored one.

use maud::{Markup, html};

use super::sentence::Sentence;
use super::tester::PageQuery;
use super::{list, tester};
use crate::frame::{Page, Section};
use crate::parts::{Field, edits, head, own_authorization};
use crate::visit::{PageError, Tagged, Visit, segment};
use keyward_api::wire::{Explanation, List};
use keyward_model::{Connection, ManagedBy, RuleShown, RuleSpec, Shown};

/// With more agents, their names are typed.
const TICKED: usize = 16;
/// With more connections, their names are typed.
const CHOSEN: usize = 50;

/// What the form is about.
struct Form<'a> {
    /// `POST /rules`.
    api: String,
    tag: Option<&'a str>,
    /// The page that follows.
    to: String,
    verb: &'static str,
    spec: &'a RuleSpec,
    agents: &'a [String],
    connections: Connections,
    /// Stored rules, in their order, without this one.
    others: Vec<&'a str>,
    /// The stored rule that it has to precede to have an effect.
    before: Option<&'a str>,
    is_new: bool,
}

/// Connections that the form offers.
struct Connections {
    names: Vec<String>,
    /// Whether there are others: their names are typed.
    has_more: bool,
}

impl Connections {
    async fn read(visit: &Visit) -> Result<Self, PageError> {
        let list: List<Shown<Connection>> =
            visit.get(&format!("/connections?limit={CHOSEN}")).await?;
        let has_more = list.next.is_some();
        let names = list.items.into_iter().map(|connection| connection.spec.name).collect();
        Ok(Self { names, has_more })
    }

    /// The field of the connection that a rule uses.
    fn choice(&self, chosen: Option<&str>) -> Markup {
        const BOUND: &str = "the one that the agent is bound to";
        let unlisted = chosen.filter(|chosen| self.names.iter().all(|name| name != chosen));
        html! {
            @if self.has_more {
                input #field-use name="use" value=[chosen] placeholder=(BOUND) list="rule-connections" aria-describedby="field-use-help"
                    autocomplete="off" autocapitalize="off" spellcheck="false";
                datalist #rule-connections { @for name in &self.names { option value=(name) {} } }
            } @else {
                select #field-use name="use" aria-describedby="field-use-help" {
                    option value="" { (BOUND) }
                    @for name in &self.names { option value=(name) selected[chosen == Some(name.as_str())] { (name) } }
                    @if let Some(name) = unlisted { option value=(name) selected { (name) } }
                }
            }
        }
    }
}

/// The names of stored rules.
fn stored(all: &List<RuleShown>) -> Vec<&str> {
    let stored = all.items.iter().filter(|rule| rule.managed_by == Some(ManagedBy::Store));
    stored.filter_map(|rule| rule.spec.name.as_deref()).collect()
}

pub(super) async fn new(
    visit: &Visit,
    asked: &PageQuery,
    agents: &[String],
) -> Result<Page, PageError> {
    let all: List<RuleShown> = visit.get("/rules?limit=1000").await?;
    let given = |text: &Option<String>| text.clone().filter(|text| !text.trim().is_empty());
    let spec = RuleSpec {
        agents: given(&asked.agent).map(|agent| vec![agent]),
        hosts: given(&asked.host).into_iter().collect(),
        // A CONNECT has the method of no request in it.
        methods: given(&asked.method).filter(|it| it != "CONNECT").into_iter().collect(),
        paths: given(&asked.path).into_iter().collect(),
        ..RuleSpec::default()
    };
    let url = given(&asked.host)
        .map(|host| format!("https://{host}{}", given(&asked.path).as_deref().unwrap_or("/")));
    let request = PageQuery { url: url.clone(), ..asked.clone() };
    let tested = tester::tested(visit, &request).await?;
    let now = tested.as_ref().and_then(tester::Tested::explanation);
    let to = match (now, &url) {
        (Some(now), Some(url)) => format!(
            "/rules?agent={}&method={}&url={}",
            segment(&now.agent),
            segment(&now.method),
            segment(url)
        ),
        _ => "/rules".to_owned(),
    };
    let before = now.and_then(|now| now.rule.as_deref()?.strip_prefix("store:"));
    let form = Form {
        api: "POST /rules".to_owned(),
        tag: None,
        to,
        verb: "Add rule",
        spec: &spec,
        agents,
        connections: Connections::read(visit).await?,
        others: stored(&all),
        before,
        is_new: true,
    };
    let content = html! {
        p.crumb { a href="/rules" { "Rules" } }
        (head(html! { "Add rule" }, None, html! {}))
        @if let Some(now) = now { (stands_now(now)) }
        section.panel { div.body { (show(&form)) } }
    };
    Ok(Page::new(visit, Section::Rules, "Add rule", content))
}

/// What happens to the request now, and whether a stored rule can change that.
fn stands_now(now: &Explanation) -> Markup {
    let of_file = now.rule.as_deref().and_then(|rule| rule.strip_prefix("file:"));
    let is_fixed = of_file.is_some() && !now.allowed;
    html! {
        div.notice.warn[is_fixed] { div.grow {
            p { code { (now.method) " " (now.target.strip_suffix(":443").unwrap_or(&now.target)) (now.path) } " of " b { (now.agent) } }
            p.small { (tester::current_decision(now)) }
            @if is_fixed {
                p.small { "Rules of the configuration file come before stored ones, so a rule that is added here does not change that. Edit the file." }
            }
        } }
    }
}

pub(super) async fn edit(
    visit: &Visit,
    rule: &Tagged<RuleShown>,
    agents: &[String],
) -> Result<Page, PageError> {
    let all: List<RuleShown> = visit.get("/rules?limit=1000").await?;
    let name = rule.body.spec.name.as_deref().unwrap_or(&rule.body.id);
    let path = format!("/rules/{}", segment(name));
    let mut others = stored(&all);
    others.retain(|other| *other != name);
    let form = Form {
        api: format!("PATCH {path}"),
        tag: rule.tag.as_deref(),
        to: "/rules".to_owned(),
        verb: "Save rule",
        spec: &rule.body.spec,
        agents,
        connections: Connections::read(visit).await?,
        others,
        before: None,
        is_new: false,
    };
    let earlier = rule.body.status.shadowed_by.as_deref().map(list::written_name);
    let content = html! {
        p.crumb { a href="/rules" { "Rules" } " / " a href=(path) { (name) } }
        (head(html! { "Edit rule" }, Some(Sentence::of(&rule.body.spec).show()), html! {
            (list::remove_button(&rule.body, rule.tag.as_deref()).show())
        }))
        @if let Some(earlier) = earlier { (list::shadow_notice(earlier)) }
        section.panel { div.body { (show(&form)) } }
    };
    Ok(Page::new(visit, Section::Rules, "Edit rule", content))
}

fn show(form: &Form<'_>) -> Markup {
    let spec = form.spec;
    // Members that have inputs of their own.
    let others = ["name", "agents", "action", "use", "own_authorization"];
    let name = Field {
        name: "name",
        label: "Name",
        value: spec.name.as_deref(),
        help: Some("For messages and the audit log. Empty: made of action and host."),
        is_optional: true,
        ..Field::default()
    };
    // Members that the chosen action does not have are cleared.
    let body = serde_json::json!({ "use": null });
    html! {
        form.narrow method="post" data-api=(form.api) data-body=(body) data-tag=[form.tag] data-to=(form.to) data-done="The rule is in force." autocomplete="off" {
            (action(form))
            (agents(form))
            (edits(spec, |name| !others.contains(&name)))
            (name.show())
            (place(form))
            div.actions { button.first { (form.verb) } a.button href="/rules" { "Cancel" } }
        }
    }
}

fn action(form: &Form<'_>) -> Markup {
    let usual = if form.connections.names.is_empty() { "pass" } else { "inject" };
    let chosen = form.spec.action.map_or(usual, |it| it.as_str());
    let ways = [
        ("inject", "Allow with a connection"),
        ("pass", "Allow without a credential"),
        ("deny", "Block"),
        ("tunnel", "Allow through a tunnel, without looking inside"),
    ];
    html! {
        fieldset.field {
            legend.label { "What it does" }
            @for (value, label) in ways {
                @let id = format!("action-{value}");
                div.check {
                    input type="radio" id=(id) name="action" value=(value) checked[chosen == value];
                    label for=(id) { (label) }
                }
            }
        }
        fieldset.field data-when="action=inject" {
            label for="field-use" { "Connection" }
            (form.connections.choice(form.spec.use_connection.as_deref()))
            p.help #field-use-help { "With agents named below, the rule itself lets them use the connection. For all agents, it narrows what their bindings allow." }
            (own_authorization(form.spec.own_authorization, Some("as the binding says")))
        }
    }
}

fn agents(form: &Form<'_>) -> Markup {
    let chosen = form.spec.agents.as_deref().unwrap_or_default();
    if form.agents.len() > TICKED {
        let names = chosen.join(" ");
        let field = Field {
            name: "agents",
            label: "Agents",
            value: Some(&names),
            help: Some("Names, separated by blanks; empty: all agents."),
            json: Some("list"),
            is_optional: true,
            empties: true,
            ..Field::default()
        };
        return field.show();
    }
    // Without its box, the rule of an agent that is gone would become one for all agents.
    let gone = chosen.iter().filter(|it| !form.agents.contains(it));
    html! {
        fieldset.field aria-describedby="agents-help" {
            legend.label { "Agents " span.muted { "(optional)" } }
            div.boxes {
                @for agent in form.agents.iter().chain(gone) {
                    @let id = format!("agent-{agent}");
                    div.check {
                        input type="checkbox" id=(id) name="agents" value=(agent) data-each data-null checked[chosen.contains(agent)];
                        label for=(id) { (agent) }
                    }
                }
            }
            p.help #agents-help { "None ticked: all agents." }
        }
    }
}

/// Its place among the stored rules; those of the file come before.
fn place(form: &Form<'_>) -> Markup {
    if form.others.is_empty() {
        return html! {};
    }
    let value = |place: serde_json::Value| place.to_string();
    html! {
        div.field {
            label for="field-place" { "Place" }
            select #field-place name="place" data-json="merge" {
                @if !form.is_new { option value="" { "where it is" } }
                option value=(value(serde_json::json!({ "last": true }))) { "last" }
                option value=(value(serde_json::json!({ "first": true }))) { "first of the stored rules" }
                @for name in &form.others {
                    option value=(value(serde_json::json!({ "before": name }))) selected[form.before == Some(name)] { "before " (name) }
                }
            }
            @if let Some(name) = form.before { p.help { "Rule " (name) " decides about this request now, so the new one comes before it." } }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_of_many_connections_can_be_named_in_a_rule() {
        let form = |has_more, chosen| {
            let names = vec!["first".to_owned()];
            Connections { names, has_more }.choice(chosen).into_string()
        };
        let many = form(true, Some("last"));
        assert!(!many.contains("<select") && many.contains(r#"name="use" value="last""#), "{many}");
        let few = form(false, Some("first"));
        assert!(few.contains(r#"<option value="first" selected>"#), "{few}");
        let gone = form(false, Some("gone"));
        assert!(gone.contains(r#"<option value="gone" selected>"#), "{gone}");
    }
}

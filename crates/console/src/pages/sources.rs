//! `/sources`: secret sources, whether they give values, and which connections have values there; and the forms
//! that add and change one.

use std::collections::BTreeMap;

use axum::Router;
use axum::extract::{Path, Query};
use maud::{Markup, html};
use serde_json::{Value, json};

use crate::frame::{Page, Section};
use crate::icons::Icon;
use crate::parts::{
    Action, Field, Subpage, ago, empty, head, input, links, lock, settings_nav, words,
};
use crate::visit::{Console, PageError, Tagged, Visit, segment};
use keyward_api::handler::get;
use keyward_api::wire::List;
use keyward_base::keys::Section as _;
use keyward_model::{Shown, Source, SourceKind, SourceSettings, SourceSpec, source_kinds};

/// As many as an organisation may have.
const ROWS: usize = 100;

pub(super) fn routes() -> Router<Console> {
    Router::new().route("/sources", get(show)).merge(edit_routes())
}

async fn show(visit: Visit) -> Result<Page, PageError> {
    let list: List<Shown<Source>> = visit.get(&format!("/sources?limit={ROWS}")).await?;
    let is_admin = visit.is_admin();
    let about = html! { "Where values of connections' fields are kept outside of Keyward. Values are shown nowhere." };
    let content = html! {
        (head(html! { "Secret sources" }, Some(about), html! {
            @if is_admin { a.button.first href="/sources/new" { (Icon::Plus.show()) "Add source" } }
        }))
        (settings_nav(&visit, Subpage::Sources))
        section.panel #sources data-live {
            @if list.items.is_empty() {
                (empty("No secret source yet", "Sources of the gateway's own machine are declared in the configuration file.", None))
            } @else {
                ul.rows { @for source in &list.items { (row(source, is_admin)) } }
            }
        }
    };
    Ok(Page::new(&visit, Section::Settings, "Secret sources", content))
}

fn row(source: &Shown<Source>, is_admin: bool) -> Markup {
    let (name, facts) = (&source.spec.name, &source.facts);
    let test = Action {
        api: format!("POST /sources/{}/test", segment(name)),
        label: "Test",
        done: "Tested: the row shows the result.",
        ..Action::default()
    };
    let remove = Action::removal(
        format!("DELETE /sources/{}", segment(name)),
        "Remove source",
        format!("Remove {name}?\nIts credentials are deleted."),
    );
    html! {
        li.top {
            div.grow {
                p { b { (name) } " " span.muted.small {
                    (facts.kind)
                    @if let Some(at) = facts.fetched { " · fetched " (ago(at)) }
                    " · added " (ago(source.created))
                } }
                @if let Some(failing) = &facts.failing {
                    p.status-bad { "Fails since " (ago(failing.since)) ", " (failing.count) " in a row: " (failing.message)
                        @match facts.kept_until {
                            Some(at) => { ". The last values are used until " (ago(at)) "." }
                            None => { ". There are no earlier values since the gateway started." }
                        }
                    }
                }
                @if !facts.connections.is_empty() {
                    p.small { "Connections: " (links("/connections", &facts.connections)) }
                }
                @if !facts.apps.is_empty() {
                    p.small { "Apps: " (links("/apps", &facts.apps)) }
                }
            }
            @if is_admin && !(facts.connections.is_empty() && facts.apps.is_empty()) { (test.show()) }
            @if let Some(lock) = lock(source.managed_by) { (lock) }
            @else if is_admin {
                a.button href=(format!("/sources/{}/edit", segment(name))) { "Edit" }
                @if facts.connections.is_empty() && facts.apps.is_empty() { (remove.show()) }
            }
        }
    }
}

fn edit_routes() -> Router<Console> {
    Router::new().route("/sources/new", get(add)).route("/sources/{name}/edit", get(edit))
}

/// The kinds that can be added here.
fn kinds() -> impl Iterator<Item = &'static SourceKind> {
    source_kinds().iter().filter(|kind| kind.local.is_none())
}

async fn add(
    visit: Visit,
    Query(asked): Query<BTreeMap<String, String>>,
) -> Result<Page, PageError> {
    if !visit.is_admin() {
        return Err(PageError::not_allowed());
    }
    let is_asked = |kind: &&SourceKind| asked.get("kind").is_none_or(|id| kind.id == *id);
    let kind = kinds().find(is_asked).ok_or_else(PageError::no_page)?;
    let (id, settings) = (kind.id.as_str(), SourceSettings::chosen(kind, &asked));
    let (login, logins) = kind.logins().unwrap_or_default();
    let chosen = settings.text(login);
    // The request names its kind, also where no setting is given.
    let body = match &chosen {
        Some(chosen) => json!({ id: { login: chosen } }),
        None => json!({ id: {} }),
    };
    let content = html! {
        p.crumb { a href="/sources" { "Secret sources" } }
        (head(html! { "Add a secret source" }, Some(html! { "Its credentials are encrypted, and never shown again." }), html! {}))
        nav.tabs.bar aria-label="Kind" { @for of in kinds() {
            a href=(format!("/sources/new?kind={}", of.id)) aria-current=[(of.id == id).then_some("true")] { (of.title) }
        } }
        section.panel.form { div.body {
            p.muted { (meaning(kind)) }
            @if !logins.is_empty() { nav.tabs aria-label=(words(login)) { @for choice in logins {
                a href=(format!("/sources/new?kind={id}&{login}={choice}")) aria-current=[(chosen.as_deref() == Some(choice)).then_some("true")] { (words(choice)) }
            } } }
            form method="post" data-api="POST /sources" data-body=(body) data-to="/sources" data-done="Added. Give a field of a connection a reference in it." autocomplete="off" {
                (Field { name: "name", label: "Name", value: Some(id), help: Some("How references name it: letters, digits, - _ ."), ..Field::default() }.show())
                (fields(kind, &settings, &Value::Null))
                div.actions { button.first { "Add source" } a.button href="/sources" { "Cancel" } }
            }
        } }
    };
    Ok(Page::new(&visit, Section::Settings, "Add a secret source", content))
}

async fn edit(visit: Visit, Path(name): Path<String>) -> Result<Page, PageError> {
    if !visit.is_admin() {
        return Err(PageError::not_allowed());
    }
    let path = format!("/sources/{}", segment(&name));
    let Tagged { body: source, tag } = visit.tagged::<Shown<Source>>(&path).await?;
    let given = source.spec.kind().filter(|(kind, _)| kind.local.is_none());
    let (kind, settings) = given.ok_or_else(PageError::no_page)?;
    let now = serde_json::to_value(&source.spec).unwrap_or_default();
    let content = html! {
        p.crumb { a href="/sources" { "Secret sources" } }
        (head(html! { (source.spec.name) }, Some(html! { (meaning(kind)) }), html! {}))
        section.panel.form { div.body {
            form method="post" data-api=(format!("PATCH {path}")) data-tag=[tag] data-to="/sources" data-done="Changed." autocomplete="off" {
                (fields(kind, settings, &now))
                p.small.muted { "Without credentials, those it has stay. Another address or account needs them again." }
                div.actions { button.first { "Change source" } a.button href="/sources" { "Cancel" } }
            }
        } }
    };
    Ok(Page::new(&visit, Section::Settings, &source.spec.name, content))
}

fn meaning(kind: &SourceKind) -> String {
    kind.meaning.replace('`', "")
}

/// Settings of the kind, credentials and times. `now`: the spec that is changed, or null.
fn fields(kind: &'static SourceKind, settings: &SourceSettings, now: &Value) -> Markup {
    let (login, _) = kind.logins().unwrap_or_default();
    // The login is chosen above the form.
    let shown = kind
        .settings
        .iter()
        .zip(kind.keys())
        .filter(|(of, _)| of.name != login && settings.meet(of.shown_if.as_ref()));
    let (all, names) = (SourceSpec::keys(), kind.credential_names(settings));
    let times = all.iter().filter(|key| ["ttl", "keep"].contains(&key.name));
    let optional = names.optional.unwrap_or_default();
    let is_new = now.is_null();
    html! {
        @for (_, key) in shown {
            (input(&format!("{}.{}", kind.id, key.name), key, &now[&kind.id][key.name]))
        }
        @for name in names.required { (credential(name, !is_new)) }
        @for name in optional { (credential(name, true)) }
        details #times {
            summary { "Times" }
            @for key in times { (input(key.name, key, &now[key.name])) }
        }
    }
}

fn credential(name: &str, is_optional: bool) -> Markup {
    let (path, label) = (format!("credentials.{name}"), words(name));
    let (name, kind) = (path.as_str(), "password");
    Field { name, label: &label, kind, is_optional, ..Field::default() }.show()
}

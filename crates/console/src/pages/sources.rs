//! `/sources`: secret sources, whether they give values, and which connections have values there.

mod edit;

use axum::Router;
use maud::{Markup, html};

use crate::frame::{Page, Section};
use crate::icons::Icon;
use crate::parts::{Action, Subpage, ago, empty, head, links, lock, settings_nav};
use crate::visit::{Console, PageError, Visit, segment};
use keyward_api::handler::get;
use keyward_api::wire::List;
use keyward_model::{Shown, Source};

/// As many as an organisation may have.
const ROWS: usize = 100;

pub(super) fn routes() -> Router<Console> {
    Router::new().route("/sources", get(show)).merge(edit::routes())
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

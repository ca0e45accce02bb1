//! `/honeytokens`: texts that look like keys and open nothing, where they are left, and the alarms that they raised.

use axum::Router;
use axum::extract::Query;
use maud::{Markup, html};

use super::timeline;
use crate::frame::{Page, Section};
use crate::icons::Icon;
use crate::parts::{
    Action, Field, ListQuery, Subpage, ago, empty, head, inputs, links, list_page, lock, search,
    settings_nav,
};
use crate::visit::{Console, PageError, Visit, segment};
use keyward_api::handler::get;
use keyward_api::wire::{Event, EventType, List};
use keyward_model::{Honeytoken, HoneytokenSpec, NoticeKind, Shown};

/// Rows of a page.
const ROWS: usize = 20;
/// Alarms that the page shows.
const ALARMS: usize = 10;
/// Services whose keys programs look for.
const COMMON: [&str; 8] =
    ["anthropic", "aws", "github", "gitlab", "openai", "sendgrid", "slack", "stripe"];

pub(super) fn routes() -> Router<Console> {
    Router::new().route("/honeytokens", get(show))
}

async fn show(visit: Visit, Query(asked): Query<ListQuery>) -> Result<Page, PageError> {
    let path = asked.of(&format!("/honeytokens?limit={ROWS}"));
    let list: List<Shown<Honeytoken>> = visit.get(&path).await?;
    let used = NoticeKind::HoneytokenUsed.code();
    let alarms: Option<List<Event>> =
        visit.get_optional(&format!("/audit?event={used}&limit={ALARMS}")).await?;
    let types: List<EventType> = visit.get("/events").await?;
    let told = types.items.into_iter().find(|of| of.r#type == used);
    let told = told.map(|of| of.webhooks).unwrap_or_default();
    let is_admin = visit.is_admin();
    let add =
        html! { button.first data-open="add-honeytoken" { (Icon::Plus.show()) "Add honeytoken" } };
    let content = html! {
        (head(
            html! { "Honeytokens" },
            Some(html! { "A honeytoken looks like a key and gives no access. A program that sends one has read what it should not." }),
            html! { @if is_admin { (add) } },
        ))
        (settings_nav(&visit, Subpage::Honeytokens))
        @if asked.q.is_some() || list.next.is_some() || asked.after.is_some() {
            form.bar action="/honeytokens" method="get" data-find role="search" { (search("honeytokens", asked.q.as_deref())) }
        }
        div.columns {
            div {
                section.panel #honeytokens data-live { (table(&list, &asked, is_admin)) }
                @if let Some(alarms) = &alarms {
                    section.panel #alarms data-live {
                        header { h2 { "Alarms" } a href=(format!("/audit?event={used}")) { "All" } }
                        @if alarms.items.is_empty() { div.body { p.status-ok { "No honeytoken was used." } } }
                        @else { (timeline::changes(&alarms.items)) }
                    }
                }
            }
            aside { (meaning(&told, is_admin)) }
        }
        @if is_admin { (dialog()) }
    };
    Ok(Page::new(&visit, Section::Settings, "Honeytokens", content))
}

fn table(list: &List<Shown<Honeytoken>>, asked: &ListQuery, is_admin: bool) -> Markup {
    let none = match asked.is_searched() {
        true => empty("No honeytoken fits", "Change the search.", None),
        false => empty(
            "No honeytoken yet",
            "Leave one in a README, an .env file or a CI variable, where no program has a reason to read it.",
            None,
        ),
    };
    let rows = html! { ul.rows { @for honeytoken in &list.items { (row(honeytoken, is_admin)) } } };
    list_page(&asked.first("/honeytokens"), asked.after.as_deref(), list, &rows, none)
}

fn row(honeytoken: &Shown<Honeytoken>, is_admin: bool) -> Markup {
    let spec = &honeytoken.spec;
    let name = &spec.name;
    let remove = Action::removal(
        format!("DELETE /honeytokens/{}", segment(name)),
        "Remove honeytoken",
        format!(
            "Remove {name}?\nA program that sends its text raises no alarm from then on. A new one of the same name has another text."
        ),
    );
    html! {
        li.top {
            div.grow {
                p { b { (name) } " " span.muted.small {
                    @match &spec.provider { Some(provider) => { "like a key of " (provider) } None => "without the shape of a service" }
                    @if spec.revokes { " · disarms the agent" }
                    " · added " (ago(honeytoken.created))
                } }
            }
            @if let Some(lock) = lock(honeytoken.managed_by) { (lock) }
            @else if is_admin { (remove.show()) }
            div.copy { code.text { (honeytoken.facts.text) } button type="button" data-copy { "Copy" } }
        }
    }
}

/// What happens when one is used, and where they are left.
fn meaning(told: &[String], is_admin: bool) -> Markup {
    html! {
        section.panel {
            header { h2 { "When one is used" } }
            div.body {
                ol.plain {
                    li { "The request is refused like any with an unknown placeholder, so the sender cannot tell it apart." }
                    li { "An alarm is recorded with agent and host, at most once a minute for each agent." }
                    li { @if told.is_empty() { "No webhook receives " code { "honeytoken.used" } "." @if is_admin { " " a href="/webhooks" { "Add a webhook" } } }
                        @else { "Webhooks are notified: " (links("/webhooks", told)) "." } }
                    li { "If it disarms: the token of the agent is revoked, or the agent is paused if the configuration file holds its token. Open streams end." }
                }
            }
        }
        section.panel {
            header { h2 { "Where to leave it" } }
            div.body {
                p.small.muted { "Name it after the place, to know from the alarm what was read." }
                ul.plain {
                    li { code { ".env.backup" } " or a README of a repository" }
                    li { "a variable of CI that no job uses" }
                    li { "a note in a password manager or wiki" }
                    li { "the home directory of an agent's container" }
                }
                p.small.muted { "Only requests through the proxy are searched: header fields and URLs, not bodies and not tunnels." }
            }
        }
    }
}

fn dialog() -> Markup {
    let name = Field {
        name: "name",
        label: "Name",
        example: Some("readme-of-billing"),
        help: Some("Where it is left."),
        ..Field::default()
    };
    html! {
        dialog #add-honeytoken aria-labelledby="add-honeytoken-title" {
            h2 #add-honeytoken-title { "Add honeytoken" }
            form method="post" data-api="POST /honeytokens" data-show="text" data-done="Honeytoken added. Leave this text there" {
                (name.show())
                div.field {
                    label for="field-provider" { "Shape" span.muted { " (optional)" } }
                    input #field-provider name="provider" list="shapes" placeholder="openai" autocomplete="off" spellcheck="false" autocapitalize="off" aria-describedby="field-provider-help";
                    datalist #shapes { @for id in COMMON { option value=(id) {} } }
                    p.help #field-provider-help { "The service whose keys it looks like." }
                }
                (inputs::<HoneytokenSpec>(&["revokes"]))
                div.actions { button type="button" data-close { "Cancel" } button.first { "Add honeytoken" } }
            }
        }
    }
}

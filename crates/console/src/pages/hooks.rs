//! `/incoming`: the hooks, to which services post their webhooks, and a form for a new one.

use axum::Router;
use axum::extract::Query;
use maud::{Markup, html};

use crate::frame::{Page, Section};
use crate::icons::Icon;
use crate::parts::{
    Field, ListQuery, Subpage, Tone, empty, head, inputs, last_delivery, list_page, settings_nav,
    state,
};
use crate::visit::{Console, PageError, Visit, segment, with_query};
use keyward_api::handler::get;
use keyward_api::wire::{HookScheme, List};
use keyward_model::{Connection, Hook, HookSpec, ManagedBy, Shown};

/// Rows of a page.
const ROWS: usize = 20;

/// Connections to choose from. Others are named by the API and the CLI.
const CHOICES: usize = 200;

pub(super) fn routes() -> Router<Console> {
    Router::new().route("/incoming", get(show))
}

async fn show(visit: Visit, Query(asked): Query<ListQuery>) -> Result<Page, PageError> {
    let path = with_query(&format!("/hooks?limit={ROWS}"), &[("after", asked.after.as_deref())]);
    let list: List<Shown<Hook>> = visit.get(&path).await?;
    let form = match visit.is_admin() {
        true => Some(dialog(
            &visit.get::<List<HookScheme>>("/hook-schemes").await?.items,
            &visit.get::<List<Shown<Connection>>>(&format!("/connections?limit={CHOICES}")).await?,
        )),
        false => None,
    };
    let add = html! { button.first data-open="add-hook" { (Icon::Plus.show()) "Add hook" } };
    let content = html! {
        (head(
            html! { "Hooks" },
            Some(html! { "Services post their webhooks here. What their signature proves goes on to your program." }),
            html! { @if form.is_some() { (add) } },
        ))
        (settings_nav(&visit, Subpage::Hooks))
        div #hooks data-live { (table(&list, &asked)) }
        @if let Some(form) = &form { (form) }
    };
    Ok(Page::new(&visit, Section::Settings, "Hooks", content))
}

fn table(list: &List<Shown<Hook>>, asked: &ListQuery) -> Markup {
    let none = empty(
        "No hook yet",
        "A hook takes the webhooks of a service and keeps its signing secret from your program.",
        None,
    );
    let hooks = html! {
        div.wide { table.stack {
            thead { tr { th { "Name" } th { "Goes to" } th { "State" } th { "Last delivery" } th.r { "Waiting" } } }
            tbody { @for hook in &list.items { (row(hook)) } }
        } }
    };
    html! { section.panel { (list_page("/incoming", asked.after.as_deref(), list, &hooks, none)) } }
}

fn row(hook: &Shown<Hook>) -> Markup {
    html! {
        tr.go {
            td { div.item {
                (Icon::Webhooks.show())
                div.text {
                    a href=(format!("/incoming/{}", segment(&hook.spec.name))) { (hook.spec.name) }
                    @if hook.managed_by == Some(ManagedBy::File) { span title="managed by the configuration file" { " " (Icon::Lock.show()) span.sr { "managed by the configuration file" } } }
                    small { (hook.facts.signed_by) }
                }
            } }
            td data-label="Goes to" { (destination(hook)) }
            td { (state_of(hook)) }
            td data-label="Last delivery" { (last_delivery(hook.facts.last.as_ref())) }
            td.r data-label="Waiting" { (hook.facts.waiting) }
        }
    }
}

/// The URL of the program, or the queue.
pub(super) fn destination(hook: &Shown<Hook>) -> Markup {
    html! {
        @match &hook.spec.to {
            Some(url) => code { (url) },
            None => "queue",
        }
    }
}

pub(super) fn state_of(hook: &Shown<Hook>) -> Markup {
    let of = &hook.facts;
    let fails = of.last.as_ref().is_some_and(|last| !last.taken);
    if of.signed_by.is_empty() {
        state(Tone::Bad, "no scheme")
    } else if !of.has_secret {
        state(Tone::Idle, "waits for the secret")
    } else if of.can_reveal {
        state(Tone::Warn, "enter the secret there")
    } else if of.paused {
        state(Tone::Idle, "paused")
    } else if of.dead > 0 {
        state(Tone::Bad, "undelivered events")
    } else if fails {
        state(Tone::Warn, "retrying")
    } else {
        state(Tone::Ok, "active")
    }
}

fn dialog(schemes: &[HookScheme], connections: &List<Shown<Connection>>) -> Markup {
    let name = Field {
        name: "name",
        label: "Name",
        example: Some("payments"),
        help: Some("The last part of its URL."),
        ..Field::default()
    };
    let secret = Field {
        name: "secret",
        label: "Secret of the service",
        kind: "password",
        help: Some(
            "The service shows it where its webhook is set up. Asana and Notion send it themselves; leave it empty.",
        ),
        is_optional: true,
        ..Field::default()
    };
    html! {
        dialog.broad #add-hook aria-labelledby="add-hook-title" {
            h2 #add-hook-title { "Add hook" }
            form method="post" data-api="POST /hooks" data-show="signing_key" data-to="/incoming/{name}" data-done="Hook added. Deliveries are signed with this key" {
                (name.show())
                div.field {
                    label for="field-scheme" { "Signed as by" }
                    select #field-scheme name="scheme" {
                        option value="" { "the service of the connection" }
                        @for scheme in schemes { option value=(scheme.id) { (scheme.name) } }
                    }
                }
                div.field {
                    label for="field-connection" { "Connection" span.muted { " (optional)" } }
                    select #field-connection name="connection" {
                        option value="" { "none" }
                        @for connection in &connections.items { option value=(connection.spec.name) { (connection.spec.name) } }
                    }
                    @if connections.next.is_some() { p.help { "There are more connections: " code { "keyward hook add" } " takes any." } }
                }
                (secret.show())
                (inputs::<HookSpec>(&["to"]))
                div.actions { button type="button" data-close { "Cancel" } button.first { "Add hook" } }
            }
        }
    }
}

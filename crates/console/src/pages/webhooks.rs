//! `/webhooks`: the receivers of events, whether they accept them, and a form for a new one.

use axum::Router;
use axum::extract::Query;
use maud::{Markup, html};

use crate::frame::{Page, Section};
use crate::icons::Icon;
use crate::parts::{
    Check, Field, ListQuery, Subpage, Tone, count, empty, head, inputs, last_delivery, list_page,
    settings_nav, state,
};
use crate::visit::{Console, PageError, Visit, segment, with_query};
use keyward_api::handler::get;
use keyward_api::wire::{EventType, List};
use keyward_model::{ManagedBy, NoticeKind, Shown, Webhook, WebhookSpec, WebhookState};

/// Rows of a page.
const ROWS: usize = 20;

pub(super) fn routes() -> Router<Console> {
    Router::new().route("/webhooks", get(show))
}

async fn show(visit: Visit, Query(asked): Query<ListQuery>) -> Result<Page, PageError> {
    let path = with_query(&format!("/webhooks?limit={ROWS}"), &[("after", asked.after.as_deref())]);
    let list: List<Shown<Webhook>> = visit.get(&path).await?;
    let types: List<EventType> = visit.get("/events").await?;
    let add = html! { button.first data-open="add-webhook" { (Icon::Plus.show()) "Add webhook" } };
    let content = html! {
        (head(
            html! { "Webhooks" },
            Some(html! { "Keyward posts to your URL when a connection breaks, a key expires, or an alarm is raised." }),
            html! { @if visit.is_admin() { (add) } },
        ))
        (settings_nav(&visit, Subpage::Webhooks))
        div #webhooks data-live { (table(&list, &asked)) }
        @if visit.is_admin() { (dialog(&types.items)) }
    };
    Ok(Page::new(&visit, Section::Settings, "Webhooks", content))
}

fn table(list: &List<Shown<Webhook>>, asked: &ListQuery) -> Markup {
    let none = empty(
        "No webhook yet",
        "Without one, a broken connection shows only when a request fails.",
        None,
    );
    let webhooks = html! {
        div.wide { table.stack {
            thead { tr { th { "Name" } th { "Events" } th { "State" } th { "Last delivery" } th.r { "Waiting" } } }
            tbody { @for webhook in &list.items { (row(webhook)) } }
        } }
    };
    html! { section.panel { (list_page("/webhooks", asked.after.as_deref(), list, &webhooks, none)) } }
}

fn row(webhook: &Shown<Webhook>) -> Markup {
    let facts = &webhook.facts;
    html! {
        tr.go {
            td { div.item {
                (Icon::Webhooks.show())
                div.text {
                    a href=(format!("/webhooks/{}", segment(&webhook.spec.name))) { (webhook.spec.name) }
                    @if webhook.managed_by == Some(ManagedBy::File) { span title="managed by the configuration file" { " " (Icon::Lock.show()) span.sr { "managed by the configuration file" } } }
                    small { (webhook.spec.url) }
                }
            } }
            td { (events(webhook)) }
            td { (state_of(webhook)) }
            td data-label="Last delivery" { (last_delivery(facts.last.as_ref())) }
            td.r data-label="Waiting" { (facts.waiting) }
        }
    }
}

/// Which events it receives, in short.
fn events(webhook: &Shown<Webhook>) -> Markup {
    let events = &webhook.spec.events;
    html! {
        @match events.len() {
            0 => "all events",
            1 | 2 => span.chips { @for kind in events { span.chip { (kind.code()) } } },
            number => span title=(events.iter().map(|kind| kind.code()).collect::<Vec<_>>().join(", ")) { (count(number, "type")) },
        }
    }
}

pub(super) fn state_of(webhook: &Shown<Webhook>) -> Markup {
    let fails = webhook.facts.last.as_ref().is_some_and(|last| !last.taken);
    match webhook.facts.state {
        WebhookState::Active if fails => state(Tone::Warn, "retrying"),
        WebhookState::Active => state(Tone::Ok, "active"),
        WebhookState::Paused => state(Tone::Idle, "paused"),
        WebhookState::Gone => state(Tone::Bad, "gone"),
        WebhookState::Failed => state(Tone::Bad, "failed"),
    }
}

fn dialog(types: &[EventType]) -> Markup {
    let name = Field {
        name: "name",
        label: "Name",
        example: Some("ops"),
        help: Some("The host of the URL, if it is empty."),
        is_optional: true,
        ..Field::default()
    };
    html! {
        dialog.broad #add-webhook aria-labelledby="add-webhook-title" {
            h2 #add-webhook-title { "Add webhook" }
            form method="post" data-api="POST /webhooks" data-show="signing_key" data-done="Webhook added. This is its signing key" {
                (inputs::<WebhookSpec>(&["url"]))
                (name.show())
                (event_checkboxes(types, &[]))
                div.actions { button type="button" data-close { "Cancel" } button.first { "Add webhook" } }
            }
        }
    }
}

/// Boxes for the types of events, in groups of what they are about.
pub(super) fn event_checkboxes(types: &[EventType], chosen: &[&str]) -> Markup {
    let mut groups: Vec<(&str, Vec<&EventType>)> = Vec::new();
    // A test goes to the webhook that is tested, whatever it receives.
    for of in types.iter().filter(|it| it.r#type != NoticeKind::WebhookTest.code()) {
        let about = of.r#type.split('.').next().unwrap_or_default();
        match groups.iter_mut().find(|(name, _)| *name == about) {
            Some((_, members)) => members.push(of),
            None => groups.push((about, vec![of])),
        }
    }
    html! {
        fieldset.field {
            legend { "Events" }
            p.help { "Tick none to receive all, also types that later versions add." }
            @for (about, members) in groups {
                details id=(format!("events-{about}")) open[members.iter().any(|it| chosen.contains(&it.r#type.as_str()))] {
                    summary { (about) span.muted.small { (members.len()) } }
                    @for of in members {
                        (Check {
                            name: "events",
                            value: &of.r#type,
                            label: &of.r#type,
                            help: Some(&of.meaning.replace('`', "")),
                            is_ticked: chosen.contains(&of.r#type.as_str()),
                            ..Check::default()
                        }.show())
                    }
                }
            }
        }
    }
}

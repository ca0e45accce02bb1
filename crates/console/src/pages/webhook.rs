//! `/webhooks/{name}`: whether events arrive there, what is posted, and how the receiver checks the signature.

use axum::Router;
use axum::extract::Path;
use maud::{Markup, html};

use super::timeline;
use super::webhooks::{event_checkboxes, state_of};
use crate::frame::{Page, Section};
use crate::parts::{
    Action, Subpage, ago, chips, copyable, count, danger_zone, edit, edits, facts, head,
    last_delivery, lock, settings_nav, settings_panel,
};
use crate::visit::{Console, PageError, Tagged, Visit, segment};
use keyward_api::handler::get;
use keyward_api::wire::{Event, EventType, List};
use keyward_model::{ManagedBy, Shown, Webhook, WebhookState};

/// Changes that the page shows.
const CHANGES: usize = 8;
/// A request as it is posted.
const EXAMPLE: &str = r#"POST /keyward HTTP/1.1
content-type: application/json
webhook-id: evt_4k1b0q7c5x2m8w9d3ynf
webhook-timestamp: 1795219200
webhook-signature: v1,K5oZfzN95Z9UVu1EsfQmfVNQhnkZ2pj9o9NDN/H/pI4=

{"type": "connection.broken", "timestamp": "2026-11-20T12:00:00Z",
 "data": {"org": "org_default", "by": "gateway",
  "connection": {"id": "con_…", "name": "work-crm"}, "provider": "hubspot",
  "reason": "revoked", "detail": "invalid_grant"}}"#;

/// Verification in Python, with the library of the standard.
const PYTHON: &str = r#"# pip install standardwebhooks
from standardwebhooks.webhooks import Webhook

# Raises an exception if the signature is wrong.
event = Webhook("whsec_…").verify(body, headers)"#;

/// The same in JavaScript.
const NODE: &str = r#"// npm install standardwebhooks
import { Webhook } from "standardwebhooks";

// Throws if the signature is wrong.
const event = new Webhook("whsec_…").verify(body, headers);"#;

pub(super) fn routes() -> Router<Console> {
    Router::new().route("/webhooks/{name}", get(show))
}

/// What the page is made of.
struct View {
    webhook: Shown<Webhook>,
    tag: Option<String>,
    types: Vec<EventType>,
    /// `None`: the reader may not read the audit log.
    changes: Option<List<Event>>,
}

impl View {
    fn path(&self, method: &str, verb: &str) -> String {
        format!("{method} /webhooks/{}{verb}", segment(&self.webhook.spec.name))
    }

    /// Whether the reader may change it: not what the configuration file manages.
    fn is_editable(&self, visit: &Visit) -> bool {
        visit.is_admin() && self.webhook.managed_by != Some(ManagedBy::File)
    }
}

async fn show(visit: Visit, Path(name): Path<String>) -> Result<Page, PageError> {
    let path = format!("/webhooks/{}", segment(&name));
    let Tagged { body: webhook, tag } = visit.tagged::<Shown<Webhook>>(&path).await?;
    let types: List<EventType> = visit.get("/events").await?;
    let asked = format!("/audit?changed={}&limit={CHANGES}", webhook.id);
    let changes = visit.get_optional(&asked).await?;
    let view = View { webhook, tag, types: types.items, changes };
    let webhook = &view.webhook;
    let is_editable = view.is_editable(&visit);
    let content = html! {
        p.crumb { a href="/webhooks" { "Webhooks" } }
        (head(
            html! { (webhook.spec.name) span #state data-live { (state_of(webhook)) } },
            Some(html! { code { (webhook.spec.url) } }),
            html! { @if visit.is_admin() { (actions(&view, is_editable)) } },
        ))
        (settings_nav(&visit, Subpage::Webhooks))
        div #standing data-live { (standing(webhook, is_editable, &view)) }
        div.columns {
            div {
                section.panel #deliveries data-live { header { h2 { "Deliveries" } } div.body { (deliveries(webhook)) } }
                section.panel { header { h2 { "What is posted" } } div.body { (posted()) } }
                @if let Some(changes) = &view.changes {
                    section.panel #changes data-live { header { h2 { "Changes" } } (timeline::changes(&changes.items)) }
                }
            }
            aside {
                section.panel { header { h2 { "About" } } div.body {
                    (about(webhook))
                    @if let Some(lock) = lock(webhook.managed_by) { p { (lock) } }
                } }
                @if is_editable { (settings(&view)) }
            }
        }
        @if is_editable { (danger(&view)) }
    };
    Ok(Page::new(&visit, Section::Settings, &webhook.spec.name, content))
}

fn actions(view: &View, is_editable: bool) -> Markup {
    let test = Action {
        api: view.path("POST", "/test"),
        label: "Send test event",
        done: "Test event:",
        ..Action::default()
    };
    let name = &view.webhook.spec.name;
    let pause = Action {
        api: view.path("PATCH", ""),
        label: "Pause webhook",
        body: Some(r#"{"paused":true}"#.to_owned()),
        confirm: Some(format!(
            "Pause {name}?\nEvents that happen meanwhile are not delivered later. The audit log has them."
        )),
        done: "Paused.",
        ..Action::default()
    };
    let rotate = Action {
        api: view.path("POST", "/rotate"),
        label: "Rotate signing key",
        confirm: Some(format!(
            "Rotate the signing key of {name}?\nEvents are signed with both keys for a day. Give the new one to the receiver within it."
        )),
        done: "New signing key",
        show: Some("signing_key"),
        tag: view.tag.as_deref(),
        ..Action::default()
    };
    html! {
        (test.show())
        @if is_editable {
            (rotate.show())
            @if view.webhook.facts.state == WebhookState::Active { (pause.show()) } @else { (resume(view, "").show()) }
        }
    }
}

fn resume<'a>(view: &View, class: &'a str) -> Action<'a> {
    Action {
        api: view.path("PATCH", ""),
        label: "Resume webhook",
        body: Some(r#"{"paused":false}"#.to_owned()),
        done: "Resumed.",
        class,
        ..Action::default()
    }
}

/// Why events do not arrive, and what to do.
fn standing(webhook: &Shown<Webhook>, is_editable: bool, view: &View) -> Markup {
    let (text, more) = match webhook.facts.state {
        WebhookState::Failed => (
            "It accepted no event in all attempts",
            "Correct the receiver or the URL, then resume. Events in the meantime are not delivered.",
        ),
        WebhookState::Gone => (
            "Its receiver answered 410: it accepts no more events",
            "Resume when the receiver exists again, or remove the webhook.",
        ),
        WebhookState::Active | WebhookState::Paused => return html! {},
    };
    html! {
        div.notice.bad role="alert" {
            div.grow { p { b { (text) } } p.small { (more) } }
            @if is_editable { (resume(view, "first").show()) }
        }
    }
}

fn deliveries(webhook: &Shown<Webhook>) -> Markup {
    let of = &webhook.facts;
    html! {
        div.tiles.three {
            div.tile { p.k { "Delivered" } p.v { (of.told) } }
            div.tile { p.k { "Waiting" } p.v.warn[of.waiting > 0] { (of.waiting) } }
            div.tile { p.k { "Dropped" } p.v.bad[of.dropped > 0] { (of.dropped) } }
        }
        p.small.muted { "Since the gateway started. What waits survives a restart." }
        (facts(&[("Last delivery", Some(last_delivery(webhook.facts.last.as_ref())))]))
    }
}

fn posted() -> Markup {
    html! {
        pre.code tabindex="0" { (EXAMPLE) }
        p.small.muted { "Any 2xx accepts an event. Other answers are retried after 5 s, 5 min, 30 min, 2 h and so on, up to a day. An event may arrive twice, and after a later one: ignore a webhook-id that you have seen. It holds no secret." }
        h3 { "Check the signature" }
        p.small.muted { "As Standard Webhooks says, so its libraries verify it." }
        details #in-python open { summary { "Python" } (copyable(PYTHON)) }
        details #in-javascript { summary { "JavaScript" } (copyable(NODE)) }
    }
}

fn about(webhook: &Shown<Webhook>) -> Markup {
    let events = &webhook.spec.events;
    let events = match events.is_empty() {
        true => html! { "all" },
        false => chips(events.iter().map(|kind| kind.code())),
    };
    facts(&[
        ("Events", Some(events)),
        ("Created", Some(ago(webhook.created))),
        ("Changed", webhook.updated.map(ago)),
        ("Id", Some(html! { code { (webhook.id) } })),
    ])
}

fn settings(view: &View) -> Markup {
    let spec = &view.webhook.spec;
    let chosen: Vec<_> = spec.events.iter().map(|kind| kind.code()).collect();
    let inputs = html! {
        (edits(spec, |name| name == "url"))
        (event_checkboxes(&view.types, &chosen))
    };
    settings_panel(&edit(&view.path("PATCH", ""), view.tag.as_deref(), "Saved.", &inputs))
}

fn danger(view: &View) -> Markup {
    let webhook = &view.webhook;
    let name = &webhook.spec.name;
    let waiting = match webhook.facts.waiting {
        0 => String::new(),
        number => format!(" {} that wait are dropped.", count(number, "event")),
    };
    let remove = Action {
        typed: Some(name),
        to: Some("/webhooks"),
        tag: view.tag.as_deref(),
        ..Action::removal(
            view.path("DELETE", ""),
            "Remove webhook",
            format!("Remove {name}?\nIts receiver gets no more events.{waiting}"),
        )
    };
    danger_zone(&remove.show())
}

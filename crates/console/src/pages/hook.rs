//! `/incoming/{name}`: the URL for the service, whether its requests are accepted, and the events that wait.

use axum::Router;
use axum::extract::{Path, Query};
use maud::{Markup, html};
use serde::Deserialize;

use super::hooks::{destination, state_of};
use super::timeline;
use crate::frame::{Page, Section};
use crate::parts::{
    Action, Check, Field, Subpage, ago, copyable, count, danger_zone, edit, edits, empty, facts,
    head, last_delivery, links, lock, settings_nav, settings_panel, values,
};
use crate::visit::{Console, PageError, Tagged, Visit, segment, with_query};
use keyward_api::handler::get;
use keyward_api::wire::{Event, HookEventView, List};
use keyward_model::{Connection, Hook, ManagedBy, Shown};

/// Changes and refusals that the page shows.
const CHANGES: usize = 8;

/// Events of each state on a page.
const EVENTS: usize = 10;

/// Characters of a body that are shown.
const BODY_CHARACTERS: usize = 2_000;

pub(super) fn routes() -> Router<Console> {
    Router::new().route("/incoming/{name}", get(show))
}

/// What the page is made of.
struct View {
    hook: Shown<Hook>,
    tag: Option<String>,
    /// `None`: the hook has none, or the reader may not see it.
    connection: Option<Shown<Connection>>,
    waiting: Vec<HookEventView>,
    dead: Vec<HookEventView>,
    delivered: List<HookEventView>,
    /// `None`: the reader may not read the audit log.
    changes: Option<List<Event>>,
}

impl View {
    fn path(&self, method: &str, verb: &str) -> String {
        format!("{method} /hooks/{}{verb}", segment(&self.hook.spec.name))
    }

    /// Whether the reader may change it: not what the configuration file manages.
    fn is_editable(&self, visit: &Visit) -> bool {
        visit.is_admin() && self.hook.managed_by != Some(ManagedBy::File)
    }
}

#[derive(Deserialize)]
struct PageQuery {
    /// The page of delivered events: those after this one.
    after: Option<String>,
}

async fn show(
    visit: Visit,
    Path(name): Path<String>,
    Query(asked): Query<PageQuery>,
) -> Result<Page, PageError> {
    let path = format!("/hooks/{}", segment(&name));
    let Tagged { body: hook, tag } = visit.tagged::<Shown<Hook>>(&path).await?;
    let waiting: List<HookEventView> = visit.get(&format!("{path}/events?limit={EVENTS}")).await?;
    let dead: List<HookEventView> =
        visit.get(&format!("{path}/events?dead=true&limit={EVENTS}")).await?;
    let delivered = format!("{path}/events?delivered=true&limit={EVENTS}");
    let delivered = with_query(&delivered, &[("after", asked.after.as_deref())]);
    let delivered = visit.get(&delivered).await?;
    let changes =
        visit.get_optional(&format!("/audit?changed={}&limit={CHANGES}", hook.id)).await?;
    let connection = match &hook.spec.connection {
        Some(id) => visit.get_optional(&format!("/connections/{}", segment(id.as_str()))).await?,
        None => None,
    };
    let (waiting, dead) = (waiting.items, dead.items);
    let view = View { hook, tag, connection, waiting, dead, delivered, changes };
    let (hook, is_editable) = (&view.hook, view.is_editable(&visit));
    let content = html! {
        p.crumb { a href="/incoming" { "Hooks" } }
        (head(
            html! { (hook.spec.name) span #state data-live { (state_of(hook)) } },
            Some(html! { "Signed as by " (hook.facts.signed_by) }),
            html! { @if is_editable { (actions(&view)) } },
        ))
        (settings_nav(&visit, Subpage::Hooks))
        div #standing data-live { (standing(&view, &visit)) }
        div.columns {
            div {
                section.panel { header { h2 { "URL for the service" } } div.body { (copyable(&hook.facts.url)) } }
                @if let Some(token) = &hook.facts.verify_token {
                    section.panel #verify-token data-live { header { h2 { "Verify token for the service" } } div.body { (copyable(token)) } }
                }
                section.panel #events data-live { header { h2 { "Events that wait" } } div.body { (waiting_events(&view)) } }
                @if !view.dead.is_empty() {
                    section.panel #dead data-live { header { h2 { "Undelivered events" } } div.body { (sent_again(&view, &view.dead, &visit)) } }
                }
                @if hook.facts.delivered > 0 {
                    section.panel #delivered data-live { header { h2 { "Delivered events" } } div.body { (delivered_events(&view, &visit)) } }
                }
                @if let Some(changes) = &view.changes {
                    section.panel #changes data-live { header { h2 { "Changes and refusals" } } (timeline::changes(&changes.items)) }
                }
            }
            aside {
                section.panel #about data-live { header { h2 { "About" } } div.body {
                    (about(&view))
                    @if let Some(lock) = lock(hook.managed_by) { p { (lock) } }
                } }
                @if is_editable { (settings(&view)) }
            }
        }
        @if is_editable { (danger(&view)) }
    };
    Ok(Page::new(&visit, Section::Settings, &hook.spec.name, content))
}

fn actions(view: &View) -> Markup {
    let hook = &view.hook;
    let rotate = Action {
        api: view.path("POST", "/rotate"),
        label: "Rotate signing key",
        confirm: Some(format!(
            "Rotate the signing key of {}?\nEvents are signed with both keys for a day. Give the new one to your program within it.",
            hook.spec.name
        )),
        done: "New signing key",
        show: Some("signing_key"),
        tag: view.tag.as_deref(),
        ..Action::default()
    };
    let pause = Action {
        api: view.path("PATCH", ""),
        label: "Pause deliveries",
        body: Some(r#"{"paused":true}"#.to_owned()),
        done: "Paused. Events wait.",
        ..Action::default()
    };
    let resume = Action {
        api: view.path("PATCH", ""),
        label: "Resume deliveries",
        body: Some(r#"{"paused":false}"#.to_owned()),
        done: "Resumed.",
        ..Action::default()
    };
    html! {
        @if hook.spec.to.is_some() {
            (rotate.show())
            @if hook.facts.paused { (resume.show()) } @else { (pause.show()) }
        }
    }
}

/// Why requests are refused or events do not arrive, and what to do.
fn standing(view: &View, visit: &Visit) -> Markup {
    let hook = &view.hook;
    html! {
        @if hook.facts.can_reveal {
            div.notice.warn role="status" {
                div.grow {
                    p { b { "The service sent its secret: enter it there" } }
                    p.small { "Events come after that. The secret can be shown until the first one." }
                }
                @if visit.is_admin() { (reveal(view)) }
            }
        }
        @if let Some(refused) = &hook.facts.refused {
            div.notice.warn role="status" {
                div.grow {
                    p { b { "The last refused request: " (refused.reason) } " " (ago(refused.at)) }
                    p.small { "Compare the URL and the secret with what the service shows." }
                }
            }
        }
    }
}

fn reveal(view: &View) -> Markup {
    let action = Action {
        api: view.path("POST", "/reveal"),
        label: "Show the secret",
        done: "Secret of the service",
        show: Some("secret"),
        ..Action::default()
    };
    action.show()
}

fn waiting_events(view: &View) -> Markup {
    let hook = &view.hook;
    let more = hook.facts.waiting.saturating_sub(view.waiting.len());
    html! {
        @if view.waiting.is_empty() {
            (empty("No event waits", "Send a test event where the service has its webhook settings.", None))
        }
        @for event in &view.waiting { (one(event)) }
        @if more > 0 { p.small.muted { (count(more, "event")) " more" } }
        @if hook.spec.to.is_none() {
            p.small.muted { "Your program gets them with this command. A failed event is tried again." }
            (copyable(&format!("keyward hook listen {} --exec COMMAND", hook.spec.name)))
        }
    }
}

/// The kept ones, newest first.
fn delivered_events(view: &View, visit: &Visit) -> Markup {
    let page = format!("/incoming/{}", segment(&view.hook.spec.name));
    html! {
        (sent_again(view, &view.delivered.items, visit))
        @if let Some(next) = &view.delivered.next {
            p { a href=(format!("{page}?after={}#delivered", segment(next))) { "Older events" } }
        }
    }
}

/// Events that an admin may have delivered again.
fn sent_again(view: &View, events: &[HookEventView], visit: &Visit) -> Markup {
    html! {
        @for event in events {
            (one(event))
            @if visit.is_admin() {
                (Action {
                    api: view.path("POST", &format!("/events/{}/resend", segment(&event.id))),
                    label: "Deliver again",
                    done: "It waits again.",
                    ..Action::default()
                }.show())
            }
        }
    }
}

fn one(event: &HookEventView) -> Markup {
    let body: Option<String> =
        event.body.as_ref().map(|text| text.chars().take(BODY_CHARACTERS).collect());
    html! {
        details id=(format!("event-{}", event.id)) {
            summary { (event.id) }
            p.muted.small { "Received " (ago(event.received)) @if event.tries > 0 { ", failed attempts: " (event.tries) } }
            @if let Some(why) = &event.why { p.why.bad { (why) } }
            pre.code tabindex="0" {
                @for (name, value) in &event.headers { (name) ": " (value) "\n" }
                "\n" @if let Some(body) = &body { (body) } @else { "(not text)" }
            }
        }
    }
}

fn about(view: &View) -> Markup {
    let hook = &view.hook;
    let connection = view.connection.as_ref().map(|connection| &connection.spec.name);
    let facts = facts(&[
        ("Goes to", Some(destination(hook))),
        ("Waiting", Some(html! { (hook.facts.waiting) })),
        ("Keeps", Some(html! { (count(hook.spec.kept_events(), "delivered event")) })),
        ("Last delivery", Some(last_delivery(hook.facts.last.as_ref()))),
        ("Connection", connection.map(|name| links("/connections", [name]))),
        ("Created", Some(ago(hook.created))),
        ("Changed", hook.updated.map(ago)),
        ("Id", Some(html! { code { (hook.id) } })),
    ]);
    // Those that have no fact of their own.
    let fits = |name: &str| !["connection", "scheme", "to", "keep_events"].contains(&name);
    html! { (facts) (values(&hook.spec, fits)) }
}

fn settings(view: &View) -> Markup {
    // Which service signs is decided where the hook is made.
    let is_edited = |name: &str| !["connection", "scheme"].contains(&name);
    let secret = Field {
        name: "secret",
        label: "New secret of the service",
        kind: "password",
        ..Field::default()
    };
    let no_overlap = Check {
        name: "no_overlap",
        label: "End the one before at once",
        help: Some("Others may have it. Otherwise it is accepted for one more day."),
        ..Check::default()
    };
    let (inputs, tag) = (edits(&view.hook.spec, is_edited), view.tag.as_deref());
    settings_panel(&html! {
        (edit(&view.path("PATCH", ""), tag, "Saved.", &inputs))
        details #replace-secret {
            summary { "Replace the secret" }
            form method="post" data-api=(view.path("POST", "/rotate")) data-tag=[tag] data-done="Secret replaced." {
                (secret.show())
                (no_overlap.show())
                button.first { "Replace secret" }
            }
        }
    })
}

fn danger(view: &View) -> Markup {
    let hook = &view.hook;
    let name = &hook.spec.name;
    let waiting = match hook.facts.waiting + hook.facts.dead {
        0 => String::new(),
        number => format!(" {} that wait are removed.", count(number, "event")),
    };
    let remove = Action {
        typed: Some(name),
        to: Some("/incoming"),
        tag: view.tag.as_deref(),
        ..Action::removal(
            view.path("DELETE", ""),
            "Remove hook",
            format!("Remove {name}?\nRequests of the service get 404.{waiting}"),
        )
    };
    danger_zone(&remove.show())
}

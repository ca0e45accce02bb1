//! `/`: what needs a person, what was refused, and the first steps while there is nothing yet.

use axum::Router;
use maud::{Markup, html};

use super::connections::{remedy, state_of};
use crate::frame::{Page, Section};
use crate::icons::Icon;
use crate::parts::{ago, count, head, in_short, mark, series};
use crate::visit::{Console, PageError, Visit, segment, sentence};
use keyward_api::handler::get;
use keyward_api::wire::{AuditCounts, CaView, List, OrgUsageView, Status, Summary};
use keyward_model::{Connection, PluginState, PluginView, Shown, Webhook};

/// Connections of each kind that are listed.
const LISTED: usize = 8;
/// Hosts of refusals.
const HOSTS: usize = 8;

pub(super) fn routes() -> Router<Console> {
    Router::new().route("/", get(show))
}

struct View {
    summary: Summary,
    waiting: Vec<Waiting>,
    plugins: Vec<PluginView>,
    webhooks: Vec<Shown<Webhook>>,
    refused: Option<AuditCounts>,
    status: Option<Status>,
    ca: Option<CaView>,
    hour: Option<OrgUsageView>,
    day: Option<OrgUsageView>,
}

impl View {
    /// Of the parts that show [`Self::refused`]. A renewal has only the stamp: the script reads the page again
    /// where it has changed. It is not shown, because it lacks requests without a known agent.
    fn stamp(&self) -> Option<u64> {
        self.day.as_ref().map(|day| day.history.total.refused)
    }
}

/// Connections that need a person for one reason.
struct Waiting {
    /// The filter of the list that has them all.
    filter: &'static str,
    /// The first of them.
    listed: Vec<Shown<Connection>>,
    /// All of them.
    total: usize,
    word: &'static str,
}

async fn show(visit: Visit) -> Result<Page, PageError> {
    let summary: Summary = visit.get("/summary").await?;
    let waiting = waiting(&visit, &summary).await?;
    let plugins: Option<List<PluginView>> = match summary.plugins.blocked {
        0 => None,
        _ => visit.get_optional("/plugins?limit=1000").await?,
    };
    let webhooks: Option<List<Shown<Webhook>>> = visit.get_optional("/webhooks?limit=1000").await?;
    // Before the counts: a request that ends in between changes the stamp of the next renewal.
    let day: Option<OrgUsageView> = visit.get_optional("/usage?since=24h").await?;
    let refused = visit.once("/audit/counts?by=host&requests=true&refused=true&since=24h").await?;
    let view = View {
        summary,
        waiting,
        plugins: plugins.map(|list| list.items).unwrap_or_default(),
        webhooks: webhooks.map(|list| list.items).unwrap_or_default(),
        refused,
        status: visit.get_optional("/status").await?,
        ca: visit.get_optional("/ca").await?,
        hour: visit.get_optional("/usage?since=1h").await?,
        day,
    };
    let content = html! {
        (head(html! { "Overview" }, view.status.as_ref().map(version), html! {
            @if visit.may_write() { a.button.first href="/connect" { (Icon::Plus.show()) "Connect" } }
        }))
        div.tiles {
            div #numbers data-live { (numbers(&view.summary)) }
            @if view.refused.is_some() || visit.is_renewal { (number_of_blocked(&view)) }
        }
        @if visit.may_write() && (view.summary.connections.total == 0 || view.summary.agents.total == 0) { (first_steps(&view)) }
        @if let Some(hour) = &view.hour {
            section.panel #hour data-live {
                header { h2 { "Requests of the last hour" } span.muted.small { (in_short(&hour.history.total)) } }
                div.body { (series("Requests by minute", &hour.history)) }
            }
        }
        div.pair {
            section.panel #needs data-live { header { h2 { "Needs a person" } } (needs(&visit, &view)) }
            @if view.refused.is_some() || visit.is_renewal { (blocked(&view)) }
        }
    };
    Ok(Page::new(&visit, Section::Overview, "Overview", content))
}

fn version(status: &Status) -> Markup {
    html! {
        "Keyward " (status.version)
        @if let Some(started) = status.started { " · started " (ago(started)) }
        @for at in status.proxy.iter().take(1) { " · proxy at " code { (at) } }
    }
}

fn numbers(of: &Summary) -> Markup {
    html! {
        a.tile href="/connections" { p.k { "Connections" } p.v { (of.connections.total) } }
        a.tile href="/connections?state=broken" { p.k { "Broken" } p.v.bad[of.connections.broken > 0] { (of.connections.broken) } }
        a.tile href="/agents" { p.k { "Agents" } p.v { (of.agents.total) } }
    }
}

/// The sum of the list of blocked requests, with the same stamp.
fn number_of_blocked(view: &View) -> Markup {
    html! {
        a.tile #number-of-blocked data-stamp=[view.stamp()] href="/traffic?refused=1" {
            p.k { "Blocked, 24 h" }
            @if let Some(counts) = &view.refused { p.v { (sum(counts)) } }
        }
    }
}

/// With a `+` where older records are not counted.
fn sum(counts: &AuditCounts) -> String {
    let groups: u64 = counts.groups.iter().map(|group| group.count).sum();
    let more = if counts.next.is_some() { "+" } else { "" };
    format!("{}{more}", groups + counts.other)
}

fn waiting_events(number: usize) -> String {
    let verb = if number == 1 { "waits" } else { "wait" };
    format!("{} {verb} for delivery.", count(number, "event"))
}

/// What a new user does, in order; done steps are ticked.
fn first_steps(view: &View) -> Markup {
    let of = &view.summary;
    let steps = [
        (
            of.connections.total > 0,
            "Connect an account",
            "/connect",
            "A key or a consent goes into the encrypted store and never comes out.",
        ),
        (
            of.agents.total > 0,
            "Add an agent",
            "/agents",
            "Each program has a token of its own and uses the connections that you tick.",
        ),
    ];
    html! {
        section.panel {
            header { h2 { "First steps" } }
            ul.rows {
                @for (is_done, label, path, text) in steps {
                    li {
                        @if is_done { span.status-ok { (Icon::Check.show()) } } @else { (Icon::Plus.show()) }
                        div.grow { a href=(path) { (label) } p.small.muted { (text) } }
                        @if is_done { span.muted { "done" } }
                    }
                }
            }
        }
    }
}

/// Connections that need a person, the most urgent ones first.
async fn waiting(visit: &Visit, summary: &Summary) -> Result<Vec<Waiting>, PageError> {
    let of = &summary.connections;
    let mut all: Vec<Waiting> = Vec::new();
    for (filter, total, word) in [
        ("state=broken", of.broken, "broken"),
        ("due=true", of.due, "expiring soon"),
        ("state=paused", of.paused, "paused"),
        ("state=draft", of.draft, "not connected yet"),
    ] {
        if total == 0 {
            continue;
        }
        let path = format!("/connections?{filter}&limit={LISTED}");
        let list: List<Shown<Connection>> = visit.get(&path).await?;
        // A broken one may expire as well.
        let is_new = |it: &Shown<Connection>| {
            !all.iter().any(|before| before.listed.iter().any(|other| other.id == it.id))
        };
        let listed: Vec<_> = list.items.into_iter().filter(is_new).collect();
        all.push(Waiting { filter, listed, total, word });
    }
    Ok(all)
}

fn needs(visit: &Visit, view: &View) -> Markup {
    let blocked = view.plugins.iter().filter(|plugin| plugin.state == PluginState::Blocked);
    let fails = |it: &&Shown<Webhook>| it.facts.last.as_ref().is_some_and(|last| !last.taken);
    let failing = view.webhooks.iter().filter(fails);
    let (blocked, failing): (Vec<_>, Vec<_>) = (blocked.collect(), failing.collect());
    let ca = view.ca.iter().flat_map(|ca| &ca.certificates).filter(|it| is_soon(it.until));
    let ca: Vec<_> = ca.collect();
    let faults = view.status.iter().flat_map(|status| &status.faults);
    let faults: Vec<_> = faults.collect();
    let is_quiet = faults.is_empty()
        && view.waiting.is_empty()
        && blocked.is_empty()
        && failing.is_empty()
        && ca.is_empty();
    html! {
        @if is_quiet { div.body { p.status-ok { (quiet(&view.summary)) } } }
        ul.rows {
            @for fault in faults { li {
                (Icon::Settings.show())
                div.grow { span.status-bad { (sentence(&fault.message)) } p.small.muted { (sentence(&fault.hint)) } }
            } }
            @for waiting in &view.waiting {
                @for connection in &waiting.listed { (waits(visit, connection)) }
                @if waiting.total > LISTED { li {
                    a href=(format!("/connections?{}", waiting.filter)) { "All " (waiting.total) " connections that are " (waiting.word) }
                } }
            }
            @for plugin in blocked { li {
                (Icon::Plugins.show())
                div.grow { a href=(format!("/plugins/{}", plugin.id)) { (plugin.name) } " of " (plugin.agent)
                    @for missing in plugin.missing.iter().take(1) { p.small.muted { (sentence(&missing.message)) } } }
            } }
            @for webhook in failing { li {
                (Icon::Webhooks.show())
                div.grow { a href="/webhooks" { "Webhook " (webhook.spec.name) } p.small.muted { (waiting_events(webhook.facts.waiting)) } }
            } }
            @for certificate in ca { li {
                (Icon::Lock.show())
                div.grow { a href="/settings" { "The local CA" } p.small.muted { "expires " (ago(certificate.until)) } }
            } }
        }
    }
}

/// Where nothing needs a person.
fn quiet(summary: &Summary) -> &'static str {
    match summary.connections.total {
        0 => "Nothing.",
        _ => "Nothing. All connections work.",
    }
}

fn waits(visit: &Visit, connection: &Shown<Connection>) -> Markup {
    let path = format!("/connections/{}", segment(&connection.spec.name));
    html! {
        li {
            (mark(&connection.spec.provider, false))
            div.grow {
                a href=(path) { (connection.spec.name) } " " (state_of(&connection.facts.state))
                (remedy(visit, connection, &path))
            }
        }
    }
}

/// Within 30 days.
fn is_soon(at: jiff::Timestamp) -> bool {
    at.duration_since(crate::parts::now()).as_hours() < 30 * 24
}

fn blocked(view: &View) -> Markup {
    html! {
        section.panel #blocked data-stamp=[view.stamp()] {
            @if let Some(counts) = &view.refused {
                header { h2 { "Blocked in the last 24 hours" } a href="/traffic?refused=1" { "All" } }
                (refusals(counts))
            }
        }
    }
}

fn refusals(counts: &AuditCounts) -> Markup {
    html! {
        @if counts.groups.is_empty() { div.body { p.muted { "No request was blocked." } } }
        ul.rows {
            @for group in counts.groups.iter().take(HOSTS) { li {
                @let name = group.name.as_deref().unwrap_or_default();
                span.grow.mono { (name) }
                span.num.muted { (group.count) }
                a.button href=(format!("/traffic?refused=1&host={}", segment(name))) { "Show" }
            } }
        }
    }
}

//! `/plugins`: software that declares its accounts: what it is, whether each slot works, and what to do if not.

mod install;
mod manifest;

use axum::Router;
use axum::extract::{Path, Query};
use maud::{Markup, html};

use self::manifest::{choices, limits, more};
use super::connections::{renewal_verb, state_of};
use crate::frame::{Page, Section};
use crate::icons::Icon;
use crate::parts::{
    Action, ListQuery, Tone, ago, count, danger_zone, empty, head, list_page, lock, mark, search,
    state,
};
use crate::visit::{Console, PageError, Tagged, Visit, segment, sentence};
use keyward_api::handler::get;
use keyward_api::wire::List;
use keyward_model::{
    Connection, ConnectionState, ManagedBy, PluginState, PluginView, Renewal, Shown,
    SlotConnectionView, SlotView,
};
use keyward_rules::provider::scope_words::{ScopeWords, worded_scopes};

/// Rows of the list.
const ROWS: usize = 40;

pub(super) fn routes() -> Router<Console> {
    Router::new()
        .route("/plugins", get(show))
        .route("/plugins/new", get(install::show))
        .route("/plugins/{id}", get(one))
}

async fn show(visit: Visit, Query(asked): Query<ListQuery>) -> Result<Page, PageError> {
    let path = asked.of(&format!("/plugins?limit={ROWS}"));
    let list: List<PluginView> = visit.get(&path).await?;
    let summary: keyward_api::wire::Summary = visit.get("/summary").await?;
    let numbers = &summary.plugins;
    let install =
        html! { a.button.first href="/plugins/new" { (Icon::Plus.show()) "Install plugin" } };
    let content = html! {
        (head(
            html! { "Plugins" },
            Some(html! {
                (count(numbers.total, "plugin"))
                @if numbers.blocked > 0 { " · " (numbers.blocked) " blocked" }
                @if numbers.degraded > 0 { " · " (numbers.degraded) " degraded" }
            }),
            html! { @if visit.may_write() && numbers.total > 0 { (install) } },
        ))
        @if numbers.total == 0 {
            section.panel { (empty("No plugin yet", "A plugin is software that declares which accounts it needs, in a manifest. You choose the connections; it uses these and no others.", visit.may_write().then_some(install))) }
        } @else {
            form.bar action="/plugins" method="get" data-find role="search" {
                (search("plugins", asked.q.as_deref()))
                noscript { button { "Apply" } }
            }
            div #plugins data-live { (table(&list, &asked)) }
        }
    };
    Ok(Page::new(&visit, Section::Plugins, "Plugins", content))
}

fn table(list: &List<PluginView>, asked: &ListQuery) -> Markup {
    let none = empty("No plugin fits", "Change the search.", None);
    let plugins = html! {
        div.wide { table.stack {
            thead { tr { th { "Name" } th { "Agent" } th { "State" } th { "Connections" } th { "Changed" } } }
            tbody { @for plugin in &list.items { (row(plugin)) } }
        } }
    };
    let first = asked.first("/plugins");
    html! { section.panel { (list_page(&first, asked.after.as_deref(), list, &plugins, none)) } }
}

fn row(plugin: &PluginView) -> Markup {
    let path = format!("/plugins/{}", plugin.id);
    html! {
        tr.go {
            td { div.item {
                (Icon::Plugins.show())
                div.text { a href=(path) { (plugin.name) } small { (plugin.version) } }
            } }
            td data-label="Agent" { a href=(format!("/agents/{}", segment(&plugin.agent))) { (plugin.agent) } }
            td {
                (state_word(plugin.state))
                @for missing in plugin.missing.iter().take(1) { p.why { (sentence(&missing.message)) " " a href=(path) { "Open" } } }
            }
            td { span.chips {
                @for slot in &plugin.slots {
                    span title=(slot.connection.as_ref().map_or_else(|| format!("{}: empty", slot.slot), |it| it.name.clone())) {
                        (mark(&slot.provider, false))
                        span.sr { (slot.connection.as_ref().map_or("empty", |it| it.name.as_str())) }
                    }
                }
            } }
            td data-label="Changed" { (ago(plugin.updated)) }
        }
    }
}

fn state_word(of: PluginState) -> Markup {
    let tone = match of {
        PluginState::Ready => Tone::Ok,
        PluginState::Degraded => Tone::Warn,
        PluginState::Blocked => Tone::Bad,
        PluginState::Paused => Tone::Idle,
    };
    state(tone, of.code())
}

async fn one(visit: Visit, Path(id): Path<String>) -> Result<Page, PageError> {
    let path = format!("/plugins/{}", segment(&id));
    let Tagged { body: plugin, tag } = visit.tagged::<PluginView>(&path).await?;
    let is_ours = visit.may_write() && plugin.managed_by == ManagedBy::Store;
    let mut slots = Vec::new();
    for slot in &plugin.slots {
        let now = slot.connection.as_ref().map(|it| it.name.as_str());
        let choices = match is_ours {
            true => choices(&visit, &slot.provider, now).await?,
            false => List::default(),
        };
        slots.push((slot, choices));
    }
    let page_path = format!("/plugins/{}", plugin.id);
    let content = html! {
        p.crumb { a href="/plugins" { "Plugins" } }
        (head(
            html! { (plugin.name) (state_word(plugin.state)) },
            Some(html! {
                "Version " (plugin.version) " of agent " a href=(format!("/agents/{}", segment(&plugin.agent))) { (plugin.agent) }
                " · installed " (ago(plugin.created))
            }),
            html! { @if is_ours { a.button href=(format!("/plugins/new?upgrade={}", plugin.id)) { "Upgrade plugin" } } },
        ))
        @if let Some(summary) = &plugin.summary { p.bar { (summary) } }
        @if let Some(lock) = lock(Some(plugin.managed_by)) { p.bar { (lock) } }
        div #standing data-live { (standing(&plugin)) }
        section.panel #slots {
            header { h2 { "What it has access to" } }
            ul.rows.top { @for (slot, choices) in &slots {
                li id=(format!("slot-{}", slot.slot)) data-live { (slot_row(&plugin, slot, may_renew(&visit, slot, &choices.items))) @if is_ours { (change(&plugin, slot, &choices.items, tag.as_deref())) (more(choices)) } }
            } }
        }
        @if is_ours {
            (danger_zone(&remove(&plugin, &page_path, tag.as_deref()).show()))
        }
    };
    Ok(Page::new(&visit, Section::Plugins, &plugin.name, content))
}

/// Whether the reader may replace the credential of the slot's connection. Members may where it is theirs.
fn may_renew(visit: &Visit, slot: &SlotView, choices: &[Shown<Connection>]) -> bool {
    let is_in_slot = |it: &&Shown<Connection>| {
        slot.connection.as_ref().is_some_and(|plugged| plugged.id == it.id)
    };
    let owner = choices.iter().find(is_in_slot).and_then(|it| it.facts.owner.as_ref());
    visit.may_change(owner)
}

fn standing(plugin: &PluginView) -> Markup {
    let class = match plugin.state {
        PluginState::Ready => return html! {},
        PluginState::Blocked => "notice bad",
        PluginState::Degraded => "notice warn",
        PluginState::Paused => "notice",
    };
    let effect = match plugin.state {
        PluginState::Blocked => "Its requests are refused until each required account works.",
        PluginState::Paused => {
            "The configuration file no longer names it. Its requests are refused."
        }
        _ => "Its requests are served, but those for the optional account are refused.",
    };
    html! {
        div class=(class) role="alert" { div.grow {
            b { "It is " (plugin.state.code()) }
            @for missing in &plugin.missing { p { (sentence(&missing.message)) " " a href=(format!("#slot-{}", missing.slot)) { "Show" } } }
            p.small.muted { (effect) }
        } }
    }
}

fn slot_row(plugin: &PluginView, slot: &SlotView, writes: bool) -> Markup {
    html! {
        (mark(&slot.provider, false))
        div.grow {
            p {
                b { (slot.label.as_deref().unwrap_or(&slot.slot)) } " "
                span.chip { @if slot.required { "required" } @else { "optional" } }
            }
            @if let Some(help) = &slot.help { p.why { (help) } }
            p.why { (limits(&slot.methods, &slot.paths)) }
            @if !slot.scopes.is_empty() { p.why { "Scopes: " (worded_scopes(&slot.scopes, &slot.scope_words)) } }
            @match &slot.connection {
                Some(plugged) => (plugged_in(plugin, plugged, &slot.scope_words, writes)),
                None => p.why { "No connection is chosen." }
            }
        }
    }
}

fn plugged_in(
    plugin: &PluginView,
    plugged: &SlotConnectionView,
    words: &ScopeWords,
    writes: bool,
) -> Markup {
    let path = format!("/connections/{}", segment(&plugged.name));
    html! {
        p {
            a href=(path) { (plugged.name) } " " (state_of(&plugged.state))
            @if let Some(account) = &plugged.account { span.muted { " as " (account) } }
            @if plugged.remedy.is_some() { " " (renew(plugged, &path, writes)) }
        }
        @if !plugged.scopes_missing.is_empty() {
            p.why { span.chip.bad { "not granted" } " " (worded_scopes(&plugged.scopes_missing, words)) ". Reconnect the account to ask again." }
        }
        @if plugged.unlimited {
            p.why {
                span.chip.warn { "not limited" } " " (plugin.agent) " is bound to this connection itself. "
                a href=(format!("/agents/{}", segment(&plugin.agent))) { "Open the agent" } " to unbind it."
            }
        }
    }
}

/// The way to a credential that works.
fn renew(plugged: &SlotConnectionView, path: &str, writes: bool) -> Markup {
    // A paused one works again when it is resumed, on its page.
    let is_paused = plugged.state == ConnectionState::Paused;
    let verb = renewal_verb(plugged.renewal, &plugged.state).filter(|_| writes && !is_paused);
    match (plugged.renewal, verb) {
        (Some(Renewal::Consent), Some(verb)) => {
            let api = format!("POST {path}/reconnect");
            Action { api, label: verb, ..Action::default() }.show()
        }
        (Some(Renewal::Secret), Some(verb)) => {
            html! { a.button href=(format!("{path}/rotate")) { (verb) } }
        }
        _ => html! { a.button href=(path) { "Open connection" } },
    }
}

/// Another connection for the slot.
fn change(
    plugin: &PluginView,
    slot: &SlotView,
    choices: &[Shown<Connection>],
    tag: Option<&str>,
) -> Markup {
    let name = format!("slots.{}", slot.slot);
    let id = format!("choose-{}", slot.slot);
    let now = slot.connection.as_ref().map(|it| it.name.as_str());
    let label = slot.label.as_deref().unwrap_or(&slot.slot);
    let others = choices.iter().any(|it| Some(it.spec.name.as_str()) != now);
    html! {
        div.slot-choice {
            @if others || !slot.required && now.is_some() {
                form method="post" data-api=(format!("PATCH /plugins/{}", plugin.id)) data-tag=[tag] data-done="Saved." {
                    select id=(id) name=(name) aria-label=(format!("Connection for {label}")) data-null[!slot.required] required[slot.required] {
                        @if !slot.required || now.is_none() { option value="" { "none" } }
                        @for it in choices { option value=(it.spec.name) selected[now == Some(it.spec.name.as_str())] { (it.spec.name) } }
                    }
                    button { "Save" }
                }
            }
            a.small href=(format!("/connect/to/{}", segment(&slot.provider))) target="_blank" { "Connect another account" span.sr { " for " (label) ", in a new tab" } }
        }
    }
}

fn remove<'a>(plugin: &'a PluginView, path: &str, tag: Option<&'a str>) -> Action<'a> {
    let names = plugin.slots.iter().filter_map(|slot| Some(slot.connection.as_ref()?.name.clone()));
    let names: Vec<_> = names.collect();
    let stays = match names.is_empty() {
        true => String::new(),
        false => format!("\nThese connections stay: {}.", names.join(", ")),
    };
    Action {
        done: "Removed. Its connections are still there.",
        to: Some("/plugins"),
        tag,
        ..Action::removal(
            format!("DELETE {path}"),
            "Remove plugin",
            format!(
                "Remove {}?\nAgent {} loses the access that it has through it, and its open streams end.{stays}",
                plugin.name, plugin.agent
            ),
        )
    }
}

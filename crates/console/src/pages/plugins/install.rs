//! The walk of an installation: manifest and agent, a connection for each slot, a summary, and only then the request. Each
//! step is an address with what was given before, so Back loses nothing. The same walk upgrades a plugin.

use std::collections::BTreeMap;

use axum::extract::Query;
use maud::{Markup, html};

use super::manifest::{ManifestProblem, changes, read};
use super::manifest::{choices, hosts, limits, more};
use crate::frame::{Page, Section};
use crate::pages::connections::state_of;
use crate::parts::{head, mark, remedy};
use crate::visit::{PageError, Visit, segment, sentence};
use keyward_api::wire::{List, ProviderView};
use keyward_model::{Agent, Connection, ConnectionState, Manifest, PluginView, Shown, Slot};
use keyward_rules::provider::scope_words::worded_scopes;

/// Longest manifest, so that an address can have it.
const TEXT_CHARS_MAX: usize = 16_000;

const EXAMPLE: &str = "plugin: crm-digest\nversion: 1.2.0\nsummary: Mails a weekly digest of the CRM.\nconnections:\n  - slot: crm\n    provider: hubspot\n    label: HubSpot account\n    methods: [GET]";

/// What was given so far.
struct Walk {
    given: BTreeMap<String, String>,
    /// The plugin that is upgraded.
    before: Option<PluginView>,
    providers: Vec<ProviderView>,
}

impl Walk {
    fn text(&self, name: &str) -> Option<&str> {
        self.given.get(name).map(String::as_str).filter(|text| !text.trim().is_empty())
    }

    fn agent(&self) -> Option<&str> {
        self.before.as_ref().map(|it| it.agent.as_str()).or_else(|| self.text("agent"))
    }

    fn title(&self) -> String {
        match &self.before {
            Some(before) => format!("Upgrade {}", before.name),
            None => "Install plugin".to_owned(),
        }
    }

    fn provider(&self, slot: &Slot) -> Option<&ProviderView> {
        self.providers.iter().find(|it| it.id == slot.provider)
    }

    fn service<'a>(&'a self, slot: &'a Slot) -> &'a str {
        self.provider(slot).map_or(&slot.provider, |it| &it.name)
    }

    /// The scopes with their words.
    fn scopes(&self, slot: &Slot) -> String {
        let words = self.provider(slot).map(|it| it.scope_words.clone()).unwrap_or_default();
        worded_scopes(&slot.scopes, &words)
    }
}

pub(super) async fn show(
    visit: Visit,
    Query(given): Query<BTreeMap<String, String>>,
) -> Result<Page, PageError> {
    let before = match given.get("upgrade") {
        Some(id) => Some(visit.get(&format!("/plugins/{}", segment(id))).await?),
        None => None,
    };
    let all: List<ProviderView> = visit.get("/providers?limit=1000").await?;
    let walk = Walk { given, before, providers: all.items };
    let ids: Vec<&str> = walk.providers.iter().map(|it| it.id.as_str()).collect();
    let (manifest, wrong) = match walk.text("manifest").map(|text| read(text, &ids)) {
        Some(Ok(manifest)) => (Some(manifest), Vec::new()),
        Some(Err(wrong)) => (None, wrong),
        None => (None, Vec::new()),
    };
    let (at, content) = match (manifest, walk.agent()) {
        (Some(manifest), Some(agent)) if walk.text("step") != Some("manifest") => {
            let slots = filled(&visit, &walk, &manifest).await?;
            match walk.text("step") {
                Some("confirm") if slots.iter().all(Filled::is_complete) => {
                    (2, confirm(&walk, &manifest, &slots, agent))
                }
                _ => (1, choose(&walk, &slots, agent)),
            }
        }
        _ => {
            let agents: List<Shown<Agent>> = visit.get("/agents?limit=200").await?;
            (0, ask(&walk, &agents, &wrong))
        }
    };
    let content = html! {
        p.crumb {
            a href="/plugins" { "Plugins" }
            @if let Some(before) = &walk.before { " / " a href=(format!("/plugins/{}", before.id)) { (before.name) } }
        }
        (head(html! { (walk.title()) }, None, html! {}))
        (steps(at))
        (content)
    };
    Ok(Page::new(&visit, Section::Plugins, &walk.title(), content))
}

fn steps(at: usize) -> Markup {
    html! {
        ol.steps {
            @for (index, step) in ["Manifest", "Connections", "Summary"].iter().enumerate() {
                li aria-current=[(index == at).then_some("step")] { (index + 1) ". " (step) }
            }
        }
    }
}

/// The first step.
fn ask(walk: &Walk, agents: &List<Shown<Agent>>, wrong: &[ManifestProblem]) -> Markup {
    html! {
        section.panel { div.body {
            @if !wrong.is_empty() { (errors(wrong)) }
            @if walk.before.is_none() && agents.items.is_empty() {
                p { "A plugin is installed for an agent. " a href="/agents" { "Add the first agent" } }
            } @else {
                form action="/plugins/new" method="get" {
                    @if let Some(before) = &walk.before { input type="hidden" name="upgrade" value=(before.id); }
                    div.field {
                        label for="manifest" { "Manifest" }
                        textarea #manifest name="manifest" rows="14" required maxlength=(TEXT_CHARS_MAX) placeholder=(EXAMPLE)
                            spellcheck="false" autocapitalize="off" aria-describedby="manifest-help" aria-invalid=[(!wrong.is_empty()).then_some("true")] { (walk.text("manifest").unwrap_or_default()) }
                        p.help #manifest-help { "What the author of the plugin declares, as YAML or JSON: " code { "keyward-plugin.yaml" } " of its repository." }
                    }
                    div.field {
                        label for="file" { "Or choose the file" }
                        input #file type="file" accept=".yaml,.yml,.json" data-into="manifest";
                    }
                    @if walk.before.is_none() {
                        div.field {
                            label for="agent" { "Agent" }
                            (agent_field(walk, agents))
                            p.help #agent-help { "The plugin runs with the token of this agent. Use one agent for each plugin that must not share accounts." }
                        }
                    }
                    div.actions { button.first { "Continue" } a.button href="/plugins" { "Cancel" } }
                }
            }
        } }
    }
}

/// The agent: a choice, or a field where there are more agents than are read.
fn agent_field(walk: &Walk, agents: &List<Shown<Agent>>) -> Markup {
    let chosen = walk.text("agent");
    html! {
        @if agents.next.is_some() {
            input #agent name="agent" value=[chosen] list="agent-names" required aria-describedby="agent-help"
                autocomplete="off" autocapitalize="off" spellcheck="false";
            datalist #agent-names { @for agent in &agents.items { option value=(agent.spec.name) {} } }
        } @else {
            select #agent name="agent" aria-describedby="agent-help" {
                @for agent in &agents.items { option selected[chosen == Some(agent.spec.name.as_str())] { (agent.spec.name) } }
            }
        }
    }
}

fn errors(wrong: &[ManifestProblem]) -> Markup {
    html! {
        div.wrong-box role="alert" {
            p { "The manifest cannot be used yet:" }
            ul { @for it in wrong { li {
                @if !it.place.is_empty() { code { (it.place) } " " }
                (sentence(&it.message))
                @if let Some(remedy) = remedy(Some(&it.remedy)).filter(|text| !text.is_empty()) { " " (sentence(remedy)) }
                @else if it.place.ends_with("provider") { " " a href="/services" { "All services" } }
            } } }
        }
    }
}

/// A slot with the connections that fit, and the chosen one.
struct Filled {
    slot: Slot,
    choices: List<Shown<Connection>>,
    chosen: Option<usize>,
}

impl Filled {
    fn connection(&self) -> Option<&Shown<Connection>> {
        self.choices.items.get(self.chosen?)
    }

    fn is_complete(&self) -> bool {
        !self.slot.required || self.chosen.is_some()
    }
}

async fn filled(visit: &Visit, walk: &Walk, manifest: &Manifest) -> Result<Vec<Filled>, PageError> {
    let mut slots = Vec::new();
    for slot in &manifest.connections {
        let given = walk.given.get(&format!("slot.{}", slot.slot)).map(String::as_str);
        let before = walk.before.as_ref().and_then(|before| {
            let old = before.slots.iter().find(|it| it.slot == slot.slot);
            Some(old?.connection.as_ref()?.name.as_str())
        });
        let choices = choices(visit, &slot.provider, given.or(before)).await?;
        let named = |name: &str| choices.items.iter().position(|it| it.spec.name == name);
        let chosen = match (given.or(before), walk.text("step")) {
            (Some(name), _) => named(name),
            // It was left empty on purpose.
            (None, Some("confirm")) => None,
            // One that works is proposed for what is required.
            (None, _) => choices
                .items
                .iter()
                .position(|it| it.facts.state == ConnectionState::Active)
                .filter(|_| slot.required),
        };
        slots.push(Filled { slot: slot.clone(), choices, chosen });
    }
    Ok(slots)
}

/// The second step.
fn choose(walk: &Walk, slots: &[Filled], agent: &str) -> Markup {
    html! {
        form action="/plugins/new" method="get" {
            (carried(walk, agent))
            input type="hidden" name="step" value="confirm";
            section.panel {
                header { h2 { "Which accounts may it use?" } }
                ul.rows.top { @for filled in slots { li {
                    (mark(&filled.slot.provider, false))
                    div.grow { (described(walk, &filled.slot)) }
                    div.slot-choice id=(format!("choice-{}", filled.slot.slot)) data-live { (choice(walk, filled)) }
                } } }
            }
            div.actions {
                button.first { "Continue" }
                a.button href=(address(walk, agent, "manifest")) { "Back" }
            }
        }
    }
}

/// What the steps before gave.
fn carried(walk: &Walk, agent: &str) -> Markup {
    html! {
        input type="hidden" name="manifest" value=(walk.text("manifest").unwrap_or_default());
        @match &walk.before {
            Some(before) => input type="hidden" name="upgrade" value=(before.id);,
            None => input type="hidden" name="agent" value=(agent);,
        }
    }
}

fn described(walk: &Walk, slot: &Slot) -> Markup {
    html! {
        p { b { (slot.title()) } " " span.chip { @if slot.required { "required" } @else { "optional" } } }
        @if let Some(help) = &slot.help { p.why { (help) } }
        p.why { (walk.service(slot)) " · " (limits(&slot.methods, &slot.paths)) }
        @if !slot.scopes.is_empty() { p.why { "Scopes: " (walk.scopes(slot)) } }
    }
}

fn choice(walk: &Walk, filled: &Filled) -> Markup {
    let slot = &filled.slot;
    let name = format!("slot.{}", slot.slot);
    html! {
        @let is_empty = filled.choices.items.is_empty();
        @if is_empty {
            p.small.muted { "There is no account at " (walk.service(slot)) " yet." }
        } @else {
            select id=(name) name=(name) aria-label=(format!("Connection for {}", slot.title())) required[slot.required] {
                @if !slot.required || filled.chosen.is_none() { option value="" { @if slot.required { "choose" } @else { "none" } } }
                @for (index, it) in filled.choices.items.iter().enumerate() {
                    option value=(it.spec.name) selected[filled.chosen == Some(index)] {
                        (it.spec.name)
                        @if let Some(account) = &it.facts.account { " – " (account) }
                        @if it.facts.state != ConnectionState::Active { " (" (it.facts.state.code()) ")" }
                    }
                }
            }
        }
        (more(&filled.choices))
        a.button[is_empty].small[!is_empty] href=(format!("/connect/to/{}", segment(&slot.provider))) target="_blank" {
            @if is_empty { "Connect " (walk.service(slot)) } @else { "Connect another account" }
            span.sr { " for " (slot.title()) ", in a new tab" }
        }
    }
}

/// The third step: everything that the plugin will have access to, and the request.
fn confirm(walk: &Walk, manifest: &Manifest, slots: &[Filled], agent: &str) -> Markup {
    let chosen: BTreeMap<&str, &str> = slots
        .iter()
        .filter_map(|it| Some((it.slot.slot.as_str(), it.connection()?.spec.name.as_str())))
        .collect();
    let (api, body) = match &walk.before {
        Some(before) => (
            format!("PATCH /plugins/{}", before.id),
            serde_json::json!({ "manifest": manifest, "slots": emptied(before, manifest, &chosen) }),
        ),
        None => (
            "POST /plugins".to_owned(),
            serde_json::json!({ "manifest": manifest, "agent": agent, "slots": chosen }),
        ),
    };
    let verb = if walk.before.is_some() { "Upgrade plugin" } else { "Install plugin" };
    html! {
        @if let Some(before) = &walk.before {
            section.panel { header { h2 { "What changes" } span.muted { (before.version) " → " (manifest.version) } } div.body {
                @let all = changes(&before.slots, manifest);
                @if all.is_empty() { p.muted { "Its accounts and what it may do with them stay as they are." } }
                ul { @for change in &all { li { (sentence(change)) } } }
            } }
        }
        section.panel {
            header { h2 { b { (manifest.plugin) } " " (manifest.version) " of agent " (agent) " will have access to" } }
            @if let Some(summary) = &manifest.summary { div.body { p.muted { (summary) } } }
            div.wide { table.stack {
                thead { tr { th { "Account" } th { "Connection" } th { "Hosts" } th { "What it may do" } } }
                tbody { @for filled in slots { (summary_row(walk, filled, agent)) } }
            } }
            div.foot { "Nothing else. The plugin and its author see no key." }
        }
        form method="post" data-api=(api) data-body=(body) data-to="/plugins/{id}" data-done=(if walk.before.is_some() { "Upgraded." } else { "Installed." }) {
            div.actions {
                button.first { (verb) }
                a.button href=(address(walk, agent, "choose")) { "Back" }
            }
        }
    }
}

/// The address of an earlier step, with all that was given.
fn address(walk: &Walk, agent: &str, step: &str) -> String {
    let given = walk.given.iter().filter(|(name, _)| *name != "step" && *name != "agent");
    let mut path = format!("/plugins/new?step={step}&agent={}", segment(agent));
    for (name, value) in given {
        path += &format!("&{}={}", segment(name), segment(value));
    }
    path
}

/// The chosen connections, and `null` for slots that had one.
fn emptied<'a>(
    before: &'a PluginView,
    manifest: &Manifest,
    chosen: &BTreeMap<&'a str, &'a str>,
) -> BTreeMap<&'a str, Option<&'a str>> {
    let had = before.slots.iter().filter(|old| {
        let still = manifest.slot(&old.slot);
        old.connection.is_some() && still.is_some_and(|slot| slot.provider == old.provider)
    });
    let mut all: BTreeMap<&str, Option<&str>> = had.map(|old| (old.slot.as_str(), None)).collect();
    all.extend(chosen.iter().map(|(slot, name)| (*slot, Some(*name))));
    all
}

fn summary_row(walk: &Walk, filled: &Filled, agent: &str) -> Markup {
    let slot = &filled.slot;
    html! {
        tr {
            td { div.item { (mark(&slot.provider, false)) div.text { b { (slot.title()) } small { (walk.service(slot)) } } } }
            @match filled.connection() {
                Some(connection) => {
                    td {
                        a href=(format!("/connections/{}", segment(&connection.spec.name))) { (connection.spec.name) }
                        " " (state_of(&connection.facts.state))
                        @if let Some(account) = &connection.facts.account { p.why { "as " (account) } }
                    }
                    td { (hosts(connection)) }
                    td {
                        (limits(&slot.methods, &slot.paths))
                        @let lacks = missing(slot, connection);
                        @if !lacks.is_empty() { p.why { span.chip.bad { "not granted" } " " (lacks.join(", ")) } }
                        @if connection.facts.state != ConnectionState::Active && slot.required {
                            p.why { span.chip.warn { "blocked" } " until this connection works; " (agent) " is refused then" }
                        }
                    }
                }
                None => {
                    td colspan="3" { span.muted { "Left empty. The plugin works without it." } }
                }
            }
        }
    }
}

/// Scopes of the slot that the service did not grant, as far as it tells.
fn missing(slot: &Slot, connection: &Shown<Connection>) -> Vec<String> {
    let granted = &connection.facts.granted;
    let lacks = slot.scopes.iter().filter(|scope| !granted.is_empty() && !granted.contains(scope));
    lacks.cloned().collect()
}

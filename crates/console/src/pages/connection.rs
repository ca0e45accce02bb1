//! `/connections/{name}`: its state with the remedy, what was granted, who uses it, and what was done to it.

mod access;
mod request;
mod sessions;

use axum::Router;
use axum::extract::Path;
use maud::{Markup, html};

use super::connect::{FIRST_KEY, KeyWords, format_check, secret_field};
use super::connections::{
    attention_reason, may_pause, paused, renewal_verb, resume, state_of, why,
};
use super::{streams, timeline};
use crate::frame::{Page, Section};
use crate::parts::{
    Action, ago, chips, danger_zone, edit, edits, facts, failures, head, lock, mark, scope_list,
    series, settings_panel, values,
};
use crate::visit::{Console, PageError, Tagged, Visit, segment, sentence};
use keyward_api::handler::get;
use keyward_api::wire::{
    AuthView, DatabaseListenerView, Event, List, ProviderView, StreamView, UsageView,
};
use keyward_base::database::DatabaseProtocol;
use keyward_base::settings::{ConnectionUsage, Settings};
use keyward_model::{
    Connection, ConnectionState, FileShown, ManagedBy, Renewal, RotationState, Shown, Visibility,
};
use keyward_rules::provider::AuthKind;

/// Changes that the page shows.
const CHANGES: usize = 12;

pub(super) fn routes() -> Router<Console> {
    Router::new()
        .route("/connections/{name}", get(show))
        .route("/connections/{name}/rotate", get(rotate))
}

/// What the page is made of.
struct View {
    connection: Shown<Connection>,
    tag: Option<String>,
    usage: UsageView,
    provider: Option<ProviderView>,
    streams: List<StreamView>,
    /// `None`: the reader may not read the audit log.
    changes: Option<Vec<Event>>,
    /// Where programs reach it, if it is to a database.
    listeners: Option<Vec<DatabaseListenerView>>,
}

async fn show(visit: Visit, Path(name): Path<String>) -> Result<Page, PageError> {
    let path = format!("/connections/{}", segment(&name));
    let Tagged { body: connection, tag } = visit.tagged::<Shown<Connection>>(&path).await?;
    let usage = visit.get(&format!("{path}/usage")).await?;
    let provider =
        visit.get_optional(&format!("/providers/{}", segment(&connection.spec.provider))).await?;
    let streams = streams::read(&visit, streams::Owner::Connection, &connection.spec.name).await?;
    let asked = format!("/audit?changed={}&limit={CHANGES}", connection.id);
    let changes: Option<List<Event>> = visit.once(&asked).await?;
    let changes = changes.map(|list| list.items);
    let listeners = sessions::read_listeners(&visit, &connection).await?;
    let view = View { connection, tag, usage, provider, streams, changes, listeners };
    Ok(Page::new(&visit, Section::Connections, &view.connection.spec.name, page(&visit, &view)))
}

fn page(visit: &Visit, view: &View) -> Markup {
    let View { connection, usage, .. } = view;
    let (spec, shown) = (&connection.spec, &connection.facts);
    let writes = visit.may_change(shown.owner.as_ref());
    let is_ours = connection.managed_by != Some(ManagedBy::File);
    // One that left the configuration file may be removed by anyone who may change it.
    let is_removable = is_ours || shown.state == ConnectionState::Paused;
    html! {
        p.crumb { a href="/connections" { "Connections" } }
        (head(
            html! { (mark(&spec.provider, true)) (spec.name) },
            Some(html! {
                (service(view)) @if let Some(account) = &shown.account { " · " (account) }
                @if let Some(description) = &spec.description { " · " (description) }
            }),
            html! { @if visit.may_write() { (actions(visit, view, writes)) } },
        ))
        div #state data-live { (standing(visit, view, writes)) }
        div.columns {
            div {
                section.panel #activity data-live {
                    header { h2 { "Activity" } span.muted.small { "last 24 hours" } (request::button(visit, connection)) }
                    div.body { (activity(usage)) }
                }
                (streams::section(visit, streams::Owner::Connection, &view.streams))
                section.panel #access data-live {
                    header {
                        h2 { "Who may use it" }
                        a.button href="/agents" { "Bind an agent" }
                    }
                    (access::table(&usage.agents))
                }
                @if let Some(changes) = &view.changes {
                    section.panel #changes data-live { header { h2 { "Changes" } } (timeline::changes(changes)) }
                }
            }
            aside {
                section.panel #about data-live { header { h2 { "About" } } div.body { (about(view)) } }
                @if !shown.requested.is_empty() || !shown.granted.is_empty() {
                    section.panel { header { h2 { "Scopes" } } div.body { (scopes(connection)) } }
                }
                @if writes && is_ours { (settings(view)) }
                @if let Some(lock) = lock(connection.managed_by) { section.panel { div.body { (lock) } } }
            }
        }
        @if writes && is_removable { (danger(view)) }
        (request::dialogs(visit, connection))
    }
}

fn service(view: &View) -> String {
    let id = &view.connection.spec.provider;
    view.provider.as_ref().map_or_else(|| id.clone(), |provider| provider.name.clone())
}

fn api(view: &View, verb: &str) -> String {
    format!("POST /connections/{}/{verb}", segment(&view.connection.spec.name))
}

fn actions(visit: &Visit, view: &View, writes: bool) -> Markup {
    let connection = &view.connection;
    let name = &connection.spec.name;
    let test = Action { api: api(view, "test"), label: "Test connection", ..Action::default() };
    let pause = Action {
        api: api(view, "pause"),
        label: "Pause connection",
        confirm: Some(format!(
            "Pause {name}?\n{}",
            access::broken_by(&view.usage.agents, "until it is resumed")
        )),
        done: "Paused.",
        ..Action::default()
    };
    // A test is a request: it needs a credential.
    let is_testable = !matches!(connection.facts.state, ConnectionState::Draft { .. });
    html! {
        @if is_testable { (test.show()) }
        @if writes { (renew(view, "")) }
        @if may_pause(visit, connection) { (pause.show()) }
    }
}

/// The button or link that replaces the credential.
fn renew(view: &View, class: &str) -> Markup {
    let connection = &view.connection;
    let facts = &connection.facts;
    let Some(verb) = renewal_verb(facts.renewal, &facts.state) else { return html! {} };
    let path = format!("/connections/{}/rotate", segment(&connection.spec.name));
    let class = format!("button {class}");
    match facts.renewal {
        // Its secret is replaced where the file reads it.
        Some(Renewal::Secret) if connection.managed_by == Some(ManagedBy::File) => html! {},
        Some(Renewal::Consent) => Action {
            api: api(view, "reconnect"),
            label: verb,
            class: class.trim_start_matches("button").trim(),
            ..Action::default()
        }
        .show(),
        Some(Renewal::App) => {
            let app = connection.spec.app.as_ref().map(ToString::to_string).unwrap_or_default();
            html! { a class=(class) href=(format!("/apps/{}", segment(&app))) { (verb) } }
        }
        _ => html! { a class=(class) href=(path) { (verb) } },
    }
}

/// The state, why, and what to do.
fn standing(visit: &Visit, view: &View, writes: bool) -> Markup {
    let shown = &view.connection.facts;
    match &shown.state {
        ConnectionState::Broken { reason, detail } => html! {
            div.notice.bad role="alert" {
                div.grow {
                    p { (state_of(&shown.state)) ": " b { (why(*reason)) } }
                    @if let Some(detail) = detail { p.small { (service(view)) " says: " code { (detail) } } }
                    @if let Some(said) = &shown.said { p.small { "“" (said) "”" } }
                    @if let Some(until) = shown.usable_until { p.small { "Its access token is used until " (until) "." } }
                    @if view.connection.managed_by == Some(ManagedBy::File) && shown.renewal == Some(Renewal::Secret) {
                        p.small { "Its key is replaced where the configuration file reads it." }
                    }
                    p.small.muted { (access::broken_by(&view.usage.agents, "until then")) }
                }
                @if writes { (renew(view, "first")) }
            }
        },
        ConnectionState::Draft { failure } => html! {
            div.notice.warn {
                div.grow {
                    @let why = if failure.is_some() { "the last attempt failed" } else { "there is no credential yet" };
                    p { (state_of(&shown.state)) ": " b { (why) } }
                    @if let Some(failure) = failure { p.small { (sentence(failure)) } }
                }
                @if writes { (renew(view, "first")) }
            }
        },
        ConnectionState::Paused => html! {
            div.notice {
                div.grow {
                    p { (state_of(&shown.state)) ": " b { (paused(&view.connection)) } }
                    p.small.muted { (access::broken_by(&view.usage.agents, "until it is resumed")) }
                }
                @if let Some(resume) = resume(visit, &view.connection) { (Action { class: "first", ..resume }.show()) }
            }
        },
        state => html! {
            div class=(if shown.remedy.is_some() { "notice warn" } else { "notice" }) {
                div.grow {
                    p {
                        (state_of(state)) " "
                        @match view.usage.last_used {
                            Some(at) => span.muted { "last used " (ago(at)) },
                            None => span.muted { "not used since the gateway started" },
                        }
                    }
                    @if shown.remedy.is_some() { p.small { "Soon: " (attention_reason(&view.connection)) "." } }
                    (warnings(view))
                }
                @if shown.remedy.is_some() && writes { (renew(view, "first")) }
            }
        },
    }
}

/// What may go wrong with a connection that is usable.
fn warnings(view: &View) -> Markup {
    let shown = &view.connection.facts;
    let paused = shown.token.as_ref().and_then(|token| token.client_paused);
    html! {
        @for warning in &shown.warnings { p.small.status-warn { (sentence(warning)) } }
        @if let Some(failing) = &view.usage.failing {
            p.small.status-warn {
                @if let Some(message) = &failing.message { (sentence(message)) " " }
                "The next try is " (ago(failing.next_try)) "."
            }
        } @else if let Some(until) = paused {
            p.small.status-warn {
                "The authorization server throttles the client: the next refresh is " (ago(until)) "."
            }
        }
    }
}

fn activity(usage: &UsageView) -> Markup {
    let total = &usage.history.total;
    let waits = total.latency_ms.map(|waits| format!("{} / {} ms", waits.p50, waits.p95));
    let codes = usage.statuses.iter().chain(&usage.refusals);
    let mut codes: Vec<_> = codes.map(|(code, number)| (code.as_str(), *number)).collect();
    codes.sort_by_key(|(_, number)| std::cmp::Reverse(*number));
    let limit = usage.provider_limit.as_ref();
    html! {
        div.tiles {
            div.tile { p.k { "Requests" } p.v { (total.requests) } }
            div.tile { p.k { "Failed" } p.v.bad[failures(total) > 0] { (failures(total)) } }
            div.tile { p.k { "p50 / p95" } p.v { (waits.as_deref().unwrap_or("–")) } }
            div.tile {
                p.k { "Service limit" }
                p.v {
                    @match limit {
                        Some(limit) => {
                            (limit.remaining)
                            @if let Some(all) = limit.limit { span.muted.small { " of " (all) } }
                            @if let Some(at) = limit.resets_at { span.muted.small { " · reset " (ago(at)) } }
                        }
                        None => { "–" }
                    }
                }
            }
        }
        (series("Requests by hour", &usage.history))
        @if !codes.is_empty() {
            p.small { span.muted { "Failures since " (ago(usage.since)) ": " } @for (code, number) in codes.iter().take(6) { span.chip { (code) " × " (number) } " " } }
        }
    }
}

fn about(view: &View) -> Markup {
    let (spec, shown) = (&view.connection.spec, &view.connection.facts);
    let text = |text: &Option<String>| text.as_ref().map(|text| html! { (text) });
    let method = view.provider.as_ref().and_then(|provider| {
        let own = provider.auth.iter().find(|auth| Some(&auth.id) == spec.auth.as_ref());
        own.map(|auth| html! { (auth.label) })
    });
    let (token, key) = (shown.token.as_ref(), shown.ssh_key.as_ref());
    let facts = facts(&[
        ("Service", Some(html! { (service(view)) })),
        ("Method", method),
        ("Account", text(&shown.account)),
        ("Hosts", (!shown.hosts.is_empty()).then(|| chips(&shown.hosts))),
        ("Database", shown.database.as_ref().map(|url| html! { code { (url) } })),
        ("Listeners", view.listeners.as_ref().map(|all| sessions::show(all))),
        ("Public key", key.map(|key| html! { code { (key.public_key) } })),
        ("Accounts", key.map(|key| chips(&key.users))),
        ("Servers", key.map(|key| chips(&key.servers))),
        ("File", shown.file.as_ref().map(file)),
        (
            "Visible to",
            Some(
                html! { @match shown.visibility { Visibility::Shared => "all agents", Visibility::Private => "agents of its owner" } },
            ),
        ),
        ("Token expires", token.and_then(|token| token.expires).map(ago)),
        ("Refreshed", token.and_then(|token| token.refreshed).map(ago)),
        ("Rotated", shown.rotated.map(ago)),
        ("Replace by", shown.due.map(|due| ago(due.at))),
        ("Consent ends", shown.ends.map(ago)),
        ("Created", Some(ago(view.connection.created))),
        ("Id", Some(html! { code { (view.connection.id) } })),
    ]);
    let has_effect = has_effect(&view.connection);
    html! { (facts) (values(spec, |name| name != "description" && has_effect(name))) }
}

fn file(file: &FileShown) -> Markup {
    html! {
        code { (file.path) }
        @if file.read_only { " read-only" @if file.advisory { " (advisory: the rights of the agent's user decide)" } }
    }
}

fn scopes(connection: &Shown<Connection>) -> Markup {
    let shown = &connection.facts;
    let others = shown.granted.iter().filter(|it| !shown.requested.contains(it));
    let all: Vec<_> = shown.requested.iter().chain(others).collect();
    html! {
        (scope_list(&all, &shown.scope_words, &shown.missing))
        @if !shown.missing.is_empty() {
            p.small.muted { "Requests that need a missing scope fail at the service. Reconnect to ask again." }
        }
    }
}

fn settings(view: &View) -> Markup {
    let spec = &view.connection.spec;
    let api = format!("PATCH /connections/{}", segment(&spec.name));
    let inputs = edits(spec, has_effect(&view.connection));
    settings_panel(&edit(&api, view.tag.as_deref(), "Saved.", &inputs))
}

/// Whether a member can be set: settings are of requests, of sessions with a database, or of files.
fn has_effect(connection: &Shown<Connection>) -> impl Fn(&str) -> bool + use<> {
    let facts = &connection.facts;
    let usage = match facts.database.as_deref().and_then(DatabaseProtocol::of_url) {
        Some(protocol) => ConnectionUsage::Sessions(protocol),
        None if facts.kind == Some(AuthKind::File) => ConnectionUsage::Files,
        None => ConnectionUsage::Requests,
    };
    move |name: &str| {
        name.strip_prefix("settings.").is_none_or(|name| Settings::has_effect(name, usage))
    }
}

fn danger(view: &View) -> Markup {
    let name = &view.connection.spec.name;
    let path = format!("DELETE /connections/{}", segment(name));
    let stops = access::broken_by(&view.usage.agents, "for good");
    let remove = |query: &str, label: &'static str, more: &str| Action {
        typed: Some(name),
        to: Some("/connections"),
        tag: view.tag.as_deref(),
        ..Action::removal(
            format!("{path}{query}"),
            label,
            format!("Remove {name}?\n{stops} Its credential is deleted. {more}"),
        )
    };
    let is_oauth = view.connection.facts.renewal == Some(Renewal::Consent);
    danger_zone(&html! {
        (remove("", "Remove connection", "Access at the service stays until it is revoked there.").show())
        @if is_oauth { (remove("?revoke=true", "Remove and revoke", "The grant is revoked at the service as well.").show()) }
    })
}

/// For a connection that has a key.
const NEW_KEY: KeyWords = KeyWords {
    api: "rotate",
    title: "Rotate key",
    test: " is asked whether it accepts the new key. The old one stays in force if not, and is kept for a rollback.",
    button: "Test and rotate",
    untested: "It is not tested, because no test request is known for this service. The old one is kept for a rollback.",
    untested_button: "Rotate",
    done: "The new key is in force.",
};

/// A new secret: tested before it replaces the old one.
async fn rotate(visit: Visit, Path(name): Path<String>) -> Result<Page, PageError> {
    let path = format!("/connections/{}", segment(&name));
    let connection: Shown<Connection> = visit.get(&path).await?;
    if !visit.may_change(connection.facts.owner.as_ref()) {
        return Err(PageError::not_allowed());
    }
    let spec = &connection.spec;
    let provider: ProviderView =
        visit.get(&format!("/providers/{}", segment(&spec.provider))).await?;
    let is_own = |auth: &&AuthView| spec.auth.as_ref().is_none_or(|own| *own == auth.id);
    let auth = provider.auth.iter().find(is_own);
    let is_draft = matches!(connection.facts.state, ConnectionState::Draft { .. });
    let words = if is_draft { &FIRST_KEY } else { &NEW_KEY };
    let has_test = auth.is_some_and(|auth| auth.has_test);
    let without_test = (!has_test).then(|| serde_json::json!({ "test": false }).to_string());
    let unconfirmed = connection.facts.rotation.as_ref();
    let unconfirmed = unconfirmed.filter(|it| it.state == RotationState::Unconfirmed);
    let content = html! {
        p.crumb { a href="/connections" { "Connections" } " / " a href=(path) { (name) } }
        (head(html! { (mark(&spec.provider, true)) (words.title) }, Some(html! { (name) " · " (provider.name) }), html! {}))
        @if let Some(rotation) = unconfirmed { (decide(&connection, rotation.until)) }
        section.panel { div.body {
            form method="post" data-api=(format!("POST {path}/{}", words.api)) data-body=[without_test] data-to=(path) data-done=(words.done) autocomplete="off" {
                @for field in auth.into_iter().flat_map(|auth| &auth.fields) { (secret_field(field)) }
                @if let Some(auth) = auth { (format_check(auth)) }
                (words.note(&provider.name, has_test))
                div.actions {
                    button.first { (words.label(has_test)) }
                    a.button href=(path) { "Cancel" }
                    @if let Some(url) = &provider.key_url { a href=(url) target="_blank" rel="noreferrer" { "Get a key" } }
                }
            }
        } }
    };
    Ok(Page::new(&visit, Section::Connections, words.title, content))
}

/// After a rotation, the old secret waits for a decision.
fn decide(connection: &Shown<Connection>, until: jiff::Timestamp) -> Markup {
    let path = format!("POST /connections/{}/rotate", segment(&connection.spec.name));
    let confirm = Action {
        api: format!("{path}/confirm"),
        label: "Confirm new key",
        done: "The old key is deleted.",
        class: "first",
        ..Action::default()
    };
    let back = Action {
        api: format!("{path}/rollback"),
        label: "Roll back",
        confirm: Some(
            "Roll back?\nThe old key is in force again, and the new one is deleted.".to_owned(),
        ),
        done: "The old key is in force again.",
        ..Action::default()
    };
    html! {
        div.notice {
            div.grow {
                b { "The last rotation is not confirmed" }
                p.small.muted { "The old key is kept until " (ago(until)) "." }
            }
            (confirm.show()) (back.show())
        }
    }
}

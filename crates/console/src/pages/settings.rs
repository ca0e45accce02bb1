//! `/settings`: the health of the gateway: its listeners, configuration, CA, master keys, backups and
//! organisations. The checks that take time, of hosts and of the configuration, have pages of their own.

use axum::Router;
use axum::extract::State;
use maud::{Markup, html};

use super::replicas;
use crate::frame::{Page, Section, sign_out};
use crate::parts::{
    Action, Field, Subpage, Tone, ago, chips, empty, facts, head, now, settings_nav, state,
};
use crate::visit::{Console, PageError, Visit, sentence};
use keyward_api::handler::get;
use keyward_api::wire::{
    BackupView, CaView, CertificateRole, DatabaseListenerView, KeySourceKind, KeySourceView,
    KeyView, List, ReloadView, ReplicaView, Status, TelemetryView, UpstreamView,
};
use keyward_base::sign_in::SignInSettings;
use keyward_model::{Org, Shown};

/// Days before the end of the CA at which the page warns.
const CA_WARN_DAYS: i64 = 30;
/// Organisations that are listed.
const ORGS: usize = 100;

pub(super) fn routes() -> Router<Console> {
    Router::new().route("/settings", get(show)).route("/settings/hosts", get(hosts))
}

/// What the page is made of; `None`: the reader may not read it.
struct View {
    status: Option<Status>,
    ca: Option<CaView>,
    keys: Option<Vec<KeyView>>,
    orgs: Vec<Shown<Org>>,
    backup: Option<BackupView>,
    replicas: Vec<ReplicaView>,
}

/// Whether the reader may change what all organisations share.
pub(super) fn runs_install(visit: &Visit) -> bool {
    visit.is_admin() && visit.me.org == "default"
}

async fn show(State(console): State<Console>, visit: Visit) -> Result<Page, PageError> {
    let keys: Option<List<KeyView>> = visit.get_optional("/keys?limit=100").await?;
    let orgs: Option<List<Shown<Org>>> = visit.get_optional(&format!("/orgs?limit={ORGS}")).await?;
    let replicas: Option<List<ReplicaView>> = visit.get_optional("/replicas").await?;
    let view = View {
        status: visit.get_optional("/status").await?,
        ca: visit.get_optional("/ca").await?,
        keys: keys.map(|list| list.items),
        orgs: orgs.map(|list| list.items).unwrap_or_default(),
        backup: visit.get_optional("/backup").await?,
        replicas: replicas.map(|list| list.items).unwrap_or_default(),
    };
    let is_operator = runs_install(&visit);
    let content = html! {
        (head(html! { "Settings" }, view.status.as_ref().map(in_short), html! { span.narrow-only { (sign_out(&visit)) } }))
        (settings_nav(&visit, Subpage::Health))
        div.pair {
            div {
                @if let Some(status) = &view.status {
                    section.panel #gateway data-live { header { h2 { "Gateway" } (ready(status)) } div.body { (gateway(&console.sign_in, status)) } }
                    // As the master keys, the configuration is for readers of the installation.
                    @if view.keys.is_some() {
                        section.panel #configuration data-live {
                            header { h2 { "Configuration" } }
                            div.body { (configuration(status.reload.as_ref(), is_operator)) }
                        }
                    }
                }
                @if !view.replicas.is_empty() {
                    section.panel #replicas data-live { header { h2 { "Replicas" } (replicas::in_short(&view.replicas)) } (replicas::show(&view.replicas)) }
                }
                @if view.keys.is_some() {
                    section.panel { header { h2 { "Upstream hosts" } } div.body {
                        p.muted { "Whether the gateway reaches the hosts of its connections, with its own addresses and roots. No credential is sent." }
                        div.actions { a.button href="/settings/hosts" { "Check hosts" } }
                    } }
                }
            }
            div {
                @if let Some(ca) = &view.ca {
                    section.panel #ca data-live { header { h2 { "Certificate authority" } (ca_state(ca)) } div.body { (authority(ca, is_operator)) } }
                }
                @if let Some(keys) = &view.keys {
                    section.panel #keys-of-store data-live { header { h2 { "Master keys" } } (master_keys(keys, is_operator)) }
                }
                @if let Some(backup) = &view.backup {
                    section.panel #backups data-live { header { h2 { "Backups" } (backups_in_short(backup)) } div.body { (show_backups(backup, is_operator)) } }
                }
                @if is_operator {
                    section.panel #store { header { h2 { "Store" } } div.body {
                        p.muted { "Whether each row can be read, and fits the rows that belong to it. Nothing is changed." }
                        div.actions { a.button href="/settings/store" { "Check the store" } }
                    } }
                }
                section.panel #orgs data-live { header { h2 { "Organisations" } } (organisations(&visit, &view.orgs)) }
            }
        }
    };
    Ok(Page::new(&visit, Section::Settings, "Settings", content))
}

fn in_short(status: &Status) -> Markup {
    html! {
        "Keyward " (status.version)
        @if let Some(started) = status.started { " · started " (ago(started)) }
    }
}

fn ready(status: &Status) -> Markup {
    let tone = if status.status == "ready" { Tone::Ok } else { Tone::Warn };
    state(tone, &status.status)
}

/// How people sign in, and what is registered at the identity provider.
fn sign_in(ways: &SignInSettings, status: &Status) -> Markup {
    html! {
        p {
            "One-time links"
            @if ways.password { ", passwords" }
            @if ways.passkeys { ", passkeys" }
        }
        @if let Some(oidc) = &status.oidc {
            p { (oidc.name) " " code { (oidc.issuer) } @if oidc.org != "default" { " for " (oidc.org) } }
            p.small.muted { "Redirect URI: " code { (oidc.redirect_uri) } }
        }
    }
}

fn gateway(ways: &SignInSettings, status: &Status) -> Markup {
    let lines = |all: &[String]| html! { @for at in all { p { code { (at) } } } };
    let agents = (!status.agents.is_empty()).then(|| {
        html! { @for at in &status.agents { p { code { (at.at) } " of " (at.agent) } } }
    });
    let databases = (!status.databases.is_empty()).then(|| {
        html! { @for it in &status.databases { (database_listener(it)) } }
    });
    facts(&[
        ("Version", Some(html! { (status.version) })),
        ("Proxy", Some(lines(&status.proxy))),
        ("Listeners of one agent", agents),
        ("Listeners for databases", databases),
        ("Admin API and console", Some(html! { code { (status.admin) } })),
        ("Sign-in", Some(sign_in(ways, status))),
        ("Metrics", status.metrics.as_ref().map(|at| html! { code { (at) } })),
        ("OpenTelemetry", status.telemetry.as_ref().map(telemetry)),
        ("Hosts that no rule names", Some(html! { (default_action(status)) })),
        ("Data directory", (!status.data.is_empty()).then(|| html! { code { (status.data) } })),
        ("Process", status.process.map(|id| html! { (id) })),
        ("Open runs", (status.runs > 0).then(|| html! { (status.runs) })),
    ])
}

fn database_listener(listener: &DatabaseListenerView) -> Markup {
    html! {
        p {
            code { (listener.at) } " " (listener.protocol.name())
            @if let Some(name) = &listener.name { " · " a href="/databases" { (name) } }
            @if let Some(connection) = &listener.connection { " · connection " (connection) }
            @if let Some(agent) = &listener.agent { " · agent " (agent) ", without a token" }
        }
    }
}

fn telemetry(telemetry: &TelemetryView) -> Markup {
    html! {
        p { (telemetry.signals()) " to " code { (telemetry.endpoint) } }
        @if let Some(failure) = &telemetry.failure {
            p.status-warn { "The last export failed " (ago(failure.time)) ": " (failure.why) }
        }
    }
}

/// What becomes of requests to hosts that no rule or binding names.
fn default_action(status: &Status) -> &'static str {
    let word = serde_json::to_value(status.default).unwrap_or_default();
    match word.as_str() {
        Some("pass") => "sent without a credential",
        Some("tunnel") => "sent in a tunnel that is not inspected",
        _ => "refused",
    }
}

fn configuration(reload: Option<&ReloadView>, is_operator: bool) -> Markup {
    let again = Action {
        api: "POST /reload".to_owned(),
        label: "Reload configuration",
        done: "The configuration is in force.",
        ..Action::default()
    };
    html! {
        @match reload {
            None => p.muted { "As it was read at the start. It was not reloaded since." },
            Some(told) if told.errors.is_empty() => p { (state(Tone::Ok, "in force")) " reloaded " (ago(told.time)) },
            Some(told) => {
                @if told.incomplete {
                    p { (state(Tone::Bad, "interrupted")) " " (ago(told.time)) ". It may be in force in part, and is tried again until it succeeds." }
                } @else {
                    p { (state(Tone::Bad, "refused")) " " (ago(told.time)) ". The configuration before it stays in force." }
                }
                @for error in &told.errors { p.wrong-box { code { (error) } } }
            }
        }
        @for warning in reload.into_iter().flat_map(|told| &told.warnings) { p.status-warn { "Waits for a restart: " (warning) } }
        @if is_operator { div.actions { (again.show()) a.button href="/settings/plan" { "Show what it would change" } } }
    }
}

fn days_left(ca: &CaView) -> i64 {
    ca.expires.duration_since(now()).as_hours() / 24
}

fn ca_state(ca: &CaView) -> Markup {
    match days_left(ca) {
        ..0 => state(Tone::Bad, "expired"),
        0..=CA_WARN_DAYS => state(Tone::Warn, "expires soon"),
        _ => state(Tone::Ok, "valid"),
    }
}

/// A line ends between two bytes, so that people can compare them.
fn fingerprint(text: &str) -> Markup {
    html! {
        code { @for (place, byte) in text.split(':').enumerate() { @if place > 0 { ":" wbr; } (byte) } }
    }
}

fn authority(ca: &CaView, is_operator: bool) -> Markup {
    let rotate = Action {
        api: "POST /ca/rotate".to_owned(),
        label: "Rotate CA",
        confirm: Some(
            "Rotate the CA?\nPrograms that trust the present one keep working for 30 days. Distribute the new one to them before. \
             Programs started with keyward run get it by themselves.".to_owned(),
        ),
        done: "Rotated. Distribute the new certificate.",
        ..Action::default()
    };
    let replace = Action {
        api: "POST /ca/rotate".to_owned(),
        label: "Replace CA at once",
        body: Some(r#"{"no_overlap":true}"#.to_owned()),
        confirm: Some(
            "Replace the CA at once?\nFor a CA whose key may be in wrong hands. Every program that trusts the present one fails until it trusts the new one.".to_owned(),
        ),
        done: "Replaced. Distribute the new certificate.",
        class: "danger",
        ..Action::default()
    };
    let former = ca.certificates.iter().filter(|it| it.role == CertificateRole::Former);
    html! {
        @if let Some(notice) = &ca.notice { p.status-warn { (sentence(notice)) } }
        (facts(&[
            ("SHA-256", Some(fingerprint(&ca.fingerprint))),
            ("Expires", Some(ago(ca.expires))),
            ("Former CA served until", ca.overlap_until.map(ago)),
        ]))
        @for certificate in former { p.small.muted { "Former: " (fingerprint(&certificate.fingerprint)) } }
        p.small.muted { "Programs behind the proxy must trust it. Compare the fingerprint before you trust a copy." }
        div.actions {
            a.button href="/ca" data-plain { "How to trust it" }
            a.button href="/ca.pem" download="keyward-ca.pem" data-plain { "Download PEM" }
            a.button href="/ca.crt" download="keyward-ca.crt" data-plain { "Download DER" }
            @if is_operator && ca.made_here { (rotate.show()) (replace.show()) }
        }
        @if !ca.made_here { p.small.muted { "Its certificate comes from files, and is replaced there." } }
    }
}

fn master_keys(keys: &[KeyView], is_operator: bool) -> Markup {
    let rotate = Action {
        api: "POST /keys/rotate".to_owned(),
        label: "Rotate master key",
        confirm: Some(
            "Rotate the master key?\nEvery row of the store is wrapped with the new key. A backup made before opens only with the former key: keep that as long as the backup.".to_owned(),
        ),
        done: "Rotated. All rows are wrapped with the current key.",
        ..Action::default()
    };
    html! {
        ul.rows { @for key in keys { li { div.grow {
            p { code { (key.id) } " " @if key.current { span.chip.ok { "current" } } @if key.source.is_none() { span.chip.bad { "missing" } } }
            p.small.muted {
                @match &key.source { Some(source) => (source_word(source)), None => "It was not given, so its rows cannot be read. Add it to master_key in the configuration." }
                " · wraps " (key.rows) " " @if key.rows == 1 { "row" } @else { "rows" }
            }
        } } } }
        @if is_operator { div.foot { (rotate.show()) } }
    }
}

fn source_word(source: &KeySourceView) -> String {
    match source.kind {
        KeySourceKind::File => format!("file {}", source.name),
        KeySourceKind::Env => format!("environment variable {}", source.name),
        KeySourceKind::Command => format!("command {}", source.name),
        KeySourceKind::Memory => "only in memory: it ends with the process".to_owned(),
    }
}

fn organisations(visit: &Visit, orgs: &[Shown<Org>]) -> Markup {
    // Only the operator makes and removes them.
    let is_operator = visit.me.user.is_none();
    let name = Field {
        name: "name",
        label: "New organisation",
        example: Some("acme"),
        ..Field::default()
    };
    html! {
        div.body {
            (chips(orgs.iter().map(|org| org.spec.name.as_str())))
            p.small.muted { "Each has its own agents, connections, apps, rules and people. The operator adds them on the gateway's machine." }
            @if is_operator {
                form method="post" data-api="POST /orgs" data-done="Added." { (name.show()) button { "Add organisation" } }
            }
        }
    }
}

/// Whether the gateway reaches the hosts of its connections.
async fn hosts(visit: Visit) -> Result<Page, PageError> {
    let list: List<UpstreamView> = visit.get("/upstreams").await?;
    let failed = list.items.iter().filter(|it| !it.reached).count();
    let content = html! {
        p.crumb { a href="/settings" { "Settings" } }
        (head(
            html! { "Upstream hosts" },
            Some(html! { (list.items.len()) " checked" @if failed > 0 { " · " (failed) " not reached" } }),
            html! { a.button href="/settings/hosts" { "Check again" } },
        ))
        section.panel {
            @if list.items.is_empty() { (empty("No host to check", "Hosts of connections that can be used appear here.", None)) }
            ul.rows { @for host in &list.items { li {
                div.grow {
                    p.mono { (host.host) }
                    @if let Some(message) = &host.message { p.small { (sentence(message)) } }
                    @if let Some(hint) = &host.hint { p.small.muted { (sentence(hint)) } }
                    @if let Some(proxy) = &host.proxy { p.small.muted { "through " code { (proxy) } } }
                }
                @if host.reached { (state(Tone::Ok, "reached")) } @else { (state(Tone::Bad, "not reached")) }
            } } }
        }
    };
    Ok(Page::new(&visit, Section::Settings, "Upstream hosts", content))
}

/// The word beside the title.
pub(super) fn backups_in_short(view: &BackupView) -> Markup {
    match (view.failed, &view.every) {
        (Some(_), _) => state(Tone::Bad, "failed"),
        (None, Some(_)) => state(Tone::Ok, "scheduled"),
        (None, None) => state(Tone::Warn, "not scheduled"),
    }
}

/// `downloads`: whether the reader may have one.
pub(super) fn show_backups(view: &BackupView, downloads: bool) -> Markup {
    let last = view.last.as_ref().map(|last| {
        html! { (ago(last.created)) " " code { (last.file) } " " (last.bytes) " bytes" }
    });
    let failure = view.failed.zip(view.failure.as_ref());
    let has_recipients = !view.recipients.is_empty();
    html! {
        @if let Some((at, why)) = failure {
            p.wrong-box { "The last attempt failed " (ago(at)) ": " (why) }
        }
        (facts(&[
            ("Every", view.every.as_ref().map(|every| html! { (every) ", " (view.keep.unwrap_or_default()) " files are kept" })),
            ("Folder", view.to.as_ref().map(|to| html! { code { (to) } })),
            ("Last", last),
            ("Encrypted for", has_recipients.then(|| html! { @for recipient in &view.recipients { p { code { (recipient) } } } })),
        ]))
        @if !has_recipients {
            p.muted { "Name " code { "recipients" } " under " code { "backup" } " in the configuration to download backups here. " code { "keyward backup" } " works without them." }
        }
        p.small.muted { "A person who can open a backup has every secret of every organisation." }
        @if downloads && has_recipients {
            div.actions { button data-download="/backup" { "Download a backup" } }
        }
    }
}

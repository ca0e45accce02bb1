//! `/apps`: the organisation's OAuth clients at services, with the redirect URI that each service has to know.

mod new;

use axum::Router;
use axum::extract::{Path, Query};
use maud::{Markup, html};

use super::connect;
use crate::frame::{Page, Section};
use crate::icons::Icon;
use crate::parts::{
    Action, Field, ListQuery, Subpage, Tone, ago, chips, client_labels, client_words, copyable,
    count, danger_zone, edits, empty, facts, head, known_scopes, links, list_page, lock, mark,
    scope_list, search, settings_nav, state,
};
use crate::visit::{Console, PageError, Tagged, Visit, segment, sentence, with_query};
use keyward_api::handler::get;
use keyward_api::wire::{AuthView, List, ProviderView};
use keyward_model::{App, ManagedBy, Shown};

/// Rows of the list.
const ROWS: usize = 40;

pub(super) fn routes() -> Router<Console> {
    Router::new()
        .route("/apps", get(show))
        .route("/apps/new", get(new::show))
        .route("/apps/{name}", get(one))
}

async fn show(visit: Visit, Query(asked): Query<ListQuery>) -> Result<Page, PageError> {
    let path = asked.of(&format!("/apps?limit={ROWS}"));
    let list: List<Shown<App>> = visit.get(&path).await?;
    let is_searched = asked.q.is_some() || asked.after.is_some();
    let set_up = html! { a.button.first href="/apps/new" { (Icon::Plus.show()) "Set up an app" } };
    let content = html! {
        (head(
            html! { "Apps" },
            Some(html! { "OAuth clients of your own at services. One app asks for the consent of any number of accounts." }),
            html! { @if visit.is_admin() && (is_searched || !list.items.is_empty()) { (set_up) } },
        ))
        (settings_nav(&visit, Subpage::Apps))
        @if list.items.is_empty() && !is_searched {
            section.panel { (empty("No app yet", "Services with OAuth need one before accounts are connected. It takes five minutes, once for each service.", visit.is_admin().then_some(set_up))) }
        } @else {
            form.bar action="/apps" method="get" data-find role="search" {
                (search("apps", asked.q.as_deref()))
                noscript { button { "Apply" } }
            }
            div #apps data-live { (table(&list, &asked)) }
        }
    };
    Ok(Page::new(&visit, Section::Settings, "Apps", content))
}

fn table(list: &List<Shown<App>>, asked: &ListQuery) -> Markup {
    let none = empty("No app fits", "Change the search.", None);
    let apps = html! {
        div.wide { table.stack {
            thead { tr { th { "Name" } th { "Client id" } th { "State" } th { "Used by" } th { "Changed" } } }
            tbody { @for app in &list.items { (row(app)) } }
        } }
    };
    let first = asked.first("/apps");
    html! { section.panel { (list_page(&first, asked.after.as_deref(), list, &apps, none)) } }
}

fn row(app: &Shown<App>) -> Markup {
    html! {
        tr.go {
            td { div.item {
                (mark(&app.spec.provider, false))
                div.text { a href=(format!("/apps/{}", segment(&app.spec.name))) { (app.spec.name) } small { (app.spec.provider) } }
            } }
            td.mono data-label="Client id" { (app.spec.client_id) }
            td { (state_of(app)) @if let Some(problem) = &app.facts.problem { p.why { (sentence(problem)) } } }
            td data-label="Used by" { (count(app.facts.connections.len(), "connection")) }
            td data-label="Changed" { (ago(app.updated.unwrap_or(app.created))) }
        }
    }
}

fn state_of(app: &Shown<App>) -> Markup {
    match (&app.facts.problem, app.facts.paused) {
        (_, true) => state(Tone::Idle, "paused"),
        (Some(_), false) => state(Tone::Bad, "cannot be used"),
        (None, false) => state(Tone::Ok, "ready"),
    }
}

async fn one(visit: Visit, Path(name): Path<String>) -> Result<Page, PageError> {
    let path = format!("/apps/{}", segment(&name));
    let Tagged { body: app, tag } = visit.tagged::<Shown<App>>(&path).await?;
    let sources = connect::sources(&visit).await?;
    let provider = format!("/providers/{}", segment(&app.spec.provider));
    let provider: Option<ProviderView> = visit.get_optional(&provider).await?;
    let is_ours = visit.is_admin() && app.managed_by != Some(ManagedBy::File);
    let labels = client_labels(method(&app, provider.as_ref()));
    let content = html! {
        p.crumb { a href="/apps" { "Apps" } }
        (head(
            html! { (mark(&app.spec.provider, true)) (app.spec.name) (state_of(&app)) },
            Some(html! { "OAuth client at " a href=(format!("/services/{}", segment(&app.spec.provider))) { (app.spec.provider) } " · created " (ago(app.created)) }),
            html! {
                @if visit.may_write() && app.facts.problem.is_none() && !app.facts.paused {
                    a.button.first href=(connect_with(&app)) { (Icon::Plus.show()) "Connect an account" }
                }
            },
        ))
        @if let Some(lock) = lock(app.managed_by) { p.bar { (lock) } }
        @if let Some(problem) = &app.facts.problem {
            div.notice.bad role="alert" { div.grow {
                b { "No token can be requested with it" }
                p.small { (sentence(problem)) }
                @if is_ours { p.small.muted { "Give its secret again below." } }
            } }
        }
        section.panel {
            header { h2 { "Redirect URI" } }
            div.body {
                p.small.muted { "The service compares it character by character with the one that is registered there." }
                (copyable(&app.facts.redirect_uri))
            }
        }
        div.columns {
            div {
                section.panel { header { h2 { "Used by" } } (users(&app)) }
                @if is_ours { (Settings { app: &app, provider: provider.as_ref(), path: &path, tag: tag.as_deref(), sources: &sources, labels: &labels }.show()) }
            }
            aside { section.panel { header { h2 { "About" } } div.body { (about(&app, &labels)) } } }
        }
        @if is_ours {
            (danger_zone(&danger(&app, &path, tag.as_deref())))
        }
    };
    Ok(Page::new(&visit, Section::Settings, &app.spec.name, content))
}

fn users(app: &Shown<App>) -> Markup {
    html! {
        @if app.facts.connections.is_empty() { div.body { p.muted { "No account is connected with it yet." } } }
        ul.rows { @for name in &app.facts.connections { li {
            (mark(&app.spec.provider, false))
            a href=(format!("/connections/{}", segment(name))) { (name) }
        } } }
    }
}

fn about(app: &Shown<App>, [client_id, _]: &[String; 2]) -> Markup {
    let spec = &app.spec;
    let scopes: Vec<_> = spec.scopes.iter().collect();
    let kept = app.spec.references.iter();
    let kept: Vec<_> =
        kept.map(|(name, it)| format!("{name} from {}: {}", it.from, it.reference)).collect();
    let secrets = match app.facts.secrets.is_empty() {
        true if !kept.is_empty() => html! { "none" },
        true => html! { "none: a public client" },
        false => chips(&app.facts.secrets),
    };
    let variables = spec.variables.iter().map(|(name, value)| format!("{name}={value}"));
    let variables: Vec<_> = variables.collect();
    facts(&[
        ("Service", Some(html! { (spec.provider) })),
        ("Method", spec.auth.as_ref().map(|auth| html! { (auth) })),
        (client_id, Some(html! { code { (spec.client_id) } })),
        ("Stored secrets", Some(secrets)),
        ("By reference", (!kept.is_empty()).then(|| chips(&kept))),
        ("Fetched", app.facts.fetched.as_ref().map(|it| html! { (ago(it.at)) " · used until " (ago(it.kept_until)) " if its source cannot be asked" })),
        ("Fetching fails", app.facts.fetch_failing.as_ref().map(|it| html! { "since " (ago(it.since)) ", " (it.count) " in a row: " (sentence(it.message.as_deref().unwrap_or("no answer"))) })),
        ("Scopes", (!scopes.is_empty()).then(|| scope_list(&scopes, &app.facts.scope_words, &[]))),
        ("Variables", (!variables.is_empty()).then(|| chips(&variables))),
        ("Registered at", app.facts.registered.as_ref().map(|it| html! { (it.issuer) })),
        ("Secret ends", app.facts.registered.as_ref().and_then(|it| it.expires).map(ago)),
        ("Changed", app.updated.map(ago)),
        ("Id", Some(html! { code { (app.id) } })),
    ])
}

/// The form for an account that this app asks for.
fn connect_with(app: &Shown<App>) -> String {
    let given = [("app", Some(app.spec.name.as_str())), ("auth", app.spec.auth.as_deref())];
    with_query(&format!("/connect/to/{}", segment(&app.spec.provider)), &given)
}

/// The method that the app is for, if it names one.
fn method<'a>(app: &Shown<App>, provider: Option<&'a ProviderView>) -> Option<&'a AuthView> {
    let named = app.spec.auth.as_ref()?;
    provider?.auth.iter().find(|auth| auth.id == *named)
}

/// The forms that change an app.
struct Settings<'a> {
    app: &'a Shown<App>,
    provider: Option<&'a ProviderView>,
    /// Of the API.
    path: &'a str,
    tag: Option<&'a str>,
    /// Names of secret sources.
    sources: &'a [String],
    /// Those of the client's id and secret.
    labels: &'a [String; 2],
}

impl Settings<'_> {
    fn show(&self) -> Markup {
        let Self { app, sources, path, tag, labels: [_, secret], .. } = self;
        // A stored secret is sent with no other id: both are replaced together.
        let has_secret = !app.facts.secrets.is_empty();
        html! {
            section.panel { header { h2 { "Settings" } } div.body {
                (self.client(!has_secret))
                details #replace-secret open[app.facts.problem.is_some()] {
                    summary { @if has_secret { "Replace the client or its secret" } @else { "Replace the secret" } }
                    form method="post" data-api=(format!("PATCH {path}")) data-tag=[tag] data-done="The new secret is in force." autocomplete="off" {
                        @if has_secret { (self.id().show()) }
                        (self.secret())
                        button.first { "Replace secret" }
                    }
                }
                @if !sources.is_empty() {
                    details #refer-secret {
                        summary { "Keep the secret in a secret source" }
                        form method="post" data-api=(format!("PATCH {path}")) data-tag=[tag] data-done="The next token is requested with it." autocomplete="off" {
                            (connect::reference_field("secrets.client_secret", secret, sources))
                            button.first { "Use this reference" }
                        }
                    }
                }
            } }
        }
    }

    /// Its id at the service.
    fn id(&self) -> Field<'_> {
        Field {
            name: "client_id",
            label: &self.labels[0],
            value: Some(&self.app.spec.client_id),
            ..Field::default()
        }
    }

    /// Its id at the service, and its scopes, which OAuth 1.0a does not have.
    fn client(&self, has_id: bool) -> Markup {
        let Self { app, provider, path, tag, .. } = self;
        let has_scopes = !method(app, *provider).is_some_and(AuthView::is_named_by_apps);
        let summary = match (has_id, has_scopes) {
            (true, true) => "Edit client and scopes",
            (true, false) => "Edit client",
            (false, true) => "Edit scopes",
            (false, false) => return html! {},
        };
        html! {
            details #edit-client {
                summary { (summary) }
                form method="post" data-api=(format!("PATCH {path}")) data-tag=[tag] data-done="Saved." autocomplete="off" {
                    @if has_id { (self.id().show()) }
                    @if has_scopes {
                        (edits(&app.spec, |name| name == "scopes"))
                        @if let Some(provider) = provider { (known_scopes(provider)) }
                    }
                    button.first { "Save app" }
                }
            }
        }
    }

    fn secret(&self) -> Markup {
        let [_, secret] = client_words(method(self.app, self.provider));
        let label = format!("New {secret}");
        let secret = Field {
            name: "secrets.client_secret",
            label: &label,
            help: Some(
                "Replaces the stored one. Connections that were refused because of it are tried again.",
            ),
            kind: "password",
            ..Field::default()
        };
        secret.show()
    }
}

/// An app stays while connections use it: their tokens could not be refreshed.
fn danger(app: &Shown<App>, path: &str, tag: Option<&str>) -> Markup {
    let names = &app.facts.connections;
    if !names.is_empty() {
        return html! {
            p.muted { "It can be removed when no connection uses it. First remove "
                (links("/connections", names.iter().take(5)))
                @if names.len() > 5 { " and " (names.len() - 5) " more" } "." }
        };
    }
    let remove = Action {
        to: Some("/apps"),
        tag,
        ..Action::removal(
            format!("DELETE {path}"),
            "Remove app",
            format!(
                "Remove {}?\nIts secret is deleted. Its client at the service stays; remove it there.",
                app.spec.name
            ),
        )
    };
    remove.show()
}

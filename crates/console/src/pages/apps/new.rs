//! `/apps/new?provider=&auth=`: an app is set up: first the redirect URI, which the service wants before it issues a client
//! id, then the client id and the secret. The id of the app is in the address, so that its URI stays on a reload.

use axum::extract::Query;
use axum::response::{IntoResponse, Redirect, Response};
use maud::{Markup, html};
use serde::Deserialize;
use serde_json::Value;

use super::super::connect::{apps, free_name, reference_field, reference_switch, sources};
use crate::frame::{Page, Section};
use crate::parts::{
    Field, client_labels, copyable, empty, head, inputs, known_scopes, mark, search, search_more,
};
use crate::visit::{PageError, Visit, segment, sentence, with_query};
use keyward_api::wire::{AuthView, List, ProviderView, RedirectView};
use keyward_base::id::AppId;
use keyward_model::AppSpec;

/// Services that the first step lists.
const SERVICES: usize = 72;

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct PageQuery {
    q: Option<String>,
    provider: Option<String>,
    auth: Option<String>,
    id: Option<String>,
    /// The secret is kept in a secret source.
    by_reference: bool,
}

pub(super) async fn show(
    visit: Visit,
    Query(asked): Query<PageQuery>,
) -> Result<Response, PageError> {
    let Some(provider) = asked.provider.as_deref().filter(|id| !id.is_empty()) else {
        return Ok(choose(&visit, &asked).await?.into_response());
    };
    let fresh: RedirectView = visit.get("/redirect-uri").await?;
    let Some(id) = asked.id.as_deref().and_then(|id| AppId::parse(id).ok()) else {
        let given = [
            ("provider", Some(provider)),
            ("auth", asked.auth.as_deref()),
            ("id", Some(fresh.app.as_str())),
        ];
        let to = with_query("/apps/new", &given);
        return Ok(Redirect::to(&to).into_response());
    };
    let uri = fresh.redirect_uri.replace(fresh.app.as_str(), id.as_str());
    let provider: ProviderView = visit.get(&format!("/providers/{}", segment(provider))).await?;
    Ok(set_up(&visit, &asked, &provider, &id, &uri).await?.into_response())
}

/// The first step: the service.
async fn choose(visit: &Visit, asked: &PageQuery) -> Result<Page, PageError> {
    let q = asked.q.clone().unwrap_or_default();
    let all: List<ProviderView> =
        visit.get(&format!("/providers?limit=1000&q={}", segment(q.trim()))).await?;
    let needs = |it: &&ProviderView| it.auth.iter().any(|auth| auth.needs_app);
    let fitting: Vec<_> = all.items.iter().filter(needs).collect();
    let content = html! {
        p.crumb { a href="/apps" { "Apps" } }
        (head(html! { "Set up an app" }, Some(html! { "At which service? These ask for consent by OAuth." }), html! {}))
        form.bar action="/apps/new" method="get" data-find role="search" {
            (search("services", asked.q.as_deref()))
            noscript { button { "Search" } }
        }
        div #services data-found {
            @if fitting.is_empty() { section.panel { (empty("No service fits", "Services that take keys need no app.", None)) } }
            ul.cards { @for it in fitting.iter().take(SERVICES) { li {
                a href=(format!("/apps/new?provider={}", segment(&it.id))) { (mark(&it.id, false)) span.text { (it.name) } }
            } } }
            @if all.next.is_some() { (search_more("services")) }
            @else if fitting.len() > SERVICES { p.small.muted { (fitting.len() - SERVICES) " more: search for their name." } }
        }
    };
    Ok(Page::new(visit, Section::Settings, "Set up an app", content))
}

async fn set_up(
    visit: &Visit,
    asked: &PageQuery,
    provider: &ProviderView,
    id: &AppId,
    uri: &str,
) -> Result<Page, PageError> {
    let usable: Vec<&AuthView> = provider.auth.iter().filter(|auth| auth.needs_app).collect();
    let chosen = usable.iter().find(|it| Some(&it.id) == asked.auth.as_ref()).or(usable.first());
    let apps = apps(visit).await?;
    let sources = sources(visit).await?;
    let here = format!("/apps/new?provider={}&id={id}", segment(&provider.id));
    let here = with_query(&here, &[("auth", asked.auth.as_deref())]);
    let secret = html! {
        @if asked.by_reference && !sources.is_empty() {
            (reference_field("secrets.client_secret", &client_labels(chosen.copied())[1], &sources))
        } @else { (secret_field(chosen.copied())) }
        @if !sources.is_empty() { (reference_switch(&here, asked.by_reference)) }
    };
    let content = html! {
        p.crumb { a href="/apps" { "Apps" } " / " a href="/apps/new" { "Set up an app" } }
        (head(html! { (mark(&provider.id, true)) "App at " (provider.name) }, None, html! {
            @if let Some(url) = &provider.docs_url { a.button href=(url) target="_blank" rel="noreferrer" { "Documentation" } }
        }))
        @match chosen.copied() {
            _ if !visit.is_admin() => section.panel { (empty("An admin sets up apps", "Ask an admin of your organisation. Then accounts are connected with the app.", None)) },
            Some(auth) => {
                (register(provider, auth, uri))
                (enter(provider, auth, &body_of(provider, auth, usable.len() > 1, id), &free_name(&provider.id, &apps), &secret))
            }
            None => section.panel { (empty("No app is needed", "This service takes keys.", Some(html! { a.button.first href=(format!("/connect/to/{}", segment(&provider.id))) { "Connect an account" } }))) },
        }
    };
    Ok(Page::new(visit, Section::Settings, &format!("App at {}", provider.name), content))
}

/// Step 1: at the service.
fn register(provider: &ProviderView, auth: &AuthView, uri: &str) -> Markup {
    let page = auth.app_url.as_ref().or(provider.docs_url.as_ref()).or(provider.key_url.as_ref());
    let [id, secret] = auth.client_words();
    html! {
        section.panel {
            header { h2 { "1. Register it at " (provider.name) } }
            div.body {
                ol.numbered {
                    li {
                        @match page {
                            Some(url) => a href=(url) target="_blank" rel="noreferrer" { "Open the page where " (provider.name) " registers apps" },
                            None => { "Open the settings for developers of " (provider.name) }
                        }
                        @if auth.app_steps.is_empty() { " and add an app, an OAuth client or an integration, as it is called there" } "."
                    }
                    @for step in &auth.app_steps { li { (own_step(step, uri)) } }
                    @if auth.app_steps.is_empty() {
                        li { "Give it this redirect URI, also called callback URL, exactly as it is:" (copyable(uri)) }
                        @if auth.is_named_by_apps() { li { "Allow it what your agents need to do." } }
                        @else { li { "Allow the scopes that your agents need, if it asks for scopes." } }
                    }
                    @if !auth.says_what_to_copy() { li { "Copy the " (id) " and the " (secret) " that it shows." } }
                }
                @if let Some(note) = &auth.note { p.small.muted { (sentence(note)) } }
            }
        }
    }
}

/// A step of the provider's file, with the redirect URI where the step names it.
fn own_step(step: &str, uri: &str) -> Markup {
    match step.strip_suffix(" {redirect_uri}") {
        Some(step) => html! { (sentence(step).trim_end_matches('.')) ":" (copyable(uri)) },
        None => html! { (sentence(step)) },
    }
}

/// What the form sends beside its fields. Without a choice, the app is for each method with OAuth.
fn body_of(provider: &ProviderView, auth: &AuthView, is_choice: bool, id: &AppId) -> Value {
    let own = (is_choice || auth.is_named_by_apps()).then_some(&auth.id);
    serde_json::json!({ "provider": provider.id, "auth": own, "id": id })
}

fn secret_field(auth: Option<&AuthView>) -> Markup {
    let is_needed = auth.is_some_and(AuthView::is_named_by_apps);
    let help = match is_needed {
        true => "It is encrypted, and never shown again.",
        false => "Empty for a public client. It is encrypted, and never shown again.",
    };
    let [_, label] = client_labels(auth);
    let secret = Field {
        name: "secrets.client_secret",
        label: &label,
        help: Some(help),
        kind: "password",
        is_optional: !is_needed,
        ..Field::default()
    };
    secret.show()
}

/// Step 2: what the service issued.
fn enter(
    provider: &ProviderView,
    auth: &AuthView,
    body: &Value,
    name: &str,
    secret: &Markup,
) -> Markup {
    let is_oauth1 = auth.is_named_by_apps();
    let name = Field {
        name: "name",
        label: "Name",
        value: Some(name),
        help: Some("Letters, digits, - _ ."),
        ..Field::default()
    };
    let [label, _] = client_labels(Some(auth));
    let client = Field {
        name: "client_id",
        label: &label,
        help: Some("As the service shows it. It is no secret."),
        ..Field::default()
    };
    html! {
        section.panel {
            header { h2 { "2. Enter what " (provider.name) " issued" } }
            div.body {
                form.narrow method="post" data-api="POST /apps" data-body=(body) data-to="/apps/{name}" data-done="Ready. Connect an account next." autocomplete="off" {
                    (client.show())
                    (secret)
                    @if !provider.templates.is_empty() { (template(provider)) }
                    @if !is_oauth1 { (inputs::<AppSpec>(&["scopes"])) (known_scopes(provider)) }
                    @for variable in &provider.variables { (super::super::connect::variable_field(variable)) }
                    (name.show())
                    @if !is_oauth1 { details #private-key {
                        summary { "Private key instead of a secret" }
                        (pem("private_key", "Private key (PEM)"))
                        (pem("certificate", "Certificate (PEM)"))
                    } }
                    div.actions { button.first { "Add app" } a.button href="/apps" { "Cancel" } }
                }
            }
        }
    }
}

/// A preset of scopes and settings.
fn template(provider: &ProviderView) -> Markup {
    html! {
        div.field {
            label for="field-template" { "Template" span.muted { " (optional)" } }
            select #field-template name="template" aria-describedby="field-template-help" {
                option value="" { "none" }
                @for it in &provider.templates { option value=(it.id) { (it.label.as_deref().unwrap_or(&it.id)) } }
            }
            p.help #field-template-help { "Scopes and settings for a usual purpose." }
        }
    }
}

fn pem(name: &str, label: &str) -> Markup {
    let id = format!("field-{name}");
    html! {
        div.field {
            label for=(id) { (label) span.muted { " (optional)" } }
            textarea id=(id) name=(format!("secrets.{name}")) rows="3" spellcheck="false" autocomplete="off" {}
        }
    }
}

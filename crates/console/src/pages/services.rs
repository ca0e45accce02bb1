//! `/services`: the catalogue of services that accounts can be connected at, with the organisation's own ones.

mod define;
mod definition;

use std::collections::BTreeMap;

use axum::Router;
use axum::extract::{Path, Query};
use maud::{Markup, html};
use serde::Deserialize;

use super::connect::apps;
use super::connections::state_of;
use crate::frame::{Page, Section};
use crate::icons::Icon;
use crate::parts::{
    Action, Subpage, chips, count, empty, facts, head, links, mark, search, search_more,
    settings_nav,
};
use crate::visit::{Console, PageError, Tagged, Visit, segment, sentence, with_query};
use keyward_api::handler::get;
use keyward_api::wire::{AuthView, List, ProviderSource, ProviderView};
use keyward_model::{App, Connection, Shown};
use keyward_rules::provider::catalogue::category_title;
use keyward_rules::provider::written;

/// Services of a page.
const ROWS: usize = 72;
/// Connections that the page of a service shows.
const CONNECTIONS: usize = 20;

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct PageQuery {
    q: Option<String>,
    category: Option<String>,
    from: usize,
}

pub(super) fn routes() -> Router<Console> {
    Router::new()
        .route("/services", get(show))
        .route("/services/new", get(define::show))
        .route("/services/{id}", get(one))
}

async fn show(visit: Visit, Query(asked): Query<PageQuery>) -> Result<Page, PageError> {
    let q = asked.q.clone().unwrap_or_default();
    let all: List<ProviderView> =
        visit.get(&format!("/providers?limit=1000&q={}", segment(q.trim()))).await?;
    let content = html! {
        (head(
            html! { "Services" },
            Some(html! { "Where accounts are connected. Each has its hosts, and the ways in which it accepts a credential." }),
            html! { @if visit.is_admin() { a.button.first href="/services/new" { (Icon::Plus.show()) "Define a service" } } },
        ))
        (settings_nav(&visit, Subpage::Services))
        form.bar action="/services" method="get" data-find role="search" {
            (search("services", asked.q.as_deref()))
            (categories(&all.items, asked.category.as_deref()))
            noscript { button { "Apply" } }
        }
        div #services data-live {
            (found(&visit, &asked, &all.items))
            @if all.next.is_some() { (search_more("services")) }
        }
    };
    Ok(Page::new(&visit, Section::Settings, "Services", content))
}

fn category(provider: &ProviderView) -> &str {
    provider.category.as_deref().unwrap_or("other")
}

fn categories(all: &[ProviderView], chosen: Option<&str>) -> Markup {
    let mut numbers: BTreeMap<&str, usize> = BTreeMap::new();
    for provider in all {
        *numbers.entry(category(provider)).or_default() += 1;
    }
    html! {
        select name="category" aria-label="Category" {
            option value="" { "Category: all" }
            @for (name, number) in &numbers { option value=(name) selected[chosen == Some(name)] { (category_title(name)) " (" (number) ")" } }
            @if let Some(name) = chosen.filter(|name| !name.is_empty() && !numbers.contains_key(name)) { option value=(name) selected { (category_title(name)) } }
        }
    }
}

fn is_own(provider: &ProviderView) -> bool {
    provider.managed_by != Some(ProviderSource::Catalogue)
}

fn found(visit: &Visit, asked: &PageQuery, all: &[ProviderView]) -> Markup {
    let wanted = asked.category.as_deref().filter(|name| !name.is_empty());
    let fits = |it: &&ProviderView| wanted.is_none_or(|name| category(it) == name);
    let (own, known): (Vec<_>, Vec<_>) = all.iter().filter(fits).partition(|it| is_own(it));
    let later = asked.from + ROWS;
    let to = |from: usize| {
        let given = [("q", asked.q.as_deref()), ("category", asked.category.as_deref())];
        with_query(&format!("/services?from={from}"), &given)
    };
    html! {
        @if own.is_empty() && known.is_empty() {
            @let define = html! { a.button href="/services/new" { "Define a service" } };
            section.panel { (empty("No service fits", "Each host with an HTTP API can be a service of your own.", visit.is_admin().then_some(define))) }
        }
        @if !own.is_empty() && asked.from == 0 {
            h2.group { "Your own" }
            ul.cards { @for it in &own { li { (card(it)) } } }
        }
        @if !known.is_empty() {
            h2.group { "Catalogue: " (count(known.len(), "service")) }
            ul.cards { @for it in known.iter().skip(asked.from).take(ROWS) { li { (card(it)) } } }
            div.bar.pager {
                @if asked.from > 0 { a.button href=(to(asked.from.saturating_sub(ROWS))) { "Previous services" } }
                @if known.len() > later { a.button href=(to(later)) { "Next services" } }
            }
        }
    }
}

fn card(provider: &ProviderView) -> Markup {
    html! {
        a href=(format!("/services/{}", segment(&provider.id))) {
            (mark(&provider.id, false))
            span.text { (provider.name) small { (kinds(provider)) } }
        }
    }
}

/// How accounts authenticate, in short.
fn kinds(provider: &ProviderView) -> &'static str {
    let (mut consents, mut keys) = (false, false);
    for auth in &provider.auth {
        if auth.consents { consents = true } else { keys = true }
    }
    match (consents, keys) {
        (true, true) => "OAuth or key",
        (true, false) => "OAuth",
        (false, true) => "Key",
        (false, false) => "Not supported yet",
    }
}

async fn one(visit: Visit, Path(id): Path<String>) -> Result<Page, PageError> {
    let path = format!("/providers/{}", segment(&id));
    let Tagged { body: provider, tag } = visit.tagged::<ProviderView>(&path).await?;
    let connections: List<Shown<Connection>> = visit
        .get(&format!("/connections?limit={CONNECTIONS}&provider={}", segment(&provider.id)))
        .await?;
    let apps = apps(&visit).await?;
    let usable = visit.may_write();
    let content = html! {
        p.crumb { a href="/services" { "Services" } }
        (head(
            html! { (mark(&provider.id, true)) (provider.name) },
            Some(html! { (source(&provider)) @if let Some(category) = &provider.category { " · " (category_title(category)) } }),
            html! {
                @if let Some(url) = &provider.docs_url { a.button href=(url) target="_blank" rel="noreferrer" { (Icon::External.show()) "Documentation" } }
                @if let Some(path) = edited(&visit, &provider) { a.button href=(path) { "Change" } }
                @if usable { a.button.first href=(format!("/connect/to/{}", segment(&provider.id))) { (Icon::Plus.show()) "Connect" } }
            },
        ))
        section.panel { div.body { (about(&provider)) } }
        section.panel { header { h2 { "Ways to authenticate" } } ul.rows {
            @for auth in &provider.auth { (way(&visit, &provider, auth, &apps)) }
        } }
        section.panel #connections data-live {
            header { h2 { "Connections" } @if connections.next.is_some() { a href=(format!("/connections?provider={}", segment(&provider.id))) { "All" } } }
            @if connections.items.is_empty() { div.body { p.muted { "No account is connected." } } }
            ul.rows { @for it in &connections.items { li {
                (mark(&it.spec.provider, false))
                div.grow { a href=(format!("/connections/{}", segment(&it.spec.name))) { (it.spec.name) } @if let Some(account) = &it.facts.account { span.muted { " as " (account) } } }
                (state_of(&it.facts.state))
            } } }
        }
        @if provider.managed_by == Some(ProviderSource::Store) && visit.is_admin() {
            section.panel { header { h2 { "Danger zone" } } div.body { (danger(&provider, &connections, tag.as_deref())) } }
        }
    };
    Ok(Page::new(&visit, Section::Settings, &provider.name, content))
}

/// The editor with the definition of an own service, if it is short enough for an address.
fn edited(visit: &Visit, provider: &ProviderView) -> Option<String> {
    let is_stored = provider.managed_by == Some(ProviderSource::Store);
    let definition = provider.definition.as_ref().filter(|_| is_stored && visit.is_admin())?;
    let yaml = written::yaml(definition);
    let fits = yaml.chars().count() <= definition::TEXT_CHARS_MAX;
    fits.then(|| format!("/services/new?as=text&definition={}", segment(&yaml)))
}

fn source(provider: &ProviderView) -> Markup {
    html! {
        @match provider.managed_by {
            Some(ProviderSource::File) => span.lock { (Icon::Lock.show()) "from the configuration file" },
            Some(ProviderSource::Store) => "your own service",
            _ => "from the catalogue",
        }
    }
}

fn about(provider: &ProviderView) -> Markup {
    let named = |all: Vec<String>| (!all.is_empty()).then(|| chips(all));
    let variables = provider.variables.iter().map(|it| it.label.clone()).collect();
    let templates =
        provider.templates.iter().map(|it| it.label.clone().unwrap_or_else(|| it.id.clone()));
    facts(&[
        ("Id", Some(html! { code { (provider.id) } })),
        ("Hosts", Some(chips(&provider.hosts))),
        ("Variables of a connection", named(variables)),
        ("Templates of apps", named(templates.collect())),
        (
            "Keys",
            provider.key_url.as_ref().map(|url| html! { a href=(url) target="_blank" rel="noreferrer" { "Where to get one" } }),
        ),
    ])
}

fn way(visit: &Visit, provider: &ProviderView, auth: &AuthView, apps: &[Shown<App>]) -> Markup {
    let apps: Vec<_> = apps.iter().filter(|app| auth.fits(&provider.id, &app.spec)).collect();
    let fields: Vec<_> = auth.fields.iter().map(|field| field.label.as_str()).collect();
    html! {
        li {
            div.grow {
                b { (auth.label) }
                @if let Some(note) = &auth.note { p.why { (sentence(note)) } }
                @if auth.consents { p.why { "A person consents at " (provider.name) "." } }
                @else if !fields.is_empty() { p.why { "Asks for: " (fields.join(", ")) } }
                @if auth.needs_app && !apps.is_empty() {
                    p.why { "Apps: " (links("/apps", apps.iter().map(|app| &app.spec.name))) }
                }
            }
            @if auth.needs_app && visit.is_admin() {
                a.button href=(format!("/apps/new?provider={}&auth={}", segment(&provider.id), segment(&auth.id))) { "Set up an app" }
            }
        }
    }
}

fn danger(
    provider: &ProviderView,
    connections: &List<Shown<Connection>>,
    tag: Option<&str>,
) -> Markup {
    let path = format!("/providers/{}", segment(&provider.id));
    let List { items, next } = connections;
    if !items.is_empty() {
        return html! { p.muted { "It can be removed when no connection uses it: remove " @if next.is_some() { "at least " } (count(items.len(), "connection")) " first." } };
    }
    let remove = Action {
        to: Some("/services"),
        tag,
        ..Action::removal(
            format!("DELETE {path}"),
            "Remove service",
            format!(
                "Remove {}?\nNo account can be connected there any more. Its definition is deleted.",
                provider.name
            ),
        )
    };
    remove.show()
}

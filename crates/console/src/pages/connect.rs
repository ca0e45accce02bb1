//! `/connect`: an account is connected in three steps: choose the service, authenticate, bind to agents. Each step is a
//! page of its own, so that Back loses nothing.

use axum::Router;
use axum::extract::{Path, Query};
use maud::{Markup, html};
use serde::Deserialize;

use crate::frame::{Page, Section};
use crate::parts::{Check, Field, empty, head, known_scopes, mark, search, search_more};
use crate::visit::{Console, PageError, Visit, segment, sentence, with_query};
use keyward_api::handler::get;
use keyward_api::wire::{AuthView, FieldView, List, ProviderView, VariableView};
use keyward_model::{App, Connection, Resource, Shown, Source};
use keyward_rules::provider::catalogue::CATEGORIES;

/// The provider of MCP servers, which are connected by their URL and need no app.
const MCP: &str = "mcp";

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct PageQuery {
    q: Option<String>,
    provider: Option<String>,
    agent: Option<String>,
    auth: Option<String>,
    /// The app that is chosen at first.
    app: Option<String>,
    /// The URL of an MCP server.
    url: Option<String>,
    /// Secrets are given as references in secret sources.
    by_reference: bool,
}

/// What the form of a key does, in words.
pub(super) struct KeyWords {
    /// The last segment of the request.
    pub(super) api: &'static str,
    pub(super) title: &'static str,
    /// What the service is asked first, after its name.
    pub(super) test: &'static str,
    pub(super) button: &'static str,
    /// What becomes of a key that cannot be tested.
    pub(super) untested: &'static str,
    pub(super) untested_button: &'static str,
    pub(super) done: &'static str,
}

impl KeyWords {
    /// The text of the button.
    pub(super) fn label(&self, has_test: bool) -> &'static str {
        if has_test { self.button } else { self.untested_button }
    }

    /// Whether the service is asked first.
    pub(super) fn note(&self, service: &str, has_test: bool) -> Markup {
        html! { p.small.muted { @if has_test { (service) (self.test) } @else { (self.untested) } } }
    }
}

/// For a connection without a key.
pub(super) const FIRST_KEY: KeyWords = KeyWords {
    api: "activate",
    title: "Give key",
    test: " is asked whether it accepts the key before agents can use it.",
    button: "Test and connect",
    untested: "It is not tested, because no test request is known for this service.",
    untested_button: "Connect",
    done: "Connected.",
};

pub(super) fn routes() -> Router<Console> {
    Router::new().route("/connect", get(choose)).route("/connect/to/{provider}", get(authenticate))
}

/// The steps, with the present one marked.
pub(super) fn steps(at: usize) -> Markup {
    const STEPS: [&str; 3] = ["Choose the service", "Authenticate", "Bind to agents"];
    html! {
        ol.steps {
            @for (index, step) in STEPS.iter().enumerate() {
                li aria-current=[(index == at).then_some("step")] { (index + 1) ". " (step) }
            }
        }
    }
}

async fn choose(visit: Visit, Query(asked): Query<PageQuery>) -> Result<Page, PageError> {
    if !visit.may_write() {
        return Err(PageError::not_allowed());
    }
    // The link of a refusal names the service.
    if let Some(provider) = asked.provider.clone().filter(|provider| !provider.is_empty()) {
        return authenticate(visit, Path(provider), Query(asked)).await;
    }
    let q = asked.q.clone().unwrap_or_default();
    let list: List<ProviderView> =
        visit.get(&format!("/providers?limit=1000&q={}", segment(&q))).await?;
    let content = html! {
        (head(html! { "Connect" }, Some(html! { "Which service is the account of?" }), html! {}))
        (steps(0))
        form.bar action="/connect" method="get" data-find role="search" {
            (search("services", asked.q.as_deref()))
            @if let Some(agent) = &asked.agent { input type="hidden" name="agent" value=(agent); }
        }
        div #services data-found {
            @if list.items.is_empty() {
                @let server = with_query(&format!("/connect/to/{MCP}"), &[("url", url_of(&q)), ("agent", asked.agent.as_deref())]);
                section.panel { (empty("No service fits", "An MCP server needs its URL alone. Every other host with an HTTP API works too: define it as a service of your own.",
                    Some(html! { a.button href=(server) { "Connect an MCP server" } a.button href="/services/new" { "Define a service" } }))) }
            }
            @let groups = grouped(&list.items);
            @if groups.len() > 1 {
                p.small { @for (index, (category, _)) in groups.iter().enumerate() {
                    @if index > 0 { " · " }
                    a href={ "#group-" (index) } { (category) }
                } }
            }
            @for (index, (category, providers)) in groups.iter().enumerate() {
                h2.group id={ "group-" (index) } { (category) }
                ul.cards { @for provider in providers { li { (card(provider, asked.agent.as_deref())) } } }
            }
            @if list.next.is_some() { (search_more("services")) }
            @if !list.items.is_empty() { p.small.muted { "Not in the list? " a href="/services/new" { "Define any host with an HTTP API." } } }
        }
    };
    Ok(Page::new(&visit, Section::Connections, "Connect", content))
}

/// What was searched, if it is a URL.
fn url_of(q: &str) -> Option<&str> {
    Some(q.trim()).filter(|q| q.starts_with("https://"))
}

fn grouped(all: &[ProviderView]) -> Vec<(String, Vec<&ProviderView>)> {
    let place = |provider: &ProviderView| {
        let of = provider.category.as_deref();
        let known = CATEGORIES.iter().position(|(category, _)| Some(*category) == of);
        known.unwrap_or(CATEGORIES.len())
    };
    let mut sorted: Vec<_> = all.iter().collect();
    sorted.sort_by_key(|provider| {
        (place(provider), provider.category.clone(), provider.name.to_lowercase())
    });
    let mut groups: Vec<(String, Vec<&ProviderView>)> = Vec::new();
    for provider in sorted {
        let own = provider.category.as_deref().unwrap_or("Your own and others");
        let name = CATEGORIES.get(place(provider)).map_or(own, |(_, name)| name);
        match groups.last_mut() {
            Some((last, members)) if last == name => members.push(provider),
            _ => groups.push((name.to_owned(), vec![provider])),
        }
    }
    groups
}

fn card(provider: &ProviderView, agent: Option<&str>) -> Markup {
    let kinds = match (
        provider.auth.iter().any(|it| it.consents),
        provider.auth.iter().any(|it| !it.consents),
    ) {
        (true, true) => "OAuth or key",
        (true, false) => "OAuth",
        _ => "Key",
    };
    html! {
        a href=(to(&provider.id, None, agent)) {
            (mark(&provider.id, false))
            span.text { (provider.name) small { (kinds) } }
        }
    }
}

/// The page of the second step.
fn to(provider: &str, auth: Option<&str>, agent: Option<&str>) -> String {
    with_query(&format!("/connect/to/{}", segment(provider)), &[("auth", auth), ("agent", agent)])
}

async fn authenticate(
    visit: Visit,
    Path(id): Path<String>,
    Query(asked): Query<PageQuery>,
) -> Result<Page, PageError> {
    if !visit.may_write() {
        return Err(PageError::not_allowed());
    }
    let provider: ProviderView = visit.get(&format!("/providers/{}", segment(&id))).await?;
    let apps = apps(&visit).await?;
    let usable: Vec<_> = provider.auth.iter().collect();
    let chosen =
        usable.iter().find(|auth| Some(&auth.id) == asked.auth.as_ref()).or(usable.first());
    let taken: List<Shown<Connection>> =
        visit.get(&format!("/connections?limit=1000&provider={}", segment(&id))).await?;
    let name = free_name(&id, &taken.items);
    let sources = sources(&visit).await?;
    let by_reference = asked.by_reference && !sources.is_empty();
    let content = html! {
        p.crumb { a href="/connect" { "Connect" } }
        (head(html! { (mark(&provider.id, true)) "Connect " (provider.name) }, None, html! {
            @if let Some(url) = &provider.docs_url { a href=(url) target="_blank" rel="noreferrer" { "How " (provider.name) " authenticates" } }
        }))
        (steps(1))
        @if usable.len() > 1 {
            nav.tabs.bar aria-label="Method" {
                @for auth in &usable {
                    a href=(to(&id, Some(&auth.id), asked.agent.as_deref()))
                        aria-current=[chosen.filter(|it| it.id == auth.id).map(|_| "true")] { (auth.label) }
                }
            }
        }
        section.panel.form { div.body {
            @match chosen {
                Some(auth) => (form(&visit, &Authentication { provider: &provider, auth, apps: &apps, name: &name, agent: asked.agent.as_deref(), app: asked.app.as_deref(), url: asked.url.as_deref(), sources: &sources, by_reference })),
                None => p.muted { "This service has no method." },
            }
        } }
    };
    Ok(Page::new(&visit, Section::Connections, &format!("Connect {}", provider.name), content))
}

/// The id of the service, with a number if it is taken.
pub(super) fn free_name<R: Resource>(id: &str, taken: &[Shown<R>]) -> String {
    let is_free = |name: &String| !taken.iter().any(|it| it.name() == name);
    let numbered = (2..).map(|number| format!("{id}-{number}"));
    std::iter::once(id.to_owned()).chain(numbered).find(is_free).unwrap_or_default()
}

/// The second step.
struct Authentication<'a> {
    provider: &'a ProviderView,
    auth: &'a AuthView,
    /// All apps that the reader sees.
    apps: &'a [Shown<App>],
    /// The name that is proposed.
    name: &'a str,
    /// The agent whose request was refused without the connection.
    agent: Option<&'a str>,
    /// The app whose page led here.
    app: Option<&'a str>,
    /// The URL of an MCP server.
    url: Option<&'a str>,
    /// The names of secret sources.
    sources: &'a [String],
    /// Whether secrets are given as references.
    by_reference: bool,
}

fn form(visit: &Visit, of: &Authentication<'_>) -> Markup {
    let Authentication { provider, auth, apps, name, agent, app, url, sources, by_reference } = *of;
    let apps: Vec<_> = apps.iter().filter(|app| auth.fits(&provider.id, &app.spec)).collect();
    let next = binding_step(agent);
    if provider.id == MCP {
        return mcp(visit, name, url, &next);
    }
    if auth.needs_app && apps.is_empty() {
        return needs_app(visit, provider, auth);
    }
    if sources.is_empty() && auth.fields.iter().any(|field| field.from_source) {
        return needs_source(visit);
    }
    let body =
        serde_json::json!({ "provider": provider.id, "auth": auth.id, "test": !auth.consents });
    html! {
        @if let Some(note) = &auth.note { p.muted { (sentence(note)) } }
        form method="post" data-api="POST /connections" data-body=(body) data-to=(next)
            data-failed="/connections/{name}" autocomplete="off" {
            (Field { name: "name", label: "Name", value: Some(name), help: Some("How agents and the audit log name it: letters, digits, - _ ."), ..Field::default() }.show())
            @if auth.needs_app { (app_choice(&apps, app)) }
            @for variable in &provider.variables { (variable_field(variable)) }
            // Fields of a method with consents are for tokens that another tool has.
            @if !auth.consents { @for field in &auth.fields {
                @if field.from_source || by_reference && field.secret && !field.optional { (reference_field(&format!("fields.{}", field.name), &field.label, sources)) } @else { (secret_field(field)) }
            } }
            @if !auth.consents { (format_check(auth)) }
            @if !auth.consents && !sources.is_empty() { (reference_switch(&to(&provider.id, Some(&auth.id), agent), by_reference)) }
            (visibility(visit))
            details #more-settings {
                summary { "More settings" }
                (Field { name: "environment", label: "Environment", example: Some("production"), help: Some("Agents of another environment cannot use it."), is_optional: true, ..Field::default() }.show())
                (Field { name: "purpose", label: "Purpose", is_optional: true, ..Field::default() }.show())
                (Field { name: "tags", label: "Tags", json: Some("list"), help: Some("Separated by blanks."), is_optional: true, ..Field::default() }.show())
                @if auth.consents && !auth.is_named_by_apps() { (Field { name: "scopes", label: "Scopes", json: Some("list"), help: Some("Instead of those of the app. Separated by blanks."), is_optional: true, ..Field::default() }.show()) (known_scopes(provider)) }
            }
            div.actions {
                button.first { @if auth.consents { "Continue to " (provider.name) } @else { (FIRST_KEY.label(auth.has_test)) } }
                @if let Some(url) = provider.key_url.as_ref().filter(|_| !auth.consents) { a href=(url) target="_blank" rel="noreferrer" { "Get a key" } }
            }
            @if !auth.consents { (FIRST_KEY.note(&provider.name, auth.has_test)) }
        }
    }
}

/// The page of the third step; the script fills in the name.
fn binding_step(agent: Option<&str>) -> String {
    with_query("/connect/done/{name}", &[("agent", agent)])
}

/// The choice of agents that may use the connection. The default is all for admins, and their own for others.
fn visibility(visit: &Visit) -> Markup {
    let is_admin = visit.is_admin();
    html! {
        div.field {
            label for="field-visibility" { "Who may use it" }
            select #field-visibility name="visibility" {
                option value="shared" selected[is_admin] { "All agents of " (visit.me.org) }
                option value="private" selected[!is_admin] { "Agents that I own" }
            }
        }
    }
}

/// An MCP server says itself where to ask for consent, and Keyward registers there.
fn mcp(visit: &Visit, name: &str, url: Option<&str>, next: &str) -> Markup {
    let body = serde_json::json!({ "provider": MCP });
    html! {
        form method="post" data-api="POST /connections" data-body=(body) data-to=(next) autocomplete="off" {
            (Field { name: "url", label: "URL of the server", kind: "url", value: url, example: Some("https://mcp.example.com/mcp"), ..Field::default() }.show())
            (Field { name: "name", label: "Name", value: Some(name), help: Some("How agents and the audit log name it: letters, digits, - _ ."), ..Field::default() }.show())
            (visibility(visit))
            div.actions { button.first { "Continue to the server" } }
        }
    }
}

fn app_choice(apps: &[&Shown<App>], chosen: Option<&str>) -> Markup {
    html! {
        div.field {
            label for="field-app" { "App" }
            select #field-app name="app" { @for app in apps { option value=(app.spec.name) selected[chosen == Some(app.spec.name.as_str())] { (app.spec.name) } } }
            p.help { "The OAuth client that asks for consent." }
        }
    }
}

/// OAuth needs a client that is registered at the service; without one the page leads there first.
fn needs_app(visit: &Visit, provider: &ProviderView, auth: &AuthView) -> Markup {
    html! {
        b { (provider.name) " needs an app first" }
        p.muted { "An app is an OAuth client of your own at " (provider.name) ". It is registered once, then any number of accounts is connected with it." }
        @if visit.is_admin() {
            p { a.button.first href=(format!("/apps/new?provider={}&auth={}", segment(&provider.id), segment(&auth.id))) { "Set up an app" } }
        } @else {
            p { "Ask an admin of your organisation to set it up under Apps." }
        }
    }
}

/// A notice for a method whose values expire: it needs a secret source, and none exists yet.
fn needs_source(visit: &Visit) -> Markup {
    html! {
        b { "This method needs a secret source first" }
        p.muted { "One of its values expires: Keyward fetches each new one from the secret source." }
        @if visit.is_admin() {
            p { a.button.first href="/sources" { "Add a secret source" } }
        } @else {
            p { "Only admins can give fields by reference." }
        }
    }
}

pub(super) fn variable_field(variable: &VariableView) -> Markup {
    let name = format!("variables.{}", variable.name);
    if !variable.choices.is_empty() {
        return html! {
            div.field {
                label for=(name) { (variable.label) }
                select id=(name) name=(name) {
                    @for choice in &variable.choices { option value=(choice) selected[variable.default.as_ref() == Some(choice)] { (choice) } }
                }
            }
        };
    }
    let field = Field {
        name: &name,
        label: &variable.label,
        help: variable.help.as_deref(),
        example: variable.example.as_deref(),
        value: variable.default.as_deref(),
        is_optional: variable.default.is_some(),
        ..Field::default()
    };
    field.show()
}

/// A field of an auth method.
pub(super) fn secret_field(field: &FieldView) -> Markup {
    let name = format!("fields.{}", field.name);
    let prefixes = (!field.prefixes.is_empty()).then(|| field.prefixes.join(" "));
    let shown = Field {
        name: &name,
        label: &field.label,
        help: field.help.as_deref(),
        kind: if field.secret { "password" } else { "text" },
        is_multiline: field.multiline,
        is_optional: field.optional,
        prefixes,
        ..Field::default()
    };
    shown.show()
}

/// The choice to give a key that does not look like those of its service, where a secret is typed.
pub(super) fn format_check(auth: &AuthView) -> Markup {
    let check = Check {
        name: "check_format",
        label: "Check the format of the key",
        help: Some("Clear it for a format that the service introduced lately."),
        is_ticked: true,
        ..Check::default()
    };
    html! { @if auth.fields.iter().any(|field| field.secret) { (check.show()) } }
}

/// All apps that the reader sees.
pub(super) async fn apps(visit: &Visit) -> Result<Vec<Shown<App>>, PageError> {
    let apps: Option<List<Shown<App>>> = visit.get_optional("/apps?limit=1000").await?;
    Ok(apps.map(|list| list.items).unwrap_or_default())
}

/// The names of the secret sources that an admin may use.
pub(super) async fn sources(visit: &Visit) -> Result<Vec<String>, PageError> {
    let sources: Option<List<Shown<Source>>> = match visit.is_admin() {
        true => visit.get_optional("/sources?limit=100").await?,
        false => None,
    };
    Ok(sources.into_iter().flat_map(|list| list.items).map(|it| it.spec.name).collect())
}

/// A field whose value is kept in a secret source.
pub(super) fn reference_field(name: &str, title: &str, sources: &[String]) -> Markup {
    html! {
        fieldset.field {
            legend { (title) }
            label for=(format!("{name}.from")) { "Secret source" }
            select id=(format!("{name}.from")) name=(format!("{name}.from")) { @for source in sources { option value=(source) { (source) } } }
            label for=(format!("{name}.ref")) { "Reference" }
            input id=(format!("{name}.ref")) name=(format!("{name}.ref")) required autocomplete="off" spellcheck="false" autocapitalize="off";
            p.help { "How the source names the value, such as apps/openai#key." }
        }
    }
}

/// A link to the form with references, or back to the one with values.
pub(super) fn reference_switch(path: &str, by_reference: bool) -> Markup {
    html! {
        p.small.field { @match by_reference {
            true => a href=(path) { "Give the value itself instead" },
            false => a href=(format!("{path}&by_reference=true")) { "The value is kept in a secret source" },
        } }
    }
}

//! `/sources`: secret sources, whether they give values, and which connections have values there; and the forms
//! that add and change one.

use axum::Router;
use axum::extract::{Path, Query};
use maud::{Markup, html};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::frame::{Page, Section};
use crate::icons::Icon;
use crate::parts::{Action, Field, Subpage, ago, empty, head, links, lock, settings_nav};
use crate::visit::{Console, PageError, Tagged, Visit, segment};
use keyward_api::handler::get;
use keyward_api::wire::List;
use keyward_base::keys::{Absent, Key, Section as _, Shape};
use keyward_model::{
    AwsSource, AzureSource, BitwardenSource, DopplerSource, GcpSource, InfisicalSource,
    OnePasswordSource, Shown, Source, SourceSpec, VaultLogin, VaultSource,
};

/// As many as an organisation may have.
const ROWS: usize = 100;

pub(super) fn routes() -> Router<Console> {
    Router::new().route("/sources", get(show)).merge(edit_routes())
}

async fn show(visit: Visit) -> Result<Page, PageError> {
    let list: List<Shown<Source>> = visit.get(&format!("/sources?limit={ROWS}")).await?;
    let is_admin = visit.is_admin();
    let about = html! { "Where values of connections' fields are kept outside of Keyward. Values are shown nowhere." };
    let content = html! {
        (head(html! { "Secret sources" }, Some(about), html! {
            @if is_admin { a.button.first href="/sources/new" { (Icon::Plus.show()) "Add source" } }
        }))
        (settings_nav(&visit, Subpage::Sources))
        section.panel #sources data-live {
            @if list.items.is_empty() {
                (empty("No secret source yet", "Sources of the gateway's own machine are declared in the configuration file.", None))
            } @else {
                ul.rows { @for source in &list.items { (row(source, is_admin)) } }
            }
        }
    };
    Ok(Page::new(&visit, Section::Settings, "Secret sources", content))
}

fn row(source: &Shown<Source>, is_admin: bool) -> Markup {
    let (name, facts) = (&source.spec.name, &source.facts);
    let test = Action {
        api: format!("POST /sources/{}/test", segment(name)),
        label: "Test",
        done: "Tested: the row shows the result.",
        ..Action::default()
    };
    let remove = Action::removal(
        format!("DELETE /sources/{}", segment(name)),
        "Remove source",
        format!("Remove {name}?\nIts credentials are deleted."),
    );
    html! {
        li.top {
            div.grow {
                p { b { (name) } " " span.muted.small {
                    (facts.kind)
                    @if let Some(at) = facts.fetched { " · fetched " (ago(at)) }
                    " · added " (ago(source.created))
                } }
                @if let Some(failing) = &facts.failing {
                    p.status-bad { "Fails since " (ago(failing.since)) ", " (failing.count) " in a row: " (failing.message)
                        @match facts.kept_until {
                            Some(at) => { ". The last values are used until " (ago(at)) "." }
                            None => { ". There are no earlier values since the gateway started." }
                        }
                    }
                }
                @if !facts.connections.is_empty() {
                    p.small { "Connections: " (links("/connections", &facts.connections)) }
                }
                @if !facts.apps.is_empty() {
                    p.small { "Apps: " (links("/apps", &facts.apps)) }
                }
            }
            @if is_admin && !(facts.connections.is_empty() && facts.apps.is_empty()) { (test.show()) }
            @if let Some(lock) = lock(source.managed_by) { (lock) }
            @else if is_admin {
                a.button href=(format!("/sources/{}/edit", segment(name))) { "Edit" }
                @if facts.connections.is_empty() && facts.apps.is_empty() { (remove.show()) }
            }
        }
    }
}

/// The kinds that can be added here, with their names.
const KINDS: [(&str, &str); 8] = [
    ("vault", "Vault or OpenBao"),
    ("aws", "AWS"),
    ("gcp", "Google Secret Manager"),
    ("azure", "Azure Key Vault"),
    ("onepassword", "1Password Connect"),
    ("bitwarden", "Bitwarden"),
    ("infisical", "Infisical"),
    ("doppler", "Doppler"),
];
/// The logins at Vault that can be added here.
const LOGINS: [(VaultLogin, &str); 2] =
    [(VaultLogin::Token, "Token"), (VaultLogin::Approle, "AppRole")];
/// Settings of a login by `kubernetes`, which only the configuration file may declare; and the login, which is chosen
/// above the form.
const HIDDEN: [&str; 3] = ["login", "role", "token_file"];

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct PageQuery {
    kind: Option<String>,
    login: VaultLogin,
}

fn edit_routes() -> Router<Console> {
    Router::new().route("/sources/new", get(add)).route("/sources/{name}/edit", get(edit))
}

async fn add(visit: Visit, Query(asked): Query<PageQuery>) -> Result<Page, PageError> {
    if !visit.is_admin() {
        return Err(PageError::not_allowed());
    }
    let kind = asked.kind.as_deref().unwrap_or(KINDS[0].0);
    let spec = empty_form(kind, asked.login).ok_or_else(PageError::no_page)?;
    let content = html! {
        p.crumb { a href="/sources" { "Secret sources" } }
        (head(html! { "Add a secret source" }, Some(html! { "Its credentials are encrypted, and never shown again." }), html! {}))
        nav.tabs.bar aria-label="Kind" { @for (of, title) in KINDS {
            a href=(format!("/sources/new?kind={of}")) aria-current=[(of == kind).then_some("true")] { (title) }
        } }
        section.panel.form { div.body {
            p.muted { (meaning(kind)) }
            @if kind == "vault" { nav.tabs aria-label="Login" { @for (login, title) in LOGINS {
                a href=(format!("/sources/new?kind=vault&login={}", login.as_str())) aria-current=[(login == asked.login).then_some("true")] { (title) }
            } } }
            form method="post" data-api="POST /sources" data-body=(fixed(kind, asked.login)) data-to="/sources" data-done="Added. Give a field of a connection a reference in it." autocomplete="off" {
                (Field { name: "name", label: "Name", value: Some(kind), help: Some("How references name it: letters, digits, - _ ."), ..Field::default() }.show())
                (fields(kind, &spec, &Value::Null))
                div.actions { button.first { "Add source" } a.button href="/sources" { "Cancel" } }
            }
        } }
    };
    Ok(Page::new(&visit, Section::Settings, "Add a secret source", content))
}

async fn edit(visit: Visit, Path(name): Path<String>) -> Result<Page, PageError> {
    if !visit.is_admin() {
        return Err(PageError::not_allowed());
    }
    let path = format!("/sources/{}", segment(&name));
    let Tagged { body: source, tag } = visit.tagged::<Shown<Source>>(&path).await?;
    let kind = source.facts.kind.as_str();
    if !KINDS.iter().any(|(of, _)| *of == kind) {
        return Err(PageError::no_page());
    }
    let now = serde_json::to_value(&source.spec).unwrap_or_default();
    let content = html! {
        p.crumb { a href="/sources" { "Secret sources" } }
        (head(html! { (source.spec.name) }, Some(html! { (meaning(kind)) }), html! {}))
        section.panel.form { div.body {
            form method="post" data-api=(format!("PATCH {path}")) data-tag=[tag] data-to="/sources" data-done="Changed." autocomplete="off" {
                (fields(kind, &source.spec, &now))
                p.small.muted { "Without credentials, those it has stay. Another address or account needs them again." }
                div.actions { button.first { "Change source" } a.button href="/sources" { "Cancel" } }
            }
        } }
    };
    Ok(Page::new(&visit, Section::Settings, &source.spec.name, content))
}

/// A source of the kind without settings; `None` for other kinds.
fn empty_form(kind: &str, login: VaultLogin) -> Option<SourceSpec> {
    let mut spec = SourceSpec::default();
    match kind {
        "vault" => spec.vault = Some(VaultSource { login, ..VaultSource::default() }),
        "aws" => spec.aws = Some(AwsSource::default()),
        "gcp" => spec.gcp = Some(GcpSource::default()),
        "azure" => spec.azure = Some(AzureSource::default()),
        "onepassword" => spec.onepassword = Some(OnePasswordSource::default()),
        "bitwarden" => spec.bitwarden = Some(BitwardenSource::default()),
        "infisical" => spec.infisical = Some(InfisicalSource::default()),
        "doppler" => spec.doppler = Some(DopplerSource::default()),
        _ => return None,
    }
    Some(spec)
}

/// What the request has beside the fields of the form: its kind, also where no setting is given.
fn fixed(kind: &str, login: VaultLogin) -> Value {
    match kind {
        "vault" => json!({ "vault": { "login": login } }),
        _ => json!({ kind: {} }),
    }
}

/// What the kind is, and how a reference in it is written.
fn meaning(kind: &str) -> String {
    let key = SourceSpec::keys().into_iter().find(|key| key.name == kind);
    key.map(|key| key.meaning.replace('`', "")).unwrap_or_default()
}

/// Settings of the kind, credentials and times. `now`: the spec that is changed, or null.
fn fields(kind: &str, spec: &SourceSpec, now: &Value) -> Markup {
    let all = SourceSpec::keys();
    let settings = all.iter().find(|key| key.name == kind).map(|key| match key.shape {
        Shape::Map(keys) => keys(),
        _ => Vec::new(),
    });
    let settings = settings.unwrap_or_default();
    let times = all.iter().filter(|key| ["ttl", "keep"].contains(&key.name));
    let names = spec.credential_names();
    let optional = names.optional.unwrap_or_default();
    let is_new = now.is_null();
    html! {
        @for key in settings.iter().filter(|key| !HIDDEN.contains(&key.name)) {
            (setting(&format!("{kind}.{}", key.name), key, &now[kind][key.name]))
        }
        @for name in names.required { (credential(name, !is_new)) }
        @for name in optional { (credential(name, true)) }
        details #times {
            summary { "Times" }
            @for key in times { (setting(key.name, key, &now[key.name])) }
        }
    }
}

fn setting(name: &str, key: &Key, now: &Value) -> Markup {
    let (label, help) = (words(key.name), key.meaning.replace('`', ""));
    let text = now.as_str().map_or_else(|| now.to_string(), ToOwned::to_owned);
    let value = (!now.is_null()).then_some(text.as_str());
    let id = format!("field-{}", name.replace('.', "-"));
    match key.shape {
        Shape::Choice(choices, absent) => {
            let usual = match absent {
                Absent::Default(usual) => Some(usual),
                Absent::Nothing | Absent::Required => None,
            };
            html! { div.field {
                label for=(id) { (label) }
                select id=(id) name=(name) { @for choice in choices {
                    option value=(choice) selected[value.or(usual) == Some(choice)] { (words(choice)) }
                } }
                p.help { (help) }
            } }
        }
        shape => {
            let is_optional = !matches!(shape, Shape::Value(_, Absent::Required));
            let json = (key.name == "version").then_some("number");
            let help = Some(help.as_str());
            let empties = is_optional && value.is_some();
            Field {
                name,
                label: &label,
                help,
                value,
                json,
                is_optional,
                empties,
                ..Field::default()
            }
            .show()
        }
    }
}

fn credential(name: &str, is_optional: bool) -> Markup {
    let (path, label) = (format!("credentials.{name}"), words(name));
    let (name, kind) = (path.as_str(), "password");
    Field { name, label: &label, kind, is_optional, ..Field::default() }.show()
}

/// `login_mount` as "Login mount".
fn words(name: &str) -> String {
    let text = name.replace('_', " ");
    let mut letters = text.chars();
    let first = letters.next().map(|letter| letter.to_ascii_uppercase());
    first.into_iter().chain(letters).collect()
}

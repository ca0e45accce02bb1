//! `keyward provider`: lists and shows providers with their fields and actions, checks a provider file, and adds, changes
//! and removes own providers.

mod learn;

use std::collections::BTreeSet;
use std::path::PathBuf;

use clap::Subcommand;

use super::client::{Client, segment};
use super::failure::{Exit, Failure};
use super::files::read_text;
use super::output;
use super::settings::Global;
use super::terminal::confirm::Removal;
use super::terminal::table::{Table, TableLayout, fields};
use keyward_api::wire::{ActionView, AuthView, FieldView, List, ProviderSource, ProviderView};
use keyward_rules::provider::document::{Document, Problem};
use keyward_rules::provider::{AuthMethod, Catalogue, Provider, check, written};

/// No provider file is as long as this.
const FILE_MIB_MAX: u64 = 1;

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// list providers
    List {
        /// part of an id, name or category; or a host of its API
        #[arg(long, value_name = "TEXT")]
        q: Option<String>,
        /// only of this category, such as llm or crm
        #[arg(long, value_name = "CATEGORY")]
        category: Option<String>,
    },
    /// show a provider's hosts, auth methods and fields
    Show {
        /// the provider's id
        provider: String,
        /// print its file: the definition, with `extends` as it was given
        #[arg(long)]
        yaml: bool,
    },
    /// list the named actions of a provider, for rules
    Actions {
        /// the provider's id
        provider: String,
    },
    /// add the provider of a file to the store: in force at once, for this organisation
    Add {
        /// one provider, as `keyward provider check` accepts it
        file: PathBuf,
    },
    /// change an own provider to the definition of a file, at once
    Set {
        /// the whole definition, as `keyward provider show --yaml` prints it
        file: PathBuf,
    },
    /// remove an own provider that nothing uses
    Remove(Removal),
    /// read a provider file and report its errors
    Check {
        /// one provider, a list of them, or a map with `providers:`
        file: PathBuf,
        /// propose a provider: FILE is an OpenAPI document, or a HAR file
        #[arg(long)]
        learn: bool,
    },
}

/// Refuses a category that no provider has.
async fn known_category(client: &Client, category: &str) -> Result<(), Failure> {
    let all: List<ProviderView> = client.list("/api/v1/providers", &[]).await?;
    let known: BTreeSet<_> = all.items.into_iter().filter_map(|it| it.category).collect();
    match known.contains(category) {
        true => Ok(()),
        false => {
            let known: Vec<_> = known.into_iter().collect();
            Err(Failure::usage(format!("there is no category `{category}`"))
                .hint(format!("categories: {}", known.join(", "))))
        }
    }
}

impl Command {
    pub(crate) async fn run(self, global: &Global) -> Result<(), Failure> {
        match self {
            Self::List { q, category } => {
                let client = Client::open_or_empty(global).await?;
                let filters = [("q", q.as_deref()), ("category", category.as_deref())];
                let all = client.list("/api/v1/providers", &filters).await?;
                if let Some(category) = category.filter(|_| all.items.is_empty()) {
                    known_category(&client, &category).await?;
                }
                output::show(global.json, &all, |all| list(&all.items, &output::layout(global)))
            }
            Self::Show { provider, yaml } => {
                let client = Client::open_or_empty(global).await?;
                let provider = of(&client, &provider).await?;
                let file = if yaml { Some(file_of(&provider)?) } else { None };
                output::show(global.json, &provider, |it| file.unwrap_or_else(|| show(it)))
            }
            Self::Actions { provider } => {
                let client = Client::open_or_empty(global).await?;
                let actions = of(&client, &provider).await?.actions;
                output::show(global.json, &actions, |all| actions_of(all, &output::layout(global)))
            }
            Self::Add { file } => add(global, &file).await,
            Self::Set { file } => set(global, &file).await,
            Self::Remove(removal) => remove(global, removal).await,
            Self::Check { file, learn: false } => check_file(global, &file),
            Self::Check { file, learn: true } => learn::run(&file),
        }
    }
}

/// The only provider of a file, and its definition.
fn single(path: &std::path::Path, reserved: &Catalogue) -> Result<(Provider, Document), Failure> {
    let (name, text) = read(path)?;
    let failed = |problems: Vec<Problem>| Failure::problems(&problems);
    let found = check::file(&name, &text, reserved).map_err(failed)?;
    let document = Document::parse(&name, &text).map_err(failed)?;
    match <[Provider; 1]>::try_from(found) {
        Ok([provider]) if document.root().get("id").is_some() => Ok((provider, document)),
        _ => Err(Failure::usage(format!("{name} is not a single provider"))
            .hint("write one provider, with `id` at the top")),
    }
}

/// Changes the stored provider with the id of the file.
async fn set(global: &Global, path: &std::path::Path) -> Result<(), Failure> {
    // A later version may have a built-in one with the same id.
    let (provider, document) = single(path, &Catalogue::default())?;
    let client = Client::open(global).await?;
    let at = format!("/api/v1/providers/{}", segment(&provider.id));
    client.put(&at, document.root()).await?;
    let now = of(&client, &provider.id).await?;
    output::show(global.json, &now, |now| format!("provider {} changed\n", now.id))
}

/// Stores the provider of a file.
async fn add(global: &Global, path: &std::path::Path) -> Result<(), Failure> {
    let (_, document) = single(path, &Catalogue::built_in())?;
    let client = Client::open(global).await?;
    let made: ProviderView = client.post("/api/v1/providers", document.root()).await?;
    output::show(global.json, &made, |made| {
        let (id, keyward) = (&made.id, global.keyward());
        format!("provider {id} added\nconnect an account: {keyward} connect {id}\n")
    })
}

async fn remove(global: &Global, Removal { name, confirm }: Removal) -> Result<(), Failure> {
    let client = Client::open(global).await?;
    let provider = of(&client, &name).await?;
    if provider.managed_by == Some(ProviderSource::Store) {
        let losses = [format!("hosts: {}", provider.hosts.join(", "))];
        confirm.ask(format!("remove provider {name}"), &losses)?;
    }
    client.delete(&format!("/api/v1/providers/{}", segment(&name))).await?;
    let text = format!("provider {name} removed\n");
    output::removed(global.json, &[name], &text)
}

pub(crate) async fn of(client: &Client, id: &str) -> Result<ProviderView, Failure> {
    client.get(&format!("/api/v1/providers/{}", segment(id))).await
}

/// Reads the file as the gateway would. Needs no gateway and no store.
fn check_file(global: &Global, path: &std::path::Path) -> Result<(), Failure> {
    let (name, text) = read(path)?;
    let found = check::file(&name, &text, &Catalogue::built_in());
    let found = found.map_err(|problems| Failure::problems(&problems))?;
    let built_in = Catalogue::built_in();
    for provider in &found {
        if let Some((owner, host)) = built_in.host_owner(&provider.hosts) {
            output::note(&format!(
                "note: {}: {host} belongs to provider `{}` ({}): `keyward provider add` refuses it",
                provider.id,
                owner.id(),
                owner.name()
            ));
        }
        if !provider.git.is_empty() && !provider.writes_for_git() {
            output::note(&format!(
                "note: {} lists hosts of git, but no method writes Basic authentication there: git clones \
                 without a credential",
                provider.id
            ));
        }
        for auth in without_endpoints(provider) {
            output::note(&format!(
                "note: {} names no endpoint for `{}`: each app must name its `issuer`, or `token` and \
                 `authorize`",
                provider.id, auth.id
            ));
        }
    }
    let views: Vec<_> = found.iter().map(ProviderView::from).collect();
    output::show(global.json, &views, |views| {
        views.iter().map(|provider| format!("{} is valid\n", provider.id)).collect()
    })
}

/// Name and text of a file.
fn read(path: &std::path::Path) -> Result<(String, String), Failure> {
    let name = path.display().to_string();
    let text = read_text(path, FILE_MIB_MAX, &name)?;
    Ok((name, text))
}

/// Ways to consent of which the file names no endpoint.
fn without_endpoints(provider: &Provider) -> impl Iterator<Item = &AuthMethod> {
    provider.auth.iter().filter(|auth| {
        let oauth = auth.oauth.as_ref().filter(|_| auth.takes_app());
        oauth.is_some_and(|oauth| oauth.token.is_none() && oauth.issuer.is_none())
    })
}

fn list(providers: &[ProviderView], layout: &TableLayout) -> String {
    let mut table =
        Table::new(["ID", "NAME", "CATEGORY", "AUTH", "FROM", "HOSTS"]).only_in_full(&["AUTH"]);
    for provider in providers {
        let auth: Vec<_> = provider.auth.iter().map(|auth| auth.id.as_str()).collect();
        table.row([
            provider.id.clone().into(),
            provider.name.clone().into(),
            provider.category.clone().unwrap_or_default().into(),
            auth.join(", ").into(),
            provider.managed_by.map_or("", ProviderSource::as_str).into(),
            provider.hosts[..].into(),
        ]);
    }
    table.render("no providers", layout)
}

fn actions_of(actions: &[ActionView], layout: &TableLayout) -> String {
    let mut table = Table::new(["ACTION", "ALLOWS"]);
    for action in actions {
        table.row([action.name.clone().into(), action.label.clone().into()]);
    }
    table.render("no named actions", layout)
}

/// The file that defines it. Those of the catalogue have comments and sources.
fn file_of(provider: &ProviderView) -> Result<String, Failure> {
    let is_own = provider.managed_by != Some(ProviderSource::Catalogue);
    let built_in = || Catalogue::built_in().text(&provider.id).filter(|_| !is_own);
    match (&provider.definition, built_in()) {
        (Some(definition), _) => Ok(written::yaml(definition)),
        (None, Some(text)) => Ok(text.to_owned()),
        // A gateway of another version.
        (None, None) => Err(Failure::new(
            Exit::Failed,
            format!("this gateway does not say how provider {} is defined", provider.id),
        )),
    }
}

fn show(provider: &ProviderView) -> String {
    let mut text = fields(&[
        ("id", provider.id.clone()),
        ("name", provider.name.clone()),
        ("category", provider.category.clone().unwrap_or_default()),
        ("hosts", provider.hosts.join(", ")),
        ("get a key", provider.key_url.clone().unwrap_or_default()),
        ("docs", provider.docs_url.clone().unwrap_or_default()),
        ("from", provider.managed_by.map_or("", ProviderSource::as_str).to_owned()),
    ]);
    for variable in &provider.variables {
        let about = variable.help.as_ref().unwrap_or(&variable.label);
        let example = variable.example.as_ref().map(|example| format!(" (such as {example})"));
        let (name, example) = (&variable.name, example.unwrap_or_default());
        text.push_str(&format!("\n--var {name}=…\n  {about}{example}\n"));
    }
    for auth in &provider.auth {
        text.push_str(&form(auth));
    }
    if !provider.scope_words.is_empty() {
        text.push_str("\nscopes:\n");
    }
    for (scope, words) in &provider.scope_words {
        text.push_str(&format!("  {scope}: {words}\n"));
    }
    if !provider.actions.is_empty() {
        text.push_str("\nactions for rules:\n");
    }
    for action in &provider.actions {
        text.push_str(&format!("  {}: {}\n", action.name, action.label));
    }
    text
}

fn form(auth: &AuthView) -> String {
    let mut text = format!("\n--auth {}\n  {}\n", auth.id, auth.label);
    let asked = |field: &FieldView| {
        let kind = if field.secret { "secret" } else { "text" };
        let optional = if field.optional { ", optional" } else { "" };
        let source = if field.from_source { ", by reference" } else { "" };
        format!("  {} ({kind}{source}{optional}): {}\n", field.name, field.label)
    };
    text.extend(auth.fields.iter().map(asked));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn provider() -> ProviderView {
        serde_json::from_value(serde_json::json!({
            "id": "shop", "name": "Shop", "category": null, "hosts": ["{shop}.example.com"],
            "variables": [{
                "name": "shop", "kind": "label", "label": "Shop", "help": null,
                "example": "acme", "default": null, "choices": [],
            }],
            "auth": [
                {"id": "key", "kind": "api_key", "label": "Key", "note": null, "fields": [{"name": "api_key", "label": "API key", "help": null, "secret": true,
                             "optional": false, "env": []}]},
                {"id": "oauth", "kind": "oauth2", "label": "OAuth", "note": null,
                 "fields": []},
            ],
            "docs_url": null, "key_url": "https://example.com/keys",
            "scope_words": {"orders:read": "see orders"},
        }))
        .unwrap()
    }

    #[test]
    fn a_provider_is_shown_with_its_forms() {
        insta::assert_snapshot!(show(&provider()));
    }

    #[test]
    fn providers_are_listed_in_a_table() {
        insta::assert_snapshot!(list(&[provider()], &TableLayout::FULL));
    }
}

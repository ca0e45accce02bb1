//! `keyward app`: OAuth clients that are registered at providers. Their secrets are stored and never shown.

mod given;

use clap::{Args, Subcommand};

use self::given::{GivenSecret, Secrets};
use super::client::Client;
use super::connect::registration;
use super::connection::secrets;
use super::derive::{Adding, MemberArgs, SetArgs, something};
use super::failure::Failure;
use super::output;
use super::provider;
use super::resource::{Column, Columns, Named, ResourceContext, details, path};
use super::settings::Global;
use super::terminal::confirm::Removal;
use super::terminal::secret::{self, Typed};
use super::terminal::table::{moment, pairs};
use keyward_api::wire::{AppChanged, AuthView, ProviderView, RedirectView};
use keyward_base::id::AppId;
use keyward_model::{App, Shown};
use keyward_rules::provider::scope_words::worded_scopes;

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// add one, registered at its provider; asks for its secret without echo
    #[command(
        after_help = "The redirect URI to register at the provider is shown with the app, and must be\n\
        registered there character by character.\n\n\
        examples:\n  \
        keyward app add github --client-id Iv1.abc \\\n      \
        --secret-stdin client_secret < secret.txt\n  \
        keyward app add google --client-id 12-x.apps.googleusercontent.com \\\n      \
        --secret-file client_secret=s.txt\n  \
        keyward app add github --client-id Iv1.abc \\\n      \
        --secret-from client_secret=vault:apps/github#secret\n  \
        keyward app add slack --client-id 1.2 --scope chat:write --scope channels:read\n  \
        keyward app add --template google_workspace \\\n      \
        --client-id 12-x.apps.googleusercontent.com\n  \
        keyward app add gitlab --client-id abc --public --var host=git.example.com"
    )]
    Add(Box<Add>),
    /// list them
    List {
        /// part of a name, an id or a provider
        #[arg(long, value_name = "TEXT")]
        q: Option<String>,
    },
    /// show one with its redirect URI, without its secrets
    Show(Named),
    /// change one, or replace its secret
    #[command(after_help = "examples:\n  \
        keyward app set github --secret-stdin client_secret < new-secret.txt\n  \
        keyward app set google --scope https://www.googleapis.com/auth/gmail.readonly\n  \
        keyward app set acme --refresh-buffer 2m --clear auto-refresh")]
    Set(Box<Set>),
    /// remove one that no connection uses
    Remove(Removal),
}

#[derive(Debug, Args)]
pub(crate) struct Add {
    /// a provider's id: see `keyward provider list`
    provider: Option<String>,
    /// start from a template, which sets what is not given
    #[arg(long, value_name = "ID")]
    template: Option<String>,
    /// its name; default: the provider's id
    #[arg(long)]
    name: Option<String>,
    /// as the provider issued it
    #[arg(long, value_name = "ID")]
    client_id: Option<String>,
    /// the only auth method that it is for; required for OAuth 1.0a
    #[arg(long, value_name = "ID")]
    auth: Option<String>,
    /// it has no secret
    #[arg(long, conflicts_with_all = ["secret_stdin", "secret_files", "references"])]
    public: bool,
    #[command(flatten)]
    secrets: Secrets,
    #[command(flatten)]
    members: MemberArgs<App, Adding>,
}

#[derive(Debug, Args)]
pub(crate) struct Set {
    /// remove its secret
    #[arg(long, conflicts_with_all = ["secret_stdin", "secret_files", "references"])]
    public: bool,
    #[command(flatten)]
    secrets: Secrets,
    #[command(flatten)]
    given: SetArgs<App>,
}

impl Command {
    pub(crate) async fn run(self, global: &Global) -> Result<(), Failure> {
        let asked = ResourceContext { global, client: Client::open(global).await? };
        match self {
            Self::Add(add) => add.run(&asked).await,
            Self::Set(set) => set.run(&asked).await,
            Self::List { q } => asked.list::<App>(q.as_deref()).await,
            Self::Show(Named { name }) => {
                let app: Shown<App> = asked.client.get(&path::<App>(&name)).await?;
                output::show(global.json, &app, show)
            }
            Self::Remove(removal) => asked.remove::<App>(removal).await,
        }
    }
}

impl Add {
    async fn run(self, asked: &ResourceContext<'_>) -> Result<(), Failure> {
        let ResourceContext { global, client } = asked;
        let provider = match (&self.provider, &self.template) {
            (Some(provider), _) => provider::of(client, provider).await?,
            (None, Some(template)) => with_template(client, template).await?,
            (None, None) => return Err(Failure::usage("name a provider, or --template ID")),
        };
        let mut secrets = self.secrets.read()?;
        let [id_word, secret_word] = client_words(&provider, self.auth.as_deref());
        let mut id = None;
        let client_id = match self.client_id {
            Some(client_id) => client_id,
            None if secret::can_ask() => {
                id = Some(register(client, &provider, self.auth.as_deref()).await?);
                secret::ask(id_word)?
            }
            None => {
                let failure = Failure::usage("the client id is missing");
                return Err(failure.hint("--client-id ID, as the provider issued it"));
            }
        };
        if !self.public && secrets.is_empty() {
            if !secret::can_ask() {
                let failure = Failure::usage("the client secret is missing");
                return Err(failure.hint(
                    "--secret-stdin client_secret, --secret-file client_secret=PATH, or --public for \
                     a client that has none",
                ));
            }
            let typed = Typed::from_prompt(&format!("{secret_word} (not shown)"))?;
            secrets.insert("client_secret".to_owned(), GivenSecret::Text(typed));
        }
        let mut new = self.members.body()?;
        for (key, value) in [
            ("provider", serde_json::json!(provider.id)),
            ("name", serde_json::json!(self.name.as_ref().unwrap_or(&provider.id))),
            ("client_id", serde_json::json!(client_id)),
            ("auth", serde_json::json!(self.auth)),
            ("template", serde_json::json!(self.template)),
        ] {
            new.insert(key.to_owned(), value);
        }
        new.extend(id.as_ref().map(|id| ("id".to_owned(), serde_json::json!(id))));
        let new = given::AppRequest { rest: new, secrets: Some(secrets) };
        let consents = consents(&provider, self.auth.as_deref());
        let text = |made: &Shown<App>| {
            let uri = &made.facts.redirect_uri;
            let register = match id {
                Some(_) => String::new(),
                None if !consents => String::new(),
                None => format!(
                    "register this redirect URI at {}, exactly as it is:\n  {uri}\n",
                    provider.name
                ),
            };
            added(&global.keyward(), made, &register)
        };
        asked.add::<App, Shown<App>>(&new, text).await
    }
}

/// What the service calls the client's id and secret.
fn client_words<'a>(provider: &'a ProviderView, auth: Option<&str>) -> [&'a str; 2] {
    let method = auth.and_then(|auth| provider.auth.iter().find(|it| it.id == auth));
    method.map_or(["client id", "client secret"], AuthView::client_words)
}

/// Whether a person consents with an app of the provider, or of this method alone.
fn consents(provider: &ProviderView, auth: Option<&str>) -> bool {
    let is_meant = |it: &&AuthView| auth.is_none_or(|auth| it.id == auth);
    provider.auth.iter().filter(is_meant).any(|it| it.consents)
}

fn added(keyward: &str, made: &Shown<App>, register: &str) -> String {
    let (name, id, provider) = (&made.name, &made.id, &made.provider);
    let way = made.auth.as_ref().map(|auth| format!(" --auth {auth}")).unwrap_or_default();
    format!(
        "app {name} added ({id})\n{register}connect an account: {keyward} connect {provider}{way}\n"
    )
}

async fn with_template(client: &Client, template: &str) -> Result<ProviderView, Failure> {
    let all = client.list::<ProviderView>("/api/v1/providers", &[]).await?.items;
    let ids = all.iter().flat_map(|provider| provider.templates.iter().map(|it| it.id.clone()));
    let ids: Vec<String> = ids.collect();
    let has = |provider: &ProviderView| provider.templates.iter().any(|it| it.id == template);
    let found = all.into_iter().find(has);
    found.ok_or_else(|| {
        Failure::usage(format!("there is no template `{template}`"))
            .hint(format!("templates: {}", ids.join(", ")))
    })
}

/// Shows how to register an app; returns the id that its redirect URI has.
async fn register(
    client: &Client,
    provider: &ProviderView,
    auth: Option<&str>,
) -> Result<AppId, Failure> {
    let redirect: RedirectView = client.get("/api/v1/redirect-uri").await?;
    let is_meant = |it: &&AuthView| match auth {
        Some(auth) => it.id == auth,
        None => it.needs_app,
    };
    if let Some(auth) = provider.auth.iter().find(is_meant) {
        let page = registration::page(provider, auth);
        output::note(&registration::steps(&provider.name, auth, page, &redirect.redirect_uri));
    }
    Ok(redirect.app)
}

impl Set {
    async fn run(
        self,
        ResourceContext { global, client }: &ResourceContext<'_>,
    ) -> Result<(), Failure> {
        let secrets = self.secrets.read()?;
        let secrets = (self.public || !secrets.is_empty()).then_some(secrets);
        let rest = self.given.members.body()?;
        let rest = if secrets.is_some() { rest } else { something(rest)? };
        let request = given::AppRequest { rest, secrets };
        let now: AppChanged = client.patch(&path::<App>(&self.given.name), &request).await?;
        output::show(global.json, &now, changed)
    }
}

fn changed(now: &AppChanged) -> String {
    let AppChanged { app, changed, retried } = now;
    let word = if *changed { "changed" } else { "unchanged" };
    let retried = match retried.is_empty() {
        true => String::new(),
        false => format!("retried with the next request: {}\n", retried.join(", ")),
    };
    format!("app {} is {word}\n{retried}{}", app.name, show(app))
}

fn show(app: &Shown<App>) -> String {
    details(app) + &given::shown(app)
}

impl Columns for App {
    const COLUMNS: &[Column<Self>] = &[
        Column::both("NAME", "name", |app| app.name().to_owned()),
        Column::in_full("ID", |app| app.id.to_string()),
        Column::shown("id", |app| app.id.to_string()),
        Column::both("PROVIDER", "provider", |app| app.provider.clone()),
        Column::shown("auth", |app| app.auth.clone().unwrap_or_default()),
        Column::both("CLIENT ID", "client id", |app| app.client_id.clone()),
        Column::shown("secrets", |app| match app.facts.secrets.is_empty() {
            true if !app.references.is_empty() => String::new(),
            true => "none: a public client".to_owned(),
            false => app.facts.secrets.join(", "),
        }),
        Column::shown("by reference", |app| secrets::named_references(&app.references)),
        Column::shown("fetched", |app| secrets::fetched_references(app.facts.fetched.as_ref())),
        Column::shown("fetching fails", |app| {
            secrets::failing_references(app.facts.fetch_failing.as_ref())
        }),
        Column::shown("redirect URI", |app| app.facts.redirect_uri.clone()),
        Column::shown("scopes", |app| worded_scopes(&app.scopes, &app.facts.scope_words)),
        Column::shown("variables", |app| pairs(&app.variables)),
        Column::listed("CONNECTIONS", |app| app.facts.connections.len().to_string()),
        Column::shown("connections", |app| app.facts.connections.join(", ")),
        Column::listed("STATE", |app| {
            if app.facts.paused { "paused" } else { "active" }.to_owned()
        }),
        Column::shown("state", |app| if app.facts.paused { "paused" } else { "" }.to_owned()),
        Column::shown("problem", |app| app.facts.problem.clone().unwrap_or_default()),
        Column::shown("created", |app| moment(app.created)),
        Column::shown("updated", |app| app.updated.map(moment).unwrap_or_default()),
        Column::shown("registered at", |app| {
            app.facts.registered.as_ref().map(|it| it.issuer.clone()).unwrap_or_default()
        }),
        Column::shown("until", |app| {
            let ends = app.facts.registered.as_ref().and_then(|it| it.expires);
            ends.map(moment).unwrap_or_default()
        }),
    ];

    const HINT: &str = ": make one with `keyward app add PROVIDER`";
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::resource::table;
    use crate::cli::terminal::table::TableLayout;

    fn app() -> Shown<App> {
        serde_json::from_value(serde_json::json!({
            "id": "app_1", "name": "acme", "provider": "github", "auth": null, "client_id": "Iv1.x",
            "redirect_uri": "http://localhost:8081/oauth/callback/app_1", "scopes": ["repo", "gist"],
            "variables": {}, "urls": {"token": "https://git.example.com/token"},
            "settings": {"refresh_buffer": "2m", "authorize_params": {"prompt": "consent"}},
            "secrets": ["client_secret"], "connections": ["work"], "paused": false,
            "managed_by": "store",
            "created": "2025-01-02T03:04:05Z", "updated": "2025-01-02T03:04:05Z",
        }))
        .unwrap()
    }

    #[test]
    fn an_app_is_shown_with_its_redirect_uri_and_without_its_secret() {
        insta::assert_snapshot!(show(&app()));
    }

    /// oauth 9.again
    #[test]
    fn an_app_that_was_given_the_same_secret_is_said_to_be_unchanged() {
        let mut now = AppChanged { app: app(), changed: false, retried: vec!["work".to_owned()] };
        let said = changed(&now);
        assert!(
            said.starts_with("app acme is unchanged\nretried with the next request: work\n"),
            "{said}"
        );
        (now.changed, now.retried) = (true, Vec::new());
        assert!(changed(&now).starts_with("app acme is changed\nname"), "{}", changed(&now));
    }

    #[test]
    fn apps_are_listed_in_a_table() {
        insta::assert_snapshot!(table(&[app()], &TableLayout::FULL));
    }
}

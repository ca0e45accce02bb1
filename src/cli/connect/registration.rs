//! The app of a consent: the one that fits, or a new one, registered at the provider step by step. Its redirect
//! URI is shown first, because providers ask for it before they issue a client id.

use std::collections::{BTreeMap, HashSet};

use serde::Serialize;

use super::questions::{AnswerSource, Questions, proposed};
use crate::cli::client::Client;
use crate::cli::failure::{Exit, Failure};
use crate::cli::output;
use crate::cli::terminal;
use crate::cli::terminal::secret::{self, Typed};
use keyward_api::wire::{AuthView, List, ProviderView, RedirectView};
use keyward_model::{App, Shown};

#[derive(Serialize)]
struct NewApp<'a> {
    id: &'a str,
    provider: &'a str,
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    auth: Option<&'a str>,
    client_id: String,
    secrets: BTreeMap<&'static str, Typed>,
}

/// The app to use; `None` where the gateway finds it, or none is needed.
///
/// # Errors
/// When the user stops, or the app is refused.
pub(super) async fn app(
    client: &Client,
    questions: &Questions,
    auth: &AuthView,
) -> Result<Option<String>, Failure> {
    let asks = questions.way == AnswerSource::Asking && questions.options.app().is_none();
    if !auth.needs_app || !asks || questions.gives_tokens() {
        return Ok(None);
    }
    let apps: List<Shown<App>> = client.list("/api/v1/apps", &[]).await?;
    let provider = &questions.provider.id;
    let fits = |app: &&Shown<App>| !app.facts.paused && auth.fits(provider, &app.spec);
    let names: Vec<_> = apps.items.iter().filter(fits).map(|app| app.name().to_owned()).collect();
    match names.len() {
        0 => {
            let taken = apps.items.iter().map(|app| app.name().to_owned()).collect();
            register(client, questions, auth, &taken).await.map(Some)
        }
        1 => Ok(None),
        _ => Ok(Some(names[terminal::choose("app", &names)?].clone())),
    }
}

async fn register(
    client: &Client,
    questions: &Questions,
    auth: &AuthView,
    taken: &HashSet<String>,
) -> Result<String, Failure> {
    let view = &questions.provider;
    if view.id == "mcp" {
        return Err(Failure::usage("an MCP server is connected by its URL")
            .hint("keyward connection add https://HOST/PATH"));
    }
    let redirect: RedirectView = client.get("/api/v1/redirect-uri").await?;
    output::note(&steps(&view.name, auth, page(view, auth), &redirect.redirect_uri));
    let [id, secret] = auth.client_words();
    let client_id = secret::ask(id)?;
    let client_secret = Typed::from_prompt(&format!("{secret} (not shown)"))?;
    // Several providers may share the apps of one.
    let provider = auth.apps_of.as_deref().unwrap_or(&view.id);
    let name = proposed(provider, taken);
    let new = NewApp {
        id: redirect.app.as_str(),
        provider,
        name: &name,
        auth: auth.is_named_by_apps().then_some(&auth.id),
        client_id,
        secrets: BTreeMap::from([("client_secret", client_secret)]),
    };
    let made: Shown<App> = client.post("/api/v1/apps", &new).await?;
    output::note(&format!("app {} added ({})", made.name(), made.id));
    Ok(name)
}

/// The page where apps are registered, or else the documentation.
pub(in crate::cli) fn page<'a>(view: &'a ProviderView, auth: &'a AuthView) -> Option<&'a str> {
    [&auth.app_url, &view.docs_url, &view.key_url].into_iter().find_map(Option::as_deref)
}

/// What to do at the provider.
pub(in crate::cli) fn steps(
    provider: &str,
    auth: &AuthView,
    page: Option<&str>,
    redirect_uri: &str,
) -> String {
    let has_own = !auth.app_steps.is_empty();
    let mut steps = vec![match page {
        Some(page) if has_own => format!("open this page:\n   {page}"),
        Some(page) => format!("open this page and create an app:\n   {page}"),
        None => format!("create an app at {provider}"),
    }];
    let uri = format!(":\n   {redirect_uri}");
    steps.extend(auth.app_steps.iter().map(|step| step.replace(" {redirect_uri}", &uri)));
    if auth.consents && !has_own {
        steps.push(format!("register this redirect URI, exactly as it is:\n   {redirect_uri}"));
    }
    let [id, secret] = auth.client_words();
    steps.push(format!("paste its {id} and {secret} here"));
    let steps = steps.iter().enumerate().map(|(at, step)| format!("\n{}. {step}", at + 1));
    format!("{provider} needs an OAuth app of yours.{}", steps.collect::<String>())
}

/// The failure of a consent: nothing that was entered is lost, and `again` continues.
pub(super) fn not_consented(failure: Failure, again: &str) -> Failure {
    let stays = "the app is kept; to continue";
    match failure.exit() {
        Exit::Interrupted => {
            Failure::new(Exit::Interrupted, "interrupted before the consent ended")
        }
        _ => failure,
    }
    .hint(format!("{stays}: {again}"))
}

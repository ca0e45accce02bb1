//! `/apps`: OAuth clients that are registered at providers. Requests may contain their secrets; answers never do.

use std::borrow::Cow;
use std::sync::Arc;

use axum::Json;

use super::catch_up::catch_up;
use super::context::Context;
use super::error::ApiError;
use super::input::{Input, InputChange};
use super::openapi::Routes;
use super::resource::{self, Changeable, Exposed};
use super::state::Admin;
use super::wire::{AppChanged, RedirectView};
use keyward_base::id::AppId;
use keyward_model::{
    App, AppShown, Connection, GivenFields, ManagedBy, Record, Shown, redirect_uri,
};
use keyward_state::directory::AppRecord;
use keyward_vault::{ChangedApp, Lifecycle, NewApp, with_template};

pub(super) fn routes() -> Routes {
    Routes::new()
        .get("/apps", ["listApps", "List apps"], resource::list::<App>)
        .post("/apps", ["addApp", "Add an app"], resource::add::<App>)
        .get("/apps/{app}", ["getApp", "Show an app"], resource::show::<App>)
        .patch("/apps/{app}", ["changeApp", "Change an app"], resource::change::<App>)
        .delete("/apps/{app}", ["removeApp", "Remove an app"], resource::remove::<App>)
        .get(
            "/redirect-uri",
            ["newRedirectUri", "Make the id and the redirect URI of an app before it is added"],
            redirect,
        )
}

/// A new id and its redirect URI, to be registered at a provider, which issues the client id only then.
async fn redirect(context: Context) -> Json<RedirectView> {
    let app = AppId::random();
    let redirect_uri = redirect_uri(&app, &context.deps().public_url);
    Json(RedirectView { app, redirect_uri })
}

impl Exposed for App {
    type Added = Shown<Self>;

    fn texts<'a>(_: &'a Context, record: &'a Record<Self>) -> Vec<Cow<'a, str>> {
        vec![record.spec.provider.as_str().into()]
    }

    async fn shown_facts(context: &Context, record: &Record<Self>) -> AppShown {
        let Context { admin, caller } = context;
        let directory = context.view();
        let uses =
            directory.all::<Connection>(&record.org).filter(|it| it.app_id() == Some(&record.id));
        let uses = uses.filter(|connection| caller.sees_connection(connection));
        let mut connections: Vec<String> = uses.map(|connection| connection.name.clone()).collect();
        connections.sort_unstable();
        let references = context.deps().vault.refresh().app_reference_status(record).await;
        let catalogue = context.deps().vault.catalogue(&record.org);
        let provider = catalogue.get(&record.provider);
        AppShown {
            scope_words: provider.map(|it| it.words_for(&record.scopes)).unwrap_or_default(),
            fetched: references.fetched,
            fetch_failing: references.failing,
            redirect_uri: record.redirect_uri(&context.deps().public_url),
            secrets: record.facts.secrets.clone(),
            registered: record.facts.registered.clone(),
            connections,
            paused: record.facts.paused,
            problem: problem(admin, record).await,
        }
    }

    async fn add(context: &Context, input: Input<Self>) -> Result<Shown<Self>, ApiError> {
        let (Context { admin, caller }, Input { mut spec, options }) = (context, input);
        let vault = &context.deps().vault;
        if let Some(template) = &options.template {
            spec = with_template(spec, &vault.catalogue(caller.org()), template)?;
        }
        // The id alone is in the redirect URI, so it is unique among all organisations.
        if options.id.as_ref().is_some_and(|id| context.view().org_of_app(id).is_some()) {
            return Err(ApiError::field("id", "is in use: request another one"));
        }
        Lifecycle::check_app_keys(&options.secrets)?;
        spec.references.extend(options.secrets.references);
        let new = NewApp {
            id: options.id,
            org: caller.org().clone(),
            spec,
            registered: None,
            managed_by: ManagedBy::Store,
        };
        let app = vault.lifecycle().add_app_of(new, options.secrets.secrets).await?;
        caller.record_changed("app", &app.id, &app.name);
        admin.enforce().await?;
        Ok(resource::shown(context, &app).await)
    }

    async fn removed(context: &Context, record: &Record<Self>) -> Result<(), ApiError> {
        // Its token is stored with the secrets.
        context.deps().flows.unregister(record).await;
        Ok(context.deps().vault.lifecycle().forget_app(&record.org, &record.id).await?)
    }
}

impl Changeable for App {
    type Changed = AppChanged;

    /// Keeps the tokens of connections. Connections whose client was rejected are tried again, even if nothing
    /// changed: giving the same secret again is a way to request that.
    async fn change(
        context: &Context,
        record: Arc<Record<Self>>,
        mut change: InputChange<Self>,
    ) -> Result<AppChanged, ApiError> {
        let Context { admin, caller } = context;
        // The secret is written before the record: the version is compared with what other replicas have written.
        catch_up(admin).await;
        let secrets = change.options.secrets.take();
        secrets.as_ref().map_or(Ok(()), Lifecycle::check_app_keys)?;
        let set = |record: &mut AppRecord| -> Result<(), ApiError> {
            change.if_match.check(record)?;
            let mut spec = change.of(&record.spec)?;
            if let Some(given) = &secrets {
                spec.references.clone_from(&given.references);
            } else if !spec.references.keys().eq(record.references.keys()) {
                let why = "cannot be added or removed here: give all `secrets` again";
                return Err(ApiError::field("references", why));
            }
            if spec.auth != record.auth {
                return Err(ApiError::field("auth", "cannot be changed: add another app"));
            }
            record.spec = spec;
            Ok(())
        };
        let (vault, org, id) = (&context.deps().vault, &record.org, &record.id);
        let ChangedApp { app, changed } = match &secrets {
            Some(GivenFields { secrets, .. }) => {
                vault.lifecycle().change_app_of(org, id, &set, secrets.clone()).await?
            }
            None => vault.lifecycle().change_app(org, id, &set, None).await?,
        };
        let retried = vault.refresh().try_app_again(&app.org, &app.id).await?;
        admin.enforce().await?;
        let seen = retried.iter().filter(|connection| caller.sees_connection(connection));
        let mut retried: Vec<String> = seen.map(|connection| connection.name.clone()).collect();
        retried.sort_unstable();
        Ok(AppChanged { app: resource::shown(context, &app).await, changed, retried })
    }
}

/// Why no token can be requested with an app.
pub(super) async fn problem(admin: &Admin, app: &AppRecord) -> Option<String> {
    admin.deps().vault.refresh().app_problem(app).await.map(|error| error.to_string())
}

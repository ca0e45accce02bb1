//! `/apps`: OAuth clients that are registered at providers. Secrets go in and never come out.

use std::sync::Arc;

use axum::extract::State;
use axum::routing::get;
use axum::{Json, Router};
use http::StatusCode;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::auth::Caller;
use super::body::{Body, Params, Segments};
use super::error::ApiError;
use super::page::Page;
use super::settings::merged;
use super::state::Admin;
use super::wire::{AppChanged, AppPatch, AppView, List, NewApp, SecretFields};
use keyward_state::directory::{AppRecord, ManagedBy};
use keyward_vault::{self as vault, ChangedApp};

pub(super) fn routes() -> Router<Admin> {
    Router::new()
        .route("/apps", get(list).post(add))
        .route("/apps/{app}", get(show).patch(change).delete(remove))
}

async fn list(
    State(admin): State<Admin>,
    caller: Caller,
    Params(page): Params<Page>,
) -> Result<Json<List<AppView>>, ApiError> {
    let (directory, org) = (admin.deps().directory.view(), caller.org());
    let wanted = directory
        .apps()
        .filter(|app| app.org == *org && page.wants(&[&app.name, &app.provider, app.id.as_str()]));
    let page = page.cut(wanted.collect(), |app| &app.name)?;
    let mut items = Vec::with_capacity(page.items.len());
    for app in page.items {
        items.push(view(&admin, &caller, app).await);
    }
    Ok(Json(List { items, next: page.next }))
}

async fn show(
    State(admin): State<Admin>,
    caller: Caller,
    Segments(name): Segments<String>,
) -> Result<Json<AppView>, ApiError> {
    Ok(Json(view(&admin, &caller, &*found(&admin, &caller, &name)?).await))
}

async fn add(
    State(admin): State<Admin>,
    caller: Caller,
    Body(new): Body<NewApp>,
) -> Result<(StatusCode, Json<AppView>), ApiError> {
    let (secrets, template) = (new.secrets.0, new.template);
    let new = vault::NewApp {
        id: None,
        org: caller.org().clone(),
        name: new.name,
        provider: new.provider,
        auth: new.auth,
        client_id: new.client_id,
        scopes: new.scopes,
        variables: new.variables,
        urls: new.urls,
        settings: new.settings,
        registered: None,
        managed_by: ManagedBy::Store,
    };
    let new = match template {
        Some(template) => new.from_template(&admin.deps().vault.catalogue(), &template)?,
        None => new,
    };
    let app = admin.deps().vault.add_app_of(new, secrets).await?;
    caller.names("app", &app.id, &app.name);
    admin.enforce().await?;
    Ok((StatusCode::CREATED, Json(view(&admin, &caller, &app).await)))
}

/// What is not named stays as it is; tokens that were obtained stay, too. What the provider refused the app
/// for is tried again, also where nothing changed: a person who gives the same secret once more means it.
async fn change(
    State(admin): State<Admin>,
    caller: Caller,
    Segments(name): Segments<String>,
    Body(patch): Body<AppPatch>,
) -> Result<Json<AppChanged>, ApiError> {
    let app = found(&admin, &caller, &name)?;
    app.editable(ManagedBy::Store)?;
    let urls = patched(&app.urls, patch.urls, "urls")?;
    let settings = patched(&app.settings, patch.settings, "settings")?;
    let (client_id, scopes, variables) = (patch.client_id, patch.scopes, patch.variables);
    let set = |record: &mut AppRecord| {
        if let Some(client_id) = &client_id {
            record.client_id.clone_from(client_id);
        }
        if let Some(scopes) = &scopes {
            record.scopes.clone_from(scopes);
        }
        if let Some(variables) = &variables {
            record.variables.clone_from(variables);
        }
        record.urls.clone_from(&urls);
        record.settings.clone_from(&settings);
    };
    let vault = &admin.deps().vault;
    let ChangedApp { app, changed } = match patch.secrets {
        Some(SecretFields(secrets)) => {
            vault.change_app_of(&app.org, &app.id, &set, secrets).await?
        }
        None => vault.change_app(&app.org, &app.id, &set, None).await?,
    };
    let retried = vault.try_app_again(&app.org, &app.id).await?;
    admin.enforce().await?;
    let seen = retried.iter().filter(|connection| caller.sees_connection(connection));
    let mut retried: Vec<String> = seen.map(|connection| connection.name.clone()).collect();
    retried.sort_unstable();
    let app = view(&admin, &caller, &app).await;
    Ok(Json(AppChanged { app, changed, retried }))
}

async fn remove(
    State(admin): State<Admin>,
    caller: Caller,
    Segments(name): Segments<String>,
) -> Result<StatusCode, ApiError> {
    let app = found(&admin, &caller, &name)?;
    admin.deps().vault.remove_app_by(&app.org, &app.id, ManagedBy::Store).await?;
    Ok(StatusCode::NO_CONTENT)
}

fn patched<T: Serialize + DeserializeOwned + Clone>(
    before: &T,
    patch: Option<Value>,
    field: &'static str,
) -> Result<T, ApiError> {
    match patch {
        None => Ok(before.clone()),
        Some(patch) => merged(before, patch, field),
    }
}

/// By name or id.
fn found(admin: &Admin, caller: &Caller, name: &str) -> Result<Arc<AppRecord>, ApiError> {
    let (view, org) = (admin.deps().directory.view(), caller.org());
    let known = || view.apps().filter(|app| app.org == *org).map(|app| &*app.name);
    let found = view.find_app(org, name);
    let found = found.ok_or_else(|| ApiError::not_found_among("app", name, known()))?;
    caller.names("app", &found.id, &found.name);
    Ok(found.clone())
}

/// Why nothing can be asked for with an app.
pub(super) async fn problem(admin: &Admin, app: &AppRecord) -> Option<String> {
    admin.deps().vault.app_secret(app).await.err().map(|error| error.to_string())
}

async fn view(admin: &Admin, caller: &Caller, app: &AppRecord) -> AppView {
    let directory = admin.deps().directory.view();
    let uses = directory.connections().filter(|connection| connection.app_id() == Some(&app.id));
    let uses = uses.filter(|connection| caller.sees_connection(connection));
    let mut connections: Vec<String> = uses.map(|connection| connection.name.clone()).collect();
    connections.sort_unstable();
    AppView {
        id: app.id.clone(),
        name: app.name.clone(),
        provider: app.provider.clone(),
        auth: app.auth.clone(),
        client_id: app.client_id.clone(),
        redirect_uri: app.redirect_uri(&admin.deps().public_url),
        scopes: app.scopes.clone(),
        variables: app.variables.clone(),
        urls: app.urls.clone(),
        settings: app.settings.clone(),
        secrets: app.secrets.clone(),
        registered: app.registered.clone(),
        connections,
        paused: app.paused,
        problem: problem(admin, app).await,
        managed_by: app.managed_by,
        created: app.created,
        updated: app.updated,
    }
}

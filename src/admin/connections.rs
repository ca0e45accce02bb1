//! `/connections`: authenticated accounts at providers. Grants go in and never come out.

use axum::extract::State;
use axum::routing::{get, post};
use axum::{Json, Router};
use http::StatusCode;
use parking_lot::Mutex;
use serde::Deserialize;
use serde_json::Value;

use super::body::{Body, Params, Segments};
use super::error::ApiError;
use super::page::Page;
use super::settings;
use super::state::Admin;
use super::wire::{ConnectionPatch, ConnectionRemoved, ConnectionView, List, NewConnection};
use crate::base::settings::Settings;
use crate::directory::{ConnectionRecord, ManagedBy};
use crate::provider::Catalogue;
use crate::vault;

/// The query of a removal.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Removal {
    /// Take the grant back at the provider as well.
    #[serde(default)]
    #[expect(dead_code, reason = "no kind of grant that exists yet can be taken back")]
    revoke: bool,
}

pub(super) fn routes() -> Router<Admin> {
    Router::new()
        .route("/connections", get(list).post(add))
        .route("/connections/{connection}", get(show).patch(change).delete(remove))
        .route("/connections/{connection}/pause", post(pause))
        .route("/connections/{connection}/resume", post(resume))
}

async fn list(
    State(admin): State<Admin>,
    Params(page): Params<Page>,
) -> Result<Json<List<ConnectionView>>, ApiError> {
    let (directory, org) = (admin.deps().directory.view(), admin.org());
    let wanted = directory
        .connections()
        .filter(|c| c.org == org && page.wants(&[&c.name, &c.provider, c.id.as_str()]))
        .map(|connection| view(&admin.deps().vault.catalogue(), connection))
        .collect();
    let mut page = page.cut(wanted, |connection: &ConnectionView| &connection.name)?;
    for shown in &mut page.items {
        if let Some(connection) = directory.connection(&org, &shown.id) {
            shown.token = admin.deps().vault.status(connection).await;
        }
    }
    Ok(Json(page))
}

async fn show(
    State(admin): State<Admin>,
    Segments(name): Segments<String>,
) -> Result<Json<ConnectionView>, ApiError> {
    let (vault, connection) = (&admin.deps().vault, admin.connection(&name)?);
    let token = vault.status(&connection).await;
    Ok(Json(ConnectionView { token, ..view(&vault.catalogue(), &connection) }))
}

async fn add(
    State(admin): State<Admin>,
    Body(new): Body<NewConnection>,
) -> Result<(StatusCode, Json<ConnectionView>), ApiError> {
    let fields = new.fields.0;
    let new = vault::NewConnection {
        org: admin.org(),
        name: new.name,
        provider: new.provider,
        auth: new.auth,
        variables: new.variables,
        app: None,
        scopes: Vec::new(),
        environment: new.environment,
        settings: settings::given(new.settings)?,
        managed_by: ManagedBy::Store,
    };
    let connection = admin.deps().vault.add(new, fields).await?;
    admin.enforce().await?;
    Ok((StatusCode::CREATED, Json(view(&admin.deps().vault.catalogue(), &connection))))
}

/// What is not named stays as it is. Requests under way go on as they began.
async fn change(
    State(admin): State<Admin>,
    Segments(name): Segments<String>,
    Body(patch): Body<ConnectionPatch>,
) -> Result<Json<ConnectionView>, ApiError> {
    let deps = admin.deps();
    let found = admin.connection(&name)?;
    found.editable(ManagedBy::Store)?;
    let Some(patch) = patch.settings else {
        return Ok(Json(view(&deps.vault.catalogue(), &found)));
    };
    // Judged on the record that is written: others may change it meanwhile.
    let refused = Mutex::new(None);
    let set = |record: &mut ConnectionRecord| match changed(&admin, record, &patch) {
        Ok(after) => record.settings = after,
        Err(refusal) => *refused.lock() = Some(refusal),
    };
    let connection = deps.directory.update_connection(&found.org, &found.id, &set).await?;
    if let Some(refusal) = refused.into_inner() {
        return Err(refusal);
    }
    admin.enforce().await?;
    Ok(Json(view(&deps.vault.catalogue(), &connection)))
}

fn changed(admin: &Admin, of: &ConnectionRecord, patch: &Value) -> Result<Settings, ApiError> {
    let after = settings::patched(&of.settings, patch)?;
    admin.deps().vault.check_settings(&of.provider, &after)?;
    Ok(after)
}

async fn remove(
    State(admin): State<Admin>,
    Segments(name): Segments<String>,
    Params(_): Params<Removal>,
) -> Result<Json<ConnectionRemoved>, ApiError> {
    let connection = admin.connection(&name)?;
    admin.deps().vault.remove(&admin.org(), &connection.id).await?;
    admin.enforce().await?;
    Ok(Json(ConnectionRemoved { revoked_upstream: None }))
}

/// Agents get 424 from now on, and what is under way with its credential ends.
async fn pause(
    State(admin): State<Admin>,
    Segments(name): Segments<String>,
) -> Result<Json<ConnectionView>, ApiError> {
    set_paused(&admin, &name, true).await
}

async fn resume(
    State(admin): State<Admin>,
    Segments(name): Segments<String>,
) -> Result<Json<ConnectionView>, ApiError> {
    set_paused(&admin, &name, false).await
}

/// A broken connection stays broken, as the answer shows.
async fn set_paused(
    admin: &Admin,
    name: &str,
    paused: bool,
) -> Result<Json<ConnectionView>, ApiError> {
    let (directory, org) = (&admin.deps().directory, admin.org());
    let id = admin.connection(name)?.id.clone();
    let connection = directory.set_connection_paused(&org, &id, paused, ManagedBy::Store).await?;
    admin.enforce().await?;
    Ok(Json(view(&admin.deps().vault.catalogue(), &connection)))
}

fn view(catalogue: &Catalogue, connection: &ConnectionRecord) -> ConnectionView {
    ConnectionView {
        id: connection.id.clone(),
        name: connection.name.clone(),
        provider: connection.provider.clone(),
        auth: connection.auth.clone(),
        environment: connection.environment.clone(),
        variables: connection.variables.clone(),
        settings: connection.settings.clone(),
        hosts: hosts(catalogue, connection),
        state: connection.state.clone(),
        token: None,
        managed_by: connection.managed_by,
        created: connection.created,
        updated: connection.updated,
    }
}

/// The hosts that the connection owns; none when its provider left the catalogue.
pub(super) fn hosts(catalogue: &Catalogue, connection: &ConnectionRecord) -> Vec<String> {
    let instance = catalogue.get(&connection.provider).and_then(|provider| {
        let auth = provider.auth(Some(&connection.auth))?;
        provider.instantiate(auth, &connection.host_variables()).ok()
    });
    instance.into_iter().flat_map(|i| i.hosts).map(|host| host.to_string()).collect()
}

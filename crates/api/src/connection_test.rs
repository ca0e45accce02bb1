//! `POST /connections/{id}/test`: sends the provider's test request through the data path, and explains the
//! response with remedies.

mod database;
mod diagnosis;
mod file;
pub(super) mod status;
use std::sync::Arc;

use axum::Json;

use self::diagnosis::{Diagnosis, TestedConnection};
use self::status::Trial;
use super::body::Segments;
use super::context::Context;
use super::error::ApiError;
use super::openapi::Routes;
use super::state::Admin;
use super::wire::ConnectionTested;
use keyward_proxy::test_request::{self, TestReport};
use keyward_state::directory::{ConnectionRecord, Remedies};

pub(super) fn routes() -> Routes {
    Routes::new().post(
        "/connections/{connection}/test",
        ["testConnection", "Test a connection at its provider"],
        test,
    )
}

async fn test(
    context: Context,
    Segments(name): Segments<String>,
) -> Result<Json<ConnectionTested>, ApiError> {
    let admin = &context.admin;
    let mut connection = context.connection(&name)?;
    let (refresh, org, id) = (admin.deps().vault.refresh(), &connection.org, &connection.id);
    // If it fails, the test reports why.
    let is_tried = match status::is_ended_by_server(&connection) {
        true => refresh.refresh_now(org, id).await.is_ok(),
        false => status::is_without_refresh(&connection) && refresh.try_again(org, id).await?,
    };
    if is_tried {
        admin.enforce().await?;
        connection = context.connection(&name)?;
    }
    let mut found = tested(&context, &connection, None).await?;
    if status::is_doubtful(&connection, &found) {
        found = tested(&context, &connection, None).await?;
    }
    status::store_result(&context, &connection, &found).await?;
    Ok(Json(found))
}

/// Tests a connection, which may differ from the stored one, as the actor of the task.
///
/// # Errors
/// When the provider is unknown, or the gateway sends no more requests.
pub(super) async fn tested(
    context: &Context,
    connection: &Arc<ConnectionRecord>,
    trial: Option<Trial>,
) -> Result<ConnectionTested, ApiError> {
    let admin = &context.admin;
    let catalogue = admin.deps().vault.catalogue(&connection.org);
    let provider = catalogue.get(&connection.provider);
    let provider = provider.ok_or_else(|| ApiError::not_found("provider", &connection.provider))?;
    if provider.protocol.is_some() {
        return database::tested(admin, connection, &provider.name, trial).await;
    }
    let auth = provider.auth(connection.auth.as_deref());
    if auth.is_some_and(|auth| auth.file.is_some()) {
        return file::tested(context, connection, &provider.name, trial).await;
    }
    let docs = provider.about.docs_url.clone();
    let view = admin.deps().directory.view();
    let asked = TestedConnection {
        connection,
        provider: &provider.name,
        remedies: Remedies::in_view(connection, &catalogue, &view),
        docs_url: docs.as_deref(),
        kind: auth.map(|auth| auth.kind),
    };
    let (credential, shown) = match trial {
        Some(Trial { credential, shown }) => (Some(credential), Some(shown)),
        None => (None, None),
    };
    let request = admin.deps().vault.refresh().test_request(connection, shown).await;
    let Some(request) = request.map_err(|error| ApiError::refused(error.to_string()))? else {
        return Ok(test_view(connection, asked.untested(), None));
    };
    let method = request.method.clone();
    let gateway = admin.deps().data_path.upgrade().ok_or(ApiError::Draining)?;
    let tested = test_request::run(&gateway, connection, request, credential).await;
    let uri = &tested.uri;
    let line = format!("{method} https://{}{}", authority(uri), shown_path(uri));
    let diagnosis = asked.diagnosis(uri.host().unwrap_or_default(), &line, &tested);
    Ok(test_view(connection, diagnosis, Some((line, tested))))
}

/// Whether the connection can be tested at its provider.
pub(super) fn has_test(admin: &Admin, connection: &ConnectionRecord) -> bool {
    let catalogue = admin.deps().vault.catalogue(&connection.org);
    let provider = catalogue.get(&connection.provider);
    let auth =
        provider.and_then(|provider| Some((provider, provider.auth(connection.auth.as_deref())?)));
    auth.is_some_and(|(provider, auth)| provider.has_test(auth))
}

fn authority(uri: &http::Uri) -> &str {
    uri.authority().map(http::uri::Authority::as_str).unwrap_or_default()
}

/// The path without query. Placeholders in it do not reveal secrets.
fn shown_path(uri: &http::Uri) -> String {
    let path = uri.path();
    let marked = keyward_rules::inject::placeholder::scan(path.as_bytes());
    marked.iter().fold(path.to_owned(), |path, (_, core)| path.replace(core.as_str(), "…"))
}

fn test_view(
    connection: &ConnectionRecord,
    diagnosis: Diagnosis,
    asked: Option<(String, TestReport)>,
) -> ConnectionTested {
    let (request, tested) = asked.unzip();
    let answer = tested.as_ref().and_then(|tested| tested.result.as_ref().ok());
    ConnectionTested {
        request,
        status: answer.map(|answer| answer.status),
        latency_ms: tested.as_ref().map(|t| u64::try_from(t.took.as_millis()).unwrap_or(u64::MAX)),
        retry_after: answer.and_then(|answer| answer.retry_after),
        account: answer.and_then(|answer| answer.details.account.clone()),
        scopes: answer.map(|answer| answer.details.scopes.clone()).unwrap_or_default(),
        missing: answer
            .filter(|answer| !answer.good)
            .map(|answer| answer.details.needs.clone())
            .unwrap_or_default(),
        exchange: tested.and_then(|tested| tested.exchange),
        ..diagnosis.of(connection)
    }
}

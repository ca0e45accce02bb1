//! `/connections/{connection}/activate`: tests a draft with a secret, and activates it if the provider
//! accepts the secret. A draft whose test failed keeps its secret; this path tests it again.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;

use super::connection_view::view_with_warnings;
use crate::body::{Body, Segments};
use crate::connection_test::{has_test, status, tested};
use crate::context;
use crate::context::Context;
use crate::error::ApiError;
use crate::input;
use crate::openapi::Routes;
use crate::request_id;
use crate::wire::{Activation, ConnectionCreated, ConnectionTested, TestOutcome};
use keyward_base::secret::Secret;
use keyward_state::directory::{ConnectionRecord, ManagedBy, RemedyCause, editable};

pub(crate) fn routes() -> Routes {
    Routes::new().post(
        "/connections/{connection}/activate",
        ["activateConnection", "Activate a draft, after a test of its secret"],
        activate,
    )
}

async fn activate(
    context: Context,
    Segments(name): Segments<String>,
    Body(ask): Body<Activation>,
) -> Result<Json<ConnectionCreated>, ApiError> {
    let connection = context.connection(&name)?;
    editable(&connection, ManagedBy::Store)?;
    if ask.check_format {
        input::check_key_formats(
            &context,
            (&*connection.provider, connection.auth.as_deref()),
            &ask.fields.0,
        )?;
    }
    let work = resumed(context, connection, ask.fields.0, ask.test);
    // Runs to its end even if the caller disconnects: else the draft would stay in testing.
    let done = request_id::spawn(work).await;
    done.unwrap_or_else(|error| Err(ApiError::internal(error))).map(Json)
}

async fn resumed(
    context: Context,
    connection: Arc<ConnectionRecord>,
    fields: BTreeMap<String, Secret>,
    test: bool,
) -> Result<ConnectionCreated, ApiError> {
    let (vault, org, id) = (&context.deps().vault, &connection.org, &connection.id);
    match fields.is_empty() {
        false => vault.lifecycle().store_draft_secret(org, id, fields).await?,
        true if vault.lifecycle().has_secret(org, id).await? => {}
        true => {
            let name = &connection.name;
            return Err(ApiError::refused(format!("connection `{name}` has no secret yet"))
                .hint(vault.remedy(&connection, RemedyCause::Use).unwrap_or_default()));
        }
    }
    let made = begun(&context, &connection, test).await?;
    context.admin.enforce().await?;
    Ok(made)
}

/// Tests a draft, and activates it if the provider accepts its secret or has no test request.
///
/// # Errors
/// When the store fails. A failed test is not an error.
pub(crate) async fn begun(
    context: &Context,
    draft: &Arc<ConnectionRecord>,
    test: bool,
) -> Result<ConnectionCreated, ApiError> {
    let admin = &context.admin;
    let (vault, org, id) = (&admin.deps().vault, &draft.org, &draft.id);
    let mut found = match test && has_test(admin, draft) {
        true => Some(run_test(context, draft).await?),
        false => None,
    };
    let now = match &mut found {
        Some(found) if !found.ok => {
            let now = vault.lifecycle().test_failed(org, id, &found.message).await?;
            if found.outcome == TestOutcome::WrongKey {
                found.hint = vault.remedy(&now, RemedyCause::Use);
            }
            context::publish_change(context, &now, "draft", &found.message).await;
            now
        }
        found => {
            let now = vault.lifecycle().activate(org, id).await?;
            let why = if found.is_some() { "the provider accepts the secret" } else { "untested" };
            context::publish_change(context, &now, "active", why).await;
            now
        }
    };
    if let Some(found) = &found {
        status::store_result(context, &now, found).await?;
    }
    let directory = admin.deps().directory.view();
    let now = directory.connection(org, id).cloned();
    let now = now.ok_or_else(|| ApiError::not_found("connection", &draft.name))?;
    let connection = view_with_warnings(admin, &now).await;
    Ok(ConnectionCreated { connection, consent: None, test: found, ignored: Vec::new() })
}

async fn run_test(
    context: &Context,
    draft: &Arc<ConnectionRecord>,
) -> Result<ConnectionTested, ApiError> {
    let (vault, org, id) = (&context.deps().vault, &draft.org, &draft.id);
    let testing = vault.lifecycle().test_begins(org, id).await?;
    match tested(context, &testing, None).await {
        Ok(found) => Ok(found),
        Err(error) => {
            vault.lifecycle().test_failed(org, id, &error.to_string()).await?;
            Err(error)
        }
    }
}

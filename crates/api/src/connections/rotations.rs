//! `/connections/{connection}/rotate`: replaces the secret of a connection, after a test; the old one is
//! kept for a rollback until it is confirmed. `/compare`: whether a connection has the given values.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;

use super::connection_view::{view, view_with_warnings};
use crate::body::{Body, Segments};
use crate::connection_test::status::Trial;
use crate::connection_test::{has_test, status, tested};
use crate::context;
use crate::context::Context;
use crate::error::ApiError;
use crate::input;
use crate::openapi::Routes;
use crate::request_id;
use crate::state::Admin;
use crate::wire::{ComparedValues, Comparison, ConnectionTested, NewSecret, Rotated};
use keyward_base::secret::Secret;
use keyward_base::time::{parse_deadline, parse_duration};
use keyward_base::tokens::KEEP_OLD_MAX;
use keyward_model::{Connection, Shown};
use keyward_state::directory::{ConnectionRecord, ManagedBy, RemedyCause};
use keyward_vault::RotationTerms;

pub(crate) fn routes() -> Routes {
    Routes::new()
        .post(
            "/connections/{connection}/rotate",
            ["rotateConnection", "Replace the secret of a connection, after a test"],
            rotate,
        )
        .post(
            "/connections/{connection}/rotate/confirm",
            ["confirmRotation", "Confirm a rotation: the old secret is removed"],
            confirm,
        )
        .post(
            "/connections/{connection}/rotate/rollback",
            ["rollBackRotation", "Roll back a rotation: the old secret is used again"],
            roll_back,
        )
        .post(
            "/connections/{connection}/compare",
            ["compareConnection", "Compare values with the secret of a connection"],
            compare,
        )
}

async fn rotate(
    context: Context,
    Segments(name): Segments<String>,
    Body(new): Body<NewSecret>,
) -> Result<Json<Rotated>, ApiError> {
    let admin = &context.admin;
    let connection = context.connection(&name)?;
    rotatable(admin, &connection)?;
    if new.check_format {
        input::check_key_formats(
            &context,
            (&*connection.provider, connection.auth.as_deref()),
            &new.fields.0,
        )?;
    }
    let kept = rotation_terms(admin, &new)?;
    // Runs to its end even if the caller disconnects, so that no rotation stays incomplete.
    let work = match new.test {
        true => request_id::spawn(tested_first(context, connection, new.fields.0, kept)),
        false => request_id::spawn(untested(context, connection, new.fields.0, kept)),
    };
    work.await.unwrap_or_else(|error| Err(ApiError::internal(error))).map(Json)
}

/// Refuses connections of the configuration file, which names their secrets.
fn rotatable(admin: &Admin, connection: &ConnectionRecord) -> Result<(), ApiError> {
    match connection.managed_by {
        ManagedBy::Store => Ok(()),
        ManagedBy::File => Err(ApiError::refused(format!(
            "connection `{}` is managed by the configuration file",
            connection.name
        ))
        .hint(admin.deps().vault.remedy(connection, RemedyCause::Credential).unwrap_or_default())),
    }
}

fn rotation_terms(admin: &Admin, new: &NewSecret) -> Result<RotationTerms, ApiError> {
    let own = admin.deps().vault.lifecycle().rotation_settings().keep_old;
    let keep = |text: &String| {
        let time = parse_duration(text).ok().filter(|time| *time <= KEEP_OLD_MAX);
        time.ok_or_else(|| ApiError::field("keep_old", "this is not a time from 0s to 30d"))
    };
    let old_for = match (new.confirm, &new.keep_old) {
        (true, _) => Duration::ZERO,
        (false, Some(text)) => keep(text)?,
        (false, None) => own,
    };
    let now = admin.deps().clock.now();
    let expires = new.expires.as_ref().map(|text| parse_deadline(text, now)).transpose();
    let expires = expires.map_err(|_| {
        ApiError::field(
            "expires",
            "this is not a time: write 90d, 2026-01-31 or 2026-01-31T08:00:00Z",
        )
    })?;
    Ok(RotationTerms { old_for, expires })
}

pub(crate) async fn tested_first(
    context: Context,
    connection: Arc<ConnectionRecord>,
    fields: BTreeMap<String, Secret>,
    kept: RotationTerms,
) -> Result<Rotated, ApiError> {
    let admin = &context.admin;
    let lifecycle = admin.deps().vault.lifecycle();
    if !has_test(admin, &connection) {
        return Err(ApiError::refused(format!(
            "no test request is known for {}: the new secret was not tested, and nothing was \
                 changed",
            connection.provider
        ))
        .hint("--no-test, or `test: false` in the API, puts it in force untested"));
    }
    let candidate = lifecycle.stage(&connection.org, &connection.id, fields).await?;
    let trial = Trial { credential: candidate.credential.clone(), shown: candidate.shown.clone() };
    let loss = candidate.loss();
    let found = tested(&context, &connection, Some(trial)).await;
    match found {
        Ok(found) if found.ok => {
            if let Err(refusal) = may_still_change(&context, &connection) {
                lifecycle.abandon(candidate).await?;
                return Err(with_loss(refusal, loss));
            }
            lifecycle.put_in_force(candidate, kept).await?;
            let now = context.connection(connection.id.as_str())?;
            status::store_result(&context, &now, &found).await?;
            finished(&context, &connection, Some(found)).await
        }
        Ok(found) => {
            lifecycle.abandon(candidate).await?;
            let message = format!("{}; the old secret stays in force", found.message);
            let hint = match (found.hint, loss) {
                (Some(hint), Some(loss)) => Some(format!("{hint}; {loss}")),
                (hint, loss) => hint.or(loss.map(str::to_owned)),
            };
            Err(ApiError::test_failed(message).hint_if(hint))
        }
        Err(error) => {
            lifecycle.abandon(candidate).await?;
            Err(with_loss(error, loss))
        }
    }
}

/// The refusal, with what the person must know about the abandoned secret.
fn with_loss(refusal: ApiError, loss: Option<&'static str>) -> ApiError {
    match loss {
        None => refusal,
        Some(loss) => refusal.hint(loss),
    }
}

pub(crate) async fn untested(
    context: Context,
    connection: Arc<ConnectionRecord>,
    fields: BTreeMap<String, Secret>,
    kept: RotationTerms,
) -> Result<Rotated, ApiError> {
    may_still_change(&context, &connection)?;
    let (lifecycle, id) = (context.deps().vault.lifecycle(), &connection.id);
    lifecycle.put_untested_in_force(&connection.org, id, fields, kept).await?;
    finished(&context, &connection, None).await
}

/// Refuses the secret of a caller whose connection got another owner after it was looked up: a test takes seconds.
fn may_still_change(
    Context { admin, caller }: &Context,
    before: &ConnectionRecord,
) -> Result<(), ApiError> {
    let view = admin.deps().directory.view();
    let now = view.connection(&before.org, &before.id);
    let has_other_owner = now.is_some_and(|now| now.facts.owner != before.facts.owner);
    match has_other_owner && !caller.edits_all() {
        false => Ok(()),
        true => Err(ApiError::refused(format!(
            "connection `{}` has another owner by now: nothing was changed",
            before.name
        ))),
    }
}

async fn finished(
    context: &Context,
    before: &ConnectionRecord,
    test: Option<ConnectionTested>,
) -> Result<Rotated, ApiError> {
    context.admin.enforce().await?;
    let now = context.connection(before.id.as_str())?;
    let why = if test.is_some() { "the provider accepts the new secret" } else { "untested" };
    context::publish_change(context, &now, "rotated", why).await;
    let account = test.as_ref().and_then(|test| test.account.as_ref());
    let other = before.facts.whose.clone().filter(|was| account.is_some_and(|now| now != was));
    let connection = view_with_warnings(&context.admin, &now).await;
    Ok(Rotated { connection, test, account_before: other })
}

/// Nothing is sent, and the answer has no value.
async fn compare(
    context: Context,
    Segments(name): Segments<String>,
    Body(wanted): Body<ComparedValues>,
) -> Result<Json<Comparison>, ApiError> {
    let connection = context.connection(&name)?;
    let same = context.deps().vault.lifecycle().holds(&connection, wanted.fields.0).await?;
    Ok(Json(Comparison { same }))
}

async fn confirm(
    context: Context,
    Segments(name): Segments<String>,
) -> Result<Json<Shown<Connection>>, ApiError> {
    let before = context.connection(&name)?;
    let now = context.deps().vault.lifecycle().confirm_rotation(&before.org, &before.id).await?;
    context::publish_change(&context, &now, "rotation confirmed", "the old secret is wiped").await;
    Ok(Json(view(&context.admin, &now)))
}

async fn roll_back(
    context: Context,
    Segments(name): Segments<String>,
) -> Result<Json<Shown<Connection>>, ApiError> {
    let connection = context.connection(&name)?;
    rotatable(&context.admin, &connection)?;
    let now = context.deps().vault.lifecycle().roll_back(&connection.org, &connection.id).await?;
    context.admin.enforce().await?;
    context::publish_change(&context, &now, "rotation rolled back", "the new secret is wiped")
        .await;
    Ok(Json(view(&context.admin, &now)))
}

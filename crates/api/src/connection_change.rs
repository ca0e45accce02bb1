//! `PATCH /connections/{connection}`: what its owner says of a connection, and how its requests are sent;
//! where that is asked for, tested before it is stored.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use jiff::Timestamp;
use parking_lot::Mutex;

use super::auth::Caller;
use super::body::{Body, Segments};
use super::changes;
use super::connection_test::tested;
use super::connections::view;
use super::error::ApiError;
use super::owners;
use super::settings;
use super::state::Admin;
use super::wire::{AboutGiven, ConnectionPatch, ConnectionView, TestOutcome};
use keyward_base::time::{parse_deadline, parse_duration};
use keyward_state::directory::{About, ConnectionRecord, ManagedBy, SecretFacts};

/// What is not named stays as it is. Requests under way go on as they began.
pub(super) async fn change(
    State(admin): State<Admin>,
    caller: Caller,
    Segments(name): Segments<String>,
    Body(patch): Body<ConnectionPatch>,
) -> Result<Json<ConnectionView>, ApiError> {
    let deps = admin.deps();
    let found = admin.connection(&caller, &name)?;
    found.editable(ManagedBy::Store)?;
    if patch.name.as_ref().is_some_and(|name| *name != found.name) {
        is_not_named(&admin, &found)?;
    }
    let owner = match &patch.owner {
        Some(owner) => Some(owners::given_to(&admin, &caller, owner.as_deref())?),
        None => None,
    };
    if patch.test {
        would_work(&admin, &found, &patch).await?;
    }
    // Judged on the record that is written: others may change it meanwhile.
    let refused = Mutex::new(None);
    let set = |record: &mut ConnectionRecord| match changed(&admin, record, &patch) {
        Ok(after) => {
            *record = after;
            record.visibility = patch.visibility.unwrap_or(record.visibility);
            record.owner = owner.clone().unwrap_or_else(|| record.owner.take());
        }
        Err(refusal) => *refused.lock() = Some(refusal),
    };
    let connection = deps.directory.update_connection(&found.org, &found.id, &set).await?;
    if let Some(refusal) = refused.into_inner() {
        return Err(refusal);
    }
    admin.enforce().await?;
    if connection.updated != found.updated {
        changes::told((&admin, &caller), &connection, "changed", "by request").await;
    }
    Ok(Json(view(&admin, &connection)))
}

fn changed(
    admin: &Admin,
    of: &ConnectionRecord,
    patch: &ConnectionPatch,
) -> Result<ConnectionRecord, ApiError> {
    let mut after = of.clone();
    if let Some(name) = &patch.name {
        after.name.clone_from(name);
    }
    if let Some(description) = &patch.description {
        after.about.description.clone_from(description);
    }
    if let Some(purpose) = &patch.purpose {
        after.about.purpose.clone_from(purpose);
    }
    if let Some(tags) = &patch.tags {
        after.about.tags.clone_from(tags);
    }
    if let Some(environment) = &patch.environment {
        after.environment.clone_from(environment);
    }
    let now = admin.deps().clock.now();
    if let Some(expires) = &patch.expires {
        after.secret.expires = expires.as_deref().map(|text| deadline(text, now)).transpose()?;
    }
    if let Some(every) = &patch.rotate_every {
        after.secret.rotate_every = every.as_deref().map(interval).transpose()?;
    }
    if let Some(patch) = &patch.settings {
        after.settings = settings::patched(&of.settings, patch)?;
        admin.deps().vault.check_settings(&of.provider, &after.settings)?;
    }
    Ok(after)
}

/// Rules, agents and plugins of the configuration find it by its name.
fn is_not_named(admin: &Admin, connection: &ConnectionRecord) -> Result<(), ApiError> {
    let refused = |by: String| ApiError::RefusedUntil {
        message: format!("{by} names connection `{}`", connection.name),
        hint: "change the configuration first, or name it there by its id".to_owned(),
    };
    let rules = admin.deps().rulebook.rules();
    let by = |rule: &&keyward_state::rulebook::RuleText| {
        rule.org == connection.org && rule.use_connection.as_ref() == Some(&connection.name)
    };
    if let Some(rule) = rules.iter().find(by) {
        return Err(refused(format!("a rule of the configuration ({})", rule.place)));
    }
    let view = admin.deps().directory.view();
    let bound = view.agents().find(|agent| {
        let of_file = |binding: &keyward_state::directory::BindingRecord| {
            binding.managed_by == ManagedBy::File
        };
        agent.org == connection.org && agent.facts.binding(&connection.id).is_some_and(of_file)
    });
    if let Some(agent) = bound {
        return Err(refused(format!("agent `{}` of the configuration", agent.name())));
    }
    let plugged = view.plugins().find(|plugin| {
        plugin.org == connection.org
            && plugin.managed_by == ManagedBy::File
            && !plugin.paused
            && plugin.slots_with(&connection.id).next().is_some()
    });
    match plugged {
        Some(plugin) => Err(refused(format!("plugin `{}` of the configuration", plugin.name()))),
        None => Ok(()),
    }
}

/// Asks the provider with the connection as it would be.
async fn would_work(
    admin: &Admin,
    found: &Arc<ConnectionRecord>,
    patch: &ConnectionPatch,
) -> Result<(), ApiError> {
    let after = Arc::new(changed(admin, found, patch)?);
    let told = tested(admin, &after, None).await?;
    match told.outcome {
        TestOutcome::Ok => Ok(()),
        TestOutcome::NoTest => Err(ApiError::RefusedUntil {
            message: format!("{}: nothing was changed", told.message),
            hint: "change it without a test".to_owned(),
        }),
        _ => Err(ApiError::TestFailed {
            message: format!("{}; nothing was changed", told.message),
            hint: told.hint,
        }),
    }
}

/// What the owner of a new connection says of it and of its secret.
///
/// # Errors
/// When a time is none.
pub(super) fn said(admin: &Admin, given: AboutGiven) -> Result<(About, SecretFacts), ApiError> {
    let AboutGiven { description, purpose, tags, expires, rotate_every } = given;
    let now = admin.deps().clock.now();
    let expires = expires.as_deref().map(|text| deadline(text, now)).transpose()?;
    let rotate_every = rotate_every.as_deref().map(interval).transpose()?;
    let secret = SecretFacts { expires, rotate_every, ..SecretFacts::default() };
    Ok((About { description, purpose, tags }, secret))
}

/// When a secret ends.
pub(super) fn deadline(text: &str, now: Timestamp) -> Result<Timestamp, ApiError> {
    let what = "this is no time: write 90d, 2026-01-31 or 2026-01-31T08:00:00Z";
    parse_deadline(text, now).map_err(|_| ApiError::field("expires", what))
}

fn interval(text: &str) -> Result<Duration, ApiError> {
    let what = "this is no time: write a number and a unit, such as 30d or 90d";
    parse_duration(text).map_err(|_| ApiError::field("rotate_every", what))
}

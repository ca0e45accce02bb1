//! `PATCH /connections/{connection}`: changes the description and the settings of a connection. On
//! request, the change is tested before it is stored.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use serde_json::{Map, Value};

use crate::auth::Caller;
use crate::body::Segments;
use crate::connection_test::tested;
use crate::connections::connection_view::view;
use crate::context::Context;
use crate::error::ApiError;
use crate::input::InputChange;
use crate::state::Admin;
use crate::wire::TestOutcome;
use crate::{context, resource};
use keyward_base::secret::Secret;
use keyward_model::{Connection, ConnectionSpec, ManagedBy, References, Shown};
use keyward_rules::provider::{Field, pasted};
use keyward_state::directory::{ConnectionRecord, editable};

/// Members of the spec that cannot be changed, because the secret was given for these values.
const FIXED: [&str; 5] = ["provider", "auth", "variables", "app", "scopes"];

/// Members that the patch does not name stay. Running requests keep the former settings.
pub(crate) async fn change(
    context: Context,
    Segments(name): Segments<String>,
    mut change: InputChange<Connection>,
) -> Result<Json<Shown<Connection>>, ApiError> {
    let admin = &context.admin;
    let deps = admin.deps();
    let found = context.connection(&name)?;
    editable(&found, ManagedBy::Store)?;
    change.if_match.check(&found)?;
    in_lower_case(&mut change.patch);
    let after = changed(&context, &found, &change)?;
    if after.name != found.name {
        name_is_no_key(&context, &after, &BTreeMap::new())?;
        resource::may_be_renamed(admin, &found).await?;
    }
    let owner = match &change.options.owner {
        Some(owner) => Some(resource::resolve_assigned(&context, owner.as_deref())?),
        None => None,
    };
    if change.options.test && after.references != found.references {
        let why = "is not possible for references: test the source, then change them";
        return Err(ApiError::field("test", why));
    }
    if change.options.test {
        would_work(&context, &found, after).await?;
    }
    // Judged on the record that is written: others may change it meanwhile.
    let edit = |record: &mut ConnectionRecord| -> Result<(), ApiError> {
        change.if_match.check(record)?;
        record.spec = changed(&context, record, &change)?;
        let facts = &mut record.facts;
        facts.visibility = change.options.visibility.unwrap_or(facts.visibility);
        facts.owner = owner.clone().unwrap_or_else(|| facts.owner.take());
        Ok(())
    };
    let directory = &deps.directory;
    let connection = directory.edit::<Connection, ApiError>(&found.org, &found.id, &edit).await?;
    if connection.references != found.references {
        deps.vault.refresh().forget(&connection.id);
    }
    admin.enforce().await?;
    if connection.updated != found.updated {
        context::publish_change(&context, &connection, "changed", "by request").await;
    }
    Ok(Json(view(admin, &connection)))
}

fn changed(
    Context { admin, caller }: &Context,
    before: &ConnectionRecord,
    change: &InputChange<Connection>,
) -> Result<ConnectionSpec, ApiError> {
    let mut after = change.of(&before.spec)?;
    resolve(admin, &mut after);
    let members = |spec: &ConnectionSpec| serde_json::to_value(spec).map_err(ApiError::internal);
    let (was, now) = (members(&before.spec)?, members(&after)?);
    if let Some(member) = FIXED.iter().find(|member| was.get(member) != now.get(member)) {
        let why = "cannot be changed: add another connection";
        return Err(ApiError::field(*member, why));
    }
    if before.references != after.references {
        may_refer(caller, &after.references)?;
        if !before.references.keys().eq(after.references.keys()) {
            let why = "is for fields that a source has already: add another connection for others";
            return Err(ApiError::field("references", why));
        }
        admin.deps().vault.lifecycle().check_references(&before.org, &after.references)?;
    }
    if change.names("settings") {
        admin.deps().vault.lifecycle().check_settings(&before.org, &after)?;
    }
    Ok(after)
}

/// Refuses a name that is a key: agents see names, and the audit log keeps them. The refusal does not repeat it.
pub(crate) fn name_is_no_key(
    Context { admin, caller }: &Context,
    spec: &ConnectionSpec,
    secrets: &BTreeMap<String, Secret>,
) -> Result<(), ApiError> {
    let catalogue = admin.deps().vault.catalogue(caller.org());
    let provider = catalogue.get(&spec.provider).into_iter();
    let mut fields = provider.flat_map(|it| &it.auth).flat_map(|it| &it.fields);
    let is_name = |value: &Secret| value.is_text(&spec.name);
    let is_given = |field: &Field| field.secret && secrets.get(&field.name).is_some_and(is_name);
    let all = catalogue.all().flat_map(|it| &it.auth).flat_map(|it| &it.fields);
    let prefixes = all.filter(|it| it.secret).flat_map(|it| &it.prefixes).map(String::as_str);
    match fields.any(is_given) || pasted::is_key(&spec.name, prefixes) {
        true => Err(ApiError::field("name", "is a key, or looks like one: names are not secret")
            .hint("choose another name; if the key was shown or logged elsewhere, replace it")),
        false => Ok(()),
    }
}

/// Counts spans from now on.
pub(crate) fn resolve(admin: &Admin, spec: &mut ConnectionSpec) {
    spec.expires = spec.expires.map(|expires| expires.counted_from(admin.deps().clock.now()));
}

/// Fields are kept so: another spelling is the same field.
fn in_lower_case(patch: &mut Map<String, Value>) {
    let headers = patch.get_mut("settings").and_then(|settings| settings.get_mut("headers"));
    if let Some(Value::Object(headers)) = headers {
        let lower = |(name, value): (String, Value)| (name.to_ascii_lowercase(), value);
        *headers = std::mem::take(headers).into_iter().map(lower).collect();
    }
}

/// Asks the provider with the connection as it would be.
async fn would_work(
    context: &Context,
    found: &ConnectionRecord,
    spec: ConnectionSpec,
) -> Result<(), ApiError> {
    let after = Arc::new(ConnectionRecord { spec, ..found.clone() });
    let told = tested(context, &after, None).await?;
    match told.outcome {
        TestOutcome::Ok => Ok(()),
        TestOutcome::NoTest => {
            Err(ApiError::refused(format!("{}: nothing was changed", told.message))
                .hint("change it without a test"))
        }
        _ => Err(ApiError::test_failed(format!("{}; nothing was changed", told.message))
            .hint_if(told.hint)),
    }
}

/// Refuses references from callers who are not admins: a source may hold values that other users must
/// not get.
pub(crate) fn may_refer(caller: &Caller, references: &References) -> Result<(), ApiError> {
    match references.is_empty() || caller.edits_all() {
        true => Ok(()),
        false => Err(ApiError::field("fields", "may be references only if an admin gives them")),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn patched(before: &Value, change: Value) -> Result<Value, ApiError> {
        let spec = json!({"name": "work", "provider": "acme", "settings": before});
        let spec: ConnectionSpec = serde_json::from_value(spec).unwrap();
        let mut patch = Map::from_iter([("settings".to_owned(), change)]);
        in_lower_case(&mut patch);
        let change = InputChange::<Connection> {
            patch,
            options: Default::default(),
            if_match: Default::default(),
        };
        change.of(&spec).map(|after| serde_json::to_value(after.settings).unwrap())
    }

    #[test]
    fn a_refusal_names_the_setting_and_quotes_no_value() {
        for (bad, field) in [
            (json!({"timeout": "canary"}), "settings.timeout"),
            (json!({"timeout": ["canary"]}), "settings.timeout"),
            (json!({"retry": {"attempts": "canary"}}), "settings.retry.attempts"),
            (json!({"retry": "canary"}), "settings.retry"),
            (json!({"headers": {"x-a": "canary\n"}}), "settings.headers"),
            (json!({"concurrency": "canary"}), "settings.concurrency"),
            (json!("canary"), "settings"),
            (json!(["canary"]), "settings"),
        ] {
            let refused = patched(&json!({}), bad.clone()).unwrap_err();
            assert!(!format!("{refused:?}").contains("canary"), "{refused:?}");
            let ApiError::Field { field: told, message, .. } = refused else { panic!("a field") };
            assert_eq!(told, field, "{bad}: {message}");
        }
        let unknown = patched(&json!({}), json!({"timeouts": "30s"})).unwrap_err();
        assert!(unknown.to_string().contains("unknown field `timeouts`"), "{unknown}");
    }

    #[test]
    fn a_setting_that_is_null_is_removed_and_the_others_stay() {
        let before = json!({
            "timeout": "30s", "rate_limit": "5/s", "headers": {"x-a": "1", "x-b": "2"},
            "retry": {"attempts": 2, "on": [503], "wait_max": "10s"},
        });
        let change = json!({
            "timeout": null, "headers": {"X-A": null, "X-C": "3"}, "retry": {"attempts": 4},
        });
        let after = json!({
            "rate_limit": "5/s", "headers": {"x-b": "2", "x-c": "3"},
            "retry": {"attempts": 4, "on": [503], "wait_max": "10s"},
        });
        assert_eq!(patched(&before, change), Ok(after));
        assert_eq!(patched(&before, Value::Null), Ok(json!({})));
        assert_eq!(patched(&before, json!({})), Ok(before.clone()));
        let only = json!({"retry": {"attempts": 1}});
        let whole = json!({"attempts": 1, "on": [429, 502, 503, 504], "wait_max": "30s"});
        assert_eq!(patched(&json!({}), only).unwrap()["retry"], whole);
    }
}

//! [`Argument`]: what an extractor reads of a request.

use axum::Extension;
use axum::extract::State;
use http::HeaderMap;
use schemars::JsonSchema;
use serde_json::{Map, Value, json};

use super::draft::OperationDraft;
use crate::auth::Caller;
use crate::body::{Body, Params, Segments};
use crate::context::Context;
use crate::etag::IfMatch;
use crate::input::{Input, InputChange, SpecInput};
use crate::valid_rules::ValidRules;
use keyward_model::Resource;

/// An argument of a handler.
pub(crate) trait Argument {
    /// Whether it reads the parameters of the query.
    const READS_QUERY: bool = false;

    fn describe(_: &mut OperationDraft<'_>) {}
}

impl<S> Argument for State<S> {}
impl<T> Argument for Extension<T> {}
impl<T> Argument for Option<Extension<T>> {}
impl Argument for HeaderMap {}
impl Argument for Caller {}
impl Argument for Context {}
impl Argument for ValidRules {}
/// The path has their names.
impl<T> Argument for Segments<T> {}

impl Argument for IfMatch {
    fn describe(draft: &mut OperationDraft<'_>) {
        draft.is_conditional = true;
    }
}

impl<T: JsonSchema> Argument for Params<T> {
    const READS_QUERY: bool = true;

    fn describe(draft: &mut OperationDraft<'_>) {
        draft.query = members(draft.input.inline::<T>());
    }
}

impl<T: JsonSchema> Argument for Body<T> {
    fn describe(draft: &mut OperationDraft<'_>) {
        draft.body = Some(draft.input.reference::<T>());
    }
}

impl<T: JsonSchema> Argument for Option<Body<T>> {
    fn describe(draft: &mut OperationDraft<'_>) {
        Body::<T>::describe(draft);
        draft.body_is_optional = true;
    }
}

impl<S: JsonSchema, W: JsonSchema> Argument for SpecInput<S, W> {
    fn describe(draft: &mut OperationDraft<'_>) {
        let body = flat(draft.input.inline::<S>(), draft.input.inline::<W>());
        draft.body = Some(Value::Object(body));
    }
}

impl<R: Resource> Argument for Input<R> {
    fn describe(draft: &mut OperationDraft<'_>) {
        let body = flat(draft.input.inline::<R::Spec>(), draft.input.inline::<R::CreateOptions>());
        draft.body = Some(draft.input.named(&format!("New {}", R::KIND.one), body));
    }
}

impl<R: Resource> Argument for InputChange<R> {
    /// A merge patch: each member may be missing, or `null` to remove it, and so may a member of a map. What is given beside
    /// the spec is no part of the patch.
    fn describe(draft: &mut OperationDraft<'_>) {
        let mut spec = draft.input.inline::<R::Spec>();
        for member in schemas_of(&mut spec) {
            if let Some(values) = member.get_mut("additionalProperties").filter(|it| it.is_object())
            {
                *values = or_null(values.take());
            }
        }
        let mut patch = flat(spec, draft.input.inline::<R::ChangeOptions>());
        patch.remove("required");
        for member in schemas_of(&mut patch) {
            *member = or_null(member.take());
        }
        draft.body = Some(draft.input.named(&format!("Changed {}", R::KIND.one), patch));
        draft.is_conditional = true;
    }
}

/// The schemas of the members of an object.
fn schemas_of(object: &mut Map<String, Value>) -> impl Iterator<Item = &mut Value> {
    let members = object.get_mut("properties").and_then(Value::as_object_mut);
    members.into_iter().flat_map(Map::values_mut)
}

fn or_null(schema: Value) -> Value {
    json!({"anyOf": [schema, {"type": "null"}]})
}

/// The schema of an object with the members of both.
fn flat(mut one: Map<String, Value>, other: Map<String, Value>) -> Map<String, Value> {
    for (key, value) in other {
        match (one.get_mut(&key), value) {
            (Some(Value::Object(all)), Value::Object(more)) => all.extend(more),
            (Some(Value::Array(all)), Value::Array(more)) => all.extend(more),
            (Some(_), _) => {}
            (None, value) => drop(one.insert(key, value)),
        }
    }
    one.insert("additionalProperties".to_owned(), Value::Bool(false));
    one
}

/// The members of an object, each with whether it must be given.
fn members(schema: Map<String, Value>) -> Vec<(String, Value, bool)> {
    let required = schema.get("required").cloned().unwrap_or_default();
    let is_required = |name: &str| {
        required.as_array().is_some_and(|all| all.iter().any(|it| it.as_str() == Some(name)))
    };
    let Some(Value::Object(members)) = schema.get("properties") else { return Vec::new() };
    let members = members.iter();
    members.map(|(name, schema)| (name.clone(), given(schema.clone()), is_required(name))).collect()
}

/// The schema of a parameter of a query, which cannot be `null`.
fn given(mut schema: Value) -> Value {
    for (key, null) in [("type", json!("null")), ("anyOf", json!({"type": "null"}))] {
        let Some(all) = schema.get_mut(key).and_then(Value::as_array_mut) else { continue };
        all.retain(|one| *one != null);
        if let (1, Some(only)) = (all.len(), all.first().cloned()) {
            match (schema.as_object_mut(), only) {
                (Some(members), Value::Object(only)) => {
                    members.remove(key);
                    members.extend(only);
                }
                (Some(members), only) => drop(members.insert(key.to_owned(), only)),
                (None, _) => {}
            }
        }
    }
    if let Some(members) = schema.as_object_mut() {
        members.remove("default");
    }
    schema
}

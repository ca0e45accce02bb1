//! The OpenAPI 3.1 document of the API, made of its routes: [`Routes`] has for each what its handler reads and
//! answers, and the JSON Schemas are those of the types. Refusals have one form, which each operation refers to.

mod argument;
mod draft;
mod plain;
mod routes;

use std::collections::{BTreeMap, BTreeSet};

use http::Method;
use schemars::generate::Contract;
use serde_json::{Map, Value, json};

use self::draft::{AnswerDraft, Components};
use self::plain::make_plain;
use super::wire::ErrorBody;

pub(super) use self::draft::OperationDraft;
pub(super) use self::draft::{DescribedAnswer, Download, JsonLinesAnswer, PageOrEvents};
pub(super) use self::routes::{Operation, Routes};

/// What stands before the names of schemas.
const SCHEMAS: &str = "#/components/schemas/";

pub(super) fn document(operations: &[Operation]) -> Value {
    let mut input = Components::new(Contract::Deserialize);
    let mut output = Components::new(Contract::Serialize);
    let refusal = output.reference::<ErrorBody>();
    let mut paths: BTreeMap<&str, Map<String, Value>> = BTreeMap::new();
    for operation in operations {
        let mut draft = OperationDraft::new(&mut input, &mut output);
        (operation.describe)(&mut draft);
        let described = described(operation, draft);
        let method = operation.method.as_str().to_ascii_lowercase();
        paths.entry(operation.path).or_default().insert(method, described);
    }
    let mut paths = json!(paths);
    let mut schemas = joined(input.finish(), output.finish(), &mut paths);
    schemas.values_mut().chain([&mut paths]).for_each(make_plain);
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Keyward",
            "version": env!("CARGO_PKG_VERSION"),
            "summary": "The control plane of a Keyward gateway",
            "license": {"name": "MIT OR Apache-2.0", "identifier": "MIT OR Apache-2.0"},
        },
        "servers": [{"url": "/api/v1"}],
        "security": [{"token": []}, {"login": []}],
        "tags": tags(operations),
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {"token": {
                "type": "http",
                "scheme": "bearer",
                "description": "A personal access token, `kwp_…`. On the unix socket, the operator needs none.",
            }, "login": {
                "type": "apiKey",
                "in": "cookie",
                "name": "__Host-keyward",
                "description": "The cookie of a browser that is signed in, by POST /session; over cleartext HTTP on the \
                    gateway's machine, its name is `keyward`. Requests other than GET and HEAD also need the `csrf` of \
                    GET /session in `Keyward-CSRF`, and `Content-Type: application/json`.",
            }},
            "parameters": shared_parameters(),
            "responses": {"Refusal": {
                "description": "A refusal",
                "content": {"application/json": {"schema": refusal}},
            }},
        },
    })
}

/// Parameters that operations refer to.
fn shared_parameters() -> Value {
    json!({"IdempotencyKey": {
        "name": "Idempotency-Key",
        "in": "header",
        "description": "A new key for each request, of 1 to 255 visible characters. A request that is repeated with \
            its key within an hour gets the first answer and has no further effect.",
        "schema": {"type": "string"},
    }, "IfMatch": {
        "name": "If-Match",
        "in": "header",
        "description": "The `ETag` of the version to change; another version is refused with 412.",
        "schema": {"type": "string"},
    }, "Organisation": {
        "name": "Keyward-Org",
        "in": "header",
        "description": "The organisation, by name or id; only the operator may name another one than their own. For a \
            sign-in with a password, that of the user.",
        "schema": {"type": "string"},
    }})
}

/// The Operation Object (OpenAPI 3.1.0 §4.8.10).
fn described(operation: &Operation, draft: OperationDraft<'_>) -> Value {
    let OperationDraft { query, is_conditional, body, body_is_optional, answers, .. } = draft;
    let parameters = parameters(operation, query, is_conditional);
    let mut responses = Map::new();
    for AnswerDraft { status, content, has_tag } in answers {
        let mut response = json!({"description": text_of(status)});
        if let Some((media, schema)) = content {
            response["content"][media] = json!({"schema": schema});
        }
        if has_tag {
            response["headers"]["ETag"] =
                json!({"description": "For `If-Match`.", "schema": {"type": "string"}});
        }
        responses
            .entry(status.to_string())
            .and_modify(|known| {
                let more = response["content"].take();
                if let (Some(into), Value::Object(more)) = (known["content"].as_object_mut(), more)
                {
                    into.extend(more);
                }
            })
            .or_insert(response);
    }
    for group in ["4XX", "5XX"] {
        responses.insert(group.to_owned(), json!({"$ref": "#/components/responses/Refusal"}));
    }
    let mut described = json!({
        "operationId": operation.id,
        "summary": operation.summary,
        "tags": [tag(operation)],
        "parameters": parameters,
        "responses": responses,
    });
    if let Some(schema) = body {
        let mut content = json!({"application/json": {"schema": schema}});
        if operation.method == Method::PATCH {
            content["application/merge-patch+json"] = content["application/json"].clone();
        }
        described["requestBody"] = json!({"required": !body_is_optional, "content": content});
    }
    described
}

fn parameters(
    operation: &Operation,
    query: Vec<(String, Value, bool)>,
    is_conditional: bool,
) -> Vec<Value> {
    let of_path = variables(operation.path).map(
        |name| json!({"name": name, "in": "path", "required": true, "schema": {"type": "string"}}),
    );
    let of_query = query.into_iter().map(|(name, mut schema, required)| {
        let text = schema.as_object_mut().and_then(|schema| schema.remove("description"));
        let mut parameter =
            json!({"name": name, "in": "query", "required": required, "schema": schema});
        if let Some(text) = text {
            parameter["description"] = text;
        }
        parameter
    });
    let org = json!({"$ref": "#/components/parameters/Organisation"});
    let condition = json!({"$ref": "#/components/parameters/IfMatch"});
    let condition = is_conditional.then_some(condition);
    // The sign-in has no caller yet, to whom a key could belong.
    let takes_key = operation.method == Method::POST && tag(operation) != "session";
    let key = json!({"$ref": "#/components/parameters/IdempotencyKey"});
    let key = takes_key.then_some(key);
    let all = of_path.chain(of_query).chain([org]).chain(key).chain(condition);
    all.collect()
}

fn text_of(status: u16) -> &'static str {
    match status {
        201 => "Made",
        204 => "Done",
        _ => "The answer",
    }
}

/// The names in braces.
fn variables(path: &str) -> impl Iterator<Item = &str> {
    path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'))
}

/// The first part of the path.
fn tag(operation: &Operation) -> &'static str {
    operation.path.split('/').find(|part| !part.is_empty()).unwrap_or_default()
}

fn tags(operations: &[Operation]) -> Vec<Value> {
    let tags: BTreeSet<_> = operations.iter().map(tag).collect();
    tags.into_iter().map(|name| json!({"name": name})).collect()
}

/// The schemas of requests and those of answers under their names. A type can have two schemas, because a member with
/// a default may be missing in a request and is always in an answer; that of requests gets another name then.
fn joined(
    input: BTreeMap<String, Value>,
    output: BTreeMap<String, Value>,
    paths: &mut Value,
) -> BTreeMap<String, Value> {
    let mut renamed: BTreeSet<String> = input
        .iter()
        .filter(|(name, schema)| output.get(*name).is_some_and(|other| other != *schema))
        .map(|(name, _)| name.clone())
        .collect();
    // What refers to a renamed one differs as well.
    loop {
        let refers = |schema: &Value| renamed.iter().any(|name| has_reference(schema, name));
        let more: Vec<_> = input
            .iter()
            .filter(|(name, schema)| {
                !renamed.contains(*name) && output.contains_key(*name) && refers(schema)
            })
            .map(|(name, _)| name.clone())
            .collect();
        if more.is_empty() {
            break;
        }
        renamed.extend(more);
    }
    let mut all = output;
    for (name, mut schema) in input {
        rename(&mut schema, &renamed);
        let name = if renamed.contains(&name) { format!("{name}Input") } else { name };
        all.insert(name, schema);
    }
    for operation in paths.as_object_mut().into_iter().flat_map(Map::values_mut) {
        for operation in operation.as_object_mut().into_iter().flat_map(Map::values_mut) {
            for part in ["requestBody", "parameters"] {
                if let Some(part) = operation.get_mut(part) {
                    rename(part, &renamed);
                }
            }
        }
    }
    all
}

fn has_reference(schema: &Value, name: &str) -> bool {
    match schema {
        Value::Object(members) => members.iter().any(|(key, value)| match value {
            Value::String(text) if key == "$ref" => text.strip_prefix(SCHEMAS) == Some(name),
            value => has_reference(value, name),
        }),
        Value::Array(items) => items.iter().any(|item| has_reference(item, name)),
        _ => false,
    }
}

fn rename(schema: &mut Value, renamed: &BTreeSet<String>) {
    match schema {
        Value::Object(members) => {
            for (key, value) in members {
                match value {
                    Value::String(text) if key == "$ref" => {
                        if text.strip_prefix(SCHEMAS).is_some_and(|name| renamed.contains(name)) {
                            text.push_str("Input");
                        }
                    }
                    value => rename(value, renamed),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| rename(item, renamed)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::is_covered;
    use crate::router::described;

    fn whole() -> Value {
        document(described().operations())
    }

    fn references(value: &Value, found: &mut BTreeSet<String>) {
        match value {
            Value::Object(members) => members.iter().for_each(|(key, value)| match value {
                Value::String(text) if key == "$ref" => drop(found.insert(text.clone())),
                value => references(value, found),
            }),
            Value::Array(items) => items.iter().for_each(|item| references(item, found)),
            _ => {}
        }
    }

    #[test]
    fn every_reference_leads_to_a_schema_and_every_schema_is_used() {
        let document = whole();
        let mut used = BTreeSet::new();
        references(&document, &mut used);
        for reference in &used {
            let pointer = reference.trim_start_matches('#');
            assert!(document.pointer(pointer).is_some(), "{reference}");
        }
        for name in document["components"]["schemas"].as_object().unwrap().keys() {
            assert!(used.contains(&format!("{SCHEMAS}{name}")), "{name} is not used");
        }
    }

    #[test]
    fn each_operation_has_a_unique_id_and_an_area_of_rights() {
        let mut ids = BTreeSet::new();
        for operation in described().operations() {
            assert!(ids.insert(operation.id), "{} is there twice", operation.id);
            let path = format!("/api/v1{}", operation.path);
            assert!(is_covered(&operation.method, &path), "{} {path}", operation.method);
        }
    }

    #[test]
    fn a_schema_that_differs_between_requests_and_answers_has_two_names() {
        let one = |text: &str| BTreeMap::from([("A".to_owned(), json!({"title": text}))]);
        let refers = json!({"$ref": "#/components/schemas/A"});
        let mut input = one("request");
        input.insert("B".to_owned(), refers.clone());
        let mut output = one("answer");
        output.insert("B".to_owned(), refers.clone());
        let mut paths = json!({"/x": {"post": {"requestBody": refers, "responses": refers}}});
        let all = joined(input, output, &mut paths);
        assert_eq!(all["A"]["title"], "answer");
        assert_eq!(all["AInput"]["title"], "request");
        assert_eq!(all["B"]["$ref"], "#/components/schemas/A");
        assert_eq!(all["BInput"]["$ref"], "#/components/schemas/AInput");
        assert_eq!(paths["/x"]["post"]["requestBody"]["$ref"], "#/components/schemas/AInput");
        assert_eq!(paths["/x"]["post"]["responses"]["$ref"], "#/components/schemas/A");
    }

    #[test]
    fn a_parameter_of_a_query_is_never_null() {
        let document = whole();
        let paths = document["paths"].as_object().unwrap().values();
        for operation in paths.flat_map(|path| path.as_object().unwrap().values()) {
            for parameter in operation["parameters"].as_array().unwrap() {
                assert!(!parameter.to_string().contains("null"), "{parameter}");
            }
        }
    }

    #[test]
    fn each_limit_parameter_has_a_minimum_and_a_maximum() {
        let document = whole();
        let paths = document["paths"].as_object().unwrap();
        let all = paths.values().flat_map(|path| path.as_object().unwrap().values());
        let parameters = all.flat_map(|operation| operation["parameters"].as_array().unwrap());
        let limits: Vec<_> = parameters.filter(|it| it["name"] == "limit").collect();
        assert!(limits.len() > 20, "{}", limits.len());
        for limit in limits {
            let schema = &limit["schema"];
            assert!(schema["minimum"] == 1 && schema["maximum"].is_u64(), "{limit}");
        }
    }

    #[test]
    fn the_parameter_by_is_required_for_audit_counts_and_absent_for_records() {
        let document = whole();
        let required = |path: &str, name: &str| {
            let all = document["paths"][path]["get"]["parameters"].as_array().unwrap();
            all.iter().find(|it| it["name"] == name).map(|it| it["required"] == true)
        };
        assert_eq!(required("/audit/counts", "by"), Some(true));
        assert_eq!(required("/audit", "by"), None);
        for other in ["follow", "limit"] {
            assert_eq!(required("/audit/counts", other), None, "{other}");
        }
    }

    #[test]
    fn a_connection_has_its_state_in_each_schema_of_an_answer() {
        let document = whole();
        for name in ["Connection", "ConnectionCreated", "Rotated"] {
            let schema = &document["components"]["schemas"][name];
            let states = schema["properties"]["state"]["enum"].as_array().unwrap().iter();
            let states = states.filter_map(Value::as_str);
            assert_eq!(states.collect::<Vec<_>>(), keyward_model::ConnectionState::CODES, "{name}");
            assert!(schema["required"].as_array().unwrap().contains(&json!("state")), "{name}");
        }
    }

    /// Generators ignore members beside alternatives, and make wrappers that accept no value of alternatives that are
    /// texts.
    #[test]
    fn no_schema_has_alternatives_of_texts_or_beside_members_or_a_default_of_null() {
        fn check(value: &Value, at: &str) {
            match value {
                Value::Object(members) => {
                    let alternatives = members.get("oneOf").and_then(Value::as_array);
                    let mut alternatives = alternatives.into_iter().flatten();
                    assert!(alternatives.all(|it| it.get("const").is_none()), "{at}");
                    let is_beside =
                        members.contains_key("oneOf") && members.contains_key("properties");
                    assert!(!is_beside, "{at}");
                    assert_ne!(members.get("default"), Some(&Value::Null), "{at}");
                    assert!(!members.contains_key("prefixItems"), "{at}");
                    members.iter().for_each(|(key, value)| check(value, &format!("{at}/{key}")));
                }
                Value::Array(items) => items.iter().for_each(|item| check(item, at)),
                _ => {}
            }
        }
        check(&whole(), "");
    }

    /// By RFC 7396, `null` removes a member of a map too, such as one label.
    #[test]
    fn a_patch_accepts_null_for_a_member_of_a_map() {
        let document = whole();
        let schemas = &document["components"]["schemas"];
        let nothing = json!({"type": "null"});
        let labels = &schemas["ChangedAgent"]["properties"]["labels"]["anyOf"];
        assert_eq!(
            labels[0]["additionalProperties"]["anyOf"],
            json!([{"type": "string"}, nothing])
        );
        assert_eq!(labels[1], nothing);
        let made = &schemas["NewAgent"]["properties"]["labels"];
        assert_eq!(made["additionalProperties"], json!({"type": "string"}));
    }

    /// A text of RFC 3339 has its format, so that generated clients read it as a time.
    #[test]
    fn each_time_of_an_answer_has_the_format_of_a_time() {
        let document = whole();
        let schemas = &document["components"]["schemas"];
        for (name, member) in [
            ("Session", "expires"),
            ("ConnectSession", "expires"),
            ("TokenShown", "expires"),
            ("PersonalTokenShown", "last_used"),
            ("Login", "expires"),
            ("DeliveryAttempt", "at"),
            ("RuleShown", "updated"),
        ] {
            assert_eq!(
                schemas[name]["properties"][member]["format"], "date-time",
                "{name}.{member}"
            );
        }
    }

    /// With a line for each operation and each member of a schema, so that a change shows what it changes.
    #[test]
    fn the_document_is_the_published_one() {
        let document = whole();
        let mut text = String::new();
        for (path, operations) in document["paths"].as_object().unwrap() {
            for (method, operation) in operations.as_object().unwrap() {
                text += &format!("{method} {path} {operation}\n");
            }
        }
        for (name, schema) in document["components"]["schemas"].as_object().unwrap() {
            let mut schema = schema.clone();
            let members = schema.as_object_mut().and_then(|schema| schema.remove("properties"));
            text += &format!("\n{name} {schema}\n");
            for (member, schema) in members.iter().flat_map(|all| all.as_object().unwrap()) {
                text += &format!("  {member} {schema}\n");
            }
        }
        insta::assert_snapshot!(text);
    }
}

//! The page about the API: its list of requests is generated from the OpenAPI document that the gateway serves.

use std::collections::BTreeMap;
use std::fmt::Write;

use serde_json::Value;

use crate::generated_page::GeneratedPage;

const PAGE: GeneratedPage = GeneratedPage {
    file: "api.md",
    text: include_str!("../../docs/reference/api.md"),
    marks: ["<!-- made from the code: begin -->\n", "<!-- end -->\n"],
};

fn sections() -> String {
    let document = keyward_api::openapi();
    let mut groups: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for (path, operations) in document["paths"].as_object().expect("paths") {
        for (method, operation) in operations.as_object().expect("operations") {
            let group = operation["tags"][0].as_str().expect("a tag");
            groups.entry(group).or_default().push(row(&document, method, path, operation));
        }
    }
    let mut text = String::new();
    for (group, rows) in groups {
        let _ =
            writeln!(text, "### {group}\n\n| request | | members | answer |\n|---|---|---|---|");
        text.extend(rows);
        text.push('\n');
    }
    text
}

fn row(document: &Value, method: &str, path: &str, operation: &Value) -> String {
    let (method, summary) = (method.to_uppercase(), operation["summary"].as_str().unwrap_or(""));
    let mut members: Vec<String> = Vec::new();
    for parameter in operation["parameters"].as_array().into_iter().flatten() {
        if parameter["in"] == "query" {
            let needed = if parameter["required"] == true { "" } else { "?" };
            members.push(format!("`?{}`{needed}", parameter["name"].as_str().unwrap_or("")));
        }
    }
    let body = &operation["requestBody"]["content"]["application/json"]["schema"];
    members.extend(body_members(document, body));
    let answer = operation["responses"].as_object().into_iter().flatten();
    let answer = answer.filter(|(status, _)| status.starts_with('2'));
    let answer = answer.map(|(status, response)| {
        let schemas = response["content"].as_object().into_iter().flat_map(|all| all.values());
        let mut names: Vec<_> = schemas.map(|content| name(&content["schema"])).collect();
        names.dedup();
        format!("{status} {}", names.join(", ")).trim_end().to_owned()
    });
    let answer = answer.collect::<Vec<_>>().join(", ");
    format!("| `{method} {path}` | {summary} | {} | {answer} |\n", members.join(", "))
}

/// The members of a body; an optional one has a `?` behind it.
fn body_members(document: &Value, schema: &Value) -> Vec<String> {
    let schema = match schema["$ref"].as_str() {
        Some(reference) => document.pointer(reference.trim_start_matches('#')).expect("a schema"),
        None => schema,
    };
    let required = schema["required"].as_array();
    let is_required = |name: &String| required.is_some_and(|all| all.iter().any(|it| it == name));
    let members = schema["properties"].as_object().into_iter().flat_map(|all| all.keys());
    members.map(|name| format!("`{name}`{}", if is_required(name) { "" } else { "?" })).collect()
}

fn name(schema: &Value) -> String {
    match schema["$ref"].as_str().and_then(|reference| reference.rsplit('/').next()) {
        Some(name) => format!("`{name}`"),
        None => "JSON".to_owned(),
    }
}

#[test]
fn the_page_has_every_request_and_nothing_else() {
    PAGE.check(&sections());
}

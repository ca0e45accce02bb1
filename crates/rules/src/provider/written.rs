//! Writes a definition as YAML, with its keys in the usual order of provider files.

use serde_json::{Map, Value};

/// Keys in their usual order; others follow by name.
const ORDER: &[&str] = &[
    "id",
    "name",
    "extends",
    "category",
    "protocol",
    "mcp",
    "hosts",
    "paths",
    "variables",
    "auth",
    "git",
    "test",
    "key_url",
    "docs_url",
    "actions",
    "indirect",
    "kind",
    "label",
    "help",
    "url",
    "header",
];

pub fn yaml(definition: &Map<String, Value>) -> String {
    let whole = ordered(&Value::Object(definition.clone()));
    serde_yaml::to_string(&whole).expect("JSON is YAML: its keys are texts")
}

fn ordered(value: &Value) -> serde_yaml::Value {
    match value {
        Value::Object(map) => {
            let place = |key: &str| ORDER.iter().position(|it| *it == key).unwrap_or(ORDER.len());
            let mut keys: Vec<&String> = map.keys().collect();
            keys.sort_by_key(|key| (place(key), *key));
            let each = keys.into_iter().map(|key| (key.as_str().into(), ordered(&map[key])));
            serde_yaml::Value::Mapping(each.collect())
        }
        Value::Array(items) => items.iter().map(ordered).collect(),
        other => serde_yaml::to_value(other).unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::provider::document::Document;
    use serde_json::json;

    #[test]
    fn a_definition_is_read_back_as_it_was() {
        let definition = json!({
            "test": {"url": "https://{region}.acme.test/me", "expect_status": 200},
            "auth": [{"kind": "api_key", "id": "key", "placement": {"header": "X-Key"}, "label": "yes"}],
            "hosts": ["{region}.acme.test", "*.acme.test:8443"], "name": "Acme: Tickets # 1", "id": "acme",
            "checked": "2026-08-21", "quirks": ["null", "1", "a\nb"],
        });
        let text = yaml(definition.as_object().expect("a map"));
        assert!(text.starts_with("id: acme\nname: "), "{text}");
        assert!(text.contains("\n- id: key\n  kind: api_key\n"), "{text}");
        let document = Document::parse("p.yaml", &text).expect("YAML");
        assert_eq!(serde_json::to_value(document.root()).expect("JSON"), definition, "{text}");
    }
}

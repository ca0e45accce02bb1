//! Schemas in the forms that client generators know. schemars describes an enum by alternatives (`oneOf`), and a member
//! that may be missing by `default: null`. Generators make a wrapper of alternatives that all are texts, ignore the members
//! beside alternatives, and write `null` into languages that have none.

use serde_json::{Map, Value, json};

/// Rewrites a schema and all in it. It accepts what it accepted before, and members of one variant in all variants.
pub(super) fn make_plain(schema: &mut Value) {
    match schema {
        Value::Array(items) => items.iter_mut().for_each(make_plain),
        Value::Object(members) => {
            members.values_mut().for_each(make_plain);
            if members.get("default").is_some_and(Value::is_null) {
                members.remove("default");
            }
            join_values(members);
            join_variants(members);
            join_places(members);
        }
        _ => {}
    }
}

/// Writes alternatives that are one text each as the values of a text.
fn join_values(members: &mut Map<String, Value>) {
    let values: Option<Vec<Value>> = alternatives(members).map(value_of).collect();
    let Some(values) = values.filter(|values| !values.is_empty()) else { return };
    let meanings: Vec<String> = alternatives(members).filter_map(meaning_of).collect();
    members.remove("oneOf");
    members.insert("type".to_owned(), json!("string"));
    members.insert("enum".to_owned(), values.into());
    describe(members, &meanings);
}

/// Writes alternatives that differ in the value of one member, beside members that all of them have, as one object.
fn join_variants(members: &mut Map<String, Value>) {
    let is_joinable = members.contains_key("properties");
    if !is_joinable || !alternatives(members).all(|variant| tag_of(variant).is_some()) {
        return;
    }
    let Some(Value::Array(variants)) = members.remove("oneOf") else { return };
    for variant in &variants {
        let Some((tag, value)) = tag_of(variant) else { continue };
        let own = variant["properties"].as_object().into_iter().flatten();
        add_value(members, tag, &value, variant["description"].as_str());
        for (name, member) in own.filter(|(name, _)| *name != tag) {
            add_member(members, name, member, &format!("`{tag}` is {}", code(&value)));
        }
    }
}

/// Adds a value of the member in whose value the variants differ.
fn add_value(members: &mut Map<String, Value>, tag: &str, value: &Value, meaning: Option<&str>) {
    let known = &mut members["properties"][tag];
    if known.is_null() {
        *known = json!({"type": "string", "enum": []});
        let required = members.entry("required").or_insert_with(|| json!([]));
        if let Some(required) = required.as_array_mut() {
            required.push(json!(tag));
        }
    }
    let Some(known) = members["properties"][tag].as_object_mut() else { return };
    if let Some(values) = known.get_mut("enum").and_then(Value::as_array_mut) {
        values.push(value.clone());
    }
    let meaning = meaning.map(|meaning| format!("{}: {meaning}", code(value)));
    describe(known, meaning.as_slice());
}

/// Adds a member of one variant. Several variants may have it; then one of its forms may accept `null` too.
fn add_member(members: &mut Map<String, Value>, name: &str, member: &Value, when: &str) {
    let known = &mut members["properties"][name];
    if let Some(text) = known["description"].as_str() {
        let text = format!("{} or {when}.", text.trim_end_matches('.'));
        if member["type"].is_array() {
            *known = member.clone();
        }
        known["description"] = json!(text);
        return;
    }
    *known = member.clone();
    let text = member["description"].as_str().unwrap_or_default();
    known["description"] = json!(format!("{text} Only if {when}.").trim_start());
}

/// Writes a list whose places all have the same schema as a list of that schema.
fn join_places(members: &mut Map<String, Value>) {
    let Some(places) = members.get("prefixItems").and_then(Value::as_array) else { return };
    let Some(first) = places.first().filter(|first| places.iter().all(|place| place == *first))
    else {
        return;
    };
    let first = first.clone();
    members.remove("prefixItems");
    members.insert("items".to_owned(), first);
}

fn alternatives(members: &Map<String, Value>) -> impl Iterator<Item = &Value> {
    members.get("oneOf").and_then(Value::as_array).into_iter().flatten()
}

/// The member that identifies a variant, and its value.
fn tag_of(variant: &Value) -> Option<(&str, Value)> {
    let own = variant["properties"].as_object()?;
    own.iter().find_map(|(name, member)| Some((name.as_str(), value_of(member)?)))
}

/// The only text that a schema accepts.
fn value_of(schema: &Value) -> Option<Value> {
    schema.get("const").filter(|value| value.is_string()).cloned()
}

fn meaning_of(schema: &Value) -> Option<String> {
    let meaning = schema["description"].as_str()?;
    Some(format!("{}: {meaning}", code(&value_of(schema)?)))
}

fn code(value: &Value) -> String {
    format!("`{}`", value.as_str().unwrap_or_default())
}

/// Adds lines of a list to the description.
fn describe(members: &mut Map<String, Value>, lines: &[String]) {
    let mut text =
        members.get("description").and_then(Value::as_str).unwrap_or_default().to_owned();
    for line in lines {
        let gap = match text.lines().last() {
            None => "",
            Some(last) if last.starts_with("- ") => "\n",
            Some(_) => "\n\n",
        };
        text = format!("{text}{gap}- {}", line.replace('\n', " "));
    }
    if !text.is_empty() {
        members.insert("description".to_owned(), text.into());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(mut schema: Value) -> Value {
        make_plain(&mut schema);
        schema
    }

    #[test]
    fn a_default_of_null_is_removed_and_others_stay() {
        let schema = json!({"properties": {
            "default": {"type": ["string", "null"], "default": null},
            "count": {"type": "integer", "default": 0},
        }});
        let expected = json!({"properties": {
            "default": {"type": ["string", "null"]},
            "count": {"type": "integer", "default": 0},
        }});
        assert_eq!(plain(schema), expected);
    }

    #[test]
    fn an_enum_is_a_text_with_values_whose_meanings_are_listed() {
        let schema = json!({"description": "What a person may do.", "oneOf": [
            {"const": "admin", "type": "string", "description": "Everything\nin it."},
            {"const": "member", "type": "string"},
        ]});
        let expected = json!({
            "type": "string",
            "enum": ["admin", "member"],
            "description": "What a person may do.\n\n- `admin`: Everything in it.",
        });
        assert_eq!(plain(schema), expected);
    }

    #[test]
    fn variants_beside_shared_members_are_one_object() {
        let state = |state: &str| json!({"const": state, "type": "string"});
        let variants = json!([
            {"type": "object", "description": "It can be used.", "required": ["state"],
             "properties": {"state": state("active")}},
            {"type": "object", "description": "A person must decide.", "required": ["state", "before"],
             "properties": {"state": state("confirm"),
                            "before": {"type": "string", "description": "The account before."}}},
            {"type": "object", "required": ["state", "before"],
             "properties": {"state": state("held"),
                            "before": {"type": ["string", "null"], "description": "The same, if known."}}},
        ]);
        let schema = json!({"type": "object", "oneOf": variants, "required": ["id"],
            "properties": {"id": {"type": "string"}}});
        let expected = json!({"type": "object", "required": ["id", "state"], "properties": {
            "id": {"type": "string"},
            "state": {
                "type": "string",
                "enum": ["active", "confirm", "held"],
                "description": "- `active`: It can be used.\n- `confirm`: A person must decide.",
            },
            "before": {
                "type": ["string", "null"],
                "description": "The account before. Only if `state` is `confirm` or `state` is `held`.",
            },
        }});
        assert_eq!(plain(schema), expected);
    }

    #[test]
    fn alternatives_of_other_kinds_stay() {
        for schema in [
            json!({"anyOf": [{"$ref": "#/components/schemas/A"}, {"type": "null"}]}),
            json!({"oneOf": [{"type": "string"}, {"type": "integer"}]}),
            json!({"prefixItems": [{"type": "string"}, {"type": "integer"}], "type": "array"}),
        ] {
            assert_eq!(plain(schema.clone()), schema);
        }
    }

    #[test]
    fn a_pair_of_texts_is_a_list_of_texts() {
        let schema = json!({"type": "array", "minItems": 2, "maxItems": 2,
            "prefixItems": [{"type": "string"}, {"type": "string"}]});
        let expected =
            json!({"type": "array", "minItems": 2, "maxItems": 2, "items": {"type": "string"}});
        assert_eq!(plain(schema), expected);
    }
}

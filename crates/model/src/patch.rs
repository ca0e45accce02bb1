//! Merge patches (RFC 7396) of specs, and which members they leave as they are.

use serde_json::{Map, Value};

use super::refusal::Refusal;
use super::resource::Resource;

/// `target` with a merge patch: members that are `null` go, objects are merged, all else is replaced.
pub fn merge(target: &mut Value, patch: Value) {
    let Value::Object(patch) = patch else {
        *target = patch;
        return;
    };
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    let Value::Object(members) = target else { return };
    for (key, value) in patch {
        match value {
            Value::Null => drop(members.remove(&key)),
            value => merge(members.entry(key).or_insert(Value::Null), value),
        }
    }
}

/// Refuses a change of a member that is [`Resource::FIXED`].
///
/// # Errors
/// With the member.
pub fn check_fixed<R: Resource>(before: &R::Spec, after: &R::Spec) -> Result<(), Refusal> {
    if R::FIXED.is_empty() || before == after {
        return Ok(());
    }
    let members = |spec: &R::Spec| serde_json::to_value(spec).unwrap_or_default();
    let (before, after) = (members(before), members(after));
    match R::FIXED.iter().find(|member| before.get(member) != after.get(member)) {
        None => Ok(()),
        Some(member) => {
            let rule = format!("of {} cannot be changed: add another one", R::KIND.article);
            Err(Refusal::new(*member, rule))
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn merge_patches_match_the_examples_of_rfc_7396() {
        // RFC 7396, appendix A.
        for (target, patch, expected) in [
            (json!({"a": "b"}), json!({"a": "c"}), json!({"a": "c"})),
            (json!({"a": "b"}), json!({"b": "c"}), json!({"a": "b", "b": "c"})),
            (json!({"a": "b"}), json!({"a": null}), json!({})),
            (json!({"a": "b", "b": "c"}), json!({"a": null}), json!({"b": "c"})),
            (json!({"a": ["b"]}), json!({"a": "c"}), json!({"a": "c"})),
            (json!({"a": "c"}), json!({"a": ["b"]}), json!({"a": ["b"]})),
            (
                json!({"a": {"b": "c"}}),
                json!({"a": {"b": "d", "c": null}}),
                json!({"a": {"b": "d"}}),
            ),
            (json!({"a": [{"b": "c"}]}), json!({"a": [1]}), json!({"a": [1]})),
            (json!(["a", "b"]), json!(["c", "d"]), json!(["c", "d"])),
            (json!({"a": "b"}), json!(["c"]), json!(["c"])),
            (json!({"a": "foo"}), json!(null), json!(null)),
            (json!({"a": "foo"}), json!("bar"), json!("bar")),
            (json!({"e": null}), json!({"a": 1}), json!({"e": null, "a": 1})),
            (json!([1, 2]), json!({"a": "b", "c": null}), json!({"a": "b"})),
            (json!({}), json!({"a": {"bb": {"ccc": null}}}), json!({"a": {"bb": {}}})),
        ] {
            let mut merged = target.clone();
            merge(&mut merged, patch.clone());
            assert_eq!(merged, expected, "{target} with {patch}");
        }
    }
}

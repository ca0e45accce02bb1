//! Members of a stored record that this version does not know, because a newer version wrote them: a change of the
//! record keeps them.
//!
//! They are what the stored JSON has and the JSON of the record as it was read does not have, at any depth. An item of a
//! list keeps its members if it is still in the list: the same item, or one with the same id.

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Error, Value, from_value, to_value};

/// The members that identify an item of a list, the first of them that it has.
const IDENTITIES: [&str; 4] = ["id", "connection", "hash", "name"];

/// The JSON of a changed record, with the unknown members of the stored JSON that it was read from. Without them if the
/// result would be read as another record.
pub(super) fn with_unknown_members<T>(stored: &Value, read: &T, changed: &T) -> Result<Value, Error>
where
    T: Serialize + DeserializeOwned + PartialEq,
{
    let (known, written) = (to_value(read)?, to_value(changed)?);
    if *stored == known {
        return Ok(written);
    }
    let mut merged = written.clone();
    merge(&mut merged, stored, &known);
    // An earlier version may have written a value in another form, which would then be there twice.
    let is_same = from_value::<T>(merged.clone()).is_ok_and(|record| record == *changed);
    Ok(if is_same { merged } else { written })
}

/// Adds the members to `written` that `stored` has and `known` does not have.
fn merge(written: &mut Value, stored: &Value, known: &Value) {
    match (written, stored, known) {
        (Value::Object(written), Value::Object(stored), Value::Object(known)) => {
            for (name, stored) in stored {
                match (written.get_mut(name), known.get(name)) {
                    (None, None) => drop(written.insert(name.clone(), stored.clone())),
                    (Some(written), Some(known)) => merge(written, stored, known),
                    // The change has removed it, or this version writes it in another form.
                    (None, Some(_)) | (Some(_), None) => {}
                }
            }
        }
        (Value::Array(written), Value::Array(stored), Value::Array(known))
            if stored.len() == known.len() =>
        {
            merge_items(written, stored.iter().zip(known));
        }
        _ => {}
    }
}

/// [`merge`] of the items of a list. Most items keep their order, so that the search continues after the last one that was
/// found.
fn merge_items<'a>(written: &mut [Value], read: impl Iterator<Item = (&'a Value, &'a Value)>) {
    let mut next = 0;
    for (stored, known) in read.filter(|(stored, known)| stored != known) {
        let (before, after) = written.split_at(next);
        let is_same = |item: &Value| is_same(item, known);
        let found = after.iter().position(is_same).map(|at| next + at);
        if let Some(at) = found.or_else(|| before.iter().position(is_same)) {
            merge(&mut written[at], stored, known);
            next = at + 1;
        }
    }
}

/// Whether an item of a list is the one that was read.
fn is_same(item: &Value, read: &Value) -> bool {
    match IDENTITIES.iter().find_map(|name| read.get(name).map(|id| (name, id))) {
        Some((name, id)) => item.get(name) == Some(id),
        None => item == read,
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;
    use serde_json::json;

    use super::*;

    #[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
    struct Item {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        id: Option<u8>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        label: Option<String>,
    }

    #[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
    struct Row {
        #[serde(alias = "title")]
        name: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        note: Option<String>,
        #[serde(default)]
        items: Vec<Item>,
    }

    /// The JSON that a change leaves of a stored one.
    fn after(stored: &Value, change: impl FnOnce(&mut Row)) -> Value {
        let read: Row = from_value(stored.clone()).unwrap();
        let mut changed = read.clone();
        change(&mut changed);
        with_unknown_members(stored, &read, &changed).unwrap()
    }

    #[test]
    fn a_member_that_the_change_removes_or_that_has_an_older_name_does_not_stay() {
        let stored = json!({"name": "a", "note": "x", "items": [], "newer": 1});
        let wanted = json!({"name": "a", "items": [], "newer": 1});
        assert_eq!(after(&stored, |row| row.note = None), wanted);
        let stored = json!({"title": "a", "items": []});
        assert_eq!(
            after(&stored, |row| row.name = "b".to_owned()),
            json!({"name": "b", "items": []})
        );
    }

    #[test]
    fn items_of_a_list_keep_their_members_wherever_they_move() {
        let stored = json!({"name": "a", "items": [
            {"id": 1, "newer": 1}, {"id": 2}, {"id": 3, "newer": 3}, {"label": "x", "newer": 4},
        ]});
        let with = |items: Value| json!({"name": "a", "items": items});
        let wanted = with(json!([{"id": 2}, {"id": 3, "newer": 3}, {"label": "x", "newer": 4}]));
        assert_eq!(after(&stored, |row| drop(row.items.remove(0))), wanted);
        let wanted = with(json!([
            {"label": "x", "newer": 4}, {"id": 3, "newer": 3}, {"id": 2}, {"id": 1, "newer": 1},
        ]));
        assert_eq!(after(&stored, |row| row.items.reverse()), wanted);
        let relabelled = after(&stored, |row| row.items[0].label = Some("one".to_owned()));
        assert_eq!(relabelled["items"][0], json!({"id": 1, "label": "one", "newer": 1}));
        // Without an id, it is another item.
        let replaced = after(&stored, |row| row.items[3].label = Some("y".to_owned()));
        assert_eq!(replaced["items"][3], json!({"label": "y"}));
    }
}

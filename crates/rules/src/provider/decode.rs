//! Decodes a part of a [`Document`] into a serde type and reports all errors: after each error the offending
//! key is removed and decoding is repeated.

use std::time::Duration;

use serde::de::{DeserializeOwned, Error};
use serde::{Deserialize, Deserializer};
use serde_path_to_error::Segment;
use serde_yaml::{Mapping, Value};

use super::document::{Problems, key_of};
use keyward_base::time::{DurationText, parse_duration};

/// Decodes `value`, which is at `path`. Unknown keys are reported. `None` is returned only if there is another
/// error as well.
pub fn decode<T: DeserializeOwned>(
    value: &Value,
    path: &str,
    problems: &mut Problems<'_>,
) -> Option<T> {
    // Sound values need no copy, and no trace of where the decoder is.
    if let Ok(decoded) = T::deserialize(value) {
        return Some(decoded);
    }
    let mut value = value.clone();
    let mut removed = Vec::new();
    let mut sound = true;
    loop {
        let error = match serde_path_to_error::deserialize::<_, T>(&value) {
            Ok(decoded) => return sound.then_some(decoded),
            Err(error) => error,
        };
        let steps = steps(error.path());
        match SerdeError::read(&error.inner().to_string()) {
            SerdeError::Unknown { key, expected } => {
                let steps = without_last(steps, &key);
                problems.add(
                    &key_of(&joined(path, &steps), &key),
                    format_args!("unknown key `{key}`"),
                    unknown_remedy(&key, &expected),
                );
                if !remove(&mut value, &steps, &key) {
                    return None;
                }
            }
            SerdeError::Missing { key } => {
                sound = false;
                let at = joined(path, &steps);
                if !removed.contains(&key_of(&at, &key)) {
                    let remedy = format_args!("add `{key}:`");
                    problems.add(&at, format_args!("`{key}` is missing"), remedy);
                }
                if !fill::<T>(&mut value, &steps, &key) {
                    return None;
                }
            }
            SerdeError::Other { message, remedy, .. } => {
                sound = false;
                problems.add(&joined(path, &steps), message, remedy);
                match take_out(&mut value, path, steps) {
                    Some(key) => removed.push(key),
                    None => return None,
                }
            }
        }
    }
}

/// Inserts a value of a suitable type for the missing `key`, so that further errors are found. The decoded
/// result is not used then.
fn fill<T: DeserializeOwned>(value: &mut Value, steps: &[KeyStep], key: &str) -> bool {
    let mut candidates = vec![
        Value::Mapping(Mapping::new()),
        Value::Sequence(Vec::new()),
        Value::from(1),
        Value::from(true),
        Value::from(""),
    ];
    while let Some(candidate) = candidates.pop() {
        let Some(Value::Mapping(map)) = walk(value, steps) else { return false };
        map.insert(Value::from(key), candidate);
        let Err(error) = serde_path_to_error::deserialize::<_, T>(&*value) else { return true };
        let here = joined("", &self::steps(error.path())) == key_of(&joined("", steps), key);
        match SerdeError::read(&error.inner().to_string()) {
            SerdeError::Other { choice: Some(choice), .. } if here => {
                candidates.push(Value::from(choice))
            }
            SerdeError::Other { .. } if here => {}
            _ => return true,
        }
    }
    false
}

/// The nearest of `known` to a mistyped `word`, if one is near. Case is ignored.
pub fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    // Compiled once: the types of iterators that callers chain are large.
    fn of<'a>(word: &str, known: &mut dyn Iterator<Item = &'a str>) -> Option<&'a str> {
        let limit = 1 + word.len() / 4;
        let distances = known.map(|candidate| (distance(word, candidate), candidate));
        let near = distances.filter(|(distance, _)| *distance <= limit);
        near.min_by_key(|(distance, _)| *distance).map(|(_, candidate)| candidate)
    }
    of(word, &mut known.into_iter())
}

/// Suggests the nearest of `known` to a mistyped `word`, if one is near.
pub fn did_you_mean<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<String> {
    nearest(word, known).map(|near| format!("did you mean `{near}`?"))
}

/// The meaning of a serde error. Values are omitted, because they may be secrets.
enum SerdeError {
    Unknown { key: String, expected: Vec<String> },
    Missing { key: String },
    Other { message: String, remedy: String, choice: Option<String> },
}

impl SerdeError {
    fn read(message: &str) -> Self {
        let quoted = |text: &str| -> Vec<String> {
            text.split('`').skip(1).step_by(2).map(str::to_owned).collect()
        };
        if message.starts_with("unknown field") {
            let mut words = quoted(message);
            let key = if words.is_empty() { String::new() } else { words.remove(0) };
            return Self::Unknown { key, expected: words };
        }
        if message.starts_with("missing field") {
            return Self::Missing { key: quoted(message).concat() };
        }
        if message.starts_with("unknown variant") {
            let mut words = quoted(message);
            let given = if words.is_empty() { String::new() } else { words.remove(0) };
            let message = format!("`{given}` is not one of the choices");
            let remedy = did_you_mean(&given, words.iter().map(String::as_str))
                .unwrap_or_else(|| format!("write {}", words.join(", ")));
            return Self::Other { message, remedy, choice: words.into_iter().next() };
        }
        let kind =
            message.strip_prefix("invalid type: ").or(message.strip_prefix("invalid value: "));
        match kind.and_then(|rest| rest.rsplit_once(", expected ")) {
            Some((found, expected)) => {
                let is_negative = found.starts_with("integer `-");
                let found = found.split(['"', '`']).next().unwrap_or_default().trim();
                let named = if is_negative { "a negative number" } else { thing(found) };
                let message = format!("this is {named}");
                let remedy = match (found, expected) {
                    // `[{shop}]`
                    ("map", "a string") => "write text, in quotes if it has `{`".to_owned(),
                    _ => format!("write {}", wanted(expected)),
                };
                Self::Other { message, remedy, choice: None }
            }
            None => {
                Self::Other { message: message.to_owned(), remedy: String::new(), choice: None }
            }
        }
    }
}

/// Translates serde's name for a found value into YAML terms.
fn thing(found: &str) -> &str {
    match found {
        "string" => "text",
        "map" => "a map",
        "sequence" => "a list",
        "boolean" => "true or false",
        "integer" | "floating point" => "a number",
        "unit value" | "null" => "empty",
        other => other,
    }
}

fn wanted(expected: &str) -> String {
    match expected {
        "a string" => "text".into(),
        "a boolean" => "true or false".into(),
        "a sequence" => "a list".into(),
        "usize" | "u8" | "u16" | "u32" | "u64" => "a whole number".into(),
        "f64" => "a number".into(),
        // serde_yaml's name for a choice, which does not say the words.
        "a Value::Tagged enum" => "one word as text".into(),
        other if other.starts_with("struct ") || other == "a map" => "a map".into(),
        other => other.to_owned(),
    }
}

fn unknown_remedy(key: &str, expected: &[String]) -> String {
    let known = expected.iter().map(String::as_str);
    did_you_mean(key, known).unwrap_or_else(|| format!("known here: {}", expected.join(", ")))
}

#[derive(Debug)]
enum KeyStep {
    Key(String),
    Item(usize),
}

fn steps(path: &serde_path_to_error::Path) -> Vec<KeyStep> {
    path.iter()
        .filter_map(|segment| match segment {
            Segment::Seq { index } => Some(KeyStep::Item(*index)),
            Segment::Map { key } => Some(KeyStep::Key(key.clone())),
            Segment::Enum { .. } | Segment::Unknown => None,
        })
        .collect()
}

/// Removes the unknown key from the path if serde names it there as well as in the message.
fn without_last(mut steps: Vec<KeyStep>, key: &str) -> Vec<KeyStep> {
    if matches!(steps.last(), Some(KeyStep::Key(last)) if last == key) {
        steps.pop();
    }
    steps
}

fn joined(path: &str, steps: &[KeyStep]) -> String {
    steps.iter().fold(path.to_owned(), |at, step| match step {
        KeyStep::Key(key) => key_of(&at, key),
        KeyStep::Item(index) => super::document::item_of(&at, *index),
    })
}

/// The value at the end of the steps.
fn walk<'v>(value: &'v mut Value, steps: &[KeyStep]) -> Option<&'v mut Value> {
    steps.iter().try_fold(value, |value, step| match step {
        KeyStep::Key(key) => value.get_mut(key.as_str()),
        KeyStep::Item(index) => value.get_mut(*index),
    })
}

fn remove(value: &mut Value, steps: &[KeyStep], key: &str) -> bool {
    let map = walk(value, steps).and_then(Value::as_mapping_mut);
    map.is_some_and(|map| map.remove(key).is_some())
}

/// Removes the innermost key of the path and returns the path of what was removed.
fn take_out(value: &mut Value, path: &str, mut steps: Vec<KeyStep>) -> Option<String> {
    while let Some(step) = steps.pop() {
        if let KeyStep::Key(key) = step {
            let gone = key_of(&joined(path, &steps), &key);
            return remove(value, &steps, &key).then_some(gone);
        }
    }
    None
}

/// The Levenshtein distance.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let substituted = diagonal + usize::from(!x.eq_ignore_ascii_case(y));
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

/// Reads `null` as the absence of a value.
pub(super) fn or_default<'de, D, T>(from: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Option::deserialize(from).map(Option::unwrap_or_default)
}

/// Reads a time such as `90d`.
pub(super) fn time<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Duration>, D::Error> {
    let text = Option::<DurationText>::deserialize(from)?;
    let time = text.map(|DurationText(text)| parse_duration(&text)).transpose();
    time.map_err(D::Error::custom)
}

/// Reads `x` as `[x]`; keeps the position of errors inside a list.
pub(super) fn one_or_many<'de, D, T>(deserializer: D) -> Result<Vec<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    struct OneOrMany<T>(std::marker::PhantomData<T>);
    impl<'de, T: Deserialize<'de>> serde::de::Visitor<'de> for OneOrMany<T> {
        type Value = Vec<T>;
        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("one or a list of them")
        }
        fn visit_seq<A: serde::de::SeqAccess<'de>>(self, seq: A) -> Result<Vec<T>, A::Error> {
            Vec::deserialize(serde::de::value::SeqAccessDeserializer::new(seq))
        }
        fn visit_map<A: serde::de::MapAccess<'de>>(self, map: A) -> Result<Vec<T>, A::Error> {
            T::deserialize(serde::de::value::MapAccessDeserializer::new(map)).map(|one| vec![one])
        }
        fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Vec<T>, E> {
            T::deserialize(serde::de::value::StrDeserializer::new(text)).map(|one| vec![one])
        }
    }
    deserializer.deserialize_any(OneOrMany(std::marker::PhantomData))
}

#[cfg(test)]
mod tests {
    use super::super::document::Document;
    use super::*;

    #[derive(Debug, serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    #[allow(dead_code)]
    struct Outer {
        name: String,
        count: Option<u32>,
        kind: Option<AuthKindText>,
        #[serde(default)]
        inner: Vec<Inner>,
    }

    #[derive(Debug, serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    #[allow(dead_code)]
    struct Inner {
        size: u32,
    }

    #[derive(Debug, serde::Deserialize)]
    #[serde(rename_all = "lowercase")]
    enum AuthKindText {
        Big,
        Small,
    }

    fn report(text: &str) -> (bool, Vec<String>) {
        let document = Document::parse("f", text).unwrap();
        let mut problems = document.problems();
        let decoded: Option<Outer> = decode(document.root(), "", &mut problems);
        let lines = problems.into_vec().iter().map(ToString::to_string).collect();
        (decoded.is_some(), lines)
    }

    #[test]
    fn every_error_of_an_item_is_reported() {
        let text = "nam: a\ncount: no\nkind: huge\ninner: [{size: -1}, {sise: 2, size: x}]\n";
        assert_eq!(
            report(text),
            (
                false,
                vec![
                    "f: `name` is missing; add `name:`".into(),
                    "f:1: nam: unknown key `nam`; did you mean `name`?".into(),
                    "f:2: count: this is text; write a whole number".into(),
                    "f:3: kind: `huge` is not one of the choices; write big, small".into(),
                    "f:4: inner[0].size: this is a negative number; write a whole number".into(),
                    "f:4: inner[1].sise: unknown key `sise`; did you mean `size`?".into(),
                    "f:4: inner[1].size: this is text; write a whole number".into(),
                ]
            )
        );
    }

    #[test]
    fn an_unknown_key_alone_does_not_hide_the_item() {
        let (decoded, lines) = report("name: a\nzzz: 1\n");
        assert!(decoded);
        assert_eq!(lines, ["f:2: zzz: unknown key `zzz`; known here: name, count, kind, inner"]);
    }

    #[test]
    fn a_value_of_the_wrong_type_is_never_quoted() {
        let (_, lines) = report("name: a\ninner: sk-live-canary\n");
        assert_eq!(lines, ["f:2: inner: this is text; write a list"]);
        let (_, lines) = report("name: {sk-live-canary: 1}\n");
        assert_eq!(lines, ["f:1: name: this is a map; write text, in quotes if it has `{`"]);
    }

    #[test]
    fn a_choice_that_is_nearly_right_is_suggested_alone() {
        let (_, lines) = report("name: a\nkind: smal\n");
        assert_eq!(lines, ["f:2: kind: `smal` is not one of the choices; did you mean `small`?"]);
    }

    #[test]
    fn only_near_words_are_suggested() {
        assert_eq!(nearest("opnai", ["openai", "github"]), Some("openai"));
        assert_eq!(nearest("OPENAI", ["openai", "github"]), Some("openai"));
        assert_eq!(nearest("acme", ["openai", "github"]), None);
    }
}

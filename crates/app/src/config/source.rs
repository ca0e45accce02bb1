//! Parses secret sources in YAML: `{ env }`, `{ file }` or `{ command }`. Errors never quote their
//! content, not even a key, because it may be the secret.

use std::path::PathBuf;

use serde_yaml::{Mapping, Value};

use super::reading::ConfigReading;
use super::secret::SecretSource;
use keyward_base::secret::Secret;
use keyward_rules::provider::document::{item_of, key_of};
use keyward_state::crypto::source::KeySource;

const FORMS: &str = "write `{ env: NAME }`, `{ file: PATH }` or `{ command: [PROGRAM, ARGUMENT] }`";

/// A named source, whatever it is for.
enum SourceForm {
    Env(String),
    File(PathBuf),
    Command(Vec<String>),
}

/// Which folder relative files begin at.
#[derive(Clone, Copy)]
enum FileBase {
    Config,
    Data,
}

/// A secret of the configuration.
pub(super) fn secret(
    value: &Value,
    path: &str,
    reading: &mut ConfigReading<'_>,
) -> Option<SecretSource> {
    match value {
        Value::String(text) if reading.inline && text.is_empty() => {
            reading.problems.add(path, "the secret is empty", FORMS);
            None
        }
        Value::String(text) if reading.inline => {
            Some(SecretSource::Inline(Secret::from(text.clone())))
        }
        Value::Number(_) | Value::Bool(_) if reading.inline => {
            reading.problems.add(path, "this is not text", "put it in quotes");
            None
        }
        _ => Some(match source(value, path, FileBase::Config, reading)? {
            SourceForm::Env(name) => SecretSource::Env(name),
            SourceForm::File(file) => SecretSource::File(file),
            SourceForm::Command(words) => SecretSource::Command(words),
        }),
    }
}

/// A master key, or a list of them; `None` when none is configured or one is wrong.
pub(super) fn master_keys(
    value: Option<&Value>,
    reading: &mut ConfigReading<'_>,
) -> Option<Vec<KeySource>> {
    let path = "master_key";
    match value? {
        Value::Sequence(keys) if keys.is_empty() => {
            reading.problems.add(path, "the list is empty", "name one, or omit the key");
            None
        }
        Value::Sequence(keys) => {
            let keys: Vec<_> = keys
                .iter()
                .enumerate()
                .map(|(index, key)| master_key(key, &item_of(path, index), reading))
                .collect();
            keys.into_iter().collect()
        }
        one => Some(vec![master_key(one, path, reading)?]),
    }
}

fn master_key(value: &Value, path: &str, reading: &mut ConfigReading<'_>) -> Option<KeySource> {
    Some(match source(value, path, FileBase::Data, reading)? {
        SourceForm::Env(name) => KeySource::Env(name),
        SourceForm::File(file) => KeySource::File(file),
        SourceForm::Command(words) => KeySource::Command(words),
    })
}

fn source(
    value: &Value,
    path: &str,
    files: FileBase,
    reading: &mut ConfigReading<'_>,
) -> Option<SourceForm> {
    let message = match value {
        Value::Mapping(map) if map.len() == 1 => return one_source(map, path, files, reading),
        Value::Mapping(map) if map.is_empty() => "no source of the secret is named",
        Value::Mapping(_) => "this names more than one source of the secret",
        Value::Null => "the secret is missing",
        Value::Sequence(_) => "this is a list, not the source of a secret",
        _ => "a secret is written here as text",
    };
    reading.problems.add(path, message, FORMS);
    None
}

fn one_source(
    map: &Mapping,
    path: &str,
    files: FileBase,
    reading: &mut ConfigReading<'_>,
) -> Option<SourceForm> {
    let (key, value) = map.iter().next()?;
    let key = key.as_str().unwrap_or_default();
    let at = key_of(path, key);
    match key {
        "env" => Some(SourceForm::Env(variable(value, &at, reading)?)),
        "file" => match (value.as_str(), files) {
            (Some(text), FileBase::Config) => Some(SourceForm::File(reading.input(text, &at)?)),
            (Some(text), FileBase::Data) => Some(SourceForm::File(reading.state(text, &at)?)),
            (None, _) => {
                reading.problems.add(&at, "this is not a path", "write `{ file: PATH }`");
                None
            }
        },
        "command" => Some(SourceForm::Command(command(value, &at, reading)?)),
        _ => {
            reading.problems.add(path, "this is not the source of a secret", FORMS);
            None
        }
    }
}

fn variable(value: &Value, path: &str, reading: &mut ConfigReading<'_>) -> Option<String> {
    let name = value.as_str().filter(|name| is_variable(name));
    if name.is_none() {
        let remedy = "write letters, digits and `_`, as in `{ env: NAME }`";
        reading.problems.add(path, "this is not the name of an environment variable", remedy);
    }
    name.map(str::to_owned)
}

/// IEEE 1003.1 §8.1, either case.
fn is_variable(name: &str) -> bool {
    let is_word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    !name.is_empty() && name.bytes().all(is_word) && !name.as_bytes()[0].is_ascii_digit()
}

fn command(value: &Value, path: &str, reading: &mut ConfigReading<'_>) -> Option<Vec<String>> {
    let words: Option<Vec<String>> = value
        .as_sequence()
        .and_then(|words| words.iter().map(|word| word.as_str().map(str::to_owned)).collect());
    let Some(mut words) = words.filter(|words| words.first().is_some_and(|word| !word.is_empty()))
    else {
        let remedy = "write `{ command: [PROGRAM, ARGUMENT] }`, each in quotes where needed";
        reading.problems.add(path, "this is not a program with arguments", remedy);
        return None;
    };
    // As a shell does: a bare name is looked up in PATH, one with a slash is a file.
    if words[0].contains('/') {
        let program = reading.input(&words[0], path)?;
        words[0] = program.to_string_lossy().into_owned();
    }
    Some(words)
}

//! The reference of the configuration: every key, with shape, default, bound, meaning, and whether a change of it
//! needs a restart. Collected from the structs that the sections are read into; the page
//! `docs/reference/configuration.md` is made of it.

use std::time::Duration;

use serde::Serialize;
use serde_json::Value;

use super::least::{LIMITS, Least, OAUTH};
use super::parse::Sections;
use super::reload::RESTART_KEYS;
use keyward_base::keys::{Absent, Key, Section, Shape};
use keyward_base::limits::Limits;
use keyward_base::sign_in::SignInSettings;
use keyward_base::tokens::{RotationSettings, TokenSettings};
use keyward_base::webhooks::WebhookSettings;

/// A map of the configuration, or the items of a list of maps.
#[derive(Clone, Debug)]
pub struct ReferencePart {
    /// Where: empty for the whole file, `log`, or `listen.agents[]` for the items of a list.
    pub path: String,
    /// What it is for.
    pub meaning: String,
    /// Its keys, in order.
    pub entries: Vec<ReferenceKey>,
}

/// One key.
#[derive(Clone, Debug)]
pub struct ReferenceKey {
    /// Its path, such as `log.level`.
    pub path: String,
    /// Its last word.
    pub name: &'static str,
    /// Its accepted values.
    pub kind: ValueKind,
    /// Its default.
    pub default: Default,
    /// The least that is accepted, for a bound.
    pub least: Option<String>,
    /// What it is for, in Markdown.
    pub meaning: String,
    /// A change counts at the next start, not at a reload.
    pub at_start: bool,
}

/// The accepted values of a key.
#[derive(Clone, Copy, Debug)]
pub enum ValueKind {
    /// In words, in Markdown.
    Value(&'static str),
    /// One of these words.
    Choice(&'static [&'static str]),
    /// A map, which is a [`ReferencePart`] of its own.
    Map,
    /// A list of such.
    List,
}

/// The default of a key.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Default {
    /// The same as this YAML.
    Value(String),
    /// Nothing; the meaning says it.
    None,
    /// That is an error.
    Required,
}

/// Everything, in the order of the file.
pub fn parts() -> Vec<ReferencePart> {
    let mut found = Vec::new();
    collect("", "", &Sections::keys(), &mut found);
    fill_in_numbers(&mut found);
    found
}

fn collect(path: &str, meaning: &str, keys: &[Key], found: &mut Vec<ReferencePart>) {
    let entries = keys.iter().map(|key| entry(path, key)).collect();
    found.push(ReferencePart { path: path.to_owned(), meaning: meaning.to_owned(), entries });
    for key in keys {
        let at = joined(path, key.name);
        match key.shape {
            Shape::Map(inner) if !inner().is_empty() => {
                collect(&at, &key.meaning, &inner(), found);
            }
            Shape::List(inner) => collect(&format!("{at}[]"), &key.meaning, &inner(), found),
            Shape::Members(inner) => collect(&at, &key.meaning, inner, found),
            Shape::Map(_) | Shape::Value(..) | Shape::Choice(..) => {}
        }
    }
}

fn entry(path: &str, key: &Key) -> ReferenceKey {
    let (kind, absent) = match key.shape {
        Shape::Value(words, absent) => (ValueKind::Value(words), absent),
        Shape::Choice(words, absent) => (ValueKind::Choice(words), absent),
        Shape::Map(inner) if inner().is_empty() => (ValueKind::Value("`{}`"), Absent::Nothing),
        Shape::Map(_) | Shape::Members(_) => (ValueKind::Map, Absent::Nothing),
        Shape::List(_) => (ValueKind::List, Absent::Default("[]")),
    };
    let path = joined(path, key.name);
    let default = match absent {
        Absent::Default(yaml) => Default::Value(yaml.to_owned()),
        Absent::Nothing => Default::None,
        Absent::Required => Default::Required,
    };
    let at_start = RESTART_KEYS.iter().any(|it| is_within(&path, it.key));
    let (name, meaning) = (key.name, key.meaning.clone());
    ReferenceKey { path, name, kind, default, least: None, meaning, at_start }
}

/// Whether `path` is `key` or stands below it.
fn is_within(path: &str, key: &str) -> bool {
    path.strip_prefix(key).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
}

/// The defaults of bounds are those of the code, and so is the least that is accepted.
fn fill_in_numbers(parts: &mut [ReferencePart]) {
    fill_in(parts, "limits", &Limits::default(), Some(&LIMITS));
    fill_in(parts, "oauth", &TokenSettings::default(), Some(&OAUTH));
    fill_in(parts, "rotation", &RotationSettings::default(), None);
    fill_in(parts, "sign_in", &SignInSettings::default(), None);
    fill_in(parts, "events", &WebhookSettings::default(), None);
}

fn fill_in(
    parts: &mut [ReferencePart],
    path: &str,
    defaults: &impl Serialize,
    least: Option<&Least>,
) {
    let defaults = serde_json::to_value(defaults).unwrap_or_default();
    for entry in parts.iter_mut().filter(|part| part.path == path).flat_map(|p| &mut p.entries) {
        let Some(default) = defaults.get(entry.name) else { continue };
        entry.default = Default::Value(bound(default));
        let least = least.and_then(|least| least.of(entry.name, &defaults));
        entry.least = match default {
            Value::Number(_) => least.map(|least| least.to_string()),
            Value::String(_) => least.map(|_| "more than 0".to_owned()),
            _ => None,
        };
    }
}

/// A bound as people write it: `1500ms` stays, `30000ms` is `30s`.
fn bound(value: &Value) -> String {
    let text = value.as_str().and_then(|text| text.strip_suffix("ms"));
    let Some(ms) = text.and_then(|text| text.parse().ok()) else { return value.to_string() };
    let seconds = Duration::from_millis(ms).as_secs();
    match (ms % 1000, seconds) {
        (0, s) if s > 0 && s % 3600 == 0 => format!("{}h", s / 3600),
        (0, s) if s > 60 && s % 60 == 0 => format!("{}m", s / 60),
        (0, s) => format!("{s}s"),
        _ => format!("{ms}ms"),
    }
}

fn joined(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}

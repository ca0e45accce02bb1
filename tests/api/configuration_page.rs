//! The reference of the configuration: the page is made of the structs that the parser reads into,
//! and what it says of defaults, choices and required keys is tried on the parser.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;

use keyward_app::config::reference::{
    Default as Absent, ReferenceKey, ReferencePart, ValueKind, parts,
};
use keyward_app::config::{Config, VariableSource};

use crate::generated_page::GeneratedPage;

const PAGE: GeneratedPage = GeneratedPage {
    file: "configuration.md",
    text: include_str!("../../docs/reference/configuration.md"),
    marks: ["<!-- made from the code: begin -->\n", "<!-- end -->\n"],
};
const EXAMPLE: &str = include_str!("../../config.example.yaml");

/// Sound items of the lists and of maps with a required key, to which keys are added and from which
/// they are taken.
const ITEMS: [(&str, &str); 25] = [
    (
        "apps[]",
        r#"{"name": "hub", "provider": "github", "client_id": "x", "client_secret": {"env": "S"}, "private_key": {"env": "K"}, "certificate": {"env": "C"}}"#,
    ),
    ("listen.agents[]", r#"{"agent": "ci", "at": "unix:ci.sock"}"#),
    ("listen.databases[]", r#"{"agent": "ci", "at": "unix:db.sock"}"#),
    (
        "connections[]",
        r#"{"name": "gh", "provider": "github", "auth": "pat", "fields": {"token": {"env": "T"}}}"#,
    ),
    ("agents[]", r#"{"name": "ci"}"#),
    (
        "webhooks[]",
        r#"{"name": "ops", "url": "https://ops.example.com/k", "signing_key": {"env": "W"}}"#,
    ),
    ("hooks[]", r#"{"name": "ci", "scheme": "github", "secret": {"env": "W"}}"#),
    ("sources[]", r#"{"name": "kept", "env": {"names": ["T"]}}"#),
    ("sources[].env", r#"{"names": ["T"]}"#),
    ("sources[].file", r#"{"folder": "/run/secrets"}"#),
    ("sources[].command", r#"{"run": ["op", "read"]}"#),
    ("sources[].vault", r#"{"address": "https://vault.example.com", "role": "keyward"}"#),
    ("sources[].aws", r#"{"region": "eu-west-1"}"#),
    ("sources[].gcp", r#"{"project": "acme", "connection": "google"}"#),
    ("sources[].azure", r#"{"address": "https://acme.vault.azure.net", "tenant": "acme.example"}"#),
    ("sources[].onepassword", r#"{"address": "https://connect.example.com"}"#),
    ("sources[].infisical", r#"{"project": "p", "environment": "prod"}"#),
    ("honeytokens[]", r#"{"name": "readme"}"#),
    ("plugins[]", r#"{"manifest": "keyward-plugin.yaml", "agent": "ci"}"#),
    ("listen.hooks", r#"{"at": "127.0.0.1:8082"}"#),
    ("upstream.proxy", r#"{"url": "http://corp:3128"}"#),
    (
        "sign_in.oidc",
        r#"{"issuer": "https://login.example.com", "client_id": "x", "client_secret": {"env": "S"}, "groups": ["dev"], "default_role": "member"}"#,
    ),
    ("store.postgres", r#"{"url": {"env": "D"}}"#),
    ("telemetry.otlp", r#"{"endpoint": "https://collector.example.com:4318"}"#),
    ("rules[]", r#"{"hosts": ["api.example.com"], "action": "deny"}"#),
];

// === the page ===

fn tables() -> String {
    let mut text = String::new();
    for part in parts() {
        section(&part, &mut text);
    }
    text
}

fn section(part: &ReferencePart, text: &mut String) {
    let (all_at_start, none_at_start) = (
        part.entries.iter().all(|entry| entry.at_start),
        !part.entries.iter().any(|entry| entry.at_start),
    );
    let variable = variable(part.path.trim_end_matches("[]"));
    match (part.path.as_str(), part.path.ends_with("[]")) {
        ("", _) => text.push_str("## The whole file\n\n"),
        (path, true) => {
            let _ = write!(text, "## `{path}`\n\n{} Variable: `{variable}`, ", part.meaning);
            text.push_str("the whole list in flow style.");
        }
        // Only the whole list has a variable.
        (path, false) if path.contains("[]") => {
            let _ = write!(text, "## `{path}`\n\n{}", part.meaning);
        }
        (path, false) => {
            let _ = write!(text, "## `{path}`\n\n{} Variables: `{variable}__…`.", part.meaning);
        }
    }
    match (all_at_start, none_at_start) {
        _ if part.path.is_empty() => {}
        (true, _) => text.push_str(" Read at the start."),
        (_, true) => text.push_str(" Applied by a reload."),
        _ => text.push_str(" Applied by a reload, except the marked keys."),
    }
    let mixed = !all_at_start && !none_at_start;
    text.push_str("\n\n| key | value | default | meaning |\n|---|---|---|---|\n");
    for entry in &part.entries {
        row(entry, mixed, text);
    }
    text.push('\n');
}

fn row(entry: &ReferenceKey, mixed: bool, text: &mut String) {
    let ReferenceKey { name, path, .. } = entry;
    let mut value = match entry.kind {
        ValueKind::Value(words) => words.to_owned(),
        ValueKind::Choice(words) => {
            words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", ")
        }
        ValueKind::Map => format!("[map](#{})", path.replace(['.', '[', ']'], "")),
        ValueKind::List => format!("[list](#{})", path.replace(['.', '[', ']'], "")),
    };
    if let Some(least) = &entry.least {
        let least = least.parse::<u64>().map_or(least.clone(), |least| format!("{least} or more"));
        let _ = write!(value, ", {least}");
    }
    let default = match &entry.default {
        Absent::Value(yaml) => format!("`{yaml}`"),
        Absent::None => String::new(),
        Absent::Required => "**required**".to_owned(),
    };
    let mark = match mixed && entry.at_start {
        true => " *Read at the start.*",
        false => "",
    };
    let _ = writeln!(text, "| `{name}` | {value} | {default} | {}{mark} |", entry.meaning);
}

fn variable(path: &str) -> String {
    format!("KEYWARD__{}", path.to_ascii_uppercase().replace('.', "__"))
}

#[test]
fn the_page_has_every_key_and_nothing_else() {
    PAGE.check(&tables());
}

// === what it says, tried ===

fn parse(yaml: &str, variables: &[(String, String)]) -> Result<String, String> {
    let mut variables: BTreeMap<_, _> = variables.iter().cloned().collect();
    // A shared store requires that it is named.
    let key = || "{ file: master.key }".to_owned();
    variables.entry("KEYWARD__MASTER_KEY".to_owned()).or_insert_with(key);
    let mut config = Config::parse(yaml, Path::new("keyward.yaml"), &variables)
        .map_err(|problems| problems.iter().map(ToString::to_string).collect::<String>())?;
    // What tells the ways apart that lead to the same configuration.
    config.environment = VariableSource::default();
    config.default_master_key = true;
    Ok(format!("{config:?}"))
}

fn json(yaml: &str) -> serde_json::Value {
    serde_yaml::from_str(yaml).expect("the page shows YAML")
}

/// A file that holds `value` where `path` leads; on the way there are sound items.
fn document(path: &str, value: serde_json::Value) -> String {
    let mut document = value;
    let mut rest = path;
    while !rest.is_empty() {
        let (above, key) = rest.rsplit_once('.').unwrap_or(("", rest));
        document = match key.strip_suffix("[]") {
            Some(key) if rest == path => serde_json::json!({ key: [document] }),
            Some(key) => {
                let mut item = item(rest);
                // Exactly one kind: the one below.
                if rest == "sources[]" {
                    item.as_object_mut().expect("a map").remove("env");
                }
                let below = document.as_object_mut().expect("a map");
                item.as_object_mut().expect("a map").append(below);
                serde_json::json!({ key: [item] })
            }
            None => serde_json::json!({ key: document }),
        };
        rest = above;
    }
    document.to_string()
}

/// A sound item of a list.
fn item(of: &str) -> serde_json::Value {
    let item = ITEMS.iter().find(|(path, _)| *path == of);
    json(item.unwrap_or_else(|| panic!("add an item of {of} to ITEMS")).1)
}

/// What a sound part holds already.
fn sound(part: &ReferencePart) -> serde_json::Value {
    let required = part.entries.iter().any(|entry| entry.default == Absent::Required);
    match part.path.ends_with("[]") || required {
        true => item(&part.path),
        false => serde_json::json!({}),
    }
}

#[test]
fn a_configuration_without_a_required_key_is_refused() {
    let mut tried = 0;
    for part in parts() {
        let whole = sound(&part);
        if part.path.ends_with("[]") {
            parse(&document(&part.path, whole.clone()), &[]).expect("the item is sound");
        }
        for entry in part.entries.iter().filter(|entry| entry.default == Absent::Required) {
            let mut item = whole.clone();
            item.as_object_mut().expect("a map").remove(entry.name).expect("it is there");
            let refused = parse(&document(&part.path, item), &[]);
            assert!(refused.is_err_and(|said| said.contains("is missing")), "{}", entry.path);
            tried += 1;
        }
    }
    assert!(tried > 4, "{tried}");
}

#[test]
fn a_choice_accepts_each_documented_word_and_no_other() {
    for part in parts() {
        for entry in &part.entries {
            let ValueKind::Choice(words) = entry.kind else { continue };
            for word in words.iter().chain(&["zzz"]) {
                let mut item = sound(&part);
                item[entry.name] = json(word);
                let read = parse(&document(&part.path, item), &[]);
                assert_eq!(read.is_ok(), words.contains(word), "{}: {word}: {read:?}", entry.path);
            }
        }
    }
}

#[test]
fn a_documented_minimum_is_accepted_and_a_smaller_value_refused() {
    let mut tried = 0;
    for part in parts() {
        for entry in &part.entries {
            let words = match entry.kind {
                ValueKind::Value(words) => words.rsplit_once(", ").map(|(_, bound)| bound),
                ValueKind::Choice(_) | ValueKind::Map | ValueKind::List => None,
            };
            let said = words.and_then(|words| words.strip_suffix(" or more"));
            let Some(least) = entry.least.as_deref().or(said) else { continue };
            let (good, bad) = match least.parse::<u64>() {
                Ok(least) => (least.to_string(), (least - 1).to_string()),
                Err(_) => ("1ms".to_owned(), "0s".to_owned()),
            };
            let read = |value| parse(&document(&entry.path, json(value)), &[]);
            assert!(read(&good).is_ok(), "{}: {good}: {:?}", entry.path, read(&good));
            assert!(read(&bad).is_err(), "{}: {bad}", entry.path);
            tried += 1;
        }
    }
    assert!(tried > 15, "{tried}");
}

#[test]
fn a_documented_default_equals_the_value_of_an_absent_key() {
    for part in parts() {
        let without = sound(&part);
        let mut with = without.clone();
        for entry in &part.entries {
            if let (Absent::Value(yaml), None) = (&entry.default, without.get(entry.name)) {
                with[entry.name] = json(yaml);
            }
        }
        if with == without {
            continue;
        }
        let read = |value| parse(&document(&part.path, value), &[]).expect("defaults are sound");
        assert_eq!(read(with), read(without), "{}", part.path);
    }
}

#[test]
fn a_documented_environment_variable_sets_its_key() {
    for part in parts().iter().filter(|part| !part.path.contains("[]")) {
        let defaults = part.entries.iter().filter_map(|entry| match &entry.default {
            Absent::Value(yaml) => Some((variable(&entry.path), yaml.clone())),
            Absent::None | Absent::Required => None,
        });
        let whole = sound(part);
        let required = whole.as_object().expect("a map").iter();
        let required: Vec<_> = required
            .map(|(name, value)| {
                let plain = value.as_str().map_or_else(|| value.to_string(), ToOwned::to_owned);
                (variable(&format!("{}.{name}", part.path)), plain)
            })
            .collect();
        let without = parse("", &required);
        assert!(without.is_ok(), "{}: {without:?}", part.path);
        let with = parse("", &required.into_iter().chain(defaults).collect::<Vec<_>>());
        assert_eq!(with, without, "{}", part.path);
        for entry in part.entries.iter().filter(|entry| !matches!(entry.kind, ValueKind::Map)) {
            let wrong = [(variable(&entry.path), "{ zzz: [] }".to_owned())];
            let refused = parse("", &wrong).expect_err(&entry.path);
            assert!(refused.contains(&wrong[0].0), "{}: {refused}", entry.path);
        }
    }
}

#[test]
fn the_example_shows_every_key() {
    for part in parts() {
        for entry in &part.entries {
            let shown = format!("{}:", entry.name);
            let is_word =
                |at: usize| !EXAMPLE[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_');
            let is_shown = EXAMPLE.match_indices(&shown).any(|(at, _)| is_word(at));
            assert!(is_shown, "{} is not in config.example.yaml", entry.path);
        }
    }
}

#[test]
fn keys_read_at_the_start_are_marked_and_reloadable_keys_are_not() {
    let at_start: Vec<_> = parts().into_iter().flat_map(|part| part.entries).collect();
    let named = |path: &str| at_start.iter().any(|entry| entry.path == path && entry.at_start);
    for path in ["listen", "store", "ca", "limits.head_bytes_max", "log.format"] {
        assert!(named(path), "{path}");
    }
    for path in ["rules", "log.level", "upstream.trust", "default", "agents", "master_key"] {
        assert!(!named(path), "{path}");
    }
}

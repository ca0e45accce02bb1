//! Reads a plugin's manifest, from `keyward-plugin.yaml` or from the configuration, with lines for
//! errors. [`Manifest::faults`] checks it.

use std::path::{Path, PathBuf};
use std::{fs, io};

use serde::Deserialize;
use serde_yaml::Value;

use keyward_rules::provider::decode::decode;
use keyward_rules::provider::document::{Document, Problem, Problems, item_of, key_of};
use keyward_state::directory::{Manifest, Slot};

/// No manifest is as long as this: 256 KiB.
const MANIFEST_BYTES_MAX: u64 = 256 * 1024;

/// Why there is no manifest.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// The file cannot be read.
    #[error("{}: {source}", path.display())]
    Unreadable { path: PathBuf, source: io::Error },
    /// Longer than 256 KiB.
    #[error("{} is longer than 256 KiB", .0.display())]
    TooLong(PathBuf),
    /// Problems in the file, one per line: `file:line: path: message; remedy`.
    #[error("{}", super::error::lines(.0))]
    Problems(Vec<Problem>),
}

/// Reads the file of a manifest. `providers` are the ids of the known ones.
///
/// # Errors
/// Everything that is wrong with it, at once.
pub fn manifest_file(path: &Path, providers: &[&str]) -> Result<Manifest, ManifestError> {
    let unreadable = |source| ManifestError::Unreadable { path: path.to_owned(), source };
    if fs::metadata(path).map_err(unreadable)?.len() > MANIFEST_BYTES_MAX {
        return Err(ManifestError::TooLong(path.to_owned()));
    }
    let text = fs::read_to_string(path).map_err(unreadable)?;
    manifest(&path.display().to_string(), &text, providers).map_err(ManifestError::Problems)
}

/// The slots are read one by one, so that a mistake in one hides none of another's.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ManifestHead {
    plugin: String,
    version: String,
    summary: Option<String>,
    #[serde(rename = "connections")]
    _connections: Vec<Value>,
}

/// Reads a manifest. `name` is how messages call the file; `providers` are the ids of those that there
/// are.
///
/// # Errors
/// Everything that is wrong, each with file, line, path and remedy.
pub fn manifest(name: &str, text: &str, providers: &[&str]) -> Result<Manifest, Vec<Problem>> {
    let document = Document::parse(name, text)?;
    let mut problems = document.problems();
    if document.root().is_null() {
        problems.add("", "there is no manifest", "write `plugin:`, `version:` and `connections:`");
        return Err(problems.into_vec());
    }
    let manifest = read(document.root(), "", providers, &mut problems);
    match problems.count() {
        0 => Ok(manifest),
        _ => Err(problems.into_vec()),
    }
}

/// Reads the manifest that stands at a path of a document. What it answers counts only where no problem
/// was added.
pub(super) fn read(
    value: &Value,
    at: &str,
    providers: &[&str],
    problems: &mut Problems<'_>,
) -> Manifest {
    let head = decode::<ManifestHead>(value, at, problems);
    let items = value.get("connections").and_then(Value::as_sequence);
    let items = items.map_or(&[][..], Vec::as_slice);
    let list = key_of(at, "connections");
    let (places, slots) = slots(items, &list, problems);
    // An unreadable head is reported already, so a valid placeholder takes its place.
    let (plugin, version, summary) = match head {
        Some(head) => (head.plugin, head.version, head.summary),
        None => ("unknown".to_owned(), "1".to_owned(), None),
    };
    let manifest = Manifest { plugin, version, summary, connections: slots };
    for fault in manifest.faults(providers) {
        if fault.path == "connections" && places.len() != items.len() {
            continue;
        }
        let path = key_of(at, &placed(&fault.path, &places));
        problems.add(&path, fault.message, fault.remedy);
    }
    manifest
}

/// The slots that can be read, with the position of each in the list.
fn slots(items: &[Value], list: &str, problems: &mut Problems<'_>) -> (Vec<usize>, Vec<Slot>) {
    let each = items.iter().enumerate().filter_map(|(place, item)| {
        Some((place, decode::<Slot>(item, &item_of(list, place), problems)?))
    });
    each.unzip()
}

/// The path of a fault in the manifest.
fn placed(path: &str, places: &[usize]) -> String {
    let index = path.strip_prefix("connections[").and_then(|rest| rest.split_once(']'));
    let found = index.and_then(|(index, rest)| {
        let place = places.get(index.parse::<usize>().ok()?)?;
        Some(format!("{}{rest}", item_of("connections", *place)))
    });
    found.unwrap_or_else(|| path.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(text: &str) -> String {
        let found = manifest("keyward-plugin.yaml", text, &["hubspot", "gmail"]).unwrap_err();
        found.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn all_malformed_entries_of_a_manifest_are_reported_with_their_lines() {
        insta::assert_snapshot!(problems(
            "plugin: crm digest\nversion: one\nsumary: x\nconnections:\n  \
             - { slot: crm, provider: hubspt, required: maybe }\n  \
             - { slot: mail, provider: gmail, methods: [] }\n  \
             - { provider: gmail, paths: [x] }\n"
        ));
        for none in ["", "[]", "text", "connections: {}", "connections: []"] {
            assert!(!problems(none).is_empty(), "{none}");
        }
    }

    #[test]
    fn unknown_providers_invalid_methods_and_duplicate_slots_are_reported_by_line() {
        insta::assert_snapshot!(problems(
            "plugin: crm digest\nversion: one\nconnections:\n  \
             - { slot: crm, provider: hubspt }\n  \
             - { slot: crm, provider: gmail, methods: [TRACE, DELTE] }\n"
        ));
    }

    #[test]
    fn the_fields_of_a_valid_manifest_are_read() {
        let text = "plugin: crm-digest\nversion: 1.2.0\nsummary: Mails a digest.\nconnections:\n  \
                    - { slot: crm, provider: hubspot, label: CRM, required: true, methods: [GET] }\n  \
                    - { slot: mail, provider: gmail, required: false }\n";
        let read = manifest("f", text, &["hubspot", "gmail"]).unwrap();
        assert_eq!((read.plugin.as_str(), read.connections.len()), ("crm-digest", 2));
        assert!(read.connections[0].required && !read.connections[1].required);
        assert_eq!(read.connections[0].methods, ["GET"]);
    }
}

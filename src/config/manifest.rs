//! `keyward-plugin.yaml`, which stands in a plugin's own repository: read with lines, judged by
//! `directory/`.

use crate::directory::Manifest;
use crate::provider::decode::decode;
use crate::provider::document::{Document, Problem};

/// No manifest is as long as this: 256 KiB.
pub const MANIFEST_BYTES_MAX: u64 = 256 * 1024;

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
    let manifest = decode::<Manifest>(document.root(), "", &mut problems);
    for fault in manifest.iter().flat_map(|manifest| manifest.faults(providers)) {
        problems.add(&fault.path, fault.message, fault.remedy);
    }
    match manifest {
        Some(manifest) if problems.count() == 0 => Ok(manifest),
        _ => Err(problems.into_vec()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(text: &str) -> String {
        let found = manifest("keyward-plugin.yaml", text, &["hubspot", "gmail"]).unwrap_err();
        found.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn every_mistake_is_told_at_once_with_its_line() {
        insta::assert_snapshot!(problems(
            "plugin: crm digest\nversion: one\nsumary: x\nconnections:\n  \
             - { slot: crm, provider: hubspt, required: maybe }\n  \
             - { slot: mail, provider: gmail, methods: [] }\n  \
             - { provider: gmail, paths: [x] }\n"
        ));
        for none in ["", "[]", "text", "connections: {}"] {
            assert!(!problems(none).is_empty(), "{none}");
        }
    }

    #[test]
    fn what_does_not_fit_is_told_with_its_line() {
        insta::assert_snapshot!(problems(
            "plugin: crm digest\nversion: one\nconnections:\n  \
             - { slot: crm, provider: hubspt }\n  \
             - { slot: crm, provider: gmail, methods: [TRACE] }\n"
        ));
    }

    #[test]
    fn a_manifest_is_read() {
        let text = "plugin: crm-digest\nversion: 1.2.0\nsummary: Mails a digest.\nconnections:\n  \
                    - { slot: crm, provider: hubspot, label: CRM, required: true, methods: [GET] }\n  \
                    - { slot: mail, provider: gmail, required: false }\n";
        let read = manifest("f", text, &["hubspot", "gmail"]).unwrap();
        assert_eq!((read.plugin.as_str(), read.connections.len()), ("crm-digest", 2));
        assert!(read.connections[0].required && !read.connections[1].required);
        assert_eq!(read.connections[0].methods, ["GET"]);
    }
}

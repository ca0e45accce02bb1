//! Every configuration that is shown is one that can be used.

use std::collections::BTreeMap;
use std::path::Path;

use keyward_app::config::{Config, manifest, rule_cases};
use keyward_rules::provider::Catalogue;

use super::pages;

/// First keys of other programs' files.
const FOREIGN: [&str; 4] = ["on:", "jobs:", "services:", "apiVersion:"];

/// What the parser says against it.
pub(super) fn problems(yaml: &str) -> String {
    match Config::parse(yaml, Path::new("keyward.yaml"), &BTreeMap::new()) {
        Ok(_) => String::new(),
        Err(problems) => problems.iter().map(|problem| format!("{problem}\n")).collect(),
    }
}

/// The same for cases of `rule test`, which are a list.
fn problems_of_cases(yaml: &str) -> String {
    let found = rule_cases("cases.yaml", yaml).err().unwrap_or_default();
    found.iter().map(|problem| format!("{problem}\n")).collect()
}

/// The same for the manifest of a plugin.
fn problems_of_manifest(yaml: &str) -> String {
    let catalogue = Catalogue::built_in();
    let providers: Vec<&str> = catalogue.all().map(|provider| &*provider.id).collect();
    let found = manifest("keyward-plugin.yaml", yaml, &providers).err().unwrap_or_default();
    found.iter().map(|problem| format!("{problem}\n")).collect()
}

#[test]
fn every_configuration_in_the_documents_is_valid() {
    let mut checked = 0;
    for page in pages() {
        for block in page.blocks().iter().filter(|block| block.language == "yaml") {
            let first = block.text.lines().find(|line| !line.starts_with('#')).unwrap_or_default();
            let problems = match first {
                // A provider's own file; `providers_page.rs` checks those.
                id if id.starts_with("id:") => continue,
                other if FOREIGN.iter().any(|key| other.starts_with(key)) => continue,
                plugin if plugin.starts_with("plugin:") => problems_of_manifest(block.text),
                item if item.starts_with("- ") => problems_of_cases(block.text),
                _ => problems(block.text),
            };
            assert!(problems.is_empty(), "{}:{}:\n{problems}", page.path, block.line);
            checked += 1;
        }
    }
    assert!(checked > 3, "{checked}");
}

//! Every configuration that is shown is one that can be used.

use std::collections::BTreeMap;
use std::path::Path;

use keyward::config::Config;

use super::pages;

/// What the parser says against it.
pub(super) fn problems(yaml: &str) -> String {
    match Config::parse(yaml, Path::new("keyward.yaml"), &BTreeMap::new()) {
        Ok(_) => String::new(),
        Err(problems) => problems.iter().map(|problem| format!("{problem}\n")).collect(),
    }
}

#[test]
fn every_configuration_shown_is_read() {
    let mut checked = 0;
    for page in pages() {
        for block in page.blocks().iter().filter(|block| block.language == "yaml") {
            // A provider's own file; `providers_page.rs` checks those.
            if block.text.starts_with("id:") {
                continue;
            }
            let problems = problems(block.text);
            assert!(problems.is_empty(), "{}:{}:\n{problems}", page.path, block.line);
            checked += 1;
        }
    }
    assert!(checked > 3, "{checked}");
}

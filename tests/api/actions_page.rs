//! The page about named actions: its tables are made from the catalogue.

use std::fmt::Write;

use keyward_rules::provider::Catalogue;

use crate::generated_page::GeneratedPage;

const PAGE: GeneratedPage = GeneratedPage {
    file: "actions.md",
    text: include_str!("../../docs/reference/actions.md"),
    marks: ["<!-- made from the catalogue: begin -->\n", "<!-- end -->\n"],
};

fn tables() -> String {
    let mut text = String::new();
    for provider in Catalogue::built_in().all().filter(|it| !it.actions().is_empty()) {
        let (name, id) = (&provider.name, &provider.id);
        let _ = write!(text, "## {name}: `{id}`\n\n| action | allows |\n|---|---|\n");
        for action in provider.actions() {
            let _ = writeln!(text, "| `{}` | {} |", action.name, action.label);
        }
        text.push('\n');
    }
    text
}

#[test]
fn the_page_lists_every_action_of_every_provider() {
    PAGE.check(&tables());
}

//! The page about sets of hosts: its tables are made from the sets.

use std::fmt::Write;

use keyward_rules::host_sets::{Allowance, HostSets};

use crate::generated_page::GeneratedPage;

const PAGE: GeneratedPage = GeneratedPage {
    file: "host-sets.md",
    text: include_str!("../../docs/reference/host-sets.md"),
    marks: ["<!-- made from the sets: begin -->\n", "<!-- end -->\n"],
};

fn tables() -> String {
    let mut text = String::new();
    for set in HostSets::built_in().all() {
        let _ = write!(text, "## {}: `{}`\n\n{}\n", set.title, set.id, set.description);
        if !set.includes.is_empty() {
            let _ = writeln!(text, "It includes {}.", code(&set.includes, ", "));
        }
        if !set.sources.is_empty() {
            let sources = set.sources.iter().enumerate();
            let sources: Vec<_> =
                sources.map(|(place, url)| format!("[{}]({url})", place + 1)).collect();
            let _ = writeln!(text, "Sources: {}.", sources.join(", "));
        }
        if !set.allow.is_empty() {
            text.push_str("\n| hosts | methods | paths | why |\n|---|---|---|---|\n");
        }
        for Allowance { hosts, methods, paths, query, because } in &set.allow {
            let paths = match (&paths[..], query) {
                ([], Some(query)) => format!("all, with `?{query}`"),
                ([], None) => "all".to_owned(),
                _ => code(paths, "<br>"),
            };
            let because = because.as_deref().unwrap_or_default();
            let (hosts, methods) = (code(hosts, "<br>"), code(methods, " "));
            let _ = writeln!(text, "| {hosts} | {methods} | {paths} | {because} |");
        }
        text.push('\n');
    }
    text
}

fn code(all: &[impl ToString], between: &str) -> String {
    all.iter().map(|it| format!("`{}`", it.to_string())).collect::<Vec<_>>().join(between)
}

#[test]
fn the_host_sets_page_has_every_set_and_nothing_else() {
    PAGE.check(&tables());
}

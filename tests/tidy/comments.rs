//! Comments cite only documents that are in this repository.

use super::Source;

/// Citations of sections of documents that are elsewhere.
pub(super) fn cites_what_is_here(source: &Source) -> Vec<String> {
    let documents = ["SECURITY ", "DESIGN ", "INTERFACE "];
    let cited = documents.iter().flat_map(|name| {
        let comments = source.text.match_indices(name).filter(|(at, _)| {
            let rest = &source.text[at + name.len()..];
            rest.starts_with('§') || rest.starts_with(|c: char| c.is_ascii_uppercase())
        });
        comments.map(|(at, name)| format!("{}:{}: which {name}?", source.path, source.line_of(at)))
    });
    cited.collect()
}

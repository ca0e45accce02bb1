//! `CONTRIBUTING.md` names only paths that exist and types that the sources declare.

use std::collections::BTreeSet;

use super::{Source, assert_none, package, quoted, sources};

/// The path that a word names; the folder of a pattern such as `RESOURCE.rs` or `in_*.rs`.
fn path(word: &str) -> Option<&str> {
    let is_file = [".rs", ".md", ".toml", ".yaml", ".json"].iter().any(|end| word.ends_with(end));
    let is_path = word.starts_with(|c: char| c.is_ascii_alphanumeric())
        && word.chars().all(|c| c.is_ascii_alphanumeric() || "._-/*".contains(c));
    let (folder, name) = word.rsplit_once('/').unwrap_or(("", word));
    let is_pattern = ["*", "RESOURCE.", "KIND.", "ID."].iter().any(|mark| name.contains(mark));
    let path = if is_pattern { folder } else { word };
    (is_path && (is_file || word.contains('/'))).then_some(path)
}

/// The type that a text in backticks names: `Table`, `Reason::text`, `DeclaredItem<RESOURCE>`.
fn type_name(text: &str) -> Option<&str> {
    let name = text.split([':', '<']).next()?;
    let is_type = name.starts_with(|c: char| c.is_ascii_uppercase())
        && name.contains(|c: char| c.is_ascii_lowercase());
    (is_type && name.chars().all(|c| c.is_ascii_alphanumeric())).then_some(name)
}

/// The paths and types in a page that do not exist.
fn missing(page: &str, sources: &[Source]) -> Vec<String> {
    let is_kind = |word: &str| matches!(word, "struct" | "enum" | "trait" | "type");
    let mut declared: BTreeSet<&str> = BTreeSet::new();
    for source in sources {
        let mut words = source.code.split_whitespace();
        while words.any(is_kind) {
            let name = words.next().unwrap_or_default();
            declared.insert(name.split(|c: char| !c.is_alphanumeric()).next().unwrap_or_default());
        }
    }
    let paths = quoted(page).into_iter().flat_map(str::split_whitespace).filter_map(path);
    let paths = paths.filter(|it| !package().join(it).exists());
    let types = quoted(page).into_iter().filter_map(type_name).filter(|it| !declared.contains(it));
    paths.chain(types).map(|name| format!("CONTRIBUTING.md: `{name}` is not there")).collect()
}

#[test]
fn contributing_names_only_existing_paths_and_declared_types() {
    let sources = ["src", "crates", "tests"].into_iter().flat_map(|it| sources(it, &[".rs"]));
    let page = std::fs::read_to_string(package().join("CONTRIBUTING.md")).expect("a page");
    assert_none(missing(&page, &sources.collect::<Vec<_>>()));
}

#[test]
fn a_path_or_a_type_that_does_not_exist_is_found() {
    let sources = [Source::new("src/a.rs", "pub struct Given<T>(T);\n// enum Other\n")];
    let count = |text: &str| missing(&format!("b/c `{text}` Other"), &sources).len();
    for wrong in ["x no/one src/ID.rs", "NO.md", "no/ID.yaml", "Other::a"] {
        assert_eq!(count(wrong), 1, "{wrong}");
    }
    for right in ["src/lib.rs", "tests/real/in_*.rs", "Given<X>", "//!", "URL"] {
        assert_eq!(count(right), 0, "{right}");
    }
}

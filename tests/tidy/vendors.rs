//! No shipped code has the name of a vendor or a product: it is data, or the mechanism is general. The names are the words of
//! the ids of built-in providers. Texts for people, which have spaces, and comments may name them.

use std::collections::BTreeSet;

use super::rust::{blank, blank_comments_and_texts, test_items};
use super::tables::{COMMON_WORDS, CRATES_OF_VENDORS, MAY_NAME_VENDORS};
use super::{Source, assert_none, package, sources};

/// Shorter words are parts of others.
const LETTERS_MIN: usize = 3;

/// From this length on, a word is also found at the beginning of another one: `googleapis`.
const BEGINNING_LETTERS_MIN: usize = 6;

/// The words of the ids of providers that are not [`COMMON_WORDS`].
fn vendors(ids: &[String]) -> BTreeSet<String> {
    let words = ids.iter().flat_map(|id| id.split('-')).filter(|word| word.len() >= LETTERS_MIN);
    let is_common = |word: &str| COMMON_WORDS.split(' ').any(|common| common == word);
    words.filter(|word| !is_common(word)).map(str::to_owned).collect()
}

fn ids() -> Vec<String> {
    let folder = package().join("crates/rules/src/provider/catalogue");
    let files = std::fs::read_dir(folder).expect("the catalogue can be read");
    let name = |file: std::fs::DirEntry| file.file_name().to_string_lossy().into_owned();
    let names = files.map(|file| name(file.expect("an entry")));
    names.filter_map(|name| name.strip_suffix(".yaml").map(str::to_owned)).collect()
}

/// The words of names in code, in lower case, with their offsets: `AwsSigv4` and `aws_sigv4` are `aws`, `sigv4`.
fn words(code: &str) -> Vec<(usize, String)> {
    let bytes = code.as_bytes();
    let is_upper = |at: usize| bytes.get(at).is_some_and(u8::is_ascii_uppercase);
    let is_other =
        |at: usize| bytes.get(at).is_some_and(|b| b.is_ascii_alphanumeric()) && !is_upper(at);
    let mut found: Vec<(usize, String)> = vec![];
    for (at, byte) in bytes.iter().enumerate().filter(|(_, byte)| byte.is_ascii_alphanumeric()) {
        let follows = at > 0 && bytes[at - 1].is_ascii_alphanumeric();
        let begins = is_upper(at) && (is_other(at.wrapping_sub(1)) || is_other(at + 1));
        match found.last_mut().filter(|_| follows && !begins) {
            Some((_, word)) => word.push(char::from(byte.to_ascii_lowercase())),
            None => found.push((at, char::from(byte.to_ascii_lowercase()).to_string())),
        }
    }
    found
}

/// The names of vendors in the shipped code of a source, with their offsets.
fn named(source: &Source, vendors: &BTreeSet<String>) -> Vec<(usize, String)> {
    if source.shipped.trim().is_empty() {
        return vec![];
    }
    let mut code = blank_comments_and_texts(&source.text);
    for item in test_items(&source.code) {
        let blanks = blank(&code[item.clone()]);
        code.replace_range(item, &blanks);
    }
    for name in CRATES_OF_VENDORS {
        code = code.replace(name, &blank(name));
    }
    let vendor = |word: &str| {
        let is_it = |vendor: &&String| {
            word == vendor.as_str()
                || vendor.len() >= BEGINNING_LETTERS_MIN && word.starts_with(vendor.as_str())
        };
        vendors.iter().find(is_it).cloned()
    };
    words(&code).into_iter().filter_map(|(at, word)| Some((at, vendor(&word)?))).collect()
}

fn may_name(source: &Source, vendor: &str) -> bool {
    MAY_NAME_VENDORS.iter().any(|(place, words, _)| {
        source.within(&[*place]) && words.split(' ').any(|word| word == vendor)
    })
}

fn names_no_vendor(source: &Source, vendors: &BTreeSet<String>) -> Vec<String> {
    let found = named(source, vendors).into_iter();
    let found = found.filter(|(_, vendor)| !may_name(source, vendor));
    let shown = |(at, vendor): (usize, String)| {
        let line = source.line_of(at);
        format!(
            "{}:{line}: `{vendor}` is the name of a vendor or a product: it is data",
            source.path
        )
    };
    found.map(shown).collect()
}

fn shipped() -> Vec<Source> {
    ["src", "crates"].into_iter().flat_map(|folder| sources(folder, &[".rs"])).collect()
}

#[test]
fn shipped_code_names_no_vendor() {
    let vendors = vendors(&ids());
    assert_none(shipped().iter().flat_map(|source| names_no_vendor(source, &vendors)).collect());
}

#[test]
fn each_exception_is_needed() {
    let (ids, sources) = (ids(), shipped());
    let vendors = vendors(&ids);
    let mut found = vec![];
    for (place, words, reason) in MAY_NAME_VENDORS {
        let inside = sources.iter().filter(|source| source.within(&[*place]));
        let inside: BTreeSet<String> =
            inside.flat_map(|source| named(source, &vendors)).map(|(_, vendor)| vendor).collect();
        let unused = words.split(' ').filter(|word| !inside.contains(*word));
        found
            .extend(unused.map(|word| format!("{place}: `{word}` is permitted there, and absent")));
        assert!(!reason.is_empty(), "{place}");
    }
    let is_unknown = |word: &&str| !ids.iter().any(|id| id.split('-').any(|part| part == *word));
    let unknown = COMMON_WORDS.split(' ').filter(is_unknown);
    found.extend(unknown.map(|word| format!("`{word}` is a word of no id")));
    assert_none(found);
}

#[test]
fn a_vendor_is_found_in_names_and_words_of_data_and_not_in_texts_comments_and_tests() {
    let vendors = vendors(&["acme".to_owned(), "globex-search".to_owned()]);
    let finds = |text: &str| !names_no_vendor(&Source::new("src/a.rs", text), &vendors).is_empty();
    for text in [
        "struct AcmeKey;",
        "const ACME: u8 = 1;",
        "fn of_acme() {}",
        "use crate::acme::Key;",
        "const HOST: &str = \"api.acme.test\";",
        "const FIELD: &str = r#\"x-acme-date\"#;",
        "const HOST: &str = \"globexapis.test\";",
        "#[cfg(test)]\nmod tests {}\nfn acme() {}",
    ] {
        assert!(finds(text), "{text}");
    }
    for text in [
        "// acme\nfn f() {}",
        "/// Of Acme.\nfn f() {}",
        "const HINT: &str = \"give the key of acme\";",
        "struct Acmeist;",
        "fn search() {}",
        "#[cfg(test)]\nmod tests { const HOST: &str = \"acme.test\"; }",
    ] {
        assert!(!finds(text), "{text}");
    }
    let of_aws = super::tables::CRATES_OF_VENDORS[0];
    let vendors = BTreeSet::from(["aws".to_owned()]);
    let source = Source::new("src/a.rs", &format!("use {of_aws}::hmac;"));
    assert!(names_no_vendor(&source, &vendors).is_empty(), "the name of a crate");
}

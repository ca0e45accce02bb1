//! Words for scopes: descriptions of what each scope allows, for people who choose or see scopes.

use std::collections::BTreeMap;

use super::document::{Problems, key_of};

/// What scopes allow, by their names.
pub type ScopeWords = BTreeMap<String, String>;

/// The longest words.
const CHARS_MAX: usize = 120;

/// A scope as people read it: `repo (all of your repositories)`. Without words, its name alone.
fn worded(scope: &str, words: &ScopeWords) -> String {
    match words.get(scope) {
        Some(words) => format!("{scope} ({words})"),
        None => scope.to_owned(),
    }
}

/// The same for several.
pub fn worded_scopes(scopes: &[String], words: &ScopeWords) -> String {
    scopes.iter().map(|scope| worded(scope, words)).collect::<Vec<_>>().join(", ")
}

/// Checks the words of a provider file.
pub(super) fn check(words: &ScopeWords, path: &str, problems: &mut Problems<'_>) {
    for (scope, words) in words {
        let at = key_of(path, scope);
        if scope.is_empty() || scope.contains(|c: char| c.is_whitespace() || c.is_control()) {
            problems.add(&at, "this is not a scope", "write its name as the service does");
        }
        let is_line = !words.trim().is_empty() && !words.contains(char::is_control);
        if !is_line || words.chars().count() > CHARS_MAX {
            let remedy = format_args!("write one line of 1 to {CHARS_MAX} characters");
            problems.add(&at, "this does not describe a scope", remedy);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Catalogue, Provider, check};
    use super::*;

    fn read(words: &str) -> Result<Provider, Vec<String>> {
        let text = format!(
            "id: a\nname: A\nhosts: [a.test]\nauth: [{{ id: k, kind: bearer }}]\nscope_words:\n{words}"
        );
        let found = check::file("p.yaml", &text, &Catalogue::default());
        found
            .map(|mut all| all.remove(0))
            .map_err(|problems| problems.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn scope_words_are_one_short_line_and_scope_names_have_no_blanks() {
        let long = format!("  read: {}\n", "w".repeat(121));
        for (words, told) in [
            ("  read: ''\n", "p.yaml:6: scope_words.read: this does not describe a scope"),
            ("  read: \"a\\nb\"\n", "p.yaml:6: scope_words.read: this does not describe a scope"),
            (&*long, "p.yaml:6: scope_words.read: this does not describe a scope"),
            ("  'read all': all\n", "p.yaml:6: scope_words.read all: this is not a scope"),
            ("  read: [a]\n", "p.yaml:6: scope_words.read: this is a list; write text"),
        ] {
            let problems = read(words).map(|_| ()).unwrap_err();
            assert!(problems[0].starts_with(told) && problems.len() == 1, "{problems:?}");
        }
    }

    #[test]
    fn a_scope_is_shown_by_name_followed_by_its_words_if_it_has_any() {
        let provider =
            read("  read: see your bills\n  \"https://a.test/x.y\": all of it\n").unwrap();
        let asked = ["read".to_owned(), "write".to_owned(), "https://a.test/x.y".to_owned()];
        let words = provider.words_for(&asked);
        let shown = worded_scopes(&asked, &words);
        assert_eq!(shown, "read (see your bills), write, https://a.test/x.y (all of it)");
        assert_eq!(words.len(), 2);
    }
}

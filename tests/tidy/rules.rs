//! Checks `docs/internals/oauth-rules.md`: a test names every rule, and the page lists the tests that name it. A test names a
//! rule in its doc comment or in the label of a table's row: `oauth 8.1`, `oauth 2.5, 2.6`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use super::{Source, assert_none, package, sources};

const PAGE: &str = "docs/internals/oauth-rules.md";

/// What a mark begins with. In lower case, so that prose about the protocol is none.
const MARK: &str = "oauth ";

/// A row of the page.
#[derive(Debug)]
struct Rule {
    id: String,
    words: String,
    /// As they stand there.
    tests: Vec<String>,
}

/// Which tests name a rule, by its id.
type Named = BTreeMap<String, BTreeSet<String>>;

/// The rows of the page's tables.
fn rules(page: &str) -> Vec<Rule> {
    let row = |line: &str| {
        let mut cells = line.strip_prefix('|')?.strip_suffix('|')?.split('|').map(str::trim);
        let (id, words, tests) = (cells.next()?, cells.next()?, cells.next()?);
        let tests = tests.split("<br>").map(|test| test.trim().trim_matches('`').to_owned());
        let tests = tests.filter(|test| !test.is_empty()).collect();
        is_id(id).then(|| Rule { id: id.to_owned(), words: words.to_owned(), tests })
    };
    page.lines().filter_map(row).collect()
}

/// A section, a dot, and a number or a word.
fn is_id(text: &str) -> bool {
    let word = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    text.split_once('.').is_some_and(|(section, rule)| {
        let is_section = !section.is_empty() && section.bytes().all(|b| b.is_ascii_digit());
        is_section && !rule.is_empty() && rule.chars().all(word)
    })
}

/// The ids behind a mark: `2.5, 2.6 and 2.7`.
fn ids(mut rest: &str) -> Vec<String> {
    let mut found = vec![];
    loop {
        let part = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-');
        let end = rest.find(|c| !part(c)).unwrap_or(rest.len());
        let id = rest[..end].trim_end_matches(['.', '-']);
        if !is_id(id) {
            return found;
        }
        found.push(id.to_owned());
        let after = &rest[id.len()..];
        match after.strip_prefix(", ").or_else(|| after.strip_prefix(" and ")) {
            Some(next) => rest = next,
            None => return found,
        }
    }
}

/// Which rules the tests of a source name.
fn named(source: &Source, found: &mut Named) {
    let module = source.path.trim_start_matches("crates/").replacen("/src/", "/", 1);
    let module = module.trim_start_matches("src/").trim_start_matches("tests/");
    let module = module.trim_end_matches(".rs").trim_end_matches("/tests").replace('/', "::");
    let lines: Vec<&str> = source.text.lines().collect();
    for (at, end) in source.functions_of_tests() {
        let (above, is_test) = heading(&lines[..at]);
        if !is_test {
            continue;
        }
        let Some((_, rest)) = lines[at].split_once("fn ") else { continue };
        let name: String = rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
        for line in above.iter().chain(&lines[at..end]) {
            for (mark, _) in line.match_indices(MARK) {
                for id in ids(&line[mark + MARK.len()..]) {
                    found.entry(id).or_default().insert(format!("{module}::{name}"));
                }
            }
        }
    }
}

/// Comments and attributes directly above, and whether one of those says that it is a test.
fn heading<'l>(before: &[&'l str]) -> (Vec<&'l str>, bool) {
    let belongs = |line: &&&str| {
        let line = line.trim_start();
        line.starts_with("///") || line.starts_with("#[")
    };
    let above: Vec<&str> = before.iter().rev().take_while(belongs).copied().collect();
    let is_test = |line: &&str| {
        let line = line.trim_start();
        line.starts_with("#[test]") || line.starts_with("#[tokio::test")
    };
    let found = above.iter().any(is_test);
    (above, found)
}

impl Source {
    /// First line and the line after the last of all functions in tests, from 0.
    fn functions_of_tests(&self) -> Vec<(usize, usize)> {
        let line_of = |offset: usize| self.code[..offset].matches('\n').count();
        let span = |(offset, lines)| (line_of(offset), line_of(offset) + lines);
        super::functions(&self.tests).into_iter().map(span).collect()
    }
}

/// What is wrong with the page, by what the tests name.
fn violations(rules: &[Rule], named: &Named) -> Vec<String> {
    let mut found = vec![];
    for Rule { id, words, tests } in rules {
        let Some(names) = named.get(id) else {
            found.push(format!("{PAGE}: no test names `oauth {id}`: {words}"));
            continue;
        };
        let written: BTreeSet<String> = tests.iter().cloned().collect();
        let gone = written.difference(names);
        found.extend(gone.map(|test| format!("{PAGE}: {id}: `{test}` does not name it")));
        let new = names.difference(&written);
        found.extend(new.map(|test| format!("{PAGE}: {id}: `{test}` is missing")));
    }
    for (id, tests) in named.iter().filter(|(id, _)| !rules.iter().any(|rule| rule.id == **id)) {
        found.push(format!("`oauth {id}` is no rule of {PAGE}: {tests:?}"));
    }
    let mut seen = BTreeSet::new();
    let twice = rules.iter().filter(|rule| !seen.insert(&rule.id));
    found.extend(twice.map(|rule| format!("{PAGE}: {} stands twice", rule.id)));
    found
}

/// The page with the tests that there are.
fn rewritten(page: &str, named: &Named) -> String {
    let row = |line: &str| match rules(line).pop() {
        None => line.to_owned(),
        Some(Rule { id, words, .. }) => {
            let tests = named.get(&id).into_iter().flatten().map(|test| format!("`{test}`"));
            format!("| {id} | {words} | {} |", tests.collect::<Vec<_>>().join("<br>"))
        }
    };
    page.lines().map(|line| row(line) + "\n").collect()
}

#[test]
fn every_rule_of_oauth_has_a_test_that_names_it() {
    let mut all = Named::new();
    for source in
        ["src", "crates", "tests"].into_iter().flat_map(|folder| sources(folder, &[".rs"]))
    {
        // What is a mark here is an example of one.
        if !source.path.starts_with("tests/tidy") {
            named(&source, &mut all);
        }
    }
    let file = package().join(PAGE);
    let mut page = fs::read_to_string(&file).expect("the page is there");
    if std::env::var_os("KEYWARD_WRITE_DOCS").is_some() {
        page = rewritten(&page, &all);
        fs::write(&file, &page).expect("the page can be written");
    }
    let rules = rules(&page);
    for section in [2, 5, 6, 7, 8, 9, 10, 11] {
        let begins = |rule: &Rule| rule.id.starts_with(&format!("{section}."));
        assert!(rules.iter().any(begins), "section {section} has no rules");
    }
    let mut found = violations(&rules, &all);
    if !found.is_empty() {
        found.push("what is missing there is written by KEYWARD_WRITE_DOCS=1".to_owned());
    }
    assert_none(found);
}

// === each part can fail ===

const EXAMPLE: &str = "| id | rule | tests |\n|---|---|---|\n| 8.1 | one flight | `api::a::b` |\n";

fn of(text: &str) -> Named {
    let mut found = Named::new();
    named(&Source::new("tests/api/a.rs", text), &mut found);
    found
}

fn test(above: &str, body: &str) -> String {
    format!("{above}\n#[tokio::test]\nasync fn b() {{\n{body}\n}}\n")
}

#[test]
fn a_rule_is_named_in_a_comment_or_a_label_of_a_test_and_nowhere_else() {
    let names = |text: &str| of(text).into_keys().collect::<Vec<_>>();
    assert_eq!(names(&test("/// oauth 8.1: all at once", "")), ["8.1"]);
    assert_eq!(names(&test("/// oauth 8.1, 2.pkce and 9.4.", "")), ["2.pkce", "8.1", "9.4"]);
    assert_eq!(names(&test("", "row(\"oauth 6.2: null\");")), ["6.2"]);
    for no in [
        test("/// OAuth 2.0 is a protocol", ""),
        test("/// oauth 13, metadata", ""),
        "/// oauth 8.1\nfn b() {}\n".to_owned(),
        "/// oauth 8.1\nconst B: u8 = 0;\n#[test]\nfn c() {}\n".to_owned(),
    ] {
        assert!(names(&no).is_empty(), "{no}");
    }
}

#[test]
fn a_rule_without_a_test_and_a_test_without_a_rule_are_found() {
    let good = of(&test("/// oauth 8.1", ""));
    assert_eq!(violations(&rules(EXAMPLE), &good), Vec::<String>::new());
    let none = violations(&rules(EXAMPLE), &Named::new()).join("\n");
    assert!(none.contains("`oauth 8.1`: one flight"), "{none}");
    let unknown = violations(&rules(EXAMPLE), &of(&test("/// oauth 8.1, 8.99", ""))).join("\n");
    assert!(unknown.contains("`oauth 8.99` is no rule"), "{unknown}");
    let other = EXAMPLE.replace("api::a::b", "api::a::gone");
    let other = violations(&rules(&other), &good).join("\n");
    assert!(other.contains("`api::a::gone` does not name it"), "{other}");
    assert!(other.contains("`api::a::b` is missing"), "{other}");
    let twice = violations(&rules(&EXAMPLE.repeat(2)), &good).join("\n");
    assert!(twice.contains("8.1 stands twice"), "{twice}");
    assert_eq!(rewritten(&EXAMPLE.replace("`api::a::b`", ""), &good), EXAMPLE);
}

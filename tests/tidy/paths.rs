//! The paths that a file of Rust writes: its `use` items, expanded, and the paths in the rest of its code. Works on code
//! whose comments, literals and tests are blanked.

use std::collections::BTreeSet;

/// One name that a `use` item imports.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Import {
    pub(crate) path: Vec<String>,
    /// The name that the file has for it; `*` for all names of a module.
    pub(crate) name: String,
    /// Whether files elsewhere may import it from here.
    pub(crate) is_public: bool,
}

/// The imports of a file, and its code without them.
pub(crate) fn uses(code: &str) -> (Vec<Import>, String) {
    let modules = inline_modules(code);
    let mut rest = code.to_owned();
    let mut found = vec![];
    for (at, word) in code.match_indices("use ") {
        let before = code[..at].trim_end();
        let is_public = is_visible(before);
        let starts = before.is_empty() || before.ends_with([';', '}', '{', ']']) || is_public;
        let Some(length) = code[at..].find(';') else { continue };
        if !starts {
            continue;
        }
        let mut leaves = vec![];
        expand(&[], &code[at + word.len()..at + length], &mut leaves);
        let is_inline = modules.iter().any(|module| module.contains(&at));
        let imports = leaves.into_iter().map(|(path, name)| {
            let path = if is_inline { from_inline_module(path) } else { path };
            Import { path, name, is_public }
        });
        found.extend(imports);
        rest.replace_range(at..=at + length, &super::rust::blank(&code[at..=at + length]));
    }
    (found, rest)
}

/// Whether `pub` or `pub(…)` stands last.
fn is_visible(before: &str) -> bool {
    let shown = match before.strip_suffix(')') {
        Some(inside) => inside.rsplit_once('(').map_or("", |(shown, _)| shown),
        None => before,
    };
    shown.strip_suffix("pub").is_some_and(|rest| !rest.ends_with(is_of_name))
}

/// `a::{b::{self, c as d}, e}` → `a::b` as `b`, `a::b::c` as `d`, `a::e` as `e`.
fn expand(prefix: &[String], text: &str, leaves: &mut Vec<(Vec<String>, String)>) {
    for part in split_list(text) {
        let (head, group) = match part.split_once('{') {
            Some((head, rest)) => (head, rest.rsplit_once('}').map(|(group, _)| group)),
            None => (part, None),
        };
        let (head, renamed) = match head.split_once(" as ") {
            Some((head, name)) => (head, Some(name.trim().to_owned())),
            None => (head, None),
        };
        let segments = head.split("::").map(str::trim).filter(|segment| !segment.is_empty());
        let mut path = prefix.to_vec();
        path.extend(segments.map(str::to_owned));
        if let Some(group) = group {
            expand(&path, group, leaves);
            continue;
        }
        if path.len() > 1 && path.last().is_some_and(|last| last == "self") {
            path.pop();
        }
        let Some(last) = path.last().cloned() else { continue };
        leaves.push((path, renamed.unwrap_or(last)));
    }
}

/// The parts between commas that no braces enclose.
fn split_list(text: &str) -> Vec<&str> {
    let mut depth = 0;
    let is_between = |c: char| {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        c == ',' && depth == 0
    };
    text.split(is_between).map(str::trim).filter(|part| !part.is_empty()).collect()
}

/// Paths of two names or more, without those that only say where an item is visible.
pub(crate) fn paths(code: &str) -> Vec<Vec<String>> {
    let modules = inline_modules(code);
    let mut found = vec![];
    let mut from = 0;
    while let Some(start) = code[from..].find(|c: char| is_of_name(c)).map(|at| from + at) {
        let length = path_length(&code[start..]);
        from = start + length;
        let is_rooted = code[..start].trim_end().ends_with("::");
        let is_visibility = code[..start].ends_with("(in ");
        let path: Vec<String> =
            code[start..from].split("::").map(|segment| segment.trim().to_owned()).collect();
        if path.len() < 2 || is_rooted || is_visibility {
            continue;
        }
        let is_inline = modules.iter().any(|module| module.contains(&start));
        found.push(if is_inline { from_inline_module(path) } else { path });
    }
    found
}

/// The length of `a::b::c` at the beginning, also over several lines.
fn path_length(text: &str) -> usize {
    let name = |text: &str| text.find(|c| !is_of_name(c)).unwrap_or(text.len());
    let mut length = name(text);
    loop {
        let rest = text[length..].trim_start();
        let Some(after) = rest.strip_prefix("::").map(str::trim_start) else { return length };
        if name(after) == 0 {
            return length;
        }
        length = text.len() - after.len() + name(after);
    }
}

/// Whether `code` uses `name`: it stands there as a word, and neither as a field or method nor in `mod name;`.
pub(crate) fn names(code: &str, name: &str) -> bool {
    code.match_indices(name).any(|(at, _)| {
        let (before, after) = (&code[..at], &code[at + name.len()..]);
        let is_word = !before.ends_with(is_of_name) && !after.starts_with(is_of_name);
        let is_field =
            before.ends_with('.') || (after.starts_with(':') && !after.starts_with("::"));
        is_word && !is_field && !before.ends_with("mod ")
    })
}

/// The names of the items of a file, but for those inside others.
pub(crate) fn declared(code: &str) -> BTreeSet<String> {
    let kinds =
        ["fn", "struct", "enum", "trait", "type", "const", "static", "macro_rules!", "union"];
    let name = |line: &str| {
        let mut words = line.split_whitespace().skip_while(|word| !kinds.contains(word)).skip(1);
        // `const fn name`, `unsafe fn name`.
        let word = words.find(|word| !kinds.contains(word))?;
        Some(word.split(|c| !is_of_name(c)).next()?.to_owned())
    };
    let lines = code.lines().filter(|line| line.starts_with(is_of_name));
    lines.filter_map(name).filter(|name| !name.is_empty()).collect()
}

/// Where the braces of modules are that stand inside the file.
fn inline_modules(code: &str) -> Vec<std::ops::Range<usize>> {
    let opened = |(at, word): (usize, &str)| {
        let rest = &code[at + word.len()..];
        let opens = rest.find(|c| !is_of_name(c))?;
        let is_word = !code[..at].ends_with(is_of_name);
        (is_word && rest[opens..].trim_start().starts_with('{'))
            .then(|| at..super::rust::block_end(code, at))
    };
    code.match_indices("mod ").filter_map(opened).collect()
}

/// `super` of a module inside a file is the file.
fn from_inline_module(mut path: Vec<String>) -> Vec<String> {
    if path[0] == "super" {
        "self".clone_into(&mut path[0]);
    }
    path
}

fn is_of_name(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

#[test]
fn imports_are_expanded_with_their_names() {
    let (imports, rest) =
        uses("use a::{b::{self, c as d}, e};\npub(crate) use super::f;\nfn g() {}");
    let said: Vec<String> = imports
        .iter()
        .map(|it| format!("{} {} {}", it.path.join("::"), it.name, it.is_public))
        .collect();
    assert_eq!(said, ["a::b b false", "a::b::c d false", "a::e e false", "super::f f true"]);
    assert!(!rest.contains("super") && rest.ends_with("\nfn g() {}"), "{rest}");
}

#[test]
fn paths_are_read_over_lines_and_from_inline_modules() {
    let code = "fn f() { crate::a\n    ::B::c(); x.y(); pub(in crate::z) }\nmod m { fn g() { super::h() } }";
    let found: Vec<String> = paths(code).iter().map(|path| path.join("::")).collect();
    assert_eq!(found, ["crate::a::B::c", "self::h"]);
}

#[test]
fn a_field_and_a_module_do_not_use_a_re_export() {
    for code in ["mod a;", "struct B { a: u8 }", "fn f(x: X) { x.a() }", "fn ab() {}"] {
        assert!(!names(code, "a"), "{code}");
    }
    for code in ["fn f() { a() }", "struct B(a);", "fn f() { a::b() }"] {
        assert!(names(code, "a"), "{code}");
    }
}

#[test]
fn items_are_declared_by_the_file_and_not_by_what_is_inside_them() {
    let code =
        "pub(crate) const fn a() {}\nstruct B<T>;\nimpl B {\n    fn c() {}\n}\nstatic D: u8 = 1;";
    let found: Vec<String> = declared(code).into_iter().collect();
    assert_eq!(found, ["B", "D", "a"]);
}

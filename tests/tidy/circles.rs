//! Files of a crate that import each other in a circle. File A imports file B if it names an item that B declares: in a
//! `use` item, or by a path in its code. What a file only re-exports (`pub use child::Name`), it does not import, and a
//! file that uses the re-export imports the file that declares the name. Declaring a module (`mod child;`) is no import,
//! so a parent and its child are a circle only if the parent also uses the child's items. Methods are not seen: they need
//! no path.

use std::collections::BTreeSet;

use super::modules::{Imported, Modules};
use super::package::sources;
use super::{Source, assert_none};

/// The circles that stay: their folder, their files in it, and the reason.
const CIRCLES: &[(&str, &str, &str)] = &[
    (
        "crates/proxy/src/upstream",
        "http1 http2",
        "each protocol falls back to the other if the upstream does not speak it",
    ),
    (
        "crates/vault/src/grant",
        "mod referred",
        "a grant may have references, and refers to the grant that their values make",
    ),
];

/// Groups of files, each of which imports all others of its group, directly or through others (Tarjan's algorithm).
fn circles(imported: &Imported) -> Vec<BTreeSet<String>> {
    let files: Vec<&str> = imported.keys().map(String::as_str).collect();
    let number = |file: &str| files.binary_search(&file).expect("each file has an entry");
    let edges = imported.values().map(|to| to.keys().map(|file| number(file)).collect()).collect();
    let mut search = Search { edges, seen: vec![None; files.len()], ..Search::default() };
    for at in 0..files.len() {
        search.visit(at);
    }
    let named = |circle: Vec<usize>| circle.into_iter().map(|at| files[at].to_owned()).collect();
    search.found.into_iter().filter(|circle| circle.len() > 1).map(named).collect()
}

#[derive(Default)]
struct Search {
    edges: Vec<Vec<usize>>,
    /// When a file was visited, and the earliest open file that it reaches.
    seen: Vec<Option<(usize, usize)>>,
    open: Vec<usize>,
    count: usize,
    found: Vec<Vec<usize>>,
}

impl Search {
    /// The earliest open file that this one reaches; none if its circle is closed.
    fn visit(&mut self, at: usize) -> Option<usize> {
        if let Some((_, reached)) = self.seen[at] {
            return self.open.contains(&at).then_some(reached);
        }
        let index = self.count;
        self.count += 1;
        self.seen[at] = Some((index, index));
        self.open.push(at);
        let mut reached = index;
        for next in self.edges[at].clone() {
            reached = self.visit(next).map_or(reached, |other| reached.min(other));
        }
        self.seen[at] = Some((index, reached));
        if reached < index {
            return Some(reached);
        }
        let from = self.open.iter().position(|it| *it == at).expect("it was pushed above");
        let circle = self.open.split_off(from);
        self.found.push(circle);
        None
    }
}

/// A circle, and which names tie it.
fn shown(circle: &BTreeSet<String>, imported: &Imported) -> String {
    let mut lines = vec![format!("{} files import each other in a circle:", circle.len())];
    for from in circle {
        for (to, names) in imported[from].iter().filter(|(to, _)| circle.contains(*to)) {
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            lines.push(format!("  {from} -> {to}: {}", names.join(", ")));
        }
    }
    lines.join("\n")
}

fn folders() -> Vec<String> {
    let crates = std::fs::read_dir(super::package().join("crates")).expect("crates can be read");
    let names = crates.map(|entry| entry.expect("an entry").file_name());
    let mut folders: Vec<String> =
        names.map(|name| format!("crates/{}/src/", name.to_string_lossy())).collect();
    folders.push("src/".to_owned());
    folders.sort();
    folders
}

#[test]
fn files_that_import_each_other_have_a_reason() {
    let mut found = vec![];
    let mut unused: Vec<BTreeSet<String>> =
        CIRCLES.iter().map(|(folder, files, _)| files_of(folder, files)).collect();
    for folder in folders() {
        let imported = Modules::new(&folder, &sources(&folder, &[".rs"])).imported();
        for circle in circles(&imported) {
            match unused.iter().position(|listed| *listed == circle) {
                Some(at) => drop(unused.swap_remove(at)),
                None => found.push(shown(&circle, &imported)),
            }
        }
    }
    let gone = |files| format!("{files:?} are listed as a circle, and are none");
    found.extend(unused.into_iter().map(gone));
    assert_none(found);
}

/// `a b/c` of a folder → `folder/a.rs`, `folder/b/c.rs`.
fn files_of(folder: &str, files: &str) -> BTreeSet<String> {
    files.split_whitespace().map(|file| format!("{folder}/{file}.rs")).collect()
}

/// The circles of a tree of made-up files.
fn circles_of(files: &[(&str, &str)]) -> Vec<Vec<String>> {
    let source = |(path, text): &(&str, &str)| Source::new(&format!("src/{path}"), text);
    let sources: Vec<Source> = files.iter().map(source).collect();
    let found = circles(&Modules::new("src/", &sources).imported());
    found.into_iter().map(|circle| circle.into_iter().collect()).collect()
}

#[test]
fn a_circle_is_found_in_every_spelling() {
    let (lib, a) = (("lib.rs", "mod a;\nmod b;"), "use crate::b::B;\npub struct A;");
    for b in [
        "use crate::a::A;\npub struct B;",
        "use crate::{a::A, c};\npub struct B;",
        "use super::a::{self, A};\npub struct B;",
        "use crate::a;\npub struct B;\nfn f() -> a::A {}",
        "use crate::a as x;\npub struct B;\nfn f() -> x::A {}",
        "pub struct B;\nfn f() -> crate::a::A {}",
        "pub struct B;\nfn f() { use super::a::A; }",
        "pub use crate::a::A;\npub struct B(A);",
        "pub struct B;\nmod inside { fn f() { super::super::a::A } }",
        "mod c;\npub struct B(c::A);",
    ] {
        let through = ("b/c.rs", "pub use super::super::a::A;");
        let found = circles_of(&[lib, ("a.rs", a), ("b.rs", b), through]);
        assert_eq!(found, [["src/a.rs", "src/b.rs"]], "{b}");
    }
}

#[test]
fn a_circle_through_several_files_and_a_re_export_is_one_circle() {
    let found = circles_of(&[
        ("lib.rs", "mod a;\nmod b;\nmod c;\nmod d;"),
        ("a/mod.rs", "mod inner;\npub use inner::Inner;"),
        ("a/inner.rs", "use crate::b::B;\npub struct Inner;"),
        ("b.rs", "pub struct B;\nfn f() { crate::c::g() }"),
        ("c.rs", "use crate::a::Inner;\npub fn g() {}"),
        ("d.rs", "use crate::b::B;"),
    ]);
    assert_eq!(found, [["src/a/inner.rs", "src/b.rs", "src/c.rs"]]);
}

#[test]
fn a_parent_and_its_child_are_a_circle_if_both_use_the_other() {
    let lib = ("lib.rs", "mod a;");
    let child = ("a/b.rs", "use super::A;\npub struct B;\npub fn f() {}");
    for parent in ["mod b;\nuse b::f;\npub struct A;", "mod b;\npub struct A;\nfn g() { b::f() }"] {
        assert_eq!(circles_of(&[lib, ("a.rs", parent), child]).len(), 1, "{parent}");
    }
    for parent in [
        "mod b;\npub struct A;",
        "mod b;\npub use b::B;\npub struct A;",
        "mod b;\npub struct A;\n#[cfg(test)]\nmod tests { use super::b::f; }",
        "mod b;\npub struct A;\n// b::f\nconst X: &str = \"b::f\";",
    ] {
        assert_eq!(circles_of(&[lib, ("a.rs", parent), child]).len(), 0, "{parent}");
    }
}

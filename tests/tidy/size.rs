//! How large each crate may be, in lines of code. A ceiling rises only in the commit of a capability.

use std::collections::BTreeMap;

use super::tables::CODE_LINES_MAX;
use super::{Source, assert_none, place, sources};

/// Lines with code or text of a program, shipped and of tests; not blank ones, nor those of comments alone.
#[derive(Clone, Copy, Default)]
struct CodeLines {
    shipped: usize,
    tests: usize,
}

/// A line that only has a part of a literal is of what the line before it is.
fn code_lines(source: &Source) -> CodeLines {
    let (mut lines, mut is_test) = (CodeLines::default(), false);
    let views = source.text.lines().zip(source.code.lines()).zip(source.shipped.lines());
    for ((text, code), shipped) in views {
        let text = text.trim();
        if !code.trim().is_empty() {
            is_test = shipped.trim().is_empty();
        } else if text.is_empty() || text.starts_with("//") {
            continue;
        }
        match is_test {
            true => lines.tests += 1,
            false => lines.shipped += 1,
        }
    }
    lines
}

fn of_crates(sources: &[Source]) -> BTreeMap<String, CodeLines> {
    let mut all = BTreeMap::<String, CodeLines>::new();
    for source in sources {
        let of = place(&source.path).map_or("tests", |(of, _)| of);
        let (sum, lines) = (all.entry(of.to_owned()).or_default(), code_lines(source));
        sum.shipped += lines.shipped;
        sum.tests += lines.tests;
    }
    all
}

fn stays_below(of: &str, lines: usize, ceilings: &[(&str, usize)]) -> Vec<String> {
    match ceilings.iter().find(|(name, _)| *name == of) {
        None => vec![format!("{of}: {lines} lines of code, and no ceiling in CODE_LINES_MAX")],
        Some((_, most)) if lines > *most => {
            vec![format!("{of}: {lines} lines of code, {most} at most: delete as many elsewhere")]
        }
        Some(_) => vec![],
    }
}

/// Prints what is counted: `cargo test -p tidy code_lines -- --nocapture`.
#[test]
fn code_lines_of_each_crate_are_below_its_ceiling() {
    let folders = ["src", "crates", "tests", "examples"];
    let all: Vec<_> = folders.into_iter().flat_map(|it| sources(it, &[".rs"])).collect();
    let of_crates = of_crates(&all);
    let sum = |of: fn(&CodeLines) -> usize| of_crates.values().map(of).sum::<usize>();
    println!("{:>12} {:>8} {:>8}", "crate", "code", "tests");
    for (name, lines) in &of_crates {
        println!("{name:>12} {:>8} {:>8}", lines.shipped, lines.tests);
    }
    println!("{:>12} {:>8} {:>8}", "sum", sum(|it| it.shipped), sum(|it| it.tests));
    let shipped = of_crates.iter().filter(|(name, _)| *name != "tests");
    assert_none(shipped.flat_map(|(of, it)| stays_below(of, it.shipped, CODE_LINES_MAX)).collect());
}

#[test]
fn a_crate_over_its_ceiling_and_one_without_are_found() {
    let source = Source::new(
        "crates/net/src/lib.rs",
        "//! Net.\n\nfn a() {\n    // Why.\n    b(\"one\n  two\");\n}\n#[cfg(test)]\nmod tests {\n    fn c() {}\n}\n",
    );
    let lines = code_lines(&source);
    assert_eq!((lines.shipped, lines.tests), (4, 4));
    assert!(stays_below("net", 4, &[("net", 4)]).is_empty());
    assert_eq!(stays_below("net", 5, &[("net", 4)]).len(), 1);
    assert_eq!(stays_below("net", 1, &[]).len(), 1);
}

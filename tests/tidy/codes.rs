//! Every code of `base::codes` is used by the part of Keyward that its row names. The type ensures the reverse:
//! only codes of the table can be used.

use keyward_base::codes::{Code, Sender};

use super::package::with_test_modules;
use super::{Source, assert_none, sources};

/// What the proxy sends is decided here.
const PROXY: &[&str] = &["crates/proxy/", "crates/rules/"];

/// What the API sends. `explain/` tells what the proxy would send.
const API: &[&str] = &["crates/api/"];
const TELLS_OF_THE_PROXY: &[&str] = &["crates/api/src/explain/"];

/// Whether shipped code at one of the places, and at none of the others, names the code.
fn names(sources: &[Source], code: Code, places: &[&str], but: &[&str]) -> bool {
    let path = format!("Code::{code:?}");
    let is_whole = |text: &str, at: usize| {
        let next = text[at + path.len()..].chars().next();
        !next.is_some_and(|c| c.is_alphanumeric() || c == '_')
    };
    sources.iter().filter(|source| source.within(places) && !source.within(but)).any(|source| {
        source.shipped.match_indices(&path).any(|(at, _)| is_whole(&source.shipped, at))
    })
}

/// Where the table and the use of a code differ.
fn violations(sources: &[Source], code: Code, sender: Sender) -> Vec<String> {
    let (by_proxy, by_api) = match sender {
        Sender::Proxy(_) => (true, false),
        Sender::Api => (false, true),
        Sender::Both(_) => (true, true),
    };
    let differs = |(who, said, used): (&str, bool, bool)| match (said, used) {
        (true, false) => Some(format!("{code:?}: {who} does not use it, though its row says so")),
        (false, true) => Some(format!("{code:?}: {who} uses it, though its row does not say so")),
        _ => None,
    };
    let found = [
        ("the proxy", by_proxy, names(sources, code, PROXY, &[])),
        ("the API", by_api, names(sources, code, API, TELLS_OF_THE_PROXY)),
    ];
    found.into_iter().filter_map(differs).collect()
}

#[test]
fn every_code_is_used_by_exactly_the_senders_that_its_row_names() {
    let sources = with_test_modules(sources("crates", &[".rs"]));
    let of = |code: &Code| violations(&sources, *code, code.row().sender);
    assert_none(Code::ALL.iter().flat_map(of).collect());
}

#[test]
fn a_code_used_by_another_sender_or_by_none_is_found() {
    let file = |path: &str, text: &str| vec![Source::new(path, text)];
    let wrong = |sources: &[Source], sender| !violations(sources, Code::Denied, sender).is_empty();
    let proxy = file("crates/proxy/src/a.rs", "fn a() { Code::Denied }");
    let api = file("crates/api/src/a.rs", "fn a() { Code::Denied }");
    let told = file("crates/api/src/explain/a.rs", "fn a() { Code::Denied }");
    assert!(!wrong(&proxy, Sender::Proxy("x")) && !wrong(&api, Sender::Api));
    assert!(wrong(&proxy, Sender::Api) && wrong(&api, Sender::Proxy("x")));
    assert!(wrong(&proxy, Sender::Both("x")) && wrong(&api, Sender::Both("x")));
    assert!(wrong(&told, Sender::Api));
    for text in
        ["", "// Code::Denied", "fn a() { Code::DeniedLater }", "const A: &str = \"Code::Denied\";"]
    {
        assert!(wrong(&file("crates/proxy/src/a.rs", text), Sender::Proxy("x")), "{text}");
    }
    let test = "#[cfg(test)]\nmod tests { fn a() { Code::Denied } }";
    assert!(wrong(&file("crates/proxy/src/a.rs", test), Sender::Proxy("x")));
}

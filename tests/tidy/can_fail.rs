//! Tests that each check of `main.rs` finds its violation and accepts valid text.

use super::package::with_test_modules;
use super::*;

fn finds(check: fn(&Source) -> Vec<String>, path: &str, text: &str) -> bool {
    !check(&Source::new(path, text)).is_empty()
}

#[test]
fn a_violation_has_the_number_of_its_line_wherever_it_begins_there() {
    let source = Source::new("src/a.rs", "todo!();\ntodo!();\n\n  todo!();\ntodo!()");
    let lines = [1, 2, 4, 5].map(|line| format!("src/a.rs:{line}: unfinished"));
    assert_eq!(is_finished(&source), lines);
}

#[test]
fn a_file_without_heading_is_found() {
    assert!(finds(begins_with_its_purpose, "src/a.rs", "// not a module comment\n"));
    assert!(!finds(begins_with_its_purpose, "src/a.rs", "//! What it is for.\n"));
}

#[test]
fn an_upward_import_is_found_in_every_spelling() {
    for text in [
        "use keyward_proxy::exchange;",
        "use keyward_proxy::{exchange, pool};",
        "fn f() { keyward_api::serve() }",
        "use crate::oauth::Flows;",
        "use crate::{grant::Grant, oauth};",
        "use crate::{ grant::{a, b}, oauth::{c} };",
        "fn f() { crate::oauth::run() }",
        "pub(in crate::oauth) fn f() {}",
        "use super::oauth::run;",
        "use keyward_state::rulebook::Rulebook;",
        "use keyward_state::{crypto, rulebook::Rulebook};",
    ] {
        assert!(finds(imports_only_lower_floors, "crates/vault/src/cache.rs", text), "{text}");
    }
    let nested = "use super::super::oauth::run;";
    assert!(finds(imports_only_lower_floors, "crates/vault/src/cache/cached.rs", nested));
    let grant = "use keyward_vault::grant::Grant;";
    assert!(finds(imports_only_lower_floors, "crates/proxy/src/a.rs", grant));
    assert!(finds(imports_only_lower_floors, "crates/api/src/a.rs", grant));
    assert!(finds(imports_only_lower_floors, "crates/stray/src/a.rs", ""));
    assert!(finds(imports_only_lower_floors, "src/stray/a.rs", ""));
}

#[test]
fn downward_imports_comments_and_tests_are_let_pass() {
    for text in [
        "use keyward_base::host::Host;",
        "use keyward_base::{host, id};",
        "use keyward_state::{crypto::keyring, store::Store};",
        "use crate::grant::Grant;",
        "use crate::{grant::{Grant, oauth}, servers};",
        "use super::record;",
        "// keyward_proxy::x is above\n",
        "/// See [`crate::oauth`].\nfn f() {}",
        "const X: &str = \"crate::oauth\";",
        "#[cfg(test)]\nmod tests { use crate::oauth::run; }",
    ] {
        assert!(!finds(imports_only_lower_floors, "crates/vault/src/cache.rs", text), "{text}");
    }
    assert!(!finds(imports_only_lower_floors, "src/cli/a.rs", "use keyward_proxy::run;"));
}

#[test]
fn permission_for_one_module_of_a_floor_permits_no_other_module() {
    for text in ["use keyward_net::dial;", "use keyward_net::{tls, dial};"] {
        assert!(finds(imports_only_lower_floors, "crates/proxy/src/ca/a.rs", text), "{text}");
    }
    for text in ["use keyward_net::tls;", "use keyward_net::{tls::{Roots, Pem}};"] {
        assert!(!finds(imports_only_lower_floors, "crates/proxy/src/ca/a.rs", text), "{text}");
    }
}

#[test]
fn a_form_that_a_browser_would_send_by_get_is_found() {
    let finds = |text: &str| finds(posts_its_forms, "crates/console/src/a.rs", text);
    assert!(finds(r#"form data-api="POST /a" { }"#));
    assert!(finds(r#"@if it { form.narrow autocomplete="off" data-api=(api) { } }"#));
    assert!(!finds(r#"form method="post" data-api="POST /a" { }"#));
    assert!(!finds(r#"button type="button" data-api="POST /a" { "Test" }"#));
    assert!(!finds(r#"form action="/a" method="get" data-find { }"#));
}

#[test]
fn a_details_element_without_an_id_is_found() {
    let finds = |text: &str| finds(names_what_folds, "crates/console/src/a.rs", text);
    assert!(finds("details {"));
    assert!(finds("@if it { details open[is_open] { } }"));
    assert!(finds("td { details.group-of { } }"));
    assert!(!finds("details #edit open[is_open] {"));
    assert!(!finds(r#"td { details id=(format!("set-{set}")) { } }"#));
    assert!(!finds("details.menu {"));
}

#[test]
fn a_secret_exposed_outside_the_listed_places_is_found() {
    for text in ["f(secret.expose())", "secret.expose_text()", "map(Secret::expose)"] {
        assert!(finds(exposes_secrets_only_where_listed, "crates/proxy/src/a.rs", text), "{text}");
        assert!(
            !finds(exposes_secrets_only_where_listed, "crates/rules/src/inject/a.rs", text),
            "{text}"
        );
    }
    let in_test = "#[cfg(test)]\nmod tests { fn f() { s.expose(); } }";
    assert!(!finds(exposes_secrets_only_where_listed, "crates/proxy/src/a.rs", in_test));
}

#[test]
fn an_unwrap_is_found_outside_tests_only() {
    assert!(finds(does_not_unwrap, "src/a.rs", "fn f() { x.unwrap() }"));
    assert!(finds(does_not_unwrap, "src/a.rs", "#[cfg(test)]\nmod t { }\nfn f() { x.unwrap() }"));
    assert!(!finds(does_not_unwrap, "src/a.rs", "#[cfg(test)]\nmod t { fn f() { x.unwrap() } }"));
    assert!(!finds(does_not_unwrap, "src/a.rs", "fn f() { x.unwrap_or(1) } // .unwrap()"));
}

#[test]
fn unfinished_code_is_found() {
    assert!(finds(is_finished, "src/a.rs", "fn f() { todo!() }"));
    assert!(finds(is_finished, "src/a.rs", "fn f() { unimplemented!(\"later\") }"));
    assert!(!finds(is_finished, "src/a.rs", "// todo! is refused\nfn f() { \"todo!\" }"));
}

#[test]
fn an_overlong_file_is_found() {
    assert!(finds(is_one_story, "src/a.rs", &"\n".repeat(FILE_LINES_MAX + 1)));
    let shipped = "fn f() {}\n".repeat(FILE_LINES_MAX);
    let tests = "fn f() {}\n".repeat(FILE_LINES_MAX - 3);
    let both = format!("{shipped}#[cfg(test)]\nmod tests {{\n{tests}}}\n");
    assert!(!finds(is_one_story, "src/a.rs", &both));
    assert!(!finds(is_one_story, "tests/a.rs", &shipped));
    let one_more = [format!("fn f() {{}}\n{both}"), both.replacen("tests {", "tests {\n\n", 1)];
    for text in one_more.iter().chain([&format!("fn f() {{}}\n{shipped}")]) {
        assert!(finds(is_one_story, "src/a.rs", text));
    }
}

#[test]
fn a_proof_type_that_other_code_can_construct_is_found() {
    let (path, sound) = (
        "crates/proxy/src/authorize/decide.rs",
        "#[derive(Debug)]\npub struct Permitted { permit: Permit }\n\
        impl Permitted { fn new(permit: Permit) -> Self { Self { permit } } }\n\
        fn f(made: Permitted) -> Permit { let Permitted { permit } = made; permit }\n",
    );
    assert!(!finds(proofs_have_one_maker, path, sound));
    assert!(!finds(proofs_have_one_maker, "crates/proxy/src/authorize/a.rs", ""));
    for (from, to) in [
        ("permit: Permit }\n", "pub permit: Permit }\n"),
        ("permit: Permit }\n", "pub(crate) permit: Permit }\n"),
        ("Debug", "Clone, Debug"),
        ("let Permitted { permit } = made; permit", "g(Permitted { permit })"),
        ("Self { permit }", "unreachable!()"),
        ("Permitted", "Allowed"),
    ] {
        assert!(finds(proofs_have_one_maker, path, &sound.replace(from, to)), "{from} to {to}");
    }
    let path = "crates/proxy/src/authorize/connection_limits.rs";
    let tuple = "struct Admitted(Permitted);\nfn admit(p: Permitted) -> Admitted { Admitted(p) }\n";
    assert!(!finds(proofs_have_one_maker, path, tuple));
    assert!(finds(proofs_have_one_maker, path, &tuple.replace("(Permitted);", "(pub Permitted);")));
    assert!(finds(
        proofs_have_one_maker,
        path,
        &tuple.replace("Admitted(p)", "f([Admitted(p), Admitted(p)])")
    ));
}

#[test]
fn an_overlong_function_of_the_data_path_is_found() {
    let long = format!("pub async fn run() {{{}}}", "\n".repeat(PROXY_FUNCTION_LINES_MAX));
    let short = format!("pub async fn run() {{{}}}", "\n".repeat(PROXY_FUNCTION_LINES_MAX - 1));
    assert!(finds(proxy_functions_fit_a_screen, "crates/proxy/src/a.rs", &long));
    assert!(!finds(proxy_functions_fit_a_screen, "crates/proxy/src/a.rs", &short));
    let strings = "fn f() { let brace = '{'; let quote = \"}\"; }\n\n\n";
    assert!(!finds(proxy_functions_fit_a_screen, "crates/proxy/src/a.rs", &strings.repeat(30)));
}

#[test]
fn reading_the_environment_outside_config_and_cli_is_found() {
    for text in ["std::env::var(\"A\")", "env::vars()", "env::var_os(\"A\")"] {
        assert!(
            finds(reads_the_environment_only_in_config, "crates/proxy/src/a.rs", text),
            "{text}"
        );
        assert!(
            !finds(reads_the_environment_only_in_config, "crates/app/src/config/a.rs", text),
            "{text}"
        );
    }
}

#[test]
fn dialling_outside_net_is_found() {
    for text in ["TcpStream::connect(a)", "tokio::net::lookup_host(a)", "a.to_socket_addrs()"] {
        assert!(finds(dials_only_in_net, "crates/proxy/src/a.rs", text), "{text}");
        assert!(!finds(dials_only_in_net, "crates/net/src/a.rs", text), "{text}");
    }
}

#[test]
fn a_hidden_or_sleeping_test_is_found() {
    for text in ["#[ignore]", "#[ignore = \"slow\"]", "thread::sleep(d)", "sleep(d).await"] {
        assert!(finds(test_waits_for_events_only, "tests/a.rs", text), "{text}");
        let within = format!("#[cfg(test)]\nmod tests {{ {text} fn f() {{}} }}");
        assert!(finds(test_waits_for_events_only, "src/a.rs", &within), "{text}");
    }
    // What is shipped may wait.
    assert!(!finds(test_waits_for_events_only, "src/a.rs", "fn f() { sleep(d) }"));
    assert!(!finds(test_waits_for_events_only, "tests/a.rs", "// no sleep() here"));
}

#[test]
fn reading_yaml_outside_config_and_provider_is_found() {
    let text = "serde_yaml::from_str(a)";
    assert!(finds(reads_yaml_only_at_the_edge, "src/cli/a.rs", text));
    assert!(!finds(reads_yaml_only_at_the_edge, "crates/app/src/config/a.rs", text));
}

#[test]
fn an_error_without_a_type_is_found() {
    assert!(finds(has_typed_errors, "crates/proxy/src/a.rs", "fn f() -> anyhow::Result<()> {}"));
    assert!(!finds(has_typed_errors, "crates/app/src/a.rs", "fn f() -> anyhow::Result<()> {}"));
}

#[test]
fn a_reference_to_a_document_elsewhere_is_found() {
    for text in ["// no tunnel (SECURITY DI14)", "/// DESIGN §2's states.", "//! INTERFACE §5"] {
        assert!(finds(cites_what_is_here, "src/a.rs", text), "{text}");
    }
    assert!(!finds(cites_what_is_here, "src/a.rs", "// RFC 9110 §7.6.1; CONTENT_SECURITY_POLICY"));
}

#[test]
fn files_of_test_modules_count_as_tests() {
    let shipped = |declaring: &str, text: &str, path: &str| {
        let declaring = Source::new(declaring, text);
        let sources = with_test_modules(vec![declaring, Source::new(path, "x.unwrap()")]);
        sources.iter().any(|source| !does_not_unwrap(source).is_empty())
    };
    let tests = "#[cfg(test)]\nmod tests;\nmod other;";
    assert!(!shipped("src/a/mod.rs", tests, "src/a/tests.rs"));
    assert!(!shipped("src/a/mod.rs", tests, "src/a/tests/b.rs"));
    assert!(!shipped("src/a/b.rs", tests, "src/a/b/tests/mod.rs"));
    assert!(!shipped("src/lib.rs", "#[cfg(test)]\npub(crate) mod tests;", "src/tests.rs"));
    assert!(shipped("src/a/mod.rs", tests, "src/a/other.rs"));
    assert!(shipped("src/a/mod.rs", tests, "src/a/tests_of.rs"));
    assert!(shipped("src/a/b.rs", tests, "src/a/tests.rs"));
    assert!(shipped("src/a/mod.rs", "mod tests;", "src/a/tests.rs"));
    assert!(shipped("src/a/mod.rs", "#[cfg(test)]\nmod b { }\nmod tests;", "src/a/tests.rs"));
}

#[test]
fn an_absolute_path_in_a_test_is_found() {
    let temporary = format!("open(\"/{}/x\")", "tmp");
    assert!(finds(test_names_no_absolute_path, "tests/a.rs", &temporary));
    assert!(!finds(test_names_no_absolute_path, "tests/a.rs", "get(\"/v1/items\")"));
}

#[test]
fn this_machine_s_name_is_found() {
    let names = ["build-host-17".to_owned()];
    let named = Source::new("docs/a.md", "measured on build-host-17");
    assert!(!names_no_machine(&named, &names).is_empty());
    let silent = Source::new("docs/a.md", "measured on two cores");
    assert!(names_no_machine(&silent, &names).is_empty());
}

#[test]
fn literals_and_comments_are_blanked_without_moving_lines() {
    let text = "a /* {\n */ b \"}\\\"{\" c r#\"x\"y\"# d '\\'' e 'x 'l' f // g\nh";
    let blanked = rust::blank_comments_and_literals(text);
    assert_eq!(blanked.len(), text.len());
    assert_eq!(blanked.lines().count(), text.lines().count());
    let left: String = blanked.split_whitespace().collect();
    assert_eq!(left, "abcdexfh");
}

#[test]
fn a_program_built_with_the_test_util_feature_of_tokio_is_found() {
    let of_tests = "[dev-dependencies]\ntokio = { features = [\"test-util\"] }";
    let of_program = of_tests.replace("dev-", "");
    assert!(finds(stops_the_clock_in_tests_only, "Cargo.toml", &of_program));
    assert!(!finds(stops_the_clock_in_tests_only, "Cargo.toml", of_tests));
    let of_workspace = of_program.replace("[dependencies]", "[workspace.dependencies]");
    let both = format!("{of_tests}\n\n{of_workspace}");
    assert!(finds(stops_the_clock_in_tests_only, "Cargo.toml", &both));
    let of_windows = of_tests.replace("[dev-", "[target.'cfg(windows)'.dev-");
    assert!(!finds(stops_the_clock_in_tests_only, "Cargo.toml", &of_windows));
}

//! Rules from the command line: what is in force, and whether it is what was expected. A team runs
//! `rule test` over its repository: without a gateway, a store, or a single secret.

use serde_json::Value;

use test_support::cli::Cli;
use test_support::finished::Finished;

/// Names secrets that are nowhere.
const CONFIG: &str = "\
master_key: { env: KW_TEST_UNSET_KEY }
providers:
  - id: acme
    name: Acme
    hosts: [api.acme.test]
    auth: [{ id: key, kind: api_key, placement: { header: X-Api-Key } }]
connections:
  - { name: work, provider: acme, fields: { api_key: { env: KW_TEST_UNSET } } }
  - { name: hub, provider: github, fields: { token: { file: gone } } }
agents:
  - { name: ci, token: { env: KW_TEST_UNSET }, use: [hub] }
  - { name: dev }
rules:
  - { name: no-deletes, hosts: [api.acme.test, api.github.com], methods: [DELETE], action: deny }
  - { name: acme-read, agents: [ci], hosts: [api.acme.test], methods: [GET], use: work }
  - { hosts: [mirror.test], action: tunnel }
  - { name: open, hosts: [open.test], action: pass }
";

const AS_EXPECTED: &str = "\
- { agent: ci, request: \"DELETE https://api.acme.test/x\", expect: deny, rule: no-deletes, code: denied }
- { agent: ci, request: \"GET https://api.acme.test/x\", expect: inject, rule: acme-read, connection: work }
- { agent: dev, request: https://api.acme.test/x, expect: deny }
- agent: ci
  request: https://api.github.com/user
  expect: inject
  rule: binding
  connection: hub
- { agent: dev, request: https://api.github.com/user, expect: deny, rule: default, code: default_deny }
- { agent: dev, request: https://mirror.test/, expect: tunnel }
- { agent: dev, request: \"POST https://open.test/\", expect: pass, rule: open }
- agent: ci
  request: https://api.github.com/user
  headers: { Keyward-Connection: work }
  expect: deny
";

/// `rule test` of these cases against a configuration file.
fn test(cli: &Cli, config: &str, cases: &str, more: &[&str]) -> Finished {
    let config = cli.file("rules.yaml", config);
    let cases = cli.file("cases.yaml", cases);
    let (config, cases) = (config.to_str().expect("UTF-8"), cases.to_str().expect("UTF-8"));
    let words = ["rule", "test", cases, "--config", config].into_iter().chain(more.iter().copied());
    cli.run(&words.collect::<Vec<_>>())
}

#[test]
fn invalid_cases_are_reported_with_their_lines_and_the_valid_ones_are_not_tested() {
    let cli = Cli::new();
    let cases = "- { agent: ci, request: https://a.test/, expect: allow }\n- { agent: ci }\n\
                 - { agent: ci, request: https://a.test/, expect: deny }\n";
    let ran = test(&cli, CONFIG, cases, &[]);
    assert_eq!(ran.out, "", "nothing is tested");
    let err = ran.failed(1);
    assert!(!err.contains("cases.yaml:3"), "{err}");
    assert!(err.contains("cases.yaml:1: [0].expect: `allow` is not one of"), "{err}");
    assert!(err.contains("cases.yaml:2: [1]: `request` is missing; add `request:`"), "{err}");
    let err = cli.run(&["rule", "test", "gone.yaml"]).failed(1);
    assert!(err.starts_with("error: gone.yaml: "), "{err}");
}

#[test]
fn names_that_only_a_store_has_are_unknown_in_a_test_of_a_file() {
    let cli = Cli::new();
    let config = "agents: [{ name: ci, use: [stored] }]\n\
                  rules: [{ name: r, agents: [cii], hosts: [api.github.com], use: other }]\n";
    let err = test(&cli, config, AS_EXPECTED, &[]).failed(1);
    assert!(err.contains("rules.yaml:1: agents[0]: agent `ci`: `use` names"), "{err}");
    assert!(err.contains("rules.yaml:2: rules[0]: there is no agent `cii`"), "{err}");
    assert!(err.contains("rules.yaml:2: rules[0]: there is no connection `other`"), "{err}");
    assert!(err.contains("hint: without a gateway, only the configuration file is read"), "{err}");
}

#[test]
fn a_case_that_fails_says_what_happened_instead() {
    let cli = Cli::new();
    let cases = "- { agent: ci, request: \"GET https://api.acme.test/\", expect: deny, rule: no-deletes }\n\
                 - { agent: ci, request: \"DELETE https://api.acme.test/\", expect: inject, connection: work }\n\
                 - { agent: nobody, request: https://api.acme.test/, expect: deny }\n\
                 - { agent: ci, request: https://user@api.acme.test/, expect: deny }\n\
                 - { agent: ci, request: https://elsewhere.test/, expect: deny }\n";
    let ran = test(&cli, CONFIG, cases, &[]);
    assert_eq!((ran.code, ran.err.as_str()), (1, ""));
    let folder = cli.data().parent().expect("a folder").display().to_string();
    // How wide a column is depends on the folder.
    let cells = |line: &str| {
        line.split("   ")
            .map(str::trim)
            .filter(|cell| !cell.is_empty())
            .collect::<Vec<_>>()
            .join(" | ")
    };
    let table: Vec<_> = ran.out.lines().map(cells).collect();
    insta::assert_snapshot!(table.join("\n").replace(&folder, "FOLDER"));
    let told = test(&cli, CONFIG, cases, &["--json"]);
    assert_eq!(told.code, 1);
    let told: Value = serde_json::from_str(&told.out).expect("JSON");
    assert_eq!((&told["passed"], &told["failed"]), (&1.into(), &4.into()));
    assert_eq!(told["cases"][1]["became"]["rule"], "file:no-deletes");
    assert_eq!(told["cases"][2]["became"], Value::Null);
}

#[test]
fn rules_of_a_file_are_tested_without_a_store_and_a_key() {
    let cli = Cli::new();
    let out = test(&cli, CONFIG, AS_EXPECTED, &[]).ok();
    assert!(
        out.contains("8 passed, 0 failed, by the rules of ") && !out.contains("FAILED"),
        "{out}"
    );
    assert!(!cli.data().exists(), "no store, no key");
}

#[test]
fn a_running_gateway_is_asked_unless_a_file_is_named() {
    let cli = Cli::new();
    let _serving = cli.serve_with("rules: [{ name: live, hosts: [open.test], action: pass }]\n");
    cli.run(&["agent", "add", "dev"]).ok();
    let cases = "- { agent: dev, request: \"https://open.test/\", expect: pass, rule: live }\n";
    let file = cli.file("cases.yaml", cases);
    let out = cli.run(&["rule", "test", file.to_str().expect("UTF-8")]).ok();
    assert!(out.ends_with("1 passed, 0 failed, by the rules of the running gateway\n"), "{out}");
    let ran = test(&cli, CONFIG, cases, &[]);
    assert_eq!(ran.code, 1);
    assert!(ran.out.contains("expected rule `live`, got `open`"), "{}", ran.out);
}

#[test]
fn more_cases_than_fit_one_request_are_all_tested() {
    let cli = Cli::new();
    let case = "- { agent: dev, request: https://open.test/, expect: pass }\n";
    let out = test(&cli, CONFIG, &case.repeat(250), &[]).ok();
    assert!(out.contains("250 passed, 0 failed"), "{out}");
}

#[test]
fn rules_are_listed_in_order_with_their_file_and_line() {
    let cli = Cli::new();
    let _serving = cli.serve_with(
        "rules:\n  - { name: first, hosts: [a.test], methods: [DELETE], action: deny }\n  \
         - { hosts: [b.test], action: tunnel }\n",
    );
    let list = cli.run(&["rule", "list", "--json"]).json();
    let items = list["items"].as_array().expect("a list");
    assert_eq!(items.len(), 3);
    assert_eq!(items[0]["id"], "file:first");
    for (item, line) in items.iter().zip([":3", ":4"]) {
        let place = item["place"].as_str().expect("a place");
        assert!(place.ends_with(&format!("keyward.yaml{line}")), "{place}");
    }
    assert_eq!((&items[2]["id"], &items[2]["place"]), (&"default".into(), &Value::Null));
    let table = cli.run(&["rule", "list"]).ok();
    let lines: Vec<_> = table.lines().collect();
    assert!(lines[1].starts_with("1   first ") && lines[1].ends_with("keyward.yaml:3"), "{table}");
    assert!(lines[2].starts_with("2 ") && lines[2].ends_with("keyward.yaml:4"), "{table}");
    assert!(lines[3].starts_with("3 ") && lines[3].ends_with("default"), "{table}");
}

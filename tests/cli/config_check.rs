//! `keyward config check` finds what `keyward plan` finds without a store, and both warn of what a person most likely does not
//! mean.

use test_support::cli::Cli;
use test_support::finished::{Finished, finished};

/// Both commands with a file, whose variables are set.
fn both(cli: &Cli, yaml: &str) -> [Finished; 2] {
    let file = cli.file("new.yaml", yaml);
    let file = file.to_str().expect("UTF-8");
    [&["config", "check", file][..], &["plan", file]].map(|words| {
        let mut command = cli.command(words);
        command.env("GIVEN", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw");
        command.env("PASSWORD", "correct horse battery");
        finished(command, "")
    })
}

#[test]
fn a_check_refuses_the_hooks_webhooks_and_sources_that_a_plan_refuses() {
    let cli = Cli::new();
    let key = "signing_key: { env: GIVEN }";
    let many: Vec<_> =
        (0..51).map(|n| format!("{{ name: w{n}, url: https://x.test/, {key} }}")).collect();
    for (yaml, said) in [
        ("hooks: [{ name: h, scheme: githup, secret: { env: GIVEN } }]".to_owned(), "githup"),
        ("hooks: [{ name: h, scheme: github }]".to_owned(), "`secret` is missing"),
        (
            "hooks: [{ name: h, scheme: github, secret: { env: GIVEN }, to: https://x.test/ }]"
                .to_owned(),
            "`signing_key` is missing",
        ),
        (format!("webhooks: [{}]", many.join(", ")), "webhook `w50`: its organisation has 50"),
        (
            "sources: [{ name: s, vault: { address: https://vault.test }, credentials: { nope: { env: GIVEN } } }]"
                .to_owned(),
            "source `s`: ",
        ),
    ] {
        let [checked, planned] = both(&cli, &yaml).map(|ran| ran.failed(1));
        let refusal = |told: &str| {
            let lines = told.lines().filter(|line| line.starts_with("error: "));
            lines.map(str::to_owned).collect::<Vec<_>>()
        };
        assert!(checked.contains(said), "{yaml}: {checked}");
        assert_eq!(refusal(&checked), refusal(&planned), "{yaml}");
    }
}

#[test]
fn a_check_notes_a_connection_of_a_hook_that_the_store_may_have() {
    let cli = Cli::new();
    let hook = "hooks: [{ name: h, connection: work, secret: { env: GIVEN } }]";
    let [checked, planned] = both(&cli, hook);
    let note = "note: ";
    assert_eq!(checked.code, 0, "{checked:?}");
    assert!(
        checked.err.contains(note) && checked.err.contains("connection `work` is not in this file")
    );
    assert!(planned.failed(1).contains("hook `h`: there is no connection `work`"));
}

/// What both commands warn of a file that is valid.
fn warned(cli: &Cli, yaml: &str) -> String {
    let [checked, planned] = both(cli, yaml);
    let warnings = |ran: &Finished| {
        let lines = ran.err.lines().filter(|line| line.starts_with("warning: "));
        lines.map(|line| format!("{line}\n")).collect::<String>()
    };
    assert_eq!((checked.code, planned.code), (0, 0), "{checked:?} {planned:?}");
    assert_eq!(warnings(&checked), warnings(&planned), "{yaml}");
    let file = cli.file("new.yaml", yaml);
    let json = cli.run(&["--json", "config", "check", file.to_str().expect("UTF-8")]).json();
    let count = json["warnings"].as_array().map(Vec::len);
    assert_eq!(count, Some(warnings(&checked).lines().count()), "{json}");
    warnings(&checked)
}

#[test]
fn braces_in_the_path_of_a_rule_are_warned_of() {
    let cli = Cli::new();
    let rule = |path: &str| {
        format!("rules: [{{ name: r, hosts: [a.test], paths: [\"{path}\"], action: deny }}]")
    };
    let said = warned(&cli, &rule("/repos/{owner}/x{n}"));
    assert!(said.contains("new.yaml:1: rules[0].paths[0]: `{owner}` is literal text"), "{said}");
    assert!(said.contains("`*` matches one segment: write `/repos/*/x*`"), "{said}");
    for path in ["/repos/*/x", "/a}b{c", "/a{"] {
        assert_eq!(warned(&cli, &rule(path)), "", "{path}");
    }
}

#[test]
fn a_denial_of_a_database_whose_host_lacks_the_port_is_warned_of() {
    let cli = Cli::new();
    let with = |rule: &str| {
        format!(
            "connections: [{{ name: shop, provider: postgres, variables: {{ host: db.example.com, database: d }}, \
             fields: {{ username: u, password: {{ env: PASSWORD }} }} }}]\nrules: [{{ name: r, {rule} }}]"
        )
    };
    for host in ["db.example.com", "'*.example.com'"] {
        let said = warned(&cli, &with(&format!("hosts: [{host}], action: deny")));
        let bare = host.trim_matches('\'');
        assert!(said.contains("new.yaml:2: rules[0].hosts[0]: "), "{said}");
        assert!(said.contains("connection `shop` is a database at port 5432"), "{said}");
        assert!(said.contains(&format!("add `{bare}:5432`")), "{said}");
    }
    for rule in [
        "hosts: ['db.example.com:5432'], action: deny",
        "hosts: [db.example.com, 'db.example.com:5432'], action: deny",
        "hosts: [db.example.com], methods: [GET], action: deny",
        "hosts: [db.example.com], action: pass",
        "hosts: [other.example.com], action: deny",
    ] {
        assert_eq!(warned(&cli, &with(rule)), "", "{rule}");
    }
}

/// The words of `keyward connection add`, for the same value.
#[test]
fn a_plan_warns_of_a_key_of_another_provider_in_the_words_of_the_command_line() {
    let cli = Cli::new();
    let key = format!("sk-ant-api03-{}", "a1B2".repeat(24));
    let file = cli.file(
        "new.yaml",
        "connections: [{ name: gh, provider: github, auth: pat, fields: { token: { env: KEY } } }]",
    );
    let mut planned = cli.command(&["plan", file.to_str().expect("UTF-8")]);
    planned.env("KEY", &key);
    let planned = finished(planned, "");
    let words = "`token` looks like a key of Anthropic (`sk-ant-api03-…`), not of GitHub";
    assert_eq!(planned.code, 0, "{planned:?}");
    assert!(planned.err.contains(&format!("warning: {}:1: connections[0]", file.display())));
    assert!(planned.err.contains(words), "{planned:?}");
    assert!(!planned.err.contains(&key), "a warning quotes no secret");
    let mut added = cli.command(&[
        "connection",
        "add",
        "github",
        "--auth",
        "pat",
        "--name",
        "gh",
        "--secret-env",
        "token=KEY",
    ]);
    added.env("KEY", &key);
    assert!(finished(added, "").failed(2).contains(words));
}

#[test]
fn an_added_rule_with_braces_or_a_database_without_its_port_is_warned_of() {
    let cli = Cli::new();
    let _serving = cli.serve_with(
        "insecure_inline: true\n\
         connections: [{ name: shop, provider: postgres, variables: { host: db.example.com, database: d }, \
         fields: { username: u, password: not-a-secret } }]\n",
    );
    let added = cli.run(&["rule", "add", "deny", "a.test/repos/{owner}"]);
    assert!(added.err.contains("warning: `{owner}` is literal text"), "{added:?}");
    added.ok();
    let added = cli.run(&["rule", "add", "deny", "db.example.com", "--name", "db"]);
    assert!(added.err.contains("connection `shop` is a database at port 5432"), "{added:?}");
    added.ok();
    let shown = cli.run(&["rule", "show", "db", "--json"]).json();
    assert_eq!(shown["warnings"].as_array().map(Vec::len), Some(1), "{shown}");
}

#[test]
fn of_many_notes_the_first_are_printed_and_json_has_all() {
    let cli = Cli::new();
    let names: Vec<_> = (0..30).map(|number| format!("c{number}")).collect();
    let file =
        cli.file("many.yaml", &format!("agents: [{{ name: ci, use: [{}] }}]", names.join(", ")));
    let file = file.to_str().expect("a path in UTF-8");
    let checked = cli.run(&["config", "check", file]);
    let about = checked.err.lines().filter(|line| line.contains("is not in this file"));
    assert_eq!(about.count(), 20, "{}", checked.err);
    assert!(checked.err.contains("\nand 10 more; --json has all\n"), "{}", checked.err);
    let json = cli.run(&["config", "check", file, "--json"]).json();
    assert_eq!(json["not_in_file"].as_array().map(Vec::len), Some(30));
}

#[test]
fn a_variable_with_one_underscore_for_two_is_warned_of() {
    let cli = Cli::new();
    let file = cli.file("new.yaml", "");
    let file = file.to_str().expect("UTF-8");
    let words =
        "environment variable KEYWARD_DEFAULT: it is ignored; did you mean `KEYWARD__DEFAULT`?";
    for command in [&["config", "check", file][..], &["plan", file]] {
        let mut command = cli.command(command);
        command.env("KEYWARD_DEFAULT", "deny");
        let ran = finished(command, "");
        assert_eq!(ran.code, 0, "{ran:?}");
        assert!(ran.err.contains(words), "{ran:?}");
    }
}

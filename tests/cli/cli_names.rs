//! Commands and options under the names that people try first, and under those of earlier versions.

use test_support::cli::Cli;

const GITHUB: &str = "ghp_canaryCANARYcanaryCANARYcanary123456";
const ADD: &[&str] = &["connection", "add", "github", "--no-test"];

#[test]
fn secret_stdin_needs_no_field_name_where_a_provider_has_one_secret() {
    let cli = Cli::new();
    // The form of AWS-like providers has more than one secret field, or none.
    let several = ["connection", "add", "twilio", "--no-test", "--secret-stdin"];
    let err = cli.run_with(&several, "secret-0123456789").failed(2);
    assert!(err.contains("hint: "), "{err}");
    let add = [ADD, &["--name", "a", "--secret-stdin"]].concat();
    cli.run_with(&add, GITHUB).ok();
    let add = [ADD, &["--name", "b", "--secret-stdin", "token"]].concat();
    cli.run_with(&add, GITHUB).ok();
}

#[test]
fn a_secret_is_read_from_an_environment_variable() {
    let cli = Cli::new();
    let run = |more: &[&str]| {
        let output = cli.command(&[ADD, more].concat()).env("TOKEN_OF_MINE", GITHUB).output();
        let output = output.expect("it runs");
        let both = [&*output.stderr, &*output.stdout].concat();
        (output.status.code().expect("a code"), String::from_utf8(both).expect("text"))
    };
    let (code, said) = run(&["--secret-env", "token=NOT_SET"]);
    assert_eq!(code, 2, "{said}");
    assert!(said.contains("the environment variable NOT_SET is not set"), "{said}");
    let (code, said) = run(&["--secret-env", GITHUB, "--secret-env", "a-b"]);
    assert!(code == 2 && said.contains("write FIELD=VARIABLE or VARIABLE"), "{said}");
    for (name, given) in [("a", "token=TOKEN_OF_MINE"), ("b", "TOKEN_OF_MINE")] {
        let (code, said) = run(&["--name", name, "--secret-env", given]);
        assert_eq!(code, 0, "{said}");
        assert!(!said.contains(GITHUB), "{said}");
    }
    let (code, said) = run(&["--secret-env", "TOKEN_OF_MINE", "--secret-stdin", "token"]);
    assert!(code == 2 && said.contains("given twice"), "{said}");
}

#[test]
fn alternative_names_run_the_same_commands() {
    let cli = Cli::new();
    let add = [ADD, &["--name", "a", "--secret-stdin", "--any-shape"]].concat();
    cli.run_with(&add, GITHUB).ok();
    let listed = cli.run(&["connection", "list", "--json"]).json();
    for words in [
        &["connection", "ls", "--json"][..],
        &["connection", "list", "--search", "a", "--json"],
        &["connection", "ls", "--q", "a", "--json"],
    ] {
        assert_eq!(cli.run(words).json(), listed, "{words:?}");
    }
    for (name, remove) in [("b", "rm"), ("c", "delete"), ("d", "remove")] {
        cli.run(&["agent", "add", name]).ok();
        // Without a terminal there is no question.
        cli.run(&["agent", remove, name]).ok();
        cli.run(&["agent", "add", name]).ok();
        cli.run(&["agent", remove, name, "--yes"]).ok();
    }
    let version = cli.run(&["version"]).ok();
    assert_eq!(version, cli.run(&["--version"]).ok());
    let json = cli.run(&["version", "--json"]).json();
    assert_eq!(format!("keyward {}\n", json["version"].as_str().expect("text")), version);
    let help = cli.run(&["help", "connection", "add"]).ok();
    assert!(help.contains("Usage: keyward connection add"), "{help}");
    let err = cli.run(&["help", "nope"]).failed(2);
    assert!(err.contains("`nope` is not a command\nhint: keyward --help"), "{err}");
    assert!(cli.run(&["login"]).ok().contains(" connect\n"), "it leads on");
    let script = cli.run(&["completions", "bash"]).ok();
    assert_eq!(cli.run(&["completions", "--for", "bash"]).ok(), script);
}

#[test]
fn whoami_says_as_which_user_commands_run() {
    let cli = Cli::new();
    let said = cli.run(&["whoami"]).ok();
    for part in ["user ", "the operator", "organisation   default", "none runs"] {
        assert!(said.contains(part), "{said}");
    }
    cli.run(&["user", "add", "ann", "--role", "member"]).ok();
    let token = cli.run(&["token", "add", "ann", "--scope", "connections:read", "--json"]).json();
    let token = token["token"].as_str().expect("shown once").to_owned();
    let output = cli.command(&["whoami", "--json"]).env("KEYWARD_TOKEN", &token).output();
    let output = output.expect("it runs");
    let caller: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(
        caller,
        serde_json::json!({"user": "ann", "role": "member", "scopes": ["connections:read"],
                           "org": "default"}),
        "also a token without any other right"
    );
}

#[test]
fn a_wrong_token_an_unknown_organisation_and_an_empty_name_are_refused() {
    let cli = Cli::new();
    cli.run(&["user", "add", "ann", "--role", "member"]).ok();
    let listed = cli.command(&["connection", "list"]).env("KEYWARD_TOKEN", "kwp_xx").output();
    let listed = listed.expect("it runs");
    let said = String::from_utf8(listed.stderr).expect("text");
    assert_eq!(listed.status.code(), Some(4), "{said}");
    assert!(said.contains("\nhint: KEYWARD_TOKEN holds this token: "), "{said}");
    let said = cli.run(&["--org", "nope", "connection", "list"]).failed(5);
    assert!(said.contains("\nhint: `keyward org list` shows which exist"), "{said}");
    for (line, code) in [
        (&["connection", "show", ""][..], 2),
        (&["connection", "test", ""], 2),
        (&["connection", "remove", ""], 2),
        (&["rule", "remove", ""], 2),
        (&["explain", "https://api.github.com/user", "--agent", ""], 2),
        (&["session", "add", "--agent", "", "--user", "ann"], 2),
        (&["run", "--agent", "", "--", "true"], 125),
    ] {
        let said = cli.run(line).failed(code);
        assert!(said.starts_with("error: the name is empty: give a name or an id for `"), "{said}");
        let json = cli.run(&[&["--json"][..], line].concat()).failed(code);
        let json: serde_json::Value = serde_json::from_str(&json).expect("JSON");
        let message = json["error"]["message"].as_str().expect("a message");
        assert!(message.starts_with("the name is empty: give"), "{line:?}: {json}");
    }
}

#[test]
fn an_app_chooses_the_way_to_authenticate_that_takes_apps() {
    let cli = Cli::new();
    for command in [&["connection", "add", "github"][..], &["connect", "github"]] {
        let words = [command, &["--app", "nope", "--name", "work"]].concat();
        let err = cli.run(&words).failed(5);
        assert!(err.contains("no app of github is named `nope`"), "{words:?}: {err}");
    }
    let words = ["connection", "add", "github", "--app", "nope", "--secret-stdin", "refresh_token"];
    let err = cli.run_with(&words, "ghr_1234567890").failed(5);
    assert!(err.contains("no app of github is named `nope`"), "{err}");
}

#[test]
fn swapped_names_of_a_binding_get_a_hint_with_their_order() {
    let cli = Cli::with_agent();
    cli.run_with(&[ADD, &["--name", "work", "--secret-stdin"]].concat(), GITHUB).ok();
    let err = cli.run(&["agent", "bind", "work", "ci"]).failed(5);
    assert!(err.contains("hint: the agent comes first: keyward agent bind ci work\n"), "{err}");
    let err = cli.run(&["agent", "bind", "nope", "ci"]).failed(5);
    assert!(err.contains("keyward agent list") && !err.contains("comes first"), "{err}");
    let several = cli.run(&["agent", "bind", "ci", "work", "nope"]);
    assert!(several.out.starts_with("work (github) bound to ci\n"), "{}", several.out);
    assert!(several.failed(5).contains("no connection is named `nope`"));
}

#[test]
fn an_export_is_yaml_unless_json_is_requested() {
    let cli = Cli::with_agent();
    let yaml = cli.run(&["export"]).ok();
    assert!(yaml.contains("\n- name: ci\n"), "{yaml}");
    assert_eq!(cli.run(&["export", "--yaml"]).ok(), yaml);
    let json = cli.run(&["export", "--json"]).json();
    assert_eq!(json["configuration"]["agents"][0]["name"], "ci");
}

#[test]
fn a_plan_of_a_file_that_does_not_exist_names_the_file_alone() {
    let cli = Cli::new();
    let err = cli.run(&["plan", "nope.yaml"]).failed(1);
    assert!(
        err.starts_with("error: cannot read ") && err.contains("/nope.yaml: No such file"),
        "{err}"
    );
    assert!(!err.contains("keyward init"), "{err}");
}

#[test]
fn a_method_without_a_url_is_not_taken_for_a_host() {
    let cli = Cli::new();
    let err = cli.run(&["explain", "GET", "--agent", "ci"]).failed(2);
    assert!(err.contains("there is no URL after `GET`"), "{err}");
}

#[test]
fn a_manual_page_has_the_usage_of_the_help() {
    let cli = Cli::new();
    let dir = cli.file("man", "").with_file_name("pages");
    cli.run(&["man", "--dir", dir.to_str().expect("UTF-8")]).ok();
    let page = std::fs::read_to_string(dir.join("keyward-run.1")).expect("a page");
    assert!(page.contains(r"\fBkeyward run\fR [OPTIONS] <CMD>..."), "{page}");
}

#[test]
fn the_argument_of_a_missing_setting_is_named() {
    let cli = Cli::new();
    let err = cli.run(&["source", "add", "vault", "vault"]).failed(1);
    assert!(err.contains("hint: add address=VALUE"), "{err}");
}

#[test]
fn a_search_without_a_result_does_not_say_that_nothing_exists() {
    let cli = Cli::new();
    cli.run(&["agent", "add", "ci"]).ok();
    assert_eq!(
        cli.run(&["agent", "list", "--search", "no-such"]).ok(),
        "no agents match: omit the filter to list all\n"
    );
    assert_eq!(
        cli.run(&["agent", "list", "--search", "no-such", "--json"]).json()["items"],
        serde_json::json!([])
    );
}

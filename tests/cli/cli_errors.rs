//! Failures under `--json`: one JSON object on standard error, with the exit code of the text.

use serde_json::Value;

use test_support::cli::Cli;

/// The object, when the command failed with this code.
fn error(cli: &Cli, arguments: &[&str], code: i32) -> Value {
    let ran = cli.run(arguments);
    assert_eq!((ran.code, ran.out.as_str()), (code, ""), "{}", ran.err);
    assert_eq!(ran.err.lines().count(), 1, "{}", ran.err);
    let told: Value = serde_json::from_str(&ran.err).expect("JSON");
    let error = &told["error"];
    assert_eq!(error["exit"], code, "{told}");
    assert!(error["message"].as_str().is_some_and(|it| !it.is_empty()), "{told}");
    error.clone()
}

#[test]
fn wrong_usage_is_json_only_where_the_flag_is_keywards_own() {
    let cli = Cli::new();
    let told = error(&cli, &["--json", "agent", "lst"], 2);
    assert_eq!(told["message"], "unrecognized subcommand 'lst'");
    assert_eq!(told["hint"], "some similar subcommands exist: 'ls', 'list'");
    error(&cli, &["agent", "--json"], 2);
    error(&cli, &["run", "--json", "--nope", "--", "true"], 125);
    let text = cli.run(&["run", "--nope", "--", "curl", "--json"]);
    assert_eq!(text.code, 125);
    assert!(text.err.starts_with("error: "), "the program's flag is not ours: {}", text.err);
    let text = cli.run(&["agent", "lst"]).failed(2);
    assert!(text.starts_with("error: unrecognized subcommand"), "{text}");
    let help = cli.run(&["agent", "--json", "--help"]);
    assert_eq!((help.code, help.err.as_str()), (0, ""), "help is no error");
}

#[test]
fn a_key_among_the_arguments_is_refused_and_not_repeated() {
    const KEY: &str = "ghp_canaryCANARYcanaryCANARYcanary123456";
    let cli = Cli::new();
    for words in [
        &["connect", "github", KEY][..],
        &["connect", "github", "--token", KEY],
        &["connection", "add", "github", KEY],
        &["connection", "rotate", "work", "--secret", KEY],
    ] {
        let text = cli.run(words).failed(2);
        assert!(text.starts_with("error: a key cannot be an argument"), "{text}");
        assert!(text.contains("\nhint: omit it") && !text.contains(KEY), "{text}");
        let told = error(&cli, &[words, &["--json"]].concat(), 2);
        assert!(!told.to_string().contains(KEY), "{told}");
    }
    let text = cli.run(&["agent", "add", "a", "b"]).failed(2);
    assert!(text.contains("unexpected argument 'b'"), "not a key: {text}");
}

#[test]
fn failures_have_code_message_hint_and_exit_as_the_api_has_them() {
    let cli = Cli::new();
    cli.run(&["agent", "add", "ci"]).ok();
    let told = error(&cli, &["agent", "show", "nobody", "--json"], 5);
    assert_eq!(told["code"], "not_found");
    let told = error(&cli, &["agent", "add", "bad name", "--json"], 1);
    assert!(told["field"].is_string(), "{told}");
    let told = error(&cli, &["audit", "tail", "-f", "--json"], 3);
    assert!(told["hint"].as_str().is_some_and(|it| it.contains("omit `-f`")), "{told}");
    assert!(told.get("code").is_none(), "it is not a refusal of the API: {told}");
}

#[test]
fn each_error_of_a_configuration_is_a_message_of_its_own() {
    let cli = Cli::new();
    let file = cli.file("bad.yaml", "lisen: {}\nlogg: {}\n");
    let file = file.to_str().expect("UTF-8");
    let told = error(&cli, &["serve", "--config", file, "--json"], 1);
    let messages = told["messages"].as_array().expect("a list");
    assert_eq!(messages.len(), 2, "{told}");
    assert!(messages[0].as_str().is_some_and(|it| it.contains("unknown key `lisen`")), "{told}");
}

#[test]
fn a_missing_configuration_of_a_copy_is_not_written_by_init() {
    let cli = Cli::new();
    let here = cli.file("here.yaml", "{}\n");
    let here = here.to_str().expect("UTF-8");
    for (arguments, says) in [
        (&["--to", "missing.yaml"][..], "--to"),
        (&["--from", "missing.yaml", "--to", here], "--from"),
    ] {
        let told = error(&cli, &[&["store", "copy"], arguments, &["--json"]].concat(), 1);
        let hint = told["hint"].as_str().expect("a hint");
        assert!(hint.contains(says) && !hint.contains("keyward init"), "{told}");
        assert!(told["message"].as_str().is_some_and(|it| it.contains("missing.yaml")), "{told}");
    }
}

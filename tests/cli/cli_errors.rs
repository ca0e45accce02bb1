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
fn usage_errors_are_json_only_when_the_json_option_is_keywards_own() {
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
fn a_word_after_list_a_host_for_a_provider_and_a_url_without_scheme_get_the_remedy() {
    let cli = Cli::new();
    cli.run(&["init"]).ok();
    let text = cli.run(&["provider", "list", "github"]).failed(2);
    assert!(text.contains("hint: to find it in the list: --search github"), "{text}");
    let told = error(&cli, &["agent", "list", "ci", "--json"], 2);
    assert_eq!(told["hint"], "to find it in the list: --search ci");
    for host in ["api.openai.com", "https://api.openai.com/v1"] {
        let told = error(&cli, &["provider", "show", host, "--json"], 5);
        let hint = told["hint"].as_str().expect("a hint");
        assert!(hint.starts_with("did you mean `openai`?"), "{host}: {hint}");
    }
    let told = error(&cli, &["provider", "show", "api.nope.test", "--json"], 5);
    assert!(!told.to_string().contains("did you mean"), "{told}");
    let told = error(&cli, &["webhook", "add", "example.com/hook", "--json"], 1);
    assert_eq!(told["field"], "url", "the name was made of it: {told}");
}

#[test]
fn a_hook_without_a_secret_names_the_options_that_give_one() {
    let cli = Cli::new();
    cli.run(&["agent", "add", "ci"]);
    let told = error(&cli, &["hook", "add", "pay", "--scheme", "stripe", "--json"], 1);
    assert_eq!(told["field"], "secret");
    let hint = told["hint"].as_str().expect("a hint");
    assert!(hint.starts_with("the service shows it where its webhook is set up; "), "{hint}");
    assert!(hint.ends_with("give it with --secret-stdin or --secret-file FILE"), "{hint}");
}

/// They were dropped.
#[test]
fn options_that_do_not_fit_the_url_of_an_mcp_server_are_refused_before_anything_is_made() {
    let cli = Cli::new();
    for words in [
        &["--auth", "key"][..],
        &["--field", "user=ann"],
        &["--secret-stdin", "token"],
        &["--secret-file", "token=file"],
        &["--secret-env", "TOKEN"],
        &["--secret-from", "token=vault:kv/mcp"],
        &["--skip-format-check"],
        &["--import", "tokens.json"],
        &["--var", "shop=acme"],
        &["--app", "desk"],
    ] {
        let add = [&["connection", "add", "https://mcp.invalid/mcp"], words].concat();
        let text = cli.run(&add).failed(2);
        let told = format!("error: {} has no meaning beside the URL of an MCP server", words[0]);
        assert!(text.starts_with(&told), "{words:?}: {text}");
        assert!(
            text.contains("\nhint: omit it; with a key: keyward connect URL --bearer"),
            "{text}"
        );
    }
    assert!(!cli.data().join("store").exists());
}

/// They were dropped.
#[test]
fn options_that_do_not_change_a_draft_are_refused_when_it_is_resumed() {
    let cli = Cli::new();
    for words in [
        &["--auth", "key"][..],
        &["--name", "home"],
        &["--var", "shop=acme"],
        &["--env", "prod"],
        &["--app", "desk"],
        &["--scope", "repo"],
        &["--issuer", "https://a.test"],
        &["--owner", "ann"],
        &["--private"],
        &["--secret-from", "token=vault:kv/mcp"],
        &["--import", "tokens.json"],
        &["--device"],
        &["--no-browser"],
        &["--accept-account"],
        &["--description", "ours"],
        &["--timeout", "30s"],
    ] {
        let text = cli.run(&[&["connection", "add", "--resume", "work"], words].concat()).failed(2);
        assert!(text.contains(" has no meaning with --resume"), "{words:?}: {text}");
        assert!(text.contains("\nhint: omit it; afterwards: keyward connection set"), "{text}");
    }
    assert!(!cli.data().join("store").exists());
}

#[test]
fn an_authorization_server_is_chosen_only_for_an_mcp_server() {
    const KEY: &str = "ghp_canaryCANARYcanaryCANARYcanary123456";
    let cli = Cli::new();
    let options = ["github", "--secret-stdin", "token", "--no-test", "--issuer", "https://a.test"];
    for command in [&["connection", "add"][..], &["connect"]] {
        let text = cli.run_with(&[command, &options].concat(), KEY).failed(1);
        assert!(text.contains("`issuer` is only for an MCP server"), "{text}");
    }
    assert_eq!(cli.run(&["connection", "list", "--json"]).json()["items"], serde_json::json!([]));
}

#[test]
fn failures_have_code_message_hint_and_exit_as_the_api_has_them() {
    let cli = Cli::with_agent();
    let told = error(&cli, &["agent", "show", "nobody", "--json"], 5);
    assert_eq!(told["code"], "not_found");
    let told = error(&cli, &["agent", "add", "bad name", "--json"], 1);
    assert!(told["field"].is_string(), "{told}");
    let told = error(&cli, &["audit", "tail", "-f", "--json"], 3);
    assert!(told["hint"].as_str().is_some_and(|it| it.contains("omit `-f`")), "{told}");
    assert!(told.get("code").is_none(), "it is not a refusal of the API: {told}");
}

#[test]
fn each_error_of_a_configuration_is_a_separate_message() {
    let cli = Cli::new();
    let file = cli.file("bad.yaml", "lisen: {}\nlogg: {}\n");
    let file = file.to_str().expect("UTF-8");
    let told = error(&cli, &["serve", "--config", file, "--json"], 1);
    let messages = told["messages"].as_array().expect("a list");
    assert_eq!(messages.len(), 2, "{told}");
    assert!(messages[0].as_str().is_some_and(|it| it.contains("unknown key `lisen`")), "{told}");
}

#[test]
fn a_missing_configuration_file_of_store_copy_gets_no_hint_to_run_init() {
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

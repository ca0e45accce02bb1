//! `keyward env`: lines that a shell takes, with a token that has an end.

use crate::cli_runner::Cli;

#[test]
fn a_shell_that_takes_the_lines_has_the_way_to_the_gateway() {
    let cli = Cli::new();
    cli.run(&["agent", "add", "ci"]).ok();
    let lines = cli.run(&["env", "--agent", "ci", "--ttl", "1h"]).ok();
    let script = format!("{lines}\necho \"$https_proxy\"; cat \"$NODE_EXTRA_CA_CERTS\"");
    let shell = std::process::Command::new("sh").args(["-c", &script]).output().expect("sh");
    let said = String::from_utf8(shell.stdout).expect("text");
    assert!(said.starts_with("http://ci:kwa_"), "{said}");
    assert_eq!(said.matches("BEGIN CERTIFICATE").count(), 1, "the CA alone");
    let shown = cli.run(&["agent", "show", "ci", "--json"]).json();
    let tokens = shown["tokens"].as_array().expect("a list");
    let env = tokens.iter().find(|token| token["label"] == "env").expect("labelled");
    assert!(env["expires"].is_string(), "{env}");
}

#[test]
fn a_token_from_standard_input_is_taken_and_none_is_made() {
    let cli = Cli::new();
    cli.run(&["agent", "add", "ci"]).ok();
    let count =
        || cli.run(&["agent", "show", "ci", "--json"]).json()["tokens"].as_array().map(Vec::len);
    let before = count();
    let asked = ["env", "--agent", "ci", "--for", "json", "--token-stdin"];
    // Short enough not to be taken for a secret that nothing may print: this command is to.
    let found = cli.run_with(&asked, "kwa_mine-012345678\n").json();
    let proxy = found["HTTPS_PROXY"].as_str().expect("text");
    assert!(proxy.contains(":kwa_mine-012345678@"), "{proxy}");
    assert_eq!(count(), before);
}

#[test]
fn what_makes_no_sense_is_refused_and_no_token_made() {
    let cli = Cli::new();
    cli.run(&["agent", "add", "ci"]).ok();
    for (words, input, code) in [
        (&["--token-stdin"][..], "a'b; zzz", 2),
        (&["--token-stdin"], "", 2),
        (&["--token-stdin", "--ttl", "1h"], "kwa_mine-0123456789abcdef", 2),
        (&["--for", "powershell"], "", 2),
        (&["--proxy", "http://x"], "", 2),
        (&["--ttl", "soon"], "", 1),
        (&["--agent", "nobody"], "", 5),
    ] {
        let words: Vec<_> = ["env"].iter().chain(words).copied().collect();
        let words = match words.contains(&"--agent") {
            true => words,
            false => [words, vec!["--agent", "ci"]].concat(),
        };
        let err = cli.run_with(&words, input).failed(code);
        assert!(err.starts_with("error: ") && !err.contains("zzz"), "{words:?}: {err}");
    }
    let shown = cli.run(&["agent", "show", "ci", "--json"]).json();
    assert_eq!(shown["tokens"].as_array().map(Vec::len), Some(1), "its first one");
}

#[test]
fn containers_find_files_where_they_are_mounted_and_the_proxy_where_it_is_said_to_be() {
    let cli = Cli::new();
    cli.run(&["agent", "add", "ci"]).ok();
    let ran = cli.run(&["env", "--agent", "ci", "--for", "docker", "--proxy", "keyward:8080"]);
    assert!(ran.err.contains(":/etc/keyward:ro …"), "{}", ran.err);
    let text = ran.ok();
    assert!(text.contains("@keyward:8080\n") && text.contains("=/etc/keyward/bundle.pem\n"));
    assert!(cli.data().join("client/bundle.pem").exists());
    let data = cli.data().display().to_string();
    assert!(!text.contains(&data), "no path of this machine: {text}");
}

//! `keyward connection` for a database: connection strings, settings, and what is a mistake.

use std::process::Command;

use super::server::NAME;
use test_support::install::Install;
use test_support::*;

/// Whether the command succeeded, and what it printed.
fn output(mut command: Command) -> (bool, String) {
    let output = command.output().expect("it runs");
    let both = [&*output.stdout, &*output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&both).into_owned())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_string_is_parsed_and_refused_as_a_command_line_argument() {
    let plan = Plan::api_key();
    let canary = plan.canary().clone();
    let install = Install::new(&plan, &Origin::saying("fine"));
    let _gateway = install.serve();
    let url = |scheme: &str| format!("{scheme}://app:{}@{NAME}:5433/shop", canary.text);
    let add = ["connection", "add", "postgres", "--name", "main"];
    let from_variable = ["--secret-env", "url=DATABASE_URL", "--no-test"];
    for (more, url, says) in [
        (&["--field", &format!("url={}", url("postgres"))][..], "", "arguments can be read"),
        (&from_variable[..], &url("mysql"), "does not begin with `postgres://`"),
        (&[&from_variable[..], &["--timeout", "3s"]].concat(), &url("postgres"), "no effect"),
        (&[&from_variable[..], &["--var", "host=x"]].concat(), &url("postgres"), "given twice"),
    ] {
        let mut command = install.keyward(&[&add[..], more].concat());
        command.env("DATABASE_URL", url);
        let (succeeded, said) = output(command);
        assert!(!succeeded && said.contains(says), "{more:?}: {said}");
        canary.assert_absent("what the command printed", said.as_bytes());
    }
    let settings = ["--read-only", "--statement-timeout", "30s"];
    let mut command = install.keyward(&[&add[..], &from_variable, &settings].concat());
    command.env("DATABASE_URL", url("postgres"));
    let (succeeded, said) = output(command);
    assert!(succeeded, "{said}");
    let (_, shown) = output(install.keyward(&["connection", "show", "main"]));
    for part in [&format!("postgres://{NAME}:5433/shop"), "read only", "30s"] {
        assert!(shown.contains(part), "{shown}");
    }
    assert!(!shown.contains("base URL"), "{shown}");
    canary.assert_absent("what the command printed", shown.as_bytes());
    let other = ["connection", "set", "acme", "--read-only"];
    let (succeeded, said) = output(install.keyward(&other));
    assert!(!succeeded, "{said}");
}

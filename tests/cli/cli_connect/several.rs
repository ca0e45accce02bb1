//! `keyward connect` for a second connection of a provider: it says how one of them is selected.

use serde_json::json;

use super::Desk;
use test_support::finished::{Finished, finished};

/// An Ed25519 key without a passphrase.
const KEY: &str = include_str!("../../../crates/ssh/src/test_keys/ed25519");
const KNOWN_HOSTS: &str = "known_hosts=build.test ssh-ed25519 \
                           AAAAC3NzaC1lZDI1NTE5AAAAIGV/cYZYK5UoAm/dVzTiI4/wggCk8KqOjH+R7ODtCBOm";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_ssh_key_or_database_says_how_it_is_selected_and_has_no_placeholder() {
    let desk = Desk::new().await;
    let ssh = ["ssh", "--secret-stdin", "private_key", "--field", "users=deploy", "--field"];
    let ssh = [&ssh[..], &[KNOWN_HOSTS, "--agent", "ci"]].concat();
    let postgres = ["postgres", "--secret-stdin", "password", "--field", "username=app", "--var"];
    let more = ["host=db.test", "--var", "database=app", "--no-test", "--agent", "ci"];
    let postgres = [&postgres[..], &more].concat();
    for (arguments, secret, says) in [
        (&ssh, KEY, "a login is signed by\nthe first key that permits its server and account\n"),
        (
            &postgres,
            "word-of-the-database",
            "a session uses postgres-2 if it names\npostgres-2 as its database or user\n",
        ),
    ] {
        let second = format!("{}-2", arguments[0]);
        let second = [&arguments[..], &["--name", &second]].concat();
        let [first, second] = [arguments, &second].map(|words| {
            let Finished { code, out, err } = desk.piped(words, secret);
            assert_eq!(code, 0, "{err}");
            assert!(!out.contains("placeholder"), "{out}");
            out
        });
        assert!(!first.contains("note: ") && second.contains(says), "{second}");
    }
    let shown = desk.install.json(&["agent", "show", "ci"]);
    let bindings = shown["bindings"].as_array().expect("a list");
    assert_eq!(bindings.len(), 4);
    assert!(bindings.iter().all(|binding| binding["placeholders"] == json!({})), "{shown}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_test_of_an_ssh_key_proposes_a_login_and_no_request() {
    let desk = Desk::new().await;
    let ssh = ["ssh", "--secret-stdin", "private_key", "--field", "users=deploy", "--field"];
    let Finished { code, err, .. } = desk.piped(&[&ssh[..], &[KNOWN_HOSTS]].concat(), KEY);
    assert_eq!(code, 0, "{err}");
    let Finished { code, err, .. } =
        finished(desk.install.keyward(&["connection", "test", "ssh"]), "");
    assert_eq!(code, 1, "{err}");
    assert!(
        err.contains("run --agent AGENT -- ssh USER@SERVER true\n") && !err.contains("curl"),
        "{err}"
    );
}

//! Bitwarden Secrets Manager as a secret source, by commands: a server in Python that encrypts as the service does.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::stage::{installed, run, said};
use test_support::canary::Canary;
use test_support::install::Install;
use test_support::*;

#[tokio::test]
async fn a_secret_of_bitwarden_is_decrypted_and_a_wrong_token_is_reported() {
    let value = Canary::new("cnry");
    let mut server = Command::new(installed("real-venv/bin/python"));
    server.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/real/programs/sources/bitwarden.py"));
    server.env("VALUE", &value.text).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut server = server.stderr(Stdio::null()).spawn().expect("`tests/run` installs Python");
    let mut line = String::new();
    let out = server.stdout.take().expect("piped");
    BufReader::new(out).read_line(&mut line).expect("it says where it is");
    let about: Value = serde_json::from_str(&line).expect("JSON");
    let (port, id) = (&about["port"], about["id"].as_str().expect("an id"));
    let token = Canary::of(about["token"].as_str().expect("a token").to_owned());
    let (start, _) = token.text.rsplit_once(':').expect("a key");
    let wrong = Canary::of(format!("{start}:AAECAwQFBgcICQoLDA0ODw=="));

    let origin = Origin::saying("fine");
    let plan = Plan::api_key().no_agents().allow(&format!("127.0.0.1:{port}"));
    let install = Install::new(&plan, &origin);
    let (api, identity) = (
        format!("api=http://127.0.0.1:{port}/api"),
        format!("identity=http://127.0.0.1:{port}/identity"),
    );
    let mut said_all = String::new();
    let mut said_of = async |arguments: &[&str], code: i32| {
        let output = run(install.keyward(arguments)).await;
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {}", said(&output));
        said_all.push_str(&said(&output));
        said(&output)
    };
    for (name, token) in [("bw", &token), ("wrong", &wrong)] {
        let file = install.folder().join(name);
        std::fs::write(&file, &token.text).expect("a file");
        let token = format!("token={}", file.display());
        let added =
            ["source", "add", name, "bitwarden", &api, &identity, "--credential-file", &token];
        said_of(&added, 0).await;
        std::fs::remove_file(file).expect("it was there");
    }
    let refused = said_of(&["source", "test", "wrong", id], 1).await;
    assert!(refused.contains("cannot be decrypted"), "{refused}");
    let absent = client_of(&token.text);
    let refused = said_of(&["source", "test", "bw", absent], 1).await;
    assert!(refused.contains("it has no value of that reference"), "{refused}");
    let tested = said_of(&["source", "test", "bw", id], 0).await;
    assert!(tested.contains("fetched"), "{tested}");
    let from = format!("api_key=bw:{id}");
    said_of(&["connection", "add", "acme", "--name", "b", "--no-test", "--secret-from", &from], 0)
        .await;

    let gateway = install.serve();
    let answer = said_of(&["connection", "request", "b", "/a"], 0).await;
    assert!(answer.contains("fine"), "{answer}");
    let sent = origin.received();
    assert_eq!(sent.last().expect("a request").head.one("x-api-key"), Some(&*value.text));
    drop(gateway);
    for secret in [&value, &token, &wrong] {
        secret.assert_absent("what the commands said", said_all.as_bytes());
        secret.assert_absent_below(&install.data());
    }
    drop(server.stdin.take());
    let _ = server.wait();
}

/// The id of the client in an access token: an id of no secret.
fn client_of(token: &str) -> &str {
    token.split('.').nth(1).expect("an id")
}

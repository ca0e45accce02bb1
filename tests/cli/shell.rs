//! The README's way to work, by the built binary: add a credential and an agent, use it, take it
//! away; what the commands print never holds the secret.

use test_support::canary::Canary;
use test_support::finished::{Finished, finished};
use test_support::process::Served;
use test_support::*;

struct Shell {
    served: Served,
    origin: Origin,
    secret: Canary,
    said: Vec<u8>,
}

impl Shell {
    async fn new() -> Self {
        let origin = Origin::saying("fine");
        let plan = Plan::api_key();
        let served = Served::start(&plan, &origin, &[]);
        Self { served, origin, secret: Canary::new("scrt"), said: vec![] }
    }

    /// Runs a command; `input` is what it reads.
    fn run(&mut self, arguments: &[&str], input: &str) -> Finished {
        let done = finished(self.served.keyward(arguments), input);
        self.said.extend(done.out.as_bytes());
        self.said.extend(done.err.as_bytes());
        done
    }

    /// As [`Shell::run`]; its JSON.
    fn json(&mut self, arguments: &[&str], input: &str) -> serde_json::Value {
        self.run(&[arguments, &["--json"]].concat(), input).json()
    }

    async fn get(&self, token: &str) -> Message {
        let mut wire = Wire::to(self.served.proxy).await;
        wire.ask(absolute("GET /a", HOST, token)).await
    }

    /// What the commands said and every file of the gateway are free of the secret.
    fn assert_kept(&self) {
        self.secret.assert_absent("what the commands said", &self.said);
        self.secret.assert_absent("the gateway's output", self.served.output().as_bytes());
        self.secret.assert_absent_below(&self.served.data());
    }
}

#[tokio::test]
async fn a_key_from_stdin_serves_an_agent_until_the_agent_is_unbound() {
    let mut shell = Shell::new().await;
    let secret = shell.secret.text.clone();
    let add = ["connection", "add", "acme", "--name", "work", "--secret-stdin", "api_key"];
    shell.json(&add, &format!("{secret}\n"));
    let added = shell.json(&["agent", "add", "bob"], "");
    let token = added["token"]["token"].as_str().expect("shown once").to_owned();
    assert_eq!(shell.get(&token).await.head.status(), 403, "not bound yet");
    shell.run(&["agent", "bind", "bob", "work"], "").ok();
    assert_eq!(shell.get(&token).await.text(), "fine");
    assert_eq!(shell.origin.only().head.all("x-api-key"), [&*secret]);

    for listing in [
        &["connection", "list"][..],
        &["connection", "show", "work"],
        &["agent", "list"],
        &["agent", "show", "bob"],
        &["provider", "show", "acme"],
        &["explain", "GET", "https://api.acme.test/a", "--agent", "bob"],
    ] {
        shell.json(listing, "");
        assert_eq!(shell.run(listing, "").code, 0, "{listing:?}");
    }
    shell.run(&["agent", "unbind", "bob", "work"], "").ok();
    assert_eq!(shell.get(&token).await.head.status(), 403, "no longer bound");
    shell.run(&["agent", "remove", "bob"], "").ok();
    assert_eq!(shell.get(&token).await.head.status(), 407, "no longer anyone");
    shell.assert_kept();
}

#[tokio::test]
async fn a_secret_in_an_argument_is_refused() {
    let mut shell = Shell::new().await;
    let field = format!("api_key={}", shell.secret.text);
    let add = ["connection", "add", "acme", "--name", "work", "--field", &field];
    let refused = shell.run(&add, "");
    assert_ne!(refused.code, 0);
    let said = refused.err;
    assert!(said.starts_with("error: ") && said.contains("hint: "), "{said}");
    shell.assert_kept();
}

#[tokio::test]
async fn exit_codes_tell_what_kind_of_failure_it_is() {
    let mut shell = Shell::new().await;
    for (arguments, code) in [
        (&["health"][..], 0),
        (&["agent", "list"], 0),
        (&["no-such-command"], 2),
        (&["agent", "list", "--no-such-flag"], 2),
        (&["agent", "show", "nobody"], 5),
        (&["connection", "show", "nothing"], 5),
    ] {
        assert_eq!(shell.run(arguments, "").code, code, "{arguments:?}");
    }
    shell.served.kill();
    assert_eq!(shell.run(&["health"], "").code, 3, "not reachable");
}

#[tokio::test]
async fn without_a_gateway_the_commands_open_the_store_themselves() {
    let mut shell = Shell::new().await;
    let secret = format!("{}\n", shell.secret.text);
    let add = ["connection", "add", "acme", "--name", "work", "--secret-stdin", "api_key"];
    shell.json(&add, &secret);
    assert_eq!(shell.served.terminate(), Some(0));
    let listed = shell.json(&["connection", "list"], "");
    assert!(listed["items"].to_string().contains("\"work\""), "{listed}");
    shell.json(&["agent", "add", "bob"], "");
    shell.run(&["agent", "bind", "bob", "work"], "").ok();
    shell.served.restart();
    let shown = shell.json(&["agent", "show", "bob"], "");
    assert!(shown.to_string().contains("work"), "{shown}");
    shell.assert_kept();
}

#[tokio::test]
async fn the_bundle_contains_the_ca_and_no_private_key() {
    let mut shell = Shell::new().await;
    let ca = shell.run(&["ca", "show"], "").out;
    let bundle = shell.run(&["ca", "bundle"], "").out;
    assert_eq!(ca.matches("BEGIN CERTIFICATE").count(), 1);
    assert!(bundle.contains(ca.trim()), "the CA is in the bundle");
    assert!(!ca.contains("PRIVATE") && !bundle.contains("PRIVATE"));
}

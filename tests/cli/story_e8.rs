//! Story E8, webhooks: a service's webhook reaches an agent's program only when its signature is valid, and the program never
//! holds the secret of the service. `story_e.rs` has the tokens of scripts.

use std::process::Stdio;

use aws_lc_rs::hmac;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};

use test_support::canary::Canary;
use test_support::finished::{Finished, finished};
use test_support::process::Served;
use test_support::*;

/// A gateway, and the service that posts to a hook of it.
struct World {
    served: Served,
    secret: Canary,
    /// The path of the hook.
    path: String,
    /// Where the service reaches it.
    admin: String,
}

impl World {
    /// An operator makes the hook `deploys`, and gives its URL to the service.
    async fn new() -> Self {
        let plan = Plan::api_key().no_agents();
        let origin = Origin::saying("fine");
        let served = Served::start(&plan, &origin, &[]);
        let secret = Canary::new("of-the-service-");
        let mut world = Self { served, secret, path: String::new(), admin: String::new() };
        let secret = world.secret.text.clone();
        world.says(&["hook", "add", "deploys", "--scheme", "meta", "--secret-stdin"], &secret);
        let shown = world.says(&["hook", "show", "deploys", "--json"], "");
        let shown: Value = serde_json::from_str(&shown).expect("JSON");
        let url = shown["url"].as_str().expect("a URL").parse::<http::Uri>().expect("a URL");
        world.path = url.path().to_owned();
        world.admin =
            url.authority().expect("an address").as_str().replace("localhost", "127.0.0.1");
        world
    }

    fn run(&self, arguments: &[&str], input: &str, token: Option<&str>) -> Finished {
        let mut command = self.served.keyward(arguments);
        command.envs(token.map(|token| ("KEYWARD_TOKEN", token)));
        finished(command, input)
    }

    fn says(&self, arguments: &[&str], input: &str) -> String {
        let out = self.run(arguments, input, None).ok();
        self.secret.assert_absent("what a command said", out.as_bytes());
        out
    }

    /// What the service is answered.
    async fn posts(&self, fields: &str, body: &str) -> Message {
        let mut wire = Wire::to(&self.admin).await;
        let (path, admin, length) = (&self.path, &self.admin, body.len());
        wire.send(format!(
            "POST {path} HTTP/1.1\r\nHost: {admin}\r\nContent-Type: application/json\r\n{fields}\
             Connection: close\r\nContent-Length: {length}\r\n\r\n{body}"
        ))
        .await;
        wire.answer("POST").await
    }
}

/// The field by which Meta signs.
fn signed(secret: &str, body: &str) -> String {
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes()), body.as_bytes());
    let hex: String = tag.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    format!("X-Hub-Signature-256: sha256={hex}\r\n")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn e8_a_webhook_reaches_a_program_only_when_its_signature_is_valid() {
    let world = World::new().await;
    world.says(&["user", "add", "runtime", "--role", "admin"], "");
    let scope = ["token", "add", "runtime", "--scope", "hook-events:write", "--json"];
    let made: Value = serde_json::from_str(&world.says(&scope, "")).expect("JSON");
    let token = made["token"].as_str().or(made["token"]["token"].as_str()).expect("shown once");
    // The program has a token for events. It can neither read the secret nor change the hook.
    for closed in [
        &["hook", "set", "deploys", "--pause"][..],
        &["hook", "rotate", "deploys"],
        &["hook", "remove", "deploys", "--yes"],
    ] {
        assert_eq!(world.run(closed, "", Some(token)).code, 4, "{closed:?}");
    }
    let mut listening =
        tokio::process::Command::from(world.served.keyward(&["hook", "listen", "deploys"]));
    listening.env("KEYWARD_TOKEN", token).stdin(Stdio::null());
    let listening = listening.stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let mut listening = listening.spawn().expect("the binary was built");
    let mut lines = BufReader::new(listening.stdout.take().expect("piped")).lines();
    let secret = &world.secret.text;
    let (first, second) = (r#"{"deploy":1}"#, r#"{"deploy":2}"#);
    for (fields, body) in [
        (String::new(), first),
        (signed("another secret", first), first),
        (signed(secret, first), second),
    ] {
        let refused = world.posts(&fields, body).await;
        assert_eq!(refused.head.status(), 401, "{fields}{body}: {}", refused.text());
    }
    for (body, repeated) in [(first, false), (first, true), (second, false)] {
        let taken = world.posts(&signed(secret, body), body).await;
        assert_eq!((taken.head.status(), &taken.json()["repeated"]), (200, &Value::Bool(repeated)));
    }
    for body in [first, second] {
        let line = patiently("an event", lines.next_line()).await.expect("text").expect("a line");
        world.secret.assert_absent("an event", line.as_bytes());
        let event: Value = serde_json::from_str(&line).expect("JSON");
        assert_eq!(event["body"], body, "what was signed, once and in order");
    }
    listening.kill().await.expect("our child");
    let mut said = String::new();
    listening.stderr.take().expect("piped").read_to_string(&mut said).await.expect("text");
    world.secret.assert_absent("what the program said", said.as_bytes());
    let audit = world.served.data().join("audit/audit.jsonl");
    let audit = std::fs::read_to_string(audit).expect("a file");
    let refused = |code: &str| audit.matches(&format!("\"code\":\"{code}\"")).count();
    assert_eq!((refused("signature_missing"), refused("signature_wrong")), (1, 2), "{audit}");
    assert_eq!(refused("repeated"), 1, "{audit}");
    world.secret.assert_absent_below(&world.served.data());
    Canary::of(token.to_owned()).assert_absent_below(&world.served.data());
}

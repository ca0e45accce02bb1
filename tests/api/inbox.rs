//! Hooks: webhooks of services for programs. `refused` has what must not arrive, `delivered` what a program gets, `queue`
//! what waits for a reader, `kept` delivered events, `listen` programs that read, `challenges` the requests that check a URL, `removed` hooks
//! without their connection.

mod challenges;
mod delivered;
mod fetched;
mod file;
mod kept;
mod killed;
mod listen;
mod listener;
mod public_keys;
mod queue;
mod refused;
mod removed;

use aws_lc_rs::hmac;
use serde_json::{Value, json};

use test_support::api::api;
use test_support::canary::Canary;
use test_support::hooks::Hooks;
use test_support::wire::Wire;
use test_support::*;

/// What the service signs with.
const SECRET: &str = "the-secret-of-the-service-canary";

/// A gateway, and a program that takes events.
struct World {
    lab: Lab,
    program: Hooks,
    /// The key of deliveries.
    key: Canary,
}

impl World {
    /// With hook `ci` of the scheme `github`.
    async fn start(plan: Plan) -> Self {
        Self::of(plan, "github").await
    }

    /// With hook `ci` of this scheme.
    async fn of(plan: Plan, scheme: &str) -> Self {
        let program = Hooks::start().await;
        let plan = program.reached(plan).no_agents();
        let mut lab = plan.start(Origin::saying("fine")).await;
        lab.guard(Canary::of(SECRET.to_owned()));
        let hook = json!({"name": "ci", "scheme": scheme, "to": program.url(), "secret": SECRET});
        let made = api(&lab, "POST", "/hooks", hook, 201).await;
        let key = Canary::of(made["signing_key"].as_str().expect("shown once").to_owned());
        lab.guard(key.clone());
        assert!(made["url"].as_str().is_some_and(|url| url.ends_with("/hooks/ci")), "{made}");
        Self { lab, program, key }
    }

    async fn hook(&self) -> Value {
        api(&self.lab, "GET", "/hooks/ci", Value::Null, 200).await
    }

    /// Waits until the hook is so.
    async fn standing(&self, what: &str, is_so: impl Fn(&Value) -> bool) -> Value {
        until_some(what, async || {
            let hook = self.hook().await;
            is_so(&hook).then_some(hook)
        })
        .await
    }

    /// What GitHub sends.
    async fn push(&self, body: &str) -> Message {
        self.push_signed_by(SECRET, body).await
    }

    /// The same with this secret.
    async fn push_signed_by(&self, secret: &str, body: &str) -> Message {
        let signature = format!("X-Hub-Signature-256: sha256={}\r\n", signed(secret, body));
        let fields = format!("{signature}X-GitHub-Event: push\r\nCookie: a=b\r\n");
        send(&self.lab, "/hooks/ci", &fields, body).await
    }
}

/// HMAC-SHA256, hex.
fn signed(secret: &str, body: &str) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
    let tag = hmac::sign(&key, body.as_bytes());
    tag.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// One request from outside to the admin listener.
async fn send(lab: &Lab, path: &str, fields: &str, body: &str) -> Message {
    send_to(lab.gateway.admin, path, fields, body).await
}

/// The same to this address.
async fn send_to(at: std::net::SocketAddr, path: &str, fields: &str, body: &str) -> Message {
    let (port, length) = (at.port(), body.len());
    let mut wire = Wire::to(at).await;
    wire.send(format!(
        "POST {path} HTTP/1.1\r\nHost: localhost:{port}\r\nContent-Type: application/json\r\n\
         {fields}Connection: close\r\nContent-Length: {length}\r\n\r\n{body}"
    ))
    .await;
    wire.answer("POST").await
}

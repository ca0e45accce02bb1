//! A receiver of webhooks: answers as a test says, and verifies every signature with its own code.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex};

use aws_lc_rs::hmac;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::Value;

use super::canary::Canary;
use super::lab::{Lab, Plan};
use super::origin::Origin;
use super::wire::{Message, patiently};

/// The receiver's host.
const HOOKS: &str = "hooks.acme.test";

/// It, running.
pub struct Hooks {
    pub origin: Origin,
    answers: Arc<Mutex<VecDeque<String>>>,
    /// No request is answered.
    holds: Arc<AtomicBool>,
}

/// One event, as it arrived.
#[derive(Debug)]
pub struct Event {
    pub id: String,
    pub kind: String,
    pub data: Value,
    pub message: Message,
}

impl Hooks {
    /// One that takes everything.
    pub async fn start() -> Self {
        let answers = Arc::<Mutex<VecDeque<String>>>::default();
        let holds = Arc::<AtomicBool>::default();
        let (next, held) = (answers.clone(), holds.clone());
        let origin = Origin::named(&[HOOKS], move |stream| {
            let (next, held, notes) = (next.clone(), held.clone(), stream.notes());
            async move {
                let mut wire = stream.into_wire();
                while let Some(request) = wire.request().await {
                    notes.note(request);
                    let answer = next.lock().expect("not poisoned").pop_front();
                    let answer = answer.unwrap_or_else(|| status(204));
                    // Silence until the client goes.
                    if answer.is_empty() || held.load(SeqCst) {
                        wire.is_closed().await;
                        return;
                    }
                    wire.send(answer).await;
                }
            }
        });
        Self { origin, answers, holds }
    }

    /// A plan by which a gateway reaches it.
    pub fn reached(&self, plan: Plan) -> Plan {
        let addr = self.origin.addr;
        plan.resolve(&format!("{HOOKS}: \"{addr}\"")).allow(&addr.to_string())
    }

    /// Where it is.
    pub fn url(&self) -> String {
        format!("https://{HOOKS}/keyward")
    }

    /// What the next requests are answered with, in order; nothing at all where it is empty.
    pub fn answers(&self, answers: impl IntoIterator<Item = String>) {
        self.answers.lock().expect("not poisoned").extend(answers);
    }

    /// Whether requests that arrive from now on get no answer.
    pub fn hold(&self, holds: bool) {
        self.holds.store(holds, SeqCst);
    }

    /// Makes the webhook `ops` that is told of these events. Its key is looked for when the lab is finished.
    pub async fn subscribed(&self, lab: &mut Lab, events: &[&str]) -> Canary {
        let new = serde_json::json!({"name": "ops", "url": self.url(), "events": events});
        let made = lab.gateway.api("POST", "/webhooks", &new.to_string()).await.is(201);
        let key = Canary::of(made.json()["signing_key"].as_str().expect("shown once").to_owned());
        lab.guard(key.clone());
        key
    }

    /// The next request, signed with `key` among others.
    pub async fn message(&mut self, key: &Canary) -> Message {
        let message = patiently("an event", self.origin.arrival()).await;
        let field = |name: &str| message.head.one(name).unwrap_or_default().to_owned();
        let (id, time) = (field("webhook-id"), field("webhook-timestamp"));
        let expected = format!("v1,{}", signature(key, &id, &time, &message.body));
        let signatures = field("webhook-signature");
        assert!(signatures.split(' ').any(|one| one == expected), "{signatures}");
        message
    }

    /// The next event, signed with `key` among others.
    pub async fn event(&mut self, key: &Canary) -> Event {
        let message = self.message(key).await;
        let id = message.head.one("webhook-id").unwrap_or_default().to_owned();
        assert_eq!(message.head.one("content-type"), Some("application/json"));
        let body = message.json();
        let kind = body["type"].as_str().expect("a type").to_owned();
        Event { id, kind, data: body["data"].clone(), message }
    }

    /// The types of the next events.
    pub async fn kinds(&mut self, key: &Canary, count: usize) -> Vec<String> {
        let mut kinds = Vec::new();
        for _ in 0..count {
            kinds.push(self.event(key).await.kind);
        }
        kinds.sort();
        kinds
    }
}

/// An answer without a body.
pub fn status(status: u16) -> String {
    format!("HTTP/1.1 {status} x\r\nContent-Length: 0\r\n\r\n")
}

/// As the specification says it: HMAC-SHA256 over `id.timestamp.body`.
fn signature(key: &Canary, id: &str, time: &str, body: &[u8]) -> String {
    let secret = key.text.strip_prefix("whsec_").expect("the prefix");
    let secret = BASE64_STANDARD.decode(secret).expect("base64");
    let signed = [id.as_bytes(), b".", time.as_bytes(), b".", body].concat();
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &secret), &signed);
    BASE64_STANDARD.encode(tag.as_ref())
}

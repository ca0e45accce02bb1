//! The answers of providers to requests with the credential: recorded in form, and with `fine` where their SDKs
//! read the result.

use crate::served::{Service, Takes};
use test_support::Message;

const BEARER: Takes = Takes::Field("authorization", "Bearer ");
const KEY: &str = "{ api_key: { env: CANARY } }";
const TOKEN: &str = "{ token: { env: CANARY } }";

pub(crate) const OPENAI: Service = Service::known("openai", KEY, &["api.openai.com"], BEARER);
pub(crate) const ANTHROPIC: Service =
    Service::known("anthropic", KEY, &["api.anthropic.com"], Takes::Field("x-api-key", ""));
pub(crate) const GEMINI: Service = Service::known(
    "google-gemini",
    KEY,
    &["generativelanguage.googleapis.com"],
    Takes::Field("x-goog-api-key", ""),
);
pub(crate) const STRIPE: Service = Service::known("stripe", KEY, &["api.stripe.com"], BEARER);
pub(crate) const SLACK: Service = Service::known("slack", TOKEN, &["slack.com"], BEARER);
pub(crate) const NOTION: Service = Service::known("notion", TOKEN, &["api.notion.com"], BEARER);
pub(crate) const HUGGING_FACE: Service =
    Service::known("hugging-face", TOKEN, &["huggingface.co"], BEARER);
pub(crate) const GITHUB: Service = Service::known("github", TOKEN, &["api.github.com"], BEARER);

/// By host, method and path: the answer, and the one in pieces for those who ask for a stream.
const ANSWERS: &[(&str, &str, &str, &str, &str)] = &[
    ("api.openai.com", "GET", "/v1/models", include_str!("answers/openai-models.json"), ""),
    (
        "api.openai.com",
        "POST",
        "/v1/chat/completions",
        include_str!("answers/openai-chat.json"),
        include_str!("answers/openai-chat.sse"),
    ),
    ("api.openai.com", "POST", "/v1/responses", include_str!("answers/openai-response.json"), ""),
    (
        "api.anthropic.com",
        "POST",
        "/v1/messages",
        include_str!("answers/anthropic-message.json"),
        include_str!("answers/anthropic-message.sse"),
    ),
    (
        "generativelanguage.googleapis.com",
        "POST",
        "/v1/models/gemini-2.5-flash:generateContent",
        include_str!("answers/gemini-content.json"),
        "",
    ),
    ("api.stripe.com", "GET", "/v1/balance", include_str!("answers/stripe-balance.json"), ""),
    ("slack.com", "POST", "/api/chat.postMessage", include_str!("answers/slack-message.json"), ""),
    ("api.notion.com", "GET", "/v1/users/me", include_str!("answers/notion-user.json"), ""),
    (
        "huggingface.co",
        "GET",
        "/api/whoami-v2",
        include_str!("answers/huggingface-whoami.json"),
        "",
    ),
    ("api.github.com", "GET", "/user", include_str!("answers/github-user.json"), ""),
];

/// The provider's answer to a request.
pub(crate) fn answer(request: &Message) -> Vec<u8> {
    let head = &request.head;
    let (host, path) = (head.one("host").unwrap_or_default(), head.target());
    let path = path.split('?').next().unwrap_or_default();
    let found =
        ANSWERS.iter().find(|answer| (answer.0, answer.1, answer.2) == (host, head.method(), path));
    let body: serde_json::Value = serde_json::from_slice(&request.body).unwrap_or_default();
    match found {
        None => http("404 Not Found", "application/json", "{\"message\":\"no such path\"}"),
        Some((.., stream)) if body["stream"] == true => events(stream),
        Some((.., whole, _)) => http("200 OK", "application/json", whole),
    }
}

/// An answer in one piece.
pub(crate) fn http(status: &str, kind: &str, body: impl AsRef<[u8]>) -> Vec<u8> {
    let body = body.as_ref();
    let length = body.len();
    let head =
        format!("HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n\r\n");
    [head.as_bytes(), body].concat()
}

/// Server-sent events, each a chunk.
fn events(text: &str) -> Vec<u8> {
    let chunks: String = text.split_inclusive("\n\n").map(chunk).collect();
    [EVENT_STREAM, &chunks, END].concat().into_bytes()
}

/// The head of server-sent events.
pub(crate) const EVENT_STREAM: &str =
    "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";

/// A piece of a body without a length.
pub(crate) fn chunk(text: &str) -> String {
    format!("{:x}\r\n{text}\r\n", text.len())
}

/// The end of such a body.
pub(crate) const END: &str = "0\r\n\r\n";

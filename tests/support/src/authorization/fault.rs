//! Faults of a token endpoint, and the delivery of its answers.

use std::fmt;
use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use super::super::origin::Stream;
use super::super::wire::Message;
use super::{Issuer, answer};

/// What goes wrong with one call. "Before" is before anything was done about it: a rotated token is
/// then not spent.
#[derive(Clone)]
pub enum Fault {
    /// Answers this, byte for byte, and does nothing.
    Says(Vec<u8>),
    /// Does it, and answers what is made of the honest reply.
    Bends(Arc<dyn Fn(Value) -> Vec<u8> + Send + Sync>),
    /// A TCP reset, nothing done.
    ResetBefore,
    /// A TCP reset, all done.
    ResetAfter,
    /// No answer, nothing done.
    HangsBefore,
    /// No answer, all done.
    HangsAfter,
    /// Does it, and ends the stream in order without an answer.
    ClosesAfter,
    /// Does it, and answers a byte at a time.
    Drips(Duration),
    /// Does it, and breaks off in the middle of the body.
    Truncates,
    /// Does it, and answers when a permit is added.
    Held(Arc<Semaphore>),
    /// Does it, and resets the stream when a permit is added.
    HeldAndLost(Arc<Semaphore>),
}

impl fmt::Debug for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Says(_) => "Says",
            Self::Bends(_) => "Bends",
            Self::ResetBefore => "ResetBefore",
            Self::ResetAfter => "ResetAfter",
            Self::HangsBefore => "HangsBefore",
            Self::HangsAfter => "HangsAfter",
            Self::ClosesAfter => "ClosesAfter",
            Self::Drips(_) => "Drips",
            Self::Truncates => "Truncates",
            Self::Held(_) => "Held",
            Self::HeldAndLost(_) => "HeldAndLost",
        })
    }
}

impl Fault {
    /// A status with a JSON body.
    pub fn json(status: u16, body: &Value) -> Self {
        Self::Says(answer(status, body))
    }

    /// An OAuth error.
    pub fn error(status: u16, code: &str) -> Self {
        Self::json(status, &json!({ "error": code, "error_description": "<b>no</b>" }))
    }

    /// A status with fields and a body; fields end with CRLF each.
    pub fn status(status: u16, fields: &str, body: &str) -> Self {
        let length = body.len();
        Self::Says(
            format!("HTTP/1.1 {status} Said\r\n{fields}Content-Length: {length}\r\n\r\n{body}")
                .into(),
        )
    }

    /// What a load balancer says while its server is away.
    pub fn bad_gateway() -> Self {
        Self::status(502, "Content-Type: text/html\r\n", "<html><h1>502 Bad Gateway</h1></html>")
    }

    /// 429, with `Retry-After` as given: seconds or a date.
    pub fn too_many(retry_after: &str) -> Self {
        Self::status(429, &format!("Retry-After: {retry_after}\r\n"), "{}")
    }

    /// Elsewhere.
    pub fn redirect(to: &str) -> Self {
        Self::status(307, &format!("Location: {to}\r\n"), "")
    }

    /// A good reply of `bytes` bytes, padded.
    pub fn huge(bytes: usize) -> Self {
        Self::Bends(Arc::new(move |mut honest| {
            honest["padding"] = "x".repeat(bytes).into();
            answer(200, &honest)
        }))
    }

    /// A good reply, gzip, that unpacks to `bytes` bytes.
    pub fn gzip_bomb(bytes: usize) -> Self {
        Self::Bends(Arc::new(move |mut honest| {
            honest["padding"] = "x".repeat(bytes).into();
            gzipped(&honest)
        }))
    }

    /// The honest reply, gzip.
    pub fn gzip() -> Self {
        Self::Bends(Arc::new(|honest| gzipped(&honest)))
    }

    /// This body, gzip, and nothing done.
    pub fn gzipped(body: &Value) -> Self {
        Self::Says(gzipped(body))
    }

    /// The honest reply with a member changed; `null` in the reply where `value` is.
    pub fn with(name: &'static str, value: Value) -> Self {
        Self::Bends(Arc::new(move |mut honest| {
            honest[name] = value.clone();
            answer(200, &honest)
        }))
    }

    /// The honest reply without a member.
    pub fn without(name: &'static str) -> Self {
        Self::Bends(Arc::new(move |mut honest| {
            honest.as_object_mut().expect("an object").remove(name);
            answer(200, &honest)
        }))
    }

    /// The honest reply in other words: status, content type, body.
    pub fn worded(
        wording: impl Fn(Value) -> (u16, Option<&'static str>, Vec<u8>) + Send + Sync + 'static,
    ) -> Self {
        Self::Bends(Arc::new(move |honest| {
            let (status, kind, body) = wording(honest);
            let kind = kind.map(|kind| format!("Content-Type: {kind}\r\n")).unwrap_or_default();
            let head =
                format!("HTTP/1.1 {status} Said\r\n{kind}Content-Length: {}\r\n\r\n", body.len());
            [head.into_bytes(), body].concat()
        }))
    }

    /// Whether it comes before anything is done.
    pub fn prevents(&self) -> bool {
        matches!(self, Self::Says(_) | Self::ResetBefore | Self::HangsBefore)
    }
}

fn gzipped(body: &Value) -> Vec<u8> {
    let mut gzip = GzEncoder::new(vec![], Compression::best());
    gzip.write_all(body.to_string().as_bytes()).expect("memory");
    let body = gzip.finish().expect("memory");
    let length = body.len();
    let head = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Encoding: gzip\r\n\
         Content-Length: {length}\r\n\r\n"
    );
    [head.into_bytes(), body].concat()
}

/// Answers one call of the token endpoint; the stream when it goes on.
pub(super) async fn token(stream: Stream, issuer: &Issuer, request: &Message) -> Option<Stream> {
    let fault = issuer.next_fault();
    let prevented = fault.as_ref().is_some_and(Fault::prevents);
    let (number, status, reply) = issuer.token(request, stream.number, prevented);
    let stream = deliver(stream, fault, (status, &reply)).await?;
    issuer.delivered(number);
    Some(stream)
}

/// Answers with the reply, or with what goes wrong; the stream when it was all written and goes on.
pub async fn deliver(
    mut stream: Stream,
    fault: Option<Fault>,
    (status, reply): (u16, &Value),
) -> Option<Stream> {
    let honest = || answer(status, reply);
    let bytes = match fault {
        None => honest(),
        Some(Fault::Says(bytes)) => bytes,
        Some(Fault::Bends(bend)) if status == 200 => bend(reply.clone()),
        Some(Fault::Bends(_)) => honest(),
        Some(Fault::ResetBefore | Fault::ResetAfter) => {
            stream.into_wire().abort();
            return None;
        }
        Some(Fault::HangsBefore | Fault::HangsAfter) => {
            stream.hold().await;
            return None;
        }
        Some(Fault::ClosesAfter) => {
            stream.finish().await;
            return None;
        }
        Some(Fault::Drips(every)) => return drip(stream, &honest(), every).await,
        Some(Fault::Truncates) => {
            let bytes = honest();
            // What was sent stays in flight, so that the client reads it before the end.
            drop(stream.try_send(&bytes[..bytes.len() - 10]).await);
            stream.finish().await;
            return None;
        }
        Some(Fault::Held(gate)) => {
            gate.acquire().await.expect("an open gate").forget();
            honest()
        }
        Some(Fault::HeldAndLost(gate)) => {
            gate.acquire().await.expect("an open gate").forget();
            stream.into_wire().abort();
            return None;
        }
    };
    stream.try_send(bytes).await.ok()?;
    Some(stream)
}

async fn drip(mut stream: Stream, bytes: &[u8], every: Duration) -> Option<Stream> {
    let mut tick = tokio::time::interval(every);
    for byte in bytes {
        tick.tick().await;
        stream.try_send([*byte]).await.ok()?;
    }
    Some(stream)
}

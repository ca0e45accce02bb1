//! An authorization server on loopback with TLS. It issues, rotates and revokes tokens by its rules,
//! misbehaves when a test tells it to, and records requests and answers.

pub mod fault;
mod issuer;
mod state;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use base64::Engine;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use percent_encoding::percent_decode_str;
use rustls::pki_types::ServerName;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio_rustls::TlsConnector;

pub use fault::Fault;
#[allow(unused_imports, reason = "two test binaries share this, each uses a part")]
pub use issuer::{Asked, ClientAuth, Issuer, Pair, Rules, TokenCall};

use super::lab::Plan;
use super::origin::{Origin, Stream};
use super::pki::{pki, trusting};
use super::wire::{Message, Seen, Wire};

/// The server's name.
pub const AUTH_HOST: &str = "auth.acme.test";
/// Its issuer identifier.
pub const ISSUER: &str = "https://auth.acme.test";
/// The client that it knows from the start.
pub const CLIENT: &str = "keyward-client";
/// That client's secret: what naive code breaks on.
pub const CLIENT_SECRET: &str = "s+e/c%r:e&t =~";

/// A running server. Dropping it stops it.
pub struct Authorization {
    /// Its socket and everything that came in on it.
    pub origin: Origin,
    issuer: Issuer,
}

impl Authorization {
    /// With the usual rules: Basic, rotation, an hour.
    pub async fn start() -> Self {
        Self::with(Rules::default()).await
    }

    /// With these rules.
    pub async fn with(rules: Rules) -> Self {
        Self::named(&[AUTH_HOST], rules).await
    }

    /// A certificate for other names.
    pub async fn named(names: &[&str], rules: Rules) -> Self {
        let issuer = Issuer::new(rules);
        let serving = issuer.clone();
        let tls = Some(pki().server(names));
        let origin = Origin::with_tls(tls, move |stream| serve(stream, serving.clone()));
        Self { origin, issuer }
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.origin.addr
    }

    /// A gateway that reaches it by its name.
    pub fn reached(&self, plan: Plan) -> Plan {
        let addr = self.addr();
        plan.resolve(&format!("{AUTH_HOST}: \"{addr}\"")).allow(&addr.to_string())
    }

    /// What it has issued, and how it is told what to do; may be kept by scripts.
    pub fn issuer(&self) -> &Issuer {
        &self.issuer
    }

    /// Every call of the token endpoint so far, in order of arrival.
    pub fn calls(&self) -> Vec<TokenCall> {
        self.issuer.calls()
    }

    /// The one call of the token endpoint.
    ///
    /// # Panics
    /// When there was none, or several.
    pub fn only_call(&self) -> TokenCall {
        let mut calls = self.calls();
        assert_eq!(calls.len(), 1, "token calls: {calls:#?}");
        calls.remove(0)
    }

    /// Waits until the token endpoint was asked `count` times in all.
    pub async fn asked(&self, count: usize) {
        super::wire::until(&format!("token call {count}"), async || self.calls().len() >= count)
            .await;
    }

    /// One request of a client that is not Keyward: a whole head and body.
    pub async fn ask(&self, request: &str) -> Message {
        ask_at(self.addr(), request).await
    }

    /// The next call of the token endpoint goes wrong like this; several queue up.
    pub fn fail_next(&self, fault: Fault) {
        self.issuer.fail_next(fault);
    }

    /// Every call goes wrong like this, until [`Authorization::heal`].
    pub fn fail_always(&self, fault: Fault) {
        self.issuer.fail_always(Some(fault));
    }

    /// Nothing goes wrong any more.
    pub fn heal(&self) {
        self.issuer.fail_always(None);
    }

    /// Each request at a path other than the token endpoint waits from now on until the test adds a permit.
    pub fn hold(&self, path: &str) -> Arc<Semaphore> {
        let gate = Arc::new(Semaphore::new(0));
        self.issuer.hold(path, gate.clone());
        gate
    }

    /// The next call is done at once and answered when the test adds a permit.
    pub fn hold_next(&self) -> Arc<Semaphore> {
        let gate = Arc::new(Semaphore::new(0));
        self.fail_next(Fault::Held(gate.clone()));
        gate
    }
}

/// One request, a whole head and body, to whoever is [`AUTH_HOST`] at this address.
pub async fn ask_at(addr: SocketAddr, request: impl AsRef<[u8]>) -> Message {
    let stream = TcpStream::connect(addr).await.expect("it listens");
    let name = ServerName::try_from(AUTH_HOST).expect("a name");
    let connector = TlsConnector::from(trusting(&pki().pem));
    let stream = connector.connect(name, stream).await.expect("the handshake");
    let mut wire = Wire::over(stream, None, Seen::default());
    let request = request.as_ref();
    wire.send(request).await;
    wire.answer(if request.starts_with(b"POST") { "POST" } else { "GET" }).await
}

/// A JWT with these claims, signed by nobody: who reads it had it from the token endpoint.
pub fn id_token(claims: &Value) -> String {
    let coded = |value: &Value| BASE64_URL_SAFE_NO_PAD.encode(value.to_string());
    format!("{}.{}.c2lnbmVk", coded(&json!({ "alg": "RS256", "kid": "1" })), coded(claims))
}

/// The parameters of a query or a form; a later one of a name wins, [`doubled`] tells.
pub fn form(text: &str) -> BTreeMap<String, String> {
    pairs(text).into_iter().collect()
}

/// Whether a name stands twice.
pub fn doubled(text: &str) -> bool {
    form(text).len() != pairs(text).len()
}

/// The parameters of a URL.
pub fn query(url: &str) -> BTreeMap<String, String> {
    form(url.split_once('?').map_or("", |(_, query)| query))
}

/// Percent-encodes a value for a query or a form.
pub fn encoded(text: &str) -> String {
    percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string()
}

fn pairs(text: &str) -> Vec<(String, String)> {
    let decoded =
        |part: &str| percent_decode_str(&part.replace('+', " ")).decode_utf8_lossy().into_owned();
    let pair = |part: &str| {
        let (name, value) = part.split_once('=').unwrap_or((part, ""));
        (decoded(name), decoded(value))
    };
    text.split('&').filter(|part| !part.is_empty()).map(pair).collect()
}

/// Id and secret of a `Basic` field: base64, then form-encoded each (RFC 6749 §2.3.1).
fn basic(field: Option<&str>) -> Option<(String, String)> {
    let coded = field?.strip_prefix("Basic ")?;
    let text = String::from_utf8(BASE64_STANDARD.decode(coded).ok()?).ok()?;
    let (id, secret) = text.split_once(':')?;
    let decoded = |part: &str| pairs(&format!("x={part}")).remove(0).1;
    Some((decoded(id), decoded(secret)))
}

async fn serve(mut stream: Stream, issuer: Issuer) {
    while let Some(request) = stream.request().await {
        let (path, _) =
            request.head.target().split_once('?').unwrap_or((request.head.target(), ""));
        match (request.head.method(), path) {
            ("POST", "/token" | "/renew") => {
                let Some(kept) = fault::token(stream, &issuer, &request).await else { return };
                stream = kept;
            }
            _ => {
                if let Some(gate) = issuer.held(path) {
                    gate.acquire().await.expect("an open gate").forget();
                }
                let answer = plain(&issuer, &request);
                if stream.try_send(answer).await.is_err() {
                    return;
                }
            }
        }
    }
}

/// Everything but the token endpoint.
fn plain(issuer: &Issuer, request: &Message) -> Vec<u8> {
    let target = request.head.target().to_owned();
    let path = target.split('?').next().unwrap_or_default();
    if let Some(scripted) = issuer.scripted(path) {
        return scripted;
    }
    match (request.head.method(), path) {
        ("GET", "/authorize") => {
            let to = issuer.consent(&target);
            format!("HTTP/1.1 302 Found\r\nLocation: {to}\r\nContent-Length: 0\r\n\r\n").into()
        }
        ("GET", "/userinfo") => issuer.userinfo(request),
        ("POST", "/device") => issuer.device(request),
        ("POST", "/revoke") => issuer.revoke(request),
        ("POST", "/register") => issuer.register(request),
        ("GET", "/.well-known/oauth-authorization-server") => answer(200, &issuer.metadata()),
        _ => answer(404, &json!({ "error": "not_found" })),
    }
}

/// A JSON answer.
pub fn answer(status: u16, body: &Value) -> Vec<u8> {
    let body = body.to_string();
    let length = body.len();
    format!(
        "HTTP/1.1 {status} Said\r\nContent-Type: application/json\r\nCache-Control: no-store\r\n\
         Content-Length: {length}\r\n\r\n{body}"
    )
    .into()
}

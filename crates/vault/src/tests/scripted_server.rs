//! An authorization server that gives scripted responses on a real socket of this machine, and providers made from
//! YAML.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use http::Response;
use jiff::Timestamp;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

use crate::grant::AppSecret;
use crate::grant::oauth::{OAuthClient, RequestContext, Tokens};
use keyward_base::secret::Secret;
use keyward_base::tokens::TokenSettings;
use keyward_net::call::HttpClient;
use keyward_net::dial::Dialler;
use keyward_net::guard::{AllowPrivate, Guard};
use keyward_net::tls;
use keyward_rules::provider::oauth::{OAuth, UrlTemplate};
use keyward_rules::provider::{Catalogue, Provider, check};

/// A provider with one auth method; `more` are further keys of the method in flow style. By default, the client's
/// secret is sent in the body.
pub(crate) fn provider(more: &str) -> Provider {
    let proof = if more.contains("client_auth") { "" } else { "client_auth: body, " };
    provider_of(&format!(
        "{{ id: o, kind: oauth2, token: 'https://auth.acme.test/t', \
         authorize: 'https://auth.acme.test/a', {proof}{more} }}"
    ))
}

/// A provider with this auth method.
pub(crate) fn provider_of(auth: &str) -> Provider {
    let text = format!("id: acme\nname: Acme\nhosts: [api.acme.test]\nauth: [{auth}]\n");
    check::file("p", &text, &Catalogue::default()).expect("a provider").remove(0)
}

/// The OAuth facts of [`provider`].
pub(crate) fn oauth(more: &str) -> Arc<OAuth> {
    provider(more).auth[0].oauth.clone().expect("an OAuth method")
}

/// A fixed time at noon.
pub(crate) fn noon() -> Timestamp {
    "2026-02-01T12:00:00Z".parse().expect("a time")
}

pub(crate) fn secret(text: &str) -> Secret {
    Secret::from(text.to_owned())
}

pub(crate) fn shown(secret: &Secret) -> &str {
    secret.expose_text().expect("text")
}

/// An answer without a server.
pub(crate) fn answer(
    status: u16,
    fields: &[(&str, &str)],
    body: impl Into<Bytes>,
) -> Response<Bytes> {
    let mut answer = Response::builder().status(status);
    for (name, value) in fields {
        answer = answer.header(*name, *value);
    }
    answer.body(body.into()).expect("an answer")
}

/// The client `id` with this secret.
pub(crate) fn client(text: &str) -> OAuthClient {
    let secret = AppSecret { client_secret: Some(secret(text)), ..AppSecret::default() };
    OAuthClient { id: "id".to_owned(), secret, key_id: None }
}

/// A client without a secret.
pub(crate) fn public() -> OAuthClient {
    OAuthClient { secret: AppSecret::default(), ..client("") }
}

/// A request as the server received it.
#[derive(Debug)]
pub(crate) struct Received {
    /// The request line.
    pub(crate) line: String,
    /// The fields, names in lower case.
    pub(crate) fields: BTreeMap<String, String>,
    pub(crate) body: String,
}

impl Received {
    /// The form of the body.
    pub(crate) fn form(&self) -> BTreeMap<String, String> {
        form_urlencoded::parse(self.body.as_bytes()).into_owned().collect()
    }
}

/// A client that may reach this port of this machine.
pub(crate) fn client_at(port: u16) -> HttpClient {
    let allow = AllowPrivate::parse(&format!("127.0.0.1:{port}")).expect("an address");
    let guard = Guard::new(vec![allow], Vec::new());
    let dialler = Arc::new(Dialler::new(guard, Vec::new(), 4));
    HttpClient::new(dialler, tls::client_config(&[]).expect("roots"))
}

/// A server that gives its answers in order, each on a stream of its own.
pub(crate) struct Server {
    pub(crate) url: String,
    received: mpsc::UnboundedReceiver<Received>,
    _answers: mpsc::UnboundedSender<String>,
    caller: HttpClient,
    settings: TokenSettings,
}

impl Server {
    /// Serves these complete answers.
    pub(crate) async fn start(answers: &[&str]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let (tell, received) = mpsc::unbounded_channel();
        let (queue, mut next) = mpsc::unbounded_channel::<String>();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                if let Some(request) = read(&mut stream).await {
                    drop(tell.send(request));
                }
                let Some(answer) = next.recv().await else { return };
                drop(stream.write_all(answer.as_bytes()).await);
            }
        });
        let caller = client_at(port);
        let settings = TokenSettings { insecure_loopback: true, ..TokenSettings::default() };
        let url = format!("http://127.0.0.1:{port}/token");
        for answer in answers {
            queue.send((*answer).to_owned()).expect("the server runs");
        }
        Self { url, received, _answers: queue, caller, settings }
    }

    /// The next request that it received.
    pub(crate) async fn received(&mut self) -> Received {
        self.received.recv().await.expect("a request")
    }

    /// Whether no further request was received.
    pub(crate) fn is_quiet(&mut self) -> bool {
        self.received.try_recv().is_err()
    }

    /// OAuth facts of a provider with all endpoints at this server.
    pub(crate) fn oauth(&self, more: &str) -> OAuth {
        self.over(&oauth(more))
    }

    /// These OAuth facts, with all endpoints at this server.
    pub(crate) fn over(&self, facts: &OAuth) -> OAuth {
        let url = || Some(UrlTemplate::literal(&self.url));
        OAuth {
            issuer: Some(UrlTemplate::literal("https://auth.acme.test")),
            token: url(),
            renew: facts.renew.as_ref().and_then(|_| url()),
            lengthen: facts.lengthen.as_ref().and_then(|_| url()),
            device: url(),
            revoke: url(),
            userinfo: url(),
            ..facts.clone()
        }
    }

    /// The context of a request to the server.
    pub(crate) fn ask<'a>(
        &'a self,
        oauth: &'a OAuth,
        client: &'a OAuthClient,
        variables: &'a BTreeMap<String, String>,
    ) -> RequestContext<'a> {
        RequestContext {
            caller: &self.caller,
            settings: &self.settings,
            oauth,
            client,
            variables,
            scopes: &[],
            claims: None,
            now: noon(),
        }
    }
}

/// One HTTP/1.1 answer.
pub(crate) fn http(status: &str, fields: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\n{fields}Content-Length: {}\r\n\r\n{body}", body.len())
}

/// An answer with this JSON.
pub(crate) fn json(status: &str, body: &str) -> String {
    http(status, "Content-Type: application/json\r\n", body)
}

/// Tokens for tests that need some.
pub(crate) fn tokens(access: &str, refresh: Option<&str>) -> Tokens {
    Tokens { refresh: refresh.map(secret), ..Tokens::of(secret(access), noon()) }
}

async fn read(stream: &mut TcpStream) -> Option<Received> {
    let mut bytes = Vec::new();
    let head = loop {
        if let Some(at) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            break at;
        }
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    };
    let text = String::from_utf8_lossy(&bytes[..head]).into_owned();
    let (line, rest) = text.split_once("\r\n")?;
    let field = |line: &str| {
        let (name, value) = line.split_once(':')?;
        Some((name.to_ascii_lowercase(), value.trim().to_owned()))
    };
    let fields: BTreeMap<_, _> = rest.split("\r\n").filter_map(field).collect();
    let length: usize = fields.get("content-length").map_or(0, |n| n.parse().unwrap_or(0));
    while bytes.len() < head + 4 + length {
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    }
    let body = String::from_utf8_lossy(&bytes[head + 4..]).into_owned();
    Some(Received { line: line.to_owned(), fields, body })
}

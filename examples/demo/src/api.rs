//! The demo's API: TLS on loopback; it accepts only requests with the live credential.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use anyhow::{Result, anyhow};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use http::{Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, IsCa, KeyPair,
    KeyUsagePurpose,
};
use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use super::tokens::{Bank, LOGIN};

/// What the API received: one entry per request, as text.
type Received = Arc<Mutex<Vec<String>>>;

/// The TLS API on loopback.
pub struct Api {
    /// Where it listens.
    pub addr: SocketAddr,
    received: Received,
    /// Its tokens.
    pub bank: Bank,
    /// The certificate of its authority.
    pub root_pem: String,
}

impl Api {
    /// Accepts only requests that carry `live` as their service wants it.
    pub async fn start(live: String) -> Result<Self> {
        let (tls, root_pem) = certificates()?;
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let addr = listener.local_addr()?;
        let (received, bank) = (Received::default(), Bank::default());
        let (acceptor, kept) = (TlsAcceptor::from(tls), Arc::clone(&received));
        let known = (live, bank.clone());
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(acceptor.clone(), stream, known.clone(), Arc::clone(&kept)));
            }
        });
        Ok(Self { addr, received, bank, root_pem })
    }

    /// What it has received so far.
    pub fn requests(&self) -> Vec<String> {
        self.received.lock().map(|received| received.clone()).unwrap_or_default()
    }
}

async fn serve(
    acceptor: TlsAcceptor,
    stream: TcpStream,
    (live, bank): (String, Bank),
    kept: Received,
) {
    let service = service_fn(|request: Request<Incoming>| {
        let answer = answer(&request, &live, &bank);
        let asks = request.headers().get(header::HOST).is_some_and(|host| host == LOGIN);
        if let Ok(mut kept) = kept.lock() {
            kept.push(as_text(&request));
        }
        let bank = bank.clone();
        async move { if asks { bank.token(request).await } else { answer } }
    });
    if let Ok(tls) = acceptor.accept(stream).await {
        // A client that goes is none of the API's concern.
        drop(
            hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(tls), service)
                .await,
        );
    }
}

fn answer(
    request: &Request<Incoming>,
    live: &str,
    bank: &Bank,
) -> http::Result<Response<Full<Bytes>>> {
    let field = |name| request.headers().get(name).and_then(|value| value.to_str().ok());
    let pair = BASE64_STANDARD.encode(format!("demo:{live}"));
    let host = field(header::HOST).unwrap_or_default();
    let may = match host.split('.').next() {
        Some("billing") => field(header::HeaderName::from_static("x-api-key")) == Some(live),
        Some("crm") => field(header::AUTHORIZATION) == Some(&format!("Basic {pair}")),
        Some("notes") => bank.admits(request),
        Some("maps") => request.uri().query() == Some(&format!("key={live}")),
        _ => false,
    };
    let (status, body) = match may {
        true => (StatusCode::OK, "{\"ok\":true,\"items\":[1,2,3]}"),
        false => (StatusCode::UNAUTHORIZED, "{\"ok\":false,\"status\":401}"),
    };
    Response::builder().status(status).body(Full::from(body))
}

fn as_text(request: &Request<Incoming>) -> String {
    let mut text = format!("{} {}\n", request.method(), request.uri());
    for (name, value) in request.headers() {
        text += &format!("{name}: {}\n", String::from_utf8_lossy(value.as_bytes()));
    }
    text
}

/// TLS for the API, from an authority of its own; and that authority's certificate.
fn certificates() -> Result<(Arc<ServerConfig>, String)> {
    let mut root = CertificateParams::new(vec![])?;
    root.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    root.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let root = CertifiedIssuer::self_signed(root, KeyPair::generate()?)?;
    let key = KeyPair::generate()?;
    let mut leaf = CertificateParams::new(vec!["*.demo.test".to_owned()])?;
    // Not the root's name, or OpenSSL takes the leaf for self-signed.
    leaf.distinguished_name = DistinguishedName::new();
    let leaf = leaf.signed_by(&key, &root)?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(
            vec![leaf.der().clone()],
            PrivateKeyDer::try_from(key.serialize_der()).map_err(|text| anyhow!(text))?,
        )?;
    Ok((Arc::new(config), root.pem()))
}

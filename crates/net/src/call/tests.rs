//! Tests of one request over real sockets: what is sent, limited, and never repeated (OAuth 5).

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use rcgen::{CertificateParams, KeyPair};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_rustls::TlsAcceptor;

use super::*;
use crate::guard::{AllowPrivate, Guard};
use crate::tls;
use keyward_base::secret::Secret;

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}";

/// Short enough for tests of a silent server, and ample for all others.
fn bounds() -> Bounds {
    let settings = TokenSettings { insecure_loopback: true, ..TokenSettings::default() };
    Bounds::of_tokens(&settings)
}

fn caller(port: u16, trusted: &[CertificateDer<'static>]) -> HttpClient {
    let allow = AllowPrivate::parse(&format!("127.0.0.1:{port}")).expect("an address");
    let dialler = Dialler::new(Guard::new(vec![allow], Vec::new()), Vec::new(), 4);
    HttpClient::new(Arc::new(dialler), tls::client_config(trusted).expect("roots"))
}

fn post(url: &str) -> Request<Bytes> {
    let request = Request::post(url).header("x-a", "1");
    request.body(Bytes::from_static(b"grant_type=x")).expect("a request")
}

async fn listener() -> (TcpListener, u16) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    (listener, port)
}

/// Serves every stream with `serve`, and counts streams.
async fn server<F, S>(serve: F) -> (u16, Arc<AtomicUsize>)
where
    F: Fn(TcpStream) -> S + Send + 'static,
    S: Future<Output = ()> + Send + 'static,
{
    let (listener, port) = listener().await;
    let count = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&count);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            counted.fetch_add(1, Relaxed);
            tokio::spawn(serve(stream));
        }
    });
    (port, count)
}

/// Reads the head and the body, which is `grant_type=x`.
async fn heard<S: AsyncRead + Unpin>(stream: &mut S) -> String {
    let mut bytes = Vec::new();
    while !bytes.ends_with(b"grant_type=x") {
        if stream.read_buf(&mut bytes).await.unwrap_or(0) == 0 {
            break;
        }
    }
    String::from_utf8(bytes).expect("text")
}

async fn answered(answer: String) -> Result<Response<Bytes>, CallError> {
    let serve = move |mut stream: TcpStream| {
        let answer = answer.clone();
        async move {
            heard(&mut stream).await;
            drop(stream.write_all(answer.as_bytes()).await);
        }
    };
    let (port, _) = server(serve).await;
    caller(port, &[]).call(post(&format!("http://127.0.0.1:{port}/t")), &bounds()).await
}

/// oauth 5.https
#[tokio::test]
async fn no_request_is_sent_to_an_insecure_or_invalid_url() {
    let (port, count) = server(|_| async {}).await;
    let caller = caller(port, &[]);
    let secure = Bounds { servers: AllowedServers::Secure, ..bounds() };
    for (url, bounds) in [
        (format!("http://127.0.0.1:{port}/t"), secure),
        (format!("http://192.0.2.1:{port}/t"), bounds()),
        (format!("http://acme.test:{port}/t"), bounds()),
        (format!("ftp://127.0.0.1:{port}/t"), bounds()),
        (format!("https://user@127.0.0.1:{port}/t"), bounds()),
        ("/t".to_owned(), bounds()),
    ] {
        let result = caller.call(post(&url), &bounds).await;
        assert!(matches!(result, Err(CallError::Address)), "{url}: {result:?}");
    }
    assert_eq!(count.load(Relaxed), 0);
}

/// oauth 5.guard: the same as for upstreams.
#[tokio::test]
async fn an_address_that_is_not_allowed_is_not_dialled() {
    let (port, count) = server(|_| async {}).await;
    let other = caller(1, &[]);
    let result = other.call(post(&format!("https://127.0.0.1:{port}/t")), &bounds()).await;
    let Err(error @ CallError::Dial(DialError::Refused { .. })) = result else {
        panic!("{result:?}")
    };
    assert!(!error.was_sent());
    assert_eq!(count.load(Relaxed), 0);
}

/// A server that answers each request with [`OK`], and tells what it heard.
async fn telling_server() -> (u16, Arc<AtomicUsize>, mpsc::UnboundedReceiver<String>) {
    let (tell, told) = mpsc::unbounded_channel();
    let serve = move |mut stream: TcpStream| {
        let tell = tell.clone();
        async move {
            drop(tell.send(heard(&mut stream).await));
            drop(stream.write_all(OK.as_bytes()).await);
        }
    };
    let (port, count) = server(serve).await;
    (port, count, told)
}

/// oauth 5.streams, 5.coded
#[tokio::test]
async fn each_request_is_sent_in_origin_form_on_a_separate_stream() {
    let (port, count, mut told) = telling_server().await;
    let caller = caller(port, &[]);
    for path in ["/t?x=1", ""] {
        let url = format!("http://127.0.0.1:{port}{path}");
        let answer = caller.call(post(&url), &bounds()).await.expect("an answer");
        assert_eq!((answer.status(), &answer.body()[..]), (StatusCode::OK, &b"{}"[..]));
        let heard = told.recv().await.expect("a request");
        let path = if path.is_empty() { "/" } else { path };
        assert!(heard.starts_with(&format!("POST {path} HTTP/1.1\r\n")), "{heard}");
        let lower = heard.to_ascii_lowercase();
        assert_eq!(lower.matches("\r\nhost: ").count(), 1);
        assert!(lower.contains(&format!("\r\nhost: 127.0.0.1:{port}\r\n")), "{heard}");
        assert!(lower.contains("\r\naccept-encoding: identity\r\n"), "{heard}");
    }
    assert_eq!(count.load(Relaxed), 2, "each has a stream of its own");
}

/// oauth 5.redirects, 5.coded, 5.body, 5.head
#[tokio::test]
async fn a_redirect_and_a_coded_too_large_or_truncated_answer_are_unusable() {
    let huge = "x".repeat(256 * 1024 + 1);
    let with = |status: &str, fields: &str, body: &str| {
        format!("HTTP/1.1 {status}\r\n{fields}Content-Length: {}\r\n\r\n{body}", body.len())
    };
    let chunked = format!(
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n{huge}\r\n0\r\n\r\n",
        huge.len()
    );
    for (answer, expected) in [
        (with("301 Moved", "Location: https://evil.test/\r\n", ""), Unusable::Redirect),
        (with("308 Moved", "Location: /\r\n", ""), Unusable::Redirect),
        (with("200 OK", "Content-Encoding: gzip\r\n", "{}"), Unusable::Coded),
        (with("200 OK", "Content-Encoding: identity, br\r\n", "{}"), Unusable::Coded),
        (with("200 OK", "", &huge), Unusable::TooLarge),
        (chunked, Unusable::TooLarge),
        (format!("HTTP/1.1 200 OK\r\n\r\n{huge}"), Unusable::TooLarge),
        (format!("HTTP/1.1 200 OK\r\nX: {huge}\r\n\r\n"), Unusable::TooLarge),
        ("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{}".to_owned(), Unusable::Cut),
    ] {
        let result = answered(answer).await;
        let Err(error @ CallError::Unusable { why, .. }) = &result else { panic!("{result:?}") };
        assert_eq!(*why, expected);
        assert!(error.was_sent());
    }
    let identity = with("200 OK", "Content-Encoding: identity\r\n", "{}");
    assert!(answered(identity).await.is_ok());
}

/// oauth 5.connect-again: what was sent is never repeated.
#[tokio::test]
async fn a_sent_request_is_not_repeated_after_the_server_closes_the_stream() {
    let (port, count) = server(|mut stream| async move {
        heard(&mut stream).await;
    })
    .await;
    let result =
        caller(port, &[]).call(post(&format!("http://127.0.0.1:{port}/t")), &bounds()).await;
    let Err(error @ CallError::NoAnswer { .. }) = result else { panic!("{result:?}") };
    assert!(error.was_sent());
    assert_eq!(count.load(Relaxed), 1);
}

/// oauth 5.whole: one deadline over all, also for a body that drips.
#[tokio::test]
async fn a_silent_and_a_slowly_sending_server_time_out() {
    let silent = |mut stream: TcpStream| async move {
        heard(&mut stream).await;
        std::future::pending::<()>().await;
    };
    let dripping = |mut stream: TcpStream| async move {
        heard(&mut stream).await;
        drop(stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n").await);
        let mut drops = tokio::time::interval(Duration::from_millis(5));
        while stream.write_all(b"x").await.is_ok() {
            drops.tick().await;
        }
    };
    for port in [server(silent).await.0, server(dripping).await.0] {
        let short = bounds().within(Duration::from_millis(300));
        let url = format!("http://127.0.0.1:{port}/t");
        let result = caller(port, &[]).call(post(&url), &short).await;
        let Err(CallError::Timeout { sent: true, .. }) = result else { panic!("{result:?}") };
    }
}

/// oauth 5.answer: once the request is sent, the answer has a limit of its own; connecting has another.
#[tokio::test]
async fn waiting_for_the_answer_and_connecting_have_separate_time_limits() {
    let speaks = |mut stream: TcpStream| async move {
        heard(&mut stream).await;
        drop(stream.write_all(OK.as_bytes()).await);
    };
    let none = bounds().within(Duration::ZERO);
    let patient = Bounds { answer: Some(Duration::from_secs(60)), ..none };
    let port = server(speaks).await.0;
    let url = format!("http://127.0.0.1:{port}/t");
    let answer = caller(port, &[]).call(post(&url), &patient).await.expect("an answer");
    assert_eq!(answer.status(), StatusCode::OK, "the whole time is no limit of its");

    let hears = |mut stream: TcpStream| async move {
        heard(&mut stream).await;
        std::future::pending::<()>().await;
    };
    let port = server(hears).await.0;
    let short = Bounds { answer: Some(Duration::from_millis(100)), ..bounds() };
    let result = caller(port, &[]).call(post(&format!("http://127.0.0.1:{port}/t")), &short).await;
    assert!(matches!(result, Err(CallError::Timeout { sent: true, .. })), "{result:?}");

    let silent = |stream: TcpStream| async move {
        std::future::pending::<()>().await;
        drop(stream);
    };
    let port = server(silent).await.0;
    let url = format!("https://127.0.0.1:{port}/t");
    let patient = Bounds { connect: Duration::from_millis(50), ..patient };
    let result = caller(port, &[]).call(post(&url), &patient).await;
    let Err(error @ CallError::Tls(HandshakeError::Timeout { .. })) = result else {
        panic!("{result:?}")
    };
    assert!(!error.was_sent());
}

/// oauth 5.connect-again: once, at once; nothing was sent.
#[tokio::test]
async fn a_failed_handshake_is_repeated_once() {
    let (port, count) = server(|stream| async move { drop(stream) }).await;
    let result =
        caller(port, &[]).call(post(&format!("https://127.0.0.1:{port}/t")), &bounds()).await;
    let Err(error @ CallError::Tls(_)) = result else { panic!("{result:?}") };
    assert!(!error.was_sent());
    assert_eq!(count.load(Relaxed), 2);
}

/// A self-signed certificate for 127.0.0.1.
fn certified() -> (CertificateDer<'static>, KeyPair) {
    let key = KeyPair::generate().expect("a key");
    let params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).expect("params");
    (params.self_signed(&key).expect("self-signed").der().clone(), key)
}

/// A TLS server. With `client`, it requires this client certificate.
async fn tls_server(client: Option<CertificateDer<'static>>) -> (u16, CertificateDer<'static>) {
    let (tell, _) = mpsc::unbounded_channel();
    telling_tls_server(client, tell).await
}

/// The same. Of each stream it tells what it received, or `None` if the handshake failed.
async fn telling_tls_server(
    client: Option<CertificateDer<'static>>,
    tell: mpsc::UnboundedSender<Option<String>>,
) -> (u16, CertificateDer<'static>) {
    let (cert, key) = certified();
    let key = PrivateKeyDer::try_from(key.serialize_der()).expect("a key");
    let builder = ServerConfig::builder_with_provider(tls::provider());
    let builder = builder.with_protocol_versions(tls::VERSIONS).expect("versions");
    let builder = match client {
        None => builder.with_no_client_auth(),
        Some(root) => {
            let mut roots = RootCertStore::empty();
            roots.add(root).expect("a root");
            let verifier =
                WebPkiClientVerifier::builder_with_provider(Arc::new(roots), tls::provider());
            builder.with_client_cert_verifier(verifier.build().expect("a verifier"))
        }
    };
    let config = builder.with_single_cert(vec![cert.clone()], key).expect("a configuration");
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let serve = move |stream: TcpStream| {
        let (acceptor, tell) = (acceptor.clone(), tell.clone());
        async move {
            let Ok(mut stream) = acceptor.accept(stream).await else {
                drop(tell.send(None));
                return;
            };
            drop(tell.send(Some(heard(&mut stream).await)));
            drop(stream.write_all(OK.as_bytes()).await);
            drop(stream.shutdown().await);
        }
    };
    (server(serve).await.0, cert)
}

#[tokio::test]
async fn a_server_with_an_untrusted_certificate_is_refused_and_receives_no_request() {
    let (tell, mut told) = mpsc::unbounded_channel();
    let (port, _) = telling_tls_server(None, tell).await;
    let (unrelated, _) = certified();
    let url = format!("https://127.0.0.1:{port}/t");
    let result = caller(port, &[unrelated]).call(post(&url), &bounds()).await;
    let Err(error @ CallError::Tls(HandshakeError::Certificate { .. })) = result else {
        panic!("{result:?}")
    };
    assert!(!error.was_sent());
    assert_eq!(told.recv().await, Some(None), "the handshake failed");
}

#[tokio::test]
async fn a_trusted_server_gets_the_request_and_the_trusted_roots_can_be_replaced() {
    let (port, cert) = tls_server(None).await;
    let (unrelated, _) = certified();
    let url = format!("https://127.0.0.1:{port}/t");
    let caller = caller(port, &[unrelated]);
    assert!(caller.call(post(&url), &bounds()).await.is_err());
    caller.replace_tls(tls::client_config(&[cert]).expect("roots"));
    assert_eq!(caller.call(post(&url), &bounds()).await.expect("an answer").status(), 200);
}

/// RFC 8705 §2: without the certificate nothing is answered, with it the request is.
#[tokio::test]
async fn a_client_certificate_is_presented_where_one_is_configured() {
    let (ours, key) = certified();
    let (port, cert) = tls_server(Some(ours.clone())).await;
    let url = format!("https://127.0.0.1:{port}/t");
    let caller = caller(port, &[cert]);
    assert!(caller.call(post(&url), &bounds()).await.is_err());
    let chain = Secret::from(pem(&ours));
    let identity = ClientIdentity::from_pem(&chain, &Secret::from(key.serialize_pem()));
    let identity = identity.expect("an identity");
    let answer = caller.call_as(Some(&identity), post(&url), &bounds()).await;
    assert_eq!(answer.expect("an answer").status(), 200);
    let stranger = KeyPair::generate().expect("a key").serialize_pem();
    assert!(ClientIdentity::from_pem(&chain, &Secret::from(stranger)).is_err());
}

fn pem(cert: &CertificateDer<'_>) -> String {
    use base64::Engine as _;
    let body = base64::engine::general_purpose::STANDARD.encode(cert);
    format!("-----BEGIN CERTIFICATE-----\n{body}\n-----END CERTIFICATE-----\n")
}

/// oauth 8.6: a process that was paused while it connected must not send a token that another replica has sent since.
#[tokio::test]
async fn a_request_whose_check_fails_after_connecting_is_not_sent() {
    let (port, count, mut told) = telling_server().await;
    let url = format!("http://127.0.0.1:{port}/t");
    let caller = caller(port, &[]);
    let refused = caller.with_check(|| false).call(post(&url), &bounds()).await;
    let Err(error @ CallError::Timeout { sent: false, .. }) = refused else {
        panic!("{refused:?}")
    };
    assert!(!error.was_sent());
    assert_eq!(told.recv().await.as_deref(), Some(""), "the stream ends without a byte");
    caller.with_check(|| true).call(post(&url), &bounds()).await.expect("an answer");
    assert!(told.recv().await.is_some_and(|text| text.starts_with("POST /t ")));
    assert_eq!(count.load(Relaxed), 2);
}

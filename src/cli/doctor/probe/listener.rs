//! The probe's proxy: it takes CONNECT and absolute-form as the gateway does, shows a leaf of its own
//! CA, answers every request with a small JSON, and notes how far each attempt came. No stream goes
//! out.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::{
    CONTENT_TYPE, HeaderMap, HeaderValue, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, USER_AGENT,
};
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use rustls::ServerConfig;
use rustls::server::Acceptor;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, oneshot};
use tokio::task::JoinHandle;
use tokio_rustls::LazyConfigAcceptor;

use super::seen::{Asked, Event, Foreign, Unshaken};
use crate::base::host::{Scheme, Target};
use crate::base::time::Clock;
use crate::ca::authority::Authority;
use crate::ca::cache::Leaves;
use crate::cli::failure::Failure;
use crate::net::tls;

/// Streams at once; more wait.
const STREAMS_MAX: u32 = 512;
/// Attempts and user agents that are kept.
const EVENTS_MAX: usize = 10_000;
const AGENTS_MAX: usize = 64;
/// Of a request's body; a client that sends more is answered before it is done.
const BODY_BYTES_MAX: usize = 64 * 1024 * 1024;
/// What streams of an ended program still take.
const SETTLED_WITHIN: Duration = Duration::from_secs(5);

const ACCEPT_AGAIN: Duration = Duration::from_millis(10);

const ANSWER: &str = "{\"keyward\":\"doctor\"}\n";

/// The listening probe. Dropping it stops it.
pub(super) struct Listener {
    at: SocketAddr,
    shared: Arc<Shared>,
    /// Accepts, until it is told to end.
    task: Option<(JoinHandle<()>, oneshot::Sender<()>)>,
}

/// Everything that was seen.
#[derive(Debug, Default)]
pub(super) struct Seen {
    pub(super) events: Vec<Event>,
    /// What the clients call themselves.
    pub(super) agents: BTreeSet<String>,
}

struct Shared {
    leaves: Leaves,
    token: String,
    seen: Mutex<Seen>,
    streams: Arc<Semaphore>,
}

type Answer = Response<Full<Bytes>>;

impl Listener {
    /// Listens on a free port of loopback, for whoever has `token`.
    pub(super) async fn open(authority: Arc<Authority>, token: &str) -> Result<Self, Failure> {
        let cannot = |error: io::Error| Failure::failed("cannot listen on loopback", &error);
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.map_err(cannot)?;
        let at = listener.local_addr().map_err(cannot)?;
        let shared = Arc::new(Shared {
            leaves: Leaves::new(authority, EVENTS_MAX, Clock::System),
            token: token.to_owned(),
            seen: Mutex::default(),
            streams: Arc::new(Semaphore::new(STREAMS_MAX as usize)),
        });
        let (end, ends) = oneshot::channel();
        let task = tokio::spawn(accept(listener, shared.clone(), ends));
        Ok(Self { at, shared, task: Some((task, end)) })
    }

    /// Where it listens.
    pub(super) fn at(&self) -> SocketAddr {
        self.at
    }

    /// What was seen, once the streams of the program, which has ended, are read to their ends.
    pub(super) async fn settled(mut self) -> Seen {
        let task = self.task.take();
        let all = async {
            if let Some((task, end)) = task {
                let _ = end.send(());
                drop(task.await);
            }
            drop(self.shared.streams.acquire_many(STREAMS_MAX).await);
        };
        drop(tokio::time::timeout(SETTLED_WITHIN, all).await);
        std::mem::take(&mut *self.shared.seen.lock())
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if let Some((task, _)) = &self.task {
            task.abort();
        }
    }
}

/// Accepts until told to end, and then what has connected by then.
async fn accept(listener: TcpListener, shared: Arc<Shared>, mut end: oneshot::Receiver<()>) {
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => begin(stream, &shared).await,
                // Out of descriptors: streams that end give theirs back.
                Err(_) => tokio::time::sleep(ACCEPT_AGAIN).await,
            },
            _ = &mut end => break,
        }
    }
    // Asked of the system itself: the runtime may not have heard of the last one yet.
    let Ok(listener) = listener.into_std() else { return };
    while let Ok((stream, _)) = listener.accept() {
        if stream.set_nonblocking(true).is_ok()
            && let Ok(stream) = TcpStream::from_std(stream)
        {
            begin(stream, &shared).await;
        }
    }
}

async fn begin(stream: TcpStream, shared: &Arc<Shared>) {
    let Ok(permit) = shared.streams.clone().acquire_owned().await else { return };
    let shared = shared.clone();
    tokio::spawn(async move {
        serve(stream, &shared).await;
        drop(permit);
    });
}

impl Shared {
    fn saw(&self, event: Event) {
        let mut seen = self.seen.lock();
        if seen.events.len() < EVENTS_MAX {
            seen.events.push(event);
        }
    }

    fn saw_agent(&self, fields: &HeaderMap) {
        let mut seen = self.seen.lock();
        if let Some(Ok(agent)) = fields.get(USER_AGENT).map(HeaderValue::to_str)
            && seen.agents.len() < AGENTS_MAX
        {
            seen.agents.insert(agent.to_owned());
        }
    }

    /// Basic with the token in either place, or Bearer.
    fn knows(&self, fields: &HeaderMap) -> bool {
        let value = fields.get(PROXY_AUTHORIZATION).and_then(|value| value.to_str().ok());
        let Some((scheme, rest)) = value.and_then(|value| value.split_once(' ')) else {
            return false;
        };
        match scheme.eq_ignore_ascii_case("bearer") {
            true => rest.trim() == self.token,
            false => {
                let pair = STANDARD.decode(rest.trim());
                let pair = pair.ok().and_then(|pair| String::from_utf8(pair).ok());
                pair.is_some_and(|pair| pair.split(':').any(|part| part == self.token))
            }
        }
    }
}

async fn serve(stream: TcpStream, shared: &Arc<Shared>) {
    let mut first = [0; 1];
    match (stream.peek(&mut first).await, first[0]) {
        // Someone looked whether the port is open.
        (Ok(0) | Err(_), _) => return,
        (Ok(_), 0x16) => return shared.saw(Event::Foreign(Foreign::Tls)),
        (Ok(_), 4 | 5) => return shared.saw(Event::Foreign(Foreign::Socks)),
        (Ok(_), byte) if !byte.is_ascii_uppercase() => {
            return shared.saw(Event::Foreign(Foreign::Other));
        }
        _ => {}
    }
    let (open, mut tunnels) = tokio::sync::mpsc::unbounded_channel();
    let service = service_fn(|request: Request<Incoming>| {
        let (shared, open) = (shared.clone(), open.clone());
        async move { Ok::<_, Infallible>(proxied(&shared, &open, request).await) }
    });
    let server = server();
    // What is wrong with a stream was seen, or is of no interest.
    drop(server.serve_connection(TokioIo::new(stream), service).with_upgrades().await);
    drop(open);
    while let Some((host, upgrade)) = tunnels.recv().await {
        tunnel(shared, host, upgrade).await;
    }
}

/// A tunnel that was granted: its host, and what becomes of the stream.
type Tunnel = (String, hyper::upgrade::OnUpgrade);

/// A request to the proxy itself.
async fn proxied(
    shared: &Shared,
    open: &tokio::sync::mpsc::UnboundedSender<Tunnel>,
    mut request: Request<Incoming>,
) -> Answer {
    shared.saw_agent(request.headers());
    let is_connect = request.method() == Method::CONNECT;
    let Some(authority) = request.uri().authority().map(ToString::to_string) else {
        shared.saw(Event::Foreign(Foreign::Origin));
        return answer(StatusCode::BAD_REQUEST);
    };
    let scheme = request.uri().scheme_str().unwrap_or("https").to_owned();
    let host = host_of(&scheme, &authority);
    if !shared.knows(request.headers()) {
        shared.saw(Event::Unauthenticated { host });
        let mut refusal = answer(StatusCode::PROXY_AUTHENTICATION_REQUIRED);
        let challenge = HeaderValue::from_static("Basic realm=\"keyward doctor\"");
        refusal.headers_mut().insert(PROXY_AUTHENTICATE, challenge);
        return refusal;
    }
    if is_connect {
        let upgrade = hyper::upgrade::on(&mut request);
        // Its reader goes only when this stream has.
        drop(open.send((host, upgrade)));
        return Response::new(Full::default());
    }
    let asked = Asked::new((&scheme, &host), request.method(), request.uri(), request.headers());
    shared.saw(Event::Asked(asked));
    drain(request.into_body()).await;
    answer(StatusCode::OK)
}

/// `host` or `host:port`, without what may stand before it.
fn host_of(scheme: &str, authority: &str) -> String {
    let authority = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    let scheme = if scheme == "http" { Scheme::Http } else { Scheme::Https };
    let target = Target::parse(scheme, authority).map(|target| target.authority());
    target.unwrap_or_else(|_| authority.to_owned())
}

async fn tunnel(shared: &Arc<Shared>, host: String, upgrade: hyper::upgrade::OnUpgrade) {
    let Ok(upgraded) = upgrade.await else { return };
    let hello = LazyConfigAcceptor::new(Acceptor::default(), TokioIo::new(upgraded)).await;
    let hello = match hello {
        Ok(hello) => hello,
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
            return shared.saw(Event::Unused { host });
        }
        Err(_) => return shared.saw(Event::NotTls { host }),
    };
    let alpn: Option<Vec<Vec<u8>>> =
        hello.client_hello().alpn().map(|names| names.map(<[u8]>::to_vec).collect());
    let target = Target::parse(Scheme::Https, &host);
    let config = target.ok().and_then(|target| shared.leaves.server_config(target.host()).ok());
    let Some(config) = config else { return shared.saw(Event::NotTls { host }) };
    match hello.into_stream(over_http1(&config)).await {
        Ok(tls) => inner(shared, host, tls).await,
        Err(error) => {
            let why = why(&error, alpn.as_deref());
            shared.saw(Event::Unshaken { host, why });
        }
    }
}

/// What the probe itself speaks; the gateway speaks HTTP/2 too.
fn over_http1(config: &ServerConfig) -> Arc<ServerConfig> {
    let mut config = config.clone();
    config.alpn_protocols = vec![tls::ALPN_HTTP1.to_vec()];
    Arc::new(config)
}

fn why(error: &io::Error, alpn: Option<&[Vec<u8>]>) -> Unshaken {
    let tls = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    match tls {
        Some(rustls::Error::NoApplicationProtocol) => {
            let only_h2 = alpn.is_some_and(|names| !names.iter().any(|n| n == tls::ALPN_HTTP1));
            match only_h2 {
                true => Unshaken::Http2Only,
                false => Unshaken::Other("no protocol in common".to_owned()),
            }
        }
        Some(rustls::Error::AlertReceived(alert)) => {
            Unshaken::Untrusted { alert: Some(format!("{alert:?}")) }
        }
        Some(other) => Unshaken::Other(other.to_string()),
        // It saw the certificate and went.
        None => Unshaken::Untrusted { alert: None },
    }
}

/// The requests of a tunnel.
async fn inner<IO>(shared: &Arc<Shared>, host: String, tls: IO)
where
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let came = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let service = service_fn(|request: Request<Incoming>| {
        let (shared, host, came) = (shared.clone(), host.clone(), came.clone());
        async move {
            came.store(true, std::sync::atomic::Ordering::Relaxed);
            shared.saw_agent(request.headers());
            let (uri, fields) = (request.uri(), request.headers());
            shared.saw(Event::Asked(Asked::new(("https", &host), request.method(), uri, fields)));
            drain(request.into_body()).await;
            Ok::<_, Infallible>(answer(StatusCode::OK))
        }
    });
    let server = server();
    drop(server.serve_connection(TokioIo::new(tls), service).await);
    if !came.load(std::sync::atomic::Ordering::Relaxed) {
        shared.saw(Event::Shaken { host });
    }
}

/// Also sees the request of a client that goes right after it.
fn server() -> hyper::server::conn::http1::Builder {
    let mut server = hyper::server::conn::http1::Builder::new();
    server.half_close(true);
    server
}

/// Clients take an answer before they are done for a failure.
async fn drain(mut body: Incoming) {
    let mut bytes = 0;
    while let Some(Ok(frame)) = body.frame().await {
        bytes += frame.data_ref().map_or(0, Bytes::len);
        if bytes > BODY_BYTES_MAX {
            return;
        }
    }
}

fn answer(status: StatusCode) -> Answer {
    let mut answer = Response::new(Full::from(ANSWER));
    *answer.status_mut() = status;
    let json = HeaderValue::from_static("application/json");
    answer.headers_mut().insert(CONTENT_TYPE, json);
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_told_without_usual_ports_and_credentials() {
        let table = [
            ("https", "a.test:443", "a.test"),
            ("https", "a.test:8443", "a.test:8443"),
            ("http", "u:canary@a.test", "a.test"),
            ("https", "[::1]:9", "[::1]:9"),
        ];
        for (scheme, authority, expected) in table {
            assert_eq!(host_of(scheme, authority), expected);
        }
    }
}

//! Serves one stream of the probe: accepts CONNECT, absolute-form and base URLs as the gateway does,
//! presents a leaf of its own CA, answers every request itself over HTTP/1.1 and HTTP/2, and records how
//! far each attempt came.

use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HOST, HeaderMap, HeaderValue, PROXY_AUTHENTICATE};
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use rustls::server::Acceptor;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::mpsc::UnboundedSender;
use tokio_rustls::LazyConfigAcceptor;

use super::seen::{HandshakeFailure, OtherProtocol, ProbeEvent, ProbedRequest, RequestRoute};
use super::seen::{ListenerKind, ProbeState};
use keyward_base::host::{Scheme, Target};
use keyward_net::tls::ALPN_HTTP2;
use keyward_proxy::base_url::{BaseUrl, ServedBaseUrls};

/// Most bytes read of a request's body; longer bodies are answered before they are complete.
const BODY_BYTES_MAX: usize = 64 * 1024 * 1024;

const ANSWER: &str = "{\"keyward\":\"doctor\"}\n";

/// gRPC's `UNIMPLEMENTED`: clients do not retry.
const GRPC_STATUS: &str = "12";
const GRPC_MESSAGE: &str = "keyward doctor answers no call";

type Answer = Response<Full<Bytes>>;

/// An accepted CONNECT: its host, and the pending upgrade.
type Tunnel = (String, hyper::upgrade::OnUpgrade);

/// Serves a stream to its end.
pub(super) async fn serve(stream: TcpStream, kind: &Arc<ListenerKind>, shared: &Arc<ProbeState>) {
    let mut first = [0; 1];
    match (stream.peek(&mut first).await, first[0]) {
        // A check whether the port is open.
        (Ok(0) | Err(_), _) => return,
        (Ok(_), 0x16) => return shared.saw(ProbeEvent::OtherProtocol(OtherProtocol::Tls)),
        (Ok(_), 4 | 5) => return shared.saw(ProbeEvent::OtherProtocol(OtherProtocol::Socks)),
        (Ok(_), byte) if !byte.is_ascii_uppercase() => {
            return shared.saw(ProbeEvent::OtherProtocol(OtherProtocol::Unknown));
        }
        _ => {}
    }
    let (open, mut tunnels) = tokio::sync::mpsc::unbounded_channel();
    let service = service_fn(|request: Request<Incoming>| {
        let (shared, kind, open) = (shared.clone(), kind.clone(), open.clone());
        async move { Ok::<_, Infallible>(proxied(&shared, &kind, &open, request).await) }
    });
    let server = server();
    // Errors of the stream were recorded, or are irrelevant.
    drop(server.serve_connection(TokioIo::new(stream), service).with_upgrades().await);
    drop(open);
    while let Some((host, upgrade)) = tunnels.recv().await {
        tunnel(shared, &kind.by(), host, upgrade).await;
    }
}

/// Serves a request to the proxy.
async fn proxied(
    shared: &ProbeState,
    kind: &ListenerKind,
    open: &UnboundedSender<Tunnel>,
    mut request: Request<Incoming>,
) -> Answer {
    shared.saw_agent(request.headers());
    let Some(authority) = request.uri().authority().map(ToString::to_string) else {
        return origin_form(shared, kind, request).await;
    };
    let scheme = request.uri().scheme_str().unwrap_or("https").to_owned();
    let host = host_of(&scheme, &authority);
    if !shared.admits(kind, request.headers()) {
        shared.saw(ProbeEvent::Unauthenticated { host });
        let mut refusal = answer(StatusCode::PROXY_AUTHENTICATION_REQUIRED);
        let challenge = HeaderValue::from_static("Basic realm=\"keyward doctor\"");
        refusal.headers_mut().insert(PROXY_AUTHENTICATE, challenge);
        return refusal;
    }
    if request.method() == Method::CONNECT {
        let upgrade = hyper::upgrade::on(&mut request);
        // The receiver lives as long as this stream.
        drop(open.send((host, upgrade)));
        return Response::new(Full::default());
    }
    let asked = ProbedRequest::new(&scheme, &host, kind.by(), &request);
    shared.saw(ProbeEvent::Request(asked));
    drain(request.into_body()).await;
    answer(StatusCode::OK)
}

/// Serves a request in origin form: for a base URL, or not meant for a proxy.
async fn origin_form(
    shared: &ProbeState,
    kind: &ListenerKind,
    request: Request<Incoming>,
) -> Answer {
    let host = request.headers().get(HOST).and_then(|host| host.to_str().ok()).map(str::to_owned);
    let (path, urls) = (request.uri().path(), ServedBaseUrls::default());
    let place = BaseUrl::read(Scheme::Http, host.as_deref(), path, &urls);
    let (Some(Ok(place)), Some(host)) = (place, &host) else {
        shared.saw(ProbeEvent::OtherProtocol(OtherProtocol::OriginForm));
        return answer(StatusCode::BAD_REQUEST);
    };
    let connection = place.connection().to_owned();
    if !shared.admits_by_base_url(kind, request.headers()) {
        let at_own = matches!(kind.by(), RequestRoute::OwnListener { .. });
        shared.saw(ProbeEvent::WithoutToken { connection, at_own });
        return answer(if at_own { StatusCode::FORBIDDEN } else { StatusCode::UNAUTHORIZED });
    }
    let asked =
        ProbedRequest::new("http", host, RequestRoute::BaseUrl(connection.clone()), &request);
    // The report names the connection.
    shared.saw(ProbeEvent::Request(ProbedRequest { host: connection, ..asked }));
    drain(request.into_body()).await;
    answer(StatusCode::OK)
}

/// `host` or `host:port`, without userinfo.
fn host_of(scheme: &str, authority: &str) -> String {
    let authority = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    let scheme = if scheme == "http" { Scheme::Http } else { Scheme::Https };
    let target = Target::parse(scheme, authority).map(|target| target.authority());
    target.unwrap_or_else(|_| authority.to_owned())
}

async fn tunnel(
    shared: &Arc<ProbeState>,
    by: &RequestRoute,
    host: String,
    upgrade: hyper::upgrade::OnUpgrade,
) {
    let Ok(upgraded) = upgrade.await else { return };
    let hello = LazyConfigAcceptor::new(Acceptor::default(), TokioIo::new(upgraded)).await;
    let hello = match hello {
        Ok(hello) => hello,
        // Bytes that are not TLS; other errors are those of the stream.
        Err(error) if error.kind() == io::ErrorKind::InvalidData => {
            return shared.saw(ProbeEvent::NotTls { host });
        }
        Err(_) => return shared.saw(ProbeEvent::EmptyTunnel { host }),
    };
    let target = Target::parse(Scheme::Https, &host);
    let config = target.ok().and_then(|target| shared.leaves.server_config(target.host()).ok());
    let Some(config) = config else { return shared.saw(ProbeEvent::NotTls { host }) };
    let tls = match hello.into_stream(config).await {
        Ok(tls) => tls,
        Err(error) => return shared.saw(ProbeEvent::HandshakeFailed { host, why: why(&error) }),
    };
    let inside = TlsTunnel { host, by: by.clone(), had_request: AtomicBool::new(false) };
    let inside = Arc::new(inside);
    match tls.get_ref().1.alpn_protocol() == Some(ALPN_HTTP2) {
        true => over_http2(shared, &inside, tls).await,
        false => over_http1(shared, &inside, tls).await,
    }
    if !inside.had_request.load(Ordering::Relaxed) {
        shared.saw(ProbeEvent::NoRequest { host: inside.host.clone() });
    }
}

fn why(error: &io::Error) -> HandshakeFailure {
    let tls = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    match tls {
        Some(rustls::Error::NoApplicationProtocol) => {
            HandshakeFailure::Other("it offers neither HTTP/1.1 nor HTTP/2".to_owned())
        }
        Some(rustls::Error::AlertReceived(alert)) => {
            HandshakeFailure::Untrusted { alert: Some(format!("{alert:?}")) }
        }
        Some(other) => HandshakeFailure::Other(other.to_string()),
        // The client closed the connection after it got the certificate.
        None => HandshakeFailure::Untrusted { alert: None },
    }
}

/// A tunnel after its handshake.
struct TlsTunnel {
    host: String,
    by: RequestRoute,
    had_request: AtomicBool,
}

impl TlsTunnel {
    fn saw<B>(&self, shared: &ProbeState, request: &Request<B>) {
        self.had_request.store(true, Ordering::Relaxed);
        shared.saw_agent(request.headers());
        let asked = ProbedRequest::new("https", &self.host, self.by.clone(), request);
        shared.saw(ProbeEvent::Request(asked));
    }
}

async fn over_http1<IO>(shared: &Arc<ProbeState>, inside: &Arc<TlsTunnel>, tls: IO)
where
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = service_fn(|request: Request<Incoming>| {
        let (shared, inside) = (shared.clone(), inside.clone());
        async move {
            inside.saw(&shared, &request);
            drain(request.into_body()).await;
            Ok::<_, Infallible>(answer(StatusCode::OK))
        }
    });
    drop(server().serve_connection(TokioIo::new(tls), service).await);
}

async fn over_http2<IO>(shared: &Arc<ProbeState>, inside: &Arc<TlsTunnel>, tls: IO)
where
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let Ok(mut connection) = h2::server::handshake(tls).await else { return };
    // This also drives the streams that are being answered. It ends with the connection.
    while let Some(Ok((request, respond))) = connection.accept().await {
        inside.saw(shared, &request);
        tokio::spawn(answer_http2(request, respond));
    }
}

/// A gRPC call is answered at once, because its body may never end. Other bodies are read first.
async fn answer_http2(
    request: Request<h2::RecvStream>,
    mut respond: h2::server::SendResponse<Bytes>,
) {
    let is_grpc = is_grpc(request.headers());
    let mut body = request.into_body();
    if is_grpc {
        drop(respond.send_response(grpc_status(), true));
        return drain_http2(&mut body).await;
    }
    drain_http2(&mut body).await;
    let (parts, whole) = answer(StatusCode::OK).into_parts();
    let bytes = whole.collect().await.map(http_body_util::Collected::to_bytes);
    if let (Ok(mut stream), Ok(bytes)) =
        (respond.send_response(Response::from_parts(parts, ()), false), bytes)
    {
        // Fails if the client has closed the stream.
        drop(stream.send_data(bytes, true));
    }
}

fn is_grpc(fields: &HeaderMap) -> bool {
    let kind = fields.get(CONTENT_TYPE).map(HeaderValue::as_bytes);
    kind.is_some_and(|kind| kind.starts_with(b"application/grpc"))
}

/// "Trailers-Only" of <https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md>.
fn grpc_status() -> Response<()> {
    let mut response = Response::new(());
    let fields = response.headers_mut();
    fields.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    fields.insert("grpc-status", HeaderValue::from_static(GRPC_STATUS));
    fields.insert("grpc-message", HeaderValue::from_static(GRPC_MESSAGE));
    response
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

async fn drain_http2(body: &mut h2::RecvStream) {
    let mut bytes = 0;
    while let Some(Ok(data)) = body.data().await {
        bytes += data.len();
        if body.flow_control().release_capacity(data.len()).is_err() || bytes > BODY_BYTES_MAX {
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
    fn hosts_are_shown_without_default_ports_and_credentials() {
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

//! The origin of the bench: HTTPS (h1 and h2 by ALPN), a port in cleartext that tells what came, and
//! DNS for `*.bench.test`, all on loopback.
//!
//! Arguments: `--tls ADDR --control ADDR --dns ADDR --cert PEM --key PEM --secret TEXT`. Prints `tls ADDR`
//! with the port that it has, when it accepts.

mod answer;
mod dns;
mod seen;

use std::collections::HashMap;
use std::sync::Arc;

use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::{HandshakeKind, ServerConfig};

use answer::App;
use seen::Seen;

/// Two, as many as the machine that the goals were set on has cores.
const THREADS: usize = 2;

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let pairs = args.chunks_exact(2);
    let options = pairs.map(|pair| (pair[0].trim_start_matches("--").to_owned(), pair[1].clone()));
    let options: HashMap<String, String> = options.collect();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(THREADS)
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(serve(&options));
}

async fn serve(options: &HashMap<String, String>) {
    let option = |name: &str| options.get(name).unwrap_or_else(|| panic!("--{name} is missing"));
    let acceptor = acceptor(option("cert"), option("key"));
    let app = Arc::new(App::new(option("secret")));
    let names = UdpSocket::bind(option("dns")).await.expect("--dns to be free");
    tokio::spawn(dns::answer(names));
    let control = TcpListener::bind(option("control")).await.expect("--control to be free");
    tokio::spawn(tell(control, app.clone()));
    let listener = TcpListener::bind(option("tls")).await.expect("--tls to be free");
    println!("tls {}", listener.local_addr().expect("an address"));
    loop {
        let Ok((socket, _)) = listener.accept().await else { continue };
        tokio::spawn(https(socket, acceptor.clone(), app.clone()));
    }
}

fn acceptor(cert: &str, key: &str) -> TlsAcceptor {
    let certs = CertificateDer::pem_file_iter(cert).expect("--cert to be PEM");
    let certs: Vec<_> = certs.map(|cert| cert.expect("a certificate")).collect();
    let key = PrivateKeyDer::from_pem_file(key).expect("--key to be PEM");
    let config = ServerConfig::builder().with_no_client_auth().with_single_cert(certs, key);
    let mut config = config.expect("a key that fits the certificate");
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    TlsAcceptor::from(Arc::new(config))
}

async fn https(socket: TcpStream, acceptor: TlsAcceptor, app: Arc<App>) {
    let _ = socket.set_nodelay(true);
    let Ok(tls) = acceptor.accept(socket).await else { return Seen::one(&app.seen.tls_errors) };
    let session = tls.get_ref().1;
    Seen::one(&app.seen.tls_streams);
    if session.handshake_kind() == Some(HandshakeKind::Resumed) {
        Seen::one(&app.seen.resumed);
    }
    let is_http2 = session.alpn_protocol() == Some(b"h2");
    let service = service_fn(move |request| answer::answer(app.clone(), request));
    // What a proxy does with its streams is its own affair: an error ends this one, no more.
    if is_http2 {
        let _ = http2::Builder::new(TokioExecutor::new())
            .max_concurrent_streams(1_000)
            .initial_stream_window_size(1 << 20)
            .initial_connection_window_size(4 << 20)
            .serve_connection(TokioIo::new(tls), service)
            .await;
    } else {
        let _ = http1::Builder::new().serve_connection(TokioIo::new(tls), service).await;
    }
}

/// Any request is answered with what was counted; `/reset` also begins anew.
async fn tell(listener: TcpListener, app: Arc<App>) {
    loop {
        let Ok((socket, _)) = listener.accept().await else { continue };
        let app = app.clone();
        tokio::spawn(async move {
            let service = service_fn(move |request| answer::counts(app.clone(), request));
            let _ = http1::Builder::new().serve_connection(TokioIo::new(socket), service).await;
        });
    }
}

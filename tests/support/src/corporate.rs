//! A corporate proxy that follows a script. It is an origin with cleartext or TLS, and records requests in the
//! same way.

use std::net::SocketAddr;
use std::sync::Arc;

use rustls::ServerConfig;
use tokio::net::TcpStream;

use super::origin::{Origin, Stream, ok};

/// What the proxy answers to a request that it forwards.
pub const FORWARDED: &str = "forwarded";

/// A proxy that opens every way, and each of them leads to `to`; requests in absolute form are
/// answered by itself.
pub fn opening(to: SocketAddr) -> Origin {
    opening_with(None, to)
}

/// The same, spoken to by TLS.
pub fn opening_by_tls(tls: Arc<ServerConfig>, to: SocketAddr) -> Origin {
    opening_with(Some(tls), to)
}

/// A proxy that answers every request with these bytes, and goes.
pub fn answering(bytes: Vec<u8>) -> Origin {
    let bytes = Arc::new(bytes);
    Origin::with_tls(None, move |mut stream: Stream| {
        let bytes = Arc::clone(&bytes);
        async move {
            stream.request().await;
            // A gateway that has read enough is free to go.
            drop(stream.try_send(&*bytes).await);
        }
    })
}

fn opening_with(tls: Option<Arc<ServerConfig>>, to: SocketAddr) -> Origin {
    Origin::with_tls(tls, move |stream| open(stream, to))
}

async fn open(mut stream: Stream, to: SocketAddr) {
    while let Some(request) = stream.request().await {
        if request.head.method() != "CONNECT" {
            if stream.try_send(ok(FORWARDED)).await.is_err() {
                return;
            }
            continue;
        }
        let mut there = TcpStream::connect(to).await.expect("the origin listens");
        stream.send("HTTP/1.1 200 Connection established\r\nVia: 1.1 corp\r\n\r\n").await;
        let (mut here, ..) = stream.into_wire().into_parts();
        // Either end may go as it likes.
        drop(tokio::io::copy_bidirectional(&mut here, &mut there).await);
        return;
    }
}

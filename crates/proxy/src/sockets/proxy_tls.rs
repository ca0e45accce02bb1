//! [`ProxyTls`]: TLS between an agent and the proxy itself (`HTTPS_PROXY=https://…`), before authentication; also that of
//! the admin listener. `streams/intercept.rs` terminates TLS inside a CONNECT.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use rustls::ServerConfig;
use rustls::server::Acceptor;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio_rustls::LazyConfigAcceptor;
use tokio_rustls::server::TlsStream;

use crate::ca::cache::LeafCache;
use keyward_base::host::Host;
use keyward_net::tls::ALPN_HTTP1;

/// The content type that every TLS stream begins with (RFC 8446 §5.1).
pub const HANDSHAKE: u8 = 22;

/// The answer to a client that sends cleartext HTTP.
const TLS_WANTED: &[u8] = b"HTTP/1.1 400 Bad Request\r\nKeyward-Error: bad_request\r\n\
    Content-Type: text/plain\r\nX-Content-Type-Options: nosniff\r\nContent-Length: 46\r\nConnection: close\r\n\r\n\
    this listener speaks TLS: use a URL of https:\n";

/// The certificate of a listener.
#[derive(Debug)]
pub enum ProxyTls {
    /// A configured certificate, which can be replaced.
    Given(ArcSwap<ServerConfig>),
    /// Leaves of the local CA: for one of these names, or if the client sends none of them, for all and the local address.
    Own(Vec<Host>),
}

impl ProxyTls {
    /// Uses `config`, which offers HTTP/1.1.
    pub fn given(config: Arc<ServerConfig>) -> Self {
        Self::Given(ArcSwap::new(config))
    }

    /// Uses another certificate from the next handshake on.
    pub fn replace(&self, config: Arc<ServerConfig>) {
        match self {
            Self::Given(now) => now.store(config),
            Self::Own(_) => {}
        }
    }

    /// Accepts TLS within `timeout`. A client that does not speak TLS gets an error and is closed; its bytes are
    /// never treated as a request.
    ///
    /// # Errors
    /// The cause, for the log.
    pub async fn accept(
        &self,
        leaves: &LeafCache,
        timeout: Duration,
        socket: TcpStream,
    ) -> Result<Box<TlsStream<TcpStream>>, String> {
        let handshake = async {
            let socket = only_tls(socket).await?;
            self.handshake(leaves, socket, ALPN_HTTP1).await
        };
        within(timeout, handshake).await
    }

    /// Accepts TLS within `timeout` from a client that has asked for it, for the protocol that `alpn` names.
    ///
    /// # Errors
    /// The cause, for the log.
    pub async fn accept_protocol(
        &self,
        leaves: &LeafCache,
        timeout: Duration,
        socket: TcpStream,
        alpn: &[u8],
    ) -> Result<Box<TlsStream<TcpStream>>, String> {
        within(timeout, self.handshake(leaves, socket, alpn)).await
    }

    async fn handshake(
        &self,
        leaves: &LeafCache,
        socket: TcpStream,
        alpn: &[u8],
    ) -> io::Result<TlsStream<TcpStream>> {
        let here = socket.local_addr()?.ip().to_canonical();
        let begun = LazyConfigAcceptor::new(Acceptor::default(), socket).await?;
        let config = self.config(leaves, begun.client_hello().server_name(), here)?;
        // Leaves are made for streams inside a CONNECT, where HTTP/2 is spoken too.
        let config = match config.alpn_protocols == [alpn] {
            true => config,
            false => {
                let mut own = ServerConfig::clone(&config);
                own.alpn_protocols = vec![alpn.to_vec()];
                Arc::new(own)
            }
        };
        begun.into_stream(config).await
    }

    fn config(
        &self,
        leaves: &LeafCache,
        asked: Option<&str>,
        here: IpAddr,
    ) -> io::Result<Arc<ServerConfig>> {
        let names = match self {
            Self::Given(config) => return Ok(config.load_full()),
            Self::Own(names) => names,
        };
        let asked = asked.and_then(|name| Host::parse(name).ok());
        let config = match asked.filter(|name| names.contains(name)) {
            Some(known) => leaves.server_config(&known),
            // A client without SNI verifies any of them. One that asks for another name can say what is wrong.
            None => {
                let here = match here {
                    IpAddr::V4(v4) => Host::V4(v4),
                    IpAddr::V6(v6) => Host::V6(v6),
                };
                leaves.shared_config(&[&[here], &names[..]].concat())
            }
        };
        config.map_err(io::Error::other)
    }
}

/// The socket of a client that begins with TLS; any other gets an error.
async fn only_tls(mut socket: TcpStream) -> io::Result<TcpStream> {
    let mut first = [0];
    match socket.peek(&mut first).await? {
        0 => Err(io::ErrorKind::UnexpectedEof.into()),
        _ if first == [HANDSHAKE] => Ok(socket),
        _ => {
            socket.write_all(TLS_WANTED).await?;
            socket.shutdown().await?;
            Err(io::Error::other("this is not TLS"))
        }
    }
}

async fn within(
    timeout: Duration,
    handshake: impl Future<Output = io::Result<TlsStream<TcpStream>>>,
) -> Result<Box<TlsStream<TcpStream>>, String> {
    match tokio::time::timeout(timeout, handshake).await {
        Ok(Ok(tls)) => Ok(Box::new(tls)),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err("it took too long".to_owned()),
    }
}

//! The way to the origin, and HTTP/1.1 on it, with as little work of our own as can be.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use httparse::Status;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::client::Resumption;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use crate::options::Options;

/// How long one request, or one way to the origin, may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// Where the origin is, and how requests get there.
pub struct Way {
    via: Via,
    pub host: String,
    pub port: u16,
    pub path: String,
    /// A field that the client sends, where the proxy puts none in.
    pub field: Option<(String, String)>,
    authorization: String,
    pub http1: TlsConnector,
    pub http2: TlsConnector,
}

enum Via {
    /// TLS straight to this address.
    Address(String),
    /// CONNECT at this address.
    Proxy(String),
}

/// A TLS stream and what was read of it ahead.
pub struct Stream {
    pub tls: TlsStream<TcpStream>,
    buffer: Vec<u8>,
    start: usize,
    end: usize,
}

/// What is looked at of an answer.
pub struct Answer {
    pub status: u16,
    pub body_bytes: u64,
    pub keeps_alive: bool,
}

struct Head {
    status: u16,
    length: Option<u64>,
    chunked: bool,
    keeps_alive: bool,
}

pub fn failure(text: impl Into<String>) -> io::Error {
    io::Error::other(text.into())
}

/// The result, or that it took too long.
pub async fn patiently<T>(work: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    timeout(PATIENCE, work).await.unwrap_or_else(|_| Err(failure("took too long")))
}

impl Way {
    pub fn new(options: &Options) -> Self {
        let mut roots = RootCertStore::empty();
        let trusted = options.text("ca", "ca.pem");
        for root in CertificateDer::pem_file_iter(trusted).expect("--ca to be PEM") {
            roots.add(root.expect("a certificate")).expect("a root");
        }
        let offering = |protocol: &[u8]| {
            let config = ClientConfig::builder().with_root_certificates(roots.clone());
            let mut config = config.with_no_client_auth();
            config.alpn_protocols = vec![protocol.to_vec()];
            // Each handshake is a whole one: proxies are compared, not our cache.
            config.resumption = Resumption::disabled();
            TlsConnector::from(Arc::new(config))
        };
        let port = options.number("port", 8443);
        let via = match (options.given("proxy"), options.given("reverse")) {
            (Some(proxy), _) => Via::Proxy(proxy.to_owned()),
            (None, Some(reverse)) => Via::Address(reverse.to_owned()),
            (None, None) => Via::Address(format!("127.0.0.1:{port}")),
        };
        let field = options.given("field").and_then(|field| field.split_once(": "));
        let authorization = options.given("proxy-auth").map(|pair| STANDARD.encode(pair));
        Self {
            via,
            host: options.text("host", "api.bench.test"),
            port,
            path: options.text("path", "/small"),
            field: field.map(|(name, value)| (name.to_owned(), value.to_owned())),
            authorization: authorization
                .map_or_else(String::new, |pair| format!("Proxy-Authorization: Basic {pair}\r\n")),
            http1: offering(b"http/1.1"),
            http2: offering(b"h2"),
        }
    }

    /// TLS to the origin, whichever way.
    pub async fn open(&self, host: &str, tls: &TlsConnector) -> io::Result<TlsStream<TcpStream>> {
        let (Via::Address(address) | Via::Proxy(address)) = &self.via;
        let mut socket = TcpStream::connect(address.as_str()).await?;
        socket.set_nodelay(true)?;
        if matches!(self.via, Via::Proxy(_)) {
            self.connect(&mut socket, host).await?;
        }
        let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
        tls.connect(name, socket).await
    }

    async fn connect(&self, socket: &mut TcpStream, host: &str) -> io::Result<()> {
        let authority = format!("{host}:{}", self.port);
        let request = format!(
            "CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n{}\r\n",
            self.authorization
        );
        socket.write_all(request.as_bytes()).await?;
        let (mut head, mut length) = ([0u8; 2048], 0);
        while !head[..length].ends_with(b"\r\n\r\n") {
            match socket.read(&mut head[length..]).await? {
                0 => return Err(failure("no whole answer to CONNECT")),
                more => length += more,
            }
        }
        match head.get(9..12) {
            Some(b"200") => Ok(()),
            _ => Err(failure(
                String::from_utf8_lossy(&head[..length.min(60)]).escape_debug().to_string(),
            )),
        }
    }

    /// A GET of `path`, as bytes.
    pub fn get(&self, host: &str, path: &str) -> Vec<u8> {
        self.head("GET", (host, path), "")
    }

    pub fn head(&self, method: &str, (host, path): (&str, &str), fields: &str) -> Vec<u8> {
        let own = self.field.as_ref().map_or_else(String::new, |(n, v)| format!("{n}: {v}\r\n"));
        format!(
            "{method} {path} HTTP/1.1\r\nHost: {host}:{}\r\nUser-Agent: bench-load\r\n\
             Accept: */*\r\n{own}{fields}\r\n",
            self.port
        )
        .into_bytes()
    }
}

impl Stream {
    /// What a small answer needs.
    const BUFFER_BYTES: usize = 16 * 1024;

    pub async fn open(way: &Way, host: &str) -> io::Result<Self> {
        let tls = way.open(host, &way.http1).await?;
        Ok(Self { tls, buffer: vec![0; Self::BUFFER_BYTES], start: 0, end: 0 })
    }

    /// A stream that has answered one request; whether the proxy left it open. Where not, a new one.
    pub async fn warm(way: &Way) -> io::Result<(Self, bool)> {
        let mut stream = Self::open(way, &way.host).await?;
        if stream.ask(&way.get(&way.host, "/small")).await?.keeps_alive {
            return Ok((stream, true));
        }
        Ok((Self::open(way, &way.host).await?, false))
    }

    /// With a buffer of this size from now on. Nothing is read ahead between two answers.
    pub fn resize(&mut self, bytes: usize) {
        (self.buffer, self.start, self.end) = (vec![0; bytes], 0, 0);
    }

    pub async fn ask(&mut self, request: &[u8]) -> io::Result<Answer> {
        self.tls.write_all(request).await?;
        self.tls.flush().await?;
        self.answer(|_| ()).await
    }

    /// Reads an answer whole; `on` sees its body.
    pub async fn answer(&mut self, mut on: impl FnMut(&[u8])) -> io::Result<Answer> {
        let head = self.read_head().await?;
        let mut keeps_alive = head.keeps_alive;
        let body_bytes = match head {
            Head { chunked: true, .. } => self.chunks(&mut on).await?,
            Head { length: Some(length), .. } => self.take(length, &mut on).await?,
            Head { .. } => {
                keeps_alive = false;
                self.rest(&mut on).await?
            }
        };
        Ok(Answer { status: head.status, body_bytes, keeps_alive })
    }

    async fn read_head(&mut self) -> io::Result<Head> {
        loop {
            let mut fields = [httparse::EMPTY_HEADER; 64];
            let mut response = httparse::Response::new(&mut fields);
            let parsed = response.parse(&self.buffer[self.start..self.end]);
            let Status::Complete(length) = parsed.map_err(io::Error::other)? else {
                self.fill("the head").await?;
                continue;
            };
            let head = Head::of(&response);
            self.start += length;
            if head.status >= 200 {
                return Ok(head);
            }
        }
    }

    async fn chunks(&mut self, on: &mut impl FnMut(&[u8])) -> io::Result<u64> {
        let mut bytes = 0;
        loop {
            let size = loop {
                let ahead = &self.buffer[self.start..self.end];
                match httparse::parse_chunk_size(ahead).map_err(|_| failure("a bad chunk"))? {
                    Status::Complete((length, size)) => {
                        self.start += length;
                        break size;
                    }
                    Status::Partial => self.fill("a chunk's head").await?,
                }
            };
            bytes += self.take(size, on).await?;
            self.take(2, &mut |_: &[u8]| ()).await?;
            if size == 0 {
                return Ok(bytes);
            }
        }
    }

    async fn take(&mut self, bytes: u64, on: &mut impl FnMut(&[u8])) -> io::Result<u64> {
        let mut left = bytes;
        while left > 0 {
            if self.start == self.end {
                self.fill("the body").await?;
            }
            let ahead = self.end - self.start;
            let taken = usize::try_from(left).map_or(ahead, |left| left.min(ahead));
            on(&self.buffer[self.start..self.start + taken]);
            self.start += taken;
            left -= taken as u64;
        }
        Ok(bytes)
    }

    async fn rest(&mut self, on: &mut impl FnMut(&[u8])) -> io::Result<u64> {
        let mut bytes = 0;
        loop {
            bytes += (self.end - self.start) as u64;
            on(&self.buffer[self.start..self.end]);
            self.start = self.end;
            if self.fill("").await.is_err() {
                return Ok(bytes);
            }
        }
    }

    /// Reads more; `what` is missing when there is none.
    async fn fill(&mut self, what: &str) -> io::Result<()> {
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        } else if self.end == self.buffer.len() {
            self.buffer.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
        match self.tls.read(&mut self.buffer[self.end..]).await? {
            0 => Err(failure(format!("the stream ended in {what}"))),
            more => {
                self.end += more;
                Ok(())
            }
        }
    }
}

impl Head {
    fn of(response: &httparse::Response<'_, '_>) -> Self {
        let mut head = Self {
            status: response.code.unwrap_or(0),
            length: None,
            chunked: false,
            keeps_alive: response.version == Some(1),
        };
        for field in response.headers.iter() {
            match field.name.to_ascii_lowercase().as_str() {
                "content-length" => {
                    let text = std::str::from_utf8(field.value).ok();
                    head.length = text.and_then(|text| text.trim().parse().ok());
                }
                "transfer-encoding" => head.chunked = field.value.ends_with(b"chunked"),
                "connection" if field.value.eq_ignore_ascii_case(b"close") => {
                    head.keeps_alive = false;
                }
                _ => {}
            }
        }
        head
    }
}

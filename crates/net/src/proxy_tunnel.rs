//! Opens a stream to a target through a corporate proxy: CONNECT (RFC 9110 §9.3.6), over TCP or TLS.

use std::io;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use http::StatusCode;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;

use super::client::connect_tls;
use super::corporate::CorporateProxy;
use super::dial_error::ProxyFault;
use super::wire::Wire;
use keyward_base::host::{Scheme, Target};

/// Maximum size of the proxy's response head. Bodies, such as login pages, are not read.
const HEAD_BYTES_MAX: usize = 16 * 1024;

/// Fields in that head.
const HEAD_FIELDS_MAX: usize = 64;

/// Does the TLS handshake with the proxy, if its URL asks for TLS.
pub(super) async fn enter(
    proxy: &CorporateProxy,
    stream: TcpStream,
    within: Duration,
) -> Result<Wire, ProxyFault> {
    match (proxy.at().scheme(), proxy.tls()) {
        (Scheme::Http, _) => Ok(stream.into()),
        (Scheme::Https, Some(config)) => {
            let stream = connect_tls(stream, proxy.at(), config.clone(), within).await;
            stream.map(Wire::over_tls).map_err(ProxyFault::Tls)
        }
        (Scheme::Https, None) => {
            let error = io::Error::other("no TLS configuration to verify it");
            Err(ProxyFault::Closed(error))
        }
    }
}

/// Asks for a tunnel to `target`. Bytes after the response head come from the target.
pub(super) async fn tunnel(
    proxy: &CorporateProxy,
    mut wire: Wire,
    target: &Target,
) -> Result<Wire, ProxyFault> {
    let early = ask(proxy, &mut wire, target).await?;
    Ok(wire.with_early(early))
}

async fn ask<IO: AsyncRead + AsyncWrite + Unpin>(
    proxy: &CorporateProxy,
    stream: &mut IO,
    target: &Target,
) -> Result<Bytes, ProxyFault> {
    // Always with the port, because it is not a URI here (RFC 9112 §3.2.3).
    let authority = format!("{}:{}", target.host(), target.port());
    let mut request = BytesMut::new();
    request.extend_from_slice(b"CONNECT ");
    request.extend_from_slice(authority.as_bytes());
    request.extend_from_slice(b" HTTP/1.1\r\nHost: ");
    request.extend_from_slice(authority.as_bytes());
    request.extend_from_slice(b"\r\n");
    if let Some(value) = proxy.authorization() {
        request.extend_from_slice(b"Proxy-Authorization: ");
        request.extend_from_slice(value.as_bytes());
        request.extend_from_slice(b"\r\n");
    }
    request.extend_from_slice(b"\r\n");
    // A proxy may respond and close before it has read the whole request; its response counts.
    let written = async {
        stream.write_all(&request).await?;
        stream.flush().await
    };
    let written = written.await;
    let (status, early) = match (answer(stream).await, written) {
        (Err(ProxyFault::Closed(_)), Err(error)) => return Err(ProxyFault::Closed(error)),
        (answer, _) => answer?,
    };
    match status {
        status if status.is_success() => Ok(early),
        // tinyproxy answers 401 to a wrong login, and 407 without one.
        StatusCode::PROXY_AUTHENTICATION_REQUIRED | StatusCode::UNAUTHORIZED => {
            Err(ProxyFault::Login)
        }
        status => Err(ProxyFault::Refused { target: authority, status }),
    }
}

/// Returns the final status and the bytes after its head. Content-Length and Transfer-Encoding of a success
/// mean nothing (RFC 9110 §9.3.6); the body of a refusal is not read.
async fn answer<IO: AsyncRead + Unpin>(stream: &mut IO) -> Result<(StatusCode, Bytes), ProxyFault> {
    let mut buffer = BytesMut::with_capacity(1024);
    let mut spent = 0;
    loop {
        while let Some((status, length)) = head(&buffer)? {
            buffer.advance(length);
            spent += length;
            if !status.is_informational() {
                return Ok((status, buffer.freeze()));
            }
        }
        if spent + buffer.len() >= HEAD_BYTES_MAX {
            return Err(ProxyFault::Malformed("its head has no end"));
        }
        let room = (HEAD_BYTES_MAX - spent - buffer.len()) as u64;
        let read = (&mut *stream).take(room).read_buf(&mut buffer).await;
        if read.map_err(ProxyFault::Closed)? == 0 {
            return Err(ProxyFault::Closed(io::ErrorKind::UnexpectedEof.into()));
        }
    }
}

/// Parses a head at the start of `bytes`; returns status and length once it is complete.
fn head(bytes: &[u8]) -> Result<Option<(StatusCode, usize)>, ProxyFault> {
    let mut fields = [httparse::EMPTY_HEADER; HEAD_FIELDS_MAX];
    let mut response = httparse::Response::new(&mut fields);
    let parsed = response.parse(bytes).map_err(|error| {
        ProxyFault::Malformed(match error {
            httparse::Error::TooManyHeaders => "its head has too many fields",
            _ => "this is not HTTP/1.1",
        })
    })?;
    match (parsed, response.code.map(StatusCode::from_u16)) {
        (httparse::Status::Partial, _) => Ok(None),
        // From here on it would speak another protocol.
        (_, Some(Ok(StatusCode::SWITCHING_PROTOCOLS))) => {
            Err(ProxyFault::Malformed("it switches protocols"))
        }
        (httparse::Status::Complete(length), Some(Ok(status))) => Ok(Some((status, length))),
        _ => Err(ProxyFault::Malformed("its status is not an HTTP status")),
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::duplex;

    use super::*;
    use keyward_base::secret::Secret;

    fn target(authority: &str) -> Target {
        Target::parse(Scheme::Https, authority).expect("target")
    }

    fn proxy() -> CorporateProxy {
        CorporateProxy::new(Target::parse(Scheme::Http, "corp:3128").expect("proxy"), vec![])
    }

    /// All bytes after the head of a response that arrives in these pieces, followed by the end of the stream.
    async fn after(pieces: &[&[u8]]) -> Result<Vec<u8>, String> {
        let (mut ours, mut theirs) = duplex(8);
        let pieces: Vec<Vec<u8>> = pieces.iter().map(|piece| piece.to_vec()).collect();
        tokio::spawn(async move {
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                if theirs.read_buf(&mut request).await.is_err() {
                    return;
                }
            }
            for piece in pieces {
                if theirs.write_all(&piece).await.is_err() {
                    return;
                }
            }
        });
        let asked = ask(&proxy(), &mut ours, &target("api.test")).await;
        let mut got = asked.map_err(|error| error.to_string())?.to_vec();
        // The pipe holds eight bytes, so that the rest may come later.
        ours.read_to_end(&mut got).await.expect("the rest");
        Ok(got)
    }

    #[tokio::test]
    async fn an_answer_that_opens_no_tunnel_has_its_own_error() {
        let flood = [b"HTTP/1.1 200 OK\r\nX: ", &*vec![b'x'; 2 * HEAD_BYTES_MAX]].concat();
        let fields = [b"HTTP/1.1 200 OK\r\n", &*b"X: y\r\n".repeat(65), b"\r\n"].concat();
        let interim = b"HTTP/1.1 100 Continue\r\n\r\n".repeat(1000);
        let table: &[(&[u8], &str)] = &[
            (b"HTTP/1.1 403 Forbidden\r\n\r\n<html>", "refuses to connect to api.test:443 (403)"),
            (b"HTTP/1.1 502 Bad Gateway\r\n\r\n", "refuses to connect to api.test:443 (502)"),
            (b"HTTP/1.1 302 Found\r\nLocation: http://login.test/\r\n\r\n", "(302)"),
            (b"HTTP/1.1 407 Who\r\nProxy-Authenticate: NTLM\r\n\r\n", "login"),
            (b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n", "it switches protocols"),
            (b"HTTP/1.1 999 Odd\r\n\r\n", "refuses to connect to api.test:443 (999)"),
            (b"HTTP/1.1 099 Odd\r\n\r\n", "its status is not an HTTP status"),
            (b"HTTP/2 200 OK\r\n\r\n", "not HTTP/1.1"),
            (b"SSH-2.0-OpenSSH_9.2\r\n", "not HTTP/1.1"),
            (b"\x16\x03\x01", "not HTTP/1.1"),
            (b"", "closed the stream"),
            (b"HTTP/1.1 200 OK\r\nX", "closed the stream"),
            (&flood, "its head has no end"),
            (&fields, "too many fields"),
            (&interim, "its head has no end"),
        ];
        for (answer, expected) in table {
            let told = after(&[answer]).await.expect_err(expected);
            assert!(told.contains(expected), "{expected}: {told}");
        }
    }

    #[tokio::test]
    async fn any_2xx_answer_opens_the_tunnel_and_no_byte_of_its_head_is_passed_on() {
        for (pieces, expected) in [
            (vec![&b"HTTP/1.1 200 Connection established\r\n\r\n"[..]], &b""[..]),
            (vec![b"HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nhello"], b"hello"),
            (vec![b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 299 Odd\r\n\r\n"], b""),
            (vec![b"HTTP/1.1 200", b" OK\r\nA: b\r\n\r", b"\n"], b""),
        ] {
            assert_eq!(after(&pieces).await.expect("open"), expected, "{pieces:?}");
        }
    }

    #[tokio::test]
    async fn the_request_names_host_and_port_and_carries_the_login() {
        let proxy = proxy().with_login("svc", &Secret::from("hunter2".to_owned())).expect("login");
        for (authority, line) in
            [("api.test", "api.test:443"), ("[2a00::1]:8443", "[2a00::1]:8443")]
        {
            let ((mut ours, mut theirs), target) = (duplex(1024), target(authority));
            let (asked, _) = tokio::join!(ask(&proxy, &mut ours, &target), async {
                let mut request = Vec::new();
                while !request.ends_with(b"\r\n\r\n") {
                    theirs.read_buf(&mut request).await.expect("read");
                }
                let expected = format!(
                    "CONNECT {line} HTTP/1.1\r\nHost: {line}\r\n\
                     Proxy-Authorization: Basic c3ZjOmh1bnRlcjI=\r\n\r\n"
                );
                assert_eq!(String::from_utf8_lossy(&request), expected);
                theirs.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.expect("write");
            });
            asked.expect("open");
        }
    }
}

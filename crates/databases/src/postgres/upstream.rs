//! The stream to the server. TLS is negotiated before anything else is sent: no other
//! byte is read before it (CVE-2021-23222). `tls-server-end-point` (RFC 5929 §4.1), the hash of the server's certificate, ties
//! SCRAM to the TLS stream.

use std::io;
use std::sync::Arc;

use aws_lc_rs::digest;
use bytes::BytesMut;
use postgres_protocol::message::frontend;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use x509_parser::prelude::FromDer;

use crate::refused::Refused;
use crate::upstream::Upstream;
use keyward_base::codes::Code;
use keyward_base::database::StreamSecurity;
use keyward_proxy::{CheckedUpstream, FailedAttempt, Gateway, ServiceExchange};
use keyward_rules::policy::DatabasePermit;

/// Why there is no stream to a server.
#[derive(Debug)]
pub enum UpstreamError {
    /// It was not dialled, or does not prove to be the permit's host.
    Attempt(FailedAttempt),
    NoTls,
    /// It does not speak the protocol.
    Protocol,
}

/// Dials the server, with TLS unless the permit says otherwise.
///
/// # Errors
/// When it cannot be reached, has no TLS, or does not prove to be the permit's host.
pub async fn reach(
    gateway: &Arc<Gateway>,
    permit: &DatabasePermit,
) -> Result<Upstream, UpstreamError> {
    let dialled = ServiceExchange::dial(gateway, permit).await;
    let mut stream = dialled.map_err(UpstreamError::Attempt)?;
    if permit.endpoint().security == StreamSecurity::VerifiedTls {
        let within = gateway.limits.connect_timeout;
        match tokio::time::timeout(within, ask_for_tls(&mut stream)).await {
            Ok(Ok(true)) => {}
            Ok(Ok(false)) => return Err(UpstreamError::NoTls),
            Ok(Err(_)) | Err(_) => return Err(UpstreamError::Protocol),
        }
    }
    Upstream::secured(gateway, stream, permit).await.map_err(UpstreamError::Attempt)
}

impl UpstreamError {
    /// The refusal of a session for which no server was reached.
    pub fn refused(&self, exchange: &mut ServiceExchange) -> Refused {
        let (text, hint) = match self {
            Self::Attempt(failed) => return exchange.refused_attempt(failed).into(),
            Self::NoTls => (
                Code::UpstreamTls.because("the database server offers no TLS"),
                Some("switch TLS on at the server, or set `sslmode: disable`"),
            ),
            Self::Protocol => {
                let text = "the server does not answer as PostgreSQL does";
                (Code::UpstreamProtocol.because(text), None)
            }
        };
        Refused::Keyward(match hint {
            Some(hint) => text.hint(hint),
            None => text,
        })
    }
}

/// The channel binding data of a TLS stream (`tls-server-end-point`).
pub fn channel_binding(upstream: &Upstream) -> Option<Vec<u8>> {
    let (_, session) = upstream.tls()?.get_ref();
    server_end_point(session.peer_certificates()?.first()?)
}

/// Whether the server accepts TLS. Reads exactly one byte.
async fn ask_for_tls(stream: &mut CheckedUpstream) -> io::Result<bool> {
    let mut request = BytesMut::new();
    frontend::ssl_request(&mut request);
    stream.write_all(&request).await?;
    match stream.read_u8().await? {
        b'S' => Ok(true),
        b'N' => Ok(false),
        _ => Err(io::ErrorKind::InvalidData.into()),
    }
}

/// The hash of a certificate with the hash function of its signature; SHA-256 for MD5 and SHA-1. `None` for signatures
/// without a single hash function, such as Ed25519, for which the binding is undefined.
fn server_end_point(certificate: &[u8]) -> Option<Vec<u8>> {
    let (_, parsed) = x509_parser::certificate::X509Certificate::from_der(certificate).ok()?;
    let algorithm = match parsed.signature_algorithm.algorithm.to_id_string().as_str() {
        // RSA with MD5, SHA-1 and SHA-256; ECDSA with SHA-1 and SHA-256.
        "1.2.840.113549.1.1.4"
        | "1.2.840.113549.1.1.5"
        | "1.2.840.113549.1.1.11"
        | "1.2.840.10045.4.1"
        | "1.2.840.10045.4.3.2" => &digest::SHA256,
        "1.2.840.113549.1.1.12" | "1.2.840.10045.4.3.3" => &digest::SHA384,
        "1.2.840.113549.1.1.13" | "1.2.840.10045.4.3.4" => &digest::SHA512,
        _ => return None,
    };
    Some(digest::digest(algorithm, certificate).as_ref().to_vec())
}

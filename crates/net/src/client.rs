//! The TLS handshake with an upstream: name, chain and validity are verified before any request is sent.
//! Verification cannot be turned off.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use rustls::{CertificateError, ClientConfig};
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use keyward_base::host::{Host, Target};

/// Why an upstream's certificate is not valid; short, and safe to show to an agent.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum CertificateFault {
    Expired,
    /// It is not valid yet, or the clock of this machine is wrong.
    NotYetValid,
    /// No configured root signed it.
    UnknownIssuer,
    /// It is for another name.
    NameMismatch,
    Revoked,
    /// Malformed, badly signed, or not for servers.
    Invalid,
}

/// Why the TLS handshake with an upstream failed.
#[derive(Debug, thiserror::Error)]
pub enum HandshakeError {
    /// The certificate is not valid for the host.
    #[error("the certificate of {host} {fault}")]
    Certificate {
        host: Host,
        /// The reason.
        fault: CertificateFault,
        /// The error of rustls; for the log only.
        #[source]
        source: io::Error,
    },
    /// The peer does not speak TLS, has no common version or suite, or closed the stream.
    #[error("the TLS handshake with {host} failed: it {fault}")]
    Handshake {
        host: Host,
        /// What the peer did; short, and safe to show to an agent.
        fault: &'static str,
        /// The error of rustls or of the stream; for the log only.
        #[source]
        source: io::Error,
    },
    /// The time limit was reached.
    #[error("the TLS handshake with {host} took too long")]
    Timeout { host: Host },
}

/// Does the TLS handshake on a stream that was dialled for `target`, with the time limit `within`.
///
/// Dropping the future closes the stream.
///
/// # Errors
/// When the peer does not prove to be the target's host in time.
pub async fn connect_tls<IO: AsyncRead + AsyncWrite + Unpin>(
    dialled: IO,
    target: &Target,
    config: Arc<ClientConfig>,
    within: Duration,
) -> Result<TlsStream<IO>, HandshakeError> {
    let host = target.host();
    let name = server_name(host).map_err(|source| HandshakeError::Certificate {
        host: host.clone(),
        fault: CertificateFault::NameMismatch,
        source,
    })?;
    let handshake = TlsConnector::from(config).connect(name, dialled);
    match tokio::time::timeout(within, handshake).await {
        Ok(Ok(stream)) => Ok(stream),
        Ok(Err(source)) => Err(HandshakeError::from_io(host.clone(), source)),
        Err(_) => Err(HandshakeError::Timeout { host: host.clone() }),
    }
}

/// A [`Host`] may be a name that no certificate can have, such as one with a leading hyphen.
fn server_name(host: &Host) -> io::Result<ServerName<'static>> {
    match host {
        Host::Name(name) => ServerName::try_from(name.to_string())
            .map_err(|e| io::Error::new(io::ErrorKind::InvalidInput, e)),
        Host::V4(v4) => Ok(ServerName::from(std::net::IpAddr::V4(*v4))),
        Host::V6(v6) => Ok(ServerName::from(std::net::IpAddr::V6(*v6))),
    }
}

impl HandshakeError {
    /// Whether the upstream supports none of the offered protocols (RFC 7301 §3.2).
    pub fn is_of_protocol(&self) -> bool {
        use rustls::{AlertDescription, Error};
        let Self::Handshake { source, .. } = self else { return false };
        let tls = source.get_ref().and_then(|inner| inner.downcast_ref::<Error>());
        matches!(
            tls,
            Some(Error::AlertReceived(AlertDescription::NoApplicationProtocol))
                | Some(Error::NoApplicationProtocol)
        )
    }

    fn from_io(host: Host, source: io::Error) -> Self {
        let tls = source.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
        match tls {
            Some(rustls::Error::InvalidCertificate(error)) => {
                let fault = CertificateFault::from(error);
                Self::Certificate { host, fault, source }
            }
            Some(error) => Self::Handshake { host, fault: fault_of(error), source },
            None => {
                Self::Handshake { host, fault: "ended the stream within the handshake", source }
            }
        }
    }

    /// Whether another root may help.
    pub fn is_of_trust(&self) -> bool {
        use CertificateFault::{Invalid, UnknownIssuer};
        matches!(self, Self::Certificate { fault: UnknownIssuer | Invalid, .. })
    }
}

/// What the peer did in a handshake that failed. The message continues after "it".
fn fault_of(error: &rustls::Error) -> &'static str {
    use rustls::AlertDescription as Alert;
    use rustls::Error::{AlertReceived, InvalidMessage, PeerIncompatible};
    match error {
        PeerIncompatible(_)
        | AlertReceived(
            Alert::HandshakeFailure | Alert::ProtocolVersion | Alert::InsufficientSecurity,
        ) => "has no version or cipher of TLS that is not too old",
        InvalidMessage(_) => "does not speak TLS at this port",
        AlertReceived(Alert::UnrecognisedName) => "has no certificate for this name",
        AlertReceived(Alert::UnknownCA | Alert::CertificateRequired | Alert::BadCertificate) => {
            "asks for another client certificate"
        }
        _ => "broke the handshake",
    }
}

impl From<&CertificateError> for CertificateFault {
    fn from(error: &CertificateError) -> Self {
        use CertificateError as E;
        match error {
            E::Expired | E::ExpiredContext { .. } => Self::Expired,
            E::NotValidYet | E::NotValidYetContext { .. } => Self::NotYetValid,
            E::UnknownIssuer => Self::UnknownIssuer,
            E::NotValidForName | E::NotValidForNameContext { .. } => Self::NameMismatch,
            E::Revoked => Self::Revoked,
            // The enum may grow; new errors also mean that the certificate was rejected.
            _ => Self::Invalid,
        }
    }
}

impl fmt::Display for CertificateFault {
    /// The rest of "the certificate of HOST …".
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Expired => "has expired",
            Self::NotYetValid => "is not valid yet",
            Self::UnknownIssuer => "is from an unknown issuer",
            Self::NameMismatch => "is for another name",
            Self::Revoked => "has been revoked",
            Self::Invalid => "is not valid",
        })
    }
}

#[cfg(test)]
mod tests {
    use std::ops::Range;

    use rcgen::{CertificateParams, DnType, KeyPair};
    use rustls::{RootCertStore, ServerConfig};
    use rustls_pki_types::{CertificateDer, PrivateKeyDer};
    use tokio::io::{AsyncWriteExt, DuplexStream, duplex};
    use tokio_rustls::TlsAcceptor;

    use super::*;
    use crate::tls;
    use keyward_base::host::Scheme;

    const LONG: Duration = Duration::from_secs(60);

    fn target(authority: &str) -> Target {
        Target::parse(Scheme::Https, authority).expect("target")
    }

    /// A self-signed certificate for `name`, valid in the years between.
    fn certificate(name: &str, years: Range<i32>) -> (CertificateDer<'static>, KeyPair) {
        let key = KeyPair::generate().expect("key");
        let mut params = CertificateParams::new(vec![name.to_owned()]).expect("params");
        // Roots are found by their name, so each has its own.
        params.distinguished_name.push(DnType::CommonName, name);
        params.not_before = rcgen::date_time_ymd(years.start, 1, 1);
        params.not_after = rcgen::date_time_ymd(years.end, 1, 1);
        (params.self_signed(&key).expect("self-signed").der().clone(), key)
    }

    fn trusting(root: CertificateDer<'static>) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots.add(root).expect("root");
        let builder = ClientConfig::builder_with_provider(tls::provider());
        let builder = builder.with_protocol_versions(tls::VERSIONS).expect("versions");
        Arc::new(builder.with_root_certificates(roots).with_no_client_auth())
    }

    /// A TLS server for one stream.
    fn serve(cert: CertificateDer<'static>, key: &KeyPair) -> DuplexStream {
        let key = PrivateKeyDer::try_from(key.serialize_der()).expect("key");
        let builder = ServerConfig::builder_with_provider(tls::provider());
        let builder = builder.with_protocol_versions(tls::VERSIONS).expect("versions");
        let config = builder.with_no_client_auth().with_single_cert(vec![cert], key);
        let acceptor = TlsAcceptor::from(Arc::new(config.expect("server config")));
        let (ours, theirs) = duplex(64 * 1024);
        tokio::spawn(async move { acceptor.accept(theirs).await.map(drop) });
        ours
    }

    async fn fault(name: &str, years: Range<i32>, authority: &str) -> CertificateFault {
        let (cert, key) = certificate(name, years);
        let stream = serve(cert.clone(), &key);
        match connect_tls(stream, &target(authority), trusting(cert), LONG).await {
            Err(HandshakeError::Certificate { fault, .. }) => fault,
            other => panic!("{name} for {authority}: {other:?}"),
        }
    }

    #[tokio::test]
    async fn a_certificate_that_does_not_prove_the_host_is_refused_with_its_fault() {
        use CertificateFault::*;
        for (name, years, authority, expected) in [
            ("api.test", 2000..2001, "api.test", Expired),
            ("api.test", 4000..4001, "api.test", NotYetValid),
            ("other.test", 2000..4000, "api.test", NameMismatch),
            ("*.api.test", 2000..4000, "api.test", NameMismatch),
            ("127.0.0.1", 2000..4000, "127.0.0.2", NameMismatch),
            ("api.test", 2000..4000, "127.0.0.1", NameMismatch),
            ("api.test", 2000..4000, "-api.test", NameMismatch),
        ] {
            assert_eq!(fault(name, years, authority).await, expected, "{name} for {authority}");
        }
    }

    #[tokio::test]
    async fn an_issuer_that_is_not_configured_is_refused() {
        let (cert, key) = certificate("api.test", 2000..4000);
        let (unrelated, _) = certificate("root.test", 2000..4000);
        let stream = serve(cert, &key);
        let error = connect_tls(stream, &target("api.test"), trusting(unrelated), LONG).await;
        let error = error.expect_err("unknown issuer");
        assert_eq!(error.to_string(), "the certificate of api.test is from an unknown issuer");
    }

    #[tokio::test]
    async fn an_answer_that_is_not_tls_fails_the_handshake() {
        let (cert, _) = certificate("api.test", 2000..4000);
        let (ours, mut theirs) = duplex(1024);
        theirs.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await.expect("write");
        let result = connect_tls(ours, &target("api.test"), trusting(cert), LONG).await;
        assert!(matches!(result, Err(HandshakeError::Handshake { .. })), "{result:?}");
    }

    #[tokio::test]
    async fn a_handshake_that_fails_names_its_cause() {
        let alert = |code: u8| vec![21, 3, 3, 0, 2, 2, code];
        for (answer, expected) in [
            // RFC 8446 §6: handshake_failure, protocol_version, insufficient_security.
            (alert(40), "too old"),
            (alert(70), "too old"),
            (alert(71), "too old"),
            (alert(112), "for this name"),
            // unknown_ca, certificate_required
            (alert(48), "client certificate"),
            (alert(116), "client certificate"),
            (alert(80), "broke the handshake"),
            (b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec(), "speak TLS"),
            (vec![], "ended the stream"),
        ] {
            let (cert, _) = certificate("api.test", 2000..4000);
            let (ours, mut theirs) = duplex(1024);
            theirs.write_all(&answer).await.expect("write");
            let open = Some(theirs).filter(|_| !answer.is_empty());
            let result = connect_tls(ours, &target("api.test"), trusting(cert), LONG).await;
            drop(open);
            let Err(error @ HandshakeError::Handshake { fault, .. }) = &result else {
                panic!("{expected:?}: {result:?}")
            };
            assert!(fault.contains(expected) && !error.is_of_trust(), "{answer:?}: {fault}");
        }
    }

    #[tokio::test]
    async fn a_stream_that_ends_early_fails_the_handshake() {
        let (cert, _) = certificate("api.test", 2000..4000);
        let (ours, theirs) = duplex(1024);
        drop(theirs);
        let result = connect_tls(ours, &target("api.test"), trusting(cert), LONG).await;
        assert!(matches!(result, Err(HandshakeError::Handshake { .. })), "{result:?}");
    }

    #[tokio::test]
    async fn a_handshake_with_a_silent_peer_times_out() {
        let (cert, _) = certificate("api.test", 2000..4000);
        let (ours, _theirs) = duplex(64 * 1024);
        let within = Duration::from_millis(1);
        let result = connect_tls(ours, &target("api.test"), trusting(cert), within).await;
        assert!(matches!(result, Err(HandshakeError::Timeout { .. })), "{result:?}");
    }

    #[tokio::test]
    async fn a_certificate_is_accepted_for_its_names_and_addresses_and_no_others() {
        for (name, authority, other) in [
            ("api.test", "API.test.", "eu.api.test"),
            ("a_b.api.test", "a_b.api.test", "ab.api.test"),
            ("*.api.test", "eu.api.test", "x.eu.api.test"),
            ("127.0.0.1", "127.0.0.1:8443", "127.0.0.2:8443"),
            ("::1", "[::1]", "[::2]"),
        ] {
            let (cert, key) = certificate(name, 2000..4000);
            let stream = serve(cert.clone(), &key);
            let result = connect_tls(stream, &target(authority), trusting(cert), LONG).await;
            assert!(result.is_ok(), "{name} for {authority}: {result:?}");
            let refused = fault(name, 2000..4000, other).await;
            assert_eq!(refused, CertificateFault::NameMismatch, "{name} for {other}");
        }
    }
}

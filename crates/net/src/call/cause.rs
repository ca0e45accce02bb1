//! [`CallFailure`]: one word for why an authorization server gave no usable response. Stored with failed refreshes,
//! shown to owners, and used as a label of metrics, so it is a closed set.

use std::io;

use serde::{Deserialize, Serialize};

use crate::client::{CertificateFault, HandshakeError};
use crate::dial::DialError;
use keyward_base::names::named_enum;

named_enum! {
    /// Why a request to an authorization server has no usable response.
    #[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, PartialEq, Serialize)]
    pub enum CallFailure by as_str, all {
        /// The endpoint is not an https URL.
        BadAddress = "bad_address",
        /// The name does not resolve.
        Unresolved = "unresolved",
        /// The addresses must not be dialled.
        AddressRefused = "address_refused",
        /// The address refuses connections.
        ConnectionRefused = "connection_refused",
        /// The address is unreachable.
        Unreachable = "unreachable",
        /// Connecting, or the TLS handshake, took too long.
        ConnectTimeout = "connect_timeout",
        /// The corporate proxy does not open a tunnel.
        ProxyFailed = "proxy_failed",
        /// No configured root signed the certificate.
        TlsUnknownIssuer = "tls_unknown_issuer",
        /// The certificate is not valid for the name at this time.
        TlsCertificate = "tls_certificate",
        /// The TLS handshake failed.
        TlsFailed = "tls_failed",
        /// The request was sent, and the stream ended without a response.
        NoAnswer = "no_answer",
        /// The request was sent, and no response came in time.
        AnswerTimeout = "answer_timeout",
        /// The response is not acceptable: a redirect, too long, cut, or encoded.
        UnusableAnswer = "unusable_answer",
    }
}

impl CallFailure {
    /// What an operator can do.
    pub fn remedy(self) -> &'static str {
        match self {
            Self::BadAddress => {
                "correct the token endpoint of the provider or the app: an https URL"
            }
            Self::Unresolved => "check the name of the token endpoint, and DNS on this machine",
            Self::AddressRefused => {
                "if the server is yours, open its network and port in `upstream.allow_private`"
            }
            Self::ConnectionRefused | Self::Unreachable => {
                "check the network and the firewall between this machine and the authorization server"
            }
            Self::ConnectTimeout => {
                "check the network and the firewall; `oauth.connect_timeout` is the limit"
            }
            Self::ProxyFailed => "check the corporate proxy, and `upstream.proxy`",
            Self::TlsUnknownIssuer => {
                "if your company inspects TLS, or the server has a CA of its own, name that root \
                 certificate in `upstream.trust`; otherwise something else answers in the server's place"
            }
            Self::TlsCertificate => {
                "check this machine's clock and the host of the token endpoint; otherwise the server's \
                 owner must replace the certificate"
            }
            Self::TlsFailed => "something else listens there, or a firewall cuts the stream",
            Self::NoAnswer | Self::AnswerTimeout => {
                "ask the operator of the authorization server why it does not answer"
            }
            Self::UnusableAnswer => {
                "check the token endpoint: its answer is not that of an OAuth server"
            }
        }
    }
}

impl From<&DialError> for CallFailure {
    fn from(error: &DialError) -> Self {
        match error {
            DialError::Refused { .. } => CallFailure::AddressRefused,
            DialError::Resolve { .. } => CallFailure::Unresolved,
            DialError::Connect { source, .. } => match source.kind() {
                io::ErrorKind::ConnectionRefused => CallFailure::ConnectionRefused,
                io::ErrorKind::TimedOut => CallFailure::ConnectTimeout,
                _ => CallFailure::Unreachable,
            },
            DialError::Timeout { .. } => CallFailure::ConnectTimeout,
            DialError::Proxy { .. } => CallFailure::ProxyFailed,
        }
    }
}

impl From<&HandshakeError> for CallFailure {
    fn from(error: &HandshakeError) -> Self {
        match error {
            HandshakeError::Certificate { fault: CertificateFault::UnknownIssuer, .. } => {
                CallFailure::TlsUnknownIssuer
            }
            HandshakeError::Certificate { .. } => CallFailure::TlsCertificate,
            HandshakeError::Handshake { .. } => CallFailure::TlsFailed,
            HandshakeError::Timeout { .. } => CallFailure::ConnectTimeout,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use bytes::Bytes;
    use http::Request;
    use http_body_util::Full;
    use hyper::client::conn::http1;
    use hyper_util::rt::TokioIo;

    use super::*;
    use crate::call::{CallError, Unusable};
    use crate::dial::ProxyFault;
    use crate::guard::IpClass;
    use keyward_base::host::{Host, Scheme, Target};

    fn host() -> Host {
        target().host().clone()
    }

    fn target() -> Target {
        Target::parse(Scheme::Https, "auth.acme.test").expect("a target")
    }

    fn io(kind: io::ErrorKind) -> io::Error {
        io::Error::from(kind)
    }

    /// The error of a stream that ends without a response.
    async fn no_answer() -> CallError {
        let (ours, theirs) = tokio::io::duplex(1024);
        drop(theirs);
        let (mut sender, connection) = http1::handshake(TokioIo::new(ours)).await.expect("open");
        let request = Request::new(Full::<Bytes>::default());
        tokio::spawn(connection);
        let answer = sender.send_request(request).await;
        CallError::NoAnswer { host: host(), source: answer.expect_err("no answer") }
    }

    fn dial_errors() -> Vec<(DialError, CallFailure)> {
        let connect = |kind| DialError::Connect { target: target(), source: io(kind) };
        let resolve = DialError::Resolve { host: host(), source: io(io::ErrorKind::NotFound) };
        let proxy = DialError::Proxy { proxy: "corp:3128".to_owned(), fault: ProxyFault::Login };
        vec![
            (
                DialError::Refused { host: host(), class: IpClass::Private },
                CallFailure::AddressRefused,
            ),
            (resolve, CallFailure::Unresolved),
            (connect(io::ErrorKind::ConnectionRefused), CallFailure::ConnectionRefused),
            (connect(io::ErrorKind::NetworkUnreachable), CallFailure::Unreachable),
            (connect(io::ErrorKind::TimedOut), CallFailure::ConnectTimeout),
            (DialError::Timeout { target: target() }, CallFailure::ConnectTimeout),
            (proxy, CallFailure::ProxyFailed),
        ]
    }

    fn handshake_errors() -> Vec<(HandshakeError, CallFailure)> {
        let source = || io(io::ErrorKind::InvalidData);
        let certificate =
            |fault| HandshakeError::Certificate { host: host(), fault, source: source() };
        vec![
            (certificate(CertificateFault::UnknownIssuer), CallFailure::TlsUnknownIssuer),
            (certificate(CertificateFault::Expired), CallFailure::TlsCertificate),
            (
                HandshakeError::Handshake {
                    host: host(),
                    fault: "broke the handshake",
                    source: source(),
                },
                CallFailure::TlsFailed,
            ),
            (HandshakeError::Timeout { host: host() }, CallFailure::ConnectTimeout),
        ]
    }

    /// oauth 9.cause
    #[tokio::test]
    async fn a_call_error_maps_to_its_cause_and_a_cause_has_one_word_and_a_remedy() {
        let why = Unusable::Cut;
        let cut = CallError::Unusable {
            host: host(),
            why,
            status: None,
            retry_after: None,
            location: None,
        };
        let dial = dial_errors().into_iter().map(|(error, cause)| (CallError::Dial(error), cause));
        let tls =
            handshake_errors().into_iter().map(|(error, cause)| (CallError::Tls(error), cause));
        let others = [
            (CallError::Address, CallFailure::BadAddress),
            (CallError::Timeout { host: host(), sent: false }, CallFailure::ConnectTimeout),
            (CallError::Timeout { host: host(), sent: true }, CallFailure::AnswerTimeout),
            (no_answer().await, CallFailure::NoAnswer),
            (cut, CallFailure::UnusableAnswer),
        ];
        let mut missing = HashSet::from(CallFailure::ALL);
        for (error, cause) in dial.chain(tls).chain(others) {
            assert_eq!(error.cause(), cause, "{error}");
            missing.remove(&cause);
        }
        assert!(missing.is_empty(), "no error has {missing:?}");
        let words = HashSet::from(CallFailure::ALL.map(CallFailure::as_str));
        assert_eq!(words.len(), CallFailure::ALL.len(), "each has its own word");
        for cause in CallFailure::ALL {
            let written = serde_json::to_value(cause).expect("a word");
            assert_eq!(written, cause.as_str(), "one word everywhere");
            assert!(!cause.remedy().is_empty());
        }
    }
}

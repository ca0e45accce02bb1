//! [`Cause`]: why an authorization server gave no answer that can be read, in one word. Stored with failed
//! refreshes, shown to owners, and a label of metrics: a closed set.

use std::io;

use serde::{Deserialize, Serialize};

use super::CallError;
use crate::client::{CertificateFault, HandshakeError};
use crate::dial::DialError;

/// Why a request to an authorization server has no usable answer.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// The endpoint is no https URL.
    BadAddress,
    /// Its name does not resolve.
    Unresolved,
    /// Its addresses may not be dialled.
    AddressRefused,
    /// Nothing listens at its address.
    ConnectionRefused,
    /// No stream to its address.
    Unreachable,
    /// Connecting, or the TLS handshake, took too long.
    ConnectTimeout,
    /// The corporate proxy does not open the way.
    ProxyFailed,
    /// No configured root stands behind its certificate.
    TlsUnknownIssuer,
    /// Its certificate does not prove its name now.
    TlsCertificate,
    /// No TLS could be agreed on.
    TlsFailed,
    /// The request was sent, and the stream ended without an answer.
    NoAnswer,
    /// The request was sent, and no answer came in time.
    AnswerTimeout,
    /// The answer is one that is not read: a redirect, too long, cut, or encoded.
    UnusableAnswer,
}

impl Cause {
    /// The word, as it is stored and shown.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::BadAddress => "bad_address",
            Self::Unresolved => "unresolved",
            Self::AddressRefused => "address_refused",
            Self::ConnectionRefused => "connection_refused",
            Self::Unreachable => "unreachable",
            Self::ConnectTimeout => "connect_timeout",
            Self::ProxyFailed => "proxy_failed",
            Self::TlsUnknownIssuer => "tls_unknown_issuer",
            Self::TlsCertificate => "tls_certificate",
            Self::TlsFailed => "tls_failed",
            Self::NoAnswer => "no_answer",
            Self::AnswerTimeout => "answer_timeout",
            Self::UnusableAnswer => "unusable_answer",
        }
    }

    /// What an operator can do about it.
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
                "check the token endpoint: it answers something else than an OAuth server does"
            }
        }
    }
}

impl CallError {
    /// Why, in one word.
    pub fn cause(&self) -> Cause {
        match self {
            Self::Address => Cause::BadAddress,
            Self::Dial(error) => of_dialling(error),
            Self::Tls(error) => of_handshake(error),
            Self::NoAnswer { .. } => Cause::NoAnswer,
            Self::Timeout { sent: true, .. } => Cause::AnswerTimeout,
            Self::Timeout { sent: false, .. } => Cause::ConnectTimeout,
            Self::Unusable { .. } => Cause::UnusableAnswer,
        }
    }
}

fn of_dialling(error: &DialError) -> Cause {
    match error {
        DialError::Refused { .. } => Cause::AddressRefused,
        DialError::Resolve { .. } => Cause::Unresolved,
        DialError::Connect { source, .. } => match source.kind() {
            io::ErrorKind::ConnectionRefused => Cause::ConnectionRefused,
            io::ErrorKind::TimedOut => Cause::ConnectTimeout,
            _ => Cause::Unreachable,
        },
        DialError::Timeout { .. } => Cause::ConnectTimeout,
        DialError::Proxy { .. } => Cause::ProxyFailed,
    }
}

fn of_handshake(error: &HandshakeError) -> Cause {
    match error {
        HandshakeError::Certificate { fault: CertificateFault::UnknownIssuer, .. } => {
            Cause::TlsUnknownIssuer
        }
        HandshakeError::Certificate { .. } => Cause::TlsCertificate,
        HandshakeError::Handshake { .. } => Cause::TlsFailed,
        HandshakeError::Timeout { .. } => Cause::ConnectTimeout,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use keyward_base::host::Host;

    fn host() -> Host {
        Host::parse("auth.acme.test").expect("a host")
    }

    fn io(kind: io::ErrorKind) -> io::Error {
        io::Error::from(kind)
    }

    /// oauth 9.cause
    #[test]
    fn every_way_to_get_no_answer_has_its_own_word_and_a_remedy() {
        let connect = |kind| CallError::Dial(DialError::Connect { host: host(), source: io(kind) });
        let resolve = DialError::Resolve { host: host(), source: io(io::ErrorKind::NotFound) };
        let certificate = |fault| {
            let source = io(io::ErrorKind::InvalidData);
            CallError::Tls(HandshakeError::Certificate { host: host(), fault, source })
        };
        for (error, cause) in [
            (CallError::Address, Cause::BadAddress),
            (CallError::Dial(resolve), Cause::Unresolved),
            (connect(io::ErrorKind::ConnectionRefused), Cause::ConnectionRefused),
            (connect(io::ErrorKind::NetworkUnreachable), Cause::Unreachable),
            (CallError::Dial(DialError::Timeout { host: host() }), Cause::ConnectTimeout),
            (certificate(CertificateFault::UnknownIssuer), Cause::TlsUnknownIssuer),
            (certificate(CertificateFault::Expired), Cause::TlsCertificate),
            (CallError::Tls(HandshakeError::Timeout { host: host() }), Cause::ConnectTimeout),
            (CallError::Timeout { host: host(), sent: false }, Cause::ConnectTimeout),
            (CallError::Timeout { host: host(), sent: true }, Cause::AnswerTimeout),
        ] {
            assert_eq!(error.cause(), cause, "{error}");
            let written = serde_json::to_value(cause).expect("a word");
            assert_eq!(written, cause.as_str(), "one word everywhere");
            assert!(!cause.remedy().is_empty());
        }
    }
}

//! [`DialError`]: why dialling failed, and [`ProxyFault`]: why a corporate proxy did not open a tunnel.

use std::io;

use http::StatusCode;

use super::client::HandshakeError;
use super::guard::IpClass;
use keyward_base::host::{Host, Target};
use keyward_base::system_error;

/// Why dialling failed. No message contains an address, so each may be shown to an agent; the sources are for
/// the log.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// No address of the host may be dialled.
    #[error("{host} has only addresses that are refused ({class})")]
    Refused {
        host: Host,
        /// The class of the first refused address.
        class: IpClass,
    },
    /// No such name.
    #[error("cannot resolve {host}")]
    Resolve {
        host: Host,
        #[source]
        source: io::Error,
    },
    /// The host does not accept connections.
    #[error("cannot connect to {}", target.authority())]
    Connect {
        target: Target,
        /// The error of the last attempt.
        #[source]
        source: io::Error,
    },
    /// The time limit was reached.
    #[error("connecting to {} took too long", target.authority())]
    Timeout { target: Target },
    /// The corporate proxy does not open a tunnel.
    #[error("the corporate proxy {proxy} {fault}")]
    Proxy {
        /// The proxy's address: `corp.example:3128`.
        proxy: String,
        /// The reason.
        #[source]
        fault: ProxyFault,
    },
}

impl DialError {
    /// Whether this process or this machine has no free file descriptor (socket(2)).
    pub fn is_out_of_descriptors(&self) -> bool {
        let (Self::Resolve { source, .. } | Self::Connect { source, .. }) = self else {
            return false;
        };
        system_error::is_out_of_descriptors(source)
    }

    /// Whether too many names were being looked up, or no thread could be started for it.
    pub fn is_lookup_overload(&self) -> bool {
        let is_full = |source: &io::Error| source.kind() == io::ErrorKind::QuotaExceeded;
        matches!(self, Self::Resolve { source, .. } if is_full(source))
    }

    pub(super) fn proxy(at: &Target, fault: ProxyFault) -> Self {
        Self::Proxy { proxy: format!("{}:{}", at.host(), at.port()), fault }
    }
}

/// Why a proxy did not open a tunnel. The message continues "the corporate proxy …".
#[derive(Debug, thiserror::Error)]
pub enum ProxyFault {
    /// Its name does not resolve.
    #[error("cannot be resolved")]
    Resolve(#[source] io::Error),
    /// It does not accept connections.
    #[error("cannot be reached")]
    Connect(#[source] io::Error),
    /// It is one of our own listeners.
    #[error("is this gateway itself")]
    Own,
    /// The TLS handshake failed.
    #[error("cannot be verified: {0}")]
    Tls(#[source] HandshakeError),
    /// It requires a login, or rejects the configured one.
    #[error("does not accept the gateway's login")]
    Login,
    /// It refuses, or cannot reach the target.
    #[error("refuses to connect to {target} ({})", status.as_u16())]
    Refused {
        /// The target's host and port.
        target: String,
        /// The status of its response.
        status: StatusCode,
    },
    /// Its response is not HTTP, or too large.
    #[error("does not answer as a proxy: {0}")]
    Malformed(&'static str),
    /// It closed the stream.
    #[error("closed the stream")]
    Closed(#[source] io::Error),
    /// The time limit was reached.
    #[error("did not connect to {target} in time")]
    Timeout {
        /// The target's host and port.
        target: String,
    },
}

impl ProxyFault {
    /// What the proxy's operator can do.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Resolve(_) | Self::Malformed(_) => "check `upstream.proxy.url`",
            Self::Connect(_) | Self::Closed(_) | Self::Timeout { .. } => {
                "check `upstream.proxy.url`, and whether the proxy runs; list the targets that need no proxy in \
                 `upstream.proxy.except`"
            }
            Self::Own => "`upstream.proxy.url` must name another proxy, not this gateway",
            Self::Tls(error) if error.is_of_trust() => {
                "name the root of its certificate in `upstream.trust`"
            }
            Self::Tls(_) => "check the port and the scheme of `upstream.proxy.url`, and its TLS",
            Self::Login => "check `upstream.proxy.user` and `upstream.proxy.password`",
            Self::Refused { .. } => {
                "check the host's name; ask the person who runs the proxy to allow it, or name \
                 the host in `upstream.proxy.except`"
            }
        }
    }
}

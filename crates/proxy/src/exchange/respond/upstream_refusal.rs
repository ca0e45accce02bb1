//! Code, message and hint if an upstream cannot be dialled, or has no verified TLS.

use keyward_base::codes::{Code, RefusalText};
use keyward_net::client::HandshakeError;
use keyward_net::dial::{DialError, ProxyFault};

/// The refusal if the upstream cannot be dialled.
pub fn dial_refusal(error: &DialError) -> RefusalText {
    match error {
        DialError::Refused { host, .. } => Code::AddressRefused
            .because(format!("{host} has only addresses that may not be dialled"))
            .usual_hint(),
        DialError::Proxy { fault, .. } => {
            let code = match fault {
                ProxyFault::Timeout { .. } => Code::UpstreamTimeout,
                _ => Code::UpstreamUnreachable,
            };
            code.because(error.to_string()).hint(fault.hint())
        }
        error if error.is_out_of_descriptors() => {
            Code::Overloaded.because("too many open streams: there is none left for the upstream")
        }
        error if error.is_lookup_overload() => {
            Code::Overloaded.because("too many hosts are being resolved")
        }
        DialError::Timeout { target } => Code::UpstreamTimeout
            .because(format!("{} does not accept a connection in time", target.authority())),
        DialError::Resolve { host, .. } => {
            Code::UpstreamUnreachable.because(format!("the host {host} cannot be resolved"))
        }
        DialError::Connect { target, .. } => Code::UpstreamUnreachable
            .because(format!("no connection to {} can be opened", target.authority())),
    }
}

/// Says what is wrong with the certificate or the handshake. The remedy of the code is about roots.
pub(super) fn tls_refusal(error: &HandshakeError) -> RefusalText {
    const NONE: &str = "no verified TLS with the upstream";
    let text = match error {
        HandshakeError::Timeout { .. } => {
            Code::UpstreamTimeout.because("the upstream does not answer the TLS handshake in time")
        }
        HandshakeError::Certificate { fault, .. } => {
            Code::UpstreamTls.because(format!("{NONE}: its certificate {fault}"))
        }
        HandshakeError::Handshake { fault, .. } => {
            Code::UpstreamTls.because(format!("{NONE}: it {fault}"))
        }
    };
    match error.is_of_trust() {
        true => text,
        false => text.hint(
            "check host and port of the URL, and this machine's clock; otherwise the upstream's owner must act",
        ),
    }
}

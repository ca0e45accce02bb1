//! Tests whether a host is reachable and has a valid certificate: a connection and a TLS handshake, without a
//! request. A host that may be used over cleartext needs no TLS. Each error has a remedy.

use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;

use super::client::{CertificateFault, HandshakeError, connect_tls};
use super::dial::{AddressVerdict, DialError, Dialler};
use keyward_base::host::Target;

/// Time limit for resolving and connecting, and again for the handshake.
const WITHIN: Duration = Duration::from_secs(5);

/// How a host was reached.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Reached {
    /// The corporate proxy that was used, if any.
    pub proxy: Option<Target>,
    /// Whether it was only connected to, without TLS.
    pub cleartext: bool,
}

/// Why a host cannot be used.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Unreached {
    pub message: String,
    pub hint: String,
    /// What is wrong with its certificate.
    pub fault: Option<CertificateFault>,
}

/// Connects to `target` and does the TLS handshake. `cleartext` is the same host where it may be used without TLS:
/// if it speaks no TLS, it is only connected to.
///
/// # Errors
/// When the host does not accept the connection or has no valid certificate.
pub async fn reach(
    dialler: &Dialler,
    tls: Arc<ClientConfig>,
    target: &Target,
    cleartext: Option<&Target>,
) -> Result<Reached, Unreached> {
    let tried = over_tls(dialler, tls, target).await;
    let (Err(Unreached { fault: None, .. }), Some(clear)) = (&tried, cleartext) else {
        return tried;
    };
    match dialler.dial(clear, WITHIN).await {
        Ok(_) => Ok(Reached { proxy: dialler.proxy_address(clear), cleartext: true }),
        Err(_) => tried,
    }
}

async fn over_tls(
    dialler: &Dialler,
    tls: Arc<ClientConfig>,
    target: &Target,
) -> Result<Reached, Unreached> {
    let proxy = dialler.proxy_address(target);
    let dialled = match dialler.dial(target, WITHIN).await {
        Ok(dialled) => dialled,
        Err(error) => return Err(undialled(dialler, target, &error).await),
    };
    match connect_tls(dialled.stream, target, tls, WITHIN).await {
        Ok(_) => Ok(Reached { proxy, cleartext: false }),
        Err(error) => Err(unproven(target, &error)),
    }
}

async fn undialled(dialler: &Dialler, target: &Target, error: &DialError) -> Unreached {
    let at = target.authority();
    let (message, hint) = match error {
        DialError::Resolve { .. } => (
            error.to_string(),
            format!(
                "check the DNS of this machine, or give its address: \
                 `upstream: {{ resolve: {{ \"{at}\": ADDRESS:{} }} }}`",
                target.port()
            ),
        ),
        DialError::Refused { .. } => {
            let judged = tokio::time::timeout(WITHIN, dialler.resolve_and_check(target)).await;
            let judged = match judged {
                Ok(Ok(AddressVerdict::Addresses(judged))) => judged,
                _ => Vec::new(),
            };
            let refused = judged.into_iter().find(|(_, verdict)| verdict.is_err());
            let addr = refused.map_or_else(|| "ADDRESS:PORT".to_owned(), |r| r.0.to_string());
            (
                format!("{error}: {addr}"),
                format!("if that is right: `upstream: {{ allow_private: [\"{addr}\"] }}`"),
            )
        }
        DialError::Proxy { fault, .. } => (error.to_string(), fault.hint().to_owned()),
        DialError::Connect { .. } | DialError::Timeout { .. } => (
            error.to_string(),
            format!("check that this machine may connect to {at}: a firewall may be in between"),
        ),
    };
    Unreached { message, hint, fault: None }
}

fn unproven(target: &Target, error: &HandshakeError) -> Unreached {
    let fault = match error {
        HandshakeError::Certificate { fault, .. } => Some(*fault),
        HandshakeError::Handshake { .. } | HandshakeError::Timeout { .. } => None,
    };
    let hint = match fault {
        Some(CertificateFault::UnknownIssuer) => {
            "if a proxy of your company inspects TLS, or the service has its own CA, trust \
             that: `upstream: { trust: [FILE.pem] }`"
        }
        Some(CertificateFault::Expired | CertificateFault::NotYetValid) => {
            "check the clock of this machine; if it is right, tell the service's owner"
        }
        Some(_) => "ask the service's owner: requests are not sent there",
        None => "something else than the service may answer there: check DNS and firewall",
    };
    let message = format!("{error} ({})", target.authority());
    Unreached { message, hint: hint.to_owned(), fault }
}

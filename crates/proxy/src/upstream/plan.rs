//! [`SendPlan`]: how a request is sent to its upstream: the key of its streams, TLS, protocol, timeout and retries.

use std::sync::Arc;

use super::retries::Retries;
use crate::pool::PoolKey;
use crate::pool::interim::Interim;
use keyward_base::host::Scheme;
use keyward_base::limits::ReceiveWindow;
use keyward_rules::inject::tls::ConnectionTls;
use keyward_rules::policy::Permit;

/// How a request is sent.
#[derive(Debug)]
pub struct SendPlan {
    pub key: PoolKey,
    /// What the connection brings to TLS handshakes; `key` names it.
    pub tls: Option<Arc<ConnectionTls>>,
    pub plaintext: Plaintext,
    /// Whether it may be sent again even if the upstream may have processed it.
    pub repeatable: bool,
    pub protocol: AskedProtocol,
    /// The window of its answer, over HTTP/2.
    pub window: ReceiveWindow,
    pub interim: Arc<Interim>,
    /// The timeout for the head of the answer. A `u32` fits into padding: the future of an exchange does not grow.
    pub timeout_ms: u32,
    /// The attempts that this is one of, if retries are allowed.
    pub retries: Option<Arc<Retries>>,
}

/// What the agent speaks.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum AskedProtocol {
    Http1,
    /// HTTP/2 is tried first.
    Http2,
    /// It is a WebSocket handshake or another upgrade, which needs HTTP/1.1.
    Upgrade,
}

impl SendPlan {
    /// Whether it asks for an upgrade.
    pub fn upgrades(&self) -> bool {
        self.protocol == AskedProtocol::Upgrade
    }

    /// Whether the request may be sent over cleartext to an address that is on the private list or not.
    pub fn allows(&self, private: bool) -> bool {
        self.plaintext.allows(self.key.target.scheme(), private)
    }
}

/// Whether the request may go over cleartext.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Plaintext {
    /// The request carries no credential.
    Harmless,
    /// A rule allows it, to addresses on the explicit private list only.
    PrivateOnly,
    Never,
}

impl Plaintext {
    pub(super) fn of(permit: &Permit, has_credential: bool) -> Self {
        match (has_credential, permit.plaintext()) {
            (false, _) => Self::Harmless,
            (true, true) => Self::PrivateOnly,
            (true, false) => Self::Never,
        }
    }

    /// Whether the request may go to `target`, over an address that is on the private list or not.
    pub fn allows(self, scheme: Scheme, private: bool) -> bool {
        match (scheme, self) {
            (Scheme::Https, _) | (Scheme::Http, Self::Harmless) => true,
            (Scheme::Http, Self::PrivateOnly) => private,
            (Scheme::Http, Self::Never) => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cleartext_with_a_credential_needs_a_rule_and_a_private_address() {
        for private in [false, true] {
            assert!(!Plaintext::Never.allows(Scheme::Http, private));
            assert_eq!(Plaintext::PrivateOnly.allows(Scheme::Http, private), private);
            assert!(Plaintext::Never.allows(Scheme::Https, private));
            assert!(Plaintext::Harmless.allows(Scheme::Http, private));
        }
    }
}

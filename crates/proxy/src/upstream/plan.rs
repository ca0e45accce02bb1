//! [`SendPlan`]: how a request goes out.

use std::sync::Arc;

use super::outbound::Plaintext;
use super::retries::Retries;
use crate::pool::http1::PoolKey;
use crate::pool::interim::Interim;
use keyward_rules::inject::tls::ConnectionTls;

/// How a request is sent.
#[derive(Debug)]
pub struct SendPlan {
    pub key: PoolKey,
    /// What the connection brings to TLS handshakes; `key` names it.
    pub tls: Option<Arc<ConnectionTls>>,
    pub plaintext: Plaintext,
    /// Whether it may be sent again even if the upstream may have processed it.
    pub repeatable: bool,
    /// Whether HTTP/2 is tried first.
    pub http2: bool,
    /// Whether it is a WebSocket handshake, which needs HTTP/1.1.
    pub upgrades: bool,
    pub interim: Arc<Interim>,
    /// The attempts that this is one of, if retries are allowed.
    pub retries: Option<Arc<Retries>>,
}

impl SendPlan {
    /// Whether the request may be sent over cleartext to an address that is on the private list or not.
    pub fn allows(&self, private: bool) -> bool {
        self.plaintext.allows(self.key.target.scheme(), private)
    }
}

//! [`ConnectionTls`]: what a connection brings to TLS handshakes with its hosts: a client certificate, and the CA that
//! signs theirs. `net` makes a configuration of it; streams are shared only under an equal [`TlsId`].

use std::fmt;

use sha2::{Digest, Sha256};

use keyward_base::id::ConnectionId;
use keyward_base::secret::Secret;

/// PEM texts of one connection. At least one is given.
#[derive(Clone)]
pub struct ConnectionTls {
    /// The certificate that is shown to the service, with its issuers, and its key.
    pub identity: Option<(Secret, Secret)>,
    /// The only CA that the service's certificate may be signed by; `None`: those of the gateway.
    pub ca: Option<Secret>,
    id: TlsId,
}

/// Names a connection with its certificates. It reveals neither.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct TlsId([u8; 32]);

impl ConnectionTls {
    /// The texts of a connection; `None` if there are none.
    pub fn new(
        connection: &ConnectionId,
        identity: Option<(Secret, Secret)>,
        ca: Option<Secret>,
    ) -> Option<Self> {
        if identity.is_none() && ca.is_none() {
            return None;
        }
        let mut digest = Sha256::new();
        let (certificate, key) = identity.as_ref().map(|(chain, key)| (chain, key)).unzip();
        digest.update(connection.to_string());
        for text in [certificate, key, ca.as_ref()] {
            // The lengths keep neighbours apart.
            let bytes = text.map(Secret::expose).unwrap_or_default();
            digest.update([u8::from(text.is_some())]);
            digest.update(bytes.len().to_be_bytes());
            digest.update(bytes);
        }
        Some(Self { identity, ca, id: TlsId(digest.finalize().into()) })
    }

    /// Names it.
    pub fn id(&self) -> TlsId {
        self.id
    }
}

impl fmt::Debug for ConnectionTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConnectionTls").field("id", &self.id).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(text: &str) -> Secret {
        Secret::from(text.to_owned())
    }

    #[test]
    fn the_tls_id_differs_for_another_connection_certificate_or_ca() {
        let (one, two) = (ConnectionId::random(), ConnectionId::random());
        let pair = |chain: &str, key: &str| Some((secret(chain), secret(key)));
        let id = |connection, identity, ca| {
            ConnectionTls::new(connection, identity, ca).map(|tls| tls.id())
        };
        let usual = id(&one, pair("c", "k"), Some(secret("ca")));
        assert_eq!(usual, id(&one, pair("c", "k"), Some(secret("ca"))));
        for other in [
            id(&two, pair("c", "k"), Some(secret("ca"))),
            id(&one, pair("ck", ""), Some(secret("ca"))),
            id(&one, pair("c", "k2"), Some(secret("ca"))),
            id(&one, pair("c", "k"), Some(secret("cb"))),
            id(&one, pair("c", "k"), None),
            id(&one, None, Some(secret("ca"))),
        ] {
            assert_ne!(usual, other);
        }
        assert_eq!(id(&one, None, None), None);
    }
}

//! [`Credential`]: what is injected into requests now. `vault::grant` makes it, `vault` caches it, `proxy` writes it.
//! [`ConnectionTls`] is what a connection brings to TLS handshakes with its hosts: a client certificate, and the CA
//! that signs theirs. `net` makes a configuration of it; streams are shared only under an equal [`TlsId`].

use std::fmt;
use std::sync::Arc;

use http::HeaderName;
use jiff::Timestamp;
use sha2::{Digest, Sha256};

use super::body::BodyPath;
use super::names::{DependentParameters, is_alias};
use super::placement::{Location, Place, Scoped};
use super::scrub::Needles;
use super::sign::{CredentialSigner, aws_names};
use crate::rate_limit::RateLimitFields;
use keyward_base::id::ConnectionId;
use keyward_base::secret::Secret;
use keyward_base::settings::Settings;

/// The connection whose credential a permit requires. `policy` makes it, `vault` resolves it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct RequiredConnection {
    pub connection: ConnectionId,
    /// The connection's name, for messages.
    pub name: Arc<str>,
    /// The connection's settings; `None` for the defaults.
    pub settings: Option<Arc<Settings>>,
}

/// One place of a request and the value to write there.
#[derive(Clone, Debug)]
pub struct Write {
    /// The place in the request.
    pub at: Location,
    /// The complete value of that place.
    pub value: Secret,
}

/// Fields that any auth method of the provider uses. All of them are removed from the agent's request before a
/// credential is written.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Clears {
    pub headers: Vec<HeaderName>,
    pub queries: Vec<Box<str>>,
    /// Query parameters that are removed only beside another one.
    pub dependent_queries: Option<DependentParameters>,
    pub cookies: Vec<Box<str>>,
    /// Parts of bodies where programs repeat the credential; removed if the body has a placeholder.
    pub repeats: Vec<BodyPath>,
}

/// When a credential that the upstream rejects is renewed and the request sent again.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct RenewalConditions {
    /// Whether requests with unsafe methods are sent again too.
    pub unsafe_too: bool,
    /// The status of a response that may mean 401, depending on its body.
    pub expired_status: Option<u16>,
}

/// A credential with its placements.
#[derive(Clone, Debug)]
pub struct Credential {
    /// The connection it belongs to.
    pub connection: ConnectionId,
    /// Incremented at each change of the grant or the token.
    pub generation: u64,
    /// When it expires, if known.
    pub expires: Option<Timestamp>,
    /// What is written, by host and path; the first match decides.
    pub writes: Vec<Scoped<Vec<Write>>>,
    /// What is removed before writing.
    pub clears: Clears,
    /// Response fields that state the service's rate limit.
    pub rate_limit: Arc<RateLimitFields>,
    /// The secrets that must not appear in the response.
    pub needles: Arc<Needles>,
    /// How it is renewed when the upstream rejects it, if it can be.
    pub renews: Option<RenewalConditions>,
    /// What signs the requests, for kinds that are never sent themselves.
    pub signer: Option<CredentialSigner>,
    /// What the connection brings to TLS handshakes.
    pub tls: Option<Arc<ConnectionTls>>,
}

impl Credential {
    /// Whether an answer may contain the credential, so that answers which cannot be searched must be refused. A key
    /// that only signs requests is never sent. The session token of a temporary AWS key is sent, but is useless without
    /// the key.
    pub fn may_be_echoed(&self) -> bool {
        let mut writes = self.writes.iter().flat_map(|scope| &scope.what);
        let only_signs = matches!(self.signer, Some(CredentialSigner::AwsSigV4(_)))
            && writes.all(|write| write.at == Location::Signature);
        !only_signs && !self.needles.is_empty()
    }
}

impl Clears {
    /// Whether a field with this name, in any of its spellings, is cleared.
    pub fn covers(&self, name: &HeaderName) -> bool {
        self.headers.iter().any(|gone| is_alias(name.as_str(), gone.as_str()))
    }

    /// Adds what an AWS signature consists of.
    pub fn add_aws_signature(&mut self) {
        self.headers.extend(aws_names::FIELDS);
        self.queries.extend(aws_names::PARAMETERS.map(Into::into));
        self.dependent_queries = Some(aws_names::VERSION_2);
    }

    /// Adds the places that `places` write to.
    pub fn add(&mut self, places: &[Place]) {
        for place in places {
            match &place.at {
                Location::Header(name) if !self.headers.contains(name) => {
                    self.headers.push(name.clone())
                }
                Location::Query(name) if !self.queries.contains(name) => {
                    self.queries.push(name.clone())
                }
                Location::Cookie(name) if !self.cookies.contains(name) => {
                    self.cookies.push(name.clone())
                }
                _ => {}
            }
        }
    }
}

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

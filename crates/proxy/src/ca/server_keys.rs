//! [`ServerKeys`]: the keys that all leaves of a process share.

use std::sync::Arc;

use rcgen::{KeyPair, PublicKeyData, SubjectPublicKeyInfo};
use rustls::crypto::aws_lc_rs::Ticketer;
use rustls::server::ProducesTickets;
use rustls::sign::SigningKey;
use rustls_pki_types::PrivateKeyDer;

use super::CaError;
use keyward_net::tls;

/// Keys that all leaves of a process share: one ECDSA P-256 key, which is not the CA's, and the keys of session
/// tickets, so that a ticket outlives the renewal of a leaf.
pub(super) struct ServerKeys {
    pub(super) public: SubjectPublicKeyInfo,
    pub(super) private: Arc<dyn SigningKey>,
    pub(super) tickets: Arc<dyn ProducesTickets>,
}

impl ServerKeys {
    /// New keys, in memory only.
    pub(super) fn generate() -> Result<Self, CaError> {
        let pair = KeyPair::generate()?;
        let public = SubjectPublicKeyInfo::from_der(&pair.subject_public_key_info())?;
        let private = tls::provider().key_provider.load_private_key(PrivateKeyDer::from(pair))?;
        Ok(Self { public, private, tickets: Ticketer::new()? })
    }
}

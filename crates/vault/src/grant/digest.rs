//! `digest`: user name and password that answer challenges. The password is sent nowhere.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::MintError;
use keyward_base::secret::Secret;
use keyward_rules::inject::sign::CredentialSigner;
use keyward_rules::inject::sign::digest::DigestSigner;

/// User name and password, under the names of their fields.
#[derive(Debug)]
pub struct Digest(BTreeMap<String, Secret>);

impl Digest {
    /// From checked or stored fields.
    pub(super) fn new(fields: BTreeMap<String, Secret>) -> Self {
        Self(fields)
    }

    pub(super) fn fields(&self) -> &BTreeMap<String, Secret> {
        &self.0
    }

    /// The signer that answers challenges. It has no challenge yet.
    ///
    /// # Errors
    /// When the stored fields contain no password.
    pub(super) fn signer(&self) -> Result<CredentialSigner, MintError> {
        let required = |field: &str| {
            let missing = || MintError::Malformed { what: format!("there is no `{field}`") };
            self.0.get(field).cloned().ok_or_else(missing)
        };
        let signer = DigestSigner::new(required("username")?, required("password")?);
        Ok(CredentialSigner::Digest(Arc::new(signer)))
    }
}

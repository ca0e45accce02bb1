//! `digest`: user name and password that answer challenges. The password is sent nowhere.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::MintError;
use super::fields::required;
use keyward_base::secret::Secret;
use keyward_rules::inject::sign::CredentialSigner;
use keyward_rules::inject::sign::digest::DigestSigner;

/// The signer that answers challenges. It has no challenge yet.
///
/// # Errors
/// When the stored fields contain no password.
pub(super) fn signer(fields: &BTreeMap<String, Secret>) -> Result<CredentialSigner, MintError> {
    let (user, password) = (required(fields, "username")?, required(fields, "password")?);
    Ok(CredentialSigner::Digest(Arc::new(DigestSigner::new(user, password))))
}

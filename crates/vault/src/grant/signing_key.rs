//! Keys that sign requests by a scheme of the provider's file: an HMAC, a token for each request, or OAuth 1.0a. They are
//! sent nowhere, except those fields that placements name.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::oauth::check_key;
use super::{GrantError, MintError};
use keyward_base::secret::Secret;
use keyward_rules::inject::sign::request_signer::{RequestSigner, Scheme};
use keyward_rules::inject::sign::{SignError, Signer};
use keyward_rules::provider::{AuthMethod, Instance};

/// Keys, under the names of their fields.
#[derive(Debug)]
pub struct SigningKey(BTreeMap<String, Secret>);

impl SigningKey {
    /// From checked fields.
    ///
    /// # Errors
    /// When the key is not one of the scheme.
    pub(super) fn new(
        auth: &AuthMethod,
        fields: BTreeMap<String, Secret>,
    ) -> Result<Self, GrantError> {
        match auth.scheme.as_deref() {
            Some(Scheme::Jwt(token)) => check_key(token, &fields)?,
            Some(Scheme::Hmac(scheme)) => {
                let key = fields.get(&*scheme.key).map(Secret::expose).unwrap_or_default();
                if scheme.key_encoding.decode(key).is_err() {
                    let (field, why) = (scheme.key.to_string(), SignError::Key.to_string());
                    return Err(GrantError::Refused { field, why });
                }
            }
            Some(Scheme::OAuth1(_)) | None => {}
        }
        Ok(Self(fields))
    }

    /// From stored fields.
    pub(super) fn stored(fields: BTreeMap<String, Secret>) -> Self {
        Self(fields)
    }

    pub(super) fn fields(&self) -> &BTreeMap<String, Secret> {
        &self.0
    }

    /// What signs requests.
    ///
    /// # Errors
    /// When the provider no longer has the scheme.
    pub(super) fn signer(&self, instance: &Instance) -> Result<Signer, MintError> {
        let missing =
            || MintError::Malformed { what: "the provider's method signs no requests".to_owned() };
        let scheme = instance.scheme.clone().ok_or_else(missing)?;
        let mut fields = self.0.clone();
        for (name, value) in &instance.variables {
            fields.entry(name.clone()).or_insert_with(|| Secret::from(value.clone()));
        }
        let signer = RequestSigner::new(scheme, fields, instance.placements.clone());
        Ok(Signer::Request(Arc::new(signer)))
    }
}

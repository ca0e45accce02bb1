//! `aws_sigv4`: an access key of AWS, or of a service that accepts its signatures. It signs requests and is sent nowhere.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::MintError;
use keyward_base::secret::Secret;
use keyward_rules::inject::sign::CredentialSigner;
use keyward_rules::inject::sign::aws_sigv4::AwsKeys;
use keyward_rules::provider::AwsScope;

/// An access key, under the names of its fields.
#[derive(Debug)]
pub struct AwsKey(BTreeMap<String, Secret>);

impl AwsKey {
    /// From checked or stored fields.
    pub(super) fn new(fields: BTreeMap<String, Secret>) -> Self {
        Self(fields)
    }

    pub(super) fn fields(&self) -> &BTreeMap<String, Secret> {
        &self.0
    }

    /// The signer of requests. The provider's region and service take precedence over the connection's.
    ///
    /// # Errors
    /// When the stored fields contain no key.
    pub(super) fn signer(&self, fixed: &AwsScope) -> Result<CredentialSigner, MintError> {
        let named = |fixed: &Option<String>, field: &str| {
            let given = self.0.get(field).and_then(Secret::expose_text);
            fixed.as_deref().or(given).map(Into::into)
        };
        Ok(CredentialSigner::AwsSigV4(Arc::new(AwsKeys {
            access_key_id: self.required("access_key_id")?,
            secret_access_key: self.required("secret_access_key")?,
            session_token: self.0.get("session_token").cloned(),
            region: named(&fixed.region, "region"),
            service: named(&fixed.service, "service"),
        })))
    }

    fn required(&self, field: &str) -> Result<Secret, MintError> {
        let missing = || MintError::Malformed { what: format!("there is no `{field}`") };
        self.0.get(field).cloned().ok_or_else(missing)
    }
}

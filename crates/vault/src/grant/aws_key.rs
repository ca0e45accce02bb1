//! `aws_sigv4`: an access key of AWS, or of a service that accepts its signatures. It signs requests and is sent nowhere.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::MintError;
use super::fields::required;
use keyward_base::secret::Secret;
use keyward_rules::inject::sign::CredentialSigner;
use keyward_rules::inject::sign::aws_sigv4::AwsKeys;
use keyward_rules::provider::AwsScope;

/// The signer of requests. The provider's region and service take precedence over the connection's.
///
/// # Errors
/// When the stored fields contain no key.
pub(super) fn signer(
    fields: &BTreeMap<String, Secret>,
    fixed: &AwsScope,
) -> Result<CredentialSigner, MintError> {
    let named = |fixed: &Option<String>, field: &str| {
        let given = fields.get(field).and_then(Secret::expose_text);
        fixed.as_deref().or(given).map(Into::into)
    };
    Ok(CredentialSigner::AwsSigV4(Arc::new(AwsKeys {
        access_key_id: required(fields, "access_key_id")?,
        secret_access_key: required(fields, "secret_access_key")?,
        session_token: fields.get("session_token").cloned(),
        region: named(&fixed.region, "region"),
        service: named(&fixed.service, "service"),
    })))
}

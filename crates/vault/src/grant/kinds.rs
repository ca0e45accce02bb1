//! Kinds of grants with a few lines of code of their own.
//!
//! `aws_sigv4`: an access key of AWS, or of a service that accepts its signatures. It signs requests and is sent nowhere.
//! `digest`: user name and password that answer challenges. The password is sent nowhere. `basic`: user name and password
//! (RFC 7617). The user name ends at the first colon, so values before the template's own colon must not contain one. `custom`:
//! declared fields in declared placements. A placement is omitted if all its fields are optional and absent.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::fields::required;
use super::{GrantError, MintError};
use keyward_base::secret::Secret;
use keyward_rules::inject::sign::CredentialSigner;
use keyward_rules::inject::sign::aws_sigv4::AwsKeys;
use keyward_rules::inject::sign::digest::DigestSigner;
use keyward_rules::inject::template::{TemplatePart, ValueTemplate};
use keyward_rules::provider::{AuthMethod, AwsScope};

/// The signer of requests with a key of AWS. The provider's region and service take precedence over the connection's.
///
/// # Errors
/// When the stored fields contain no key.
pub(super) fn aws_signer(
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

/// The signer that answers challenges. It has no challenge yet.
///
/// # Errors
/// When the stored fields contain no password.
pub(super) fn digest_signer(
    fields: &BTreeMap<String, Secret>,
) -> Result<CredentialSigner, MintError> {
    let (user, password) = (required(fields, "username")?, required(fields, "password")?);
    Ok(CredentialSigner::Digest(Arc::new(DigestSigner::new(user, password))))
}

/// Checks given fields of `basic`. Stored ones were checked.
pub(super) fn check_basic(
    auth: &AuthMethod,
    fields: &BTreeMap<String, Secret>,
) -> Result<(), GrantError> {
    let places = auth.placements.iter().flat_map(|scope| &scope.places);
    for name in places.flat_map(|place| before_colon(&place.value)) {
        if fields.get(name).is_some_and(|value| value.expose().contains(&b':')) {
            return Err(GrantError::Colon { field: name.to_owned() });
        }
    }
    Ok(())
}

/// The fields before the colon of `user:password`.
fn before_colon(template: &ValueTemplate) -> impl Iterator<Item = &str> {
    let user = template.parts().iter().take_while(|part| match part {
        TemplatePart::Literal(text) => !text.contains(':'),
        TemplatePart::Field(_) => true,
    });
    user.filter_map(|part| match part {
        TemplatePart::Field(name) => Some(&**name),
        TemplatePart::Literal(_) => None,
    })
}

/// Of `custom`: whether the template has fields and all of them are absent. Required fields are always present.
pub(super) fn leaves_out(fields: &BTreeMap<String, Secret>, template: &ValueTemplate) -> bool {
    let mut names = template.fields().peekable();
    names.peek().is_some() && !names.any(|name| fields.contains_key(name))
}

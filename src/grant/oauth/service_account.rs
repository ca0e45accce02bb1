//! Service accounts of Google: the key file, and the assertion made with it
//! (<https://developers.google.com/identity/protocols/oauth2/service-account#httprest>). With `subject`, for
//! a user of the domain that has delegated its authority.

use std::collections::BTreeMap;

use serde::Deserialize;
use zeroize::Zeroize;

use super::failure::{Failure, Who};
use super::requests::Assertion;
use super::stored::PRIVATE_KEY;
use crate::base::secret::Secret;
use crate::grant::GrantError;

/// The key file's field.
const FILE: &str = "service_account";

/// The longest life that Google takes: an assertion is exchanged at once all the same.
const ASSERTION_SECONDS: i64 = 300;

/// What is read of a key file. Its URLs are not: the provider's file has them.
#[derive(Deserialize)]
struct KeyFile {
    #[serde(rename = "type")]
    kind: String,
    client_email: String,
    private_key: String,
    private_key_id: Option<String>,
}

impl Drop for KeyFile {
    fn drop(&mut self) {
        self.private_key.zeroize();
    }
}

/// The fields of a key file, in place of the file.
///
/// # Errors
/// When it is not a service account's key file.
pub(super) fn unpack(
    mut fields: BTreeMap<String, Secret>,
) -> Result<BTreeMap<String, Secret>, GrantError> {
    let file = fields.remove(FILE).unwrap_or_else(|| Secret::new(Vec::new()));
    let wrong = || GrantError::KeyFile { field: FILE.to_owned() };
    let key: KeyFile = serde_json::from_slice(file.expose()).map_err(|_| wrong())?;
    if key.kind != "service_account" || !key.private_key.contains("PRIVATE KEY-----") {
        return Err(wrong());
    }
    fields.insert("client_email".to_owned(), Secret::from(key.client_email.clone()));
    fields.insert(PRIVATE_KEY.to_owned(), Secret::new(key.private_key.as_bytes()));
    if let Some(id) = &key.private_key_id {
        fields.insert("private_key_id".to_owned(), Secret::from(id.clone()));
    }
    Ok(fields)
}

/// The assertion: RS256, scopes as a claim, no client.
///
/// # Errors
/// When the stored fields are not those of [`unpack`].
pub(super) fn assertion(fields: &BTreeMap<String, Secret>) -> Result<Assertion, Failure> {
    let text = |name: &str| Some(fields.get(name)?.expose_text()?.to_owned());
    let missing =
        || Failure::ours(Who::Person, "field_missing", "the grant is not a service account's key");
    Ok(Assertion {
        key: fields.get(PRIVATE_KEY).cloned().ok_or_else(missing)?,
        key_id: text("private_key_id"),
        algorithm: Some("RS256".to_owned()),
        issuer: text("client_email").ok_or_else(missing)?,
        subject: text("subject"),
        audience: None,
        seconds: Some(ASSERTION_SECONDS),
        backdated: 0,
        scope_as_claim: true,
    })
}

//! Google service accounts: the key file, and the assertion made with it
//! (<https://developers.google.com/identity/protocols/oauth2/service-account#httprest>). `subject` names a user of a
//! domain that delegated its authority; `impersonate` names another service account
//! (<https://cloud.google.com/iam/docs/create-short-lived-credentials-direct>), whose tokens are requested at
//! `renew` of the provider file.

use std::collections::BTreeMap;

use bytes::Bytes;
use http::{HeaderValue, Method, header};
use serde::Deserialize;
use serde_json::json;
use zeroize::Zeroize;

use super::client::ClientProof;
use super::failure::{ActingParty, TokenFailure};
use super::params::Params;
use super::request_context::RequestContext;
use super::requests::{JwtAssertion, bearer, jwt_bearer};
use super::{PRIVATE_KEY, Tokens};
use crate::grant::GrantError;
use keyward_base::secret::Secret;
use keyward_rules::provider::oauth::{ExpiresText, OAuth};

/// The key file's field.
const FILE: &str = "service_account";

/// The longest lifetime that Google accepts.
const ASSERTION_SECONDS: i64 = 300;

/// The scope for impersonation.
const CLOUD: &str = "https://www.googleapis.com/auth/cloud-platform";

/// The members of a key file that are read. Its URLs are ignored, because the provider's file defines the endpoints.
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

/// Replaces a key file by its fields.
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

/// A token for the account, or for the account that it impersonates.
///
/// # Errors
/// When stored fields are missing, or the server issues no token.
pub(super) async fn minted(
    ask: &RequestContext<'_>,
    fields: &BTreeMap<String, Secret>,
) -> Result<Tokens, TokenFailure> {
    let assertion = assertion(fields)?;
    if !fields.contains_key("impersonate") {
        return jwt_bearer(ask, &assertion).await;
    }
    let cloud = [CLOUD.to_owned()];
    let own = jwt_bearer(&RequestContext { scopes: &cloud, ..*ask }, &assertion).await?;
    impersonated(ask, &own.access).await
}

/// A token of the impersonated account, with the requested scopes.
async fn impersonated(ask: &RequestContext<'_>, own: &Secret) -> Result<Tokens, TokenFailure> {
    let wanted = if ask.scopes.is_empty() { &ask.oauth.scopes } else { ask.scopes };
    let body = json!({ "scope": wanted }).to_string();
    let mut request = ask.request(Method::POST, &ask.renew_url()?, Bytes::from(body))?;
    let fields = request.headers_mut();
    fields.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    fields.insert(header::AUTHORIZATION, bearer(own)?);
    let answer = ask.send(ClientProof::default(), request).await?;
    let facts = OAuth {
        token_path: vec!["accessToken".to_owned()],
        expires_path: Some("expireTime".to_owned()),
        expires_format: ExpiresText::Rfc3339,
        ..ask.oauth.clone()
    };
    let (ask, params) = (RequestContext { oauth: &facts, ..*ask }, Params::default());
    let mut reading = ask.reading(&params, false);
    reading.secrets.push(own);
    reading.tokens(&answer)
}

/// The assertion: RS256, scopes as a claim, no client.
///
/// # Errors
/// When stored fields are missing.
fn assertion(fields: &BTreeMap<String, Secret>) -> Result<JwtAssertion, TokenFailure> {
    let text = |name: &str| Some(fields.get(name)?.expose_text()?.to_owned());
    let missing = || {
        TokenFailure::ours(
            ActingParty::Person,
            "field_missing",
            "the grant is not a service account's key",
        )
    };
    Ok(JwtAssertion {
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

//! `aws_role`: temporary keys of a role, by `AssumeRole` of AWS STS with the owner's keys, or by `AssumeRoleWithWebIdentity`
//! with a token of another issuer. They sign requests; they are stored and renewed as tokens of a token endpoint are.
//!
//! <https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRole.html>
//! <https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRoleWithWebIdentity.html>

use std::collections::BTreeMap;

use bytes::Bytes;
use http::{HeaderValue, Method, Request, header};
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::Value;

use super::client::ClientProof;
use super::failure::{ActingParty, TokenFailure, bad_endpoint};
use super::params::Params;
use super::request_context::RequestContext;
use super::{Tokens, missing, reply};
use keyward_base::secret::Secret;
use keyward_rules::inject::sign::aws_request::Unsigned;
use keyward_rules::inject::sign::aws_sigv4::AwsKeys;

/// The region of STS if the connection names none.
const REGION: &str = "us-east-1";

/// The name of sessions if the connection names none; the account's logs show it.
const SESSION_NAME: &str = "keyward";

/// The fields of the temporary keys. The session token is stored as the access token.
pub(in crate::grant) const KEY_ID: &str = "access_key_id";
pub(in crate::grant) const SECRET_KEY: &str = "secret_access_key";

/// The field of a token of another issuer that authenticates Keyward, instead of keys.
const WEB_IDENTITY: &str = "web_identity_token";

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct RoleResult {
    credentials: RoleKeys,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct RoleKeys {
    access_key_id: String,
    secret_access_key: String,
    session_token: String,
    /// Seconds since 1970, or RFC 3339.
    expiration: Value,
}

/// New keys of the role.
///
/// # Errors
/// When STS issues none.
pub(super) async fn assumed(
    ask: &RequestContext<'_>,
    fields: &BTreeMap<String, Secret>,
) -> Result<Tokens, TokenFailure> {
    let role = fields.get("role_arn").and_then(Secret::expose_text);
    let role = role.ok_or_else(|| missing("role_arn"))?;
    let text = |name: &str, usual: &'static str| {
        fields.get(name).and_then(Secret::expose_text).unwrap_or(usual).to_owned()
    };
    let region = text("region", REGION);
    let suffix = if region.starts_with("cn-") { ".cn" } else { "" };
    let host = format!("sts.{region}.amazonaws.com{suffix}");
    let identity = fields.get(WEB_IDENTITY);
    let action = if identity.is_some() { "AssumeRoleWithWebIdentity" } else { "AssumeRole" };
    let mut params = Params::default();
    params.set("Action", action);
    params.set("Version", "2011-06-15");
    params.set("ContentType", "JSON");
    params.set("RoleArn", role.to_owned());
    params.set("RoleSessionName", text("session_name", SESSION_NAME));
    for (field, param) in [("external_id", "ExternalId"), ("duration", "DurationSeconds")] {
        if fields.contains_key(field) {
            params.set(param, text(field, ""));
        }
    }
    if let Some(token) = identity {
        params.set("WebIdentityToken", token.clone());
    }
    let body = Bytes::copy_from_slice(params.form().as_bytes());
    let url = format!("https://{host}/");
    let mut request = ask.request(Method::POST, &url, body)?;
    let form = HeaderValue::from_static("application/x-www-form-urlencoded");
    request.headers_mut().insert(header::CONTENT_TYPE, form);
    if identity.is_none() {
        sign(&source_keys(fields, &region)?, &mut request, &host, ask.time_at(&url))?;
    }
    let answer = ask.send(ClientProof::default(), request).await?;
    let object = reply::object(answer.body()).unwrap_or_default();
    if !answer.status().is_success() {
        let word = |name: &str| Some(object.get("Error")?.get(name)?.as_str()?.to_owned());
        let mut reading = ask.reading(&params, false);
        reading.secrets.extend(fields.values());
        return Err(reading.refused(&answer, word("Code"), word("Message")));
    }
    let body = object.get(&format!("{action}Response"));
    let result = body.and_then(|body| body.get(format!("{action}Result"))).cloned();
    let result: RoleResult = serde_json::from_value(result.unwrap_or_default())
        .map_err(|_| TokenFailure::unreadable("the answer is not that of AssumeRole"))?;
    tokens(result.credentials, ask.now)
}

fn tokens(keys: RoleKeys, sent: Timestamp) -> Result<Tokens, TokenFailure> {
    let expires = match &keys.expiration {
        Value::Number(seconds) => seconds.as_f64().and_then(reply::at_second),
        Value::String(text) => text.parse().ok(),
        _ => None,
    };
    let unreadable = || TokenFailure::unreadable("the keys of the role have no end");
    let minted = [(KEY_ID, keys.access_key_id), (SECRET_KEY, keys.secret_access_key)];
    Ok(Tokens {
        expires: Some(expires.ok_or_else(unreadable)?),
        more: minted.map(|(name, text)| (name.to_owned(), Secret::from(text))).into(),
        ..Tokens::of(Secret::from(keys.session_token), sent)
    })
}

fn source_keys(fields: &BTreeMap<String, Secret>, region: &str) -> Result<AwsKeys, TokenFailure> {
    let required = |name: &'static str| fields.get(name).cloned().ok_or_else(|| missing(name));
    Ok(AwsKeys {
        access_key_id: required("source_access_key_id")?,
        secret_access_key: required("source_secret_access_key")?,
        session_token: fields.get("source_session_token").cloned(),
        region: Some(region.into()),
        service: Some("sts".into()),
    })
}

fn sign(
    keys: &AwsKeys,
    request: &mut Request<Bytes>,
    host: &str,
    now: Timestamp,
) -> Result<(), TokenFailure> {
    let body = request.body().clone();
    let plan = keys.read(host, request.headers(), None).map_err(|_| bad_endpoint())?;
    let unsigned = Unsigned {
        method: "POST",
        authority: host,
        path: "/",
        fields: request.headers_mut(),
        body: Some(&body),
        now,
    };
    let unsignable =
        |error| TokenFailure::ours(ActingParty::Person, "unusable_key", format!("{error}"));
    keys.sign_own(&plan, unsigned).map(drop).map_err(unsignable)
}

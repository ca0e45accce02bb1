//! Reads the account of a grant by OpenID Connect: from the ID token, or from the userinfo endpoint. The
//! account is shown and compared with an earlier consent; it does not authenticate.

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use http::{Method, StatusCode};
use jiff::Timestamp;
use serde_json::{Map, Value};

use super::client::ClientProof;
use super::failure::TokenFailure;
use super::reply::{at, word};
use super::request_context::RequestContext;
use super::requests::bearer;
use keyward_base::secret::Secret;
use keyward_rules::provider::oauth::ClientAuthText;

/// Tolerance for the clock of an issuer, in seconds.
const CLOCK_SECONDS: i64 = 300;

/// Members that name an account for people, in this order (OpenID Connect Core §5.1).
const NAMES: &[&str] = &["email", "preferred_username", "name"];

/// The account in an ID token or a userinfo response.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct AccountClaims {
    /// The identifier at the issuer.
    pub subject: String,
    /// A name for people.
    pub name: Option<String>,
}

/// The expected values of an ID token.
#[derive(Clone, Copy, Debug)]
pub struct ExpectedClaims<'a> {
    /// The issuer of the token endpoint.
    pub issuer: &'a str,
    pub client_id: &'a str,
    pub now: Timestamp,
}

/// Why an ID token is not valid. Quotes nothing of it.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum IdTokenError {
    /// It is not a JWT with the required members.
    #[error("the ID token is malformed")]
    Malformed,
    /// OpenID Connect Core §3.1.3.7, 2.
    #[error("the ID token is of another issuer")]
    Issuer,
    /// OpenID Connect Core §3.1.3.7, 3 and 4.
    #[error("the ID token is for another client")]
    Audience,
    /// OpenID Connect Core §3.1.3.7, 5.
    #[error("the ID token was issued to another client")]
    AuthorizedParty,
    /// OpenID Connect Core §3.1.3.7, 9.
    #[error("the ID token has expired")]
    Expired,
}

/// The claims of an ID token that came directly from the token endpoint. TLS has authenticated the
/// endpoint, so the signature is not checked (OpenID Connect Core §3.1.3.7, 6). No `nonce` was sent.
///
/// # Errors
/// When it is not from this issuer for this client, or has expired.
pub fn id_token_claims(
    token: &Secret,
    expected: &ExpectedClaims<'_>,
) -> Result<AccountClaims, IdTokenError> {
    let claims = payload(token).ok_or(IdTokenError::Malformed)?;
    let text = |name: &str| claims.get(name).and_then(Value::as_str);
    if text("iss").ok_or(IdTokenError::Malformed)? != expected.issuer {
        return Err(IdTokenError::Issuer);
    }
    let audiences: Vec<&str> = match claims.get("aud").ok_or(IdTokenError::Malformed)? {
        Value::String(one) => vec![one],
        Value::Array(several) => several.iter().filter_map(Value::as_str).collect(),
        _ => return Err(IdTokenError::Malformed),
    };
    if !audiences.contains(&expected.client_id) {
        return Err(IdTokenError::Audience);
    }
    match (claims.get("azp"), audiences.len()) {
        (None, 1) => {}
        (Some(Value::String(party)), _) if party == expected.client_id => {}
        // Issued to another client with several audiences.
        (None, _) => return Err(IdTokenError::Audience),
        (Some(_), _) => return Err(IdTokenError::AuthorizedParty),
    }
    let ends = claims.get("exp").and_then(Value::as_f64).ok_or(IdTokenError::Malformed)?;
    let now = expected.now.as_second().saturating_sub(CLOCK_SECONDS);
    #[expect(clippy::cast_precision_loss, reason = "seconds since 1970 are far below 2^52")]
    if ends <= now as f64 {
        return Err(IdTokenError::Expired);
    }
    let subject = claims.get("sub").and_then(word).ok_or(IdTokenError::Malformed)?;
    Ok(AccountClaims { subject, name: name(&claims) })
}

/// The middle part of a JWT (RFC 7519 §3, RFC 7515 §7.1); an encrypted one has five parts.
fn payload(token: &Secret) -> Option<Map<String, Value>> {
    let mut parts = token.expose_text()?.split('.');
    let (_, middle, _) = (parts.next()?, parts.next()?, parts.next()?);
    if parts.next().is_some() {
        return None;
    }
    let decoded = BASE64_URL_SAFE_NO_PAD.decode(middle.trim_end_matches('=')).ok()?;
    serde_json::from_slice(&decoded).ok()
}

/// The subject of an ID token that came directly from the token endpoint.
pub(super) fn subject(token: &Secret) -> Option<String> {
    payload(token)?.get("sub").and_then(word)
}

fn name(claims: &Map<String, Value>) -> Option<String> {
    NAMES.iter().find_map(|name| claims.get(*name).and_then(word))
}

/// Requests the userinfo with an access token (OpenID Connect Core §5.3). The provider's file may say where
/// the account is in the response. `None`: the response names no account.
///
/// # Errors
/// When there is no endpoint, or its response has no claims.
pub async fn userinfo(
    ask: &RequestContext<'_>,
    token: &Secret,
) -> Result<Option<AccountClaims>, TokenFailure> {
    let claims = userinfo_claims(ask, token).await?;
    let declared = ask.oauth.says.account.iter().find_map(|path| word(at(&claims, path)?));
    let subject = claims.get("sub").and_then(word).or_else(|| declared.clone());
    let name = declared.or_else(|| name(&claims));
    Ok(subject.map(|subject| AccountClaims { subject, name }))
}

/// All claims of the userinfo.
///
/// # Errors
/// As [`userinfo`].
pub async fn userinfo_claims(
    ask: &RequestContext<'_>,
    token: &Secret,
) -> Result<Map<String, Value>, TokenFailure> {
    let url = ask.url(ask.oauth.userinfo.as_ref(), "userinfo")?;
    let mut request = ask.request(Method::GET, &url, bytes::Bytes::new())?;
    request.headers_mut().insert(http::header::AUTHORIZATION, bearer(token)?);
    // The token may be bound to the certificate (RFC 8705 §3).
    let is_bound = ask.oauth.client_auth == ClientAuthText::Mtls;
    let identity = is_bound.then(|| ask.client.identity().ok()).flatten();
    let proof = ClientProof { identity, ..ClientProof::default() };
    let answer = ask.send(proof, request).await?;
    if answer.status() != StatusCode::OK {
        return Err(TokenFailure::unreadable("the userinfo endpoint refuses the token"));
    }
    // A signed response (application/jwt) is not read: none was requested.
    serde_json::from_slice(answer.body())
        .map_err(|_| TokenFailure::unreadable("the userinfo answer holds no claims"))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::json;

    use super::*;
    use crate::tests::scripted_server::{Server, client, json as answer, secret};

    const EXPECTED: ExpectedClaims<'static> = ExpectedClaims {
        issuer: "https://auth.acme.test",
        client_id: "id",
        now: Timestamp::UNIX_EPOCH,
    };

    fn token(claims: &Value) -> Secret {
        let coded = BASE64_URL_SAFE_NO_PAD.encode(claims.to_string());
        secret(&format!("eyJhbGciOiJub25lIn0.{coded}."))
    }

    fn good() -> Value {
        json!({ "iss": "https://auth.acme.test", "aud": "id", "exp": 60, "sub": "1" })
    }

    fn with(name: &str, value: Value) -> Value {
        let mut claims = good();
        claims[name] = value;
        claims
    }

    /// oauth 2.id-token
    #[test]
    fn an_id_token_of_another_issuer_client_or_time_names_no_account() {
        use IdTokenError::{Audience, AuthorizedParty, Expired, Issuer, Malformed};
        for (claims, error) in [
            (with("iss", json!("https://auth.acme.test/")), Issuer),
            (with("iss", json!("https://evil.test")), Issuer),
            (with("iss", Value::Null), Malformed),
            (with("aud", json!("other")), Audience),
            (with("aud", json!(["other"])), Audience),
            (with("aud", json!([])), Audience),
            (with("aud", json!(["id", "other"])), Audience),
            (with("aud", Value::Null), Malformed),
            (with("azp", json!("other")), AuthorizedParty),
            (with("azp", json!(1)), AuthorizedParty),
            (with("exp", json!(-300)), Expired),
            (with("exp", json!("60")), Malformed),
            (with("exp", Value::Null), Malformed),
            (with("sub", Value::Null), Malformed),
            (with("sub", json!("")), Malformed),
            (with("sub", json!("a\u{1b}b")), Malformed),
            (json!([]), Malformed),
        ] {
            assert_eq!(id_token_claims(&token(&claims), &EXPECTED), Err(error), "{claims}");
        }
        for text in ["", "a.b", "a.%.c", "a.b.c.d.e", "eyJ9.e30."] {
            let refused = id_token_claims(&secret(text), &EXPECTED);
            assert_eq!(refused, Err(Malformed), "{text}");
        }
    }

    /// oauth 2.id-token
    #[test]
    fn an_id_token_of_the_issuer_for_the_client_names_the_account() {
        for (claims, name) in [
            (good(), None),
            (with("aud", json!(["id"])), None),
            (with("azp", json!("id")), None),
            (with("exp", json!(-299)), None),
            (with("email", json!("a@b.test")), Some("a@b.test")),
            (with("name", json!("Alice")), Some("Alice")),
        ] {
            let read = id_token_claims(&token(&claims), &EXPECTED).expect("it is right");
            assert_eq!((&*read.subject, read.name.as_deref()), ("1", name), "{claims}");
        }
        let mut several = with("aud", json!(["id", "other"]));
        several["azp"] = json!("id");
        assert!(id_token_claims(&token(&several), &EXPECTED).is_ok());
    }

    /// oauth 2.account-source
    #[tokio::test]
    async fn userinfo_is_requested_with_the_access_token_and_read_by_the_provider_s_file() {
        for (more, body, expected) in [
            ("", json!({ "sub": "1", "email": "a@b.test" }), Some(("1", Some("a@b.test")))),
            ("", json!({ "email": "a@b.test" }), None),
            (
                "account: [email]",
                json!({ "email": "a@b.test" }),
                Some(("a@b.test", Some("a@b.test"))),
            ),
            ("account: [login]", json!({ "sub": 7, "login": "al" }), Some(("7", Some("al")))),
        ] {
            let mut server = Server::start(&[&answer("200 OK", &body.to_string())]).await;
            let (oauth, client, none) = (server.oauth(more), client("s"), BTreeMap::new());
            let ask = server.ask(&oauth, &client, &none);
            let read = userinfo(&ask, &secret("token-1")).await.expect("claims");
            let read = read.as_ref().map(|read| (&*read.subject, read.name.as_deref()));
            assert_eq!(read, expected, "{more} {body}");
            let asked = server.received().await;
            assert!(asked.line.starts_with("GET "), "{}", asked.line);
            assert_eq!(asked.fields["authorization"], "Bearer token-1");
        }
        for refused in [answer("403 No", "{}"), answer("200 OK", "a.jwt.of-it")] {
            let server = Server::start(&[&refused]).await;
            let (oauth, client, none) = (server.oauth(""), client("s"), BTreeMap::new());
            let ask = server.ask(&oauth, &client, &none);
            assert!(userinfo(&ask, &secret("token-1")).await.is_err(), "{refused}");
        }
    }
}

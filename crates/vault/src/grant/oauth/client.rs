//! [`OAuthClient`]: an OAuth client and its authentication. Each request uses exactly one method, the same at every
//! endpoint of a server (RFC 6749 §2.3).
//!
//! Signed assertions (RFC 7523), for client authentication and as a grant. Keys are PEM (RSA in PKCS #1 or #8; P-256, P-384 and
//! Ed25519 in PKCS #8) or a shared secret.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use http::HeaderValue;
use jiff::Timestamp;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::params::{Params, form_encoded};
use crate::grant::AppSecret;
use keyward_base::secret::Secret;
use keyward_net::tls::ClientIdentity;
use keyward_rules::inject::sign::SignError;
use keyward_rules::inject::sign::jwt::private_key;
use keyward_rules::provider::oauth::ClientAuthText;

/// The type of assertions that authenticate a client (RFC 7523 §2.2).
const ASSERTION_TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

/// Lifetime of an assertion that authenticates a client: 60 s, because it is used at once.
const ASSERTION_SECONDS: i64 = 60;

/// An OAuth client. The app's endpoints and parameters are in
/// [`RequestContext::oauth`](super::RequestContext). Wiped when dropped.
#[derive(Clone, Debug, Default)]
pub struct OAuthClient {
    /// The client id; empty without a client.
    pub id: String,
    /// Its credentials.
    pub secret: AppSecret,
    /// The key's id at the server, for `private_key_jwt`.
    pub key_id: Option<String>,
}

/// Client authentication outside the parameters.
#[derive(Debug, Default)]
pub(super) struct ClientProof {
    /// The `Authorization` field, marked sensitive.
    pub(super) authorization: Option<HeaderValue>,
    pub(super) identity: Option<ClientIdentity>,
}

impl OAuthClient {
    /// Authenticates a request. `audience` is the audience of an assertion.
    ///
    /// # Errors
    /// When the secret or the key is missing.
    pub(super) fn authenticate(
        &self,
        method: ClientAuthText,
        audience: &str,
        now: Timestamp,
        params: &mut Params,
    ) -> Result<ClientProof, AssertionError> {
        let mut proof = ClientProof::default();
        match method {
            ClientAuthText::None => self.name(params),
            ClientAuthText::Body => {
                self.name(params);
                if let Some(secret) = &self.secret.client_secret {
                    params.set("client_secret", secret.clone());
                }
            }
            // RFC 6749 §2.3.1: id and secret are form-encoded before they are joined.
            ClientAuthText::Basic => {
                let secret = form_encoded(self.secret()?.expose());
                let id = form_encoded(self.id.as_bytes());
                proof.authorization = Some(basic(id.as_bytes(), secret.as_bytes())?);
            }
            // For servers that do not decode them.
            ClientAuthText::BasicRaw => {
                proof.authorization = Some(basic(self.id.as_bytes(), self.secret()?.expose())?);
            }
            ClientAuthText::BasicSecretAsUsername => {
                proof.authorization = Some(basic(self.secret()?.expose(), b"")?);
            }
            ClientAuthText::PrivateKeyJwt => {
                let key = AssertionKey::Pem(
                    self.secret.private_key.as_ref().ok_or(AssertionError::NoKey)?,
                );
                self.assert(&key, audience, now, params)?;
            }
            ClientAuthText::ClientSecretJwt => {
                let key = AssertionKey::Shared(self.secret()?);
                self.assert(&key, audience, now, params)?;
            }
            ClientAuthText::Mtls => {
                self.name(params);
                proof.identity = Some(self.identity()?);
            }
        }
        Ok(proof)
    }

    /// The certificate of the client, with its key (RFC 8705).
    ///
    /// # Errors
    /// When either is missing, or they do not belong together.
    pub(super) fn identity(&self) -> Result<ClientIdentity, AssertionError> {
        let AppSecret { certificate, private_key, .. } = &self.secret;
        let chain = certificate.as_ref().ok_or(AssertionError::NoCertificate)?;
        let key = private_key.as_ref().ok_or(AssertionError::NoKey)?;
        ClientIdentity::from_pem(chain, key).map_err(|_| AssertionError::Certificate)
    }

    fn name(&self, params: &mut Params) {
        if !self.id.is_empty() {
            params.set("client_id", self.id.clone());
        }
    }

    fn secret(&self) -> Result<&Secret, AssertionError> {
        let secret = self.secret.client_secret.as_ref();
        secret.filter(|secret| !secret.is_empty()).ok_or(AssertionError::Missing)
    }

    /// RFC 7523 §3: issuer and subject are the client. The audience is one string: with a list, one server
    /// could use the assertion at another.
    fn assert(
        &self,
        key: &AssertionKey<'_>,
        audience: &str,
        now: Timestamp,
        params: &mut Params,
    ) -> Result<(), AssertionError> {
        let claims = json!({
            "iss": self.id,
            "sub": self.id,
            "aud": audience,
            "iat": now.as_second(),
            "exp": now.as_second() + ASSERTION_SECONDS,
            "jti": fresh_id()?,
        });
        let signed = sign(key, None, self.key_id.as_deref(), &claims)?;
        self.name(params);
        params.set("client_assertion_type", ASSERTION_TYPE);
        params.set("client_assertion", signed);
        Ok(())
    }
}

/// `Basic` (RFC 7617 §2), marked sensitive.
fn basic(user: &[u8], password: &[u8]) -> Result<HeaderValue, AssertionError> {
    let mut plain = Zeroizing::new(Vec::with_capacity(user.len() + 1 + password.len()));
    plain.extend_from_slice(user);
    plain.push(b':');
    plain.extend_from_slice(password);
    let text = Zeroizing::new(format!("Basic {}", *Zeroizing::new(STANDARD.encode(&*plain))));
    let mut value = HeaderValue::from_str(&text).map_err(|_| AssertionError::Missing)?;
    value.set_sensitive(true);
    Ok(value)
}

#[cfg(test)]
mod tests;

/// The signing key.
#[derive(Debug)]
pub(super) enum AssertionKey<'a> {
    /// A private key in PEM.
    Pem(&'a Secret),
    /// A secret shared with the server: HS256.
    Shared(&'a Secret),
}

/// Why there is no signature, or no client authentication. Names no secret.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum AssertionError {
    /// The client has no secret, or an empty one.
    #[error("the client has no secret: give the app one, as `client_secret`")]
    Missing,
    /// The client has no private key.
    #[error("the client has no private key: give the app one, as `private_key`")]
    NoKey,
    /// The client has no certificate.
    #[error("the client has no certificate: give the app one, as `certificate`")]
    NoCertificate,
    /// Not a private key in PEM.
    #[error(
        "the key is not a private key in PEM without a passphrase: RSA, or P-256, P-384 or Ed25519 \
         in PKCS #8"
    )]
    Key,
    /// A key that does not fit the algorithm.
    #[error("the key is not of the required algorithm")]
    Algorithm,
    /// Not a certificate and its private key.
    #[error("certificate and private key are not PEM, or do not belong together")]
    Certificate,
    /// The system has no randomness.
    #[error("the system gives no random numbers")]
    Random,
}

impl AssertionError {
    /// An error code in the style of servers.
    pub(super) fn code(self) -> &'static str {
        match self {
            Self::Missing => "client_secret_missing",
            Self::NoKey => "private_key_missing",
            Self::NoCertificate => "certificate_missing",
            Self::Key | Self::Algorithm => "unusable_key",
            Self::Certificate => "unusable_certificate",
            Self::Random => "no_randomness",
        }
    }
}

/// Checks that the private key of a client can sign assertions.
///
/// # Errors
/// When it is not a key of a known kind.
pub fn check_private_key(key: &Secret) -> Result<(), AssertionError> {
    private(key.expose(), None).map(drop)
}

/// Signs `claims`. The default algorithm depends on the key.
///
/// # Errors
/// When the key is invalid, or does not fit the algorithm.
pub(super) fn sign(
    key: &AssertionKey<'_>,
    algorithm: Option<&str>,
    key_id: Option<&str>,
    claims: &Value,
) -> Result<Secret, AssertionError> {
    let wanted =
        algorithm.map(|name| name.parse().map_err(|_| AssertionError::Algorithm)).transpose()?;
    let (algorithm, key) = match key {
        AssertionKey::Shared(secret) => {
            (wanted.unwrap_or(Algorithm::HS256), EncodingKey::from_secret(secret.expose()))
        }
        AssertionKey::Pem(pem) => private(pem.expose(), wanted)?,
    };
    let mut header = Header::new(algorithm);
    header.kid = key_id.map(str::to_owned);
    let signed =
        jsonwebtoken::encode(&header, claims, &key).map_err(|_| AssertionError::Algorithm)?;
    Ok(Secret::from(signed))
}

/// The key and its algorithm.
fn private(
    pem: &[u8],
    wanted: Option<Algorithm>,
) -> Result<(Algorithm, EncodingKey), AssertionError> {
    private_key(pem, wanted).map_err(|error| match error {
        SignError::KeyAlgorithm => AssertionError::Algorithm,
        _ => AssertionError::Key,
    })
}

/// 128 random bits for `jti`, so that assertions are unique.
///
/// # Errors
/// When the system has no randomness.
pub(super) fn fresh_id() -> Result<String, AssertionError> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|_| AssertionError::Random)?;
    Ok(URL_SAFE_NO_PAD.encode(bytes))
}

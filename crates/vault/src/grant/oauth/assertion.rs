//! Signed assertions (RFC 7523), for client authentication and as a grant. Keys are PEM (RSA in PKCS #1 or #8;
//! P-256, P-384 and Ed25519 in PKCS #8) or a shared secret.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::Value;

use keyward_base::secret::Secret;
use keyward_rules::inject::sign::SignError;
use keyward_rules::inject::sign::jwt::private_key;

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

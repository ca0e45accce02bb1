//! Verifies an ID token (OpenID Connect Core §3.1.3.7) that signs a person in: its signature by a key of the issuer, then
//! its claims. `grant::oauth` checks issuer, audience and expiry, as for the account of a consent.

use jsonwebtoken::jwk::{AlgorithmParameters, Jwk, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey, Header, Validation};
use serde_json::{Map, Value};

use crate::grant::oauth::{ExpectedClaims, IdTokenError, id_token_claims};
use keyward_base::secret::Secret;

/// Tolerance for the clock of the issuer, in seconds.
const CLOCK_SECONDS: i64 = 300;

/// Signatures with a public key. With HMAC, everyone who knows the client's secret could sign; without a signature,
/// everyone.
const ALGORITHMS: &[Algorithm] = &[
    Algorithm::RS256,
    Algorithm::RS384,
    Algorithm::RS512,
    Algorithm::PS256,
    Algorithm::PS384,
    Algorithm::PS512,
    Algorithm::ES256,
    Algorithm::ES384,
    Algorithm::EdDSA,
];

/// Why an ID token is not valid. Quotes nothing of it.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum IdTokenFault {
    /// It is not a signed JWT.
    #[error("the ID token is not a signed JWT")]
    Malformed,
    /// It has no signature, or one without a public key.
    #[error("the ID token is signed by an algorithm that is not accepted: RS, PS, ES or EdDSA are")]
    Algorithm,
    /// Its key is not among those of the issuer.
    #[error("the ID token is signed with a key that its issuer does not publish")]
    UnknownKey,
    /// The signature is wrong.
    #[error("the signature of the ID token is wrong")]
    Signature,
    /// A claim is wrong.
    #[error(transparent)]
    Claims(#[from] IdTokenError),
    /// It is not of this sign-in.
    #[error("the ID token has not the nonce of this sign-in")]
    Nonce,
    /// Its time of issue is in the future.
    #[error("the ID token lacks the time at which it was issued, or that time is in the future")]
    Issued,
}

/// The expected values.
pub(super) struct IdTokenExpectations<'a> {
    /// Issuer, client and time.
    pub(super) claims: ExpectedClaims<'a>,
    /// The nonce of the sign-in.
    pub(super) nonce: &'a str,
}

/// A verified ID token.
pub(super) struct VerifiedIdToken {
    /// The account's identifier.
    pub(super) subject: String,
    pub(super) claims: Map<String, Value>,
}

/// Verifies a token.
///
/// # Errors
/// When it is not valid; [`IdTokenFault::UnknownKey`] if newer keys may help.
pub(super) fn verify(
    token: &Secret,
    keys: &[Jwk],
    expected: &IdTokenExpectations<'_>,
) -> Result<VerifiedIdToken, IdTokenFault> {
    let text = token.expose_text().ok_or(IdTokenFault::Malformed)?;
    let claims = signed(text, keys)?;
    let subject = id_token_claims(token, &expected.claims)?.subject;
    if claims.get("nonce").and_then(Value::as_str) != Some(expected.nonce) {
        return Err(IdTokenFault::Nonce);
    }
    let latest = expected.claims.now.as_second().saturating_add(CLOCK_SECONDS);
    let issued = claims.get("iat").and_then(Value::as_f64).ok_or(IdTokenFault::Issued)?;
    #[expect(clippy::cast_precision_loss, reason = "seconds since 1970 are far below 2^52")]
    if issued > latest as f64 {
        return Err(IdTokenFault::Issued);
    }
    Ok(VerifiedIdToken { subject, claims })
}

/// Verifies the signature and returns the claims, which are not checked yet.
fn signed(text: &str, keys: &[Jwk]) -> Result<Map<String, Value>, IdTokenFault> {
    let header = jsonwebtoken::decode_header(text).map_err(|error| match error.kind() {
        // The algorithm `none`, and algorithms that the crate does not know.
        jsonwebtoken::errors::ErrorKind::Json(_) => IdTokenFault::Algorithm,
        _ => IdTokenFault::Malformed,
    })?;
    if !ALGORITHMS.contains(&header.alg) {
        return Err(IdTokenFault::Algorithm);
    }
    let mut checks = Validation::new(header.alg);
    // The caller checks the claims, with our clock.
    checks.validate_exp = false;
    checks.validate_aud = false;
    checks.required_spec_claims.clear();
    let mut fitting = keys.iter().filter(|key| fits(key, &header)).peekable();
    if fitting.peek().is_none() {
        return Err(IdTokenFault::UnknownKey);
    }
    fitting
        .filter_map(|key| DecodingKey::from_jwk(key).ok())
        .find_map(|key| jsonwebtoken::decode(text, &key, &checks).ok())
        .map(|decoded| decoded.claims)
        .ok_or(IdTokenFault::Signature)
}

/// Whether the header may mean this key. A key without an id is tried for all.
fn fits(key: &Jwk, header: &Header) -> bool {
    use Algorithm as A;
    let common = &key.common;
    let is_named = match (&header.kid, &common.key_id) {
        (Some(wanted), Some(id)) => wanted == id,
        _ => true,
    };
    let is_for_signatures = matches!(common.public_key_use, None | Some(PublicKeyUse::Signature));
    let is_of_algorithm =
        common.key_algorithm.is_none_or(|known| known.to_string() == format!("{:?}", header.alg));
    let is_of_kind = match &key.algorithm {
        AlgorithmParameters::RSA(_) => !matches!(header.alg, A::ES256 | A::ES384 | A::EdDSA),
        AlgorithmParameters::EllipticCurve(_) => matches!(header.alg, A::ES256 | A::ES384),
        AlgorithmParameters::OctetKeyPair(_) => header.alg == A::EdDSA,
        _ => false,
    };
    is_named && is_for_signatures && is_of_algorithm && is_of_kind
}

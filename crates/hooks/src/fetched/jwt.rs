//! JSON Web Tokens (RFC 7519) in the compact form of RFC 7515, verified by a JSON Web Key (RFC 7517). The scheme says which algorithm
//! is used; a token that names another is refused.

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents, UnparsedPublicKey,
};
use data_encoding::BASE64URL_NOPAD;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::Rejection;

/// Longer than any token of a service.
const TOKEN_BYTES_MAX: usize = 4096;

/// A token that is not verified yet.
pub(super) struct UnverifiedToken<'t> {
    /// What the signature covers.
    signed: &'t str,
    payload: Vec<u8>,
    signature: Vec<u8>,
    /// The id of its key.
    pub(super) key: String,
}

#[derive(Deserialize)]
struct JwtHeader {
    alg: String,
    kid: String,
    crit: Option<serde_json::Value>,
}

/// A public key.
#[derive(Deserialize)]
pub(super) struct Jwk {
    kty: String,
    pub(super) kid: String,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
    /// When the service has replaced it, in seconds.
    pub(super) expired_at: Option<i64>,
}

impl<'t> UnverifiedToken<'t> {
    /// Reads a token that names this algorithm.
    pub(super) fn parse(text: &'t str, algorithm: &str) -> Result<Self, Rejection> {
        let malformed = Rejection::SignatureMalformed;
        if text.len() > TOKEN_BYTES_MAX {
            return Err(malformed);
        }
        let decode = |part: &str| BASE64URL_NOPAD.decode(part.as_bytes()).map_err(|_| malformed);
        let (signed, signature) = text.rsplit_once('.').ok_or(malformed)?;
        let (header, payload) = signed.split_once('.').ok_or(malformed)?;
        let header: JwtHeader = serde_json::from_slice(&decode(header)?).map_err(|_| malformed)?;
        // An extension that must be understood is not (RFC 7515 §4.1.11).
        if header.alg != algorithm || header.crit.is_some() {
            return Err(malformed);
        }
        let (payload, signature) = (decode(payload)?, decode(signature)?);
        Ok(Self { signed, payload, signature, key: header.kid })
    }

    /// The claims, if the key has signed them.
    pub(super) fn verified<T: DeserializeOwned>(&self, key: &Jwk) -> Result<T, Rejection> {
        if !key.verifies(self.signed.as_bytes(), &self.signature).ok_or(Rejection::KeyStrange)? {
            return Err(Rejection::SignatureWrong);
        }
        serde_json::from_slice(&self.payload).map_err(|_| Rejection::SignatureMalformed)
    }

    /// What the signature covers.
    pub(super) fn signed(&self) -> &[u8] {
        self.signed.as_bytes()
    }
}

impl Jwk {
    /// Whether a signature is that of a message; `None` if this is no key of a known kind.
    fn verifies(&self, message: &[u8], signature: &[u8]) -> Option<bool> {
        let part = |part: &Option<String>| BASE64URL_NOPAD.decode(part.as_ref()?.as_bytes()).ok();
        match (self.kty.as_str(), self.crv.as_deref()) {
            ("RSA", None) => {
                let key = RsaPublicKeyComponents { n: part(&self.n)?, e: part(&self.e)? };
                Some(key.verify(&RSA_PKCS1_2048_8192_SHA256, message, signature).is_ok())
            }
            ("EC", Some("P-256")) => {
                // SEC 1 §2.3.3, without compression.
                let point = [&[4], &*part(&self.x)?, &*part(&self.y)?].concat();
                let key = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point);
                Some(key.verify(message, signature).is_ok())
            }
            _ => None,
        }
    }
}

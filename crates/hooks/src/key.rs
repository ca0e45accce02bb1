//! Secrets of webhooks: their forms, and the algorithms that use them. Only this file reads their bytes.
//!
//! HMAC is RFC 2104, Ed25519 RFC 8032, ECDSA FIPS 186-5 with signatures in DER. aws-lc-rs compares MACs in constant
//! time.

use aws_lc_rs::{constant_time, hmac, signature};
use data_encoding::{HEXLOWER, HEXLOWER_PERMISSIVE};
use serde::Deserialize;
use zeroize::Zeroizing;

use keyward_base::secret::Secret;

use crate::request::base64;

/// Before the bytes of a symmetric key of Standard Webhooks. Its libraries also accept keys without it.
const SYMMETRIC_PREFIX: &str = "whsec_";

/// Before the bytes of a public key of Standard Webhooks.
const PUBLIC_PREFIX: &str = "whpk_";

/// Bounds of a symmetric key of Standard Webhooks. The specification says 24 to 64; some services make others.
const SYMMETRIC_BYTES: std::ops::RangeInclusive<usize> = 16..=128;

/// The text whose MAC is the verify token of Meta's form. It cannot be an event, because events are JSON objects.
const VERIFY_TOKEN: &[u8] = b"keyward webhook verify token";

/// How a service writes its secret.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum KeyForm {
    /// The key is the text itself.
    #[default]
    Text,
    Base64,
    Hex,
    /// `whsec_` and base64.
    Whsec,
    /// `whpk_` and base64 of an Ed25519 public key.
    Whpk,
    Ed25519Hex,
    /// Base64 of a `SubjectPublicKeyInfo`.
    EcdsaP256Base64,
}

/// How a signature is made.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum SignatureAlgorithm {
    HmacSha1,
    HmacSha256,
    HmacSha512,
    Ed25519,
    EcdsaP256Sha256,
    /// None: the service sends the secret, which authenticates the whole request.
    Equal,
}

/// Why a text is no secret of a scheme.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum SecretError {
    /// Nothing was entered.
    #[error("the secret is empty")]
    Empty,
    /// Leading or trailing spaces or line ends, as from copying.
    #[error("the secret begins or ends with a space or line end: remove it")]
    SurroundingSpace,
    /// Another form, such as an API key.
    #[error("the secret has another form: expected {expected}")]
    Form {
        /// In words.
        expected: &'static str,
    },
}

/// A secret that is ready to verify.
pub(crate) enum VerificationKey {
    Mac(Box<hmac::Key>),
    Public(signature::ParsedPublicKey),
    Token(Secret),
}

impl KeyForm {
    fn expected(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Base64 => "base64",
            Self::Hex => "hexadecimal digits",
            Self::Whsec => "`whsec_` and base64 of 16 to 128 bytes",
            Self::Whpk => "`whpk_` and base64 of an Ed25519 public key",
            Self::Ed25519Hex => "64 hexadecimal digits of an Ed25519 public key",
            Self::EcdsaP256Base64 => "base64 of a public key for ECDSA with P-256",
        }
    }

    fn bytes(self, secret: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        let text = std::str::from_utf8(secret);
        let bytes = match self {
            Self::Text => secret.to_vec(),
            Self::Base64 | Self::EcdsaP256Base64 => base64(text.ok()?).ok()?,
            Self::Hex | Self::Ed25519Hex => HEXLOWER_PERMISSIVE.decode(secret).ok()?,
            Self::Whsec => {
                let text = text.ok()?;
                let bytes = base64(text.strip_prefix(SYMMETRIC_PREFIX).unwrap_or(text)).ok()?;
                Some(bytes).filter(|bytes| SYMMETRIC_BYTES.contains(&bytes.len()))?
            }
            Self::Whpk => base64(text.ok()?.strip_prefix(PUBLIC_PREFIX)?).ok()?,
        };
        Some(Zeroizing::new(bytes)).filter(|bytes| !bytes.is_empty())
    }
}

impl VerificationKey {
    pub(crate) fn read(
        form: KeyForm,
        algorithm: SignatureAlgorithm,
        secret: &Secret,
    ) -> Result<Self, SecretError> {
        let text = trimmed(secret)?;
        let wrong = SecretError::Form { expected: form.expected() };
        let bytes = form.bytes(text).ok_or(wrong)?;
        let mac = |algorithm| Ok(Self::Mac(Box::new(hmac::Key::new(algorithm, &bytes))));
        let public = |algorithm: &'static dyn signature::VerificationAlgorithm| {
            signature::ParsedPublicKey::new(algorithm, &**bytes)
                .map(Self::Public)
                .map_err(|_| wrong)
        };
        match algorithm {
            SignatureAlgorithm::HmacSha1 => mac(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY),
            SignatureAlgorithm::HmacSha256 => mac(hmac::HMAC_SHA256),
            SignatureAlgorithm::HmacSha512 => mac(hmac::HMAC_SHA512),
            SignatureAlgorithm::Ed25519 => public(&signature::ED25519),
            SignatureAlgorithm::EcdsaP256Sha256 => public(&signature::ECDSA_P256_SHA256_ASN1),
            SignatureAlgorithm::Equal => Ok(Self::Token(secret.clone())),
        }
    }

    /// Whether `signature` is that of `message` by this key. A token is compared with `signature` alone.
    pub(crate) fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        match self {
            Self::Mac(key) => hmac::verify(key, message, signature).is_ok(),
            Self::Public(key) => key.verify_sig(message, signature).is_ok(),
            Self::Token(token) => is_equal(token.expose(), signature),
        }
    }

    /// The MAC of `message`; `None` for other algorithms.
    pub(crate) fn mac(&self, message: &[u8]) -> Option<hmac::Tag> {
        match self {
            Self::Mac(key) => Some(hmac::sign(key, message)),
            Self::Public(_) | Self::Token(_) => None,
        }
    }

    /// The verify token that this key gives: the first half of a MAC, in hexadecimal digits.
    pub(crate) fn verify_token(&self) -> Option<String> {
        let mac = self.mac(VERIFY_TOKEN)?;
        Some(HEXLOWER.encode(&mac.as_ref()[..mac.as_ref().len() / 2]))
    }
}

/// The bytes of a secret.
///
/// # Errors
/// When there are none, or space is around them.
pub(crate) fn trimmed(secret: &Secret) -> Result<&[u8], SecretError> {
    let text = secret.expose();
    match (text.first(), text.last()) {
        (Some(first), Some(last)) => {
            match first.is_ascii_whitespace() || last.is_ascii_whitespace() {
                true => Err(SecretError::SurroundingSpace),
                false => Ok(text),
            }
        }
        _ => Err(SecretError::Empty),
    }
}

/// The accepted senders or receivers, for schemes whose keys are fetched: the current text and, after a change, the
/// former one.
pub(crate) fn texts(secrets: &[Secret]) -> Vec<&str> {
    secrets.iter().filter_map(Secret::expose_text).collect()
}

/// Whether two texts are equal, in constant time for texts of the same length.
pub(crate) fn is_equal(one: &[u8], other: &[u8]) -> bool {
    constant_time::verify_slices_are_equal(one, other).is_ok()
}

/// Whether a secret that a service hands over is among those known.
pub(crate) fn is_known(secrets: &[Secret], text: &str) -> bool {
    secrets.iter().any(|secret| is_equal(secret.expose(), text.as_bytes()))
}

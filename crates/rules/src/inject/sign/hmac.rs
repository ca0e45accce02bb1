//! [`HmacScheme`]: a signature of a request by an HMAC, as data: what is signed, with which key, and how the result is
//! written.

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use data_encoding::HEXLOWER;
use serde::Deserialize;

use super::error::SignError;
use super::jwt::KeyEncoding;
use super::message::{MessageValues, SignedMessage};

/// How requests are signed.
#[derive(Clone, Debug, PartialEq)]
pub struct HmacScheme {
    pub algorithm: HmacAlgorithm,
    /// The field of the key.
    pub key: Box<str>,
    /// How the field encodes the key.
    pub key_encoding: KeyEncoding,
    /// The text that is signed.
    pub message: SignedMessage,
    /// How the signature is written.
    pub encoding: SignatureEncoding,
}

/// The hash function of an HMAC.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "snake_case")]
pub enum HmacAlgorithm {
    /// HMAC-SHA-1, which old services use.
    Sha1,
    /// HMAC-SHA-256.
    #[default]
    Sha256,
    /// HMAC-SHA-384.
    Sha384,
    /// HMAC-SHA-512.
    Sha512,
}

/// How a signature is written.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "snake_case")]
pub enum SignatureEncoding {
    /// Lower-case hexadecimal digits.
    #[default]
    Hex,
    /// Base64 with padding.
    Base64,
}

impl HmacScheme {
    /// The signature of a request.
    ///
    /// # Errors
    /// When a field is missing, or the key is not encoded as declared.
    pub fn sign(&self, values: &MessageValues<'_>) -> Result<String, SignError> {
        let key = values.fields.get(&*self.key).ok_or(SignError::FieldMissing)?;
        let key = self.key_encoding.decode(key.expose())?;
        let message = self.message.render(values)?;
        let tag = self.algorithm.sign(&key, &message);
        Ok(match self.encoding {
            SignatureEncoding::Hex => HEXLOWER.encode(&tag),
            SignatureEncoding::Base64 => STANDARD.encode(tag),
        })
    }
}

impl HmacAlgorithm {
    /// The HMAC of a message (RFC 2104).
    pub fn sign(self, key: &[u8], message: &[u8]) -> Vec<u8> {
        let algorithm = match self {
            Self::Sha1 => hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY,
            Self::Sha256 => hmac::HMAC_SHA256,
            Self::Sha384 => hmac::HMAC_SHA384,
            Self::Sha512 => hmac::HMAC_SHA512,
        };
        hmac::sign(&hmac::Key::new(algorithm, key), message).as_ref().to_vec()
    }
}

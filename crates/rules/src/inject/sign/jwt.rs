//! [`JwtTemplate`]: a token that the owner's key signs here, without a token endpoint (RFC 7519).

use std::collections::BTreeMap;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use data_encoding::HEXLOWER_PERMISSIVE;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde::Deserialize;
use serde_json::Value;
use zeroize::Zeroizing;

use super::error::SignError;
use super::jwt_key::{fingerprint, private_key};
use super::message::{MessageValues, SignedMessage};
use crate::inject::json_template::JsonTemplate;
use keyward_base::secret::Secret;

/// What a message of a token may name beside fields: the fingerprint of its public key.
pub const FINGERPRINT: &str = "key_fingerprint";

/// Header, claims and key of a token, as data.
#[derive(Clone, Debug, PartialEq)]
pub struct JwtTemplate {
    /// The signature algorithm; `None`: the key's usual one.
    pub algorithm: Option<Algorithm>,
    /// The field of the key.
    pub key: Box<str>,
    /// How the field encodes the key.
    pub encoding: KeyEncoding,
    /// What separates the key's id from the key, where both are in one field.
    pub id_ends_at: Option<char>,
    pub key_id: Option<SignedMessage>,
    /// More members of the header.
    pub header: Vec<(String, SignedMessage)>,
    /// The claims beside `iat` and `exp`.
    pub claims: JsonTemplate,
    /// The lifetime of a token.
    pub life: Duration,
}

/// How a field encodes a key.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "snake_case")]
pub enum KeyEncoding {
    /// A private key, or the bytes of the text as a shared secret.
    #[default]
    Text,
    /// Hexadecimal digits of a shared secret.
    Hex,
    /// A shared secret in base64.
    Base64,
}

impl KeyEncoding {
    /// The bytes of a key.
    ///
    /// # Errors
    /// When the text is not in this encoding.
    pub fn decode(self, text: &[u8]) -> Result<Zeroizing<Vec<u8>>, SignError> {
        let bytes = match self {
            Self::Text => text.to_vec(),
            Self::Base64 => STANDARD.decode(text).map_err(|_| SignError::Key)?,
            Self::Hex => HEXLOWER_PERMISSIVE.decode(text).map_err(|_| SignError::Key)?,
        };
        Ok(Zeroizing::new(bytes))
    }
}

impl JwtTemplate {
    pub fn messages(&self) -> Vec<&SignedMessage> {
        let mut all = self.claims.messages();
        all.extend(self.key_id.as_ref());
        all.extend(self.header.iter().map(|(_, message)| message));
        all
    }

    /// Whether each request has its own token.
    pub fn is_per_request(&self) -> bool {
        self.messages().iter().any(|message| message.needs_request())
    }

    /// Whether a token depends on the request's body.
    pub fn needs_body(&self) -> bool {
        self.messages().iter().any(|message| message.needs_body())
    }

    /// Whether the key is a text that the service has too, and no private key.
    pub fn has_shared_key(&self) -> bool {
        use Algorithm as A;
        matches!(self.algorithm, Some(A::HS256 | A::HS384 | A::HS512))
    }

    /// Signs a token.
    ///
    /// # Errors
    /// When a field is missing, or the key does not fit.
    pub fn sign(&self, values: &MessageValues<'_>) -> Result<Secret, SignError> {
        let secret = values.fields.get(&*self.key).ok_or(SignError::FieldMissing)?;
        let (id, key) = self.split(secret.expose())?;
        let more = self.more_fields(values.fields, key)?;
        let values = match &more {
            Some(fields) => MessageValues { fields, ..*values },
            None => *values,
        };
        let (algorithm, key) = self.key(key)?;
        let mut header = Header::new(algorithm);
        header.kid = id.map(str::to_owned);
        if let Some(message) = &self.key_id {
            header.kid = Some(text(message, &values)?);
        }
        for (name, message) in &self.header {
            header.extras.insert(name, text(message, &values)?);
        }
        let mut claims = self.claims.value(&values)?;
        let now = values.now.as_second();
        let seconds = i64::try_from(self.life.as_secs()).unwrap_or(i64::MAX);
        if let Value::Object(claims) = &mut claims {
            claims.insert("iat".to_owned(), now.into());
            claims.insert("exp".to_owned(), now.saturating_add(seconds).into());
        }
        let signed = jsonwebtoken::encode(&header, &claims, &key).map_err(|_| SignError::Key)?;
        Ok(Secret::from(signed))
    }

    /// The key's id, if it is in the field, and the key.
    fn split<'k>(&self, field: &'k [u8]) -> Result<(Option<&'k str>, &'k [u8]), SignError> {
        let Some(separator) = self.id_ends_at else { return Ok((None, field)) };
        let text = std::str::from_utf8(field).map_err(|_| SignError::Key)?;
        let (id, key) = text.split_once(separator).ok_or(SignError::Key)?;
        Ok((Some(id), key.as_bytes()))
    }

    fn key(&self, text: &[u8]) -> Result<(Algorithm, EncodingKey), SignError> {
        match self.algorithm {
            Some(algorithm) if self.has_shared_key() => {
                Ok((algorithm, EncodingKey::from_secret(&self.encoding.decode(text)?)))
            }
            wanted => private_key(text, wanted),
        }
    }

    /// The fields, with the fingerprint of the key where a message names it.
    fn more_fields(
        &self,
        fields: &BTreeMap<String, Secret>,
        key: &[u8],
    ) -> Result<Option<BTreeMap<String, Secret>>, SignError> {
        if !self.messages().iter().any(|it| it.fields().any(|name| name == FINGERPRINT)) {
            return Ok(None);
        }
        let mut fields = fields.clone();
        fields.insert(FINGERPRINT.to_owned(), Secret::from(fingerprint(key)?));
        Ok(Some(fields))
    }
}

fn text(message: &SignedMessage, values: &MessageValues<'_>) -> Result<String, SignError> {
    let bytes = message.render(values)?;
    String::from_utf8(bytes.to_vec()).map_err(|_| SignError::Unsignable)
}

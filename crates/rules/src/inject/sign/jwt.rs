//! [`JwtTemplate`]: a token that the owner's key signs here, without a token endpoint (RFC 7519); and its keys: private
//! keys in PEM or base64, and shared secrets.

use std::collections::BTreeMap;
use std::time::Duration;

use aws_lc_rs::encoding::AsDer as _;
use aws_lc_rs::rsa;
use aws_lc_rs::signature::KeyPair as _;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use data_encoding::HEXLOWER_PERMISSIVE;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde::Deserialize;
use serde_json::Value;
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use super::error::SignError;
use super::message::{MessageValues, SignedMessage};
use crate::inject::json_template::JsonTemplate;
use keyward_base::secret::Secret;

/// What a message of a token may name beside fields: the fingerprint of its public key.
pub const FINGERPRINT: &str = "key_fingerprint";
const RSA: [Algorithm; 6] = [
    Algorithm::RS256,
    Algorithm::RS384,
    Algorithm::RS512,
    Algorithm::PS256,
    Algorithm::PS384,
    Algorithm::PS512,
];

/// The beginning of an Ed25519 key in PKCS #8 (RFC 8410 §7), before its 32 bytes.
const ED25519: [u8; 16] = [48, 46, 2, 1, 0, 48, 5, 6, 3, 43, 101, 112, 4, 34, 4, 32];

/// Version and algorithm of a P-256 key in PKCS #8 (RFC 5208 §5, RFC 5480 §2.1.1).
const P256: [u8; 24] =
    [2, 1, 0, 48, 19, 6, 7, 42, 134, 72, 206, 61, 2, 1, 6, 8, 42, 134, 72, 206, 61, 3, 1, 7];

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

/// Reads a private key: PEM (RSA in PKCS #1 or #8; P-256, P-384 and Ed25519 in PKCS #8; P-256 in SEC 1), also with
/// `\n` written as two characters; or an Ed25519 key in base64, 32 bytes or followed by its public key. Returns its
/// algorithm: the one that is wanted, or the key's usual one.
///
/// # Errors
/// When it is none of these, or does not fit the algorithm.
pub fn private_key(
    text: &[u8],
    wanted: Option<Algorithm>,
) -> Result<(Algorithm, EncodingKey), SignError> {
    use Algorithm as A;
    let usual = |usual: A, of: &[A]| match wanted {
        None => Ok(usual),
        Some(wanted) if of.contains(&wanted) => Ok(wanted),
        Some(_) => Err(SignError::KeyAlgorithm),
    };
    let pem = with_lines(text);
    if let Ok(key) = EncodingKey::from_rsa_pem(&pem) {
        return Ok((usual(A::RS256, &RSA)?, key));
    }
    if let Ok(key) = EncodingKey::from_ed_pem(&pem) {
        return Ok((usual(A::EdDSA, &[A::EdDSA])?, key));
    }
    if let Some(der) = ed25519(text) {
        return Ok((usual(A::EdDSA, &[A::EdDSA])?, EncodingKey::from_ed_der(&der)));
    }
    let key = match sec1(&pem) {
        Some(der) => EncodingKey::from_ec_der(&der),
        None => EncodingKey::from_ec_pem(&pem).map_err(|_| SignError::Key)?,
    };
    // The curve is known only when signing.
    let curve = [A::ES256, A::ES384]
        .into_iter()
        .find(|curve| jsonwebtoken::crypto::sign(b"", &key, *curve).is_ok());
    let curve = curve.ok_or(SignError::Key)?;
    Ok((usual(curve, &[curve])?, key))
}

/// SHA-256 of the public key in DER, in base64, as Snowflake writes it.
/// <https://docs.snowflake.com/en/developer-guide/sql-api/authenticating>
///
/// # Errors
/// When the key is not an RSA key.
pub fn fingerprint(text: &[u8]) -> Result<String, SignError> {
    let pem = with_lines(text);
    let pair = match (der(&pem, "PRIVATE KEY"), der(&pem, "RSA PRIVATE KEY")) {
        (Some(pkcs8), _) => rsa::KeyPair::from_pkcs8(&pkcs8),
        (None, Some(pkcs1)) => rsa::KeyPair::from_der(&pkcs1),
        (None, None) => return Err(SignError::Key),
    };
    let pair = pair.map_err(|_| SignError::Key)?;
    let public = pair.public_key().as_der().map_err(|_| SignError::Key)?;
    Ok(format!("SHA256:{}", STANDARD.encode(Sha256::digest(public.as_ref()))))
}

/// PEM with line breaks; JSON files are often pasted with `\n` in their place.
fn with_lines(text: &[u8]) -> Zeroizing<Vec<u8>> {
    let mut lines = Zeroizing::new(Vec::with_capacity(text.len()));
    let mut rest = text;
    while let Some((first, tail)) = rest.split_first() {
        match tail.first() {
            Some(b'n') if *first == b'\\' => {
                lines.push(b'\n');
                rest = &tail[1..];
            }
            _ => {
                lines.push(*first);
                rest = tail;
            }
        }
    }
    lines
}

/// An Ed25519 key as PKCS #8.
fn ed25519(text: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let bytes = Zeroizing::new(STANDARD.decode(text.trim_ascii()).ok()?);
    let seed = match bytes.len() {
        32 | 64 => &bytes[..32],
        _ => return None,
    };
    Some(Zeroizing::new([&ED25519, seed].concat()))
}

/// A P-256 key of SEC 1 as PKCS #8, which the JWT library reads.
fn sec1(pem: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let key = der(pem, "EC PRIVATE KEY")?;
    let octets = Zeroizing::new([&der_head(4, key.len())?, &**key].concat());
    let head = der_head(48, P256.len() + octets.len())?;
    Some(Zeroizing::new([&head, &P256[..], &**octets].concat()))
}

/// The bytes of a PEM block with this label (RFC 7468).
fn der(pem: &[u8], label: &str) -> Option<Zeroizing<Vec<u8>>> {
    let text = std::str::from_utf8(pem).ok()?.trim();
    let body = text.strip_prefix("-----BEGIN ")?.strip_prefix(label)?.strip_prefix("-----")?;
    let body = body.strip_suffix("-----")?.strip_suffix(label)?.strip_suffix("-----END ")?;
    let body = Zeroizing::new(body.split_whitespace().collect::<String>());
    Some(Zeroizing::new(STANDARD.decode(body.as_bytes()).ok()?))
}

/// Tag and length of a DER value shorter than 256 bytes, as keys of this curve are.
fn der_head(tag: u8, bytes: usize) -> Option<Vec<u8>> {
    match u8::try_from(bytes).ok()? {
        bytes @ ..128 => Some(vec![tag, bytes]),
        bytes => Some(vec![tag, 0x81, bytes]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 8037 §A.1: the key pair of its examples.
    const SEED: &str = "nWGxne/9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A=";

    /// RFC 9500 §2.3: a P-256 key that is published for tests, in SEC 1.
    const EC: &str = "-----BEGIN EC PRIVATE KEY-----
MHcCAQEEIObLW92AqkWunJXowVR2Z5/+yVPBaFHnEedDk5WJxk/BoAoGCCqGSM49
AwEHoUQDQgAEQiVI+I+3gv+17KN0RFLHKh5Vj71vc75eSOkyMsxFxbFsTNEMTLjV
uKFxOelIgsiZJXKZNCX0FBmrfpCkKklCcg==
-----END EC PRIVATE KEY-----";

    #[test]
    fn an_invalid_key_and_an_algorithm_of_another_key_type_are_refused() {
        for bad in
            ["", "secret", "-----BEGIN EC PRIVATE KEY-----\nAAAA\n-----END EC PRIVATE KEY-----"]
        {
            assert_eq!(private_key(bad.as_bytes(), None).err(), Some(SignError::Key), "{bad}");
        }
        let other = private_key(SEED.as_bytes(), Some(Algorithm::ES256));
        assert_eq!(other.err(), Some(SignError::KeyAlgorithm));
        assert_eq!(fingerprint(EC.as_bytes()), Err(SignError::Key));
    }

    #[test]
    fn a_key_in_base64_or_in_sec_1_signs() {
        let one_line = EC.replace('\n', "\\n");
        for (text, expected) in
            [(SEED, Algorithm::EdDSA), (EC, Algorithm::ES256), (&one_line, Algorithm::ES256)]
        {
            let (algorithm, key) = private_key(text.as_bytes(), None).unwrap();
            assert_eq!(algorithm, expected);
            assert!(jsonwebtoken::crypto::sign(b"x", &key, algorithm).is_ok());
        }
    }

    /// RFC 8037 §A.4: the signature of its example.
    #[test]
    fn a_signature_of_ed25519_is_the_published_one() {
        let (algorithm, key) = private_key(SEED.as_bytes(), None).unwrap();
        let input = b"eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc";
        let signature = jsonwebtoken::crypto::sign(input, &key, algorithm).unwrap();
        let published = "hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg";
        assert_eq!(signature, published);
    }
}

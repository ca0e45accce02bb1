//! Keys of tokens: private keys in PEM or base64, and shared secrets.

use aws_lc_rs::encoding::AsDer as _;
use aws_lc_rs::rsa;
use aws_lc_rs::signature::KeyPair as _;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jsonwebtoken::{Algorithm, EncodingKey};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use super::error::SignError;

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

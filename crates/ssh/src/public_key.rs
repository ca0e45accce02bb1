//! Verification of signatures of host keys: Ed25519 (RFC 8709), ECDSA (RFC 5656), RSA with SHA-2 (RFC 8332). Certificates
//! of hosts and RSA with SHA-1 are not accepted.

use aws_lc_rs::rsa::PublicKeyComponents;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ECDSA_P521_SHA512_FIXED, ED25519,
    EcdsaVerificationAlgorithm, RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_2048_8192_SHA512,
    UnparsedPublicKey,
};

use super::wire::{MalformedMessage, WireReader};

#[derive(Debug)]
pub struct HostKey<'a>(KeyKind<'a>);

#[derive(Debug)]
enum KeyKind<'a> {
    Ed25519(&'a [u8]),
    Ecdsa { curve: &'static Curve, point: &'a [u8] },
    Rsa { e: &'a [u8], n: &'a [u8] },
}

/// A curve of ECDSA.
#[derive(Debug)]
struct Curve {
    key_type: &'static str,
    name: &'static str,
    /// Bytes of each of the two numbers of a signature.
    number_bytes: usize,
    algorithm: &'static EcdsaVerificationAlgorithm,
}

const CURVES: &[Curve] = &[
    Curve {
        key_type: "ecdsa-sha2-nistp256",
        name: "nistp256",
        number_bytes: 32,
        algorithm: &ECDSA_P256_SHA256_FIXED,
    },
    Curve {
        key_type: "ecdsa-sha2-nistp384",
        name: "nistp384",
        number_bytes: 48,
        algorithm: &ECDSA_P384_SHA384_FIXED,
    },
    Curve {
        key_type: "ecdsa-sha2-nistp521",
        name: "nistp521",
        number_bytes: 66,
        algorithm: &ECDSA_P521_SHA512_FIXED,
    },
];

impl<'a> HostKey<'a> {
    /// Parses a public key in the protocol's form.
    ///
    /// # Errors
    /// When it is malformed, or of another kind.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, MalformedMessage> {
        let mut reader = WireReader::new(bytes);
        let kind = match reader.text()? {
            "ssh-ed25519" => KeyKind::Ed25519(reader.string()?),
            "ssh-rsa" => KeyKind::Rsa { e: reader.integer()?, n: reader.integer()? },
            other => {
                let curve =
                    CURVES.iter().find(|curve| curve.key_type == other).ok_or(MalformedMessage)?;
                if reader.text()? != curve.name {
                    return Err(MalformedMessage);
                }
                KeyKind::Ecdsa { curve, point: reader.string()? }
            }
        };
        reader.end()?;
        Ok(Self(kind))
    }

    /// Whether it has signed the text.
    pub fn verifies(&self, text: &[u8], signature: &[u8]) -> bool {
        self.verify(text, signature).unwrap_or(false)
    }

    fn verify(&self, text: &[u8], signature: &[u8]) -> Result<bool, MalformedMessage> {
        let mut reader = WireReader::new(signature);
        let (algorithm, blob) = (reader.text()?, reader.string()?);
        reader.end()?;
        Ok(match &self.0 {
            KeyKind::Ed25519(key) => {
                let is_it = algorithm == "ssh-ed25519";
                is_it && UnparsedPublicKey::new(&ED25519, key).verify(text, blob).is_ok()
            }
            KeyKind::Ecdsa { curve, point } => {
                let fixed = curve.fixed(blob)?;
                let key = UnparsedPublicKey::new(curve.algorithm, point);
                algorithm == curve.key_type && key.verify(text, &fixed).is_ok()
            }
            KeyKind::Rsa { e, n } => {
                let by = match algorithm {
                    "rsa-sha2-256" => &RSA_PKCS1_2048_8192_SHA256,
                    "rsa-sha2-512" => &RSA_PKCS1_2048_8192_SHA512,
                    _ => return Ok(false),
                };
                PublicKeyComponents { n, e }.verify(by, text, blob).is_ok()
            }
        })
    }
}

impl Curve {
    /// Both numbers of a signature, one after the other.
    fn fixed(&self, blob: &[u8]) -> Result<Vec<u8>, MalformedMessage> {
        let mut reader = WireReader::new(blob);
        let mut out = Vec::with_capacity(2 * self.number_bytes);
        for _ in 0..2 {
            let number = reader.integer()?;
            let padding = self.number_bytes.checked_sub(number.len()).ok_or(MalformedMessage)?;
            out.resize(out.len() + padding, 0);
            out.extend_from_slice(number);
        }
        reader.end()?;
        Ok(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::RsaHash;
    use crate::private_key::tests::{KEYS, key};
    use crate::wire::put_string;

    #[test]
    fn a_signature_of_another_text_or_key_or_with_sha1_does_not_verify() {
        for (at, text) in KEYS.iter().enumerate() {
            let (own, other) = (key(text), key(KEYS[(at + 1) % KEYS.len()]));
            let signature = own.sign(b"text", RsaHash::Sha256).expect("a signature");
            let public = HostKey::parse(own.public()).expect("a key");
            assert!(public.verifies(b"text", &signature));
            assert!(!public.verifies(b"texts", &signature));
            assert!(!HostKey::parse(other.public()).expect("a key").verifies(b"text", &signature));
            let mut old = Vec::new();
            put_string(&mut old, b"ssh-rsa");
            put_string(
                &mut old,
                WireReader::new(&signature[4 + algorithm_len(&signature)..])
                    .string()
                    .expect("a blob"),
            );
            assert!(!public.verifies(b"text", &old));
        }
    }

    fn algorithm_len(signature: &[u8]) -> usize {
        WireReader::new(signature).string().expect("a name").len()
    }

    #[test]
    fn a_host_key_of_an_unsupported_algorithm_is_refused() {
        for name in ["ssh-dss", "ssh-ed25519-cert-v01@openssh.com", "sk-ssh-ed25519@openssh.com"] {
            let mut bytes = Vec::new();
            put_string(&mut bytes, name.as_bytes());
            put_string(&mut bytes, &[0; 32]);
            assert!(HostKey::parse(&bytes).is_err(), "{name}");
        }
    }
}

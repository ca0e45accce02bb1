//! Private keys in OpenSSH's format, and their signatures: Ed25519, ECDSA on P-256 and P-384, RSA with SHA-2. Key material
//! is wiped when the key is dropped, as far as aws-lc does it.

use std::fmt;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{KeyPairComponents, PublicKeyComponents};
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair,
    EcdsaSigningAlgorithm, Ed25519KeyPair, RSA_PKCS1_SHA256, RSA_PKCS1_SHA512, RsaKeyPair,
};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use num_bigint::BigUint;
use ssh_key::LineEnding;
use ssh_key::private::{EcdsaKeypair, KeypairData, RsaKeypair};
use zeroize::Zeroizing;

use super::agent::RsaHash;
use super::wire::{put_integer, put_string};
use keyward_base::secret::Secret;

/// The lines around a key, PROTOCOL.key of OpenSSH.
const BEGIN: &[u8] = b"-----BEGIN OPENSSH PRIVATE KEY-----";
const END: &[u8] = b"-----END OPENSSH PRIVATE KEY-----";

pub struct PrivateKey {
    pair: KeyPair,
    public: Vec<u8>,
}

enum KeyPair {
    Ed25519(Ed25519KeyPair),
    /// With the name of the algorithm.
    Ecdsa(EcdsaKeyPair, &'static str),
    Rsa(RsaKeyPair),
}

/// Why a text is no usable private key.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum KeyError {
    /// It is not in OpenSSH's format.
    #[error("this is not a private key in OpenSSH's format; convert it: ssh-keygen -p -f FILE")]
    Format,
    /// It is encrypted, and no passphrase was given.
    #[error("the private key has a passphrase; give it too")]
    Encrypted,
    /// The passphrase is wrong.
    #[error("the passphrase is not that of the private key")]
    Passphrase,
    /// DSA, security keys and others.
    #[error("keys of this kind are not supported; make one: ssh-keygen -t ed25519")]
    Kind,
    /// The numbers of the key do not belong together.
    #[error("the private key is damaged")]
    Damaged,
}

/// A signature that is not made.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum SignError {
    /// RSA with SHA-1.
    #[error("the client requests a signature with SHA-1")]
    Sha1,
    /// The cryptographic library failed.
    #[error("the signature failed")]
    Failed,
}

impl PrivateKey {
    /// Reads a key without a passphrase.
    ///
    /// # Errors
    /// When it is not in OpenSSH's format, encrypted, of another kind, or damaged.
    pub fn parse(text: &Secret) -> Result<Self, KeyError> {
        Self::of(&read(text)?)
    }

    /// The text of the same key without a passphrase.
    ///
    /// # Errors
    /// As [`PrivateKey::parse`]; also when the passphrase is wrong.
    pub fn decrypted(text: &Secret, passphrase: &Secret) -> Result<Secret, KeyError> {
        let key = read(text)?;
        if !key.is_encrypted() {
            return Ok(text.clone());
        }
        let key = key.decrypt(passphrase.expose()).map_err(|_| KeyError::Passphrase)?;
        let text = key.to_openssh(LineEnding::LF).map_err(|_| KeyError::Damaged)?;
        Ok(Secret::new(text.trim_ascii_end().as_bytes()))
    }

    fn of(key: &ssh_key::PrivateKey) -> Result<Self, KeyError> {
        if key.is_encrypted() {
            return Err(KeyError::Encrypted);
        }
        let pair = match key.key_data() {
            KeypairData::Ed25519(pair) => {
                let (seed, public) = (pair.private.as_ref(), pair.public.as_ref());
                let pair = Ed25519KeyPair::from_seed_and_public_key(seed, public);
                KeyPair::Ed25519(pair.map_err(|_| KeyError::Damaged)?)
            }
            KeypairData::Ecdsa(EcdsaKeypair::NistP256 { public, private }) => {
                let by = &ECDSA_P256_SHA256_FIXED_SIGNING;
                let pair = ecdsa(by, private.as_slice(), public.as_bytes())?;
                KeyPair::Ecdsa(pair, "ecdsa-sha2-nistp256")
            }
            KeypairData::Ecdsa(EcdsaKeypair::NistP384 { public, private }) => {
                let by = &ECDSA_P384_SHA384_FIXED_SIGNING;
                let pair = ecdsa(by, private.as_slice(), public.as_bytes())?;
                KeyPair::Ecdsa(pair, "ecdsa-sha2-nistp384")
            }
            KeypairData::Rsa(pair) => KeyPair::Rsa(rsa(pair)?),
            _ => return Err(KeyError::Kind),
        };
        let public = key.public_key().to_bytes().map_err(|_| KeyError::Damaged)?;
        Ok(Self { pair, public })
    }

    /// The public key, in the protocol's form.
    pub fn public(&self) -> &[u8] {
        &self.public
    }

    /// The public key as a line of `authorized_keys`, without a comment.
    pub fn public_line(&self) -> String {
        format!("{} {}", self.key_type(), BASE64_STANDARD.encode(&self.public))
    }

    fn key_type(&self) -> &'static str {
        match &self.pair {
            KeyPair::Ed25519(_) => "ssh-ed25519",
            KeyPair::Ecdsa(_, name) => name,
            KeyPair::Rsa(_) => "ssh-rsa",
        }
    }

    /// The name of the signature algorithm.
    pub fn algorithm(&self, hash: RsaHash) -> &'static str {
        match (&self.pair, hash) {
            (KeyPair::Rsa(_), RsaHash::Sha512) => "rsa-sha2-512",
            (KeyPair::Rsa(_), RsaHash::Sha256) => "rsa-sha2-256",
            _ => self.key_type(),
        }
    }

    /// Signs a text. The signature is in the protocol's form.
    ///
    /// # Errors
    /// When RSA with SHA-1 is asked for, or the cryptographic library fails.
    pub fn sign(&self, text: &[u8], hash: RsaHash) -> Result<Vec<u8>, SignError> {
        let random = SystemRandom::new();
        let blob = match &self.pair {
            KeyPair::Ed25519(pair) => pair.sign(text).as_ref().to_vec(),
            KeyPair::Ecdsa(pair, _) => {
                let signature = pair.sign(&random, text).map_err(|_| SignError::Failed)?;
                let (r, s) = signature.as_ref().split_at(signature.as_ref().len() / 2);
                let mut blob = Vec::new();
                put_integer(&mut blob, r);
                put_integer(&mut blob, s);
                blob
            }
            KeyPair::Rsa(pair) => {
                let by = match hash {
                    RsaHash::Sha512 => &RSA_PKCS1_SHA512,
                    RsaHash::Sha256 => &RSA_PKCS1_SHA256,
                    RsaHash::Sha1 => return Err(SignError::Sha1),
                };
                let mut blob = vec![0; pair.public_modulus_len()];
                pair.sign(by, &random, text, &mut blob).map_err(|_| SignError::Failed)?;
                blob
            }
        };
        let mut signature = Vec::new();
        put_string(&mut signature, self.algorithm(hash).as_bytes());
        put_string(&mut signature, &blob);
        Ok(signature)
    }
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PrivateKey").field("public", &self.public_line()).finish_non_exhaustive()
    }
}

fn read(text: &Secret) -> Result<ssh_key::PrivateKey, KeyError> {
    let text = with_lines(text.expose()).ok_or(KeyError::Format)?;
    ssh_key::PrivateKey::from_openssh(&*text).map_err(|_| KeyError::Format)
}

/// The text in lines of 70 characters: a form in a browser may have removed the line breaks.
fn with_lines(text: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let rest = text.trim_ascii().strip_prefix(BEGIN)?;
    let body = rest.strip_suffix(END)?.iter().filter(|byte| !byte.is_ascii_whitespace());
    let body: Zeroizing<Vec<u8>> = Zeroizing::new(body.copied().collect());
    let mut out = Zeroizing::new(Vec::with_capacity(2 * text.len() + BEGIN.len() + END.len()));
    out.extend_from_slice(BEGIN);
    out.push(b'\n');
    for line in body.chunks(70) {
        out.extend_from_slice(line);
        out.push(b'\n');
    }
    out.extend_from_slice(END);
    out.push(b'\n');
    Some(out)
}

fn ecdsa(
    by: &'static EcdsaSigningAlgorithm,
    private: &[u8],
    public: &[u8],
) -> Result<EcdsaKeyPair, KeyError> {
    let pair = EcdsaKeyPair::from_private_key_and_public_key(by, private, public);
    pair.map_err(|_| KeyError::Damaged)
}

/// OpenSSH's format omits two numbers: `dP = d mod (p - 1)` and `dQ = d mod (q - 1)` (RFC 8017 §3.2).
fn rsa(pair: &RsaKeypair) -> Result<RsaKeyPair, KeyError> {
    let number = |it: &ssh_key::Mpint| {
        it.as_positive_bytes().map(|bytes| Zeroizing::new(bytes.to_vec())).ok_or(KeyError::Damaged)
    };
    let [n, e, d] = [&pair.public.n, &pair.public.e, &pair.private.d].map(number);
    let [p, q, inverse] = [&pair.private.p, &pair.private.q, &pair.private.iqmp].map(number);
    let (n, e, d, p, q) = (n?, e?, d?, p?, q?);
    let below = |prime: &[u8]| {
        let prime = BigUint::from_bytes_be(prime);
        let one = BigUint::from(1_u8);
        if prime <= one {
            return Err(KeyError::Damaged);
        }
        Ok(Zeroizing::new((BigUint::from_bytes_be(&d) % (prime - one)).to_bytes_be()))
    };
    let components = KeyPairComponents {
        public_key: PublicKeyComponents { n: n.as_slice(), e: e.as_slice() },
        d: d.as_slice(),
        p: p.as_slice(),
        q: q.as_slice(),
        dP: &below(&p)?,
        dQ: &below(&q)?,
        qInv: &inverse?,
    };
    RsaKeyPair::from_components(&components).map_err(|_| KeyError::Damaged)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Keys of tests, of each kind.
    pub(crate) const KEYS: [&str; 4] = [
        include_str!("test_keys/ed25519"),
        include_str!("test_keys/ecdsa"),
        include_str!("test_keys/ecdsa384"),
        include_str!("test_keys/rsa"),
    ];

    pub(crate) fn key(text: &str) -> PrivateKey {
        PrivateKey::parse(&Secret::from(text.to_owned())).expect("a key")
    }

    #[test]
    fn text_that_is_no_unencrypted_openssh_key_is_refused() {
        let refused = |text: &str| PrivateKey::parse(&Secret::from(text.to_owned())).map(|_| ());
        let pem = "-----BEGIN RSA PRIVATE KEY-----\nMIIB\n-----END RSA PRIVATE KEY-----\n";
        for bad in ["", "ssh-ed25519 AAAA", pem, &KEYS[0][..200]] {
            assert_eq!(refused(bad), Err(KeyError::Format), "{bad}");
        }
        assert_eq!(refused(include_str!("test_keys/encrypted")), Err(KeyError::Encrypted));
    }

    #[test]
    fn a_passphrase_opens_the_same_key() {
        let secret = |text: &str| Secret::from(text.to_owned());
        let encrypted = secret(include_str!("test_keys/encrypted"));
        let wrong = PrivateKey::decrypted(&encrypted, &secret("wrong")).map(|_| ());
        assert_eq!(wrong, Err(KeyError::Passphrase));
        let opened = PrivateKey::decrypted(&encrypted, &secret("a passphrase")).expect("opened");
        let opened = PrivateKey::parse(&opened).expect("a key");
        assert_eq!(opened.public(), key(KEYS[0]).public());
        let line = include_str!("test_keys/ed25519.pub");
        assert!(line.starts_with(&opened.public_line()), "{line}");
    }

    #[test]
    fn a_private_key_is_read_with_missing_or_crlf_line_breaks() {
        for text in KEYS {
            for joined in
                [text.replace('\n', ""), text.replace('\n', "\r\n"), text.trim().to_owned()]
            {
                assert_eq!(key(&joined).public(), key(text).public());
            }
        }
    }

    #[test]
    fn rsa_does_not_sign_with_sha1() {
        assert_eq!(key(KEYS[3]).sign(b"x", RsaHash::Sha1), Err(SignError::Sha1));
        assert!(key(KEYS[0]).sign(b"x", RsaHash::Sha1).is_ok(), "others have a hash of their own");
    }

    #[test]
    fn debug_shows_the_public_key_alone() {
        let shown = format!("{:?}", key(KEYS[0]));
        assert!(shown.contains("ssh-ed25519 AAAA") && !shown.contains("PRIVATE"), "{shown}");
    }
}

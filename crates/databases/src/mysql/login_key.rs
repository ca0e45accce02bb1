//! [`LoginKey`]: the RSA key to which clients encrypt their tokens where the stream has no TLS, as `caching_sha2_password` does
//! (<https://dev.mysql.com/doc/dev/mysql-server/latest/page_caching_sha2_authentication_exchanges.html>). Such streams are on
//! this machine alone. The key is made when it is first needed, and lives as long as the listener.
//!
//! [`ed25519_answer`]: the answer of MariaDB's plugin `client_ed25519`, a signature of the server's challenge (RFC 8032 §5.1.6).
//! Its key is the SHA-512 of the password, which may have any length; standard Ed25519 hashes a seed of 32 bytes.
//! <https://mariadb.com/docs/server/reference/clientserver-protocol/1-connecting/connection#client_ed25519-plugin>

use aws_lc_rs::encoding::{AsDer, PublicKeyX509Der};
use aws_lc_rs::rsa::{
    KeySize, OAEP_SHA1_MGF1SHA1, OaepPrivateDecryptingKey, OaepPublicEncryptingKey,
    PrivateDecryptingKey, PublicEncryptingKey,
};
use data_encoding::BASE64;
use ed25519_dalek::VerifyingKey;
use ed25519_dalek::hazmat::{ExpandedSecretKey, raw_sign};
use sha2::{Digest, Sha512};
use tokio::sync::OnceCell;
use zeroize::Zeroizing;

const BEGIN: &str = "-----BEGIN PUBLIC KEY-----\n";
const END: &str = "-----END PUBLIC KEY-----\n";

/// The key of a listener.
#[derive(Debug, Default)]
pub struct LoginKey(OnceCell<Option<LoginKeyPair>>);

#[derive(Debug)]
pub struct LoginKeyPair {
    private: OaepPrivateDecryptingKey,
    /// The public one, in PEM.
    pub public: String,
}

impl LoginKey {
    /// The pair, made at the first call. `None` when the system has no randomness.
    pub async fn pair(&self) -> Option<&LoginKeyPair> {
        // It takes up to a second: not on a thread that serves streams.
        let made = async || tokio::task::spawn_blocking(LoginKeyPair::new).await.ok().flatten();
        self.0.get_or_init(made).await.as_ref()
    }
}

impl LoginKeyPair {
    fn new() -> Option<Self> {
        let private = PrivateDecryptingKey::generate(KeySize::Rsa2048).ok()?;
        let der: PublicKeyX509Der<'_> = private.public_key().as_der().ok()?;
        let mut public = BEGIN.to_owned();
        for line in BASE64.encode(der.as_ref()).as_bytes().chunks(64) {
            public.push_str(std::str::from_utf8(line).ok()?);
            public.push('\n');
        }
        public.push_str(END);
        Some(Self { private: OaepPrivateDecryptingKey::new(private).ok()?, public })
    }

    /// What was encrypted to the key; `None` for anything else.
    pub fn decrypt(&self, encrypted: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        let mut out = Zeroizing::new(vec![0; self.private.min_output_size()]);
        let length =
            self.private.decrypt(&OAEP_SHA1_MGF1SHA1, encrypted, &mut out, None).ok()?.len();
        out.truncate(length);
        Some(out)
    }
}

/// Encrypts to a server's key in PEM. `None` when that is no RSA key, or too short for the text.
pub fn encrypt(pem: &[u8], text: &[u8]) -> Option<Vec<u8>> {
    let pem = std::str::from_utf8(pem).ok()?;
    let lines = pem.lines().map(str::trim).filter(|line| !line.starts_with('-'));
    let der = BASE64.decode(lines.collect::<String>().as_bytes()).ok()?;
    let key = OaepPublicEncryptingKey::new(PublicEncryptingKey::from_der(&der).ok()?).ok()?;
    let mut out = vec![0; key.ciphertext_size()];
    let length = key.encrypt(&OAEP_SHA1_MGF1SHA1, text, &mut out, None).ok()?.len();
    out.truncate(length);
    Some(out)
}

/// A text with a NUL behind it, each byte combined with the nonce's: what is encrypted.
pub fn combined(text: &[u8], nonce: &[u8]) -> Zeroizing<Vec<u8>> {
    let nonce = nonce.iter().cycle();
    let bytes = text.iter().chain(&[0]).zip(nonce).map(|(byte, nonce)| byte ^ nonce);
    Zeroizing::new(bytes.collect())
}

/// Signs a challenge. The signature allows only offline guessing of the password.
pub fn ed25519_answer(password: &[u8], challenge: &[u8]) -> Zeroizing<Vec<u8>> {
    let hash: Zeroizing<[u8; 64]> = Zeroizing::new(Sha512::digest(password).into());
    // It is wiped when it is dropped.
    let key = ExpandedSecretKey::from_bytes(&hash);
    let public = VerifyingKey::from(&key);
    Zeroizing::new(raw_sign::<Sha512>(&key, challenge, &public).to_bytes().to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_data_that_was_encrypted_to_the_login_key_is_decrypted() {
        let key = LoginKey::default();
        let pair = key.pair().await.expect("a key");
        let encrypted = encrypt(pair.public.as_bytes(), b"secret").expect("a key");
        assert_eq!(pair.decrypt(&encrypted).expect("it is")[..], *b"secret");
        assert!(pair.decrypt(&encrypted[1..]).is_none());
        assert!(pair.decrypt(&vec![7; encrypted.len()]).is_none());
        assert!(encrypt(b"-----BEGIN PUBLIC KEY-----\nno\n", b"secret").is_none());
        assert_eq!(combined(&combined(b"abc", b"xy"), b"xy")[..4], *b"abc\0");
    }

    /// For a password of 32 bytes, the key is that of Ed25519: RFC 8032 §7.1, test 2.
    #[test]
    fn a_password_of_32_bytes_signs_as_rfc_8032_says() {
        let hex = |text: &str| data_encoding::HEXLOWER.decode(text.as_bytes()).unwrap();
        let seed = hex("4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb");
        let expected = hex("92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da\
             085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00");
        assert_eq!(*ed25519_answer(&seed, &[0x72]), expected);
    }
}

//! The answer of MariaDB's plugin `client_ed25519`: a signature of the server's challenge (RFC 8032 §5.1.6). Its key is
//! the SHA-512 of the password, which may have any length; standard Ed25519 hashes a seed of 32 bytes.
//! <https://mariadb.com/docs/server/reference/clientserver-protocol/1-connecting/connection#client_ed25519-plugin>

use ed25519_dalek::VerifyingKey;
use ed25519_dalek::hazmat::{ExpandedSecretKey, raw_sign};
use sha2::{Digest, Sha512};
use zeroize::Zeroizing;

/// Signs a challenge. The signature allows only offline guessing of the password.
pub fn answer(password: &[u8], challenge: &[u8]) -> Zeroizing<Vec<u8>> {
    let hash: Zeroizing<[u8; 64]> = Zeroizing::new(Sha512::digest(password).into());
    // It is wiped when it is dropped.
    let key = ExpandedSecretKey::from_bytes(&hash);
    let public = VerifyingKey::from(&key);
    Zeroizing::new(raw_sign::<Sha512>(&key, challenge, &public).to_bytes().to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// For a password of 32 bytes, the key is that of Ed25519: RFC 8032 §7.1, test 2.
    #[test]
    fn a_password_of_32_bytes_signs_as_rfc_8032_says() {
        let hex = |text: &str| data_encoding::HEXLOWER.decode(text.as_bytes()).unwrap();
        let seed = hex("4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb");
        let expected = hex("92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da\
             085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00");
        assert_eq!(*answer(&seed, &[0x72]), expected);
    }
}

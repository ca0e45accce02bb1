//! Values that only the holder of a credential can decrypt. A credential `0.ID.SECRET:KEY` logs in with ID and SECRET; the
//! answer has the key of the values, encrypted with a key that is derived from KEY. A text of type 2 is `2.IV|CIPHERTEXT|MAC`,
//! each part in base64: AES-256 in CBC mode with the padding of PKCS #7, and MAC = HMAC-SHA-256(IV ‖ CIPHERTEXT). The MAC is
//! compared in constant time before anything is decrypted.

use aws_lc_rs::cipher::{AES_256, DecryptionContext, PaddedBlockDecryptingKey, UnboundCipherKey};
use aws_lc_rs::iv::FixedLength;
use aws_lc_rs::{hkdf, hmac};
use data_encoding::BASE64_NOPAD;
use serde::Deserialize;
use zeroize::Zeroizing;

use super::forms::SealedForm;
use keyward_base::secret::Secret;

/// The key of AES, then that of HMAC.
const KEY_LEN: usize = 2 * HALF_LEN;

const HALF_LEN: usize = 32;

const IV_LEN: usize = 16;

/// The key in a token.
const TOKEN_KEY_LEN: usize = 16;

/// `0.ID.SECRET:KEY`.
pub(super) struct SealingToken<'a> {
    pub(super) id: &'a str,
    pub(super) secret: &'a str,
    key: CipherKey,
}

/// The decrypted part of the answer to a login.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct SealedPayload {
    encryption_key: String,
}

/// A key for texts of type 2. Wiped when dropped.
pub(super) struct CipherKey(Zeroizing<[u8; KEY_LEN]>);

/// Why a text cannot be decrypted.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum DecryptionError {
    /// Another type.
    #[error("it is not of type 2 (AES-256-CBC, HMAC-SHA-256), the only one that is supported")]
    Type,
    /// It does not have three parts in base64, or the decrypted text is malformed.
    #[error("it has an unknown form")]
    Form,
    /// Its MAC is not that of the key.
    #[error("it was changed, or encrypted with another key")]
    Mac,
}

/// The length of what HKDF returns.
struct Length;

impl hkdf::KeyType for Length {
    fn len(&self) -> usize {
        KEY_LEN
    }
}

impl<'a> SealingToken<'a> {
    /// `None` if the text has another form.
    pub(super) fn parse(text: &'a str, form: &SealedForm) -> Option<Self> {
        let (names, key) = text.trim().split_once(':')?;
        let names: Vec<_> = names.split('.').collect();
        let ["0", id, secret] = names.as_slice() else { return None };
        let key: [u8; TOKEN_KEY_LEN] = decoded(key).ok()?.as_slice().try_into().ok()?;
        Some(Self { id, secret, key: CipherKey::of_token(&Zeroizing::new(key), form) })
    }

    /// The key of the values, of the answer to the login.
    pub(super) fn value_key(&self, payload: &str) -> Result<Secret, DecryptionError> {
        let payload = self.key.decrypt(payload)?;
        let SealedPayload { encryption_key } =
            serde_json::from_slice(&payload).map_err(|_| DecryptionError::Form)?;
        let key = decoded(&Zeroizing::new(encryption_key))?;
        CipherKey::new(&key)?;
        Ok(Secret::new(key.to_vec()))
    }
}

impl CipherKey {
    /// The key that decrypts the login's answer: HKDF-SHA-256 (RFC 5869) of the key in the token.
    fn of_token(key: &[u8; TOKEN_KEY_LEN], form: &SealedForm) -> Self {
        let salt = hkdf::Salt::new(hkdf::HKDF_SHA256, form.salt.as_bytes());
        let mut bytes = Zeroizing::new([0; KEY_LEN]);
        let expanded = salt.extract(key);
        let info = [form.info.as_bytes()];
        let expanded = expanded.expand(&info, Length);
        let filled = expanded.and_then(|expanded| expanded.fill(&mut *bytes));
        filled.expect("64 bytes are less than 255 hashes");
        Self(bytes)
    }

    /// A key of [`KEY_LEN`] bytes; keys of other lengths are for other types.
    pub(super) fn new(bytes: &[u8]) -> Result<Self, DecryptionError> {
        let bytes = bytes.try_into().map_err(|_| DecryptionError::Type)?;
        Ok(Self(Zeroizing::new(bytes)))
    }

    pub(super) fn decrypt(&self, text: &str) -> Result<Zeroizing<Vec<u8>>, DecryptionError> {
        let (kind, parts) = text.split_once('.').ok_or(DecryptionError::Form)?;
        if kind != "2" {
            return Err(DecryptionError::Type);
        }
        let parts: Vec<_> = parts.split('|').map(decoded).collect::<Result<_, _>>()?;
        let [iv, ciphertext, mac] = parts.as_slice() else { return Err(DecryptionError::Form) };
        let iv: [u8; IV_LEN] = iv.as_slice().try_into().map_err(|_| DecryptionError::Form)?;
        let (cipher, authentication) = self.0.split_at(HALF_LEN);
        let authentication = hmac::Key::new(hmac::HMAC_SHA256, authentication);
        let authenticated = [iv.as_slice(), ciphertext.as_slice()].concat();
        hmac::verify(&authentication, &authenticated, mac).map_err(|_| DecryptionError::Mac)?;
        let mut buffer = Zeroizing::new(ciphertext.to_vec());
        let context = DecryptionContext::Iv128(FixedLength::from(iv));
        let plain = UnboundCipherKey::new(&AES_256, cipher)
            .and_then(PaddedBlockDecryptingKey::cbc_pkcs7)
            .and_then(|key| key.decrypt(&mut buffer, context).map(|plain| plain.len()))
            .map_err(|_| DecryptionError::Form)?;
        buffer.truncate(plain);
        Ok(buffer)
    }
}

/// Base64, with or without its padding.
fn decoded(text: &str) -> Result<Zeroizing<Vec<u8>>, DecryptionError> {
    let bytes = BASE64_NOPAD.decode(text.trim_end_matches('=').as_bytes());
    bytes.map(Zeroizing::new).map_err(|_| DecryptionError::Form)
}

#[cfg(test)]
mod tests {
    use keyward_model::SourceKind;

    use super::super::forms::requests_of;
    use super::*;

    /// Made by bws-sdk 2.0 of PyPI, another implementation: an access token's key 00 01 … 0f, the organisation's key
    /// 40 41 … 7f, and both texts with the IV c8 c9 … d7.
    const PAYLOAD: &str = "2.yMnKy8zNzs/Q0dLT1NXW1w==|hukLfBgQqJhtT7NFkoYccFfkMYHv8ZTSbpHv5nHHnx7f+/1HxzVPvDdoTehuev0N\
         I6ZzG76k/Ysz9ES7NjEq824rEy+h7zfqYMryz8xI1Y4mTrsC8hmFk2IJsrCdLcJql2RDAcVOv+RKW2okwf61xQ==|\
         BGYeZl1aqGRCqppizWUd2jwKzCG3Dur0wS/JCUH77PQ=";
    const VALUE: &str = "2.yMnKy8zNzs/Q0dLT1NXW1w==|DbiHF8yIzt4wSKZEqcwlvizEczn0gKLryiXzCdNyaVI=|\
         5Txy6+BmVWSU8FMJCKqxv/bhMQsYPHvkgRoiNybNdG0=";

    fn bytes<const N: usize>(first: u8) -> [u8; N] {
        std::array::from_fn(|at| first + u8::try_from(at).unwrap())
    }

    fn form() -> &'static SealedForm {
        let kind = SourceKind::find("bitwarden").unwrap();
        requests_of(kind).unwrap().sealed.as_ref().unwrap()
    }

    fn organisation() -> CipherKey {
        CipherKey::new(&bytes::<KEY_LEN>(0x40)).unwrap()
    }

    #[test]
    fn a_text_that_was_changed_or_is_of_another_key_is_not_decrypted() {
        let parts: Vec<&str> = VALUE[2..].split('|').collect();
        let other = CipherKey::of_token(&bytes(1), form());
        assert_eq!(other.decrypt(VALUE), Err(DecryptionError::Mac));
        for part in 0..parts.len() {
            for at in [0, 5, 20] {
                let mut parts: Vec<String> = parts.iter().map(ToString::to_string).collect();
                let old = parts[part].as_bytes()[at];
                parts[part].replace_range(at..=at, if old == b'A' { "B" } else { "A" });
                let changed = format!("2.{}", parts.join("|"));
                assert_eq!(
                    organisation().decrypt(&changed),
                    Err(DecryptionError::Mac),
                    "{part} {at}"
                );
            }
        }
        // A shorter text has another MAC, and a part of the MAC is not accepted.
        let shorter = format!("2.{}||{}", parts[0], parts[2]);
        assert_eq!(organisation().decrypt(&shorter), Err(DecryptionError::Mac));
        let part_of_mac = format!("2.{}|{}|{}", parts[0], parts[1], &parts[2][..24]);
        assert_eq!(organisation().decrypt(&part_of_mac), Err(DecryptionError::Mac));
    }

    #[test]
    fn a_text_that_is_no_access_token_is_refused() {
        let id = "ec2c1d46-6a4b-4751-a310-af9601317f2d";
        for bad in [
            String::new(),
            format!("0.{id}.canary"),
            format!("1.{id}.canary:AAECAwQFBgcICQoLDA0ODw=="),
            format!("{id}.canary:AAECAwQFBgcICQoLDA0ODw=="),
            format!("0.{id}.can.ary:AAECAwQFBgcICQoLDA0ODw=="),
            format!("0.{id}.canary:AAECAwQFBgcICQoLDA0O"),
            format!("0.{id}.canary:?canary"),
        ] {
            assert!(SealingToken::parse(&bad, form()).is_none(), "{bad}");
        }
        for padding in ["==", "", "==\n"] {
            let text = format!("0.{id}.canary:AAECAwQFBgcICQoLDA0ODw{padding}");
            let token = SealingToken::parse(&text, form()).unwrap();
            assert_eq!((token.id, token.secret), (id, "canary"));
        }
    }

    #[test]
    fn unsupported_types_and_malformed_texts_are_refused() {
        let rest = &VALUE[1..];
        for kind in ["0", "1", "3", "7", "", "22"] {
            let text = format!("{kind}{rest}");
            assert_eq!(organisation().decrypt(&text), Err(DecryptionError::Type), "{text}");
        }
        for text in ["", "2", "2.", "2.AAAA", "2.AAAA|AAAA", "2.AAAA|AAAA|AAAA", "2.?|?|?"] {
            assert_eq!(organisation().decrypt(text), Err(DecryptionError::Form), "{text}");
        }
        let four = format!("{VALUE}|AAAA");
        assert_eq!(organisation().decrypt(&four), Err(DecryptionError::Form));
        for length in [0, 32, 63, 65] {
            let key = CipherKey::new(&vec![1; length]).map(drop);
            assert_eq!(key, Err(DecryptionError::Type), "{length}");
        }
    }

    #[test]
    fn texts_of_another_implementation_are_decrypted() {
        let key = CipherKey::of_token(&bytes(0), form());
        let payload = key.decrypt(PAYLOAD).unwrap();
        let expected = format!(
            "{{\"encryptionKey\": \"{}\"}}",
            data_encoding::BASE64.encode(&bytes::<KEY_LEN>(0x40))
        );
        assert_eq!(std::str::from_utf8(&payload).unwrap(), expected);
        assert_eq!(organisation().decrypt(VALUE).unwrap().as_slice(), b"value of a secret");
    }
}

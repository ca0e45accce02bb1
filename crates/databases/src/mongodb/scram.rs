//! The client's side of SCRAM (RFC 5802, RFC 7677) for servers of MongoDB. The crate for PostgreSQL omits the user's name, which
//! MongoDB needs.

use aws_lc_rs::{digest, hmac, pbkdf2};
use data_encoding::{BASE64, BASE64_NOPAD, HEXLOWER};
use md5::{Digest, Md5};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

/// The rounds of the hash that a server may ask for: at least the minimum of MongoDB clients, because few rounds help a
/// hostile server to guess the password from the proof; at most some seconds of work.
const ROUNDS: std::ops::RangeInclusive<u32> = 4096..=1_000_000;

/// Bytes of the salt that are accepted.
const SALT_BYTES_MAX: usize = 256;

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Mechanism {
    Sha1,
    Sha256,
}

/// Why there is no proof.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ScramError {
    /// The server's message is none of SCRAM.
    Protocol,
    /// It asks for too few rounds, or too many.
    Rounds,
    /// It does not know the password.
    Unproved,
}

/// A login that has begun.
#[derive(Debug)]
pub struct Scram {
    mechanism: Mechanism,
    nonce: String,
    /// `client-first-message-bare`.
    bare: String,
}

/// A login whose server has yet to prove itself.
pub struct Proving {
    /// `client-final-message`.
    pub message: String,
    /// `ServerSignature`.
    expected: Zeroizing<Vec<u8>>,
}

impl Mechanism {
    /// The name in the protocol.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Sha1 => "SCRAM-SHA-1",
            Self::Sha256 => "SCRAM-SHA-256",
        }
    }

    fn hmac(self) -> hmac::Algorithm {
        match self {
            Self::Sha1 => hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY,
            Self::Sha256 => hmac::HMAC_SHA256,
        }
    }

    fn digest(self) -> &'static digest::Algorithm {
        match self {
            Self::Sha1 => &digest::SHA1_FOR_LEGACY_USE_ONLY,
            Self::Sha256 => &digest::SHA256,
        }
    }

    fn pbkdf2(self) -> pbkdf2::Algorithm {
        match self {
            Self::Sha1 => pbkdf2::PBKDF2_HMAC_SHA1,
            Self::Sha256 => pbkdf2::PBKDF2_HMAC_SHA256,
        }
    }

    /// What is hashed: `SASLprep(password)`, or for SHA-1 the hex digest that older servers stored, of `user:mongo:password`.
    /// <https://github.com/mongodb/specifications/blob/master/source/auth/auth.md>
    pub fn secret(self, user: &str, password: &str) -> Zeroizing<String> {
        match self {
            Self::Sha256 => {
                let prepared = stringprep::saslprep(password);
                Zeroizing::new(prepared.map_or_else(|_| password.to_owned(), Into::into))
            }
            Self::Sha1 => {
                let text = Zeroizing::new(format!("{user}:mongo:{password}"));
                Zeroizing::new(HEXLOWER.encode(&Md5::digest(text.as_bytes())))
            }
        }
    }
}

impl Scram {
    /// Begins with a fresh nonce.
    pub fn new(mechanism: Mechanism, user: &str) -> Result<Self, getrandom::Error> {
        let mut random = [0; 24];
        getrandom::fill(&mut random)?;
        Ok(Self::with_nonce(mechanism, user, BASE64.encode(&random)))
    }

    fn with_nonce(mechanism: Mechanism, user: &str, nonce: String) -> Self {
        let user = user.replace('=', "=3D").replace(',', "=2C");
        let bare = format!("n={user},r={nonce}");
        Self { mechanism, nonce, bare }
    }

    /// `client-first-message`: without channel binding, which servers of MongoDB do not offer.
    pub fn message(&self) -> String {
        format!("n,,{}", self.bare)
    }

    /// Answers `server-first-message`. `secret`: of [`Mechanism::secret`]. Takes long: not on a thread that serves streams.
    pub fn prove(self, server_first: &str, secret: &str) -> Result<Proving, ScramError> {
        let mut parts = server_first.split(',');
        let mut part = |name: &str| parts.next()?.strip_prefix(name);
        let (Some(nonce), Some(salt), Some(rounds)) = (part("r="), part("s="), part("i=")) else {
            return Err(ScramError::Protocol);
        };
        // Otherwise the answer may be one to another login.
        if !nonce.starts_with(&self.nonce) || nonce.len() == self.nonce.len() {
            return Err(ScramError::Protocol);
        }
        let salt = BASE64_NOPAD.decode(salt.trim_end_matches('=').as_bytes());
        let salt = salt.map_err(|_| ScramError::Protocol)?;
        let rounds: u32 = rounds.parse().map_err(|_| ScramError::Protocol)?;
        if !ROUNDS.contains(&rounds) {
            return Err(ScramError::Rounds);
        }
        if salt.is_empty() || salt.len() > SALT_BYTES_MAX {
            return Err(ScramError::Protocol);
        }
        let rounds = rounds.try_into().map_err(|_| ScramError::Rounds)?;
        let mechanism = self.mechanism;
        let mut salted = Zeroizing::new(vec![0; mechanism.digest().output_len()]);
        pbkdf2::derive(mechanism.pbkdf2(), rounds, &salt, secret.as_bytes(), &mut salted);
        let signed = |key: &[u8], text: &str| {
            let tag = hmac::sign(&hmac::Key::new(mechanism.hmac(), key), text.as_bytes());
            Zeroizing::new(tag.as_ref().to_vec())
        };
        let without_proof = format!("c=biws,r={nonce}");
        let all = format!("{},{server_first},{without_proof}", self.bare);
        let mut proof = signed(&salted, "Client Key");
        let stored = digest::digest(mechanism.digest(), &proof);
        let signature = signed(stored.as_ref(), &all);
        proof.iter_mut().zip(signature.iter()).for_each(|(byte, other)| *byte ^= other);
        let expected = signed(&signed(&salted, "Server Key"), &all);
        Ok(Proving { message: format!("{without_proof},p={}", BASE64.encode(&proof)), expected })
    }
}

impl Proving {
    /// Checks `server-final-message`.
    pub fn check(&self, server_final: &str) -> Result<(), ScramError> {
        let proof = server_final.strip_prefix("v=").ok_or(ScramError::Unproved)?;
        let given = BASE64.decode(proof.as_bytes()).map_err(|_| ScramError::Unproved)?;
        match bool::from(given.ct_eq(&self.expected)) {
            true => Ok(()),
            false => Err(ScramError::Unproved),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of RFC 7677 §3, and that for SHA-1 in the specification of MongoDB's drivers.
    fn vectors() -> [(Scram, &'static str, Zeroizing<String>, &'static str, &'static str); 2] {
        [
            (
                Scram::with_nonce(Mechanism::Sha256, "user", "rOprNGfwEbeRWgbNEkqO".to_owned()),
                "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096",
                Mechanism::Sha256.secret("user", "pencil"),
                "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=",
                "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=",
            ),
            (
                Scram::with_nonce(Mechanism::Sha1, "user", "fyko+d2lbbFgONRv9qkxdawL".to_owned()),
                "r=fyko+d2lbbFgONRv9qkxdawLHo+Vgk7qvUOKUwuWLIWg4l/9SraGMHEE,s=rQ9ZY3MntBeuP3E1TDVC4w==,i=10000",
                Mechanism::Sha1.secret("user", "pencil"),
                "c=biws,r=fyko+d2lbbFgONRv9qkxdawLHo+Vgk7qvUOKUwuWLIWg4l/9SraGMHEE,p=MC2T8BvbmWRckDw8oWl5IVghwCY=",
                "v=UMWeI25JD1yNYZRMpZ4VHvhZ9e0=",
            ),
        ]
    }

    #[test]
    fn scram_proofs_match_the_examples_of_the_rfc_and_of_mongodb_drivers() {
        for (scram, first, secret, proof, last) in vectors() {
            let proving = scram.prove(first, &secret).expect("a proof");
            assert_eq!(proving.message, proof);
            assert_eq!(proving.check(last), Ok(()));
            for wrong in ["v=", "v=AAAA", "e=invalid-proof", "", &last[..last.len() - 5]] {
                assert_eq!(proving.check(wrong), Err(ScramError::Unproved), "{wrong}");
            }
        }
    }

    #[test]
    fn a_servers_message_with_another_nonce_or_few_rounds_gets_no_proof() {
        for (first, expected) in [
            ("", ScramError::Protocol),
            ("r=other,s=QUJD,i=4096", ScramError::Protocol),
            ("r=mine,s=QUJD,i=4096", ScramError::Protocol),
            ("r=mine2,s=!,i=4096", ScramError::Protocol),
            ("r=mine2,s=,i=4096", ScramError::Protocol),
            ("r=mine2,s=QUJD,i=x", ScramError::Protocol),
            ("m=ext,r=mine2,s=QUJD,i=4096", ScramError::Protocol),
            ("r=mine2,s=QUJD,i=4095", ScramError::Rounds),
            ("r=mine2,s=QUJD,i=1000001", ScramError::Rounds),
            ("r=mine2,s=QUJD,i=0", ScramError::Rounds),
        ] {
            let scram = Scram::with_nonce(Mechanism::Sha256, "u", "mine".to_owned());
            assert_eq!(scram.prove(first, "p").err(), Some(expected), "{first}");
        }
    }

    #[test]
    fn a_user_name_cannot_add_a_scram_attribute() {
        let scram = Scram::with_nonce(Mechanism::Sha256, "a,r=b=", "n".to_owned());
        assert_eq!(scram.message(), "n,,n=a=2Cr=3Db=3D,r=n");
    }
}

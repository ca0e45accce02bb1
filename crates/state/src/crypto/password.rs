//! Hashes of passwords: argon2id (RFC 9106) with the parameters that OWASP's Password Storage Cheat Sheet proposes.
//! Hashing takes about 20 ms and 19 MiB, so callers use blocking threads and bound the concurrency.

use argon2::{Algorithm, Argon2, Params, Version};
use data_encoding::{HEXLOWER, HEXLOWER_PERMISSIVE};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use keyward_base::secret::{PasswordHash, Secret};
use keyward_envelope::random;

/// 19 MiB.
const MEMORY_KIB: u32 = 19 * 1_024;
const PASSES: u32 = 2;
const LANES: u32 = 1;
const SALT_BYTES: usize = 16;
const HASH_BYTES: usize = 32;

/// Stored parameters above these are a damaged row: they would hold up the gateway.
const MEMORY_KIB_MAX: u32 = 256 * 1_024;
const PASSES_MAX: u32 = 16;

/// Characters of a password.
const CHARS: std::ops::RangeInclusive<usize> = 12..=256;

/// Hashes a password. `None`: no memory is left.
pub fn hash(password: &Secret) -> Option<PasswordHash> {
    let salt = random::<SALT_BYTES>();
    let hash = derive(password.expose(), &*salt, MEMORY_KIB, PASSES, LANES)?;
    let (salt, hash) = (HEXLOWER.encode(&*salt), HEXLOWER.encode(&*hash));
    Some(PasswordHash { memory_kib: MEMORY_KIB, passes: PASSES, lanes: LANES, salt, hash })
}

/// Whether the password matches the hash; compared in constant time. Without a hash it is false, after the same time.
pub fn matches(password: &Secret, known: Option<&PasswordHash>) -> bool {
    let Some(known) = known else {
        let salt = [0; SALT_BYTES];
        std::hint::black_box(derive(password.expose(), &salt, MEMORY_KIB, PASSES, LANES));
        return false;
    };
    let PasswordHash { memory_kib, passes, lanes, salt, hash } = known;
    if *memory_kib > MEMORY_KIB_MAX || *passes > PASSES_MAX || *lanes != LANES {
        return false;
    }
    let bytes = |text: &str| HEXLOWER_PERMISSIVE.decode(text.as_bytes());
    let (Ok(salt), Ok(hash)) = (bytes(salt), bytes(hash)) else { return false };
    derive(password.expose(), &salt, *memory_kib, *passes, *lanes)
        .is_some_and(|derived| derived.ct_eq(&hash[..]).into())
}

/// What is wrong with a new password; quotes nothing of it.
pub fn refusal(password: &Secret, user: &str) -> Option<&'static str> {
    let Some(text) = password.expose_text() else { return Some("must be text") };
    let is_printable = !text.chars().any(char::is_control);
    match (CHARS.contains(&text.chars().count()), is_printable) {
        (false, _) => Some("must have 12 to 256 characters"),
        (_, false) => Some("must be in one line, without control characters"),
        _ if text.to_lowercase() == user.to_lowercase() => Some("must not be the user's name"),
        _ => None,
    }
}

fn derive(
    password: &[u8],
    salt: &[u8],
    memory_kib: u32,
    passes: u32,
    lanes: u32,
) -> Option<Zeroizing<[u8; HASH_BYTES]>> {
    let params = Params::new(memory_kib, passes, lanes, Some(HASH_BYTES)).ok()?;
    let mut hash = Zeroizing::new([0; HASH_BYTES]);
    let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
    argon2.hash_password_into(password, salt, hash.as_mut_slice()).ok()?;
    Some(hash)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(text: &str) -> Secret {
        Secret::from(text.to_owned())
    }

    #[test]
    fn only_the_same_password_matches_and_no_two_hashes_are_alike() {
        let password = secret("correct horse battery");
        let (one, two) = (hash(&password).unwrap(), hash(&password).unwrap());
        assert_ne!(one, two);
        assert!(matches(&password, Some(&one)) && matches(&password, Some(&two)));
        for wrong in
            ["", "correct horse batterz", "correct horse battery ", "Correct horse battery"]
        {
            assert!(!matches(&secret(wrong), Some(&one)), "{wrong}");
        }
        assert!(!matches(&password, None));
        assert_eq!(format!("{one:?}"), "PasswordHash(…)");
    }

    #[test]
    fn a_damaged_hash_matches_no_password_and_huge_parameters_are_not_computed() {
        let password = secret("correct horse battery");
        let good = hash(&password).unwrap();
        for bad in [
            PasswordHash { memory_kib: u32::MAX, ..good.clone() },
            PasswordHash { passes: u32::MAX, ..good.clone() },
            PasswordHash { passes: 0, ..good.clone() },
            PasswordHash { lanes: 200, ..good.clone() },
            PasswordHash { salt: "0".to_owned(), ..good.clone() },
            PasswordHash { hash: String::new(), ..good.clone() },
            PasswordHash { hash: "zz".repeat(32), ..good.clone() },
        ] {
            assert!(!matches(&password, Some(&bad)));
        }
    }

    #[test]
    fn the_hash_is_that_of_the_reference_implementation() {
        // `printf 'correct horse battery' | argon2 0011223344556677 -id -v 13 -m 8 -t 1 -p 1` needs other parameters:
        // this is the test vector of the crate's own suite for argon2id, v=0x13, m=65536, t=2, p=1.
        let derived = derive(b"password", b"somesalt", 65_536, 2, 1).unwrap();
        let expected = "09316115d5cf24ed5a15a31a3ba326e5cf32edc24702987c02b6566f61913cf7";
        assert_eq!(HEXLOWER.encode(&*derived), expected);
    }

    #[test]
    fn short_long_and_guessable_passwords_are_refused() {
        let long = "x".repeat(257);
        for bad in [
            "",
            "elevenchars",
            &long,
            "eleven-user-name",
            "ELEVEN-user-name",
            "a line\nand another",
        ] {
            assert!(refusal(&secret(bad), "eleven-user-name").is_some(), "{bad}");
        }
        assert!(refusal(&Secret::new(vec![0xff; 20]), "ann").is_some());
        for good in ["twelve chars", "zwölf zeichn", &long[1..]] {
            assert_eq!(refusal(&secret(good), "ann"), None, "{good}");
        }
    }
}

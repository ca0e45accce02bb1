//! One-time codes (RFC 6238, over HOTP of RFC 4226): SHA-1, six digits, steps of 30 seconds, which all authenticator
//! programs support. Implemented here, because a crate would bring second versions of HMAC and SHA-1.

use aws_lc_rs::hmac;
use jiff::Timestamp;
use subtle::ConstantTimeEq;

use keyward_base::secret::{KEY_BYTES, Secret, TotpKey};
use keyward_envelope::random;

/// RFC 6238 §4: the time step X.
const STEP_S: i64 = 30;

/// RFC 4226 §5.3: the digits of a code.
const DIGITS: usize = 6;

/// 10 to the power of [`DIGITS`].
const MODULUS: u32 = 1_000_000;

/// RFC 6238 §6: accepted steps before and after the current one, because clocks differ and people type slowly.
const STEPS_APART_MAX: u64 = 1;

/// A random key.
pub fn new_key() -> TotpKey {
    TotpKey::new(random::<KEY_BYTES>())
}

/// RFC 6238 §4.2: the number of the time step.
pub fn step_at(now: Timestamp) -> u64 {
    u64::try_from(now.as_second().max(0) / STEP_S).unwrap_or(0)
}

/// The step after `last` whose code was given, with a step of tolerance. Each code is compared in constant time.
pub(crate) fn step_of(given: &Secret, key: &TotpKey, now: Timestamp, last: u64) -> Option<u64> {
    let given: Vec<u8> =
        given.expose().iter().copied().filter(|byte| !byte.is_ascii_whitespace()).collect();
    let at = step_at(now);
    let steps = at.saturating_sub(STEPS_APART_MAX)..=at.saturating_add(STEPS_APART_MAX);
    let mut found = None;
    for step in steps {
        if bool::from(code(key, step).as_bytes().ct_eq(&given)) && step > last {
            found = Some(step);
        }
    }
    found
}

/// The code of a step: RFC 4226 §5.3, with the step as the counter.
pub fn code(key: &TotpKey, step: u64) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, key.bytes());
    let tag = hmac::sign(&key, &step.to_be_bytes());
    let tag = tag.as_ref();
    let offset = usize::from(tag.last().copied().unwrap_or_default() & 0xf);
    let mut word = [0; 4];
    word.copy_from_slice(&tag[offset..offset + 4]);
    let number = (u32::from_be_bytes(word) & 0x7fff_ffff) % MODULUS;
    format!("{number:0DIGITS$}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use zeroize::Zeroizing;

    /// The key of the test vectors of both RFCs.
    fn key() -> TotpKey {
        TotpKey::new(Zeroizing::new(*b"12345678901234567890"))
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).unwrap()
    }

    fn given(text: &str) -> Secret {
        Secret::from(text.to_owned())
    }

    #[test]
    fn codes_are_those_of_the_test_vectors() {
        // RFC 4226 appendix D.
        for (counter, expected) in ["755224", "287082", "359152", "969429"].into_iter().enumerate()
        {
            assert_eq!(code(&key(), counter as u64), expected);
        }
        // RFC 6238 appendix B; the last six digits of its codes.
        for (seconds, expected) in [
            (59, "287082"),
            (1_111_111_109, "081804"),
            (1_111_111_111, "050471"),
            (1_234_567_890, "005924"),
            (2_000_000_000, "279037"),
            (20_000_000_000, "353130"),
        ] {
            assert_eq!(code(&key(), step_at(at(seconds))), expected);
        }
    }

    #[test]
    fn a_code_is_accepted_within_a_step_and_once() {
        let now = at(1_000_000_000);
        let step = step_at(now);
        for (apart, counts) in [(-2, false), (-1, true), (0, true), (1, true), (2, false)] {
            let of = step.checked_add_signed(apart).unwrap();
            let found = step_of(&given(&code(&key(), of)), &key(), now, 0);
            assert_eq!(found, counts.then_some(of), "{apart}");
        }
        let code = given(&code(&key(), step));
        assert_eq!(step_of(&code, &key(), now, step - 1), Some(step));
        for last in [step, step + 1] {
            assert_eq!(step_of(&code, &key(), now, last), None, "it was used");
        }
    }

    #[test]
    fn a_text_that_is_no_code_is_refused() {
        let now = at(59);
        for bad in ["", "28708", "2870822", "287083", "-87082", "2８7082", "0287082"] {
            assert_eq!(step_of(&given(bad), &key(), now, 0), None, "{bad}");
        }
        assert_eq!(step_of(&given(" 287 082\n"), &key(), now, 0), Some(1));
    }
}

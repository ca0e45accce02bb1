//! [`Challenges`]: challenges that work once, for one purpose and for five minutes. Issued challenges are not stored,
//! so that many requests take no memory; used ones are remembered until they expire.
//!
//! `nonce (16 bytes) || end (8 bytes, seconds) || HMAC-SHA-256(key, nonce || end || purpose)`, under a key that the
//! process creates at its start, or that all replicas of a store share.

use std::collections::HashMap;
use std::fmt;

use aws_lc_rs::hmac;
use jiff::{SignedDuration, Timestamp};
use parking_lot::Mutex;

use keyward_envelope::random;

/// How long a challenge is valid.
pub const LIFE: SignedDuration = SignedDuration::from_mins(5);

const NONCE_BYTES: usize = 16;
const END_BYTES: usize = 8;

/// Issues and checks challenges.
pub struct Challenges {
    key: hmac::Key,
    used: Mutex<HashMap<[u8; NONCE_BYTES], Timestamp>>,
}

/// A challenge that was issued for its purpose and has not expired.
#[derive(Clone, Copy, Debug)]
pub struct Valid {
    nonce: [u8; NONCE_BYTES],
    end: Timestamp,
}

impl Default for Challenges {
    fn default() -> Self {
        let key = hmac::Key::new(hmac::HMAC_SHA256, &*random::<32>());
        Self { key, used: Mutex::default() }
    }
}

impl Challenges {
    /// Uses the key of all replicas, or a random one.
    pub fn new(shared: Option<&[u8; 32]>) -> Self {
        match shared {
            None => Self::default(),
            Some(key) => {
                Self { key: hmac::Key::new(hmac::HMAC_SHA256, key), used: Mutex::default() }
            }
        }
    }

    pub fn issue(&self, purpose: &str, now: Timestamp) -> Vec<u8> {
        let end = now.as_second() + LIFE.as_secs();
        let mut challenge = random::<NONCE_BYTES>().to_vec();
        challenge.extend(end.to_be_bytes());
        let tag = hmac::sign(&self.key, &signed(&challenge, purpose));
        challenge.extend_from_slice(tag.as_ref());
        challenge
    }

    /// Checks a returned challenge. It is not used up, because the rest of the sign-in may be invalid.
    pub fn check(&self, challenge: &[u8], purpose: &str, now: Timestamp) -> Option<Valid> {
        let (head, tag) = challenge.split_at_checked(NONCE_BYTES + END_BYTES)?;
        hmac::verify(&self.key, &signed(head, purpose), tag).ok()?;
        let (nonce, end) = head.split_first_chunk::<NONCE_BYTES>()?;
        let end = i64::from_be_bytes(end.try_into().ok()?);
        let end = Timestamp::from_second(end).ok()?;
        (now < end && !self.used.lock().contains_key(nonce)).then_some(Valid { nonce: *nonce, end })
    }

    /// Marks a challenge as used; false if another request has used it.
    pub fn use_up(&self, valid: Valid, now: Timestamp) -> bool {
        let mut used = self.used.lock();
        used.retain(|_, end| now < *end);
        used.insert(valid.nonce, valid.end).is_none()
    }
}

impl fmt::Debug for Challenges {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Challenges(…)")
    }
}

fn signed(head: &[u8], purpose: &str) -> Vec<u8> {
    [head, purpose.as_bytes()].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_challenge_works_once_for_its_purpose_and_for_five_minutes() {
        let (own, other) = (Challenges::default(), Challenges::default());
        let now = Timestamp::from_second(1_000_000).unwrap();
        let challenge = own.issue("sign-in", now);
        let mut changed = challenge.clone();
        changed[20] ^= 1;
        for wrong in [&b""[..], &challenge[..24], &challenge[1..], &changed] {
            assert!(own.check(wrong, "sign-in", now).is_none());
        }
        assert!(own.check(&challenge, "register", now).is_none());
        assert!(other.check(&challenge, "sign-in", now).is_none(), "after a restart");
        assert!(own.check(&challenge, "sign-in", now + LIFE).is_none());
        let valid = own.check(&challenge, "sign-in", now).unwrap();
        assert!(own.check(&challenge, "sign-in", now).is_some(), "a check uses nothing up");
        assert!(own.use_up(valid, now) && !own.use_up(valid, now));
        assert!(own.check(&challenge, "sign-in", now).is_none());
        let later = own.issue("sign-in", now + LIFE);
        let valid = own.check(&later, "sign-in", now + LIFE).unwrap();
        assert!(own.use_up(valid, now + LIFE));
        assert_eq!(own.used.lock().len(), 1, "those that ended are forgotten");
    }
}

//! [`SignInAttempt`]: one sign-in that a browser began. It is kept only in the browser's cookie, so that many attempts
//! take no memory; `state`, nonce and PKCE verifier are keyed hashes of the cookie. `state` therefore proves that the
//! cookie is ours, unchanged, and of this sign-in.

use std::num::NonZeroUsize;

use aws_lc_rs::hmac;
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use jiff::{SignedDuration, Timestamp};
use lru::LruCache;
use parking_lot::Mutex;
use zeroize::Zeroizing;

use super::error::SignInError;
use crate::oauth::flow::random;

/// How long a person may take at the provider.
pub const ATTEMPT_LIFE: SignedDuration = SignedDuration::from_mins(10);

/// Longest path to return to. A cookie has room for 4 KiB (RFC 6265 §6.1).
const PATH_BYTES_MAX: usize = 1_024;

/// Completed sign-ins that are remembered. To make the gateway forget one, an attacker must complete as many within
/// ten minutes; and the provider accepts each code once (RFC 6749 §4.1.2).
const USED_MAX: usize = 4_096;

/// The key of a process, or of all replicas of a store. A restart of a process with its own key invalidates the
/// sign-ins that began before.
pub(super) struct AttemptKey {
    key: hmac::Key,
    used: Mutex<LruCache<String, ()>>,
}

/// A sign-in.
pub(super) struct SignInAttempt {
    /// The value of the cookie: randomness, expiry and path.
    pub(super) cookie: Zeroizing<String>,
    pub(super) state: String,
    pub(super) nonce: String,
    /// The PKCE verifier (RFC 7636 §4.1).
    pub(super) verifier: Zeroizing<String>,
    /// The path that the browser returns to.
    pub(super) to: String,
    expires: Timestamp,
}

impl AttemptKey {
    /// The key of all replicas, or a random one.
    pub(super) fn new(shared: Option<&[u8; 32]>) -> Self {
        let key = match shared {
            Some(shared) => hmac::Key::new(hmac::HMAC_SHA256, shared),
            None => hmac::Key::new(hmac::HMAC_SHA256, random().as_bytes()),
        };
        let max = NonZeroUsize::new(USED_MAX).expect("not zero");
        Self { key, used: Mutex::new(LruCache::new(max)) }
    }

    /// A new sign-in that returns to this path.
    pub(super) fn begin(&self, to: &str, now: Timestamp) -> SignInAttempt {
        let to = if to.len() <= PATH_BYTES_MAX { to } else { "/" };
        let expires = now.saturating_add(ATTEMPT_LIFE).unwrap_or(Timestamp::MAX);
        let path = BASE64_URL_SAFE_NO_PAD.encode(to);
        let cookie = Zeroizing::new(format!("{}.{}.{path}", *random(), expires.as_second()));
        self.attempt(cookie, to.to_owned(), expires)
    }

    /// The sign-in of a callback, by the browser's cookie. It is used up.
    ///
    /// # Errors
    /// When the cookie is not that of this sign-in, or the sign-in has expired or was completed.
    pub(super) fn take(
        &self,
        cookie: Option<&str>,
        state: Option<&str>,
        now: Timestamp,
    ) -> Result<SignInAttempt, SignInError> {
        let (Some(cookie), Some(state)) = (cookie, state) else {
            return Err(SignInError::OtherBrowser);
        };
        let given = BASE64_URL_SAFE_NO_PAD.decode(state).unwrap_or_default();
        // Compared in constant time, before any part of the cookie is parsed.
        if hmac::verify(&self.key, &message("state", cookie), &given).is_err() {
            return Err(SignInError::OtherBrowser);
        }
        let attempt = self.parsed(cookie).ok_or(SignInError::OtherBrowser)?;
        if now >= attempt.expires {
            return Err(SignInError::Expired);
        }
        match self.used.lock().put(attempt.state.clone(), ()) {
            None => Ok(attempt),
            Some(()) => Err(SignInError::Used),
        }
    }

    fn parsed(&self, cookie: &str) -> Option<SignInAttempt> {
        let mut parts = cookie.split('.').skip(1);
        let expires = Timestamp::from_second(parts.next()?.parse().ok()?).ok()?;
        let path = BASE64_URL_SAFE_NO_PAD.decode(parts.next()?).ok()?;
        let to = String::from_utf8(path).ok()?;
        Some(self.attempt(Zeroizing::new(cookie.to_owned()), to, expires))
    }

    fn attempt(&self, cookie: Zeroizing<String>, to: String, expires: Timestamp) -> SignInAttempt {
        let derived = |label: &str| {
            let tag = hmac::sign(&self.key, &message(label, &cookie));
            BASE64_URL_SAFE_NO_PAD.encode(tag)
        };
        let (state, nonce) = (derived("state"), derived("nonce"));
        let verifier = Zeroizing::new(derived("verifier"));
        SignInAttempt { cookie, state, nonce, verifier, to, expires }
    }
}

/// `label ‖ 0 ‖ cookie`: no label contains a zero byte, so no two messages are equal.
fn message(label: &str, cookie: &str) -> Zeroizing<Vec<u8>> {
    Zeroizing::new([label.as_bytes(), &[0], cookie.as_bytes()].concat())
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    const NOW: Timestamp = Timestamp::UNIX_EPOCH;

    fn taken(key: &AttemptKey, cookie: &str, state: &str, seconds: i64) -> Result<String, String> {
        let now = NOW + SignedDuration::from_secs(seconds);
        let taken = key.take(Some(cookie), Some(state), now);
        taken.map(|attempt| attempt.to).map_err(|error| format!("{error:?}"))
    }

    #[test]
    fn only_the_unchanged_cookie_of_the_same_sign_in_completes_it_in_time_and_once() {
        let key = AttemptKey::new(None);
        let (one, two) = (key.begin("/agents", NOW), key.begin("/agents", NOW));
        let other = AttemptKey::new(None);
        let refused = Err("OtherBrowser".to_owned());
        assert!(matches!(key.take(None, Some(&one.state), NOW), Err(SignInError::OtherBrowser)));
        assert!(matches!(key.take(Some(&one.cookie), None, NOW), Err(SignInError::OtherBrowser)));
        assert_eq!(taken(&key, &two.cookie, &one.state, 0), refused);
        assert_eq!(taken(&other, &one.cookie, &one.state, 0), refused);
        let (random, _) = one.cookie.split_once('.').unwrap();
        let path = BASE64_URL_SAFE_NO_PAD.encode("//evil.example");
        for bent in [
            format!("{random}.600.{path}"),
            format!("{random}.99999999999.{}", BASE64_URL_SAFE_NO_PAD.encode("/agents")),
            format!("{}.", *one.cookie),
            String::new(),
        ] {
            assert_eq!(taken(&key, &bent, &one.state, 0), refused, "{bent}");
        }
        for state in ["", &one.nonce, &one.verifier, &one.state[1..], &one.state.to_lowercase()] {
            assert_eq!(taken(&key, &one.cookie, state, 0), refused, "{state}");
        }
        assert_eq!(taken(&key, &one.cookie, &one.state, 600), Err("Expired".to_owned()));
        assert_eq!(taken(&key, &one.cookie, &one.state, 599).as_deref(), Ok("/agents"));
        assert_eq!(taken(&key, &one.cookie, &one.state, 599), Err("Used".to_owned()));
        assert_eq!(taken(&key, &two.cookie, &two.state, 0).as_deref(), Ok("/agents"));
    }

    #[test]
    fn a_replica_with_the_same_key_completes_a_sign_in() {
        let [one, other] = [(); 2].map(|()| AttemptKey::new(Some(&[7; 32])));
        let begun = one.begin("/agents", NOW);
        assert_eq!(taken(&other, &begun.cookie, &begun.state, 0).as_deref(), Ok("/agents"));
        assert_eq!(taken(&other, &begun.cookie, &begun.state, 0), Err("Used".to_owned()));
        let stranger = AttemptKey::new(Some(&[8; 32]));
        let refused = taken(&stranger, &begun.cookie, &begun.state, 0);
        assert_eq!(refused, Err("OtherBrowser".to_owned()));
    }

    #[test]
    fn state_nonce_and_verifier_of_sign_ins_differ_and_have_43_characters() {
        let key = AttemptKey::new(None);
        let long = key.begin(&"/a".repeat(600), NOW);
        assert_eq!(long.to, "/");
        let attempts = [long, key.begin("/", NOW), key.begin("/", NOW)];
        let values = attempts.iter().flat_map(|it| [&it.state, &it.nonce, &*it.verifier]);
        let all: HashSet<&String> = values.collect();
        assert_eq!(all.len(), 9, "each value is of one sign-in and for one use");
        assert!(all.iter().all(|text| text.len() == 43), "RFC 7636 §4.1: 43 to 128 characters");
    }
}

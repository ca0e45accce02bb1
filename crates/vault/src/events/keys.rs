//! The signing keys of webhooks: HMAC-SHA256 over id, time and body (Standard Webhooks, "Signature
//! scheme"). After a key was changed, both keys sign for a day, so that no receiver misses an event.

use std::fmt;

use aws_lc_rs::hmac;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use zeroize::{Zeroize, Zeroizing};

use keyward_base::secret::Secret;

/// Prefix of every key.
const PREFIX: &str = "whsec_";

/// Length of a new key.
const NEW_BYTES: usize = 32;

/// Bounds of a key's length.
const BYTES: std::ops::RangeInclusive<usize> = 24..=64;

/// How long the previous key signs too.
const OVERLAP: SignedDuration = SignedDuration::from_hours(24);

/// Text that is not a key.
#[derive(Debug, thiserror::Error)]
#[error("a signing key is `whsec_` and base64 of 24 to 64 bytes")]
pub struct SigningKeyError;

/// A signing key; shown once.
#[derive(Clone, Deserialize, PartialEq, Serialize)]
#[serde(transparent)]
pub struct WebhookSigningKey(String);

/// The current key of a webhook, and the previous one.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct WebhookSigningKeys {
    now: WebhookSigningKey,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    before: Option<FormerKey>,
}

/// A replaced key.
#[derive(Clone, Debug, Deserialize, Serialize)]
struct FormerKey {
    key: WebhookSigningKey,
    until: Timestamp,
}

impl WebhookSigningKey {
    /// Generates a key.
    pub fn random() -> Self {
        let mut bytes = Zeroizing::new([0; NEW_BYTES]);
        getrandom::fill(bytes.as_mut_slice()).expect("the operating system has randomness");
        Self(format!("{PREFIX}{}", BASE64_STANDARD.encode(bytes.as_slice())))
    }

    /// Parses a key chosen by a person; the prefix is optional.
    ///
    /// # Errors
    /// When it is not a key.
    pub fn parse(text: &Secret) -> Result<Self, SigningKeyError> {
        let text = text.expose_text().ok_or(SigningKeyError)?.trim();
        let body = text.strip_prefix(PREFIX).unwrap_or(text);
        let bytes = Zeroizing::new(BASE64_STANDARD.decode(body).map_err(|_| SigningKeyError)?);
        match BYTES.contains(&bytes.len()) {
            true => Ok(Self(format!("{PREFIX}{body}"))),
            false => Err(SigningKeyError),
        }
    }

    /// Its text, which is shown once, to the person who created it.
    pub fn shown(&self) -> String {
        self.0.clone()
    }

    /// `v1,` and the signature.
    fn sign(&self, signed: &[&[u8]]) -> String {
        let body = self.0.strip_prefix(PREFIX).unwrap_or(&self.0);
        let bytes = Zeroizing::new(BASE64_STANDARD.decode(body).unwrap_or_default());
        let key = hmac::Key::new(hmac::HMAC_SHA256, &bytes);
        let mut context = hmac::Context::with_key(&key);
        for part in signed {
            context.update(part);
        }
        format!("v1,{}", BASE64_STANDARD.encode(context.sign().as_ref()))
    }
}

impl WebhookSigningKeys {
    /// The first key.
    pub fn of(key: WebhookSigningKey) -> Self {
        Self { now: key, before: None }
    }

    /// Whether this is the current key.
    pub fn is_now(&self, key: &WebhookSigningKey) -> bool {
        self.now == *key
    }

    /// Replaces the current key, which signs for one more day.
    #[must_use]
    pub fn followed_by(self, key: WebhookSigningKey, now: Timestamp) -> Self {
        let until = now.checked_add(OVERLAP).unwrap_or(Timestamp::MAX);
        Self { now: key, before: Some(FormerKey { key: self.now, until }) }
    }

    /// The value of `webhook-signature`: signatures by the current key and the previous one.
    pub fn signatures(&self, id: &str, time: Timestamp, body: &[u8], now: Timestamp) -> String {
        let time = time.as_second().to_string();
        let signed: [&[u8]; 5] = [id.as_bytes(), b".", time.as_bytes(), b".", body];
        let before = self.before.as_ref().filter(|former| now < former.until);
        let keys = std::iter::once(&self.now).chain(before.map(|former| &former.key));
        keys.map(|key| key.sign(&signed)).collect::<Vec<_>>().join(" ")
    }
}

impl Drop for WebhookSigningKey {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl fmt::Debug for WebhookSigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SigningKey(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(text: &str) -> Result<WebhookSigningKey, SigningKeyError> {
        WebhookSigningKey::parse(&Secret::from(text.to_owned()))
    }

    #[test]
    fn an_invalid_signing_key_is_refused_and_neither_errors_nor_debug_show_a_key() {
        let short = format!("whsec_{}", BASE64_STANDARD.encode([7; 23]));
        let long = format!("whsec_{}", BASE64_STANDARD.encode([7; 65]));
        for bad in ["", "whsec_", "whsec_not base64", "sk_live_x", &short, &long] {
            let error = key(bad).unwrap_err();
            let shown = format!("{error} {error:?}");
            let text = bad.strip_prefix(PREFIX).unwrap_or(bad);
            assert!(text.is_empty() || !shown.contains(text), "{shown}");
        }
        let good = format!("whsec_{}", BASE64_STANDARD.encode([7; 24]));
        assert_eq!(format!("{:?}", key(&good).unwrap()), "SigningKey(…)");
        assert!(key(good.strip_prefix("whsec_").unwrap()).unwrap() == key(&good).unwrap());
    }

    /// The example of the specification's reference libraries.
    #[test]
    fn the_published_example_has_the_published_signature() {
        let keys = WebhookSigningKeys::of(key("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap());
        let time = Timestamp::from_second(1_614_265_330).unwrap();
        assert_eq!(
            keys.signatures("msg_p5jXN8AQM9LWM0D4loKWxJek", time, br#"{"test": 2432232314}"#, time),
            "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
        );
    }

    #[test]
    fn after_a_change_both_keys_sign_for_a_day() {
        let (first, second) = (WebhookSigningKey::random(), WebhookSigningKey::random());
        let (now, day) = (Timestamp::UNIX_EPOCH, SignedDuration::from_hours(24));
        let alone = |key: &WebhookSigningKey| {
            WebhookSigningKeys::of(key.clone()).signatures("a", now, b"b", now)
        };
        let both = WebhookSigningKeys::of(first.clone()).followed_by(second.clone(), now);
        let expected = format!("{} {}", alone(&second), alone(&first));
        assert_eq!(both.signatures("a", now, b"b", now), expected);
        assert_eq!(both.signatures("a", now, b"b", now + day), alone(&second));
    }
}

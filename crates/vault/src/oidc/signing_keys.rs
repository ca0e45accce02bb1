//! [`IssuerKeys`]: the issuer's public keys (RFC 7517), read when they are needed, kept for an hour, and read again when
//! a token names a key that is not among them: issuers replace keys without notice.

use std::sync::Arc;
use std::time::Duration;

use jsonwebtoken::jwk::Jwk;
use serde_json::Value;

use super::error::SignInError;
use crate::grant::oauth::document;
use keyward_base::time::{Clock, Moment};
use keyward_base::tokens::TokenSettings;
use keyward_net::call::HttpClient;

/// How long keys are used before they are read again.
const AGE_MAX: Duration = Duration::from_secs(3_600);

/// Minimum time between two reads that tokens with unknown keys cause.
const AGE_MIN: Duration = Duration::from_secs(10);

/// The keys that were read last.
#[derive(Default)]
pub(super) struct IssuerKeys(tokio::sync::Mutex<Option<KeySet>>);

struct KeySet {
    read: Moment,
    keys: Arc<[Jwk]>,
}

/// Where keys are read from.
pub(super) struct KeySource<'a> {
    pub(super) caller: &'a HttpClient,
    pub(super) url: &'a str,
    pub(super) settings: &'a TokenSettings,
    pub(super) clock: &'a Clock,
}

impl IssuerKeys {
    /// The keys. With `is_missing` they are read again, unless they were read a moment ago.
    ///
    /// # Errors
    /// When they cannot be read, and none are known.
    pub(super) async fn of(
        &self,
        source: &KeySource<'_>,
        is_missing: bool,
    ) -> Result<Arc<[Jwk]>, SignInError> {
        let mut known = self.0.lock().await;
        let now = source.clock.moment();
        let age_max = if is_missing { AGE_MIN } else { AGE_MAX };
        if let Some(known) = known.as_ref().filter(|known| now.since(&known.read) < age_max) {
            return Ok(known.keys.clone());
        }
        match source.read().await {
            Some(keys) => {
                *known = Some(KeySet { read: now, keys: keys.clone() });
                Ok(keys)
            }
            None => known.as_ref().map(|known| known.keys.clone()).ok_or(SignInError::Keys),
        }
    }
}

impl KeySource<'_> {
    /// Keys of unknown kinds are skipped.
    async fn read(&self) -> Option<Arc<[Jwk]>> {
        let found = match document(self.caller, self.url, self.settings).await {
            Ok(found) => found?,
            Err(error) => {
                let error = &error as &dyn std::error::Error;
                tracing::warn!(error, "the keys of the identity provider cannot be read");
                return None;
            }
        };
        let found: Value = serde_json::from_slice(&found).ok()?;
        let keys = found.get("keys")?.as_array()?.iter();
        Some(keys.filter_map(|key| serde_json::from_value(key.clone()).ok()).collect())
    }
}

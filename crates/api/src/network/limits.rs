//! [`ApiLimits`]: how often clients on the network may fail to authenticate, and how many requests a token or
//! a login may send.

use std::net::IpAddr;
use std::num::NonZeroUsize;
use std::time::Duration;

use lru::LruCache;
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::request_refusal::RequestRefusal;
use keyward_base::limits::Limits;
use keyward_base::settings::Rate;
use keyward_proxy::{AuthFailures, RateBucket};
use keyward_state::directory::Credential;

/// Tokens and logins whose rate is remembered. The one that was used longest ago is forgotten first, with its rate unused.
const TOKENS_MAX: usize = 4_096;

/// Failures are counted by address and never refuse a valid token: tokens have 256 random bits, so the limit only has
/// to keep guesses cheap, and clients behind one proxy must not lock each other out.
#[derive(Debug)]
pub(super) struct ApiLimits {
    failures: AuthFailures,
    rate: Rate,
    requests: Mutex<LruCache<Credential, RateBucket>>,
}

impl ApiLimits {
    pub(super) fn new(limits: &Limits) -> Self {
        let capacity = NonZeroUsize::new(TOKENS_MAX).expect("a constant above zero");
        Self {
            failures: AuthFailures::new(limits.auth_failures_per_minute_max),
            rate: Rate::per_minute(limits.api_requests_per_minute_max),
            requests: Mutex::new(LruCache::new(capacity)),
        }
    }

    /// Counts a failed authentication.
    ///
    /// # Errors
    /// When there were too many from this address.
    pub(super) fn failed(&self, client: IpAddr) -> Result<(), RequestRefusal> {
        match self.failures.failed(Some(client)) {
            None => Ok(()),
            Some(wait) => Err(RequestRefusal::AuthFailures { retry_after: seconds(wait) }),
        }
    }

    /// Counts a request of a token or login.
    ///
    /// # Errors
    /// When there were too many.
    pub(super) fn take(&self, credential: &Credential) -> Result<(), RequestRefusal> {
        let now = Instant::now();
        let mut requests = self.requests.lock();
        let bucket = requests.get_or_insert_mut_ref(credential, || RateBucket::new(self.rate, now));
        let taken = bucket.take(self.rate, now);
        taken.map_err(|wait| RequestRefusal::TokenRate { retry_after: seconds(wait) })
    }
}

/// Rounded up, so that a client that waits so long succeeds.
pub(crate) fn seconds(wait: Duration) -> u64 {
    u64::try_from(wait.as_millis().div_ceil(1_000)).unwrap_or(u64::MAX).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use keyward_base::id::TokenId;

    fn token() -> Credential {
        Credential::Token(TokenId::random())
    }

    #[tokio::test(start_paused = true)]
    async fn a_token_waits_for_its_own_requests_only() {
        let limits = Limits { api_requests_per_minute_max: 2, ..Limits::default() };
        let limits = ApiLimits::new(&limits);
        let (one, other) = (token(), token());
        assert_eq!([limits.take(&one), limits.take(&one)], [Ok(()), Ok(())]);
        let refusal = RequestRefusal::TokenRate { retry_after: 30 };
        assert_eq!(limits.take(&one), Err(refusal));
        assert_eq!(limits.take(&other), Ok(()));
        tokio::time::advance(Duration::from_secs(30)).await;
        assert_eq!(limits.take(&one), Ok(()));
    }

    #[tokio::test(start_paused = true)]
    async fn many_tokens_use_bounded_memory() {
        let limits = ApiLimits::new(&Limits::default());
        for _ in 0..TOKENS_MAX + 10 {
            limits.take(&token()).unwrap();
        }
        assert_eq!(limits.requests.lock().len(), TOKENS_MAX);
    }
}

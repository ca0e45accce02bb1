//! [`ApiLimits`]: how often clients on the network may fail to authenticate, and how many requests a token or
//! a login may send.

use std::net::IpAddr;
use std::sync::Arc;

use crate::request_refusal::RequestRefusal;
use keyward_base::limits::Limits;
use keyward_base::settings::Rate;
use keyward_base::time::whole_seconds;
use keyward_proxy::{AuthFailures, LimitSpace, SharedLimits};
use keyward_state::directory::UserCredential;

/// Failures are counted by address and never refuse a valid token: tokens have 256 random bits, so the limit only has
/// to keep guesses cheap, and clients behind one proxy must not lock each other out.
#[derive(Debug)]
pub(super) struct ApiLimits {
    failures: AuthFailures,
    rate: Rate,
    shared: Arc<SharedLimits>,
}

impl ApiLimits {
    pub(super) fn new(limits: &Limits, shared: &Arc<SharedLimits>) -> Self {
        let max = limits.auth_failures_per_minute_max;
        Self {
            failures: AuthFailures::new(shared.clone(), LimitSpace::ApiTokens, max),
            rate: Rate::per_minute(limits.api_requests_per_minute_max),
            shared: shared.clone(),
        }
    }

    /// Counts a failed authentication.
    ///
    /// # Errors
    /// When there were too many from this address.
    pub(super) fn failed(&self, client: IpAddr) -> Result<(), RequestRefusal> {
        match self.failures.failed(Some(client)) {
            None => Ok(()),
            Some(wait) => Err(RequestRefusal::AuthFailures { retry_after: whole_seconds(wait) }),
        }
    }

    /// Counts a request of a token or login.
    ///
    /// # Errors
    /// When there were too many.
    pub(super) fn take(&self, credential: &UserCredential) -> Result<(), RequestRefusal> {
        let id = match credential {
            UserCredential::Token(id) => id.as_str(),
            UserCredential::Login(id) => id.as_str(),
        };
        let taken = self.shared.take(LimitSpace::ApiRequests, id.as_bytes(), self.rate);
        taken.map_err(|wait| RequestRefusal::TokenRate { retry_after: whole_seconds(wait) })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use keyward_base::id::TokenId;

    fn token() -> UserCredential {
        UserCredential::Token(TokenId::random())
    }

    #[tokio::test(start_paused = true)]
    async fn the_requests_of_a_token_do_not_count_toward_another_token() {
        let limits = Limits { api_requests_per_minute_max: 2, ..Limits::default() };
        let limits = ApiLimits::new(&limits, &SharedLimits::new(None).unwrap());
        let (one, other) = (token(), token());
        assert_eq!([limits.take(&one), limits.take(&one)], [Ok(()), Ok(())]);
        let refusal = RequestRefusal::TokenRate { retry_after: 30 };
        assert_eq!(limits.take(&one), Err(refusal));
        assert_eq!(limits.take(&other), Ok(()));
        tokio::time::advance(Duration::from_secs(30)).await;
        assert_eq!(limits.take(&one), Ok(()));
    }
}

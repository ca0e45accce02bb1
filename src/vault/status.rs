//! What can be told of a connection's tokens without asking anybody.

use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;

use super::Vault;
use crate::base::id::ConnectionId;

/// The state of a connection's token, for people.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize)]
pub struct TokenStatus {
    /// When the access token ends, where that is known.
    pub expires: Option<Timestamp>,
    /// When it was got.
    pub refreshed: Option<Timestamp>,
    /// The refreshes that fail.
    pub failing: Option<Failing>,
}

/// Refreshes that fail, but may succeed yet.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Failing {
    /// The first of them.
    pub since: Timestamp,
    /// How many there were in a row.
    pub count: u32,
    /// The provider's own code in the last, where it gave one.
    pub code: Option<String>,
    /// When the next one may be tried.
    pub next_try: Timestamp,
}

impl Vault {
    /// What is known of the token in memory; `None` where none was asked for since the start, and none
    /// can be refreshed.
    pub fn status(&self, id: &ConnectionId) -> Option<TokenStatus> {
        let cell = self.fresh.known(id)?;
        let (now, backoff) = (self.clock.moment(), cell.backoff());
        let failing = backoff.since().map(|since| Failing {
            since,
            count: backoff.failures(),
            code: backoff.code().map(ToOwned::to_owned),
            next_try: after(now.day(), backoff.rest(now).unwrap_or_default()),
        });
        let held = cell.credential();
        let renews = held.as_ref().is_some_and(|credential| credential.renews.is_some());
        let expires = held.and_then(|credential| credential.expires);
        let known = renews || expires.is_some() || failing.is_some();
        known.then_some(TokenStatus { expires, refreshed: None, failing })
    }
}

fn after(now: Timestamp, rest: Duration) -> Timestamp {
    now.checked_add(rest).unwrap_or(Timestamp::MAX)
}

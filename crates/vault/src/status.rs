//! [`TokenStatus`]: what is known of a connection's tokens without a request.

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Vault, method};
use crate::grant::Grant;
use keyward_state::directory::ConnectionRecord;

/// The state of a connection's token, for people.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct TokenStatus {
    /// One more at every change of the tokens.
    pub generation: u64,
    /// When the access token expires; `null`: unknown, or there is none.
    pub expires: Option<Timestamp>,
    /// When it was asked for.
    pub refreshed: Option<Timestamp>,
    /// When it is refreshed at the latest, used or not; `null`: only when it is used.
    #[serde(default)]
    pub keep_alive: Option<Timestamp>,
    /// Since when the answer to a refresh is awaited, where it takes longer than `oauth.exchange_timeout`.
    #[serde(default)]
    pub awaited: Option<Timestamp>,
    /// The refreshes that fail, while none succeeds.
    pub failing: Option<Failing>,
}

/// Refreshes that fail, but may succeed yet.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Failing {
    /// The first of them.
    pub since: Timestamp,
    /// How many there were in a row.
    pub count: u32,
    /// The provider's own code in the last, where it gave one.
    pub code: Option<String>,
    /// Why the last had no answer to read, in one word; `null` where the server answered.
    #[serde(default)]
    pub cause: Option<String>,
    /// What happened in the last, in words.
    #[serde(default)]
    pub message: Option<String>,
    /// What can be done about it, where that is known.
    #[serde(default)]
    pub hint: Option<String>,
    /// When the next one may be tried.
    pub next_try: Timestamp,
    /// They have failed for so long that somebody should look: `oauth.alert_after`.
    #[serde(default)]
    pub alert: bool,
}

impl Vault {
    /// What is known of a connection's token; `None` for kinds without, and before there is one. Asks
    /// nobody, and refreshes nothing.
    pub async fn status(&self, connection: &ConnectionRecord) -> Option<TokenStatus> {
        let catalogue = self.catalogue();
        let found = method(&catalogue, &connection.provider, Some(&connection.auth));
        found.ok()?.1.oauth.as_ref()?;
        let stored = self.stored(connection).await.ok()?;
        let Grant::OAuth(grant) = stored.grant(self, connection).ok()? else { return None };
        let facts = grant.facts();
        Some(TokenStatus {
            generation: stored.version.0,
            expires: facts.expires,
            refreshed: facts.sent,
            keep_alive: match facts.sent.is_some() || grant.revocable().is_some() {
                true => self.kept_until(connection, facts.sent),
                false => None,
            },
            awaited: self.cache.known(&connection.id).and_then(|cell| cell.late_since()),
            failing: self.failing(connection),
        })
    }

    /// How many connections have refreshes that fail, and how many of them for so long that somebody
    /// should look.
    pub fn failing_counts(&self) -> (usize, usize) {
        let view = self.directory.view();
        let failing: Vec<_> = view.connections().filter_map(|it| self.failing(it)).collect();
        (failing.len(), failing.iter().filter(|failing| failing.alert).count())
    }

    pub(super) fn failing(&self, connection: &ConnectionRecord) -> Option<Failing> {
        let cell = self.cache.known(&connection.id)?;
        let (now, backoff) = (self.clock.moment(), cell.backoff());
        let since = backoff.since()?;
        let lasts = Duration::try_from(now.day().duration_since(since)).unwrap_or_default();
        Some(Failing {
            since,
            alert: lasts >= self.token_settings().alert_after,
            count: backoff.failures(),
            code: backoff.code().map(ToOwned::to_owned),
            cause: backoff.cause().map(|cause| cause.as_str().to_owned()),
            message: backoff.message().map(ToOwned::to_owned),
            hint: backoff.cause().map(|cause| cause.remedy().to_owned()),
            next_try: after(now.day(), backoff.rest(now).unwrap_or_default()),
        })
    }
}

/// A moment so much later.
pub(super) fn after(now: Timestamp, rest: Duration) -> Timestamp {
    now.checked_add(rest).unwrap_or(Timestamp::MAX)
}

//! [`Patience`]: a start waits for a database that is being started, or fails over.

use std::time::{Duration, Instant};

use super::error::is_unanswered;

/// A database that is being started, or fails over, answers again within this time.
pub(super) const ANSWERED_WITHIN: Duration = Duration::from_secs(60);
const ANSWER_POLL: Duration = Duration::from_secs(1);
/// How often the log repeats why the database cannot be used.
const REPEATED_EVERY: Duration = Duration::from_secs(15);

/// How long a step of the start is repeated while the database of the store does not answer.
pub(super) struct Patience {
    until: Instant,
    /// The cause that the log has, and since when.
    last: Option<(String, Instant)>,
}

impl Patience {
    pub(super) fn begin() -> Self {
        Self { until: Instant::now() + ANSWERED_WITHIN, last: None }
    }

    /// Waits before the next attempt; false if another attempt does not help, or the time is over.
    pub(super) async fn waits(&mut self, error: &anyhow::Error) -> bool {
        if !is_unanswered(error.as_ref()) || Instant::now() >= self.until {
            return false;
        }
        let why = format!("{error:#}");
        let is_logged =
            |(before, at): &(String, Instant)| *before == why && at.elapsed() < REPEATED_EVERY;
        if !self.last.as_ref().is_some_and(is_logged) {
            let for_up_to = format!("{} s", ANSWERED_WITHIN.as_secs());
            tracing::warn!(
                why,
                for_up_to,
                "the database cannot be used yet; the start is tried again"
            );
            self.last = Some((why, Instant::now()));
        }
        tokio::time::sleep(ANSWER_POLL).await;
        true
    }
}

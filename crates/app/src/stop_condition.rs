//! [`StopCondition`]: when a gateway stops by itself.

use std::time::Duration;

use keyward_api::Runs;

/// How long a private gateway waits for its first run.
const FIRST_RUN_WITHIN: Duration = Duration::from_secs(30);

/// When a gateway stops.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum StopCondition {
    /// At a signal only.
    UntilSignalled,
    /// After the last run, or if no run begins.
    WithRuns,
}

impl StopCondition {
    /// Resolves when the gateway has to stop.
    pub(crate) async fn reached(self, runs: &Runs) {
        match self {
            Self::UntilSignalled => std::future::pending().await,
            Self::WithRuns => {
                // The first run may have been killed before it began.
                let _ = tokio::time::timeout(FIRST_RUN_WITHIN, runs.begun()).await;
                runs.ended().await;
            }
        }
    }
}

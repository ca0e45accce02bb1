//! Signals and the end. [`Hangups`]: the SIGHUPs of a process, from its first moments on. [`StopCondition`]: when a
//! gateway stops by itself; and [`StoppedWhile`]: what it was doing.

use std::io;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use keyward_api::Runs;
use keyward_vault::Vault;

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

/// What a gateway was doing when it was told to stop.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum StoppedWhile {
    /// It has served nothing. A thread of its may wait for the gateway before it.
    Starting,
    Serving,
    /// It awaits a token, or could not store one: the result is lost.
    Refreshing,
}

impl StoppedWhile {
    pub(crate) fn at_end(vault: &Vault) -> Self {
        match vault.refresh().is_refreshing() {
            true => Self::Refreshing,
            false => Self::Serving,
        }
    }
}

/// Waits for the results of refreshes in progress, for late ones as long as `oauth.stop_timeout` says.
pub(crate) async fn wait_for_refreshes(vault: &Vault) {
    let within = vault.refresh().flight_time().max(vault.token_settings().stop_timeout);
    if !vault.refresh().wait_for_flights(within).await {
        tracing::error!(
            id = "answer_lost",
            "a refresh did not end in time, and its result is lost: see `oauth.stop_timeout`"
        );
    }
}

/// The SIGHUPs since [`Hangups::register`]. A clone has all that this one has not waited for.
#[derive(Clone, Debug)]
pub struct Hangups(watch::Receiver<()>);

impl Hangups {
    /// Registers for SIGHUP, which would otherwise end the process. In a runtime.
    ///
    /// # Errors
    /// When no handler can be registered.
    pub fn register() -> io::Result<Self> {
        let mut signals = signal(SignalKind::hangup())?;
        let (sender, received) = watch::channel(());
        tokio::spawn(async move {
            while signals.recv().await.is_some() {
                sender.send_replace(());
            }
        });
        Ok(Self(received))
    }

    /// Waits for one. Several since the last call count as one. `None`: the runtime ends.
    pub(super) async fn next(&mut self) -> Option<()> {
        self.0.changed().await.ok()
    }
}

//! [`StartTurn`]: replicas of one store start one after the other, so that each finds the resources of the file as the one
//! before left them. A restore and a repair take the turn too, so that no replica starts meanwhile.

use std::sync::Arc;
use std::time::Duration;

use anyhow::ensure;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

use keyward_state::store::{Lease, Store, StoreError};

const NAME: &str = "start";
/// A replica that crashes while it starts holds the others up for so long.
const TURN: Duration = Duration::from_secs(30);
/// Often enough that one failure of the database does not end the turn.
const RENEW_EACH: Duration = Duration::from_secs(8);
/// Several replicas with many connections may start before this one.
const WAIT_MAX: Duration = Duration::from_secs(900);
const TRY_AGAIN_AFTER: Duration = Duration::from_millis(100);
/// A wait of this length is logged.
const LOGGED_AFTER: Duration = Duration::from_secs(2);

/// The turn to start, renewed until it is dropped.
#[must_use = "the turn ends when it is dropped"]
pub(crate) struct StartTurn {
    store: Arc<dyn Store>,
    lease: Arc<Lease>,
    renewal: JoinHandle<()>,
}

impl StartTurn {
    /// Waits for the turn; `None` if the store belongs to one process.
    ///
    /// # Errors
    /// When the store fails, or others start for [`WAIT_MAX`].
    pub(crate) async fn wait(store: &Arc<dyn Store>) -> anyhow::Result<Option<Self>> {
        if store.shared().is_none() {
            return Ok(None);
        }
        let (until, log_at) = (Instant::now() + WAIT_MAX, Instant::now() + LOGGED_AFTER);
        let mut is_logged = false;
        loop {
            if let Some(lease) = store.lease(NAME, TURN).await? {
                return Ok(Some(Self::of(store.clone(), lease)));
            }
            ensure!(
                Instant::now() < until,
                "other replicas have been starting for too long: start again"
            );
            if !is_logged && Instant::now() >= log_at {
                is_logged = true;
                tracing::info!("waiting for another replica or command that opens the store");
            }
            sleep(TRY_AGAIN_AFTER).await;
        }
    }

    fn of(store: Arc<dyn Store>, lease: Lease) -> Self {
        let lease = Arc::new(lease);
        let renewal = tokio::spawn(renew(store.clone(), lease.clone()));
        Self { store, lease, renewal }
    }

    /// Fails if another process had the turn since: this one was stopped, or without its database, for longer than the turn.
    pub(crate) async fn ensure_held(&self) -> anyhow::Result<()> {
        ensure!(
            self.store.renew_lease(&self.lease, TURN).await?,
            "another replica has started meanwhile: stop it, and begin again"
        );
        Ok(())
    }

    /// Ends the turn, if there is one. A failure is no error: the turn ends by itself when its time is over.
    pub(crate) async fn end_if_held(turn: Option<Self>) {
        if let Some(turn) = turn
            && let Err(error) = turn.end().await
        {
            tracing::debug!(%error, "the turn to start ends by itself");
        }
    }

    /// Ends it before this returns. A process that ends right after a drop would leave it until its time is over.
    async fn end(self) -> Result<(), StoreError> {
        self.renewal.abort();
        self.store.renew_lease(&self.lease, Duration::ZERO).await.map(drop)
    }
}

impl Drop for StartTurn {
    fn drop(&mut self) {
        self.renewal.abort();
    }
}

async fn renew(store: Arc<dyn Store>, lease: Arc<Lease>) {
    loop {
        sleep(RENEW_EACH).await;
        match store.renew_lease(&lease, TURN).await {
            Ok(true) => {}
            Ok(false) => {
                tracing::warn!(
                    "another replica starts beside this one: this one was without its database for too long"
                );
                return;
            }
            Err(error) => tracing::warn!(%error, "the turn to start was not renewed"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use keyward_state::store::memory::MemoryReplica;

    fn replicas() -> [Arc<dyn Store>; 2] {
        let first = MemoryReplica::first();
        let second = first.another();
        [Arc::new(first), Arc::new(second)]
    }

    /// Simulated time, in which other tasks run.
    async fn passes(time: Duration) {
        drop(tokio::time::timeout(time, std::future::pending::<()>()).await);
    }

    async fn turn(store: &Arc<dyn Store>) -> StartTurn {
        StartTurn::wait(store).await.expect("in time").expect("it has replicas")
    }

    #[tokio::test(start_paused = true)]
    async fn a_start_that_takes_longer_than_a_turn_keeps_the_others_waiting() {
        let [one, other] = replicas();
        let held = turn(&one).await;
        let began = Instant::now();
        let waiting = tokio::spawn(async move { (turn(&other).await, Instant::now()) });
        let long = 20 * TURN;
        passes(long).await;
        held.ensure_held().await.expect("it was renewed");
        drop(held);
        let (_second, at) = waiting.await.expect("no panic");
        assert!(at - began >= long && at - began < long + TURN, "{:?}", at - began);
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_for_too_long_says_so() {
        let [one, other] = replicas();
        let _held = turn(&one).await;
        let error = StartTurn::wait(&other).await.err().expect("the other one never ends");
        assert!(error.to_string().contains("start again"), "{error}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_turn_that_another_replica_had_is_not_held() {
        let [one, other] = replicas();
        let held = turn(&one).await;
        held.renewal.abort();
        passes(2 * TURN).await;
        let second = turn(&other).await;
        let error = held.ensure_held().await.expect_err("the other one has it");
        assert!(error.to_string().contains("another replica has started"), "{error}");
        second.end().await.expect("it ends");
        drop(turn(&one).await);
    }
}

//! [`StartLease`]: replicas of one store start one after the other, so that each finds the resources of the file as the one
//! before left them. A restore and a repair hold the lease too, so that no replica starts meanwhile.

use std::sync::Arc;
use std::time::Duration;

use anyhow::ensure;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

use keyward_state::store::{Lease, Store, StoreError};

const NAME: &str = "start";
/// A replica that crashes while it starts holds the others up for so long.
const LEASE: Duration = Duration::from_secs(30);
/// Often enough that the lease outlasts one failure of the database.
const RENEW_EACH: Duration = Duration::from_secs(8);
/// Several replicas with many connections may start before this one.
const WAIT_MAX: Duration = Duration::from_secs(900);
const TRY_AGAIN_AFTER: Duration = Duration::from_millis(100);
/// A wait of this length is logged.
const LOGGED_AFTER: Duration = Duration::from_secs(2);

/// The lease that a process holds while it starts, renewed until it is dropped.
#[must_use = "the lease is not renewed after it is dropped"]
pub(crate) struct StartLease {
    store: Arc<dyn Store>,
    lease: Arc<Lease>,
    renewal: JoinHandle<()>,
}

impl StartLease {
    /// Waits for the lease; `None` if the store belongs to one process.
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
            if let Some(lease) = store.lease(NAME, LEASE).await? {
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

    /// Fails if another process has held the lease since: this one was stopped, or without its database, until the lease expired.
    pub(crate) async fn ensure_held(&self) -> anyhow::Result<()> {
        ensure!(
            self.store.renew_lease(&self.lease, LEASE).await?,
            "another replica has started meanwhile: stop it, and begin again"
        );
        Ok(())
    }

    /// Releases the lease, if there is one. A failure is no error, because the lease expires.
    pub(crate) async fn release_if_held(lease: Option<Self>) {
        if let Some(lease) = lease
            && let Err(error) = lease.release().await
        {
            tracing::debug!(%error, "the start lease was not released: it expires");
        }
    }

    /// Releases it before this returns. If a process ended right after a drop, others would wait until the lease expires.
    async fn release(self) -> Result<(), StoreError> {
        self.renewal.abort();
        self.store.renew_lease(&self.lease, Duration::ZERO).await.map(drop)
    }
}

impl Drop for StartLease {
    fn drop(&mut self) {
        self.renewal.abort();
    }
}

async fn renew(store: Arc<dyn Store>, lease: Arc<Lease>) {
    loop {
        sleep(RENEW_EACH).await;
        match store.renew_lease(&lease, LEASE).await {
            Ok(true) => {}
            Ok(false) => {
                tracing::warn!(
                    "the start lease has expired, because the database could not be reached: another replica may start at the same time"
                );
                return;
            }
            Err(error) => tracing::warn!(%error, "cannot renew the start lease"),
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

    async fn hold(store: &Arc<dyn Store>) -> StartLease {
        StartLease::wait(store).await.expect("in time").expect("it has replicas")
    }

    #[tokio::test(start_paused = true)]
    async fn a_start_that_takes_longer_than_the_lease_keeps_the_others_waiting() {
        let [one, other] = replicas();
        let held = hold(&one).await;
        let began = Instant::now();
        let waiting = tokio::spawn(async move { (hold(&other).await, Instant::now()) });
        let long = 20 * LEASE;
        passes(long).await;
        held.ensure_held().await.expect("it was renewed");
        drop(held);
        let (_second, at) = waiting.await.expect("no panic");
        assert!(at - began >= long && at - began < long + LEASE, "{:?}", at - began);
    }

    #[tokio::test(start_paused = true)]
    async fn waiting_too_long_for_the_lease_is_an_error() {
        let [one, other] = replicas();
        let _held = hold(&one).await;
        let error = StartLease::wait(&other).await.err().expect("the other one never ends");
        assert!(error.to_string().contains("start again"), "{error}");
    }

    #[tokio::test(start_paused = true)]
    async fn ensure_held_fails_after_another_replica_has_held_the_lease() {
        let [one, other] = replicas();
        let held = hold(&one).await;
        held.renewal.abort();
        passes(2 * LEASE).await;
        let second = hold(&other).await;
        let error = held.ensure_held().await.expect_err("the other one has it");
        assert!(error.to_string().contains("another replica has started"), "{error}");
        second.release().await.expect("it is released");
        drop(hold(&one).await);
    }
}

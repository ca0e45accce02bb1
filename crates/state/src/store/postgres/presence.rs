//! The presence of a replica: a lease that it renews as long as it has the store open. A replica that starts while
//! others are present removes no leftovers of crashes, because they may be changes in progress of another replica.

use std::time::Duration;

use tokio::task::JoinHandle;

use super::change_notice::random_number;
use super::failure::PostgresError;
use super::pool::PostgresPool;
use super::sql;
use crate::store::StoreError;
use crate::store::shared::PRESENCE;

const RENEW_EVERY: Duration = Duration::from_secs(5);

/// The lease of this replica. It ends when dropped.
#[derive(Debug)]
pub(super) struct ReplicaPresence {
    name: Vec<u8>,
    number: i64,
    renewing: JoinHandle<()>,
}

impl ReplicaPresence {
    pub(super) async fn begin(pool: &PostgresPool) -> Result<Self, PostgresError> {
        let number = random_number().map_err(PostgresError::Store)?;
        let name = format!("replica/{:016x}", number.cast_unsigned()).into_bytes();
        announce(pool, &name, number).await.map_err(PostgresError::Store)?;
        let renewing = tokio::spawn(renew(pool.clone(), name.clone(), number));
        Ok(Self { name, number, renewing })
    }

    /// Ends the lease, and waits for it.
    pub(super) async fn leave(&self, pool: &PostgresPool) -> Result<(), StoreError> {
        self.renewing.abort();
        pool.query("end a lease", sql::RELEASE, &[&self.name, &self.number]).await?;
        pool.query("leave the list of replicas", sql::LEAVE, &[&self.name]).await.map(drop)
    }

    pub(super) fn name(&self) -> &[u8] {
        &self.name
    }

    pub(super) fn number(&self) -> i64 {
        self.number
    }
}

impl Drop for ReplicaPresence {
    fn drop(&mut self) {
        self.renewing.abort();
    }
}

async fn renew(pool: PostgresPool, name: Vec<u8>, number: i64) {
    let _given_up = GivenUp { pool: pool.clone(), name: name.clone(), number };
    loop {
        tokio::time::sleep(RENEW_EVERY).await;
        // The database may be away; the feed logs a warning about that.
        if let Err(error) = announce(&pool, &name, number).await {
            tracing::debug!(%error, "the presence of this replica is not renewed");
        }
    }
}

async fn announce(pool: &PostgresPool, name: &[u8], number: i64) -> Result<(), StoreError> {
    let seconds = PRESENCE.as_secs_f64();
    pool.query("announce a replica", sql::PRESENT, &[&name, &number, &seconds]).await.map(drop)
}

/// Ends the lease when the renewal is aborted.
struct GivenUp {
    pool: PostgresPool,
    name: Vec<u8>,
    number: i64,
}

impl Drop for GivenUp {
    fn drop(&mut self) {
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        let (pool, name, number) = (self.pool.clone(), std::mem::take(&mut self.name), self.number);
        runtime.spawn(async move {
            // If this fails, the lease expires.
            drop(pool.query("end a lease", sql::RELEASE, &[&name, &number]).await);
            drop(pool.query("leave the list of replicas", sql::LEAVE, &[&name]).await);
        });
    }
}

//! Background jobs of a gateway whose store has other replicas. Their changes come into the view, and what is in
//! memory of changed rows is dropped. The end of this replica's audit log is published in the store: at the start,
//! each minute, and at shutdown.

use std::fs;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::services::Services;
use crate::config::{Config, StoreChoice};
use keyward_base::time::Clock;
use keyward_state::directory::Directory;
use keyward_state::observe::heads::{ChainState, PublishedChain};
use keyward_state::observe::trail::Trail;
use keyward_state::store::Table;

/// Runs until dropped; ends at once where no other process writes the store.
pub(super) fn follow(services: &Services, config: &Config) -> impl Future<Output = ()> + use<> {
    let directory = services.directory.clone();
    if let StoreChoice::Postgres(choice) = &config.store {
        directory.set_stale_max(choice.stale_max);
    }
    let (vault, inbox) = (services.vault.clone(), Arc::clone(&services.inbox));
    async move {
        let changed = |table: Table, key: &str| {
            vault.changed_elsewhere(table, key);
            inbox.changed_elsewhere(table, key);
        };
        directory.follow(&changed).await;
    }
}

/// The file of the data directory with the host and the name of its last replica.
const LAST_REPLICA: &str = "replica";

/// Ends the leases of the last process of this data directory, which may have been killed: it has ended, because this one
/// has its admin socket. `is_handed_over`: it still runs.
pub(super) async fn succeed(services: &Services, config: &Config, is_handed_over: bool) {
    let path = config.data_dir.join(LAST_REPLICA);
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let last = fs::read_to_string(&path).unwrap_or_default();
    // A copy of the directory on another host has another last process.
    let before = last.strip_prefix(&host).map(str::trim).filter(|_| !is_handed_over);
    match services.directory.succeed(before).await {
        Ok(None) => {}
        Ok(Some(own)) => {
            if let Err(error) = fs::write(&path, format!("{host} {own}\n")) {
                tracing::warn!(%error, "after a crash, the leases of this process end by themselves");
            }
        }
        Err(error) => {
            tracing::warn!(%error, "the leases of the last process end by themselves");
        }
    }
}

/// Records that were written and cut off again within this time are missed.
const EVERY: Duration = Duration::from_secs(60);

/// Until the log has a record.
const FIRST_EVERY: Duration = Duration::from_secs(5);

pub(super) struct AuditHeadsJob {
    directory: Arc<Directory>,
    trail: Trail,
    clock: Clock,
    /// The chain of this log, once it is known.
    chain: Option<String>,
}

impl AuditHeadsJob {
    pub(super) fn of(services: &Services) -> Self {
        Self {
            directory: services.directory.clone(),
            trail: services.audit.clone(),
            clock: services.clock.clone(),
            chain: None,
        }
    }

    /// Runs until `close` turns true; ends at once where no other process writes the store.
    pub(super) async fn run(mut self, mut close: watch::Receiver<bool>) {
        if !self.directory.is_shared() {
            return;
        }
        loop {
            let ends = *close.borrow();
            if let Err(error) = self.publish(ends).await {
                tracing::warn!(%error, "the end of the audit log is not published: it is tried again in a minute");
            }
            if ends {
                return;
            }
            tokio::select! {
                () = tokio::time::sleep(if self.chain.is_some() { EVERY } else { FIRST_EVERY }) => {}
                _ = close.wait_for(|close| *close) => {}
            }
        }
    }

    async fn publish(&mut self, ends: bool) -> anyhow::Result<()> {
        let head = self.read(Trail::durable_head).await?;
        if head.seq == 0 {
            return Ok(());
        }
        let mut chain = self.own_chain().await?;
        chain.add(head, self.clock.now());
        chain.host = rustix::system::uname().nodename().to_string_lossy().into_owned();
        chain.ended = ends;
        self.directory.publish_audit_chain(&chain).await?;
        self.chain = Some(chain.chain);
        Ok(())
    }

    /// The chain that this log continues, as it was published last: also by the process before, which may still publish.
    async fn own_chain(&mut self) -> anyhow::Result<PublishedChain> {
        let known = match &self.chain {
            Some(own) => self.directory.audit_chain(own).await?.into_iter().collect(),
            None => self.directory.audit_chains().await?,
        };
        for chain in known {
            let compared = chain.clone();
            match self.read(move |trail| trail.compare(&compared)).await? {
                ChainState::Whole => return Ok(chain),
                ChainState::NotHere => {}
                // What was published stays, as evidence.
                state => tracing::error!(
                    id = "audit_log_changed",
                    ?state,
                    chain = chain.chain,
                    "records of the audit log were removed or altered: `keyward audit verify` names them"
                ),
            }
        }
        let mut name = [0; 8];
        getrandom::fill(&mut name).map_err(|_| anyhow::anyhow!("the system has no randomness"))?;
        let name = name.iter().map(|byte| format!("{byte:02x}")).collect();
        Ok(PublishedChain::new(name, String::new(), self.clock.now()))
    }

    async fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Trail) -> std::io::Result<T> + Send + 'static,
    ) -> anyhow::Result<T> {
        let trail = self.trail.clone();
        Ok(tokio::task::spawn_blocking(move || work(&trail)).await??)
    }
}

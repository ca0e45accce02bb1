//! Data that the replicas of one store share in addition to resources: keys, markers of single uses, and bytes that are
//! kept for a time. If one process owns the store, this data is in its memory.

use std::io;
use std::time::Duration;

use zeroize::Zeroizing;

use super::Directory;
use super::error::DirectoryError;
use super::index::everyone;
use super::rows::unreadable;
use crate::crypto::envelope::{EnvelopeError, Place};
use crate::observe::heads::PublishedChain;
use crate::store::{Lease, StoreError};

/// Prefix of the names of kept heads of audit logs.
const CHAINS: &str = "audit/";

/// How long the published heads of a stopped replica are kept.
const CHAINS_LIFE: Duration = Duration::from_secs(90 * 24 * 3_600);

/// The pause between two attempts to acquire a lease that another replica holds.
const LEASE_POLL: Duration = Duration::from_millis(50);

/// The table's name in the seals of kept bytes.
pub(super) const KEPT: &str = "kept";

impl Directory {
    /// A key for one purpose that all replicas have; `None` where one process owns the store.
    pub fn shared_key(&self, purpose: &str) -> Option<Zeroizing<[u8; 32]>> {
        self.is_shared().then(|| self.shared.index.derived(purpose))
    }

    /// Whether no other replica called this with the same name within `life`. Always true if one process owns the
    /// store: then the caller must remember it.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn claim_once(&self, name: &str, life: Duration) -> Result<bool, DirectoryError> {
        match self.shared.rows.store.shared() {
            None => Ok(true),
            Some(store) => Ok(store.claim_once(&format!("once/{name}"), life).await?),
        }
    }

    /// Ends the presence of another replica, which is known to have ended, and with it its leases. Returns the name of this
    /// one; `None` where one process owns the store.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn succeed(&self, before: Option<&str>) -> Result<Option<String>, DirectoryError> {
        let Some(store) = self.shared.rows.store.shared() else { return Ok(None) };
        if let Some(before) = before {
            store.end_replica(before).await?;
        }
        Ok(Some(store.own_name()))
    }

    /// Acquires a lease that excludes the other replicas until it is dropped, for `life` at most; `None` while another
    /// replica holds it.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn exclude_replicas(
        &self,
        name: &str,
        life: Duration,
    ) -> Result<Option<Lease>, DirectoryError> {
        Ok(self.shared.rows.store.lease(name, life).await?)
    }

    /// Like [`Directory::exclude_replicas`], but waits while another replica holds the lease; `None` if one process owns
    /// the store.
    ///
    /// # Errors
    /// When the store fails, or others hold the lease for twice its `life`.
    pub async fn wait_to_exclude_replicas(
        &self,
        name: &str,
        life: Duration,
    ) -> Result<Option<Lease>, DirectoryError> {
        if !self.is_shared() {
            return Ok(None);
        }
        let acquired = async {
            loop {
                if let Some(lease) = self.exclude_replicas(name, life).await? {
                    return Ok(Some(lease));
                }
                tokio::time::sleep(LEASE_POLL).await;
            }
        };
        let timed_out = |_| StoreError::Io {
            action: "wait for a change by another replica",
            source: io::ErrorKind::TimedOut.into(),
        };
        tokio::time::timeout(life * 2, acquired).await.map_err(timed_out)?
    }

    /// Stores bytes, sealed, for a time, so that all replicas can read them.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn keep(
        &self,
        name: &str,
        bytes: &[u8],
        life: Duration,
    ) -> Result<(), DirectoryError> {
        let Some(store) = self.shared.rows.store.shared() else { return Ok(()) };
        let org = everyone();
        let place = Place { org: &org, table: KEPT, key: name };
        let sealing = self.shared.rows.keyring.sealing().await;
        let sealed = sealing.seal(&place, bytes).map_err(DirectoryError::Seal)?;
        Ok(store.keep(name, &sealed, life).await?)
    }

    /// The bytes that a replica keeps under a name.
    ///
    /// # Errors
    /// When the store fails, or they do not open.
    pub async fn kept(&self, name: &str) -> Result<Option<Zeroizing<Vec<u8>>>, DirectoryError> {
        let Some(store) = self.shared.rows.store.shared() else { return Ok(None) };
        let Some(sealed) = store.kept(name).await? else { return Ok(None) };
        let org = everyone();
        let place = Place { org: &org, table: KEPT, key: name };
        match self.shared.rows.keyring.open(&place, &sealed) {
            Ok(bytes) => Ok(Some(bytes)),
            // A rotation of the master key does not re-wrap kept bytes.
            Err(EnvelopeError::UnknownKey(_)) => Ok(None),
            Err(source) => Err(unreadable(KEPT, name, source)),
        }
    }

    /// The published heads of all replicas' audit logs; none where one process owns the store. Heads that were sealed
    /// with a removed master key are omitted.
    ///
    /// # Errors
    /// When the store fails, or one does not open.
    pub async fn audit_chains(&self) -> Result<Vec<PublishedChain>, DirectoryError> {
        let Some(store) = self.shared.rows.store.shared() else { return Ok(Vec::new()) };
        let mut chains = Vec::new();
        for name in store.kept_names(CHAINS).await? {
            if let Some(bytes) = self.kept(&name).await? {
                chains.push(chain_of(&name, &bytes)?);
            }
        }
        Ok(chains)
    }

    /// The published heads of one chain.
    ///
    /// # Errors
    /// As [`Directory::audit_chains`].
    pub async fn audit_chain(&self, chain: &str) -> Result<Option<PublishedChain>, DirectoryError> {
        let name = format!("{CHAINS}{chain}");
        self.kept(&name).await?.map(|bytes| chain_of(&name, &bytes)).transpose()
    }

    /// Publishes the heads of this replica's audit log.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn publish_audit_chain(&self, chain: &PublishedChain) -> Result<(), DirectoryError> {
        let name = format!("{CHAINS}{}", chain.chain);
        let bytes = serde_json::to_vec(chain);
        let bytes =
            bytes.map_err(|_| DirectoryError::Malformed { table: KEPT, key: name.clone() })?;
        self.keep(&name, &bytes, CHAINS_LIFE).await
    }
}

fn chain_of(name: &str, bytes: &[u8]) -> Result<PublishedChain, DirectoryError> {
    let malformed = |_| DirectoryError::Malformed { table: KEPT, key: name.to_owned() };
    serde_json::from_slice(bytes).map_err(malformed)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::crypto::keyring::Keyring;
    use crate::store::Store;
    use crate::store::memory::{MemoryReplica, MemoryStore};
    use keyward_base::time::Clock;

    const MINUTE: Duration = Duration::from_secs(60);

    async fn open(store: impl Store + 'static, keyring: &Arc<Keyring>) -> Directory {
        let store: Arc<dyn Store> = Arc::new(store);
        Directory::open(store, keyring.clone(), Clock::simulated()).await.unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn replicas_share_derived_keys_single_use_claims_and_kept_answers() {
        let (keyring, rows) = (Arc::new(Keyring::ephemeral()), MemoryReplica::first());
        let other = rows.another();
        let (one, other) = (open(rows, &keyring).await, open(other, &keyring).await);
        let key = |of: &Directory, purpose| of.shared_key(purpose).map(|key| *key);
        assert_eq!(key(&one, "a"), key(&other, "a"));
        assert!(key(&one, "a").is_some() && key(&one, "a") != key(&one, "b"));
        assert!(one.claim_once("x", MINUTE).await.unwrap());
        assert!(!other.claim_once("x", MINUTE).await.unwrap());
        assert!(other.claim_once("y", MINUTE).await.unwrap());
        one.keep("n", b"an answer", MINUTE).await.unwrap();
        assert_eq!(other.kept("n").await.unwrap().unwrap().as_slice(), b"an answer");
        assert!(other.kept("m").await.unwrap().is_none());
        tokio::time::advance(MINUTE).await;
        assert!(other.kept("n").await.unwrap().is_none());
        assert!(one.claim_once("x", MINUTE).await.unwrap());
    }

    #[tokio::test]
    async fn a_process_that_owns_its_store_shares_no_keys_and_no_single_use_claims() {
        let alone = open(MemoryStore::new(), &Arc::new(Keyring::ephemeral())).await;
        assert!(alone.shared_key("a").is_none());
        assert!(alone.claim_once("x", MINUTE).await.unwrap());
        assert!(alone.claim_once("x", MINUTE).await.unwrap());
    }
}

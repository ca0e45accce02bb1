//! Rows in which replicas publish how many requests they allowed within rate limits (`proxy::limits`). They are
//! authenticated, not sealed: they contain only keyed hashes and counts, and are written so often that sealing would
//! wear out a master key.

use std::time::Duration;

use aws_lc_rs::hmac;

use super::Directory;
use super::error::DirectoryError;

/// Prefix of the names of kept rows.
const LIMITS: &str = "limits/";

/// How long a row is kept after its last write: longer than any period of a rate.
const LIFE: Duration = Duration::from_secs(4 * 3_600);

/// Bytes of the authentication code at the end of a row.
const TAG_BYTES: usize = 32;

/// The limits that a replica has published.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PublishedLimits {
    /// The name of the replica.
    pub replica: String,
    pub row: Vec<u8>,
    /// How long ago it was published, by the clock of the store.
    pub ago: Duration,
}

impl Directory {
    /// Publishes the limits of a replica, in place of its last row.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn publish_limits(
        &self,
        replica: &str,
        mut row: Vec<u8>,
    ) -> Result<(), DirectoryError> {
        let Some(store) = self.shared.rows.store.shared() else { return Ok(()) };
        let name = format!("{LIMITS}{replica}");
        let tag = hmac::sign(&self.limits_key(), &[name.as_bytes(), b"\0", &row].concat());
        row.extend_from_slice(tag.as_ref());
        Ok(store.keep(&name, &row, LIFE).await?)
    }

    /// The limits that replicas published within the last `within`, which must be shorter than `LIFE`. Rows that no
    /// replica wrote are ignored.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn published_limits(
        &self,
        within: Duration,
    ) -> Result<Vec<PublishedLimits>, DirectoryError> {
        let Some(store) = self.shared.rows.store.shared() else { return Ok(Vec::new()) };
        let key = self.limits_key();
        let mut all = Vec::new();
        for kept in store.kept_within(LIMITS, LIFE, within).await? {
            let Some((row, tag)) = kept.sealed.split_last_chunk::<TAG_BYTES>() else { continue };
            let signed = [kept.name.as_bytes(), b"\0", row].concat();
            let Some(replica) = kept.name.strip_prefix(LIMITS) else { continue };
            if hmac::verify(&key, &signed, tag).is_ok() {
                let (replica, row) = (replica.to_owned(), row.to_vec());
                all.push(PublishedLimits { replica, row, ago: kept.ago });
            }
        }
        Ok(all)
    }

    fn limits_key(&self) -> hmac::Key {
        let key = self.shared.index.derived("rows of shared limits");
        hmac::Key::new(hmac::HMAC_SHA256, key.as_slice())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::crypto::keyring::Keyring;
    use crate::store::memory::MemoryReplica;
    use crate::store::{SharedStore, Store};
    use keyward_base::time::Clock;

    #[tokio::test(start_paused = true)]
    async fn replicas_read_the_newest_limits_of_every_replica_and_no_forged_row() {
        let (keyring, rows) = (Arc::new(Keyring::ephemeral()), MemoryReplica::first());
        let (other, forger) = (rows.another(), rows.another());
        let open = async |store: MemoryReplica| {
            let store: Arc<dyn Store> = Arc::new(store);
            Directory::open(store, keyring.clone(), Clock::simulated()).await.unwrap()
        };
        let (one, other) = (open(rows).await, open(other).await);
        let long = LIFE * 2;
        one.publish_limits("a", b"first".to_vec()).await.unwrap();
        one.publish_limits("a", b"second".to_vec()).await.unwrap();
        tokio::time::advance(Duration::from_secs(60)).await;
        other.publish_limits("b", b"other".to_vec()).await.unwrap();
        let read = other.published_limits(long).await.unwrap();
        let read: Vec<_> =
            read.iter().map(|it| (&*it.replica, &*it.row, it.ago.as_secs())).collect();
        assert_eq!(read, [("a", &b"second"[..], 60), ("b", b"other", 0)]);
        assert_eq!(one.published_limits(Duration::from_secs(60)).await.unwrap().len(), 1);
        // The owner of the database forges a row, and copies a row to another name.
        let copied = forger.kept("limits/b").await.unwrap().unwrap();
        forger.keep("limits/a", &copied, LIFE).await.unwrap();
        forger.keep("limits/c", b"{}", LIFE).await.unwrap();
        let read = one.published_limits(long).await.unwrap();
        assert_eq!(read.iter().map(|it| &*it.replica).collect::<Vec<_>>(), ["b"]);
    }
}

//! [`CredentialCache`]: a bounded map of cells by connection. Unused cells are evicted.

use std::collections::HashMap;
use std::hash::BuildHasher;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;

use arc_swap::ArcSwap;
use foldhash::fast::RandomState;
use parking_lot::Mutex;

use super::CredentialCell;
use crate::refresh::backoff::Backoff;
use keyward_base::id::{ConnectionId, OrgId};
use keyward_base::time::Clock;
use keyward_rules::inject::credential::Credential;

/// Number of maps; adding a cell copies one of them.
const SHARDS: usize = 64;

/// A full map evicts this fraction of its cells at once (1/8), so that not every addition scans all cells.
const ROOM: usize = 8;

/// Cells by connection. The bound may be exceeded by cells with running flights or with data that is not stored yet.
#[derive(Debug)]
pub struct CredentialCache {
    shards: Box<[ArcSwap<Cells>]>,
    hashes: RandomState,
    adding: Mutex<()>,
    cells_max: AtomicUsize,
}

/// One shard of the cells.
#[derive(Clone, Debug, Default)]
struct Cells(HashMap<ConnectionId, Arc<CredentialCell>, RandomState>);

impl Default for CredentialCache {
    /// A cache without a bound.
    fn default() -> Self {
        let shards = (0..SHARDS).map(|_| ArcSwap::default()).collect();
        let cells_max = AtomicUsize::new(usize::MAX);
        Self { shards, hashes: RandomState::default(), adding: Mutex::default(), cells_max }
    }
}

impl CredentialCache {
    /// Sets the maximum number of cells; it applies to later additions.
    pub fn keep_at_most(&self, cells: usize) {
        self.cells_max.store(cells, Relaxed);
    }

    fn shard(&self, id: &ConnectionId) -> &ArcSwap<Cells> {
        &self.shards[self.hashes.hash_one(id) as usize % SHARDS]
    }

    /// The credential, if it is valid and need not be renewed.
    pub fn ready(&self, id: &ConnectionId, clock: &Clock) -> Option<Arc<Credential>> {
        let cells = self.shard(id).load();
        let cell = cells.0.get(id)?;
        let held = cell.held.load();
        let held = held.as_ref().filter(|held| held.is_young(clock))?;
        cell.mark_used();
        Some(held.credential.clone())
    }

    /// The cell of a connection; created if it does not exist.
    pub fn cell(&self, org: &OrgId, id: &ConnectionId) -> Arc<CredentialCell> {
        if let Some(cell) = self.used(id) {
            return cell;
        }
        let _turn = self.adding.lock();
        if let Some(cell) = self.used(id) {
            return cell;
        }
        let cell = Arc::new(CredentialCell::new(org.clone()));
        let mut cells = Cells::clone(&self.shard(id).load());
        cells.make_room(self.cells_max.load(Relaxed).div_ceil(SHARDS));
        cells.0.insert(id.clone(), cell.clone());
        self.shard(id).store(Arc::new(cells));
        cell
    }

    fn used(&self, id: &ConnectionId) -> Option<Arc<CredentialCell>> {
        self.known(id).inspect(|cell| cell.mark_used())
    }

    /// The cell of a connection, if its credential was looked up before and is still here.
    pub fn known(&self, id: &ConnectionId) -> Option<Arc<CredentialCell>> {
        self.shard(id).load().0.get(id).cloned()
    }

    /// The backoffs of all cells with failures.
    pub fn backoffs(&self) -> Vec<Backoff> {
        self.cells().map(|cell| cell.backoff()).filter(|it| it.failures() > 0).collect()
    }

    /// Forgets a connection's credential, because its grant changed. Results of running flights are
    /// dropped.
    pub fn forget(&self, id: &ConnectionId) {
        if let Some(cell) = self.known(id) {
            cell.reset(None);
        }
    }

    /// Forgets the credentials of an organisation's connections.
    pub fn forget_all_of(&self, org: &str) {
        for cell in self.cells().filter(|cell| cell.org.as_str() == org) {
            cell.reset(None);
        }
    }

    fn cells(&self) -> impl Iterator<Item = Arc<CredentialCell>> {
        self.shards.iter().flat_map(|it| it.load().0.values().cloned().collect::<Vec<_>>())
    }

    /// Forgets a connection's credential, and the response that the store has accepted or no longer needs.
    pub fn saved(&self, id: &ConnectionId) {
        if let Some(cell) = self.known(id) {
            cell.state.lock().unsaved = None;
            cell.reset(None);
        }
    }

    /// Removes the cell of a removed connection.
    pub fn remove(&self, id: &ConnectionId) {
        self.forget(id);
        let _turn = self.adding.lock();
        let mut cells = Cells::clone(&self.shard(id).load());
        if cells.0.remove(id).is_some() {
            self.shard(id).store(Arc::new(cells));
        }
    }

    /// Drops every cell that may be evicted.
    #[cfg(test)]
    pub(crate) fn drop_idle(&self) {
        let _turn = self.adding.lock();
        for shard in &self.shards {
            let mut cells = Cells::clone(&shard.load());
            cells.0.retain(|_, cell| !cell.retire());
            shard.store(Arc::new(cells));
        }
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.load().0.len()).sum()
    }
}

impl Cells {
    /// Evicts cells if there are already `max`: first those that were not used since the last eviction, then others.
    fn make_room(&mut self, max: usize) {
        if self.0.len() < max {
            return;
        }
        let mut over = self.0.len() - (max - max.div_ceil(ROOM).min(max));
        for _ in 0..2 {
            self.0.retain(|_, cell| {
                let goes = over > 0 && !cell.is_used.swap(false, Relaxed) && cell.retire();
                over -= usize::from(goes);
                !goes
            });
        }
    }
}

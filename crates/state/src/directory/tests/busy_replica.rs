//! [`BusyReplica`]: the store of a replica, beside which another replica makes a change at a chosen moment.

use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use parking_lot::Mutex;

use super::*;
use crate::store::memory::MemoryReplica;
use crate::store::{StoreError, StoreWrapper, Version, Write};

/// A store whose pages have one row each.
pub(super) struct BusyReplica {
    rows: MemoryReplica,
    moment: Moment,
    /// The pages of the moment's table that were read.
    pages: AtomicUsize,
    change: Mutex<Option<BoxFuture<'static, ()>>>,
}

/// When the other replica makes its change.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Moment {
    /// Before the page of this index of a table is read.
    BeforePage(Table, usize),
    /// After the first commit that deletes a row of a table, whose answer is then lost.
    AfterDelete(Table),
}

impl BusyReplica {
    pub(super) fn new(
        rows: MemoryReplica,
        moment: Moment,
        change: impl Future<Output = ()> + Send + 'static,
    ) -> Self {
        let (pages, change) = (AtomicUsize::new(0), Mutex::new(Some(change.boxed())));
        Self { rows, moment, pages, change }
    }
}

/// Follows other replicas until the view has all changes that they made before this call. Once per directory.
pub(super) async fn follow_until_now(directory: &Directory) {
    tokio::select! {
        // Before the follower has begun, there is nothing to catch up with.
        biased;
        () = directory.follow(&|_, _| {}) => panic!("it is followed already"),
        caught_up = directory.catch_up() => caught_up.unwrap(),
    }
}

impl fmt::Debug for BusyReplica {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BusyReplica").field("moment", &self.moment).finish_non_exhaustive()
    }
}

#[async_trait::async_trait]
impl StoreWrapper for BusyReplica {
    fn inner(&self) -> &dyn Store {
        &self.rows
    }

    async fn commit(&self, writes: Vec<Write>) -> Result<Vec<Version>, StoreError> {
        let is_moment = writes.iter().any(|write| match write {
            Write::Delete { table, .. } => self.moment == Moment::AfterDelete(*table),
            _ => false,
        });
        let versions = Store::commit(&self.rows, writes).await?;
        let change = is_moment.then(|| self.change.lock().take()).flatten();
        let Some(change) = change else { return Ok(versions) };
        change.await;
        let source = std::io::ErrorKind::TimedOut.into();
        Err(StoreError::Io { action: "delete a row", source })
    }

    async fn list(&self, table: Table, range: RowRange<'_>) -> Result<Vec<Row>, StoreError> {
        if let Moment::BeforePage(of, index) = self.moment
            && of == table
            && self.pages.fetch_add(1, SeqCst) == index
        {
            let change = self.change.lock().take();
            change.expect("each page is read once").await;
        }
        Store::list(&self.rows, table, RowRange { limit: range.limit.min(1), ..range }).await
    }
}

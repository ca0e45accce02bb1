//! [`RecordScan`]: reads all records of a table. Opening a row costs more than reading it from the store, so several
//! threads open pages, and a task reads the next pages meanwhile.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;

use serde::de::DeserializeOwned;
use tokio::sync::mpsc::{self, error::TryRecvError};
use tokio::task::{JoinHandle, spawn_blocking};
use zeroize::Zeroizing;

use super::error::DirectoryError;
use super::rows::{DirectoryRows, ReadRecord, RowId};
use crate::store::{Row, StoreError, Table};
use keyward_base::threads::cores;

/// Opens the rows of a page.
type Open<O> =
    Arc<dyn Fn(&DirectoryRows, Vec<Row>) -> Result<Vec<O>, DirectoryError> + Send + Sync>;

/// A page as it was read; an empty one is the end.
type Page = Result<Vec<Row>, StoreError>;

/// Pages that are opened at the same time, at most; each has up to 500 rows.
const PAGES_MAX: usize = 8;

/// A page with fewer rows is opened by the caller, because passing it to a thread costs more.
const ROWS_ALONE: usize = 16;

/// Pages that wait to be opened.
const READ_AHEAD: usize = 2;

/// The records of a table that have not been returned yet.
pub(super) struct RecordScan<O> {
    rows: DirectoryRows,
    table: Table,
    open: Open<O>,
    read: mpsc::Receiver<Page>,
    /// Whether the last page was read.
    is_read: bool,
    opening: VecDeque<OpeningPage<O>>,
    pages: usize,
}

/// A page that is opened.
enum OpeningPage<O> {
    Done(Result<Vec<O>, DirectoryError>),
    Running(JoinHandle<Result<Vec<O>, DirectoryError>>),
}

impl DirectoryRows {
    /// All records of a table.
    pub(super) async fn all<T: DeserializeOwned + Send + 'static>(
        &self,
        table: Table,
    ) -> Result<Vec<(RowId, ReadRecord<T>)>, DirectoryError> {
        let mut scan = self.scan(table, |at, read: ReadRecord<T>| {
            Ok((at, ReadRecord { text: Zeroizing::default(), ..read }))
        });
        let mut all = Vec::new();
        while let Some(page) = scan.next().await? {
            all.extend(page);
        }
        Ok(all)
    }

    /// All records of a table, page by page in the order of their keys, each converted by `take`.
    pub(super) fn scan<T: DeserializeOwned, O>(
        &self,
        table: Table,
        take: impl Fn(RowId, ReadRecord<T>) -> Result<O, DirectoryError> + Send + Sync + 'static,
    ) -> RecordScan<O> {
        let open = move |rows: &Self, page: Vec<Row>| {
            let each = |row: Row| {
                let at = RowId::of(table, &row.key)?;
                let read = rows.open(&at, &row)?;
                take(at, read)
            };
            page.into_iter().map(each).collect()
        };
        RecordScan::new(self.clone(), table, Arc::new(open))
    }
}

impl<O> RecordScan<O> {
    /// Starts to read.
    fn new(rows: DirectoryRows, table: Table, open: Open<O>) -> Self {
        let (send, read) = mpsc::channel(READ_AHEAD);
        tokio::spawn(read_pages(rows.clone(), table, send));
        let pages = (cores() + 1).min(PAGES_MAX);
        Self { rows, table, open, read, is_read: false, opening: VecDeque::new(), pages }
    }
}

/// Reads until the last page, or until the receiver is dropped.
async fn read_pages(rows: DirectoryRows, table: Table, send: mpsc::Sender<Page>) {
    let mut after: Option<String> = None;
    loop {
        let page = rows.page(table, after.as_deref()).await;
        after = page.as_ref().ok().and_then(|page| page.last()).map(|row| row.key.clone());
        if send.send(page).await.is_err() || after.is_none() {
            return;
        }
    }
}

impl<O: Send + 'static> RecordScan<O> {
    /// The next page; `None` after the last one.
    ///
    /// # Errors
    /// When the store fails, or a row does not open.
    pub(super) async fn next(&mut self) -> Result<Option<Vec<O>>, DirectoryError> {
        while !self.is_read && self.opening.len() < self.pages {
            let page = match (self.read.try_recv(), self.opening.is_empty()) {
                (Ok(page), _) => page?,
                (Err(TryRecvError::Empty), false) => break,
                (Err(_), _) => self.read.recv().await.ok_or(DirectoryError::Interrupted)??,
            };
            self.is_read = page.is_empty();
            let (rows, open) = (self.rows.clone(), Arc::clone(&self.open));
            match page.len() {
                0 => {}
                1..ROWS_ALONE => self.opening.push_back(OpeningPage::Done(open(&rows, page))),
                _ => {
                    let running = spawn_blocking(move || open(&rows, page));
                    self.opening.push_back(OpeningPage::Running(running));
                }
            }
        }
        let opened = match self.opening.pop_front() {
            None => return Ok(None),
            Some(OpeningPage::Done(opened)) => opened,
            Some(OpeningPage::Running(page)) => {
                page.await.unwrap_or(Err(DirectoryError::Interrupted))
            }
        };
        opened.map(Some)
    }
}

impl<O> fmt::Debug for RecordScan<O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scan").field("table", &self.table).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::keyring::Keyring;
    use crate::store::memory::MemoryStore;
    use crate::store::{Expect, Store};
    use keyward_base::id::OrgId;

    fn numbers(rows: &DirectoryRows) -> RecordScan<u32> {
        rows.scan(Table::Flows, |_, read: ReadRecord<u32>| Ok(read.record))
    }

    #[tokio::test]
    async fn pages_of_rows_come_in_order_and_a_damaged_row_of_a_late_page_is_named() {
        let store = Arc::new(MemoryStore::new());
        let rows = DirectoryRows::new(store.clone(), Arc::new(Keyring::ephemeral()));
        let place =
            |number: u32| RowId::new(Table::Flows, &OrgId::default_org(), format!("{number:05}"));
        let count = 500 * u32::try_from(PAGES_MAX).unwrap() + 501;
        for number in 0..count {
            rows.write(&place(number), &number, None).await.unwrap();
        }
        let (mut scan, mut found) = (numbers(&rows), Vec::new());
        while let Some(page) = scan.next().await.unwrap() {
            found.extend(page);
        }
        assert_eq!(found, (0..count).collect::<Vec<_>>());
        let key = place(count - 1).key();
        store.put(Table::Flows, &key, b"damaged", Expect::Any).await.unwrap();
        let mut scan = numbers(&rows);
        let error = loop {
            match scan.next().await {
                Ok(page) => assert!(page.is_some(), "the damaged row was passed over"),
                Err(error) => break error,
            }
        };
        assert!(error.to_string().contains(&key), "{error}");
    }
}

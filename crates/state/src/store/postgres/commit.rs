//! Commits of rows. One row is one statement. Several are one transaction at READ COMMITTED, in which each precondition is
//! checked by the statement that locks its row until the end; statements and transactions are repeated after
//! serialization failures and deadlocks, and transactions whose stream ended before their end.
//!
//! If the answer to the end of a transaction is lost, it was committed as a whole or not at all: the caller reads one of
//! its rows.

use deadpool_postgres::{Object, Transaction};
use tokio_postgres::{IsolationLevel, Row};

use super::change_notice::{KnownChange, Place};
use super::failure::PostgresFailure;
use super::sql::{self, Parameter, RowChange, typed};
use super::{PostgresStore, between, part_of, version};
use crate::store::error::conflict;
use crate::store::{Expect, StoreError, Table, Version, Write};

/// The name of the operation in errors.
const COMMIT: &str = "write rows";

/// Why a transaction was not committed.
enum CommitFailure {
    /// The precondition of this write is not met.
    Unmet(usize),
    /// There is no stream.
    Stream(StoreError),
    /// It failed before its end, so that nothing was written.
    Before(PostgresFailure),
    /// Its end failed, so that it may have been committed.
    AtEnd(PostgresFailure),
}

/// A committed transaction.
struct Committed {
    /// The new versions of the writes, by their index.
    versions: Vec<Option<Version>>,
    changes: Vec<(Place, KnownChange)>,
}

/// The parameters of the change of a row.
struct RowParameters<'a> {
    table: &'static str,
    key: &'a [u8],
    value: &'a [u8],
    version: i64,
    part: i16,
}

impl<'a> RowParameters<'a> {
    fn of(write: &'a Write) -> Self {
        let (value, expect) = match write {
            Write::Put { value, expect, .. } => (value.as_slice(), *expect),
            Write::Delete { expect, .. } => (&[][..], *expect),
            Write::Exists { .. } | Write::NoneBelow { .. } => (&[][..], Expect::Any),
        };
        let version = match expect {
            Expect::Version(version) | Expect::Load(version) => version.0.cast_signed(),
            Expect::Absent | Expect::Any => 0,
        };
        let (key, part) = (write.key().as_bytes(), part_of(write.key()).cast_signed());
        Self { table: write.table().name(), key, value, version, part }
    }

    fn all(&self) -> [&dyn Parameter; 5] {
        [&self.table, &self.key, &self.value, &self.version, &self.part]
    }
}

/// The change of a row; `None` for a condition.
fn change_of(write: &Write) -> Option<&'static RowChange> {
    match write {
        Write::Put { expect, .. } => Some(match expect {
            Expect::Absent => &sql::INSERT,
            Expect::Any => &sql::UPSERT,
            Expect::Version(_) => &sql::UPDATE,
            Expect::Load(_) => &sql::LOAD,
        }),
        Write::Delete { expect: Expect::Any, .. } => Some(&sql::DELETE_ANY),
        Write::Delete { expect: Expect::Version(_), .. } => Some(&sql::DELETE),
        Write::Delete { .. } | Write::Exists { .. } | Write::NoneBelow { .. } => None,
    }
}

impl PostgresStore {
    /// Makes these writes, and returns the versions of the rows that were put.
    pub(super) async fn commit_rows(&self, writes: &[Write]) -> Result<Vec<Version>, StoreError> {
        self.version.may_write(COMMIT)?;
        if let [write] = writes
            && let Some(versions) = self.commit_row(write).await?
        {
            return Ok(versions);
        }
        let Committed { versions, changes } = self.transact(writes).await?;
        for (place, change) in changes {
            self.made(place, change);
        }
        Ok(versions.into_iter().flatten().collect())
    }

    /// A commit of one row; `None` if the write is only a condition.
    async fn commit_row(&self, write: &Write) -> Result<Option<Vec<Version>>, StoreError> {
        let Some(change) = change_of(write) else { return Ok(None) };
        let parameters = RowParameters::of(write);
        let (table, key) = (write.table(), write.key());
        let (action, is_put) = match write {
            Write::Put { .. } => ("write a row", true),
            _ => ("delete a row", false),
        };
        let rows = self.pool.query(action, change.counted, &parameters.all()).await?;
        match rows.first() {
            Some(row) => self.made((table, part_of(key)), KnownChange::of(row, 1, 2)),
            None if may_lack_row(write) => {}
            None => return Err(conflict(table, key)),
        }
        let versions = rows.first().filter(|_| is_put).map(|row| version(row.get(0)));
        Ok(Some(versions.into_iter().collect()))
    }

    /// Commits a transaction. It is repeated if the database has certainly not committed it: after serialization failures
    /// and deadlocks, and once on another stream if the server is read-only or the stream ended before the commit.
    async fn transact(&self, writes: &[Write]) -> Result<Committed, StoreError> {
        let (mut repeats, mut is_moved) = (0, false);
        loop {
            let error = match self.attempt(writes).await {
                Ok(committed) => return Ok(committed),
                Err(CommitFailure::Unmet(at)) => {
                    return Err(conflict(writes[at].table(), writes[at].key()));
                }
                Err(CommitFailure::Stream(error)) => return Err(error),
                Err(CommitFailure::Before(failure))
                    if !is_moved && (failure.is_read_only() || failure.is_of_stream()) =>
                {
                    is_moved = true;
                    continue;
                }
                Err(CommitFailure::Before(failure) | CommitFailure::AtEnd(failure))
                    if failure.repeats(&mut repeats).await =>
                {
                    continue;
                }
                Err(CommitFailure::Before(failure)) => failure.during(COMMIT).before_writing(),
                Err(CommitFailure::AtEnd(failure)) => failure.during(COMMIT),
            };
            return Err(error);
        }
    }

    /// One attempt, on one stream, which is closed if it failed.
    async fn attempt(&self, writes: &[Write]) -> Result<Committed, CommitFailure> {
        let mut stream = self.pool.stream(COMMIT).await.map_err(CommitFailure::Stream)?;
        let committed = self.on_stream(&mut stream, writes).await;
        if let Err(CommitFailure::Before(failure) | CommitFailure::AtEnd(failure)) = &committed {
            self.pool.close_after(stream, failure);
        }
        committed
    }

    async fn on_stream(
        &self,
        stream: &mut Object,
        writes: &[Write],
    ) -> Result<Committed, CommitFailure> {
        let begun = stream.build_transaction().isolation_level(IsolationLevel::ReadCommitted);
        let transaction = self.pool.bounded(begun.start()).await.map_err(CommitFailure::Before)?;
        let (mut versions, mut counted) = (vec![None; writes.len()], Vec::new());
        for at in in_order(writes) {
            let write = &writes[at];
            let row = RowParameters::of(write);
            let rows = match (change_of(write), write) {
                (Some(change), _) => self.query(&transaction, change.alone, &row.all()).await?,
                (None, Write::NoneBelow { key, .. }) => {
                    let (from, to) = between(key, None);
                    let range: [&dyn Parameter; 3] = [&row.table, &from, &to];
                    self.query(&transaction, sql::ONE_BELOW, &range).await?
                }
                (None, _) => {
                    self.query(&transaction, sql::KEEP_ROW, &[&row.table, &row.key]).await?
                }
            };
            match rows.first() {
                Some(_) if must_lack_row(write) => return Err(CommitFailure::Unmet(at)),
                Some(row) => {
                    let is_put = matches!(write, Write::Put { .. });
                    versions[at] = is_put.then(|| version(row.get(0)));
                    let changed = write.changed();
                    counted.extend(changed.map(|(table, key)| ((table, part_of(key)), key)));
                }
                None if must_lack_row(write) || may_lack_row(write) => {}
                None => return Err(CommitFailure::Unmet(at)),
            }
        }
        counted.sort_unstable();
        let mut changes = Vec::with_capacity(counted.len());
        for ((table, part), key) in counted {
            let (name, key, stored_part) = (table.name(), key.as_bytes(), part.cast_signed());
            let place: [&dyn Parameter; 3] = [&name, &key, &stored_part];
            let rows = self.query(&transaction, sql::COUNT, &place).await?;
            changes.extend(rows.first().map(|row| ((table, part), KnownChange::of(row, 0, 1))));
        }
        self.pool.bounded(transaction.commit()).await.map_err(CommitFailure::AtEnd)?;
        Ok(Committed { versions, changes })
    }

    /// Runs a statement of a transaction.
    async fn query(
        &self,
        transaction: &Transaction<'_>,
        statement: &'static str,
        parameters: &[&dyn Parameter],
    ) -> Result<Vec<Row>, CommitFailure> {
        let parameters = typed(parameters);
        let answer = transaction.query_typed(statement, &parameters);
        self.pool.bounded(answer).await.map_err(CommitFailure::Before)
    }
}

/// Whether a write without a row is made.
fn may_lack_row(write: &Write) -> bool {
    matches!(write, Write::Delete { expect: Expect::Any, .. })
}

/// Whether the statement of a write must find no row.
fn must_lack_row(write: &Write) -> bool {
    let is_absent = |expect: &Expect| matches!(expect, Expect::Absent | Expect::Load(_));
    match write {
        Write::Delete { expect, .. } => is_absent(expect),
        Write::NoneBelow { .. } => true,
        Write::Put { .. } | Write::Exists { .. } => false,
    }
}

/// The indexes of the writes in the order in which every commit locks rows. Rows below a key are looked for last, when no
/// other commit can add one.
fn in_order(writes: &[Write]) -> Vec<usize> {
    let mut order: Vec<_> = (0..writes.len()).collect();
    order.sort_unstable_by(|one, other| rank(&writes[*one]).cmp(&rank(&writes[*other])));
    order
}

fn rank(write: &Write) -> (bool, Table, &str) {
    (matches!(write, Write::NoneBelow { .. }), write.table(), write.key())
}

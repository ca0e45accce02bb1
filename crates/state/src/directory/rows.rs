//! [`DirectoryRows`]: the sealed rows of a store. A row is a record and its version as JSON, sealed for its table and
//! its key, `ORG/ID`. The version inside must be the row's own. This detects an older value that was restored under the
//! current version.
//!
//! A change of a record keeps the members that this version does not know, because a newer version wrote them. They are
//! what the stored JSON has and the JSON of the record as it was read does not have, at any depth. An item of a list
//! keeps its members if it is still in the list: the same item, or one with the same id.

use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Error, Value, from_value, to_value};
use zeroize::Zeroizing;

use super::error::DirectoryError;
use crate::crypto::envelope::{EnvelopeError, Place, is_same_sealing};
use crate::crypto::keyring::{Keyring, Sealing};
use crate::store::{Expect, Row, RowRange, Store, StoreError, Table, Version, Write};
use keyward_base::id::OrgId;

/// Rows per page when all records are loaded.
const PAGE: usize = 500;

/// Keys per page, without their rows.
const PAGE_OF_KEYS: usize = 5_000;
/// The members that identify an item of a list, the first of them that it has.
const IDENTITIES: [&str; 4] = ["id", "connection", "hash", "name"];

/// The place of a record.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct RowId {
    pub table: Table,
    pub org: OrgId,
    pub id: String,
}

/// A record as it was read.
#[derive(Debug)]
pub(super) struct ReadRecord<T> {
    pub record: T,
    pub version: Version,
    /// Its stored JSON, which may have members that this version does not know. Empty for records that are read to be
    /// shown only.
    pub text: Zeroizing<Vec<u8>>,
}

#[derive(Serialize)]
struct WrittenRecord<'a, T> {
    version: u64,
    record: &'a T,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OpenedRecord<T> {
    version: u64,
    record: T,
}

/// A row that was read and opened, whose record is not parsed yet.
struct OpenedRow {
    plaintext: Zeroizing<Vec<u8>>,
    version: Version,
}

/// A part of a commit, before it is sealed.
pub(super) enum RowWrite {
    /// Writes a record over the version that was read, or as a new row.
    Put { at: RowId, plaintext: Zeroizing<Vec<u8>>, over: Option<Version> },
    /// Deletes the version that was read, or any version.
    Delete { at: RowId, over: Option<Version> },
    /// The row exists.
    Exists(RowId),
    /// The organisation has no row in the table.
    NoneOf(Table, OrgId),
}

/// A row of another table that is written with a record, at the id of the record: its secret.
#[derive(Clone)]
pub struct RowBeside {
    table: Table,
    plaintext: Zeroizing<Vec<u8>>,
    over: Option<Version>,
}

/// The store with its keys: all rows that the directory reads and writes go through it.
#[derive(Clone, Debug)]
pub(super) struct DirectoryRows {
    pub(super) store: Arc<dyn Store>,
    pub(super) keyring: Arc<Keyring>,
}

impl RowId {
    pub(super) fn new(table: Table, org: &OrgId, id: impl ToString) -> Self {
        Self { table, org: org.clone(), id: id.to_string() }
    }

    /// Every key begins with its org.
    pub(super) fn key(&self) -> String {
        format!("{}/{}", self.org, self.id)
    }

    pub(super) fn parse(table: Table, key: &str) -> Option<Self> {
        let (org, id) = key.split_once('/')?;
        Some(Self::new(table, &OrgId::parse(org).ok()?, id))
    }

    /// The place of a row that was read.
    pub(super) fn of(table: Table, key: &str) -> Result<Self, DirectoryError> {
        let malformed = || DirectoryError::Malformed { table: table.name(), key: key.to_owned() };
        Self::parse(table, key).ok_or_else(malformed)
    }

    pub(super) fn malformed(&self) -> DirectoryError {
        DirectoryError::Malformed { table: self.table.name(), key: self.key() }
    }
}

impl OpenedRow {
    fn record<T: DeserializeOwned>(self, at: &RowId) -> Result<ReadRecord<T>, DirectoryError> {
        let OpenedRecord { version, record } =
            serde_json::from_slice(&self.plaintext).map_err(|_| at.malformed())?;
        match version == self.version.0 {
            true => Ok(ReadRecord { record, version: self.version, text: self.plaintext }),
            false => Err(DirectoryError::RolledBack { table: at.table.name(), key: at.key() }),
        }
    }
}

impl<T: Serialize + DeserializeOwned + PartialEq> ReadRecord<T> {
    /// [`plaintext`] of the changed record, written over this one. Keeps members that this version does not know.
    pub(super) fn plaintext_of(
        &self,
        at: &RowId,
        changed: &T,
    ) -> Result<Zeroizing<Vec<u8>>, DirectoryError> {
        let kept = || {
            let OpenedRecord { record: stored, .. } = serde_json::from_slice(&self.text)?;
            with_unknown_members(&stored, &self.record, changed)
        };
        plaintext(at, &kept().map_err(|_| at.malformed())?, Some(self.version))
    }
}

/// A record as JSON with the version of its row, which is written over the version that was read, or over none.
pub(super) fn plaintext<T: Serialize>(
    at: &RowId,
    record: &T,
    over: Option<Version>,
) -> Result<Zeroizing<Vec<u8>>, DirectoryError> {
    let version = over.unwrap_or_default().next().0;
    let written = serde_json::to_vec(&WrittenRecord { version, record });
    Ok(Zeroizing::new(written.map_err(|_| at.malformed())?))
}

impl RowBeside {
    /// A row whose content has a form of its own, for the version after `over`.
    pub fn new(table: Table, plaintext: Zeroizing<Vec<u8>>, over: Option<Version>) -> Self {
        Self { table, plaintext, over }
    }

    /// A row of JSON.
    ///
    /// # Errors
    /// When it cannot be serialized.
    pub fn json<T: Serialize>(table: Table, record: &T) -> Result<Self, DirectoryError> {
        let written = serde_json::to_vec(&WrittenRecord { version: 1, record });
        let malformed = |_| DirectoryError::Malformed { table: table.name(), key: String::new() };
        Ok(Self::new(table, Zeroizing::new(written.map_err(malformed)?), None))
    }

    /// The row beside a record.
    pub(super) fn of(self, org: &OrgId, id: &impl ToString) -> RowWrite {
        let at = RowId::new(self.table, org, id.to_string());
        RowWrite::Put { at, plaintext: self.plaintext, over: self.over }
    }
}

impl RowWrite {
    /// Writes a record.
    pub(super) fn put<T: Serialize>(
        at: RowId,
        record: &T,
        over: Option<Version>,
    ) -> Result<Self, DirectoryError> {
        let plaintext = plaintext(&at, record, over)?;
        Ok(Self::Put { at, plaintext, over })
    }

    /// The row that it changes, and its version then; `None`: the row is gone.
    pub(super) fn changed(&self) -> Option<(&RowId, Option<Version>)> {
        match self {
            Self::Put { at, over, .. } => Some((at, Some(over.unwrap_or_default().next()))),
            Self::Delete { at, .. } => Some((at, None)),
            Self::Exists(_) | Self::NoneOf(..) => None,
        }
    }

    fn sealed(&self, sealing: &Sealing) -> Result<Write, DirectoryError> {
        Ok(match self {
            Self::Put { at, plaintext, over } => {
                let key = at.key();
                let place = Place { org: &at.org, table: at.table.name(), key: &key };
                let sealed = sealing.seal(&place, plaintext).map_err(DirectoryError::Seal)?;
                Write::put(at.table, key, sealed, over.map_or(Expect::Absent, Expect::Version))
            }
            Self::Delete { at, over } => {
                Write::delete(at.table, at.key(), over.map_or(Expect::Any, Expect::Version))
            }
            Self::Exists(at) => Write::Exists { table: at.table, key: at.key() },
            Self::NoneOf(table, org) => Write::NoneBelow { table: *table, key: format!("{org}/") },
        })
    }
}

impl DirectoryRows {
    pub(super) fn new(store: Arc<dyn Store>, keyring: Arc<Keyring>) -> Self {
        Self { store, keyring }
    }

    /// One record. A rotation of the master key may wrap it again between reading and opening, and
    /// drop the key that it was read under: then it is read again.
    pub(super) async fn read<T: DeserializeOwned>(
        &self,
        at: &RowId,
    ) -> Result<Option<ReadRecord<T>>, DirectoryError> {
        let opened = self.read_row(at).await?;
        opened.map(|opened| opened.record(at)).transpose()
    }

    async fn read_row(&self, at: &RowId) -> Result<Option<OpenedRow>, DirectoryError> {
        let mut before: Option<Row> = None;
        loop {
            let Some(row) = self.store.get(at.table, &at.key()).await? else { return Ok(None) };
            match self.open_row(at, &row) {
                Err(DirectoryError::Unreadable {
                    source: EnvelopeError::UnknownKey(_), ..
                }) if before.as_ref() != Some(&row) => {
                    before = Some(row);
                }
                result => return result.map(Some),
            }
        }
    }

    /// The version of a record; `None`: there is none.
    pub(super) async fn version(&self, at: &RowId) -> Result<Option<Version>, DirectoryError> {
        Ok(self.store.get(at.table, &at.key()).await?.map(|row| row.version))
    }

    /// The places of all records of an organisation in one table. No record is opened.
    pub(super) async fn places(&self, table: Table, org: &OrgId) -> Result<Vec<RowId>, StoreError> {
        self.places_below(table, &format!("{org}/")).await
    }

    /// The places of all records of a table. No record is opened.
    pub(super) async fn all_places(&self, table: Table) -> Result<Vec<RowId>, StoreError> {
        self.places_below(table, "").await
    }

    /// The places of all records whose keys have this prefix. No record is opened.
    pub(super) async fn places_below(
        &self,
        table: Table,
        prefix: &str,
    ) -> Result<Vec<RowId>, StoreError> {
        let mut all = Vec::new();
        let mut after: Option<String> = None;
        loop {
            let range = RowRange { prefix, after: after.as_deref(), limit: PAGE_OF_KEYS };
            let page = self.store.list_keys(table, range).await?;
            let Some((last, _)) = page.last() else { return Ok(all) };
            after = Some(last.clone());
            all.extend(page.iter().filter_map(|(key, _)| RowId::parse(table, key)));
        }
    }

    /// Reads a page of sealed rows.
    pub(super) async fn page(
        &self,
        table: Table,
        after: Option<&str>,
    ) -> Result<Vec<Row>, StoreError> {
        self.store.list(table, RowRange::after(after, PAGE)).await
    }

    /// Whether the table has no row at all.
    pub(super) async fn is_empty(&self, table: Table) -> Result<bool, DirectoryError> {
        Ok(self.store.list(table, RowRange::first(1)).await?.is_empty())
    }

    /// Writes a record over the version that was read, or a new one over none: a [`Self::commit`] of one row.
    pub(super) async fn write<T: Serialize>(
        &self,
        at: &RowId,
        record: &T,
        over: Option<Version>,
    ) -> Result<Version, DirectoryError> {
        self.commit(&[RowWrite::put(at.clone(), record, over)?]).await?;
        Ok(over.unwrap_or_default().next())
    }

    /// Deletes the version that was read, or any version if `over` is `None`.
    pub(super) async fn delete(
        &self,
        at: &RowId,
        over: Option<Version>,
    ) -> Result<(), DirectoryError> {
        self.commit(&[RowWrite::Delete { at: at.clone(), over }]).await
    }

    /// Seals the rows and writes them as one act. A commit that may have been made is attempted twice before an error is
    /// returned.
    pub(super) async fn commit(&self, rows: &[RowWrite]) -> Result<(), DirectoryError> {
        if rows.is_empty() {
            return Ok(());
        }
        // Held until the rows are on disk.
        let sealing = self.keyring.sealing().await;
        let writes: Result<Vec<_>, _> = rows.iter().map(|row| row.sealed(&sealing)).collect();
        let writes = writes?;
        let first = match self.store.commit(writes.clone()).await {
            Err(error) if error.is_outcome_unknown() => error,
            committed => return Ok(committed.map(drop)?),
        };
        let conflict = match self.store.commit(writes.clone()).await {
            Ok(_) => return Ok(()),
            Err(error @ StoreError::Conflict { .. }) => error,
            Err(_) => return Err(first.into()),
        };
        // The repetition conflicts with the first attempt, if that was made.
        match self.was_made(&writes, &conflict).await {
            Ok(Some(true)) => Ok(()),
            Ok(Some(false)) => Err(conflict.into()),
            // The rows have changed since.
            Ok(None) | Err(_) => Err(first.into()),
        }
    }

    /// Whether a commit was made. All of its rows tell the same, so that one which is not changed since is enough; the row
    /// of the conflict is read first. The sealed bytes show whose write it was, also after another replica has rotated the
    /// master key.
    async fn was_made(
        &self,
        writes: &[Write],
        conflict: &StoreError,
    ) -> Result<Option<bool>, StoreError> {
        let is_its = |write: &&Write| conflict.is_conflict_of(write.table(), write.key());
        for write in writes.iter().filter(is_its).chain(writes) {
            match write {
                Write::Put { table, key, value, expect } => {
                    let Some(row) = self.store.get(*table, key).await? else { continue };
                    let written = match expect {
                        Expect::Version(over) => over.next(),
                        Expect::Absent | Expect::Any | Expect::Load(_) => Version(1),
                    };
                    if is_same_sealing(&row.value, value) || row.version == written {
                        return Ok(Some(is_same_sealing(&row.value, value)));
                    }
                }
                Write::Delete { table, key, expect: Expect::Version(over) } => {
                    let now = self.store.get(*table, key).await?.map(|row| row.version);
                    if now.is_none() || now == Some(*over) {
                        return Ok(Some(now.is_none()));
                    }
                }
                Write::Delete { .. } | Write::Exists { .. } | Write::NoneBelow { .. } => {}
            }
        }
        Ok(None)
    }

    /// Opens a row that was read.
    pub(super) fn open<T: DeserializeOwned>(
        &self,
        at: &RowId,
        row: &Row,
    ) -> Result<ReadRecord<T>, DirectoryError> {
        self.open_row(at, row)?.record(at)
    }

    fn open_row(&self, at: &RowId, row: &Row) -> Result<OpenedRow, DirectoryError> {
        let (table, key) = (at.table.name(), at.key());
        let place = Place { org: &at.org, table, key: &key };
        let plaintext = self.keyring.open(&place, &row.value);
        let plaintext = plaintext.map_err(|source| unreadable(table, &key, source))?;
        Ok(OpenedRow { plaintext, version: row.version })
    }
}

pub(super) fn unreadable(table: &'static str, key: &str, source: EnvelopeError) -> DirectoryError {
    DirectoryError::Unreadable { table, key: key.to_owned(), source }
}

/// The JSON of a changed record, with the unknown members of the stored JSON that it was read from. Without them if the
/// result would be read as another record.
fn with_unknown_members<T>(stored: &Value, read: &T, changed: &T) -> Result<Value, Error>
where
    T: Serialize + DeserializeOwned + PartialEq,
{
    let (known, written) = (to_value(read)?, to_value(changed)?);
    if *stored == known {
        return Ok(written);
    }
    let mut merged = written.clone();
    merge(&mut merged, stored, &known);
    // An earlier version may have written a value in another form, which would then be there twice.
    let is_same = from_value::<T>(merged.clone()).is_ok_and(|record| record == *changed);
    Ok(if is_same { merged } else { written })
}

/// Adds the members to `written` that `stored` has and `known` does not have.
fn merge(written: &mut Value, stored: &Value, known: &Value) {
    match (written, stored, known) {
        (Value::Object(written), Value::Object(stored), Value::Object(known)) => {
            for (name, stored) in stored {
                match (written.get_mut(name), known.get(name)) {
                    (None, None) => drop(written.insert(name.clone(), stored.clone())),
                    (Some(written), Some(known)) => merge(written, stored, known),
                    // The change has removed it, or this version writes it in another form.
                    (None, Some(_)) | (Some(_), None) => {}
                }
            }
        }
        (Value::Array(written), Value::Array(stored), Value::Array(known))
            if stored.len() == known.len() =>
        {
            merge_items(written, stored.iter().zip(known));
        }
        _ => {}
    }
}

/// [`merge`] of the items of a list. Most items keep their order, so that the search continues after the last one that was
/// found.
fn merge_items<'a>(written: &mut [Value], read: impl Iterator<Item = (&'a Value, &'a Value)>) {
    let mut next = 0;
    for (stored, known) in read.filter(|(stored, known)| stored != known) {
        let (before, after) = written.split_at(next);
        let is_same = |item: &Value| is_same(item, known);
        let found = after.iter().position(is_same).map(|at| next + at);
        if let Some(at) = found.or_else(|| before.iter().position(is_same)) {
            merge(&mut written[at], stored, known);
            next = at + 1;
        }
    }
}

/// Whether an item of a list is the one that was read.
fn is_same(item: &Value, read: &Value) -> bool {
    match IDENTITIES.iter().find_map(|name| read.get(name).map(|id| (name, id))) {
        Some((name, id)) => item.get(name) == Some(id),
        None => item == read,
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;
    use serde_json::json;

    use super::*;

    #[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
    struct Item {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        id: Option<u8>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        label: Option<String>,
    }

    #[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
    struct Row {
        #[serde(alias = "title")]
        name: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        note: Option<String>,
        #[serde(default)]
        items: Vec<Item>,
    }

    /// The JSON that a change leaves of a stored one.
    fn after(stored: &Value, change: impl FnOnce(&mut Row)) -> Value {
        let read: Row = from_value(stored.clone()).unwrap();
        let mut changed = read.clone();
        change(&mut changed);
        with_unknown_members(stored, &read, &changed).unwrap()
    }

    #[test]
    fn a_member_that_the_change_removes_or_that_has_an_older_name_does_not_stay() {
        let stored = json!({"name": "a", "note": "x", "items": [], "newer": 1});
        let wanted = json!({"name": "a", "items": [], "newer": 1});
        assert_eq!(after(&stored, |row| row.note = None), wanted);
        let stored = json!({"title": "a", "items": []});
        assert_eq!(
            after(&stored, |row| row.name = "b".to_owned()),
            json!({"name": "b", "items": []})
        );
    }

    #[test]
    fn items_of_a_list_keep_their_members_wherever_they_move() {
        let stored = json!({"name": "a", "items": [
            {"id": 1, "newer": 1}, {"id": 2}, {"id": 3, "newer": 3}, {"label": "x", "newer": 4},
        ]});
        let with = |items: Value| json!({"name": "a", "items": items});
        let wanted = with(json!([{"id": 2}, {"id": 3, "newer": 3}, {"label": "x", "newer": 4}]));
        assert_eq!(after(&stored, |row| drop(row.items.remove(0))), wanted);
        let wanted = with(json!([
            {"label": "x", "newer": 4}, {"id": 3, "newer": 3}, {"id": 2}, {"id": 1, "newer": 1},
        ]));
        assert_eq!(after(&stored, |row| row.items.reverse()), wanted);
        let relabelled = after(&stored, |row| row.items[0].label = Some("one".to_owned()));
        assert_eq!(relabelled["items"][0], json!({"id": 1, "label": "one", "newer": 1}));
        // Without an id, it is another item.
        let replaced = after(&stored, |row| row.items[3].label = Some("y".to_owned()));
        assert_eq!(replaced["items"][3], json!({"label": "y"}));
    }
}

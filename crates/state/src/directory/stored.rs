//! [`Stored`]: resources that the directory reads, adds, changes and removes in the same way, with unique names and
//! compare-and-swap. Each kind implements [`Resource`] and this trait.

use std::borrow::Cow;
use std::collections::HashSet;
use std::future::{self, Future};
use std::sync::Arc;

use keyward_base::id::OrgId;
use keyward_model::{ManagedBy, Record, Reference, Resource, check_fixed};

use super::collection::Collection;
use super::commit::{RecordChange, Viewed};
use super::error::DirectoryError;
use super::holders::NamedConnections;
use super::index::{Index, NameKind, Unique};
use super::rows::{ReadRecord, RowBeside, RowId};
use super::view::{OrgView, View};
use super::{Directory, DirectoryWriter, check, run_to_completion};
use crate::store::{StoreError, Table, Version};

/// How often a change is retried after a conflict.
pub(super) const EDIT_TRIES: usize = 8;

/// A resource that the directory keeps.
pub trait Stored: Resource {
    /// The table of its rows.
    #[doc(hidden)]
    const TABLE: Table;

    /// The namespace of its names.
    #[doc(hidden)]
    const NAMED: NameKind;

    #[doc(hidden)]
    fn of(org: &OrgView) -> &Collection<Self>;

    /// Like [`Self::of`], mutable.
    #[doc(hidden)]
    fn of_mut(org: &mut OrgView) -> &mut Collection<Self>;

    /// Its name among all of its kind in the organisation.
    #[doc(hidden)]
    fn full_name(record: &Record<Self>) -> Cow<'_, str> {
        Cow::Borrowed(record.name())
    }

    /// The unique values of a record: by default its name.
    #[doc(hidden)]
    fn unique(record: &Record<Self>, index: &Index) -> Vec<Unique> {
        vec![index.unique_name(&record.org, Self::NAMED, record.name())]
    }

    /// Adds a record to the further indexes of the view, after it was put into the view.
    #[doc(hidden)]
    fn add_to_indexes(_view: &mut View, _record: &Arc<Record<Self>>) {}

    /// Removes a record from these indexes, after it was removed from the view or before another version is put there.
    #[doc(hidden)]
    fn remove_from_indexes(_view: &mut View, _record: &Arc<Record<Self>>) {}

    /// The connections that it names for an agent.
    #[doc(hidden)]
    fn held(_record: &Record<Self>) -> Option<NamedConnections> {
        None
    }

    /// Checks a new record against all others, with the write lock.
    ///
    /// # Errors
    /// When it is refused.
    fn may_add(_record: &Record<Self>, _view: &View) -> Result<(), DirectoryError> {
        Ok(())
    }

    /// Checks a change against all other records, with the write lock. The caller checks `managed_by`, because the
    /// gateway itself may change any record.
    ///
    /// # Errors
    /// When it is refused.
    fn may_change(
        _before: &Record<Self>,
        _after: &Record<Self>,
        _view: &View,
    ) -> Result<(), DirectoryError> {
        Ok(())
    }

    /// Checks a removal, with the write lock.
    ///
    /// # Errors
    /// When the file manages it (and `by` is not the file), or another record needs it.
    fn may_remove(
        record: &Record<Self>,
        by: ManagedBy,
        _view: &View,
    ) -> Result<(), DirectoryError> {
        check::editor(record.managed_by, by, Self::KIND.one, record.name())
    }

    /// Adds to the removal of a record the changes of others that are made with it.
    #[doc(hidden)]
    fn removal<'a>(
        _writer: &'a DirectoryWriter,
        _record: &'a Record<Self>,
        _change: &'a mut RecordChange,
    ) -> impl Future<Output = Result<(), DirectoryError>> + Send + 'a {
        future::ready(Ok(()))
    }

    /// Deletes rows that nothing reads any more, after the removal. May release the write lock.
    #[doc(hidden)]
    fn after_removal(
        _writer: DirectoryWriter,
        _record: Record<Self>,
    ) -> impl Future<Output = Result<(), DirectoryError>> + Send {
        future::ready(Ok(()))
    }
}

/// The two accessors of [`Stored`]: the field of [`OrgView`] that has the records of this kind.
macro_rules! stored_in {
    ($field:ident) => {
        fn of(
            org: &$crate::directory::view::OrgView,
        ) -> &$crate::directory::collection::Collection<Self> {
            &org.$field
        }

        fn of_mut(
            org: &mut $crate::directory::view::OrgView,
        ) -> &mut $crate::directory::collection::Collection<Self> {
            &mut org.$field
        }
    };
}
pub(super) use stored_in;

impl View {
    /// All records of a kind in an organisation, in no particular order.
    ///
    /// The iterator is boxed, because what callers chain to it is compiled for each kind of records.
    pub fn all<R: Stored>(
        &self,
        org: &OrgId,
    ) -> Box<dyn Iterator<Item = &Arc<Record<R>>> + Send + '_> {
        Box::new(self.of_org(org).into_iter().flat_map(|org| R::of(org).values()))
    }

    pub fn one<R: Stored>(&self, org: &OrgId, id: &R::Id) -> Option<&Arc<Record<R>>> {
        R::of(self.of_org(org)?).get(id)
    }

    /// The record that a field of another one names.
    ///
    /// # Errors
    /// When it does not exist.
    pub(super) fn named<R: Stored>(
        &self,
        org: &OrgId,
        named: &Reference<R::Id>,
    ) -> Result<&Arc<Record<R>>, DirectoryError> {
        let found = named.id().and_then(|id| self.one::<R>(org, id));
        found.ok_or_else(|| DirectoryError::not_found(R::KIND.one, named))
    }

    /// Checks that the record that an optional field names exists.
    ///
    /// # Errors
    /// When it does not.
    pub(super) fn has_named<R: Stored>(
        &self,
        org: &OrgId,
        named: Option<&Reference<R::Id>>,
    ) -> Result<(), DirectoryError> {
        named.map_or(Ok(()), |named| self.named::<R>(org, named).map(drop))
    }

    pub fn find<R: Stored>(&self, org: &OrgId, name_or_id: &str) -> Option<&Arc<Record<R>>> {
        R::of(self.of_org(org)?).find(name_or_id)
    }

    /// Puts a record into this copy of the view, in place of an older version.
    pub fn put<R: Stored>(&mut self, record: Arc<Record<R>>) {
        let known = self.known_org_mut(&record.org);
        let before = known.and_then(|org| R::of_mut(org).remove(&record.id, R::full_name));
        if let Some(before) = &before {
            R::remove_from_indexes(self, before);
        }
        let org = self.org_mut(&record.org);
        let held = before.and_then(|before| R::held(&before));
        org.holders.change(held.as_ref(), R::held(&record).as_ref());
        R::of_mut(org).put(R::full_name(&record).into(), Arc::clone(&record));
        R::add_to_indexes(self, &record);
    }

    /// Takes a record out of this copy of the view.
    pub fn take_out<R: Stored>(&mut self, org: &OrgId, id: &R::Id) {
        let Some(org) = self.known_org_mut(org) else { return };
        if let Some(before) = R::of_mut(org).remove(id, R::full_name) {
            org.holders.change(R::held(&before).as_ref(), None);
            R::remove_from_indexes(self, &before);
        }
    }
}

impl<R: Stored> Viewed for Record<R> {
    fn show(self: Arc<Self>, view: &mut View) {
        view.put(self);
    }
}

impl Directory {
    /// Adds a record with a new id.
    ///
    /// # Errors
    /// As [`Directory::add_record`].
    pub async fn add<R: Stored>(
        &self,
        org: &OrgId,
        managed_by: ManagedBy,
        spec: R::Spec,
        facts: R::Facts,
    ) -> Result<Arc<Record<R>>, DirectoryError> {
        self.add_record(Record::new(org, managed_by, spec, facts, self.shared.clock.now())).await
    }

    /// Adds a record that is made already.
    ///
    /// # Errors
    /// When the spec is refused, the name is taken, or there are too many.
    pub async fn add_record<R: Stored>(
        &self,
        record: Record<R>,
    ) -> Result<Arc<Record<R>>, DirectoryError> {
        self.add_with(record, None).await
    }

    /// Adds a record and, in the same act, a row beside it.
    ///
    /// # Errors
    /// As [`Directory::add_record`]. Unless the outcome is unknown, neither was added then.
    pub async fn add_with<R: Stored>(
        &self,
        record: Record<R>,
        beside: Option<RowBeside>,
    ) -> Result<Arc<Record<R>>, DirectoryError> {
        R::check(&record.spec)?;
        self.write(|writer| async move { writer.add_with(record, beside).await }).await
    }

    /// Changes a record. Without a difference, nothing is written; else `updated` is set.
    ///
    /// # Errors
    /// As [`Directory::edit`].
    pub async fn change<R: Stored>(
        &self,
        org: &OrgId,
        id: &R::Id,
        change: impl Fn(&mut Record<R>) + Sync,
    ) -> Result<Arc<Record<R>>, DirectoryError> {
        let change = |record: &mut Record<R>| {
            change(record);
            Ok(())
        };
        self.edit(org, id, &change).await
    }

    /// Changes a record, unless `change` refuses; it is called again after a conflict with another writer. Id,
    /// organisation and creation time stay.
    ///
    /// # Errors
    /// When there is none, `change` refuses, the changed spec is refused, it changes a fixed field, or its new name is
    /// taken.
    pub async fn edit<R: Stored, E: From<DirectoryError>>(
        &self,
        org: &OrgId,
        id: &R::Id,
        change: &(dyn Fn(&mut Record<R>) -> Result<(), E> + Sync),
    ) -> Result<Arc<Record<R>>, E> {
        self.edit_with(org, id, change, None).await
    }

    /// [`Directory::edit`], with a row that is written in the same commit.
    ///
    /// # Errors
    /// As there. Unless the outcome is unknown, neither was changed then.
    pub async fn edit_with<R: Stored, E: From<DirectoryError>>(
        &self,
        org: &OrgId,
        id: &R::Id,
        change: &(dyn Fn(&mut Record<R>) -> Result<(), E> + Sync),
        beside: Option<RowBeside>,
    ) -> Result<Arc<Record<R>>, E> {
        let at = RowId::new(R::TABLE, org, id);
        for _ in 0..EDIT_TRIES {
            let writer = self.turn().await?;
            let read = writer.read::<R>(&at).await?;
            let mut after = read.record.clone();
            change(&mut after)?;
            if after == read.record && beside.is_none() {
                return Ok(Arc::new(after));
            }
            let beside = beside.clone();
            let work = async move { writer.put_changed(&read, after, beside).await };
            match run_to_completion(Box::pin(work)).await {
                Err(error) if error.is_conflict() => {}
                other => return Ok(other?),
            }
        }
        Err(overtaken(&at).into())
    }

    /// Removes a record, with all data that must not exist without it.
    ///
    /// # Errors
    /// When there is none, the file manages it (and `by` is not the file), or another record needs it.
    pub async fn remove<R: Stored>(
        &self,
        org: &OrgId,
        id: &R::Id,
        by: ManagedBy,
    ) -> Result<(), DirectoryError> {
        self.remove_if::<R>(org, id, by, |_| true).await
    }

    /// Removes a record if `is_wanted` is true for it.
    ///
    /// # Errors
    /// As [`Directory::remove`], and when `is_wanted` is false for it.
    pub async fn remove_if<R: Stored>(
        &self,
        org: &OrgId,
        id: &R::Id,
        by: ManagedBy,
        is_wanted: impl Fn(&Record<R>) -> bool + Send + Sync + 'static,
    ) -> Result<(), DirectoryError> {
        let at = RowId::new(R::TABLE, org, id);
        self.write(|writer| async move {
            let removed = writer.remove::<R>(&at, by, &is_wanted).await?;
            R::after_removal(writer, removed).await
        })
        .await
    }
}

impl DirectoryWriter {
    pub(super) async fn add<R: Stored>(
        &self,
        record: Record<R>,
    ) -> Result<Arc<Record<R>>, DirectoryError> {
        self.add_with(record, None).await
    }

    async fn add_with<R: Stored>(
        &self,
        record: Record<R>,
        beside: Option<RowBeside>,
    ) -> Result<Arc<Record<R>>, DirectoryError> {
        let mut change = RecordChange::default();
        let added = self.add_in(&mut change, record)?;
        if let Some(beside) = beside {
            change.add(beside.of(&added.org, &added.id));
        }
        self.commit(change).await?;
        Ok(added)
    }

    /// Adds a new record to a change. Its organisation must exist when the change is made.
    pub(super) fn add_in<R: Stored>(
        &self,
        change: &mut RecordChange,
        record: Record<R>,
    ) -> Result<Arc<Record<R>>, DirectoryError> {
        self.need_org(change, &record.org)?;
        let view = self.view.load_full();
        let is_bounded = R::KIND.max != usize::MAX;
        if is_bounded && view.all::<R>(&record.org).count() >= R::KIND.max {
            return Err(DirectoryError::TooMany { what: R::KIND.many, max: R::KIND.max });
        }
        R::may_add(&record, &view)?;
        self.put_in(change, None, record)
    }

    /// Writes a change over the record that was read.
    pub(super) async fn put_changed<R: Stored>(
        &self,
        read: &ReadRecord<Record<R>>,
        after: Record<R>,
        beside: Option<RowBeside>,
    ) -> Result<Arc<Record<R>>, DirectoryError> {
        let mut change = RecordChange::default();
        let after = self.change_in(&mut change, read, after)?;
        if let Some(beside) = beside {
            change.add(beside.of(&after.org, &after.id));
        }
        self.commit(change).await?;
        Ok(after)
    }

    /// Adds a changed record to a change, over the one that was read.
    pub(super) fn change_in<R: Stored>(
        &self,
        change: &mut RecordChange,
        read: &ReadRecord<Record<R>>,
        mut after: Record<R>,
    ) -> Result<Arc<Record<R>>, DirectoryError> {
        let before = &read.record;
        (after.id, after.org) = (before.id.clone(), before.org.clone());
        after.created = before.created;
        // A token of its own, for example, does not change it.
        after.updated = before.updated;
        if R::DATED && after.version() != before.version() {
            after.updated = Some(self.clock.now());
        }
        check_fixed::<R>(&before.spec, &after.spec)?;
        R::check(&after.spec)?;
        R::may_change(before, &after, &self.view.load_full())?;
        self.put_in(change, Some(read), after)
    }

    /// Adds a record to a change, in place of the one that was read or as a new one, with its unique values.
    fn put_in<R: Stored>(
        &self,
        change: &mut RecordChange,
        read: Option<&ReadRecord<Record<R>>>,
        after: Record<R>,
    ) -> Result<Arc<Record<R>>, DirectoryError> {
        let at = RowId::new(R::TABLE, &after.org, &after.id);
        let before = read.map(|read| R::unique(&read.record, &self.index)).unwrap_or_default();
        let mut freed: HashSet<RowId> = before.into_iter().map(|unique| unique.at).collect();
        let mut new = R::unique(&after, &self.index);
        // Unique values of both versions stay.
        new.retain(|unique| !freed.remove(&unique.at));
        let record = change.write(at.clone(), read, after)?;
        for unique in new {
            change.reserve(unique, &at.id)?;
        }
        change.free(freed);
        Ok(record)
    }

    /// [`Directory::remove_if`] while the write lock is held, without [`Stored::after_removal`].
    pub(super) async fn remove<R: Stored>(
        &self,
        at: &RowId,
        by: ManagedBy,
        is_wanted: &(dyn Fn(&Record<R>) -> bool + Send + Sync),
    ) -> Result<Record<R>, DirectoryError> {
        for _ in 0..EDIT_TRIES {
            let ReadRecord { record, version, .. } = self.read::<R>(at).await?;
            if !is_wanted(&record) {
                let (what, name) = (R::KIND.one, record.name().to_owned());
                return Err(DirectoryError::Changed { what, name });
            }
            R::may_remove(&record, by, &self.view.load_full())?;
            let mut change = RecordChange::default();
            self.remove_in(&mut change, &record, Some(version));
            R::removal(self, &record, &mut change).await?;
            match self.commit(change).await {
                Err(error) if error.is_conflict() => {}
                removed => return removed.map(|()| record),
            }
        }
        Err(overtaken(at))
    }

    /// Adds the removal of a record to a change, only in the version `over` if given.
    pub(super) fn remove_in<R: Stored>(
        &self,
        change: &mut RecordChange,
        record: &Record<R>,
        over: Option<Version>,
    ) {
        let (org, id) = (record.org.clone(), record.id.clone());
        change.delete(RowId::new(R::TABLE, &org, &id), over);
        change.free(R::unique(record, &self.index).into_iter().map(|unique| unique.at));
        change.show(move |view| view.take_out::<R>(&org, &id));
    }
}

pub(super) fn overtaken(at: &RowId) -> DirectoryError {
    StoreError::Conflict { table: at.table.name(), key: at.key() }.into()
}

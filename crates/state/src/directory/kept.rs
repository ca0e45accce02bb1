//! [`Kept`]: resources that the directory keeps generically: reading, adding, changing and removing them, with
//! unique names and compare-and-swap. What is particular to one is its [`Resource`] and a few lines here.

use std::sync::Arc;

use keyward_base::id::{Id, OrgId};
use keyward_base::shared_map::{Difference, SharedMap, SharedNames};
use keyward_model::{Honeytoken, ManagedBy, Record, Resource};

use super::commit::Viewed;
use super::error::DirectoryError;
use super::index::Named;
use super::rows::{At, Read};
use super::view::{OrgView, View};
use super::{Directory, Writer, check};
use crate::store::{StoreError, Table};

/// How often a change is tried that other writers overtake.
const EDIT_TRIES: usize = 8;

/// A resource that the directory keeps.
pub trait Kept: Resource {
    /// Where its rows are.
    #[doc(hidden)]
    const TABLE: Table;

    /// Its space of names.
    #[doc(hidden)]
    const NAMED: Named;

    /// All of an organisation.
    #[doc(hidden)]
    fn of(org: &OrgView) -> &Collection<Self>;

    /// The same, to be changed.
    #[doc(hidden)]
    fn of_mut(org: &mut OrgView) -> &mut Collection<Self>;

    /// A further index follows: `record` came.
    #[doc(hidden)]
    fn came(_view: &mut View, _record: &Arc<Record<Self>>) {}

    /// The same: `record` went.
    #[doc(hidden)]
    fn went(_view: &mut View, _record: &Record<Self>) {}
}

/// The records of one kind in one organisation, by id and by name. Lookups are O(1).
#[derive(Clone, Debug)]
pub struct Collection<R: Resource> {
    by_id: SharedMap<R::Id, Arc<Record<R>>>,
    by_name: SharedNames<Arc<str>, R::Id>,
}

impl<R: Resource> Default for Collection<R> {
    fn default() -> Self {
        Self { by_id: SharedMap::default(), by_name: SharedNames::default() }
    }
}

impl<R: Resource> Collection<R> {
    pub(super) fn get(&self, id: &R::Id) -> Option<&Arc<Record<R>>> {
        self.by_id.get(id)
    }

    /// By name or id. No name looks like an id.
    pub(super) fn find(&self, name_or_id: &str) -> Option<&Arc<Record<R>>> {
        match R::Id::parse(name_or_id) {
            Ok(id) => self.by_id.get(&id),
            Err(_) => self.by_id.get(self.by_name.get(name_or_id)?),
        }
    }

    /// All, in no particular order.
    pub(super) fn values(&self) -> impl Iterator<Item = &Arc<Record<R>>> {
        self.by_id.values()
    }

    /// Where it differs from one before; a record is the same when it was not put again.
    pub(super) fn differences<'a>(
        &'a self,
        before: &'a Self,
    ) -> Vec<Difference<'a, Arc<Record<R>>>> {
        self.by_id.differences(&before.by_id, Arc::ptr_eq)
    }

    fn put(&mut self, record: Arc<Record<R>>) {
        self.by_name.insert(record.name().into(), record.id.clone());
        self.by_id.insert(record.id.clone(), record);
    }

    fn remove(&mut self, id: &R::Id) -> Option<Arc<Record<R>>> {
        let record = self.by_id.remove(id)?;
        self.by_name.remove(record.name());
        Some(record)
    }
}

impl Kept for Honeytoken {
    const TABLE: Table = Table::Honeytokens;
    const NAMED: Named = Named::Honeytoken;

    fn of(org: &OrgView) -> &Collection<Self> {
        &org.honeytokens
    }

    fn of_mut(org: &mut OrgView) -> &mut Collection<Self> {
        &mut org.honeytokens
    }

    fn came(view: &mut View, record: &Arc<Record<Self>>) {
        let org = view.org_mut(&record.org);
        org.honeytoken_cores.insert(record.facts.placeholder.core(), record.id.clone());
    }

    fn went(view: &mut View, record: &Record<Self>) {
        let org = view.org_mut(&record.org);
        org.honeytoken_cores.remove(&record.facts.placeholder.core());
    }
}

impl View {
    /// All of an organisation, in no particular order.
    pub fn all<R: Kept>(&self, org: &OrgId) -> impl Iterator<Item = &Arc<Record<R>>> {
        self.of_org(org).into_iter().flat_map(|org| R::of(org).by_id.values())
    }

    /// One by id.
    pub fn one<R: Kept>(&self, org: &OrgId, id: &R::Id) -> Option<&Arc<Record<R>>> {
        R::of(self.of_org(org)?).get(id)
    }

    /// One by name or id.
    pub fn find<R: Kept>(&self, org: &OrgId, name_or_id: &str) -> Option<&Arc<Record<R>>> {
        R::of(self.of_org(org)?).find(name_or_id)
    }

    /// What a row of this kind is of: its kind, id and name.
    pub(super) fn thing_of<R: Kept>(&self, at: &At) -> Option<(&'static str, String, String)> {
        let id = R::Id::parse(&at.id).ok()?;
        let record = self.one::<R>(&at.org, &id)?;
        Some((R::KIND.one, at.id.clone(), record.name().to_owned()))
    }

    pub(super) fn put<R: Kept>(&mut self, record: Arc<Record<R>>) {
        self.take_out::<R>(&record.org, &record.id);
        R::came(self, &record);
        R::of_mut(self.org_mut(&record.org)).put(record);
    }

    pub(super) fn take_out<R: Kept>(&mut self, org: &OrgId, id: &R::Id) {
        let Some(org) = self.known_org_mut(org) else { return };
        if let Some(before) = R::of_mut(org).remove(id) {
            R::went(self, &before);
        }
    }
}

impl<R: Kept> Viewed for Record<R> {
    fn show(self: Arc<Self>, view: &mut View) {
        view.put(self);
    }
}

impl Directory {
    /// Makes one.
    ///
    /// # Errors
    /// When the spec is refused, the name is taken, or there are too many.
    pub async fn add<R: Kept>(
        &self,
        org: &OrgId,
        managed_by: ManagedBy,
        spec: R::Spec,
        facts: R::Facts,
    ) -> Result<Arc<Record<R>>, DirectoryError> {
        R::check(&spec)?;
        let created = self.shared.clock.now();
        let (id, org) = (R::Id::random(), org.clone());
        let record = Record { id, org, spec, facts, managed_by, created };
        self.write(|writer| async move { writer.add(record).await }).await
    }

    /// Changes one. The name, the id and who manages it stay; a change that changes nothing writes nothing.
    ///
    /// # Errors
    /// When there is none, or the changed spec is refused.
    pub async fn change<R: Kept>(
        &self,
        org: &OrgId,
        id: &R::Id,
        change: impl Fn(&mut Record<R>) + Send + Sync + 'static,
    ) -> Result<Arc<Record<R>>, DirectoryError> {
        let at = At::new(R::TABLE, org, id);
        self.write(|writer| async move { writer.change(&at, &change).await }).await
    }

    /// Removes one.
    ///
    /// # Errors
    /// When there is none, or the file manages it (and `by` is not the file).
    pub async fn remove<R: Kept>(
        &self,
        org: &OrgId,
        id: &R::Id,
        by: ManagedBy,
    ) -> Result<(), DirectoryError> {
        let at = At::new(R::TABLE, org, id);
        self.write(|writer| async move { writer.remove::<R>(&at, by).await }).await
    }
}

impl Writer {
    pub(super) async fn add<R: Kept>(
        &self,
        record: Record<R>,
    ) -> Result<Arc<Record<R>>, DirectoryError> {
        self.needs_org(&record.org)?;
        if self.view.load().all::<R>(&record.org).count() >= R::KIND.max {
            return Err(DirectoryError::TooMany { what: R::KIND.many, max: R::KIND.max });
        }
        let name = self.index.name(&record.org, R::NAMED, record.name());
        self.take_name(&name, &record.id, (R::NAMED, record.name())).await?;
        let at = At::new(R::TABLE, &record.org, &record.id);
        let added = self.commit(&at, record, None).await;
        if added.is_err() {
            self.give_back(&[name]).await;
        }
        added
    }

    async fn change<R: Kept>(
        &self,
        at: &At,
        change: &(impl Fn(&mut Record<R>) + Send + Sync),
    ) -> Result<Arc<Record<R>>, DirectoryError> {
        for _ in 0..EDIT_TRIES {
            let Read { record: before, version } = self.read::<R>(at).await?;
            let mut after = before.clone();
            change(&mut after);
            R::check(&after.spec)?;
            if after == before {
                return Ok(Arc::new(after));
            }
            match self.commit(at, after, Some(version)).await {
                Err(error) if error.is_conflict() => {}
                other => return other,
            }
        }
        Err(StoreError::Conflict { table: R::TABLE.name(), key: at.key() }.into())
    }

    async fn remove<R: Kept>(&self, at: &At, by: ManagedBy) -> Result<(), DirectoryError> {
        let Read { record, version } = self.read::<R>(at).await?;
        check::editor(record.managed_by, by, (R::KIND.one, record.name()))?;
        let id = record.id.clone();
        self.erase(at, Some(version), |view| view.take_out::<R>(&at.org, &id)).await?;
        let name = self.index.name(&at.org, R::NAMED, record.name());
        Ok(self.rows.delete(&name, None).await?)
    }

    /// Reads the row again; where the view says otherwise, because another replica wrote it or a write
    /// failed half-way, the view follows.
    pub(super) async fn read<R: Kept>(
        &self,
        at: &At,
    ) -> Result<Read<Record<R>>, DirectoryError> {
        let read = self.rows.read::<Record<R>>(at).await?;
        let id = R::Id::parse(&at.id).map_err(|_| at.malformed())?;
        let seen = self.view.load().one::<R>(&at.org, &id).cloned();
        match read {
            Some(read) => {
                if seen.as_deref() != Some(&read.record) {
                    self.publish(|view| view.put(Arc::new(read.record.clone())));
                }
                Ok(read)
            }
            None => {
                if seen.is_some() {
                    self.publish(|view| view.take_out::<R>(&at.org, &id));
                }
                Err(DirectoryError::not_found(R::KIND.one, id.as_str()))
            }
        }
    }
}

//! [`Collection`]: the records of one kind in one organisation, found by id and by name.

use std::borrow::Cow;
use std::sync::Arc;

use keyward_base::id::Id;
use keyward_base::shared_map::SharedMap;
use keyward_model::{Record, Resource};

use super::unique_index::UniqueIndex;

/// The records of one kind in one organisation, by id and by name. Lookups are O(1).
#[derive(Clone, Debug)]
pub struct Collection<R: Resource> {
    by_id: SharedMap<R::Id, Arc<Record<R>>>,
    by_name: UniqueIndex<Arc<str>, R::Id>,
}

impl<R: Resource> Default for Collection<R> {
    fn default() -> Self {
        Self { by_id: SharedMap::default(), by_name: UniqueIndex::default() }
    }
}

impl<R: Resource> Collection<R> {
    pub(super) fn by_id(&self) -> &SharedMap<R::Id, Arc<Record<R>>> {
        &self.by_id
    }

    pub(super) fn get(&self, id: &R::Id) -> Option<&Arc<Record<R>>> {
        self.by_id.get(id)
    }

    pub(super) fn values(&self) -> impl Iterator<Item = &Arc<Record<R>>> {
        self.by_id.values()
    }

    /// By name or id. No name looks like an id.
    pub(super) fn find(&self, name_or_id: &str) -> Option<&Arc<Record<R>>> {
        match R::Id::parse(name_or_id) {
            Ok(id) => self.by_id.get(&id),
            Err(_) => self.by_id.get(self.by_name.get(name_or_id)?),
        }
    }

    /// Adds a record that is found by `name`.
    pub(super) fn put(&mut self, name: Arc<str>, record: Arc<Record<R>>) {
        self.by_name.put(name, record.id.clone(), |id| *id == record.id);
        self.by_id.insert(record.id.clone(), record);
    }

    /// Removes a record, and the name that it was put with.
    pub(super) fn remove(
        &mut self,
        id: &R::Id,
        name: impl Fn(&Record<R>) -> Cow<'_, str>,
    ) -> Option<Arc<Record<R>>> {
        let record = self.by_id.remove(id)?;
        self.by_name.remove(&*name(&record), |named| named == id);
        Some(record)
    }
}

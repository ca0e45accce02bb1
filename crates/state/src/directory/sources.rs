//! Secret sources: what the directory does for them beside what it does for every resource.

use std::sync::Arc;

use keyward_model::{ManagedBy, Record, Source};

use super::ConnectionRecord;
use super::check;
use super::error::DirectoryError;
use super::index::Named;
use super::stored::{Collection, Stored};
use super::view::{OrgView, View};
use crate::store::Table;
use keyward_base::id::OrgId;

impl Stored for Source {
    const TABLE: Table = Table::Sources;
    const NAMED: Named = Named::Source;

    fn of(org: &OrgView) -> &Collection<Self> {
        &org.sources
    }

    fn of_mut(org: &mut OrgView) -> &mut Collection<Self> {
        &mut org.sources
    }

    /// Connections would lose their values.
    fn may_remove(record: &Record<Self>, by: ManagedBy, view: &View) -> Result<(), DirectoryError> {
        check::editor(record.managed_by, by, "source", record.name())?;
        match view.connections_of_source(&record.org, record.name()).next() {
            None => Ok(()),
            Some(connection) => Err(DirectoryError::SourceInUse {
                source_name: record.name().to_owned(),
                connection: connection.name.clone(),
            }),
        }
    }
}

impl View {
    /// The connections of an organisation with fields in this source.
    pub fn connections_of_source<'a>(
        &'a self,
        org: &'a OrgId,
        source: &'a str,
    ) -> impl Iterator<Item = &'a Arc<ConnectionRecord>> {
        let names = move |it: &&Arc<ConnectionRecord>| {
            it.org == *org && it.references.values().any(|reference| reference.from == source)
        };
        self.connections().filter(names)
    }
}

//! Secret sources as a [`Stored`] resource: a source that a record refers to cannot be removed.

use std::sync::Arc;

use keyward_model::{ManagedBy, Record, References, Source};

use super::check;
use super::error::DirectoryError;
use super::index::NameKind;
use super::records::{AppRecord, ConnectionRecord};
use super::stored::{Stored, stored_in};
use super::view::View;
use crate::store::Table;
use keyward_base::id::OrgId;

impl Stored for Source {
    const TABLE: Table = Table::Sources;
    const NAMED: NameKind = NameKind::Source;

    stored_in!(sources);

    /// Refuses the removal of a source that connections or apps use, because they would lose their values.
    fn may_remove(record: &Record<Self>, by: ManagedBy, view: &View) -> Result<(), DirectoryError> {
        check::editor(record.managed_by, by, "source", record.name())?;
        let (org, name) = (&record.org, record.name());
        let in_use = |what, user: &str| DirectoryError::SourceInUse {
            source_name: name.to_owned(),
            what,
            user: user.to_owned(),
        };
        if let Some(connection) = view.connections_of_source(org, name).next() {
            return Err(in_use("connection", &connection.name));
        }
        match view.apps_of_source(org, name).next() {
            None => Ok(()),
            Some(app) => Err(in_use("app", &app.name)),
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
        let all = self.referring_connections();
        all.filter(move |it| it.org == *org && names(&it.references, source))
    }

    /// The apps of an organisation with secrets in this source.
    pub fn apps_of_source<'a>(
        &'a self,
        org: &'a OrgId,
        source: &'a str,
    ) -> impl Iterator<Item = &'a Arc<AppRecord>> {
        self.apps().filter(move |it| it.org == *org && names(&it.references, source))
    }
}

fn names(references: &References, source: &str) -> bool {
    references.values().any(|reference| reference.from == source)
}

//! Apps as a [`Stored`] resource: an app that a connection uses cannot be removed. Their secrets belong to the vault, which
//! stores a secret before it puts the record here.

use super::check;
use super::error::DirectoryError;
use super::index::NameKind;
use super::stored::{Stored, stored_in};
use super::view::View;
use crate::store::Table;
use keyward_model::{App, Connection, ManagedBy, Record};

impl Stored for App {
    const TABLE: Table = Table::Apps;
    const NAMED: NameKind = NameKind::App;

    stored_in!(apps);

    /// Anyone may remove an app that was removed from the configuration file. An app that a connection uses stays.
    fn may_remove(record: &Record<Self>, by: ManagedBy, view: &View) -> Result<(), DirectoryError> {
        if !record.facts.paused {
            check::editable(record, by)?;
        }
        let mut connections = view.all::<Connection>(&record.org);
        match connections.find(|connection| connection.app_id() == Some(&record.id)) {
            None => Ok(()),
            Some(connection) => Err(DirectoryError::AppInUse {
                app: record.name.clone(),
                connection: connection.name.clone(),
            }),
        }
    }
}

//! Checks the rows that are neither records nor index rows: each can be opened and decoded, and the record that it
//! belongs to exists.

use serde_json::Value;

use super::ContentCheck;
use super::checking::{Checking, FaultKind};
use super::records::owner_of;
use crate::crypto::envelope::Place;
use crate::directory::directory_event::Delivery;
use crate::directory::error::DirectoryError;
use crate::directory::rows::{RowId, unreadable};
use crate::directory::snapshot::OpenedRow;
use crate::directory::stored::Stored;
use crate::directory::tables::viewed;
use crate::directory::view::View;
use crate::observe::usage::UsageHistory;
use crate::store::{Row, Table};

/// Whether other files of this folder check the rows: those of records, and index rows.
fn is_checked_elsewhere(table: Table) -> bool {
    viewed!(table, R => R::TABLE == table, matches!(table, Table::Orgs | Table::Names | Table::Tokens))
}

impl Checking<'_> {
    pub(super) fn contents(&mut self, view: &View, check: ContentCheck<'_>) {
        let rows = self.read.iter().filter(|(at, _)| !is_checked_elsewhere(at.table));
        let rows: Vec<_> = rows.cloned().collect();
        for (at, row) in rows {
            match self.opened(&at, row) {
                Ok(opened) => {
                    if let Err(problem) = content(view, &opened, check) {
                        self.fault_at(&at, FaultKind::Unreadable, problem);
                    }
                }
                Err(error) => self.unreadable(&at, &error),
            }
            self.orphan(&at);
        }
    }

    fn opened(&self, at: &RowId, row: Row) -> Result<OpenedRow, DirectoryError> {
        let (table, key) = (at.table.name(), row.key);
        let place = Place { org: &at.org, table, key: &key };
        let content = self.rows.keyring.open(&place, &row.value);
        let content = content.map_err(|error| unreadable(table, &key, error))?;
        Ok(OpenedRow { table: at.table, key, version: row.version, content })
    }

    fn orphan(&mut self, at: &RowId) {
        let Some(owners) = owner_of(at.table, &at.id) else { return };
        if !owners.iter().any(|(table, id)| self.has(*table, &at.org, id)) {
            let problem = "belongs to no record that exists".to_owned();
            let remedy = match at.table {
                Table::Grants => "none needed: the next start of the gateway removes it",
                Table::Usage => "none needed: a running gateway removes it",
                _ => FaultKind::Leftover.remedy(),
            };
            self.fault_with(at, FaultKind::Leftover, problem, remedy);
        }
    }
}

fn content(view: &View, row: &OpenedRow, check: ContentCheck<'_>) -> Result<(), String> {
    match row.table {
        Table::Meta => row.decode::<Value>().map(drop),
        Table::Deliveries => row.decode::<Delivery>().map(drop),
        Table::Usage => row.decode::<UsageHistory>().map(drop),
        _ => check(view, row),
    }
}

//! Checks of opened rows, for `keyward store check`: each decodes, and a grant or an app's secret is sealed for the
//! connection or app that has it now. Errors contain no content of rows.

use keyward_base::id::{AppId, ConnectionId};
use keyward_state::directory::{OpenedRow, View};
use keyward_state::store::Table;

use crate::error::RecordError;
use crate::grant::{Grant, StoredAppSecret};
use crate::grants::apps::AppPurpose;
use crate::grants::record::{self, GrantPurpose, OpenedGrant};
use crate::refresh::failures::FailureRow;
use crate::sources::SourceKeys;

/// Checks a row with secrets or failures of connections, apps and sources. Other rows are not looked at.
///
/// # Errors
/// The problem.
pub fn check_content(view: &View, row: &OpenedRow) -> Result<(), String> {
    match row.table {
        Table::Grants => grant(view, row).map_err(|error| problem(&error)),
        Table::Refreshes => row.decode::<FailureRow>().map(drop),
        Table::SourceKeys => row.decode::<SourceKeys>().map(drop),
        _ => Ok(()),
    }
}

/// A row without its connection or app is reported by its place.
fn grant(view: &View, row: &OpenedRow) -> Result<(), RecordError> {
    let (org, id) = row.place().ok_or(RecordError::Malformed)?;
    let malformed = |_| RecordError::Malformed;
    let connection = ConnectionId::parse(id).ok().and_then(|id| view.connection(&org, &id));
    if let Some(connection) = connection {
        let (header, grants) = record::parsed(&row.content, row.version)?;
        let opened = OpenedGrant::of(header, grants, &GrantPurpose::of(connection))?;
        Grant::decode(&opened.grant).map_err(malformed)?;
        if let Some(other) = &opened.other {
            Grant::decode(other).map_err(malformed)?;
        }
    }
    if let Some(app) = AppId::parse(id).ok().and_then(|id| view.app(&org, &id)) {
        let (purpose, secret) = record::parsed::<AppPurpose>(&row.content, row.version)?;
        if purpose != AppPurpose::of(&app.spec) {
            return Err(RecordError::Purpose);
        }
        StoredAppSecret::decode(&secret).map_err(malformed)?;
    }
    Ok(())
}

fn problem(error: &RecordError) -> String {
    match error {
        RecordError::Purpose => "is sealed for another provider or host than its owner has now",
        RecordError::RolledBack => "has an older version of its content",
        _ => "has content that does not belong there",
    }
    .to_owned()
}

//! Why a request gets no credential from a flight.

use std::time::Duration;

use crate::context::VaultContext;
use crate::error::{FlightRefusal, VaultError};
use crate::refresh::cache::CredentialCell;
use keyward_state::directory::{ConnectionRecord, RemedyCause};

/// Shortest retry time of a refusal.
pub(super) const RETRY_AFTER_MIN: Duration = Duration::from_secs(1);

/// The refusal of a request without a credential, with the known cause.
pub(super) fn unavailable(
    connection: &ConnectionRecord,
    cell: &CredentialCell,
    rest: Duration,
) -> VaultError {
    let backoff = cell.backoff();
    let last = backoff.last();
    let fetches = backoff.failures() == 0 || last.source.is_some();
    let first = connection.references.values().next().filter(|_| fetches);
    let source_name = last.source.as_deref().or(first.map(|it| it.from.as_str()));
    if let Some(source_name) = source_name {
        return VaultError::SourceUnavailable {
            connection: connection.name.clone(),
            why: last
                .message
                .clone()
                .unwrap_or_else(|| format!("source `{source_name}` has not answered yet")),
            source_name: source_name.to_owned(),
            retry_after: rest.max(RETRY_AFTER_MIN),
        };
    }
    let late =
        cell.late_since().map(|_| "the authorization server has not answered yet".to_owned());
    VaultError::RefreshUnavailable {
        connection: connection.name.clone(),
        why: late.or_else(|| last.message.clone()),
        remedy: backoff.remedy(),
        retry_after: rest.max(RETRY_AFTER_MIN),
    }
}

impl FlightRefusal {
    /// The error for one waiting request; `context` has the remedy.
    pub fn of(self, connection: &ConnectionRecord, context: &VaultContext) -> VaultError {
        match self {
            Self::Broken { reason, detail, .. } => {
                let need = RemedyCause::Broken { reason, detail: detail.as_deref() };
                let remedy = context.remedy(connection, need);
                let connection = connection.name.clone();
                VaultError::Broken { connection, reason, detail, remedy }
            }
            Self::Failed(error) => VaultError::Shared(error),
        }
    }
}

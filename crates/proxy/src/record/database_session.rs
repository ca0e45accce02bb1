//! [`DatabaseSession`]: the fields of the record of a session with a database.

use std::sync::Arc;

use keyward_base::database::{DatabaseEndpoint, DatabaseProtocol};
use keyward_state::observe::telemetry::ExchangeKind;

#[derive(Debug)]
pub(super) struct DatabaseSession {
    protocol: DatabaseProtocol,
    /// `None` before the permit.
    endpoint: Option<Arc<DatabaseEndpoint>>,
    /// The role that Keyward logs in as.
    pub(super) role: Option<String>,
}

impl DatabaseSession {
    pub(super) fn before_permit(protocol: DatabaseProtocol) -> Self {
        Self { protocol, endpoint: None, role: None }
    }

    pub(super) fn permitted(endpoint: Arc<DatabaseEndpoint>) -> Self {
        Self { protocol: endpoint.protocol, endpoint: Some(endpoint), role: None }
    }

    pub(super) fn url(&self) -> Option<String> {
        self.endpoint.as_ref().map(|endpoint| endpoint.url())
    }

    pub(super) fn kind(&self) -> ExchangeKind<'_> {
        let name = self.endpoint.as_ref().map(|endpoint| endpoint.database.as_str());
        ExchangeKind::Database { protocol: self.protocol, name }
    }
}

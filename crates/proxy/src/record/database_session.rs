//! What a record has of a session with a database.

use std::sync::Arc;

use keyward_base::database::DatabaseEndpoint;

#[derive(Debug)]
pub(super) struct DatabaseSession {
    pub(super) endpoint: Arc<DatabaseEndpoint>,
    /// The role that Keyward logs in as.
    pub(super) role: Option<String>,
}

//! Records of sessions with databases.

use std::sync::Arc;

use super::Record;
use keyward_base::database::DatabaseEndpoint;
use keyward_rules::policy::DatabasePermit;

/// A session with a database.
#[derive(Debug)]
pub(super) struct DatabaseSession {
    pub(super) endpoint: Arc<DatabaseEndpoint>,
    /// The role that Keyward logs in as.
    pub(super) role: Option<String>,
}

impl Record {
    /// The permit of a session with a database.
    pub fn set_database(&mut self, permit: &DatabasePermit) {
        let endpoint = permit.shared_endpoint().clone();
        self.fields.rule = Some(permit.rule().clone());
        self.fields.connection = Some(permit.wanted().name.clone());
        self.fields.connection_id = Some(permit.wanted().connection.clone());
        self.fields.target = Some(endpoint.target.clone());
        self.fields.database = Some(Box::new(DatabaseSession { endpoint, role: None }));
    }

    /// The role of the login at a database.
    pub fn set_database_role(&mut self, role: &str) {
        if let Some(session) = &mut self.fields.database {
            session.role = Some(role.to_owned());
        }
    }
}

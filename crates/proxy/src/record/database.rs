//! Records of sessions with databases.

use std::sync::Arc;

use super::Record;
use super::database_session::DatabaseSession;
use crate::gateway::Gateway;
use crate::refusal::Refusal;
use keyward_base::database::DatabaseProtocol;
use keyward_rules::policy::DatabasePermit;
use keyward_state::observe::event::Event;

impl Record {
    /// Begins the record of a session with a database.
    ///
    /// # Errors
    /// As [`Record::begin`].
    pub async fn begin_session(
        gateway: &Arc<Gateway>,
        protocol: DatabaseProtocol,
    ) -> Result<Self, Refusal> {
        let mut record = Self::begin(gateway).await?;
        record.fields.database = Some(Box::new(DatabaseSession::before_permit(protocol)));
        Ok(record)
    }

    /// The permit of a session with a database.
    pub fn set_database(&mut self, permit: &DatabasePermit) {
        let endpoint = permit.shared_endpoint().clone();
        self.fields.rule = Some(permit.rule().clone());
        self.fields.connection = Some(permit.wanted().name.clone());
        self.fields.connection_id = Some(permit.wanted().connection.clone());
        self.fields.target = Some(endpoint.target.clone());
        self.fields.database = Some(Box::new(DatabaseSession::permitted(endpoint)));
    }

    /// The record of a statement of the session, without time and statement. It has the exchange of the session.
    pub fn statement_event(&self) -> Event {
        let fields = &self.fields;
        let target = fields.target_text();
        let event = fields.event(target.as_deref());
        let owned = |text: Option<&str>| text.map(str::to_owned);
        Event {
            org: owned(event.org),
            agent: owned(event.agent),
            token: owned(event.token),
            session: owned(event.session),
            session_label: owned(event.session_label),
            user: owned(event.user),
            by: owned(event.by),
            rule: owned(event.rule),
            connection: owned(event.connection),
            generation: event.generation,
            target: owned(event.target),
            database_role: owned(event.database_role),
            ..Event::begun(event.time, event.exchange.to_owned())
        }
    }

    /// The role of the login at a database.
    pub fn set_database_role(&mut self, role: &str) {
        if let Some(session) = &mut self.fields.database {
            session.role = Some(role.to_owned());
        }
    }
}

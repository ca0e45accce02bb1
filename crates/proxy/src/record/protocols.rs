//! What records have of protocols other than HTTP: sessions with databases; SSH logins, one record for each signature, made or
//! refused; pushes by git, whose refusals name the references.

use std::sync::Arc;

use http::Method;

use super::fields::DatabaseSession;
use super::{EventFields, Record, text_of};
use crate::gateway::Gateway;
use crate::refusal::Refusal;
use keyward_base::database::DatabaseProtocol;
use keyward_base::host::Target;
use keyward_rules::git_push::PushedRefs;
use keyward_rules::policy::{DatabasePermit, PolicyQuery, SshPermit};
use keyward_state::observe::event::{Event, Outcome};

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

/// Characters of an account that a record keeps: it is the client's text.
const CHARS_MAX: usize = 64;

impl Record {
    /// An SSH login that is to be signed: its server, if that is known, and the account.
    pub fn set_login(&mut self, server: Option<&Target>, user: &str) {
        let shown =
            |c: char| if c.is_ascii_alphanumeric() || "-._@+".contains(c) { c } else { '?' };
        self.fields.method = Method::from_bytes(b"SIGN").ok();
        self.fields.target = server.cloned();
        self.fields.login = Some(user.chars().take(CHARS_MAX).map(shown).collect());
    }

    /// The permit of an SSH login.
    pub fn set_ssh_permit(&mut self, permit: &SshPermit) {
        self.fields.rule = Some(permit.rule().clone());
        self.fields.connection = Some(permit.wanted().name.clone());
        self.fields.connection_id = Some(permit.wanted().connection.clone());
    }

    /// An SSH login was signed.
    pub fn set_login_signed(&mut self) {
        self.set_opened();
        self.set_outcome(Outcome::Completed);
    }
}

impl EventFields {
    /// The target, with the account of an SSH login; the URL of a database.
    pub(super) fn target_text(&self) -> Option<String> {
        if let Some(session) = &self.database {
            return session.url();
        }
        match (&self.target, &self.login) {
            (Some(target), Some(user)) => {
                Some(format!("ssh://{user}@{}:{}", target.host(), target.port()))
            }
            (None, Some(user)) if !user.is_empty() => Some(format!("ssh://{user}@")),
            (target, _) => target.as_ref().map(text_of),
        }
    }
}

impl Record {
    /// Sets the request, after its references were read.
    pub fn set_push(&mut self, query: Arc<PolicyQuery>) {
        self.fields.push = Some(query).filter(|query| query.push.is_some());
    }

    /// The references of a push, if they were read and understood.
    pub fn push(&self) -> Option<&PushedRefs> {
        self.fields.push.as_ref()?.push.as_ref()?.as_ref().ok()
    }
}

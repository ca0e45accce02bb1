//! Fields of a record: [`RequestedBy`], who sent the request; [`DatabaseSession`], of a session with a database.

use std::sync::Arc;

use keyward_base::agent::{Agent, AgentSession};
use keyward_base::database::{DatabaseEndpoint, DatabaseProtocol};
use keyward_base::id::{OrgId, TokenId};
use keyward_state::observe::change::{Actor, TaskActor};
use keyward_state::observe::telemetry::ExchangeKind;

/// Who sent a request.
#[derive(Debug)]
pub(super) enum RequestedBy {
    /// A client that has not authenticated.
    Unknown,
    Agent(Arc<Agent>),
    /// No agent takes part, as in the test of a connection.
    Actor(Box<RequestingActor>),
}

/// A person or the gateway itself.
#[derive(Debug)]
pub(super) struct RequestingActor {
    /// The organisation of the connection.
    org: OrgId,
    /// As in the record of a change.
    by: String,
    /// The name of a user.
    user: Option<String>,
}

impl RequestedBy {
    /// The actor of the current task, who uses a connection of this organisation.
    pub(super) fn current_actor(org: &OrgId) -> Self {
        let actor = TaskActor::current().by;
        let by = actor.to_string();
        let user = match actor {
            Actor::User { name, .. } => Some(name),
            Actor::Operator | Actor::File | Actor::Gateway => None,
        };
        Self::Actor(Box::new(RequestingActor { org: org.clone(), by, user }))
    }

    pub(super) fn agent(&self) -> Option<&Arc<Agent>> {
        match self {
            Self::Agent(agent) => Some(agent),
            Self::Unknown | Self::Actor(_) => None,
        }
    }

    pub(super) fn org(&self) -> Option<&OrgId> {
        match self {
            Self::Unknown => None,
            Self::Agent(agent) => Some(&agent.org),
            Self::Actor(actor) => Some(&actor.org),
        }
    }

    /// The agent's token.
    pub(super) fn token(&self) -> Option<&TokenId> {
        self.agent()?.token.as_ref()
    }

    /// The session that the agent acts in.
    pub(super) fn session(&self) -> Option<&AgentSession> {
        self.agent()?.session.as_deref()
    }

    /// The name of the session's end user, or of the user who sent the request.
    pub(super) fn user(&self) -> Option<&str> {
        match self {
            Self::Unknown => None,
            Self::Agent(_) => self.session()?.user.as_ref().map(|(_, name)| &**name),
            Self::Actor(actor) => actor.user.as_deref(),
        }
    }

    /// Who sent the request, if no agent did.
    pub(super) fn by(&self) -> Option<&str> {
        match self {
            Self::Unknown | Self::Agent(_) => None,
            Self::Actor(actor) => Some(&actor.by),
        }
    }
}

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

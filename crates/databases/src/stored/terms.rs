//! [`ListenerTerms`]: the properties with which a stored listener is opened. If they change, the listener is opened
//! again, and its sessions end. [`ListenerProblem`]: why it is not open.

use std::io;

use keyward_base::database::{DatabaseProtocol, ServerVersion};
use keyward_base::id::OrgId;
use keyward_model::{DatabaseListener, ListenerPlace, Record};
use keyward_state::directory::View;

/// A stored listener with the names of what it refers to.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ListenerTerms {
    /// Its organisation, which is that of its connection and agent.
    pub org: OrgId,
    pub name: String,
    /// The address or socket.
    pub place: ListenerPlace,
    /// The protocol of the database.
    pub protocol: DatabaseProtocol,
    /// MySQL: the version with which clients are greeted.
    pub server_version: Option<ServerVersion>,
    /// The connection of all its sessions, by name.
    pub connection: Option<String>,
    /// The agent of all its sessions, by name.
    pub agent: Option<String>,
    /// The missing connection or agent that it refers to.
    pub problem: Option<ListenerProblem>,
}

impl ListenerTerms {
    /// The terms of a record, with the current names.
    pub(super) fn of(record: &Record<DatabaseListener>, view: &View) -> Self {
        let connection = record.connection.as_ref().map(|named| {
            let found = named.id().and_then(|id| view.connection(&record.org, id));
            found.map(|it| it.name().to_owned()).ok_or(ListenerProblem::ConnectionGone)
        });
        let agent = record.agent.as_ref().map(|named| {
            let found = named.id().and_then(|id| view.agent(&record.org, id));
            found.map(|it| it.name().to_owned()).ok_or(ListenerProblem::AgentGone)
        });
        let problem = [&connection, &agent].into_iter().flatten().find_map(|it| it.clone().err());
        Self {
            org: record.org.clone(),
            name: record.name().to_owned(),
            place: record.at.clone(),
            protocol: record.protocol,
            server_version: record.server_version.clone(),
            connection: connection.and_then(Result::ok),
            agent: agent.and_then(Result::ok),
            problem,
        }
    }
}

/// Why a stored listener is not open.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum ListenerProblem {
    /// Another program, or another listener of Keyward, has the place.
    #[error("`{0}` is in use")]
    InUse(ListenerPlace),
    /// The system refuses the place.
    #[error("`{place}` cannot be opened: {cause}")]
    Refused {
        /// Where.
        place: ListenerPlace,
        /// What the system says.
        cause: String,
    },
    /// Its connection does not exist any more.
    #[error("its connection was removed")]
    ConnectionGone,
    /// Its agent does not exist any more.
    #[error("its agent was removed")]
    AgentGone,
}

impl ListenerProblem {
    pub(super) fn of(place: &ListenerPlace, error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::AddrInUse | io::ErrorKind::AlreadyExists => Self::InUse(place.clone()),
            _ => Self::Refused { place: place.clone(), cause: error.to_string() },
        }
    }

    /// What a person does about it.
    pub fn remedy(&self) -> &'static str {
        match self {
            Self::InUse(ListenerPlace::Tcp(_)) => {
                "free the port, or choose another one; 0 is any free port"
            }
            Self::InUse(ListenerPlace::Socket(_)) => "free the socket, or choose another name",
            Self::Refused { .. } => "choose another address or socket",
            Self::ConnectionGone => "name another connection, or remove the listener",
            Self::AgentGone => "name another agent, or remove the listener",
        }
    }
}

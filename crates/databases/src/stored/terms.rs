//! [`ListenerTerms`]: the properties with which a stored listener is opened. If they change, the listener is opened
//! again, and its sessions end.

use keyward_base::database::{DatabaseProtocol, ServerVersion};
use keyward_base::id::OrgId;
use keyward_model::{DatabaseListener, ListenerPlace, Record};
use keyward_state::directory::View;

use super::problem::ListenerProblem;

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

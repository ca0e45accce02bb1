//! [`ListenerTerms`]: what a stored listener is opened with. Other terms mean another listener, and the sessions of the one
//! before end.

use keyward_base::database::DatabaseProtocol;
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
    /// Where.
    pub place: ListenerPlace,
    /// What is spoken there.
    pub protocol: DatabaseProtocol,
    /// The connection of all its sessions, by name.
    pub connection: Option<String>,
    /// The agent of all its sessions, by name.
    pub agent: Option<String>,
    /// What it refers to and does not exist.
    pub problem: Option<ListenerProblem>,
}

impl ListenerTerms {
    /// Those of a record, with the names as they are now.
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
            connection: connection.and_then(Result::ok),
            agent: agent.and_then(Result::ok),
            problem,
        }
    }
}

//! Look-ups of agents and connections that a caller may see.

use std::sync::Arc;

use super::auth::Caller;
use super::error::ApiError;
use super::state::Admin;
use keyward_model::{Agent, Connection};
use keyward_state::directory::{AgentRecord, ConnectionRecord};

impl Admin {
    /// An agent by name or id. One that the caller may not see is treated as missing.
    pub(super) fn agent(&self, caller: &Caller, name: &str) -> Result<Arc<AgentRecord>, ApiError> {
        let view = self.deps().directory.view();
        let found = view.find_agent(caller.org(), name).filter(|agent| caller.sees_agent(agent));
        let known = || view.all::<Agent>(caller.org()).filter(|agent| caller.sees_agent(agent));
        let known = || known().map(|agent| &*agent.name);
        let found = found.ok_or_else(|| ApiError::not_found_among("agent", name, known()))?;
        caller.names("agent", &found.id, &found.name);
        Ok(found.clone())
    }

    /// A connection by name or id. One that the caller may not see is treated as missing; one that they may
    /// only use is refused for changes.
    pub(super) fn connection(
        &self,
        caller: &Caller,
        name: &str,
    ) -> Result<Arc<ConnectionRecord>, ApiError> {
        let found = self.connection_to_use(caller, name)?;
        caller.names("connection", &found.id, &found.name);
        caller.may_change(&found)?;
        Ok(found)
    }

    /// The same of one that the request only mentions.
    pub(super) fn connection_to_use(
        &self,
        caller: &Caller,
        name: &str,
    ) -> Result<Arc<ConnectionRecord>, ApiError> {
        let view = self.deps().directory.view();
        let found = view.find_connection(caller.org(), name);
        let found = found.filter(|connection| caller.sees_connection(connection));
        let known = || {
            view.all::<Connection>(caller.org())
                .filter(|connection| caller.sees_connection(connection))
        };
        let known = || known().map(|connection| &*connection.name);
        let found = found.ok_or_else(|| ApiError::not_found_among("connection", name, known()))?;
        Ok(found.clone())
    }
}

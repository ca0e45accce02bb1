//! The agent that a question is about, as authentication would make it.

use crate::error::ApiError;
use crate::state::Admin;
use keyward_base::agent::Agent;
use keyward_model::Session;
use keyward_state::directory::AgentRecord;

/// The agent as authentication would make it; no decision depends on the token.
pub(super) fn as_agent(record: &AgentRecord) -> Agent {
    let (id, org) = (record.id.clone(), record.org.clone());
    Agent { id, org, name: record.name.as_str().into(), token: None, session: None }
}

/// The same in one of its sessions.
pub(super) fn in_session(
    admin: &Admin,
    record: &AgentRecord,
    session: &str,
) -> Result<Agent, ApiError> {
    let view = admin.deps().directory.view();
    let found = view.find::<Session>(&record.org, session);
    let agent = found.and_then(|session| view.in_session(session));
    let agent = agent.filter(|agent| {
        agent.id == record.id && view.is_still_authenticated(agent, admin.deps().clock.now())
    });
    agent.ok_or_else(|| ApiError::not_found("session", session))
}

//! [`CreatedResources`]: the resources that an unfinished `keyward connect` has created and must remove again.

use crate::cli::client::Client;
use crate::cli::failure::{Exit, Failure};
use crate::cli::output;
use keyward_base::codes::Code;
use keyward_base::id::{AgentId, ConnectionId};

/// The created resources, by id: another resource with the same name must not be removed.
#[derive(Debug, Default)]
pub(in crate::cli) struct CreatedResources {
    pub(in crate::cli) connection: Option<ConnectionId>,
    pub(in crate::cli) agent: Option<AgentId>,
    /// An agent that was created before could not be removed: the configuration or a stored rule names it.
    pub(in crate::cli) agent_stays: bool,
}

impl CreatedResources {
    /// Removes the created resources. An agent that the configuration or a stored rule names stays, with a note.
    ///
    /// # Errors
    /// When something else stays, with its name.
    pub(in crate::cli) async fn undo(&mut self, client: &Client) -> Result<(), Failure> {
        let agent = match self.agent.take() {
            Some(id) => self.undo_agent(client, &id).await,
            None => Ok(()),
        };
        let connection = match self.connection.take() {
            Some(id) => {
                let answer = client.delete(&format!("/api/v1/connections/{id}?undo=true")).await;
                is_gone("connection", id.as_str(), answer)
            }
            None => Ok(()),
        };
        agent.and(connection)
    }

    async fn undo_agent(&mut self, client: &Client, id: &AgentId) -> Result<(), Failure> {
        match client.delete(&format!("/api/v1/agents/{id}")).await {
            // The configuration or a stored rule names it.
            Err(failure) if failure.has_code(Code::Refused) => {
                self.agent_stays = true;
                output::note(&format!(
                    "note: agent {id} stays: {}; change that, then: keyward agent remove {id}",
                    failure.message()
                ));
                Ok(())
            }
            answer => is_gone("agent", id.as_str(), answer),
        }
    }
}

/// Judges the answer to a removal.
fn is_gone(what: &str, id: &str, answer: Result<(), Failure>) -> Result<(), Failure> {
    match answer {
        Err(failure) if failure.exit() != Exit::NotFound => {
            let message = format!("{what} {id} was created and could not be removed");
            Err(Failure::new(failure.exit(), message).hint(format!("keyward {what} remove {id}")))
        }
        _ => Ok(()),
    }
}

//! [`Made`]: the resources that an unfinished `keyward connect` has created and must remove again.

use crate::cli::client::Client;
use crate::cli::failure::{Exit, Failure};
use keyward_base::id::{AgentId, ConnectionId};

/// The created resources, by id: another resource with the same name must not be removed.
#[derive(Debug, Default)]
pub(in crate::cli) struct Made {
    pub(in crate::cli) connection: Option<ConnectionId>,
    pub(in crate::cli) agent: Option<AgentId>,
}

impl Made {
    /// Removes the created resources.
    ///
    /// # Errors
    /// When something stays, with its name.
    pub(in crate::cli) async fn undo(self, client: &Client) -> Result<(), Failure> {
        let agent = self.agent.map(|id| ("agent", format!("/api/v1/agents/{id}"), id.to_string()));
        let connection = self.connection.map(|id| {
            ("connection", format!("/api/v1/connections/{id}?undo=true"), id.to_string())
        });
        let mut undone = Ok(());
        for (what, at, id) in agent.into_iter().chain(connection) {
            match client.delete(&at).await {
                Err(failure) if failure.exit() != Exit::NotFound => {
                    let message = format!("{what} {id} was created and could not be removed");
                    let failure = Failure::new(failure.exit(), message)
                        .hint(format!("keyward {what} remove {id}"));
                    undone = undone.and(Err(failure));
                }
                _ => {}
            }
        }
        undone
    }
}

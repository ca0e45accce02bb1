//! [`Standing`]: what a stream rests on: an agent's token, its place among that agent's streams, and
//! the connection that was used last. When one of them goes, so does the stream.

use std::time::Duration;

use parking_lot::Mutex;

use super::Gateway;
use super::error::Refusal;
use super::session::Seat;
use crate::base::agent::Agent;
use crate::base::id::ConnectionId;
use crate::directory::{ConnectionState, View};

/// How late a token's expiry may end a stream that it opened; each new request asks by itself.
const EXPIRY_SEEN_WITHIN: Duration = Duration::from_secs(60);

/// What a stream rests on; nothing before somebody has authenticated.
#[derive(Debug, Default)]
pub struct Standing(Mutex<Option<Ground>>);

#[derive(Debug)]
struct Ground {
    agent: Agent,
    _seat: Seat,
    used: Option<Used>,
}

/// A connection whose credential went out, and whether a binding gave it (a rule can, too).
#[derive(Debug)]
struct Used {
    connection: ConnectionId,
    bound: bool,
}

impl Standing {
    /// The stream is `agent`'s from now on, and has a place among its streams.
    ///
    /// # Errors
    /// When the agent has as many streams as it may.
    pub fn admit(&self, gateway: &Gateway, agent: &Agent) -> Result<(), Refusal> {
        let mut ground = self.0.lock();
        if ground.as_ref().is_some_and(|ground| ground.agent == *agent) {
            return Ok(());
        }
        // Another agent's place is given back first: one stream never holds two.
        *ground = None;
        let seat = gateway.census.admit(&agent.id).ok_or(Refusal::Overloaded)?;
        *ground = Some(Ground { agent: agent.clone(), _seat: seat, used: None });
        Ok(())
    }

    /// The exchange that begins uses this connection.
    pub fn uses(&self, gateway: &Gateway, connection: Option<&ConnectionId>) {
        let Some(ground) = &mut *self.0.lock() else { return };
        if ground.used.as_ref().map(|used| &used.connection) == connection {
            return;
        }
        let view = gateway.directory.view();
        ground.used = connection.map(|connection| Used {
            connection: connection.clone(),
            bound: is_bound(&view, &ground.agent, connection),
        });
    }

    /// Whether all that it rests on is still there.
    fn holds(&self, gateway: &Gateway) -> bool {
        match &*self.0.lock() {
            None => true,
            Some(Ground { agent, used, .. }) => {
                let view = gateway.directory.view();
                view.still_holds(agent, gateway.clock.now())
                    && used.as_ref().is_none_or(|used| used.holds(&view, agent))
            }
        }
    }

    /// Resolves when something of it has gone.
    pub async fn lost(&self, gateway: &Gateway) {
        let mut changes = gateway.directory.changes();
        while self.holds(gateway) {
            // An expiry is no change: looked for now and then. An error means that the gateway ends.
            let changed = tokio::time::timeout(EXPIRY_SEEN_WITHIN, changes.changed()).await;
            if let Ok(Err(_)) = changed {
                return std::future::pending().await;
            }
        }
    }
}

impl Used {
    fn holds(&self, view: &View, agent: &Agent) -> bool {
        let connection = view.connection(&agent.org, &self.connection);
        connection.is_some_and(|record| record.state == ConnectionState::Active)
            && (!self.bound || is_bound(view, agent, &self.connection))
    }
}

fn is_bound(view: &View, agent: &Agent, connection: &ConnectionId) -> bool {
    view.agent(&agent.org, &agent.id)
        .is_some_and(|record| record.bindings.iter().any(|b| b.connection == *connection))
}

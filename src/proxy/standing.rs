//! [`Standing`]: what a stream rests on: an agent's token and its place among that agent's streams;
//! while an exchange or a tunnel is under way, also what permitted it and the connection that it uses.
//! When one of them goes, so does the stream. An idle stream stays: its next request is decided anew.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::watch;

use super::Gateway;
use super::error::Refusal;
use super::inbound::{Inbound, Question};
use super::session::Seat;
use crate::base::agent::Agent;
use crate::base::host::Target;
use crate::base::id::ConnectionId;
use crate::directory::{ConnectionRecord, ConnectionState, View};
use crate::policy::{Lack, Permit, Reason, Route};
use crate::rulebook::Progress;

/// How late a token's expiry may end a stream that it opened; each new request asks by itself.
const EXPIRY_SEEN_WITHIN: Duration = Duration::from_secs(60);

/// What a stream rests on; nothing before somebody has authenticated.
#[derive(Debug, Default)]
pub struct Standing(Mutex<Option<Ground>>);

#[derive(Debug)]
struct Ground {
    agent: Agent,
    /// None for a stream in another one, which has it.
    _seat: Option<Seat>,
    under_way: Option<UnderWay>,
}

/// What is under way on a stream.
#[derive(Debug)]
enum UnderWay {
    Tunnel(Target),
    /// With the connection whose credential went out.
    Exchange(Arc<Question>, Option<ConnectionId>),
}

impl Standing {
    /// Of a stream in a stream that `agent` has its place for.
    pub fn of_stream(agent: &Agent) -> Self {
        Self(Mutex::new(Some(Ground { agent: agent.clone(), _seat: None, under_way: None })))
    }

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
        *ground = Some(Ground { agent: agent.clone(), _seat: Some(seat), under_way: None });
        Ok(())
    }

    /// The exchange that begins was permitted so.
    pub fn exchanges(&self, inbound: &Inbound, permit: &Permit) {
        let Some(ground) = &mut *self.0.lock() else { return };
        let used = permit.wanted().map(|wanted| wanted.connection.clone());
        ground.under_way = Some(UnderWay::Exchange(inbound.question(), used));
    }

    /// The stream becomes a tunnel to `target`.
    pub fn tunnels(&self, target: &Target) {
        if let Some(ground) = &mut *self.0.lock() {
            ground.under_way = Some(UnderWay::Tunnel(target.clone()));
        }
    }

    /// What was under way has ended.
    pub fn idle(&self) {
        if let Some(ground) = &mut *self.0.lock() {
            ground.under_way = None;
        }
    }

    /// Whether all that it rests on is still there.
    pub fn holds(&self, gateway: &Gateway) -> bool {
        match &*self.0.lock() {
            None => true,
            Some(Ground { agent, under_way, .. }) => {
                let view = gateway.directory.view();
                view.still_holds(agent, gateway.clock.now())
                    && under_way.as_ref().is_none_or(|it| it.holds(gateway, &view, agent))
            }
        }
    }

    /// Resolves when something of it has gone.
    pub async fn lost(&self, gateway: &Gateway) {
        let mut changes = Changes::of(gateway);
        while self.holds(gateway) {
            changes.next().await;
        }
    }
}

/// What may take the ground from under a stream.
#[derive(Debug)]
pub struct Changes {
    directory: watch::Receiver<u64>,
    policies: watch::Receiver<Progress>,
}

impl Changes {
    /// Those from now on.
    pub fn of(gateway: &Gateway) -> Self {
        let (directory, policies) = (gateway.directory.changes(), gateway.rulebook.policies());
        Self { directory, policies }
    }

    /// Resolves at the next one; also now and then, because an expiry is no change. Never again when
    /// the gateway ends.
    pub async fn next(&mut self) {
        let changed = async {
            tokio::select! {
                changed = self.directory.changed() => changed,
                changed = self.policies.changed() => changed,
            }
        };
        if let Ok(Err(_)) = tokio::time::timeout(EXPIRY_SEEN_WITHIN, changed).await {
            std::future::pending().await
        }
    }
}

impl UnderWay {
    pub fn holds(&self, gateway: &Gateway, view: &View, agent: &Agent) -> bool {
        let policy = gateway.rulebook.current();
        match self {
            Self::Tunnel(target) => matches!(policy.route(agent, target), Route::Tunnel(_)),
            Self::Exchange(question, used) => {
                let connection = used.as_ref().map(|used| view.connection(&agent.org, used));
                // What its provider has ended breaks off nothing: nobody has forbidden it, and whoever
                // finds out is to be told.
                let stands = |found: Option<&Arc<ConnectionRecord>>| {
                    found.is_some_and(|record| {
                        let broken = matches!(record.state, ConnectionState::Broken { .. });
                        record.state.is_usable() || broken
                    })
                };
                let permitted = match policy.decide(agent, &question.asked()) {
                    // A permit for another connection is none for this one's credential.
                    Ok(permit) => permit.wanted().map(|it| &it.connection) == used.as_ref(),
                    Err(Reason::ConnectionBroken { .. }) => true,
                    Err(Reason::PluginBlocked(blocked)) => matches!(blocked.lack, Lack::Broken(_)),
                    Err(_) => false,
                };
                connection.is_none_or(stands) && permitted
            }
        }
    }
}

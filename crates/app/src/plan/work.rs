//! The writes for the steps of a plan, by kind of resource.

use super::inputs::Fields;
use crate::config::UseItem;
use keyward_base::id::{AgentId, ConnectionId, PluginId, TokenId};
use keyward_model::{AgentSpec, ConnectionSpec, PluginSpec, Resource};
use keyward_state::crypto::token::TokenHash;
use keyward_state::directory::ConnectionRecord;
use keyward_vault::NewConnection;

/// The writes for a resource with what was read for it, such as its secrets.
#[derive(Debug)]
pub(crate) enum ResourceWork<R: Resource, G> {
    Make(R::Spec, G),
    Change {
        id: R::Id,
        spec: R::Spec,
        given: G,
        /// It was paused, or differs.
        activates: bool,
        /// It is removed and made again.
        replaces: bool,
    },
    /// Pauses or removes it.
    End(R::Id),
}

/// The writes for an agent.
#[derive(Debug)]
pub(crate) enum AgentWork {
    Make(AgentSpec, AgentChange),
    Change(AgentId, AgentChange),
    Pause(AgentId),
}

/// The changes of an agent, in the order of execution: the environment must match the bindings.
#[derive(Debug, Default)]
pub(crate) struct AgentChange {
    pub(crate) frees: Vec<FreedSlots>,
    pub(crate) unbinds: Vec<ConnectionId>,
    /// Tokens that the file no longer gives it: before it resumes.
    pub(crate) revokes: Vec<TokenId>,
    /// Labels, environment and sets of hosts, where one of them differs.
    pub(crate) describes: Option<AgentSpec>,
    pub(crate) resumes: bool,
    pub(crate) token: Option<TokenHash>,
    /// With names or ids of connections: new bindings, and those whose limits differ.
    pub(crate) binds: Vec<UseItem>,
    /// Names or ids of the connections that are defaults, if others were.
    pub(crate) defaults: Option<Vec<String>>,
}

/// A plugin whose slots hold connections that do not match the agent's future environment.
#[derive(Debug)]
pub(crate) struct FreedSlots {
    pub(crate) plugin: PluginId,
    /// With the connections that stay in the slots.
    pub(crate) spec: PluginSpec,
    pub(crate) is_paused: bool,
}

/// The writes for a connection.
#[derive(Debug)]
pub(crate) enum ConnectionWork {
    Make(PlannedConnection),
    Replace(ConnectionId, PlannedConnection),
    Change(ConnectionId, ConnectionChange),
    Pause(ConnectionId),
}

/// The input for a new connection.
#[derive(Debug)]
pub(crate) enum ConnectionInput {
    Fields(Fields),
    /// Its owner consents later.
    Consent,
    /// Its secrets were not read: the record alone is put.
    Unread(Box<ConnectionRecord>),
}

/// A connection to be made.
#[derive(Debug)]
pub(crate) struct PlannedConnection {
    pub(crate) new: NewConnection,
    /// The name or id of its app, which may be made before it.
    pub(crate) app: Option<String>,
    pub(crate) given: ConnectionInput,
}

/// The writes for a plugin.
#[derive(Debug)]
pub(crate) enum PluginWork {
    /// Its agent and connections may be made before, so they are named.
    Make(PluginSpec),
    Change(PluginId, PluginSpec),
    Pause(PluginId),
}

/// The changes of an existing connection.
#[derive(Debug)]
pub(crate) struct ConnectionChange {
    /// Compared with what was given before; `None`: the grant stays as it is.
    pub(crate) fields: Option<Fields>,
    pub(crate) spec: ConnectionSpec,
    pub(crate) resumes: bool,
}

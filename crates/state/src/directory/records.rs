//! Agents, connections, apps and plugins as the directory stores them. They hold no secret, only placeholders and hashes.

use jiff::Timestamp;

use keyward_base::id::TokenId;
use keyward_base::secret::Secret;
use keyward_model::{Agent, App, Connection, Plugin, Record};
pub use keyward_model::{BindingRecord, ManagedBy, RevokedToken, TokenRecord};

/// An agent with its tokens and bindings: one row.
pub type AgentRecord = Record<Agent>;

/// A connection without its grant: safe to show.
pub type ConnectionRecord = Record<Connection>;

/// An OAuth client that is registered at a provider: safe to show.
pub type AppRecord = Record<App>;

/// A plugin that is installed for an agent.
pub type PluginRecord = Record<Plugin>;

/// A token, shown once.
#[derive(Debug)]
pub struct IssuedToken {
    /// `tok_…`
    pub id: TokenId,
    /// Its text, kept nowhere else. Wiped on drop.
    pub text: Secret,
    /// When it expires.
    pub expires: Option<Timestamp>,
}

//! Agents, connections, apps and plugins as the directory stores them. They hold no secret, only placeholders and
//! hashes. [`Person`]: an authenticated user, with the credential. [`Selected`]: the connections that background jobs
//! read after each change or each second, whose secret is due or is being rotated, or is in secret sources.

use std::sync::Arc;

use jiff::Timestamp;

use keyward_base::id::{ConnectionId, LoginId, OrgId, TokenId};
use keyward_base::secret::Secret;
use keyward_base::shared_map::SharedMap;
use keyward_model::{Agent, App, Connection, Plugin, Record, Scope, User};

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

/// A user who is authenticated.
#[derive(Clone, Debug)]
pub struct Person {
    /// The user, as of when the credential was looked up.
    pub user: Arc<Record<User>>,
    /// The credential that authenticated the user.
    pub credential: UserCredential,
    /// The scopes of the credential.
    pub scopes: Arc<[Scope]>,
    /// When the credential ends; `None`: never.
    pub ends: Option<Timestamp>,
    /// Expiry of the personal token that the rights come from: the credential itself, or the token that made the link
    /// of the login.
    pub token_ends: Option<Timestamp>,
}

/// What authenticates a user.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub enum UserCredential {
    /// A personal access token.
    Token(TokenId),
    /// A browser in which they are signed in.
    Login(LoginId),
}

/// Both selections.
#[derive(Clone, Debug, Default)]
pub(super) struct Selected {
    /// Connections whose secret is due at some time, or is being rotated.
    pub(super) dated: Selection,
    /// Connections with fields in secret sources.
    pub(super) referring: Selection,
}

pub(super) type Selection = SharedMap<(OrgId, ConnectionId), ()>;

impl Selected {
    pub(super) fn add(&mut self, record: &ConnectionRecord) {
        for selection in self.of(record) {
            selection.insert((record.org.clone(), record.id.clone()), ());
        }
    }

    pub(super) fn remove(&mut self, record: &ConnectionRecord) {
        for selection in self.of(record) {
            selection.remove(&(record.org.clone(), record.id.clone()));
        }
    }

    /// The selections that a connection is in.
    fn of(&mut self, record: &ConnectionRecord) -> impl Iterator<Item = &mut Selection> {
        let is_dated = record.due().is_some() || record.facts.rotation.is_some();
        let dated = is_dated.then_some(&mut self.dated);
        let referring = (!record.references.is_empty()).then_some(&mut self.referring);
        dated.into_iter().chain(referring)
    }
}

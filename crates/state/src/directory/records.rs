//! What the directory keeps, as it is sealed: agents with their tokens and bindings, connections'
//! metadata. No secret is here; placeholders and hashes are.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use keyward_base::id::TokenId;
use keyward_base::secret::Secret;
use keyward_model::{Agent, Connection, Record};
pub use keyward_model::{BindingRecord, ManagedBy, RevokedToken, TokenRecord};

/// An agent with its tokens and bindings: one row.
pub type AgentRecord = Record<Agent>;

/// A connection's metadata: safe to show.
pub type ConnectionRecord = Record<Connection>;

/// A token, shown once.
#[derive(Debug)]
pub struct IssuedToken {
    /// Its id.
    pub id: TokenId,
    /// Its text, kept nowhere else. Wiped on drop.
    pub text: Secret,
    /// When it stops working.
    pub expires: Option<Timestamp>,
}

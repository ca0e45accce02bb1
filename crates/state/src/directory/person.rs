//! [`Person`]: an authenticated user, and the credential that authenticated them.

use std::sync::Arc;

use jiff::Timestamp;
use keyward_base::id::{LoginId, TokenId};
use keyward_model::{Record, Scope, User};

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

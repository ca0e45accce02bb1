//! People: made, changed, removed. Their tokens are `personal.rs`'s, what they own stands in the
//! rows of agents and connections.

use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::error::DirectoryError;
use super::index::Named;
use super::personal::{PersonalToken, Scope};
use super::records::{AgentRecord, ConnectionRecord};
use super::rows::{At, Read};
use super::{Directory, Writer, agents, check};
use crate::crypto::token::TokenHash;
use crate::store::{StoreError, Table};
use keyward_base::id::{OrgId, TokenId, UserId};

/// What a person may do in their organisation.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Everything in it.
    Admin,
    /// What they own; what is shared is theirs to use.
    Member,
    /// To read everything, to change nothing.
    Auditor,
}

/// Whose agents may use a connection.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Visibility {
    /// Those of its owner.
    Private,
    /// All of its organisation.
    #[default]
    Shared,
}

/// A person and their tokens: one row.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct UserRecord {
    /// Their id.
    pub id: UserId,
    /// Their org.
    pub org: OrgId,
    /// Unique among the org's users.
    pub name: String,
    /// Unique among the org's users.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub email: Option<String>,
    /// What they may do.
    pub role: Role,
    /// Their tokens and agents open nothing.
    #[serde(default)]
    pub paused: bool,
    /// When it was made.
    pub created: Timestamp,
    /// When it was last changed.
    pub updated: Timestamp,
    /// Their tokens.
    #[serde(default)]
    pub tokens: Vec<PersonalToken>,
}

/// A new person.
#[derive(Clone, Debug)]
pub struct NewUser {
    /// 1 to 64 letters, digits or `-_.`.
    pub name: String,
    /// Their address.
    pub email: Option<String>,
    /// What they may do.
    pub role: Role,
}

/// Who a personal token stands for.
#[derive(Clone, Debug)]
pub struct Person {
    /// The user, as of when the token was looked up.
    pub user: Arc<UserRecord>,
    /// The token.
    pub token: TokenId,
    /// What it may be used for.
    pub scopes: Arc<[Scope]>,
}

impl Visibility {
    /// Whether all of the organisation may use it.
    pub fn is_shared(&self) -> bool {
        *self == Self::Shared
    }
}

impl Role {
    /// As it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Admin => "admin",
            Self::Member => "member",
            Self::Auditor => "auditor",
        }
    }
}

impl Directory {
    /// A new person, without tokens.
    ///
    /// # Errors
    /// When name or address is taken or cannot be one, or there is no such organisation.
    pub async fn add_user(
        &self,
        org: &OrgId,
        new: NewUser,
    ) -> Result<Arc<UserRecord>, DirectoryError> {
        check::user_name(&new.name)?;
        check::email(new.email.as_deref())?;
        let org = org.clone();
        self.write(|writer| async move { writer.add_user(org, new).await }).await
    }

    /// Changes role, pause or address. A change that changes nothing writes nothing.
    ///
    /// # Errors
    /// When `change` touches anything else, the address is taken or none, or there is no such user.
    pub async fn update_user(
        &self,
        org: &OrgId,
        id: &UserId,
        change: impl Fn(&mut UserRecord) + Send + Sync + 'static,
    ) -> Result<Arc<UserRecord>, DirectoryError> {
        let (org, id) = (org.clone(), id.clone());
        self.write(|writer| async move { writer.update_user(&org, &id, &change).await }).await
    }

    /// Removes a person with their tokens.
    ///
    /// # Errors
    /// When they own something, or there is no such user.
    pub async fn remove_user(&self, org: &OrgId, id: &UserId) -> Result<(), DirectoryError> {
        let (org, id) = (org.clone(), id.clone());
        self.write(|writer| async move { writer.remove_user(&org, &id).await }).await
    }
}

impl Writer {
    async fn add_user(&self, org: OrgId, new: NewUser) -> Result<Arc<UserRecord>, DirectoryError> {
        self.needs_org(&org)?;
        let now = self.clock.now();
        let user = UserRecord {
            id: UserId::random(),
            org,
            name: new.name,
            email: new.email,
            role: new.role,
            paused: false,
            created: now,
            updated: now,
            tokens: Vec::new(),
        };
        let name = self.index.name(&user.org, Named::User, &user.name);
        self.take_name(&name, &user.id, (Named::User, &user.name)).await?;
        let mut taken = vec![name];
        if let Some(email) = &user.email {
            match self.take_email(&user, email).await {
                Ok(at) => taken.push(at),
                Err(error) => {
                    self.give_back(&taken).await;
                    return Err(error);
                }
            }
        }
        let added = self.commit(&at(&user.org, &user.id), user, None).await;
        if added.is_err() {
            self.give_back(&taken).await;
        }
        added
    }

    async fn take_email(&self, user: &UserRecord, email: &str) -> Result<At, DirectoryError> {
        let at = self.index.name(&user.org, Named::Email, &email.to_lowercase());
        self.take_name(&at, &user.id, (Named::Email, email)).await?;
        Ok(at)
    }

    /// Takes the new address before it stands anywhere, and lets the old one go after.
    async fn update_user(
        &self,
        org: &OrgId,
        id: &UserId,
        change: &(impl Fn(&mut UserRecord) + Send + Sync),
    ) -> Result<Arc<UserRecord>, DirectoryError> {
        let now = self.clock.now();
        let before = self.read_user(org, id).await?.record;
        let mut wanted = before.clone();
        change(&mut wanted);
        if wanted == before {
            return Ok(Arc::new(wanted));
        }
        let known = |user: &UserRecord| {
            (
                user.id.clone(),
                user.org.clone(),
                user.name.clone(),
                user.created,
                user.tokens.clone(),
            )
        };
        if known(&wanted) != known(&before) {
            return Err(DirectoryError::FixedOfUser);
        }
        check::email(wanted.email.as_deref())?;
        let folded = |user: &UserRecord| user.email.as_deref().map(str::to_lowercase);
        let moves = folded(&wanted) != folded(&before);
        let taken = match &wanted.email {
            Some(email) if moves => Some(self.take_email(&wanted, email).await?),
            _ => None,
        };
        let edit = |user: &mut UserRecord| {
            change(user);
            user.updated = now;
            Ok(())
        };
        let edited = self.edit_user(org, id, &edit).await;
        match (&edited, taken) {
            (Err(_), Some(at)) => self.give_back(&[at]).await,
            (Ok((before, _)), _) if moves => {
                if let Some(old) = folded(before) {
                    self.rows.delete(&self.index.name(org, Named::Email, &old), None).await?;
                }
            }
            _ => {}
        }
        edited.map(|(_, after)| after)
    }

    async fn remove_user(&self, org: &OrgId, id: &UserId) -> Result<(), DirectoryError> {
        let Read { record: user, version } = self.read_user(org, id).await?;
        if let Some((what, name)) = self.view.load().something_owned(org, id) {
            return Err(DirectoryError::UserOwns { user: user.name, what, name });
        }
        self.erase(&at(org, id), Some(version), |view| view.remove_user(org, id)).await?;
        for token in &user.tokens {
            if let Some(hash) = TokenHash::from_hex(&token.hash) {
                self.rows.delete(&self.index.token(&hash), None).await?;
            }
        }
        if let Some(email) = &user.email {
            let at = self.index.name(org, Named::Email, &email.to_lowercase());
            self.rows.delete(&at, None).await?;
        }
        Ok(self.rows.delete(&self.index.name(org, Named::User, &user.name), None).await?)
    }

    /// Refuses an owner that the organisation does not have.
    pub(super) fn needs_owner(
        &self,
        org: &OrgId,
        owner: Option<&UserId>,
    ) -> Result<(), DirectoryError> {
        match owner.is_none_or(|owner| self.view.load().user(org, owner).is_some()) {
            true => Ok(()),
            false => Err(DirectoryError::not_found("user", owner.map_or("", UserId::as_str))),
        }
    }

    /// Reads a user anew; the view follows, as in `read_agent`.
    pub(super) async fn read_user(
        &self,
        org: &OrgId,
        id: &UserId,
    ) -> Result<Read<UserRecord>, DirectoryError> {
        let read = self.rows.read::<UserRecord>(&at(org, id)).await?;
        let seen = self.view.load().user(org, id).cloned();
        match read {
            Some(read) => {
                if seen.as_deref() != Some(&read.record) {
                    self.publish(|view| view.put_user(Arc::new(read.record.clone())));
                }
                Ok(read)
            }
            None => {
                if seen.is_some() {
                    self.publish(|view| view.remove_user(org, id));
                }
                Err(DirectoryError::not_found("user", id))
            }
        }
    }

    /// Changes a user's row under compare-and-swap: what it was, and what it is.
    pub(super) async fn edit_user(
        &self,
        org: &OrgId,
        id: &UserId,
        change: &(impl Fn(&mut UserRecord) -> Result<(), DirectoryError> + Send + Sync),
    ) -> Result<(UserRecord, Arc<UserRecord>), DirectoryError> {
        for _ in 0..agents::EDIT_TRIES {
            let Read { record: before, version } = self.read_user(org, id).await?;
            let mut after = before.clone();
            change(&mut after)?;
            match self.commit(&at(org, id), after, Some(version)).await {
                Err(error) if error.is_conflict() => {}
                other => return other.map(|after| (before, after)),
            }
        }
        Err(StoreError::Conflict { table: Table::Users.name(), key: at(org, id).key() }.into())
    }
}

fn at(org: &OrgId, id: &UserId) -> At {
    At::new(Table::Users, org, id)
}

/// What an owner means for who may use a connection: its owner's agents, or all where it is shared.
pub fn may_be_used_by(connection: &ConnectionRecord, agent: &AgentRecord) -> bool {
    match connection.visibility {
        Visibility::Shared => true,
        Visibility::Private => connection.owner.is_some() && connection.owner == agent.facts.owner,
    }
}

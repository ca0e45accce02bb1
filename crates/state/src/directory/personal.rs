//! Personal access tokens: issued, revoked. As an agent's, the hash is unique in the whole store.

use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::error::DirectoryError;
use super::index::Claim;
use super::records::IssuedToken;
use super::users::UserRecord;
use super::{Directory, Writer, check};
use crate::crypto::token::{self, TokenHash};
use keyward_base::id::{OrgId, TokenId, UserId};

/// Tokens of one person. Expired ones go when a new one is added.
const TOKENS_MAX: usize = 100;

/// A part of the API.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Area {
    /// Accounts and the consents that make them.
    Connections,
    /// Programs, their tokens, bindings and plugins.
    Agents,
    /// OAuth clients.
    Apps,
    /// What services are known.
    Providers,
    /// Rules, and what they would do.
    Rules,
    /// The audit log.
    Audit,
    /// Who is told what happens, and what raises an alarm.
    Webhooks,
    /// People, and their own tokens.
    Users,
    /// What all organisations share: keys, the CA, the configuration, organisations themselves.
    Install,
}

/// What a personal token may be used for, within what its owner may do: `all`, `read`, or an area
/// with `:read` or `:write`, which includes reading.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Scope {
    /// Everything.
    All,
    /// Reading everything.
    Read,
    /// Reading an area.
    ReadArea(Area),
    /// Reading and changing an area.
    WriteArea(Area),
}

/// A personal token: its hash, never its text.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct PersonalToken {
    /// Its id.
    pub id: TokenId,
    /// SHA-256, hex.
    pub hash: String,
    /// For people.
    pub label: Option<String>,
    /// What it may be used for; at least one.
    pub scopes: Vec<Scope>,
    /// When it was made.
    pub created: Timestamp,
    /// When it stops working.
    pub expires: Option<Timestamp>,
}

/// Text that is no scope.
#[derive(Debug, thiserror::Error)]
#[error(
    "is none of `all`, `read`, or `connections`, `agents`, `apps`, `providers`, `rules`, `audit`, `webhooks`, `users`, `install` with `:read` or `:write`"
)]
pub struct ScopeError;

impl Area {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::Connections,
        Self::Agents,
        Self::Apps,
        Self::Providers,
        Self::Rules,
        Self::Audit,
        Self::Webhooks,
        Self::Users,
        Self::Install,
    ];

    /// As it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Connections => "connections",
            Self::Agents => "agents",
            Self::Apps => "apps",
            Self::Providers => "providers",
            Self::Rules => "rules",
            Self::Audit => "audit",
            Self::Webhooks => "webhooks",
            Self::Users => "users",
            Self::Install => "install",
        }
    }
}

impl Scope {
    /// Whether it allows this.
    pub fn allows(self, area: Area, writes: bool) -> bool {
        match self {
            Self::All => true,
            Self::Read => !writes,
            Self::ReadArea(of) => of == area && !writes,
            Self::WriteArea(of) => of == area,
        }
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("all"),
            Self::Read => f.write_str("read"),
            Self::ReadArea(area) => write!(f, "{}:read", area.as_str()),
            Self::WriteArea(area) => write!(f, "{}:write", area.as_str()),
        }
    }
}

impl FromStr for Scope {
    type Err = ScopeError;

    fn from_str(text: &str) -> Result<Self, ScopeError> {
        match text {
            "all" => return Ok(Self::All),
            "read" => return Ok(Self::Read),
            _ => {}
        }
        let (name, access) = text.split_once(':').ok_or(ScopeError)?;
        let area = Area::ALL.into_iter().find(|area| area.as_str() == name).ok_or(ScopeError)?;
        match access {
            "read" => Ok(Self::ReadArea(area)),
            "write" => Ok(Self::WriteArea(area)),
            _ => Err(ScopeError),
        }
    }
}

impl Serialize for Scope {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Scope {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        String::deserialize(d)?.parse().map_err(serde::de::Error::custom)
    }
}

impl PersonalToken {
    /// Whether it still works.
    pub fn is_live(&self, now: Timestamp) -> bool {
        self.expires.is_none_or(|expires| now < expires)
    }
}

impl Directory {
    /// Issues a personal token. No scopes: everything that its owner may do.
    ///
    /// # Errors
    /// When the expiry is past, there are too many, or there is no such user.
    #[expect(clippy::too_many_arguments, reason = "the receiver and five")]
    pub async fn add_personal_token(
        &self,
        org: &OrgId,
        user: &UserId,
        label: Option<String>,
        scopes: Vec<Scope>,
        expires: Option<Timestamp>,
    ) -> Result<IssuedToken, DirectoryError> {
        check::label(label.as_deref())?;
        let created = self.shared.clock.now();
        if expires.is_some_and(|expires| expires <= created) {
            return Err(DirectoryError::TokenExpired);
        }
        let (text, id) = (token::issue_personal_token(), TokenId::random());
        let hash = TokenHash::of_secret(&text).to_hex();
        let scopes = if scopes.is_empty() { vec![Scope::All] } else { scopes };
        let new = PersonalToken { id: id.clone(), hash, label, scopes, created, expires };
        let (org, user) = (org.clone(), user.clone());
        self.write(|writer| async move { writer.add_personal(&org, &user, new).await }).await?;
        Ok(IssuedToken { id, text, expires })
    }

    /// Revokes one: it opens nothing any more.
    ///
    /// # Errors
    /// When the user has no such token.
    pub async fn revoke_personal_token(
        &self,
        org: &OrgId,
        user: &UserId,
        token: &TokenId,
    ) -> Result<(), DirectoryError> {
        let (org, user, token) = (org.clone(), user.clone(), token.clone());
        self.write(|writer| async move { writer.revoke_personal(&org, &user, token).await }).await
    }
}

impl Writer {
    async fn add_personal(
        &self,
        org: &OrgId,
        user: &UserId,
        new: PersonalToken,
    ) -> Result<(), DirectoryError> {
        self.read_user(org, user).await?;
        let hash = TokenHash::from_hex(&new.hash).ok_or(DirectoryError::TokenRefused)?;
        let index = self.index.token(&hash);
        self.rows.write(&index, &Claim::of(user), None).await.map_err(|error| {
            match error.is_conflict() {
                true => DirectoryError::TokenTaken,
                false => error,
            }
        })?;
        let now = self.clock.now();
        let change = |user: &mut UserRecord| {
            user.tokens.retain(|token| token.is_live(now));
            if user.tokens.len() >= TOKENS_MAX {
                return Err(DirectoryError::TooMany { what: "tokens", max: TOKENS_MAX });
            }
            user.tokens.push(new.clone());
            Ok(())
        };
        match self.edit_user(org, user, &change).await {
            Ok((before, after)) => self.drop_personal(&before, &after).await,
            Err(error) => {
                self.give_back(&[index]).await;
                Err(error)
            }
        }
    }

    async fn revoke_personal(
        &self,
        org: &OrgId,
        user: &UserId,
        id: TokenId,
    ) -> Result<(), DirectoryError> {
        let change = |user: &mut UserRecord| {
            let at = user.tokens.iter().position(|token| token.id == id);
            user.tokens.remove(at.ok_or_else(|| DirectoryError::not_found("token", &id))?);
            Ok(())
        };
        let (before, after) = self.edit_user(org, user, &change).await?;
        self.drop_personal(&before, &after).await
    }

    /// Deletes the index rows of tokens that `before` has and `after` has not.
    async fn drop_personal(
        &self,
        before: &UserRecord,
        after: &UserRecord,
    ) -> Result<(), DirectoryError> {
        let gone =
            |token: &&PersonalToken| !after.tokens.iter().any(|kept| kept.hash == token.hash);
        for token in before.tokens.iter().filter(gone) {
            if let Some(hash) = TokenHash::from_hex(&token.hash) {
                self.rows.delete(&self.index.token(&hash), None).await?;
            }
        }
        Ok(())
    }
}

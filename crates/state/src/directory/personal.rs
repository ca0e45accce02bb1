//! Issues and revokes the personal access tokens of users. The hash of a token is unique in the whole store.

use jiff::Timestamp;

use super::error::DirectoryError;
use super::records::IssuedToken;
use super::{Directory, check, users};
use crate::crypto::token::{self, TokenHash};
use keyward_base::id::{OrgId, TokenId, UserId};
use keyward_model::{PERSONAL_TOKENS_MAX, PersonalToken, PersonalTokenSpec, Record, Role, User};

impl Directory {
    /// Issues a personal token. No scopes: everything that its owner may do.
    ///
    /// # Errors
    /// When the expiry is past, there are too many, there is no such user, or it is an end user.
    pub async fn add_personal_token(
        &self,
        org: &OrgId,
        user: &UserId,
        spec: PersonalTokenSpec,
        expires: Option<Timestamp>,
    ) -> Result<IssuedToken, DirectoryError> {
        check::label(spec.label.as_deref())?;
        let created = self.shared.clock.now();
        if expires.is_some_and(|expires| expires <= created) {
            return Err(DirectoryError::TokenExpired);
        }
        let (text, id) = (token::issue_personal_token(), TokenId::random());
        let hash = TokenHash::of_secret(&text).to_hex();
        let new = PersonalToken { id: id.clone(), hash, spec: spec.or_all(), created, expires };
        let add = |user: &mut Record<User>| {
            if user.role == Role::EndUser {
                return Err(users::no_tokens("user"));
            }
            let tokens = &mut user.facts.tokens;
            tokens.retain(|token| token.is_live(created));
            if tokens.len() >= PERSONAL_TOKENS_MAX {
                return Err(DirectoryError::TooMany { what: "tokens", max: PERSONAL_TOKENS_MAX });
            }
            tokens.push(new.clone());
            Ok(())
        };
        self.edit::<User, DirectoryError>(org, user, &add).await?;
        Ok(IssuedToken { id, text, expires })
    }

    /// Revokes a personal token.
    ///
    /// # Errors
    /// When the user has no such token.
    pub async fn revoke_personal_token(
        &self,
        org: &OrgId,
        user: &UserId,
        token: &TokenId,
    ) -> Result<(), DirectoryError> {
        let revoke = |user: &mut Record<User>| {
            let tokens = &mut user.facts.tokens;
            let at = tokens.iter().position(|it| it.id == *token);
            tokens.remove(at.ok_or_else(|| DirectoryError::not_found("token", token))?);
            Ok(())
        };
        self.edit::<User, DirectoryError>(org, user, &revoke).await.map(drop)
    }
}

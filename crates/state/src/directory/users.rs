//! Users as a [`Stored`] resource: their unique values, the checks of a change and of a removal, and their personal
//! access tokens, whose hashes are unique in the whole store. Owners are in the rows of agents and connections.

use std::sync::Arc;

use jiff::Timestamp;

use super::commit::RecordChange;
use super::error::DirectoryError;
use super::index::{Index, NameKind, Unique};
use super::records::IssuedToken;
use super::stored::{Stored, stored_in};
use super::view::View;
use super::{Directory, DirectoryWriter, check};
use crate::crypto::token::{self, TokenHash};
use crate::store::Table;
use keyward_base::id::{OrgId, TokenId, UserId};
use keyward_model::{
    Identity, Login, ManagedBy, PERSONAL_TOKENS_MAX, PersonalToken, PersonalTokenSpec, Record,
    Refusal, Role, User,
};

impl Stored for User {
    const TABLE: Table = Table::Users;
    const NAMED: NameKind = NameKind::User;

    stored_in!(users);

    /// Name, address, account and tokens. A token is unique in the whole store.
    fn unique(user: &Record<Self>, index: &Index) -> Vec<Unique> {
        let name = index.unique_name(&user.org, NameKind::User, &user.name);
        let email = user.email.as_deref().map(|email| index.unique_email(&user.org, email));
        let identity = user.facts.identity.as_ref().map(|identity| {
            // No issuer contains a blank.
            let account = format!("{} {}", identity.issuer, identity.subject);
            index.unique_name(&user.org, NameKind::Identity, &account)
        });
        let tokens = user.facts.tokens.iter().filter_map(|it| index.unique_token(&it.hash));
        [name].into_iter().chain(email).chain(identity).chain(tokens).collect()
    }

    fn add_to_indexes(view: &mut View, user: &Arc<Record<Self>>) {
        view.add_tokens_of(user);
        view.add_links_of(user);
        view.add_passkeys_of(user);
        view.update_agents_of(&user.org, &user.id);
    }

    fn remove_from_indexes(view: &mut View, user: &Arc<Record<Self>>) {
        view.remove_tokens_of(user);
        view.remove_links_of(user);
        view.remove_passkeys_of(user);
        view.update_agents_of(&user.org, &user.id);
    }

    /// An end user has no personal tokens.
    fn may_change(_: &Record<Self>, user: &Record<Self>, _: &View) -> Result<(), DirectoryError> {
        match user.role == Role::EndUser && !user.facts.tokens.is_empty() {
            false => Ok(()),
            true => Err(no_tokens("role")),
        }
    }

    fn may_remove(user: &Record<Self>, _: ManagedBy, view: &View) -> Result<(), DirectoryError> {
        match view.record_owned_by(&user.org, &user.id) {
            None => Ok(()),
            Some((what, name)) => {
                Err(DirectoryError::UserOwns { user: user.name.clone(), what, name })
            }
        }
    }

    /// Their logins end.
    async fn removal<'a>(
        writer: &'a DirectoryWriter,
        user: &'a Record<Self>,
        change: &'a mut RecordChange,
    ) -> Result<(), DirectoryError> {
        for login in writer.view.load_full().logins_of(&user.org, &user.id) {
            writer.remove_in::<Login>(change, login, None);
        }
        Ok(())
    }
}

impl View {
    /// The user who signs in with this account at an identity provider.
    pub fn user_of_identity(&self, org: &OrgId, identity: &Identity) -> Option<&Arc<Record<User>>> {
        self.all::<User>(org).find(|user| user.facts.identity.as_ref() == Some(identity))
    }
}

/// The refusal of a personal token of an end user.
fn no_tokens(field: &'static str) -> DirectoryError {
    let rule = "is `end_user`: end users have no personal tokens";
    let hint =
        "an agent acts for an end user in a session: `keyward session add --agent A --user U`";
    Refusal::new(field, rule).hint(hint).into()
}

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
                return Err(no_tokens("user"));
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

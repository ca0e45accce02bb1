//! Passkeys of users: registered, named, used and removed in the user's row, and found by the id of their credential.

use std::sync::Arc;

use super::Directory;
use super::error::DirectoryError;
use super::view::View;
use crate::crypto::token::TokenHash;
use keyward_base::id::{OrgId, PasskeyId, UserId};
use keyward_model::{PASSKEYS_MAX, Passkey, Record, Refusal, User};

impl Directory {
    /// Registers a passkey.
    ///
    /// # Errors
    /// When its credential is registered, the user has too many, or the store fails.
    pub async fn add_passkey(
        &self,
        org: &OrgId,
        user: &UserId,
        passkey: Passkey,
    ) -> Result<(), DirectoryError> {
        let hash = TokenHash::of(&passkey.credential);
        let add = |user: &mut Record<User>| {
            let own = &mut user.facts.passkeys;
            if self.view().logins.passkeys.get(&hash).is_some() {
                return Err(Refusal::new("credential", "is registered already").into());
            }
            if own.len() >= PASSKEYS_MAX {
                let rule = format!("must not be more than {PASSKEYS_MAX} for one user");
                return Err(Refusal::new("credential", rule)
                    .hint("remove one that is not used")
                    .into());
            }
            own.push(passkey.clone());
            Ok(())
        };
        self.edit::<User, DirectoryError>(org, user, &add).await.map(drop)
    }

    /// Changes a passkey: its name, or that it was used.
    ///
    /// # Errors
    /// When the user has no such passkey, or the store fails.
    pub async fn change_passkey(
        &self,
        org: &OrgId,
        user: &UserId,
        id: &PasskeyId,
        change: impl Fn(&mut Passkey) + Sync,
    ) -> Result<Passkey, DirectoryError> {
        let edit = |user: &mut Record<User>| {
            let own = user.facts.passkeys.iter_mut().find(|passkey| passkey.id == *id);
            change(own.ok_or_else(|| DirectoryError::not_found("passkey", id))?);
            Ok(())
        };
        let user = self.edit::<User, DirectoryError>(org, user, &edit).await?;
        let found = user.facts.passkeys.iter().find(|passkey| passkey.id == *id);
        found.cloned().ok_or_else(|| DirectoryError::not_found("passkey", id))
    }

    /// Removes a passkey.
    ///
    /// # Errors
    /// As [`Directory::change_passkey`].
    pub async fn remove_passkey(
        &self,
        org: &OrgId,
        user: &UserId,
        id: &PasskeyId,
    ) -> Result<(), DirectoryError> {
        let remove = |user: &mut Record<User>| {
            let own = &mut user.facts.passkeys;
            let at = own.iter().position(|passkey| passkey.id == *id);
            own.remove(at.ok_or_else(|| DirectoryError::not_found("passkey", id))?);
            Ok(())
        };
        self.edit::<User, DirectoryError>(org, user, &remove).await.map(drop)
    }
}

impl View {
    /// The user and the passkey of a credential, by its id in base 64.
    pub fn passkey(&self, credential: &str) -> Option<(&Arc<Record<User>>, &Passkey)> {
        let user = self.logins.passkeys.get(&TokenHash::of(credential))?;
        let own = user.facts.passkeys.iter().find(|passkey| passkey.credential == credential);
        own.map(|passkey| (user, passkey))
    }

    /// Adds the passkeys of a user to the index.
    pub(super) fn add_passkeys_of(&mut self, user: &Arc<Record<User>>) {
        for passkey in &user.facts.passkeys {
            let hash = TokenHash::of(&passkey.credential);
            self.logins.passkeys.put(hash, Arc::clone(user), |of| of.id == user.id);
        }
    }

    /// Removes the passkeys of a user from the index.
    pub(super) fn remove_passkeys_of(&mut self, user: &Record<User>) {
        for passkey in &user.facts.passkeys {
            let hash = TokenHash::of(&passkey.credential);
            self.logins.passkeys.remove(&hash, |of| of.id == user.id);
        }
    }
}

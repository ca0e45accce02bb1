//! What users sign in with, in their rows: passkeys, found by the id of their credential; hashes of passwords, and the
//! networks that they sign in from with them; one-time codes, of which each works once.

use std::net::IpAddr;
use std::sync::Arc;

use jiff::Timestamp;

use super::Directory;
use super::error::DirectoryError;
use super::view::View;
use crate::crypto::token::TokenHash;
use crate::crypto::totp::{new_key, step_of};
use keyward_base::id::{OrgId, PasskeyId, UserId};
use keyward_base::secret::{PasswordHash, Secret, TotpKey};
use keyward_model::{NewTotp, PASSKEYS_MAX, Passkey, Record, Refusal, Totp, User};

/// Most networks that are remembered of one user; the least recently used one is dropped first.
const NETWORKS_MAX: usize = 20;

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

impl Directory {
    /// Sets or removes the password of a user, if it is still the one that the caller has read. The known networks of
    /// the old password are removed.
    ///
    /// # Errors
    /// When there is no such user, or the store fails; [`DirectoryError::Changed`] when the user has another password
    /// now: the caller may have signed in with the old one.
    pub async fn set_password(
        &self,
        before: &Record<User>,
        password: Option<PasswordHash>,
    ) -> Result<(), DirectoryError> {
        let set = |user: &mut Record<User>| {
            if user.facts.password != before.facts.password {
                return Err(DirectoryError::Changed { what: "user", name: user.name.clone() });
            }
            user.facts.password.clone_from(&password);
            user.facts.networks.clear();
            Ok(())
        };
        self.edit::<User, DirectoryError>(&before.org, &before.id, &set).await.map(drop)
    }

    /// Stores that the user signed in with this password from this network, if it is still the password of the user.
    ///
    /// # Errors
    /// As [`Directory::set_password`].
    pub async fn know_network(
        &self,
        org: &OrgId,
        user: &UserId,
        network: IpAddr,
        password: &PasswordHash,
    ) -> Result<(), DirectoryError> {
        let know = |user: &mut Record<User>| {
            let is_current = user.facts.password.as_ref() == Some(password);
            let known = &mut user.facts.networks;
            if !is_current || known.contains(&network) {
                return;
            }
            let surplus = (known.len() + 1).saturating_sub(NETWORKS_MAX);
            known.drain(..surplus);
            known.push(network);
        };
        self.change::<User>(org, user, know).await.map(drop)
    }
}

/// Why a code is not accepted.
#[derive(Debug, thiserror::Error)]
pub enum TotpError {
    /// The user has no key, or the new one has expired.
    #[error("there is no key of one-time codes")]
    NoKey,
    /// The code is not that of a current step, or its step was used.
    #[error("the one-time code is wrong or was used")]
    WrongCode,
    /// The user was removed, or the store fails.
    #[error(transparent)]
    Directory(#[from] DirectoryError),
}

impl Directory {
    /// Stores a new key, which is in force once a code confirms it. An unconfirmed key is replaced.
    ///
    /// # Errors
    /// When there is no such user, or the store fails.
    pub async fn add_totp(
        &self,
        org: &OrgId,
        user: &UserId,
        expires: Timestamp,
    ) -> Result<TotpKey, DirectoryError> {
        let key = new_key();
        let add = |user: &mut Record<User>| {
            user.facts.totp_new = Some(NewTotp { key: key.clone(), expires });
        };
        self.change::<User>(org, user, add).await?;
        Ok(key)
    }

    /// Puts the new key in force, confirmed by its current code.
    ///
    /// # Errors
    /// When the code is wrong, or there is no new key.
    pub async fn confirm_totp(
        &self,
        org: &OrgId,
        user: &UserId,
        code: &Secret,
    ) -> Result<(), TotpError> {
        let now = self.shared.clock.now();
        let confirm = |user: &mut Record<User>| {
            let new = user.facts.totp_new.take().filter(|new| now < new.expires);
            let NewTotp { key, .. } = new.ok_or(TotpError::NoKey)?;
            let last_step = step_of(code, &key, now, 0).ok_or(TotpError::WrongCode)?;
            user.facts.totp = Some(Totp { key, last_step });
            Ok(())
        };
        self.edit::<User, TotpError>(org, user, &confirm).await.map(drop)
    }

    /// Uses a code, once: of several callers with the same code, one succeeds.
    ///
    /// # Errors
    /// When the code is wrong or was used, or the user has no key.
    pub async fn use_totp(
        &self,
        org: &OrgId,
        user: &UserId,
        code: &Secret,
    ) -> Result<(), TotpError> {
        let now = self.shared.clock.now();
        let take = |user: &mut Record<User>| {
            let Totp { key, last_step } = user.facts.totp.as_mut().ok_or(TotpError::NoKey)?;
            *last_step = step_of(code, key, now, *last_step).ok_or(TotpError::WrongCode)?;
            Ok(())
        };
        self.edit::<User, TotpError>(org, user, &take).await.map(drop)
    }

    /// Removes the key, also an unconfirmed one. Then the password alone signs in.
    ///
    /// # Errors
    /// When there is no such user, or the store fails.
    pub async fn remove_totp(&self, org: &OrgId, user: &UserId) -> Result<(), DirectoryError> {
        let remove = |user: &mut Record<User>| {
            (user.facts.totp, user.facts.totp_new) = (None, None);
        };
        self.change::<User>(org, user, remove).await.map(drop)
    }
}

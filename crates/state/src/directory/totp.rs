//! One-time codes of users: a key is stored, confirmed by a code, and each code works once.

use jiff::Timestamp;

use super::Directory;
use super::error::DirectoryError;
use crate::crypto::totp::{new_key, step_of};
use keyward_base::id::{OrgId, UserId};
use keyward_base::secret::{Secret, TotpKey};
use keyward_model::{NewTotp, Record, Totp, User};

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

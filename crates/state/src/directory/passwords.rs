//! Passwords of users, as hashes in their rows, and the networks that they sign in from with them.

use std::net::IpAddr;

use super::Directory;
use super::error::DirectoryError;
use keyward_base::id::{OrgId, UserId};
use keyward_base::secret::PasswordHash;
use keyward_model::{Record, User};

/// Most networks that are remembered of one user; the least recently used one is dropped first.
const NETWORKS_MAX: usize = 20;

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

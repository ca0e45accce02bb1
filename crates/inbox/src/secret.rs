//! The secret of a service: whether it is known, the first one that a service hands over, and the text of it for the person
//! who must enter it there.

use super::Inbox;
use super::error::{InboxError, InboxRefusal};
use super::queue::SecretStatus;
use keyward_base::secret::Secret;
use keyward_hooks::{Rejection, Scheme};
use keyward_model::{Hook, Record};
use keyward_state::store::StoreError;
use keyward_vault::RowError;

impl Inbox {
    /// Whether the secret of the service is there, and what a person enters at the service.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn secret_status(&self, hook: &Record<Hook>) -> Result<SecretStatus, InboxError> {
        let scheme = self.scheme(hook);
        if scheme.is_some_and(Scheme::asks_api) {
            return Ok(SecretStatus { is_known: true, ..SecretStatus::default() });
        }
        let keys = self.keys.get(&hook.org, hook.id.as_str()).await?;
        let Some((keys, _)) = keys else { return Ok(SecretStatus::default()) };
        let secret = keys.secret();
        Ok(SecretStatus {
            is_known: secret.is_some(),
            verify_token: secret.and_then(|secret| scheme?.verify_token(&secret)),
            can_reveal: keys.is_unconfirmed() && scheme.is_some_and(Scheme::confirms_secret),
        })
    }

    /// The secret that the service handed over, for the person who must enter it there. It is shown until the first event.
    ///
    /// # Errors
    /// When no secret was handed over yet, a person gave it, an event has come, or the store fails.
    pub async fn reveal(&self, hook: &Record<Hook>) -> Result<String, InboxError> {
        let keys = self.keys.get(&hook.org, hook.id.as_str()).await?;
        let confirms = self.scheme(hook).is_some_and(Scheme::confirms_secret);
        if !confirms {
            return Err(InboxError::SecretNotShown);
        }
        let keys = keys.filter(|(keys, _)| keys.has_secret());
        let (keys, _) = keys.ok_or(InboxError::SecretNotSent)?;
        keys.unconfirmed().ok_or(InboxError::SecretNotShown)
    }

    /// Stores the secret that the service hands over in an unsigned request. Anyone can send one, so only the first is
    /// stored, also if two come at once. The service repeats its request if the answer was lost.
    pub(crate) async fn store_first_secret(
        &self,
        hook: &Record<Hook>,
        scheme: &Scheme,
        secret: &Secret,
    ) -> Result<(), InboxRefusal> {
        scheme.check_secret(secret).map_err(|_| Rejection::ChallengeRefused)?;
        let (org, id) = (&hook.org, hook.id.as_str());
        loop {
            let (known, over) = self.keys.get(org, id).await.map_err(InboxError::from)?.unzip();
            let known = known.unwrap_or_default();
            if known.has_secret() {
                return match known.knows(secret, self.clock.now()) {
                    true => Ok(()),
                    false => Err(InboxRefusal::HasSecret),
                };
            }
            let keys = known.handed_over(secret, scheme.confirms_secret());
            match self.keys.put(org, id, &keys, over).await {
                Err(RowError::Store(StoreError::Conflict { .. })) => {}
                Err(error) => return Err(InboxError::from(error).into()),
                Ok(_) => return Ok(()),
            }
        }
    }

    /// Ends the time in which the secret is shown: the service uses it.
    pub(crate) async fn confirm_secret(&self, hook: &Record<Hook>) -> Result<(), InboxError> {
        let (org, id) = (&hook.org, hook.id.as_str());
        loop {
            let keys = self.keys.get(org, id).await?;
            let Some((keys, over)) = keys.filter(|(keys, _)| keys.is_unconfirmed()) else {
                return Ok(());
            };
            match self.keys.put(org, id, &keys.confirmed(), Some(over)).await {
                Err(RowError::Store(StoreError::Conflict { .. })) => {}
                other => return Ok(other.map(|_| ())?),
            }
        }
    }
}

#[cfg(test)]
mod tests;

//! [`HookKeys`]: the secret of the service, which verifies its requests, and the key that signs deliveries. After a
//! change, the former secret is accepted, and the former key also signs, for a day.

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use keyward_base::secret::Secret;
use keyward_vault::SecretText;
use keyward_vault::events::{WebhookSigningKey, WebhookSigningKeys};

/// How long the former secret is accepted.
const OVERLAP: SignedDuration = SignedDuration::from_hours(24);

/// Keys that a person gives.
#[derive(Debug, Default)]
pub struct NewKeys {
    /// The secret of the service.
    pub secret: Option<Secret>,
    /// The key of deliveries.
    pub signing_key: Option<WebhookSigningKey>,
    /// Whether those before end at once, also one that was replaced earlier.
    pub no_overlap: bool,
}

/// The keys of a hook, as they are stored.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub(crate) struct HookKeys {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    secret: Option<SecretText>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    former: Option<FormerSecret>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    signing: Option<WebhookSigningKeys>,
    /// The service handed the secret over, a person must enter it there, and no event has come yet.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    is_unconfirmed: bool,
}

/// A replaced secret.
#[derive(Clone, Debug, Deserialize, Serialize)]
struct FormerSecret {
    secret: SecretText,
    until: Timestamp,
}

impl HookKeys {
    pub(crate) fn has_secret(&self) -> bool {
        self.secret.is_some()
    }

    /// The current secret.
    pub(crate) fn secret(&self) -> Option<Secret> {
        self.secret.as_ref().map(SecretText::secret)
    }

    /// The secrets that verify a request now.
    pub(crate) fn secrets(&self, now: Timestamp) -> Vec<Secret> {
        self.valid(now).map(SecretText::secret).collect()
    }

    /// Whether this secret verifies requests now.
    pub(crate) fn knows(&self, secret: &Secret, now: Timestamp) -> bool {
        row(secret).is_some_and(|given| self.valid(now).any(|known| *known == given))
    }

    fn valid(&self, now: Timestamp) -> impl Iterator<Item = &SecretText> {
        let former = self.former.as_ref().filter(|former| now < former.until);
        self.secret.iter().chain(former.map(|former| &former.secret))
    }

    /// Whether the secret may be shown, because a person must enter it at the service.
    pub(crate) fn is_unconfirmed(&self) -> bool {
        self.is_unconfirmed
    }

    /// The text of the secret while it may be shown.
    pub(crate) fn unconfirmed(&self) -> Option<String> {
        let secret = self.secret().filter(|_| self.is_unconfirmed)?;
        secret.expose_text().map(str::to_owned)
    }

    /// With the first secret of the service, which handed it over.
    #[must_use]
    pub(crate) fn handed_over(self, secret: &Secret, is_unconfirmed: bool) -> Self {
        Self { secret: row(secret), is_unconfirmed, ..self }
    }

    /// With a secret that an event has proven.
    #[must_use]
    pub(crate) fn confirmed(self) -> Self {
        Self { is_unconfirmed: false, ..self }
    }

    /// What signs deliveries.
    pub(crate) fn signing(&self) -> Option<&WebhookSigningKeys> {
        self.signing.as_ref()
    }

    /// Whether these keys change nothing.
    pub(crate) fn already_has(&self, new: &NewKeys) -> bool {
        let given = new.secret.as_ref().and_then(row);
        let has_key = |key| self.signing.as_ref().is_some_and(|keys| keys.is_now(key));
        given.is_none_or(|secret| self.secret == Some(secret))
            && new.signing_key.as_ref().is_none_or(has_key)
            && !new.no_overlap
    }

    #[must_use]
    pub(crate) fn with(mut self, new: &NewKeys, now: Timestamp) -> Self {
        if let Some(secret) = new.secret.as_ref().and_then(row)
            && self.secret.as_ref() != Some(&secret)
        {
            let until = now.checked_add(OVERLAP).unwrap_or(Timestamp::MAX);
            let before = self.secret.replace(secret);
            self.former = before.map(|secret| FormerSecret { secret, until });
            self.is_unconfirmed = false;
        }
        if let Some(key) = &new.signing_key {
            self.signing = Some(match self.signing.take() {
                Some(keys) if keys.is_now(key) && !new.no_overlap => keys,
                Some(keys) if !new.no_overlap => keys.followed_by(key.clone(), now),
                _ => WebhookSigningKeys::of(key.clone()),
            });
        }
        if new.secret.is_some() && new.no_overlap {
            self.former = None;
        }
        self
    }
}

/// The text of a secret, without the space around it that files and copies have.
fn row(secret: &Secret) -> Option<SecretText> {
    secret.expose_text().map(|text| SecretText::new(text.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replaced_secret_is_accepted_for_a_day() {
        let new = |text: &str| NewKeys { secret: Some(Secret::new(text)), ..NewKeys::default() };
        let then = Timestamp::UNIX_EPOCH;
        let keys = HookKeys::default().with(&new("one"), then).with(&new("two"), then);
        assert_eq!(keys.secrets(then).len(), 2);
        assert_eq!(keys.secrets(then + OVERLAP).len(), 1);
        assert!(keys.already_has(&new("two")) && !keys.already_has(&new("one")));
        let again = keys.clone().with(&new("two"), then);
        assert_eq!(again.secrets(then).len(), 2, "the same secret replaces nothing");
        assert!(!format!("{again:?}").contains("two"));
        let only = NewKeys { no_overlap: true, ..new("two") };
        assert!(!again.already_has(&only), "the one before is still accepted");
        assert_eq!(again.with(&only, then).secrets(then).len(), 1, "the same one alone");
        let other = NewKeys { no_overlap: true, ..new("three") };
        let alone = keys.with(&other, then).secrets(then);
        assert_eq!(alone.len(), 1, "a leaked secret ends at once");
    }

    #[test]
    fn a_secret_that_was_handed_over_is_shown_until_it_is_confirmed_or_replaced() {
        let (then, handed) = (Timestamp::UNIX_EPOCH, Secret::new("one"));
        let keys = HookKeys::default().handed_over(&handed, true);
        assert!(keys.knows(&handed, then) && !keys.knows(&Secret::new("two"), then));
        assert_eq!(keys.unconfirmed().as_deref(), Some("one"));
        assert_eq!(keys.clone().confirmed().unconfirmed(), None);
        let new = NewKeys { secret: Some(Secret::new("two")), ..NewKeys::default() };
        let replaced = keys.with(&new, then);
        assert_eq!(replaced.unconfirmed(), None, "a person gave it");
        assert!(replaced.knows(&handed, then) && !replaced.knows(&handed, then + OVERLAP));
        assert_eq!(HookKeys::default().handed_over(&handed, false).unconfirmed(), None);
    }
}

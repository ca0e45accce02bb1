//! The credentials of a source, as they are stored.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::rows::SecretText;
use keyward_base::secret::Secret;
use keyward_model::Refusal;

/// The credentials of a source, as they are stored.
#[derive(Default, Deserialize, PartialEq, Serialize)]
#[serde(transparent)]
pub(crate) struct SourceKeys(BTreeMap<String, SecretText>);

impl SourceKeys {
    /// # Errors
    /// When one is not text.
    pub(crate) fn of(credentials: &BTreeMap<String, Secret>) -> Result<Self, Refusal> {
        let text = |(name, value): (&String, &Secret)| {
            let text = value.expose_text().ok_or_else(|| {
                Refusal::new("credentials", format!("must be text, which `{name}` is not"))
            })?;
            Ok((name.clone(), SecretText::new(text)))
        };
        Ok(Self(credentials.iter().map(text).collect::<Result<_, Refusal>>()?))
    }

    pub(super) fn credentials(&self) -> BTreeMap<String, Secret> {
        let secret = |(name, text): (&String, &SecretText)| (name.clone(), text.secret());
        self.0.iter().map(secret).collect()
    }
}

//! `hooks:`: URLs to which services post their webhooks.

use serde::Deserialize;
use serde_yaml::Value;

use super::declared::InFile;
use super::reading::ConfigReading;
use super::secret::SecretSource;
use super::source;
use keyward_base::keys::section;
use keyward_model::Hook;
use keyward_rules::provider::document::key_of;

section! {
    /// What stands beside the spec of a hook.
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    #[doc(hidden)]
    pub struct HookItemKeys {
        /// What the service signs with: its signing secret or public key. Required, unless the service hands it over in
        /// its first request.
        #[key("[secret](#secrets)")]
        secret: Option<Value>,
        /// What deliveries are signed with: `whsec_` and base64 of 24 to 64 bytes, as Standard Webhooks says. Required
        /// with `to`.
        #[key("[secret](#secrets)")]
        signing_key: Option<Value>,
    }
}

/// Where the secrets of a hook are.
#[derive(Clone, Debug)]
pub struct HookSecrets {
    /// What the service signs with.
    pub secret: Option<SecretSource>,
    /// What deliveries are signed with.
    pub signing_key: Option<SecretSource>,
}

impl InFile for Hook {
    type ItemKeys = HookItemKeys;
    type With = HookSecrets;

    fn with(
        item_keys: HookItemKeys,
        path: &str,
        reading: &mut ConfigReading<'_>,
    ) -> Option<HookSecrets> {
        let mut read = |value: Option<Value>, key: &str| match value {
            Some(value) => source::secret(&value, &key_of(path, key), reading).map(Some),
            None => Some(None),
        };
        let (secret, signing_key) =
            (read(item_keys.secret, "secret"), read(item_keys.signing_key, "signing_key"));
        Some(HookSecrets { secret: secret?, signing_key: signing_key? })
    }
}

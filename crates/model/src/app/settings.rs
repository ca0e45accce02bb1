//! [`AppSettings`]: how an app's tokens are obtained, and how requests of its connections are sent. The second part
//! is the [`Settings`] of a connection; the file, the API and rows have both parts as one flat object.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::LazyLock;
use std::time::Duration;

use keyward_base::keys::{Key, Section, section};
use keyward_base::settings::Settings;
use keyward_rules::provider::oauth::ClientAuthText;
use schemars::JsonSchema;
use serde::de::value::{MapAccessDeserializer, StrDeserializer};
use serde::de::{DeserializeSeed, Error, IntoDeserializer, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use crate::given::{self, MemberName};

/// How an app's tokens are obtained, and how requests of its connections are sent.
#[derive(Clone, Debug, Default, Eq, JsonSchema, PartialEq, Serialize)]
pub struct AppSettings {
    /// How its tokens are obtained.
    #[serde(flatten)]
    pub tokens: TokenOptions,
    /// How requests of each of its connections are sent, where the connection's own settings say nothing.
    #[serde(flatten)]
    pub requests: Settings,
}

section! {
    /// How an app's tokens are obtained. What is absent is as the provider and `oauth` say.
    #[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
    #[serde(default, deny_unknown_fields)]
    pub struct TokenOptions {
        /// How long before its end a token is renewed, up to 24h; half of its life at most.
        #[key("time")]
        #[option("refresh-buffer", "TIME", "how long before its end a token is refreshed, such as 5m", under "Settings")]
        #[serde(skip_serializing_if = "Option::is_none", with = "given::optional_duration")]
        #[schemars(with = "Option<String>")]
        pub refresh_buffer: Option<Duration>,
        /// `false`: tokens are renewed only by `keyward connection refresh`, and requests with an ended token are
        /// refused. Default: tokens are renewed before they end.
        #[key(one of ["true", "false"])]
        #[option("auto-refresh", "BOOL", "whether tokens are refreshed before they end", under "Settings")]
        #[serde(skip_serializing_if = "Option::is_none")]
        pub auto_refresh: Option<bool>,
        /// Tokens of unused connections are renewed at least this often, 6h to 365d, whatever
        /// `oauth.keep_alive` says; `0s`: never.
        #[key("time")]
        #[option("keep-alive", "TIME", "how often unused tokens are refreshed, such as 30d; 0s: never", under "Settings")]
        #[serde(skip_serializing_if = "Option::is_none", with = "given::optional_duration")]
        #[schemars(with = "Option<String>")]
        pub keep_alive: Option<Duration>,
        /// Parameters of the authorization URL, added to the provider's or replacing them.
        #[key("map of text to text", "{}")]
        #[option("authorize-param", "KEY=VALUE", "a parameter of the consent page's URL; may be given several times", under "Settings")]
        #[serde(skip_serializing_if = "BTreeMap::is_empty")]
        pub authorize_params: BTreeMap<String, String>,
        /// Parameters of requests for tokens, added to the provider's or replacing them.
        #[key("map of text to text", "{}")]
        #[option("token-param", "KEY=VALUE", "a parameter of requests for tokens; may be given several times", under "Settings")]
        #[serde(skip_serializing_if = "BTreeMap::is_empty")]
        pub token_params: BTreeMap<String, String>,
        /// How the client authenticates to the token endpoint. Default: the provider's usual way, and `none` for a
        /// client without a secret.
        #[key(one of ["body", "basic", "basic_raw", "basic_secret_as_username", "none", "private_key_jwt", "client_secret_jwt", "mtls"])]
        #[option("client-auth", "WAY", "how the client authenticates", under "Settings")]
        #[serde(skip_serializing_if = "Option::is_none")]
        #[schemars(with = "Option<String>")]
        pub client_auth: Option<ClientAuthText>,
        /// The id by which the provider knows the key of `private_key_jwt`.
        #[key("text")]
        #[option("key-id", "ID", "the id that the provider knows its key by", under "Settings")]
        #[serde(skip_serializing_if = "Option::is_none")]
        pub key_id: Option<String>,
    }
}

static REQUEST_KEYS: LazyLock<Vec<&'static str>> = LazyLock::new(|| names(Settings::keys()));
static KEYS: LazyLock<Vec<&'static str>> = LazyLock::new(|| names(AppSettings::keys()));

fn names(keys: Vec<Key>) -> Vec<&'static str> {
    keys.into_iter().map(|key| key.name).collect()
}

impl AppSettings {
    /// Fills unset values from `base`. Maps are merged by name.
    pub fn with_defaults(self, base: Self) -> Self {
        Self {
            tokens: self.tokens.with_defaults(base.tokens),
            requests: self.requests.with_defaults(&base.requests),
        }
    }
}

impl TokenOptions {
    fn with_defaults(self, base: Self) -> Self {
        let merged = |own: BTreeMap<String, String>, base: BTreeMap<String, String>| {
            base.into_iter().chain(own).collect()
        };
        Self {
            refresh_buffer: self.refresh_buffer.or(base.refresh_buffer),
            auto_refresh: self.auto_refresh.or(base.auto_refresh),
            keep_alive: self.keep_alive.or(base.keep_alive),
            authorize_params: merged(self.authorize_params, base.authorize_params),
            token_params: merged(self.token_params, base.token_params),
            client_auth: self.client_auth.or(base.client_auth),
            key_id: self.key_id.or(base.key_id),
        }
    }
}

impl Section for AppSettings {
    fn keys() -> Vec<Key> {
        let requests = Settings::keys().into_iter().map(|key| {
            let meaning = format!("Default for `{}` of its connections.", key.name);
            Key { meaning, ..key }
        });
        TokenOptions::keys().into_iter().chain(requests).collect()
    }
}

/// Reads each member into the part that it belongs to. serde's `flatten` would read them into a buffer first, and a
/// refusal could not say at which path it is.
impl<'de> Deserialize<'de> for AppSettings {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Members)
    }
}

struct Members;

impl<'de> Visitor<'de> for Members {
    type Value = AppSettings;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<AppSettings, A::Error> {
        let mut settings = AppSettings::default();
        let mut seen = BTreeSet::new();
        while let Some(key) = map.next_key_seed(MemberName(&KEYS))? {
            if !seen.insert(key) {
                return Err(A::Error::duplicate_field(key));
            }
            let member = MapAccessDeserializer::new(Member { key: Some(key), map: &mut map });
            if REQUEST_KEYS.contains(&key) {
                settings.requests =
                    Settings::deserialize(member)?.with_defaults(&settings.requests);
            } else {
                settings.tokens = TokenOptions::deserialize(member)?.with_defaults(settings.tokens);
            }
        }
        Ok(settings)
    }
}

/// A map of one member, whose value is the next one of `map`.
struct Member<'m, A> {
    key: Option<&'static str>,
    map: &'m mut A,
}

impl<'de, A: MapAccess<'de>> MapAccess<'de> for Member<'_, A> {
    type Error = A::Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, A::Error> {
        let Some(key) = self.key.take() else { return Ok(None) };
        let key: StrDeserializer<'_, A::Error> = key.into_deserializer();
        seed.deserialize(key).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, A::Error> {
        self.map.next_value_seed(seed)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn settings_of_tokens_and_of_requests_are_one_flat_object() {
        let text = json!({
            "refresh_buffer": "2m", "token_params": { "a": "b" }, "client_auth": "none",
            "timeout": "30s", "concurrency": 8, "headers": { "x-a": "1" },
        });
        let settings: AppSettings = serde_json::from_value(text.clone()).unwrap();
        assert_eq!(settings.tokens.refresh_buffer, Some(Duration::from_secs(120)));
        assert_eq!(settings.requests.concurrency, Some(8));
        assert_eq!(serde_json::to_value(&settings).unwrap(), text);
        assert_eq!(serde_json::to_value(AppSettings::default()).unwrap(), json!({}));
    }

    #[test]
    fn a_refusal_names_the_path_of_the_member_in_either_part() {
        for (bad, path) in [
            (r#"{"refresh_buffer": "2"}"#, "refresh_buffer"),
            (r#"{"auto_refresh": true, "token_params": {"a": 1}}"#, "token_params.a"),
            (r#"{"auto_refresh": true, "retry": {"attempts": 99}}"#, "retry.attempts"),
            (r#"{"headers": {"x-a": 1}}"#, "headers.x-a"),
        ] {
            let reader = &mut serde_json::Deserializer::from_str(bad);
            let refused = serde_path_to_error::deserialize::<_, AppSettings>(reader).unwrap_err();
            assert_eq!(refused.path().to_string(), path, "{bad}: {refused}");
        }
    }

    #[test]
    fn unknown_and_repeated_members_are_refused() {
        for (bad, expected) in [
            (r#"{"refresh_bufer": "2m"}"#, "unknown field `refresh_bufer`, expected one of"),
            (r#"{"timeout": "30s", "timeout": "40s"}"#, "duplicate field `timeout`"),
            (r#"{"key_id": "a", "key_id": "a"}"#, "duplicate field `key_id`"),
            (r#"[]"#, "invalid type: sequence, expected a map"),
        ] {
            let refused = serde_json::from_str::<AppSettings>(bad).unwrap_err().to_string();
            assert!(refused.contains(expected), "{bad}: {refused}");
        }
    }

    #[test]
    fn settings_of_the_app_override_those_of_the_template() {
        let of = |text| serde_json::from_value::<AppSettings>(text).unwrap();
        let own = of(json!({ "refresh_buffer": "2m", "token_params": { "a": "1" } }));
        let base = of(json!({
            "refresh_buffer": "9m", "timeout": "30s", "token_params": { "a": "2", "b": "3" },
        }));
        let merged = json!({
            "refresh_buffer": "2m", "timeout": "30s", "token_params": { "a": "1", "b": "3" },
        });
        assert_eq!(serde_json::to_value(own.with_defaults(base)).unwrap(), merged);
    }
}

//! [`AppSettings`]: how an app's tokens are obtained, and how requests of its connections are sent.

use std::collections::BTreeMap;
use std::time::Duration;

use keyward_base::keys::section;
use keyward_base::settings::{FieldText, Headers, Rate, Retry, Settings, Wait, concurrency};
use keyward_rules::provider::oauth::ClientAuthText;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::optional_duration;

section! {
    /// How an app's tokens are got. What is absent is as the provider and `oauth` say.
    #[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
    #[serde(default, deny_unknown_fields)]
    pub struct AppSettings {
        /// How long before its end a token is renewed, up to 24h; half of its life at most.
        #[key("time")]
        #[serde(skip_serializing_if = "Option::is_none", with = "optional_duration")]
        #[schemars(with = "Option<String>")]
        pub refresh_buffer: Option<Duration>,
        /// `false`: tokens are renewed by `keyward connection refresh` alone; one that has ended is refused
        /// until then. Left out, by themselves.
        #[key(one of ["true", "false"])]
        #[serde(skip_serializing_if = "Option::is_none")]
        pub auto_refresh: Option<bool>,
        /// Tokens of connections that nobody uses are renewed this often at least, 6h to 365d, whatever
        /// `oauth.keep_alive` says; `0s`: never.
        #[key("time")]
        #[serde(skip_serializing_if = "Option::is_none", with = "optional_duration")]
        #[schemars(with = "Option<String>")]
        pub keep_alive: Option<Duration>,
        /// Added to the URL that a person consents at, or replacing what the provider adds.
        #[key("map of text to text", "{}")]
        #[serde(skip_serializing_if = "BTreeMap::is_empty")]
        pub authorize_params: BTreeMap<String, String>,
        /// Added to requests for tokens, or replacing what the provider adds.
        #[key("map of text to text", "{}")]
        #[serde(skip_serializing_if = "BTreeMap::is_empty")]
        pub token_params: BTreeMap<String, String>,
        /// How the client proves itself to the token endpoint. Left out, it is the provider's usual way,
        /// and `none` where no secret is given.
        #[key(one of ["body", "basic", "basic_raw", "basic_secret_as_username", "none", "private_key_jwt", "client_secret_jwt", "mtls"])]
        #[serde(skip_serializing_if = "Option::is_none")]
        #[schemars(with = "Option<String>")]
        pub client_auth: Option<ClientAuthText>,
        /// The id that the provider knows the key of `private_key_jwt` by.
        #[key("text")]
        #[serde(skip_serializing_if = "Option::is_none")]
        pub key_id: Option<String>,
        /// `timeout` of its connections, where they name none.
        #[key("time")]
        #[serde(skip_serializing_if = "Option::is_none")]
        pub timeout: Option<Wait>,
        /// `retry` of its connections, where they name none.
        #[key(map of Retry)]
        #[serde(skip_serializing_if = "Option::is_none")]
        pub retry: Option<Retry>,
        /// `rate_limit` of each of its connections, where it names none.
        #[key("count and `/s`, `/min` or `/h`")]
        #[serde(skip_serializing_if = "Option::is_none")]
        pub rate_limit: Option<Rate>,
        /// `concurrency` of each of its connections, where it names none.
        #[key("count, 1 or more")]
        #[serde(deserialize_with = "concurrency", skip_serializing_if = "Option::is_none")]
        pub concurrency: Option<u32>,
        /// `user_agent` of its connections, where they name none.
        #[key("text")]
        #[serde(skip_serializing_if = "Option::is_none")]
        pub user_agent: Option<FieldText>,
        /// `headers` of its connections, beside theirs.
        #[key("map of text to text", "{}")]
        #[serde(skip_serializing_if = "Headers::is_empty")]
        pub headers: Headers,
    }
}

impl AppSettings {
    /// How requests of its connections are sent, where they say nothing themselves.
    pub fn requests(&self) -> Settings {
        Settings {
            timeout: self.timeout,
            retry: self.retry.clone(),
            rate_limit: self.rate_limit,
            concurrency: self.concurrency,
            user_agent: self.user_agent.clone(),
            headers: self.headers.clone(),
        }
    }

    /// These, and where they say nothing what `base` says. Maps are merged by name.
    pub fn over(self, base: Self) -> Self {
        let requests = self.requests().over(&base.requests());
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
            timeout: requests.timeout,
            retry: requests.retry,
            rate_limit: requests.rate_limit,
            concurrency: requests.concurrency,
            user_agent: requests.user_agent,
            headers: requests.headers,
        }
    }
}

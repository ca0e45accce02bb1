//! [`AppUrls`]: an app's endpoints, and [`Registered`]: where it registered itself.

use jiff::Timestamp;
use keyward_base::keys::section;
use keyward_rules::provider::OAuth;
use keyward_rules::provider::oauth::UrlTemplate;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

section! {
    /// Endpoints of an app, instead of its provider's: https URLs without variables.
    #[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
    #[serde(default, deny_unknown_fields)]
    pub struct AppUrls {
        /// Who the authorization server says it is (RFC 8414, RFC 9207).
        #[key("https URL")]
        #[serde(skip_serializing_if = "Option::is_none")]
        pub issuer: Option<String>,
        /// Where a person consents.
        #[key("https URL")]
        #[serde(skip_serializing_if = "Option::is_none")]
        pub authorize: Option<String>,
        /// Where tokens are fetched.
        #[key("https URL")]
        #[serde(skip_serializing_if = "Option::is_none")]
        pub token: Option<String>,
        /// Device authorization (RFC 8628).
        #[key("https URL")]
        #[serde(skip_serializing_if = "Option::is_none")]
        pub device: Option<String>,
        /// Revocation (RFC 7009).
        #[key("https URL")]
        #[serde(skip_serializing_if = "Option::is_none")]
        pub revoke: Option<String>,
    }
}

/// A dynamic registration, RFC 7591.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct Registered {
    /// At whom: its credentials are sent to nobody else.
    pub issuer: String,
    /// When its secret ends.
    pub expires: Option<Timestamp>,
}

impl AppUrls {
    /// Names the endpoints that nobody configured.
    pub fn complete(&self, oauth: &mut OAuth) {
        for (slot, told) in [
            (&mut oauth.authorize, &self.authorize),
            (&mut oauth.token, &self.token),
            (&mut oauth.device, &self.device),
            (&mut oauth.revoke, &self.revoke),
        ] {
            if let (None, Some(url)) = (&slot, told) {
                *slot = Some(UrlTemplate::literal(url));
            }
        }
    }
}

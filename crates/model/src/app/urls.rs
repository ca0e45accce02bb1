//! [`AppUrls`]: endpoints of an authorization server, as an app configures them or an issuer names them.

use keyward_base::host::{Scheme, Target};
use keyward_base::keys::section;
use keyward_rules::provider::OAuth;
use keyward_rules::provider::oauth::UrlTemplate;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::refusal::{Refusal, failed};

const URL_BYTES_MAX: usize = 2048;

section! {
    /// Endpoints of an app, instead of its provider's: https URLs without variables.
    #[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
    #[serde(default, deny_unknown_fields)]
    pub struct AppUrls {
        /// The issuer identifier of the authorization server (RFC 8414, RFC 9207).
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

impl AppUrls {
    /// Sets the endpoints that are not configured.
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

    pub(super) fn refusals(&self) -> Vec<Refusal> {
        failed([
            https("urls.issuer", self.issuer.as_deref()),
            https("urls.authorize", self.authorize.as_deref()),
            https("urls.token", self.token.as_deref()),
            https("urls.device", self.device.as_deref()),
            https("urls.revoke", self.revoke.as_deref()),
        ])
    }
}

fn https(field: &'static str, url: Option<&str>) -> Result<(), Refusal> {
    let rule = "must be an https URL without user and fragment";
    Refusal::unless(url.is_none_or(is_https), field, rule)
        .map_err(|refusal| refusal.hint("write `https://host/path`"))
}

fn is_https(url: &str) -> bool {
    let Some(rest) = url.strip_prefix("https://") else { return false };
    let authority = rest.split(['/', '?']).next().unwrap_or_default();
    let is_sound =
        |b: u8| b.is_ascii_graphic() && !matches!(b, b'#' | b'{' | b'}' | b'"' | b'<' | b'>');
    url.len() <= URL_BYTES_MAX
        && url.bytes().all(is_sound)
        && !authority.contains('@')
        && Target::parse(Scheme::Https, authority).is_ok()
}

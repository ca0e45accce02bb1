//! Apps: OAuth clients that are registered at providers. Their secrets are sealed by the vault and are no part of
//! this; everything here may be shown.

mod applied;
mod settings;
mod urls;

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use keyward_base::id::AppId;
use keyward_base::keys::section;
use keyward_rules::provider::scope_words::ScopeWords;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::connection::Failures;
use super::name;
use super::refusal::{Refusal, failed};
use super::resource::{Kind, Resource};
use super::secret_text::{GivenFields, References};
use super::source::FetchedView;

pub use applied::redirect_uri;
pub use settings::{AppSettings, TokenOptions};
pub use urls::AppUrls;

/// Bytes of a client id, a key id, a scope, and a parameter's name or value.
const TEXT_BYTES_MAX: usize = 1024;

/// Scopes of one app.
const SCOPES_MAX: usize = 200;

/// Parameters of one kind of request.
const PARAMS_MAX: usize = 32;

/// A longer buffer would renew tokens all day.
const BUFFER_MAX: Duration = Duration::from_secs(24 * 3600);

/// Minimum interval at which unused tokens are renewed: one pass over all tokens takes hours.
const KEEP_ALIVE_MIN: Duration = Duration::from_secs(6 * 3600);

/// Maximum interval: with a longer one, tokens would expire before they are renewed.
const KEEP_ALIVE_MAX: Duration = Duration::from_secs(365 * 24 * 3600);

/// Where the API takes secrets. The configuration file has them beside the other members.
const IN_SECRETS: &str = "write it in `secrets`: {\"secrets\": {\"client_secret\": \"…\"}}";

/// Parameters that a flow sets itself. An app that could set them could undo what protects the flow.
const OWN_PARAMS: &[&str] = &[
    "assertion",
    "client_assertion",
    "client_assertion_type",
    "client_id",
    "client_secret",
    "code",
    "code_challenge",
    "code_challenge_method",
    "code_verifier",
    "device_code",
    "grant_type",
    "nonce",
    "oauth_callback",
    "oauth_token",
    "oauth_verifier",
    "redirect_uri",
    "refresh_token",
    "request",
    "request_uri",
    "response_mode",
    "response_type",
    "state",
    "subject_token",
];

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum App {}

section! {
    /// What a person gives.
    #[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
    #[serde(deny_unknown_fields)]
    pub struct AppSpec {
        /// Unique. 1 to 64 letters, digits or `-_.`.
        #[key("text", required)]
        pub name: String,
        /// Of the catalogue or of `providers`.
        #[key("id of a [provider](providers.md)", required)]
        pub provider: String,
        /// The one method of the provider that it is for; default: any of OAuth 2.0. An app of OAuth 1.0a names its
        /// method.
        #[key("id of a method")]
        #[serde(default)]
        pub auth: Option<String>,
        /// As the provider issued it; the consumer key in OAuth 1.0a.
        #[key("text", required)]
        #[option("client-id", "ID", "another client id", only changes)]
        pub client_id: String,
        /// Secrets that are kept in a secret source: those with `from` and `ref`.
        #[key("map of names to references", "{}")]
        #[serde(default, skip_serializing_if = "References::is_empty")]
        pub references: References,
        /// Requested if a connection names none. Default: the provider's.
        #[key("list of text", "[]")]
        #[option("scope", "SCOPE", "a scope to request; may be given several times; default: the provider's", under "Settings")]
        #[serde(default)]
        pub scopes: Vec<String>,
        /// What the provider's URLs leave open, such as `tenant`.
        #[key("map of text to text", "{}")]
        #[option("var", "KEY=VALUE", "a variable of the provider's URLs; may be given several times", under "Settings")]
        #[serde(default)]
        pub variables: BTreeMap<String, String>,
        /// Endpoints instead of the provider's.
        #[key(map of AppUrls)]
        #[option("url", "WHICH=URL", "issuer, authorize, token, device or revoke, instead of the provider's", under "Settings")]
        #[serde(default)]
        pub urls: AppUrls,
        /// How its tokens are obtained, and how requests of its connections are sent.
        #[key(map of AppSettings)]
        #[serde(default)]
        pub settings: AppSettings,
    }
}

section! {
    /// What a request that adds one gives beside the spec.
    #[derive(Debug, Default, Deserialize, JsonSchema)]
    pub struct AppCreateOptions {
        /// `client_secret`, or `private_key` and `certificate`, each as text or as a reference; none for a public client.
        #[key("map of text to text", "{}")]
        #[serde(default)]
        pub secrets: GivenFields,
        /// A template of the provider's, such as `google_workspace`: absent scopes and settings are the
        /// template's.
        #[key("id of a template")]
        #[serde(default)]
        pub template: Option<String>,
        /// The id of `GET /redirect-uri`, if its redirect URI was registered before.
        #[key("id")]
        #[serde(default)]
        #[schemars(with = "Option<String>")]
        pub id: Option<AppId>,
    }
}

section! {
    /// What a request that changes one gives beside a merge patch of the spec.
    #[derive(Debug, Default, Deserialize, JsonSchema)]
    pub struct AppChangeOptions {
        /// Replaces all of its secrets and references; an empty map makes it a public client.
        #[key("map of text to text")]
        #[serde(default)]
        pub secrets: Option<GivenFields>,
    }
}

/// What the gateway adds.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default)]
pub struct AppFacts {
    /// Names of the secrets that are stored; none for a public client.
    pub secrets: Vec<String>,
    /// Where it registered itself, RFC 7591; `None`: a person registered it.
    pub registered: Option<DynamicRegistration>,
    /// Endpoints that issuers named in their metadata (RFC 8414), by issuer, where none is configured. Refreshes
    /// use them without asking for the metadata.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub discovered: BTreeMap<String, AppUrls>,
    /// The configuration file no longer names it.
    pub paused: bool,
    /// When its secrets were last replaced. They are in another row, and this makes another version of the record.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rotated: Option<Timestamp>,
}

/// What is shown beside the spec.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct AppShown {
    /// What has to be registered at the provider, character by character.
    pub redirect_uri: String,
    /// Names of the secrets that are stored.
    pub secrets: Vec<String>,
    /// Where it registered itself, and when that ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub registered: Option<DynamicRegistration>,
    /// When secrets by reference were last fetched.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fetched: Option<FetchedView>,
    /// Failures of fetches since then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fetch_failing: Option<Failures>,
    /// What its scopes allow, in words, as far as the provider has some.
    #[serde(default, skip_serializing_if = "ScopeWords::is_empty")]
    pub scope_words: ScopeWords,
    /// Names of the connections that use it.
    pub connections: Vec<String>,
    /// The configuration file no longer names it: no token is requested with it.
    pub paused: bool,
    /// Why no token can be requested with it, and what to do about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

/// A dynamic registration, RFC 7591.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct DynamicRegistration {
    /// Its credentials are sent to this issuer alone.
    pub issuer: String,
    /// When its secret ends, or when the server rejected the client.
    pub expires: Option<Timestamp>,
    /// The scopes that the client was registered for; absent: those that the server grants.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scopes: Option<Vec<String>>,
    /// Where the client is deleted at its server (RFC 7592).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uri: Option<String>,
}

impl DynamicRegistration {
    /// Whether the client may request these scopes. Servers may refuse others than it was registered for.
    pub fn permits(&self, scopes: &[String]) -> bool {
        let is_known = |known: &Vec<String>| scopes.iter().all(|scope| known.contains(scope));
        self.scopes.as_ref().is_none_or(is_known)
    }
}

impl Resource for App {
    type Id = AppId;
    type Spec = AppSpec;
    type CreateOptions = AppCreateOptions;
    type ChangeOptions = AppChangeOptions;
    type Facts = AppFacts;
    type Shown = AppShown;

    const KIND: Kind = Kind { one: "app", article: "an app", many: "apps", max: usize::MAX };
    const FIXED: &[&str] = &["name", "provider"];
    const CHANGED_ELSEWHERE: &[(&str, &str)] =
        &[("client_secret", IN_SECRETS), ("private_key", IN_SECRETS), ("certificate", IN_SECRETS)];
    const DATED: bool = true;

    fn name(spec: &AppSpec) -> &str {
        &spec.name
    }

    fn refusals(spec: &AppSpec) -> Vec<Refusal> {
        let tokens = &spec.settings.tokens;
        let keep_alive = tokens.keep_alive.filter(|every| !every.is_zero());
        let keeps = keep_alive.is_none_or(|it| (KEEP_ALIVE_MIN..=KEEP_ALIVE_MAX).contains(&it));
        let buffers = tokens.refresh_buffer.is_none_or(|buffer| buffer <= BUFFER_MAX);
        let key_id = tokens.key_id.as_deref();
        let own = failed([
            name::plain(&spec.name),
            visible("client_id", &spec.client_id),
            scopes(&spec.scopes),
            references(&spec.references),
            Refusal::unless(buffers, "settings.refresh_buffer", "must be 24h or less")
                .map_err(|refusal| refusal.hint("write 5m")),
            Refusal::unless(keeps, "settings.keep_alive", "must be 6h to 365d, or 0s for never")
                .map_err(|refusal| refusal.hint("write 30d")),
            params("settings.authorize_params", &tokens.authorize_params),
            params("settings.token_params", &tokens.token_params),
            key_id.map_or(Ok(()), |id| visible("settings.key_id", id)),
        ]);
        own.into_iter().chain(spec.urls.refusals()).collect()
    }

    fn provider(spec: &AppSpec) -> Option<&str> {
        Some(&spec.provider)
    }
}

/// Secrets of an app.
const SECRETS: &[&str] = &["client_secret", "private_key", "certificate"];

fn references(references: &References) -> Result<(), Refusal> {
    let is_one = |name: &String| SECRETS.contains(&name.as_str());
    let fits = references.iter().all(|(name, it)| is_one(name) && it.is_plain());
    let rule = "must have a `ref` of up to 1024 characters on one line for client_secret, private_key or certificate";
    Refusal::unless(fits, "references", rule)
}

fn visible(field: &'static str, text: &str) -> Result<(), Refusal> {
    let is_visible = (1..=TEXT_BYTES_MAX).contains(&text.len())
        && text.bytes().all(|b| (b' '..=b'~').contains(&b))
        && text.trim() == text;
    let rule = format!("must be 1 to {TEXT_BYTES_MAX} characters of visible ASCII");
    Refusal::unless(is_visible, field, rule).map_err(|refusal| refusal.hint("copy it again, whole"))
}

/// RFC 6749 §3.3.
fn scopes(scopes: &[String]) -> Result<(), Refusal> {
    let is_scope = |scope: &String| {
        (1..=TEXT_BYTES_MAX).contains(&scope.len())
            && scope.bytes().all(|b| b.is_ascii_graphic() && !matches!(b, b'"' | b'\\'))
    };
    let rule = format!("must be up to {SCOPES_MAX} scopes of visible ASCII without blanks");
    Refusal::unless(scopes.len() <= SCOPES_MAX && scopes.iter().all(is_scope), "scopes", rule)
        .map_err(|refusal| refusal.hint("list them one by one"))
}

fn params(field: &'static str, params: &BTreeMap<String, String>) -> Result<(), Refusal> {
    if let Some(name) = params.keys().find(|name| OWN_PARAMS.contains(&name.as_str())) {
        let rule = format!("must not have `{name}`, which each request sets itself");
        return Err(Refusal::new(field, rule).hint("omit it"));
    }
    let is_text = |text: &str| {
        text.len() <= TEXT_BYTES_MAX && text.bytes().all(|b| (b' '..=b'~').contains(&b))
    };
    let is_param =
        |(name, value): (&String, &String)| !name.is_empty() && is_text(name) && is_text(value);
    let rule = format!(
        "must be up to {PARAMS_MAX} names and values of visible ASCII, up to {TEXT_BYTES_MAX} characters each"
    );
    Refusal::unless(params.len() <= PARAMS_MAX && params.iter().all(is_param), field, rule)
        .map_err(|refusal| refusal.hint("correct or remove some"))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn spec(more: Value) -> AppSpec {
        let mut spec = json!({ "name": "own", "provider": "acme", "client_id": "c" });
        spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        serde_json::from_value(spec).unwrap()
    }

    #[test]
    fn an_invalid_member_of_an_app_is_refused_by_field() {
        let long = "x".repeat(TEXT_BYTES_MAX + 1);
        let params: BTreeMap<_, _> = (0..=PARAMS_MAX).map(|n| (n.to_string(), "x")).collect();
        for (bad, field) in [
            (json!({ "name": "a b" }), "name"),
            (json!({ "client_id": "" }), "client_id"),
            (json!({ "client_id": " c" }), "client_id"),
            (json!({ "client_id": long }), "client_id"),
            (json!({ "client_id": "\u{e9}" }), "client_id"),
            (json!({ "scopes": ["repo gist"] }), "scopes"),
            (json!({ "scopes": [""] }), "scopes"),
            (json!({ "scopes": ["a\"b"] }), "scopes"),
            (json!({ "scopes": vec!["a"; SCOPES_MAX + 1] }), "scopes"),
            (json!({ "settings": { "refresh_buffer": "25h" } }), "settings.refresh_buffer"),
            (json!({ "settings": { "keep_alive": "1h" } }), "settings.keep_alive"),
            (json!({ "settings": { "keep_alive": "366d" } }), "settings.keep_alive"),
            (json!({ "settings": { "key_id": "" } }), "settings.key_id"),
            (json!({ "settings": { "token_params": { "code": "x" } } }), "settings.token_params"),
            (json!({ "settings": { "token_params": { "": "x" } } }), "settings.token_params"),
            (
                json!({ "settings": { "authorize_params": { "a": "\n" } } }),
                "settings.authorize_params",
            ),
            (json!({ "settings": { "authorize_params": params } }), "settings.authorize_params"),
            (json!({ "urls": { "token": "http://a.test/" } }), "urls.token"),
            (json!({ "urls": { "issuer": "https://u:p@a.test/" } }), "urls.issuer"),
            (json!({ "urls": { "revoke": "https://a.test/#x" } }), "urls.revoke"),
        ] {
            let refused = App::refusals(&spec(bad.clone()));
            let fields: Vec<_> = refused.iter().map(|refusal| &*refusal.field).collect();
            assert_eq!(fields, [field], "{bad}");
        }
        let good = json!({
            "scopes": ["https://www.googleapis.com/auth/gmail.readonly"],
            "urls": { "token": "https://a.test/token?x=1" },
            "settings": { "keep_alive": "0s", "refresh_buffer": "24h", "token_params": { "a": "" } },
        });
        assert_eq!(App::refusals(&spec(good)), []);
    }

    #[test]
    fn all_invalid_members_of_an_app_are_refused_at_once() {
        let urls = json!({ "token": "x", "device": "y" });
        let bad = spec(json!({ "name": "", "client_id": "", "scopes": [""], "urls": urls }));
        let refused = App::refusals(&bad);
        let fields: Vec<_> = refused.iter().map(|refusal| &*refusal.field).collect();
        assert_eq!(fields, ["name", "client_id", "scopes", "urls.token", "urls.device"]);
    }
}

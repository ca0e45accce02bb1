//! The YAML schema of providers, for the catalogue and for users; the keys of OAuth are in [`OAuth`]. It checks only names
//! and types of keys; `check.rs` converts it into [`super::Provider`].
//!
//! The schema also covers data of a service (OAuth endpoints, quirks, webhook scheme) whose features are not
//! supported yet, so that files need not be rewritten then.

use std::collections::BTreeMap;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize};
use serde_yaml::Value;

use super::decode::{one_or_many, time};
use super::field::{Field, KeyPattern};
use super::file::FileText;
use super::keys::{
    ActionText, ClearsText, IndirectText, JwtText, PlaceText, RequestText, ScopedText,
    SignatureText, TlsFields,
};
use super::kinds::AuthKind;
use super::oauth::OAuth;
use super::revocation::RevokeText;
use super::scope_words::ScopeWords;
use super::url_template::UrlTemplate;
use super::variable::Variable;
use crate::inject::placeholder::Letters;
use crate::rate_limit::RateLimitFields;
use keyward_base::database::DatabaseProtocol;
use keyward_base::settings;

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProviderText {
    /// The id in lower case, such as `github`.
    pub id: String,
    pub name: String,
    /// The built-in provider whose definition this one has; replaced by that before it is read.
    pub extends: Option<Value>,
    /// The category, such as `llm` or `payments`.
    pub category: Option<String>,
    /// The wire protocol of a database; absent for services that are used over HTTP.
    pub protocol: Option<DatabaseProtocol>,
    /// The URL of a remote MCP server, which says itself where consents are asked for.
    pub mcp: Option<String>,
    /// Host patterns: `api.acme.test`, `*.acme.test`, `{shop}.myshopify.com`, each optionally with a port.
    pub hosts: Vec<String>,
    /// Paths that belong to the service on these hosts; empty means all.
    #[serde(default)]
    pub paths: Vec<String>,
    /// `segment`: the service reads an encoded slash in a path (`%2F`) as a part of the segment, and so do rules and actions.
    /// Otherwise they refuse such a path.
    pub encoded_slash: Option<EncodedSlash>,
    /// Variables of hosts and URLs that the owner enters.
    #[serde(default)]
    pub variables: Vec<Variable>,
    /// Ways to authenticate, each an [`AuthText`]; the first is the default.
    pub auth: Vec<Value>,
    /// Hosts of repositories that git reaches over HTTPS with this credential, a subset of `hosts`.
    #[serde(default)]
    pub git: Vec<String>,
    /// Named parts of the API.
    #[serde(default)]
    pub actions: Vec<ActionText>,
    /// Requests that can do what actions do, and that are refused where an action is denied.
    #[serde(default)]
    pub indirect: Vec<IndirectText>,
    /// Further places of credentials that are removed before one is written.
    #[serde(default)]
    pub clears: ClearsText,
    /// Members of JSON bodies (dotted paths) or fields of forms where programs repeat the key beside its place; they are
    /// removed there if the body has a placeholder.
    #[serde(default)]
    pub repeats: Vec<String>,
    #[serde(default, deserialize_with = "templates")]
    pub templates: Vec<Template>,
    /// What scopes allow, in words for people: `chat:write: send messages`.
    #[serde(default)]
    pub scope_words: ScopeWords,
    /// Fields added if the client sent none.
    #[serde(default)]
    pub default_headers: BTreeMap<String, String>,
    /// The paths of each host on a server that has all of them on one host; used by providers that extend this one.
    #[serde(default)]
    pub one_host: BTreeMap<String, Vec<String>>,
    /// A harmless request that tests a credential.
    pub test: Option<TestText>,
    /// The source for `test`.
    pub test_source: Option<String>,
    /// Response fields in which the service states its rate limit.
    #[serde(default)]
    pub retry_headers: RateLimitFields,
    /// Protocols that clients switch to by `Upgrade`, apart from WebSocket.
    #[serde(default)]
    pub upgrades: Vec<settings::FieldText>,
    /// How inbound webhooks are signed.
    pub webhook_scheme: Option<String>,
    /// URL of the page where the owner creates a key.
    pub key_url: Option<String>,
    /// URL of the documentation on authentication.
    pub docs_url: Option<String>,
    /// Unusual behaviour, described for people.
    #[serde(default)]
    pub quirks: Vec<String>,
    /// Sources of these data.
    #[serde(default)]
    pub sources: Vec<String>,
    /// How reliable these data are.
    pub confidence: Option<Confidence>,
    /// The day on which these data were last compared with their sources, such as `2026-08-21`.
    pub checked: Option<String>,
}

/// How a service reads an encoded slash in a path.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "lowercase")]
pub enum EncodedSlash {
    /// As a part of the segment.
    Segment,
}

/// Where the steps of an app are documented.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct AppSourceText {
    /// URL of the page, of the service itself if it has one.
    pub url: String,
    /// The day on which the steps were last compared with it, such as `2026-11-24`.
    pub checked: String,
}

/// One way to authenticate: its keys beside those of [`OAuth`]. `check_auth.rs` reads it, and checks which keys a kind
/// allows.
#[derive(Clone, Debug, Deserialize)]
pub struct AuthText {
    /// The id, unique in the provider.
    pub id: String,
    /// The kind of credential.
    pub kind: AuthKind,
    pub label: Option<String>,
    /// A note for people.
    pub note: Option<String>,
    /// The single place of the value.
    pub placement: Option<PlaceText>,
    /// Several places that are all written.
    pub place: Option<Vec<PlaceText>>,
    /// Places by host and path; the first match applies.
    pub placements: Option<Vec<ScopedText>>,
    /// The fields that the owner enters, if not the kind's default.
    pub fields: Option<Vec<Field>>,
    /// The shape of the only secret field.
    pub key: Option<KeyText>,
    /// Environment variables that SDKs read the only secret field from.
    #[serde(default)]
    pub env: Vec<String>,
    /// A test request for this method, if the provider's `test` is not suitable.
    pub test: Option<TestText>,
    /// Endpoints, parameters and quirks of OAuth.
    #[serde(skip)]
    pub oauth: OAuth,
    /// OAuth: the introspection endpoint, RFC 7662.
    pub introspect: Option<UrlTemplate>,
    /// OAuth 1.0a: the endpoint of temporary credentials, RFC 5849 §2.1. With `authorize` and `token`, a person
    /// consents.
    pub request_token: Option<UrlTemplate>,
    /// OAuth 1.0a: whether `request_token` need not answer `oauth_callback_confirmed=true`, which RFC 5849 requires.
    #[serde(default)]
    pub unconfirmed_callback: bool,
    /// OAuth 1.0a: whether `authorize` takes a `state` that comes back, in place of one in the callback URL.
    #[serde(default)]
    pub authorize_state: bool,
    /// URL of the page where OAuth apps are registered.
    pub app_url: Option<String>,
    /// What to do on that page, in order. One step ends with `{redirect_uri}`, if a person consents.
    #[serde(default)]
    pub app_steps: Vec<String>,
    /// The page that has these steps.
    pub app_source: Option<AppSourceText>,
    /// Paths of the account's identity in the token response or in that of `userinfo`, tried in order. The name
    /// of a captured parameter means its value.
    #[serde(default, deserialize_with = "one_or_many")]
    pub account: Vec<String>,
    /// How the `revoke` endpoint is called.
    #[serde(default)]
    pub revoke_via: RevokeText,
    /// URL of the page where the owner revokes access.
    pub access_page: Option<String>,
    /// The interval at which tokens must be renewed, so that unused refresh tokens do not expire.
    #[serde(default, deserialize_with = "time")]
    pub keep_alive: Option<Duration>,
    /// Whether requests with unsafe methods are sent again after a 401.
    #[serde(default = "yes")]
    pub replay_unsafe: bool,
    /// Whether renewals repeat the scopes.
    #[serde(default)]
    pub renew_scopes: bool,
    /// Session kinds: the login request.
    pub login: Option<RequestText>,
    /// Session kinds: the renewal request.
    pub renewal: Option<RequestText>,
    /// Self-signed tokens: header and claims.
    pub jwt: Option<JwtText>,
    /// Kinds that sign requests: what is signed, and how.
    pub signature: Option<SignatureText>,
    /// Fields that are used in TLS handshakes.
    pub tls: Option<TlsFields>,
    /// Files: how they begin, and the variables that name them.
    pub file: Option<FileText>,
    /// SigV4: the signed service name.
    pub service: Option<String>,
    /// SigV4: the signed region, when it is fixed.
    pub region: Option<String>,
    /// SigV4: how keys are obtained, such as `sts:AssumeRole`.
    pub via: Option<String>,
}

/// The shape of a key.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyText {
    /// Known prefixes; placeholders get that of their key, else the first.
    #[serde(default)]
    pub prefixes: Vec<String>,
    /// Ends of keys that programs read, with variables as `{name}`; `""`: some have none. Placeholders get that of their
    /// key, else the first.
    #[serde(default)]
    pub suffixes: Vec<String>,
    /// The length in characters, prefix included and suffix not.
    pub length: Option<usize>,
    /// A regular expression that must match whole keys.
    pub pattern: Option<KeyPattern>,
    /// How placeholders begin, if SDKs check more of a key than its first prefix.
    pub placeholder: Option<String>,
    /// The letters of placeholders, if programs accept only some.
    #[serde(default)]
    pub letters: Letters,
}

/// The request that tests a credential.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TestText {
    /// The method; GET by default.
    pub method: Option<String>,
    /// The URL, `https://…`, on one of the provider's hosts.
    pub url: String,
    /// The URL if the credential is an OAuth token.
    pub oauth_url: Option<String>,
    /// The same request at other hosts of the provider, such as those of a sandbox or of another cloud. They are asked in
    /// order while the credential is refused.
    #[serde(default)]
    pub other_urls: Vec<String>,
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    /// A JSON body.
    pub json: Option<Value>,
    pub form: Option<BTreeMap<String, String>>,
    pub body: Option<String>,
    /// The status of a successful response; any 2xx by default.
    pub expect_status: Option<u16>,
    /// The statuses that reject the credential, if no particular response accepts it: every other status below
    /// 500 does, except 429.
    #[serde(default)]
    pub rejects: Vec<u16>,
    /// Members of a successful response.
    pub expect_json: Option<BTreeMap<String, Value>>,
    /// Dotted paths of the account's identity in a successful response.
    #[serde(default)]
    pub account: Vec<String>,
    /// A note for people.
    pub note: Option<String>,
}

/// Initial values of an app.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct Template {
    /// The template's id.
    pub id: String,
    /// The display name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// Scopes to request.
    pub scopes: Vec<String>,
    /// Settings of the app, as in the configuration.
    pub settings: serde_json::Value,
}

/// A template as it is written; the app's own values take precedence.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TemplateText {
    /// Lower-case letters, digits, `-` and `_`; unique in the catalogue.
    id: String,
    label: Option<String>,
    #[serde(default)]
    scopes: Vec<String>,
    #[serde(default)]
    settings: serde_json::Map<String, serde_json::Value>,
}

fn templates<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<Template>, D::Error> {
    let all = Vec::<TemplateText>::deserialize(from)?.into_iter();
    let template = |TemplateText { id, label, scopes, settings }| Template {
        id,
        label,
        scopes,
        settings: settings.into(),
    };
    Ok(all.map(template).collect())
}

/// How reliable the data of a provider are.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Confidence {
    /// From documentation, or two sources agree.
    High,
    /// From one source.
    Medium,
    /// From the author's knowledge only.
    Unverified,
}

fn yes() -> bool {
    true
}

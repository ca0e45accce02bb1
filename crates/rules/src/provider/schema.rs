//! The YAML shape of a provider, as the catalogue and users write it. Nothing is checked here but
//! names and types of keys; `check.rs` makes [`super::Provider`] of it.
//!
//! Wide on purpose: it holds what is known of a service (OAuth endpoints, quirks, webhook scheme),
//! also where the feature that uses it comes later, so that files need not be rewritten then.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize};
use serde_yaml::Value;

use super::words::{
    ClientAuthText, ExpiresText, GrantText, PkceText, RefreshText, ResponseModeText, RevokeText,
    TokenBodyText,
};
use super::{AuthKind, Confidence};

/// A provider.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProviderText {
    /// Lower-case id, such as `github`.
    pub id: String,
    /// Name for people.
    pub name: String,
    /// Such as `llm` or `payments`.
    pub category: Option<String>,
    /// Host patterns: `api.acme.test`, `*.acme.test`, `{shop}.myshopify.com`, each with a port.
    pub hosts: Vec<String>,
    /// Paths that are the service's on these hosts; none: all.
    #[serde(default)]
    pub paths: Vec<String>,
    /// What the owner says about hosts and URLs.
    #[serde(default)]
    pub variables: Vec<VariableText>,
    /// Ways to authenticate; the first is the default.
    pub auth: Vec<AuthText>,
    /// Further places of credentials, emptied before one is written.
    #[serde(default)]
    pub clears: ClearsText,
    /// What apps can be begun with.
    #[serde(default)]
    pub templates: Vec<TemplateText>,
    /// Fields added when the client sent none.
    #[serde(default)]
    pub default_headers: BTreeMap<String, String>,
    /// A harmless request that tells a good credential from a bad one.
    pub test: Option<TestText>,
    /// Who says that `test` is right.
    pub test_source: Option<String>,
    /// Where the service says when to come again.
    #[serde(default)]
    pub retry_headers: RetryText,
    /// How inbound webhooks are signed.
    pub webhook_scheme: Option<String>,
    /// Where the owner gets a key.
    pub key_url: Option<String>,
    /// Documentation of authentication.
    pub docs_url: Option<String>,
    /// What surprises.
    #[serde(default)]
    pub quirks: Vec<String>,
    /// Where these facts are from.
    #[serde(default)]
    pub sources: Vec<String>,
    /// How sure they are.
    pub confidence: Option<Confidence>,
}

/// A variable of hosts and URLs.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VariableText {
    /// As in `{name}`.
    pub name: String,
    /// What it may hold.
    #[serde(default)]
    pub kind: super::VariableKind,
    /// For people.
    pub label: Option<String>,
    /// For people.
    pub help: Option<String>,
    /// A value as it looks.
    pub example: Option<String>,
    /// Used when the owner gives none.
    pub default: Option<String>,
    /// The only values there are.
    #[serde(default)]
    pub choices: Vec<String>,
    /// Comes from the service's answer, not from the owner.
    #[serde(default)]
    pub captured: bool,
    /// What a captured value stands in, such as `https://{}.my.salesforce.com`.
    pub within: Option<String>,
}

/// A way to authenticate. Which keys go with which kind is checked in `check.rs`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AuthText {
    /// Unique in the provider.
    pub id: String,
    /// Its kind.
    pub kind: AuthKind,
    /// For people.
    pub label: Option<String>,
    /// For people.
    pub note: Option<String>,
    /// The one place of a single value.
    pub placement: Option<PlaceText>,
    /// Several places at once.
    pub place: Option<Vec<PlaceText>>,
    /// Places by host and path, first match.
    pub placements: Option<Vec<ScopedText>>,
    /// What the owner gives, when it is not the kind's usual.
    pub fields: Option<Vec<FieldText>>,
    /// Shape of the one secret field.
    pub key: Option<KeyText>,
    /// Variables that SDKs read the one secret field from.
    #[serde(default)]
    pub env: Vec<String>,
    /// Tells a good credential of this method, where the provider's `test` does not.
    pub test: Option<TestText>,
    /// OAuth: how the grant is got.
    pub grant: Option<GrantText>,
    /// OAuth: who the authorization server says it is, RFC 8414 and RFC 9207.
    pub issuer: Option<String>,
    /// OAuth: where the person consents.
    pub authorize: Option<String>,
    /// OAuth and alike: where tokens are minted.
    pub token: Option<String>,
    /// OAuth: where tokens are renewed, when not at `token`.
    pub renew: Option<String>,
    /// OAuth: device authorisation, RFC 8628.
    pub device: Option<String>,
    /// OAuth: revocation, RFC 7009.
    pub revoke: Option<String>,
    /// OAuth: introspection, RFC 7662.
    pub introspect: Option<String>,
    /// OAuth: dynamic registration, RFC 7591.
    pub register: Option<String>,
    /// OAuth: where an access token tells whose account it is, OpenID Connect Core §5.3.
    pub userinfo: Option<String>,
    /// OAuth: how the browser comes back; `query` when absent.
    pub response_mode: Option<ResponseModeText>,
    /// OAuth 1.0a: temporary credentials.
    pub request_token: Option<String>,
    /// Scopes asked for when the owner names none.
    #[serde(default)]
    pub scopes: Vec<String>,
    /// Between scopes; a blank when absent.
    pub scope_separator: Option<String>,
    /// How the client authenticates at `token`.
    pub client_auth: Option<ClientAuthText>,
    /// `form` or `json`.
    pub token_body: Option<TokenBodyText>,
    /// Added to the authorisation URL.
    #[serde(default)]
    pub authorize_params: BTreeMap<String, String>,
    /// Added to token requests.
    #[serde(default)]
    pub token_params: BTreeMap<String, String>,
    /// Added to (or replacing those of) renewals.
    #[serde(default)]
    pub renew_params: BTreeMap<String, String>,
    /// Parameters under other names: ours → theirs.
    #[serde(default)]
    pub renames: BTreeMap<String, String>,
    /// The `grant_type` sent, when not the standard's.
    pub grant_type: Option<String>,
    /// RFC 7636.
    pub pkce: Option<PkceText>,
    /// What becomes of the refresh token.
    pub refresh: Option<RefreshText>,
    /// Typical life of an access token; the token endpoint's answer decides.
    pub access_ttl: Option<String>,
    /// Typical life of a refresh token.
    pub refresh_ttl: Option<String>,
    /// Where in the answer the token is; several are tried in order.
    #[serde(default, deserialize_with = "one_or_many")]
    pub token_path: Vec<String>,
    /// Where in the answer the expiry is.
    pub expires_path: Option<String>,
    /// How the expiry is written.
    pub expires_format: Option<ExpiresText>,
    /// Variables taken from the token's answer: variable → path.
    #[serde(default)]
    pub capture: BTreeMap<String, String>,
    /// Variables taken from the callback: variable → parameter.
    #[serde(default)]
    pub callback_capture: BTreeMap<String, String>,
    /// The provider whose apps serve this way too.
    pub apps_of: Option<String>,
    /// What codes of the service's own mean, beside the common ones.
    #[serde(default)]
    pub says: SaysText,
    /// Where in the token's answer stands whose account it is, or in that of `userinfo`; several are
    /// tried in order. The name of a captured parameter stands for its value.
    #[serde(default, deserialize_with = "one_or_many")]
    pub account: Vec<String>,
    /// How a grant is taken back at `revoke`.
    #[serde(default)]
    pub revoke_via: RevokeText,
    /// Where the owner takes access away by hand.
    pub access_page: Option<String>,
    /// Renew at least this often: refresh tokens that are not used die.
    pub keep_alive: Option<String>,
    /// Whether a request that may change something is sent again after a 401.
    #[serde(default = "yes")]
    pub replay_unsafe: bool,
    /// Renewals repeat the scopes.
    #[serde(default)]
    pub renew_scopes: bool,
    /// Session kinds: the request that mints.
    pub login: Option<RequestText>,
    /// Session kinds: the request that renews.
    pub renewal: Option<RequestText>,
    /// Fields sent beside the credential.
    #[serde(default)]
    pub extra_headers: BTreeMap<String, String>,
    /// Self-signed tokens: header and claims.
    pub jwt: Option<JwtText>,
    /// Signing kinds: `azure_shared_key`, `HMAC-SHA1` …
    pub scheme: Option<String>,
    /// SigV4: the signed service name.
    pub service: Option<String>,
    /// SigV4: the signed region, when it is fixed.
    pub region: Option<String>,
    /// SigV4: how keys are got, such as `sts:AssumeRole`.
    pub via: Option<String>,
}

/// What codes of a service's own mean.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SaysText {
    /// Codes of token endpoints: the grant is finished, a person must connect again.
    pub permanent: Vec<String>,
    /// Codes of token endpoints: the app is refused, whoever registered it must look.
    pub rejected: Vec<String>,
    /// Codes of token endpoints: it passes.
    pub temporary: Vec<String>,
    /// The API's answer to an expired token, when it is not 401.
    pub expired: Option<ExpiredText>,
}

/// An answer that means 401.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExpiredText {
    /// Its status.
    pub status: u16,
    /// Its members, by dotted path: a value, or a list of which one is there.
    #[serde(default)]
    pub json: BTreeMap<String, Value>,
}

/// A place: exactly one of the first seven keys, and how its value is written.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlaceText {
    /// A header field.
    pub header: Option<String>,
    /// A query parameter.
    pub query: Option<String>,
    /// A cookie.
    pub cookie: Option<String>,
    /// The beginning of the path, a template.
    pub path: Option<String>,
    /// `Authorization: Basic`, the template of `user:password`.
    pub basic: Option<String>,
    /// The member of a JSON body, by dotted path, or the field of a form.
    pub body: Option<String>,
    /// A template of whole query parameters, such as a signed URL's.
    pub query_string: Option<String>,
    /// Stands before the one value.
    pub prefix: Option<String>,
    /// A template, instead of `prefix`.
    pub value: Option<String>,
}

/// Places for some hosts and paths.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScopedText {
    /// Of the provider's hosts; none: all.
    #[serde(default)]
    pub hosts: Vec<String>,
    /// None: all.
    #[serde(default)]
    pub paths: Vec<String>,
    /// One place or a list of them.
    #[serde(deserialize_with = "one_or_many")]
    pub place: Vec<PlaceText>,
}

/// A field of the form.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FieldText {
    /// As in `--field name=…` and `{name}`.
    pub name: String,
    /// For people.
    pub label: Option<String>,
    /// For people.
    pub help: Option<String>,
    /// Sealed and never shown; true unless said otherwise.
    #[serde(default = "yes")]
    pub secret: bool,
    /// May be left out.
    #[serde(default)]
    pub optional: bool,
    /// A regular expression that whole values match.
    pub pattern: Option<String>,
    /// Known beginnings of values.
    #[serde(default)]
    pub prefixes: Vec<String>,
    /// Length of values in characters, when all have the same.
    pub length: Option<usize>,
    /// Variables that SDKs read it from.
    #[serde(default)]
    pub env: Vec<String>,
}

/// The shape of a key.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyText {
    /// Known beginnings; the first is that of placeholders.
    #[serde(default)]
    pub prefixes: Vec<String>,
    /// In characters, prefix included.
    pub length: Option<usize>,
    /// A regular expression that whole keys match.
    pub pattern: Option<String>,
}

/// Places that are emptied.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ClearsText {
    /// Header fields.
    pub headers: Vec<String>,
    /// Query parameters.
    pub queries: Vec<String>,
    /// Cookies.
    pub cookies: Vec<String>,
}

/// A request, with templates in URL and bodies.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RequestText {
    /// GET when absent.
    pub method: Option<String>,
    /// `https://…`.
    pub url: String,
    /// Fields.
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    /// A JSON body.
    pub json: Option<Value>,
    /// A form body.
    pub form: Option<BTreeMap<String, String>>,
    /// A body as it is.
    pub body: Option<String>,
    /// Basic authentication: the template of `user:password`.
    pub basic: Option<String>,
    /// The field whose value is the bearer token.
    pub bearer: Option<String>,
}

/// The test request.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TestText {
    /// GET when absent.
    pub method: Option<String>,
    /// `https://…` on one of the provider's hosts.
    pub url: String,
    /// The URL when the credential is an OAuth token.
    pub oauth_url: Option<String>,
    /// Fields.
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    /// A JSON body.
    pub json: Option<Value>,
    /// A form body.
    pub form: Option<BTreeMap<String, String>>,
    /// A body as it is.
    pub body: Option<String>,
    /// The one good status; any 2xx when absent.
    pub expect_status: Option<u16>,
    /// Members that a good answer has.
    pub expect_json: Option<BTreeMap<String, Value>>,
    /// Members of a good answer that say whose account it is, by dotted path.
    #[serde(default)]
    pub account: Vec<String>,
    /// For people.
    pub note: Option<String>,
}

/// What an app can be begun with: what it says itself goes before.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct TemplateText {
    /// Lower-case letters, digits, `-` and `_`; unique in the catalogue.
    pub id: String,
    /// For people.
    pub label: Option<String>,
    /// Scopes to ask for.
    #[serde(default)]
    pub scopes: Vec<String>,
    /// Settings of the app.
    #[serde(default)]
    pub settings: BTreeMap<String, Value>,
}

/// Fields that say when to come again.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RetryText {
    /// Seconds or a date, as `Retry-After`.
    pub after: Vec<String>,
    /// Seconds or a duration until the limit is lifted.
    pub reset_after: Vec<String>,
    /// A moment at which it is lifted.
    pub reset_at: Vec<String>,
    /// Requests left.
    pub remaining: Vec<String>,
}

/// A self-signed token.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct JwtText {
    /// Signature algorithm.
    pub alg: Option<String>,
    /// How the key is derived from the fields.
    pub key: Option<String>,
    /// Key id, a template.
    pub kid: Option<String>,
    /// Issuer, a template.
    pub iss: Option<String>,
    /// Audience, a template.
    pub aud: Option<String>,
    /// Subject, a template; the field `subject` when absent.
    pub sub: Option<String>,
    /// The scopes stand in the assertion, and not beside it.
    pub scope_claim: bool,
    /// Life of a token.
    pub ttl: Option<String>,
    /// Further claims, in words.
    pub claims: Option<String>,
}

fn yes() -> bool {
    true
}

/// Reads `x` as `[x]`, keeping the position of errors inside a list.
fn one_or_many<'de, D, T>(deserializer: D) -> Result<Vec<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    struct OneOrMany<T>(std::marker::PhantomData<T>);
    impl<'de, T: Deserialize<'de>> serde::de::Visitor<'de> for OneOrMany<T> {
        type Value = Vec<T>;
        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("one or a list of them")
        }
        fn visit_seq<A: serde::de::SeqAccess<'de>>(self, seq: A) -> Result<Vec<T>, A::Error> {
            Vec::deserialize(serde::de::value::SeqAccessDeserializer::new(seq))
        }
        fn visit_map<A: serde::de::MapAccess<'de>>(self, map: A) -> Result<Vec<T>, A::Error> {
            T::deserialize(serde::de::value::MapAccessDeserializer::new(map)).map(|one| vec![one])
        }
        fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Vec<T>, E> {
            T::deserialize(serde::de::value::StrDeserializer::new(text)).map(|one| vec![one])
        }
    }
    deserializer.deserialize_any(OneOrMany(std::marker::PhantomData))
}

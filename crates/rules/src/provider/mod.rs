//! What services are: hosts, ways to authenticate, where credentials go, what to ask their owner.
//! Data, not code: the YAML of `catalogue/` and of users, in one schema.
//!
//! `schema.rs` (with `words.rs`) is the YAML shape; `check.rs`, with `check_auth.rs`, `placing.rs`, `own.rs` and
//! `kinds.rs`, makes the checked form below of it; `form.rs` fills variables in, `test_request.rs`
//! also into the request that tests a connection, `catalogue.rs`
//! holds all providers. `pasted.rs` judges what people paste. `document.rs` and `decode.rs`
//! read YAML with positions, also for the configuration.

pub mod catalogue;
pub mod check;
mod check_auth;
mod check_oauth;
pub mod decode;
pub mod document;
pub mod form;
mod kinds;
pub mod oauth;
mod own;
pub mod pasted;
mod placing;
pub mod schema;
pub mod test_request;
pub mod words;

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::inject::credential::{Clears, Scoped};
use crate::inject::path_prefix::PathPrefix;
use crate::inject::placement::{At, Place};
use keyward_base::pattern::{HostPattern, PathPattern};
use oauth::GrantText;

pub use catalogue::Catalogue;
pub use form::{FormError, HostTemplate, HostTemplateError};
pub use oauth::OAuth;
pub use test_request::{Expected, TestRequest, TestRequestError};

/// A service, checked.
#[derive(Clone, Debug)]
pub struct Provider {
    /// Id, such as `github`.
    pub id: Arc<str>,
    /// Name for people.
    pub name: String,
    /// Category, such as `llm`.
    pub category: Option<String>,
    /// Hosts, with variables (`{shop}.myshopify.com`), before they are filled in.
    pub hosts: Vec<HostTemplate>,
    /// Paths that are the service's on these hosts; empty: all.
    pub paths: Vec<PathPattern>,
    /// Variables of hosts and URLs.
    pub variables: Vec<Variable>,
    /// Ways to authenticate, never empty; the first is the default.
    pub auth: Vec<AuthMethod>,
    /// OAuth endpoints that lie on the provider's own hosts: never injected. Those on hosts with
    /// variables are found in [`Instance::carved`].
    pub carved: Vec<(HostPattern, PathPattern)>,
    /// All of these endpoints, before variables are filled in.
    pub endpoints: Vec<(HostTemplate, PathPattern)>,
    /// Emptied before a credential is written: the fields of all auth methods and more.
    pub clears: Clears,
    /// What is only shown, or used outside the request path.
    pub about: About,
}

/// What is only shown, or used outside the request path.
#[derive(Clone, Debug, Default)]
pub struct About {
    /// Documentation of authentication.
    pub docs_url: Option<String>,
    /// Where the owner gets a key.
    pub key_url: Option<String>,
    /// A harmless request that tells a good credential from a bad one; [`Provider::test`] knows
    /// which one a method has.
    pub test: Option<schema::TestText>,
    /// What apps can be begun with.
    pub templates: Vec<Template>,
    /// Fields added when the client sent none; templates over fields and variables.
    pub default_headers: BTreeMap<String, String>,
    /// Fields that say when to come again.
    pub retry_headers: schema::RetryText,
    /// How inbound webhooks are signed.
    pub webhook_scheme: Option<String>,
    /// What surprises.
    pub quirks: Vec<String>,
    /// Where these facts are from.
    pub sources: Vec<String>,
    /// How sure they are.
    pub confidence: Option<Confidence>,
}

/// What an app can be begun with.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Template {
    /// Its id.
    pub id: String,
    /// For people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// Scopes to ask for.
    pub scopes: Vec<String>,
    /// Settings of the app, as they are written.
    pub settings: serde_json::Value,
}

/// How sure the facts of a provider are.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Confidence {
    /// Documentation read, or two sources agree.
    High,
    /// One source.
    Medium,
    /// The writer's knowledge only.
    Unverified,
}

/// A variable of hosts and URLs.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Variable {
    /// As in `{name}`.
    pub name: String,
    /// What it may hold.
    pub kind: VariableKind,
    /// For people.
    pub label: String,
    /// For people.
    pub help: Option<String>,
    /// A value as it looks.
    pub example: Option<String>,
    /// Used when the owner gives none.
    pub default: Option<String>,
    /// The only values there are; empty: any of the kind.
    pub choices: Vec<String>,
    /// Comes from the service's answers (OAuth), not from the owner.
    pub captured: bool,
    /// What a captured value stands between.
    pub within: Option<(String, String)>,
}

/// What a variable may hold.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum VariableKind {
    /// One DNS label, or a part of one.
    #[default]
    Label,
    /// A whole host, optionally with port. Can't change without giving the secret again.
    Host,
    /// Unreserved URL characters; never in hosts.
    Text,
}

/// A kind of credential.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum AuthKind {
    /// One key in any place.
    ApiKey,
    /// `Authorization: Bearer`.
    Bearer,
    /// `Authorization: Basic`.
    Basic,
    /// Several fields in several places.
    Custom,
    /// OAuth 2.0.
    Oauth2,
    /// OAuth 1.0a signatures.
    Oauth1,
    /// AWS Signature Version 4.
    AwsSigv4,
    /// A service account's key.
    ServiceAccount,
    /// A GitHub App's installation token.
    GithubApp,
    /// A token that the owner's key signs, without a token endpoint.
    SignedJwt,
    /// A session that a login request opens.
    Session,
    /// Digest access authentication, RFC 7616.
    Digest,
    /// Signed requests of other schemes.
    Hmac,
    /// A client certificate.
    Mtls,
}

/// A way to authenticate.
#[derive(Clone, Debug)]
pub struct AuthMethod {
    /// Unique in the provider.
    pub id: String,
    /// Its kind.
    pub kind: AuthKind,
    /// For people.
    pub label: String,
    /// For people.
    pub note: Option<String>,
    /// Fields the owner gives.
    pub fields: Vec<Field>,
    /// Where the credential goes; first match by host and path.
    pub placements: Vec<ScopedPlaces>,
    /// Tells a good credential of this method, where the provider's does not.
    pub test: Option<schema::TestText>,
    /// What is injected, where it is minted and not given.
    pub minted: Option<Field>,
    /// The token endpoint and all around it, for kinds that ask one.
    pub oauth: Option<Arc<OAuth>>,
    /// What of it cannot be used yet.
    pub later: Option<Later>,
}

/// A feature that provider files may name before it exists.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Later {
    /// The kind.
    Kind(AuthKind),
    /// A placement of whole query parameters.
    QueryString,
}

/// Placements of one scope before variables are filled in.
#[derive(Clone, Debug)]
pub struct ScopedPlaces {
    /// Hosts; empty: all of the provider's.
    pub hosts: Vec<HostTemplate>,
    /// Paths; empty: all.
    pub paths: Vec<PathPattern>,
    /// Writes.
    pub places: Vec<Place>,
}

/// A field of the form.
#[derive(Clone, Debug)]
pub struct Field {
    /// Name, as in `--field NAME=…`.
    pub name: String,
    /// For people.
    pub label: String,
    /// Help text.
    pub help: Option<String>,
    /// Sealed and never shown when true; also gets a placeholder.
    pub secret: bool,
    /// May be left out.
    pub optional: bool,
    /// Known beginnings of values; the first is that of placeholders. Not enforced: services add
    /// new ones.
    pub prefixes: Vec<String>,
    /// Length of values in characters, when all have the same; that of placeholders. Not enforced.
    pub length: Option<usize>,
    /// What whole values match; enforced.
    pub pattern: Option<Shape>,
    /// Variables the SDKs read this field from.
    pub env: Vec<String>,
}

/// A regular expression that a whole value matches.
#[derive(Clone, Debug)]
pub struct Shape(regex_lite::Regex);

/// A provider with its variables filled in: what a connection uses.
#[derive(Clone, Debug)]
pub struct Instance {
    /// Hosts the connection owns.
    pub hosts: Vec<HostPattern>,
    /// Paths it owns there; empty: all.
    pub paths: Vec<PathPattern>,
    /// Placements.
    pub placements: Vec<Scoped<Vec<Place>>>,
    /// What is cleared before writing: the fields of all auth methods.
    pub clears: Clears,
    /// OAuth endpoints on these hosts: never injected.
    pub carved: Vec<(HostPattern, PathPattern)>,
    /// Fields of the method that are no secrets.
    pub shown: Vec<String>,
}

impl Provider {
    /// The auth method by id, or the first.
    pub fn auth(&self, id: Option<&str>) -> Option<&AuthMethod> {
        match id {
            Some(id) => self.auth.iter().find(|auth| auth.id == id),
            None => self.auth.first(),
        }
    }

    /// The request that tells a good credential of `auth` from a bad one.
    pub fn test<'a>(&'a self, auth: &'a AuthMethod) -> Option<&'a schema::TestText> {
        auth.test.as_ref().or(self.about.test.as_ref())
    }

    /// What the first secret that its requests carry looks like: prefix and length.
    pub fn key_shape(&self) -> (&str, Option<usize>) {
        let field = self.auth.iter().find_map(|auth| auth.carried().next());
        let prefix = field.and_then(|field| field.prefixes.first()).map_or("", String::as_str);
        (prefix, field.and_then(|field| field.length))
    }

    /// The variable by name.
    pub fn variable(&self, name: &str) -> Option<&Variable> {
        self.variables.iter().find(|variable| variable.name == name)
    }
}

impl Instance {
    /// The prefix that paths get, where a credential stands in them: by host and by the path before.
    /// First match decides; empty where no path is changed.
    pub fn path_prefixes(&self) -> Vec<Scoped<Option<PathPrefix>>> {
        let prefix = |scope: &Scoped<Vec<Place>>| {
            scope.what.iter().find_map(|place| match &place.at {
                At::Path(prefix) => Some(prefix.clone()),
                _ => None,
            })
        };
        let each = |scope: &Scoped<Vec<Place>>| Scoped {
            hosts: scope.hosts.clone(),
            paths: scope.paths.clone(),
            what: prefix(scope),
        };
        let all: Vec<_> = self.placements.iter().map(each).collect();
        let changes = all.iter().any(|scope| scope.what.is_some());
        if changes { all } else { Vec::new() }
    }
}

impl AuthMethod {
    /// The secrets that requests carry: agents hold a placeholder of each.
    pub fn carried(&self) -> impl Iterator<Item = &Field> {
        let given = self.fields.iter().filter(|field| field.secret && self.minted.is_none());
        given.chain(&self.minted)
    }

    /// Whether its grant is what a person consents to at the provider.
    pub fn is_consented_to(&self) -> bool {
        let grant = self.oauth.as_ref().map(|oauth| oauth.grant);
        let by_hand = [GrantText::AuthorizationCode, GrantText::DeviceCode];
        self.kind == AuthKind::Oauth2 && grant.is_some_and(|grant| by_hand.contains(&grant))
    }

    /// The field by name.
    pub fn field(&self, name: &str) -> Option<&Field> {
        self.fields.iter().find(|field| field.name == name)
    }
}

impl std::fmt::Display for Later {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Kind(kind) => write!(f, "auth kind `{}`", kind.as_str()),
            Self::QueryString => f.write_str("placement of whole query parameters"),
        }
    }
}

impl Shape {
    /// Compiles `pattern`, anchored at both ends.
    ///
    /// # Errors
    /// When it is not a regular expression, with the reason.
    pub fn parse(pattern: &str) -> Result<Self, String> {
        regex_lite::RegexBuilder::new(&format!("^(?:{pattern})$"))
            .size_limit(SHAPE_BYTES_MAX)
            .build()
            .map(Self)
            .map_err(|error| error.to_string())
    }

    /// The anchored expression.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }

    /// Whether the whole text matches.
    pub fn matches(&self, text: &str) -> bool {
        self.0.is_match(text)
    }
}

/// 64 KiB compiled: ample for the shape of a key.
const SHAPE_BYTES_MAX: usize = 64 * 1024;

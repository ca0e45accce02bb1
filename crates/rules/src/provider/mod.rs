//! Providers: hosts of services, ways to authenticate, placements of credentials, forms. They are data, not
//! code: built-in YAML (`catalogue/`) and the user's own, with the same schema.
//!
//! `schema.rs` (with `oauth_keys.rs`) defines the YAML. `check.rs`, with `check_auth.rs`, `placing.rs`, `own_hosts.rs` and
//! `kinds.rs`, converts it into the types below, and `actions.rs` has the named actions. `form.rs` fills in variables, `test_request.rs` builds the
//! request that tests a connection, `scope_words.rs` has words for scopes, `catalogue.rs` holds all providers. `checked.rs` has
//! own providers that were found sound before. `pasted.rs` recognises wrongly pasted
//! secrets. `changes.rs` says which changes of an own provider are safe while connections use it. `document.rs` and `decode.rs` read YAML with positions, also for the configuration.

pub mod actions;
mod built_in;
pub mod catalogue;
pub mod changes;
pub mod check;
mod check_auth;
mod check_minted;
mod check_oauth;
mod check_oauth1;
mod check_protocol;
mod check_test_request;
pub mod checked;
pub mod configured;
pub mod connection_url;
mod consents;
mod database;
pub mod decode;
pub mod document;
mod extends;
pub mod form;
pub mod graphql;
mod kinds;
mod methods;
pub mod minted_keys;
mod mongodb_url;
pub mod oauth;
pub mod oauth_keys;
mod overlap;
mod own_hosts;
pub mod pasted;
mod placing;
mod postgres_url;
pub mod schema;
pub mod scope_words;
pub mod session;
mod slips;
pub mod test_request;
pub mod written;

use std::collections::BTreeMap;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::inject::scoped::Scoped;
use crate::inject::credential::Clears;
use crate::inject::path_prefix::PathPrefix;
use crate::inject::placement::{Location, Place};
use crate::inject::sign::request_signer::Scheme;
use keyward_base::database::{DatabaseEndpoint, DatabaseProtocol};
use keyward_base::pattern::{HostPattern, PathPattern};

pub use actions::NamedAction;
pub use catalogue::{Catalogue, Entry};
pub use configured::{Configured, Definition};
pub use form::{FormError, HostTemplate, HostTemplateError};
pub use oauth::OAuth;
pub use test_request::{Expected, TestRequest, TestRequestError};

/// A service that users connect to; checked.
#[derive(Clone, Debug)]
pub struct Provider {
    /// The id, such as `github`.
    pub id: Arc<str>,
    /// The display name.
    pub name: String,
    /// The category, such as `llm`.
    pub category: Option<String>,
    /// The wire protocol of a database; `None` for services that are used over HTTP.
    pub protocol: Option<DatabaseProtocol>,
    /// Hosts, before variables (`{shop}.myshopify.com`) are filled in.
    pub hosts: Vec<HostTemplate>,
    /// Paths that belong to the service on these hosts; empty means all.
    pub paths: Vec<PathPattern>,
    /// The variables of hosts and URLs.
    pub variables: Vec<Variable>,
    /// Ways to authenticate; never empty. The first is the default.
    pub auth: Vec<AuthMethod>,
    /// Hosts of repositories that git reaches over HTTPS, before variables are filled in.
    pub git: Vec<HostTemplate>,
    actions: actions::Actions,
    /// OAuth endpoints on the provider's own hosts, where nothing is injected. [`Instance::oauth_endpoints`] has those
    /// on hosts with variables.
    pub oauth_endpoints: Vec<(HostPattern, PathPattern)>,
    /// All of these endpoints, before variables are filled in.
    pub endpoints: Vec<(HostTemplate, PathPattern)>,
    /// Fields that are removed before a credential is written: those of all auth methods and more.
    pub clears: Clears,
    /// Descriptions, and data used outside the request path.
    pub about: ProviderInfo,
}

/// Descriptions, and data used outside the request path.
#[derive(Clone, Debug, Default)]
pub struct ProviderInfo {
    /// URL of the documentation on authentication.
    pub docs_url: Option<String>,
    /// URL of the page where the owner creates a key.
    pub key_url: Option<String>,
    /// A harmless request that tests a credential; [`Provider::test`] returns the one for a method.
    pub test: Option<schema::TestText>,
    /// Templates of apps.
    pub templates: Vec<Template>,
    /// What scopes allow, in words for people.
    pub scope_words: scope_words::ScopeWords,
    /// Fields added if the client sent none; templates over fields and variables.
    pub default_headers: BTreeMap<String, String>,
    /// Fields that contain a retry time.
    pub retry_headers: schema::RetryText,
    /// How inbound webhooks are signed.
    pub webhook_scheme: Option<String>,
    /// Unusual behaviour, described for people.
    pub quirks: Vec<String>,
    /// Sources of these data.
    pub sources: Vec<String>,
    /// How reliable these data are.
    pub confidence: Option<Confidence>,
    /// The URL of a remote MCP server, which says itself where consents are asked for.
    pub mcp: Option<String>,
    /// The day on which they were last compared with their sources.
    pub checked: Option<String>,
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

/// A variable of hosts and URLs.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Variable {
    /// The name, as in `{name}`.
    pub name: String,
    /// Which values it accepts.
    pub kind: VariableKind,
    /// The display name.
    pub label: String,
    /// A help text.
    pub help: Option<String>,
    /// An example of a value.
    pub example: Option<String>,
    /// The value used if the owner gives none.
    pub default: Option<String>,
    /// The allowed values; empty means all of the kind.
    pub choices: Vec<String>,
    /// Whether it comes from the service's OAuth responses instead of the owner.
    pub captured: bool,
    /// The texts before and after a captured value.
    pub within: Option<(String, String)>,
}

/// Which values a variable accepts.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum VariableKind {
    /// A DNS label, or a part of one.
    #[default]
    Label,
    /// A whole host, optionally with a port. Changing it requires entering the secret again.
    Host,
    /// Any number of hosts, each optionally with a port, separated by commas.
    Hosts,
    /// Unreserved URL characters; never in hosts.
    Text,
}

/// A kind of auth method.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, JsonSchema, PartialEq, Serialize)]
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
    /// AWS Signature Version 4 with temporary keys of a role.
    AwsRole,
    /// A service account's key.
    ServiceAccount,
    /// A GitHub App's installation token.
    GithubApp,
    /// A token signed with the owner's key, without a token endpoint.
    SignedJwt,
    /// A session from a login request.
    Session,
    /// Digest access authentication, RFC 7616.
    Digest,
    /// Signed requests of other schemes.
    Hmac,
    /// A client certificate.
    Mtls,
    /// A private key that signs logins of an SSH agent's clients.
    SshKey,
}

/// One way to authenticate at a provider.
#[derive(Clone, Debug)]
pub struct AuthMethod {
    /// The id, unique in the provider.
    pub id: String,
    /// The kind of credential.
    pub kind: AuthKind,
    /// The display name.
    pub label: String,
    /// A note for people.
    pub note: Option<String>,
    /// The fields that the owner enters.
    pub fields: Vec<Field>,
    /// Placements of the credential; the first match by host and path applies.
    pub placements: Vec<ScopedPlaces>,
    /// A test request for this method, if the provider's is not suitable.
    pub test: Option<schema::TestText>,
    /// What is injected, if it is minted and not entered.
    pub minted: Vec<Field>,
    /// The token endpoint and related data, for kinds that have one.
    pub oauth: Option<Arc<OAuth>>,
    /// URL of the page where apps are registered.
    pub app_url: Option<String>,
    /// What to do on that page; `{redirect_uri}` stands for the app's.
    pub app_steps: Vec<String>,
    /// What AWS signatures name for requests that the agent does not sign.
    pub aws: AwsScope,
    /// What signs requests with the owner's fields, for kinds that are data.
    pub scheme: Option<Arc<Scheme>>,
    /// Fields that are used in TLS handshakes and sent in no request.
    pub tls: Option<TlsFields>,
}

/// The names of fields that are used in TLS handshakes.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct TlsFields {
    /// The client certificate.
    pub certificate: Option<String>,
    /// Its private key.
    pub key: Option<String>,
    /// The CA of the hosts.
    pub ca: Option<String>,
}

/// Region and service of an AWS signature.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct AwsScope {
    /// The region; `None`: the host or the connection names it.
    pub region: Option<String>,
    /// The name of the service in signatures; `None`: the host or the connection names it.
    pub service: Option<String>,
}

/// Placements for some hosts and paths, before variables are filled in.
#[derive(Clone, Debug)]
pub struct ScopedPlaces {
    /// Hosts; empty means all of the provider's.
    pub hosts: Vec<HostTemplate>,
    /// Paths; empty means all.
    pub paths: Vec<PathPattern>,
    /// The places and templates.
    pub places: Vec<Place>,
}

/// A field that the owner enters.
#[derive(Clone, Debug)]
pub struct Field {
    /// The name, as in `--field NAME=…`.
    pub name: String,
    /// The display name.
    pub label: String,
    /// A help text.
    pub help: Option<String>,
    /// Whether the value is sealed and never shown; then agents get a placeholder of it.
    pub secret: bool,
    /// Whether the field may be left out.
    pub optional: bool,
    /// Whether its value must be kept in a secret source: it expires, and the source has the next one.
    pub from_source: bool,
    /// Known prefixes of values. Not enforced, because services add new ones.
    pub prefixes: Vec<String>,
    /// How placeholders begin, if not as the first of the prefixes: for SDKs that check more of a key.
    pub placeholder: Option<Box<str>>,
    /// The length of values in characters, if all have the same; placeholders get it. Not enforced.
    pub length: Option<usize>,
    /// A pattern that whole values must match; enforced.
    pub pattern: Option<KeyPattern>,
    /// Environment variables that SDKs read this field from.
    pub env: Vec<String>,
}

impl Field {
    /// How placeholders of the field begin.
    pub fn placeholder_prefix(&self) -> &str {
        let first = || self.prefixes.first().map_or("", String::as_str);
        self.placeholder.as_deref().unwrap_or_else(first)
    }
}

/// A regular expression that must match a whole value.
#[derive(Clone, Debug)]
pub struct KeyPattern(regex_lite::Regex);

/// A provider with its variables filled in, as a connection uses it.
#[derive(Clone, Debug)]
pub struct Instance {
    /// The hosts that the connection owns.
    pub hosts: Vec<HostPattern>,
    /// The paths that it owns there; empty means all.
    pub paths: Vec<PathPattern>,
    /// The placements of its credential.
    pub placements: Vec<Scoped<Vec<Place>>>,
    /// Fields that are removed before writing: those of all auth methods.
    pub clears: Clears,
    /// OAuth endpoints on these hosts, where nothing is injected.
    pub oauth_endpoints: Vec<(HostPattern, PathPattern)>,
    /// Fields of the method that are not secret.
    pub shown: Vec<String>,
    /// Where the database is, if the provider is one. Then `hosts` is empty, so that no HTTP request gets the credential.
    pub database: Option<DatabaseEndpoint>,
    /// Region and service of AWS signatures, if the provider fixes them.
    pub aws: AwsScope,
    /// What signs requests with the owner's fields, for kinds that are data.
    pub scheme: Option<Arc<Scheme>>,
    /// Fields that are used in TLS handshakes.
    pub tls: Option<TlsFields>,
    /// The variables with their defaults, which signatures may name.
    pub variables: BTreeMap<String, String>,
    /// Whether the credential is the key of an SSH agent, which no request gets.
    pub is_ssh: bool,
}

impl Provider {
    /// The auth method with this id, or the first.
    pub fn auth(&self, id: Option<&str>) -> Option<&AuthMethod> {
        match id {
            Some(id) => self.auth.iter().find(|auth| auth.id == id),
            None => self.auth.first(),
        }
    }

    /// The request that tests a credential of `auth`.
    pub fn test<'a>(&'a self, auth: &'a AuthMethod) -> Option<&'a schema::TestText> {
        auth.test.as_ref().or(self.about.test.as_ref())
    }

    /// Prefix and length of the first secret that requests carry.
    pub fn key_shape(&self) -> (&str, Option<usize>) {
        let field = self.auth.iter().find_map(|auth| auth.carried().next());
        field.map_or(("", None), |field| (field.placeholder_prefix(), field.length))
    }

    /// The variable with this name.
    pub fn variable(&self, name: &str) -> Option<&Variable> {
        self.variables.iter().find(|variable| variable.name == name)
    }
}

impl Instance {
    /// The path prefixes with credentials, by host and by the original path. The first match applies; empty if
    /// no path is changed.
    pub fn path_prefixes(&self) -> Vec<Scoped<Option<PathPrefix>>> {
        let prefix = |scope: &Scoped<Vec<Place>>| {
            scope.what.iter().find_map(|place| match &place.at {
                Location::Path(prefix) => Some(prefix.clone()),
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
    /// The secrets that requests carry; agents hold a placeholder of each.
    pub fn carried(&self) -> impl Iterator<Item = &Field> {
        let is_sent = self.minted.is_empty() && self.kind != AuthKind::SshKey;
        let is_sent = move |field: &&Field| {
            let tls = self.tls.as_ref();
            field.secret && is_sent && !tls.is_some_and(|tls| tls.names(&field.name))
        };
        let given = self.fields.iter().filter(is_sent);
        given.chain(&self.minted)
    }

    /// The field with this name.
    pub fn field(&self, name: &str) -> Option<&Field> {
        self.fields.iter().find(|field| field.name == name)
    }
}

impl TlsFields {
    /// Whether the field is one of these.
    pub fn names(&self, field: &str) -> bool {
        let names = [&self.certificate, &self.key, &self.ca];
        names.into_iter().any(|name| name.as_deref() == Some(field))
    }
}

impl KeyPattern {
    /// Compiles `pattern`, anchored at both ends.
    ///
    /// # Errors
    /// When it is not a regular expression, with the reason.
    pub fn parse(pattern: &str) -> Result<Self, String> {
        regex_lite::RegexBuilder::new(&format!("{ANCHOR_BEGIN}{pattern}{ANCHOR_END}"))
            .size_limit(SHAPE_BYTES_MAX)
            .build()
            .map(Self)
            .map_err(|error| error.to_string())
    }

    /// The expression as a provider's file has it.
    pub fn written(&self) -> &str {
        let anchored = self.0.as_str();
        &anchored[ANCHOR_BEGIN.len()..anchored.len() - ANCHOR_END.len()]
    }

    /// The anchored expression.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }

    /// Whether the pattern matches the whole text.
    pub fn matches(&self, text: &str) -> bool {
        self.0.is_match(text)
    }
}

const ANCHOR_BEGIN: &str = "^(?:";
const ANCHOR_END: &str = ")$";

/// Maximum compiled size: 64 KiB, ample for the shape of a key.
const SHAPE_BYTES_MAX: usize = 64 * 1024;

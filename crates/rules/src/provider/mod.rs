//! [`Provider`]: a service that users connect to, with its hosts, ways to authenticate, placements of credentials and forms.
//! Providers are data, not code: built-in YAML (`catalogue/`) and the user's own, with the same schema.
//!
//! | part | files |
//! |---|---|
//! | the YAML and its keys | `document`, `decode`, `schema`, `keys` |
//! | parts of a provider | `variable`, `host_template`, `url_template`, `kinds`, `auth_method`, `field`, `file`, `oauth`, `session`, `actions`, `scope_words` |
//! | checks, which convert YAML into these parts | `check`, `check_auth`, `check_file`, `check_oauth`, `check_minted`, `environment`, `placing`, `own_hosts`, `methods`, `extends`, `mistakes` |
//! | a provider with the variables of a connection | `form`, `database`, `connection_url`, `test_request` |
//! | all providers | `catalogue`, `built_in`, `built_in_catalogue`, `configured` |
//!
//! `checked.rs` has own providers whose text was checked before. `pasted.rs` recognises wrongly pasted secrets.
//! `error_codes.rs` says who must act after an error code; `error_notes.rs` explains codes of services. `changes.rs` says which changes of an own provider are safe while connections use it. `run_files.rs` has the files of a program's environment. `document.rs` and `decode.rs`
//! read YAML with positions, also for the configuration.

pub mod actions;
mod auth_method;
mod built_in;
mod built_in_catalogue;
pub mod catalogue;
pub mod changes;
pub mod check;
mod check_auth;
mod check_file;
mod check_minted;
mod check_oauth;
pub mod checked;
pub mod configured;
pub mod connection_url;
mod database;
pub mod decode;
pub mod document;
pub mod environment;
pub mod error_codes;
pub mod error_notes;
mod extends;
mod field;
pub mod file;
mod form;
mod host_template;
pub mod keys;
mod kinds;
pub mod methods;
mod mistakes;
mod mongodb_url;
pub mod oauth;
mod own_hosts;
pub mod pasted;
mod placing;
mod postgres_url;
mod revocation;
pub mod run_files;
pub mod schema;
pub mod scope_words;
pub mod session;
pub mod test_request;
mod url_template;
mod variable;
pub mod written;

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::inject::credential::Clears;
use crate::inject::own_authorization::Signs;
use crate::inject::path_prefix::PathPrefix;
use crate::inject::placeholder::Placeholder;
use crate::inject::placement::{Location, Place, Scoped};
use crate::inject::sign::request_signer::SigningScheme;
use crate::rate_limit::RateLimitFields;
use keyward_base::database::{DatabaseEndpoint, DatabaseProtocol};
use keyward_base::pattern::{HostPattern, PathPattern};
use keyward_base::settings::ConnectionUsage;

pub use actions::NamedAction;
pub use auth_method::{AuthMethod, AwsScope, ScopedPlaces};
pub use catalogue::{Catalogue, CatalogueEntry};
pub use configured::{Configured, Definition};
pub use field::{Field, KeyPattern};
pub use host_template::{HostTemplate, HostTemplateError};
pub use keys::{ActionText, IndirectText, OperationsText, RequestsText, TlsFields};
pub use kinds::AuthKind;
pub use oauth::OAuth;
pub use schema::{Confidence, EncodedSlash, Template};
use scope_words::ScopeWords;
pub use test_request::{ExpectedResponse, TestRequest, TestRequestError};
pub use variable::{FormError, Variable, VariableKind};

/// A service that users connect to; checked.
#[derive(Clone, Debug)]
pub struct Provider {
    /// The id, such as `github`.
    pub id: Arc<str>,
    pub name: String,
    /// The category, such as `llm`.
    pub category: Option<String>,
    /// The wire protocol of a database; `None` for services that are used over HTTP.
    pub protocol: Option<DatabaseProtocol>,
    /// Hosts, before variables (`{shop}.myshopify.com`) are filled in.
    pub hosts: Vec<HostTemplate>,
    /// Paths that belong to the service on these hosts; empty means all.
    pub paths: Vec<PathPattern>,
    /// How the service reads an encoded slash in a path, if that is known.
    pub encoded_slash: Option<EncodedSlash>,
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
    /// Response fields that state the service's rate limit.
    pub rate_limit: Arc<RateLimitFields>,
    /// The file as it was read: descriptions, and data used outside the request path.
    pub about: Arc<schema::ProviderText>,
}

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
    /// Response fields that state the service's rate limit.
    pub rate_limit: Arc<RateLimitFields>,
    /// OAuth endpoints on these hosts, where nothing is injected.
    pub oauth_endpoints: Vec<(HostPattern, PathPattern)>,
    /// Fields of the method that are not secret.
    pub shown: Vec<String>,
    /// Where the database is, if the provider is one. Then `hosts` is empty, so that no HTTP request gets the credential.
    pub database: Option<DatabaseEndpoint>,
    /// Region and service of AWS signatures, if the provider fixes them.
    pub aws: AwsScope,
    /// What signs requests with the owner's fields, for kinds that are data.
    pub scheme: Option<Arc<SigningScheme>>,
    /// Fields that are used in TLS handshakes.
    pub tls: Option<TlsFields>,
    /// The variables with their defaults, which signatures may name.
    pub variables: BTreeMap<String, String>,
    /// Whether the credential is the key of an SSH agent, which no request gets.
    pub is_ssh: bool,
    /// How requests are signed, if they are.
    pub signs: Option<Signs>,
    /// Whether the service reads an encoded slash in a path as a part of the segment.
    pub has_slashes_in_segments: bool,
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

    /// Whether a credential of `auth` can be tested: by a request, by a login at the database, or by a look at the file.
    pub fn has_test(&self, auth: &AuthMethod) -> bool {
        self.protocol.is_some() || auth.file.is_some() || self.test(auth).is_some()
    }

    /// What connections are used for, which decides their settings.
    pub fn usage(&self) -> ConnectionUsage {
        let has_files = self.auth.iter().any(|auth| auth.file.is_some());
        match self.protocol {
            Some(protocol) => ConnectionUsage::Sessions(protocol),
            None if has_files => ConnectionUsage::Files,
            None => ConnectionUsage::Requests,
        }
    }

    /// A new placeholder of the first secret that requests carry.
    pub fn placeholder(&self) -> Option<Placeholder> {
        let field = self.auth.iter().find_map(|auth| auth.carried().next())?;
        Some(field.placeholder(None, &BTreeMap::new()))
    }

    /// The words for those of these scopes that have some.
    pub fn words_for<'a>(&self, scopes: impl IntoIterator<Item = &'a String>) -> ScopeWords {
        let words = |scope: &'a String| self.about.scope_words.get_key_value(scope);
        let known = scopes.into_iter().filter_map(words);
        known.map(|(scope, words)| (scope.clone(), words.clone())).collect()
    }

    pub fn variable(&self, name: &str) -> Option<&Variable> {
        self.variables.iter().find(|variable| variable.name == name)
    }
}

impl Instance {
    /// Where the credential has a place, by host and by the original path, with the path prefix that holds it. The first
    /// match applies; empty if it has one everywhere, and no path is changed.
    pub fn places(&self) -> Vec<Scoped<Option<PathPrefix>>> {
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
        let is_everywhere = |scope: &Scoped<_>| scope.hosts.is_empty() && scope.paths.is_empty();
        let changes = all.iter().any(|scope| scope.what.is_some());
        if changes || !all.iter().any(is_everywhere) { all } else { Vec::new() }
    }
}

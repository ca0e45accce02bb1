//! Sets up a remote MCP server from its URL: reads its authorization server (RFC 9728), registers a client there, and
//! makes a draft connection that a consent completes.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode, header};
use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;

use super::Flows;
use super::endpoints::{cannot_ask, metadata_failure, takes_s256, urls};
use super::error::FlowError;
use super::start::FlowContext;
use crate::grant::AppSecret;
use crate::grant::oauth::{
    Metadata, MetadataError, NoDocument, first_document, host, is_secure, or_default,
};
use crate::refresh::challenge;
use crate::{NewApp, NewConnection};
use keyward_base::id::{AppId, OrgId, UserId};
use keyward_model::{
    AppSettings, AppSpec, Connection, ConnectionSpec, DynamicRegistration, Reference, References,
    TokenOptions,
};
use keyward_net::call::{Bounds, CallError};
use keyward_state::directory::{AppRecord, ConnectionRecord, ManagedBy, Visibility};

/// The provider of MCP servers in the catalogue.
const PROVIDER: &str = "mcp";
/// The auth method of that provider.
const AUTH: &str = "oauth";
/// Longest accepted URL.
const URL_BYTES_MAX: usize = 2 * 1024;
/// How long the client of an abandoned consent is used for another consent. Later the server may have removed the
/// client.
const UNUSED_CLIENT_FOR: SignedDuration = SignedDuration::from_hours(1);

/// An MCP server to connect.
#[derive(Clone, Debug, Default)]
pub struct NewMcp {
    /// Its URL, https.
    pub url: String,
    /// Its provider in the catalogue; `None`: one that is known by its URL alone.
    pub provider: Option<String>,
    /// The chosen authorization server, if it has several.
    pub issuer: Option<String>,
    /// The spec of the connection. Defaults: the host as name, and the scopes that the server requests. The server
    /// determines the auth method, the variables and the app. A consent takes no references.
    pub spec: ConnectionSpec,
    /// The owner; `None`: the organisation.
    pub owner: Option<UserId>,
    /// Which agents may use it.
    pub visibility: Visibility,
}

/// The server that an app is registered for. The app belongs to the provider of this server, so that no other server
/// gets its tokens.
#[derive(Clone, Copy)]
struct ResourceServer<'a> {
    provider: &'a str,
    /// The provider's auth method.
    auth: &'a str,
    /// Its resource identifier: the one in its metadata, which servers compare exactly (RFC 8707 §2, RFC 9728 §2), else
    /// its canonical URI.
    resource: &'a str,
    /// The scopes that are requested.
    scopes: &'a [String],
}

/// The members of protected resource metadata that are read (RFC 9728 §2).
#[derive(Debug, Default, Deserialize)]
struct ProtectedResource {
    resource: String,
    #[serde(default, deserialize_with = "or_default")]
    authorization_servers: Vec<String>,
    #[serde(default, deserialize_with = "or_default")]
    scopes_supported: Vec<String>,
}

/// The parameters of a 401 challenge (RFC 9728 §5.1, RFC 6750 §3).
#[derive(Debug, Default, Eq, PartialEq)]
struct BearerChallenge {
    metadata: Option<String>,
    scopes: Vec<String>,
}

impl Flows {
    /// Adds a draft connection for an MCP server, with an existing or new app at its authorization server.
    ///
    /// # Errors
    /// When the server does not name its authorization server, or the authorization server does not register clients.
    pub async fn add_mcp(
        &self,
        org: &OrgId,
        new: NewMcp,
    ) -> Result<Arc<ConnectionRecord>, FlowError> {
        let url = canonical(&new.url, self.settings.load().insecure_loopback)?;
        let (resource, challenge) = self.resource(&url).await?;
        let issuer = chosen(&resource, new.issuer.as_deref())?;
        let metadata = self.metadata_of_named(&issuer).await?;
        takes_s256(&metadata, true)?;
        let provider = new.provider.as_deref().unwrap_or(PROVIDER);
        let catalogue = self.vault.catalogue(org);
        // A provider of an MCP server has one method.
        let method = catalogue.get(provider).and_then(|provider| provider.auth.first());
        let auth = method.map_or(AUTH, |method| method.id.as_str());
        let NewMcp { spec, owner, visibility, .. } = new;
        let scopes = match (spec.scopes.is_empty(), challenge.scopes.is_empty()) {
            (false, _) => spec.scopes,
            (true, false) => challenge.scopes,
            (true, true) => resource.scopes_supported,
        };
        let scopes = with_offline(scopes, &metadata);
        let resource = &resource.resource;
        let server = ResourceServer { provider, auth, resource, scopes: &scopes };
        let app = self.app_at(org, &metadata, server).await?;
        let spec = ConnectionSpec {
            name: if spec.name.is_empty() { name_of(&url) } else { spec.name },
            provider: provider.to_owned(),
            auth: Some(auth.to_owned()),
            variables: match new.provider {
                Some(_) => BTreeMap::new(),
                None => BTreeMap::from([("host".to_owned(), host(&url).to_owned())]),
            },
            app: Some(Reference::Id(app.id.clone())),
            scopes,
            references: References::new(),
            ..spec
        };
        let (org, managed_by) = (org.clone(), ManagedBy::Store);
        let connection = NewConnection { org, spec, owner, visibility, managed_by };
        Ok(self.vault.lifecycle().add_draft(connection).await?)
    }

    /// Registers a new client at the same server for a consent. The connection keeps its client until the grant of the
    /// consent is stored, because its tokens are of that client.
    pub(super) async fn register_again(
        &self,
        asking: &FlowContext,
        scopes: &[String],
    ) -> Result<FlowContext, FlowError> {
        let (connection, app) = (&asking.connection, &asking.app);
        let resource = app.settings.tokens.token_params.get("resource");
        let (Some(registered), Some(resource)) = (&app.facts.registered, resource) else {
            return Err(self.no_consent_error(connection));
        };
        let metadata = self.metadata(&registered.issuer).await?;
        let org = &connection.org;
        let auth = connection.auth.as_deref().unwrap_or(AUTH);
        let server = ResourceServer { provider: &connection.provider, auth, resource, scopes };
        let new = self.register_app(org, &metadata, server).await?;
        self.with_client(asking, new).await
    }

    /// The context of the same consent with another client.
    pub(super) async fn with_client(
        &self,
        asking: &FlowContext,
        app: Arc<AppRecord>,
    ) -> Result<FlowContext, FlowError> {
        let mut connection = ConnectionRecord::clone(&asking.connection);
        connection.app = Some(Reference::Id(app.id.clone()));
        self.context_with_app(&connection, app).await
    }

    /// A client that an earlier attempt registered in place of the connection's. It is used again, so that not every
    /// abandoned attempt registers a client.
    pub(super) fn unused_client(
        &self,
        asking: &FlowContext,
        scopes: &[String],
    ) -> Option<Arc<AppRecord>> {
        let registered = asking.app.facts.registered.as_ref()?;
        let resource = asking.app.settings.tokens.token_params.get("resource")?;
        let auth = asking.connection.auth.as_deref().unwrap_or(AUTH);
        let server =
            ResourceServer { provider: &asking.connection.provider, auth, resource, scopes };
        let (view, now, org) = (self.directory().view(), self.clock.now(), &asking.connection.org);
        let is_used = |id: &AppId| {
            view.all::<Connection>(org).any(|connection| connection.app_id() == Some(id))
        };
        let fits = |app: &&Arc<AppRecord>| {
            let until = app.created.saturating_add(UNUSED_CLIENT_FOR).unwrap_or(Timestamp::MAX);
            app.org == *org
                && !app.facts.paused
                && is_registered_at(app, &registered.issuer, server, now)
                && now < until
                && !is_used(&app.id)
        };
        view.apps().find(fits).cloned()
    }

    /// An unused name for the app.
    fn free_name(&self, org: &OrgId, url: &str) -> String {
        let view = self.directory().view();
        let taken = |name: &str| view.apps().any(|app| app.org == *org && app.name == name);
        let base = name_of(url);
        let mut names = std::iter::once(base.clone()).chain((2..).map(|n| format!("{base}-{n}")));
        names.find(|name| !taken(name)).unwrap_or(base)
    }

    /// Reads the server's protected resource metadata.
    async fn resource(&self, url: &str) -> Result<(ProtectedResource, BearerChallenge), FlowError> {
        let settings = self.settings.load_full();
        let challenge = self.challenge(url).await?;
        let (base, path) = split(url);
        let well_known = format!("{base}/.well-known/oauth-protected-resource");
        let mut places = vec![];
        if let Some(told) = &challenge.metadata {
            // Only over https: the guard refuses private addresses, and TLS proves the name.
            if !told.starts_with(&format!("{base}/"))
                && !is_secure(told, settings.insecure_loopback)
            {
                return Err(not_guarded(url));
            }
            places.push(told.clone());
        }
        if !path.is_empty() {
            places.push(format!("{well_known}{path}"));
        }
        places.push(well_known);
        let found = match first_document(&self.caller, &places, &settings).await {
            Ok(found) => found,
            Err(NoDocument::Absent) => {
                // A server older than RFC 9728 is its own authorization server.
                let resource = ProtectedResource {
                    resource: url.to_owned(),
                    authorization_servers: vec![base],
                    scopes_supported: vec![],
                };
                return Ok((resource, challenge));
            }
            Err(NoDocument::NotJson) => return Err(not_guarded(url)),
            Err(NoDocument::Failed(error)) => return Err(metadata_failure(&error)),
        };
        let read: ProtectedResource =
            serde_json::from_slice(&found.body).map_err(|_| not_guarded(url))?;
        let told = read.resource.trim_end_matches('/');
        // RFC 9728 §3.3; some servers name their origin for all paths.
        if told != url && told != base {
            return Err(FlowError::Server(format!(
                "{} describes another resource than {}",
                host(found.place),
                host(url)
            )));
        }
        Ok((read, challenge))
    }

    /// The metadata of an authorization server that a resource names. An origin has one document, and URL types of some
    /// servers add a slash to its name, in one of both places: the name in the document counts.
    async fn metadata_of_named(&self, issuer: &str) -> Result<Arc<Metadata>, FlowError> {
        let settings = self.settings.load_full();
        let read = self.vault.refresh().metadata(&self.caller, issuer, &settings).await;
        let error = match read {
            Ok(metadata) => return Ok(metadata),
            Err(error) => error,
        };
        if let (MetadataError::Mismatch { .. }, Some(other)) = (&*error, other_name(issuer))
            && let Ok(metadata) =
                self.vault.refresh().metadata(&self.caller, &other, &settings).await
        {
            return Ok(metadata);
        }
        Err(metadata_failure(&error))
    }

    async fn challenge(&self, url: &str) -> Result<BearerChallenge, FlowError> {
        let settings = self.settings.load_full();
        let request =
            Request::get(url).header(header::ACCEPT, "application/json, text/event-stream");
        let request = request.body(Bytes::new()).map_err(|_| not_guarded(url))?;
        match self.caller.call(request, &Bounds::of_metadata(&settings)).await {
            Ok(answer) if answer.status() == StatusCode::UNAUTHORIZED => {
                Ok(bearer_challenge(answer.headers()))
            }
            Ok(_) | Err(CallError::Unusable { .. }) => Ok(BearerChallenge::default()),
            Err(error) => Err(cannot_ask(error)),
        }
    }

    /// The app for a server and a resource, shared by all flows.
    async fn app_at(
        &self,
        org: &OrgId,
        metadata: &Metadata,
        server: ResourceServer<'_>,
    ) -> Result<Arc<AppRecord>, FlowError> {
        let view = self.directory().view();
        let now = self.clock.now();
        let fits = |app: &&Arc<AppRecord>| {
            app.org == *org && is_registered_at(app, &metadata.issuer, server, now)
        };
        if let Some(app) = view.apps().find(fits) {
            return Ok(app.clone());
        }
        self.register_app(org, metadata, server).await
    }

    /// Registers a client at the server, and stores it as an app.
    async fn register_app(
        &self,
        org: &OrgId,
        metadata: &Metadata,
        server: ResourceServer<'_>,
    ) -> Result<Arc<AppRecord>, FlowError> {
        let ResourceServer { provider, auth, resource, scopes } = server;
        let id = AppId::random();
        let client = self.register_client(metadata, &id, scopes).await?;
        let tokens = TokenOptions {
            token_params: BTreeMap::from([("resource".to_owned(), resource.to_owned())]),
            client_auth: Some(client.auth),
            ..TokenOptions::default()
        };
        let spec = AppSpec {
            name: self.free_name(org, resource),
            provider: provider.to_owned(),
            auth: Some(auth.to_owned()),
            client_id: client.client_id,
            urls: urls(metadata),
            settings: AppSettings { tokens, ..AppSettings::default() },
            ..AppSpec::default()
        };
        let registered = DynamicRegistration {
            issuer: metadata.issuer.clone(),
            expires: client.expires,
            scopes: client.scopes,
            uri: client.uri,
        };
        let app = NewApp {
            id: Some(id),
            org: org.clone(),
            spec,
            registered: Some(registered),
            managed_by: ManagedBy::Store,
        };
        let secret = AppSecret {
            client_secret: client.client_secret,
            registration_token: client.access,
            ..AppSecret::default()
        };
        Ok(self.vault.lifecycle().add_app(app, secret).await?)
    }
}

/// Whether the app is a client that was registered at this issuer for this server and its scopes, and has not expired.
fn is_registered_at(
    app: &AppRecord,
    issuer: &str,
    server: ResourceServer<'_>,
    now: Timestamp,
) -> bool {
    let is_known = app.facts.registered.as_ref().is_some_and(|registered| {
        registered.issuer == issuer
            && registered.expires.is_none_or(|expires| now < expires)
            && registered.permits(server.scopes)
    });
    let resource = app.settings.tokens.token_params.get("resource").map(String::as_str);
    is_known && app.provider == server.provider && resource == Some(server.resource)
}

/// Scheme and authority, and the path without a trailing slash.
fn split(url: &str) -> (String, &str) {
    let authority = url.find("://").map_or(0, |at| at + 3);
    let at = url[authority..].find('/').map_or(url.len(), |at| authority + at);
    (url[..at].to_owned(), &url[at..])
}

/// The name of an origin with the slash at its end if it has none, else without it; `None` for an issuer with a path.
fn other_name(issuer: &str) -> Option<String> {
    let (base, path) = split(issuer);
    match path {
        "" => Some(format!("{base}/")),
        "/" => Some(base),
        _ => None,
    }
}

/// The canonical URI of a server (RFC 8707 §2): lower-case scheme and host, no fragment, no trailing slash.
fn canonical(url: &str, insecure_loopback: bool) -> Result<String, FlowError> {
    let refused = || FlowError::Server("the URL of an MCP server begins with https://".to_owned());
    let fits = url.len() <= URL_BYTES_MAX && url.bytes().all(|b| b.is_ascii_graphic());
    let url = url.split(['#', '?']).next().unwrap_or_default();
    let (base, path) = split(url);
    let canonical = format!("{}{}", base.to_ascii_lowercase(), path.trim_end_matches('/'));
    let named = !host(&canonical).is_empty() && !host(&canonical).contains('@');
    match fits && named && is_secure(&canonical, insecure_loopback) {
        true => Ok(canonical),
        false => Err(refused()),
    }
}

fn chosen(resource: &ProtectedResource, wanted: Option<&str>) -> Result<String, FlowError> {
    let servers = &resource.authorization_servers;
    match (wanted, servers.as_slice()) {
        (None, [one]) => Ok(one.clone()),
        (Some(wanted), servers) if servers.iter().any(|known| known == wanted) => {
            Ok(wanted.to_owned())
        }
        (None, []) => Err(not_guarded(&resource.resource)),
        _ => Err(FlowError::Server(format!(
            "this server has several authorization servers ({}): name one with --issuer",
            servers.join(", ")
        ))),
    }
}

/// Adds `offline_access` only if the server supports it: others reject unknown scopes.
fn with_offline(mut scopes: Vec<String>, metadata: &Metadata) -> Vec<String> {
    let offline = "offline_access";
    let has = |all: &[String]| all.iter().any(|scope| scope == offline);
    if !scopes.is_empty() && has(&metadata.scopes_supported) && !has(&scopes) {
        scopes.push(offline.to_owned());
    }
    scopes
}

/// A name for people: `mcp.acme.test` → `mcp-acme-test`.
fn name_of(url: &str) -> String {
    let host = host(url).split(':').next().unwrap_or_default();
    host.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).take(60).collect()
}

fn not_guarded(url: &str) -> FlowError {
    FlowError::Server(format!("{} does not say which authorization server it trusts", host(url)))
}

/// Parses the `Bearer` challenge; the first occurrence of a parameter counts.
fn bearer_challenge(headers: &HeaderMap) -> BearerChallenge {
    let mut read = BearerChallenge::default();
    for (name, value) in challenge::parameters(headers) {
        match name.as_str() {
            "resource_metadata" if read.metadata.is_none() => read.metadata = Some(value),
            "scope" if read.scopes.is_empty() => {
                read.scopes = value.split_whitespace().map(str::to_owned).collect();
            }
            _ => {}
        }
    }
    read
}

#[cfg(test)]
mod tests {
    use super::*;

    /// oauth 13, MCP 7
    #[test]
    fn the_canonical_uri_has_no_fragment_and_no_slash_at_its_end() {
        for (url, canonical_url) in [
            ("https://MCP.acme.test/", "https://mcp.acme.test"),
            ("https://mcp.acme.test/Server/mcp#x", "https://mcp.acme.test/Server/mcp"),
            ("https://mcp.acme.test:8443/a/", "https://mcp.acme.test:8443/a"),
        ] {
            assert_eq!(canonical(url, false).unwrap(), canonical_url);
        }
        for bad in
            ["http://a.test/mcp", "mcp.acme.test", "https://", "https://u@a.test", "https://a b"]
        {
            assert!(canonical(bad, true).is_err(), "{bad}");
        }
    }

    /// oauth 13, metadata: a path with a slash at its end is another one.
    #[test]
    fn only_an_origin_is_the_same_issuer_with_and_without_a_slash() {
        assert_eq!(other_name("https://a.test").as_deref(), Some("https://a.test/"));
        assert_eq!(other_name("https://a.test/").as_deref(), Some("https://a.test"));
        for path in ["https://a.test/t", "https://a.test/t/", "https://a.test//"] {
            assert_eq!(other_name(path), None, "{path}");
        }
    }

    /// oauth 13, MCP 1
    #[test]
    fn a_bearer_challenge_gives_the_metadata_url_and_the_scopes() {
        let mut headers = HeaderMap::new();
        let field =
            r#"Bearer error="invalid_token", resource_metadata="https://a.test/m", scope="a b""#;
        headers.insert(header::WWW_AUTHENTICATE, field.parse().unwrap());
        let read = bearer_challenge(&headers);
        assert_eq!(read.metadata.as_deref(), Some("https://a.test/m"));
        assert_eq!(read.scopes, ["a", "b"]);
        headers.insert(header::WWW_AUTHENTICATE, "Basic realm=\"x\"".parse().unwrap());
        assert_eq!(bearer_challenge(&headers), BearerChallenge::default());
    }

    /// oauth 13, MCP 2
    #[test]
    fn of_several_authorization_servers_a_person_names_one() {
        let of = |servers: &[&str]| ProtectedResource {
            resource: "https://a.test".to_owned(),
            authorization_servers: servers.iter().map(|&s| s.to_owned()).collect(),
            scopes_supported: vec![],
        };
        assert!(chosen(&of(&[]), None).is_err());
        assert!(chosen(&of(&["https://x.test", "https://y.test"]), None).is_err());
        assert!(chosen(&of(&["https://x.test"]), Some("https://evil.test")).is_err());
        let two = of(&["https://x.test", "https://y.test"]);
        assert_eq!(chosen(&two, Some("https://y.test")).unwrap(), "https://y.test");
    }

    /// oauth 13, MCP 6
    #[test]
    fn offline_access_is_requested_only_from_servers_that_list_it() {
        let lists = |all: &[&str]| Metadata {
            scopes_supported: all.iter().map(|&scope| scope.to_owned()).collect(),
            ..Metadata::default()
        };
        let asked = || vec!["read".to_owned()];
        assert_eq!(with_offline(asked(), &lists(&[])), ["read"]);
        assert_eq!(with_offline(asked(), &lists(&["offline_access"])), ["read", "offline_access"]);
    }
}

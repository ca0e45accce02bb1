//! Registers a client automatically: by dynamic registration (RFC 7591), or by a client metadata document
//! if the server supports it and the gateway has a public address. One registration for each app, never
//! shown to another server.

use bytes::Bytes;
use http::{Request, Response, StatusCode, header};
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};

use super::Flows;
use super::endpoints::cannot_ask;
use super::error::FlowError;
use super::start::origin;
use crate::grant::oauth::{ErrorCode, Metadata, bearer, is_secure};
use keyward_base::id::{AppId, OrgId};
use keyward_base::secret::Secret;
use keyward_net::call::Bounds;
use keyward_rules::provider::oauth::ClientAuthText;
use keyward_state::directory::AppRecord;

/// The client name that people see.
const CLIENT_NAME: &str = "Keyward";

/// Longest accepted client id or secret.
const CLIENT_BYTES_MAX: usize = 16 * 1024;

/// A client as registered by the server.
pub(super) struct ClientRegistration {
    pub(super) client_id: String,
    pub(super) client_secret: Option<Secret>,
    pub(super) auth: ClientAuthText,
    pub(super) expires: Option<Timestamp>,
    /// The access token of the registration (RFC 7592).
    pub(super) access: Option<Secret>,
    /// Where the server deletes it with that token.
    pub(super) uri: Option<String>,
    /// The scopes that it was registered for; `None`: those that the server grants.
    pub(super) scopes: Option<Vec<String>>,
}

#[derive(Deserialize)]
struct RegistrationAnswer {
    client_id: String,
    client_secret: Option<String>,
    client_secret_expires_at: Option<i64>,
    token_endpoint_auth_method: Option<String>,
    registration_access_token: Option<String>,
    registration_client_uri: Option<String>,
}

impl Flows {
    /// Registers a client for the app: by a metadata document, else dynamically for these scopes.
    ///
    /// # Errors
    /// When the server supports neither, or refuses.
    pub(super) async fn register_client(
        &self,
        metadata: &Metadata,
        app: &AppId,
        scopes: &[String],
    ) -> Result<ClientRegistration, FlowError> {
        let public = self.public_url.starts_with("https://");
        if metadata.client_id_metadata_document_supported && public {
            return Ok(ClientRegistration {
                client_id: format!("{}/oauth/client/{app}", self.public_url),
                client_secret: None,
                auth: ClientAuthText::None,
                expires: None,
                access: None,
                uri: None,
                scopes: None,
            });
        }
        let endpoint = metadata.registration_endpoint.as_deref().ok_or_else(|| {
            FlowError::Server(format!(
                "{} does not support client registration: register a client there, declare the server as a \
                 provider (`keyward provider add --help`), and give the client as its app (`keyward app add`)",
                metadata.issuer
            ))
        })?;
        self.register(endpoint, metadata, app, scopes).await
    }

    /// Registers a client for the scopes, or without them: servers of the MCP SDK for Python grant no scope to a client
    /// that was registered without it, and oidc-provider registers no client for the scopes of a resource.
    async fn register(
        &self,
        endpoint: &str,
        metadata: &Metadata,
        app: &AppId,
        scopes: &[String],
    ) -> Result<ClientRegistration, FlowError> {
        let supported = metadata.token_endpoint_auth_methods_supported.as_deref();
        let auth = method(supported);
        let mut body = json!({
            "client_name": CLIENT_NAME,
            "redirect_uris": [self.redirect_uri(app)],
            "grant_types": ["authorization_code", "refresh_token"],
            "response_types": ["code"],
            "token_endpoint_auth_method": word(auth),
            "application_type": if is_loopback(&self.public_url) { "native" } else { "web" },
        });
        if scopes.is_empty() {
            let answer = self.request_client(endpoint, &body).await?;
            return registration(&answer, endpoint, supported);
        }
        let unscoped = body.clone();
        body["scope"] = scopes.join(" ").into();
        let answer = self.request_client(endpoint, &body).await?;
        if refuses_metadata(&answer) {
            let answer = self.request_client(endpoint, &unscoped).await?;
            return registration(&answer, endpoint, supported);
        }
        let client = registration(&answer, endpoint, supported)?;
        Ok(ClientRegistration { scopes: Some(scopes.to_vec()), ..client })
    }

    async fn request_client(
        &self,
        endpoint: &str,
        body: &Value,
    ) -> Result<Response<Bytes>, FlowError> {
        let settings = self.settings.load_full();
        let request = Request::post(endpoint)
            .header(header::ACCEPT, "application/json")
            .header(header::CONTENT_TYPE, "application/json")
            .body(Bytes::from(body.to_string()));
        let request = request.map_err(|_| refused("its registration endpoint is no URL"))?;
        let answer = self.caller.call(request, &Bounds::of_metadata(&settings)).await;
        answer.map_err(cannot_ask)
    }

    /// Deletes the client of a removed app at its server (RFC 7592 §2.3), if Keyward registered it. A server that does not
    /// answer keeps it.
    pub async fn unregister(&self, app: &AppRecord) {
        let uri = app.facts.registered.as_ref().and_then(|registered| registered.uri.as_deref());
        let Some(uri) = uri else { return };
        let secret = self.vault.grants().own_secret(app).await;
        let Some(token) = secret.ok().and_then(|secret| secret.registration_token) else { return };
        let Ok(authorization) = bearer(&token) else { return };
        let request = Request::delete(uri).header(header::AUTHORIZATION, authorization);
        let Ok(request) = request.body(Bytes::new()) else { return };
        let settings = self.settings.load_full();
        let bounds = Bounds::of_metadata(&settings).within(settings.revoke_timeout);
        match self.caller.call(request, &bounds).await {
            Ok(answer) if answer.status().is_success() => {}
            Ok(answer) => {
                let status = answer.status().as_u16();
                tracing::info!(app = %app.id, status, "a registered client was not deleted at its server");
            }
            Err(error) => {
                tracing::info!(app = %app.id, %error, "a registered client was not deleted at its server");
            }
        }
    }

    /// The redirect URI of an app, as registered and sent.
    pub(super) fn redirect_uri(&self, app: &AppId) -> String {
        format!("{}/oauth/callback/{app}", self.public_url)
    }

    /// The client metadata document at our client id; `None` for other apps.
    pub fn client_document(&self, org: &OrgId, app: &str) -> Option<Value> {
        let id = AppId::parse(app).ok()?;
        let view = self.directory().view();
        let own = format!("{}/oauth/client/{id}", self.public_url);
        view.app(org, &id).filter(|app| app.client_id == own)?;
        Some(json!({
            "client_id": own,
            "client_name": CLIENT_NAME,
            "redirect_uris": [self.redirect_uri(&id)],
            "grant_types": ["authorization_code", "refresh_token"],
            "response_types": ["code"],
            "token_endpoint_auth_method": "none",
        }))
    }
}

fn read(body: &[u8], supported: Option<&[String]>) -> Result<ClientRegistration, FlowError> {
    let told: RegistrationAnswer =
        serde_json::from_slice(body).map_err(|_| refused("its answer names no client"))?;
    let secret = told.client_secret.filter(|secret| !secret.is_empty());
    let auth = match told.token_endpoint_auth_method.as_deref() {
        // RFC 7591 §3.2.1: a client without a secret is a public one.
        None if secret.is_none() && permits_public_clients(supported) => ClientAuthText::None,
        None => method(supported),
        Some("client_secret_basic") => ClientAuthText::Basic,
        Some("client_secret_post") => ClientAuthText::Body,
        Some("none") => ClientAuthText::None,
        Some(_) => {
            return Err(refused("it requires another client authentication than was requested"));
        }
    };
    let lengths = [told.client_id.len(), secret.as_ref().map_or(1, String::len)];
    if lengths.iter().any(|bytes| !(1..=CLIENT_BYTES_MAX).contains(bytes)) {
        return Err(refused("its client id or secret has an impossible length"));
    }
    if secret.is_none() && auth != ClientAuthText::None {
        return Err(refused("it gave no client secret"));
    }
    // RFC 7591 §3.2.1: 0 means never.
    let expires = told.client_secret_expires_at.filter(|at| *at > 0);
    Ok(ClientRegistration {
        client_id: told.client_id,
        client_secret: secret.map(Secret::from),
        auth,
        expires: expires.and_then(|at| Timestamp::from_second(at).ok()),
        access: told.registration_access_token.map(Secret::from),
        uri: told.registration_client_uri,
        scopes: None,
    })
}

/// The default is Basic (RFC 8414 §2). Where a server lists both, the form is preferred: servers of the MCP SDK for Python
/// list Basic too, and refuse it without `client_id` in the form
/// (<https://github.com/modelcontextprotocol/python-sdk/blob/main/src/mcp/server/auth/handlers/token.py>).
fn method(supported: Option<&[String]>) -> ClientAuthText {
    let Some(supported) = supported else { return ClientAuthText::Basic };
    let has = |method: &str| supported.iter().any(|known| known == method);
    match () {
        () if has("client_secret_post") => ClientAuthText::Body,
        () if has("client_secret_basic") => ClientAuthText::Basic,
        () => ClientAuthText::None,
    }
}

/// Whether the server lists `none`, or no methods at all.
fn permits_public_clients(supported: Option<&[String]>) -> bool {
    supported.is_none_or(|all| all.is_empty() || all.iter().any(|known| known == "none"))
}

fn word(auth: ClientAuthText) -> &'static str {
    match auth {
        ClientAuthText::Body => "client_secret_post",
        ClientAuthText::None => "none",
        _ => "client_secret_basic",
    }
}

/// The client of an answer to a registration at this endpoint of a server that lists these methods.
fn registration(
    answer: &Response<Bytes>,
    endpoint: &str,
    supported: Option<&[String]>,
) -> Result<ClientRegistration, FlowError> {
    match (answer.status(), error_code(answer.body())) {
        (StatusCode::OK | StatusCode::CREATED, _) => {
            let client = read(answer.body(), supported)?;
            // The token of the registration is sent to no other server.
            let uri = client.uri.filter(|uri| origin(uri) == origin(endpoint));
            Ok(ClientRegistration { uri, ..client })
        }
        (_, Some(code)) => Err(refused(&format!("it says {}", ErrorCode::received(&code, None)))),
        (status, None) => Err(refused(&format!("it answers {}", status.as_u16()))),
    }
}

/// Whether the server registers no client with these metadata, of which only the scopes may be omitted.
fn refuses_metadata(answer: &Response<Bytes>) -> bool {
    let code = error_code(answer.body());
    answer.status() == StatusCode::BAD_REQUEST
        && matches!(code.as_deref(), Some("invalid_client_metadata" | "invalid_scope"))
}

/// RFC 7591 §3.2.2.
fn error_code(body: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    struct RegistrationError {
        error: String,
    }
    serde_json::from_slice(body).ok().map(|refused: RegistrationError| refused.error)
}

fn refused(why: &str) -> FlowError {
    FlowError::Server(format!("the authorization server did not register a client: {why}"))
}

fn is_loopback(url: &str) -> bool {
    url.starts_with("http://") && is_secure(url, true)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// oauth 13, registration
    #[test]
    fn the_client_auth_method_is_a_listed_one_the_form_first_or_basic_without_a_list() {
        let list = |all: &[&str]| all.iter().map(|&one| one.to_owned()).collect::<Vec<_>>();
        assert_eq!(method(None), ClientAuthText::Basic);
        assert_eq!(method(Some(&list(&["none", "client_secret_post"]))), ClientAuthText::Body);
        let both = list(&["client_secret_basic", "client_secret_post"]);
        assert_eq!(method(Some(&both)), ClientAuthText::Body);
        assert_eq!(method(Some(&list(&["client_secret_basic", "none"]))), ClientAuthText::Basic);
        assert_eq!(method(Some(&list(&["none"]))), ClientAuthText::None);
    }

    /// oauth 13.unregistered
    #[test]
    fn a_client_is_deleted_only_at_the_server_that_registered_it() {
        let endpoint = "https://auth.acme.test/register";
        for (uri, kept) in [
            ("https://auth.acme.test/register/1", true),
            ("https://auth.acme.test.evil.test/1", false),
            ("https://auth.acme.test:8443/1", false),
            ("http://auth.acme.test/1", false),
            ("https://auth.acme.test@evil.test/1", false),
            ("/register/1", false),
        ] {
            let body = json!({ "client_id": "a", "registration_client_uri": uri }).to_string();
            let mut answer = Response::new(Bytes::from(body));
            *answer.status_mut() = StatusCode::CREATED;
            let Ok(client) = registration(&answer, endpoint, None) else {
                panic!("no client: {uri}")
            };
            assert_eq!(client.uri.as_deref(), kept.then_some(uri), "{uri}");
        }
    }

    /// oauth 13, registration
    #[test]
    fn an_answer_without_a_usable_client_is_refused() {
        let basic = ["client_secret_basic".to_owned()];
        for bad in [
            "{}",
            "[]",
            r#"{"client_id":""}"#,
            r#"{"client_id":"a"}"#,
            r#"{"client_id":"a","client_secret":""}"#,
            r#"{"client_id":"a","token_endpoint_auth_method":"client_secret_basic"}"#,
            r#"{"client_id":"a","client_secret":"b","token_endpoint_auth_method":"private_key_jwt"}"#,
        ] {
            assert!(read(bad.as_bytes(), Some(&basic)).is_err(), "{bad}");
        }
        let good = br#"{"client_id":"a","client_secret":"b","client_secret_expires_at":0}"#;
        let good = read(good, Some(&basic)).ok().unwrap();
        assert_eq!((good.client_id.as_str(), good.expires), ("a", None));
        assert_eq!(good.auth, ClientAuthText::Basic);
    }

    /// oauth 13, registration
    #[test]
    fn a_client_without_a_secret_is_public_unless_the_server_lists_other_methods_alone() {
        let list = |all: &[&str]| all.iter().map(|&one| one.to_owned()).collect::<Vec<_>>();
        for supported in [None, Some(list(&[])), Some(list(&["client_secret_post", "none"]))] {
            for answer in [r#"{"client_id":"a"}"#, r#"{"client_id":"a","client_secret":""}"#] {
                let public = read(answer.as_bytes(), supported.as_deref()).ok().unwrap();
                assert_eq!(public.auth, ClientAuthText::None, "{supported:?}");
                assert!(public.client_secret.is_none());
            }
            let stated = br#"{"client_id":"a","token_endpoint_auth_method":"client_secret_post"}"#;
            assert!(read(stated, supported.as_deref()).is_err(), "{supported:?}");
        }
    }
}

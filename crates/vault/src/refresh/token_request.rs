//! Mints a credential from a grant, with a request to the authorization server if necessary.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use data_encoding::HEXLOWER;
use futures_util::FutureExt;
use http::Uri;
use jiff::Timestamp;
use sha2::{Digest, Sha256};

use super::Refresh;
use super::backoff::{CHECK_THE_REQUEST, FailureDetails};
use super::cache::{CachedCredential, Lifetime};
use super::servers::{ClientAtServer, RequestSender, server_of};
use crate::context::method;
use crate::error::VaultError;
use crate::grant::oauth::{OAuthClient, RequestContext, Temporary};
use crate::grant::{AppSecret, Dead, Grant, MintContext, MintError, Minted};
use crate::grants::record::GrantVerdict;
use keyward_base::id::ConnectionId;
use keyward_base::secret::Secret;
use keyward_base::time::Clock;
use keyward_base::tokens::TokenSettings;
use keyward_model::References;
#[cfg(test)]
use keyward_net::call::Bounds;
use keyward_net::call::{CallFailure, HttpClient};
use keyward_rules::inject::credential::{ConnectionTls, RenewalConditions};
use keyward_rules::inject::sign::CredentialSigner;
use keyward_rules::provider::Instance;
use keyward_rules::provider::oauth::{ClientAuthText, OAuth};
use keyward_state::directory::{AppRecord, BrokenReason, ConnectionRecord};
use keyward_state::store::Version;

/// Why a token request failed.
#[derive(Debug)]
pub enum RequestFailure {
    /// The grant is invalid, until a person acts.
    Dead(Box<GrantVerdict>),
    /// A later request may succeed.
    Temporary {
        /// What determines the pause.
        failed: Box<FailureDetails>,
        /// All requests of this client to this server are paused for this time.
        whole_client: Option<Duration>,
    },
}

/// The context of a connection's token requests, except the client's credentials.
pub(crate) struct TokenContext {
    by: Option<Arc<RequestSender>>,
    instance: Instance,
    /// The provider's OAuth data, with the app's changes.
    oauth: Option<OAuth>,
    app: Option<Arc<AppRecord>>,
    /// The app's last known secrets; see [`Refresh::guarded_token_context`].
    app_secret: AppSecret,
    variables: BTreeMap<String, String>,
    scopes: Vec<String>,
    /// The claims that the service has asked for; not part of the fingerprint.
    claims: Option<String>,
    /// Fields by reference, and the name under which their sources share limits and pauses.
    references: (References, Option<String>),
    settings: Arc<TokenSettings>,
}

impl RequestFailure {
    /// The failure of this grant.
    fn of(self, token_context: &TokenContext, grant: &Grant) -> Self {
        match self {
            Self::Dead(verdict) => Self::Dead(Box::new(token_context.judged(grant, *verdict))),
            passing => passing,
        }
    }

    /// The error for a grant that is not in force yet.
    pub fn of_candidate(self, connection: &ConnectionRecord) -> VaultError {
        let connection = connection.name.clone();
        match self {
            Self::Dead(verdict) => {
                let detail = verdict.detail.unwrap_or_else(|| verdict.reason.code().to_owned());
                VaultError::CandidateRefused { connection, detail }
            }
            Self::Temporary { failed, .. } => VaultError::RefreshUnavailable {
                connection,
                why: failed.message,
                remedy: failed
                    .cause
                    .map(CallFailure::remedy)
                    .or(failed.unknown_code.then_some(CHECK_THE_REQUEST)),
                retry_after: failed.retry_after.unwrap_or(Duration::from_secs(1)),
            },
        }
    }
}

impl TokenContext {
    /// Whether tokens are renewed automatically.
    pub fn is_automatic(&self) -> bool {
        self.app.as_ref().is_none_or(|app| app.settings.tokens.auto_refresh != Some(false))
    }

    /// Hosts and placements.
    pub fn instance(&self) -> &Instance {
        &self.instance
    }

    /// The app's client secret; see [`Refresh::guarded_token_context`].
    pub fn client_secret(&self) -> Option<&Secret> {
        self.app_secret.client_secret.as_ref()
    }

    /// The certificate of a client that authenticates with it: its tokens may be bound to it (RFC 8705 §3), and an API
    /// accepts them only with it.
    pub fn client_tls(&self, connection: &ConnectionId) -> Option<ConnectionTls> {
        self.oauth.as_ref().filter(|oauth| oauth.client_auth == ClientAuthText::Mtls)?;
        let identity = self.app_secret.certificate.clone().zip(self.app_secret.private_key.clone());
        ConnectionTls::new(connection, identity, None)
    }

    /// The app's client id.
    pub fn client_id(&self) -> Option<&str> {
        self.app.as_ref().map(|app| app.client_id.as_str())
    }

    pub fn app(&self) -> Option<&Arc<AppRecord>> {
        self.app.as_ref()
    }

    /// The provider's OAuth data, with the app's changes and discovered endpoints.
    pub fn oauth(&self) -> Option<&OAuth> {
        self.oauth.as_ref()
    }

    /// Whether only a live access token gets a newer one.
    pub fn exchanges_access_token(&self) -> bool {
        self.oauth.as_ref().is_some_and(OAuth::exchanges_access_token)
    }

    /// Values of the provider's variables.
    pub fn variables(&self) -> &BTreeMap<String, String> {
        &self.variables
    }

    /// Requests are sent only if `check` permits them when they can be sent.
    pub fn with_check(self, check: impl Fn() -> bool + Send + Sync + 'static) -> Self {
        let by = self.by.map(|by| Arc::new(by.with_check(check)));
        Self { by, ..self }
    }

    /// Sends requests; `None` until the network is configured.
    pub fn caller(&self) -> Option<Arc<HttpClient>> {
        Some(self.by.as_ref()?.caller.clone())
    }

    /// SHA-256 in hex of everything that a server may reject a client for: the client, the version of its
    /// secret, the endpoints, and the parameters. A changed fingerprint allows another try. Values of sources are not
    /// part of it, because their rejection is no verdict; their references are.
    pub fn fingerprint(&self, secret: Version) -> String {
        let app =
            self.app.as_ref().map(|app| (&app.id, &app.client_id, &app.settings.tokens.key_id));
        let oauth = self.oauth.as_ref();
        let asked = oauth.map(|it| (&it.token, &it.renew, &it.issuer, it.grant, &it.grant_type));
        let written = oauth.map(|it| {
            (&it.token_params, &it.renew_params, &it.renames, &it.extra_headers, it.token_body)
        });
        let proof = oauth.map(|it| (it.client_auth, &it.scopes, &it.jwt, &it.session, &it.signed));
        let all = (app, secret.0, asked, written, proof, &self.variables, &self.scopes);
        let mut text = format!("{all:?}");
        // Fingerprints of other connections stay those of earlier versions.
        if !self.references.0.is_empty() {
            text += &format!("{:?}", self.references.0);
        }
        if let Some(app) = self.app.as_ref().filter(|app| !app.references.is_empty()) {
            text += &format!("{:?}", (&app.references, app.facts.rotated));
        }
        HEXLOWER.encode(&Sha256::digest(text))
    }

    fn buffer(&self) -> Option<Duration> {
        let own = self.app.as_ref().and_then(|app| app.settings.tokens.refresh_buffer);
        self.is_automatic().then_some(own.unwrap_or(self.settings.refresh_buffer))
    }

    /// The request context; `None` for kinds without token requests, and until the network is configured.
    pub fn ask<'a>(
        &'a self,
        client: &'a OAuthClient,
        now: Timestamp,
    ) -> Option<RequestContext<'a>> {
        Some(RequestContext {
            caller: &self.by.as_ref()?.caller,
            settings: &self.settings,
            oauth: self.oauth.as_ref()?,
            client,
            variables: &self.variables,
            scopes: &self.scopes,
            claims: self.claims.as_deref(),
            now,
        })
    }

    /// The minted credential with its renewal and lifetime.
    fn held(&self, minted: Minted, clock: &Clock) -> CachedCredential {
        let at = clock.moment();
        let (life, mut credential) = (minted.life, minted.credential);
        let sent = life.sent;
        let tls = || self.client_tls(&credential.connection).map(Arc::new);
        credential.tls = credential.tls.clone().or_else(tls);
        // Set also if the token cannot be renewed: then a rejection breaks the connection.
        let of_tokens =
            self.oauth.as_ref().filter(|_| self.is_automatic()).map(|oauth| RenewalConditions {
                unsafe_too: !oauth.says.keeps_unsafe,
                expired_status: oauth.says.expired.as_ref().map(|expired| expired.status),
            });
        credential.renews = match &credential.signer {
            // The digest signer answers a challenge without a renewal.
            Some(CredentialSigner::Digest(_)) => credential.renews,
            _ => of_tokens,
        };
        let span = |from: Timestamp, to: Timestamp| Duration::try_from(to.duration_since(from));
        let life = life.expires.map(|ends| {
            let left = span(at.wall_time(), ends).unwrap_or_default();
            let whole = life.sent.map_or(left, |sent| span(sent, ends).unwrap_or_default());
            let buffer = self.buffer().filter(|_| life.renewable);
            let usual = Lifetime::new(left, whole, buffer);
            match buffer.is_some() && self.exchanges_access_token() {
                true => usual.renewed_at_half(whole),
                false => usual,
            }
        });
        CachedCredential::new(Arc::new(credential), at, life).requested_at(sent)
    }
}

/// The grants of a row.
#[derive(Clone, Copy)]
pub(crate) struct StoredGrants<'a> {
    pub(crate) grant: &'a Grant,
    /// The second one, while a secret is rotated.
    pub(crate) other: Option<&'a Grant>,
    pub(crate) version: Version,
}

impl Refresh {
    /// Sends token requests with `caller` from now on.
    pub fn use_client(&self, caller: Arc<HttpClient>) {
        self.requester.calls(caller);
    }

    /// The client for requests outside the data path; `None` until the network is configured.
    pub(crate) fn caller(&self) -> Option<Arc<HttpClient>> {
        self.requester.0.load().as_ref().map(|by| by.caller.clone())
    }

    pub(crate) fn token_context(
        &self,
        connection: &ConnectionRecord,
    ) -> Result<TokenContext, VaultError> {
        let catalogue = self.context.catalogue(&connection.org);
        let (provider, auth) =
            method(&catalogue, &connection.provider, connection.auth.as_deref())?;
        let hosts = connection.host_variables();
        let view = self.directory.view();
        let app = connection.app_id().and_then(|id| view.app(&connection.org, id)).cloned();
        let of_app = |app: &Arc<AppRecord>| app.variables.clone();
        let instance = provider.instantiate(auth, &hosts)?;
        // Variables that neither the app nor the connection sets have their defaults.
        let mut variables = instance.variables.clone();
        variables.extend(app.as_ref().map(of_app).unwrap_or_default());
        variables.extend(hosts);
        Ok(TokenContext {
            by: self.requester.0.load_full(),
            instance,
            oauth: auth.oauth.as_deref().filter(|_| auth.has_tokens()).map(|oauth| {
                let oauth = match &app {
                    Some(app) => app.complete_oauth(oauth, &variables),
                    None => oauth.clone(),
                };
                connection.complete_oauth(oauth, &variables)
            }),
            app,
            app_secret: AppSecret::default(),
            variables,
            scopes: connection.scopes.clone(),
            claims: self.cache.known(&connection.id).and_then(|cell| cell.asked()?.claims),
            references: (
                connection.references.clone(),
                server_of(&connection.org, &connection.references),
            ),
            settings: self.context.token_settings(),
        })
    }

    /// Like [`Self::token_context`], with the app's secrets: responses are searched for the client secret, and the API may
    /// need the certificate. If they cannot be read, the credential can still be used, because no request to the
    /// authorization server needs them here.
    pub(crate) async fn guarded_token_context(
        &self,
        connection: &ConnectionRecord,
    ) -> Result<TokenContext, VaultError> {
        let token_context = self.token_context(connection)?;
        let Some(app) = token_context
            .app
            .as_ref()
            .filter(|app| !app.facts.secrets.is_empty() || !app.references.is_empty())
        else {
            return Ok(token_context);
        };
        let app_secret = match self.last_secret(app).await {
            Ok(secret) => secret,
            Err(error) => {
                tracing::warn!(%error, app = app.name, "its client secret is not looked for in answers");
                AppSecret::default()
            }
        };
        Ok(TokenContext { app_secret, ..token_context })
    }

    /// The credential that the grants give without a request. Responses are searched for `other` too: both
    /// are valid during a rotation.
    pub(crate) fn held(
        &self,
        connection: &ConnectionRecord,
        token_context: &TokenContext,
        grants: StoredGrants<'_>,
    ) -> Result<Option<CachedCredential>, VaultError> {
        if let (Grant::Referred(referred), Some(_)) = (grants.grant, &token_context.oauth) {
            return self.held_token(connection, token_context, referred, grants);
        }
        if let Grant::Referred(referred) = grants.grant {
            return self.held_by_reference(connection, token_context, referred, grants);
        }
        let StoredGrants { grant, other, version } = grants;
        let malformed = |source| self.context.unmintable(connection, source);
        let (instance, generation) = (&token_context.instance, version.0);
        let client = OAuthClient::default();
        let ask = token_context.ask(&client, self.clock.now());
        let client_secret = token_context.client_secret();
        let client_id = token_context.client_id();
        let context = MintContext {
            connection: &connection.id,
            generation,
            instance,
            ask,
            client_secret,
            client_id,
        };
        let mut minted = grant.ready(&context).map_err(malformed)?;
        if let (Some(minted), Some(other)) = (&mut minted, other) {
            let both = minted.credential.needles.and(&other.needles_at(instance));
            minted.credential.needles = Arc::new(both);
        }
        Ok(minted.map(|minted| token_context.held(minted, &self.clock)))
    }

    /// Whether the grant can be renewed by a token request.
    pub(crate) fn renews(&self, token_context: &TokenContext, grant: &Grant) -> bool {
        let is_referred = matches!(grant, Grant::Referred(_));
        is_referred
            || grant
                .is_renewable(token_context.ask(&OAuthClient::default(), self.clock.now()).as_ref())
    }

    /// Whether the provider's file says that such a response means 401.
    pub(crate) fn expired(&self, connection: &ConnectionRecord, status: u16, body: &[u8]) -> bool {
        let catalogue = self.context.catalogue(&connection.org);
        let found = method(&catalogue, &connection.provider, connection.auth.as_deref());
        let expired = found.ok().and_then(|(_, auth)| auth.oauth.as_ref()?.says.expired.as_ref());
        expired.is_some_and(|expired| expired.is(status, body))
    }

    /// The client at its authorization server; the host is the issuer's if the endpoint is unknown.
    pub(crate) fn client_at_server(&self, token_context: &TokenContext) -> ClientAtServer {
        let fetches = token_context.oauth.is_none();
        if let Some(server) = token_context.references.1.clone().filter(|_| fetches) {
            return ClientAtServer { server, client_id: String::new() };
        }
        let client = OAuthClient::default();
        let ask = token_context.ask(&client, self.clock.now());
        let url = ask.and_then(|ask| ask.token_url().ok().or_else(|| ask.issuer()));
        let host = url.and_then(|url| Some(url.parse::<Uri>().ok()?.host()?.to_owned()));
        let client_id =
            token_context.app.as_ref().map(|app| app.client_id.clone()).unwrap_or_default();
        ClientAtServer { server: host.unwrap_or_default(), client_id }
    }

    /// Requests the next grant.
    pub(crate) async fn ask(
        &self,
        connection: &ConnectionRecord,
        token_context: &TokenContext,
        grant: &Grant,
    ) -> Result<Result<Grant, RequestFailure>, VaultError> {
        if let Grant::Referred(referred) = grant {
            let now = self.context.connection(&connection.org, &connection.id)?;
            return match token_context.oauth {
                Some(_) => self.minted_by_reference(&now, token_context, referred).await,
                None => self.fetched(&now, referred).boxed().await,
            };
        }
        let client = match &token_context.app {
            Some(app) => match self.client(app).await {
                Err(VaultError::AppSourceUnavailable { why, source_name, retry_after, .. }) => {
                    return Ok(Err(source_failed(why, source_name, Some(retry_after))));
                }
                client => client?,
            },
            None => OAuthClient::default(),
        };
        let asked = async {
            #[cfg(test)]
            if let Some(script) = token_context.by.as_ref().and_then(|by| by.script.as_ref()) {
                let limit =
                    Bounds::of_refreshes(&token_context.settings).answer.unwrap_or_default();
                return script.asked(connection, grant, limit).await.map(Some);
            }
            grant.renewed(token_context.ask(&client, self.clock.now()).as_ref()).await
        };
        let answer = asked.await;
        if let (Err(MintError::Dead { reason: Dead::ClientRejected, code, .. }), Some(app)) =
            (&answer, &token_context.app)
            && !app.references.is_empty()
        {
            return Ok(Err(self.app_secret_rejected(app, &code.to_string())));
        }
        if let Err(MintError::Unavailable(temporary)) = &answer
            && temporary.ambiguous
        {
            self.flights.refreshes().mark_lost(&connection.id);
        }
        match answer {
            Ok(Some(newer)) => Ok(Ok(newer)),
            Ok(None) => Err(VaultError::NotRefreshable { connection: connection.name.clone() }),
            Err(error) => fault(error, &token_context.settings)
                .map(|failure| Err(failure.of(token_context, grant)))
                .map_err(|source| self.context.unmintable(connection, source)),
        }
    }
}

/// The failure of a token request for which a source gave no secret.
pub(crate) fn source_failed(
    why: String,
    source: String,
    retry_after: Option<Duration>,
) -> RequestFailure {
    let (message, source) = (Some(why), Some(source));
    let failed = FailureDetails { message, source, retry_after, ..FailureDetails::default() };
    RequestFailure::Temporary { failed: Box::new(failed), whole_client: None }
}

/// What of a temporary failure determines the pause.
pub(crate) fn failure_details(temporary: Temporary) -> FailureDetails {
    let message = Some(temporary.to_string());
    let Temporary { code, cause, retry_after, unknown_code, whole_client, ambiguous, said, .. } =
        temporary;
    FailureDetails {
        retry_after,
        code: code.map(|code| code.to_string()),
        cause,
        message,
        said,
        source: None,
        rejected: false,
        unknown_code,
        whole_client,
        ambiguous,
    }
}

pub(crate) fn fault(
    error: MintError,
    settings: &TokenSettings,
) -> Result<RequestFailure, MintError> {
    match error {
        MintError::Dead { reason, code, said } => {
            let reason = match reason {
                Dead::Revoked => BrokenReason::Revoked,
                Dead::NoRefreshToken => BrokenReason::NoRefreshToken,
                Dead::ClientRejected | Dead::RequestRejected => BrokenReason::ClientRejected,
            };
            let verdict =
                GrantVerdict { said, ..GrantVerdict::new(reason, Some(code.to_string())) };
            Ok(RequestFailure::Dead(Box::new(verdict)))
        }
        MintError::Unavailable(temporary) => {
            let failed = failure_details(*temporary);
            let pause = failed.retry_after.unwrap_or(settings.backoff_first);
            let whole_client = failed.whole_client.then(|| pause.min(settings.retry_after_max));
            Ok(RequestFailure::Temporary { failed: Box::new(failed), whole_client })
        }
        malformed @ MintError::Malformed { .. } => Err(malformed),
    }
}

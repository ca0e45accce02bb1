//! [`RelyingParty`]: sign-in of people by OpenID Connect (Core 1.0, code flow with PKCE). It sends a browser to the
//! identity provider, checks its return, and says who the person is and which role they have. The control plane manages
//! users and logins.

mod admission;
mod attempt;
mod error;
mod id_token;
mod signing_keys;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use futures_util::FutureExt;
use oauth2::{CsrfToken, PkceCodeChallenge, PkceCodeVerifier};
use serde_json::{Map, Value};
use tokio::time::error::Elapsed;
use zeroize::Zeroizing;

pub use admission::NotAdmitted;
pub use attempt::ATTEMPT_LIFE;
pub use error::SignInError;
pub use id_token::IdTokenFault;

use self::admission::{admit, lacks_claims, text, verified_email};
use self::attempt::{AttemptKey, SignInAttempt};
use self::id_token::{IdTokenExpectations, VerifiedIdToken, verify};
use self::signing_keys::{IssuerKeys, KeySource};
use crate::Vault;
use crate::grant::AppSecret;
use crate::grant::oauth::{
    ExpectedClaims, Metadata, OAuthClient, RequestContext, Tokens, exchange_code, userinfo_claims,
};
use crate::oauth::authorize::{self, AuthorizationRequest};
use crate::oauth::callback_query::CallbackQuery;
use keyward_base::id::OrgId;
use keyward_base::secret::Secret;
use keyward_base::sign_in::{OidcSettings, SignInRole};
use keyward_base::time::Clock;
use keyward_base::tokens::TokenSettings;
use keyward_model::Identity;
use keyward_net::call::HttpClient;
use keyward_rules::provider::OAuth;
use keyward_rules::provider::oauth::{ClientAuthText, UrlTemplate};

/// The path of the sign-in, below `public_url`.
pub const SIGN_IN: &str = "/login/oidc";

/// The path that the provider sends the browser back to, below `public_url`.
pub const CALLBACK: &str = "/login/oidc/callback";

/// Time limit of each step of a sign-in, because a person waits for it.
const DEADLINE: Duration = Duration::from_secs(10);

/// What a relying party needs.
pub struct RelyingPartyServices {
    pub settings: OidcSettings,
    /// The organisation that people sign in to.
    pub org: OrgId,
    pub client_secret: Secret,
    /// Reads and keeps the provider's metadata.
    pub vault: Arc<Vault>,
    /// The client for authorization servers.
    pub caller: Arc<HttpClient>,
    pub clock: Clock,
    /// Base of the redirect URI, without a trailing slash.
    pub public_url: String,
}

/// Sign-in with one identity provider.
pub struct RelyingParty {
    settings: OidcSettings,
    org: OrgId,
    client: ArcSwap<OAuthClient>,
    vault: Arc<Vault>,
    caller: Arc<HttpClient>,
    clock: Clock,
    redirect_uri: String,
    attempts: AttemptKey,
    keys: IssuerKeys,
}

/// A browser that goes to the provider.
pub struct StartedSignIn {
    /// The authorization URL.
    pub url: String,
    /// The value of the cookie that the browser sends with the callback.
    pub cookie: Zeroizing<String>,
}

/// The callback request of a browser.
pub struct ReturnedBrowser<'a> {
    /// The raw query of the callback.
    pub query: &'a str,
    /// The value of its cookie, if it has one.
    pub cookie: Option<&'a str>,
}

/// A person whom the provider has authenticated.
pub struct AuthenticatedPerson {
    /// Their account.
    pub identity: Identity,
    /// Their role, or why they may not sign in.
    pub admission: Result<SignInRole, NotAdmitted>,
    /// Their address, if the provider vouches for it.
    pub email: Option<String>,
    /// Their name at the provider.
    pub name: Option<String>,
    /// The path that the browser returns to.
    pub to: String,
}

/// The provider for one sign-in.
struct SignInProvider {
    metadata: Arc<Metadata>,
    oauth: OAuth,
    settings: TokenSettings,
}

impl RelyingParty {
    /// Prepares sign-ins; sends no request.
    pub fn new(parts: RelyingPartyServices) -> Self {
        let RelyingPartyServices { settings, org, client_secret, vault, caller, clock, public_url } =
            parts;
        // All replicas share the key, because a load balancer may send the browser back to another replica.
        let shared = vault.directory().shared_key("sign-ins with an identity provider");
        Self {
            client: ArcSwap::from_pointee(oauth_client(&settings, client_secret)),
            redirect_uri: format!("{public_url}{CALLBACK}"),
            attempts: AttemptKey::new(shared.as_deref()),
            keys: IssuerKeys::default(),
            settings,
            org,
            vault,
            caller,
            clock,
        }
    }

    /// The organisation that people sign in to.
    pub fn org(&self) -> &OrgId {
        &self.org
    }

    /// The issuer identifier.
    pub fn issuer(&self) -> &str {
        &self.settings.issuer
    }

    /// The provider's name, for people.
    pub fn name(&self) -> &str {
        &self.settings.name
    }

    /// The redirect URI that is registered at the provider.
    pub fn redirect_uri(&self) -> &str {
        &self.redirect_uri
    }

    /// Authenticates with another secret of its client from now on. The secret of another client, which takes effect at the
    /// next start, is ignored.
    pub fn replace_client_secret(&self, settings: &OidcSettings, client_secret: Secret) {
        let own = &self.settings;
        if (&own.issuer, &own.client_id) == (&settings.issuer, &settings.client_id) {
            self.client.store(Arc::new(oauth_client(own, client_secret)));
        }
    }

    /// Begins a sign-in that returns to a path.
    ///
    /// # Errors
    /// When the provider cannot be used.
    pub async fn begin(&self, to: &str) -> Result<StartedSignIn, SignInError> {
        let work = self.begun(to).boxed();
        self.in_time(tokio::time::timeout(DEADLINE, work).await)
    }

    /// Completes the sign-in of a browser at the callback.
    ///
    /// # Errors
    /// When the browser did not begin it, or the provider does not authenticate a person.
    pub async fn complete(
        &self,
        returned: ReturnedBrowser<'_>,
    ) -> Result<AuthenticatedPerson, SignInError> {
        let callback = CallbackQuery::read(returned.query)?;
        let (state, now) = (callback.state.as_deref(), self.clock.now());
        let attempt = self.attempts.take(returned.cookie, state, now)?;
        let life = Duration::from_secs(ATTEMPT_LIFE.as_secs().unsigned_abs());
        let once = format!("sign-in/{}", attempt.state);
        let is_first = self.vault.directory().claim_once(&once, life).await;
        if !is_first.map_err(|error| SignInError::Store(Box::new(error.into())))? {
            return Err(SignInError::Used);
        }
        let work = self.completed(attempt, callback).boxed();
        self.in_time(tokio::time::timeout(DEADLINE, work).await)
    }

    /// After a failure of the provider, its metadata is read again, because endpoints may have changed.
    fn in_time<T>(&self, done: Result<Result<T, SignInError>, Elapsed>) -> Result<T, SignInError> {
        let done = done.unwrap_or(Err(SignInError::Late));
        if done.as_ref().is_err_and(SignInError::is_of_operator) {
            self.vault.refresh().distrust_metadata(&self.settings.issuer);
        }
        done
    }

    async fn begun(&self, to: &str) -> Result<StartedSignIn, SignInError> {
        let mut provider = self.provider().await?;
        let endpoint = provider.metadata.authorization_endpoint.as_deref();
        let endpoint = endpoint.ok_or(SignInError::Incomplete("authorization endpoint"))?;
        let attempt = self.attempts.begin(to, self.clock.now());
        let verifier = PkceCodeVerifier::new(attempt.verifier.to_string());
        provider.oauth.authorize_params.insert("nonce".to_owned(), attempt.nonce);
        let request = AuthorizationRequest {
            endpoint,
            client_id: &self.settings.client_id,
            redirect_uri: &self.redirect_uri,
            scopes: &self.scopes(),
            state: &CsrfToken::new(attempt.state),
            challenge: Some(PkceCodeChallenge::from_code_verifier_sha256(&verifier)),
            resource: None,
            response_mode: None,
        };
        let url = authorize::url(request, &provider.oauth, &BTreeMap::new());
        let url = url.map_err(SignInError::Url)?;
        Ok(StartedSignIn { url, cookie: attempt.cookie })
    }

    async fn completed(
        &self,
        attempt: SignInAttempt,
        callback: CallbackQuery,
    ) -> Result<AuthenticatedPerson, SignInError> {
        let provider = self.provider().await?;
        // RFC 9207: by simple string comparison, also for errors.
        let is_announced = provider.metadata.authorization_response_iss_parameter_supported;
        match callback.iss {
            Some(iss) if iss != self.settings.issuer => return Err(SignInError::OtherServer),
            None if is_announced => return Err(SignInError::OtherServer),
            _ => {}
        }
        if let Some(error) = callback.error {
            return Err(SignInError::Declined(error));
        }
        let code = callback.code.filter(|code| !code.is_empty()).ok_or(SignInError::Malformed)?;
        let (none, client) = (BTreeMap::new(), self.client.load_full());
        let ask = RequestContext {
            caller: &self.caller,
            settings: &provider.settings,
            oauth: &provider.oauth,
            client: &client,
            variables: &none,
            scopes: &[],
            claims: None,
            now: self.clock.now(),
        };
        let verifier = Secret::from(attempt.verifier.to_string());
        let tokens =
            exchange_code(&ask, &Secret::from(code), &self.redirect_uri, Some(&verifier)).await;
        let tokens = tokens.map_err(SignInError::NoTokens)?;
        let VerifiedIdToken { subject, mut claims } =
            self.verified(&provider, &tokens, &attempt.nonce).await?;
        let is_needed = lacks_claims(&self.settings, &claims);
        // A user is named by the address, also if the settings require none.
        if (is_needed || !claims.contains_key("email")) && provider.oauth.userinfo.is_some() {
            match userinfo_claims(&ask, &tokens.access).await {
                Ok(more) => add_claims(&mut claims, more, &subject)?,
                Err(failure) if is_needed => return Err(SignInError::Userinfo(failure)),
                Err(failure) => tracing::warn!(%failure, "a person signs in without the userinfo"),
            }
        }
        let owned = |text: Option<&str>| text.map(str::to_owned);
        let called = text(&claims, "preferred_username").or_else(|| text(&claims, "email"));
        Ok(AuthenticatedPerson {
            identity: Identity { issuer: self.settings.issuer.clone(), subject },
            admission: admit(&self.settings, &claims),
            email: owned(verified_email(&claims)),
            name: owned(called),
            to: attempt.to,
        })
    }

    /// The claims of the ID token. If its key is unknown, the keys of the issuer are read again, once.
    async fn verified(
        &self,
        provider: &SignInProvider,
        tokens: &Tokens,
        nonce: &str,
    ) -> Result<VerifiedIdToken, SignInError> {
        let token = tokens.id_token.as_ref().ok_or(SignInError::NoIdToken)?;
        let url = provider.metadata.jwks_uri.as_deref();
        let source = KeySource {
            caller: &self.caller,
            url: url.ok_or(SignInError::Incomplete("keys"))?,
            settings: &provider.settings,
            clock: &self.clock,
        };
        let (issuer, client_id) = (self.settings.issuer.as_str(), self.settings.client_id.as_str());
        let claims = ExpectedClaims { issuer, client_id, now: self.clock.now() };
        let expected = IdTokenExpectations { claims, nonce };
        let keys = self.keys.of(&source, false).await?;
        let verified = match verify(token, &keys, &expected) {
            Err(IdTokenFault::UnknownKey) => {
                let keys = self.keys.of(&source, true).await?;
                verify(token, &keys, &expected)
            }
            verified => verified,
        };
        verified.map_err(SignInError::IdToken)
    }

    /// The provider, by its metadata.
    async fn provider(&self) -> Result<SignInProvider, SignInError> {
        let issuer = &self.settings.issuer;
        let settings = TokenSettings {
            // The configuration accepts no other issuer with `http`.
            insecure_loopback: issuer.starts_with("http://"),
            ..TokenSettings::clone(&self.vault.token_settings())
        };
        let metadata = self.vault.refresh().metadata(&self.caller, issuer, &settings).await;
        let metadata = metadata.map_err(SignInError::Metadata)?;
        let url = |url: &Option<String>| url.as_deref().map(UrlTemplate::literal);
        let oauth = OAuth {
            issuer: Some(UrlTemplate::literal(issuer)),
            token: url(&metadata.token_endpoint),
            userinfo: url(&metadata.userinfo_endpoint),
            client_auth: client_auth(&metadata),
            ..OAuth::standard()
        };
        if oauth.token.is_none() {
            return Err(SignInError::Incomplete("token endpoint"));
        }
        Ok(SignInProvider { metadata, oauth, settings })
    }

    fn scopes(&self) -> Vec<String> {
        let mut scopes = self.settings.scopes.clone();
        if !scopes.iter().any(|scope| scope == "openid") {
            scopes.insert(0, "openid".to_owned());
        }
        scopes
    }
}

fn oauth_client(settings: &OidcSettings, client_secret: Secret) -> OAuthClient {
    let secret = AppSecret { client_secret: Some(client_secret), ..AppSecret::default() };
    OAuthClient { id: settings.client_id.clone(), secret, key_id: None }
}

/// Basic, which every server must accept (RFC 6749 §2.3.1), unless the server says that it does not.
fn client_auth(metadata: &Metadata) -> ClientAuthText {
    let has = |method: &str| {
        let all = metadata.token_endpoint_auth_methods_supported.as_ref();
        all.is_some_and(|all| all.iter().any(|known| known == method))
    };
    match has("client_secret_post") && !has("client_secret_basic") {
        true => ClientAuthText::Body,
        false => ClientAuthText::Basic,
    }
}

/// Adds the claims of the userinfo; those of the ID token stay, because they are signed.
fn add_claims(
    claims: &mut Map<String, Value>,
    more: Map<String, Value>,
    subject: &str,
) -> Result<(), SignInError> {
    if text(&more, "sub") != Some(subject) {
        return Err(SignInError::OtherSubject);
    }
    for (name, value) in more {
        claims.entry(name).or_insert(value);
    }
    Ok(())
}

impl fmt::Debug for RelyingParty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RelyingParty")
            .field("issuer", &self.settings.issuer)
            .finish_non_exhaustive()
    }
}

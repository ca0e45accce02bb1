//! What an app's record means for OAuth: its redirect URI, its client authentication, and the provider's endpoints,
//! scopes and parameters with the app's own instead.

use std::collections::BTreeMap;

use keyward_base::id::AppId;
use keyward_rules::provider::oauth::{ClientAuthText, UrlTemplate};
use keyward_rules::provider::{AuthMethod, OAuth};

use super::{App, AppSpec};
use crate::resource::Record;

/// The redirect URI of the app with this id; `public_url` without a slash at its end.
pub fn redirect_uri(app: &AppId, public_url: &str) -> String {
    format!("{public_url}/oauth/callback/{app}")
}

impl AppSpec {
    /// Whether it may request tokens for this auth method of the provider.
    pub fn fits(&self, provider: &str, method: &AuthMethod) -> bool {
        let own = self.provider == provider && method.is_for_app(self.auth.as_deref());
        let oauth = method.oauth.as_ref();
        let shared = oauth.and_then(|oauth| oauth.apps_of.as_ref()) == Some(&self.provider);
        own || shared && method.takes_app()
    }
}

impl Record<App> {
    /// What is to be registered at the provider; `public_url` without a slash at its end.
    pub fn redirect_uri(&self, public_url: &str) -> String {
        redirect_uri(&self.id, public_url)
    }

    /// How its client authenticates. A client without a secret has nothing to authenticate with; `usual` is the
    /// provider's way for the others.
    pub fn client_auth(&self, usual: ClientAuthText) -> ClientAuthText {
        let has_none = self.facts.secrets.iter().all(|name| name == "registration_token");
        let is_public = has_none && self.references.is_empty();
        let otherwise = if is_public { ClientAuthText::None } else { usual };
        self.settings.tokens.client_auth.unwrap_or(otherwise)
    }

    /// The provider's OAuth with what the app configures instead.
    pub fn override_oauth(&self, to: &OAuth) -> OAuth {
        let mut oauth = to.clone();
        let urls = &self.urls;
        for (slot, own) in [
            (&mut oauth.issuer, &urls.issuer),
            (&mut oauth.authorize, &urls.authorize),
            (&mut oauth.token, &urls.token),
            (&mut oauth.device, &urls.device),
            (&mut oauth.revoke, &urls.revoke),
        ] {
            if let Some(url) = own {
                *slot = Some(UrlTemplate::literal(url));
            }
        }
        if urls.token.is_some() {
            // The provider's usual server must not get the app's tokens or secret.
            oauth.renew = None;
            oauth.lengthen = None;
        }
        if urls.authorize.is_some() || urls.token.is_some() {
            oauth.push = None;
        }
        if !self.scopes.is_empty() {
            oauth.scopes.clone_from(&self.scopes);
        }
        let tokens = &self.settings.tokens;
        oauth.authorize_params.extend(tokens.authorize_params.clone());
        oauth.token_params.extend(tokens.token_params.clone());
        oauth.client_auth = self.client_auth(oauth.client_auth);
        oauth
    }

    /// [`Record::override_oauth`], and the endpoints that the issuer named where none is configured.
    pub fn complete_oauth(&self, to: &OAuth, variables: &BTreeMap<String, String>) -> OAuth {
        let mut oauth = self.override_oauth(to);
        let issuer = oauth.issuer.as_ref().and_then(|issuer| issuer.fill(variables).ok());
        if let Some(told) = issuer.and_then(|issuer| self.facts.discovered.get(&issuer)) {
            told.complete(&mut oauth);
        }
        oauth
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use keyward_base::id::OrgId;
    use keyward_rules::provider::{Catalogue, check};

    use super::*;
    use crate::app::{AppFacts, AppUrls};
    use crate::resource::ManagedBy;

    const PROVIDER: &str = "
id: acme
name: Acme
hosts: [api.acme.test]
auth:
  - id: oauth
    kind: oauth2
    authorize: https://auth.acme.test/authorize
    token: https://auth.acme.test/token
    renew: https://auth.acme.test/renew
    lengthen: https://auth.acme.test/longer
    push: https://auth.acme.test/par
";

    #[test]
    fn an_app_that_sets_the_token_url_sends_its_secret_only_there() {
        let provider = check::file("p", PROVIDER, &Catalogue::default()).unwrap().remove(0);
        let usual = provider.auth[0].oauth.clone().unwrap();
        let applied = |urls: AppUrls| {
            let spec = AppSpec { urls, ..AppSpec::default() };
            let (org, now) = (OrgId::default_org(), Timestamp::UNIX_EPOCH);
            let app = Record::<App>::new(&org, ManagedBy::Store, spec, AppFacts::default(), now);
            app.override_oauth(&usual)
        };
        let own = "https://own.acme.test/token";
        let urls = AppUrls { token: Some(own.to_owned()), ..AppUrls::default() };
        let oauth = applied(urls);
        assert_eq!(oauth.renew().map(UrlTemplate::as_str), Some(own));
        assert_eq!((oauth.lengthen, oauth.push), (None, None));
        let oauth = applied(AppUrls::default());
        let at = |url: &str| Some(UrlTemplate::literal(url));
        assert_eq!(oauth.renew, at("https://auth.acme.test/renew"));
        assert_eq!(oauth.lengthen, at("https://auth.acme.test/longer"));
        assert_eq!(oauth.push, at("https://auth.acme.test/par"));
    }
}

//! The apps of consents: which auth methods need an app, and which app a connection uses.

use std::sync::Arc;

use super::Flows;
use super::error::FlowError;
use crate::grant::oauth::OAuthClient;
use keyward_base::id::{AppId, OrgId};
use keyward_rules::provider::AuthMethod;
use keyward_rules::provider::oauth::GrantText;
use keyward_state::directory::{AppRecord, ConnectionRecord};

impl Flows {
    /// Whether connections with this auth method begin with a consent.
    pub fn needs_consent(&self, org: &OrgId, provider: &str, auth: Option<&str>) -> bool {
        let catalogue = self.vault.catalogue(org);
        let found = catalogue.get(provider).and_then(|provider| provider.auth(auth));
        found.is_some_and(AuthMethod::is_consented_to)
    }

    /// Whether connections with this auth method need an app; `given`: the owner provides tokens, which a
    /// client without a secret may renew.
    pub fn needs_app(&self, org: &OrgId, provider: &str, auth: Option<&str>, given: bool) -> bool {
        let catalogue = self.vault.catalogue(org);
        let found = catalogue.get(provider).and_then(|provider| provider.auth(auth));
        let oauth = found.filter(|auth| auth.needs_app());
        oauth.and_then(|auth| auth.oauth.as_ref()).is_some_and(|oauth| match oauth.grant {
            GrantText::AuthorizationCode | GrantText::DeviceCode => !given,
            GrantText::ClientCredentials | GrantText::TokenExchange => true,
            GrantText::JwtBearer => false,
        })
    }

    /// Whether a connection with given fields can use an app: to refresh its tokens.
    pub fn takes_app_with_fields(&self, org: &OrgId, provider: &str, auth: Option<&str>) -> bool {
        let catalogue = self.vault.catalogue(org);
        let found = catalogue.get(provider).and_then(|provider| provider.auth(auth));
        found.is_some_and(AuthMethod::has_tokens)
    }

    /// The app for a new connection: the named one, else the only fitting one; `None` if no app is needed.
    ///
    /// # Errors
    /// When none fits, or several do.
    pub fn find_app(
        &self,
        org: &OrgId,
        provider: &str,
        auth: Option<&str>,
        named: Option<&str>,
    ) -> Result<Option<Arc<AppRecord>>, FlowError> {
        let catalogue = self.vault.catalogue(org);
        let method = catalogue.get(provider).and_then(|provider| provider.auth(auth));
        let Some(method) = method.filter(|auth| auth.oauth.is_some()) else { return Ok(None) };
        let view = self.directory().view();
        let fits = |app: &&Arc<AppRecord>| {
            app.org == *org && app.fits(provider, method) && !app.facts.paused
        };
        let mut fitting = view.apps().filter(fits);
        let shared = method.oauth.as_ref().and_then(|oauth| oauth.apps_of.clone());
        let provider = shared.unwrap_or_else(|| provider.to_owned());
        if let Some(app) = named {
            let mut fitting = fitting.filter(|known| known.name == app || known.id.as_str() == app);
            let app = app.to_owned();
            return fitting
                .next()
                .cloned()
                .map(Some)
                .ok_or(FlowError::UnknownApp { provider, app });
        }
        let first = fitting.next().cloned();
        let others: Vec<_> = fitting.map(|app| app.name.clone()).collect();
        match (first, others.is_empty()) {
            (None, _) => Err(FlowError::NoApp { provider }),
            (first, true) => Ok(first),
            (Some(first), false) => {
                let apps = [vec![first.name.clone()], others].concat().join(", ");
                Err(FlowError::WhichApp { provider, apps })
            }
        }
    }

    pub(super) fn app_of(
        &self,
        connection: &ConnectionRecord,
    ) -> Result<Arc<AppRecord>, FlowError> {
        let view = self.directory().view();
        let provider = connection.provider.clone();
        let id: &AppId = match connection.app_id() {
            Some(id) => id,
            None => return Err(FlowError::NoApp { provider }),
        };
        let app = view.app(&connection.org, id).cloned();
        app.ok_or(FlowError::UnknownApp { provider, app: id.to_string() })
    }

    /// The app as an OAuth client.
    pub(super) async fn client(&self, app: &AppRecord) -> Result<OAuthClient, FlowError> {
        Ok(self.vault.refresh().client(app).await?)
    }
}

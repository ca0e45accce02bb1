//! Apps: OAuth clients that are registered at providers. Their secrets are `vault/`'s, which stores
//! a secret before it puts the record here.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::error::DirectoryError;
use super::index::Named;
use super::rows::{At, Read};
use super::{Directory, Writer, check, to_the_end};
use crate::store::{StoreError, Table, Version};
use keyward_base::id::{AppId, OrgId};
use keyward_model::{AppSettings, AppUrls, ManagedBy, Registered};
use keyward_rules::provider::oauth::{ClientAuthText, UrlTemplate};
use keyward_rules::provider::{AuthMethod, OAuth};

/// Changes come one by one here, so only another replica can be in the way.
const EDIT_TRIES: usize = 5;

/// An OAuth client that is registered at a provider: safe to show.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct AppRecord {
    /// Its id, part of its redirect URI.
    pub id: AppId,
    /// Its org.
    pub org: OrgId,
    /// Unique among the org's apps.
    pub name: String,
    /// Its provider's id.
    pub provider: String,
    /// The id of the provider's way to authenticate that it is for; `None`: any that is OAuth.
    pub auth: Option<String>,
    /// As the provider issued it.
    pub client_id: String,
    /// Asked for when a connection names none; empty: the provider's.
    #[serde(default)]
    pub scopes: Vec<String>,
    /// Variables of the provider's URLs that all of its connections share.
    #[serde(default)]
    pub variables: BTreeMap<String, String>,
    /// Endpoints instead of the provider's.
    #[serde(default)]
    pub urls: AppUrls,
    /// How its tokens are got.
    #[serde(default)]
    pub settings: AppSettings,
    /// What of its secrets is stored, by name; none for a public client.
    #[serde(default)]
    pub secrets: Vec<String>,
    /// Where it registered itself, RFC 7591; `None`: a person did.
    #[serde(default)]
    pub registered: Option<Registered>,
    /// Endpoints that issuers named in their metadata (RFC 8414), by issuer: of those that nobody
    /// configured. Refreshes need them without asking for the metadata.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub discovered: BTreeMap<String, AppUrls>,
    /// Taken out of the file.
    #[serde(default)]
    pub paused: bool,
    /// Who may edit it.
    pub managed_by: ManagedBy,
    /// When it was made.
    pub created: Timestamp,
    /// When it was last changed.
    pub updated: Timestamp,
}

impl AppRecord {
    /// Whether this side may edit it.
    ///
    /// # Errors
    /// [`DirectoryError::ManagedByFile`] when only the file may.
    pub fn editable(&self, by: ManagedBy) -> Result<(), DirectoryError> {
        check::editor(self.managed_by, by, ("app", &self.name))
    }

    /// What is to be registered at the provider; `public_url` without a slash at its end.
    pub fn redirect_uri(&self, public_url: &str) -> String {
        format!("{public_url}/oauth/callback/{}", self.id)
    }

    /// How its client proves itself, where the provider's usual way is `usual`: one without a secret has
    /// nothing to prove itself with.
    pub fn client_auth(&self, usual: ClientAuthText) -> ClientAuthText {
        match self.settings.client_auth {
            Some(chosen) => chosen,
            None if self.secrets.iter().all(|name| name == "registration_token") => {
                ClientAuthText::None
            }
            None => usual,
        }
    }

    /// Whether it may ask for tokens of this way to authenticate of the provider.
    pub fn fits(&self, provider: &str, method: &AuthMethod) -> bool {
        let own = self.provider == provider && self.auth.as_ref().is_none_or(|it| *it == method.id);
        let oauth = method.oauth.as_ref();
        let shared = oauth.and_then(|oauth| oauth.apps_of.as_ref()) == Some(&self.provider);
        oauth.is_some() && (own || shared)
    }

    /// The provider's way with what the app says otherwise.
    pub fn applied(&self, to: &OAuth) -> OAuth {
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
            // Neither its tokens nor its secret are for the provider's usual server.
            oauth.renew = None;
        }
        if !self.scopes.is_empty() {
            oauth.scopes.clone_from(&self.scopes);
        }
        let settings = &self.settings;
        oauth.authorize_params.extend(settings.authorize_params.clone());
        oauth.token_params.extend(settings.token_params.clone());
        oauth.client_auth = self.client_auth(oauth.client_auth);
        oauth
    }
}

impl AppRecord {
    /// [`AppRecord::applied`], and where nobody configured an endpoint, the one that the issuer named.
    pub fn completed(&self, to: &OAuth, variables: &BTreeMap<String, String>) -> OAuth {
        let mut oauth = self.applied(to);
        let issuer = oauth.issuer.as_ref().and_then(|issuer| issuer.fill(variables).ok());
        if let Some(told) = issuer.and_then(|issuer| self.discovered.get(&issuer)) {
            told.complete(&mut oauth);
        }
        oauth
    }
}

impl Directory {
    /// Puts an app; its secret is already stored. Name unique in the org.
    ///
    /// # Errors
    /// When the name is taken or cannot be one.
    pub async fn add_app(&self, record: AppRecord) -> Result<Arc<AppRecord>, DirectoryError> {
        check::app_name(&record.name)?;
        self.write(|writer| async move { writer.add_app(record).await }).await
    }

    /// Changes one in place, as [`Directory::update_connection`] does.
    ///
    /// # Errors
    /// When `change` touches id, org, name, provider or time of making, or there is no such app.
    pub async fn update_app(
        &self,
        org: &OrgId,
        id: &AppId,
        change: &(dyn Fn(&mut AppRecord) + Sync),
    ) -> Result<Arc<AppRecord>, DirectoryError> {
        let at = At::new(Table::Apps, org, id);
        for _ in 0..EDIT_TRIES {
            let writer = self.turn().await;
            let Read { record: before, version } = writer.read_app(&at, id).await?;
            let mut after = before.clone();
            change(&mut after);
            if after == before {
                return Ok(Arc::new(after));
            }
            after.updated = writer.clock.now();
            fixed(&before, &after)?;
            match to_the_end(async move { writer.replace_app(after, version).await }).await {
                Err(error) if error.is_conflict() => {}
                other => return other,
            }
        }
        Err(StoreError::Conflict { table: Table::Apps.name(), key: at.key() }.into())
    }

    /// Removes it.
    ///
    /// # Errors
    /// When there is none, a connection uses it, or the file manages it (and still names it).
    pub async fn remove_app_by(
        &self,
        org: &OrgId,
        id: &AppId,
        by: ManagedBy,
    ) -> Result<(), DirectoryError> {
        let at = At::new(Table::Apps, org, id);
        let id = id.clone();
        self.write(|writer| async move { writer.remove_app(at, id, by).await }).await
    }
}

impl Writer {
    async fn add_app(&self, record: AppRecord) -> Result<Arc<AppRecord>, DirectoryError> {
        self.needs_org(&record.org)?;
        let name = self.index.name(&record.org, Named::App, &record.name);
        self.take_name(&name, &record.id, (Named::App, &record.name)).await?;
        let at = At::new(Table::Apps, &record.org, &record.id);
        let added = self.commit(&at, record, None).await;
        if added.is_err() {
            self.give_back(&[name]).await;
        }
        added
    }

    async fn replace_app(
        &self,
        record: AppRecord,
        over: Version,
    ) -> Result<Arc<AppRecord>, DirectoryError> {
        let at = At::new(Table::Apps, &record.org, &record.id);
        self.commit(&at, record, Some(over)).await
    }

    async fn remove_app(&self, at: At, id: AppId, by: ManagedBy) -> Result<(), DirectoryError> {
        let Read { record, version } = self.read_app(&at, &id).await?;
        if !record.paused {
            record.editable(by)?;
        }
        let view = self.view.load();
        let uses = |c: &&Arc<super::ConnectionRecord>| c.org == at.org && c.app_id() == Some(&id);
        if let Some(connection) = view.connections().find(uses) {
            let (app, connection) = (record.name.clone(), connection.name.clone());
            return Err(DirectoryError::AppInUse { app, connection });
        }
        self.erase(&at, Some(version), |view| view.remove_app(&at.org, &id)).await?;
        let name = self.index.name(&at.org, Named::App, &record.name);
        Ok(self.rows.delete(&name, None).await?)
    }

    /// Reads an app anew; the view follows.
    async fn read_app(&self, at: &At, id: &AppId) -> Result<Read<AppRecord>, DirectoryError> {
        let read = self.rows.read::<AppRecord>(at).await?;
        let seen = self.view.load().app(&at.org, id).cloned();
        match read {
            Some(read) => {
                if seen.as_deref() != Some(&read.record) {
                    self.publish(|view| view.put_app(Arc::new(read.record.clone())));
                }
                Ok(read)
            }
            None => {
                if seen.is_some() {
                    self.publish(|view| view.remove_app(&at.org, id));
                }
                Err(DirectoryError::not_found("app", id))
            }
        }
    }
}

fn fixed(before: &AppRecord, after: &AppRecord) -> Result<(), DirectoryError> {
    let fixed = [
        ("id", before.id != after.id),
        ("org", before.org != after.org),
        ("name", before.name != after.name),
        ("provider", before.provider != after.provider),
        ("time of making", before.created != after.created),
    ];
    match fixed.iter().find(|(_, changed)| *changed) {
        Some((field, _)) => Err(DirectoryError::FixedOfApp(field)),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use keyward_rules::provider::{Catalogue, check};

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
";

    fn app(urls: AppUrls) -> AppRecord {
        AppRecord {
            id: AppId::random(),
            org: OrgId::default_org(),
            name: "own".to_owned(),
            provider: "acme".to_owned(),
            auth: None,
            client_id: "c".to_owned(),
            scopes: Vec::new(),
            variables: BTreeMap::new(),
            urls,
            settings: AppSettings::default(),
            secrets: Vec::new(),
            registered: None,
            discovered: BTreeMap::new(),
            paused: false,
            managed_by: ManagedBy::Store,
            created: Timestamp::UNIX_EPOCH,
            updated: Timestamp::UNIX_EPOCH,
        }
    }

    #[test]
    fn an_app_with_a_token_url_of_its_own_renews_nowhere_else() {
        let provider = check::file("p", PROVIDER, &Catalogue::default()).unwrap().remove(0);
        let usual = provider.auth[0].oauth.clone().unwrap();
        let renews_at = |urls| app(urls).applied(&usual).renew().map(ToString::to_string);
        let own = "https://own.acme.test/token";
        let urls = AppUrls { token: Some(own.to_owned()), ..AppUrls::default() };
        assert_eq!(renews_at(urls).as_deref(), Some(own));
        let renew = "https://auth.acme.test/renew";
        assert_eq!(renews_at(AppUrls::default()).as_deref(), Some(renew));
    }
}

//! Apps: OAuth clients that are registered at providers. Their secrets are `vault/`'s, which stores
//! a secret before it puts the record here.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::error::DirectoryError;
use super::index::Named;
use super::records::{ConnectionRecord, ManagedBy};
use super::rows::{At, Read};
use super::{Directory, Writer, agents, check, to_the_end};
use crate::store::{StoreError, Table, Version};
use keyward_base::id::{AppId, OrgId};
use keyward_base::keys::section;
use keyward_base::settings::{FieldText, Headers, Rate, Retry, Settings, Wait, concurrency};
use keyward_base::time;
use keyward_rules::provider::oauth::{ClientAuthText, UrlTemplate};
use keyward_rules::provider::{AuthMethod, OAuth};

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

section! {
    /// Endpoints of an app, instead of its provider's: https URLs without variables.
    #[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
    #[serde(default, deny_unknown_fields)]
    pub struct AppUrls {
        /// Who the authorization server says it is (RFC 8414, RFC 9207).
        #[key("https URL")]
        #[serde(skip_serializing_if = "Option::is_none")]
        pub issuer: Option<String>,
        /// Where a person consents.
        #[key("https URL")]
        #[serde(skip_serializing_if = "Option::is_none")]
        pub authorize: Option<String>,
        /// Where tokens are fetched.
        #[key("https URL")]
        #[serde(skip_serializing_if = "Option::is_none")]
        pub token: Option<String>,
        /// Device authorization (RFC 8628).
        #[key("https URL")]
        #[serde(skip_serializing_if = "Option::is_none")]
        pub device: Option<String>,
        /// Revocation (RFC 7009).
        #[key("https URL")]
        #[serde(skip_serializing_if = "Option::is_none")]
        pub revoke: Option<String>,
    }
}

section! {
    /// How an app's tokens are got. What is absent is as the provider and `oauth` say.
    #[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
    #[serde(default, deny_unknown_fields)]
    pub struct AppSettings {
        /// How long before its end a token is renewed, up to 24h; half of its life at most.
        #[key("time")]
        #[serde(skip_serializing_if = "Option::is_none", with = "optional_duration")]
        pub refresh_buffer: Option<Duration>,
        /// `false`: tokens are renewed by `keyward connection refresh` alone; one that has ended is refused
        /// until then. Left out, by themselves.
        #[key(one of ["true", "false"])]
        #[serde(skip_serializing_if = "Option::is_none")]
        pub auto_refresh: Option<bool>,
        /// Tokens of connections that nobody uses are renewed this often at least, 6h to 365d, whatever
        /// `oauth.keep_alive` says; `0s`: never.
        #[key("time")]
        #[serde(skip_serializing_if = "Option::is_none", with = "optional_duration")]
        pub keep_alive: Option<Duration>,
        /// Added to the URL that a person consents at, or replacing what the provider adds.
        #[key("map of text to text", "{}")]
        #[serde(skip_serializing_if = "BTreeMap::is_empty")]
        pub authorize_params: BTreeMap<String, String>,
        /// Added to requests for tokens, or replacing what the provider adds.
        #[key("map of text to text", "{}")]
        #[serde(skip_serializing_if = "BTreeMap::is_empty")]
        pub token_params: BTreeMap<String, String>,
        /// How the client proves itself to the token endpoint. Left out, it is the provider's usual way,
        /// and `none` where no secret is given.
        #[key(one of ["body", "basic", "basic_raw", "basic_secret_as_username", "none", "private_key_jwt", "client_secret_jwt", "mtls"])]
        #[serde(skip_serializing_if = "Option::is_none")]
        pub client_auth: Option<ClientAuthText>,
        /// The id that the provider knows the key of `private_key_jwt` by.
        #[key("text")]
        #[serde(skip_serializing_if = "Option::is_none")]
        pub key_id: Option<String>,
        /// `timeout` of its connections, where they name none.
        #[key("time")]
        #[serde(skip_serializing_if = "Option::is_none")]
        pub timeout: Option<Wait>,
        /// `retry` of its connections, where they name none.
        #[key(map of Retry)]
        #[serde(skip_serializing_if = "Option::is_none")]
        pub retry: Option<Retry>,
        /// `rate_limit` of each of its connections, where it names none.
        #[key("count and `/s`, `/min` or `/h`")]
        #[serde(skip_serializing_if = "Option::is_none")]
        pub rate_limit: Option<Rate>,
        /// `concurrency` of each of its connections, where it names none.
        #[key("count, 1 or more")]
        #[serde(deserialize_with = "concurrency", skip_serializing_if = "Option::is_none")]
        pub concurrency: Option<u32>,
        /// `user_agent` of its connections, where they name none.
        #[key("text")]
        #[serde(skip_serializing_if = "Option::is_none")]
        pub user_agent: Option<FieldText>,
        /// `headers` of its connections, beside theirs.
        #[key("map of text to text", "{}")]
        #[serde(skip_serializing_if = "Headers::is_empty")]
        pub headers: Headers,
    }
}

impl AppSettings {
    /// How requests of its connections are sent, where they say nothing themselves.
    pub fn requests(&self) -> Settings {
        Settings {
            timeout: self.timeout,
            retry: self.retry.clone(),
            rate_limit: self.rate_limit,
            concurrency: self.concurrency,
            user_agent: self.user_agent.clone(),
            headers: self.headers.clone(),
        }
    }

    /// These, and where they say nothing what `base` says. Maps are merged by name.
    pub fn over(self, base: Self) -> Self {
        let requests = self.requests().over(&base.requests());
        let merged = |own: BTreeMap<String, String>, base: BTreeMap<String, String>| {
            base.into_iter().chain(own).collect()
        };
        Self {
            refresh_buffer: self.refresh_buffer.or(base.refresh_buffer),
            auto_refresh: self.auto_refresh.or(base.auto_refresh),
            keep_alive: self.keep_alive.or(base.keep_alive),
            authorize_params: merged(self.authorize_params, base.authorize_params),
            token_params: merged(self.token_params, base.token_params),
            client_auth: self.client_auth.or(base.client_auth),
            key_id: self.key_id.or(base.key_id),
            timeout: requests.timeout,
            retry: requests.retry,
            rate_limit: requests.rate_limit,
            concurrency: requests.concurrency,
            user_agent: requests.user_agent,
            headers: requests.headers,
        }
    }
}

/// A dynamic registration, RFC 7591.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Registered {
    /// At whom: its credentials are sent to nobody else.
    pub issuer: String,
    /// When its secret ends.
    pub expires: Option<Timestamp>,
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

impl ConnectionRecord {
    /// Where neither provider nor app says otherwise, the endpoints that the issuer named for this connection.
    pub fn completed(&self, mut oauth: OAuth, variables: &BTreeMap<String, String>) -> OAuth {
        let issuer = oauth.issuer.as_ref().and_then(|issuer| issuer.fill(variables).ok());
        if let Some(told) = self.discovered.as_ref().filter(|told| told.issuer == issuer) {
            told.complete(&mut oauth);
        }
        oauth
    }
}

impl AppUrls {
    /// Names the endpoints that nobody configured.
    fn complete(&self, oauth: &mut OAuth) {
        for (slot, told) in [
            (&mut oauth.authorize, &self.authorize),
            (&mut oauth.token, &self.token),
            (&mut oauth.device, &self.device),
            (&mut oauth.revoke, &self.revoke),
        ] {
            if let (None, Some(url)) = (&slot, told) {
                *slot = Some(UrlTemplate::literal(url));
            }
        }
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
        for _ in 0..agents::EDIT_TRIES {
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
        let uses =
            |c: &&Arc<super::ConnectionRecord>| c.org == at.org && c.app.as_ref() == Some(&id);
        if let Some(connection) = view.connections().find(uses) {
            let (app, connection) = (record.name.clone(), connection.name.clone());
            return Err(DirectoryError::AppInUse { app, connection });
        }
        self.erase(&at, Some(version), |view| view.remove_app(&at.org, &id)).await?;
        let name = self.index.name(&at.org, Named::App, &record.name);
        Ok(self.rows.delete(&name, None).await?)
    }

    /// Reads an app anew; the view follows, as in `read_agent`.
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

/// A time as people write it, or none.
pub(super) mod optional_duration {
    use serde::{Deserialize, Deserializer, Serializer};

    use super::{Duration, time};

    pub(in crate::directory) fn serialize<S: Serializer>(
        of: &Option<Duration>,
        s: S,
    ) -> Result<S::Ok, S::Error> {
        match of {
            Some(of) => s.serialize_str(&time::written(*of)),
            None => s.serialize_none(),
        }
    }

    pub(in crate::directory) fn deserialize<'de, D: Deserializer<'de>>(
        d: D,
    ) -> Result<Option<Duration>, D::Error> {
        let text = Option::<String>::deserialize(d)?;
        let parsed = text.map(|text| time::parse_duration(&text)).transpose();
        // The text is not repeated: it may be a secret in the wrong place.
        parsed.map_err(|_| {
            serde::de::Error::custom(
                "this is no time: write a number and a unit, such as 30s, 2m or 1h",
            )
        })
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

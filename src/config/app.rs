//! `apps:`: OAuth clients that are registered at providers. Each is checked against its provider.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_yaml::Value;

use super::connection::{Providers, provider};
use super::names;
use super::reading::Reading;
use super::secret::SecretSource;
use super::source;
use keyward_base::id::OrgId;
use keyward_base::keys::section;
use keyward_rules::provider::document::{item_of, key_of};
use keyward_state::directory::{AppSettings, AppUrls, ManagedBy};
use keyward_vault::{NewApp, Vault, VaultError};

/// An app of the configuration.
#[derive(Clone, Debug)]
pub struct DeclaredApp {
    /// Its name, unique in its org.
    pub name: String,
    /// Its org.
    pub org: OrgId,
    /// Its provider's id, which the catalogue has.
    pub provider: String,
    /// The method that it is for; `None`: any that is OAuth.
    pub auth: Option<String>,
    /// As the provider issued it.
    pub client_id: String,
    /// What it proves itself with, by name; none for a public client.
    pub secrets: BTreeMap<String, SecretSource>,
    /// Asked for when a connection names none.
    pub scopes: Vec<String>,
    /// Variables of the provider's URLs.
    pub variables: BTreeMap<String, String>,
    /// Endpoints instead of the provider's.
    pub urls: AppUrls,
    /// How its tokens are got.
    pub settings: AppSettings,
    /// Where it stands, for errors: `keyward.yaml:12: apps[0]`.
    pub place: String,
}

section! {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    pub(super) struct AppText {
        /// Unique. 1 to 64 letters, digits or `-_.`.
        #[key("text", required)]
        #[serde(default)]
        name: String,
        /// Its organisation, made when it is first named. Nothing of one exists for another.
        #[key("name of an organisation", "default")]
        org: Option<String>,
        /// Of the catalogue or of `providers`.
        #[key("id of a [provider](providers.md)", required)]
        provider: Option<String>,
        /// The one method of the provider that it is for; left out: any that is OAuth.
        #[key("id of a method")]
        auth: Option<String>,
        /// As the provider issued it.
        #[key("text", required)]
        client_id: Option<String>,
        /// Left out for a public client, which has none.
        #[key("[secret](#secrets)")]
        client_secret: Option<Value>,
        /// In PEM, for `private_key_jwt` and `mtls`.
        #[key("[secret](#secrets)")]
        private_key: Option<Value>,
        /// The chain that goes with the key, in PEM, for `mtls`.
        #[key("[secret](#secrets)")]
        certificate: Option<Value>,
        /// Asked for where a connection names none. Left out, the provider's.
        #[key("list of text", "[]")]
        #[serde(default)]
        scopes: Vec<String>,
        /// What the provider's URLs leave open, such as `tenant`.
        #[key("map of text to text", "{}")]
        #[serde(default)]
        variables: BTreeMap<String, String>,
        /// Endpoints instead of the provider's.
        #[key(map of AppUrls)]
        urls: Option<Value>,
        /// How its tokens are got, and how requests of its connections are sent.
        #[key(map of AppSettings)]
        settings: Option<Value>,
        /// A template of the provider's, such as `google_workspace`: what is left out is as it says.
        #[key("id of a template")]
        template: Option<String>,
    }
}

impl DeclaredApp {
    /// What is to be stored.
    pub fn to_new(&self) -> NewApp {
        NewApp {
            id: None,
            org: self.org.clone(),
            name: self.name.clone(),
            provider: self.provider.clone(),
            auth: self.auth.clone(),
            client_id: self.client_id.clone(),
            scopes: self.scopes.clone(),
            variables: self.variables.clone(),
            urls: self.urls.clone(),
            settings: self.settings.clone(),
            registered: None,
            managed_by: ManagedBy::File,
        }
    }
}

/// Reads `apps:`.
pub(super) fn apps(
    value: Option<&Value>,
    providers: &Providers<'_>,
    reading: &mut Reading<'_>,
) -> Vec<DeclaredApp> {
    let mut found: Vec<DeclaredApp> = Vec::new();
    for (index, item) in reading.items(value, "apps").iter().enumerate() {
        let path = item_of("apps", index);
        let Some(text) = reading.section::<AppText>(Some(item), &path) else { continue };
        let app = app(text, &path, providers, reading);
        let earlier = found.iter().filter(|other| other.org == app.org);
        names::unique(&app.name, earlier.map(|other| other.name.as_str()), &path, reading);
        found.push(app);
    }
    found
}

fn app(
    text: AppText,
    path: &str,
    providers: &Providers<'_>,
    reading: &mut Reading<'_>,
) -> DeclaredApp {
    names::plain(&text.name, path, reading);
    let before = reading.problems.count();
    let app = DeclaredApp {
        org: reading.org(text.org.as_deref(), &key_of(path, "org")),
        provider: reading.required(text.provider, "provider", path),
        client_id: reading.required(text.client_id, "client_id", path),
        secrets: secrets(
            [
                ("client_secret", text.client_secret),
                ("private_key", text.private_key),
                ("certificate", text.certificate),
            ],
            path,
            reading,
        ),
        urls: section(text.urls.as_ref(), path, "urls", reading),
        settings: section(text.settings.as_ref(), path, "settings", reading),
        name: text.name,
        auth: text.auth,
        scopes: text.scopes,
        variables: text.variables,
        place: reading.place(path),
    };
    let app = match &text.template {
        Some(template) => begun_with(app, template, (path, providers), reading),
        None => app,
    };
    let known = provider(&app.provider, path, providers, reading);
    if known.is_some() && reading.problems.count() == before {
        let names: Vec<&str> = app.secrets.keys().map(String::as_str).collect();
        match Vault::check_app(providers.catalogue, &app.to_new(), &names) {
            Ok(()) => {}
            Err(error) => reading.problems.add(&key_of(path, place_of(&error)), error, ""),
        }
    }
    app
}

/// What the app leaves out is as the template says.
fn begun_with(
    app: DeclaredApp,
    template: &str,
    (path, providers): (&str, &Providers<'_>),
    reading: &mut Reading<'_>,
) -> DeclaredApp {
    if providers.catalogue.get(&app.provider).is_none() {
        return app;
    }
    match app.to_new().from_template(providers.catalogue, template) {
        Ok(new) => DeclaredApp { scopes: new.scopes, settings: new.settings, ..app },
        Err(error) => {
            reading.problems.add(&key_of(path, "template"), error, "");
            app
        }
    }
}

fn section<T: serde::de::DeserializeOwned + Default>(
    value: Option<&Value>,
    path: &str,
    key: &str,
    reading: &mut Reading<'_>,
) -> T {
    reading.section(value, &key_of(path, key)).unwrap_or_default()
}

fn secrets(
    given: [(&str, Option<Value>); 3],
    path: &str,
    reading: &mut Reading<'_>,
) -> BTreeMap<String, SecretSource> {
    let mut found = BTreeMap::new();
    for (name, value) in given {
        let Some(value) = value else { continue };
        let source = source::secret(&value, &key_of(path, name), reading);
        found.extend(source.map(|source| (name.to_owned(), source)));
    }
    found
}

/// The key that a refusal is about.
fn place_of(error: &VaultError) -> &'static str {
    match error {
        VaultError::App { field, .. } => field,
        VaultError::UnknownAuth { .. } => "auth",
        VaultError::Form(_) => "variables",
        _ => "provider",
    }
}

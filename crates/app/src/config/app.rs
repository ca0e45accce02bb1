//! `apps:`: OAuth clients that are registered at providers. Each is checked against its provider.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_yaml::Value;

use super::declared::{Declared, InFile};
use super::reading::ConfigReading;
use super::reading::KnownProviders;
use super::secret::SecretSource;
use super::{reading, secret_sources, source};
use keyward_base::keys::section;
use keyward_model::{App, References, Resource};
use keyward_rules::provider::document::key_of;
use keyward_vault::{Lifecycle, VaultError, with_template};

section! {
    /// What an item says beside the spec.
    #[derive(Deserialize)]
    pub struct AppItemKeys {
        /// Absent for a public client, which has none.
        #[key("[secret](#secrets) or `{ from, ref }`")]
        client_secret: Option<Value>,
        /// In PEM, for `private_key_jwt` and `mtls`.
        #[key("[secret](#secrets) or `{ from, ref }`")]
        private_key: Option<Value>,
        /// The chain that goes with the key, in PEM, for `mtls`.
        #[key("[secret](#secrets) or `{ from, ref }`")]
        certificate: Option<Value>,
        /// A template of the provider's, such as `google_workspace`: absent scopes and settings are the
        /// template's.
        #[key("id of a template")]
        template: Option<String>,
    }
}

/// The secrets of a declared app, and what its provider is needed for.
#[derive(Clone, Debug)]
pub struct AppSources {
    /// By name; none for a public client.
    pub sources: BTreeMap<String, SecretSource>,
    /// Those with `from` and `ref`.
    references: References,
    /// Whether all of them could be read.
    is_whole: bool,
    template: Option<String>,
    /// `apps[0]`.
    path: String,
}

impl InFile for App {
    type ItemKeys = AppItemKeys;
    type With = AppSources;

    fn with(
        item_keys: AppItemKeys,
        path: &str,
        reading: &mut ConfigReading<'_>,
    ) -> Option<AppSources> {
        let before = reading.problems.count();
        let given = [
            ("client_secret", item_keys.client_secret),
            ("private_key", item_keys.private_key),
            ("certificate", item_keys.certificate),
        ];
        let (mut sources, mut references) = (BTreeMap::new(), References::new());
        for (name, value) in given {
            let Some(value) = value else { continue };
            let at = key_of(path, name);
            match secret_sources::plain_reference(&value, &at, reading) {
                Some(Some(reference)) => drop(references.insert(name.to_owned(), reference)),
                Some(None) => {}
                None => {
                    let source = source::secret(&value, &at, reading);
                    sources.extend(source.map(|source| (name.to_owned(), source)));
                }
            }
        }
        let is_whole = reading.problems.count() == before;
        let (template, path) = (item_keys.template, path.to_owned());
        Some(AppSources { sources, references, is_whole, template, path })
    }
}

pub(super) fn apps(
    value: Option<&Value>,
    providers: &KnownProviders<'_>,
    reading: &mut ConfigReading<'_>,
) -> Vec<Declared<App>> {
    let mut found = Declared::<App>::read(value, providers, reading);
    for app in &mut found {
        app.spec.references.append(&mut app.with.references);
        reading::check_not_token(&app.spec.name, &app.with.path, reading);
        if providers.catalogue.get(&app.spec.provider).is_some()
            && let Err(error) = completed(app, providers)
        {
            reading.problems.add(&key_of(&app.with.path, place_of(&error)), error, "");
        }
    }
    found
}

/// Applies the template, and checks the app against its provider.
fn completed(app: &mut Declared<App>, providers: &KnownProviders<'_>) -> Result<(), VaultError> {
    let Declared { spec, with, .. } = app;
    if let Some(template) = &with.template {
        *spec = with_template(spec.clone(), providers.catalogue, template)?;
    }
    let names = with.sources.keys().chain(spec.references.keys());
    let secrets: Vec<&str> = names.map(String::as_str).collect();
    // Errors of the spec itself are reported already; this check would repeat them.
    let is_sound = App::refusals(spec).iter().all(|refusal| refusal.field == "name");
    match with.is_whole && is_sound {
        true => Lifecycle::check_app(providers.catalogue, spec, &secrets),
        false => Ok(()),
    }
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

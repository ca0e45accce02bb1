//! `connections:`: declared ones. Each is checked against its provider: the auth method, the fields
//! it wants, which of them are secret, and the variables of its hosts.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use serde::Deserialize;
use serde_yaml::Value;

use super::declared::{Declared, DeclaredByName, InFile};
use super::reading::ConfigReading;
use super::reading::KnownProviders;
use super::secret::SecretSource;
use super::{reading, secret_sources, source};
use keyward_base::id::OrgId;
use keyward_base::keys::section;
use keyward_base::secret::Secret;
use keyward_base::settings::Settings;
use keyward_base::tokens::{KEEP_OLD_MAX, RotationSettings};
use keyward_model::{App, Connection, Reference, References};
use keyward_rules::provider::decode::did_you_mean;
use keyward_rules::provider::document::{item_of, key_of};
use keyward_rules::provider::{AuthMethod, Field, FormError, Provider};
use keyward_vault::PrivatePaths;

section! {
    /// The keys of an item beside those of the spec.
    #[derive(Deserialize)]
    pub struct ConnectionKeys {
        /// What the auth method requires. A field that is not secret may be text; one may be
        /// `{ from: SOURCE, ref: REFERENCE }` for a value of a [secret source](#sources).
        #[key("map of names to [secrets](#secrets)", "{}")]
        #[serde(default)]
        fields: BTreeMap<String, Value>,
    }
}

/// The fields of a declared connection.
#[derive(Clone)]
pub struct DeclaredFields {
    /// All that the auth method requires, by name.
    pub sources: BTreeMap<String, SecretSource>,
    /// As they are in the file, until the auth method is known.
    given: BTreeMap<String, Value>,
    /// `connections[0]`.
    path: String,
}

impl fmt::Debug for DeclaredFields {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.sources.keys()).finish()
    }
}

impl InFile for Connection {
    type ItemKeys = ConnectionKeys;
    type With = DeclaredFields;

    fn with(
        item_keys: ConnectionKeys,
        path: &str,
        _: &mut ConfigReading<'_>,
    ) -> Option<DeclaredFields> {
        let (sources, given) = (BTreeMap::new(), item_keys.fields);
        Some(DeclaredFields { sources, given, path: path.to_owned() })
    }
}

/// A connection under check.
struct ConnectionCheck<'a> {
    path: &'a str,
    org: &'a OrgId,
    provider: &'a Provider,
    auth: &'a AuthMethod,
}

pub(super) fn connections(
    value: Option<&Value>,
    providers: &KnownProviders<'_>,
    apps: &[Declared<App>],
    reading: &mut ConfigReading<'_>,
) -> Vec<Declared<Connection>> {
    let mut found = Declared::<Connection>::read(value, providers, reading);
    for (index, item) in value.and_then(Value::as_sequence).into_iter().flatten().enumerate() {
        let Some(settings) = item.get("settings") else { continue };
        let at = key_of(&item_of("connections", index), "settings");
        reading.no_empty_lists(settings, &["statements", "tables", "functions"], &at);
    }
    let apps = DeclaredByName::of(apps);
    for Declared { org, spec, with, .. } in &mut found {
        let path = with.path.as_str();
        reading::check_not_token(&spec.name, path, reading);
        let Some(provider) = providers.catalogue.get(&spec.provider) else { continue };
        let Some(auth) = auth(spec.auth.as_deref(), path, provider, reading) else { continue };
        let check = ConnectionCheck { path, org, provider, auth };
        check.variables(&spec.variables, reading);
        check.settings(&spec.settings, reading);
        check.app(spec.app.as_ref().map(Reference::as_str), &apps, reading);
        let mut given = std::mem::take(&mut with.given);
        spec.references.extend(check.references(&mut given, reading));
        with.sources = check.fields(&given, &spec.references, reading);
    }
    found
}

pub(super) fn rotation(value: Option<&Value>, reading: &mut ConfigReading<'_>) -> RotationSettings {
    let settings = reading.section::<RotationSettings>(value, "rotation").unwrap_or_default();
    if settings.keep_old > KEEP_OLD_MAX {
        let message = "a former secret is kept for at most 30 days";
        reading.problems.add("rotation.keep_old", message, "write 30d or less");
    }
    settings
}

fn auth<'a>(
    id: Option<&str>,
    path: &str,
    provider: &'a Provider,
    reading: &mut ConfigReading<'_>,
) -> Option<&'a AuthMethod> {
    let at = key_of(path, "auth");
    let Some(auth) = provider.auth(id) else {
        let ids: Vec<&str> = provider.auth.iter().map(|auth| auth.id.as_str()).collect();
        let id = id.unwrap_or_default();
        let remedy = did_you_mean(id, ids.iter().copied())
            .unwrap_or_else(|| format!("write {}", ids.join(" or ")));
        let message = format!("provider `{}` has no auth method `{id}`", provider.id);
        reading.problems.add(&at, message, remedy);
        return None;
    };
    Some(auth)
}

impl ConnectionCheck<'_> {
    fn at(&self, section: &str, key: &str) -> String {
        key_of(&key_of(self.path, section), key)
    }

    fn variables(&self, given: &BTreeMap<String, String>, reading: &mut ConfigReading<'_>) {
        let before = reading.problems.count();
        for (name, value) in given {
            let at = self.at("variables", name);
            match self.provider.variable(name).map(|variable| variable.accept(value)) {
                Some(Ok(_)) => {}
                Some(Err(error)) => reading.problems.add(&at, error, ""),
                None => {
                    let known = self.provider.variables.iter().map(|known| known.name.as_str());
                    let message =
                        format!("provider `{}` has no variable `{name}`", self.provider.id);
                    reading.problems.add(&at, message, suggestion(name, known));
                }
            }
        }
        if reading.problems.count() > before {
            return;
        }
        match self.provider.instantiate(self.auth, given) {
            Ok(_) => {}
            Err(FormError::Missing { name, .. }) => {
                let message = format!("variable `{name}` is missing");
                let remedy = format!("add `variables: {{ {name}: … }}`");
                reading.problems.add(&key_of(self.path, "variables"), message, remedy);
            }
            Err(error) => reading.problems.add(&key_of(self.path, "variables"), error, ""),
        }
    }

    /// An app that is not declared may be in the store, which only the running gateway knows.
    fn app(
        &self,
        name: Option<&str>,
        apps: &DeclaredByName<'_, App>,
        reading: &mut ConfigReading<'_>,
    ) {
        let Some(name) = name else { return };
        let at = key_of(self.path, "app");
        let auth = &self.auth.id;
        if !self.auth.takes_app() {
            let message = format!("auth method `{auth}` is not OAuth: it needs no app");
            return reading.problems.add(&at, message, "remove it");
        }
        let Some(app) = apps.find(self.org, name) else { return };
        if !app.fits(&self.provider.id, self.auth) {
            let message = format!("app `{name}` is not for `{auth}` of {}", self.provider.id);
            reading.problems.add(&at, message, "name one of the same provider");
        }
    }

    fn settings(&self, settings: &Settings, reading: &mut ConfigReading<'_>) {
        if let Some(name) = settings.without_effect(self.provider.usage()) {
            let message = format!("it has no effect on connections of `{}`", self.provider.id);
            reading.problems.add(&self.at("settings", name), message, "remove it");
        }
        for name in settings.headers.names().filter(|name| self.provider.clears.covers(name)) {
            let at = key_of(&self.at("settings", "headers"), name.as_str());
            let message = format!("provider `{}` authenticates with this field", self.provider.id);
            reading.problems.add(&at, message, "give the credential as `fields`");
        }
    }

    /// Takes the fields by reference out of `given`.
    fn references(
        &self,
        given: &mut BTreeMap<String, Value>,
        reading: &mut ConfigReading<'_>,
    ) -> References {
        let mut found = References::new();
        given.retain(|name, value| {
            let at = self.at("fields", name);
            let Some(reference) = secret_sources::plain_reference(value, &at, reading) else {
                return true;
            };
            if self.auth.field(name).is_none() {
                return true;
            }
            found.extend(reference.map(|reference| (name.clone(), reference)));
            false
        });
        found
    }

    fn fields(
        &self,
        given: &BTreeMap<String, Value>,
        references: &References,
        reading: &mut ConfigReading<'_>,
    ) -> BTreeMap<String, SecretSource> {
        let mut found = BTreeMap::new();
        for (name, value) in given {
            let at = self.at("fields", name);
            match self.auth.field(name) {
                Some(field) => {
                    let source = self.field(field, value, &at, reading);
                    found.extend(source.map(|source| (name.clone(), source)));
                }
                // `fields: { SECRET }` reads as a key without a value.
                None if value.is_null() => {
                    let remedy = "write `fields: { NAME: { env: VARIABLE } }`";
                    let path = key_of(self.path, "fields");
                    reading.problems.add(&path, "a field has no value", remedy);
                }
                None => {
                    let known = self.auth.fields.iter().map(|known| known.name.as_str());
                    let message = format!("auth method `{}` has no such field", self.auth.id);
                    reading.problems.add(&at, message, suggestion(name, known));
                }
            }
        }
        for field in &self.auth.fields {
            let is_given = given.contains_key(&field.name) || references.contains_key(&field.name);
            if !field.optional && !is_given {
                let message = format!("field `{}` is missing", field.name);
                let remedy = match field.secret {
                    true => format!("add `fields: {{ {}: {{ env: NAME }} }}`", field.name),
                    false => format!("add `fields: {{ {}: … }}`", field.name),
                };
                reading.problems.add(&key_of(self.path, "fields"), message, remedy);
            }
        }
        found
    }

    fn field(
        &self,
        field: &Field,
        value: &Value,
        path: &str,
        reading: &mut ConfigReading<'_>,
    ) -> Option<SecretSource> {
        let source = match value {
            Value::String(text) if !field.secret && !text.is_empty() => {
                SecretSource::Inline(Secret::from(text.clone()))
            }
            Value::Number(_) | Value::Bool(_) if !field.secret => {
                reading.problems.add(path, "this is not text", "put it in quotes");
                return None;
            }
            _ => source::secret(value, path, reading)?,
        };
        let is_own = |text: &str| {
            let own = PrivatePaths::new(vec![reading.folders.data.clone()]);
            self.auth.file.is_some() && text.starts_with('/') && own.cover(Path::new(text))
        };
        if value.as_str().is_some_and(is_own) {
            let message = "this leads to Keyward's own files, or is a link that leads nowhere";
            reading.problems.add(path, message, "name another file");
            return None;
        }
        if let (Some(text), Some(shape)) = (value.as_str(), &field.pattern)
            && !shape.matches(text)
        {
            let message = format!("this does not look like a `{}`", field.name);
            reading.problems.add(path, message, "copy it again, whole");
        }
        Some(source)
    }
}

/// What to write instead of an unknown `word`.
fn suggestion<'a>(word: &str, known: impl Iterator<Item = &'a str> + Clone) -> String {
    did_you_mean(word, known.clone()).unwrap_or_else(|| {
        match known.collect::<Vec<_>>().join(", ") {
            none if none.is_empty() => "remove it: there is none".into(),
            known => format!("known here: {known}"),
        }
    })
}

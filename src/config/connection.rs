//! `connections:`: declared ones. Each is checked against its provider: the auth method, the fields
//! it wants, which of them are secret, and the variables of its hosts.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde::Deserialize;
use serde_yaml::Value;

use super::app::DeclaredApp;
use super::names;
use super::reading::Reading;
use super::secret::SecretSource;
use super::source;
use keyward_base::id::OrgId;
use keyward_base::keys::section;
use keyward_base::rotation::{KEEP_OLD_MAX, RotationSettings};
use keyward_base::secret::Secret;
use keyward_base::settings::Settings;
use keyward_base::time::{parse_duration, parse_moment};
use keyward_rules::provider::decode::nearest;
use keyward_rules::provider::document::{item_of, key_of};
use keyward_rules::provider::{AuthMethod, Catalogue, Field, FormError, Provider};
use keyward_state::directory::{About, SecretFacts};

/// A connection of the configuration.
#[derive(Clone, Debug)]
pub struct DeclaredConnection {
    /// Its name, unique in its org.
    pub name: String,
    /// Its org.
    pub org: OrgId,
    /// Its provider's id, which the catalogue has.
    pub provider: String,
    /// The auth method's id, which the provider has; `None`: its first.
    pub auth: Option<String>,
    /// Fields by name, all that the auth method requires.
    pub fields: BTreeMap<String, SecretSource>,
    /// Variables of the provider's hosts.
    pub variables: BTreeMap<String, String>,
    /// The name or id of the app that asks for its tokens.
    pub app: Option<String>,
    /// To be asked for instead of the app's or the provider's.
    pub scopes: Vec<String>,
    /// Such as `production`.
    pub environment: Option<String>,
    /// For people.
    pub about: About,
    /// When its secret ends, and how long one is to be used.
    pub secret: SecretFacts,
    /// How its requests are sent.
    pub settings: Settings,
    /// Where it stands, for errors: `keyward.yaml:12: connections[0]`.
    pub place: String,
}

/// What connections are checked against.
pub(super) struct Providers<'a> {
    /// All that are sound.
    pub(super) catalogue: &'a Catalogue,
    /// Ids that `providers:` defines, sound or not.
    pub(super) declared: Vec<&'a str>,
}

section! {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    pub(super) struct ConnectionText {
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
        /// One of the provider's methods; left out: its first.
        #[key("id of a method")]
        auth: Option<String>,
        /// What the method asks for. Fields that are not secret may stand there as text.
        #[key("map of names to [secrets](#secrets)", "{}")]
        #[serde(default)]
        fields: BTreeMap<String, Value>,
        /// What the provider's hosts leave open, such as `shop` of `{shop}.myshopify.com`.
        #[key("map of text to text", "{}")]
        #[serde(default)]
        variables: BTreeMap<String, String>,
        /// A label. Agents of another environment cannot use it.
        #[key("text")]
        environment: Option<String>,
        /// An OAuth client of `apps`.
        #[key("name of an app")]
        app: Option<String>,
        /// To be asked for instead of the app's or the provider's.
        #[key("list of text", "[]")]
        #[serde(default)]
        scopes: Vec<String>,
        /// What it is.
        #[key("text")]
        description: Option<String>,
        /// What it is for.
        #[key("text")]
        purpose: Option<String>,
        /// To find it by.
        #[key("list of text", "[]")]
        #[serde(default)]
        tags: BTreeSet<String>,
        /// When its secret ends; people are reminded 14, 7 and 1 days before.
        #[key("day or time")]
        expires: Option<String>,
        /// How long a secret is to be used, 1d or more; people are reminded in the same way.
        #[key("time")]
        rotate_every: Option<String>,
        /// How requests with its credential are sent.
        #[key(map of Settings)]
        settings: Option<Value>,
    }
}

/// A connection under check.
struct Check<'a> {
    path: &'a str,
    org: &'a OrgId,
    provider: &'a Provider,
    auth: &'a AuthMethod,
}

/// Reads `connections:`.
pub(super) fn connections(
    value: Option<&Value>,
    (providers, apps): (&Providers<'_>, &[DeclaredApp]),
    reading: &mut Reading<'_>,
) -> Vec<DeclaredConnection> {
    let mut found: Vec<DeclaredConnection> = Vec::new();
    for (index, item) in reading.items(value, "connections").iter().enumerate() {
        let path = item_of("connections", index);
        let Some(text) = reading.section::<ConnectionText>(Some(item), &path) else { continue };
        let one = connection(text, &path, (providers, apps), reading);
        let earlier = found.iter().filter(|other| other.org == one.org);
        names::unique(&one.name, earlier.map(|other| other.name.as_str()), &path, reading);
        found.push(one);
    }
    found
}

fn connection(
    text: ConnectionText,
    path: &str,
    (providers, apps): (&Providers<'_>, &[DeclaredApp]),
    reading: &mut Reading<'_>,
) -> DeclaredConnection {
    names::plain(&text.name, path, reading);
    names::environment(text.environment.as_deref(), path, reading);
    let at = key_of(path, "settings");
    let settings = reading.section::<Settings>(text.settings.as_ref(), &at).unwrap_or_default();
    let (about, secret) = said(&text, path, reading);
    let org = reading.org(text.org.as_deref(), &key_of(path, "org"));
    let id = reading.required(text.provider, "provider", path);
    let mut fields = BTreeMap::new();
    if let Some(provider) = provider(&id, path, providers, reading)
        && let Some(auth) = auth(text.auth.as_deref(), path, provider, reading)
    {
        let check = Check { path, org: &org, provider, auth };
        check.variables(&text.variables, reading);
        check.settings(&settings, reading);
        check.app(text.app.as_deref(), apps, reading);
        fields = check.fields(&text.fields, reading);
    }
    DeclaredConnection {
        name: text.name,
        org,
        provider: id,
        auth: text.auth,
        fields,
        variables: text.variables,
        app: text.app,
        scopes: text.scopes,
        environment: text.environment,
        about,
        secret,
        settings,
        place: reading.place(path),
    }
}

/// What is said of it for people, and of its secret.
fn said(text: &ConnectionText, path: &str, reading: &mut Reading<'_>) -> (About, SecretFacts) {
    let (description, purpose) = (text.description.clone(), text.purpose.clone());
    let about = About { description, purpose, tags: text.tags.clone() };
    if let Err(error) = about.check() {
        reading.problems.add(path, error, "");
    }
    let mut secret = SecretFacts::default();
    if let Some(expires) = &text.expires {
        // How long from now on would be another time at each start.
        match parse_moment(expires, Timestamp::UNIX_EPOCH) {
            Ok(at) if at > Timestamp::UNIX_EPOCH => secret.expires = Some(at),
            _ => {
                let (at, message) = (key_of(path, "expires"), "this is no day and no time");
                reading.problems.add(&at, message, "write 2026-01-31 or 2026-01-31T08:00:00Z");
            }
        }
    }
    if let Some(every) = &text.rotate_every {
        secret.rotate_every = parse_duration(every).ok();
        let fits = secret.rotate_every.is_some() && secret.check().is_ok();
        if !fits {
            let message = "this is no time of a day or more";
            reading.problems.add(&key_of(path, "rotate_every"), message, "write 90d");
        }
    }
    (about, secret)
}

/// Reads `rotation:`.
pub(super) fn rotation(value: Option<&Value>, reading: &mut Reading<'_>) -> RotationSettings {
    let settings = reading.section::<RotationSettings>(value, "rotation").unwrap_or_default();
    if settings.keep_old > KEEP_OLD_MAX {
        let message = "after so long nobody remembers which of two secrets was good";
        reading.problems.add("rotation.keep_old", message, "write 30d or less");
    }
    settings
}

pub(super) fn provider<'a>(
    id: &str,
    path: &str,
    providers: &Providers<'a>,
    reading: &mut Reading<'_>,
) -> Option<&'a Provider> {
    let known = providers.catalogue.get(id);
    // One that is defined and wrong has its own problems reported.
    if known.is_none() && !id.is_empty() && !providers.declared.contains(&id) {
        let ids = providers.catalogue.all().map(|provider| &*provider.id);
        let remedy = match nearest(id, ids.chain(providers.declared.iter().copied())) {
            Some(near) => format!("did you mean `{near}`?"),
            None => "define it under `providers:`, or see `keyward provider list`".into(),
        };
        let message = format!("there is no provider `{id}`");
        reading.problems.add(&key_of(path, "provider"), message, remedy);
    }
    known.map(|provider| &**provider)
}

fn auth<'a>(
    id: Option<&str>,
    path: &str,
    provider: &'a Provider,
    reading: &mut Reading<'_>,
) -> Option<&'a AuthMethod> {
    let at = key_of(path, "auth");
    let Some(auth) = provider.auth(id) else {
        let ids: Vec<&str> = provider.auth.iter().map(|auth| auth.id.as_str()).collect();
        let id = id.unwrap_or_default();
        let remedy = match nearest(id, ids.iter().copied()) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("write {}", ids.join(" or ")),
        };
        let message = format!("provider `{}` has no auth method `{id}`", provider.id);
        reading.problems.add(&at, message, remedy);
        return None;
    };
    if let Some(later) = auth.later {
        let message =
            format!("auth method `{}` needs {later}, which is not supported yet", auth.id);
        reading.problems.add(&at, message, "choose another auth method");
        return None;
    }
    Some(auth)
}

impl Check<'_> {
    fn at(&self, section: &str, key: &str) -> String {
        key_of(&key_of(self.path, section), key)
    }

    fn variables(&self, given: &BTreeMap<String, String>, reading: &mut Reading<'_>) {
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
    fn app(&self, name: Option<&str>, apps: &[DeclaredApp], reading: &mut Reading<'_>) {
        let Some(name) = name else { return };
        let at = key_of(self.path, "app");
        let auth = &self.auth.id;
        let Some(oauth) = &self.auth.oauth else {
            let message = format!("auth method `{auth}` is not OAuth: it needs no app");
            return reading.problems.add(&at, message, "remove it");
        };
        let Some(app) = apps.iter().find(|app| app.org == *self.org && app.name == name) else {
            return;
        };
        let own = app.provider == *self.provider.id;
        let for_it = own && app.auth.as_ref().is_none_or(|it| it == auth);
        if !for_it && oauth.apps_of.as_ref() != Some(&app.provider) {
            let message = format!("app `{name}` is not for `{auth}` of {}", self.provider.id);
            reading.problems.add(&at, message, "name one of the same provider");
        }
    }

    fn settings(&self, settings: &Settings, reading: &mut Reading<'_>) {
        for name in settings.headers.names().filter(|name| self.provider.clears.covers(name)) {
            let at = key_of(&self.at("settings", "headers"), name.as_str());
            let message = format!("provider `{}` authenticates with this field", self.provider.id);
            reading.problems.add(&at, message, "give the credential as `fields`");
        }
    }

    fn fields(
        &self,
        given: &BTreeMap<String, Value>,
        reading: &mut Reading<'_>,
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
            if !field.optional && !given.contains_key(&field.name) {
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
        reading: &mut Reading<'_>,
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
    match nearest(word, known.clone()) {
        Some(near) => format!("did you mean `{near}`?"),
        None => match known.collect::<Vec<_>>().join(", ") {
            none if none.is_empty() => "remove it: there is none".into(),
            known => format!("known here: {known}"),
        },
    }
}

//! [`SourceSettings`]: the settings of a source, read and checked as the file of its kind says; and [`CredentialNames`].

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde::de::{DeserializeSeed, Error, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

use super::kind::{Condition, CredentialForm, Pattern, Setting, SourceKind, ValueForm};
use crate::given::{self, MemberName};
use crate::refusal::Refusal;
use crate::webhook::is_postable;
use keyward_base::time::{format_duration, parse_duration};

/// How an address is judged.
const ADDRESS: &str = "must be an https URL without a password, or an http URL of this machine";

/// Settings by name, with the defaults that are stored.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize)]
#[serde(transparent)]
pub struct SourceSettings(BTreeMap<&'static str, Value>);

/// Reads the settings of a kind; `None` for `null`.
pub(super) struct SettingsOf(pub(super) &'static SourceKind);

/// Reads a setting; `None` for `null`.
struct ValueOf(&'static Setting);

/// Credentials of a source: those that it requires, and those that it also takes.
#[derive(Clone, Debug)]
pub struct CredentialNames {
    /// All of them must be given.
    pub required: Vec<&'static str>,
    /// These may be given; `None`: any may.
    pub optional: Option<Vec<&'static str>>,
}

impl SourceSettings {
    /// A text or number.
    pub fn text(&self, name: &str) -> Option<Cow<'_, str>> {
        match self.0.get(name)? {
            Value::String(text) => Some(text.into()),
            Value::Number(number) => Some(number.to_string().into()),
            _ => None,
        }
    }

    /// A list; empty if it is not given.
    pub fn texts(&self, name: &str) -> Vec<String> {
        let items = self.0.get(name).and_then(Value::as_array).into_iter().flatten();
        items.filter_map(Value::as_str).map(ToOwned::to_owned).collect()
    }

    pub fn time(&self, name: &str) -> Option<Duration> {
        parse_duration(&self.text(name)?).ok()
    }

    /// The choices that a form begins with: those of a query, and defaults.
    pub fn chosen(kind: &'static SourceKind, asked: &BTreeMap<String, String>) -> Self {
        let value = |setting: &'static Setting| {
            let is_choice = |text: &&String| setting.choice_names.contains(&text.as_str());
            let text = asked.get(&setting.name).filter(is_choice).or(setting.default.as_ref())?;
            Some((setting.name.as_str(), Value::from(text.as_str())))
        };
        Self(kind.settings.iter().filter_map(value).collect())
    }

    /// Whether they meet the condition, if there is one.
    pub fn meet(&self, condition: Option<&Condition>) -> bool {
        let Some(Condition(text)) = condition else { return true };
        if let Some((name, value)) = text.split_once('=') {
            self.text(name).as_deref() == Some(value)
        } else if let Some((name, part)) = text.split_once('~') {
            self.text(name).is_some_and(|text| text.contains(part))
        } else {
            self.0.contains_key(text.as_str())
        }
    }
}

impl<'de> DeserializeSeed<'de> for SettingsOf {
    type Value = Option<SourceSettings>;

    fn deserialize<D: Deserializer<'de>>(self, d: D) -> Result<Self::Value, D::Error> {
        d.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for SettingsOf {
    type Value = Option<SourceSettings>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map")
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let Self(kind) = self;
        let mut given = BTreeMap::new();
        while let Some(name) = map.next_key_seed(MemberName(kind.names))? {
            let Some(setting) = kind.settings.iter().find(|it| it.name == name) else { continue };
            if given.insert(name, map.next_value_seed(ValueOf(setting))?).is_some() {
                return Err(A::Error::duplicate_field(name));
            }
        }
        let mut settings = BTreeMap::new();
        for setting in &kind.settings {
            let name = setting.name.as_str();
            let given = given.remove(name).flatten();
            match given.or_else(|| setting.default.clone().map(Value::String)) {
                Some(value) => drop(settings.insert(name, value)),
                None if setting.required => return Err(A::Error::missing_field(&setting.name)),
                None => {}
            }
        }
        Ok(Some(SourceSettings(settings)))
    }
}

impl<'de> DeserializeSeed<'de> for ValueOf {
    type Value = Option<Value>;

    fn deserialize<D: Deserializer<'de>>(self, d: D) -> Result<Option<Value>, D::Error> {
        let Self(setting) = self;
        Ok(match setting.value {
            // Forms and commands give it as text.
            ValueForm::Number => match Value::deserialize(d)? {
                Value::Null => None,
                Value::String(text) if text.parse::<u64>().is_ok() => text.parse::<u64>().ok(),
                other => Some(u64::deserialize(other).map_err(D::Error::custom)?),
            }
            .map(Value::from),
            ValueForm::List => Option::<Vec<String>>::deserialize(d)?.map(Value::from),
            ValueForm::Time => {
                let time = given::optional_duration::deserialize(d)?;
                time.map(|time| Value::from(format_duration(time)))
            }
            ValueForm::Text | ValueForm::Url | ValueForm::Path | ValueForm::Connection => {
                let text = Option::<String>::deserialize(d)?;
                let choices = setting.choice_names;
                let is_unknown = |text: &&str| !choices.is_empty() && !choices.contains(text);
                if let Some(unknown) = text.as_deref().filter(is_unknown) {
                    return Err(D::Error::unknown_variant(unknown, choices));
                }
                text.map(Value::from)
            }
        })
    }
}

impl SourceKind {
    pub(super) fn refusals(&self, settings: &SourceSettings) -> Vec<Refusal> {
        let at = |name: &str, rule: &str| Refusal::new(format!("{}.{name}", self.id), rule);
        let refused = self.settings.iter().filter(|setting| !setting.accepts(settings));
        let refused = refused.map(|it| at(&it.name, it.must.as_deref().unwrap_or(ADDRESS)));
        let broken = self
            .rules
            .iter()
            .filter(|rule| settings.meet(Some(&rule.when)) && !settings.meet(Some(&rule.then)));
        refused.chain(broken.map(|rule| at(&rule.at, &rule.must))).collect()
    }

    /// The credentials that it takes with these settings.
    pub fn credential_names(&'static self, settings: &SourceSettings) -> CredentialNames {
        let taken = self.credentials.iter().filter(|it| settings.meet(it.when.as_ref()));
        let (optional, required): (Vec<_>, Vec<_>) = taken.partition(|it| it.optional);
        let names =
            |of: Vec<&'static CredentialForm>| of.iter().map(|it| it.name.as_str()).collect();
        CredentialNames {
            required: names(required),
            optional: (!self.any_credential).then(|| names(optional)),
        }
    }
}

impl Setting {
    fn accepts(&self, settings: &SourceSettings) -> bool {
        let matches = |pattern: &Option<Pattern>, text: &str| {
            pattern.as_ref().is_none_or(|it| it.matches(text))
        };
        match self.value {
            ValueForm::Url => settings.text(&self.name).is_none_or(|text| is_postable(&text)),
            ValueForm::List => {
                let texts = settings.texts(&self.name);
                texts.first().is_some_and(|first| matches(&self.first, first))
                    && texts.iter().all(|text| matches(&self.pattern, text))
            }
            _ => settings.text(&self.name).is_none_or(|text| matches(&self.pattern, &text)),
        }
    }
}

impl CredentialNames {
    /// Why credentials of these names are refused.
    pub fn refusal<'a>(&self, given: impl Iterator<Item = &'a str> + Clone) -> Option<Refusal> {
        let missing = self.required.iter().find(|name| !given.clone().any(|it| it == **name));
        if let Some(name) = missing {
            let rule = format!("must have `{name}`");
            let hint = format!("this kind takes {}", self.required.join(" and "));
            return Some(Refusal::new("credentials", rule).hint(hint));
        }
        let known = [self.required.as_slice(), self.optional.as_deref()?].concat();
        let unknown = given.clone().find(|name| !known.contains(name))?;
        let rule = format!("must not have `{unknown}`");
        Some(Refusal::new("credentials", rule).hint(match known.is_empty() {
            true => "this kind takes none".to_owned(),
            false => format!("this kind takes {}", known.join(", ")),
        }))
    }
}

//! Secret sources: where values of connections' fields are kept outside of Keyward. A field names a source and a
//! reference in it; the vault fetches the value, and stores it sealed until the next one.
//!
//! Sources that read the gateway's own machine can be declared only in the configuration file: an admin of an organisation
//! must not read the gateway's files or run its programs.

mod kind;
mod settings;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::LazyLock;
use std::time::Duration;

use jiff::Timestamp;
use keyward_base::id::SourceId;
use keyward_base::keys::{Absent, Key, Section, Shape, section};
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value, json};

pub use kind::{Condition, LocalOrigin, Pattern, SourceKind, source_kinds};
pub use settings::{CredentialNames, SourceSettings};

use super::given::{self, MemberName};
use super::name;
use super::refusal::{Refusal, failed};
use super::resource::{Kind, Resource};
use super::secret_text::SecretFields;
use kind::ValueForm;
use settings::SettingsOf;

/// 5 minutes: a changed value is used soon, and a source is asked rarely.
const TTL: Duration = Duration::from_secs(300);

/// 1 s: a shorter time would ask the source with nearly every request.
const TTL_MIN: Duration = Duration::from_secs(1);

/// 1 hour: most outages of a source are shorter.
const KEEP: Duration = Duration::from_secs(3_600);

/// 30 days: an older value is no longer the source's.
const KEEP_MAX: Duration = Duration::from_secs(30 * 86_400);

const NAME_MEANING: &str = "Unique. 1 to 64 letters, digits or `-_.`.";

const TTL_MEANING: &str = "How long a fetched value is used before it is fetched again. While it is used, it is \
                           fetched before this time has passed. Default: 5m.";

const KEEP_MEANING: &str = "How long the last value is used after `ttl` while the source cannot be asked. Then \
                            requests are refused with 503 `source_unavailable`. Default: 1h, at most 30d.";

/// Secret sources.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Source {}

/// What a person gives. Exactly one of the kinds.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize)]
pub struct SourceSpec {
    pub name: String,
    /// See [`SourceSpec::ttl`].
    #[serde(with = "given::optional_duration", skip_serializing_if = "Option::is_none")]
    pub ttl: Option<Duration>,
    /// See [`SourceSpec::keep`].
    #[serde(with = "given::optional_duration", skip_serializing_if = "Option::is_none")]
    pub keep: Option<Duration>,
    /// By the ids of kinds.
    #[serde(flatten)]
    kinds: BTreeMap<&'static str, SourceSettings>,
}

/// Reads a spec.
struct SpecVisitor;

/// A time that may be `null`.
#[derive(Deserialize)]
#[serde(transparent)]
struct OptionalTime(#[serde(with = "given::optional_duration")] Option<Duration>);

section! {
    /// What a request may give beside the spec. Sealed at once and never shown.
    #[derive(Debug, Default, Deserialize, JsonSchema)]
    #[serde(default, deny_unknown_fields)]
    pub struct SourceOptions {
        /// The gateway's credentials at the source, such as `token`.
        #[key("map of text to text", "{}")]
        pub credentials: Option<SecretFields>,
    }
}

/// What the gateway adds.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct SourceFacts {
    /// Names of its credentials.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub credentials: Vec<String>,
    /// When its credentials were given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub given: Option<Timestamp>,
}

/// What is shown beside the spec.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct SourceShown {
    /// The key of its kind, such as `vault`.
    pub kind: String,
    /// Names of its credentials.
    pub credentials: Vec<String>,
    /// Connections with fields in it.
    pub connections: Vec<String>,
    /// Apps with secrets in it.
    #[serde(default)]
    pub apps: Vec<String>,
    /// When a value was last fetched since the gateway began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fetched: Option<Timestamp>,
    /// Until then its last values are used, if it gives no newer ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kept_until: Option<Timestamp>,
    /// Failures since then; absent if the last fetch succeeded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failing: Option<SourceFailures>,
}

/// Consecutive failures of a source.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct SourceFailures {
    /// The time of the first.
    pub since: Timestamp,
    /// Their number.
    pub count: u32,
    /// The last one, in words.
    pub message: String,
}

/// The fetched values of a connection.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct FetchedView {
    /// When they were fetched.
    pub at: Timestamp,
    /// When they are fetched again at the latest, if they are used.
    pub until: Timestamp,
    /// Until then they are used while the source cannot be asked.
    pub kept_until: Timestamp,
}

impl Resource for Source {
    type Id = SourceId;
    type Spec = SourceSpec;
    type CreateOptions = SourceOptions;
    type ChangeOptions = SourceOptions;
    type Facts = SourceFacts;
    type Shown = SourceShown;

    const KIND: Kind = Kind { one: "source", article: "a source", many: "sources", max: 100 };
    const FIXED: &[&str] = &["name"];
    const DATED: bool = true;
    /// `version` is that of Vault's key-value engine.
    const VERSIONED: bool = false;

    fn name(spec: &SourceSpec) -> &str {
        &spec.name
    }

    fn refusals(spec: &SourceSpec) -> Vec<Refusal> {
        let mut found = failed([
            name::plain(&spec.name),
            Refusal::unless(spec.ttl() >= TTL_MIN, "ttl", "must be a second or more"),
            Refusal::unless(spec.keep() <= KEEP_MAX, "keep", "must be 30d or less"),
        ]);
        match spec.kinds.iter().collect::<Vec<_>>().as_slice() {
            [(id, settings)] => {
                found.extend(SourceKind::find(id).into_iter().flat_map(|it| it.refusals(settings)));
            }
            _ => {
                let hint = "such as `vault: { address: https://vault.example.com }`";
                let ids: Vec<_> = source_kinds().iter().map(|kind| kind.id.as_str()).collect();
                let (last, others) = ids.split_last().expect("there are kinds");
                let rule = "must have exactly one kind beside it";
                let rule = format!("{rule}: {} or {last}", others.join(", "));
                found.push(Refusal::new("name", rule).hint(hint));
            }
        }
        found
    }
}

impl SourceSpec {
    /// How long a value is used before it is fetched again.
    pub fn ttl(&self) -> Duration {
        self.ttl.unwrap_or(TTL)
    }

    /// How long the last value is used after [`SourceSpec::ttl`].
    pub fn keep(&self) -> Duration {
        self.keep.unwrap_or(KEEP)
    }

    /// Its kind, with its settings; a stored spec has exactly one.
    pub fn kind(&self) -> Option<(&'static SourceKind, &SourceSettings)> {
        let (id, settings) = self.kinds.first_key_value()?;
        Some((SourceKind::find(id)?, settings))
    }

    /// The id of its kind.
    pub fn kind_id(&self) -> &'static str {
        self.kind().map(|(kind, _)| kind.id.as_str()).unwrap_or_default()
    }

    /// Whether its settings are those of the other one, so that credentials go to the same place.
    pub fn has_settings_of(&self, other: &Self) -> bool {
        self.kinds == other.kinds
    }

    /// Whether it reads the gateway's own machine, so that only the configuration file may declare it.
    pub fn is_local(&self) -> bool {
        self.kind().is_some_and(|(kind, settings)| {
            kind.local.is_some() || kind.local_if.is_some() && settings.meet(kind.local_if.as_ref())
        })
    }

    /// The connection whose token is sent.
    pub fn connection(&self) -> Option<Cow<'_, str>> {
        let (kind, settings) = self.kind()?;
        let setting = kind.settings.iter().find(|it| it.value == ValueForm::Connection)?;
        settings.text(&setting.name)
    }

    /// The credentials that it takes.
    pub fn credential_names(&self) -> Option<CredentialNames> {
        self.kind().map(|(kind, settings)| kind.credential_names(settings))
    }
}

// === how it is read and described ===

impl Section for SourceSpec {
    fn keys() -> Vec<Key> {
        let key = |name, words, absent, meaning: &str| {
            let shape = Shape::Value(words, absent);
            Key { name, shape, meaning: meaning.to_owned(), option: None }
        };
        let mut keys = vec![
            key("name", "text", Absent::Required, NAME_MEANING),
            key("ttl", "time", Absent::Nothing, TTL_MEANING),
            key("keep", "time", Absent::Nothing, KEEP_MEANING),
        ];
        keys.extend(source_kinds().iter().map(SourceKind::key));
        keys
    }
}

impl<'de> Deserialize<'de> for SourceSpec {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        d.deserialize_struct("SourceSpec", members(), SpecVisitor)
    }
}

impl<'de> Visitor<'de> for SpecVisitor {
    type Value = SourceSpec;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<SourceSpec, A::Error> {
        let mut spec = SourceSpec::default();
        while let Some(name) = map.next_key_seed(MemberName(members()))? {
            match name {
                "name" => spec.name = map.next_value()?,
                "ttl" => spec.ttl = map.next_value::<OptionalTime>()?.0,
                "keep" => spec.keep = map.next_value::<OptionalTime>()?.0,
                id => {
                    let Some(kind) = SourceKind::find(id) else { continue };
                    let settings = map.next_value_seed(SettingsOf(kind))?;
                    spec.kinds.extend(settings.map(|settings| (id, settings)));
                }
            }
        }
        Ok(spec)
    }
}

/// The names of all members.
fn members() -> &'static [&'static str] {
    static NAMES: LazyLock<Vec<&'static str>> =
        LazyLock::new(|| SourceSpec::keys().iter().map(|key| key.name).collect());
    &NAMES
}

impl JsonSchema for SourceSpec {
    fn schema_name() -> Cow<'static, str> {
        "SourceSpec".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let is_answer = generator.contract().is_serialize();
        let mut schema = object(&Self::keys(), is_answer);
        schema["description"] = json!("What a person gives. Exactly one of the kinds.");
        schema["type"] = json!("object");
        Schema::try_from(schema).expect("an object is a schema")
    }
}

/// The JSON Schema of an object with these members. An answer has members with a default too.
fn object(keys: &[Key], is_answer: bool) -> Value {
    let described = |key: &Key| (key.name.to_owned(), property(key, is_answer));
    let is_required = |key: &&Key| match key.shape {
        Shape::Value(_, absent) | Shape::Choice(_, absent) => match absent {
            Absent::Default(_) => is_answer,
            absent => matches!(absent, Absent::Required),
        },
        _ => false,
    };
    let required: Vec<_> = keys.iter().filter(is_required).map(|key| key.name).collect();
    let properties: Map<_, _> = keys.iter().map(described).collect();
    json!({"properties": properties, "required": required, "additionalProperties": false})
}

fn property(key: &Key, is_answer: bool) -> Value {
    let (mut schema, name, absent) = match key.shape {
        Shape::Members(keys) => (object(keys, is_answer), "object", Absent::Nothing),
        Shape::Choice(words, absent) => (json!({ "enum": words }), "string", absent),
        Shape::Value("list of text", absent) => {
            (json!({"items": {"type": "string"}}), "array", absent)
        }
        Shape::Value("number", absent) => (json!({}), "integer", absent),
        Shape::Value(_, absent) => (json!({}), "string", absent),
        Shape::Map(_) | Shape::List(_) => (json!({}), "object", Absent::Nothing),
    };
    schema["description"] = json!(key.meaning);
    schema["type"] = match absent {
        Absent::Nothing => json!([name, "null"]),
        _ => json!(name),
    };
    if let Absent::Default(text) = absent {
        schema["default"] = json!(text);
    }
    schema
}

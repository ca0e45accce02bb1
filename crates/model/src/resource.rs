//! [`Resource`]: what a declaration says, and [`Record`] and [`Shown`], which follow from it. [`Members`] is a part of
//! a stored row, read from the row's members. serde's `flatten` would read all members into a buffer first; an
//! installation opens a million rows when it starts.

use std::borrow::Cow;
use std::fmt::Debug;
use std::ops::{Deref, DerefMut};

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use jiff::Timestamp;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::value::MapDeserializer;
use serde::de::{DeserializeOwned, Error as _, Visitor};
use serde::ser::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer, forward_to_deserialize_any};
use serde_json::{Error, Map, Value};
use sha2::{Digest, Sha256};

use super::refusal::Refusal;
use keyward_base::id::{Id, OrgId};
use keyward_base::keys::{Section, section};
use keyward_base::names::named_enum;

/// Something that is stored and sent.
pub trait Data: Clone + Debug + Eq + Serialize + DeserializeOwned + Send + Sync + 'static {}

impl<T: Clone + Debug + Eq + Serialize + DeserializeOwned + Send + Sync + 'static> Data for T {}

/// What a request may give beside a spec: secrets and options. No record holds it. Its keys are those of the
/// `section!`, so that input is split by them.
pub trait RequestOptions:
    Debug + DeserializeOwned + JsonSchema + Section + Send + Sync + 'static
{
}

impl<T: Debug + DeserializeOwned + JsonSchema + Section + Send + Sync + 'static> RequestOptions
    for T
{
}

section! {
    /// No members.
    #[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
    pub struct NoMembers {}
}

/// A kind of resource, in words.
#[derive(Clone, Copy, Debug)]
pub struct Kind {
    /// `honeytoken`, in messages, the audit log and paths.
    pub one: &'static str,
    /// `a honeytoken`, in messages.
    pub article: &'static str,
    /// `honeytokens`: the section of the configuration and the path of the API.
    pub many: &'static str,
    /// How many an organisation may have.
    pub max: usize,
}

/// A kind of resource. The type itself has no values.
pub trait Resource: Copy + Debug + Eq + Send + Sync + 'static {
    type Id: Id + Data;
    /// What a person gives: stored, shown, and changed by merge patches (RFC 7396).
    type Spec: Data + JsonSchema + Section;
    /// What a request that adds one may give beside the spec: secrets, options.
    type CreateOptions: RequestOptions;
    /// What a request that changes one may give beside a merge patch of the spec.
    type ChangeOptions: RequestOptions;
    /// What the gateway adds: stored and never given.
    type Facts: Data;
    /// What is shown beside the spec: facts, and what is known while the gateway runs.
    type Shown: Data + JsonSchema;

    /// In words.
    const KIND: Kind;

    /// Keys that the configuration file still takes, each with the member that it is.
    const OLD_KEYS: &[(&str, &str)] = &[];

    /// Members of the spec that a change leaves as they are; another value is refused.
    const FIXED: &[&str] = &[];

    /// Members that only another request, or another member, takes, each with the hint that names it.
    const CHANGED_ELSEWHERE: &[(&str, &str)] = &[];

    /// Members that the gateway writes by itself. They are not part of its version.
    const UNVERSIONED: &[&str] = &[];

    /// Whether it says when it was last changed.
    const DATED: bool = false;

    /// Whether the configuration file may declare it. Otherwise `managed_by` is neither stored nor shown.
    const DECLARABLE: bool = true;

    /// Whether [`Shown::version`] is shown. Not where the spec has a member of that name.
    const VERSIONED: bool = true;

    /// Its name, unique in its organisation.
    fn name(spec: &Self::Spec) -> &str;

    /// Everything that is wrong with a spec, as far as it can be judged alone; empty if nothing is.
    fn refusals(spec: &Self::Spec) -> Vec<Refusal>;

    /// Checks a spec.
    ///
    /// # Errors
    /// With the first of its [`Resource::refusals`].
    fn check(spec: &Self::Spec) -> Result<(), Refusal> {
        Self::refusals(spec).into_iter().next().map_or(Ok(()), Err)
    }

    /// The provider that it names, which must exist.
    fn provider(_: &Self::Spec) -> Option<&str> {
        None
    }

    /// Converts the members of a stored row to those of record, spec and facts, if they differ: an earlier version
    /// wrote the row, or the stored form is not that of the API.
    fn from_row(_row: &mut Map<String, Value>) {}

    /// The inverse of [`Resource::from_row`].
    fn to_row(_row: &mut Map<String, Value>) {}

    /// Takes the names of the members of a stored row that this version does not know, because a newer one wrote them. By
    /// default they have no effect.
    fn take_unknown(_facts: &mut Self::Facts, _names: Vec<String>) {}
}

named_enum! {
    /// Who may edit a resource.
    #[derive(
        Clone, Copy, Debug, Default, Deserialize, Eq, Hash, JsonSchema, Ord, PartialEq, PartialOrd,
        Serialize,
    )]
    pub enum ManagedBy by as_str {
        /// CLI and API.
        #[default]
        Store = "store",
        /// The configuration file.
        File = "file",
    }
}

/// Bytes of the hash that is a version.
const VERSION_BYTES: usize = 16;

/// Members of rows that are not part of a version.
const OF_TOKENS: [&str; 2] = ["tokens", "revoked"];

/// A resource as the directory keeps it. Serialized, it is its row: a flat object of these members and those
/// of spec and facts, as [`Resource::to_row`] leaves it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Record<R: Resource> {
    pub id: R::Id,
    /// Its organisation: nothing of it is seen from another one.
    pub org: OrgId,
    /// What a person gave.
    pub spec: R::Spec,
    /// What the gateway added.
    pub facts: R::Facts,
    /// Who may edit it.
    pub managed_by: ManagedBy,
    /// When it was made.
    pub created: Timestamp,
    /// When it was last changed, of those that are [`Resource::DATED`].
    pub updated: Option<Timestamp>,
}

/// The members of [`Shown`] that every resource has.
#[derive(JsonSchema)]
#[schemars(description = "")]
#[allow(dead_code, reason = "its schema is used")]
struct Own {
    /// Its id.
    id: String,
    /// Who may edit it, of those that the configuration may declare.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    managed_by: Option<ManagedBy>,
    /// When it was made.
    created: Timestamp,
    /// What `If-Match` takes: another one after each change. Not of sources, whose `version` is that of a Vault.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    version: Option<String>,
    /// When it was last changed, of those that say so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    updated: Option<Timestamp>,
}

/// A resource as the API answers with it.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(bound = "")]
pub struct Shown<R: Resource> {
    pub id: R::Id,
    /// What a person gave.
    #[serde(flatten)]
    pub spec: R::Spec,
    /// What is shown beside it.
    #[serde(flatten)]
    pub facts: R::Shown,
    /// Who may edit it, of those that the configuration may declare.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub managed_by: Option<ManagedBy>,
    /// When it was made.
    pub created: Timestamp,
    /// When it was last changed, of those that are [`Resource::DATED`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub updated: Option<Timestamp>,
    /// [`Record::version`], of those that are [`Resource::VERSIONED`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
}

impl<R: Resource> JsonSchema for Shown<R> {
    fn schema_name() -> Cow<'static, str> {
        let words = R::KIND.one.split(' ').map(|word| {
            let (first, rest) = word.split_at(1.min(word.len()));
            format!("{}{rest}", first.to_ascii_uppercase())
        });
        words.collect::<String>().into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let mut all = json_schema!({"type": "object", "properties": {}, "required": []});
        let own = Own::json_schema(generator);
        for part in [own, R::Spec::json_schema(generator), R::Shown::json_schema(generator)] {
            for key in ["properties", "required"] {
                match (all.get_mut(key), part.get(key)) {
                    (Some(Value::Object(all)), Some(Value::Object(more))) => {
                        all.extend(more.clone())
                    }
                    (Some(Value::Array(all)), Some(Value::Array(more))) => all.extend(more.clone()),
                    _ => {}
                }
            }
            // The variants of an enum that is flattened; at most one part has one.
            if let Some(variants) = part.get("oneOf") {
                all.insert("oneOf".to_owned(), variants.clone());
            }
        }
        all
    }
}

impl<R: Resource> Record<R> {
    pub fn new(
        org: &OrgId,
        managed_by: ManagedBy,
        spec: R::Spec,
        facts: R::Facts,
        now: Timestamp,
    ) -> Self {
        Self {
            id: R::Id::random(),
            org: org.clone(),
            spec,
            facts,
            managed_by,
            created: now,
            updated: R::DATED.then_some(now),
        }
    }

    pub fn name(&self) -> &str {
        R::name(&self.spec)
    }

    /// As the API answers with it.
    pub fn shown(&self, facts: R::Shown) -> Shown<R> {
        Shown {
            id: self.id.clone(),
            spec: self.spec.clone(),
            facts,
            managed_by: R::DECLARABLE.then_some(self.managed_by),
            created: self.created,
            updated: self.updated,
            version: R::VERSIONED.then(|| self.version()),
        }
    }

    /// An identifier of this version of the record: 22 characters. It is stable across restarts and changes with the
    /// record, except when a token is issued or revoked, so that this conflicts with no other change of the holder.
    ///
    /// # Panics
    /// When the record has no JSON, in which every record is stored.
    pub fn version(&self) -> String {
        let mut row = serde_json::to_value(self).expect("it is stored as JSON");
        if let Value::Object(members) = &mut row {
            let is_excluded =
                |name: &str| OF_TOKENS.contains(&name) || R::UNVERSIONED.contains(&name);
            members.retain(|name, _| !is_excluded(name));
        }
        let hash = Sha256::digest(row.to_string());
        BASE64_URL_SAFE_NO_PAD.encode(&hash[..VERSION_BYTES])
    }
}

impl<R: Resource> Shown<R> {
    pub fn name(&self) -> &str {
        R::name(&self.spec)
    }

    /// `file` or `store`; empty where only the store may have it.
    pub fn managed_by(&self) -> &'static str {
        self.managed_by.map_or("", ManagedBy::as_str)
    }
}

/// Gives direct access to members of the spec: `record.name`. Facts need their prefix: `record.facts.state`.
impl<R: Resource> Deref for Record<R> {
    type Target = R::Spec;

    fn deref(&self) -> &R::Spec {
        &self.spec
    }
}

impl<R: Resource> DerefMut for Record<R> {
    fn deref_mut(&mut self) -> &mut R::Spec {
        &mut self.spec
    }
}

impl<R: Resource> Deref for Shown<R> {
    type Target = R::Spec;

    fn deref(&self) -> &R::Spec {
        &self.spec
    }
}

// === rows ===

#[derive(Serialize)]
#[serde(bound = "")]
struct Written<'a, R: Resource> {
    id: &'a R::Id,
    org: &'a OrgId,
    #[serde(flatten)]
    spec: &'a R::Spec,
    #[serde(flatten)]
    facts: &'a R::Facts,
    #[serde(skip_serializing_if = "Option::is_none")]
    managed_by: Option<ManagedBy>,
    created: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    updated: Option<Timestamp>,
}

/// The members of a row that every record has.
#[derive(Deserialize)]
#[serde(bound = "")]
struct Head<R: Resource> {
    id: R::Id,
    org: OrgId,
    #[serde(default)]
    managed_by: ManagedBy,
    created: Timestamp,
    #[serde(default)]
    updated: Option<Timestamp>,
}

impl<R: Resource> Serialize for Record<R> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let written = Written::<R> {
            id: &self.id,
            org: &self.org,
            spec: &self.spec,
            facts: &self.facts,
            managed_by: R::DECLARABLE.then_some(self.managed_by),
            created: self.created,
            updated: self.updated,
        };
        match serde_json::to_value(&written) {
            Ok(Value::Object(mut row)) => {
                R::to_row(&mut row);
                row.serialize(serializer)
            }
            Ok(_) => Err(S::Error::custom("a record is no object")),
            Err(error) => Err(S::Error::custom(error)),
        }
    }
}

impl<'de, R: Resource> Deserialize<'de> for Record<R> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut row = Map::deserialize(deserializer)?;
        R::from_row(&mut row);
        let error = D::Error::custom;
        let head = Head::<R>::deserialize(Members(&mut row)).map_err(error)?;
        let spec = R::Spec::deserialize(Members(&mut row)).map_err(error)?;
        let mut facts = R::Facts::deserialize(Members(&mut row)).map_err(error)?;
        R::take_unknown(&mut facts, row.into_iter().map(|(name, _)| name).collect());
        let Head { id, org, managed_by, created, updated } = head;
        Ok(Self { id, org, spec, facts, managed_by, created, updated })
    }
}

/// The members of a row that no other part has taken.
pub(crate) struct Members<'a>(pub(crate) &'a mut Map<String, Value>);

impl<'de> Deserializer<'de> for Members<'_> {
    type Error = Error;

    /// Removes the members that the struct has, and leaves the others for other parts.
    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        let taken = fields.iter().filter_map(|field| self.0.remove_entry(*field));
        visitor.visit_map(MapDeserializer::new(taken))
    }

    /// Gives a copy of all members to a type that deserializes a map and picks the members that it knows.
    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_map(MapDeserializer::new(self.0.clone().into_iter()))
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit
        unit_struct seq tuple tuple_struct map enum identifier ignored_any
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde::Deserialize;
    use serde_json::json;

    use super::*;

    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(deny_unknown_fields)]
    struct Spec {
        name: String,
        #[serde(default)]
        tags: Vec<String>,
    }

    #[derive(Debug, Deserialize, PartialEq)]
    struct Facts {
        state: String,
        #[serde(flatten)]
        more: BTreeMap<String, Value>,
    }

    fn row() -> Map<String, Value> {
        let row = json!({"name": "ci", "state": "active", "tags": ["a"], "count": 1});
        row.as_object().expect("an object").clone()
    }

    #[test]
    fn a_part_takes_its_members_and_leaves_the_others() {
        let mut row = row();
        let spec = Spec::deserialize(Members(&mut row)).expect("all is there");
        assert_eq!(spec, Spec { name: "ci".to_owned(), tags: vec!["a".to_owned()] });
        assert_eq!(Value::Object(row.clone()), json!({"state": "active", "count": 1}));
        let facts = Facts::deserialize(Members(&mut row)).expect("all is there");
        let more = BTreeMap::from([("count".to_owned(), json!(1))]);
        assert_eq!(facts, Facts { state: "active".to_owned(), more });
    }

    #[test]
    fn a_part_that_lacks_a_member_or_has_another_type_is_refused() {
        for (key, value) in [("name", None), ("name", Some(json!(7))), ("tags", Some(json!("a")))] {
            let mut row = row();
            row.remove(key);
            row.extend(value.map(|value| (key.to_owned(), value)));
            Spec::deserialize(Members(&mut row)).expect_err(key);
        }
    }
}

//! [`Declared`]: a resource of the configuration, read generically from its section.

use std::collections::HashMap;
use std::fmt::Debug;
use std::marker::PhantomData;
use std::ops::Deref;

use serde::de::DeserializeOwned;
use serde_yaml::{Mapping, Value};

use super::reading::ConfigReading;
use super::reading::EarlierNames;
use super::reading::KnownProviders;
use keyward_base::id::OrgId;
use keyward_base::keys::{Absent, Key, Section, Shape};
use keyward_base::shared_map;
use keyward_model::{Honeytoken, NoMembers, Resource};
use keyward_rules::provider::decode::did_you_mean;
use keyward_rules::provider::document::{item_of, key_of};

/// A resource that the configuration may declare.
pub trait InFile: Resource {
    /// The members of an item beside the spec and its organisation: secret sources, names of other resources.
    type ItemKeys: DeserializeOwned + Section;
    /// The parsed form of [`Self::ItemKeys`].
    type With: Clone + Debug + Send + Sync;

    /// Parses the members beside the spec of the item at `path`; `None` omits the item, because they are invalid.
    #[doc(hidden)]
    fn with(
        item_keys: Self::ItemKeys,
        path: &str,
        reading: &mut ConfigReading<'_>,
    ) -> Option<<Self as InFile>::With>;
}

impl InFile for Honeytoken {
    type ItemKeys = NoMembers;
    type With = NoMembers;

    fn with(nothing: NoMembers, _: &str, _: &mut ConfigReading<'_>) -> Option<NoMembers> {
        Some(nothing)
    }
}

/// A resource that the configuration declares.
#[derive(Clone, Debug)]
pub struct Declared<R: InFile> {
    pub org: OrgId,
    /// As a person gives it.
    pub spec: R::Spec,
    /// The members beside the spec.
    pub with: <R as InFile>::With,
    /// Where it stands, for errors: `keyward.yaml:12: honeytokens[0]`.
    pub place: String,
}

/// The keys of an item: those of the spec, its organisation, and what stands beside.
pub(super) struct DeclaredItem<R>(PhantomData<R>);

impl<R: InFile> Section for DeclaredItem<R> {
    fn keys() -> Vec<Key> {
        let mut keys = with_org(R::Spec::keys());
        keys.extend(R::ItemKeys::keys());
        keys
    }
}

/// The keys of an item with `org` behind the name.
pub(super) fn with_org(mut keys: Vec<Key>) -> Vec<Key> {
    let org = Key {
        name: "org",
        shape: Shape::Value("name of an organisation", Absent::Default("default")),
        meaning: "Its organisation, made when it is first named.".to_owned(),
        option: None,
    };
    keys.insert(1.min(keys.len()), org);
    keys
}

/// Reads the `org` of an item.
pub(super) fn org_of(org: Option<&Value>, path: &str, reading: &mut ConfigReading<'_>) -> OrgId {
    let at = key_of(path, "org");
    let org: Option<String> = reading.section(org, &at);
    reading.org(org.as_deref(), &at)
}

impl<R: InFile> Deref for Declared<R> {
    type Target = R::Spec;

    fn deref(&self) -> &R::Spec {
        shared_map::increment();
        &self.spec
    }
}

/// The declared resources of one kind by organisation and name.
pub struct DeclaredByName<'a, R: InFile>(HashMap<(&'a OrgId, &'a str), &'a Declared<R>>);

impl<'a, R: InFile> DeclaredByName<'a, R> {
    /// Of two with the same name, which the reading of the file refuses, the later one.
    pub fn of(all: &'a [Declared<R>]) -> Self {
        Self(all.iter().map(|it| ((&it.org, it.name()), it)).collect())
    }

    /// The one with this name.
    pub fn find(&self, org: &OrgId, name: &str) -> Option<&'a Declared<R>> {
        self.0.get(&(org, name)).copied()
    }
}

impl<R: InFile> Declared<R> {
    /// Its name, unique in its organisation.
    pub fn name(&self) -> &str {
        R::name(self)
    }

    /// Reads a section. Items with problems are omitted.
    pub(super) fn read(
        section: Option<&Value>,
        providers: &KnownProviders<'_>,
        reading: &mut ConfigReading<'_>,
    ) -> Vec<Self> {
        let (mut found, mut earlier) = (Vec::<Self>::new(), EarlierNames::default());
        for (index, item) in reading.items(section, R::KIND.many).iter().enumerate() {
            let path = item_of(R::KIND.many, index);
            let Some(declared) = Self::read_item(item, &path, reading) else { continue };
            earlier.add(&declared.org, declared.name(), &path, reading);
            if let Some(id) = R::provider(&declared.spec) {
                known(id, &key_of(&path, "provider"), providers, reading);
            }
            found.push(declared);
        }
        found
    }

    fn read_item(item: &Value, path: &str, reading: &mut ConfigReading<'_>) -> Option<Self> {
        let mut item = item.clone();
        let mut item_keys = Mapping::new();
        let mut org = None;
        if let Some(keys) = item.as_mapping_mut() {
            renamed(keys, R::OLD_KEYS);
            without_unknown(keys, &DeclaredItem::<R>::keys(), path, reading);
            org = keys.remove("org");
            for key in R::ItemKeys::keys() {
                if let Some(value) = keys.remove(key.name) {
                    item_keys.insert(key.name.into(), value);
                }
            }
        }
        let org = org_of(org.as_ref(), path, reading);
        let spec: Option<R::Spec> = reading.section(Some(&item), path);
        if let Some(spec) = &spec {
            Self::check(spec, &item, path, reading);
        }
        let item_keys: Option<R::ItemKeys> =
            reading.section(Some(&Value::Mapping(item_keys)), path);
        let with = R::with(item_keys?, path, reading)?;
        Some(Self { org, spec: spec?, with, place: reading.place(path) })
    }

    /// Checks the spec. The file must have some keys that a request may omit.
    fn check(spec: &R::Spec, item: &Value, path: &str, reading: &mut ConfigReading<'_>) {
        let keys = R::Spec::keys();
        let missing = keys.iter().find(|key| is_required(key) && item.get(key.name).is_none());
        if let Some(Key { name, .. }) = missing {
            let message = format!("`{name}` is missing");
            reading.problems.add(path, message, format!("add `{name}:`"));
            return;
        }
        for refusal in R::refusals(spec) {
            let (at, message) = (key_of(path, &refusal.field), refusal.to_string());
            let is_there =
                refusal.field.contains(['.', '[']) || item.get(&*refusal.field).is_some();
            let remedy = refusal.hint.unwrap_or_else(|| match is_there {
                true => "write another one".to_owned(),
                false => format!("add `{}:`", refusal.field),
            });
            reading.problems.add(&at, message, remedy);
        }
    }
}

fn is_required(key: &Key) -> bool {
    matches!(key.shape, Shape::Value(_, Absent::Required) | Shape::Choice(_, Absent::Required))
}

/// Reports unknown keys, with all keys of an item: its parts, which are parsed separately, know only their own keys.
fn without_unknown(item: &mut Mapping, known: &[Key], path: &str, reading: &mut ConfigReading<'_>) {
    let names: Vec<_> = known.iter().map(|key| key.name).collect();
    item.retain(|key, _| {
        let Some(key) = key.as_str().filter(|key| !names.contains(key)) else { return true };
        let remedy = did_you_mean(key, names.iter().copied())
            .unwrap_or_else(|| format!("known here: {}", names.join(", ")));
        reading.problems.add(&key_of(path, key), format!("unknown key `{key}`"), remedy);
        false
    });
}

/// Renames former keys to present ones, unless both exist.
fn renamed(keys: &mut Mapping, old: &[(&str, &str)]) {
    for (before, now) in old {
        if !keys.contains_key(*now)
            && let Some(value) = keys.remove(*before)
        {
            keys.insert((*now).into(), value);
        }
    }
}

/// Reports a provider that does not exist.
pub(super) fn known(
    id: &str,
    path: &str,
    providers: &KnownProviders<'_>,
    reading: &mut ConfigReading<'_>,
) {
    if providers.catalogue.get(id).is_some() || providers.declared.contains(&id) {
        return;
    }
    let ids = providers.catalogue.ids();
    let see = || "define it under `providers:`, or see `keyward provider list`".to_owned();
    let known = ids.chain(providers.declared.iter().copied());
    let remedy = did_you_mean(id, known).unwrap_or_else(see);
    reading.problems.add(path, format!("there is no provider `{id}`"), remedy);
}

//! [`Declared`]: a resource of the configuration, read generically from its section.

use std::marker::PhantomData;

use serde::de::DeserializeOwned;
use serde_yaml::{Mapping, Value};

use super::connection::Providers;
use super::names;
use super::reading::Reading;
use keyward_base::id::OrgId;
use keyward_base::keys::{Absent, Key, Section, Shape};
use keyward_model::{Nothing, Resource};
use keyward_rules::provider::decode::nearest;
use keyward_rules::provider::document::{item_of, key_of};

/// A resource that the configuration declares, with what the file gives beside its spec.
#[derive(Clone, Debug)]
pub struct Declared<R: Resource, B = Nothing> {
    /// Its organisation.
    pub org: OrgId,
    /// As a person gives it.
    pub spec: R::Spec,
    /// What the file gives beside it: secrets, and what is bound to it.
    pub beside: B,
    /// Where it stands, for errors: `keyward.yaml:12: honeytokens[0]`.
    pub place: String,
}

/// The keys of an item: those of the spec, its organisation, and those that stand beside the spec.
pub(super) struct Item<R, T = Nothing>(PhantomData<(R, T)>);

impl<R: Resource, T: Section> Section for Item<R, T> {
    fn keys() -> Vec<Key> {
        let mut keys = R::Spec::keys();
        let org = Key {
            name: "org",
            shape: Shape::Value("name of an organisation", Absent::Means("default")),
            meaning: "Its organisation, made when it is first named.".to_owned(),
        };
        keys.insert(1.min(keys.len()), org);
        keys.extend(T::keys());
        keys
    }
}

impl<R: Resource> Declared<R> {
    /// Reads a section. Items with problems are left out.
    pub(super) fn read(
        section: Option<&Value>,
        providers: &Providers<'_>,
        reading: &mut Reading<'_>,
    ) -> Vec<Self> {
        Self::read_with(section, providers, reading, |item, _, _| item)
    }
}

impl<R: Resource, B> Declared<R, B> {
    /// Its name, unique in its organisation.
    pub fn name(&self) -> &str {
        R::name(&self.spec)
    }

    /// Reads a section whose items have the keys of `T` beside the spec. `finish` checks an item at its path
    /// and makes of those keys what is declared.
    pub(super) fn read_with<T: Section + DeserializeOwned>(
        section: Option<&Value>,
        providers: &Providers<'_>,
        reading: &mut Reading<'_>,
        finish: impl Fn(Declared<R, T>, &str, &mut Reading<'_>) -> Self,
    ) -> Vec<Self> {
        let mut found: Vec<Self> = Vec::new();
        for (index, item) in reading.items(section, R::KIND.many).iter().enumerate() {
            let path = item_of(R::KIND.many, index);
            let Some(declared) = Declared::read_item(item, &path, reading) else { continue };
            let declared = finish(declared, &path, reading);
            let earlier = found.iter().filter(|other| other.org == declared.org);
            names::unique(declared.name(), earlier.map(Self::name), &path, reading);
            if let Some(id) = R::provider(&declared.spec) {
                known(id, &key_of(&path, "provider"), providers, reading);
            }
            found.push(declared);
        }
        found
    }
}

impl<R: Resource, T: Section + DeserializeOwned> Declared<R, T> {
    fn read_item(item: &Value, path: &str, reading: &mut Reading<'_>) -> Option<Self> {
        let mut item = item.clone();
        let mut beside = Mapping::new();
        let org = match item.as_mapping_mut() {
            Some(keys) => {
                renamed(keys, R::OLD_KEYS);
                for key in T::keys() {
                    beside.extend(keys.remove(key.name).map(|value| (key.name.into(), value)));
                }
                keys.remove("org")
            }
            None => None,
        };
        let org: Option<String> = reading.section(org.as_ref(), &key_of(path, "org"));
        let org = reading.org(org.as_deref(), &key_of(path, "org"));
        let spec: Option<R::Spec> = reading.section(Some(&item), path);
        let beside: Option<T> = reading.section(Some(&Value::Mapping(beside)), path);
        let (spec, beside) = (spec?, beside?);
        if let Err(refusal) = R::check(&spec) {
            let (at, message) = (key_of(path, &refusal.field), refusal.to_string());
            let remedy = refusal.hint.as_deref().unwrap_or("write another one");
            reading.problems.add(&at, message, remedy);
        }
        Some(Self { org, spec, beside, place: reading.place(path) })
    }
}

/// Keys of before stand for those of now, unless both are there.
fn renamed(keys: &mut Mapping, old: &[(&str, &str)]) {
    for (before, now) in old {
        if !keys.contains_key(*now)
            && let Some(value) = keys.remove(*before)
        {
            keys.insert((*now).into(), value);
        }
    }
}

fn known(id: &str, path: &str, providers: &Providers<'_>, reading: &mut Reading<'_>) {
    if providers.catalogue.get(id).is_some() || providers.declared.contains(&id) {
        return;
    }
    let ids = providers.catalogue.all().map(|provider| &*provider.id);
    let remedy = match nearest(id, ids.chain(providers.declared.iter().copied())) {
        Some(near) => format!("did you mean `{near}`?"),
        None => "define it under `providers:`, or see `keyward provider list`".to_owned(),
    };
    reading.problems.add(path, format!("there is no provider `{id}`"), remedy);
}

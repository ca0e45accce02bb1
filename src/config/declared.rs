//! [`Declared`]: a resource of the configuration, read generically from its section.

use std::marker::PhantomData;

use serde_yaml::{Mapping, Value};

use super::connection::Providers;
use super::names;
use super::reading::Reading;
use keyward_base::id::OrgId;
use keyward_base::keys::{Absent, Key, Section, Shape};
use keyward_model::Resource;
use keyward_rules::provider::decode::nearest;
use keyward_rules::provider::document::{item_of, key_of};

/// A resource that the configuration declares.
#[derive(Clone, Debug)]
pub struct Declared<R: Resource> {
    /// Its organisation.
    pub org: OrgId,
    /// As a person gives it.
    pub spec: R::Spec,
    /// Where it stands, for errors: `keyward.yaml:12: honeytokens[0]`.
    pub place: String,
}

/// The keys of an item: those of the spec, and its organisation.
pub(super) struct Item<R>(PhantomData<R>);

impl<R: Resource> Section for Item<R> {
    fn keys() -> Vec<Key> {
        let mut keys = R::Spec::keys();
        let org = Key {
            name: "org",
            shape: Shape::Value("name of an organisation", Absent::Means("default")),
            meaning: "Its organisation, made when it is first named.".to_owned(),
        };
        keys.insert(1.min(keys.len()), org);
        keys
    }
}

impl<R: Resource> Declared<R> {
    /// Its name, unique in its organisation.
    pub fn name(&self) -> &str {
        R::name(&self.spec)
    }

    /// Reads a section. Items with problems are left out.
    pub(super) fn read(
        section: Option<&Value>,
        providers: &Providers<'_>,
        reading: &mut Reading<'_>,
    ) -> Vec<Self> {
        let mut found: Vec<Self> = Vec::new();
        for (index, item) in reading.items(section, R::KIND.many).iter().enumerate() {
            let path = item_of(R::KIND.many, index);
            let Some(declared) = Self::read_item(item, &path, reading) else { continue };
            let earlier = found.iter().filter(|other| other.org == declared.org);
            names::unique(declared.name(), earlier.map(Self::name), &path, reading);
            if let Some(id) = R::provider(&declared.spec) {
                known(id, &key_of(&path, "provider"), providers, reading);
            }
            found.push(declared);
        }
        found
    }

    fn read_item(item: &Value, path: &str, reading: &mut Reading<'_>) -> Option<Self> {
        let mut item = item.clone();
        let org = match item.as_mapping_mut() {
            Some(keys) => {
                renamed(keys, R::OLD_KEYS);
                keys.remove("org")
            }
            None => None,
        };
        let org: Option<String> = reading.section(org.as_ref(), &key_of(path, "org"));
        let org = reading.org(org.as_deref(), &key_of(path, "org"));
        let spec: R::Spec = reading.section(Some(&item), path)?;
        if let Err(refusal) = R::check(&spec) {
            let (at, message) = (key_of(path, refusal.field), refusal.to_string());
            reading.problems.add(&at, message, "write another one");
        }
        Some(Self { org, spec, place: reading.place(path) })
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

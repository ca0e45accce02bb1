//! `sources:`: where values of connections' fields are kept. How the file names secrets of its own is in `source.rs`.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_yaml::Value;

use super::declared::{Declared, InFile};
use super::reading::ConfigReading;
use super::reading::KnownProviders;
use super::secret::SecretSource;
use super::source;
use keyward_base::keys::section;
use keyward_model::{FieldReference, LocalOrigin, Source};
use keyward_rules::provider::document::key_of;

section! {
    /// What stands beside the spec of a source.
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    #[doc(hidden)]
    pub struct SourceItemKeys {
        /// What Keyward proves itself with at the source, by the names that its kind lists. For `command`, environment
        /// variables of the program.
        #[key("map of names to [secrets](#secrets)", "{}")]
        #[serde(default)]
        credentials: BTreeMap<String, Value>,
    }
}

/// Where the credentials of a source are.
#[derive(Clone, Debug)]
pub struct SourceCredentials {
    pub sources: BTreeMap<String, SecretSource>,
}

impl InFile for Source {
    type ItemKeys = SourceItemKeys;
    type With = SourceCredentials;

    fn with(
        item_keys: SourceItemKeys,
        path: &str,
        reading: &mut ConfigReading<'_>,
    ) -> Option<SourceCredentials> {
        let at = key_of(path, "credentials");
        let mut sources = BTreeMap::new();
        for (name, value) in &item_keys.credentials {
            let source = source::secret(value, &key_of(&at, name), reading)?;
            sources.insert(name.clone(), source);
        }
        Some(SourceCredentials { sources })
    }
}

pub(super) fn sources(
    value: Option<&Value>,
    providers: &KnownProviders<'_>,
    reading: &mut ConfigReading<'_>,
) -> Vec<Declared<Source>> {
    let mut found = Declared::<Source>::read(value, providers, reading);
    for Declared { spec, with, .. } in &mut found {
        let env = spec.kind().filter(|(kind, _)| kind.local == Some(LocalOrigin::Variables));
        for name in env.map(|(_, settings)| settings.texts("names")).unwrap_or_default() {
            with.sources.insert(name.clone(), SecretSource::Env(name));
        }
    }
    found
}

/// The same; one that cannot be a reference is a problem.
pub(super) fn plain_reference(
    value: &Value,
    path: &str,
    reading: &mut ConfigReading<'_>,
) -> Option<Option<FieldReference>> {
    let found = reference(value, path, reading)?;
    if found.as_ref().is_some_and(|found| !found.is_plain()) {
        let message = "`ref` must be 1 to 1024 characters on one line";
        reading.problems.add(path, message, "write another one");
        return Some(None);
    }
    Some(found)
}

/// A field by reference: `{ from: SOURCE, ref: REFERENCE }`; `None`: it is none.
pub(super) fn reference(
    value: &Value,
    path: &str,
    reading: &mut ConfigReading<'_>,
) -> Option<Option<FieldReference>> {
    value.get("from")?;
    Some(reading.section(Some(value), path))
}

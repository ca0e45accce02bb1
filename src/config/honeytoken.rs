//! `honeytokens:`: bait that is made when it is first named.

use serde::Deserialize;
use serde_yaml::Value;

use super::connection::Providers;
use super::names;
use super::reading::Reading;
use crate::base::id::OrgId;
use crate::base::keys::section;
use crate::provider::decode::nearest;
use crate::provider::document::{item_of, key_of};

/// A honeytoken of the configuration. Its text is made by the store.
#[derive(Clone, Debug)]
pub struct DeclaredHoneytoken {
    /// Its name, unique in its org.
    pub name: String,
    /// Its org.
    pub org: OrgId,
    /// In the shape of this provider's keys.
    pub provider: Option<String>,
    /// Whether the token of the agent that sends it is revoked.
    pub revokes: bool,
    /// Where it stands, for errors: `keyward.yaml:12: honeytokens[0]`.
    pub place: String,
}

section! {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    pub(super) struct HoneytokenText {
        /// Unique: where it is left. 1 to 64 letters, digits or `-_.`. `keyward honeytoken show` tells the
        /// text, which stays the same as long as the name stands here.
        #[key("text", required)]
        #[serde(default)]
        name: String,
        /// Its organisation, made when it is first named: only its agents raise an alarm.
        #[key("name of an organisation", "default")]
        org: Option<String>,
        /// Its text is in the shape of this provider's keys. Another provider makes another text.
        #[key("id of a [provider](providers.md)")]
        provider: Option<String>,
        /// Whether the token of the agent that sends it is revoked. An agent whose token stands in this file
        /// is paused, until somebody resumes it.
        #[key(one of ["true", "false"], "false")]
        #[serde(default)]
        revoke: bool,
    }
}

/// Reads `honeytokens:`.
pub(super) fn honeytokens(
    value: Option<&Value>,
    providers: &Providers<'_>,
    reading: &mut Reading<'_>,
) -> Vec<DeclaredHoneytoken> {
    let mut found: Vec<DeclaredHoneytoken> = Vec::new();
    for (index, item) in reading.items(value, "honeytokens").iter().enumerate() {
        let path = item_of("honeytokens", index);
        let Some(text) = reading.section::<HoneytokenText>(Some(item), &path) else { continue };
        names::plain(&text.name, &path, reading);
        let org = reading.org(text.org.as_deref(), &key_of(&path, "org"));
        let earlier = found.iter().filter(|other| other.org == org);
        names::unique(&text.name, earlier.map(|other| other.name.as_str()), &path, reading);
        if let Some(id) = &text.provider {
            known(id, &key_of(&path, "provider"), providers, reading);
        }
        let (name, provider, revokes) = (text.name, text.provider, text.revoke);
        found.push(DeclaredHoneytoken {
            name,
            org,
            provider,
            revokes,
            place: reading.place(&path),
        });
    }
    found
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

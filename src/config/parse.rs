//! The whole configuration from its document: one line per section, in the order in which they need
//! each other.

use serde::Deserialize;
use serde_yaml::Value;

use super::again::Origin;
use super::connection::Providers;
use super::environment::Environment;
use super::reading::{Folders, Reading};
use super::{Config, agent, connection, limits, listen, rule, source, state, upstream};
use crate::crypto::source::KeySource;
use crate::provider::check;
use crate::provider::document::{Document, Problem};
use crate::provider::{Catalogue, Provider};

/// The sections, unread.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Sections {
    listen: Option<Value>,
    public_url: Option<Value>,
    store: Option<Value>,
    master_key: Option<Value>,
    ca: Option<Value>,
    default: Option<Value>,
    upstream: Option<Value>,
    providers: Option<Value>,
    apps: Option<Value>,
    connections: Option<Value>,
    agents: Option<Value>,
    rules: Option<Value>,
    limits: Option<Value>,
    log: Option<Value>,
    audit: Option<Value>,
    telemetry: Option<Value>,
    insecure_inline: Option<Value>,
}

/// Reads a document. All problems are found.
pub(super) fn config(
    document: &Document,
    folders: Folders,
    environment: Environment,
) -> Result<Config, Vec<Problem>> {
    let mut reading = Reading::new(document, folders);
    let root = Some(document.root()).filter(|root| !root.is_null());
    let sections = reading.section::<Sections>(root, "").unwrap_or_default();
    let config = sections.read(&mut reading, environment);
    match reading.problems.count() {
        0 => Ok(config),
        _ => Err(reading.problems.into_vec()),
    }
}

impl Sections {
    fn read(&self, reading: &mut Reading<'_>, environment: Environment) -> Config {
        reading.later(self.apps.as_ref(), "apps");
        reading.later(self.telemetry.as_ref(), "telemetry");
        let inline = self.insecure_inline.as_ref();
        reading.inline = reading.section(inline, "insecure_inline").unwrap_or_default();
        let listen = listen::listen(self.listen.as_ref(), reading);
        let keys = source::master_keys(self.master_key.as_ref(), reading);
        let default_key = || vec![KeySource::File(reading.default_state("master.key"))];
        let master_keys = keys.unwrap_or_else(default_key);
        let providers = self.providers(reading);
        let catalogue = Catalogue::built_in().with(providers.iter().cloned());
        let known = Providers { catalogue: &catalogue, declared: self.provider_ids() };
        let connections = connection::connections(self.connections.as_ref(), &known, reading);
        Config {
            data_dir: reading.folders.data.clone(),
            public_url: listen::public_url(self.public_url.as_ref(), listen.admin, reading),
            listen,
            store: state::store(self.store.as_ref(), reading),
            default_master_key: self.master_key.is_none(),
            master_keys,
            ca: state::ca(self.ca.as_ref(), reading),
            default: reading.section(self.default.as_ref(), "default").unwrap_or_default(),
            upstream: upstream::upstream(self.upstream.as_ref(), reading),
            agents: agent::agents(self.agents.as_ref(), &connections, reading),
            rules: rule::rules(self.rules.as_ref(), reading),
            limits: limits::limits(self.limits.as_ref(), reading),
            log: state::log(self.log.as_ref(), reading),
            audit: state::audit(self.audit.as_ref(), reading),
            providers,
            connections,
            environment,
            origin: Origin::default(),
        }
    }

    fn providers(&self, reading: &mut Reading<'_>) -> Vec<Provider> {
        let Some(value) = &self.providers else { return Vec::new() };
        check::providers(value, "providers", &Catalogue::built_in(), &mut reading.problems)
    }

    fn provider_ids(&self) -> Vec<&str> {
        let items = self.providers.as_ref().and_then(Value::as_sequence);
        items.into_iter().flatten().filter_map(|item| item.get("id")?.as_str()).collect()
    }
}

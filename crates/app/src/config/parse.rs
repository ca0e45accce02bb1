//! The whole configuration from its document: one line per section, in the order in which they need
//! each other.

use std::collections::HashSet;
use std::sync::Arc;

use serde::Deserialize;
use serde_yaml::Value;

use super::backup::BackupText;
use super::checked_providers::CheckedProviders;
use super::declared::{Declared, DeclaredItem};
use super::environment::VariableSource;
use super::error::ConfigOrigin;
use super::listen::ListenText;
use super::plugin::PluginText;
use super::reading::KnownProviders;
use super::reading::{ConfigReading, Folders};
use super::state::{AuditText, CaText, StoreChoice, StoreText};
use super::telemetry::TelemetryText;
use super::upstream::UpstreamText;
use super::{
    Config, agent, app, backup, connection, limits, listen, oauth, plugin, rule, secret_sources,
    sign_in, source, state, telemetry, upstream, webhook,
};
use keyward_base::connect::ConnectSettings;
use keyward_base::keys::section;
use keyward_base::limits::Limits;
use keyward_base::sign_in::SignInSettings;
use keyward_base::tokens::{RotationSettings, TokenSettings};
use keyward_base::webhooks::WebhookSettings;
use keyward_model::{Agent, App, Connection, Honeytoken, Hook, Source, Webhook};
use keyward_rules::provider::document::{Document, Problem};
use keyward_rules::provider::{Catalogue, Configured, Definition, check};
use keyward_state::crypto::source::KeySource;

section! {
    /// The sections, unread.
    #[derive(Default, Deserialize)]
    #[serde(default, deny_unknown_fields)]
    pub(super) struct Sections {
        /// Where agents and the admin API reach Keyward.
        #[key(map of ListenText)]
        listen: Option<Value>,
        /// The URL at which browsers reach the admin listener: the base of OAuth redirect URIs. The default
        /// has the port of `listen.admin`.
        #[key("URL of a server", "http://localhost:8081")]
        public_url: Option<Value>,
        /// The store. Exactly one of its keys.
        #[key(map of StoreText)]
        store: Option<Value>,
        /// The key that seals the store. A list has the current key first, then old keys for reading. The
        /// default file is created if it is missing; a file that is named here must exist. Its path is
        /// relative to the data directory.
        #[key("[secret](#secrets), or list of them", "{ file: master.key }")]
        master_key: Option<Value>,
        /// The local CA, whose certificate agents trust. Both files are created if both are missing. Replaced
        /// files are applied at once, other paths at the next start.
        #[key(map of CaText)]
        ca: Option<Value>,
        /// The action for hosts that no rule and no binding names. `tunnel` does not terminate TLS; `pass`
        /// terminates TLS and forwards without a credential.
        #[key(one of ["deny", "tunnel", "pass"], "deny")]
        default: Option<Value>,
        /// Upstreams: trusted roots, allowed private addresses, fixed addresses, the corporate proxy.
        #[key(map of UpstreamText)]
        upstream: Option<Value>,
        /// Your own providers, in the schema of the built-in ones.
        #[key("list of [providers](../guides/providers.md)", "[]")]
        providers: Option<Value>,
        /// OAuth clients that are registered at providers. Others are added by commands and live in the
        /// store.
        #[key(list of DeclaredItem<App>)]
        apps: Option<Value>,
        /// Secret sources, where values of connections' fields are kept. Others are added by commands and live in the
        /// store.
        #[key(list of DeclaredItem<Source>)]
        sources: Option<Value>,
        /// Accounts at providers. Others are added by commands and live in the store.
        #[key(list of DeclaredItem<Connection>)]
        connections: Option<Value>,
        /// Programs, and the connections that each may use. Others are added by commands and live in the
        /// store.
        #[key(list of DeclaredItem<Agent>)]
        agents: Option<Value>,
        /// Software that declares the connections it needs, installed for an agent. Others are installed
        /// by commands and live in the store.
        #[key(list of PluginText)]
        plugins: Option<Value>,
        /// The first rule that matches decides, before any binding.
        #[key(list of rule::RuleItem)]
        rules: Option<Value>,
        /// Limits of the data path.
        #[key(map of Limits)]
        limits: Option<Value>,
        /// Limits and times of the OAuth engine.
        #[key(map of TokenSettings)]
        oauth: Option<Value>,
        /// Rotation of connections' secrets.
        #[key(map of RotationSettings)]
        rotation: Option<Value>,
        /// Encrypted backups of the state.
        #[key(map of BackupText)]
        backup: Option<Value>,
        /// Connect sessions, by which people connect accounts in a browser, and the links in refusals.
        #[key(map of ConnectSettings)]
        connect: Option<Value>,
        /// Receivers of events of connections, bindings and plugins. Others are added by commands and
        /// live in the store.
        #[key(list of DeclaredItem<Webhook>)]
        webhooks: Option<Value>,
        /// URLs to which services post their webhooks. Others are added by commands and live in the store.
        #[key(list of DeclaredItem<Hook>)]
        hooks: Option<Value>,
        /// Delivery of events to webhooks, and of what services post to hooks.
        #[key(map of WebhookSettings)]
        events: Option<Value>,
        /// Bait, to be left where no program should look. Others are added by commands and live in the store.
        #[key(list of DeclaredItem<Honeytoken>)]
        honeytokens: Option<Value>,
        /// How people sign in to the console and, with its cookie, to the API.
        #[key(map of SignInSettings)]
        sign_in: Option<Value>,
        /// Format and level of the log.
        #[key(map of state::Log)]
        log: Option<Value>,
        /// The audit log: one record per exchange, each with the hash of the previous one.
        #[key(map of AuditText)]
        audit: Option<Value>,
        /// Who gets `/metrics`; OpenTelemetry: traces and logs for a collector.
        #[key(map of TelemetryText)]
        telemetry: Option<Value>,
        /// For tests only: this file may contain secrets as text.
        #[key(one of ["true", "false"], "false")]
        insecure_inline: Option<Value>,
    }
}

/// Reads a document. If it was cut, `checked` has what was cut out of its providers. All problems are found.
pub(super) fn config(
    document: &Document,
    checked: Option<&CheckedProviders>,
    folders: Folders,
    environment: VariableSource,
) -> Result<Config, Vec<Problem>> {
    let mut reading = ConfigReading::new(document, folders);
    reading.checked = checked.map(|it| &*it.providers).unwrap_or_default();
    let root = Some(document.root()).filter(|root| !root.is_null());
    let sections = reading.section::<Sections>(root, "").unwrap_or_default();
    let others = sections.providers.as_ref().and_then(Value::as_sequence).map(Vec::len);
    if checked.is_some_and(|checked| others != Some(checked.others)) {
        reading.problems.add(
            "providers",
            "lines that are no items were cut",
            "read the whole file",
        );
    }
    let config = sections.read(&mut reading, environment);
    match reading.problems.count() {
        0 => Ok(config),
        _ => Err(reading.problems.into_vec()),
    }
}

impl Sections {
    fn read(&self, reading: &mut ConfigReading<'_>, environment: VariableSource) -> Config {
        let inline = self.insecure_inline.as_ref();
        reading.inline = reading.section(inline, "insecure_inline").unwrap_or_default();
        let listen = listen::listen(self.listen.as_ref(), reading);
        let keys = source::master_keys(self.master_key.as_ref(), reading);
        let default_key = || vec![KeySource::File(reading.default_state("master.key"))];
        let master_keys = keys.unwrap_or_else(default_key);
        let store = state::store(self.store.as_ref(), reading);
        if let (StoreChoice::Postgres(_), None) = (&store, &self.master_key) {
            let remedy =
                "name the key that all replicas have, as in `master_key: { env: KEYWARD_KEY }`";
            reading.problems.add(
                "store.postgres",
                "a shared store needs a shared `master_key`",
                remedy,
            );
        }
        let providers = self.providers(reading);
        let catalogue = Catalogue::built_in().with(providers.iter().cloned());
        let known = KnownProviders { catalogue: &catalogue, declared: self.provider_ids() };
        let apps = app::apps(self.apps.as_ref(), &known, reading);
        let declared = self.connections.as_ref();
        let connections = connection::connections(declared, &known, &apps, reading);
        let (metrics, telemetry) = telemetry::telemetry(self.telemetry.as_ref(), reading);
        Config {
            data_dir: reading.folders.data.clone(),
            public_url: listen::public_url(self.public_url.as_ref(), &listen, reading),
            listen,
            store,
            default_master_key: self.master_key.is_none(),
            master_keys,
            ca: state::ca(self.ca.as_ref(), reading),
            default: reading.section(self.default.as_ref(), "default").unwrap_or_default(),
            upstream: upstream::upstream(self.upstream.as_ref(), reading),
            agents: agent::agents(self.agents.as_ref(), &known, &connections, reading),
            plugins: plugin::plugins(self.plugins.as_ref(), &known, reading),
            rules: rule::rules(self.rules.as_ref(), reading),
            limits: limits::limits(self.limits.as_ref(), reading),
            oauth: oauth::oauth(self.oauth.as_ref(), reading),
            rotation: connection::rotation(self.rotation.as_ref(), reading),
            backup: backup::backup(self.backup.as_ref(), reading),
            connect: sign_in::connect(self.connect.as_ref(), reading),
            webhooks: Declared::read(self.webhooks.as_ref(), &known, reading),
            sources: secret_sources::sources(self.sources.as_ref(), &known, reading),
            hooks: Declared::read(self.hooks.as_ref(), &known, reading),
            events: webhook::settings(self.events.as_ref(), reading),
            honeytokens: Declared::read(self.honeytokens.as_ref(), &known, reading),
            sign_in: sign_in::sign_in(self.sign_in.as_ref(), reading),
            log: state::log(self.log.as_ref(), reading),
            audit: state::audit(self.audit.as_ref(), reading),
            metrics,
            telemetry,
            providers,
            provider_definitions: self.provider_definitions(reading),
            apps,
            connections,
            environment,
            ends_with_runs: false,
            takes_over: false,
            origin: ConfigOrigin::default(),
        }
    }

    fn providers(&self, reading: &mut ConfigReading<'_>) -> Vec<Configured> {
        let checked = reading.checked.iter().cloned().map(Configured::Checked);
        let Some(value) = &self.providers else { return checked.collect() };
        let built_in = Catalogue::built_in();
        let found = check::providers(value, "providers", &built_in, &mut reading.problems);
        let ids: HashSet<_> = found.iter().map(|it| &it.id).collect();
        if reading.checked.iter().any(|it| ids.contains(it.id())) {
            reading.problems.add("providers", "an id is given twice", "read the whole file");
        }
        checked.chain(found.into_iter().map(Configured::from)).collect()
    }

    /// The items as they are written. One that is not JSON is reported by [`Sections::providers`].
    fn provider_definitions(&self, reading: &ConfigReading<'_>) -> Arc<[Definition]> {
        let items = self.providers.as_ref().and_then(Value::as_sequence);
        let items = items.into_iter().flatten();
        let read = items.filter_map(|item| serde_json::to_value(item).ok()).map(Definition::Read);
        read.chain(reading.checked.iter().cloned().map(Definition::Checked)).collect()
    }

    fn provider_ids(&self) -> Vec<&str> {
        let items = self.providers.as_ref().and_then(Value::as_sequence);
        items.into_iter().flatten().filter_map(|item| item.get("id")?.as_str()).collect()
    }
}

//! [`Config`]: everything that a user configures, checked. The only reader of the configuration
//! file and of environment variables, besides the command line's own.
//!
//! `file.rs` finds the file and lays variables over it, `parse.rs` reads the sections, one file per
//! group of them. Secrets are named here and read by `secret.rs` when they are needed. What names
//! mean that only the store knows is left to `rulebook/` and `directory/`.

mod agent;
mod app;
mod backup;
mod checked_providers;
mod connection;
mod declared;
mod environment;
mod error;
mod file;
mod ignored_variables;
mod last_file;
mod least;
mod limits;
mod listen;
mod listen_at;
mod listen_databases;
mod listen_tls;
mod load;
mod manifest;
mod mentions;
mod oauth;
mod parse;
mod plugin;
mod reading;
pub mod reference;
mod reload;
mod rule;
mod rule_cases;
mod secret;
mod secret_sources;
mod sign_in;
mod source;
mod state;
mod telemetry;
#[cfg(test)]
mod tests;
mod upstream;
mod webhook;
mod yaml;

use std::collections::{BTreeSet, HashMap, HashSet};
use std::path::PathBuf;
use std::sync::Arc;

use keyward_backup::BackupSettings;
use keyward_base::connect::ConnectSettings;
use keyward_base::id::OrgId;
use keyward_base::limits::Limits;
use keyward_base::tokens::{RotationSettings, TokenSettings};
use keyward_base::webhooks::WebhookSettings;
use keyward_model::{Agent, App, Connection, Honeytoken, Hook, Source, Webhook};
use keyward_rules::policy::DefaultAction;
use keyward_rules::provider::{Catalogue, Configured, Definition};
use keyward_state::crypto::source::KeySource;
use keyward_state::rulebook::PlacedRule;
use keyward_vault::PrivatePaths;

pub use self::listen_at::ListenAt;
pub use agent::{AgentInFile, UseItem};
pub use declared::{Declared, DeclaredByName, InFile};
pub use environment::VariableSource;
pub use error::ConfigError;
pub(crate) use ignored_variables::ignored_variables;
pub use listen::ListenAdmin;
pub use listen::ListenHooks;
pub use listen::ListenSettings;
pub use listen_at::ListenAgent;
pub use listen_databases::ListenDatabase;
pub use listen_tls::{Certificate, ListenTls};
pub use load::data_dir;
pub use manifest::{ManifestError, manifest, manifest_file};
pub use plugin::{DeclaredPlugin, ManifestSource};
pub use rule_cases::{PlacedCase, rule_cases};
pub use secret::{SecretSource, SecretSourceError};
pub use secret_sources::SourceCredentials;
pub use sign_in::OidcSources;
pub use sign_in::SignIn;
pub use state::{AuditTo, CaPaths, Log, StoreChoice};
pub use state::{PostgresChoice, PostgresTls};
pub use telemetry::{MetricsAccess, Otlp};
pub use upstream::Upstream;
pub use upstream::{ProxyLoginError, UpstreamProxy};
pub use webhook::HookSecrets;
pub use yaml::yaml;

/// The whole configuration. Every key has a default.
#[derive(Clone, Debug)]
pub struct Config {
    /// The data directory, absolute.
    pub data_dir: PathBuf,
    pub listen: ListenSettings,
    /// Base of redirect URIs, without a slash at its end.
    pub public_url: String,
    pub store: StoreChoice,
    /// Master keys: the first is current, the others are for reading.
    pub master_keys: Vec<KeySource>,
    /// The configuration names no master key: a missing file may be created.
    pub default_master_key: bool,
    /// The CA's files.
    pub ca: CaPaths,
    /// The action for hosts that no rule names.
    pub default: DefaultAction,
    /// How upstreams are reached.
    pub upstream: Upstream,
    /// Own providers, none of which has a built-in one's id.
    pub providers: Vec<Configured>,
    /// The same as they are written, for an export.
    pub provider_definitions: Arc<[Definition]>,
    pub apps: Vec<Declared<App>>,
    pub connections: Vec<Declared<Connection>>,
    pub agents: Vec<Declared<Agent>>,
    pub plugins: Vec<DeclaredPlugin>,
    /// Rules, in order.
    pub rules: Vec<PlacedRule>,
    /// The bounds of the data path.
    pub limits: Limits,
    /// The numbers of the OAuth engine.
    pub oauth: TokenSettings,
    /// How secrets of connections are replaced.
    pub rotation: RotationSettings,
    /// Who can open backups, and when they are written.
    pub backup: BackupSettings,
    /// How people connect accounts by a link.
    pub connect: ConnectSettings,
    pub webhooks: Vec<Declared<Webhook>>,
    pub hooks: Vec<Declared<Hook>>,
    /// Declared secret sources.
    pub sources: Vec<Declared<Source>>,
    pub honeytokens: Vec<Declared<Honeytoken>>,
    /// How events are delivered to webhooks.
    pub events: WebhookSettings,
    pub sign_in: SignIn,
    pub log: Log,
    /// Where audit records go.
    pub audit: AuditTo,
    /// Who gets `/metrics` of the admin listener.
    pub metrics: MetricsAccess,
    /// How spans and the log are exported; `None`: they are not.
    pub telemetry: Option<Otlp>,
    /// Where [`SecretSource::Env`] looks.
    pub environment: VariableSource,
    /// Whether the gateway is that of `keyward run`, which ends with its runs.
    pub ends_with_runs: bool,
    /// Whether the gateway takes the listening sockets of the one that serves the data directory.
    pub takes_over: bool,
    /// Where it came from.
    origin: error::ConfigOrigin,
}

impl Config {
    /// The organisations that are named.
    pub fn orgs(&self) -> BTreeSet<&OrgId> {
        let agents = self.agents.iter().map(|agent| &agent.org);
        let connections = self.connections.iter().map(|connection| &connection.org);
        let apps = self.apps.iter().map(|app| &app.org);
        let plugins = self.plugins.iter().map(|plugin| &plugin.org);
        let rules = self.rules.iter().map(|rule| &rule.org);
        let listeners = self.listen.agents.iter().map(|own| &own.org);
        let webhooks = self.webhooks.iter().map(|webhook| &webhook.org);
        let honeytokens = self.honeytokens.iter().map(|honeytoken| &honeytoken.org);
        let named = agents.chain(connections).chain(apps).chain(plugins);
        let sign_in = self.sign_in.oidc.iter().map(|oidc| &oidc.org);
        let named = named.chain(rules).chain(listeners).chain(webhooks).chain(honeytokens);
        let hooks = self.hooks.iter().map(|hook| &hook.org);
        let sources = self.sources.iter().map(|source| &source.org);
        named.chain(sign_in).chain(hooks).chain(sources).collect()
    }

    /// Keyward's own files, which no agent gets: the data directory, and keys outside of it.
    pub fn private_paths(&self) -> PrivatePaths {
        let keys = self.master_keys.iter().filter_map(|source| match source {
            KeySource::File(path) => Some(path.clone()),
            KeySource::Env(_) | KeySource::Command(_) => None,
        });
        PrivatePaths::new(
            [self.data_dir.clone(), self.ca.key.clone()].into_iter().chain(keys).collect(),
        )
    }

    /// The environment variables that hold secrets: kept from every child.
    pub fn secret_variables(&self) -> Vec<&str> {
        let keys = self.master_keys.iter().filter_map(|source| match source {
            KeySource::Env(name) => Some(name.as_str()),
            KeySource::File(_) | KeySource::Command(_) => None,
        });
        keys.chain(self.secrets().filter_map(SecretSource::variable)).collect()
    }

    /// Where every secret is but for master keys.
    fn secrets(&self) -> impl Iterator<Item = &SecretSource> {
        let fields =
            self.connections.iter().flat_map(|connection| connection.with.sources.values());
        let tokens = self.agents.iter().filter_map(|agent| agent.with.token.as_ref());
        let proxy = self.upstream.proxy.iter().filter_map(UpstreamProxy::password);
        let apps = self.apps.iter().flat_map(|app| app.with.sources.values());
        let webhooks = self.webhooks.iter().map(|webhook| &webhook.with);
        let oidc = self.sign_in.oidc.iter().map(|oidc| &oidc.client_secret);
        let headers = self.telemetry.iter().flat_map(|otlp| &otlp.headers);
        let headers = headers.map(|(_, value)| value);
        let store = match &self.store {
            StoreChoice::Postgres(choice) => Some(&choice.url),
            StoreChoice::Sled { .. } | StoreChoice::Memory => None,
        };
        let hooks = self.hooks.iter().map(|hook| &hook.with);
        let hooks = hooks.flat_map(|it| it.secret.iter().chain(&it.signing_key));
        let all = fields.chain(tokens).chain(proxy).chain(apps).chain(webhooks).chain(oidc);
        let sources = self.sources.iter().flat_map(|it| it.with.sources.values());
        all.chain(headers).chain(hooks).chain(store).chain(sources)
    }

    /// The built-in providers and the configured ones.
    pub fn catalogue(&self) -> Catalogue {
        Catalogue::built_in().with(self.providers.iter().cloned())
    }

    /// Takes the providers of a configuration in force that are defined as before, so that their credentials stay.
    pub fn keep_providers_of(&mut self, before: &Self) {
        let all = before.provider_definitions.iter();
        let defined: HashMap<_, _> = all.filter_map(|it| Some((it.id()?, it.json()))).collect();
        let in_force: HashMap<_, _> = before.providers.iter().map(|it| (it.id(), it)).collect();
        let now = self.provider_definitions.iter().filter_map(|it| Some((it.id()?, it.json())));
        let is_kept = |(id, json): &(&str, serde_json::Value)| defined.get(id) == Some(json);
        let kept: HashSet<_> = now.filter(is_kept).map(|(id, _)| id).collect();
        for provider in self.providers.iter_mut().filter(|it| kept.contains(&**it.id())) {
            if let Some(before) = in_force.get(provider.id()) {
                *provider = Configured::clone(before);
            }
        }
    }
}

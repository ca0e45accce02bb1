//! [`Services`]: everything that the listeners need, opened in order; [`Opening`] says with which store. The private
//! gateway of a command has them without listeners.

mod shared_store;
mod start_lease;
mod without_listeners;

use std::net::SocketAddr;
use std::ops::Deref;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use rustls::ClientConfig;
use tokio::sync::{mpsc, watch};

pub(super) use shared_store::{leave_store, open_store};
pub(super) use start_lease::StartLease;
pub use without_listeners::FileCheck;

use super::apply::ApplyTarget;
use super::error::{AppError, refused};
use super::folders::{folder_for, private_dir};
use super::listeners::Listeners;
use super::patience::Patience;
use super::plan::planning::Basis;
use super::plan::problem::unplaced;
use super::plan::step::Plan;
use super::plan::{self, Inputs};
use super::public_url::public_url;
use super::telemetry::{Collector, Exports};
use super::upstream_settings::UpstreamSettings;
use super::{backups, ca, descriptors, keys, last_config};
use crate::config::{Config, ListenAgent, UpstreamProxy};
use keyward_api::wire::PlanView;
use keyward_api::{AuditLog, Deps};
use keyward_base::connect::ConnectSettings;
use keyward_base::secret::Secret;
use keyward_base::time::Clock;
use keyward_databases::StoredListeners;
use keyward_inbox::Inbox;
use keyward_net::call::HttpClient;
use keyward_net::dial::Dialler;
use keyward_net::guard::Guard;
use keyward_net::tls;
use keyward_proxy::ca::authority::Authority;
use keyward_proxy::ca::cache::LeafCache;
use keyward_rules::provider::Definition;
use keyward_rules::provider::document::Problem;
use keyward_state::crypto::keyring::Keyring;
use keyward_state::directory::{Directory, DirectoryEvent, SeenRows};
use keyward_state::observe::change_log::ChangeRecorder;
use keyward_state::observe::metrics::Metrics;
use keyward_state::observe::trail::Trail;
use keyward_state::rulebook::{PlacedRule, PolicyInputs, Rulebook, RulebookError};
use keyward_state::store::Store;
use keyward_state::store::memory::MemoryStore;
use keyward_state::store::observed::{ObservedStore, StoreReport};
use keyward_vault::Vault;
use keyward_vault::events::{self, Events};
use keyward_vault::keys::{KeyLocation, MasterKeys};
use keyward_vault::oauth::{self, Flows};
use keyward_vault::oidc::{self, RelyingParty};

/// The services of a gateway: those of its control plane, and its own.
pub struct Services {
    pub deps: Deps,
    /// Certificates shown to agents.
    pub leaves: Arc<LeafCache>,
    /// The client for authorization servers.
    pub caller: Arc<HttpClient>,
    /// The location of the audit log.
    pub audit: Trail,
    /// Sends traces and logs to a collector, if one is configured.
    pub(super) telemetry: Exports,
    /// How people connect accounts by a link.
    pub connect: watch::Sender<Arc<ConnectSettings>>,
    /// The items of `providers:` in the configuration, as they are written.
    pub provider_definitions: watch::Sender<Arc<[Definition]>>,
}

impl Deref for Services {
    type Target = Deps;

    fn deref(&self) -> &Deps {
        &self.deps
    }
}

/// What is opened.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Opening {
    /// What is stored; what is missing is created.
    Make,
    /// What is stored. Nothing is created: a missing CA is replaced by a temporary one in memory.
    Stored,
    /// An empty store in memory, for an installation without a store. Nothing is created, as before.
    Empty,
}

impl Services {
    /// Opens the services of a process without listeners. Declared resources stay as the last gateway
    /// stored them. Rules that a start would refuse are in `refused_rules`: commands that need no rules go on.
    ///
    /// # Errors
    /// When the data directory, the key, the store or the CA cannot be used, or a store that is wanted is absent.
    pub async fn open(config: &Config, opening: Opening) -> anyhow::Result<Arc<Self>> {
        let mut opened = OpenedServices::open(config, opening).await?;
        opened.vault.refresh().resume().await;
        opened.release_start_lease().await;
        let (rulebook, refused_rules) = opened.rules_at_rest(config)?;
        let place = ServingInputs { refused_rules, ..ServingInputs::at_rest(config) };
        opened.finish(config, place, rulebook)
    }

    /// The plan of a start with this configuration, while no gateway runs. Creates nothing: without a
    /// store, every resource is new.
    ///
    /// # Errors
    /// When the data directory, the key, the store or the CA cannot be used.
    pub async fn plan(config: &Config) -> anyhow::Result<PlanView> {
        last_config::check_store(config)?;
        let is_stored = Self::are_stored(config);
        // With a store, they are read when it is opened.
        let keys = (!is_stored && !config.default_master_key).then(|| keys::read(config));
        let keys = keys.and_then(Result::err).map(|error| format!("`master_key`: {error}"));
        let upstream = UpstreamSettings::load(config);
        let inputs = match (Inputs::load(config), upstream, Collector::load(config)) {
            (Ok(inputs), Ok(_), Ok(_)) if keys.is_none() => inputs,
            (inputs, upstream, collector) => {
                let upstream = upstream.err().map(|error| format!("{error:#}"));
                let texts = [upstream, keys].into_iter().flatten();
                let problems = inputs.err().into_iter().chain(collector.err()).flatten();
                let problems = problems.chain(texts.map(|text| unplaced(&text))).collect();
                return Ok(plan::view(&Err(problems), Vec::new()));
            }
        };
        let opening = if is_stored { Opening::Stored } else { Opening::Empty };
        let mut opened = OpenedServices::open(config, opening).await?;
        opened.release_start_lease().await;
        let unusual = plan::unusual_keys(config, &opened.vault.shared_catalogue(), &inputs);
        Ok(plan::view(&opened.plan(config, inputs), unusual))
    }
}

/// Inputs from the process: its listeners, and values that it has read.
struct ServingInputs {
    own: Vec<SocketAddr>,
    public_url: String,
    /// The base of the URLs of hooks, if they have a listener of their own.
    hooks_url: Option<String>,
    /// Of the client at the identity provider; `None` in a process without sign-in.
    client_secret: Option<Secret>,
    /// [`Deps::refused_rules`].
    refused_rules: Vec<String>,
}

impl ServingInputs {
    /// Of a process without listeners.
    fn at_rest(config: &Config) -> Self {
        Self {
            own: Vec::new(),
            public_url: config.public_url.clone(),
            hooks_url: config.listen.hooks.as_ref().map(|hooks| hooks.base(hooks.at)),
            client_secret: None,
            refused_rules: Vec::new(),
        }
    }
}

/// The services that need neither rules nor listeners.
pub(super) struct OpenedServices {
    store: Arc<dyn Store>,
    keyring: Arc<Keyring>,
    directory: Arc<Directory>,
    vault: Arc<Vault>,
    authority: Arc<Authority>,
    keys: Arc<MasterKeys>,
    pub(super) events: Arc<Events>,
    pub(super) inbox: Arc<Inbox>,
    metrics: Arc<Metrics>,
    pub(super) clock: Clock,
    /// The start lock of this replica, if the store is shared.
    starting: Option<StartLease>,
}

impl OpenedServices {
    /// Opens data directory, key, store and CA.
    pub(super) async fn open(config: &Config, opening: Opening) -> anyhow::Result<Self> {
        match opening {
            Opening::Make => last_config::check_place(config)?,
            Opening::Stored if config.data_dir.exists() => private_dir(&config.data_dir)?,
            Opening::Stored => {}
            Opening::Empty => return Self::in_memory(config, ca::existing(config)?).await,
        }
        let keyring = Arc::new(keys::open(config)?);
        let store = open_store(config).await?;
        let authority = || {
            if opening == Opening::Stored {
                return ca::existing(config);
            }
            folder_for("ca.cert", &config.ca.cert)?;
            folder_for("ca.key", &config.ca.key)?;
            ca::made(config)
        };
        Self::with_start_lease(config, store, keyring, keys::location(config), authority).await
    }

    /// An empty store in memory, with its own keys.
    async fn in_memory(config: &Config, authority: Authority) -> anyhow::Result<Self> {
        let keyring = Arc::new(Keyring::ephemeral());
        let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
        Self::with_start_lease(config, store, keyring, KeyLocation::Memory, || Ok(authority)).await
    }

    async fn over(
        config: &Config,
        store: Arc<dyn Store>,
        keyring: Arc<Keyring>,
        location: KeyLocation,
        authority: impl FnOnce() -> anyhow::Result<Authority>,
    ) -> anyhow::Result<Self> {
        let clock = Clock::System;
        let metrics: Arc<Metrics> = Arc::default();
        metrics.usage.begin(clock.now());
        let counting = metrics.clone();
        let report = move |report| match report {
            StoreReport::Failed(operation, cause) => {
                counting.health.store_failed(operation.as_str(), cause);
            }
            StoreReport::Written => counting.health.store_written(),
        };
        let store: Arc<dyn Store> = Arc::new(ObservedStore::new(store, report));
        let store = SeenRows::over(store, keyring.clone(), metrics.clone());
        let directory = Directory::open(store.clone(), keyring.clone(), clock.clone()).await?;
        let directory = Arc::new(directory);
        let keys = MasterKeys::new(store.clone(), keyring.clone(), location)?;
        let vault = Vault::open(
            store.clone(),
            keyring.clone(),
            directory.clone(),
            Arc::new(config.catalogue()),
            clock.clone(),
        );
        let (vault, authority) = (Arc::new(vault.await?), Arc::new(authority()?));
        vault.replace_private_paths(config.private_paths());
        vault.refresh().count_in(&metrics);
        let events = Events::new(events::EventServices {
            store: store.clone(),
            keyring: keyring.clone(),
            directory: directory.clone(),
            metrics: metrics.clone(),
            clock: clock.clone(),
            settings: config.events.clone(),
        });
        let inbox = Inbox::new(keyward_inbox::InboxServices {
            store: store.clone(),
            keyring: keyring.clone(),
            directory: directory.clone(),
            vault: vault.clone(),
            metrics: metrics.clone(),
            clock: clock.clone(),
            settings: config.events.clone(),
        });
        Ok(Self {
            store,
            keyring,
            directory,
            vault,
            authority,
            keys,
            events,
            inbox,
            metrics,
            clock,
            starting: None,
        })
    }

    /// All records.
    pub(super) fn directory(&self) -> Arc<Directory> {
        Arc::clone(&self.directory)
    }

    /// Events from now on, for the first caller.
    pub(super) fn directory_events(&self) -> Option<mpsc::Receiver<DirectoryEvent>> {
        self.directory.take_event_receiver()
    }

    /// The services of a gateway with these listeners, after the configuration was applied to the store.
    pub(super) async fn for_serving(
        self,
        config: &Config,
        bound: &Listeners,
    ) -> anyhow::Result<Arc<Services>> {
        bound.certificates.measure(&self.metrics);
        let mut patience = Patience::begin();
        let client_secret = loop {
            let mut inputs = Inputs::load(config).map_err(refused)?;
            let client_secret = inputs.oidc.take();
            match self.bring_in_line(config, inputs).await {
                // What was written is in the view.
                Err(error) if patience.waits(&error).await => {}
                done => break done.map(|()| client_secret)?,
            }
        };
        last_config::remember(config);
        self.warn_of_missing_owners(config);
        self.vault.refresh().resume().await;
        let rulebook = self.rulebook(config, config.rules.clone()).map_err(all)?;
        let public_url = public_url(config, bound.admin.addr);
        let hooks_url = bound.hooks.as_ref().map(|hooks| hooks.url.clone());
        let (own, refused_rules) = (bound.own_addrs(), Vec::new());
        let place = ServingInputs { own, public_url, hooks_url, client_secret, refused_rules };
        self.finish(config, place, rulebook)
    }

    /// The agents that listeners belong to need not exist when the gateway starts.
    fn warn_of_missing_owners(&self, config: &Config) {
        let view = self.directory.view();
        for ListenAgent { agent, org, at } in &config.listen.agents {
            if view.agent_of_listener(org, agent).is_none() {
                tracing::warn!(agent, org = org.name(), %at, "this listener's agent is paused or does not exist: add it");
            }
        }
    }

    fn plan(&self, config: &Config, inputs: Inputs) -> Result<Plan, Vec<Problem>> {
        self.judged(config, |basis| plan::plan(basis, inputs))
    }

    fn judged<T>(&self, config: &Config, judge: impl FnOnce(Basis<'_>) -> T) -> T {
        let (view, catalogue) = (self.directory.view(), self.vault.shared_catalogue());
        let sources = self.sources(config, config.rules.clone());
        judge(Basis { config, view: &view, catalogue: &catalogue, sources: &sources })
    }

    /// Makes a plan and applies it.
    async fn bring_in_line(&self, config: &Config, inputs: Inputs) -> anyhow::Result<()> {
        let plan = self.plan(config, inputs).map_err(refused)?;
        plan.log_warnings();
        ApplyTarget { vault: &self.vault, events: &self.events, inbox: &self.inbox }
            .apply(plan)
            .await
    }

    fn sources(&self, config: &Config, rules: Vec<PlacedRule>) -> PolicyInputs {
        let hostless = config.limits.hostless_rules_max;
        let catalogue = self.vault.shared_catalogue();
        PolicyInputs::new(catalogue, config.default, rules, hostless).naming(config.mentions())
    }

    fn rulebook(
        &self,
        config: &Config,
        rules: Vec<PlacedRule>,
    ) -> Result<Rulebook, Vec<RulebookError>> {
        Rulebook::new(self.sources(config, rules), self.directory.clone())
    }

    /// Gives the vault its client and settings.
    fn set_vault(&self, config: &Config, caller: Arc<HttpClient>) {
        self.vault.refresh().use_client(caller);
        self.vault.refresh().keep_at_most(config.limits.cached_credentials_max);
        self.vault.replace_token_settings(config.oauth.clone());
        self.vault.lifecycle().replace_rotation_settings(config.rotation.clone());
    }

    /// Sign-in with the identity provider, in a process that has its secret.
    fn relying_party(
        &self,
        config: &Config,
        client_secret: Option<Secret>,
        caller: &Arc<HttpClient>,
        public_url: &str,
    ) -> Option<RelyingParty> {
        let sign_in = config.sign_in.settings.oidc.clone().zip(config.sign_in.oidc.as_ref());
        sign_in.zip(client_secret).map(|((settings, sources), client_secret)| {
            RelyingParty::new(oidc::RelyingPartyServices {
                settings,
                org: sources.org.clone(),
                client_secret,
                vault: self.vault.clone(),
                caller: caller.clone(),
                clock: self.clock.clone(),
                public_url: public_url.to_owned(),
            })
        })
    }

    fn finish(
        self,
        config: &Config,
        place: ServingInputs,
        rulebook: Rulebook,
    ) -> anyhow::Result<Arc<Services>> {
        let ServingInputs { own, public_url, hooks_url, client_secret, refused_rules } = place;
        let dialler = Arc::new(dialler(config, own));
        let caller = Arc::new(HttpClient::new(dialler.clone(), trusted(config)?));
        self.events.use_client(caller.clone());
        self.set_vault(config, caller.clone());
        self.inbox.serve(caller.clone(), hooks_url.unwrap_or_else(|| public_url.clone()));
        let oidc = self.relying_party(config, client_secret, &caller, &public_url);
        let flows = Flows::new(oauth::FlowServices {
            store: self.store,
            keyring: self.keyring,
            vault: self.vault.clone(),
            caller: caller.clone(),
            settings: config.oauth.clone(),
            clock: self.clock.clone(),
            public_url: public_url.clone(),
        });
        let leaves =
            LeafCache::new(self.authority.clone(), config.limits.leaves_max, self.clock.clone());
        let backups = backups::of(config, &self.directory, &self.authority, &self.clock);
        let shared_limits = descriptors::limits(&self.directory)?;
        let telemetry = Exports::new(caller.clone(), self.metrics.clone(), self.clock.clone());
        let audit = Trail::at(&config.audit.file);
        let connect = watch::Sender::new(Arc::new(config.connect.clone()));
        let provider_definitions = watch::Sender::new(config.provider_definitions.clone());
        let secret_variables = config.secret_variables().into_iter().map(str::to_owned).collect();
        let deps = Deps {
            database_listeners: StoredListeners::new(self.directory.clone()),
            directory: self.directory,
            vault: self.vault,
            rulebook: Arc::new(rulebook),
            refused_rules: refused_rules.into(),
            authority: self.authority,
            keys: self.keys,
            flows,
            events: self.events,
            inbox: self.inbox,
            dialler,
            audit: AuditLog::at_rest(audit.clone()),
            changes: ChangeRecorder::default(),
            backups,
            metrics: self.metrics,
            telemetry: telemetry.switch().clone(),
            clock: self.clock,
            public_url,
            connect: connect.subscribe(),
            provider_definitions: provider_definitions.subscribe(),
            secret_variables: Arc::new(Mutex::new(secret_variables)),
            limits: config.limits.clone(),
            shared_limits,
            sign_in: config.sign_in.settings.clone(),
            oidc: oidc.map(Arc::new),
            data_path: Weak::new(),
        };
        let leaves = Arc::new(leaves);
        let services =
            Services { deps, leaves, caller, audit, telemetry, connect, provider_definitions };
        Ok(Arc::new(services))
    }
}

/// Dials authorization servers and receivers of events, but not the listeners at `own`.
fn dialler(config: &Config, own: Vec<SocketAddr>) -> Dialler {
    let guard = Guard::new(config.upstream.allow_private.clone(), own);
    let resolve = config.upstream.resolve.clone();
    // The dialler's own proxy gets its login from [`UpstreamSettings`].
    let proxy = config.upstream.proxy.as_ref().map(UpstreamProxy::without_login);
    Dialler::new(guard, resolve, config.limits.addresses_max).with_proxy(proxy)
}

/// The TLS configuration for authorization servers. An unreadable root is only a warning, so that commands
/// without requests do not fail; a gateway refuses it when it reads the roots for upstreams.
fn trusted(config: &Config) -> anyhow::Result<Arc<ClientConfig>> {
    let roots =
        UpstreamSettings::load(config).map(|upstream| upstream.roots).unwrap_or_else(|error| {
            tracing::warn!(error = %format!("{error:#}"), "only the platform's roots are trusted");
            Vec::new()
        });
    Ok(tls::client_config(&roots)?)
}

fn all(errors: Vec<RulebookError>) -> AppError {
    AppError::Declared(errors.iter().map(ToString::to_string).collect())
}

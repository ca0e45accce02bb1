//! Reloads the configuration while the gateway serves. Everything is read and checked before anything is
//! changed; then rules, providers, connections and agents take effect together. A refused configuration
//! changes nothing; a change that the store interrupts may be in force in part, and is retried.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::ClientConfig;
use tokio::sync::watch;

use super::apply::ApplyTarget;
use super::database_url::{DatabaseUrl, URL_KEY};
use super::keys::{self, ConfiguredKeys};
use super::last_config;
use super::listener_certificates::{ListenerCertificates, Renewed};
use super::notify::ServiceManager;
use super::plan::planning::Basis;
use super::plan::problem::{caused_by, unplaced};
use super::plan::step::Step;
use super::plan::{self, FilePolicy, Inputs};
use super::services::Services;
use super::telemetry::Collector;
use super::upstream_settings::UpstreamSettings;
use super::watched::{POLL_INTERVAL, WatchedFiles};
use crate::config::{Config, ConfigError};
use keyward_api::wire::{PlanView, ReloadView};
use keyward_api::{ReloadRequest, ReloadRequests};
use keyward_base::secret::Secret;
use keyward_base::system_error;
use keyward_base::tokens::TokenSettings;
use keyward_net::tls;
use keyward_proxy::Gateway;
use keyward_proxy::ca::authority::Authority;
use keyward_rules::provider::Catalogue;
use keyward_rules::provider::document::Problem;
use keyward_state::crypto::keyring::Keyring;
use keyward_state::crypto::source::KeyError;
use keyward_state::observe::log::Verbosity;
use keyward_state::rulebook::PolicyInputs;

/// The pause before a change is retried that the store interrupted.
const TRY_AGAIN_AFTER: Duration = Duration::from_secs(5);

/// Reloads the configuration on request, or when a file has changed.
pub(super) struct Reloader {
    /// The configuration of the start, for keys that a reload cannot change.
    pub(super) started: Arc<Config>,
    /// The configuration of the last reload, or of the start.
    pub(super) in_force: Arc<Config>,
    /// That of the start.
    pub(super) database_url: DatabaseUrl,
    pub(super) services: Arc<Services>,
    pub(super) gateway: Arc<Gateway>,
    pub(super) upstream: UpstreamSettings,
    pub(super) certificates: ListenerCertificates,
    pub(super) keys: ConfiguredKeys,
    pub(super) verbosity: Option<Verbosity>,
    pub(super) manager: ServiceManager,
    /// `None` while it is used on a blocking thread.
    pub(super) watched: Option<WatchedFiles>,
    pub(super) last: watch::Sender<Option<ReloadView>>,
    /// When an interrupted change is retried.
    pub(super) again_at: Option<Instant>,
}

/// The parts of the running configuration that a new one is compared with.
struct InForce {
    started: Arc<Config>,
    in_force: Arc<Config>,
    database_url: DatabaseUrl,
    upstream: UpstreamSettings,
    keys: ConfiguredKeys,
    authority: Arc<Authority>,
    certificates: ListenerCertificates,
}

/// A configuration with the files that it names.
struct Prepared {
    config: Config,
    /// Changed keys that take effect at the next start.
    waiting: Vec<&'static str>,
    inputs: Inputs,
    upstream: UpstreamSettings,
    client_tls: Option<Arc<ClientConfig>>,
    collector: Option<Collector>,
    /// Renewed certificates of listeners.
    renewed: Renewed,
    /// Other master keys, if the configuration names others.
    keyring: Option<(ConfiguredKeys, Keyring)>,
}

/// Why a reload failed.
enum ReloadError {
    /// The configuration is invalid, or something that it names did not answer, and nothing changed. With the files
    /// that it names, because one of them may be the cause.
    Invalid(Vec<Problem>, Vec<PathBuf>),
    /// The change was interrupted, by the store for example, and may be in force in part.
    Incomplete(String),
}

impl Reloader {
    /// Runs until it is dropped.
    pub(super) async fn run(mut self, mut asks: ReloadRequests) {
        let mut look = tokio::time::interval(POLL_INTERVAL);
        look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                Some(ask) = asks.recv() => {
                    // The requester may be gone; `/status` still shows the reload.
                    match ask {
                        ReloadRequest::Reload(answer) => drop(answer.send(self.reload().await)),
                        ReloadRequest::Plan(file, answer) => drop(answer.send(self.plan(file).await)),
                    }
                }
                _ = look.tick() => {
                    let again = self.again_at.is_some_and(|at| at <= Instant::now());
                    if self.watched(WatchedFiles::poll).await.unwrap_or(false) || again {
                        self.reload().await;
                    }
                }
            }
        }
    }

    /// Reads, checks and applies the configuration, and reports the result.
    async fn reload(&mut self) -> ReloadView {
        self.manager.reloading();
        let began = Instant::now();
        let result = self.try_reload().await;
        self.manager.ready();
        let (mut errors, mut warnings) = (Vec::new(), Vec::new());
        let incomplete = match &result {
            Ok(_) => false,
            // Nothing has changed yet, because something did not answer.
            Err(ReloadError::Invalid(told, _)) => told.iter().all(|problem| problem.is_away),
            Err(ReloadError::Incomplete(_)) => true,
        };
        self.again_at = incomplete.then(|| Instant::now() + TRY_AGAIN_AFTER);
        match result {
            Ok(told) => {
                let took_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
                tracing::info!(
                    id = "config_reloaded",
                    took_ms,
                    "the configuration was read again and is in force"
                );
                warnings = told;
            }
            Err(ReloadError::Invalid(told, files)) => {
                errors = told.iter().map(ToString::to_string).collect();
                if !files.is_empty() {
                    self.watched(move |watched| watched.set_files(files)).await;
                }
            }
            Err(ReloadError::Incomplete(told)) => errors.push(told),
        }
        for warning in &warnings {
            tracing::warn!(id = "config_waits_for_restart", "{warning}");
        }
        for error in &errors {
            match incomplete {
                true => tracing::error!(
                    id = "config_incomplete",
                    "the reload was interrupted, may be in force in part, and is tried again: {error}"
                ),
                false => tracing::error!(
                    id = "config_refused",
                    "the configuration was refused, the old one stays: {error}"
                ),
            }
        }
        let view = ReloadView { time: self.services.clock.now(), errors, incomplete, warnings };
        self.services.metrics.reloaded(view.errors.is_empty(), view.time);
        self.last.send_replace(Some(view.clone()));
        view
    }

    async fn try_reload(&mut self) -> Result<Vec<String>, ReloadError> {
        self.watched(WatchedFiles::mark_read).await;
        let mut prepared = self.prepare(None).await?;
        let (waiting, client_secret) = (prepared.waiting, prepared.inputs.oidc.take());
        let Prepared { config, inputs, upstream, client_tls, collector, renewed, keyring, .. } =
            prepared;
        let (vault, rulebook) = (&self.services.vault, &self.services.rulebook);
        let (catalogue, sources) = self.sources(&config);
        let change = rulebook.change().await;
        let view = self.services.directory.view();
        let basis =
            Basis { config: &config, view: &view, catalogue: &catalogue, sources: &sources };
        let plan = plan::plan(basis, inputs)
            .map_err(|problems| ReloadError::Invalid(problems, config.files()))?;
        plan.log_warnings();
        if let Some((named, keyring)) = keyring {
            let taken = self.services.keys.replace(keyring, named.location().clone()).await;
            taken.map_err(|error| {
                let told = unplaced(&format!("`master_key`: {error}"));
                ReloadError::Invalid(vec![caused_by(&error, told)], config.files())
            })?;
            self.keys = named;
        }
        let before = vault.shared_catalogue();
        let (events, inbox) = (&self.services.events, &self.services.inbox);
        vault.replace_catalogue(catalogue);
        // Boxed: it is large, and rarely runs.
        if let Err(error) = Box::pin(ApplyTarget { vault, events, inbox }.apply(plan)).await {
            vault.replace_catalogue(before);
            return Err(ReloadError::Incomplete(format!("{error:#}")));
        }
        // The provider's endpoints may have changed.
        vault.refresh().retry_changed_clients().await;
        // Other writers may have changed the directory since it was read.
        change.apply(sources).map_err(|errors| {
            ReloadError::Incomplete(
                errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "),
            )
        })?;
        last_config::remember_rules(&self.started, config.rules.len()).await;
        self.go_out(upstream, client_tls);
        self.services.telemetry.apply(collector);
        self.adopt(&config);
        self.sign_in(&config, client_secret);
        renewed.apply(&self.services.metrics);
        self.take_up_ca().await?;
        if let Some(verbosity) = &self.verbosity {
            verbosity.set(config.log.level);
        }
        let files = config.files();
        self.watched(move |watched| watched.set_files(files)).await;
        if let Some(unkept) = last_config::unkept_providers(&config) {
            last_config::keep_providers(unkept);
        }
        self.in_force = Arc::new(config);
        Ok(warnings(&waiting))
    }

    /// The plan of a reload with `file` as configuration. Changes nothing.
    async fn plan(&self, file: Option<PathBuf>) -> PlanView {
        let prepared = match self.prepare(file).await {
            Ok(prepared) => prepared,
            Err(ReloadError::Invalid(problems, _)) => {
                return plan::view(&Err(problems), Vec::new());
            }
            Err(ReloadError::Incomplete(told)) => {
                return plan::view(&Err(vec![unplaced(&told)]), Vec::new());
            }
        };
        let unstored = self.unstored_steps(&prepared);
        let Prepared { config, waiting, inputs, keyring, .. } = prepared;
        let refused = match &keyring {
            Some((_, keyring)) => self.services.keys.check(keyring).await.err(),
            None => None,
        };
        let (catalogue, sources) = self.sources(&config);
        let view = self.services.directory.view();
        let basis =
            Basis { config: &config, view: &view, catalogue: &catalogue, sources: &sources };
        let mut told = warnings(&waiting);
        told.extend(plan::unusual_keys(&config, &catalogue, &inputs));
        let mut plan = plan::plan(basis, inputs);
        if let Some(error) = refused {
            let mut problems = plan.err().unwrap_or_default();
            problems.push(unplaced(&format!("`master_key`: {error}")));
            plan = Err(problems);
        }
        if let Ok(plan) = &mut plan {
            plan.steps.extend(unstored);
        }
        plan::view(&plan, told)
    }

    /// The steps for what the file alone has. They write nothing: a reload puts all of it in force again.
    fn unstored_steps(&self, new: &Prepared) -> Vec<Step> {
        let (before, now) = (&*self.in_force, &new.config);
        let is_same_collector = self.services.telemetry.is_to(new.collector.as_ref());
        let mut steps =
            plan::steps_of_providers(&before.provider_definitions, &now.provider_definitions);
        let sections = [
            plan::step_of_section("upstream", self.upstream.changes(&new.upstream)),
            plan::step_of_section("telemetry", plan::differing([("otlp", !is_same_collector)])),
            plan::step_of_section("master_key", plan::differing([("keys", new.keyring.is_some())])),
        ];
        steps.extend(sections.into_iter().flatten());
        steps.extend(plan::steps_of_sections(before, now));
        let [before, now] =
            [before, now].map(|it| FilePolicy { rules: &it.rules, default: it.default });
        steps.extend(before.steps_to(&now));
        steps
    }

    fn sources(&self, config: &Config) -> (Arc<Catalogue>, PolicyInputs) {
        let catalogue = Arc::new(config.catalogue());
        let hostless = self.started.limits.hostless_rules_max;
        let rules = config.rules.clone();
        let sources = PolicyInputs::new(catalogue.clone(), config.default, rules, hostless);
        let sources = sources.naming(config.mentions());
        (catalogue, sources)
    }

    /// Reads everything on a blocking thread, because files may be slow, and key commands take time.
    /// `file`: another file than the gateway's.
    async fn prepare(&self, file: Option<PathBuf>) -> Result<Prepared, ReloadError> {
        let started = self.started.clone();
        let current = InForce {
            started: started.clone(),
            in_force: self.in_force.clone(),
            database_url: self.database_url,
            upstream: self.upstream.clone(),
            keys: self.keys.clone(),
            authority: self.services.authority.clone(),
            certificates: self.certificates.clone(),
        };
        let work = tokio::task::spawn_blocking(move || {
            let config = match file {
                None => started.reread(),
                Some(file) => started.with_file(&file),
            };
            prepared(config, &current)
        });
        work.await.unwrap_or_else(|error| {
            Err(ReloadError::Invalid(vec![unplaced(&error.to_string())], Vec::new()))
        })
    }

    /// Adopts replaced files of the CA. They were checked before. This is the last step: if it fails,
    /// everything else is in force, and the former CA stays in use.
    async fn take_up_ca(&self) -> Result<(), ReloadError> {
        let authority = self.services.authority.clone();
        let work = tokio::task::spawn_blocking(move || authority.reload());
        match work.await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(ReloadError::Incomplete(format!("`ca`: {error}"))),
            Err(error) => Err(ReloadError::Incomplete(error.to_string())),
        }
    }

    fn go_out(&mut self, upstream: UpstreamSettings, client_tls: Option<Arc<ClientConfig>>) {
        let Some(client_tls) = client_tls else { return };
        upstream.apply(&self.services.dialler, &client_tls);
        self.services.caller.replace_tls(client_tls.clone());
        self.gateway.replace_upstream_tls(client_tls);
        self.upstream = upstream;
    }

    /// Gives the services the settings that they read from now on.
    fn adopt(&self, config: &Config) {
        self.services.vault.lifecycle().replace_rotation_settings(config.rotation.clone());
        self.services.events.set(config.events.clone());
        self.services.inbox.set(config.events.clone());
        self.services.backups.set(config.backup.clone());
        let definitions = config.provider_definitions.clone();
        self.services.provider_definitions.send_replace(definitions);
        self.services.connect.send_replace(Arc::new(config.connect.clone()));
        self.withhold(config);
        self.follow(&config.oauth);
    }

    /// Gives sign-in the secret of its client. Other keys of `sign_in` wait for a restart.
    fn sign_in(&self, config: &Config, client_secret: Option<Secret>) {
        let settings = config.sign_in.settings.oidc.as_ref();
        let given = self.services.oidc.as_ref().zip(settings).zip(client_secret);
        if let Some(((party, settings), secret)) = given {
            party.replace_client_secret(settings, secret);
        }
    }

    /// Names the variables that the gateway reads secrets from now. What only a start reads stays in use until the next one.
    fn withhold(&self, config: &Config) {
        let names = [&*self.started, config].map(Config::secret_variables).concat();
        let names = names.into_iter().map(str::to_owned).collect();
        *self.services.secret_variables.lock() = names;
    }

    /// Adopts the limits of the OAuth engine. Running requests keep the old ones.
    fn follow(&self, settings: &TokenSettings) {
        self.services.vault.replace_token_settings(settings.clone());
        self.services.flows.set(settings.clone());
        self.gateway.resize_renewal_bodies(settings);
    }

    /// Uses the watched files on a blocking thread. `None` if that failed.
    async fn watched<T: Send + 'static>(
        &mut self,
        work: impl FnOnce(&mut WatchedFiles) -> T + Send + 'static,
    ) -> Option<T> {
        let mut watched = self.watched.take()?;
        let done = tokio::task::spawn_blocking(move || {
            let answer = work(&mut watched);
            (watched, answer)
        });
        let (watched, answer) = done.await.ok()?;
        self.watched = Some(watched);
        Some(answer)
    }
}

fn prepared(
    config: Result<Config, ConfigError>,
    current: &InForce,
) -> Result<Prepared, ReloadError> {
    let mut config = config.map_err(|error| {
        let told = match error.problems() {
            [] => vec![unplaced(&error.to_string())],
            problems => problems.to_vec(),
        };
        ReloadError::Invalid(told, Vec::new())
    })?;
    config.keep_providers_of(&current.in_force);
    let told = |text: String| vec![unplaced(&text)];
    let inputs = Inputs::load_again(&config);
    let upstream = UpstreamSettings::load(&config).map_err(|error| {
        vec![caused_by(error.as_ref(), unplaced(&system_error::chain(error.as_ref())))]
    });
    let ca = current.authority.check().map_err(|error| told(format!("`ca`: {error}")));
    let keyring = other_keys(&config, current);
    let keyring = keyring
        .map_err(|error| vec![caused_by(&error, unplaced(&format!("`master_key`: {error}")))]);
    let renewed = current.certificates.renewed().map_err(|error| told(format!("{error:#}")));
    let collector = Collector::load(&config);
    let read = (inputs, upstream, ca, keyring, renewed, collector);
    let (inputs, upstream, keyring, renewed, collector) = match read {
        (Ok(inputs), Ok(upstream), Ok(()), Ok(keyring), Ok(renewed), Ok(collector)) => {
            (inputs, upstream, keyring, renewed, collector)
        }
        (inputs, upstream, ca, keyring, renewed, collector) => {
            let errors = [
                inputs.err(),
                upstream.err(),
                ca.err(),
                keyring.err(),
                renewed.err(),
                collector.err(),
            ];
            let errors = errors.into_iter().flatten().flatten().collect();
            return Err(ReloadError::Invalid(errors, config.files()));
        }
    };
    let client_tls =
        match upstream == current.upstream {
            true => None,
            false => {
                let made = tls::client_config(&upstream.roots);
                Some(made.map_err(|error| {
                    ReloadError::Invalid(told(error.to_string()), config.files())
                })?)
            }
        };
    let waiting = waiting(&config, current);
    Ok(Prepared { config, waiting, inputs, upstream, client_tls, collector, renewed, keyring })
}

/// The changed keys that take effect at the next start. Reads the file of the database URL, in which another URL counts as
/// a change.
fn waiting(config: &Config, current: &InForce) -> Vec<&'static str> {
    let mut waiting = current.started.waits_for_restart(config);
    if current.started.store == config.store && DatabaseUrl::read(config) != current.database_url {
        waiting.push(URL_KEY);
    }
    waiting
}

fn warnings(waiting: &[&str]) -> Vec<String> {
    let waiting = waiting.iter();
    waiting.map(|key| format!("a change of `{key}` takes effect at the next start")).collect()
}

/// Reads the keys if the configuration names others than before.
fn other_keys(
    config: &Config,
    current: &InForce,
) -> Result<Option<(ConfiguredKeys, Keyring)>, KeyError> {
    let named = ConfiguredKeys::of(config, &current.started.store);
    if named == current.keys { Ok(None) } else { Ok(Some((named, keys::read(config)?))) }
}

//! Changes of the configuration while the gateway serves. Everything is read and judged before
//! anything is changed; then rules, providers, connections and agents come into force together. What
//! is refused leaves the old state; what fails half-way, because the store does, is tried again.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use rustls::ClientConfig;
use rustls_pki_types::CertificateDer;
use tokio::sync::watch;

use super::Services;
use super::apply::Target;
use super::fronts::{Fronts, Renewed};
use super::keys::{self, Named};
use super::notify::Manager;
use super::plan::{self, Basis, Inputs, unplaced};
use super::watched::{LOOK_EVERY, Watched};
use crate::config::{Config, ConfigError, Upstream};
use keyward_api::wire::{PlanView, ReloadView};
use keyward_api::{ReloadAsk, ReloadAsks};
use keyward_base::host::Host;
use keyward_base::tokens::TokenSettings;
use keyward_net::corporate::CorporateProxy;
use keyward_net::dial::Dialler;
use keyward_net::guard::AllowPrivate;
use keyward_net::tls;
use keyward_proxy::Gateway;
use keyward_proxy::ca::authority::Authority;
use keyward_rules::provider::Catalogue;
use keyward_rules::provider::document::Problem;
use keyward_state::crypto::keyring::Keyring;
use keyward_state::crypto::source::KeyError;
use keyward_state::observe::log::Verbosity;
use keyward_state::rulebook::Sources;

/// Between tries of a change that the store did not take.
const TRY_AGAIN_AFTER: Duration = Duration::from_secs(5);

/// Reads the configuration again when it is asked to, or a file has changed.
pub(super) struct Reloader {
    /// What the gateway was started with: what cannot change is as it says.
    pub(super) started: Arc<Config>,
    pub(super) services: Arc<Services>,
    pub(super) gateway: Arc<Gateway>,
    pub(super) outward: Outward,
    pub(super) fronts: Fronts,
    pub(super) keys: Named,
    pub(super) verbosity: Option<Verbosity>,
    pub(super) manager: Manager,
    /// `None` while a look is under way.
    pub(super) watched: Option<Watched>,
    pub(super) last: watch::Sender<Option<ReloadView>>,
    /// When a change that was taken in part is to be tried again.
    pub(super) again_at: Option<Instant>,
}

/// How upstreams are reached, as it is in force.
#[derive(Clone, PartialEq)]
pub(super) struct Outward {
    allow_private: Vec<AllowPrivate>,
    resolve: Vec<(Host, Option<u16>, SocketAddr)>,
    proxy: Option<CorporateProxy>,
    pub(super) roots: Vec<CertificateDer<'static>>,
}

/// The parts of the running configuration that a new one is compared with.
struct InForce {
    outward: Outward,
    keys: Named,
    authority: Arc<Authority>,
    fronts: Fronts,
}

/// A configuration with the files that it names.
struct Prepared {
    config: Config,
    inputs: Inputs,
    outward: Outward,
    client_tls: Option<Arc<ClientConfig>>,
    /// Certificates of listeners.
    renewed: Renewed,
    /// Master keys, where others are named than before.
    keyring: Option<(Named, Keyring)>,
}

/// Why nothing, or not everything, changed.
enum Refused {
    /// The configuration is wrong: nothing changed. With the files that it names, where one may be
    /// what is to be mended.
    Wrong(Vec<Problem>, Vec<PathBuf>),
    /// The store failed.
    Half(String),
}

impl Outward {
    /// Reads the roots of the configuration, and the password for a corporate proxy.
    pub(super) fn load(config: &Config) -> anyhow::Result<Self> {
        let mut roots = Vec::new();
        for path in &config.upstream.trust {
            let found = tls::load_pem_certs(path);
            roots.extend(found.with_context(|| format!("`upstream.trust`: {}", path.display()))?);
        }
        let Upstream { allow_private, resolve, proxy, .. } = config.upstream.clone();
        let hidden = config.secret_variables();
        let proxy = proxy.map(|proxy| proxy.load(&config.environment, &hidden)).transpose()?;
        Ok(Self { allow_private, resolve, proxy, roots })
    }

    /// Dials so from now on; upstreams are verified by `tls`.
    pub(super) fn apply(&self, dialler: &Dialler, tls: &ClientConfig) {
        let proxy = self.proxy.clone().map(|proxy| proxy.verified_as(tls));
        dialler.replace(self.allow_private.clone(), self.resolve.clone(), proxy);
    }
}

impl Reloader {
    /// Works until it is dropped.
    pub(super) async fn run(mut self, mut asks: ReloadAsks) {
        let mut look = tokio::time::interval(LOOK_EVERY);
        look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                Some(ask) = asks.recv() => {
                    // Who asked may have gone; `/status` still tells of a reload.
                    match ask {
                        ReloadAsk::Reload(answer) => drop(answer.send(self.reload().await)),
                        ReloadAsk::Plan(file, answer) => drop(answer.send(self.plan(file).await)),
                    }
                }
                _ = look.tick() => {
                    let again = self.again_at.is_some_and(|at| at <= Instant::now());
                    if self.watched(Watched::look).await.unwrap_or(false) || again {
                        self.reload().await;
                    }
                }
            }
        }
    }

    /// Reads, judges and applies, and tells what came of it.
    async fn reload(&mut self) -> ReloadView {
        self.manager.reloading();
        let began = Instant::now();
        let result = self.try_reload().await;
        self.manager.ready();
        let (mut errors, mut warnings) = (Vec::new(), Vec::new());
        self.again_at = None;
        match result {
            Ok(told) => {
                let took_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
                tracing::info!(took_ms, "the configuration was read again and is in force");
                warnings = told;
            }
            Err(Refused::Wrong(told, files)) => {
                errors = told.iter().map(ToString::to_string).collect();
                if !files.is_empty() {
                    self.watched(move |watched| watched.rests_on(files)).await;
                }
            }
            Err(Refused::Half(told)) => {
                self.again_at = Some(Instant::now() + TRY_AGAIN_AFTER);
                errors.push(format!("{told}; it is tried again until it succeeds"));
            }
        }
        for warning in &warnings {
            tracing::warn!("{warning}");
        }
        for error in &errors {
            tracing::error!("the configuration was refused, the old one stays: {error}");
        }
        let view = ReloadView { time: self.services.clock.now(), errors, warnings };
        self.last.send_replace(Some(view.clone()));
        view
    }

    async fn try_reload(&mut self) -> Result<Vec<String>, Refused> {
        self.watched(Watched::reading).await;
        let Prepared { config, inputs, outward, client_tls, renewed, keyring } =
            self.prepare(None).await?;
        let (vault, rulebook) = (&self.services.vault, &self.services.rulebook);
        let (catalogue, sources) = self.sources(&config);
        let change = rulebook.change().await;
        let view = self.services.directory.view();
        let basis =
            Basis { config: &config, view: &view, catalogue: &catalogue, sources: &sources };
        let plan = plan::plan(basis, inputs)
            .map_err(|problems| Refused::Wrong(problems, config.files()))?;
        if let Some((named, keyring)) = keyring {
            let taken = self.services.keys.take_up(keyring, named.home().clone()).await;
            taken.map_err(|error| {
                Refused::Wrong(vec![unplaced(&format!("`master_key`: {error}"))], config.files())
            })?;
            self.keys = named;
        }
        let (before, events) = (vault.catalogue(), &self.services.events);
        vault.know(catalogue);
        // On the heap: the rest of the time there is nothing to apply.
        if let Err(error) = Box::pin(Target { vault, events }.apply(plan)).await {
            vault.know(before);
            return Err(Refused::Half(format!("{error:#}")));
        }
        // A provider may be asked otherwise than before.
        vault.try_rejected_again().await;
        // The directory may have been changed by others since it was looked at.
        change.apply(sources).map_err(|errors| {
            Refused::Half(errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))
        })?;
        self.go_out(outward, client_tls);
        self.services.vault.rotate_by(config.rotation.clone());
        self.services.events.set(config.events.clone());
        self.follow(&config.oauth);
        renewed.apply();
        self.take_up_ca().await?;
        if let Some(verbosity) = &self.verbosity {
            verbosity.set(config.log.level);
        }
        let files = config.files();
        self.watched(move |watched| watched.rests_on(files)).await;
        Ok(self.warnings(&config))
    }

    /// What a reload would do, if the configuration stood in `file`. Reads and compares; nothing is changed.
    async fn plan(&self, file: Option<PathBuf>) -> PlanView {
        let Prepared { config, inputs, .. } = match self.prepare(file).await {
            Ok(prepared) => prepared,
            Err(Refused::Wrong(problems, _)) => return plan::view(&Err(problems), Vec::new()),
            Err(Refused::Half(told)) => return plan::view(&Err(vec![unplaced(&told)]), Vec::new()),
        };
        let (catalogue, sources) = self.sources(&config);
        let view = self.services.directory.view();
        let basis =
            Basis { config: &config, view: &view, catalogue: &catalogue, sources: &sources };
        plan::view(&plan::plan(basis, inputs), self.warnings(&config))
    }

    fn sources(&self, config: &Config) -> (Arc<Catalogue>, Sources) {
        let catalogue = Arc::new(config.catalogue());
        let hostless = self.started.limits.hostless_rules_max;
        let rules = config.rules.clone();
        let sources = Sources::new(catalogue.clone(), config.default, rules, hostless);
        (catalogue, sources)
    }

    fn warnings(&self, config: &Config) -> Vec<String> {
        let waiting = self.started.waits_for_restart(config).into_iter();
        waiting.map(|key| format!("a change of `{key}` takes effect at the next start")).collect()
    }

    /// Reads everything, off the async threads: files may be slow, and commands take their time. `file`: another
    /// one than its own.
    async fn prepare(&self, file: Option<PathBuf>) -> Result<Prepared, Refused> {
        let started = self.started.clone();
        let current = InForce {
            outward: self.outward.clone(),
            keys: self.keys.clone(),
            authority: self.services.authority.clone(),
            fronts: self.fronts.clone(),
        };
        let work = tokio::task::spawn_blocking(move || {
            let config = match file {
                None => started.again(),
                Some(file) => started.another(&file),
            };
            prepared(config, &current)
        });
        work.await.unwrap_or_else(|error| Err(Refused::Half(error.to_string())))
    }

    /// The CA's files, where somebody has replaced them. Judged before; last, because a failure here
    /// leaves nothing half: the rest is in force, and the CA before signs on.
    async fn take_up_ca(&self) -> Result<(), Refused> {
        let authority = self.services.authority.clone();
        let work = tokio::task::spawn_blocking(move || authority.reload());
        match work.await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(Refused::Half(format!("`ca`: {error}"))),
            Err(error) => Err(Refused::Half(error.to_string())),
        }
    }

    fn go_out(&mut self, outward: Outward, client_tls: Option<Arc<ClientConfig>>) {
        let Some(client_tls) = client_tls else { return };
        outward.apply(&self.services.dialler, &client_tls);
        self.services.caller.trust(client_tls.clone());
        self.gateway.replace_upstream_tls(client_tls);
        self.outward = outward;
    }

    /// The numbers of the OAuth engine: of what begins from now on. What is under way ends by those that
    /// it began with.
    fn follow(&self, settings: &TokenSettings) {
        self.services.vault.follow_settings(settings.clone());
        self.services.flows.set(settings.clone());
        self.gateway.resize_renewal_bodies(settings);
    }

    /// Works with the watched files, off the async threads. `None` when that failed.
    async fn watched<T: Send + 'static>(
        &mut self,
        work: impl FnOnce(&mut Watched) -> T + Send + 'static,
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

fn prepared(config: Result<Config, ConfigError>, current: &InForce) -> Result<Prepared, Refused> {
    let config = config.map_err(|error| {
        let told = match error.problems() {
            [] => vec![unplaced(&error.to_string())],
            problems => problems.to_vec(),
        };
        Refused::Wrong(told, Vec::new())
    })?;
    let told = |text: String| vec![unplaced(&text)];
    let inputs = Inputs::load(&config);
    let outward = Outward::load(&config).map_err(|error| told(format!("{error:#}")));
    let ca = current.authority.check().map_err(|error| told(format!("`ca`: {error}")));
    let keyring = other_keys(&config, &current.keys);
    let keyring = keyring.map_err(|error| told(format!("`master_key`: {error}")));
    let renewed = current.fronts.renewed().map_err(|error| told(format!("{error:#}")));
    let (inputs, outward, keyring, renewed) = match (inputs, outward, ca, keyring, renewed) {
        (Ok(inputs), Ok(outward), Ok(()), Ok(keyring), Ok(renewed)) => {
            (inputs, outward, keyring, renewed)
        }
        (inputs, outward, ca, keyring, renewed) => {
            let errors = [inputs.err(), outward.err(), ca.err(), keyring.err(), renewed.err()];
            let errors = errors.into_iter().flatten().flatten().collect();
            return Err(Refused::Wrong(errors, config.files()));
        }
    };
    let client_tls = match outward == current.outward {
        true => None,
        false => {
            let made = tls::client_config(&outward.roots);
            Some(made.map_err(|error| Refused::Wrong(told(error.to_string()), config.files()))?)
        }
    };
    Ok(Prepared { config, inputs, outward, client_tls, renewed, keyring })
}

/// The keys, when others are named than before: those in use are not read again.
fn other_keys(config: &Config, before: &Named) -> Result<Option<(Named, Keyring)>, KeyError> {
    let named = Named::of(config);
    match named == *before {
        true => Ok(None),
        false => Ok(Some((named, keys::read(config)?))),
    }
}

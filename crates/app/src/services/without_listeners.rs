//! Services of processes without listeners: what an installation has on disk, the rules as far as a start would
//! accept them, and services in memory with nothing but the declared resources, for tests of rules. Processes open
//! a shared store one after another: each holds the start lease meanwhile.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use super::{Inputs, OpenedServices, Services, ServingInputs, StartLease, all, leave_store};
use crate::config::{Config, StoreChoice};
use crate::error::{AppError, refused};
use crate::last_config;
use crate::plan;
use crate::plan::problem::AbsentName;
use crate::plan::refused_plan;
use keyward_api::wire::{PlanProblem, PlanView};
use keyward_proxy::ca::authority::Authority;
use keyward_state::crypto::keyring::Keyring;
use keyward_state::rulebook::Rulebook;
use keyward_state::store::Store;
use keyward_vault::keys::KeyLocation;

/// What a check of a file alone finds.
#[derive(Debug)]
pub struct FileCheck {
    /// A start would refuse the file.
    pub problems: Vec<PlanProblem>,
    /// What a start accepts, and what most likely means something else.
    pub warnings: Vec<PlanProblem>,
    /// Names of resources that the file does not declare; the store may have them.
    absent: Vec<AbsentName>,
}

impl FileCheck {
    /// A note of each name that the file does not declare.
    pub fn not_in_file(&self) -> Vec<PlanProblem> {
        let notes: Vec<_> = self.absent.iter().map(AbsentName::note).collect();
        refused_plan(&notes).problems
    }

    /// Problems of a plan of this file that are about names which the file does not declare: the store does not have
    /// them either.
    pub fn missing_in(&self, plan: &PlanView) -> Vec<String> {
        let is_missing =
            |problem: &&PlanProblem| self.absent.iter().any(|name| name.is_reported_by(problem));
        plan.problems.iter().filter(is_missing).map(|problem| problem.text.clone()).collect()
    }
}

impl Services {
    /// The agents, connections, bindings and rules of `config`. The connections have no grants: decisions
    /// do not need them, and nothing can be sent.
    ///
    /// # Errors
    /// All problems of the declared resources; resources of the store do not exist.
    pub async fn declared_only(config: &Config) -> anyhow::Result<Arc<Self>> {
        let inputs = Inputs::without_secrets(config).map_err(refused)?.of_rules();
        let opened = OpenedServices::in_memory(config, Authority::ephemeral()).await?;
        opened.bring_in_line(config, inputs).await?;
        let rulebook = opened.rulebook(config, config.rules.clone()).map_err(all)?;
        opened.finish(config, ServingInputs::at_rest(config), rulebook)
    }

    /// Judges the file alone: without secrets, and without a store.
    ///
    /// # Errors
    /// When the services in memory cannot be made.
    pub async fn check(config: &Config) -> anyhow::Result<FileCheck> {
        let inputs = match Inputs::without_secrets(config) {
            Ok(inputs) => inputs,
            Err(problems) => {
                let problems = refused_plan(&problems).problems;
                return Ok(FileCheck { problems, warnings: Vec::new(), absent: Vec::new() });
            }
        };
        let opened = OpenedServices::in_memory(config, Authority::ephemeral()).await?;
        let judgement = opened.judged(config, |basis| plan::judge(basis, inputs));
        let problems = refused_plan(&judgement.problems).problems;
        let warnings = refused_plan(&judgement.warnings).problems;
        Ok(FileCheck { problems, warnings, absent: judgement.absent })
    }
}

impl OpenedServices {
    /// The policy, with what a start would refuse in the rules of the configuration.
    ///
    /// # Errors
    /// When the stored rules alone do not compile.
    pub(super) fn rules_at_rest(&self, config: &Config) -> anyhow::Result<(Rulebook, Vec<String>)> {
        let forgotten = plan::forgotten_rules(config);
        let mut refused: Vec<_> = forgotten.iter().map(ToString::to_string).collect();
        if let Ok(rulebook) = self.rulebook(config, config.rules.clone()) {
            return Ok((rulebook, refused));
        }
        let judged = self.judged(config, plan::refused_rules);
        refused.extend(judged.iter().map(ToString::to_string));
        let sources = self.sources(config, config.rules.clone());
        match Rulebook::at_rest(sources, self.directory.clone()) {
            Ok(rulebook) => Ok((rulebook, refused)),
            // Without the rules of the file, so that stored ones can be changed; what depends on rules is refused.
            Err(errors) => {
                if refused.is_empty() {
                    refused = errors.iter().map(ToString::to_string).collect();
                }
                Ok((self.rulebook(config, Vec::new()).map_err(all)?, refused))
            }
        }
    }
}

impl Services {
    /// Whether a store exists on disk.
    pub fn are_stored(config: &Config) -> bool {
        let has_some = |path: &Path| fs::read_dir(path).is_ok_and(|mut all| all.next().is_some());
        match &config.store {
            StoreChoice::Sled { path } => has_some(path) || path.is_file(),
            StoreChoice::Postgres(_) => true,
            StoreChoice::Memory => false,
        }
    }

    /// Whether an embedded store may be made where there is none.
    ///
    /// # Errors
    /// When the file of the last start, which may name another store, was not given.
    pub fn may_make_store(config: &Config) -> Result<(), AppError> {
        last_config::check_store(config)
    }

    /// Whether the audit log of the configuration is that of the last start, as far as can be known.
    ///
    /// # Errors
    /// When there is none, and the file of the last start, which may name another one, was not given.
    pub fn check_audit_log(config: &Config) -> Result<(), AppError> {
        last_config::check_audit_log(config)
    }

    /// Whether a CA exists on disk, complete or not.
    pub fn has_authority(config: &Config) -> bool {
        Authority::is_made(&config.ca.cert, &config.ca.key).unwrap_or(true)
    }
}

impl OpenedServices {
    /// Waits for the start lease, and opens the services over this store.
    pub(super) async fn with_start_lease(
        config: &Config,
        store: Arc<dyn Store>,
        keyring: Arc<Keyring>,
        location: KeyLocation,
        authority: impl FnOnce() -> anyhow::Result<Authority>,
    ) -> anyhow::Result<Self> {
        let opened = store.clone();
        let start_lease = StartLease::wait(&store).await?;
        match Box::pin(Self::over(config, store, keyring, location, authority)).await {
            Ok(opened) => Ok(Self { starting: start_lease, ..opened }),
            Err(error) => {
                StartLease::release_if_held(start_lease).await;
                leave_store(&*opened).await;
                Err(error)
            }
        }
    }

    /// Lets the next process open the store.
    pub(super) async fn release_start_lease(&mut self) {
        StartLease::release_if_held(self.starting.take()).await;
    }
}

//! Services in memory with nothing but the declared resources: rules can be tested without the store, its
//! keys and its secrets.

use std::sync::Arc;

use super::{Inputs, OpenedServices, Services, ServingInputs, all, plan};
use crate::config::Config;
use crate::error::refused;
use crate::plan::problem::AbsentName;
use crate::plan::refused_plan;
use keyward_api::wire::{PlanProblem, PlanView};
use keyward_proxy::ca::authority::Authority;

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

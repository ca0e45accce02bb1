//! Converts a plan to its form in the API.

use super::step::{Plan, PlannedAction, Step};
use keyward_api::wire::{PlanProblem, PlanStep, PlanView, SecretCheck};
use keyward_rules::provider::document::Problem;

/// The view of a plan, or of its problems. `warnings`: further ones than those of the plan.
pub(crate) fn view(plan: &Result<Plan, Vec<Problem>>, mut warnings: Vec<String>) -> PlanView {
    match plan {
        Ok(plan) => {
            warnings.extend(plan.warnings.iter().map(ToString::to_string));
            let steps = plan.steps.iter().map(step_view).collect();
            PlanView { steps, problems: Vec::new(), warnings }
        }
        Err(problems) => PlanView { warnings, ..refused_plan(problems) },
    }
}

/// There is no plan: problems, with their places in parts.
pub fn refused_plan(problems: &[Problem]) -> PlanView {
    let each = problems.iter().map(|problem| PlanProblem {
        text: problem.to_string(),
        file: problem.line.and_then(|line| {
            let file = problem.origin.strip_suffix(&line.to_string())?.strip_suffix(':')?;
            Some(file.to_owned())
        }),
        line: problem.line,
        path: Some(problem.path.clone()).filter(|path| !path.is_empty()),
        message: problem.message.clone(),
        remedy: Some(problem.remedy.clone()).filter(|remedy| !remedy.is_empty()),
    });
    PlanView { problems: each.collect(), ..PlanView::default() }
}

pub(super) fn step_view(step: &Step) -> PlanStep {
    let action = match step.action {
        PlannedAction::Make => "make",
        PlannedAction::Change => "change",
        PlannedAction::Replace => "replace",
        PlannedAction::Pause => "pause",
        PlannedAction::Resume => "resume",
        PlannedAction::Remove => "remove",
        PlannedAction::Nothing => "nothing",
    };
    PlanStep {
        action: action.to_owned(),
        kind: step.subject.kind.to_owned(),
        org: step.subject.org.name().to_owned(),
        name: step.subject.name.clone(),
        agent: step.subject.agent.clone(),
        changes: step.changes.clone(),
        secret: step.compares_secret.then_some(SecretCheck::CheckedWhenApplied),
        place: step.subject.place.clone(),
    }
}

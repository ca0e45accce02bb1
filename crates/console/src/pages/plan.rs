//! `/settings/plan`: what a reload of the configuration file would change, before it is done.

use axum::Router;
use maud::{Markup, html};

use super::settings::runs_install;
use crate::frame::{Page, Section};
use crate::parts::{Action, chips, count, empty, head};
use crate::visit::{Console, PageError, Visit, sentence};
use keyward_api::handler::get;
use keyward_api::wire::{PlanProblem, PlanRequest, PlanStep, PlanView};

/// Steps that the page shows.
const STEPS: usize = 60;

pub(super) fn routes() -> Router<Console> {
    Router::new().route("/settings/plan", get(show))
}

async fn show(visit: Visit) -> Result<Page, PageError> {
    if !runs_install(&visit) {
        return Err(PageError::not_allowed());
    }
    let plan: PlanView = visit.ask("/plan", &PlanRequest::default()).await?;
    let changes: Vec<_> = plan.steps.iter().filter(|step| step.action != "nothing").collect();
    let same = plan.steps.len() - changes.len();
    let reload = Action {
        api: "POST /reload".to_owned(),
        label: "Reload configuration",
        done: "The configuration is in force.",
        to: Some("/settings"),
        class: "first",
        ..Action::default()
    };
    let is_worth_it = plan.problems.is_empty() && !changes.is_empty();
    let content = html! {
        p.crumb { a href="/settings" { "Settings" } }
        (head(
            html! { "Plan of the configuration" },
            Some(html! { (count(changes.len(), "change")) " · " (same) " as they are" @if !plan.problems.is_empty() { " · " (count(plan.problems.len(), "problem")) } }),
            html! { a.button href="/settings/plan" { "Plan again" } @if is_worth_it { (reload.show()) } },
        ))
        @if !plan.problems.is_empty() { section.panel { header { h2 { "Problems" } } (problems(&plan.problems)) } }
        @for warning in &plan.warnings { div.notice.warn { p { "Waits for a restart: " (warning) } } }
        @if plan.problems.is_empty() { section.panel {
            @if changes.is_empty() { (empty("Nothing would change", "The gateway holds what the configuration file declares.", None)) }
            @else {
                (steps(&changes[..changes.len().min(STEPS)]))
                @if changes.len() > STEPS { div.foot { (changes.len() - STEPS) " more" } }
            }
        } }
    };
    Ok(Page::new(&visit, Section::Settings, "Plan", content))
}

fn problems(problems: &[PlanProblem]) -> Markup {
    html! {
        ul.rows { @for problem in problems { li { div.grow {
            p { @if let Some(path) = &problem.path { code { (path) } ": " } (problem.message) }
            p.small.muted {
                @if let Some(file) = &problem.file { code { (file) @if let Some(line) = problem.line { ":" (line) } } " " }
                @if let Some(remedy) = &problem.remedy { (sentence(remedy)) }
            }
        } } } }
        div.foot { "With a problem, a reload is refused and the configuration before it stays in force." }
    }
}

fn steps(steps: &[&PlanStep]) -> Markup {
    html! {
        ul.rows { @for step in steps { li {
            span class=(class_of(&step.action)) { (word(&step.action)) }
            div.grow {
                p { (step.kind) " " b { (step.name) } @if let Some(agent) = &step.agent { " of " (agent) } @if step.org != "default" { span.muted { " in " (step.org) } } }
                @if !step.changes.is_empty() { p.small.muted { "differs: " (chips(&step.changes)) } }
                @if step.secret.is_some() { p.small.muted { "Its secret is compared when the plan is applied." } }
            }
            @if let Some(place) = &step.place { code.small.muted { (place) } }
        } } }
    }
}

/// A step for people.
fn word(action: &str) -> &str {
    match action {
        "make" => "add",
        action => action,
    }
}

fn class_of(action: &str) -> &'static str {
    match action {
        "make" | "resume" => "chip ok",
        "remove" | "replace" => "chip bad",
        "pause" => "chip warn",
        _ => "chip",
    }
}

//! `keyward plan`: what a configuration would make, change, pause and remove. `keyward reload`: asks the running
//! gateway to read its configuration again; with `--dry-run`, only for the plan. A running gateway compares it with
//! what it holds; without one, this process compares it with the store.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::client::Client;
use super::failure::{Exit, Failure};
use super::output;
use super::settings::Global;
use super::terminal::table::{Table, TableLayout};
use keyward_api::wire::{PlanRequest, PlanStep, PlanView, ReloadView};
use keyward_app::config::Config;
use keyward_app::{self as app, Services};

pub(super) const EXAMPLES: &str = "\
Prints what would be made, changed (with the keys), replaced, paused, resumed
and removed. Whether a secret differs from the stored one is checked when the
configuration is applied. Rules, own providers and settings are compared with
those in force, which only a running gateway knows.

examples:
  keyward plan
  keyward plan new.yaml && mv new.yaml keyward.yaml

exit codes: 0 nothing is wrong, 1 the configuration would be refused; every
problem is printed";

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// configuration file; default: the gateway's own, as it is on the disk
    #[arg(value_name = "FILE")]
    file: Option<PathBuf>,
}

impl Args {
    pub(crate) async fn run(self, global: &Global) -> Result<(), Failure> {
        let file = self.file.map(std::path::absolute).transpose();
        let file = file.map_err(|error| Failure::failed("cannot find the file", &error))?;
        let client = Client::if_running(global).await?;
        // A file on another machine is not visible from here.
        if client.as_ref().is_none_or(|client| client.host().is_none()) {
            file.as_deref().map(exists).transpose()?;
        }
        show(global, &of_file(global, client.as_ref(), file).await?)
    }
}

/// Whether there is such a file. The gateway may read one that this user cannot.
fn exists(file: &Path) -> Result<(), Failure> {
    match fs::metadata(file) {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            Err(Failure::failed(&format!("cannot read {}", file.display()), &error))
        }
        _ => Ok(()),
    }
}

/// Asks the running gateway what a reload would do.
pub(super) async fn of_reload(global: &Global) -> Result<(), Failure> {
    let client = Client::running(global).await?;
    show(global, &client.post("/api/v1/plan", &PlanRequest::default()).await?)
}

/// The plan of a file, or of the configuration of the gateway: of the running gateway, or without one of this process.
pub(super) async fn of_file(
    global: &Global,
    gateway: Option<&Client>,
    file: Option<PathBuf>,
) -> Result<PlanView, Failure> {
    match gateway {
        Some(client) => client.post("/api/v1/plan", &PlanRequest { file }).await,
        None => at_rest(global, file).await,
    }
}

/// Without a gateway. Secrets are read with the rights and the environment of this process.
async fn at_rest(global: &Global, file: Option<PathBuf>) -> Result<PlanView, Failure> {
    let file = file.as_deref().or(global.config.as_deref());
    let config = match Config::load(file, global.data.as_deref()) {
        Ok(config) => config,
        Err(error) if error.problems().is_empty() => return Err(error.into()),
        Err(error) => return Ok(app::refused_plan(error.problems())),
    };
    output::note(match Services::are_stored(&config) {
        true => {
            "note: no gateway runs: rules, providers and settings of the file are checked, but not compared with those of \
             the last start"
        }
        false => "note: nothing is stored yet: everything is new",
    });
    Ok(Services::plan(&config).await?)
}

/// Prints a plan.
///
/// # Errors
/// When the configuration would be refused.
pub(super) fn show(global: &Global, view: &PlanView) -> Result<(), Failure> {
    if global.json {
        output::print_json(view)?;
    }
    match view.problems.is_empty() {
        false if global.json => Err(Failure::silent(Exit::Failed)),
        false => Err(Failure::refused_configuration(&view.problems)),
        true if global.json => Ok(()),
        true => {
            output::notes("warning", view.warnings.iter());
            output::print(&text(&view.steps, &output::layout(global)))
        }
    }
}

fn text(steps: &[PlanStep], layout: &TableLayout) -> String {
    let mut table = Table::new(["ACTION", "KIND", "NAME", "CHANGES", "PLACE"]);
    for step in steps.iter().filter(|step| step.action != "nothing") {
        let secret = step.secret.map(|_| "secret: checked when applied");
        let ends = matches!(&*step.action, "remove" | "replace") && step.kind == "honeytoken";
        let lost = ends.then_some("its text is lost");
        let changes = step.changes.iter().map(String::as_str).chain(secret).chain(lost);
        table.row([
            step.action.clone().into(),
            step.kind.clone().into(),
            name(step).into(),
            changes.collect::<Vec<_>>().join(", ").into(),
            step.place.clone().unwrap_or_default().into(),
        ]);
    }
    let mut text = table.render("nothing to make, change, pause or remove", layout);
    let is_checked = |step: &&PlanStep| step.action == "nothing" && step.secret.is_some();
    match steps.iter().filter(is_checked).count() {
        0 => {}
        1 => text.push_str("1 unchanged resource has a secret: checked when applied\n"),
        count => text.push_str(&format!(
            "{count} unchanged resources have a secret: checked when applied\n"
        )),
    }
    text
}

/// With the agent of a plugin, and the organisation where it is not the usual one.
fn name(step: &PlanStep) -> String {
    let of = step.agent.iter().map(|agent| format!(" of {agent}"));
    let is_told = step.org != "default" && step.kind != "organisation";
    let within = is_told.then(|| format!(" in {}", step.org));
    std::iter::once(step.name.clone()).chain(of).chain(within).collect()
}

#[derive(Debug, clap::Args)]
pub(crate) struct ReloadArgs {
    /// print what would be made, changed, paused and removed, and change nothing
    #[arg(long)]
    dry_run: bool,
}

impl ReloadArgs {
    pub(crate) async fn run(self, global: &Global) -> Result<(), Failure> {
        if self.dry_run {
            return of_reload(global).await;
        }
        let client = Client::running(global).await?;
        let view: ReloadView = client.post("/api/v1/reload", &serde_json::json!({})).await?;
        if !global.json {
            for warning in &view.warnings {
                output::note(&format!("warning: {warning}"));
            }
        }
        output::show(global.json, &view, |_| "reloaded\n".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use keyward_api::wire::SecretCheck;

    fn step(action: &str, kind: &str, changes: &[&str]) -> PlanStep {
        PlanStep {
            action: action.to_owned(),
            kind: kind.to_owned(),
            org: "default".to_owned(),
            name: "work".to_owned(),
            agent: None,
            changes: changes.iter().map(|&key| key.to_owned()).collect(),
            secret: None,
            place: None,
        }
    }

    #[test]
    fn a_plan_is_a_table_of_the_steps_that_change_something() {
        let place = Some("keyward.yaml:12: connections[0]".to_owned());
        let secret = Some(SecretCheck::CheckedWhenApplied);
        let steps = [
            PlanStep { place: place.clone(), ..step("make", "connection", &[]) },
            PlanStep { place, secret, ..step("resume", "connection", &["scopes", "settings"]) },
            PlanStep { org: "elsewhere".to_owned(), ..step("pause", "agent", &[]) },
            PlanStep { agent: Some("bot".to_owned()), ..step("change", "plugin", &["slots"]) },
            step("remove", "honeytoken", &[]),
            PlanStep { secret, ..step("nothing", "app", &[]) },
            step("nothing", "agent", &[]),
        ];
        insta::assert_snapshot!(text(&steps, &TableLayout::FULL), @r"
        ACTION   KIND         NAME                CHANGES                                          PLACE
        make     connection   work                                                                 keyward.yaml:12: connections[0]
        resume   connection   work                scopes, settings, secret: checked when applied   keyward.yaml:12: connections[0]
        pause    agent        work in elsewhere
        change   plugin       work of bot         slots
        remove   honeytoken   work                its text is lost
        1 unchanged resource has a secret: checked when applied
        ");
        insta::assert_snapshot!(text(&steps[6..], &TableLayout::FULL), @"nothing to make, change, pause or remove");
    }
}

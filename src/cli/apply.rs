//! `keyward apply FILE`: makes a file the configuration of the gateway. The plan is shown first. The file takes the place
//! of the gateway's own in one step; if the gateway refuses it then, the file of before is put back.

use std::fs::{self, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;
use serde::Serialize;

use super::client::Client;
use super::failure::{Exit, Failure};
use super::files::{chown_like, replace_file_like};
use super::settings::Global;
use super::terminal::confirm::Confirm;
use super::{output, plan};
use keyward_api::wire::{PlanView, ReloadView, Status};
use keyward_base::codes::Code;

pub(super) const EXAMPLES: &str = "\
FILE becomes the whole configuration: what it does not name is paused or
removed, as the plan says. Resources that were added by commands stay. Relative
paths in it begin at the folder of the gateway's configuration file. The
previous file is kept beside it as NAME.before-apply.

examples:
  keyward apply staging.yaml --dry-run
  git pull && keyward apply keyward.yaml --yes";

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// the new configuration
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// print the plan, and change nothing
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    confirm: Confirm,
}

#[derive(Serialize)]
struct Applied {
    plan: PlanView,
    applied: bool,
    /// The gateway's configuration file.
    config: PathBuf,
    warnings: Vec<String>,
}

/// A copy of the file in the folder of the gateway's own, so that both mean the same by relative paths. Removed when
/// dropped, unless it took the place of that one.
struct CandidateFile {
    path: PathBuf,
    config: PathBuf,
}

impl Args {
    pub(crate) async fn run(self, global: &Global) -> Result<(), Failure> {
        global.require_local_gateway("apply")?;
        let shown = self.file.display().to_string();
        let text = fs::read(&self.file)
            .map_err(|error| Failure::failed(&format!("cannot read {shown}"), &error))?;
        let gateway = Client::if_running(global).await?;
        let config = match &gateway {
            Some(client) => config_of(client).await?,
            None => global.load()?.file().to_owned(),
        };
        let candidate = CandidateFile::write(&text, &config)?;
        let plan = plan::of_file(global, gateway.as_ref(), Some(candidate.path.clone())).await?;
        let plan = candidate.named(plan, &shown);
        let mut applied = Applied { plan, applied: false, config, warnings: Vec::new() };
        if !global.json || !applied.plan.problems.is_empty() {
            plan::show(global, &applied.plan)?;
        }
        if !self.dry_run {
            self.ask(&applied.config)?;
            applied.warnings = candidate.install(gateway.as_ref()).await?;
            applied.applied = true;
        }
        match (global.json, applied.applied) {
            (true, _) => output::print_json(&applied),
            (false, false) => Ok(()),
            (false, true) => {
                for warning in &applied.warnings {
                    output::note(&format!("warning: {warning}"));
                }
                output::print(match gateway {
                    Some(_) => "applied\n",
                    None => "applied; no gateway runs: it is in force at the next start\n",
                })
            }
        }
    }

    /// A changed configuration needs a yes, also of a script.
    fn ask(&self, config: &Path) -> Result<(), Failure> {
        if !self.confirm.asks() && !self.confirm.is_given() {
            return Err(Failure::new(Exit::Failed, "nothing was applied").hint("add --yes"));
        }
        self.confirm.ask(format!("replace {}", config.display()), &[])
    }
}

impl CandidateFile {
    fn write(text: &[u8], config: &Path) -> Result<Self, Failure> {
        let failed = |error: io::Error| {
            let folder = folder_of(config).display();
            Failure::failed(&format!("cannot write in {folder}"), &error)
                .hint("run this as the user who owns the configuration file")
        };
        let about = fs::symlink_metadata(config).ok();
        if about.as_ref().is_some_and(fs::Metadata::is_symlink) {
            let message = format!("{} is a link", config.display());
            return Err(Failure::new(Exit::Failed, message).hint("replace what it points to"));
        }
        let name = config.file_name().unwrap_or_default().to_string_lossy();
        let path = config.with_file_name(format!(".{name}.{}", std::process::id()));
        let candidate = Self { path, config: config.to_owned() };
        let write = || -> io::Result<()> {
            let mut options = OpenOptions::new();
            let mut file =
                options.write(true).create_new(true).mode(0o600).open(&candidate.path)?;
            file.write_all(text)?;
            match &about {
                // For the readers of the file that it replaces.
                Some(about) => {
                    let own = file.metadata()?;
                    if (about.uid(), about.gid()) != (own.uid(), own.gid()) {
                        fchown(&file, Some(about.uid()), Some(about.gid()))?;
                    }
                    file.set_permissions(fs::Permissions::from_mode(about.mode() & 0o777))?;
                }
                None => chown_like(&file, &fs::metadata(folder_of(config))?)?,
            }
            file.sync_all()
        };
        write().map_err(failed)?;
        Ok(candidate)
    }

    /// The plan with the name of the file that the user gave.
    fn named(&self, mut plan: PlanView, shown: &str) -> PlanView {
        let own = self.path.display().to_string();
        let name = self.path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let named = |text: &str| text.replace(&own, shown).replace(&name, shown);
        for step in &mut plan.steps {
            step.place = step.place.as_deref().map(named);
        }
        for problem in &mut plan.problems {
            problem.text = named(&problem.text);
        }
        plan
    }

    /// Takes the place of the gateway's file, and makes the gateway read it. Returns the warnings of that.
    async fn install(&self, gateway: Option<&Client>) -> Result<Vec<String>, Failure> {
        let before = before(&self.config);
        let failed = |error: io::Error| {
            Failure::failed(&format!("cannot replace {}", self.config.display()), &error)
        };
        let had_one = keep_copy(&self.config, &before).map_err(failed)?;
        fs::rename(&self.path, &self.config).map_err(failed)?;
        let Some(client) = gateway else { return Ok(Vec::new()) };
        match reload(client).await {
            Ok(view) => Ok(view.warnings),
            Err(failure) => {
                let back = match had_one {
                    true => fs::rename(&before, &self.config),
                    false => fs::remove_file(&self.config),
                };
                back.map_err(failed)?;
                // After a refusal this only tells it so; an interrupted reload may have left the old
                // configuration.
                let restored = reload(client).await;
                Err(match failure.has_code(Code::ReloadIncomplete) {
                    true => failure.hint(match restored {
                        Ok(_) => "the configuration of before is in force again",
                        Err(_) => {
                            "the file of before is back; the gateway tries it until it is in force, \
                             which `keyward status` shows"
                        }
                    }),
                    false => failure,
                })
            }
        }
    }
}

impl Drop for CandidateFile {
    fn drop(&mut self) {
        // The file is absent after the rename.
        drop(fs::remove_file(&self.path));
    }
}

/// The gateway's configuration file, which it does not name to callers who may not read the installation.
async fn config_of(client: &Client) -> Result<PathBuf, Failure> {
    let status: Status = client.get("/api/v1/status").await?;
    match status.config.is_empty() {
        false => Ok(status.config.into()),
        true => Err(Failure::new(Exit::Forbidden, "this token may not read the configuration")
            .hint("use the token of an admin of `default`, or none on the gateway's machine")),
    }
}

async fn reload(client: &Client) -> Result<ReloadView, Failure> {
    client.post("/api/v1/reload", &serde_json::json!({})).await
}

/// Copies a configuration, if there is one, with its owner and mode. Neither path is followed if it is a link: the folder may
/// belong to another user. Returns whether there is one.
fn keep_copy(config: &Path, copy: &Path) -> io::Result<bool> {
    let no_link = OFlags::NOFOLLOW.bits().cast_signed();
    let mut file = match OpenOptions::new().read(true).custom_flags(no_link).open(config) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error),
    };
    let mut content = Vec::new();
    file.read_to_end(&mut content)?;
    replace_file_like(copy, &content, &file.metadata()?)?;
    Ok(true)
}

fn folder_of(config: &Path) -> &Path {
    match config.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

/// The path of the former configuration.
fn before(config: &Path) -> PathBuf {
    let mut name = config.file_name().unwrap_or_default().to_os_string();
    name.push(".before-apply");
    config.with_file_name(name)
}

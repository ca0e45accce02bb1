//! `keyward doctor -- CMD`: the program in the environment of `keyward run`, but before a probe: a
//! proxy of this process, with a CA of its own, that answers every host itself and reaches none. What
//! it sees tells whether the program's HTTP stack would use the gateway, and what it needs if not.

mod listener;
mod remedy;
mod seen;
mod stack;
mod verdict;
mod watch;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;

use self::listener::Listener;
use self::seen::Asked;
use self::verdict::Observed;
use self::watch::Watch;
use super::report::Report;
use crate::admin::SOCKET_NAME;
use crate::admin::wire::{AgentView, ExplainAsk, Explanation};
use crate::base::id::AgentId;
use crate::ca::authority::{Authority, platform_pem};
use crate::cli::client::{Client, segment};
use crate::cli::environment::files::Paths;
use crate::cli::environment::{DEFAULT_AGENT, Facts, Inherited};
use crate::cli::failure::{Exit, Failure};
use crate::cli::output;
use crate::cli::run::child::Child;
use crate::cli::run::folder::Folder;
use crate::cli::settings::Global;
use crate::config::Config;

/// Requests of which the gateway is asked what it would do.
const EXPLAINED_MAX: usize = 10;

/// Runs the program, and judges what was seen.
pub(super) async fn run(
    global: &Global,
    agent: &str,
    program: &[OsString],
) -> Result<Report, Failure> {
    let config = global.load().ok();
    let data = global.data_dir().ok();
    let facts = facts(global, data.as_deref(), agent).await?;
    let name = facts.agent.name.clone();
    let authority = Arc::new(Authority::ephemeral());
    let roots = platform_pem()
        .map_err(|error| Failure::failed("cannot make the bundle of certificates", &error))?;
    let facts = facts.before(authority.cert_pem(), &roots);
    let token = format!("probe-{}", AgentId::random());
    let listener = Listener::open(authority, &token).await?;
    let folder = Temporary::make()?;
    let (paths, inherited) = (Paths::new(folder.path()), Inherited::of_process());
    let made = facts.environment((&listener.at().to_string(), &token), &paths, &inherited);
    made.files.write(folder.path()).map_err(|error| {
        Failure::failed(&format!("cannot write into {}", folder.path().display()), &error)
    })?;
    // Standard output is for the JSON alone.
    let stdout = if global.json { Stdio::from(std::io::stderr()) } else { Stdio::inherit() };
    let hidden = config.as_ref().map_or_else(Vec::new, Config::secret_variables);
    let mut child = Child::spawn(program, &made, (&hidden, stdout))?;
    let mut watch = Watch::new(child.id(), listener.at(), &made);
    let exit_code = tokio::select! {
        code = child.ended() => code?,
        never = watch.follow() => match never {},
    };
    let events = listener.settled().await;
    let observed = Observed { events, watch, program: program.to_vec(), agent: name };
    let mut report = Report { exit_code: Some(exit_code), ..Report::default() };
    verdict::judge(&observed, &mut report);
    explain(global, data.as_deref(), &observed, &mut report).await;
    Ok(report)
}

/// The agent as the gateway knows it, so that its placeholders are set. Where there is no install,
/// an agent without any: nothing is made here.
async fn facts(global: &Global, data: Option<&Path>, agent: &str) -> Result<Facts, Failure> {
    if !data.is_some_and(is_install) && agent == DEFAULT_AGENT {
        return Ok(Facts::of_nobody(agent));
    }
    let client = match Client::open(global).await {
        Ok(client) => client,
        Err(failure) if agent == DEFAULT_AGENT => {
            let why = failure.message();
            output::note(&format!("note: no placeholders are set: {why}"));
            return Ok(Facts::of_nobody(agent));
        }
        Err(failure) => return Err(failure),
    };
    match client.get::<AgentView>(&format!("/api/v1/agents/{}", segment(agent))).await {
        Err(failure) if failure.exit() == Exit::NotFound && agent == DEFAULT_AGENT => {
            Ok(Facts::of_nobody(agent))
        }
        Err(failure) => Err(failure),
        Ok(_) => Facts::of(&client, agent).await,
    }
}

/// Whether there is something that a command would not have to make.
fn is_install(data: &Path) -> bool {
    data.join("store").exists() || data.join(SOCKET_NAME).exists()
}

/// What the gateway would do with the requests that arrived.
async fn explain(global: &Global, data: Option<&Path>, observed: &Observed, report: &mut Report) {
    let asked: Vec<&Asked> = observed.first_requests().take(EXPLAINED_MAX).collect();
    if asked.is_empty() || !data.is_some_and(is_install) {
        return;
    }
    // Its complaint is that of `doctor` without a program.
    let Ok(client) = Client::open(global).await else { return };
    for Asked { host, method, url, .. } in asked {
        let ask = ExplainAsk {
            agent: observed.agent.clone(),
            method: Some(method.clone()),
            url: url.clone(),
            connection: None,
            headers: std::collections::BTreeMap::new(),
        };
        let Ok(told) = client.post::<Explanation>("/api/v1/rules/explain", &ask).await else {
            continue;
        };
        for stop in told.stopped_by {
            // Without the path, where a secret may stand.
            let message = format!("the gateway would refuse {method} at {host}: {}", stop.message);
            report.warn("policy", message, stop.hint.unwrap_or_default());
        }
    }
}

/// A folder for the files of one probe, below the system's for temporary ones.
struct Temporary {
    path: PathBuf,
    /// Removed first.
    folder: Option<Folder>,
}

impl Temporary {
    fn make() -> Result<Self, Failure> {
        let path = std::env::temp_dir().join(format!("keyward-doctor-{}", AgentId::random()));
        Ok(Self { folder: Some(Folder::make(&path)?), path })
    }

    fn path(&self) -> &Path {
        self.folder.as_ref().map_or(&self.path, Folder::path)
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        drop(self.folder.take());
        if let Err(error) = std::fs::remove_dir_all(&self.path) {
            tracing::warn!(%error, path = %self.path.display(), "the files of the probe are left");
        }
    }
}

//! `keyward doctor -- CMD`: runs the program with the environment of `keyward run`, but with a probe as
//! its proxy. The probe answers for every host itself and connects to none. From what it sees, the
//! report tells whether the program's HTTP stack would use the gateway, and what to change if not.

mod answers;
mod family;
mod lease;
mod listener;
mod remedy;
mod seen;
mod stack;
mod verdict;
mod watch;

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;

use self::lease::{Given, Lease};
use self::listener::Listener;
use self::remedy::Whose;
use self::seen::{Asked, By};
use self::verdict::Observed;
use self::watch::Watch;
use super::report::Report;
use crate::cli::client::{Client, segment};
use crate::cli::environment::files::Paths;
use crate::cli::environment::{DEFAULT_AGENT, Entrance, Environment, Facts, Inherited};
use crate::cli::failure::{Exit, Failure};
use crate::cli::output;
use crate::cli::run::child::Child;
use crate::cli::run::folder::Folder;
use crate::cli::settings::Global;
use crate::config::Config;
use keyward_api::SOCKET_NAME;
use keyward_api::wire::{ExplainAsk, Explanation};
use keyward_base::id::AgentId;
use keyward_base::time::Clock;
use keyward_model::{Agent, Shown};
use keyward_proxy::ca::authority::{Authority, platform_pem};

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
    let Known { facts, own } = known(global, data.as_deref(), agent).await?;
    let whose = whose(&facts, own);
    let authority = Arc::new(authority(config.as_ref()));
    let roots = platform_pem()
        .map_err(|error| Failure::failed("cannot make the bundle of certificates", &error))?;
    let facts = facts.before(authority.cert_pem(), &roots);
    let token = format!("probe-{}", AgentId::random());
    let listener = Listener::open(authority, &token).await?;
    let folder = Temporary::make()?;
    let (paths, inherited) = (Paths::new(folder.path()), Inherited::of_process());
    // Where the agent has a listener of its own, so it has here.
    let own = own.map(|_| listener.own());
    let entrance = Entrance { proxy: &listener.at().to_string(), own, token: &token };
    let made = facts.environment(entrance, &paths, &inherited);
    made.files.write(folder.path()).map_err(|error| {
        Failure::failed(&format!("cannot write into {}", folder.path().display()), &error)
    })?;
    let given = Given { program, set: &made.variables };
    let lease = Lease::take((global, config.as_ref()), listener.handed(), &given).await?;
    let listeners = lease.listeners.clone();
    let hidden = config.as_ref().map_or_else(Vec::new, Config::secret_variables);
    // Standard output is for the JSON alone.
    let stdout = if global.json { Stdio::from(std::io::stderr()) } else { Stdio::inherit() };
    let ran = ended(lease, &made, (program, &listener), (&hidden, stdout)).await?;
    let events = listener.settled().await;
    let observed = Observed { events, watch: ran.watch, program: program.to_vec(), whose };
    let mut report = Report { exit_code: Some(ran.exit_code), ..Report::default() };
    verdict::judge(&observed, &mut report);
    explain((global, data.as_deref()), &observed, &listeners, &mut report).await;
    Ok(report)
}

/// The CA of the install, so that a client that has it in a store of its own is judged by that; else one
/// that nobody knows.
fn authority(config: Option<&Config>) -> Authority {
    let Some(ca) = config.map(|config| &config.ca).filter(|ca| ca.cert.exists()) else {
        return Authority::ephemeral();
    };
    Authority::read(&ca.cert, &ca.key, &Clock::System).unwrap_or_else(|error| {
        output::note(&format!(
            "note: the probe has a CA of its own, because that of the gateway cannot be used: {error}; \
             a program that keeps CAs in a store of its own does not trust it"
        ));
        Authority::ephemeral()
    })
}

/// A program that has ended.
struct Ran {
    exit_code: u8,
    watch: Watch,
}

/// Runs the program to its end, and ends what it leaves behind, before the gateway serves it again.
async fn ended(
    mut lease: Lease,
    made: &Environment,
    (program, listener): (&[OsString], &Listener),
    (hidden, stdout): (&[&str], Stdio),
) -> Result<Ran, Failure> {
    family::adopt();
    let mut child = Child::spawn(program, made, (hidden, stdout))?;
    let proxies = [listener.at(), listener.own()].into_iter().chain(lease.listeners.clone());
    let mut watch = Watch::new(proxies.collect(), made);
    let exit_code = tokio::select! {
        code = child.ended() => code?,
        never = watch.follow() => match never {},
        why = lease.broken() => {
            family::kill().await;
            let message = format!("the program was stopped: {why} and could have served it");
            return Err(Failure::new(Exit::Failed, message).hint("run it again"));
        }
    };
    family::end().await;
    drop(lease);
    Ok(Ran { exit_code, watch })
}

/// An agent, and its own listener over TCP.
struct Known {
    facts: Facts,
    own: Option<SocketAddr>,
}

fn whose(facts: &Facts, listener: Option<SocketAddr>) -> Whose {
    let connection = match &facts.agent.facts.bindings[..] {
        [only] => Some(only.name.clone()),
        _ => None,
    };
    Whose { agent: facts.agent.name.clone(), listener, connection }
}

/// The agent as the gateway knows it, so that its placeholders are set. Where there is no install,
/// an agent without any: nothing is made here.
async fn known(global: &Global, data: Option<&Path>, agent: &str) -> Result<Known, Failure> {
    let nobody = || Known { facts: Facts::of_nobody(agent), own: None };
    if !data.is_some_and(is_install) && agent == DEFAULT_AGENT {
        return Ok(nobody());
    }
    let client = match Client::open(global).await {
        Ok(client) => client,
        Err(failure) if agent == DEFAULT_AGENT => {
            let why = failure.message();
            output::note(&format!("note: no placeholder is set: {why}"));
            return Ok(nobody());
        }
        Err(failure) => return Err(failure),
    };
    match client.get::<Shown<Agent>>(&format!("/api/v1/agents/{}", segment(agent))).await {
        Err(failure) if failure.exit() == Exit::NotFound && agent == DEFAULT_AGENT => Ok(nobody()),
        Err(failure) => Err(failure),
        Ok(_) => {
            let facts = Facts::of(&client, agent).await?;
            let own = global.own_listener(&client, &facts.agent);
            Ok(Known { facts, own })
        }
    }
}

/// Whether there is something that a command would not have to make.
fn is_install(data: &Path) -> bool {
    data.join("store").exists() || data.join(SOCKET_NAME).exists()
}

/// What the gateway would do with the requests that arrived.
async fn explain(
    (global, data): (&Global, Option<&Path>),
    observed: &Observed,
    listeners: &[SocketAddr],
    report: &mut Report,
) {
    // The probe's own base URL is none of the gateway's.
    let is_known = |asked: &&Asked| {
        let at = asked.url.strip_prefix("http://").and_then(|rest| rest.split('/').next());
        let port = at.and_then(|at| at.rsplit_once(':')?.1.parse().ok());
        !matches!(asked.by, By::BaseUrl(_)) || listeners.iter().any(|at| Some(at.port()) == port)
    };
    let asked = observed.first_requests().filter(is_known).take(EXPLAINED_MAX);
    let asked: Vec<&Asked> = asked.collect();
    if asked.is_empty() || !data.is_some_and(is_install) {
        return;
    }
    // Its complaint is that of `doctor` without a program.
    let Ok(client) = Client::open(global).await else { return };
    for Asked { host, method, url, by, .. } in asked {
        let agent = match by {
            By::OwnListener { agent: Some(agent) } => agent.clone(),
            _ => observed.whose.agent.clone(),
        };
        let ask = ExplainAsk {
            agent,
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

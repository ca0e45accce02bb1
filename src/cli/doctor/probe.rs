//! `keyward doctor -- CMD`: runs the program with the environment of `keyward run`, but with a probe as
//! its proxy. The probe answers for every host itself and connects to none. From what it sees, the
//! report tells whether the program's HTTP stack would use the gateway, and what to change if not.

mod answers;
mod lease;
mod listener;
mod remedy;
mod seen;
mod sessions;
mod stack;
mod verdict;
mod watch;

use std::ffi::OsString;
use std::fs::DirBuilder;
use std::net::SocketAddr;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;

use self::lease::{ProbeLease, ProgramInput};
use self::listener::ProbeListeners;
use self::remedy::ProbedAgent;
use self::seen::{ProbedRequest, RequestRoute};
use self::sessions::DatabaseSessions;
use self::verdict::ProbeResult;
use self::watch::ProcessWatch;
use super::report::DoctorReport;
use crate::cli::client::{Client, segment};
use crate::cli::environment::files::Paths;
use crate::cli::environment::{DEFAULT_AGENT, EnvironmentFacts, Inherited, ProxyAccess};
use crate::cli::failure::{Exit, Failure};
use crate::cli::output;
use crate::cli::run::child::{Child, Invocation};
use crate::cli::run::folder::Folder;
use crate::cli::settings::Global;
use keyward_api::SOCKET_NAME;
use keyward_api::wire::{ExplainRequest, Explanation};
use keyward_app::config::Config;
use keyward_base::host::{Scheme, Target};
use keyward_base::id::AgentId;
use keyward_base::pattern::HostPattern;
use keyward_base::time::Clock;
use keyward_model::{Agent, Connection, Shown};
use keyward_proxy::ca::authority::{Authority, platform_pem};

/// Requests that the gateway explains.
const EXPLAINED_MAX: usize = 10;

/// Runs the program, and reports what the probe observed. Its sessions with databases are real.
pub(super) async fn run(
    global: &Global,
    agent: &str,
    program: &[OsString],
) -> Result<DoctorReport, Failure> {
    let config = global.load().ok();
    let data = global.data_dir().ok();
    let AgentFacts { facts, own, client } = agent_facts(global, data.as_deref(), agent).await?;
    let authority = Arc::new(authority(config.as_ref()));
    let roots = platform_pem()
        .map_err(|error| Failure::failed("cannot make the bundle of certificates", &error))?;
    let facts = facts.with_ca(authority.cert_pem(), &roots);
    let sessions = DatabaseSessions::open(client, &facts).await?;
    let token = match &sessions {
        Some(sessions) => sessions.token().to_owned(),
        None => format!("probe-{}", AgentId::random()),
    };
    let probed = Probed { facts: &facts, own, token: &token };
    let mut ran = report(global, config.as_ref(), program, &probed, authority).await;
    if let Some(sessions) = sessions {
        sessions.end(global, &facts, ran.as_mut().ok()).await;
    }
    ran
}

/// What the probe stands in for.
struct Probed<'a> {
    facts: &'a EnvironmentFacts,
    /// The agent's own listener.
    own: Option<SocketAddr>,
    token: &'a str,
}

async fn report(
    global: &Global,
    config: Option<&Config>,
    program: &[OsString],
    &Probed { facts, own, token }: &Probed<'_>,
    authority: Arc<Authority>,
) -> Result<DoctorReport, Failure> {
    let agent = probed_agent(facts, own);
    let listener = ProbeListeners::open(authority, token).await?;
    let folder = TemporaryFolder::make()?;
    let (paths, inherited) = (Paths::new(folder.path()), Inherited::of_process());
    // The probe replaces the agent's own listener too.
    let own = own.map(|_| listener.own());
    let proxy = listener.at().to_string();
    let entrance = ProxyAccess { proxy: &proxy, own, token, is_local: true };
    let made = facts.environment(entrance, &paths, &inherited);
    made.files.write(folder.path()).map_err(|error| {
        Failure::failed(&format!("cannot write into {}", folder.path().display()), &error)
    })?;
    let given = ProgramInput { program, set: &made.variables };
    let lease = ProbeLease::take(global, config, listener.handed(), &given).await?;
    let listeners = lease.listeners.clone();
    let mut hidden = config.map_or_else(Vec::new, Config::secret_variables);
    let of_gateway = secret_variables_of_gateway(global).await;
    hidden.extend(of_gateway.iter().map(String::as_str));
    // Standard output is reserved for the JSON.
    let stdout = if global.json { Stdio::from(std::io::stderr()) } else { Stdio::inherit() };
    let invocation = Invocation { program, environment: &made, withheld: &hidden, stdout };
    let ran = ended(invocation, lease, &listener).await?;
    let events = listener.finish().await;
    let observed = ProbeResult { events, watch: ran.watch, program: program.to_vec(), agent };
    let mut report = DoctorReport { exit_code: Some(ran.exit_code), ..DoctorReport::default() };
    verdict::judge(&observed, &mut report);
    if global.data_dir().is_ok_and(|data| is_install(&data)) {
        explain(global, &observed, &listeners, &mut report).await;
    }
    Ok(report)
}

/// Names of the variables that the running gateway reads secrets from. It may have another configuration than this command.
async fn secret_variables_of_gateway(global: &Global) -> Vec<String> {
    let status = match Client::running_here(global).await {
        Some(client) => client.status().await,
        None => None,
    };
    status.map(|status| status.secret_variables).unwrap_or_default()
}

/// The installation's CA, so that the report is right for clients that have it in their own store; without
/// one, a new CA.
fn authority(config: Option<&Config>) -> Authority {
    let Some(ca) = config.map(|config| &config.ca).filter(|ca| ca.cert.exists()) else {
        return Authority::ephemeral();
    };
    Authority::read(&ca.cert, &ca.key, &Clock::System).unwrap_or_else(|error| {
        output::note(&format!(
            "note: the probe uses a temporary CA, because the gateway's CA cannot be used: {error}; \
             a program with its own CA store does not trust it"
        ));
        Authority::ephemeral()
    })
}

/// A program that has ended.
struct ExitedProgram {
    exit_code: u8,
    watch: ProcessWatch,
}

/// Runs the program to its end, and then ends its remaining processes before the gateway serves them again.
async fn ended(
    invocation: Invocation<'_>,
    mut lease: ProbeLease,
    listener: &ProbeListeners,
) -> Result<ExitedProgram, Failure> {
    watch::adopt_descendants();
    let environment = invocation.environment;
    let mut child = Child::spawn(invocation)?;
    let proxies = [listener.at(), listener.own()].into_iter().chain(lease.listeners.clone());
    let mut watch = ProcessWatch::new(proxies.collect(), environment);
    let exit_code = tokio::select! {
        code = child.ended() => code?,
        never = watch.follow() => match never {},
        why = lease.broken() => {
            watch::kill_descendants().await;
            let message = format!("the program was stopped: {why} and could have served it");
            return Err(Failure::new(Exit::Failed, message).hint("run it again"));
        }
    };
    watch::end_descendants().await;
    drop(lease);
    Ok(ExitedProgram { exit_code, watch })
}

/// An agent, its own TCP listener, and where its facts are from.
struct AgentFacts {
    facts: EnvironmentFacts,
    own: Option<SocketAddr>,
    client: Option<Client>,
}

fn probed_agent(facts: &EnvironmentFacts, listener: Option<SocketAddr>) -> ProbedAgent {
    let connection = match &facts.agent.facts.bindings[..] {
        [only] => Some(only.name.clone()),
        _ => None,
    };
    ProbedAgent { name: facts.agent.name.clone(), listener, connection }
}

/// The agent's facts from the gateway, for its placeholders. Without an installation, an agent without
/// connections: nothing is created.
async fn agent_facts(
    global: &Global,
    data: Option<&Path>,
    agent: &str,
) -> Result<AgentFacts, Failure> {
    let unknown = || {
        let facts = EnvironmentFacts::without_bindings(agent);
        AgentFacts { facts, own: None, client: None }
    };
    if !data.is_some_and(is_install) && agent == DEFAULT_AGENT {
        return Ok(unknown());
    }
    let client = match Client::open(global).await {
        Ok(client) => client,
        Err(failure) if agent == DEFAULT_AGENT => {
            let why = failure.message();
            output::note(&format!("note: no placeholder is set: {why}"));
            return Ok(unknown());
        }
        Err(failure) => return Err(failure),
    };
    match client.get::<Shown<Agent>>(&format!("/api/v1/agents/{}", segment(agent))).await {
        Err(failure) if failure.exit() == Exit::NotFound && agent == DEFAULT_AGENT => Ok(unknown()),
        Err(failure) => Err(failure),
        Ok(_) => {
            let facts = EnvironmentFacts::of(&client, agent).await?;
            let own = global.own_listener(&client, &facts.agent);
            Ok(AgentFacts { facts, own, client: Some(client) })
        }
    }
}

/// Whether the directory has a store or a running gateway.
fn is_install(data: &Path) -> bool {
    data.join("store").exists() || data.join(SOCKET_NAME).exists()
}

/// Asks the gateway whether it would permit the observed requests, and reports refusals.
async fn explain(
    global: &Global,
    observed: &ProbeResult,
    listeners: &[SocketAddr],
    report: &mut DoctorReport,
) {
    // The gateway does not know the probe's own base URLs.
    let is_known = |asked: &&ProbedRequest| {
        let at = asked.url.strip_prefix("http://").and_then(|rest| rest.split('/').next());
        let port = at.and_then(|at| at.rsplit_once(':')?.1.parse().ok());
        !matches!(asked.by, RequestRoute::BaseUrl(_))
            || listeners.iter().any(|at| Some(at.port()) == port)
    };
    let mut asked: Vec<&ProbedRequest> = observed.first_requests().filter(is_known).collect();
    let more = asked.len().saturating_sub(EXPLAINED_MAX);
    asked.truncate(EXPLAINED_MAX);
    if asked.is_empty() {
        return;
    }
    // `doctor` without a program reports this failure.
    let Ok(client) = Client::open(global).await else { return };
    let mut without_agent = Vec::new();
    for asked @ ProbedRequest { host, method, url, by, .. } in asked {
        let agent = match by {
            RequestRoute::OwnListener { agent: Some(agent) } => agent.clone(),
            _ => observed.agent.name.clone(),
        };
        let ask = ExplainRequest {
            agent: agent.clone(),
            session: None,
            method: Some(method.clone()),
            url: url.clone(),
            connection: None,
            headers: std::collections::BTreeMap::new(),
            graphql: None,
            push: Vec::new(),
        };
        match client.post::<Explanation>("/api/v1/rules/explain", &ask).await {
            Ok(explanation) => {
                for stop in explanation.stopped_by {
                    // Without the path, which may contain a secret.
                    let why = stop.message;
                    let message = format!("the gateway would refuse {method} at {host}: {why}");
                    report.warn("policy", message, stop.hint.unwrap_or_default());
                }
            }
            Err(failure) if failure.exit() == Exit::NotFound && agent == DEFAULT_AGENT => {
                without_agent.push(asked);
            }
            Err(failure) => {
                let why = failure.message();
                let message =
                    format!("{method} at {host} was not checked against the rules: {why}");
                report.warn("policy", message, failure.advice().unwrap_or_default());
            }
        }
    }
    if !without_agent.is_empty() {
        report_absent_agent(&client, global, &without_agent, report).await;
    }
    if more > 0 {
        report.ok("policy", format!("{more} more hosts were not checked against the rules"));
    }
}

/// A directory for the files of one probe, in the system's temporary directory.
struct TemporaryFolder {
    path: PathBuf,
    folder: Option<Folder>,
}

impl TemporaryFolder {
    fn make() -> Result<Self, Failure> {
        const REMEDY: &str = "name another folder for temporary files in TMPDIR";
        let parent = std::env::temp_dir();
        let path = parent.join(format!("keyward-doctor-{}", AgentId::random()));
        // The folder that TMPDIR names is not created: its name may be mistyped.
        DirBuilder::new().mode(0o700).create(&path).map_err(|error| {
            let what = format!("cannot create a temporary directory in {}", parent.display());
            Failure::failed(&what, &error).hint(REMEDY)
        })?;
        // Removes the directory also if the next step fails.
        let mut made = Self { path, folder: None };
        made.folder = Some(Folder::make(&made.path).map_err(|failure| failure.hint(REMEDY))?);
        Ok(made)
    }

    fn path(&self) -> &Path {
        self.folder.as_ref().map_or(&self.path, Folder::path)
    }
}

impl Drop for TemporaryFolder {
    fn drop(&mut self) {
        drop(self.folder.take());
        if let Err(error) = std::fs::remove_dir_all(&self.path) {
            tracing::warn!(%error, path = %self.path.display(), "the files of the probe are left");
        }
    }
}

/// Agents that are named.
const NAMED_MAX: usize = 4;

/// Warns of the requests, which no agent would send as this one.
async fn report_absent_agent(
    client: &Client,
    global: &Global,
    asked: &[&ProbedRequest],
    report: &mut DoctorReport,
) {
    let agents = client.list::<Shown<Agent>>("/api/v1/agents", &[]).await;
    let connections = client.list::<Shown<Connection>>("/api/v1/connections", &[]).await;
    // Without them, the hint names no agents.
    let agents = agents.map(|all| all.items).unwrap_or_default();
    let connections = connections.map(|all| all.items).unwrap_or_default();
    let targets: Vec<_> = asked.iter().filter_map(|asked| target(asked)).collect();
    let named = agents_for(&targets, &agents, &connections);
    let hint = match named.is_empty() {
        true => format!("`{} connect` adds a connection for it", global.keyward()),
        false => format!("name one that has a connection for the host: {}", named.join(", ")),
    };
    let message = format!("agent {DEFAULT_AGENT} does not exist yet: it would have no connection");
    report.warn("policy", message, hint);
}

fn target(asked: &ProbedRequest) -> Option<Target> {
    let scheme = if asked.url.starts_with("http://") { Scheme::Http } else { Scheme::Https };
    Target::parse(scheme, &asked.host).ok()
}

/// `--agent NAME` of agents that are bound to a connection for one of the targets.
fn agents_for(
    targets: &[Target],
    agents: &[Shown<Agent>],
    connections: &[Shown<Connection>],
) -> Vec<String> {
    let is_asked = |host: &String| {
        let pattern = HostPattern::parse(host);
        pattern.is_ok_and(|pattern| targets.iter().any(|target| pattern.matches(target)))
    };
    let fits = connections.iter().filter(|it| it.facts.hosts.iter().any(is_asked));
    let fits: Vec<_> = fits.map(|connection| &connection.id).collect();
    let has_one = |agent: &&Shown<Agent>| {
        agent.facts.bindings.iter().any(|binding| fits.contains(&&binding.connection))
    };
    let named = agents.iter().filter(has_one).take(NAMED_MAX);
    named.map(|agent| format!("--agent {}", agent.name)).collect()
}

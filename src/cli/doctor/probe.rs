//! `keyward doctor -- CMD`: runs the program with the environment of `keyward run`, at a gateway that only examines it: it
//! answers every request itself. From what its data path has seen, the report tells whether the program's HTTP stack
//! uses the gateway, and what to change if not.

mod program;
mod remedy;
mod stack;
mod verdict;
mod watch;

use std::ffi::OsString;
use std::fs::DirBuilder;
use std::net::SocketAddr;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::net::UnixStream;

use self::remedy::ProbedAgent;
use self::verdict::ProbeResult;
use self::watch::ProcessWatch;
use super::report::DoctorReport;
use crate::cli::client::{Client, segment};
use crate::cli::connection::request;
use crate::cli::environment::files::Paths;
use crate::cli::environment::{DEFAULT_AGENT, EnvironmentFacts, Inherited, ProxyAccess};
use crate::cli::failure::{Exit, Failure};
use crate::cli::proxy_at::{ProxyAt, tcp_listener};
use crate::cli::run::child::{Child, Invocation};
use crate::cli::run::gateway::{FoundGateway, RunGateway};
use crate::cli::run::lease::OpenRun;
use crate::cli::settings::Global;
use keyward_api::SOCKET_NAME;
use keyward_api::wire::Status;
use keyward_app::Services;
use keyward_app::config::Config;
use keyward_base::id::AgentId;
use keyward_model::{Agent, Shown};

/// How often a starting gateway is looked for.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// How long what the program has sent last is read. The end of its token closes its streams.
const READ_WITHIN: Duration = Duration::from_millis(200);

/// A program, and what it needs.
struct ExaminedProgram<'a> {
    global: &'a Global,
    config: Option<&'a Config>,
    program: &'a [OsString],
    facts: EnvironmentFacts,
    /// The address of the gateway's proxy.
    proxy: ProxyAt,
    status: Status,
    /// Where no gateway may answer meanwhile: it would serve the program.
    absent: Option<PathBuf>,
}

/// Runs the program, and reports what the gateway observed. Its sessions with databases are real.
pub(super) async fn run(
    global: &Global,
    agent: &str,
    program: &[OsString],
) -> Result<DoctorReport, Failure> {
    let config = global.load().ok();
    let (config, folder) = (config.as_ref(), TemporaryFolder::make()?);
    let absent = not_installed(global, config);
    let is_bare = absent.is_some();
    let gateway = match &absent {
        None => RunGateway::new(global)?,
        Some(_) => {
            if agent != DEFAULT_AGENT {
                // Refused as by other commands.
                let at = format!("/api/v1/agents/{}", segment(agent));
                Client::open(global).await?.get::<Shown<Agent>>(&at).await?;
            }
            RunGateway::bare(folder.0.clone())
        }
    };
    let join = async |client: Client| {
        let facts = EnvironmentFacts::of(&client, agent).await;
        let lease = OpenRun::examine(&gateway, agent).await;
        facts.and_then(|facts| Ok((lease?, facts)))
    };
    let (mut lease, facts) = Box::pin(gateway.joined(join)).await?;
    let (ran, process) = match gateway.found().await {
        Ok(FoundGateway { proxy, status, .. }) => {
            let process = status.process;
            let examined =
                ExaminedProgram { global, config, program, facts, proxy, status, absent };
            (Box::pin(examined.run(&mut lease, &gateway, &folder.files())).await, process)
        }
        Err(failure) => (Err(failure), None),
    };
    lease.close(&gateway).await;
    if let (true, Some(process)) = (is_bare, process) {
        // Its files are removed now.
        watch::until_gone(process).await;
    }
    ran
}

/// The socket of a gateway that could be started, if nothing is installed yet.
fn not_installed(global: &Global, config: Option<&Config>) -> Option<PathBuf> {
    let Ok(data) = global.data_dir() else { return Some(PathBuf::new()) };
    let is_installed = config.is_some_and(Services::are_stored)
        || ["store", SOCKET_NAME].iter().any(|name| data.join(name).exists());
    (!is_installed).then(|| data.join(SOCKET_NAME))
}

impl ExaminedProgram<'_> {
    async fn run(
        &self,
        lease: &mut OpenRun,
        gateway: &RunGateway,
        folder: &Path,
    ) -> Result<DoctorReport, Failure> {
        let (paths, inherited) = (Paths::new(folder), Inherited::of_process());
        let (proxy, own) = (self.proxy.to_string(), tcp_listener(&self.facts.agent));
        let entrance = ProxyAccess { proxy: &proxy, own, token: lease.token(), is_local: true };
        let made = self.facts.environment(entrance, &paths, &inherited);
        made.files.write(folder).map_err(|error| {
            Failure::failed(&format!("cannot write into {}", folder.display()), &error)
        })?;
        let mut withheld = self.config.map_or_else(Vec::new, Config::secret_variables);
        // The gateway may have another configuration than this command.
        withheld.extend(self.status.secret_variables.iter().map(String::as_str));
        // Standard output is reserved for the JSON.
        let (program, is_json) = (self.program, self.global.json);
        let stdout = if is_json { Stdio::from(std::io::stderr()) } else { Stdio::inherit() };
        let invocation = Invocation { program, environment: &made, withheld: &withheld, stdout };
        let (exit_code, watch) = self.ended(invocation, lease).await?;
        drop(tokio::time::timeout(READ_WITHIN, lease.lost()).await);
        // While the gateway runs.
        let databases = self.databases(&gateway.client().await?).await;
        lease.end(gateway).await;
        let events = std::mem::take(&mut lease.events);
        let observed =
            ProbeResult { events, watch, program: program.to_vec(), agent: self.agent() };
        let mut report = DoctorReport { exit_code: Some(exit_code), ..DoctorReport::default() };
        verdict::judge(&observed, &mut report);
        if self.absent.is_none() {
            verdict::policy(&observed, &mut report);
        }
        report.checks.extend(databases.checks);
        Ok(report)
    }

    /// Runs the program to its end, and then ends its remaining processes while they are still examined.
    async fn ended(
        &self,
        invocation: Invocation<'_>,
        lease: &mut OpenRun,
    ) -> Result<(u8, ProcessWatch), Failure> {
        watch::adopt_descendants();
        let (environment, gateway) = (invocation.environment, self.status.process);
        let mut child = Child::spawn(invocation)?;
        let mut watch = ProcessWatch::new(self.listeners(), gateway, environment);
        let exit_code = tokio::select! {
            code = child.ended() => code?,
            never = watch.follow() => match never {},
            why = self.broken(lease) => {
                watch::kill_descendants(gateway).await;
                let message = format!("the program was stopped: {why} and could have served it");
                return Err(Failure::new(Exit::Failed, message).hint("run it again"));
            }
        };
        watch::end_descendants(gateway).await;
        Ok((exit_code, watch))
    }

    /// Resolves when the program is no longer examined, or could reach another gateway.
    async fn broken(&self, lease: &mut OpenRun) -> &'static str {
        tokio::select! {
            () = lease.lost() => "the gateway stopped or was restarted",
            () = answers(self.absent.as_deref()) => "a gateway was started",
        }
    }

    /// Tests a session with each database of the agent.
    async fn databases(&self, client: &Client) -> DoctorReport {
        let mut report = DoctorReport::default();
        for database in &self.facts.databases {
            let failure = match request::ask_for_test(client, &database.connection).await {
                Ok(found) if found.ok => {
                    report.ok("database", format!("{}: {}", found.name, found.message));
                    continue;
                }
                Ok(found) => request::test_failure(self.global, found),
                Err(failure) => failure,
            };
            report.fail("database", failure.message(), failure.advice().unwrap_or_default());
        }
        report
    }

    /// The gateway's listeners for agents.
    fn listeners(&self) -> Vec<SocketAddr> {
        let own = self.status.agents.iter().map(|own| &own.at);
        let plain = |at: &String| at.strip_prefix("https://").unwrap_or(at).parse().ok();
        self.status.proxy.iter().chain(own).filter_map(plain).collect()
    }

    fn agent(&self) -> ProbedAgent {
        let agent = &self.facts.agent;
        let connection = match &agent.facts.bindings[..] {
            [only] => Some(only.name.clone()),
            _ => None,
        };
        ProbedAgent { name: agent.name.clone(), listener: tcp_listener(agent), connection }
    }
}

/// Resolves when a gateway answers on the socket.
async fn answers(socket: Option<&Path>) {
    let Some(socket) = socket else { return std::future::pending().await };
    while UnixStream::connect(socket).await.is_err() {
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// A private directory in the system's temporary one, which is removed when dropped.
struct TemporaryFolder(PathBuf);

impl TemporaryFolder {
    fn make() -> Result<Self, Failure> {
        let parent = std::env::temp_dir();
        // Short, for the path of a gateway's socket.
        let path = parent.join(format!("keyward-{}", AgentId::random()));
        // The folder that TMPDIR names is not created: its name may be mistyped.
        DirBuilder::new().mode(0o700).create(&path).map_err(|error| {
            let what = format!("cannot create a temporary directory in {}", parent.display());
            Failure::failed(&what, &error).hint("name another folder for temporary files in TMPDIR")
        })?;
        Ok(Self(path))
    }

    /// For the files of the program; a gateway may have its data beside it.
    fn files(&self) -> PathBuf {
        self.0.join("files")
    }
}

impl Drop for TemporaryFolder {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.0) {
            tracing::warn!(%error, path = %self.0.display(), "the files of the program are left");
        }
    }
}

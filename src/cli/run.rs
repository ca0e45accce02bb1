//! `keyward run`: runs a program with the environment that makes it use the gateway, and with a token that
//! ends with it. It uses the running gateway, or starts a private one.

pub(super) mod args;
pub(crate) mod child;
mod folder;
pub(crate) mod gateway;
pub(crate) mod lease;
mod ssh_agent;
mod summary;
mod verbose;

use std::process::{ExitCode, Stdio};
use std::time::Duration;

use self::args::Args;
use self::child::{Child, Invocation};
use self::folder::Folder;
use self::gateway::{FoundGateway, RunGateway};
use self::lease::OpenRun;
use self::ssh_agent::SshAgent;
use self::verbose::Verbose;
use super::client::Client;
use super::environment::files::Paths;
use super::environment::outer::SSH_AGENT;
use super::environment::{DEFAULT_AGENT, EnvironmentFacts, Inherited, ProxyAccess};
use super::failure::{Exit, Failure};
use super::proxy_at::tcp_listener;
use super::settings::Global;
use super::{output, plugin};
use keyward_app::config::Config;

/// How often a lost gateway is looked for.
const MISS_EVERY: Duration = Duration::from_secs(1);

impl Args {
    /// Runs the program. Returns its exit code, or that of a failure.
    pub(crate) fn run(self, global: &Global) -> ExitCode {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| Failure::failed("cannot start", &error));
        let ended = runtime.and_then(|runtime| runtime.block_on(Box::pin(self.until_end(global))));
        match ended {
            Ok(code) => ExitCode::from(code),
            Err(failure) => match failure.exit() {
                Exit::NotExecutable | Exit::NoProgram | Exit::Interrupted => {
                    failure.report(global.json)
                }
                _ => failure.with(Exit::RunFailed).report(global.json),
            },
        }
    }

    async fn until_end(self, global: &Global) -> Result<u8, Failure> {
        // The program must not see the secrets of the configuration.
        let config = global.load()?;
        let data = global.data_dir()?;
        if !self.quiet && !data.exists() {
            output::note(&format!("note: creating a new data directory, {}", data.display()));
        }
        let gateway = RunGateway::new(global)?;
        let join = async |client: Client| {
            let facts = self.facts(&client).await;
            // Also if the agent is refused: a private gateway then ends at once.
            let lease = OpenRun::open(&gateway, &self.agent, None).await;
            facts.and_then(|facts| Ok((lease?, facts)))
        };
        let (mut lease, mut facts) = gateway.joined(join).await?;
        let code = match self.other_hosts(&gateway, &mut facts, global).await {
            Ok(()) => self.program(&mut lease, &facts, &gateway, &config).await,
            Err(failure) => Err(failure),
        };
        if code.is_ok() && !self.quiet {
            summary::print(&gateway, &lease, &facts.agent).await;
        }
        lease.close(&gateway).await;
        code
    }

    /// Settles which other hosts the agent may reach.
    async fn other_hosts(
        &self,
        gateway: &RunGateway,
        facts: &mut EnvironmentFacts,
        global: &Global,
    ) -> Result<(), Failure> {
        let client = gateway.client().await?;
        args::store_or_ask(self, &client, &mut facts.agent, global).await
    }

    /// Runs the program in an open run.
    async fn program(
        &self,
        lease: &mut OpenRun,
        facts: &EnvironmentFacts,
        gateway: &RunGateway,
        config: &Config,
    ) -> Result<u8, Failure> {
        let FoundGateway { proxy, gateway, status } = gateway.found().await?;
        let folder = Folder::make(&gateway.data)?;
        let (paths, inherited) = (Paths::new(folder.path()), Inherited::of_process());
        let (proxy, own) = (proxy.to_string(), tcp_listener(&facts.agent));
        let entrance = ProxyAccess { proxy: &proxy, own, token: lease.token(), is_local: true };
        let mut made = facts.environment(entrance, &paths, &inherited);
        made.files.write(folder.path()).map_err(|error| {
            let what = format!("cannot write into {}", folder.path().display());
            Failure::in_data_directory(&what, &gateway.data, &error)
        })?;
        if !self.quiet {
            made.notes.iter().for_each(|note| output::note(note));
            facts.unusable.iter().for_each(|it| output::note(&it.note(&gateway.global)));
            next(facts, &gateway.global).iter().for_each(|next| output::note(next));
        }
        let ssh_agent = facts
            .has_ssh_key
            .then(|| SshAgent::start(folder.path(), &proxy, &facts.agent.name, lease.token()));
        let ssh_agent = ssh_agent.transpose()?;
        made.variables.extend(ssh_agent.iter().map(|agent| (SSH_AGENT.to_owned(), agent.socket())));
        let verbose = match self.verbose {
            true => Verbose::begin(&gateway, lease.token_id()).await,
            false => None,
        };
        // The gateway may have another configuration than this command.
        let mut withheld = config.secret_variables();
        withheld.extend(status.secret_variables.iter().map(String::as_str));
        let mut child = Child::spawn(Invocation {
            program: &self.program,
            environment: &made,
            withheld: &withheld,
            stdout: Stdio::inherit(),
        })?;
        let code = tokio::select! {
            code = child.ended() => code,
            never = keep(lease, &gateway) => match never {},
        };
        if let Some(verbose) = verbose {
            verbose.end().await;
        }
        code
    }

    /// The facts of the program's environment.
    async fn facts(&self, client: &Client) -> Result<EnvironmentFacts, Failure> {
        let mut facts = EnvironmentFacts::of(client, &self.agent).await?;
        if let Some(file) = &self.plugin {
            plugin::run::check_and_select(client, file, &mut facts.agent).await?;
        }
        Ok(facts)
    }
}

/// Keeps the run open. A restarted gateway gets the run again; a private one that died is started again at
/// the same address.
async fn keep(lease: &mut OpenRun, gateway: &RunGateway) -> std::convert::Infallible {
    loop {
        lease.lost().await;
        let again = loop {
            match lease.reopen(gateway).await {
                Err(failure) if failure.exit() == Exit::Unreachable => {
                    tokio::time::sleep(MISS_EVERY).await;
                }
                other => break other,
            }
        };
        match again {
            Ok(again) => *lease = again,
            Err(failure) => {
                output::note(&format!(
                    "keyward: the program's token is no longer valid\n{failure}"
                ));
                std::future::pending::<()>().await;
            }
        }
    }
}

/// The remedy for an agent without connections.
fn next(facts: &EnvironmentFacts, global: &Global) -> Option<String> {
    if !facts.agent.facts.bindings.is_empty() {
        return None;
    }
    let (agent, keyward) = (&facts.agent.name, global.keyward());
    let option = if agent == DEFAULT_AGENT { "" } else { &format!(" --agent {agent}") };
    Some(format!("note: agent {agent} has no connection yet\nhint: {keyward} connect{option}"))
}

//! The gateway of a run: the one that answers on the data directory's socket, or a private one. A private
//! gateway is the same program in its own session; it serves every run of this data directory and ends with
//! the last run.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use tokio::io::AsyncReadExt;

use super::child::withhold_own;
use super::folder::{give, not_through_a_link};
use crate::cli::client::Client;
use crate::cli::failure::{Exit, Failure};
use crate::cli::files::own_program;
use crate::cli::proxy_at::ProxyAt;
use crate::cli::serve::READY;
use crate::cli::settings::Global;
use crate::cli::settings::Identity;
use crate::cli::terminal::wait;
use keyward_api::wire::Status;
use keyward_app::create_private_dir;

/// The log file of a private gateway, in the data directory.
const LOG: &str = "private-gateway.log";
/// The lock file of the run that starts a gateway.
const TURN: &str = "private-gateway.lock";
/// How long a gateway may take to start, or to end after its last run.
const GATEWAY_WITHIN: Duration = Duration::from_secs(60);
/// How often a starting or ending gateway is looked for.
const JOIN_EVERY: Duration = Duration::from_millis(50);
/// How long to wait for a private gateway to end after its last run.
const ENDED_WITHIN: Duration = Duration::from_secs(5);
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// How much of the log's end is read to find why a gateway did not start.
const LOG_TAIL_BYTES: u64 = 4096;

/// A running gateway, or the parameters to start one.
#[derive(Clone, Debug)]
pub(crate) struct RunGateway {
    pub(super) global: Global,
    pub(super) data: PathBuf,
    /// The address of a private gateway.
    at: SocketAddr,
    /// Whether it has no installation, and reads no variable of one.
    is_bare: bool,
}

/// A running gateway, as its status describes it.
pub(crate) struct FoundGateway {
    /// The address of the proxy for clients of this machine.
    pub(crate) proxy: ProxyAt,
    /// With the address of a private gateway, for a restart.
    pub(super) gateway: RunGateway,
    pub(crate) status: Status,
}

impl RunGateway {
    /// The gateway of an install. Creates its data directory.
    pub(crate) fn new(global: &Global) -> Result<Self, Failure> {
        let data = global.data_dir()?;
        create_private_dir(&data).map_err(|error| {
            Failure::failed(&format!("cannot create the directory {}", data.display()), &error)
                .hint("choose another data directory with --data or KEYWARD_DATA")
        })?;
        Ok(Self::at(global.clone(), data, false))
    }

    /// A gateway without an installation, with its data in this directory.
    pub(crate) fn bare(data: PathBuf) -> Self {
        Self::at(Global { data: Some(data.clone()), ..Global::default() }, data, true)
    }

    fn at(global: Global, data: PathBuf, is_bare: bool) -> Self {
        let at = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
        Self { global, data, at, is_bare }
    }

    /// The identity for opening runs.
    fn identity(&self) -> Result<Identity, Failure> {
        if self.is_bare { Ok(Identity::default()) } else { Identity::of(&self.global) }
    }

    /// Connects to the running gateway.
    pub(crate) async fn client(&self) -> Result<Client, Failure> {
        Client::running_as(&self.global, self.identity()?).await
    }

    /// The result of `join`, once the gateway has answered that is starting or stopping.
    ///
    /// # Errors
    /// Those of `join`, and when no gateway can be started. A gateway that was started for it has ended then.
    pub(crate) async fn joined<T>(
        &self,
        join: impl AsyncFn(Client) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let deadline = tokio::time::Instant::now() + GATEWAY_WITHIN;
        loop {
            let joined = match self.found_or_started().await {
                Ok(client) => join(client).await,
                Err(failure) => Err(failure),
            };
            match joined {
                // The gateway is stopping, or another process holds the store: both are temporary.
                Err(failure)
                    if failure.exit() == Exit::Unreachable
                        && tokio::time::Instant::now() < deadline => {}
                Err(failure) => {
                    self.ended_with_its_last_run().await;
                    return Err(failure);
                }
                joined => return joined,
            }
            tokio::time::sleep(JOIN_EVERY).await;
        }
    }

    /// Finds the running gateway, or starts a private one.
    ///
    /// # Errors
    /// `Unreachable` when another process holds the store for a short time.
    pub(super) async fn found_or_started(&self) -> Result<Client, Failure> {
        match self.client().await {
            Err(failure) if failure.exit() == Exit::Unreachable => {}
            found => return found,
        }
        let Some(_turn) = self.turn()? else {
            return Err(Failure::new(Exit::Unreachable, "another run is starting a gateway"));
        };
        // Another run may have started it meanwhile.
        match self.client().await {
            Err(failure) if failure.exit() == Exit::Unreachable => {
                wait::during("starting a gateway", self.start()).await?;
            }
            found => return found,
        }
        self.client().await
    }

    /// The same for a run whose gateway ended: only a private one is started again.
    pub(super) async fn found_or_started_again(&self) -> Result<(), Failure> {
        match self.at.port() {
            0 => self.client().await.map(drop),
            _ => self.found_or_started().await.map(drop),
        }
    }

    /// The running gateway with the address of its proxy.
    pub(crate) async fn found(&self) -> Result<FoundGateway, Failure> {
        let status = self.client().await?.status().await;
        let found = status.and_then(|status| Some((ProxyAt::among(&status.proxy)?, status)));
        let (proxy, status) = found.ok_or_else(|| {
            Failure::new(Exit::Failed, "the gateway has no TCP listener for agents")
                .hint("add one to `listen.proxy`, such as 127.0.0.1:8080")
        })?;
        let at = if status.private { proxy.addr } else { self.at };
        let gateway = Self { at, ..self.clone() };
        Ok(FoundGateway { proxy, gateway, status })
    }

    /// Waits for a private gateway whose last run has ended, so that the store is free afterwards.
    pub(super) async fn ended_with_its_last_run(&self) {
        let gone = async {
            while let Ok(client) = self.client().await {
                let status = client.status().await;
                if status.is_some_and(|status| !status.private || status.runs > 0) {
                    return;
                }
                tokio::time::sleep(LOOK_EVERY).await;
            }
            // The socket is closed shortly before the process ends and releases its lock; the next command
            // waits for that.
        };
        drop(tokio::time::timeout(ENDED_WITHIN, gone).await);
    }

    /// The lock for starting a gateway; `None` while another run holds it.
    fn turn(&self) -> Result<Option<File>, Failure> {
        let path = self.data.join(TURN);
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(false);
        let file = not_through_a_link(&mut options).open(&path);
        let failed = |error: &io::Error| {
            let what = format!("cannot lock {}", path.display());
            Failure::in_data_directory(&what, &self.data, error)
        };
        let file = file.map_err(|error| failed(&error))?;
        give(&self.data, &path);
        match file.try_lock() {
            Ok(()) => Ok(Some(file)),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(failed(&error)),
        }
    }

    /// Starts a private gateway. Returns when it serves.
    async fn start(&self) -> Result<(), Failure> {
        let cannot = |error: io::Error| Failure::failed("cannot start a gateway", &error);
        let log = self.data.join(LOG);
        let unwritten = |error: io::Error| {
            let what = format!("cannot write {}", log.display());
            Failure::in_data_directory(&what, &self.data, &error)
        };
        let mut options = OpenOptions::new();
        options.append(true).create(true);
        let file = not_through_a_link(&mut options).open(&log).map_err(unwritten)?;
        file.set_len(0).map_err(unwritten)?;
        give(&self.data, &log);
        let program = own_program()?;
        let mut command = tokio::process::Command::new(&program);
        command.args(["serve", "--private", &self.at.to_string()]);
        command.arg("--data").arg(&self.data);
        if let Some(config) = &self.global.config {
            command.arg("--config").arg(config);
        }
        if self.is_bare {
            command.env_remove("KEYWARD_CONFIG");
            withhold_own(command.as_std_mut());
        }
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(file);
        let mut child = command.spawn().map_err(|error| {
            let what = format!("cannot start a gateway: cannot execute {}", program.display());
            Failure::failed(&what, &error)
        })?;
        let mut said = String::new();
        if let Some(mut stdout) = child.stdout.take() {
            let mut ready = vec![0; READY.len()];
            // A shorter output means that it has ended.
            let read = stdout.read_exact(&mut ready).await;
            said = read.map(|_| String::from_utf8_lossy(&ready).into_owned()).unwrap_or_default();
        }
        if said == READY {
            return Ok(());
        }
        let status = child.wait().await.map_err(cannot)?;
        Err(refusal(status.code(), &tail(&log)))
    }
}

/// The failure of a gateway that did not start, from its log.
fn refusal(code: Option<i32>, said: &str) -> Failure {
    let lines = |prefix: &str| -> Vec<String> {
        said.lines().filter_map(|line| line.strip_prefix(prefix)).map(str::to_owned).collect()
    };
    let mut errors = lines("error: ");
    if errors.is_empty() {
        errors.push("the private gateway did not start".to_owned());
    }
    let mut failure = Failure::several(errors);
    if let Some(hint) = lines("hint: ").pop() {
        failure = failure.hint(hint);
    }
    if code == Some(Exit::Unreachable as i32) { failure.with(Exit::Unreachable) } else { failure }
}

fn tail(log: &std::path::Path) -> String {
    let mut bytes = Vec::new();
    // Without the log, the message has fewer details.
    if let Ok(file) = File::open(log) {
        drop(file.take(LOG_TAIL_BYTES).read_to_end(&mut bytes));
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Another user may own the data directory of a run of root.
    #[tokio::test]
    async fn links_in_the_data_directory_are_not_followed() {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().to_owned();
        let other = data.join("other");
        std::fs::write(&other, "kept").unwrap();
        for name in [TURN, LOG] {
            std::os::unix::fs::symlink(&other, data.join(name)).unwrap();
        }
        let gateway = RunGateway::bare(data);
        gateway.turn().unwrap_err();
        gateway.start().await.unwrap_err();
        assert_eq!(std::fs::read(&other).unwrap(), b"kept");
    }

    #[test]
    fn the_run_reports_why_its_private_gateway_did_not_start() {
        let said = "2026 WARN x\nerror: `listen.proxy` is wrong\nerror: so is y\nhint: repair it\n";
        let failure = refusal(Some(1), said);
        assert_eq!(
            failure.to_string(),
            "error: `listen.proxy` is wrong\nerror: so is y\nhint: repair it\n"
        );
        assert_eq!(failure.exit(), Exit::Failed);
        assert_eq!(refusal(Some(3), said).exit(), Exit::Unreachable);
        assert_eq!(refusal(None, "").to_string(), "error: the private gateway did not start\n");
    }
}

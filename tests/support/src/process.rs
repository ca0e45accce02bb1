//! The built binary as a child process: for tests of its memory, its signals and its crashes.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::ops::{Deref, DerefMut};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Instant;

use tempfile::TempDir;

use super::canary::{Canaries, Canary};
use super::gateway;
use super::install::TOKEN_CI;
use super::lab::Plan;
use super::origin::Origin;
use super::pki::{self, pki};
use super::wire::{Message, PACE, PATIENCE, Seen, Wire};

/// Variables of at least this length are taken for secrets: what an agent's token must have.
const SECRET_BYTES_MIN: usize = 20;

/// What `log:` is in the configuration.
const LOG: &str = "log: { level: trace }\n";

/// A gateway in a process of its own, which logs all it can. When dropped it is killed, and its
/// secrets are looked for in its output and files.
pub struct Served {
    child: Child,
    setup: Setup,
    /// The proxy listener.
    pub proxy: SocketAddr,
}

impl Served {
    /// Serves a plan before `origin`. `variables` has what its configuration reads beside the canary and the token of `ci`,
    /// or instead of them.
    ///
    /// # Panics
    /// With its output, when it does not become ready.
    pub fn start(plan: &Plan, origin: &Origin, variables: &[(&str, &str)]) -> Self {
        Self::start_logging(LOG, plan, origin, variables)
    }

    /// The same, with the log as it is by default: for runs of many minutes.
    pub fn start_quietly(plan: &Plan, origin: &Origin, variables: &[(&str, &str)]) -> Self {
        Self::start_logging("", plan, origin, variables)
    }

    /// The same, of a process that may open so many files, and no more however it asks.
    pub fn start_with_open_files(
        count: u32,
        plan: &Plan,
        origin: &Origin,
        variables: &[(&str, &str)],
    ) -> Self {
        let mut setup = Setup::new("", plan, origin, variables);
        setup.first = Some(format!("ulimit -n {count}"));
        Self::start_in(setup)
    }

    /// The same, of a process whose files may be limited; it is not killed for a write beyond the limit.
    pub fn start_with_file_limits(
        plan: &Plan,
        origin: &Origin,
        variables: &[(&str, &str)],
    ) -> Self {
        let mut setup = Setup::new("", plan, origin, variables);
        setup.first = Some("trap '' XFSZ".to_owned());
        Self::start_in(setup)
    }

    /// The same as [`Self::start_quietly`], of another program than the one that was built.
    pub fn start_program(
        program: &Path,
        plan: &Plan,
        origin: &Origin,
        variables: &[(&str, &str)],
    ) -> Self {
        let mut setup = Setup::new("", plan, origin, variables);
        setup.program = program.to_owned();
        Self::start_in(setup)
    }

    fn start_logging(log: &str, plan: &Plan, origin: &Origin, variables: &[(&str, &str)]) -> Self {
        Self::start_in(Setup::new(log, plan, origin, variables))
    }

    fn start_in(setup: Setup) -> Self {
        let child = setup.spawn(&["serve"]);
        let proxy = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut served = Self { child, setup, proxy };
        served.wait_until_ready();
        served
    }

    /// The command line, as a user of this installation would call it.
    pub fn keyward(&self, arguments: &[&str]) -> Command {
        let mut command = self.setup.command(&self.setup.program);
        command.args(arguments);
        command
    }

    fn wait_until_ready(&mut self) {
        let data = self.data();
        let is_ready =
            || admin_answer(&data, "/readyz").is_ok_and(|it| it.starts_with("HTTP/1.1 200 "));
        let ended = wait_for(|| match is_ready() {
            true => Some(None),
            false => self.child.try_wait().expect("our child").map(Some),
        });
        assert_eq!(ended, Some(None), "not ready:\n{}", self.output());
        self.proxy = status(&data)["proxy"][0].as_str().expect("an address").parse().expect("TCP");
    }

    /// What it wrote to its standard streams.
    pub fn output(&self) -> String {
        fs::read_to_string(self.setup.folder.path().join("output")).unwrap_or_default()
    }

    /// The credentials and tokens among its variables; a user's name is shorter.
    fn secrets(&self) -> impl Iterator<Item = Canary> {
        let long = |text: &&String| text.len() >= SECRET_BYTES_MIN;
        self.setup.variables.values().filter(long).map(|text| Canary::of(text.clone()))
    }

    /// The data directory.
    pub fn data(&self) -> PathBuf {
        self.setup.folder.path().join("data")
    }

    /// Audit records written so far.
    pub fn audit(&self) -> Vec<serde_json::Value> {
        gateway::audit(&self.data().join("audit/audit.jsonl"))
    }

    /// The most memory that it ever had resident, in bytes.
    pub fn memory_peak(&self) -> usize {
        self.memory_line("VmHWM:")
    }

    /// The memory that is resident now, in bytes.
    pub fn memory(&self) -> usize {
        self.memory_line("VmRSS:")
    }

    fn memory_line(&self, name: &str) -> usize {
        self.status_line(name) * 1024
    }

    /// How many threads it has.
    pub fn threads(&self) -> usize {
        self.status_line("Threads:")
    }

    /// The names of its threads.
    pub fn thread_names(&self) -> Vec<String> {
        let threads = fs::read_dir(format!("/proc/{}/task", self.child.id())).expect("our child");
        // One may end meanwhile.
        let name = |path: PathBuf| fs::read_to_string(path.join("comm")).ok();
        let names = threads.filter_map(|thread| name(thread.ok()?.path()));
        names.map(|name| name.trim_end().to_owned()).collect()
    }

    fn status_line(&self, name: &str) -> usize {
        let status = self.about("status");
        let line = status.lines().find(|line| line.starts_with(name)).expect("Linux says so");
        let number = line.split_whitespace().nth(1).and_then(|number| number.parse().ok());
        number.expect("a number")
    }

    /// What a client trusts that starts now.
    pub fn roots(&self) -> String {
        fs::read_to_string(self.data().join("ca/ca.pem")).expect("the CA")
    }

    /// A tunnel to `host`.
    ///
    /// # Panics
    /// When it is refused.
    pub async fn tunnel(&self, host: &str, token: &str) -> Wire {
        self.tunnel_trusting(&self.roots(), host, token).await
    }

    /// The same for an agent that trusts `roots`.
    pub async fn tunnel_trusting(&self, roots: &str, host: &str, token: &str) -> Wire {
        let mut wire = Wire::to(self.proxy).await;
        let authorization = format!("Proxy-Authorization: Bearer {token}");
        wire.send(format!(
            "CONNECT {host}:443 HTTP/1.1\r\nHost: {host}\r\n{authorization}\r\n\r\n"
        ))
        .await;
        assert_eq!(wire.answer("CONNECT").await.head.status(), 200);
        let (io, socket, seen) = wire.into_parts();
        let connector = tokio_rustls::TlsConnector::from(pki::trusting(roots));
        let name = rustls::pki_types::ServerName::try_from(host.to_owned()).expect("a name");
        Wire::over(connector.connect(name, io).await.expect("the handshake"), socket, seen)
    }

    /// What the kernel says of it, by the file of its `/proc` directory.
    pub fn about(&self, file: &str) -> String {
        fs::read_to_string(format!("/proc/{}/{file}", self.child.id())).expect("it runs")
    }

    /// How many descriptors it has open.
    pub fn descriptors(&self) -> usize {
        let open = fs::read_dir(format!("/proc/{}/fd", self.child.id()));
        open.expect("our child, or root").count()
    }

    /// Lets it open no descriptor of this number or above; those that are open stay.
    pub fn limit_descriptors(&self, count: usize) {
        use rustix::process::{Resource, Rlimit, prlimit};
        let limit = Some(count as u64);
        let limit = Rlimit { current: limit, maximum: limit };
        prlimit(Some(self.pid()), Resource::Nofile, limit).expect("our child");
    }

    /// Lets it write no file beyond this size, as on a full disk, or every file.
    pub fn limit_files(&self, bytes: Option<u64>) {
        use rustix::process::{Resource, Rlimit, prlimit};
        let limit = Rlimit { current: bytes, maximum: None };
        prlimit(Some(self.pid()), Resource::Fsize, limit).expect("our child");
    }

    /// `kill -9`.
    pub fn kill(&mut self) {
        self.child.kill().expect("our child");
        self.child.wait().expect("our child");
    }

    /// SIGTERM, and the exit code.
    pub fn terminate(&mut self) -> Option<i32> {
        self.signal(rustix::process::Signal::TERM);
        self.exit_code()
    }

    /// Waits for its end.
    pub fn exit_code(&mut self) -> Option<i32> {
        self.child.wait().expect("our child").code()
    }

    /// The configuration file.
    pub fn config(&self) -> PathBuf {
        self.setup.folder.path().join("keyward.yaml")
    }

    /// Sends a signal.
    pub fn signal(&self, signal: rustix::process::Signal) {
        rustix::process::kill_process(self.pid(), signal).expect("our child");
    }

    fn pid(&self) -> rustix::process::Pid {
        let pid = i32::try_from(self.child.id()).ok().and_then(rustix::process::Pid::from_raw);
        pid.expect("a process id")
    }

    /// Starts it again on the same files.
    pub fn restart(&mut self) {
        self.child = self.setup.spawn(&["serve"]);
        self.wait_until_ready();
    }

    /// Starts another program on the same files, after the first has ended.
    pub fn restart_as(&mut self, program: &Path) {
        self.setup.program = program.to_owned();
        self.restart();
    }

    /// Starts another process that takes the sockets, and returns the exit code of the first when it has ended.
    pub async fn taken_over(&mut self) -> Option<i32> {
        let next = self.setup.spawn(&["serve", "--take-over"]);
        let mut before = std::mem::replace(&mut self.child, next);
        let ended = tokio::task::spawn_blocking(move || before.wait());
        let ended = ended.await.expect("it does not panic").expect("our child").code();
        tokio::task::block_in_place(|| self.wait_until_ready());
        ended
    }

    /// A stream to the admin socket.
    pub async fn admin(&self) -> Wire {
        let socket = self.data().join("admin.sock");
        let stream = tokio::net::UnixStream::connect(socket).await.expect("the socket listens");
        Wire::over(stream, None, Seen::default())
    }

    /// One call of the admin API, over its socket.
    pub async fn api(&self, method: &str, path: &str, body: &str) -> Message {
        let mut wire = self.admin().await;
        wire.send(api_request(method, path, body)).await;
        wire.answer(method).await
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        // It may have been killed already.
        drop(self.child.kill());
        drop(self.child.wait());
        if std::thread::panicking() {
            return;
        }
        let secrets = Canaries::new(self.secrets().collect());
        secrets.assert_absent("a gateway's output", self.output().as_bytes());
        secrets.assert_absent_below(&self.data());
    }
}

/// Asks until there is an answer; `None` after [`PATIENCE`].
pub fn wait_for<T>(mut ask: impl FnMut() -> Option<T>) -> Option<T> {
    let began = Instant::now();
    loop {
        let answer = ask();
        if answer.is_some() || began.elapsed() > PATIENCE {
            return answer;
        }
        std::thread::park_timeout(PACE);
    }
}

/// Whether a gateway with this data directory listens.
pub fn is_served(data: &Path) -> bool {
    UnixStream::connect(data.join("admin.sock")).is_ok()
}

/// What a gateway answers to a GET over its admin socket.
fn admin_answer(data: &Path, path: &str) -> std::io::Result<String> {
    let mut stream = UnixStream::connect(data.join("admin.sock"))?;
    let head = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    stream.write_all(head.as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

/// What a gateway says of itself (`/api/v1/status`).
pub fn status(data: &Path) -> serde_json::Value {
    let answer = admin_answer(data, "/api/v1/status").expect("it serves");
    let (_, body) = answer.split_once("\r\n\r\n").expect("a head");
    serde_json::from_str(body).unwrap_or_else(|_| panic!("{answer}"))
}

/// A request to the admin API with a JSON body.
pub fn api_request(method: &str, path: &str, body: &str) -> String {
    format!(
        "{method} /api/v1{path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// Whether long runs were asked for: `tests/run --soak`.
pub fn soak() -> bool {
    std::env::var("KEYWARD_TEST_SOAK").is_ok_and(|value| !value.is_empty())
}

/// What a process is started with.
struct Setup {
    program: PathBuf,
    folder: TempDir,
    variables: BTreeMap<String, String>,
    /// What a shell does before it becomes the program.
    first: Option<String>,
}

impl Setup {
    /// The built program, with the files of a new folder.
    fn new(log: &str, plan: &Plan, origin: &Origin, variables: &[(&str, &str)]) -> Self {
        let folder = TempDir::new().expect("a temporary directory");
        let yaml = plan.yaml(origin);
        fs::write(folder.path().join("keyward.yaml"), yaml + log).expect("the configuration");
        fs::write(folder.path().join("origin-ca.pem"), &pki().pem).expect("the roots");
        let usual = [("CANARY", &*plan.canary().text), ("TOKEN_CI", TOKEN_CI)];
        let variables = usual.iter().chain(variables);
        let variables = variables.map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
        Self { program: built(), folder, variables, first: None }
    }

    fn spawn(&self, arguments: &[&str]) -> Child {
        let output = self.folder.path().join("output");
        let output = File::options().create(true).append(true).open(output).expect("a file");
        let mut command = match &self.first {
            None => self.command(&self.program),
            Some(first) => {
                let mut shell = self.command(Path::new("/bin/sh"));
                shell.arg("-c").arg(format!("{first} && exec \"$0\" \"$@\""));
                shell.arg(&self.program);
                shell
            }
        };
        command
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(output.try_clone().expect("a descriptor"))
            .stderr(output)
            .spawn()
            .expect("the binary was built")
    }

    /// A program in this environment.
    fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command
            .env_clear()
            .envs(&self.variables)
            .env("KEYWARD_DATA", self.folder.path().join("data"))
            .env("KEYWARD_CONFIG", self.folder.path().join("keyward.yaml"));
        command
    }
}

/// The program of this build. Cargo puts it into the directory above that of its tests.
pub fn built() -> PathBuf {
    let test = std::env::current_exe().expect("a path");
    test.ancestors().nth(2).expect("two directories").join("keyward")
}

/// An address of loopback for a listener that others must know before it listens, or that must not change over
/// restarts. Until then connections to it are refused.
///
/// A socket that is bound and never listens keeps the port for the life of this process: no socket gets it by
/// chance, and a listener with `SO_REUSEADDR` may have it.
pub fn reserved_address() -> SocketAddr {
    let held = tokio::net::TcpSocket::new_v4().expect("a socket");
    held.set_reuseaddr(true).expect("an option of it");
    held.bind(SocketAddr::from(([127, 0, 0, 1], 0))).expect("a port");
    let at = held.local_addr().expect("an address");
    std::mem::forget(held);
    at
}

/// Both streams, as text.
pub fn said(output: &Output) -> String {
    let both = [&*output.stdout, b"\n", &*output.stderr].concat();
    String::from_utf8_lossy(&both).into_owned()
}

/// A child process that is killed when dropped.
pub struct OwnChild(Child);

impl From<Child> for OwnChild {
    fn from(child: Child) -> Self {
        Self(child)
    }
}

impl Deref for OwnChild {
    type Target = Child;

    fn deref(&self) -> &Child {
        &self.0
    }
}

impl DerefMut for OwnChild {
    fn deref_mut(&mut self) -> &mut Child {
        &mut self.0
    }
}

impl Drop for OwnChild {
    fn drop(&mut self) {
        // It may have ended by itself.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

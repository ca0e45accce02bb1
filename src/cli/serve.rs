//! `keyward serve`: reads the configuration and runs the gateway until a signal stops it.

mod take_over;

use std::error::Error;
use std::fmt::Write;
use std::io::{self, IsTerminal};
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use clap::Args as Arguments;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::runtime::Runtime;

use super::audit::follow::Followed;
use super::audit::show;
use super::client::Client;
use super::failure::{Exit, Failure};
use super::output;
use super::settings::{self, Global};
use super::terminal::table;
use keyward_api::wire::{LoginLinkRequest, LoginLinkView};
use keyward_api::{Locations, SOCKET_NAME};
use keyward_app::config::{Config, ListenAt, ListenDatabase};
use keyward_app::{
    self as app, AppError, Hangups, Running, StopCondition, StoppedWhile, is_locked,
};
use keyward_base::database::DatabaseProtocol;
use keyward_base::limits::Limits;
use keyward_state::directory::View;
use keyward_state::observe::log::{self, Format, Level};

/// Threads of the control plane and of background jobs; the data path has its own.
const WORKERS: usize = 2;

/// Threads of the control plane for blocking work, such as reading the audit log; more work is queued. The
/// store and the resolver have their own threads.
const BLOCKING_THREADS_MAX: usize = 16;

/// How long an idle thread of these is kept.
const BLOCKING_THREAD_IDLE: Duration = Duration::from_secs(2);

/// How long to wait for the store of a gateway that is ending, such as the private gateway of the last run. Each try
/// waits for the lock for a moment.
const ENDING_WITHIN: Duration = Duration::from_secs(10);

/// With fewer descriptors, less than about 700 streams are served, which one agent can need.
const OPEN_FILES_FEW: u64 = 2_048;

/// Descriptors beside those of streams: store, audit, listeners, the runtimes' own.
const DESCRIPTORS_BESIDE: u64 = 640;

#[derive(Debug, Arguments)]
pub(crate) struct Args {
    /// serve the runs of this data directory at this address, and exit after the last
    #[arg(long, hide = true, value_name = "ADDRESS")]
    private: Option<SocketAddr>,
    /// take the sockets of the gateway that serves the data directory, which then ends
    #[arg(long, conflicts_with = "private")]
    take_over: bool,
    /// on a terminal: no line for each request
    #[arg(short, long)]
    pub(super) quiet: bool,
}

/// What a process has before it reads its configuration.
struct Process<'a> {
    global: &'a Global,
    args: &'a Args,
    runtime: Runtime,
    hangups: Hangups,
}

/// What a private gateway prints when it is ready; the run that started it waits for this line.
pub(crate) const READY: &str = "ready\n";

/// Runs the gateway. If the log is JSON, a failure is a line of it.
pub(crate) fn run(global: &Global, args: &Args) -> Result<(), Failure> {
    // First: without a handler, SIGHUP would end the process, and a long configuration takes time.
    let (runtime, hangups) = runtime()?;
    let config = global.load();
    let format = match &config {
        Ok(config) => config.log.format,
        Err(_) => Config::log_format(global.config.as_deref(), global.data.as_deref()),
    };
    let served =
        config.and_then(|config| serve(Process { global, args, runtime, hangups }, config));
    served.map_err(|failure| match format {
        // The run that started a private gateway reads its text.
        Format::Json if args.private.is_none() => logged(failure),
        _ => failure,
    })
}

fn log_ready(locations: &Locations) {
    let Locations { proxy, agents, databases, admin, metrics, hooks, data, ca, config: _ } =
        locations;
    let agents: Vec<_> = agents.iter().map(|(_, at)| at).collect();
    let databases: Vec<_> = databases.iter().map(|listener| &listener.at).collect();
    tracing::info!(
        id = "ready",
        ?proxy,
        ?agents,
        ?databases,
        admin,
        metrics,
        hooks,
        data,
        ca,
        "ready"
    );
}

/// Reports the failure in the log.
fn logged(failure: Failure) -> Failure {
    log::init(Format::Json, Level::Info, false);
    let (exit, hint) = (failure.exit(), failure.advice());
    for message in failure.messages() {
        tracing::error!(id = "start_failed", hint, exit = exit as u8, "{message}");
    }
    Failure::silent(exit)
}

/// The runtime of the control plane, and the SIGHUPs from now on.
fn runtime() -> Result<(Runtime, Hangups), Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(WORKERS)
        .max_blocking_threads(BLOCKING_THREADS_MAX)
        .thread_keep_alive(BLOCKING_THREAD_IDLE)
        .enable_all()
        .build()
        .map_err(|error| Failure::failed("cannot start", &error))?;
    let entered = runtime.enter();
    let hangups =
        Hangups::register().map_err(|error| Failure::failed("cannot wait for SIGHUP", &error))?;
    drop(entered);
    Ok((runtime, hangups))
}

fn serve(process: Process<'_>, mut config: Config) -> Result<(), Failure> {
    let Process { global, args, runtime, hangups } = process;
    if let Some(at) = args.private {
        make_private(&mut config, at);
    }
    config.takes_over = args.take_over;
    let verbosity = log::init(config.log.format, config.log.level, output::wants_colours());
    raise_open_files(&config.limits);
    if args.take_over {
        runtime.block_on(Box::pin(take_over::check(global, &config)))?;
    }
    if args.private.is_some() {
        let ready = |_: &Running| drop(output::print(READY));
        let served = runtime.block_on(Box::pin(app::serve(
            config,
            StopCondition::WithRuns,
            Some(verbosity),
            hangups,
            ready,
        )));
        return end_threads(runtime, served.map_err(refusal)?);
    }
    let format = config.log.format;
    let announce = |running: &Running| match format {
        Format::Text => {
            let view = running.services().directory.view();
            let text = announcement(running.locations(), &next(&view, &global.keyward()));
            let (is_new, quiet) = (view.has_no_user(), args.quiet);
            tokio::spawn(announced(global.clone(), text, is_new, quiet));
        }
        Format::Json => log_ready(running.locations()),
    };
    let socket = config.data_dir.join(SOCKET_NAME);
    let deadline = Instant::now() + ENDING_WITHIN;
    loop {
        let life = StopCondition::UntilSignalled;
        let (verbosity, hangups) = (Some(verbosity.clone()), hangups.clone());
        let served = app::serve(config.clone(), life, verbosity, hangups, announce);
        let error = match runtime.block_on(Box::pin(served)) {
            Ok(stopped) => return end_threads(runtime, stopped),
            Err(error) => error,
        };
        let locked = is_locked(&error);
        let answers = UnixStream::connect(&socket).is_ok();
        if locked && !answers && Instant::now() < deadline {
            continue;
        }
        let failure = Failure::from(error);
        return Err(match locked && answers {
            true => failure.hint(runtime.block_on(use_of_other(global))),
            false => failure,
        });
    }
}

/// Ends the threads of a gateway. Those of one that did not start may wait for the gateway before, without a limit.
fn end_threads(runtime: Runtime, stopped: StoppedWhile) -> Result<(), Failure> {
    match stopped {
        StoppedWhile::Starting => runtime.shutdown_background(),
        StoppedWhile::Serving => drop(runtime),
        StoppedWhile::Refreshing => {
            runtime.shutdown_background();
            // The log says why.
            return Err(Failure::silent(Exit::Failed));
        }
    }
    Ok(())
}

/// What to do with the gateway that has the store already.
async fn use_of_other(global: &Global) -> &'static str {
    let status = match Client::running(global).await {
        Ok(client) => client.status().await,
        Err(_) => None,
    };
    match status.is_some_and(|status| status.private) {
        true => {
            "that is the private gateway of `keyward run`: use it, or serve when the last run has ended"
        }
        false => "another gateway already serves this data directory: use it",
    }
}

/// Prints the announcement, with the link of the first admin if there is no user yet; then lines for requests.
async fn announced(global: Global, text: String, is_new: bool, quiet: bool) {
    let link = if is_new { first_link(&global).await } else { None };
    output::note(&text);
    if let Some(LoginLinkView { url, user, .. }) = link {
        output::note(&format!("sign in as {user}, once and within 10 minutes:\n  {url}"));
    }
    if io::stderr().is_terminal() && !quiet {
        show_requests(global).await;
    }
}

/// The link of the first admin, who is added.
async fn first_link(global: &Global) -> Option<LoginLinkView> {
    let client = Client::running(global).await.ok()?;
    client.post("/api/v1/login-links", &LoginLinkRequest::default()).await.ok()
}

/// Prints a line for each request, until the gateway stops. It reads the audit log as `keyward logs -f` does, so that
/// a slow terminal delays no request.
async fn show_requests(global: Global) {
    let Ok(client) = Client::running(&global).await else { return };
    let Ok(mut followed) = Followed::begin(&client, None).await else { return };
    while let Some(record) = followed.next().await {
        if let Some(line) = show::request_line(&record, output::colours_of_notes()) {
            output::note(line.trim_end());
        }
    }
}

/// Runs a private gateway: in a session of its own, because later runs use it after the terminal of the first
/// run has closed.
fn make_private(config: &mut Config, at: SocketAddr) {
    config.listen.proxy = vec![ListenAt::Tcp(at)];
    // The program reaches its databases too; those of the configuration may be in use by another gateway.
    let database = ListenAt::Tcp(SocketAddr::new(at.ip(), 0));
    let greets = config.listen.databases.iter().find_map(|listen| listen.server_version.clone());
    let listener = |protocol| ListenDatabase {
        protocol,
        server_version: greets.clone().filter(|_| protocol == DatabaseProtocol::Mysql),
        ..ListenDatabase::at(database.clone())
    };
    config.listen.databases = DatabaseProtocol::ALL.map(listener).into();
    config.listen.admin = SocketAddr::new(at.ip(), 0);
    // A gateway that is served as well has the configured port.
    config.listen.metrics = None;
    config.ends_with_runs = true;
    // Standard output is closed once it said that it is ready.
    config.audit.stdout = false;
    if let Err(error) = rustix::process::setsid() {
        tracing::debug!(%error, "a private gateway cannot start a session of its own");
    }
}

/// A store or an address in use is not a failure for the run that started a private gateway: it retries.
fn refusal(error: anyhow::Error) -> Failure {
    let is_bound = |cause: &(dyn Error + 'static)| {
        matches!(cause.downcast_ref(), Some(AppError::Listen { .. }))
    };
    let busy = is_locked(&error) || error.chain().any(is_bound);
    let failure = Failure::from(error);
    if busy { failure.with(Exit::Unreachable) } else { failure }
}

/// Each stream takes two descriptors, and shells allow 1024. Raising the soft limit as far as the
/// hard one needs no privilege.
fn raise_open_files(limits: &Limits) {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let wanted = limits.streams_max as u64 * 2 + DESCRIPTORS_BESIDE;
    let raised = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
    // macOS refuses more than its own bound, though the hard limit is "infinite".
    let modest = Rlimit { current: Some(wanted), maximum };
    let raised = raised.or_else(|_| setrlimit(Resource::Nofile, modest));
    let now = if raised.is_ok() { getrlimit(Resource::Nofile).current } else { current };
    match now {
        Some(now) if now < OPEN_FILES_FEW.min(wanted) => tracing::warn!(
            id = "open_files_low",
            open_files = now,
            wanted,
            "few files may be open, so few streams are served: raise `ulimit -Hn` (systemd: LimitNOFILE)"
        ),
        Some(now) if now < wanted => tracing::debug!(
            open_files = now,
            wanted,
            "fewer streams are served than `limits.streams_max`: the limit of open files is lower"
        ),
        _ => {}
    }
}

/// Prints the places of the installation, and the next step.
fn announcement(locations: &Locations, next: &str) -> String {
    let mut fields = vec![("proxy", locations.proxy.join(", "))];
    fields.extend(
        locations.agents.iter().map(|(own, at)| ("agent", format!("{} at {at}", own.agent))),
    );
    fields.extend(locations.databases.iter().map(|listener| ("databases", listener.at.clone())));
    fields.push(("admin", settings::admin_url(&locations.admin)));
    let metrics = locations.metrics.iter();
    fields.extend(metrics.map(|at| ("metrics", format!("http://{at}/metrics"))));
    fields.extend(locations.hooks.iter().map(|url| ("hooks", format!("{url}/hooks/"))));
    fields.push(("data", locations.data.clone()));
    fields.push(("CA", locations.ca.clone()));
    let mut text = table::fields(&fields);
    let _ = write!(text, "ready; stop with Ctrl-C");
    if !next.is_empty() {
        let _ = write!(text, "\nnext: {next}");
    }
    text
}

/// The next command for a new installation; empty if an agent can work.
fn next(view: &View, keyward: &str) -> String {
    let bound = view.agents().any(|agent| !agent.facts.bindings.is_empty());
    let connection = view.connections().map(|connection| &*connection.name).next();
    let agent = view.agents().map(|agent| &*agent.name).next();
    match (bound, connection, agent) {
        (true, _, _) => String::new(),
        (_, None, _) => format!("{keyward} connect"),
        (_, Some(_), None) => format!("{keyward} agent add NAME"),
        (_, Some(connection), Some(agent)) => {
            format!("{keyward} agent bind {agent} {connection}")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use keyward_base::id::OrgId;
    use keyward_proxy::ListenerOwner;

    #[test]
    fn the_announcement_lists_the_addresses_the_paths_and_the_next_command() {
        let own = ListenerOwner { org: OrgId::default_org(), agent: "ci".to_owned() };
        let locations = Locations {
            proxy: vec!["127.0.0.1:8080".to_owned(), "unix:/run/keyward.sock".to_owned()],
            agents: vec![(own, "127.0.0.1:8090".to_owned())],
            databases: Vec::new(),
            admin: "127.0.0.1:8081".to_owned(),
            metrics: Some("127.0.0.1:9464".to_owned()),
            hooks: Some("https://hooks.example.com".to_owned()),
            config: "/data/keyward.yaml".to_owned(),
            data: "/data".to_owned(),
            ca: "/data/ca/ca.pem".to_owned(),
        };
        insta::assert_snapshot!(announcement(&locations, "keyward agent add NAME"), @r"
        proxy     127.0.0.1:8080, unix:/run/keyward.sock
        agent     ci at 127.0.0.1:8090
        admin     http://127.0.0.1:8081
        metrics   http://127.0.0.1:9464/metrics
        hooks     https://hooks.example.com/hooks/
        data      /data
        CA        /data/ca/ca.pem
        ready; stop with Ctrl-C
        next: keyward agent add NAME
        ");
    }
}

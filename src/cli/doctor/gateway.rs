//! Checks the gateway: it answers, has this version, accepted its configuration, and is reachable. If none
//! runs, checks whether its addresses are free.

use std::io;
use std::net::{SocketAddr, TcpListener};

use super::installation::CheckedInstallation;
use super::report::DoctorReport;
use super::{processes, replicas};
use crate::cli::client::Client;
use crate::cli::failure::Exit;
use crate::cli::health::{self, answers};
use crate::cli::proxy_at::ProxyAt;
use crate::cli::settings::{Global, dialable};
use keyward_api::SOCKET_NAME;
use keyward_api::wire::{FailedListenerView, Status, TelemetryView};
use keyward_app::config::{Config, ListenAt};
use keyward_app::{LOCALHOST_KEY, localhost};
use keyward_net::processes as sockets;

const ID: &str = "gateway";

/// What answers on the admin socket.
pub(super) enum GatewayState {
    Running(Box<Client>),
    Absent,
}

/// Checks the admin socket.
pub(super) async fn check(
    install: &CheckedInstallation<'_>,
    report: &mut DoctorReport,
) -> GatewayState {
    match Client::running(install.global).await {
        Ok(client) => {
            match client.get_promptly::<Status>("/api/v1/status").await {
                Ok(status) => {
                    serving(&status, install.global, report).await;
                    if let Some(store) = &status.store {
                        replicas::check(store, &client, report).await;
                    }
                }
                // Nothing else can be asked.
                Err(failure) if failure.exit() == Exit::Unreachable => {
                    report.fail(ID, failure.message(), failure.advice().unwrap_or_default());
                    return GatewayState::Absent;
                }
                Err(failure) => {
                    let why = failure.message();
                    let message = format!("a gateway runs, but its status cannot be read: {why}");
                    let hint = failure.advice().unwrap_or("see the gateway's log");
                    report.fail(ID, message, hint);
                }
            }
            GatewayState::Running(Box::new(client))
        }
        Err(failure) if failure.exit() == Exit::Unreachable => {
            absent(install, report);
            GatewayState::Absent
        }
        Err(failure) => {
            report.fail(ID, failure.message(), failure.advice().unwrap_or_default());
            GatewayState::Absent
        }
    }
}

async fn serving(status: &Status, global: &Global, report: &mut DoctorReport) {
    let kind = if status.private { "a private gateway" } else { "a gateway" };
    let answers = format!("{kind} answers: {}", status.status);
    match &*status.status {
        "ready" => report.ok(ID, answers),
        "draining" => report.warn(ID, answers, "it is stopping: start another gateway"),
        "stale" | "outdated" => report.warn(ID, answers, "the check `replicas` names the cause"),
        // The faults name the cause.
        _ if !status.faults.is_empty() => {}
        _ => report.warn(ID, answers, "see its log"),
    }
    for fault in &status.faults {
        report.fail(ID, fault.message.clone(), fault.hint.clone());
    }
    let own = env!("CARGO_PKG_VERSION");
    if status.version == own {
        report.ok("version", format!("gateway and command line have version {own}"));
    } else {
        let message = format!("the gateway has version {}, this program {own}", status.version);
        report.warn("version", message, "restart the gateway with this program");
    }
    if let Some(reload) = &status.reload {
        for error in &reload.errors {
            let (what, hint) = match reload.incomplete {
                true => (
                    "the reload was interrupted, and may be in force in part",
                    "the gateway tries it again until it succeeds; `keyward reload` tries at once",
                ),
                false => (
                    "the configuration was refused",
                    "correct it, then run `keyward reload`; until then the old configuration applies",
                ),
            };
            report.fail("reload", format!("{what}: {error}"), hint);
        }
        for warning in &reload.warnings {
            report.warn("reload", warning.clone(), "restart the gateway");
        }
    }
    if let Some(telemetry) = &status.telemetry {
        check_telemetry(telemetry, report);
    }
    not_open(&status.databases_failed, global, report);
    listening(status, report).await;
}

/// Reports stored listeners for databases that the gateway could not open.
fn not_open(failed: &[FailedListenerView], global: &Global, report: &mut DoctorReport) {
    for FailedListenerView { name, problem, .. } in failed {
        let hint = format!(
            "it opens by itself once this is corrected; `{} database-listener set {name}` gives it another \
             place (`--at`), connection or agent",
            global.keyward()
        );
        report.fail("listen", format!("database listener {name} is not open: {problem}"), hint);
    }
}

/// Connects to the listeners.
async fn listening(status: &Status, report: &mut DoctorReport) {
    let hint =
        "another program may use the port, or a firewall may block it: see the gateway's log";
    let proxies = status.proxy.iter().map(|at| ("the proxy".to_owned(), at));
    let agents =
        status.agents.iter().map(|own| (format!("the listener of agent {}", own.agent), &own.at));
    for (what, at) in proxies.chain(agents) {
        let Some(at) = ProxyAt::parse(at) else { continue };
        match health::connect(at.addr).await {
            Some(_) => report.ok("listen", format!("{what} is reachable at {at}")),
            None => report.fail("listen", format!("{what} is not reachable at {at}"), hint),
        }
    }
    if let Some(at) = status.admin.strip_prefix("https://").and_then(|at| at.parse().ok()) {
        let at = dialable(at);
        match health::connect(at).await {
            Some(_) => {
                report.ok("listen", format!("the admin listener is reachable at https://{at}"))
            }
            None => report.fail(
                "listen",
                format!("the admin listener is not reachable at https://{at}"),
                hint,
            ),
        }
    }
    if let Ok(at) = status.admin.parse().map(dialable) {
        match answers(at).await {
            Ok(()) => report.ok("listen", format!("the admin listener answers at {at}")),
            Err(why) => report.fail("listen", format!("the admin listener at {at} {why}"), hint),
        }
    }
}

fn check_telemetry(telemetry: &TelemetryView, report: &mut DoctorReport) {
    let TelemetryView { endpoint, failure, .. } = telemetry;
    let signals = telemetry.signals();
    match failure {
        None => report.ok("telemetry", format!("{signals} are exported to {endpoint}")),
        Some(failure) => report.warn(
            "telemetry",
            format!("{signals} cannot be exported to {endpoint}: {}", failure.why),
            "check the collector and `telemetry.otlp`; requests are served without it",
        ),
    }
}

/// No gateway runs: checks whether one could start.
fn absent(install: &CheckedInstallation<'_>, report: &mut DoctorReport) {
    let socket = install.data.join(SOCKET_NAME);
    match socket.exists() {
        true => {
            let message =
                format!("no gateway runs; {} is left from one that was killed", socket.display());
            report.warn(ID, message, "no action needed: the next gateway replaces it");
        }
        false => report.ok(ID, "no gateway runs; `keyward run` starts a private one"),
    }
    for (key, at) in configured(&install.config) {
        // Port 0 is any that is free.
        if at.port() == 0 {
            continue;
        }
        match TcpListener::bind(at) {
            Ok(_) => report.ok("listen", format!("{at} is free")),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                let by = sockets::listening_on(at.port());
                let by = by.and_then(|pid| {
                    Some(format!("`{} (process {pid})`", processes::program(pid)?))
                });
                let by = by.unwrap_or_else(|| "another program".to_owned());
                let hint = format!("stop it, or choose another port: `{key}`");
                report.fail("listen", format!("{at} is in use by {by}"), hint);
            }
            Err(error) if key == LOCALHOST_KEY && localhost::is_absent(&error) => {}
            Err(error) => {
                let hint = format!("choose another address: `{key}`");
                report.fail("listen", format!("cannot listen on {at}: {error}"), hint);
            }
        }
    }
}

/// The addresses that a start binds, each with its key.
fn configured(config: &Config) -> Vec<(&'static str, SocketAddr)> {
    let listen = &config.listen;
    let mut all = vec![("listen.admin", listen.admin)];
    let others = localhost::others(config, &[listen.admin]);
    all.extend(others.into_iter().map(|at| (LOCALHOST_KEY, at)));
    let proxies = listen.proxy.iter().filter_map(ListenAt::tcp);
    all.extend(proxies.map(|at| ("listen.proxy", at)));
    let agents = listen.agents.iter().filter_map(|own| own.at.tcp());
    all.extend(agents.map(|at| ("listen.agents", at)));
    let databases = listen.databases.iter().filter_map(|it| it.at.tcp());
    all.extend(databases.map(|at| ("listen.databases", at)));
    all.extend(listen.metrics.map(|at| ("listen.metrics", at)));
    all.extend(listen.hooks.as_ref().map(|hooks| ("listen.hooks", hooks.at)));
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::doctor::report::CheckStatus;

    #[tokio::test]
    async fn another_version_a_refused_reload_and_unreachable_listeners_are_reported() {
        // A port that was free a moment ago.
        let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
        let status = serde_json::from_value(serde_json::json!({
            "status": "ready", "version": "0.0.0", "proxy": [free], "admin": free, "data": "/d",
            "ca": "/c", "reload": {"time": "2025-01-01T00:00:00Z", "errors": ["x"], "warnings": ["y"]},
            "agents": [{"agent": "ci", "at": free}],
            "databases_failed": [{"name": "local", "at": "127.0.0.1:1", "problem": "its agent was removed"}],
        }));
        let mut report = DoctorReport::default();
        serving(&status.unwrap(), &Global::default(), &mut report).await;
        let found: Vec<_> = report.checks.iter().map(|check| (check.id, check.status)).collect();
        let expected = [
            ("gateway", CheckStatus::Ok),
            ("version", CheckStatus::Warn),
            ("reload", CheckStatus::Fail),
            ("reload", CheckStatus::Warn),
            ("listen", CheckStatus::Fail),
            ("listen", CheckStatus::Fail),
            ("listen", CheckStatus::Fail),
            ("listen", CheckStatus::Fail),
        ];
        assert_eq!(found, expected);
        let hint = report.checks[1].hint.as_deref();
        assert_eq!(hint, Some("restart the gateway with this program"));
        let says = "database listener local is not open: its agent was removed";
        assert_eq!(report.checks[4].message, says);
        let says = "the listener of agent ci is not reachable at ";
        assert!(report.checks[6].message.starts_with(says), "{:?}", report.checks[6]);
    }

    #[tokio::test]
    async fn an_audit_log_that_cannot_be_written_is_reported_once_and_not_as_a_state_of_replicas() {
        let fault = serde_json::json!({"part": "audit", "message": "no log", "hint": "free space"});
        let status = serde_json::from_value(serde_json::json!({
            "status": "audit_unavailable", "version": env!("CARGO_PKG_VERSION"), "proxy": [],
            "admin": "", "data": "/d", "ca": "/c", "faults": [fault],
        }));
        let mut report = DoctorReport::default();
        serving(&status.unwrap(), &Global::default(), &mut report).await;
        let of_gateway: Vec<_> =
            report.checks.iter().filter(|check| check.id == "gateway").collect();
        assert_eq!(of_gateway.len(), 1);
        assert_eq!(of_gateway[0].message, "no log");
    }

    #[tokio::test]
    async fn a_gateway_that_is_not_ready_is_not_taken_for_another_program() {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};

        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = listener.local_addr().unwrap();
        let server = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(stream.read_u8().await.unwrap());
            }
            let (status, word) = match head.starts_with(b"GET /healthz ") {
                true => ("200 OK", "ok"),
                false => ("503 Service Unavailable", "stale"),
            };
            let body = format!("{{\"status\":\"{word}\"}}");
            let length = body.len();
            let answer = format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\n\r\n{body}");
            stream.write_all(answer.as_bytes()).await.unwrap();
        });
        assert_eq!(answers(at).await, Ok(()));
        server.await.unwrap();
    }
}

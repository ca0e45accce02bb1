//! Under a service manager: signals, notifications to the manager, and sockets that it bound.

use std::fs;
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tokio::net::{TcpStream, UnixDatagram};

use test_support::install::TOKEN_CI;
use test_support::process::{OwnChild, Served, built, reserved_address};
use test_support::*;

/// 32 bytes.
const MASTER_KEY: &str = "6b65792d6f662d6f6e652d73746f72652d6f662d74776f2d7265706c69636173";

async fn status(served: &Served) -> serde_json::Value {
    served.api("GET", "/status", "").await.json()
}

/// Asks for the status until it fits.
async fn until_status(served: &Served, fits: impl Fn(&serde_json::Value) -> bool) {
    until("the status", async || fits(&status(served).await)).await;
}

async fn told(manager: &UnixDatagram) -> String {
    let mut buffer = [0; 512];
    let length = patiently("the manager", manager.recv(&mut buffer)).await.expect("a message");
    String::from_utf8_lossy(&buffer[..length]).into_owned()
}

#[tokio::test]
async fn sighup_reads_a_good_file_and_refuses_a_bad_one() {
    let (plan, origin) = (Plan::api_key(), Origin::saying("fine"));
    let served = Served::start(&plan, &origin, &[]);
    assert_eq!(status(&served).await["reload"], serde_json::Value::Null);
    served.signal(Signal::HUP);
    until_status(&served, |status| status["reload"]["errors"] == serde_json::json!([])).await;

    let good = fs::read_to_string(served.config()).expect("the configuration");
    fs::write(served.config(), format!("{good}lisen: 1\ndefualt: 2\n")).expect("written");
    served.signal(Signal::HUP);
    let wrong = |status: &serde_json::Value| status["reload"]["errors"].as_array().map(Vec::len);
    until_status(&served, |status| wrong(status) == Some(2)).await;
    let refused = served.keyward(&["reload"]).output().expect("it runs");
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(1), "{said}");
    assert!(
        said.contains("error: ") && said.contains("lisen") && said.contains("defualt"),
        "{said}"
    );
    assert!(said.contains("hint: the old configuration stays"), "{said}");

    let more = good.replace("agents:\n", "agents:\n  - { name: more }\n");
    fs::write(served.config(), more).expect("written");
    let taken = served.keyward(&["reload"]).output().expect("it runs");
    assert_eq!(String::from_utf8_lossy(&taken.stdout), "reloaded\n");
    let agents = served.api("GET", "/agents", "").await;
    assert!(agents.text().contains("\"more\""), "{}", agents.text());
}

#[tokio::test]
async fn the_level_of_the_log_follows_the_file() {
    let (plan, origin) = (Plan::api_key(), Origin::saying("fine"));
    let served = Served::start(&plan, &origin, &[]);
    let asks = async || {
        let mut wire = Wire::to(served.proxy).await;
        assert_eq!(wire.ask(absolute("GET /", HOST, TOKEN_CI)).await.text(), "fine");
    };
    let becomes = |from: &str, to: &str| {
        let yaml = fs::read_to_string(served.config()).expect("the configuration");
        assert!(yaml.contains(from), "{yaml}");
        fs::write(served.config(), yaml.replace(from, to)).expect("written");
        assert!(served.keyward(&["reload"]).output().expect("it runs").status.success());
    };
    becomes("level: trace", "level: error");
    let before = served.output().len();
    asks().await;
    assert_eq!(served.output()[before..].matches("exchange=").count(), 0);
    becomes("level: error", "level: debug");
    patiently("a line of the new level", async {
        // The line of an exchange is written after its answer.
        while !served.output()[before..].contains("exchange=") {
            asks().await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_second_sigterm_cuts_the_exchanges_that_the_first_waits_for() {
    let plan = Plan::api_key().limit("idle_timeout: 5m");
    let cut = "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nhell\n";
    let origin = Origin::answering(move |_| cut);
    let mut served = Served::start(&plan, &origin, &[]);
    // Longer than any test waits. Of the limits, the one that is read at the start counts.
    let yaml = fs::read_to_string(served.config()).expect("the configuration");
    let patient = yaml.replace("drain_timeout: 2s", "drain_timeout: 1h");
    fs::write(served.config(), patient).expect("written");
    assert_eq!(served.terminate(), Some(0), "{}", served.output());
    served.restart();
    let mut wire = Wire::to(served.proxy).await;
    wire.send(absolute("GET /", HOST, TOKEN_CI)).await;
    assert_eq!(wire.head().await.expect("a head").status(), 200);
    served.signal(Signal::TERM);
    until_status(&served, |status| status["status"] == "draining").await;
    assert_eq!(wire.exactly(5).await, b"hell\n", "the first one waits");
    assert_eq!(served.terminate(), Some(0), "{}", served.output());
    assert!(wire.is_closed().await);
    let records = served.audit();
    assert_eq!(records.last().expect("a record")["outcome"], "ended", "{records:?}");
}

#[tokio::test]
async fn a_gateway_that_waits_for_its_database_stops_at_a_signal() {
    let folder = tempfile::tempdir().expect("a directory");
    let config = folder.path().join("keyward.yaml");
    let yaml = "store: { postgres: { url: { env: DATABASE }, tls: off } }\n\
                master_key: { env: MASTER_KEY }\n";
    fs::write(&config, yaml).expect("written");
    for signal in [Signal::TERM, Signal::INT] {
        // It accepts streams, and never answers.
        let database = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let at = database.local_addr().expect("an address");
        let gateway = Command::new(built())
            .arg("serve")
            .env_clear()
            .env("KEYWARD_DATA", folder.path().join("data"))
            .env("KEYWARD_CONFIG", &config)
            .env("MASTER_KEY", MASTER_KEY)
            .env("DATABASE", format!("postgres://keyward:canary@{at}/keyward"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        let mut gateway = OwnChild::from(gateway.expect("the binary was built"));
        let _silent = patiently("a stream", database.accept()).await.expect("a stream");
        let began = Instant::now();
        kill_process(Pid::from_child(&gateway), signal).expect("our child");
        assert_eq!(gateway.wait().expect("our child").code(), Some(0), "{signal:?}");
        assert!(began.elapsed() < Duration::from_secs(20), "it waited for the database");
    }
}

#[tokio::test]
async fn a_gateway_that_stops_serves_new_streams_until_load_balancers_had_time_to_notice() {
    let metrics = reserved_address();
    let plan =
        Plan::api_key().limit("shutdown_delay: 1h").listen(&format!("metrics: \"{metrics}\""));
    let origin = Origin::saying("fine");
    let mut served = Served::start(&plan, &origin, &[]);
    let proxy = served.proxy;
    let opened = async || Wire::to(proxy).await;
    let asks = async |wire: &mut Wire| {
        let answer = wire.ask(absolute("GET /", HOST, TOKEN_CI)).await;
        assert_eq!(answer.text(), "fine");
        answer.head.one("connection").map(str::to_owned)
    };
    let readiness = async || {
        let mut wire = Wire::to(metrics).await;
        wire.ask(format!("GET /readyz HTTP/1.1\r\nHost: {metrics}\r\n\r\n")).await.head.status()
    };
    let mut kept = opened().await;
    assert_eq!(asks(&mut kept).await, None);
    assert_eq!(readiness().await, 200);
    served.signal(Signal::TERM);
    until_status(&served, |status| status["status"] == "draining").await;
    assert_eq!(readiness().await, 503);
    assert_eq!(asks(&mut opened().await).await.as_deref(), Some("close"));
    assert_eq!(asks(&mut kept).await.as_deref(), Some("close"), "of before");
    assert!(kept.is_closed().await);
    assert_eq!(served.terminate(), Some(0), "a second signal ends the delay: {}", served.output());
}

#[tokio::test]
async fn the_service_manager_is_notified_of_start_reload_and_stop() {
    let folder = tempfile::tempdir().expect("a directory");
    let path = folder.path().join("notify");
    let manager = UnixDatagram::bind(&path).expect("a socket");
    let (plan, origin) = (Plan::api_key(), Origin::saying("fine"));
    let variables = [
        ("CANARY", &*plan.canary().text),
        ("TOKEN_CI", TOKEN_CI),
        ("NOTIFY_SOCKET", path.to_str().expect("UTF-8")),
    ];
    let mut served = Served::start(&plan, &origin, &variables);
    assert!(told(&manager).await.starts_with("READY=1\n"));
    served.signal(Signal::HUP);
    let reloading = told(&manager).await;
    assert!(reloading.starts_with("RELOADING=1\nMONOTONIC_USEC="), "{reloading}");
    assert!(told(&manager).await.starts_with("READY=1\n"));
    assert_eq!(served.terminate(), Some(0));
    assert!(told(&manager).await.starts_with("STOPPING=1\n"));
}

#[tokio::test]
async fn inherited_sockets_are_served_by_their_names() {
    let folder = tempfile::tempdir().expect("a directory");
    let bound = || TcpListener::bind("127.0.0.1:0").expect("loopback");
    let (proxy, admin) = (bound(), bound());
    let at = [&proxy, &admin].map(|listener| listener.local_addr().expect("an address"));
    // Bound sockets become descriptors 3 and 4, as sd_listen_fds(3) has it.
    let script = "exec 3<&1 4<&0 >/dev/null </dev/null; LISTEN_PID=$$; export LISTEN_PID; \
                  exec \"$0\" serve";
    let mut child = Command::new("sh")
        .args(["-c", script, env!("CARGO_BIN_EXE_keyward")])
        .env("KEYWARD_DATA", folder.path().join("data"))
        .env("LISTEN_FDS", "2")
        .env("LISTEN_FDNAMES", "admin:proxy")
        .stdin(Stdio::from(OwnedFd::from(proxy)))
        .stdout(Stdio::from(OwnedFd::from(admin)))
        .stderr(Stdio::null())
        .spawn()
        .expect("a shell");
    let statuses = [
        (at[0], "CONNECT a.example:443 HTTP/1.1\r\nHost: a.example:443\r\n\r\n".to_owned(), 407),
        (at[1], format!("GET /readyz HTTP/1.1\r\nHost: {}\r\n\r\n", at[1]), 200),
    ];
    for (addr, request, expected) in statuses {
        let stream = TcpStream::connect(addr).await.expect("the kernel listens");
        let mut wire = Wire::plain(stream);
        assert_eq!(wire.ask(request).await.head.status(), expected, "{addr}");
    }
    child.kill().expect("our child");
    child.wait().expect("our child");
}

//! psql over TLS to the listener: `sslmode=verify-full`, as of clients that insist on TLS; and over an agent's own socket.

use std::net::{IpAddr, UdpSocket};

use super::stage::Stage;
use crate::stage::{ca, run, said};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn psql_verifies_the_listener_by_the_local_ca() {
    let stage = Stage::listening("databases: [{ at: \"127.0.0.1:0\", tls: {} }]").await;
    let asks = "SELECT current_user";
    for (mode, host, works) in [
        ("verify-full", "127.0.0.1", true),
        ("verify-full", "localhost", true),
        ("require", "127.0.0.1", true),
        ("disable", "127.0.0.1", true),
    ] {
        let mut command = stage.psql(stage.lab.token("ci"), "main");
        command.env("PGHOST", host).env("PGSSLMODE", mode).env("PGSSLROOTCERT", ca(&stage.lab));
        command.args(["-c", asks, "-c", "\\conninfo"]);
        let output = run(command).await;
        assert_eq!(output.status.success(), works, "{mode} {host}: {}", said(&output));
        assert!(said(&output).contains("app"), "{}", said(&output));
        assert_eq!(
            said(&output).contains("SSL connection"),
            mode != "disable",
            "{}",
            said(&output)
        );
    }
    stage.finish().await;
    // Without TLS, a client that insists on it ends.
    let stage = Stage::new().await;
    let mut command = stage.psql(stage.lab.token("ci"), "main");
    command.env("PGSSLMODE", "require").args(["-c", asks]);
    let refused = said(&run(command).await);
    assert!(refused.contains("server does not support SSL"), "{refused}");
    stage.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_over_the_network_without_tls_is_refused() {
    let stage = Stage::listening("databases: [{ at: \"0.0.0.0:0\", tls: {} }]").await;
    for (mode, says) in [
        ("disable", "FATAL:  keyward: this listener is reached over the network"),
        ("prefer", "app"),
        ("require", "app"),
    ] {
        let mut command = stage.psql(stage.lab.token("ci"), "main");
        command.env("PGHOST", address().to_string()).env("PGSSLMODE", mode);
        command.args(["-c", "SELECT current_user"]);
        let said = said(&run(command).await);
        assert!(said.contains(says), "{mode}: {said}");
    }
    assert_eq!(stage.finish().await.len(), 2, "sessions");
}

/// The address of this machine in its network. Nothing is sent.
fn address() -> IpAddr {
    let socket = UdpSocket::bind("0.0.0.0:0").expect("a free port");
    socket.connect("192.0.2.1:9").expect("this machine is in a network");
    socket.local_addr().expect("it is bound").ip()
}

/// An agent's own socket: the system's user is the proof, so psql gives no password.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agents_own_socket_needs_no_token() {
    let own = "databases: [{ at: \"unix:.s.PGSQL.5432\", agent: ci, connection: main }]";
    let stage = Stage::listening(own).await;
    let mut command = stage.psql("none", "anybody");
    command.env("PGHOST", stage.lab.gateway.data()).env("PGPORT", "5432").env_remove("PGPASSWORD");
    command.args(["-w", "-c", "SELECT current_user || ' at ' || current_database()"]);
    let output = run(command).await;
    assert!(said(&output).contains("app at app"), "{}", said(&output));
    // A client that names another database would believe to be there.
    let mut command = stage.psql("none", "test_app");
    command.env("PGHOST", stage.lab.gateway.data()).env("PGPORT", "5432").env_remove("PGPASSWORD");
    let refused = said(
        &run({
            command.args(["-w", "-c", "SELECT 1"]);
            command
        })
        .await,
    );
    assert!(refused.contains("the database is none of the agent's connections"), "{refused}");
    let records = stage.finish().await;
    assert_eq!([&records[0]["agent"], &records[0]["connection"]], ["ci", "main"]);
}

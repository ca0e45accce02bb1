//! pgbench through the listener and at the server, in turns: what a session costs after its login.

use std::process::Command;

use super::server::NAME;
use super::stage::Stage;
use crate::stage::{installed, run, said};

const ROUNDS: usize = 3;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pgbench_runs_through_the_listener() {
    let stage = Stage::new().await;
    let (server, listener) = (stage.server.at, stage.listener());
    let bench = async |at: std::net::SocketAddr, user: &str, database: &str, more: &[&str]| {
        let password = if at == server { &stage.password.text } else { stage.lab.token("ci") };
        let mut command = Command::new(installed("real-postgres/pgbench"));
        command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.env("PGHOST", at.ip().to_string()).env("PGPORT", at.port().to_string());
        command.env("PGUSER", user).env("PGPASSWORD", password).env("PGSSLMODE", "disable");
        let output = run({
            command.args(more).arg(database);
            command
        });
        let output = output.await;
        assert!(output.status.success(), "{}", said(&output));
        said(&output)
    };
    bench(listener, "main", "main", &["-i", "-q", "-s", "1"]).await;
    for (what, connection) in [("without TLS to the server", "plain"), ("with TLS", "main")] {
        let (mut through, mut direct) = (0.0, 0.0);
        for _ in 0..ROUNDS {
            let arguments = ["-n", "-S", "-c", "4", "-j", "1", "-t", "2000", "-M", "prepared"];
            direct += rate(&bench(server, "app", "app", &arguments).await);
            through += rate(&bench(listener, connection, connection, &arguments).await);
        }
        let rounds = f64::from(u32::try_from(ROUNDS).expect("few"));
        let (through, direct) = (through / rounds, direct / rounds);
        println!(
            "{NAME}, {what}: {through:.0} transactions/s through Keyward, {direct:.0} direct: {:.2}",
            through / direct
        );
    }
    let records = stage.finish().await;
    assert!(records.iter().all(|record| record["outcome"] == "completed"), "{records:?}");
}

/// `tps = 1234.5 (without initial connection time)`.
fn rate(said: &str) -> f64 {
    let rate = said.split("tps = ").nth(1).and_then(|rest| rest.split(' ').next());
    rate.and_then(|rate| rate.parse().ok()).unwrap_or_else(|| panic!("no rate: {said}"))
}

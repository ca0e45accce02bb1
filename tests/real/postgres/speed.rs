//! pgbench through the listener and at the server, in turns: what a session costs after its login.

use std::process::Command;

use super::server::NAME;
use super::stage::Stage;
use crate::database_stage::{CopyMemory, alone, large_mib};
use crate::stage::{installed, run, said, succeeded};

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

/// In both directions, by COPY: 1 GiB in the soak, 64 MiB otherwise.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_copy_passes_whole_in_both_directions() {
    alone(a_large_copy_passes_whole_in_both_directions, Box::pin(copy_both_ways())).await;
}

async fn copy_both_ways() {
    let stage = Stage::new().await;
    let blocks = large_mib();
    stage.served("ci", "main", "CREATE TABLE large (a int, b text)").await;
    // Each row has 64 KiB that differ.
    let rows = format!(
        "SELECT n, (SELECT string_agg(md5(n || ' ' || m), '') FROM generate_series(1, 2048) m) FROM generate_series(1, {}) n",
        blocks * 16
    );
    let (from, to) =
        (stage.psql(stage.lab.token("ci"), "main"), stage.psql(stage.lab.token("ci"), "main"));
    let file = stage.lab.gateway.folder().join("large");
    let peak = CopyMemory::begin();
    let copies = [
        (from, format!("\\copy ({rows}) TO '{}'", file.display())),
        (to, format!("\\copy large FROM '{}'", file.display())),
    ];
    for (mut command, text) in copies {
        command.args(["-c", &text]);
        succeeded(command).await;
    }
    peak.assert_bounded(&format!("{blocks} MiB in each direction"));
    let sum = "SELECT md5(string_agg(md5(b), '' ORDER BY a)) FROM";
    let (there, made) = (format!("{sum} large"), format!("{sum} ({rows}) AS made (a, b)"));
    assert_eq!(stage.server.sql("app", &there), stage.server.sql("app", &made));
    let records = stage.finish().await;
    let most = |key: &str| records.iter().filter_map(|record| record[key].as_u64()).max();
    assert!(most("bytes_out") > Some(blocks << 20) && most("bytes_in") > Some(blocks << 20));
}

/// `tps = 1234.5 (without initial connection time)`.
fn rate(said: &str) -> f64 {
    let rate = said.split("tps = ").nth(1).and_then(|rest| rest.split(' ').next());
    rate.and_then(|rate| rate.parse().ok()).unwrap_or_else(|| panic!("no rate: {said}"))
}

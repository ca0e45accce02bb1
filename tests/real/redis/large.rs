//! Values that are larger than any buffer.

use std::fs::File;
use std::io::{BufWriter, Write};

use super::stage::Stage;
use crate::database_stage::{CopyMemory, alone, large_mib};
use crate::stage::{run, said};

/// The length of a value, in MiB: Redis has up to 512.
const VALUE_MIB: u64 = 64;

/// To the server and back: 1 GiB in the soak, 64 MiB otherwise.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_values_pass_whole_in_both_directions() {
    alone(large_values_pass_whole_in_both_directions, Box::pin(copy_values())).await;
}

async fn copy_values() {
    let stage = Stage::new().await;
    let (given, got) = (file(&stage, "given"), file(&stage, "got"));
    let peak = CopyMemory::begin();
    for value in 0..large_mib() / VALUE_MIB {
        let mut written = BufWriter::new(File::create(&given).expect("a file"));
        for number in 0..VALUE_MIB << 14 {
            // Not text: RESP gives the length.
            let block = (number ^ (value << 32)).wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes();
            written.write_all(&block.repeat(8)).expect("a file");
        }
        written.into_inner().expect("a file");
        let mut set = stage.cli(stage.lab.token("ci"), "main");
        set.args(["-x", "SET", "large"]).stdin(File::open(&given).expect("a file"));
        assert!(said(&run(set).await).contains("OK"));
        let mut get = stage.cli(stage.lab.token("ci"), "main");
        get.args(["--raw", "GET", "large"]).stdout(File::create(&got).expect("a file"));
        assert!(get.status().expect("`tests/run` installs it").success());
        assert!(is_same(&given, &got), "value {value}");
        assert_eq!(stage.server.ask(&["STRLEN", "large"]), (VALUE_MIB << 20).to_string());
    }
    peak.assert_bounded(&format!("{} MiB in each direction", large_mib()));
    stage.finish().await;
}

fn file(stage: &Stage, name: &str) -> std::path::PathBuf {
    stage.lab.gateway.folder().join(name)
}

/// Compares without reading a file into the memory that is measured. redis-cli ends the value with a line break.
fn is_same(given: &std::path::Path, got: &std::path::Path) -> bool {
    let length = std::fs::metadata(given).expect("a file").len();
    let mut compare = std::process::Command::new("cmp");
    compare.args(["--bytes", &length.to_string()]).arg(given).arg(got);
    std::fs::metadata(got).expect("a file").len() == length + 1
        && compare.status().expect("a program of every system").success()
}

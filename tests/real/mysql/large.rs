//! Answers and files that are larger than any buffer.

use super::stage::Stage;
use crate::database_stage::{CopyMemory, alone, large_mib};
use crate::stage::succeeded;

/// As an answer, and by `LOAD DATA LOCAL`: 1 GiB in the soak, 64 MiB otherwise.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_answer_and_a_large_file_pass_whole() {
    alone(a_large_answer_and_a_large_file_pass_whole, Box::pin(copy_both_ways())).await;
}

async fn copy_both_ways() {
    let stage = Stage::new().await;
    let mib = large_mib();
    stage.server.sql("CREATE TABLE app.large (a int, b longtext) ENGINE=MyISAM");
    // Each row has 64 KiB of its own.
    let rows =
        format!("SELECT seq AS a, REPEAT(MD5(seq), 2048) AS b FROM app.seq_1_to_{}", mib * 16);
    let file = stage.lab.gateway.folder().join("large");
    let mut command = stage.client(stage.lab.token("ci"), "main");
    command.args(["--quick", "-e", &rows]).stdout(std::fs::File::create(&file).expect("a file"));
    let mut load = stage.client(stage.lab.token("ci"), "main");
    let text = format!("LOAD DATA LOCAL INFILE '{}' INTO TABLE large", file.display());
    load.args(["--local-infile=1", "-e", &text]);
    let peak = CopyMemory::begin();
    let answered = command.status().expect("`tests/run` installs it");
    assert!(answered.success());
    assert_eq!(std::fs::metadata(&file).expect("it was made").len() >> 20, mib);
    succeeded(load).await;
    peak.assert_bounded(&format!("{mib} MiB in each direction"));
    let sum = |of: &str| {
        let sum =
            format!("SELECT COUNT(*), SUM(LENGTH(b)), BIT_XOR(CRC32(CONCAT(a, b))) FROM {of}");
        stage.server.sql(&sum)
    };
    assert_eq!(sum("app.large"), sum(&format!("({rows}) AS made")));
    let records = stage.finish().await;
    let most = |key: &str| records.iter().filter_map(|record| record[key].as_u64()).max();
    assert!(most("bytes_out") > Some(mib << 20) && most("bytes_in") > Some(mib << 20));
}

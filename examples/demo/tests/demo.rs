//! The demo, run as the README runs it.

use std::process::Command;

#[test]
fn every_claim_of_the_demo_holds() {
    let run = Command::new(env!("CARGO_BIN_EXE_demo")).output().expect("the demo starts");
    let (out, err) = (String::from_utf8_lossy(&run.stdout), String::from_utf8_lossy(&run.stderr));
    assert!(run.status.success(), "{out}\n{err}");
    assert!(out.contains(" claims held, 0 did not"), "{out}");
}

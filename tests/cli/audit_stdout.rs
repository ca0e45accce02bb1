//! Records on standard output (`audit.stdout`).

use rustix::process::Signal;
use serde_json::json;

use test_support::cli::{Cli, over_socket};
use test_support::process::api_request;

/// More records than fit into the pipe and the queue.
const CHANGES: u64 = 300;

#[test]
fn a_reader_of_standard_output_that_stalls_holds_up_neither_changes_nor_the_stop() {
    let cli = Cli::new();
    // Nothing reads it.
    let serving = cli.serve_with("audit: { stdout: true }\nlimits: { audit_queue_max: 50 }\n");
    let socket = cli.data().join("admin.sock");
    for n in 0..CHANGES {
        let ask = api_request("POST", "/agents", &json!({ "name": format!("a{n}") }).to_string());
        let ask = ask.replacen("\r\n", "\r\nConnection: close\r\n", 1);
        let (status, answer) = over_socket(&socket, &ask);
        assert_eq!(status, 201, "{answer}");
    }
    serving.signal(Signal::TERM);
    assert_eq!(serving.wait(), Some(0));
    let verified = cli.run(&["audit", "verify", "--json"]).json();
    assert!(verified["last"].as_u64().is_some_and(|last| last >= CHANGES), "{verified}");
}

//! With a gateway running the command line talks to it, and the store stays the gateway's.

use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;

use crate::cli_runner::{Cli, over_socket};

#[test]
fn commands_reach_a_running_gateway() {
    let cli = Cli::new();
    let serving = cli.serve();
    cli.run(&["agent", "add", "ci"]).ok();
    assert_eq!(cli.run(&["health"]).ok(), "ready\n");
    let agents = cli.run(&["agent", "list", "--json"]).json();
    assert_eq!(agents["items"][0]["name"], "ci");
    assert!(serving.id() > 0);
}

#[test]
fn the_socket_is_for_its_owner_alone() {
    let cli = Cli::new();
    let _serving = cli.serve();
    let metadata = std::fs::metadata(cli.data().join("admin.sock")).unwrap();
    assert_eq!(metadata.permissions().mode() & 0o777, 0o600);
}

#[test]
fn a_second_gateway_is_refused_and_harms_nothing() {
    let cli = Cli::new();
    let serving = cli.serve();
    let config = cli.data().parent().unwrap().join("keyward.yaml");
    let err = cli.run(&["serve", "--config", config.to_str().unwrap()]).failed(1);
    assert!(err.contains(&serving.id().to_string()), "{err}");
    assert_eq!(cli.run(&["health"]).ok(), "ready\n");
}

#[test]
fn a_lost_socket_is_told_with_the_process_that_holds_the_store() {
    let cli = Cli::new();
    let serving = cli.serve();
    std::fs::remove_file(cli.data().join("admin.sock")).unwrap();
    let err = cli.run(&["agent", "list"]).failed(3);
    let locked = format!("error: store is locked by process {}\nhint: ", serving.id());
    assert!(err.starts_with(&locked), "{err}");
}

#[test]
fn a_killed_gateway_leaves_nothing_in_the_way() {
    let cli = Cli::new();
    let serving = cli.serve();
    cli.run(&["agent", "add", "ci"]).ok();
    serving.kill();
    let agents = cli.run(&["agent", "list", "--json"]).json();
    assert_eq!(agents["items"][0]["name"], "ci", "in process, beside a stale socket");
    let _serving = cli.serve();
    assert_eq!(cli.run(&["health"]).ok(), "ready\n", "the stale socket was replaced");
}

#[test]
fn a_gateway_that_hangs_up_is_exit_code_3() {
    let cli = Cli::new();
    std::fs::create_dir_all(cli.data()).unwrap();
    let listener = UnixListener::bind(cli.data().join("admin.sock")).unwrap();
    let closing = std::thread::spawn(move || {
        // The look and the request.
        for _ in 0..2 {
            drop(listener.accept().unwrap());
        }
    });
    let err = cli.run(&["agent", "list"]).failed(3);
    assert!(err.starts_with("error: the gateway closed the connection"), "{err}");
    closing.join().unwrap();
}

#[test]
fn the_api_refuses_what_it_cannot_read() {
    let cli = Cli::new();
    let _serving = cli.serve();
    let socket = cli.data().join("admin.sock");
    let post = |kind: &str, length: usize, body: &str| {
        over_socket(
            &socket,
            &format!(
                "POST /api/v1/agents HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\
                 content-type: {kind}\r\ncontent-length: {length}\r\n\r\n{body}"
            ),
        )
    };
    let table = [
        ("text/plain", r#"{"name":"a"}"#, 415),
        ("application/json", "{", 400),
        ("application/json", r#"["a"]"#, 422),
        ("application/json", r#"{"name":"a","nmae":"b"}"#, 422),
        ("application/json", r#"{"name":"a b"}"#, 422),
        ("application/json", r#"{"name":"a"}"#, 201),
        ("application/json", r#"{"name":"a"}"#, 409),
    ];
    for (kind, body, expected) in table {
        let (status, answer) = post(kind, body.len(), body);
        assert_eq!(status, expected, "{body}: {answer}");
    }
    let (status, _) = post("application/json", 1024 * 1024 + 1, "");
    assert_eq!(status, 413);
}

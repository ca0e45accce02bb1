//! With a gateway running the command line talks to it, and the store stays the gateway's.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;

use rustix::process::Signal;

use test_support::cli::{Cli, over_socket};

/// What `/api/v1/status` says.
fn status(cli: &Cli) -> serde_json::Value {
    let ask = "GET /api/v1/status HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    let (_, body) = over_socket(&cli.data().join("admin.sock"), ask);
    serde_json::from_str(&body).expect("JSON")
}

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
fn health_does_not_take_the_gateway_of_another_data_directory_for_the_own_one() {
    let other = Cli::new();
    let serving = other.serve();
    let admin = status(&other)["admin"].as_str().expect("an address").to_owned();
    let cli = Cli::new();
    let listen = format!("listen: {{ proxy: 127.0.0.1:0, admin: \"{admin}\" }}\n");
    let config = cli.file("keyward.yaml", &listen);
    let health = ["health", "--config", config.to_str().expect("a path in UTF-8")];
    let said = cli.run(&health).failed(3);
    let stopped = format!("error: no gateway runs for {}: another", cli.data().display());
    assert!(said.starts_with(&stopped) && said.contains(&admin), "{said}");
    assert_eq!(other.run(&["health"]).ok(), "ready\n");
    serving.kill();
    let said = cli.run(&health).failed(3);
    assert!(said.starts_with("error: no gateway answers on ") && !said.contains(&admin), "{said}");
}

#[test]
fn the_socket_is_for_its_owner_alone() {
    let cli = Cli::new();
    let _serving = cli.serve();
    let metadata = std::fs::metadata(cli.data().join("admin.sock")).unwrap();
    assert_eq!(metadata.permissions().mode() & 0o777, 0o600);
}

#[test]
fn a_second_gateway_is_refused_and_the_first_stays_ready() {
    let cli = Cli::new();
    let serving = cli.serve();
    let config = cli.data().parent().unwrap().join("keyward.yaml");
    let err = cli.run(&["serve", "--config", config.to_str().unwrap()]).failed(1);
    assert!(err.contains(&serving.id().to_string()), "{err}");
    assert_eq!(cli.run(&["health"]).ok(), "ready\n");
}

#[test]
fn without_the_socket_a_command_names_the_process_that_holds_the_store() {
    let cli = Cli::new();
    let serving = cli.serve();
    std::fs::remove_file(cli.data().join("admin.sock")).unwrap();
    let err = cli.run(&["agent", "list"]).failed(3);
    let locked = format!("error: store is locked by process {}\nhint: ", serving.id());
    assert!(err.starts_with(&locked), "{err}");
}

#[test]
fn commands_and_a_new_gateway_work_beside_the_socket_of_a_killed_gateway() {
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
fn the_api_refuses_each_invalid_body_with_its_status() {
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

#[test]
fn lines_to_paste_name_the_listener_of_the_running_gateway() {
    let cli = Cli::new();
    let _serving = cli.serve();
    let proxy = status(&cli)["proxy"][0].as_str().unwrap().to_owned();
    let added = cli.run(&["agent", "add", "ci"]).ok();
    assert!(added.contains(&format!("@{proxy}\n")), "{added}");
    let data = cli.data();
    assert!(
        added.contains(&format!("keyward --data {} env --agent ci", data.display())),
        "{added}"
    );
}

#[test]
fn sighup_and_a_closed_standard_error_do_not_end_the_gateway() {
    let cli = Cli::new();
    let mut serving = cli.serve();
    // What it says about the signal has nobody to go to.
    serving.close_stderr();
    serving.signal(Signal::HUP);
    assert_eq!(cli.run(&["health"]).ok(), "ready\n");
    serving.signal(Signal::HUP);
    cli.run(&["agent", "add", "ci"]).ok();
    assert_eq!(cli.run(&["health"]).ok(), "ready\n");
    serving.signal(Signal::TERM);
    assert_eq!(serving.wait(), Some(0));
}

#[test]
fn a_gateway_that_drains_says_so_until_its_last_tunnel_ends() {
    let cli = Cli::new();
    let upstream = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = upstream.local_addr().unwrap();
    let serving = cli.serve_with(&format!(
        "upstream: {{ allow_private: [\"{at}\"] }}\n\
         rules: [{{ name: t, hosts: [\"{at}\"], action: tunnel }}]\n"
    ));
    let added = cli.run(&["agent", "add", "ci", "--json"]).json();
    let (token, places) = (added["token"]["token"].as_str().unwrap(), status(&cli));
    let mut tunnel = TcpStream::connect(places["proxy"][0].as_str().unwrap()).unwrap();
    write!(tunnel, "CONNECT {at} HTTP/1.1\r\nProxy-Authorization: Bearer {token}\r\n\r\n").unwrap();
    let (_far, _) = upstream.accept().unwrap();

    serving.signal(Signal::TERM);
    // Each question takes a process: no need to wait in between.
    let told = (0..500).map(|_| cli.run(&["health"])).find(|health| health.code != 0).unwrap();
    assert_eq!(told.failed(1), "error: the gateway is not ready: draining\n");
    assert_eq!(status(&cli)["status"], "draining");
    let mut admin = TcpStream::connect(places["admin"].as_str().unwrap()).unwrap();
    let host = places["admin"].as_str().unwrap();
    write!(admin, "GET /readyz HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    admin.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains("draining"), "{answer}");
    let mut admin = TcpStream::connect(host).unwrap();
    write!(admin, "GET /ca HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n").unwrap();
    let mut page = String::new();
    admin.read_to_string(&mut page).unwrap();
    assert!(page.contains("draining") && !page.contains("stopping"), "{page}");
    // The listener of a gateway that drains is no other program's.
    let report = cli.run(&["doctor", "--json"]).out;
    assert!(report.contains(&format!("the admin listener answers at {host}")), "{report}");
    assert!(report.contains("a gateway answers: draining"), "{report}");
    drop(tunnel);
    assert_eq!(serving.wait(), Some(0));
    assert_eq!(cli.run(&["health"]).code, 3);
}

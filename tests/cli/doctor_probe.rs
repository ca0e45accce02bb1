//! `keyward doctor -- CMD`: what a program does at the probe, and the advice that the report gives. The program is a
//! shell that prints its environment and waits, while the test is its HTTP stack.

use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};
use std::sync::Arc;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use h2::client::SendRequest;
use http::Request;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use test_support::install::Install;
use test_support::pki::{pki, trusting};
use test_support::*;

/// Says where the proxy is and which file to trust, then waits for the end of standard input.
const SCRIPT: &str = "echo \"$HTTPS_PROXY\" \"$SSL_CERT_FILE\" >&2; read end; exit 3";

/// A program at the probe.
struct Probed {
    child: Child,
    /// Host and port of the proxy.
    proxy: String,
    /// `name:token`.
    user: String,
    /// The bundle's text.
    bundle: String,
}

impl Probed {
    fn new(install: &Install) -> Self {
        Self::of(install, &["--agent", "ci"])
    }

    fn of(install: &Install, agent: &[&str]) -> Self {
        let program = ["--", "sh", "-c", SCRIPT];
        let mut command = install.keyward(&[&["doctor", "--json"], agent, &program].concat());
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the binary was built");
        let mut line = String::new();
        let mut stderr = BufReader::new(child.stderr.take().expect("piped"));
        stderr.read_line(&mut line).expect("text");
        let (url, bundle) = line.trim().split_once(' ').unwrap_or_else(|| panic!("{line}"));
        let url = url.strip_prefix("http://").expect("a URL");
        let (user, proxy) = url.split_once('@').expect("a user");
        let bundle = std::fs::read_to_string(bundle).expect("the bundle");
        Self { child, proxy: proxy.to_owned(), user: user.to_owned(), bundle }
    }

    async fn stream(&self) -> Wire {
        Wire::plain(
            patiently("connecting", TcpStream::connect(&self.proxy)).await.expect("it listens"),
        )
    }

    /// CONNECT, as most clients send it.
    async fn connected(&self, host: &str, user: Option<&str>) -> (u16, TcpStream) {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let mut stream =
            patiently("connecting", TcpStream::connect(&self.proxy)).await.expect("it listens");
        let user = user.map(|user| BASE64_STANDARD.encode(user));
        let user =
            user.map_or_else(String::new, |user| format!("Proxy-Authorization: Basic {user}\r\n"));
        let head = format!("CONNECT {host}:443 HTTP/1.0\r\n{user}\r\n");
        stream.write_all(head.as_bytes()).await.expect("it reads");
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\n") {
            answer.push(patiently("the answer", stream.read_u8()).await.expect("an answer"));
        }
        let answer = String::from_utf8_lossy(&answer).into_owned();
        (answer[9..12].parse().expect("a status"), stream)
    }

    /// A request in a tunnel, by a client that trusts these roots.
    async fn get(&self, roots: &str, fields: &str) -> std::io::Result<String> {
        let (status, stream) = self.connected("api.acme.test", Some(&self.user)).await;
        assert_eq!(status, 200);
        let name = ServerName::try_from("api.acme.test").expect("a name");
        let shaken = TlsConnector::from(trusting(roots)).connect(name, stream);
        let mut wire =
            Wire::over(patiently("the handshake", shaken).await?, None, wire::Seen::default());
        wire.send(format!("GET /a?b=c HTTP/1.1\r\nHost: api.acme.test\r\n{fields}\r\n")).await;
        Ok(wire.answer("GET").await.text())
    }

    /// A stream of HTTP/2, by a client that offers nothing else.
    async fn http2(&self, roots: &str) -> SendRequest<Bytes> {
        self.try_http2(roots).await.expect("it trusts the probe")
    }

    async fn try_http2(&self, roots: &str) -> std::io::Result<SendRequest<Bytes>> {
        let (status, stream) = self.connected("api.acme.test", Some(&self.user)).await;
        assert_eq!(status, 200);
        let mut config = ClientConfig::clone(&trusting(roots));
        config.alpn_protocols = vec![b"h2".to_vec()];
        let name = ServerName::try_from("api.acme.test").expect("a name");
        let shaken = TlsConnector::from(Arc::new(config)).connect(name, stream);
        let tls = patiently("the handshake", shaken).await?;
        // TLS 1.3: a client may think that it is done before the server has refused it, or it the server.
        let (sender, connection) =
            h2::client::handshake(tls).await.map_err(std::io::Error::other)?;
        tokio::spawn(connection);
        patiently("room", sender.ready()).await.map_err(std::io::Error::other)
    }

    /// Ends the program: doctor's exit code and its report.
    fn ended(mut self) -> (Option<i32>, Value) {
        drop(self.child.stdin.take());
        let output = self.child.wait_with_output().expect("it ends");
        let report: Value = serde_json::from_slice(&output.stdout).expect("JSON");
        assert_eq!(report["exit_code"], 3, "the program's own: {report}");
        assert!(!report.to_string().contains(self.user.split_once(':').expect("a token").1));
        (output.status.code(), report)
    }

    /// The same, if doctor ends with this code: its report.
    fn ended_with(self, code: i32) -> Value {
        let (found, report) = self.ended();
        assert_eq!(found, Some(code), "{report:#}");
        report
    }

    /// The one check that failed: id, message and hint.
    fn failed(self) -> [String; 3] {
        let report = self.ended_with(1);
        let checks = report["checks"].as_array().expect("a list");
        let failed: Vec<_> = checks.iter().filter(|check| check["status"] == "fail").collect();
        assert_eq!(failed.len(), 1, "{report:#}");
        ["id", "message", "hint"]
            .map(|name| failed[0][name].as_str().unwrap_or_default().to_owned())
    }
}

/// An install whose connection is in the store.
fn install() -> (Install, Origin) {
    let (install, origin) = Install::simple();
    drop(install.serve());
    (install, origin)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_program_that_uses_the_proxy_and_trusts_the_ca_is_fine() {
    let (install, origin) = install();
    let placeholder = {
        let agent = install.agent("ci");
        agent["bindings"][0]["placeholders"]["api_key"].as_str().expect("one").to_owned()
    };
    let probed = Probed::new(&install);
    let answer = probed.get(&probed.bundle, &format!("X-Api-Key: {placeholder}\r\n")).await;
    assert_eq!(answer.expect("an answer"), "{\"keyward\":\"doctor\"}\n");
    let report = probed.ended_with(0);
    let says = "api.acme.test: it uses the proxy and trusts the CA; a placeholder in `x-api-key`";
    assert_eq!(report["checks"][0]["message"], says, "{report:#}");
    assert_eq!(report["checks"][1]["id"], "program", "its exit code is not 0: {report:#}");
    assert!(report["checks"].as_array().expect("a list").len() == 2, "{report:#}");
    assert_eq!(origin.streams(), 0, "nothing goes out");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_programs_own_credential_and_a_denied_host_are_reported() {
    let (install, _origin) = install();
    let probed = Probed::new(&install);
    probed.get(&probed.bundle, "Authorization: Bearer canary\r\n").await.expect("an answer");
    let mut wire = probed.stream().await;
    let user = BASE64_STANDARD.encode(&probed.user);
    let head = format!(
        "GET http://other.acme.test/x HTTP/1.1\r\nHost: other.acme.test\r\n\
                        Proxy-Authorization: Basic {user}\r\n\r\n"
    );
    wire.ask(head).await.is(200);
    let report = probed.ended_with(0);
    let text = report.to_string();
    assert!(text.contains("`authorization` has no placeholder"), "{report:#}");
    assert!(text.contains("the gateway would refuse GET at other.acme.test: "), "{report:#}");
    assert!(!text.contains("canary"), "{report:#}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_of_the_default_agent_which_is_bound_to_nothing_is_a_warning_with_a_remedy() {
    let (install, origin) = install();
    for host in ["api.acme.test", "other.acme.test"] {
        let probed = Probed::of(&install, &[]);
        let mut wire = probed.stream().await;
        let user = BASE64_STANDARD.encode(&probed.user);
        let head = format!(
            "GET http://{host}/x HTTP/1.1\r\nHost: {host}\r\nProxy-Authorization: Basic {user}\r\n\r\n"
        );
        wire.ask(head).await.is(200);
        drop(wire);
        let report = probed.ended_with(0);
        let checks = report["checks"].as_array().expect("a list");
        let policy = checks.iter().find(|check| check["id"] == "policy").expect("a check");
        assert_eq!(policy["status"], "warn", "{report:#}");
        let message = policy["message"].as_str().expect("text");
        let says = format!("the gateway would refuse GET at {host}: ");
        assert!(message.starts_with(&says), "{report:#}");
        assert!(policy["hint"].as_str().expect("text").contains("default"), "{report:#}");
    }
    assert_eq!(origin.streams(), 0, "nothing goes out");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_program_that_never_connects_is_reported_with_its_exit_code() {
    let (install, _origin) = install();
    let [id, message, hint] = Probed::new(&install).failed();
    // It ended with exit code 3: it may have failed for any reason.
    let says = "saw no connection to the proxy or elsewhere; the program ended with exit code 3";
    assert_eq!((&*id, &*message), ("program", says));
    assert!(hint.starts_with("guess: it failed before it would connect"), "{hint}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_program_that_succeeds_without_connecting_is_guessed_to_ignore_the_proxy() {
    let (install, _origin) = install();
    let output = install.keyward(&["doctor", "--json", "--agent", "ci", "--", "true"]).output();
    let report: Value = serde_json::from_slice(&output.expect("it runs").stdout).expect("JSON");
    let check = &report["checks"][0];
    assert_eq!((&check["id"], &check["status"]), (&"proxy".into(), &"fail".into()), "{report:#}");
    assert_eq!(check["message"], "saw no connection to the proxy or elsewhere");
    let hint = check["hint"].as_str().expect("text");
    assert!(hint.starts_with("guess: if it calls an API, it ignores HTTPS_PROXY"), "{hint}");
    // What cannot use a proxy may still be given an address: that of the agent's one connection.
    assert!(hint.contains("`keyward env --agent ci --base-url acme`"), "{hint}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_with_http2_only_is_checked_and_its_grpc_call_gets_a_status() {
    let (install, origin) = install();
    let probed = Probed::new(&install);
    let mut sender = probed.http2(&probed.bundle).await;
    let call = Request::post("https://api.acme.test/acme.Test/Unary");
    let call = call.header("content-type", "application/grpc").header("te", "trailers");
    // It never ends its half: a stream of messages.
    let (answer, _messages) =
        sender.send_request(call.body(()).expect("a request"), false).expect("open");
    let answer = patiently("the status", answer).await.expect("an answer");
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.headers()["content-type"], "application/grpc");
    assert_eq!(answer.headers()["grpc-status"], "12");
    let get = Request::get("https://api.acme.test/x").body(()).expect("a request");
    let (answer, _) = sender.send_request(get, true).expect("open");
    let mut body = patiently("the answer", answer).await.expect("an answer").into_body();
    let text = patiently("the body", body.data()).await.expect("a body").expect("whole");
    assert_eq!(&text[..], b"{\"keyward\":\"doctor\"}\n");
    drop((sender, body));
    let report = probed.ended_with(0);
    let says =
        "api.acme.test: it uses the proxy and trusts the CA; no credential; the gateway adds it";
    assert_eq!(report["checks"][0]["message"], says, "{report:#}");
    assert_eq!(origin.streams(), 0, "nothing goes out");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_grpc_client_with_its_own_roots_is_reported_not_to_trust_the_ca() {
    let (install, _origin) = install();
    let probed = Probed::new(&install);
    probed.try_http2(&pki().pem).await.expect_err("it does not trust the probe");
    let [id, message, _] = probed.failed();
    assert_eq!((&*id, &*message), ("tls", "api.acme.test: it does not trust the CA (UnknownCA)"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_to_a_base_url_is_checked_for_the_token() {
    let (install, _origin) = install();
    for (token, says) in [(true, "it uses the connection's base URL"), (false, "carries no token")]
    {
        let probed = Probed::new(&install);
        let token = match token {
            true => probed.user.split_once(':').expect("a token").1,
            false => "kwph",
        };
        let mut wire = probed.stream().await;
        let (proxy, head) = (&probed.proxy, format!("Authorization: Bearer {token}"));
        wire.ask(format!("GET /to/acme/v1 HTTP/1.1\r\nHost: {proxy}\r\n{head}\r\n\r\n")).await;
        drop(wire);
        let (_, report) = probed.ended();
        let message = report["checks"][0]["message"].as_str().expect("text");
        assert!(message.starts_with("acme: ") && message.contains(says), "{report:#}");
        let checks = report["checks"].as_array().expect("a list");
        assert!(checks.len() <= 2, "{report:#}");
        let failed = checks.iter().filter(|check| check["status"] == "fail").count();
        assert_eq!(failed, usize::from(says == "carries no token"), "{report:#}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn java_gets_a_listener_without_a_token_where_the_agent_has_one() {
    let origin = Origin::saying("fine");
    let at = test_support::process::reserved_address();
    let listen = format!("agents: [{{ agent: ci, at: \"{at}\", unsafe_no_auth: true }}]");
    let proxy = format!("\"{}\"", test_support::process::reserved_address());
    let install = Install::new(&Plan::api_key().proxy(&proxy).listen(&listen), &origin);
    drop(install.serve());
    let script = "echo \"$JAVA_TOOL_OPTIONS\" >&2";
    let command = ["doctor", "--json", "--agent", "ci", "--", "sh", "-c", script];
    let output = install.keyward(&command).output().expect("it runs");
    let said = String::from_utf8_lossy(&output.stderr);
    let port = |text: &str| {
        let (_, rest) = text.split_once("-Dhttps.proxyPort=").expect("Java's options");
        rest.split(' ').next().unwrap_or_default().to_owned()
    };
    assert_eq!(port(&said), at.port().to_string(), "the gateway examines it there too: {said}");
    for (more, is_own) in [(&[][..], true), (&["--proxy", "keyward:8080"], false)] {
        let words = [&["env", "--agent", "ci", "--for", "json"][..], more].concat();
        let output = install.keyward(&words).output().expect("it runs");
        let made: Value = serde_json::from_slice(&output.stdout).expect("JSON");
        let java = made["JAVA_TOOL_OPTIONS"].as_str().expect("text");
        assert_eq!(port(java) == at.port().to_string(), is_own, "{more:?}: {java}");
    }
    let script = "echo \"$JAVA_TOOL_OPTIONS $HTTPS_PROXY\"";
    let ran = install.keyward(&["run", "--agent", "ci", "--", "sh", "-c", script]).output();
    let said = String::from_utf8_lossy(&ran.expect("it runs").stdout).into_owned();
    assert_eq!(port(&said), at.port().to_string(), "{said}");
    let (_, proxy) = said.rsplit_once('@').expect("a proxy's URL");
    assert_ne!(proxy.trim(), at.to_string(), "others have the ordinary one: {said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_program_with_its_own_roots_gets_a_hint_that_names_the_ca_file() {
    let (install, _origin) = install();
    let probed = Probed::new(&install);
    probed.get(&pki().pem, "").await.expect_err("it does not trust the probe");
    let [id, message, hint] = probed.failed();
    assert_eq!((&*id, &*message), ("tls", "api.acme.test: it does not trust the CA (UnknownCA)"));
    assert!(hint.contains("an option that takes $SSL_CERT_FILE"), "{hint}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failure_after_requests_to_many_hosts_is_reported_first() {
    let (install, _origin) = install();
    let probed = Probed::new(&install);
    let user = BASE64_STANDARD.encode(&probed.user);
    for number in 0..11 {
        let mut wire = probed.stream().await;
        let host = format!("a{number:02}.test");
        let head = format!(
            "GET http://{host}/ HTTP/1.1\r\nHost: {host}\r\nProxy-Authorization: Basic {user}\r\n\r\n"
        );
        wire.ask(head).await.is(200);
    }
    probed.get(&pki().pem, "").await.expect_err("it does not trust the probe");
    let report = probed.ended_with(1);
    let checks = report["checks"].as_array().expect("a list");
    assert_eq!((&checks[0]["id"], &checks[0]["status"]), (&"tls".into(), &"fail".into()));
    for says in ["2 more hosts were requested", "it would refuse requests at 1 more hosts"] {
        assert!(checks.iter().any(|check| check["message"] == says), "{says}: {report:#}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_program_without_credentials_gets_a_hint_to_open_a_listener_for_its_agent() {
    let (install, _origin) = install();
    let probed = Probed::new(&install);
    for user in [None, Some("ci:kwa_wrong")] {
        assert_eq!(probed.connected("api.acme.test", user).await.0, 407);
    }
    let [id, message, hint] = probed.failed();
    assert_eq!(id, "auth");
    assert_eq!(message, "api.acme.test: it sends no credentials to the proxy");
    let listener =
        "`listen: { agents: [{ agent: ci, at: \"127.0.0.1:8090\", unsafe_no_auth: true }] }`";
    assert!(hint.starts_with("guess: let it send the name and token"), "{hint}");
    assert!(hint.contains(listener), "{hint}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_authenticates_after_a_407_passes() {
    let (install, _origin) = install();
    let probed = Probed::new(&install);
    assert_eq!(probed.connected("api.acme.test", None).await.0, 407);
    probed.get(&probed.bundle, "").await.expect("an answer");
    assert_eq!(probed.ended().0, Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn socks_tls_or_api_requests_to_the_proxy_and_ssh_in_a_tunnel_are_reported() {
    let (install, _origin) = install();
    let table: [(&[u8], &str, &str); 3] = [
        (&[5, 1, 0], "it speaks SOCKS to the proxy", "the gateway does not support SOCKS"),
        (&[22, 3, 1], "it speaks TLS to the proxy", "write the proxy's URL with http://"),
        (b"GET /a HTTP/1.1\r\n\r\n", "it uses the proxy as its API server", "set the URL"),
    ];
    for (bytes, says, remedy) in table {
        let probed = Probed::new(&install);
        let mut wire = probed.stream().await;
        wire.send(bytes).await;
        drop(wire);
        let [id, message, hint] = probed.failed();
        assert_eq!((&*id, &*message), ("proxy", says));
        assert!(hint.contains(remedy), "{hint}");
    }
    let probed = Probed::new(&install);
    let (_, mut stream) = probed.connected("ssh.acme.test", Some(&probed.user)).await;
    tokio::io::AsyncWriteExt::write_all(&mut stream, b"SSH-2.0-x\r\n").await.expect("sent");
    drop(stream);
    let [id, _, hint] = probed.failed();
    assert_eq!(id, "tls");
    assert!(hint.contains("hosts: [\"ssh.acme.test\"], action: tunnel"), "{hint}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tunnel_that_is_reset_before_its_first_byte_is_not_reported_as_a_tls_fault() {
    let (install, _origin) = install();
    let probed = Probed::new(&install);
    let (status, stream) = probed.connected("api.acme.test", Some(&probed.user)).await;
    assert_eq!(status, 200);
    stream.set_zero_linger().expect("a socket option");
    drop(stream);
    let [id, message, _] = probed.failed();
    assert_ne!(id, "tls", "{message}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_proxy_variable_that_does_not_reach_the_program_is_named() {
    let (install, _origin) = install();
    // Long enough to be looked at.
    let script = "i=0; while [ $i -lt 300000 ]; do i=$((i+1)); done";
    let arguments = ["doctor", "--json", "--", "env", "-i", "/bin/sh", "-c", script];
    let output = install.keyward(&arguments).output().expect("it runs");
    let report: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let check = &report["checks"][0];
    let message = check["message"].as_str().expect("text");
    assert!(message.contains("HTTPS_PROXY does not reach "), "{message}");
    assert!(message.ends_with("something clears or changes it"), "{message}");
    let hint = check["hint"].as_str().expect("text");
    assert!(hint.starts_with("let it through (`sudo --preserve-env=HTTPS_PROXY`)"), "{hint}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn doctor_of_a_program_creates_no_data_or_temporary_directory_and_leaves_no_file() {
    let (install, _origin) = Install::simple();
    let temporary = install.folder().join("tmp");
    std::fs::create_dir(&temporary).expect("a folder");
    let mut command = install.keyward(&["doctor", "--", "true"]);
    let output = command.env("TMPDIR", &temporary).output().expect("it runs");
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(output.stderr.is_empty(), "{output:?}");
    assert!(!install.data().exists());
    assert_eq!(std::fs::read_dir(&temporary).expect("a folder").count(), 0);
    let absent = install.folder().join("absent");
    let mut command = install.keyward(&["doctor", "--", "true"]);
    let refused = command.env("TMPDIR", &absent).output().expect("it runs");
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(refused.stdout.is_empty() && !absent.exists(), "{refused:?}");
    let what = format!("error: cannot create a temporary directory in {}", absent.display());
    assert!(said.starts_with(&what) && said.contains(" in TMPDIR\n"), "{said}");
    let missing = install.keyward(&["doctor", "--", "no-such-program"]).output().expect("it runs");
    assert_eq!(missing.status.code(), Some(127), "{missing:?}");
}

//! The command line as a client of a gateway elsewhere: `KEYWARD_URL`, `KEYWARD_TOKEN` and `KEYWARD_CA`.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::process::{Command, Output};

use tempfile::TempDir;

use crate::admin_network::user;
use test_support::pki::pki;
use test_support::*;

/// A command line on another machine: with its own home, and without a gateway.
struct Elsewhere {
    folder: TempDir,
    variables: Vec<(&'static str, String)>,
}

impl Elsewhere {
    fn new(url: &str) -> Self {
        let folder = TempDir::new().expect("a temporary directory");
        Self { folder, variables: vec![("KEYWARD_URL", url.to_owned())] }
    }

    fn with(mut self, name: &'static str, value: &str) -> Self {
        self.variables.push((name, value.to_owned()));
        self
    }

    /// With the token and the CA of the lab's certificates.
    fn trusted(self, token: &str) -> Self {
        let path = self.folder.path().join("ca.pem");
        std::fs::write(&path, &pki().pem).expect("written");
        let path = path.display().to_string();
        self.with("KEYWARD_TOKEN", token).with("KEYWARD_CA", &path)
    }

    fn run(&self, line: &str) -> Output {
        self.run_with(line.split(' '))
    }

    fn run_with<'l>(&self, words: impl IntoIterator<Item = &'l str>) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_keyward"));
        command.env_clear().env("PATH", std::env::var_os("PATH").expect("a path"));
        command.env("KEYWARD_DATA", self.folder.path().join("data"));
        command.envs(self.variables.iter().map(|(name, value)| (*name, value)));
        let output = command.args(words).output().expect("it runs");
        assert!(!self.folder.path().join("data").exists(), "nothing is made on this machine");
        output
    }

    fn refused(&self, line: &str, code: i32) -> String {
        let output = self.run(line);
        let said = String::from_utf8(output.stderr).expect("text");
        assert_eq!(output.status.code(), Some(code), "{line}: {said}");
        assert!(said.starts_with("error: ") && said.contains("\nhint: "), "{said}");
        said
    }

    fn fine(&self, line: &str) -> String {
        let output = self.run(line);
        assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("text")
    }
}

/// A server on loopback that answers every request so, and gives what it received.
fn server(answer: &'static str) -> (String, std::thread::JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    let served = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a client");
        let (mut received, mut buffer) = (Vec::new(), [0; 4096]);
        while !received.windows(4).any(|end| end == b"\r\n\r\n") {
            let count = stream.read(&mut buffer).expect("it sends");
            received.extend_from_slice(&buffer[..count]);
        }
        stream.write_all(answer.as_bytes()).expect("it reads");
        String::from_utf8(received).expect("text")
    });
    (url, served)
}

async fn tls_lab() -> (Lab, String) {
    let (cert, key) = pki().pair(&["localhost"]);
    let plan = Plan::api_key().listen("admin_tls: { cert: admin.pem, key: admin.key }");
    let plan = plan.file("admin.pem", &cert).file("admin.key", &key);
    let lab = plan.start(Origin::saying("fine")).await;
    let url = format!("https://localhost:{}", lab.gateway.admin.port());
    (lab, url)
}

#[test]
fn a_url_that_would_reveal_the_token_is_refused_before_anything_is_sent() {
    for url in ["http://keyward.example.com", "http://192.0.2.1:8081"] {
        let elsewhere = Elsewhere::new(url).with("KEYWARD_TOKEN", "kwp_canary");
        let said = elsewhere.refused("agent list", 2);
        assert!(said.contains("would get the token in cleartext"), "{said}");
        assert!(!said.contains("kwp_canary"), "{said}");
    }
    for url in ["keyward.example.com", "https://ann:canary@keyward.example.com", "https://a?b"] {
        let said = Elsewhere::new(url).with("KEYWARD_TOKEN", "kwp_x").refused("agent list", 2);
        assert!(said.contains("not the URL of a gateway") && !said.contains("canary"), "{said}");
    }
    let elsewhere = Elsewhere::new("https://keyward.example.com").with("KEYWARD_TOKEN", "kwp_x");
    let said = elsewhere.refused("agent list --gateway 127.0.0.1:1", 2);
    assert!(said.starts_with("error: --gateway is not the URL of a gateway"), "{said}");
    let said = Elsewhere::new("https://keyward.example.com").refused("agent list", 4);
    assert!(said.contains("no token") && said.contains("KEYWARD_TOKEN"), "{said}");
}

#[test]
fn commands_that_need_a_local_gateway_refuse_keyward_url() {
    let elsewhere = Elsewhere::new("https://keyward.example.com").with("KEYWARD_TOKEN", "kwp_x");
    for (line, code) in
        [("serve", 2), ("init", 2), ("doctor", 2), ("service install", 2), ("run -- true", 125)]
    {
        let said = elsewhere.refused(line, code);
        let name = line.split(' ').next().expect("a word");
        assert!(
            said.contains(&format!("`keyward {name}` works with a gateway of this machine")),
            "{said}"
        );
    }
}

#[test]
fn a_server_that_is_no_gateway_is_diagnosed_and_its_redirect_is_not_followed() {
    let redirect = "HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:9/api/v1/agents\r\nContent-Length: 0\r\n\r\n";
    let page = "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 6\r\n\r\n<html>";
    let gone = "HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n";
    for (answer, code, expected) in [
        (redirect, 1, "redirects to http://127.0.0.1:9/api/v1/agents"),
        (page, 1, "is not a Keyward gateway: it answered 200 OK"),
        (gone, 3, "answered 502 Bad Gateway"),
        ("SSH-2.0-OpenSSH\r\n\r\n", 3, "gave no answer"),
    ] {
        let (url, served) = server(answer);
        let said = Elsewhere::new(&url).with("KEYWARD_TOKEN", "kwp_x").refused("agent list", code);
        assert!(said.contains(expected), "{said}");
        let received = served.join().expect("it was asked");
        assert!(received.starts_with("GET /api/v1/agents?"), "{received}");
    }
    // A port without a listener.
    let free = test_support::process::reserved_address();
    let elsewhere = Elsewhere::new(&format!("http://{free}")).with("KEYWARD_TOKEN", "kwp_x");
    assert!(elsewhere.refused("agent list", 3).contains("is not reached"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_does_not_prove_its_name_gets_no_token() {
    let (mut lab, url) = tls_lab().await;
    let token = user(&mut lab, "ann", "admin").await;
    let untrusted = Elsewhere::new(&url).with("KEYWARD_TOKEN", &token);
    let said = untrusted.refused("agent list", 3);
    assert!(said.contains("is not trusted") && said.contains("KEYWARD_CA"), "{said}");
    let other = url.replace("localhost", "127.0.0.1");
    let said = Elsewhere::new(&other).trusted(&token).refused("agent list", 3);
    assert!(said.contains("is for another name"), "{said}");
    let cleartext = url.replace("https", "http");
    Elsewhere::new(&cleartext).trusted(&token).refused("agent list", 1);
    let missing = Elsewhere::new(&url).with("KEYWARD_TOKEN", &token).with("KEYWARD_CA", "/no/file");
    let output = missing.run("agent list");
    let said = String::from_utf8(output.stderr).expect("text");
    assert!(said.contains("KEYWARD_CA") && said.contains("/no/file"), "{said}");
    let tokens = lab.gateway.api("GET", "/tokens", "").await.json();
    assert_eq!(tokens["items"][0]["last_used"], serde_json::Value::Null, "it was sent");
    lab.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_work_elsewhere_as_on_the_gateway_s_machine() {
    let (mut lab, url) = tls_lab().await;
    let (ann, aud) = (user(&mut lab, "ann", "admin").await, user(&mut lab, "aud", "auditor").await);
    let elsewhere = Elsewhere::new(&url).trusted(&ann);
    assert!(elsewhere.fine("whoami").contains("ann"));
    elsewhere.fine("agent add far-away");
    assert!(elsewhere.fine("agent list").contains("far-away"));
    elsewhere.fine("agent bind far-away acme");
    assert!(elsewhere.fine("agent show far-away").contains("acme"));
    assert!(elsewhere.fine("connection list --json").contains("\"acme\""));
    let explained = elsewhere.fine(&format!("explain https://{HOST}/ --agent far-away"));
    assert!(explained.contains("acme"), "{explained}");
    let status = elsewhere.fine("status");
    assert!(status.contains(&format!("https://{}", lab.gateway.admin)), "{status}");
    elsewhere.fine("audit query --changes");
    assert_eq!(elsewhere.fine("health"), "ready\n");
    assert!(elsewhere.fine("ca show").contains("BEGIN CERTIFICATE"));
    assert!(elsewhere.fine("reload").contains("reloaded"));
    let listed = lab.gateway.api("GET", "/agents/far-away", "").await;
    assert_eq!(listed.head.status(), 200, "it is the gateway's");
    let denied = Elsewhere::new(&url).trusted(&aud).run("agent add no");
    assert_eq!(denied.status.code(), Some(4));
    let unknown = Elsewhere::new(&url).trusted("kwp_unknown");
    assert!(unknown.refused("agent list", 4).contains("personal access token"));
    assert_eq!(Elsewhere::new(&url).trusted(&ann).run("agent show missing").status.code(), Some(5));
    // The flag names the gateway as the variable does, and wins.
    let by_flag = Elsewhere::new("https://keyward.example.com").trusted(&ann);
    assert!(by_flag.fine(&format!("--gateway {url} agent list")).contains("far-away"));
    lab.finish().await;
}

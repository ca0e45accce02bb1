//! HTTP/2 conformance: Python's `hyperframe`, `hpack` and `h2` at both ends of the gateway, frame by frame. The
//! tables are in `conformance/agents.py` and `conformance/upstreams.py`: what an agent and an upstream may send,
//! the expected result, and that nothing ambiguous is forwarded.

use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{ChildStdout, Command, Stdio};

use serde_json::{Value, json};

use crate::stage::{ca, installed};
use test_support::pki::pki;
use test_support::process::OwnChild;
use test_support::*;

/// Python with a table: its upstreams listen before the gateway is there.
struct Table {
    child: OwnChild,
    says: BufReader<ChildStdout>,
    /// Its upstreams' ports by their names.
    ports: serde_json::Map<String, Value>,
    _folder: tempfile::TempDir,
}

impl Table {
    fn start(script: &str, hosts: &[&str]) -> Self {
        let folder = tempfile::TempDir::new().expect("a temporary directory");
        let (chain, key) = pki().pair(hosts);
        std::fs::write(folder.path().join("chain.pem"), chain).expect("a file");
        std::fs::write(folder.path().join("key.pem"), key).expect("a file");
        let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/real/conformance");
        let mut python = Command::new(installed("real-venv/bin/python"));
        python.arg("-B").arg(scripts.join(script)).current_dir(folder.path());
        python.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = python.spawn().expect("python runs; `tests/run` installs it");
        let mut says = BufReader::new(child.stdout.take().expect("it is piped"));
        let mut line = String::new();
        says.read_line(&mut line).expect("it says its ports");
        let ports = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"));
        Self { child: OwnChild::from(child), says, ports, _folder: folder }
    }

    /// The gateway before its upstreams.
    async fn lab(&self) -> Lab {
        let hosts: Vec<&str> = self.ports.keys().map(String::as_str).collect();
        let mut plan = Plan::api_key().hosts(&hosts.join(", "));
        for (host, port) in &self.ports {
            plan = plan
                .allow(&format!("127.0.0.1:{port}"))
                .resolve(&format!("{host}: \"127.0.0.1:{port}\""));
        }
        plan.start(Origin::saying("never")).await
    }

    /// Runs it through; what it has to say, and whether all was as it should be.
    async fn judge(mut self, lab: &Lab) -> (bool, String) {
        let to = json!({
            "proxy": lab.gateway.proxy.to_string(),
            "authorization": lab.authorization("ci"),
            "ca": ca(lab),
            "placeholder": lab.gateway.placeholder("ci", "acme", "api_key"),
            "live": lab.canary.text,
        });
        let mut stdin = self.child.stdin.take().expect("it is piped");
        writeln!(stdin, "{to}").expect("it reads");
        let judged = tokio::task::spawn_blocking(move || {
            let mut said = String::new();
            self.says.read_to_string(&mut said).expect("text");
            (self.child.wait().expect("our child").success(), said)
        });
        judged.await.expect("no panic")
    }
}

async fn conforms(script: &str, hosts: &[&str]) {
    let table = Table::start(script, hosts);
    let lab = table.lab().await;
    let (is_right, said) = table.judge(&lab).await;
    println!("{said}");
    assert!(is_right, "{said}");
    lab.canary.assert_absent("what was not as it should be", said.as_bytes());
    lab.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn http2_of_agents_is_treated_by_the_rfc_and_nothing_ambiguous_is_forwarded() {
    conforms("as_agent.py", &["two.acme.test", "one.acme.test"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn http2_of_upstreams_is_treated_by_the_rfc_and_nothing_malformed_reaches_agents() {
    conforms("as_upstream.py", &["script.acme.test"]).await;
}

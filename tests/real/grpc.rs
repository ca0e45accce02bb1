//! gRPC with its own libraries: grpcio's server, and clients that read the proxy from their environment. All four
//! kinds of calls, deadlines, cancellation, and a refusal as a gRPC status.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use crate::stage::*;
use test_support::pki::pki;
use test_support::process::OwnChild;
use test_support::*;

const GRPC: &str = "grpc.acme.test";

/// grpcio's server, and what it says. Dropping it ends it.
pub(crate) struct Server {
    _child: OwnChild,
    pub(crate) port: u16,
    says: mpsc::Receiver<String>,
    said: Vec<String>,
    _folder: tempfile::TempDir,
}

impl Server {
    /// Starts a script as the server of this name. What it takes no call without may be in `live`.
    pub(crate) fn start(script: &str, name: &str, live: &str) -> Self {
        let folder = tempfile::TempDir::new().expect("a temporary directory");
        let (chain, key) = pki().pair(&[name]);
        let (chain_file, key_file) =
            (folder.path().join("chain.pem"), folder.path().join("key.pem"));
        std::fs::write(&chain_file, chain).expect("a file");
        std::fs::write(&key_file, key).expect("a file");
        let mut python = Command::new(installed("real-venv/bin/python"));
        python.args(["-c", script]);
        python.env("LIVE", live).env("CHAIN_FILE", chain_file).env("KEY_FILE", key_file);
        let child = python.stdin(Stdio::null()).stdout(Stdio::piped()).spawn();
        let mut child = child.expect("python runs; `tests/run` installs it");
        let lines = BufReader::new(child.stdout.take().expect("it is piped")).lines();
        let (say, says) = mpsc::channel();
        std::thread::spawn(move || {
            lines.map_while(Result::ok).for_each(|line| drop(say.send(line)));
        });
        let port = says.recv_timeout(Duration::from_secs(60)).expect("the server listens");
        Self {
            _child: OwnChild::from(child),
            port: port.parse().expect("a port"),
            says,
            said: vec![],
            _folder: folder,
        }
    }

    /// What it says next.
    pub(crate) fn line(&self) -> String {
        self.says.recv_timeout(Duration::from_secs(60)).expect("it says more")
    }

    /// Waits until a call has begun to wait, if it `must` have, and has ended at the server.
    fn has_ended(&mut self, name: &str, must: bool) {
        let (waits, ended) = (format!("{name} waits"), format!("{name} ended"));
        while (must || self.said.contains(&waits)) && !self.said.contains(&ended) {
            match self.says.recv_timeout(Duration::from_secs(30)) {
                Ok(line) => self.said.push(line),
                Err(_) => panic!("no `{ended}` from the server, but {:?}", self.said),
            }
        }
    }
}

async fn lab() -> (Lab, Server) {
    let plan = Plan::api_key();
    let server = Server::start(include_str!("programs/grpc/server.py"), GRPC, &plan.canary().text);
    let plan = plan
        .hosts(&format!("{HOST}, {GRPC}"))
        .allow(&format!("127.0.0.1:{}", server.port))
        .resolve(&format!("{GRPC}: \"127.0.0.1:{}\"", server.port))
        .rule(&format!(
            "{{ name: refused, hosts: [{GRPC}], paths: [\"/acme.Refused/*\"], action: deny }}"
        ));
    (plan.start(Origin::saying("never")).await, server)
}

async fn makes_all_calls(lab: Lab, mut server: Server, client: Command) {
    let output = run(client).await;
    let said = said(&output);
    assert!(output.status.success() && said.contains("all calls were made"), "{said}");
    lab.canary.assert_absent("what the client said", said.as_bytes());
    // The client cancels a call that waits at the server. A deadline may pass before the server has the call.
    server.has_ended("cancellation", true);
    server.has_ended("deadline", false);
    let records = lab.finish().await;
    let of = |path: &str| records.iter().filter(|one| one["path"] == path).collect::<Vec<_>>();
    // The server knows the deadline too, and may be the first to end that call; not the cancelled one.
    let waited = of("/acme.Test/Wait");
    let given_up = waited.iter().filter(|record| record["outcome"] == "client_aborted").count();
    assert!((1..=2).contains(&given_up) && waited.len() == 2, "{waited:#?}");
    for path in ["/acme.Test/Unary", "/acme.Test/Both", "/acme.Test/Fail"] {
        let all = of(path);
        assert!(!all.is_empty(), "{path}");
        for record in all {
            assert_eq!((&record["outcome"], &record["status"]), (&"completed".into(), &200.into()));
            assert_eq!(record["connection"], "acme");
        }
    }
    for record in of("/acme.Refused/Any") {
        assert_eq!((&record["code"], &record["status"]), (&"denied".into(), &403.into()));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn grpcio_makes_every_kind_of_call() {
    let (lab, server) = lab().await;
    let mut python = keyed(&lab, installed("real-venv/bin/python"));
    python.args(["-c", include_str!("programs/grpc/client.py")]);
    python.env("GRPC_DEFAULT_SSL_ROOTS_FILE_PATH", ca(&lab));
    makes_all_calls(lab, server, python).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn grpc_js_makes_every_kind_of_call() {
    let (lab, server) = lab().await;
    let mut node = keyed(&lab, node20());
    node.env("PACKAGES", installed("real-node/node_modules"));
    node.args(["-e", include_str!("programs/grpc/client.js")]);
    makes_all_calls(lab, server, node).await;
}

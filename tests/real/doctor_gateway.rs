//! `keyward doctor -- CMD` with a running gateway: no request of the program gets a credential, however the
//! program learns the gateway's address, and other programs are served as usual.

use std::process::Output;

use serde_json::Value;

use crate::stage::{run, said};
use test_support::install::{Install, Ran, TOKEN_CI};
use test_support::*;

const LISTEN: &str = "agents: [{ agent: ci, at: '127.0.0.1:0', unsafe_no_auth: true }, \
                      { agent: ci, at: 'unix:ci.sock' }]";

/// An agent with listeners of its own, and a gateway that serves.
struct Stage {
    install: Install,
    origin: Origin,
    canary: canary::Canary,
    _gateway: Ran,
    /// A listener for all agents.
    shared: String,
    /// The agent's own.
    own: String,
}

impl Stage {
    async fn new() -> Self {
        let plan = Plan::api_key().listen(LISTEN);
        let canary = plan.canary().clone();
        let origin = Origin::saying("fine");
        let install = Install::new(&plan, &origin);
        let gateway = install.serve();
        let status = install.status();
        let at = |value: &Value| value.as_str().expect("an address").to_owned();
        let (shared, own) = (at(&status["proxy"][0]), at(&status["agents"][0]["at"]));
        Self { install, origin, canary, _gateway: gateway, shared, own }
    }

    /// Doctor with a script of the shell. `$OWN`, `$SHARED` and `$TOKEN` are not in its words.
    async fn doctor(&self, script: &str) -> (Output, Value) {
        let words = ["doctor", "--json", "--agent", "ci", "--", "sh", "-c", script];
        let mut command = self.install.keyward(&words);
        command.env("OWN", &self.own).env("SHARED", &self.shared).env("TOKEN", TOKEN_CI);
        let output = run(command).await;
        let report = serde_json::from_slice(&output.stdout).unwrap_or_default();
        (output, report)
    }

    /// The same with the addresses in its words.
    async fn told(&self, script: &str) -> (Output, Value) {
        let script = script.replace("$OWN", &self.own).replace("$SHARED", &self.shared);
        self.doctor(&script.replace("$TOKEN", TOKEN_CI)).await
    }

    /// The origin heard nothing, and the gateway let nothing through.
    fn assert_nothing_went_out(&self, what: &str, output: &Output) {
        let said = said(output);
        assert_eq!(self.origin.streams(), 0, "{what}: {said}");
        let exchanges: Vec<_> = self.install.audit().into_iter().filter(is_exchange).collect();
        assert!(exchanges.is_empty(), "{what}: {exchanges:#?}");
        self.canary.assert_absent(what, said.as_bytes());
    }
}

fn is_exchange(record: &Value) -> bool {
    record["change"].is_null()
}

fn messages(report: &Value) -> String {
    let checks = report["checks"].as_array().cloned().unwrap_or_default();
    checks.iter().map(|check| format!("{} {}\n", check["status"], check["message"])).collect()
}

/// How a program is told of a listener, and what doctor says of it.
const WAYS: &[(&str, &str)] = &[
    (
        "curl -sS --proxy http://$OWN https://api.acme.test/a",
        "api.acme.test: it uses the listener of agent ci and trusts the CA",
    ),
    (
        "curl -sS --proxy http://ci:$TOKEN@$SHARED https://api.acme.test/a",
        "api.acme.test: it uses the gateway's listener ",
    ),
    (
        "curl -sS http://$SHARED/to/acme/a -H 'Authorization: Bearer $TOKEN'",
        "acme: it uses the connection's base URL, with a token",
    ),
    (
        "curl -sS -x \"http://localhost:$(printf %s $OWN | sed s/.*://)\" https://api.acme.test/a",
        "api.acme.test: it uses the listener of agent ci and trusts the CA",
    ),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_program_that_is_given_a_listener_of_the_gateway_gets_no_credential() {
    let stage = Stage::new().await;
    for (script, says) in WAYS {
        let (output, report) = stage.told(script).await;
        stage.assert_nothing_went_out(script, &output);
        assert_eq!(output.status.code(), Some(0), "{script}: {report:#} {}", said(&output));
        assert!(messages(&report).contains(says), "{script}: {report:#}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_program_that_finds_a_listener_by_a_variable_file_or_socket_gets_no_credential() {
    let stage = Stage::new().await;
    let curlrc = stage.install.folder().join(".curlrc");
    for (script, says) in WAYS {
        let (output, _) = stage.doctor(&script.replace('\'', "\"")).await;
        stage.assert_nothing_went_out(script, &output);
        assert_eq!(output.status.code(), Some(0), "{script} {says}: {}", said(&output));
    }
    std::fs::write(&curlrc, format!("proxy = \"http://{}\"\n", stage.own)).expect("a file");
    let (output, report) = stage.doctor("curl -sS https://api.acme.test/a").await;
    stage.assert_nothing_went_out(".curlrc", &output);
    assert!(messages(&report).contains("the listener of agent ci"), "{report:#}");
    let python = "
import socket
stream = socket.socket(socket.AF_UNIX)
stream.connect('data/ci.sock')
stream.sendall(b'GET https://api.acme.test/a HTTP/1.1\\r\\nHost: api.acme.test\\r\\nConnection: close\\r\\n\\r\\n')
print(stream.makefile().read())
";
    let (output, report) = stage.doctor(&format!("python3 -c \"{python}\"")).await;
    stage.assert_nothing_went_out("a socket", &output);
    assert!(messages(&report).contains("the listener of agent ci"), "{report:#} {}", said(&output));
}

/// It leaves its parents, and waits for nobody.
const DAEMON: &str = "
setsid -f sh -c 'curl -sS --proxy http://$OWN https://api.acme.test/a > answer; mv answer answered'
while [ ! -e answered ]; do sleep 0.02; done
setsid -f sh -c 'echo $$ > pid; exec sleep 600'
while [ ! -s pid ]; do sleep 0.02; done
cat answered pid >&2";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_daemon_of_the_program_gets_no_credential_and_ends_with_the_program() {
    let stage = Stage::new().await;
    let (output, report) = stage.told(DAEMON).await;
    stage.assert_nothing_went_out("a daemon", &output);
    assert!(said(&output).contains("{\"keyward\":\"doctor\"}"), "{report:#} {}", said(&output));
    let pid = std::fs::read_to_string(stage.install.folder().join("pid")).expect("it wrote it");
    let stat = std::fs::read_to_string(format!("/proc/{}/cmdline", pid.trim()));
    assert!(!stat.unwrap_or_default().contains("600"), "{pid} still runs");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn other_programs_are_served_during_and_after_doctor() {
    let stage = Stage::new().await;
    let script = format!(
        "curl -sS --proxy http://{} https://api.acme.test/a; echo; echo probed; read end",
        stage.own
    );
    let words = ["doctor", "--json", "--agent", "ci", "--", "sh", "-c", &script];
    let mut doctor = stage.install.keyward(&words);
    use std::io::{BufRead, BufReader};
    use std::process::Stdio;
    doctor.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut doctor = doctor.spawn().expect("it runs");
    let mut lines = BufReader::new(doctor.stderr.take().expect("piped")).lines();
    let said: Vec<_> = lines.by_ref().map_while(Result::ok).take(2).collect();
    assert_eq!(said, ["{\"keyward\":\"doctor\"}", ""], "it was only examined");
    assert_eq!(stage.origin.streams(), 0);
    // This test's own process is not below doctor.
    let served = |by: &str| {
        let mut curl = std::process::Command::new("curl");
        curl.args(["-sS", "--cacert"]).arg(stage.install.data().join("ca/ca.pem"));
        curl.args(["--noproxy", "", "--proxy", &format!("http://{}", stage.own)]);
        let output = curl.arg("https://api.acme.test/b").output().expect("curl");
        assert_eq!(String::from_utf8_lossy(&output.stdout), "fine", "{by}: {output:?}");
    };
    served("another program");
    drop(doctor.stdin.take());
    drop(lines);
    assert!(doctor.wait().expect("it ends").code().is_some());
    served("after doctor");
    let keys: Vec<_> = stage.origin.received();
    assert_eq!(keys.len(), 2);
    assert!(keys.iter().all(|r| r.head.all("x-api-key") == [&*stage.canary.text]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn doctor_stops_its_program_when_a_gateway_starts_or_stops() {
    let plan = Plan::api_key().listen(LISTEN);
    let origin = Origin::saying("fine");
    let install = Install::new(&plan, &origin);
    let probed = |install: &Install| {
        let script = "echo begun >&2; sleep 600";
        let mut command = install.keyward(&["doctor", "--", "sh", "-c", script]);
        command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
        let mut child = command.spawn().expect("it runs");
        let mut line = String::new();
        let mut stderr = std::io::BufReader::new(child.stderr.take().expect("piped"));
        std::io::BufRead::read_line(&mut stderr, &mut line).expect("text");
        assert_eq!(line, "begun\n");
        (child, stderr)
    };
    let ended = |(mut child, mut stderr): (std::process::Child, _)| {
        let code = child.wait().expect("it ends").code();
        let mut said = String::new();
        std::io::Read::read_to_string(&mut stderr, &mut said).expect("text");
        (code, said)
    };
    let doctor = probed(&install);
    let mut gateway = install.serve();
    let (code, said) = ended(doctor);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("the program was stopped: a gateway was started"), "{said}");
    let doctor = probed(&install);
    gateway.kill();
    let (code, said) = ended(doctor);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("the program was stopped: the gateway stopped"), "{said}");
}

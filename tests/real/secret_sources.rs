//! Secret sources with real servers: OpenBao, which has the interface of HashiCorp Vault, and moto, which verifies the
//! signatures of requests to AWS.

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::stage::{installed, run, said};
use test_support::canary::Canary;
use test_support::install::Install;
use test_support::process::OwnChild;
use test_support::*;

/// The token of the server in development mode.
const ROOT: &str = "root-of-a-server-for-tests";

/// A server with a key/value engine of each version, and a role that may read both.
struct Bao {
    server: OwnChild,
    address: String,
    folder: TempDir,
}

impl Bao {
    fn start() -> Self {
        let folder = TempDir::new().expect("a directory");
        // It does not tell the port that the system chose; another program rarely takes this one meanwhile.
        let port =
            TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("bound").port();
        let at = format!("127.0.0.1:{port}");
        let mut server = Command::new(installed("real-venv/bin/bao"));
        server.args(["server", "-dev", "-dev-no-store-token"]);
        server.arg(format!("-dev-listen-address={at}")).arg(format!("-dev-root-token-id={ROOT}"));
        let server = server.env("HOME", folder.path()).stdout(Stdio::null()).stderr(Stdio::null());
        let server = server.spawn().expect("`tests/run` installs OpenBao");
        let bao = Self { server: OwnChild::from(server), address: format!("http://{at}"), folder };
        let is_up = || bao.bao(&["status"]).status.success();
        let began = std::time::Instant::now();
        while !is_up() {
            assert!(began.elapsed() < Duration::from_secs(60), "it does not serve");
        }
        let policy = bao.folder.path().join("policy.hcl");
        let may = "path \"secret/data/apps/*\" { capabilities = [\"read\"] }\n\
                   path \"old/apps/*\" { capabilities = [\"read\"] }\n";
        std::fs::write(&policy, may).expect("a file");
        let policy = policy.display().to_string();
        bao.done(&["secrets", "enable", "-path=old", "-version=1", "kv"]);
        bao.done(&["policy", "write", "read", &policy]);
        bao.done(&["auth", "enable", "approle"]);
        bao.done(&["write", "auth/approle/role/keyward", "token_policies=read", "token_ttl=10m"]);
        bao
    }

    fn bao(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(installed("real-venv/bin/bao"));
        command.args(arguments).env("BAO_ADDR", &self.address).env("BAO_TOKEN", ROOT);
        command.env("HOME", self.folder.path()).output().expect("it runs")
    }

    fn done(&self, arguments: &[&str]) -> String {
        let output = self.bao(arguments);
        assert!(output.status.success(), "{arguments:?}: {}", said(&output));
        String::from_utf8(output.stdout).expect("text").trim().to_owned()
    }

    fn put(&self, mount: &str, value: &Canary) {
        let field = format!("key={}", value.text);
        self.done(&["kv", "put", &format!("-mount={mount}"), "apps/acme", &field, "user=ada"]);
    }

    /// A role id and a secret id.
    fn role(&self) -> (Canary, Canary) {
        let id = self.done(&["read", "-field=role_id", "auth/approle/role/keyward/role-id"]);
        let secret =
            self.done(&["write", "-f", "-field=secret_id", "auth/approle/role/keyward/secret-id"]);
        (Canary::of(id), Canary::of(secret))
    }

    fn port(&self) -> String {
        self.address.trim_start_matches("http://").to_owned()
    }
}

/// Connection `acme` with its key at this reference in the source `kept`.
fn plan(reference: &str) -> Plan {
    Plan::new(
        "{ id: key, kind: api_key, placement: { header: X-Api-Key } }",
        &format!("{{ api_key: {{ from: kept, ref: '{reference}' }} }}"),
    )
}

async fn shown(lab: &Lab, path: &str) -> Value {
    lab.gateway.api("GET", path, "").await.is(200).json()
}

async fn tested(lab: &Lab, source: &str, reference: &str) -> Value {
    let body = json!({ "ref": reference }).to_string();
    let answer = lab.gateway.api("POST", &format!("/sources/{source}/test"), &body).await.is(200);
    answer.json()["tested"][0].clone()
}

#[tokio::test]
async fn openbao_gives_values_of_both_engines_and_its_outage_is_bridged() {
    let (first, second, old) = (Canary::new("cnry"), Canary::new("cnry"), Canary::new("cnry"));
    let mut bao = Bao::start();
    bao.put("secret", &first);
    bao.put("old", &old);
    let (id, secret) = bao.role();
    let address = bao.address.clone();
    let sources = format!(
        "sources:\n\
         - {{ name: kept, ttl: 1s, vault: {{ address: '{address}', login: approle }}, \
              credentials: {{ role_id: {{ env: ROLE }}, secret_id: {{ env: SECRET }} }} }}\n\
         - {{ name: old, vault: {{ address: '{address}', mount: old, version: 1 }}, \
              credentials: {{ token: {{ env: ROOT }} }} }}\n\
         - {{ name: wrong, vault: {{ address: '{address}' }}, credentials: {{ token: {{ env: WRONG }} }} }}"
    );
    let plan = plan("apps/acme#key").top(&sources).allow(&bao.port());
    let plan = plan.secret("ROLE", &id).secret("SECRET", &secret).variable("ROOT", ROOT);
    let plan = plan.variable("WRONG", "no-token");
    let mut lab = plan.start(Origin::saying("fine")).await;
    for value in [&first, &second, &old] {
        lab.guard(value.clone());
    }
    assert_eq!(lab.delivered("GET /a").await.one("x-api-key"), Some(&*first.text));

    for (source, reference, error) in [
        ("kept", "apps/acme#key", None),
        ("old", "apps/acme#key", None),
        ("kept", "apps/acme", Some("the reference names several values: add `#FIELD`")),
        ("kept", "apps/acme#absent", Some("it has no value of that reference")),
        ("kept", "apps/none#key", Some("it has no value of that reference")),
        ("kept", "other#key", Some("it answered 403 Forbidden")),
        (
            "kept",
            "../sys/seal-status#type",
            Some("the reference must be PATH#FIELD, without the mount"),
        ),
        ("wrong", "apps/acme#key", Some("it answered 403 Forbidden")),
    ] {
        let result = tested(&lab, source, reference).await;
        assert_eq!(result["error"].as_str(), error, "{source} {reference}: {result}");
    }

    bao.put("secret", &second);
    let asked =
        async { while lab.delivered("GET /a").await.one("x-api-key") != Some(&*second.text) {} };
    patiently("the rotated value", asked).await;

    bao.server.kill().expect("it runs");
    bao.server.wait().expect("it ends");
    let failing = async {
        while shown(&lab, "/connections/acme").await.get("fetch_failing").is_none() {
            assert_eq!(lab.delivered("GET /a").await.one("x-api-key"), Some(&*second.text));
        }
    };
    patiently("the outage", failing).await;
    assert_eq!(lab.delivered("GET /a").await.one("x-api-key"), Some(&*second.text));
    let source = shown(&lab, "/sources/kept").await;
    assert!(source["failing"]["message"].is_string(), "{source}");
    lab.finish().await;
}

#[tokio::test]
async fn a_source_is_added_used_and_tested_by_commands() {
    let value = Canary::new("cnry");
    let bao = Bao::start();
    bao.put("secret", &value);
    let origin = Origin::saying("fine");
    let install = Install::new(&Plan::api_key().no_agents().allow(&bao.port()), &origin);
    let token = install.folder().join("token");
    std::fs::write(&token, ROOT).expect("a file");
    let token = format!("token={}", token.display());
    let address = format!("address={}", bao.address);
    let mut said_all = String::new();
    let mut said_of = async |arguments: &[&str], code: i32| {
        let output = run(install.keyward(arguments)).await;
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {}", said(&output));
        said_all.push_str(&said(&output));
        said(&output)
    };
    let added =
        said_of(&["source", "add", "vault", "vault", &address, "--credential-file", &token], 0)
            .await;
    assert!(added.contains("source vault added"), "{added}");
    let from = "api_key=vault:apps/acme#key";
    said_of(&["connection", "add", "acme", "--name", "b", "--no-test", "--secret-from", from], 0)
        .await;
    let tested = said_of(&["source", "test", "vault"], 0).await;
    assert!(tested.contains("apps/acme#key") && tested.contains("fetched"), "{tested}");
    let failed = said_of(&["source", "test", "vault", "apps/none#key"], 1).await;
    assert!(failed.contains("it has no value of that reference"), "{failed}");
    let listed = said_of(&["source", "list"], 0).await;
    assert!(listed.contains("vault") && listed.contains(" b"), "{listed}");
    let refused = said_of(&["source", "remove", "vault", "--yes"], 1).await;
    assert!(refused.contains("connection `b`"), "{refused}");

    let gateway = install.serve();
    let answer = said_of(&["connection", "request", "b", "/a"], 0).await;
    assert!(answer.contains("fine"), "{answer}");
    let sent = origin.received();
    assert_eq!(sent.last().expect("a request").head.one("x-api-key"), Some(&*value.text));
    let shown = said_of(&["connection", "show", "b"], 0).await;
    assert!(
        shown.contains("api_key from vault: apps/acme#key") && shown.contains("fetched"),
        "{shown}"
    );
    let source = said_of(&["source", "show", "vault"], 0).await;
    assert!(source.contains("works") && source.contains("address=http"), "{source}");
    drop(gateway);
    value.assert_absent("what the commands said", said_all.as_bytes());
    Canary::of(ROOT.to_owned()).assert_absent("what the commands said", said_all.as_bytes());
    value.assert_absent_below(&install.data());
}

#[tokio::test]
async fn aws_accepts_the_signature_and_gives_values_of_both_services() {
    let value = Canary::new("cnry");
    let mut server = Command::new(installed("real-venv/bin/python"));
    server.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/real/programs/sources/aws.py"));
    server
        .env("VALUE", &value.text)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    let mut server = server.spawn().expect("`tests/run` installs moto");
    let mut line = String::new();
    let out = server.stdout.take().expect("piped");
    BufReader::new(out).read_line(&mut line).expect("it says where it is");
    let about: Value = serde_json::from_str(&line).expect("JSON");
    let (port, id) = (&about["port"], about["id"].as_str().expect("an id"));
    let secret = Canary::of(about["secret"].as_str().expect("a key").to_owned());
    let address = format!("http://127.0.0.1:{port}");
    let keys = "credentials: { access_key_id: { env: ID }, secret_access_key: { env: KEY } }";
    let sources = format!(
        "sources:\n\
         - {{ name: kept, aws: {{ region: eu-west-1, address: '{address}' }}, {keys} }}\n\
         - {{ name: store, aws: {{ region: eu-west-1, address: '{address}', service: parameter_store }}, {keys} }}\n\
         - {{ name: wrong, aws: {{ region: eu-west-1, address: '{address}' }}, \
              credentials: {{ access_key_id: {{ env: ID }}, secret_access_key: {{ env: CANARY }} }} }}"
    );
    let second =
        "{ name: second, provider: acme, fields: { api_key: { from: store, ref: /apps/acme } } }";
    let plan = plan("apps/acme#key").top(&sources).connection(second).agent("two", "second");
    let plan = plan.allow(&format!("127.0.0.1:{port}")).variable("ID", id).secret("KEY", &secret);
    let mut lab = plan.start(Origin::saying("fine")).await;
    lab.guard(value.clone());
    assert_eq!(lab.delivered("GET /a").await.one("x-api-key"), Some(&*value.text));
    assert_eq!(lab.ask_as("two", HOST, "GET /b").await.head.status(), 200);
    assert_eq!(lab.origin.arrival().await.head.one("x-api-key"), Some(&*value.text));
    for (source, reference, error) in [
        ("kept", "binary", None),
        ("kept", "absent", Some("it has no value of that reference")),
        ("store", "/absent", Some("it has no value of that reference")),
        ("kept", "apps/acme#absent", Some("the value is no JSON object with a text at `absent`")),
        ("wrong", "binary", Some("it answered 403 Forbidden")),
    ] {
        let result = tested(&lab, source, reference).await;
        assert_eq!(result["error"].as_str(), error, "{source} {reference}: {result}");
    }
    lab.finish().await;
    drop(server.stdin.take());
    let _ = server.wait();
}

/// The guide's page, whose commands are run.
const GUIDE: &str = include_str!("../../docs/guides/secret-sources.md");

/// As `op` answers: https://developer.1password.com/docs/cli/reference/commands/read.
const OP: &str = "#!/bin/sh\n[ \"$*\" = 'read op://Dev/OpenAI/credential' ] || { echo \"unknown: $*\" >&2; exit 1; }\n\
    [ \"$OP_SERVICE_ACCOUNT_TOKEN\" = \"$(cat \"$(dirname \"$0\")/op-token\")\" ] || exit 2\n\
    [ -z \"$CANARY\" ] || exit 3\ncat \"$(dirname \"$0\")/op-value\"\n";

/// Stands for the program, which needs an account: it accepts only the command line of the guide, with the token in the
/// variable that the guide names.
#[tokio::test]
async fn the_program_of_1password_is_run_as_the_guide_says() {
    use std::os::unix::fs::PermissionsExt;
    let programs = TempDir::new().expect("a directory");
    let put = |name: &str, text: &str, mode: u32| {
        let path = programs.path().join(name);
        std::fs::write(&path, text).expect("a file");
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).expect("ours");
    };
    let secrets = [Canary::new("op"), Canary::new("ops_")];
    let [of_op, op_token] = &secrets;
    put("op-value", &of_op.text, 0o600);
    put("op-token", &op_token.text, 0o600);
    put("op", OP, 0o755);
    let (_, sources) = GUIDE.split_once("by their own programs:\n\n```yaml\n").expect("a block");
    let (sources, _) = sources.split_once("```").expect("it ends");
    let at = |name: &str| programs.path().join(name).display().to_string();
    let sources = sources.replace("file: op-token", &format!("file: '{}'", at("op-token")));
    let origin = Origin::saying("fine");
    let plan = Plan::new(
        "{ id: key, kind: api_key, placement: { header: X-Api-Key } }",
        "{ api_key: { from: op, ref: op://Dev/OpenAI/credential } }",
    );
    let install = Install::new(&plan.top(&sources), &origin);
    let mut command = install.keyward(&["run", "--agent", "ci", "--", "curl", "-sS"]);
    let path = std::env::var("PATH").expect("programs are found by it");
    command.arg(format!("https://{HOST}/a")).env("PATH", format!("{}:{path}", at("")));
    let output = run(command).await;
    assert!(output.status.success() && said(&output).contains("fine"), "{}", said(&output));
    assert_eq!(origin.only().head.one("x-api-key"), Some(&*of_op.text));
    for secret in &secrets {
        secret.assert_absent("what was said", said(&output).as_bytes());
        secret.assert_absent_below(&install.data());
    }
}

//! Sets of hosts, with the programs that they are for: blocked by default, with a remedy; then allowed.

use std::path::Path;
use std::process::Output;

use serde_json::json;

use crate::api::http;
use crate::shelf::{integrity, sha256, shelf};
use crate::stage::{installed, run, said};
use test_support::install::Install;
use test_support::*;

/// A public registry with one package, on loopback.
struct Registry {
    hosts: &'static [&'static str],
    answer: fn(&Message) -> Vec<u8>,
}

const PYPI: Registry = Registry { hosts: &["pypi.org", "files.pythonhosted.org"], answer: pypi };
const NPM: Registry = Registry { hosts: &["registry.npmjs.org"], answer: npm };
const CRATES: Registry =
    Registry { hosts: &["index.crates.io", "static.crates.io"], answer: crates_io };

/// A new user before a registry: no agent has been asked which other hosts it may reach.
struct Stranger {
    install: Install,
    origin: Origin,
    program: Vec<String>,
}

impl Registry {
    async fn before(&self, program: &[&str]) -> Stranger {
        let origin = Origin::answering_as(self.hosts, self.answer);
        let resolve =
            |plan: Plan, name: &&str| plan.resolve(&format!("{name}: \"{}\"", origin.addr));
        let install = Install::new(&self.hosts.iter().fold(Plan::api_key(), resolve), &origin);
        let program = program.iter().map(|word| (*word).to_owned()).collect();
        Stranger { install, origin, program }
    }
}

impl Stranger {
    /// Runs the program by `keyward run` with these options.
    async fn runs(&self, options: &[&str]) -> Output {
        let mut command = self.install.keyward(&[&["run"], options, &["--"]].concat());
        command.args(&self.program);
        run(command).await
    }

    /// Fails, names the host and the remedy, and nothing leaves the machine.
    async fn is_blocked(&self, host: &str) {
        let output = self.runs(&[]).await;
        let text = said(&output);
        assert!(!output.status.success(), "{text}");
        let line = text.lines().find(|line| line.starts_with("keyward: ")).unwrap_or_default();
        assert!(line.contains(" blocked: ") && line.contains(host), "{text}");
        assert!(line.ends_with("(keyward audit query --refused)"), "{text}");
        assert!(text.contains("keyward agent set default --allow packages"), "{text}");
        assert!(self.origin.received().is_empty(), "{:#?}", self.origin.received());
    }

    /// Succeeds with `--allow packages`: the requests that the registry received, without a credential.
    async fn is_allowed(&self) -> Vec<String> {
        let output = self.runs(&["--allow", "packages"]).await;
        let text = said(&output);
        assert!(output.status.success() && !text.contains("blocked"), "{text}");
        let received = self.origin.received();
        for request in &received {
            let head = String::from_utf8_lossy(&request.head.raw).to_ascii_lowercase();
            for field in ["\r\nauthorization:", "\r\nproxy-", "\r\nx-api-key:", "kwa_", "kwph"] {
                assert!(!head.contains(field), "{head}");
            }
        }
        let line = |request: &Message| {
            let path = request.head.target().split('?').next().unwrap_or_default();
            format!("{} {path}", request.head.method())
        };
        received.iter().map(line).collect()
    }
}

fn absent() -> Vec<u8> {
    http("404 Not Found", "text/plain", "no such thing here\n")
}

fn pypi(request: &Message) -> Vec<u8> {
    let wheel = shelf().wheel();
    let name = "fine-1.0.0-py3-none-any.whl";
    match request.head.target() {
        "/simple/fine/" => {
            let hash = sha256(wheel);
            let file = format!("https://files.pythonhosted.org/packages/{name}#sha256={hash}");
            let page =
                format!("<!DOCTYPE html><html><body><a href=\"{file}\">{name}</a></body></html>");
            http("200 OK", "text/html", page)
        }
        path if path == format!("/packages/{name}") => {
            http("200 OK", "application/octet-stream", wheel)
        }
        _ => absent(),
    }
}

fn npm(request: &Message) -> Vec<u8> {
    let archive = shelf().npm();
    match request.head.target().to_ascii_lowercase().as_str() {
        "/@acme%2ffine" => {
            let tarball = "https://registry.npmjs.org/@acme/fine/-/fine-1.0.0.tgz";
            let dist = json!({ "tarball": tarball, "integrity": integrity(archive) });
            let version = json!({ "name": "@acme/fine", "version": "1.0.0", "dist": dist });
            let package = json!({
                "name": "@acme/fine", "dist-tags": { "latest": "1.0.0" },
                "versions": { "1.0.0": version },
            });
            http("200 OK", "application/json", package.to_string())
        }
        "/@acme/fine/-/fine-1.0.0.tgz" => http("200 OK", "application/octet-stream", archive),
        "/-/npm/v1/security/advisories/bulk" => http("200 OK", "application/json", "{}"),
        _ => absent(),
    }
}

fn crates_io(request: &Message) -> Vec<u8> {
    let archive = shelf().cargo();
    let answer = match request.head.target() {
        "/config.json" => {
            json!({ "dl": "https://static.crates.io/crates", "api": "https://crates.io" })
        }
        "/fi/ne/fine" => json!({
            "name": "fine", "vers": "1.0.0", "deps": [], "cksum": sha256(archive),
            "features": {}, "yanked": false,
        }),
        "/crates/fine/1.0.0/download" => return http("200 OK", "application/gzip", archive),
        _ => return absent(),
    };
    http("200 OK", "application/json", answer.to_string())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pip_is_blocked_with_its_remedy_and_then_downloads() {
    let python = installed("real-venv/bin/python");
    let python = python.to_str().expect("a path of letters");
    let download = ["download", "--disable-pip-version-check", "--no-deps", "--retries", "0"];
    let into = ["--dest", "out", "fine"];
    let person = PYPI.before(&[&[python, "-m", "pip"], &download[..], &into].concat()).await;
    person.is_blocked("pypi.org").await;
    person.is_allowed().await;
    assert!(person.install.folder().join("out/fine-1.0.0-py3-none-any.whl").exists());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn npm_is_blocked_with_its_remedy_and_then_installs_and_audits() {
    let person = NPM.before(&["sh", "-ec", "npm install @acme/fine; npm audit"]).await;
    person.is_blocked("registry.npmjs.org").await;
    let requests = person.is_allowed().await;
    let audit = "POST /-/npm/v1/security/advisories/bulk".to_owned();
    assert!(requests.contains(&audit), "{requests:#?}");
    let installed = person.install.folder().join("node_modules/@acme/fine/index.js");
    assert!(installed.exists());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cargo_is_blocked_with_its_remedy_and_then_builds() {
    // The cargo that builds this test, and its compiler: those of rustup are found by a home.
    let tools = Path::new(env!("CARGO")).parent().and_then(Path::to_str).expect("letters");
    let line = "export PATH=\"$1:$PATH\"; cargo run --quiet";
    let person = CRATES.before(&["sh", "-ec", line, "sh", tools]).await;
    let folder = person.install.folder();
    let manifest = "[package]\nname = \"mood\"\nversion = \"0.0.0\"\nedition = \"2021\"\n\n\
                    [dependencies]\nfine = \"1\"\n";
    let main = "fn main() {\n    assert_eq!(fine::word(), \"fine\");\n}\n";
    std::fs::create_dir(folder.join("src")).expect("a folder");
    std::fs::write(folder.join("Cargo.toml"), manifest).expect("a file");
    std::fs::write(folder.join("src/main.rs"), main).expect("a file");
    person.is_blocked("index.crates.io").await;
    let mut requests = person.is_allowed().await;
    requests.sort();
    assert_eq!(
        requests,
        ["GET /config.json", "GET /crates/fine/1.0.0/download", "GET /fi/ne/fine"]
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn curl_keeps_its_exit_code_and_output_when_its_host_is_blocked() {
    let (install, _origin) = Install::simple();
    let url = format!("https://{STRANGER}/");
    let curl = install.keyward(&["run", "--", "curl", "-sS", "--max-time", "20", &url]);
    let output = run(curl).await;
    // curl: 56, the proxy refused the CONNECT.
    assert_eq!((output.status.code(), &*output.stdout), (Some(56), &b""[..]), "{}", said(&output));
    let text = said(&output);
    let told = format!("keyward: 1 request blocked: {STRANGER} (keyward audit query --refused)");
    assert!(text.contains(&told), "{text}");
}

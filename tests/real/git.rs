//! git over HTTPS, as GitHub serves it: git sends a credential only after a 401, and gets none. The origin is git's
//! own CGI behind a check of the live credential.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use tempfile::TempDir;

use crate::served::{Program, Service, Stage, Takes};
use crate::stage::*;
use test_support::canary::Canary;
use test_support::*;

const URL: &str = "https://github.com/me/repo.git";

/// A lab with GitHub in it, and the folder of its repositories.
struct Hub {
    lab: Lab,
    token: Canary,
    folder: TempDir,
}

impl Hub {
    async fn new() -> Self {
        Self::planned(|plan| plan).await
    }

    async fn planned(more: impl FnOnce(Plan) -> Plan) -> Self {
        let folder = TempDir::new().expect("a temporary directory");
        let token = Canary::new("ghp_0000");
        let pair = BASE64_STANDARD.encode(format!("x-access-token:{}", token.text));
        let (authorization, root) = (format!("Basic {pair}"), folder.path().to_owned());
        let origin = Origin::named(&["github.com"], move |mut stream: Stream| {
            let (authorization, root) = (authorization.clone(), root.clone());
            async move {
                while let Some(request) = stream.request().await {
                    let answer = match request.head.all("authorization")[..] == [&*authorization] {
                        true => backend(&root, &request),
                        false => REFUSAL.to_vec(),
                    };
                    if stream.try_send(answer).await.is_err() {
                        return;
                    }
                }
            }
        });
        let lab = more(Plan::api_key())
            .secret("HUB", &token)
            .connection("{ name: hub, provider: github, fields: { token: { env: HUB } } }")
            .no_agents()
            .agent("ci", "hub")
            .resolve(&format!("github.com: \"{}\"", origin.addr))
            .start(origin)
            .await;
        publish(folder.path());
        Self { lab, token, folder }
    }

    /// git, telling all it can.
    fn git(&self) -> Command {
        let mut git = program(&self.lab, "git");
        git.env("GIT_TRACE_CURL", "1").env("GIT_TRACE_REDACT", "0").env("GIT_TRACE", "1");
        git.args(["-c", "user.name=t", "-c", "user.email=t@acme.test"]);
        git
    }

    /// Runs it; what it said must not hold the token.
    async fn run(&self, git: Command, arguments: &[&str]) {
        let (success, said) = self.outcome(git, arguments).await;
        assert!(success, "{arguments:?}: {said}");
    }

    /// Whether it succeeded, and what it said.
    async fn outcome(&self, mut git: Command, arguments: &[&str]) -> (bool, String) {
        git.args(arguments);
        let output = run(git).await;
        self.token.assert_absent("what git said", said(&output).as_bytes());
        (output.status.success(), said(&output))
    }

    fn cloned(&self) -> PathBuf {
        self.lab.gateway.folder().join("cloned")
    }

    /// Every request had the credential once; no file of the client's has it.
    async fn finish(self, requests: usize) {
        let received = self.lab.origin.received();
        assert_eq!(received.len(), requests, "{received:#?}");
        for request in received {
            assert_eq!(request.head.all("authorization").len(), 1, "{:?}", request.head);
            assert!(!String::from_utf8_lossy(&request.head.raw).contains("kwph"), "{request:?}");
        }
        self.lab.finish().await;
    }
}

#[tokio::test]
async fn a_private_repository_is_cloned() {
    let hub = Hub::new().await;
    hub.run(hub.git(), &["clone", URL, "cloned"]).await;
    let readme = std::fs::read_to_string(hub.cloned().join("README"));
    assert_eq!(readme.expect("cloned"), "hello\n");
    // The refs, by version 2 in two requests, and the pack.
    hub.finish(3).await;
}

#[tokio::test]
async fn a_push_with_the_placeholder_in_the_url_arrives() {
    let hub = Hub::new().await;
    let placeholder = hub.lab.gateway.placeholder("ci", "hub", "token");
    let url = URL.replace("//", &format!("//x-access-token:{placeholder}@"));
    hub.run(hub.git(), &["clone", &url, "cloned"]).await;
    // Large enough to be sent in chunks, and not to be compressed away.
    let mut large = vec![0; 2 << 20];
    getrandom::fill(&mut large).expect("randomness");
    std::fs::write(hub.cloned().join("large"), &large).expect("a file");
    for arguments in [&["add", "large"][..], &["commit", "-m", "two"], &["push"]] {
        let mut git = hub.git();
        git.current_dir(hub.cloned());
        hub.run(git, arguments).await;
    }
    let mut git = hub.git();
    git.arg("--git-dir").arg(hub.folder.path().join("me/repo.git"));
    hub.run(git, &["cat-file", "-e", "main:large"]).await;
    // Three of the clone; the refs, a probe before the chunks, and the pack.
    hub.finish(6).await;
}

#[tokio::test]
async fn every_push_that_a_rule_denies_gets_a_403() {
    const RULE: &str = "{ name: no-push, hosts: [github.com], paths: [/me/repo.git/git-receive-pack], action: deny }";
    let hub = Hub::planned(|plan| plan.rule(RULE)).await;
    hub.run(hub.git(), &["clone", URL, "cloned"]).await;
    // In one small frame, in many, and in chunks of unknown length after a probe.
    for (file, count) in [("small", 5), ("medium", 700_000), ("large", 2 << 20)] {
        let mut bytes = vec![0; count];
        getrandom::fill(&mut bytes).expect("randomness");
        std::fs::write(hub.cloned().join(file), bytes).expect("a file");
        for arguments in [&["add", file][..], &["commit", "-m", file]] {
            let mut git = hub.git();
            git.current_dir(hub.cloned());
            hub.run(git, arguments).await;
        }
        for _ in 0..5 {
            let mut git = hub.git();
            git.current_dir(hub.cloned());
            let (success, said) = hub.outcome(git, &["push"]).await;
            assert!(!success && said.contains("The requested URL returned error: 403"), "{said}");
        }
    }
    let pushed = |request: &Message| request.head.target().contains("git-receive-pack");
    let posted = |request: &Message| request.head.method() == "POST" && pushed(request);
    assert!(!hub.lab.origin.received().iter().any(posted));
    hub.lab.finish().await;
}

pub(crate) const GITHUB: Service = Service::known(
    "github",
    "{ token: { env: CANARY } }",
    &["github.com"],
    Takes::Basic("x-access-token"),
);

#[tokio::test]
async fn git_is_served_in_a_run() {
    let folder = TempDir::new().expect("a temporary directory");
    publish(folder.path());
    let root = folder.path().to_owned();
    let stage = Stage::answering(&GITHUB, move |request| backend(&root, request), |plan| plan);
    let stage = stage.await;
    let line = format!("git clone --quiet {URL} cloned; sed 's/hello/answer: fine/' cloned/README");
    let output = run(stage.command(&Program::shell(&line))).await;
    let (refs, pack) = ("GET /me/repo.git/info/refs", "POST /me/repo.git/git-upload-pack");
    stage.assert_served(&output, &[refs, pack, pack]);
}

/// Makes `me/repo.git` with one commit.
pub(crate) fn publish(root: &Path) {
    let work = root.join("work");
    std::fs::create_dir_all(&work).expect("a directory");
    std::fs::write(work.join("README"), "hello\n").expect("a file");
    for arguments in [
        &["init", "--quiet", "--initial-branch=main"][..],
        &["add", "README"],
        &["-c", "user.name=t", "-c", "user.email=t@acme.test", "commit", "--quiet", "-m", "one"],
        &["clone", "--quiet", "--bare", ".", "../me/repo.git"],
        &["--git-dir=../me/repo.git", "config", "http.receivepack", "true"],
    ] {
        let mut git = Command::new("git");
        git.current_dir(&work).env("GIT_CONFIG_NOSYSTEM", "1").env("HOME", root);
        let output = git.args(arguments).output().expect("git is installed");
        assert!(output.status.success(), "{arguments:?}: {}", said(&output));
    }
}

const REFUSAL: &[u8] =
    b"HTTP/1.1 401 No\r\nWWW-Authenticate: Basic realm=x\r\nContent-Length: 0\r\n\r\n";

/// Answers by `git http-backend`, a CGI (RFC 3875).
pub(crate) fn backend(root: &Path, request: &Message) -> Vec<u8> {
    let (path, query) =
        request.head.target().split_once('?').unwrap_or((request.head.target(), ""));
    let field = |name| request.head.one(name).unwrap_or_default();
    let mut child = Command::new("git")
        .arg("http-backend")
        .env("GIT_PROJECT_ROOT", root)
        .env("GIT_HTTP_EXPORT_ALL", "1")
        .env("REQUEST_METHOD", request.head.method())
        .env("PATH_INFO", path)
        .env("QUERY_STRING", query)
        .env("CONTENT_TYPE", field("content-type"))
        .env("CONTENT_LENGTH", request.body.len().to_string())
        .env("HTTP_CONTENT_ENCODING", field("content-encoding"))
        .env("GIT_PROTOCOL", field("git-protocol"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("git is installed");
    let mut stdin = child.stdin.take().expect("piped");
    let body = request.body.clone();
    // It may answer before it has read all.
    let writer = std::thread::spawn(move || drop(stdin.write_all(&body)));
    let output = child.wait_with_output().expect("our child").stdout;
    writer.join().expect("no panic");
    answer(&output)
}

/// A CGI's output as HTTP.
fn answer(output: &[u8]) -> Vec<u8> {
    let end = wire::find(output, b"\r\n\r\n").expect("a CGI writes fields and an empty line");
    let (fields, body) = (String::from_utf8_lossy(&output[..end]), &output[end + 4..]);
    let status = fields.lines().find_map(|line| line.strip_prefix("Status: "));
    let mut head = format!("HTTP/1.1 {}\r\n", status.unwrap_or("200 OK"));
    for line in fields.lines().filter(|line| !line.starts_with("Status: ")) {
        head += &format!("{line}\r\n");
    }
    head += &format!("Content-Length: {}\r\n\r\n", body.len());
    [head.into_bytes(), body.to_vec()].concat()
}

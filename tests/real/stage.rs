//! A lab with a program: its environment after wrappers, its output, and what both ends must have received.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::{Duration, UNIX_EPOCH};

pub(crate) use test_support::process::said;
use test_support::*;

/// A browser or a compiler on a busy machine takes longer than anything in process.
const PATIENCE: Duration = Duration::from_secs(120);

/// What `keyward run` loads into Node and Bun.
pub(crate) const NODE_SCRIPT: &str =
    concat!(env!("CARGO_MANIFEST_DIR"), "/src/cli/environment/node-shim.cjs");

/// A lab whose origin answers `fine` to the live credential in `X-Api-Key`, and 401 to all else.
pub(crate) async fn lab() -> Lab {
    planned(Plan::api_key()).await
}

/// The same by a plan of one's own.
pub(crate) async fn planned(plan: Plan) -> Lab {
    let live = plan.canary().text.clone();
    let origin = Origin::answering(move |request: &Message| {
        match request.head.all("x-api-key")[..] == [&*live] {
            true => ok("fine"),
            false => "HTTP/1.1 401 No\r\nContent-Length: 4\r\n\r\nno! ".to_owned(),
        }
    });
    plan.start(origin).await
}

/// Which CA a client trusts after a rotation: that one alone.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Trusts {
    /// The one before.
    Former,
    /// The new one.
    Current,
}

/// [`lab`] after a rotation of its CA, whose programs trust one of the two.
pub(crate) async fn rotated(trusts: Trusts) -> Lab {
    let mut lab = lab().await;
    let former = lab.gateway.ca_pem.clone();
    let answer = lab.gateway.api("POST", "/ca/rotate", r#"{"overlap":"1d"}"#).await.is(200);
    let both = answer.json()["pem"].as_str().expect("PEM").to_owned();
    let current = both.strip_suffix(&former).expect("the new one, then the one before");
    if let Trusts::Current = trusts {
        lab.gateway.ca_pem = current.to_owned();
    }
    lab
}

/// Where `tests/run` puts what it installs.
pub(crate) fn installed(path: &str) -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join(path)
}

/// The oldest Node that all packages of the tests run on. The system's may be older.
pub(crate) fn node20() -> PathBuf {
    installed("real-node/node_modules/node20/bin/node")
}

/// Fills `data`, the first files of a server: by `make`, which takes seconds, or with a copy of what an earlier test made with
/// this program.
pub(crate) fn first_files(program: &Path, data: &Path, make: impl FnOnce()) {
    let age = program.metadata().and_then(|it| it.modified()).expect("`tests/run` installs it");
    let age = age.duration_since(UNIX_EPOCH).expect("after 1970").as_secs();
    let name = program.file_name().expect("a file").display();
    let kept = installed(&format!("{name}-data-{age}"));
    if kept.exists() {
        return copy(&kept, data);
    }
    make();
    // Tests may share a process.
    static MADE: AtomicU32 = AtomicU32::new(0);
    let number = MADE.fetch_add(1, Relaxed);
    let own = installed(&format!("{name}-data-{}-{number}", std::process::id()));
    copy(data, &own);
    // Of tests that make it at the same time, the first one's stays.
    if std::fs::rename(&own, &kept).is_err() {
        std::fs::remove_dir_all(own).expect("ours");
    }
}

/// Owners and modes stay.
fn copy(from: &Path, to: &Path) {
    let copied = Command::new("cp").arg("-a").args([from, to]).status();
    assert!(copied.expect("a program of every system").success());
}

/// A program of the system's services, which may be in no folder of `PATH`: beside `bin`, in `sbin`.
pub(crate) fn service(name: &str) -> PathBuf {
    let path = std::env::var_os("PATH").expect("programs are found by it");
    let folders: Vec<_> = std::env::split_paths(&path).collect();
    let all = folders.iter().flat_map(|it| [it.join(name), it.join("../sbin").join(name)]);
    let found = all.filter_map(|path| path.canonicalize().ok()).find(|path| path.is_file());
    found.expect("`tests/run` installs it")
}

/// The CA in a file, as a user would have it.
pub(crate) fn ca(lab: &Lab) -> PathBuf {
    let ca = lab.gateway.folder().join("keyward-ca.pem");
    std::fs::write(&ca, &lab.gateway.ca_pem).expect("a file");
    ca
}

/// `program` in nothing but the environment that makes it use the gateway as `ci`.
pub(crate) fn program(lab: &Lab, program: impl AsRef<std::ffi::OsStr>) -> Command {
    let (folder, ca) = (lab.gateway.folder(), ca(lab));
    let wgetrc = folder.join("wgetrc");
    std::fs::write(&wgetrc, format!("ca_certificate = {}\n", ca.display())).expect("a file");
    let proxy = format!("http://ci:{}@{}", lab.token("ci"), lab.gateway.proxy);
    let mut command = Command::new(program);
    command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
    for name in ["HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"]
    {
        command.env(name, &proxy);
    }
    for name in [
        "SSL_CERT_FILE",
        "REQUESTS_CA_BUNDLE",
        "CURL_CA_BUNDLE",
        "GIT_SSL_CAINFO",
        "NODE_EXTRA_CA_CERTS",
    ] {
        command.env(name, &ca);
    }
    command
        .env("NO_PROXY", "localhost")
        .env("no_proxy", "localhost")
        .env("WGETRC", wgetrc)
        .env("NODE_USE_ENV_PROXY", "1")
        .env("GIT_HTTP_PROXY_AUTHMETHOD", "basic")
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_TERMINAL_PROMPT", "0")
        .env("HOME", folder)
        .current_dir(folder);
    command
}

/// With the placeholder in `KEY`.
pub(crate) fn keyed(lab: &Lab, name: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut command = program(lab, name);
    command.env("KEY", lab.placeholder("api_key"));
    command
}

/// Runs it without blocking the origin.
pub(crate) async fn run(command: Command) -> Output {
    run_within(PATIENCE, command).await
}

/// The same, if it succeeds.
pub(crate) async fn succeeded(command: Command) -> Output {
    let output = run(command).await;
    assert!(output.status.success(), "{}", said(&output));
    output
}

/// As [`run`], for a program that may take longer.
pub(crate) async fn run_within(patience: Duration, mut command: Command) -> Output {
    let name = command.get_program().to_owned();
    let child = tokio::task::spawn_blocking(move || command.output());
    let output = tokio::time::timeout(patience, child).await;
    let output = output.unwrap_or_else(|_| panic!("{name:?} did not end within {patience:?}"));
    let output = output.expect("no panic");
    output.unwrap_or_else(|error| panic!("{name:?}: {error}; `tests/run` installs it"))
}

/// The program got its answer; the origin got the credential once; the program saw none of it.
pub(crate) async fn assert_served(lab: Lab, output: Output) {
    let said = said(&output);
    let answered = String::from_utf8_lossy(&output.stdout).contains("fine");
    assert!(output.status.success() && answered, "{}: {said}", output.status);
    lab.canary.assert_absent("what the program said", said.as_bytes());
    assert_injected(&lab.origin.only(), &lab.canary.text);
    lab.finish().await;
}

/// The request has the credential once, and nothing that stood for it.
pub(crate) fn assert_injected(request: &Message, credential: &str) {
    let raw = String::from_utf8_lossy(&request.head.raw);
    assert_eq!(raw.matches(credential).count(), 1, "{raw}");
    assert!(!raw.contains("kwph"), "a placeholder arrived: {raw}");
    assert!(!raw.to_ascii_lowercase().contains("proxy-"), "a field for the proxy arrived: {raw}");
}

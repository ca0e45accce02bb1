//! `keyward doctor` on installs with one thing wrong: it names that, and the remedy.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use test_support::corporate;
use test_support::install::Install;
use test_support::*;

/// A real key, which nothing may print.
const KEY: &str = "sk-proj-canaryCANARYcanaryCANARYcanary";

/// What doctor says of an install.
pub(crate) struct Told {
    pub(crate) code: Option<i32>,
    pub(crate) checks: Vec<Value>,
}

impl Told {
    pub(crate) fn by(install: &Install, variables: &[(&str, &str)]) -> Self {
        let mut command = install.keyward(&["doctor", "--json"]);
        command.envs(variables.iter().copied());
        Self::of(command, &[])
    }

    /// The same of a command; `secrets` are looked for.
    pub(crate) fn of(mut command: Command, secrets: &[&str]) -> Self {
        let output = command.output().expect("it runs");
        let said =
            String::from_utf8_lossy(&[&*output.stdout, &*output.stderr].concat()).into_owned();
        for secret in [KEY].iter().chain(secrets) {
            assert!(!said.contains(secret), "a secret is told: {said}");
        }
        let report: Value = serde_json::from_slice(&output.stdout).expect(&said);
        let checks = report["checks"].as_array().expect("a list").clone();
        Self { code: output.status.code(), checks }
    }

    /// The message and the hint of the one check with this id that stands so.
    pub(crate) fn the(&self, id: &str, status: &str) -> (&str, &str) {
        let fits = |check: &&Value| check["id"] == id && check["status"] == status;
        let found: Vec<_> = self.checks.iter().filter(fits).collect();
        assert_eq!(found.len(), 1, "{id} {status}: {:#?}", self.checks);
        let text = |name: &str| found[0][name].as_str().unwrap_or_default();
        (text("message"), text("hint"))
    }

    pub(crate) fn failed(&self, id: &str) -> (&str, &str) {
        assert_eq!(self.code, Some(1), "{:#?}", self.checks);
        self.the(id, "fail")
    }

    pub(crate) fn warned(&self, id: &str) -> (&str, &str) {
        assert_eq!(self.code, Some(0), "{:#?}", self.checks);
        self.the(id, "warn")
    }
}

/// With a data directory, and no gateway.
fn made() -> (Install, Origin) {
    let (install, origin) = Install::simple();
    // What adds something makes it.
    for words in [["agent", "add", "first"], ["agent", "remove", "first"]] {
        let made = install.keyward(&words).output().expect("it runs");
        assert!(made.status.success(), "{made:?}");
    }
    (install, origin)
}

/// With a gateway, for plans whose connection is to be in the store.
async fn served(plan: &Plan, origin: &Origin) -> (Install, install::Ran) {
    let install = Install::new(plan, origin);
    let serving = install.serve();
    (install, serving)
}

fn chmod(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).expect("ours");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sound_installation_with_a_gateway_passes_every_check() {
    let origin = Origin::saying("fine");
    let plan = Plan::api_key();
    let (install, _serving) = served(&plan, &origin).await;
    let told = Told::by(&install, &[]);
    assert_eq!(told.code, Some(0), "{:#?}", told.checks);
    assert!(told.checks.iter().all(|check| check["status"] == "ok"), "{:#?}", told.checks);
    for id in ["config", "data", "gateway", "version", "listen", "key", "store", "ca", "agents"] {
        assert!(told.checks.iter().any(|check| check["id"] == id), "{id}: {:#?}", told.checks);
    }
    let (message, _) = told.the("upstream", "ok");
    let expected = "api.acme.test answers with a valid certificate (checked by the gateway)";
    assert_eq!(message, expected);
    assert!(origin.received().is_empty(), "no request was sent");
    plan.canary().assert_absent("doctor", format!("{:?}", told.checks).as_bytes());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_absent_data_directory_is_a_warning_and_is_not_created() {
    let (install, _origin) = Install::simple();
    let told = Told::by(&install, &[]);
    let (message, hint) = told.warned("data");
    assert!(message.ends_with("does not exist yet") && hint.starts_with("`keyward serve`"));
    assert!(!install.data().exists());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_error_of_the_configuration_is_a_separate_check_with_its_line() {
    let (install, _origin) = made();
    let text = "nope: 1\nlisten: { proxy: here }\n";
    fs::write(install.folder().join("keyward.yaml"), text).expect("a file");
    let told = Told::by(&install, &[]);
    assert_eq!(told.code, Some(1));
    let failed: Vec<_> = told.checks.iter().filter(|check| check["id"] == "config").collect();
    assert_eq!(failed.len(), 2, "{failed:#?}");
    assert!(failed.iter().all(|check| check["status"] == "fail"), "{failed:#?}");
    for place in ["keyward.yaml:1: nope: ", "keyward.yaml:2: listen.proxy: "] {
        let mut messages = failed.iter().filter_map(|check| check["message"].as_str());
        assert!(messages.any(|message| message.contains(place)), "{place}: {failed:#?}");
    }
    let hint = "write numbers, such as `127.0.0.1:8080`";
    assert!(failed.iter().any(|check| check["hint"] == hint), "{failed:#?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_is_gone_or_cannot_be_reached_is_not_one_that_a_first_start_creates() {
    let (install, _origin) = made();
    fs::remove_dir_all(install.data().join("store")).expect("it exists");
    let told = Told::by(&install, &[]);
    let (message, hint) = told.warned("store");
    assert!(message.contains("but the audit log has records until "), "{message}");
    assert!(hint.contains("a start creates an empty store"), "{hint}");
    fs::write(install.data().join("store"), "a file").expect("ours");
    let below_a_file = format!("{}/store/inner", install.data().display());
    let told = Told::by(&install, &[("KEYWARD__STORE__SLED__PATH", &below_a_file)]);
    let (message, _) = told.failed("store");
    assert!(message.starts_with("cannot use "), "{message}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_master_key_that_others_can_read_is_reported_with_chmod() {
    let (install, _origin) = made();
    let key = install.data().join("master.key");
    chmod(&key, 0o644);
    let told = Told::by(&install, &[]);
    let (message, hint) = told.failed("key");
    assert_eq!(
        message,
        format!("other users can read master key file {} (mode 0644)", key.display())
    );
    assert_eq!(hint, format!("run `chmod 600 {}`, and treat the key as leaked", key.display()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_or_wrong_master_key_is_reported_with_its_remedy() {
    let (install, _origin) = made();
    let key = install.data().join("master.key");
    let kept = fs::read(&key).expect("a key");
    fs::remove_file(&key).expect("ours");
    let told = Told::by(&install, &[]);
    let (_, hint) = told.failed("key");
    let remedy =
        "put the key back, or give it in `master_key`; or restore a backup: `keyward restore FILE`";
    assert_eq!(hint, remedy);
    assert!(!key.exists(), "and no other is made");
    let other: Vec<u8> = kept.iter().rev().filter(|b| **b != b'\n').copied().collect();
    fs::write(&key, other).expect("ours");
    chmod(&key, 0o600);
    let told = Told::by(&install, &[]);
    let (_, hint) = told.failed("store");
    assert_eq!(hint, remedy);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_data_directory_that_others_can_enter_is_reported_with_chmod() {
    let (install, _origin) = made();
    chmod(&install.data(), 0o755);
    let told = Told::by(&install, &[]);
    let (_, hint) = told.failed("data");
    assert_eq!(hint, format!("run `chmod 700 {}`", install.data().display()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_another_process_holds_is_reported_with_the_process() {
    let (install, _origin) = made();
    let pid = install.data().join("store/pid");
    let file = fs::OpenOptions::new().write(true).truncate(false).open(&pid).expect("a file");
    file.lock().expect("nobody has it");
    fs::write(&pid, "4121\n").expect("ours");
    let told = Told::by(&install, &[]);
    let (message, hint) = told.failed("store");
    assert_eq!(message, "store is locked by process 4121, which answers on no admin socket");
    assert_eq!(hint, "wait for process 4121, or stop it: kill 4121");
    drop(file);
    // What stands in the file is then of no process.
    assert_eq!(Told::by(&install, &[]).the("store", "ok").1, "");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_socket_of_a_killed_gateway_is_a_warning() {
    let (install, _origin) = made();
    drop(install.serve());
    let told = Told::by(&install, &[]);
    let (message, hint) = told.the("gateway", "warn");
    assert!(message.ends_with("admin.sock is left from one that was killed"), "{message}");
    assert_eq!(hint, "no action needed: the next gateway replaces it");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_port_in_use_is_reported_with_its_setting() {
    let (install, _origin) = made();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("loopback");
    let at = taken.local_addr().expect("an address").to_string();
    let table = [
        ("KEYWARD__LISTEN__PROXY", "listen.proxy"),
        ("KEYWARD__LISTEN__METRICS", "listen.metrics"),
        ("KEYWARD__LISTEN__HOOKS__AT", "listen.hooks"),
    ];
    for (variable, key) in table {
        let told = Told::by(&install, &[(variable, &at)]);
        let (message, hint) = told.failed("listen");
        assert!(message.starts_with(&format!("{at} is in use by ")), "{message}");
        assert_eq!(hint, format!("stop it, or choose another port: `{key}`"));
    }
}

/// A CA of the user's own, as `openssl` makes it.
fn give_ca(install: &Install, days: i64) -> (String, String) {
    let key = rcgen::KeyPair::generate().expect("a key");
    let mut params = rcgen::CertificateParams::default();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let end = jiff::Timestamp::now() + jiff::SignedDuration::from_hours(24 * days);
    let seconds = u64::try_from(end.as_second()).expect("after 1970");
    params.not_after = rcgen::date_time_ymd(1970, 1, 1) + std::time::Duration::from_secs(seconds);
    let (cert, key) = (params.self_signed(&key).expect("a CA").pem(), key.serialize_pem());
    let folder = install.data().join("ca");
    fs::write(folder.join("ca.pem"), &cert).expect("a file");
    fs::write(folder.join("ca.key"), &key).expect("a file");
    (cert, end.strftime("%Y-%m-%d").to_string())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_ca_that_expires_soon_has_expired_or_does_not_match_is_reported() {
    let (install, _origin) = made();
    let folder = install.data().join("ca");
    let files = format!("{0}/ca.pem and {0}/ca.key", folder.display());
    let (near, day) = give_ca(&install, 10);
    let told = Told::by(&install, &[]);
    let (message, hint) = told.warned("ca");
    assert_eq!(message, format!("the CA expires on {day}"));
    assert_eq!(hint, format!("replace {files} by the new CA's files"));
    give_ca(&install, -1);
    let told = Told::by(&install, &[]);
    let (message, hint) = told.failed("ca");
    assert_eq!(message, "the CA has expired");
    let expected =
        format!("remove {files}: the next start creates a new CA, which clients must trust");
    assert_eq!(hint, expected);
    fs::write(folder.join("ca.pem"), near).expect("a file");
    let told = Told::by(&install, &[]);
    let (message, hint) = told.failed("ca");
    assert!(message.contains("is not the key of"), "{message}");
    assert_eq!(hint, "restore the matching pair, or remove both for a new CA");
    fs::remove_file(folder.join("ca.key")).expect("ours");
    let told = Told::by(&install, &[]);
    assert_eq!(told.failed("ca").1, "restore it from a backup, or remove both for a new CA");
    assert!(!folder.join("ca.key").exists());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clock_before_the_last_audit_record_is_reported() {
    let (install, _origin) = made();
    fs::create_dir_all(install.data().join("audit")).expect("a folder");
    let record = "{\"v\":1,\"time\":\"2199-01-01T00:00:00Z\"}\n";
    fs::write(install.data().join("audit/audit.jsonl"), record).expect("a file");
    let told = Told::by(&install, &[]);
    let (message, hint) = told.failed("clock");
    assert!(message.ends_with("the audit log's last record is from 2199-01-01T00:00:00Z"));
    assert_eq!(hint, "set the clock (systemd: timedatectl set-ntp true)");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_without_bindings_and_a_connection_without_agents_are_warnings() {
    let origin = Origin::saying("fine");
    let (install, _serving) = served(&Plan::api_key().no_agents(), &origin).await;
    let told = Told::by(&install, &[]);
    let (message, hint) = told.warned("agents");
    assert_eq!(message, "there is no agent; `keyward run` creates `default`");
    assert_eq!(hint, "keyward agent add NAME");
    assert_eq!(told.warned("connections").1, "keyward agent bind AGENT acme");
    let add = install.keyward(&["agent", "add", "loose"]).output().expect("it runs");
    assert!(add.status.success(), "{add:?}");
    let told = Told::by(&install, &[]);
    let (message, hint) = told.warned("agents");
    assert_eq!(message, "agent loose is bound to no connection");
    assert_eq!(hint, "keyward agent bind loose acme");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upstream_with_an_untrusted_certificate_is_reported() {
    let origin = Origin::saying("fine");
    let (install, _serving) = served(&Plan::api_key().untrusted(), &origin).await;
    let told = Told::by(&install, &[]);
    let (message, hint) = told.failed("upstream");
    let expected = "the certificate of api.acme.test is from an unknown issuer (api.acme.test); \
                    checked by the gateway";
    assert_eq!(message, expected);
    assert!(hint.ends_with("trust that: `upstream: { trust: [FILE.pem] }`"), "{hint}");
    assert!(origin.received().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upstream_that_does_not_resolve_or_has_a_refused_address_is_reported() {
    let origin = Origin::saying("fine");
    let plan = Plan::api_key()
        .provider("{ id: a, name: A, hosts: [none.invalid], auth: [{ id: t, kind: bearer }] }")
        .provider("{ id: b, name: B, hosts: [near.test], auth: [{ id: t, kind: bearer }] }")
        .connection("{ name: a, provider: a, fields: { token: { env: CANARY } } }")
        .connection("{ name: b, provider: b, fields: { token: { env: CANARY } } }")
        .resolve("near.test: \"10.9.8.7:443\"")
        .no_agents()
        .agent("ci", "acme, a, b");
    let (install, _serving) = served(&plan, &origin).await;
    let told = Told::by(&install, &[]);
    assert_eq!(told.code, Some(1));
    let failed = |host: &str| {
        let of = |check: &&Value| {
            check["status"] == "fail" && check["message"].as_str().is_some_and(|m| m.contains(host))
        };
        let found = told.checks.iter().find(of).unwrap_or_else(|| panic!("{:#?}", told.checks));
        (found["message"].as_str().expect("text"), found["hint"].as_str().expect("text"))
    };
    let (message, hint) = failed("none.invalid");
    assert_eq!(message, "cannot resolve none.invalid; checked by the gateway");
    assert!(hint.ends_with("`upstream: { resolve: { \"none.invalid\": ADDRESS:443 } }`"), "{hint}");
    let (message, hint) = failed("near.test");
    let expected = "that are refused (private): 10.9.8.7:443; checked by the gateway";
    assert!(message.ends_with(expected), "{message}");
    assert_eq!(hint, "if that is right: `upstream: { allow_private: [\"10.9.8.7:443\"] }`");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hosts_are_checked_through_the_configured_corporate_proxy() {
    let origin = Origin::named(&["api.beyond.test"], |_| async {});
    let proxy = corporate::opening(origin.addr);
    let plan = Plan::api_key().hosts("api.beyond.test").upstream(&format!(
        "proxy: {{ url: 'http://{}', user: svc, password: {{ file: corp }} }}",
        proxy.addr
    ));
    let install = Install::new(&plan, &origin);
    let password = install.folder().join("corp");
    fs::write(&password, "canary-of-the-corporation").expect("a file");
    chmod(&password, 0o600);
    let mut serving = install.serve();
    let doctor = || Told::of(install.keyward(&["doctor", "--json"]), &["canary-of-the-corp"]);
    let told = doctor();
    let (message, _) = told.the("upstream", "ok");
    let way = format!("through the corporate proxy http://{}", proxy.addr);
    let by = "(checked by the gateway)";
    assert_eq!(message, format!("api.beyond.test answers {way} with a valid certificate {by}"));
    assert_eq!(proxy.only().head.start, "CONNECT api.beyond.test:443 HTTP/1.1");
    serving.kill();
    install.until("nobody serves", || !install.is_served());
    let told = doctor();
    let (message, _) = told.the("upstream", "ok");
    assert!(message.ends_with("(checked by this command: no gateway runs)"), "{message}");
    fs::remove_file(&password).expect("ours");
    let told = doctor();
    let (message, hint) = told.the("upstream", "warn");
    assert!(message.contains("`upstream.proxy.password`"), "{message}");
    assert!(hint.contains("environment"), "{hint}");
}

/// The gateway has the password in its environment, and whoever calls the doctor does not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hosts_are_checked_with_the_environment_of_the_running_gateway() {
    let origin = Origin::named(&["api.beyond.test"], |_| async {});
    let proxy = corporate::opening(origin.addr);
    let plan = Plan::api_key().hosts("api.beyond.test").upstream(&format!(
        "proxy: {{ url: 'http://{}', user: svc, password: {{ env: CORP }} }}",
        proxy.addr
    ));
    let install = Install::new(&plan, &origin);
    let mut serve = install.keyward(&["serve"]);
    serve.env("CORP", "canary-of-the-corporation").stderr(std::process::Stdio::null());
    let mut serving = serve.spawn().expect("the binary was built");
    install.until("it serves", || install.is_served());
    let told = Told::of(install.keyward(&["doctor", "--json"]), &["canary-of-the-corp"]);
    serving.kill().expect("our child");
    serving.wait().expect("our child");
    let (message, _) = told.the("upstream", "ok");
    assert!(message.ends_with("with a valid certificate (checked by the gateway)"), "{message}");
    assert_eq!(proxy.only().head.start, "CONNECT api.beyond.test:443 HTTP/1.1");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn proxies_in_files_of_clients_that_override_the_environment_are_warnings() {
    let (install, _origin) = made();
    let proxy = format!("http://user:{KEY}@proxy.example:3128");
    let table = [
        (
            "git",
            ".gitconfig",
            format!("[user]\n\tname = x\n[http]\n\tproxy = {proxy}\n"),
            4,
            "http.proxy",
        ),
        ("npm", ".npmrc", format!("https-proxy={proxy}\n"), 1, "https-proxy"),
        ("pip", ".config/pip/pip.conf", format!("[global]\nproxy = {proxy}\n"), 2, "global.proxy"),
        ("curl", ".curlrc", format!("proxy = {proxy}\n"), 1, "proxy"),
        ("cargo", ".cargo/config.toml", format!("[http]\nproxy = \"{proxy}\"\n"), 2, "http.proxy"),
        (
            "gradle",
            ".gradle/gradle.properties",
            format!("org.gradle.daemon=true\nsystemProp.https.proxyHost={proxy}\n"),
            2,
            "systemprop.https.proxyhost",
        ),
    ];
    for (client, name, text, line, key) in table {
        let file = install.folder().join(name);
        fs::create_dir_all(file.parent().expect("a folder")).expect("made");
        fs::write(&file, text).expect("a file");
        let told = Told::by(&install, &[]);
        let (message, hint) = told.warned(client);
        let at = format!("{}:{line} sets `{key}`", file.display());
        let says = format!("{at}: {client} prefers it to the environment and bypasses the gateway");
        assert_eq!(message, says);
        assert_eq!(hint, format!("remove line {line} of {}", file.display()));
        fs::remove_file(file).expect("ours");
    }
    assert_eq!(Told::by(&install, &[]).the("clients", "ok").1, "");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_real_key_in_the_environment_is_a_warning() {
    let (install, _origin) = made();
    let told = Told::by(&install, &[("OPENAI_API_KEY", KEY)]);
    let (message, hint) = told.warned("environment");
    assert_eq!(message, "OPENAI_API_KEY holds a real key: programs and their agents inherit it");
    let expected = "keep it here instead: `keyward connection add openai --name openai`, then \
                    `unset OPENAI_API_KEY`";
    assert_eq!(hint, expected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_netrc_secret_for_a_host_of_a_connection_is_a_warning() {
    let origin = Origin::saying("fine");
    let (install, _serving) = served(&Plan::api_key(), &origin).await;
    let text = format!(
        "machine other.example login x password {KEY}\n\
                        machine api.acme.test login x password {KEY}\n"
    );
    let file = install.folder().join(".netrc");
    fs::write(&file, text).expect("a file");
    let told = Told::by(&install, &[]);
    let (message, hint) = told.warned("netrc");
    assert_eq!(message, format!("{}:2 holds a secret for api.acme.test", file.display()));
    assert_eq!(hint, "remove it: agents can read it; connection acme replaces it");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_report_without_json_is_lines_of_text() {
    let (install, _origin) = made();
    chmod(&install.data().join("master.key"), 0o640);
    let output = install.keyward(&["doctor"]).output().expect("it runs");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.lines().any(|line| line.starts_with("fail  key  ")), "{said}");
    assert!(said.contains("hint: run `chmod 600 "), "{said}");
    assert!(said.ends_with("failed: 1, warnings: 0\n"), "{said}");
    assert!(output.stderr.is_empty(), "{output:?}");
    assert_eq!(output.status.code(), Some(1));
}

/// A restore would not help, and would lose what was changed since the backup.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_cannot_be_locked_gets_no_hint_to_restore_a_backup() {
    let (install, _origin) = made();
    // Also root cannot open a directory as a file; an ordinary user lacks the permission before.
    let pid = install.data().join("store/pid");
    fs::remove_file(&pid).expect("ours");
    std::os::unix::fs::symlink("/proc/version", &pid).expect("ours");
    let told = Told::by(&install, &[]);
    let (message, hint) = told.failed("store");
    assert!(message.contains("/store: store could not lock its directory: "), "{message}");
    assert!(!hint.contains("backup"), "{hint}");
}

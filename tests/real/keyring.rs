//! The keyring of a desktop as a secret source: GNOME Keyring, which Keyward asks over D-Bus, or `secret-tool` does.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::stage::{run, succeeded};
use test_support::canary::Canary;
use test_support::*;

/// A session of D-Bus, with an unlocked keyring.
struct Keyring {
    bus: Child,
    daemon: Child,
    address: String,
    folder: TempDir,
}

impl Keyring {
    async fn start() -> Self {
        let folder = TempDir::new().expect("a directory");
        let mut bus = Command::new("dbus-daemon");
        bus.args(["--session", "--nofork", "--print-address"]).stdout(Stdio::piped());
        // The bus may start a second daemon, which finds the first one here.
        bus.env("HOME", folder.path()).env("XDG_RUNTIME_DIR", folder.path());
        let mut bus = bus.stderr(Stdio::null()).spawn().expect("`tests/run` installs it");
        let mut address = String::new();
        let mut output = BufReader::new(bus.stdout.take().expect("piped"));
        output.read_line(&mut address).expect("its address");
        let address = address.trim().to_owned();
        let mut daemon = Command::new("gnome-keyring-daemon");
        daemon.args(["--foreground", "--unlock", "--components=secrets"]);
        daemon.env("DBUS_SESSION_BUS_ADDRESS", &address).env("HOME", folder.path());
        daemon.env("XDG_RUNTIME_DIR", folder.path()).env_remove("XDG_DATA_HOME");
        daemon.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut daemon = daemon.spawn().expect("`tests/run` installs it");
        daemon.stdin.take().expect("piped").write_all(b"password").expect("it reads it");
        let control = folder.path().join("keyring/control");
        until("the daemon of the keyring", async || control.exists()).await;
        Self { bus, daemon, address, folder }
    }

    /// Stores a value, as a person does. It also waits until the keyring is there.
    async fn store(&self, name: &str, value: &Canary) {
        self.store_at(&["keyward", name], value).await;
    }

    /// The same with these attributes.
    async fn store_at(&self, attributes: &[&str], value: &Canary) {
        let file = self.folder.path().join("value");
        std::fs::write(&file, &value.text).expect("a file");
        let stored = async {
            loop {
                let mut tool = self.tool(&["store", "--label", "of a test"]);
                tool.args(attributes);
                tool.stdin(std::fs::File::open(&file).expect("it was written"));
                if run(tool).await.status.success() {
                    break;
                }
            }
        };
        patiently("the keyring", stored).await;
    }

    fn tool(&self, arguments: &[&str]) -> Command {
        let mut tool = Command::new("secret-tool");
        tool.args(arguments).env("DBUS_SESSION_BUS_ADDRESS", &self.address);
        tool.env("HOME", self.folder.path());
        tool
    }

    /// Locks it, as a desktop does when its person leaves.
    async fn lock(&self) {
        let mut send = Command::new("dbus-send");
        send.args(["--session", "--print-reply", "--dest=org.freedesktop.secrets"]);
        send.args(["/org/freedesktop/secrets", "org.freedesktop.Secret.Service.Lock"]);
        send.arg("array:objpath:/org/freedesktop/secrets/collection/login");
        send.env("DBUS_SESSION_BUS_ADDRESS", &self.address);
        succeeded(send).await;
    }

    fn end(&mut self) {
        for child in [&mut self.daemon, &mut self.bus] {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Drop for Keyring {
    fn drop(&mut self) {
        self.end();
    }
}

async fn tested(lab: &Lab, reference: &str) -> Value {
    let body = json!({ "ref": reference }).to_string();
    let answer = lab.gateway.api("POST", "/sources/keyring/test", &body).await.is(200);
    answer.json()["tested"][0].clone()
}

#[tokio::test]
async fn a_value_of_the_keyring_is_used_and_a_changed_one_is_fetched() {
    let (first, second) = (Canary::new("cnry"), Canary::new("cnry"));
    let mut keyring = Keyring::start().await;
    keyring.store("acme", &first).await;
    let plan = Plan::new(
        "{ id: key, kind: api_key, placement: { header: X-Api-Key } }",
        "{ api_key: { from: keyring, ref: acme } }",
    );
    let source = "sources: [{ name: keyring, ttl: 1s, command: { run: [secret-tool, lookup, keyward] }, \
                  credentials: { DBUS_SESSION_BUS_ADDRESS: { env: BUS } } }]";
    let plan = plan.top(source).variable("BUS", &keyring.address);
    let mut lab = plan.start(Origin::saying("fine")).await;
    lab.guard(first.clone());
    lab.guard(second.clone());
    let absent = tested(&lab, "absent").await;
    assert!(absent["error"].is_string(), "{absent}");
    assert_eq!(tested(&lab, "acme").await["error"], Value::Null);
    assert_eq!(lab.delivered("GET /a").await.one("x-api-key"), Some(&*first.text));

    keyring.store("acme", &second).await;
    let asked =
        async { while lab.delivered("GET /a").await.one("x-api-key") != Some(&*second.text) {} };
    patiently("the changed value", asked).await;

    keyring.end();
    let gone = tested(&lab, "acme").await;
    assert!(gone["error"].is_string(), "{gone}");
    let kept = lab.delivered("GET /a").await;
    assert_eq!(kept.one("x-api-key"), Some(&*second.text), "the last value is kept");
    lab.finish().await;
}

#[tokio::test]
async fn a_keychain_source_reads_the_keyring_and_reports_why_a_value_is_missing() {
    let (first, second) = (Canary::new("cnry"), Canary::new("cnry"));
    let mut keyring = Keyring::start().await;
    let attributes = ["service", "acme", "account", "ann, of acme"];
    keyring.store_at(&attributes, &first).await;
    keyring.store_at(&["service", "acme", "account", "bob"], &second).await;
    let plan = Plan::new(
        "{ id: key, kind: api_key, placement: { header: X-Api-Key } }",
        "{ api_key: { from: keyring, ref: 'service=acme,account=ann%2C of acme' } }",
    );
    let address = &keyring.address;
    let source = format!(
        "sources: [{{ name: keyring, ttl: 1s, keychain: {{ address: '{address}' }} }}, \
         {{ name: nowhere, keychain: {{ address: 'unix:path={}/none' }} }}]",
        keyring.folder.path().display()
    );
    let mut lab = plan.top(&source).start(Origin::saying("fine")).await;
    lab.guard(first.clone());
    lab.guard(second.clone());
    assert_eq!(lab.delivered("GET /a").await.one("x-api-key"), Some(&*first.text));
    for (reference, error) in [
        ("service=acme,account=eve", "it has no value of that reference"),
        ("service=acme", "the reference names several items of the keyring"),
        (
            "acme",
            "the reference must be ATTRIBUTE=VALUE,ATTRIBUTE=VALUE of one item, also with #MEMBER",
        ),
    ] {
        assert_eq!(tested(&lab, reference).await["error"], error, "{reference}");
    }
    assert_eq!(tested(&lab, "service=acme,account=bob").await["error"], Value::Null);
    let body = json!({ "ref": "service=acme" }).to_string();
    let nowhere = lab.gateway.api("POST", "/sources/nowhere/test", &body).await.json();
    let nowhere = &nowhere["tested"][0];
    let error = nowhere["error"].as_str().unwrap_or_default();
    assert!(
        error.starts_with("the bus unix:path=") && error.contains("cannot be reached"),
        "{nowhere}"
    );
    assert!(
        nowhere["hint"].as_str().is_some_and(|it| it.contains("keychain.address")),
        "{nowhere}"
    );

    keyring.store_at(&attributes, &second).await;
    let asked =
        async { while lab.delivered("GET /a").await.one("x-api-key") != Some(&*second.text) {} };
    patiently("the changed value", asked).await;

    keyring.lock().await;
    let locked = tested(&lab, "service=acme,account=bob").await;
    assert_eq!(locked["error"], "the keyring is locked");
    assert!(locked["hint"].as_str().is_some_and(|it| it.contains("unlock it")), "{locked}");
    let kept = lab.delivered("GET /a").await;
    assert_eq!(kept.one("x-api-key"), Some(&*second.text), "the last value is kept");

    keyring.end();
    let gone = tested(&lab, "service=acme,account=bob").await;
    let error = gone["error"].as_str().unwrap_or_default();
    assert!(error.contains("cannot be reached"), "{gone}");
    lab.finish().await;
}

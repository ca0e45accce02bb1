//! The keyring of a desktop as a secret source: GNOME Keyring over D-Bus, which `secret-tool` asks.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::stage::run;
use crate::support::canary::Canary;
use crate::support::*;

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
        let started = async {
            while !control.exists() {
                tokio::task::yield_now().await;
            }
        };
        patiently("the daemon of the keyring", started).await;
        Self { bus, daemon, address, folder }
    }

    /// Stores a value, as a person does. It also waits until the keyring is there.
    async fn store(&self, name: &str, value: &Canary) {
        let file = self.folder.path().join("value");
        std::fs::write(&file, &value.text).expect("a file");
        let stored = async {
            loop {
                let mut tool = Command::new("secret-tool");
                tool.args(["store", "--label", name, "keyward", name]);
                tool.env("DBUS_SESSION_BUS_ADDRESS", &self.address).env("HOME", self.folder.path());
                tool.stdin(std::fs::File::open(&file).expect("it was written"));
                if run(tool).await.status.success() {
                    break;
                }
            }
        };
        patiently("the keyring", stored).await;
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
    let answer = lab.gateway.api("POST", "/sources/keyring/test", &body).await;
    assert_eq!(answer.head.status(), 200, "{}", answer.text());
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
    let mut lab = plan.start(Origin::saying("fine").await).await;
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

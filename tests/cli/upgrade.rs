//! A store that an earlier version made opens and serves. `upgrade/` has the stores, the configuration that they
//! are opened with, and the script that made them. A store there is never made again: another version adds one.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use rustls::pki_types::ServerName;
use serde_json::Value;
use tempfile::TempDir;
use tokio_rustls::TlsConnector;

use test_support::canary::{self, Canaries, Canary};
use test_support::gateway::Gateway;
use test_support::hooks::Hooks;
use test_support::pki::{pki, trusting};
use test_support::*;

/// The data directory that `make.sh` made with version 0.1.0, without the CA.
const STORE: &[u8] = include_bytes!("upgrade/store-0.1.0.tar.gz");

/// Providers, and what the file manages.
const CONFIG: &str = include_str!("upgrade/keyward.yaml");

/// The authorization server's host.
const AUTH_HOST: &str = "auth.acme.test";

/// What the token endpoint gives.
const ACCESS: &str = "upgrade-access-0123456789";

/// What the file reads from the environment.
const VARIABLES: [(&str, &str); 4] = [
    ("FILED_CLIENT_SECRET", "upgrade-filed-client-secret"),
    ("FILED_KEY", "upgrade-filed-key-0123456789"),
    ("FILED_TOKEN", "kwa_upgrade-filed-token-0123456789"),
    ("FILED_SIGNING_KEY", "whsec_dXBncmFkZS1maWxlZC1zaWduaW5nLWtleS0wMQ=="),
];

/// The key of webhook `ops`.
const SIGNING_KEY: &str = "whsec_dXBncmFkZS10ZXN0LXNpZ25pbmcta2V5LTAwMQ==";

/// Every other secret in the store.
const SECRETS: [&str; 18] = [
    SIGNING_KEY,
    "upgrade-other-org-key",
    "upgrade-api-key-0123456789",
    "upgrade-bearer-0123456789",
    "upgrade-password-0123456789",
    "upgrade-pair-0123456789",
    "upgrade-paused-0123456789",
    "upgrade-old-key-0123456789",
    "upgrade-new-key-0123456789",
    "upgrade-client-secret-0123456789",
    "upgrade-refresh-0123456789",
    "kwa_upgrade-agent-token-0123456789",
    "kwa_upgrade-bobs-token-0123456789",
    "kwa_upgrade-rotating-token-0123456789",
    "kwa_upgrade-consenting-token-0123456789",
    "kwa_upgrade-plugged-token-0123456789",
    "whsec_dXBncmFkZS10ZXN0LXNpZ25pbmcta2V5LTAwMg==",
    ACCESS,
];

/// The API and the authorization server, each by its name.
fn origin() -> Origin {
    Origin::named(&[HOST, AUTH_HOST], |stream| {
        let notes = stream.notes();
        async move {
            let mut wire = stream.into_wire();
            while let Some(request) = wire.request().await {
                let answer = match request.head.one("host") {
                    Some(AUTH_HOST) => ok(&format!(
                        r#"{{"access_token":"{ACCESS}","token_type":"bearer","expires_in":3600}}"#
                    )),
                    _ => ok("fine"),
                };
                notes.note(request);
                wire.send(answer).await;
            }
        }
    })
}

/// Unpacks the files of an archive in the format of POSIX tar (`ustar`), for their owner alone.
fn unpack(archive: &[u8], folder: &Path) {
    const BLOCK: usize = 512;
    let mut bytes = vec![];
    flate2::read::GzDecoder::new(archive).read_to_end(&mut bytes).expect("gzip");
    let mut rest = &bytes[..];
    loop {
        let (head, after) = rest.split_at(BLOCK);
        let text = |at: std::ops::Range<usize>| {
            let field = head[at].split(|byte| *byte == 0).next().unwrap_or_default();
            std::str::from_utf8(field).expect("ASCII").trim()
        };
        // Two blocks of zeros are the end.
        if text(0..100).is_empty() {
            return;
        }
        assert_eq!(head[156], b'0', "{} is no file", text(0..100));
        let length = usize::from_str_radix(text(124..136), 8).expect("octal");
        let file = folder.join(text(0..100));
        let parent = file.parent().expect("it is in the folder");
        fs::create_dir_all(parent).expect("a folder");
        fs::set_permissions(parent, fs::Permissions::from_mode(0o700)).expect("ours");
        fs::write(&file, &after[..length]).expect("a file");
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).expect("ours");
        rest = &after[length.next_multiple_of(BLOCK)..];
    }
}

/// A gateway on the store.
struct Upgraded {
    gateway: Gateway,
    origin: Origin,
    hooks: Hooks,
    /// The token of `ada`, which the store holds a hash of.
    personal: Canary,
}

impl Upgraded {
    async fn start() -> Self {
        Self::try_start(|_| {}).await.expect("the store opens")
    }

    /// On a data directory that is changed first. The error is what a user would read.
    async fn try_start(change: impl FnOnce(&Path)) -> Result<Self, String> {
        let folder = TempDir::new().expect("a temporary directory");
        let data = folder.path().join("data");
        unpack(STORE, &data);
        let file = data.join("personal-token");
        let personal = fs::read_to_string(&file).expect("it is in the archive");
        fs::remove_file(file).expect("ours");
        change(&data);
        let (origin, hooks) = (origin(), Hooks::start().await);
        let (at, hooks_at) = (origin.addr, hooks.origin.addr);
        let yaml = format!(
            "listen: {{ proxy: \"127.0.0.1:0\", admin: \"127.0.0.1:0\" }}\n\
             limits: {{ drain_timeout: 2s }}\n\
             upstream:\n  trust: [origin-ca.pem]\n  allow_private: [\"{at}\", \"{hooks_at}\"]\n  \
             resolve: {{ {HOST}: \"{at}\", {AUTH_HOST}: \"{at}\", hooks.acme.test: \"{hooks_at}\" }}\n{CONFIG}"
        );
        let variables = VARIABLES.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let roots = [("origin-ca.pem", &*pki().pem)];
        let gateway =
            Gateway::try_start_in(folder, &yaml, &BTreeMap::from(variables), &roots).await?;
        let personal = Canary::of(personal.trim().to_owned());
        Ok(Self { gateway, origin, hooks, personal })
    }

    async fn get(&self, org: &str, path: &str) -> Value {
        let fields = format!("Keyward-Org: {org}\r\n");
        let answer = self.gateway.api_with(&fields, ("GET", path), "").await;
        assert_eq!(answer.head.status(), 200, "{path}: {}", answer.text());
        answer.json()
    }

    /// One request of the agent with this token; what the API received.
    async fn sent(&mut self, token: &str, request: &str) -> Head {
        let mut wire = Wire::to(self.gateway.proxy).await;
        let authorization = format!("Proxy-Authorization: Bearer {token}");
        let connect =
            format!("CONNECT {HOST}:443 HTTP/1.1\r\nHost: {HOST}\r\n{authorization}\r\n\r\n");
        wire.ask(connect).await.is(200);
        let (io, socket, seen) = wire.into_parts();
        let name = ServerName::try_from(HOST).expect("a name");
        let tls = TlsConnector::from(trusting(&self.gateway.ca_pem)).connect(name, io);
        let mut wire = Wire::over(patiently("TLS", tls).await.expect("TLS"), socket, seen);
        let answer = wire.ask(request_text(request, HOST)).await.is(200);
        assert_eq!(answer.text(), "fine");
        loop {
            let arrived = patiently("the request", self.origin.arrival()).await;
            if arrived.head.one("host") == Some(HOST) {
                return arrived.head;
            }
        }
    }

    /// Stops it, and looks for its secrets in what anyone could read.
    async fn finish(mut self) {
        let told = self.gateway.tells().await;
        self.gateway.stop().await;
        let variables = VARIABLES.map(|(_, value)| value);
        let secrets = SECRETS.into_iter().chain(variables).map(|text| Canary::of(text.to_owned()));
        let secrets = Canaries::new(secrets.chain([self.personal]).collect());
        let log = canary::log().lock().expect("not poisoned").clone();
        secrets.assert_absent("the log", &log);
        secrets.assert_absent("what the admin API tells", &told);
        secrets.assert_absent_below(self.gateway.folder());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_of_version_0_1_0_opens_and_shows_all_that_it_holds() {
    let upgraded = Upgraded::start().await;
    let mut shown = serde_json::Map::new();
    for org in ["default", "upgrade-org"] {
        for list in
            ["orgs", "users", "agents", "apps", "connections", "plugins", "webhooks", "honeytokens"]
        {
            let found = upgraded.get(org, &format!("/{list}")).await;
            assert!(found["next"].is_null(), "{list} has one page");
            for item in found["items"].as_array().expect("a list") {
                let name = item["name"].as_str().expect("a name").to_owned();
                let path = format!("/{list}/{name}");
                let mut one = match list {
                    "orgs" => item.clone(),
                    _ => upgraded.get(org, &path).await,
                };
                // That of a plugin is its manifest's; the others are computed, and not stored.
                if list != "plugins" {
                    one.as_object_mut().expect("an object").remove("version");
                }
                if list == "agents" {
                    one["tokens"] = upgraded.get(org, &format!("{path}/tokens")).await;
                    one["bindings"] = upgraded.get(org, &format!("{path}/bindings")).await;
                }
                shown.insert(format!("{org}{path}"), one);
            }
        }
    }
    insta::assert_snapshot!(serde_json::to_string_pretty(&shown).expect("JSON"));
    upgraded.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn agents_of_a_store_of_version_0_1_0_send_the_credentials_that_it_holds() {
    let mut upgraded = Upgraded::start().await;

    let sent = upgraded.sent("kwa_upgrade-agent-token-0123456789", "GET /orders").await;
    assert_eq!(sent.all("x-api-key"), ["upgrade-api-key-0123456789"]);
    assert_eq!((sent.one("x-tenant"), sent.one("user-agent")), (Some("42"), Some("acme/1.0")));
    let sent = upgraded.sent("kwa_upgrade-bobs-token-0123456789", "GET /orders").await;
    assert_eq!(sent.all("authorization"), ["Bearer upgrade-bearer-0123456789"]);
    let sent = upgraded.sent("kwa_upgrade-plugged-token-0123456789", "GET /orders/7").await;
    let pair = BASE64_STANDARD.encode("ada:upgrade-password-0123456789");
    assert_eq!(sent.all("authorization"), [format!("Basic {pair}")]);
    let sent = upgraded.sent("kwa_upgrade-filed-token-0123456789", "GET /orders").await;
    assert_eq!(sent.all("x-api-key"), ["upgrade-filed-key-0123456789"]);

    upgraded.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_secret_that_version_0_1_0_rotated_is_in_force_and_can_be_rolled_back() {
    let mut upgraded = Upgraded::start().await;
    let token = "kwa_upgrade-rotating-token-0123456789";
    let sent = upgraded.sent(token, "GET /orders").await;
    assert_eq!(sent.all("x-api-key"), ["upgrade-new-key-0123456789"]);
    upgraded.gateway.api("POST", "/connections/rotated/rotate/rollback", "").await.is(200);
    let sent = upgraded.sent(token, "GET /orders").await;
    assert_eq!(sent.all("x-api-key"), ["upgrade-old-key-0123456789"]);
    upgraded.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refresh_token_and_an_app_of_version_0_1_0_give_an_access_token() {
    let mut upgraded = Upgraded::start().await;
    let sent = upgraded.sent("kwa_upgrade-consenting-token-0123456789", "GET /orders").await;
    assert_eq!(sent.all("authorization"), [format!("Bearer {ACCESS}")]);
    let received = upgraded.origin.received();
    let asked: Vec<_> =
        received.iter().filter(|it| it.head.one("host") == Some(AUTH_HOST)).collect();
    let [asked] = asked[..] else { panic!("asked {} times", asked.len()) };
    let client = BASE64_STANDARD.encode("upgrade-client:upgrade-client-secret-0123456789");
    assert_eq!(asked.head.all("authorization"), [format!("Basic {client}")]);
    let form = asked.text();
    for part in ["grant_type=refresh_token", "refresh_token=upgrade-refresh-0123456789"] {
        assert!(form.contains(part), "{part}");
    }
    upgraded.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_person_and_a_webhook_of_version_0_1_0_keep_their_token_and_key() {
    let mut upgraded = Upgraded::start().await;
    let fields = format!("Authorization: Bearer {}\r\n", upgraded.personal.text);
    upgraded.gateway.api_with(&fields, ("GET", "/users/ada"), "").await.is(200);
    let wrong = "Authorization: Bearer kwp_0123456789abcdefghij0123456789abcdef\r\n";
    upgraded.gateway.api_with(wrong, ("GET", "/users/ada"), "").await.is(401);
    upgraded.gateway.api("POST", "/webhooks/ops/test", "").await.is(200);
    let event = upgraded.hooks.event(&Canary::of(SIGNING_KEY.to_owned())).await;
    assert_eq!(event.kind, "webhook.test");
    upgraded.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_of_version_0_1_0_does_not_open_with_another_master_key() {
    let other = |data: &Path| {
        let key = format!("{}\n", "0123456789abcdef".repeat(4));
        fs::write(data.join("master.key"), key).expect("ours");
    };
    let refused = Upgraded::try_start(other).await.err().expect("it is refused");
    assert!(refused.contains("the store was sealed with another master key"), "{refused}");
}

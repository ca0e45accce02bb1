//! SDKs that refuse a key of the wrong form: they take the placeholders of `keyward run`, and services get the live keys.

use std::process::Command;

use base64::Engine;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};

use crate::api::http;
use crate::served::{Program, Service, Takes, served};
use crate::stage::{installed, run, said};
use test_support::canary::Canary;
use test_support::install::Install;
use test_support::*;

const ACCOUNT: &str = "AC0123456789abcdef0123456789abcdef";

const HOSTS: [&str; 7] = [
    "api.twilio.com",
    "api.telegram.org",
    "api.sendgrid.com",
    "api.mapbox.com",
    "blog.acme.test",
    "news.acme.test",
    "acme.blob.core.windows.net",
];

/// A connection whose live key is of the form that its SDK checks.
struct Checked {
    name: &'static str,
    provider: &'static str,
    auth: &'static str,
    variables: &'static str,
    /// The field with the live key.
    field: &'static str,
    /// The live key around random letters.
    key: fn(&str) -> String,
}

const CONNECTIONS: [Checked; 7] = [
    Checked {
        name: "twilio",
        provider: "twilio",
        auth: "auth_token",
        variables: "",
        field: "auth_token",
        key: str::to_owned,
    },
    Checked {
        name: "telegram",
        provider: "telegram-bot",
        auth: "token",
        variables: "",
        field: "api_key",
        key: |text| format!("123456789:{text}"),
    },
    Checked {
        name: "sendgrid",
        provider: "sendgrid",
        auth: "api_key",
        variables: "",
        field: "api_key",
        key: |text| format!("SG.{text}"),
    },
    Checked {
        name: "mapbox",
        provider: "mapbox",
        auth: "api_key",
        variables: "",
        field: "api_key",
        key: |text| format!("sk.eyJ1IjoiYSJ9.{text}"),
    },
    Checked {
        name: "admin",
        provider: "ghost",
        auth: "admin_key",
        variables: "host: blog.acme.test",
        field: "admin_key",
        key: |text| format!("{}:{text}{text}", &text[..24]),
    },
    Checked {
        name: "content",
        provider: "ghost",
        auth: "content_key",
        variables: "host: news.acme.test",
        field: "api_key",
        key: |text| text[..26].to_owned(),
    },
    Checked {
        name: "photos",
        provider: "azure-blob",
        auth: "sas",
        variables: "account: acme",
        field: "sas_token",
        key: |text| format!("sv=2024-11-04&ss=b&sp=r&sig={text}"),
    },
];

/// What each service answers, in the form that its SDK reads.
fn answer(request: &Message) -> Vec<u8> {
    let json = |body: &str| http("200 OK", "application/json", body);
    match request.head.one("host").unwrap_or_default() {
        "api.twilio.com" => json(r#"{"friendly_name":"fine"}"#),
        "api.telegram.org" => {
            json(r#"{"ok":true,"result":{"id":1,"is_bot":true,"first_name":"fine"}}"#)
        }
        "api.sendgrid.com" => http("202 Accepted", "text/plain", ""),
        "api.mapbox.com" => json(r#"{"features":[{"place_name":"fine"}]}"#),
        "acme.blob.core.windows.net" => {
            http("206 Partial Content", "text/plain\r\nContent-Range: bytes 0-4/5", "hello")
        }
        "blog.acme.test" => json(r#"{"site":{"title":"fine"}}"#),
        _ => json(r#"{"settings":{"title":"fine"},"meta":{}}"#),
    }
}

/// The services, and an agent `ci` that is bound to all of them.
struct Desk {
    install: Install,
    origin: Origin,
    /// The live keys, in the order of the connections.
    keys: Vec<String>,
    secrets: Vec<Canary>,
    /// What the configuration reads.
    environment: Vec<(String, String)>,
}

impl Desk {
    async fn new() -> Self {
        let origin = Origin::answering_as(&HOSTS, answer);
        let mut plan = Plan::api_key().no_agents();
        for host in HOSTS {
            plan = plan.resolve(&format!("{host}: \"{}\"", origin.addr));
        }
        let (mut keys, mut secrets, mut environment) = (Vec::new(), Vec::new(), Vec::new());
        for Checked { name, provider, auth, variables, field, key } in CONNECTIONS {
            let secret = Canary::new("");
            let key = key(&secret.text);
            let variable = format!("LIVE_{}", name.to_uppercase());
            let live = Canary::of(key.clone());
            environment.push((variable.clone(), key.clone()));
            let account = match name {
                "twilio" => format!(", account_sid: {{ command: [echo, {ACCOUNT}] }}"),
                _ => String::new(),
            };
            plan = plan.connection(&format!(
                "{{ name: {name}, provider: {provider}, auth: {auth}, variables: {{ {variables} }}, \
                 fields: {{ {field}: {{ env: {variable} }}{account} }} }}"
            ));
            keys.push(key);
            secrets.push(live);
        }
        let names: Vec<&str> = CONNECTIONS.iter().map(|connection| connection.name).collect();
        let plan = plan.agent("ci", &names.join(", "));
        let install = Install::new(&plan, &origin);
        Self { install, origin, keys, secrets, environment }
    }

    async fn is_served(&self, mut command: Command) {
        command.envs(self.environment.iter().cloned());
        let output = run(command).await;
        let said = said(&output);
        let received = self.origin.received();
        assert!(output.status.success() && said.contains("answer: fine"), "{said} {received:#?}");
        let bytes = self.origin.bytes();
        assert!(!String::from_utf8_lossy(&bytes).contains("kwph"), "a placeholder arrived");
        for secret in &self.secrets {
            secret.assert_absent("what the program said", said.as_bytes());
        }
    }

    /// The one request to a host.
    fn request(&self, host: &str) -> Message {
        let mut received = self.origin.received();
        received.retain(|request| request.head.one("host") == Some(host));
        assert_eq!(received.len(), 1, "{host}: {received:#?}");
        received.remove(0)
    }

    fn assert_telegram(&self) {
        assert_eq!(
            self.request("api.telegram.org").head.target(),
            format!("/bot{}/getMe", self.keys[1])
        );
    }
}

#[tokio::test]
async fn sdks_in_node_accept_their_placeholders_and_services_get_the_live_keys() {
    let desk = Desk::new().await;
    let folder = desk.install.folder();
    std::os::unix::fs::symlink(installed("real-node/node_modules"), folder.join("node_modules"))
        .expect("a link");
    let program = folder.join("validating.mjs");
    std::fs::write(&program, include_str!("programs/placeholders/validating.mjs")).expect("a file");
    let mut command = desk.install.keyward(&["run", "--agent", "ci", "--"]);
    command.arg(installed("real-node/node_modules/node24/bin/node")).arg(program);
    desk.is_served(command).await;

    let authorization = |host: &str| {
        let request = desk.request(host);
        request.head.one("authorization").expect("a credential").to_owned()
    };
    let pair = BASE64_STANDARD.encode(format!("{ACCOUNT}:{}", desk.keys[0]));
    assert_eq!(authorization("api.twilio.com"), format!("Basic {pair}"));
    desk.assert_telegram();
    assert_eq!(authorization("api.sendgrid.com"), format!("Bearer {}", desk.keys[2]));
    let geocoded = desk.request("api.mapbox.com").head.target().to_owned();
    assert_eq!(geocoded.matches("access_token=").count(), 1, "{geocoded}");
    assert!(geocoded.contains(&format!("access_token={}", desk.keys[3])), "{geocoded}");
    // The token of the SDK names its own key; the one that arrives names the owner's.
    let token = authorization("blog.acme.test");
    let head = token.strip_prefix("Ghost ").expect("its scheme").split('.').next().expect("a head");
    let head = BASE64_URL_SAFE_NO_PAD.decode(head).expect("base64");
    let head: serde_json::Value = serde_json::from_slice(&head).expect("JSON");
    assert_eq!(Some(head["kid"].as_str().expect("a key id")), desk.keys[4].split(':').next());
    let target = desk.request("news.acme.test").head.target().to_owned();
    assert_eq!(target.matches("key=").count(), 1, "{target}");
    assert!(target.contains(&format!("key={}", desk.keys[5])), "{target}");
}

#[tokio::test]
async fn sdks_in_python_accept_their_placeholders_and_services_get_the_live_keys() {
    let desk = Desk::new().await;
    let mut command = desk.install.keyward(&["run", "--agent", "ci", "--"]);
    let program =
        concat!(env!("CARGO_MANIFEST_DIR"), "/tests/real/programs/placeholders/validating.py");
    command.arg(installed("real-venv/bin/python")).arg(program);
    desk.is_served(command).await;
    desk.assert_telegram();
    let target = desk.request("acme.blob.core.windows.net").head.target().to_owned();
    assert_eq!(target, format!("/photos/a.txt?{}", desk.keys[6]));
}

const SUPABASE: Service = Service {
    answer: |_| http("200 OK", "text/plain", "answer: fine\n"),
    ..Service::known(
        "supabase-management",
        "{ api_key: { env: CANARY } }",
        &["api.supabase.com"],
        Takes::Field("authorization", "Bearer "),
    )
};

/// The pattern is that of Supabase's command line, which sends nothing with another token.
const SUPABASE_ASKS: &str = "
echo \"$SUPABASE_ACCESS_TOKEN\" | grep -Eqx 'sbp_(oauth_|v0_)?[a-f0-9]{40}'
curl -sS --fail -H \"Authorization: Bearer $SUPABASE_ACCESS_TOKEN\" https://api.supabase.com/v1/projects";

served! {
    a_placeholder_of_supabase_has_only_hexadecimal_digits_and_the_live_token_arrives:
        Program::shell(SUPABASE_ASKS), SUPABASE, ["GET /v1/projects"];
}

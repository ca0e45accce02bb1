//! Signatures of requests and tokens by the catalogue's own files, verified by the libraries that users of the services
//! have: the SDK of Azure, oauthlib, PyJWT and cryptography; those of exchanges by what their documents say.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_RSA_SHA256};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::stage::{installed, run, said};
use test_support::canary::Canary;
use test_support::install::Install;
use test_support::pki::pki;
use test_support::process::OwnChild;
use test_support::*;

const HOSTS: [&str; 11] = [
    "account.blob.core.windows.net",
    "api.x.com",
    "1234567-sb1.suitetalk.api.netsuite.com",
    "api.binance.com",
    "myorg-account1.snowflakecomputing.com",
    "api.appstoreconnect.apple.com",
    "blog.acme.test",
    "api.coinbase.com",
    "api.bybit.com",
    "www.okx.com",
    "api.exchange.coinbase.com",
];

/// The connections: name, provider, method, variables, fields that are not secret.
const CONNECTIONS: [(&str, &str, &str, &str, &str); 11] = [
    ("azure", "azure-blob", "shared_key", "account: account", ""),
    ("x", "x", "oauth1", "", ""),
    ("netsuite", "netsuite", "token", "account: 1234567-sb1", "realm: 1234567_SB1"),
    ("binance", "binance", "api_key", "", ""),
    ("snowflake", "snowflake", "key_pair", "account: myorg-account1", "user: robot"),
    ("apple", "app-store-connect", "team_key", "", "issuer_id: 57246542-96fe, key_id: KEY1"),
    ("ghost", "ghost", "admin_key", "host: blog.acme.test", ""),
    ("coinbase", "coinbase", "api_key", "", "key_name: organizations/1/apiKeys/2"),
    ("bybit", "bybit", "api_key", "", ""),
    ("okx", "okx", "api_key", "", ""),
    ("exchange", "coinbase-exchange", "api_key", "", ""),
];

/// The live keys: connection and field to value.
fn keys() -> BTreeMap<(&'static str, &'static str), String> {
    let pem = |kind| KeyPair::generate_for(kind).expect("a key").serialize_pem();
    let random = || Canary::new("").text;
    let mut keys = BTreeMap::from([
        (("azure", "account_key"), BASE64_STANDARD.encode(random() + &random())),
        (("binance", "api_key"), random()),
        (("binance", "secret_key"), random()),
        (("snowflake", "private_key"), pem(&PKCS_RSA_SHA256)),
        (("apple", "private_key"), pem(&PKCS_ECDSA_P256_SHA256)),
        (("ghost", "admin_key"), format!("{}:{}", &random()[..24], random() + &random())),
        (("coinbase", "private_key"), pem(&PKCS_ECDSA_P256_SHA256)),
        (("bybit", "api_key"), random()),
        (("bybit", "api_secret"), random()),
        (("okx", "api_key"), random()),
        (("okx", "secret_key"), random()),
        (("okx", "passphrase"), random()),
        (("exchange", "api_key"), random()),
        (("exchange", "api_secret"), BASE64_STANDARD.encode(random() + &random())),
        (("exchange", "passphrase"), random()),
    ]);
    for service in ["x", "netsuite"] {
        for field in ["consumer_key", "consumer_secret", "token", "token_secret"] {
            keys.insert((service, field), random());
        }
    }
    keys
}

/// What the server verifies with.
fn verified_with(keys: &BTreeMap<(&'static str, &'static str), String>) -> Value {
    let mut all = json!({});
    for ((service, field), value) in keys {
        match *service {
            "x" | "netsuite" | "bybit" | "okx" | "exchange" => {
                all[service][field] = value.as_str().into()
            }
            _ if *field == "api_key" => {}
            service => all[service] = value.as_str().into(),
        }
    }
    all
}

struct Services {
    _server: OwnChild,
    install: Install,
    folder: TempDir,
    secrets: Vec<Canary>,
    /// What the configuration reads.
    environment: Vec<(String, String)>,
    _origin: Origin,
}

impl Services {
    async fn new() -> Self {
        let folder = TempDir::new().expect("a directory");
        let keys = keys();
        let (certificate, key) = pki().pem(&HOSTS);
        for (name, text) in [
            ("certificate.pem", certificate),
            ("key.pem", key),
            ("keys.json", verified_with(&keys).to_string()),
        ] {
            std::fs::write(folder.path().join(name), text).expect("a file");
        }
        let mut server = Command::new(installed("real-venv/bin/python"));
        server.arg(program("server.py")).args(["certificate.pem", "key.pem", "log", "keys.json"]);
        let server = server.current_dir(folder.path()).stdout(Stdio::piped()).spawn();
        let mut server = server.expect("`tests/run` installs Python");
        let mut port = String::new();
        let out = server.stdout.take().expect("piped");
        BufReader::new(out).read_line(&mut port).expect("the server says its port");
        let port = port.trim();
        let mut environment: Vec<(String, String)> = Vec::new();
        let mut plan = Plan::api_key().no_agents().allow(&format!("127.0.0.1/32:{port}"));
        for host in HOSTS {
            plan = plan.resolve(&format!("{host}: \"127.0.0.1:{port}\""));
        }
        for (name, provider, auth, variables, open) in CONNECTIONS {
            let mut fields: Vec<String> = Vec::new();
            for ((_, field), value) in keys.iter().filter(|((of, _), _)| *of == name) {
                let variable = format!("LIVE_{name}_{field}").to_uppercase();
                fields.push(format!("{field}: {{ env: {variable} }}"));
                environment.push((variable, value.to_owned()));
            }
            for pair in open.split(", ").filter(|pair| !pair.is_empty()) {
                let (field, value) = pair.split_once(": ").expect("a field");
                let variable = format!("LIVE_{name}_{field}").to_uppercase();
                fields.push(format!("{field}: {{ env: {variable} }}"));
                environment.push((variable, value.to_owned()));
            }
            plan = plan.connection(&format!(
                "{{ name: {name}, provider: {provider}, auth: {auth}, variables: {{ {variables} }}, fields: {{ {} }} }}",
                fields.join(", ")
            ));
        }
        let names: Vec<&str> = CONNECTIONS.iter().map(|(name, ..)| *name).collect();
        let plan = plan.agent("ci", &names.join(", "));
        let origin = Origin::answering(|_: &Message| ok("nothing"));
        let secrets = keys.into_values().map(Canary::of).collect();
        let install = Install::new(&plan, &origin);
        Self {
            install,
            folder,
            _server: OwnChild::from(server),
            secrets,
            environment,
            _origin: origin,
        }
    }
}

fn program(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/real/programs/signatures").join(name)
}

#[tokio::test]
async fn libraries_verify_signatures_for_sdks_with_placeholders_and_programs_without() {
    let services = Services::new().await;
    let mut command = services.install.keyward(&["run", "--agent", "ci", "--"]);
    command.arg(installed("real-venv/bin/python")).arg(program("clients.py"));
    command.envs(services.environment.iter().cloned());
    let output = run(command).await;
    let said = said(&output);
    let log = std::fs::read_to_string(services.folder.path().join("log")).unwrap_or_default();
    assert!(output.status.success() && said.contains("answer: fine"), "{said}\n{log}");
    let seen: Vec<Value> =
        log.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert!(seen.iter().all(|request| request["verdict"] == "verified"), "{log}");
    for host in HOSTS {
        let of_host =
            |request: &&Value| request["request"].as_str().is_some_and(|text| text.contains(host));
        assert!(seen.iter().any(|request| of_host(&request)), "{host}: {log}");
    }
    assert!(!log.contains("kwph"), "a placeholder arrived: {log}");
    for secret in &services.secrets {
        secret.assert_absent("what the program said", said.as_bytes());
        secret.assert_absent_below(services.install.folder());
    }
}

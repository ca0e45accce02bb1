//! What a sound configuration means.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{is, read};
use crate::config::reference::parts;
use crate::config::{
    AuditTo, CaPaths, Certificate, Config, ListenAt, ListenSettings, ListenTls, Log, Otlp,
    PostgresTls, SecretSource, StoreChoice, VariableSource,
};
use keyward_base::host::Host;
use keyward_base::limits::Limits;
use keyward_rules::policy::DefaultAction;
use keyward_state::crypto::source::KeySource;
use keyward_state::observe::log::{Format, Level};
use keyward_state::observe::trail::Rotation;

const EXAMPLE: &str = include_str!("../../../../../config.example.yaml");

fn holds(source: &SecretSource, text: &str) -> bool {
    is(&source.load(&VariableSource::default(), &[]).unwrap(), text)
}

#[test]
fn an_empty_configuration_is_all_defaults() {
    for yaml in ["", "# nothing\n", "rules:\nlisten:\nlog: {}\n"] {
        let config = read(yaml, &[]);
        assert_eq!(config.listen, ListenSettings::default());
        assert_eq!(config.listen.proxy[0].to_string(), "127.0.0.1:8080");
        assert_eq!(config.public_url, "http://localhost:8081");
        assert_eq!(config.store, StoreChoice::Sled { path: "/data/store".into() });
        assert_eq!(config.master_keys, [KeySource::File("/data/master.key".into())]);
        assert!(config.default_master_key);
        let ca = CaPaths { cert: "/data/ca/ca.pem".into(), key: "/data/ca/ca.key".into() };
        assert_eq!(config.ca, ca);
        assert_eq!(config.default, DefaultAction::Deny);
        assert_eq!(config.limits, Limits::default());
        assert_eq!(config.log, Log::default());
        let audit = AuditTo {
            file: "/data/audit/audit.jsonl".into(),
            rotation: Rotation::default(),
            stdout: false,
        };
        assert_eq!(config.audit, audit);
        assert!(config.rules.is_empty() && config.agents.is_empty());
    }
}

#[test]
fn the_unchanged_example_is_accepted_and_shows_the_defaults() {
    let config = read(EXAMPLE, &[]);
    let none = read("", &[]);
    let doors = |config: &Config| (config.listen.proxy.clone(), config.listen.admin);
    assert_eq!(doors(&config), doors(&none));
    assert_eq!(config.public_url, none.public_url);
    assert_eq!(config.store, none.store);
    assert_eq!(config.master_keys, none.master_keys);
    assert_eq!(config.ca, none.ca);
    assert_eq!(config.default, none.default);
    assert_eq!(config.limits, none.limits);
    assert_eq!(config.oauth, none.oauth);
    assert_eq!(config.log, none.log);
    assert_eq!(config.audit, none.audit);
    let counts =
        [config.providers.len(), config.connections.len(), config.agents.len(), config.rules.len()];
    assert_eq!(counts, [1, 6, 2, 6]);
    assert_eq!(config.upstream.trust, [Path::new("/etc/keyward/extra-roots.pem")]);
}

/// The paragraph of the example with this key at the top.
fn paragraph(key: &str) -> &'static str {
    let begin = format!("{key}:");
    let mut paragraphs = EXAMPLE.split("\n\n");
    let found = paragraphs.find(|text| text.lines().any(|line| line.starts_with(&begin)));
    found.unwrap_or_else(|| panic!("the example has no `{key}`"))
}

/// Keys of lists may stand in any paragraph: another test looks for them.
#[test]
fn the_example_names_each_section_and_in_its_paragraph_each_of_its_keys() {
    for part in parts().into_iter().filter(|part| !part.path.contains("[]")) {
        for entry in part.entries {
            let text = paragraph(entry.path.split('.').next().unwrap());
            let key = format!("{}:", entry.name);
            let is_whole = |at: usize| {
                !text[..at].ends_with(|before: char| before.is_alphanumeric() || before == '_')
            };
            assert!(text.match_indices(&key).any(|(at, _)| is_whole(at)), "{}", entry.path);
        }
    }
}

#[test]
fn the_shared_store_of_the_example_is_accepted() {
    let (before, after) = EXAMPLE.split_once("  sled: { path: store }\n").unwrap();
    let (shared, after) = after.split_once("\n\n").unwrap();
    let shared = shared.replace("\n  # ", "\n  ");
    let StoreChoice::Postgres(choice) = read(&format!("{before}{shared}\n\n{after}"), &[]).store
    else {
        panic!("a shared store")
    };
    let short = "master_key: { env: K }\nstore: { postgres: { url: { env: DATABASE_URL } } }";
    assert_eq!(StoreChoice::Postgres(choice.clone()), read(short, &[]).store, "the defaults");
    assert_eq!(choice.url.variable(), Some("DATABASE_URL"));
    assert_eq!((choice.tls, choice.streams_max), (PostgresTls::Verify, 16));
}

/// The keys of the example that are comments are the defaults.
#[test]
fn the_otlp_section_of_the_example_is_accepted_and_shows_the_defaults() {
    let (before, after) = EXAMPLE.split_once("\n#   otlp:").unwrap();
    let (otlp, after) = after.split_once("\n\n").unwrap();
    let live = format!("{before}\n  otlp:{}\n\n{after}", otlp.replace("\n# ", "\n"));
    let told = read(&live, &[]).telemetry.expect("a collector");
    let short = read("telemetry: { otlp: { endpoint: 'https://collector.example:4318/' } }", &[]);
    let short = short.telemetry.expect("a collector");
    assert_eq!(told.endpoint, short.endpoint);
    assert_eq!(
        (told.traces, told.logs, told.propagate),
        (short.traces, short.logs, short.propagate)
    );
    assert_eq!((told.sample, told.timeout), (short.sample, short.timeout));
    assert_eq!(
        (told.schedule_delay, &told.service_name),
        (short.schedule_delay, &short.service_name)
    );
    let sizes = |it: &Otlp| (it.max_queue_size, it.max_export_batch_size);
    assert_eq!(sizes(&told), sizes(&short));
    assert_eq!((told.headers.len(), short.headers.len()), (1, 0));
    assert!(read("telemetry: {}", &[]).telemetry.is_none());
}

#[test]
fn relative_paths_of_inputs_start_at_the_file_and_of_state_at_the_data_directory() {
    let config = read(
        "
listen: { proxy: [0.0.0.0:0, 'unix:agents.sock', 'unix:/run/k.sock',
  { at: '[::1]:8443', tls: { names: [Keyward.test] } },
  { at: 127.0.0.1:8444, tls: { cert: c.pem, key: /k.pem } }] }
store: { sled: { path: db } }
master_key: [{ file: new.key }, { file: /old.key }, { env: OLDER }, { command: [./unseal, x] }]
ca: { cert: c.pem, key: k.pem }
audit: { file: a.jsonl, stdout: true, file_bytes_max: 4096, files_max: 2 }
upstream: { trust: [roots.pem, /abs.pem] }
agents: [{ name: a, token: { file: secrets/a } }, { name: b, token: { command: [pass, b] } }]
",
        &[],
    );
    let proxy: Vec<String> = config.listen.proxy.iter().map(ToString::to_string).collect();
    let plain = ["0.0.0.0:0", "unix:/data/agents.sock", "unix:/run/k.sock"];
    assert_eq!(proxy[..3], plain);
    assert_eq!(proxy[3..], ["https://[::1]:8443", "https://127.0.0.1:8444"]);
    let by = |index: usize| match &config.listen.proxy[index] {
        ListenAt::Tls(ListenTls { by, .. }) => by,
        other => panic!("{other}"),
    };
    let names = ["localhost", "keyward.test"].map(|name| Host::parse(name).unwrap());
    assert_eq!(*by(3), Certificate::Own(names.into()));
    let (cert, key) = ("/etc/keyward/c.pem".into(), "/k.pem".into());
    assert_eq!(*by(4), Certificate::Files { cert, key });
    assert!(config.files().iter().any(|file| file == Path::new("/k.pem")), "it is watched");
    assert_eq!(config.listen.proxy[2], ListenAt::Unix("/run/k.sock".into()));
    assert_eq!(config.store, StoreChoice::Sled { path: "/data/db".into() });
    let keys = [
        KeySource::File("/data/new.key".into()),
        KeySource::File("/old.key".into()),
        KeySource::Env("OLDER".into()),
        KeySource::Command(vec!["/etc/keyward/./unseal".into(), "x".into()]),
    ];
    assert_eq!(config.master_keys, keys);
    assert!(!config.default_master_key);
    assert_eq!(config.ca, CaPaths { cert: "/data/c.pem".into(), key: "/data/k.pem".into() });
    let rotation = Rotation { file_bytes_max: 4096, files_max: 2 };
    assert_eq!(config.audit, AuditTo { file: "/data/a.jsonl".into(), rotation, stdout: true });
    assert_eq!(config.upstream.trust, ["/etc/keyward/roots.pem", "/abs.pem"].map(PathBuf::from));
    let token = |index: usize| config.agents[index].with.token.as_ref();
    assert!(
        matches!(token(0), Some(SecretSource::File(path)) if *path == Path::new("/etc/keyward/secrets/a"))
    );
    assert!(matches!(token(1), Some(SecretSource::Command(words)) if *words == ["pass", "b"]));
}

#[test]
fn certificates_of_listeners_for_hooks_and_databases_are_watched() {
    let config = read(
        "
listen:
  hooks: { at: '127.0.0.1:8443', tls: { cert: hooks.pem, key: /hooks.key } }
  databases: [{ at: '127.0.0.1:6432', tls: { cert: databases.pem, key: /databases.key } }]
",
        &[],
    );
    let files = config.files();
    for file in
        ["/etc/keyward/hooks.pem", "/hooks.key", "/etc/keyward/databases.pem", "/databases.key"]
    {
        assert!(files.contains(&PathBuf::from(file)), "{file} of {files:?}");
    }
}

#[test]
fn the_public_url_follows_the_admin_port_and_loses_its_last_slash() {
    assert_eq!(read("listen: { admin: 127.0.0.1:9 }", &[]).public_url, "http://localhost:9");
    let config = read("public_url: https://k.example.com/keyward/", &[]);
    assert_eq!(config.public_url, "https://k.example.com/keyward");
}

#[test]
fn values_of_store_default_upstream_limits_and_log_are_read() {
    let config = read(
        "
store: { memory: {} }
default: tunnel
upstream:
  allow_private: ['127.0.0.0/8:8000-9000']
  resolve: { API.acme.test: 127.0.0.1:9443, 'api.acme.test:8443': '[::1]:1' }
limits: { head_timeout: 0.5s, streams_max: 3, drain_timeout: 0s }
log: { format: json, level: debug }
",
        &[],
    );
    assert_eq!(config.store, StoreChoice::Memory);
    assert_eq!(config.default, DefaultAction::Tunnel);
    assert_eq!(config.upstream.allow_private.len(), 1);
    let resolve: Vec<String> = config
        .upstream
        .resolve
        .iter()
        .map(|(host, port, addr)| format!("{host} {port:?} {addr}"))
        .collect();
    assert_eq!(resolve, ["api.acme.test None 127.0.0.1:9443", "api.acme.test Some(8443) [::1]:1"]);
    assert_eq!(config.limits.head_timeout, Duration::from_millis(500));
    assert_eq!((config.limits.streams_max, config.limits.drain_timeout), (3, Duration::ZERO));
    assert_eq!(config.log, Log { format: Format::Json, level: Level::Debug });
}

#[test]
fn fields_that_are_not_secret_may_be_text() {
    let config = read(
        "
providers:
  - id: acme
    name: Acme
    hosts: [api.acme.test]
    auth: [{ id: login, kind: basic }]
connections:
  - name: acme
    provider: acme
    fields: { username: bot, password: { env: PASSWORD } }
",
        &[("PASSWORD", "hunter2")],
    );
    let fields = &config.connections[0].with.sources;
    assert!(holds(&fields["username"], "bot"));
    let password = fields["password"].load(&config.environment, &[]).unwrap();
    assert!(is(&password, "hunter2"));
    assert_eq!(fields["password"].variable(), Some("PASSWORD"));
    assert!(config.catalogue().get("acme").is_some() && config.catalogue().get("github").is_some());
}

#[test]
fn insecure_inline_permits_secrets_as_text() {
    let config = read(
        "
insecure_inline: true
agents: [{ name: a, token: kwa-for-tests-0123456789 }]
connections: [{ name: gh, provider: github, fields: { token: ghp_test } }]
",
        &[],
    );
    assert!(holds(config.agents[0].with.token.as_ref().unwrap(), "kwa-for-tests-0123456789"));
    assert!(holds(&config.connections[0].with.sources["token"], "ghp_test"));
    assert!(!format!("{config:?}").contains("ghp_test"));
}

#[test]
fn agents_and_rules_are_read_with_their_file_and_line() {
    let config = read(
        "
agents:
  - { name: ci, labels: { team: build }, use: [in-the-store], org: default }
rules:
  - { name: r, agents: [ci], hosts: [a.test], methods: [get], paths: [/x/**], use: in-the-store }
  - action: deny
    allow_plaintext: true
",
        &[],
    );
    assert_eq!(config.agents[0].place, "/etc/keyward/keyward.yaml:3: agents[0]");
    assert_eq!(config.agents[0].with.uses[0].connection, "in-the-store");
    let rule = &config.rules[0];
    assert_eq!(rule.place, "/etc/keyward/keyward.yaml:5: rules[0]");
    assert_eq!((rule.agents.as_deref(), rule.action), (Some(&["ci".to_owned()][..]), None));
    assert_eq!(
        (rule.paths[0].as_str(), rule.use_connection.as_deref()),
        ("/x/**", Some("in-the-store"))
    );
    assert!(config.rules[1].allow_plaintext && config.rules[1].agents.is_none());
}

#[test]
fn rules_of_two_organisations_may_have_the_same_name() {
    let config = read(
        "
rules:
  - { name: no-delete, org: red, action: deny, methods: [DELETE] }
  - { name: no-delete, org: blue, action: deny, methods: [DELETE] }
",
        &[],
    );
    assert_ne!(config.rules[0].org, config.rules[1].org);
}

#[test]
fn providers_that_are_defined_as_before_are_kept() {
    let yaml = |host: &str| {
        let auth = "auth: [{ id: login, kind: basic }]";
        format!(
            "providers:\n  - {{ id: same, name: A, hosts: [a.test], {auth} }}\n  \
             - {{ id: other, name: B, hosts: [{host}], {auth} }}\n"
        )
    };
    let before = read(&yaml("b.test"), &[]);
    let mut now = read(&yaml("c.test"), &[]);
    now.keep_providers_of(&before);
    let is_kept = |id: &str| {
        let [before, now] = [&before, &now].map(|config| config.catalogue().get(id).cloned());
        std::sync::Arc::ptr_eq(&before.unwrap(), &now.unwrap())
    };
    assert!(is_kept("same") && !is_kept("other"));
}

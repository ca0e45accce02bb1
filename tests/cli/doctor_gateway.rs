//! `keyward doctor` beside a running gateway: what the gateway refuses, what it could not open, and what its rules grant.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;

use tokio::io::AsyncWriteExt;

use crate::doctor::Told;
use test_support::install::Install;
use test_support::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_status_request_is_reported_with_the_token_as_its_cause() {
    let (install, _origin) = Install::simple();
    let _serving = install.serve();
    let told = Told::by(&install, &[("KEYWARD_TOKEN", "kwp_of-another-gateway")]);
    let (message, hint) = told.failed("gateway");
    assert!(message.starts_with("a gateway runs, but its status cannot be read: "), "{message}");
    assert!(hint.starts_with("KEYWARD_TOKEN holds this token"), "{hint}");
}

/// Without the options of the gateway, its data directory would be judged by the default configuration.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn doctor_reads_the_configuration_file_of_the_running_gateway() {
    let (install, _origin) = Install::simple();
    let (config, key) = (install.folder().join("keyward.yaml"), install.folder().join("own.key"));
    fs::write(&key, format!("{}\n", "0123456789abcdef".repeat(4))).expect("a file");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).expect("ours");
    let text = fs::read_to_string(&config).expect("it was made");
    let more = format!("master_key: {{ file: {} }}\n", key.display());
    fs::write(&config, format!("{text}{more}")).expect("a file");
    let _serving = install.serve();
    let told = || {
        let mut command = install.keyward(&["doctor", "--json"]);
        command.env_remove("KEYWARD_CONFIG");
        Told::of(command, &[])
    };
    let found = told();
    assert_eq!(found.code, Some(0), "{:#?}", found.checks);
    assert_eq!(found.the("key", "ok").0, "the master key is readable, and private");
    fs::rename(&config, install.folder().join("elsewhere.yaml")).expect("it was made");
    let found = told();
    let says = format!("the gateway runs with {}, which cannot be read: ", config.display());
    assert!(found.warned("config").0.starts_with(&says), "{:#?}", found.checks);
    assert!(!found.checks.iter().any(|check| check["id"] == "key"), "{:#?}", found.checks);
}

/// The next start could not open the store, and only the running gateway still has the key.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_file_that_was_removed_or_replaced_while_the_gateway_runs_is_reported() {
    let (install, _origin) = Install::simple();
    let _serving = install.serve();
    let key = install.data().join("master.key");
    fs::remove_file(&key).expect("it was made");
    let told = Told::by(&install, &[]);
    let (message, hint) = told.failed("key");
    assert!(message.ends_with("master.key does not exist"), "{message}");
    assert!(hint.starts_with("do not stop the gateway: "), "{hint}");
    fs::write(&key, format!("{}\n", "0123456789abcdef".repeat(4))).expect("a file");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).expect("ours");
    let told = Told::by(&install, &[]);
    let (message, hint) = told.failed("key");
    assert!(message.contains("no longer has the master key that the gateway uses"), "{message}");
    assert!(hint.starts_with("do not stop the gateway: "), "{hint}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_listener_that_is_not_open_is_reported() {
    let (install, _origin) = Install::simple();
    let free = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let at = free.local_addr().expect("an address");
    drop(free);
    let words = ["database-listener", "add", "local", "--at", &at.to_string()];
    let added = install.keyward(&words).output().expect("it runs");
    assert!(added.status.success(), "{added:?}");
    let _other = TcpListener::bind(at).expect("no gateway runs");
    let _serving = install.serve();
    install.until("it is known", || !install.status()["databases_failed"].is_null());
    let told = Told::by(&install, &[]);
    let (message, hint) = told.failed("listen");
    assert_eq!(message, format!("database listener local is not open: `{at}` is in use"));
    assert!(hint.contains("`keyward database-listener set local`"), "{hint}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_whose_rule_uses_a_connection_needs_no_binding() {
    let origin = Origin::saying("fine");
    let rule = format!("{{ name: grant, agents: [ci], hosts: [{HOST}], use: acme }}");
    let plan = Plan::api_key().no_agents().agent("ci", "").rule(&rule);
    let install = Install::new(&plan, &origin);
    let _serving = install.serve();
    let told = Told::by(&install, &[]);
    assert_eq!(told.the("agents", "ok").0, "every agent has a connection (1)");
    let says = "every connection works and has an agent (1)";
    assert_eq!(told.the("connections", "ok").0, says);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_that_a_rule_uses_over_cleartext_needs_no_certificate() {
    let origin = Origin::saying("fine");
    let clear = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let at = clear.local_addr().expect("an address");
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = clear.accept().await {
            // The client may be gone.
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
        }
    });
    let host = format!("nas.test:{}", at.port());
    let rule = format!(
        "{{ name: lan, agents: [ci], hosts: [\"{host}\"], use: acme, allow_plaintext: true }}"
    );
    let plan = |rule: Option<&str>| {
        let plan = Plan::api_key().hosts(&format!("\"{host}\"")).allow(&at.to_string());
        let plan = plan.resolve(&format!("\"{host}\": \"{at}\""));
        rule.into_iter().fold(plan, Plan::rule)
    };
    let install = Install::new(&plan(Some(&rule)), &origin);
    let serving = install.serve();
    let told = Told::by(&install, &[]);
    let says = "it speaks no TLS, and a rule allows cleartext there: no certificate was checked";
    let (message, _) = told.the("upstream", "ok");
    assert_eq!(message, format!("{host} answers: {says} (checked by the gateway)"));
    drop(serving);
    let install = Install::new(&plan(None), &origin);
    let _serving = install.serve();
    let told = Told::by(&install, &[]);
    assert!(told.failed("upstream").0.contains(&host), "{:?}", told.checks);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_audit_log_on_a_full_disk_is_reported_as_a_fault_of_the_gateway() {
    let origin = Origin::saying("fine");
    // Each write to it fails with ENOSPC.
    let plan = Plan::api_key().top("audit: { file: /dev/full }");
    let install = Install::new(&plan, &origin);
    let _serving = install.serve();
    let sent = install.keyward(&["agent", "add", "second"]).output().expect("it runs");
    assert!(sent.status.success() || !sent.stderr.is_empty(), "{sent:?}");
    install.until("the log fails", || !install.status()["faults"].is_null());
    let fault = &install.status()["faults"][0];
    assert_eq!(fault["part"], "audit", "{fault}");
    let told = Told::by(&install, &[]);
    let (message, hint) = told.failed("gateway");
    assert_eq!(message, "the audit log cannot be written: requests and changes are refused");
    assert!(hint.contains("disk has room"), "{hint}");
    let status = install.keyward(&["status"]).output().expect("it runs");
    let status = String::from_utf8_lossy(&status.stdout).into_owned();
    assert!(status.contains("fails         the audit log cannot be written"), "{status}");
    // It refuses each request: a load balancer must use another gateway. A restart would not help.
    let health = |more: &[&str]| install.keyward(&[&["health"], more].concat()).output();
    let (ready, alive) = (health(&[]).expect("it runs"), health(&["--alive"]).expect("it runs"));
    let said = String::from_utf8_lossy(&ready.stderr);
    assert_eq!(
        (ready.status.code(), &*said),
        (Some(1), "error: the gateway is not ready: audit_unavailable\n")
    );
    assert_eq!((alive.status.code(), &*alive.stdout), (Some(0), &b"ok\n"[..]));
}

//! Why a token cannot be refreshed is named where an owner or an operator looks: by the API, the command line,
//! the log and the metrics.

use std::net::SocketAddr;

use serde_json::{Value, json};

use test_support::canary;
use test_support::process::{Served, reserved_address};
use test_support::tokens::method;
use test_support::*;

/// A connection whose authorization server is at this address, which may be dialled or not.
async fn lab(addr: SocketAddr, allowed: bool, oauth: &str) -> Lab {
    let plan = Plan::new(&method(""), "{ refresh_token: { env: REFRESH } }")
        .variable("REFRESH", "rt-of-a-server-that-is-away")
        .resolve(&format!("auth.acme.test: \"{addr}\""))
        .top(&format!("oauth: {{ {oauth} }}"));
    let plan = if allowed { plan.allow(&addr.to_string()) } else { plan };
    plan.start(Origin::saying("fine")).await
}

/// Time enough on a busy machine.
const LONG: &str = "connect_timeout: 30s, backoff_first: 60s";

/// What is shown once a refresh has failed.
async fn failing(lab: &Lab) -> Value {
    let told = lab.ask("GET /a").await;
    assert_eq!(told.head.one("keyward-error"), Some("refresh_unavailable"), "{}", told.text());
    let shown = lab.gateway.api("GET", "/connections/acme", "").await.json();
    assert_eq!(shown["state"], "active", "{shown:#}");
    shown["token"]["failing"].clone()
}

/// A server with a certificate that no configured root stands behind, as a company's inspection has.
fn inspected() -> Origin {
    let key = rcgen::KeyPair::generate().expect("a key");
    let mut params =
        rcgen::CertificateParams::new(vec!["auth.acme.test".to_owned()]).expect("params");
    // Roots are found by their name: it is no other root's.
    params.distinguished_name.push(rcgen::DnType::CommonName, "Company TLS Inspection");
    let cert = params.self_signed(&key).expect("self-signed");
    let provider = std::sync::Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions");
    let key = rustls::pki_types::PrivateKeyDer::try_from(key.serialize_der()).expect("a key");
    let config = builder.with_no_client_auth().with_single_cert(vec![cert.der().clone()], key);
    let tls = Some(std::sync::Arc::new(config.expect("a configuration")));
    Origin::with_tls(
        tls,
        |mut stream: Stream| async move { while stream.request().await.is_some() {} },
    )
}

/// oauth 9.cause: nobody there, an address that is refused, another certificate, silence.
#[tokio::test]
async fn each_failure_to_reach_a_token_endpoint_has_its_own_cause_hint_and_metric() {
    let silent = Origin::with_tls(None, |mut stream: Stream| async move { stream.hold().await });
    let inspected = inspected();
    let (away, other) = (
        reserved_address(),
        Origin::named(&["impostor.test"], |mut stream: Stream| async move {
            while stream.request().await.is_some() {}
        }),
    );
    let short = "connect_timeout: 0.3s";
    for (addr, oauth, cause, words) in [
        (away, LONG, "connection_refused", "cannot connect to auth.acme.test"),
        (silent.addr, LONG, "address_refused", "only addresses that are refused"),
        (silent.addr, short, "connect_timeout", "took too long"),
        (inspected.addr, LONG, "tls_unknown_issuer", "from an unknown issuer"),
        (other.addr, LONG, "tls_certificate", "is for another name"),
    ] {
        let lab = lab(addr, cause != "address_refused", oauth).await;
        let failing = failing(&lab).await;
        assert_eq!(failing["cause"], cause, "{failing:#}");
        assert_eq!(failing["code"], Value::Null, "no server said a word");
        let message = failing["message"].as_str().expect("words");
        assert!(message.contains(words), "{cause}: {message}");
        assert!(failing["hint"].is_string(), "{cause}: a remedy");
        let metrics = lab.gateway.metrics().await;
        let line = format!("keyward_token_refresh_failures_total{{cause=\"{cause}\"}} 1");
        assert!(metrics.contains(&line), "{cause}: {metrics}");
        let shown = lab.gateway.api("GET", "/connections/acme", "").await.json();
        let id = shown["id"].as_str().expect("an id").to_owned();
        let log = canary::log().lock().expect("not poisoned").clone();
        let log = String::from_utf8_lossy(&log);
        // Other tests write into the same log.
        let words = [" WARN ".to_owned(), format!("cause=\"{cause}\""), id];
        let warned = log.lines().filter(|line| words.iter().all(|words| line.contains(words)));
        assert_eq!(warned.count(), 1, "{cause}: told once, at WARN");
        lab.finish().await;
    }
}

/// oauth 9.cause: a company that inspects TLS.
#[tokio::test]
async fn a_tls_inspection_failure_names_the_setting_that_trusts_its_root() {
    let inspected = inspected();
    let lab = lab(inspected.addr, true, LONG).await;
    let failing = failing(&lab).await;
    let hint = failing["hint"].as_str().expect("a remedy");
    assert!(hint.contains("upstream.trust") && hint.contains("inspects"), "{hint}");
    let refused = lab.gateway.api("POST", "/connections/acme/refresh", "{}").await;
    assert!(refused.text().contains("from an unknown issuer"), "{}", refused.text());
    assert!(inspected.received().is_empty(), "nothing was sent");
    lab.finish().await;
}

/// oauth 9.cause, 10.durable: also after a restart, before anybody asks again.
#[tokio::test]
async fn the_cause_of_a_failed_refresh_is_there_after_a_restart() {
    let away = reserved_address();
    let mut lab = lab(away, true, LONG).await;
    let before = failing(&lab).await;
    lab.gateway.restart().await;
    let shown = lab.gateway.api("GET", "/connections/acme", "").await.json();
    let after = &shown["token"]["failing"];
    for member in ["cause", "message", "hint"] {
        assert_eq!(after[member], before[member], "{shown:#}");
    }
    assert_eq!(after["cause"], json!("connection_refused"));
    lab.finish().await;
}

/// oauth 9.cause: doctor names the cause, what is done about it, and that it is tried again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn doctor_names_the_cause_of_a_failing_refresh_and_its_remedy() {
    let (origin, away) = (Origin::saying("fine"), reserved_address());
    let plan = Plan::new(&method(""), "{ refresh_token: { env: REFRESH } }")
        .resolve(&format!("auth.acme.test: \"{away}\""))
        .allow(&away.to_string())
        .top(&format!("oauth: {{ {LONG} }}"));
    let variables =
        [("REFRESH", "rt-of-a-server-that-is-away"), ("TOKEN_CI", "kwa_causes-0123456789abcdef")];
    let served = Served::start(&plan, &origin, &variables);
    served.api("POST", "/connections/acme/refresh", "{}").await.is(503);
    let report = served.keyward(&["doctor", "--json"]).output().expect("it runs").stdout;
    let report: Value = serde_json::from_slice(&report).expect("JSON");
    let checks = report["checks"].as_array().expect("a list");
    let failing = checks.iter().find(|check| {
        check["message"].as_str().is_some_and(|message| message.contains("cannot be refreshed"))
    });
    let failing = failing.unwrap_or_else(|| panic!("{checks:#?}"));
    assert_eq!((&failing["id"], &failing["status"]), (&json!("connections"), &json!("warn")));
    let message = failing["message"].as_str().expect("text");
    assert!(message.contains("(connection_refused: cannot connect to auth.acme.test"), "{message}");
    let hint = failing["hint"].as_str().expect("text");
    let again = "; it is retried automatically; refresh it: `keyward connection refresh acme`";
    let of_cause = hint.strip_suffix(again).unwrap_or_else(|| panic!("{hint}"));
    let shown = served.api("GET", "/connections/acme", "").await.json();
    assert_eq!(shown["token"]["failing"]["hint"], of_cause);
}

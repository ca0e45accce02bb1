//! Connection tests run through the data path: what the provider received, what the person is shown, and what the audit
//! log contains.

use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};

use serde_json::{Value, json};

use crate::admin_network::{ask_at, user_login};
use test_support::finished::{Finished, finished};
use test_support::install::Install;
use test_support::*;

/// The test request of these labs.
const ME: &str = "{ url: 'https://api.acme.test/me' }";

/// Tests a connection by the API, whose answer may not hold the secret.
async fn tested(lab: &Lab, name: &str) -> Value {
    let answer = lab.gateway.api("POST", &format!("/connections/{name}/test"), "").await;
    lab.canary.assert_absent("the answer of a test", &answer.head.raw);
    lab.canary.assert_absent("the answer of a test", &answer.body);
    assert_eq!(answer.head.status(), 200, "{}", answer.text());
    answer.json()
}

/// Answers with a status of the test's choosing, and repeats the credential wherever it can.
fn echoing(status: &Arc<AtomicU16>) -> Origin {
    let status = status.clone();
    Origin::answering(move |request| {
        let (status, key) = (status.load(Ordering::SeqCst), request.head.one("x-api-key"));
        let key = key.unwrap_or_default();
        format!(
            "HTTP/1.1 {status} {key}\r\nX-Echo: {key}\r\nLocation: https://{key}.test/{key}\r\n\
             Retry-After: 7\r\nContent-Length: {}\r\n\r\n{key}",
            key.len()
        )
    })
}

#[tokio::test]
async fn each_status_of_a_test_gets_an_outcome_and_a_hint_without_the_echoed_key() {
    let status = Arc::new(AtomicU16::new(0));
    let lab = Plan::api_key().test(ME).start(echoing(&status)).await;
    let table = [
        (401, "wrong_key"),
        (403, "missing_permission"),
        (404, "wrong_address"),
        (302, "wrong_address"),
        (429, "rate_limited"),
        (500, "provider_down"),
        (503, "provider_down"),
        (418, "unexpected_answer"),
    ];
    for (number, outcome) in table {
        status.store(number, Ordering::SeqCst);
        let found = tested(&lab, "acme").await;
        assert_eq!(found["outcome"], outcome, "{found}");
        assert_eq!((&found["ok"], &found["status"]), (&false.into(), &number.into()), "{found}");
        assert!(found["hint"].as_str().is_some_and(|hint| !hint.is_empty()), "{found}");
        assert_eq!(found["retry_after"], 7, "{found}");
    }
    let received = lab.origin.received();
    assert_eq!(
        received.len(),
        table.len() + 1,
        "a redirect is not followed, and a 401 asked twice"
    );
    for request in received {
        assert_eq!(request.head.all("x-api-key"), [&*lab.canary.text]);
    }
    lab.finish().await;
}

/// A test with the URLs of three hosts, and the statuses that they answer.
async fn at_three_hosts(statuses: [u16; 3]) -> Lab {
    let test = "{ url: 'https://api.acme.test/me', \
                other_urls: ['https://other.acme.test/me', 'https://third.acme.test/me'] }";
    let origin = Origin::answering(move |request| {
        let status = match request.head.one("host") {
            Some("api.acme.test") => statuses[0],
            Some("other.acme.test") => statuses[1],
            _ => statuses[2],
        };
        format!("HTTP/1.1 {status} Told\r\nContent-Length: 0\r\n\r\n")
    });
    let hosts = "api.acme.test, other.acme.test, third.acme.test";
    Plan::api_key().hosts(hosts).test(test).start(origin).await
}

#[tokio::test]
async fn a_key_is_wrong_only_if_each_host_of_the_test_rejects_it() {
    for (statuses, outcome, host, requests) in [
        // A 401 is asked twice.
        ([401, 401, 401], "wrong_key", "api.acme.test", 6),
        ([401, 503, 401], "provider_down", "other.acme.test", 3),
        ([401, 403, 401], "missing_permission", "other.acme.test", 3),
        ([401, 503, 200], "ok", "third.acme.test", 3),
        ([429, 200, 200], "rate_limited", "api.acme.test", 1),
        ([403, 404, 503], "missing_permission", "api.acme.test", 3),
        ([401, 403, 200], "ok", "third.acme.test", 3),
        ([200, 401, 401], "ok", "api.acme.test", 1),
    ] {
        let lab = at_three_hosts(statuses).await;
        let found = tested(&lab, "acme").await;
        assert_eq!(found["outcome"], outcome, "{statuses:?}: {found}");
        assert_eq!(found["request"], format!("GET https://{host}/me"), "{found}");
        let received = lab.origin.received();
        assert_eq!(received.len(), requests, "{statuses:?}");
        for request in received {
            assert_eq!(request.head.all("x-api-key"), [&*lab.canary.text]);
        }
        let shown = lab.gateway.api("GET", "/connections/acme", "").await.json();
        let state = if outcome == "wrong_key" { "broken" } else { "active" };
        assert_eq!(shown["state"], state, "{statuses:?}: {shown}");
        lab.finish().await;
    }
}

#[tokio::test]
async fn one_test_leaves_one_record_that_names_no_agent() {
    let lab = Plan::api_key().test(ME).start(Origin::saying("fine")).await;
    let found = tested(&lab, "acme").await;
    assert_eq!(found["outcome"], "ok", "{found}");
    assert_eq!(
        found["message"].as_str().and_then(|m| m.split(" (").next()),
        Some("Acme accepted the key")
    );
    let request = lab.origin.only();
    assert_eq!((request.head.method(), request.head.target()), ("GET", "/me"));
    assert!(request.head.one("user-agent").is_some_and(|agent| agent.starts_with("keyward/")));
    let id = found["connection"].as_str().expect("an id").to_owned();
    let records = lab.finish().await;
    let [record] = &records[..] else { panic!("{records:?}") };
    assert_eq!(record["rule"], format!("test:{id}"));
    assert_eq!((&record["agent"], &record["token"]), (&Value::Null, &Value::Null));
    assert_eq!((&record["by"], &record["user"]), (&"operator".into(), &Value::Null));
    assert_eq!((&record["connection"], &record["status"]), (&"acme".into(), &200.into()));
    assert_eq!(
        (&record["exchange"], &record["outcome"]),
        (&found["exchange"], &"completed".into())
    );
    assert_eq!(record["path"], "/me");
}

/// A connection that is added is tested in a task of its own.
#[tokio::test]
async fn the_record_of_a_test_names_the_person_who_tested() {
    let mut lab = Plan::api_key().test(ME).start(Origin::saying("fine")).await;
    let login = user_login(&mut lab, "ann", "admin").await;
    let fields = json!({"api_key": lab.canary.text});
    let new = json!({"provider": "acme", "name": "mine", "fields": fields, "test": true});
    for (line, body, status) in [
        ("POST /api/v1/connections/acme/test", json!({}), 200),
        ("POST /api/v1/connections", new, 201),
    ] {
        ask_at(&lab, line, &login.fields(), &body.to_string()).await.is(status);
    }
    let received = lab.origin.received();
    assert_eq!(received.len(), 2);
    for request in received {
        assert_eq!(request.head.all("x-api-key"), [&*lab.canary.text]);
    }
    for page in ["/audit?show=requests&user=ann", "/traffic"] {
        let text = until_some("both records", async || {
            let answer = ask_at(&lab, &format!("GET {page}"), &login.cookie(), "").await;
            let text = answer.is(200).text();
            (text.matches("ann (test)").count() == 2).then_some(text)
        })
        .await;
        assert!(!text.contains("unknown"), "{page}: {text}");
    }
    let records = lab.finish().await;
    assert_eq!(records.len(), 2, "{records:?}");
    for record in records {
        assert!(record["by"].as_str().is_some_and(|by| by.starts_with("usr_")), "{record}");
        assert_eq!((&record["user"], &record["agent"]), (&"ann".into(), &Value::Null), "{record}");
    }
}

#[tokio::test]
async fn a_provider_without_a_test_request_gets_no_request() {
    let lab = Lab::simple().await;
    let found = tested(&lab, "acme").await;
    assert_eq!((&found["outcome"], &found["ok"]), (&"no_test".into(), &false.into()), "{found}");
    assert!(found["hint"].as_str().is_some_and(|hint| hint.contains("keyward run")), "{found}");
    assert_eq!(lab.origin.streams(), 0);
    assert_eq!(lab.finish().await.len(), 0, "nothing was sent");
}

#[tokio::test]
async fn test_pause_and_resume_of_an_unknown_connection_answer_404() {
    let lab = Lab::simple().await;
    for verb in ["test", "pause", "resume"] {
        let answer = lab.gateway.api("POST", &format!("/connections/nope/{verb}"), "").await;
        assert_eq!(answer.head.status(), 404, "{verb}: {}", answer.text());
    }
    lab.finish().await;
}

#[tokio::test]
async fn an_untrusted_certificate_gets_no_credential() {
    let lab = Plan::api_key().test(ME).untrusted().start(Origin::saying("fine")).await;
    let found = tested(&lab, "acme").await;
    assert_eq!(found["outcome"], "tls_untrusted", "{found}");
    assert!(found["message"].as_str().is_some_and(|m| m.contains("unknown issuer")), "{found}");
    assert!(found["hint"].as_str().is_some_and(|hint| hint.contains("upstream.trust")), "{found}");
    let records = lab.finish_after(0).await;
    assert_eq!((records.len(), &records[0]["code"]), (1, &"upstream_tls".into()));
}

#[tokio::test]
async fn a_closed_port_a_refused_address_and_an_unresolved_name_have_own_outcomes() {
    let closed = test_support::process::reserved_address();
    for (hosts, resolve, outcome) in [
        (HOST, format!("\"{HOST}:443\": \"{closed}\""), "unreachable"),
        (HOST, format!("\"{HOST}:443\": \"127.0.0.1:9\""), "address_refused"),
        // RFC 6761 §6.4: there is no such name anywhere.
        ("acme.invalid", format!("\"{HOST}:443\": \"{closed}\""), "unresolved"),
    ] {
        let test = format!("{{ url: 'https://{hosts}/me' }}");
        let plan = Plan::api_key().hosts(hosts).test(&test).resolve(&resolve);
        let lab = plan.allow(&closed.to_string()).start(Origin::saying("fine")).await;
        let found = tested(&lab, "acme").await;
        assert_eq!(found["outcome"], outcome, "{found}");
        assert!(found["hint"].is_string() && found["status"].is_null(), "{found}");
        assert_eq!(lab.origin.streams(), 0);
        assert_eq!(lab.finish().await.len(), 1, "{outcome}");
    }
}

#[tokio::test]
async fn a_test_of_a_silent_provider_times_out() {
    let silent =
        Origin::scripted(
            |mut stream: Stream| async move { while stream.request().await.is_some() {} },
        );
    let plan = Plan::api_key().test(ME).limit("answer_timeout: 0.1s");
    let lab = plan.start(silent).await;
    assert_eq!(tested(&lab, "acme").await["outcome"], "timeout");
    assert_eq!(lab.finish().await[0]["code"], "upstream_timeout");
}

#[tokio::test]
async fn a_200_whose_body_lacks_the_expected_json_means_wrong_key() {
    let test = "{ url: 'https://api.acme.test/me', method: POST, json: { ask: 1 }, \
                expect_json: { ok: true } }";
    for (body, outcome) in
        [(r#"{"ok":false}"#, "wrong_key"), ("not JSON", "wrong_key"), (r#"{"ok":true}"#, "ok")]
    {
        let lab = Plan::api_key().test(test).start(Origin::saying(body)).await;
        assert_eq!(tested(&lab, "acme").await["outcome"], outcome, "{body}");
        let request = lab.origin.only();
        assert_eq!((request.head.method(), request.text()), ("POST", r#"{"ask":1}"#.to_owned()));
        assert_eq!(request.head.all("content-length"), ["9"]);
        lab.finish().await;
    }
}

#[tokio::test]
async fn a_credential_in_the_path_is_injected_and_hidden_in_result_and_record() {
    let auth = "{ id: key, kind: api_key, placement: { path: '/bot{api_key}/' } }";
    let plan = Plan::new(auth, "{ api_key: { env: CANARY } }");
    let test = "{ url: 'https://api.acme.test/bot{api_key}/getMe' }";
    let lab = plan.test(test).start(Origin::saying("fine")).await;
    let found = tested(&lab, "acme").await;
    assert_eq!(found["outcome"], "ok", "{found}");
    assert_eq!(found["request"], "GET https://api.acme.test/bot…/getMe");
    assert_eq!(lab.origin.only().head.target(), format!("/bot{}/getMe", lab.canary.text));
    let records = lab.finish().await;
    assert!(
        records[0]["path"].as_str().is_some_and(|path| path.contains("/botkwph")),
        "{records:?}"
    );
}

#[tokio::test]
async fn fields_that_are_not_secret_are_filled_into_the_test_url() {
    let auth = "{ id: key, kind: custom, fields: [{ name: account, secret: false }, { name: key }], \
                place: [{ header: X-Api-Key, value: '{key}' }] }";
    let plan = Plan::new(auth, "{ account: { env: ACCOUNT }, key: { env: CANARY } }");
    let plan =
        plan.variable("ACCOUNT", "ac/7").test("{ url: 'https://api.acme.test/{account}/me' }");
    let lab = plan.start(Origin::saying("fine")).await;
    assert_eq!(tested(&lab, "acme").await["outcome"], "ok");
    assert_eq!(lab.origin.only().head.target(), "/ac%2F7/me");
    lab.finish().await;
}

fn run(install: &Install, arguments: &[&str]) -> Finished {
    finished(install.keyward(arguments), "")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_command_line_tests_with_and_without_a_gateway() {
    let status = Arc::new(AtomicU16::new(200));
    let plan = Plan::api_key().test(ME);
    let origin = echoing(&status);
    let install = Install::new(&plan, &origin);
    let key = install.folder().join("key");
    std::fs::write(&key, &plan.canary().text).expect("a file");
    let file = format!("api_key={}", key.display());
    let add = ["connection", "add", "acme", "--name", "mine", "--secret-file", &file];
    assert_eq!(run(&install, &add).code, 0);
    std::fs::remove_file(&key).expect("a file");
    for served in [false, true] {
        let _gateway = served.then(|| install.serve());
        let before = install.audit().len();
        status.store(200, Ordering::SeqCst);
        let Finished { code, out, err } = run(&install, &["connection", "test", "mine"]);
        assert!(code == 0 && out.starts_with("mine: Acme accepted the key (200, "), "{out}{err}");
        assert_eq!(err, "", "nothing turns where nobody sees it");
        status.store(401, Ordering::SeqCst);
        let Finished { code, out, err } = run(&install, &["connection", "test", "mine"]);
        assert_eq!((code, &*out), (1, ""), "{err}");
        assert!(err.starts_with("error: mine: Acme rejected this key (401)\nhint: "), "{err}");
        let Finished { code, out, err } = run(&install, &["connection", "test", "mine", "--json"]);
        let found: Value = serde_json::from_str(&out).expect("JSON");
        assert_eq!((code, &found["outcome"], &*err), (1, &"wrong_key".into(), ""));
        assert_eq!(run(&install, &["connection", "test", "nope"]).code, 5);
        // The first 401 is asked twice.
        install.until("four records", || install.audit().len() == before + 4);
        for text in [out, err] {
            plan.canary().assert_absent("what the command said", text.as_bytes());
        }
    }
    plan.canary().assert_absent_below(install.folder());
}

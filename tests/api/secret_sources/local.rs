//! Variables, files and programs of the gateway's machine.

use super::*;

#[tokio::test]
async fn a_changed_file_is_used_and_its_last_value_outlives_the_file_and_the_gateway() {
    let (first, second) = (Canary::new("cnry"), Canary::new("cnry"));
    let folder = folder("key", &first);
    let source = format!("file: {{ folder: '{}' }}", folder.path().display());
    let mut lab = planned(&source, "key").start(Origin::saying("fine")).await;
    lab.guard(first.clone());
    lab.guard(second.clone());
    assert_eq!(lab.delivered("GET /a").await.one("x-api-key"), Some(&*first.text));

    write(folder.path(), "key", &second.text);
    arrives(&mut lab, &second).await;

    fs::remove_file(folder.path().join("key")).expect("it was there");
    until("the failure to be shown", async || {
        connection(&lab).await.get("fetch_failing").is_some()
    })
    .await;
    let shown = connection(&lab).await;
    assert_eq!(shown["references"]["api_key"]["from"], "kept");
    assert!(shown["fetched"]["at"].is_string(), "{shown}");
    let message = shown["fetch_failing"]["message"].as_str().unwrap_or_default();
    assert!(message.contains("source `kept`") && message.contains("does not exist"), "{message}");
    assert_eq!(lab.delivered("GET /a").await.one("x-api-key"), Some(&*second.text));

    // The two figures of an outage: whole seconds, so the second is awaited.
    let mut failing = 0;
    let counts = async {
        while failing < 1 {
            failing = of_source(&lab, "failing").await.expect("a sample");
        }
    };
    patiently("a second of failure", counts).await;
    let age = of_source(&lab, "age").await.expect("a sample");
    assert!(age >= failing, "no value came since: {age} {failing}");
    write(folder.path(), "key", &second.text);
    until("the end of the outage", async || of_source(&lab, "failing").await == Some(0)).await;
    fs::remove_file(folder.path().join("key")).expect("it was there");

    // Sealed in the store, and not a blank after a start without the file.
    lab.gateway.restart().await;
    assert_eq!(lab.delivered("GET /a").await.one("x-api-key"), Some(&*second.text));
    let metrics = lab.gateway.metrics().await;
    assert!(metrics.contains("keyward_source_fetches_total{outcome=\"failed\"}"), "{metrics}");
    lab.finish().await;
}

/// `source_age` or `source_failing` of the source, in seconds.
async fn of_source(lab: &Lab, figure: &str) -> Option<i64> {
    let metrics = lab.gateway.metrics().await;
    let start = format!("keyward_source_{figure}_seconds{{source=");
    let mut samples = metrics.lines().filter(|line| line.starts_with(&start));
    let (_, sample) = samples.next()?.split_once("/kept\"} ")?;
    Some(sample.parse().expect("a number"))
}

/// As a process of its own: doctor asks the gateway that runs.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn doctor_names_a_source_that_gives_no_value_and_the_command_that_shows_it() {
    let value = Canary::new("cnry");
    let folder = folder("key", &value);
    let source = format!("ttl: 1s, file: {{ folder: '{}' }}", folder.path().display());
    let variables = [("TOKEN_CI", "kwa_sources-0123456789abcdef")];
    let origin = Origin::saying("fine");
    let served =
        test_support::process::Served::start(&planned(&source, "key"), &origin, &variables);
    fs::remove_file(folder.path().join("key")).expect("it was there");
    until("the failure to be shown", async || {
        let shown = served.api("GET", "/connections/acme", "").await.json();
        shown.get("fetch_failing").is_some()
    })
    .await;
    let report = served.keyward(&["doctor", "--json"]).output().expect("it runs").stdout;
    value.assert_absent("doctor", &report);
    let report: Value = serde_json::from_slice(&report).expect("JSON");
    let checks = report["checks"].as_array().expect("a list");
    let named = checks.iter().find(|check| {
        check["message"].as_str().is_some_and(|message| message.contains("cannot be fetched since"))
    });
    let named = named.unwrap_or_else(|| panic!("{checks:#?}"));
    assert_eq!(named["status"], "warn");
    let message = named["message"].as_str().expect("text");
    assert!(message.contains("source `kept`") && message.contains("acme"), "{message}");
    let hint = named["hint"].as_str().expect("text");
    assert!(hint.contains("source show kept"), "{hint}");
}

#[tokio::test]
async fn without_a_value_requests_are_refused_and_served_once_there_is_one() {
    let value = Canary::new("cnry");
    let folder = TempDir::new().expect("a directory");
    let source = format!("file: {{ folder: '{}' }}", folder.path().display());
    let mut lab = planned(&source, "key").start(Origin::saying("fine")).await;
    lab.guard(value.clone());
    let answer = is_refused(&lab).await;
    let said = answer.text();
    let path = folder.path().to_string_lossy();
    assert!(!said.contains(&*path) && !said.contains("does not exist"), "{said}");
    assert!(said.contains("keyward source show kept"), "{said}");
    assert!(lab.origin.received().is_empty(), "nothing is sent without the value");

    write(folder.path(), "key", "   \n");
    is_refused(&lab).await;
    assert!(lab.origin.received().is_empty(), "a blank is no value");

    write(folder.path(), "key", &value.text);
    until("the value", async || lab.ask("GET /a").await.head.status() == 200).await;
    let last = lab.origin.received().pop().expect("a request");
    assert_eq!(last.head.one("x-api-key"), Some(&*value.text));
    lab.finish().await;
}

#[tokio::test]
async fn a_value_is_not_used_for_longer_than_keep_says() {
    let value = Canary::new("cnry");
    let folder = folder("key", &value);
    let source = format!("ttl: 1s, keep: 0s, file: {{ folder: '{}' }}", folder.path().display());
    let mut lab = planned(&source, "key").start(Origin::saying("fine")).await;
    lab.guard(value.clone());
    assert_eq!(lab.delivered("GET /a").await.one("x-api-key"), Some(&*value.text));
    fs::remove_file(folder.path().join("key")).expect("it was there");
    is_refused(&lab).await;
    let sent = lab.origin.received();
    assert!(sent.iter().all(|it| it.head.one("x-api-key") == Some(&*value.text)), "never a blank");
    lab.finish().await;
}

#[tokio::test]
async fn a_rejected_value_is_fetched_again_and_the_request_sent_once_more() {
    let (old, new) = (Canary::new("cnry"), Canary::new("cnry"));
    let folder = folder("key", &old);
    let file = folder.path().join("key");
    let source = "ttl: 1h, command: { run: [cat] }";
    let accepted = new.text.clone();
    let origin = Origin::answering(move |request: &Message| {
        match request.head.one("x-api-key") == Some(&*accepted) {
            true => ok("fine"),
            false => "HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n".to_owned(),
        }
    });
    let mut lab = planned(source, &file.display().to_string()).start(origin).await;
    lab.guard(old.clone());
    lab.guard(new.clone());
    assert_eq!(lab.ask("GET /a").await.head.status(), 401, "the source has the old value");
    lab.origin.received();
    write(folder.path(), "key", &new.text);
    // After a value that was fetched again and rejected, rejections are ignored for a while: a restart ends that.
    lab.gateway.restart().await;
    lab.ask("GET /b").await.is(200);
    let sent = lab.origin.received();
    let of_b: Vec<_> = sent.iter().filter(|it| it.head.target() == "/b").collect();
    let keys: Vec<_> = of_b.iter().map(|it| it.head.one("x-api-key").unwrap_or_default()).collect();
    assert_eq!(keys, [&*old.text, &*new.text]);
    lab.finish().await;
}

#[tokio::test]
async fn a_source_of_variables_works_beside_a_literal_field_of_the_file() {
    let value = Canary::new("cnry");
    let plan = Plan::new(
        "{ id: basic, kind: basic }",
        "{ username: ada, password: { from: kept, ref: THE_PASSWORD } }",
    );
    let plan = plan.top("sources:\n  - { name: kept, env: { names: [THE_PASSWORD] } }");
    let mut lab = plan.secret("THE_PASSWORD", &value).start(Origin::saying("fine")).await;
    use base64::Engine;
    let pair = base64::prelude::BASE64_STANDARD.encode(format!("ada:{}", value.text));
    let head = lab.delivered("GET /a").await;
    assert_eq!(head.one("authorization"), Some(&*format!("Basic {pair}")));
    let source = api(&lab, "GET", "/sources/kept", Value::Null, 200).await;
    assert_eq!(source["kind"], "env");
    assert_eq!(source["connections"], serde_json::json!(["acme"]));
    assert!(source["fetched"].is_string() && source.get("failing").is_none(), "{source}");
    lab.finish().await;
}

//! Usage over time: it counts what agents did, outlives a restart, and is seen by those alone who may see the resource.

use serde_json::{Value, json};

use test_support::process::Served;
use test_support::*;

/// Answers by path.
fn origin() -> Origin {
    Origin::answering(|request| match request.head.target() {
        "/missing" => "HTTP/1.1 404 x\r\nContent-Length: 0\r\n\r\n".to_owned(),
        "/busy" => "HTTP/1.1 429 x\r\nX-RateLimit-Limit: 60\r\nX-RateLimit-Remaining: 0\r\n\
                    Content-Length: 0\r\n\r\n"
            .to_owned(),
        "/down" => "HTTP/1.1 503 x\r\nContent-Length: 0\r\n\r\n".to_owned(),
        _ => ok("fine"),
    })
}

/// The totals of a series, once it has so many requests: the record of an exchange ends after its answer.
async fn totals(lab: &Lab, path: &str, requests: u64) -> Value {
    until_some("the requests", async || {
        let usage = lab.gateway.api("GET", path, "").await;
        assert_eq!(usage.head.status(), 200, "{path}: {}", usage.text());
        let history = usage.json()["history"].clone();
        (history["total"]["requests"] == requests).then_some(history)
    })
    .await
}

async fn refused(lab: &Lab, path: &str) -> (u16, String) {
    let answer = lab.gateway.api("GET", path, "").await;
    (answer.head.status(), answer.json()["error"]["message"].to_string())
}

#[tokio::test]
async fn each_request_is_in_the_series_of_its_agent_its_connection_and_the_organisation() {
    let lab = Plan::api_key().agent("idle", "acme").start(origin()).await;
    for path in ["/a", "/missing", "/busy", "/down"] {
        lab.ask(&format!("GET {path}")).await;
    }
    // Without a connection: refused at CONNECT.
    assert_eq!(lab.connect("other.test:443").await.0.head.status(), 403);
    let of_connection = totals(&lab, "/connections/acme/usage", 4).await;
    let classes = |of: &Value| {
        ["refused", "client_errors", "rate_limited", "server_errors", "upstream_failures"]
            .map(|class| of["total"][class].as_u64().expect("a number"))
    };
    assert_eq!(classes(&of_connection), [0, 1, 1, 1, 0], "{of_connection}");
    assert_eq!(of_connection["total"]["provider_limit"]["remaining"], 0, "{of_connection}");
    assert!(of_connection["total"]["latency_ms"]["p95"].is_u64(), "{of_connection}");
    for (path, points, step) in [
        ("/agents/ci/usage", 24, 3_600),
        ("/agents/ci/usage?since=30d", 30, 86_400),
        ("/usage", 24, 3_600),
        ("/usage?since=1h", 60, 60),
        ("/usage?since=7d", 7, 86_400),
    ] {
        let usage = totals(&lab, path, 5).await;
        assert_eq!(classes(&usage), [1, 1, 1, 1, 0], "{path}: {usage}");
        let series = usage["points"].as_array().expect("points");
        assert_eq!((series.len(), &usage["step_seconds"]), (points, &json!(step)), "{path}");
        assert_eq!(series.last().expect("a point")["requests"], 5, "the present: {path}");
    }
    assert_eq!(totals(&lab, "/agents/idle/usage", 0).await["total"]["requests"], 0);
    lab.finish().await;
}

#[tokio::test]
async fn a_period_outside_the_kept_history_or_an_unknown_agent_is_refused() {
    let lab = Plan::api_key().start(origin()).await;
    for (path, status, why) in [
        ("/usage?since=31d", 422, "30 days"),
        ("/usage?since=soon", 422, "not a time"),
        ("/usage?until=1d", 422, "unknown"),
        ("/agents/nope/usage", 404, "nope"),
        ("/connections/acme/usage?since=2030-01-01", 422, "in the past"),
    ] {
        let (found, message) = refused(&lab, path).await;
        assert_eq!(found, status, "{path}: {message}");
        assert!(message.contains(why), "{path}: {message}");
    }
    lab.finish().await;
}

/// A member sees own agents; the sums of all agents are of others too.
#[tokio::test]
async fn only_those_who_see_all_agents_see_the_usage_of_all() {
    let lab = Plan::api_key().start(origin()).await;
    lab.ask("GET /a").await;
    for (role, of_all, of_agent) in [("member", 403, 404), ("auditor", 200, 200)] {
        let add = json!({ "name": role, "role": role });
        lab.gateway.api("POST", "/users", &add.to_string()).await;
        let made = lab.gateway.api("POST", "/tokens", &json!({ "user": role }).to_string()).await;
        let token = made.json()["token"].as_str().expect("shown once").to_owned();
        let field = format!("Authorization: Bearer {token}\r\n");
        for (path, status) in [("/usage", of_all), ("/agents/ci/usage", of_agent)] {
            let answer = lab.gateway.api_with(&field, ("GET", path), "").await;
            assert_eq!(answer.head.status(), status, "{role} {path}: {}", answer.text());
        }
    }
    lab.finish().await;
}

#[tokio::test]
async fn usage_survives_restarts_and_the_total_keeps_that_of_removed_agents() {
    let mut lab = Plan::api_key().start(origin()).await;
    lab.add_agent("gone").await;
    for round in 1..=2 {
        lab.ask("GET /a").await;
        totals(&lab, "/usage?since=2d", round * 2 - 1).await;
        let mut wire = lab.client().await;
        let (other, authorization) = ("other.test:443", lab.authorization("gone"));
        wire.send(format!("CONNECT {other} HTTP/1.1\r\nHost: {other}\r\n{authorization}\r\n"))
            .await;
        assert_eq!(wire.answer("CONNECT").await.head.status(), 403);
        totals(&lab, "/agents/gone/usage", round).await;
        totals(&lab, "/usage?since=2d", round * 2).await;
        lab.gateway.restart().await;
    }
    for path in ["/connections/acme/usage", "/agents/ci/usage?since=7d", "/agents/gone/usage"] {
        totals(&lab, path, 2).await;
    }
    lab.gateway.api("DELETE", "/agents/gone", "").await;
    assert_eq!(refused(&lab, "/agents/gone/usage").await.0, 404);
    totals(&lab, "/usage", 4).await;
    lab.finish().await;
}

/// The command line reads the store where no gateway runs.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_command_shows_usage_with_and_without_a_gateway() {
    let plan = Plan::api_key().no_agents();
    let origin = origin();
    let mut served = Served::start(&plan, &origin, &[]);
    let asked = served.keyward(&["connection", "request", "acme", "/a"]).output().expect("it runs");
    assert!(asked.status.success(), "{asked:?}");
    let usage = |served: &Served| {
        let arguments = ["usage", "--connection", "acme", "--since", "48h"];
        let output = served.keyward(&arguments).output().expect("it runs");
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).expect("text")
    };
    until("one request", async || usage(&served).contains("requests   1\n")).await;
    let wrong = served.keyward(&["usage", "--since", "40d"]).output().expect("it runs");
    let told = String::from_utf8_lossy(&wrong.stderr).into_owned();
    assert!(!wrong.status.success() && told.contains("30 days"), "{told}");
    assert_eq!(served.terminate(), Some(0));
    assert!(usage(&served).contains("requests   1\n"), "{}", usage(&served));
}

//! Settings of a connection through every door: the file, the API, the command line; and what they do
//! to fields and timeouts of requests.

use std::collections::BTreeMap;
use std::path::Path;

use keyward_app::config::Config;
use serde_json::json;

use test_support::install::Install;
use test_support::*;

/// What is wrong with a file whose connection has such settings.
fn refused(settings: &str) -> String {
    let yaml = format!(
        "connections:\n  - name: gh\n    provider: github\n    auth: pat\n    \
         fields: {{ token: {{ env: T }} }}\n    settings: {settings}\n"
    );
    let problems = Config::parse(&yaml, Path::new("keyward.yaml"), &BTreeMap::new());
    problems.expect_err(settings).iter().map(|one| format!("{one}\n")).collect()
}

#[test]
fn an_invalid_setting_of_the_file_is_refused_with_its_line_and_a_remedy() {
    for (settings, said) in [
        ("{ timeout: 30 }", "settings.timeout: this is a number; write a time with its unit"),
        ("{ timeout: 2h }", "settings.timeout: this is not a time from 10ms to 1h"),
        ("{ rate_limit: 100/day }", "settings.rate_limit: this is not a rate: write 1 to 1000000"),
        ("{ rate_limit: 0/s }", "settings.rate_limit: this is not a rate"),
        ("{ concurrency: 0 }", "settings.concurrency: this is not a number of exchanges at once"),
        (
            "{ retry: { attempts: 11 } }",
            "settings.retry.attempts: this is not a number of attempts",
        ),
        ("{ retry: { on: [404] } }", "a request is not sent again after 404"),
        ("{ timeouts: 30s }", "unknown key `timeouts`; did you mean `timeout`?"),
        (
            "{ headers: { Host: x } }",
            "field `Host` cannot be set here: only rules decide where a request goes",
        ),
        ("{ headers: { Authorization: x } }", "credentials are given as `fields`"),
        ("{ headers: { User-Agent: x } }", "write `user_agent`"),
        ("{ headers: { 'a b': x } }", "`a b` is no name of a field"),
        ("{ user_agent: \"a\\nb\" }", "settings.user_agent: this is not a value of a field"),
    ] {
        let told = refused(settings);
        assert!(
            told.starts_with("keyward.yaml:6: connections[0].") && told.contains(said),
            "{told}"
        );
    }
}

#[test]
fn a_field_that_the_provider_authenticates_with_is_refused_in_every_spelling() {
    let provider = "providers:\n  - { id: acme, name: A, hosts: [api.acme.test], auth: [{ id: k, kind: \
                    api_key, placement: { header: X-Api-Key } }] }\n";
    for name in ["X-Api-Key", "x_api_key"] {
        let yaml = format!(
            "{provider}connections:\n  - {{ name: a, provider: acme, fields: {{ api_key: {{ env: T }} }}, \
             settings: {{ headers: {{ {name}: canary }} }} }}\n"
        );
        let problems = Config::parse(&yaml, Path::new("keyward.yaml"), &BTreeMap::new());
        let told = problems.expect_err(name).iter().map(ToString::to_string).collect::<String>();
        assert!(told.contains("provider `acme` authenticates with this field"), "{told}");
        assert!(!told.contains("canary"), "{told}");
    }
}

#[tokio::test]
async fn header_fields_of_the_settings_replace_those_of_the_agent() {
    let settings = "{ user_agent: 'acme-agents/1.0 (x)', headers: { X-Env: prod, Accept: 'a/b' } }";
    let plan = Plan::api_key().settings(settings);
    let mut lab = plan.start(Origin::saying("fine")).await;
    // Also where the agent names them as its own hop's, twice, or spells them otherwise.
    let sent = "GET /a\r\nUser-Agent: curl/8\r\nUser_Agent: x\r\nX-Env: dev\r\nX_Env: dev\r\nX-ENV: \
                dev\r\nConnection: keep-alive, X-Env, User-Agent\r\nX-Other: stays";
    let head = lab.delivered(sent).await;
    assert_eq!(head.all("user-agent"), ["acme-agents/1.0 (x)"]);
    assert_eq!((head.all("x-env"), head.all("accept")), (vec!["prod"], vec!["a/b"]));
    assert!(!head.has("x_env") && !head.has("user_agent"), "{head:?}");
    assert_eq!(head.one("x-other"), Some("stays"));
    assert_eq!(head.one("x-api-key"), Some(&*lab.canary.text));
    let bare = lab.delivered("GET /b").await;
    assert_eq!(bare.all("user-agent"), ["acme-agents/1.0 (x)"], "also where the agent sent none");
    assert_eq!(bare.all("x-env"), ["prod"]);
    lab.finish().await;
}

#[tokio::test]
async fn a_connection_without_settings_sends_what_the_agent_sent() {
    let mut lab = Lab::simple().await;
    let head = lab.delivered("GET /a\r\nUser-Agent: curl/8\r\nX-Env: dev").await;
    assert_eq!((head.one("user-agent"), head.one("x-env")), (Some("curl/8"), Some("dev")));
    let records = lab.finish().await;
    assert_eq!(records[0]["attempts"], 1);
}

/// Sends the head of an answer at once for `/slow`, the rest when told; nothing at all for `/never`.
fn slow(go: std::sync::Arc<tokio::sync::Notify>) -> Origin {
    Origin::sharing(go, move |mut stream, go| async move {
        while let Some(request) = stream.request().await {
            if request.head.target() == "/slow" {
                stream.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n1").await;
                go.notified().await;
                stream.send("2").await;
            }
        }
    })
}

#[tokio::test]
async fn a_timeout_is_for_the_head_of_an_answer_and_not_for_its_body() {
    let go = std::sync::Arc::new(tokio::sync::Notify::new());
    let lab = Plan::api_key().settings("{ timeout: 200ms }").start(slow(go.clone())).await;
    let mut wire = lab.sent("GET /slow").await;
    assert_eq!(wire.head().await.expect("a head").status(), 200);
    // Longer than the timeout of the one under way, which began before.
    let never = lab.ask("GET /never").await;
    assert_eq!(never.refusal(), (504, Some("upstream_timeout")));
    go.notify_one();
    assert_eq!(wire.exactly(2).await, b"12");
    let records = lab.finish().await;
    let never = records.iter().find(|it| it["path"] == "/never").expect("its record");
    assert_eq!((&never["code"], &never["attempts"]), (&json!("upstream_timeout"), &json!(1)));
}

#[tokio::test]
async fn settings_of_the_file_are_shown_reloaded_and_read_only_for_the_api() {
    let plan = Plan::api_key().settings("{ timeout: 90s, headers: { X-Env: prod }, retry: {} }");
    let mut lab = plan.start(Origin::saying("fine")).await;
    let shown = lab.gateway.api("GET", "/connections/acme", "").await.json();
    let retry = json!({"attempts": 3, "on": [429, 502, 503, 504], "wait_max": "30s"});
    let settings = json!({"timeout": "90s", "retry": retry, "headers": {"x-env": "prod"}});
    assert_eq!(shown["settings"], settings);
    let patch = lab.gateway.api("PATCH", "/connections/acme", r#"{"settings":null}"#).await;
    assert_eq!(
        (patch.head.status(), &patch.json()["error"]["code"]),
        (409, &json!("managed_by_file"))
    );
    let file = lab.gateway.folder().join("keyward.yaml");
    let yaml = std::fs::read_to_string(&file).expect("the configuration");
    std::fs::write(&file, yaml.replace("X-Env: prod", "X-Env: dev")).expect("a file");
    let view = patiently("reloading", lab.gateway.running().reloads().reload()).await;
    assert_eq!(view.expect("it runs").errors, [""; 0]);
    assert_eq!(lab.delivered("GET /a").await.one("x-env"), Some("dev"));
    lab.finish().await;
}

/// The connection `mine` with such settings, added by the API and bound to `ci`.
async fn with_mine(settings: &str) -> Lab {
    let settings: serde_json::Value = serde_json::from_str(settings).expect("JSON");
    let more = json!({ "settings": settings });
    Lab::with_mine(Plan::api_key(), Origin::saying("fine"), more).await
}

async fn patch(lab: &Lab, body: &str) -> Message {
    lab.gateway.api("PATCH", "/connections/mine", body).await
}

#[tokio::test]
async fn an_invalid_setting_in_a_patch_is_refused_by_field_and_changes_nothing() {
    let lab = with_mine(r#"{"timeout":"30s"}"#).await;
    for (body, field) in [
        (r#"{"settings":{"timeout":"canary"}}"#, "settings.timeout"),
        (r#"{"settings":{"timeout":"9h"}}"#, "settings.timeout"),
        (r#"{"settings":{"rate_limit":5}}"#, "settings.rate_limit"),
        (r#"{"settings":{"retry":{"on":[200]}}}"#, "settings.retry.on"),
        (r#"{"settings":{"headers":{"Host":"canary"}}}"#, "settings.headers"),
        (r#"{"settings":{"headers":{"x_api_key":"canary"}}}"#, "settings.headers"),
        (r#"{"settings":["canary"]}"#, "settings"),
    ] {
        let answer = patch(&lab, body).await;
        let error = &answer.json()["error"];
        assert_eq!(
            (answer.head.status(), &error["code"]),
            (422, &json!("invalid_field")),
            "{body}"
        );
        assert_eq!(error["field"], field, "{body}: {error}");
        assert!(!answer.text().contains("canary"), "{}", answer.text());
    }
    for body in [r#"{"settings":{"nope":1}}"#, r#"{"nope":"canary"}"#] {
        let answer = patch(&lab, body).await;
        assert_eq!(answer.head.status(), 422, "{body}");
        assert!(answer.text().contains("unknown field `nope`"), "{}", answer.text());
    }
    assert_eq!(patch(&lab, "{}").await.json()["settings"], json!({"timeout": "30s"}));
    lab.gateway.api("PATCH", "/connections/nobody", "{}").await.is(404);
    lab.finish().await;
}

#[tokio::test]
async fn a_change_by_the_api_is_in_force_when_it_is_answered() {
    let mut lab = with_mine(r#"{"headers":{"x-env":"prod"},"concurrency":5}"#).await;
    assert_eq!(lab.delivered("GET /a").await.one("x-env"), Some("prod"));
    let after =
        patch(&lab, r#"{"settings":{"headers":{"X-Env":null,"X-B":"2"},"timeout":"5s"}}"#).await;
    let settings = json!({"timeout": "5s", "concurrency": 5, "headers": {"x-b": "2"}});
    assert_eq!((after.head.status(), &after.json()["settings"]), (200, &settings));
    let head = lab.delivered("GET /b").await;
    assert_eq!((head.one("x-env"), head.one("x-b")), (None, Some("2")));
    assert_eq!(patch(&lab, r#"{"settings":null}"#).await.json()["settings"], json!({}));
    assert_eq!(lab.delivered("GET /c").await.one("x-b"), None);
    lab.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_command_line_sets_changes_and_clears_settings_of_a_connection() {
    let plan = Plan::api_key();
    let origin = Origin::saying("fine");
    let install = Install::new(&plan, &origin);
    let key = install.folder().join("key");
    std::fs::write(&key, &plan.canary().text).expect("a file");
    let file = format!("api_key={}", key.display());
    let ran = |arguments: &[&str]| install.keyward(arguments).output().expect("it runs");
    let run = |arguments: &[&str]| {
        let output = ran(arguments);
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).expect("text")
    };
    let settings = |name: &str| -> serde_json::Value {
        let shown = run(&["connection", "show", name, "--json"]);
        serde_json::from_str::<serde_json::Value>(&shown).expect("JSON")["settings"].clone()
    };
    let add = ["connection", "add", "acme", "--name", "mine", "--secret-file", &file];
    let more =
        ["--timeout", "30s", "--retry", "4", "--retry-on", "503,429", "--header", "X-Env: prod"];
    run(&[&add[..], &more[..]].concat());
    let retry = json!({"attempts": 4, "on": [429, 503], "wait_max": "30s"});
    let before = json!({"timeout": "30s", "retry": retry, "headers": {"x-env": "prod"}});
    assert_eq!(settings("mine"), before);
    let _gateway = install.serve();
    assert_eq!(settings("mine"), before);
    for (wrong, says) in [
        (&[][..], "nothing to change"),
        (&["--timeout", "30"], "--timeout"),
        (&["--rate-limit", "100/day"], "--rate-limit"),
        (&["--retry", "99"], "--retry"),
        (&["--retry-on", "404"], "--retry-on"),
        (&["--header", "Host: x"], "host"),
        (&["--clear", "nothing"], "--clear"),
        (&["--timeout", "1s", "--clear", "timeout"], "timeout is both set and cleared"),
        (&["--expires", "30d", "--clear", "expires"], "expires is both set and cleared"),
        (&["--env", "prod", "--clear", "env"], "env is both set and cleared"),
    ] {
        let output = ran(&[&["connection", "set", "mine"], wrong].concat());
        assert_eq!(output.status.code(), Some(2), "{wrong:?}: {output:?}");
        let said = String::from_utf8_lossy(&output.stderr).to_lowercase();
        assert!(said.contains(says), "{wrong:?}: {said}");
    }
    assert_eq!(ran(&["connection", "set", "nobody", "--timeout", "1s"]).status.code(), Some(5));
    assert_eq!(settings("mine"), before);
    let set =
        ["--rate-limit", "100/min", "--concurrency", "10", "--user-agent", "x/1", "--retry", "2"];
    let told =
        run(&[&["connection", "set", "mine"][..], &set[..], &["--clear", "timeout"]].concat());
    assert!(told.contains("rate limit    100/min") && !told.contains("timeout"), "{told}");
    let retry = json!({"attempts": 2, "on": [429, 503], "wait_max": "30s"});
    let after = json!({
        "retry": retry, "rate_limit": "100/min", "concurrency": 10, "user_agent": "x/1",
        "headers": {"x-env": "prod"},
    });
    assert_eq!(settings("mine"), after);
    run(&["connection", "set", "mine", "--clear", "header=X-Env", "--clear", "retry"]);
    assert!(settings("mine").get("headers").is_none() && settings("mine").get("retry").is_none());
    run(&["connection", "set", "mine", "--clear", "all"]);
    assert_eq!(settings("mine"), json!({}));
}

#[tokio::test]
async fn explain_shows_the_settings_of_the_connection() {
    let settings = "{ timeout: 30s, rate_limit: 10/s, retry: { attempts: 2 } }";
    let plain = "{ name: plain, provider: acme, fields: { api_key: { env: CANARY } } }";
    let plan = Plan::api_key().settings(settings).connection(plain).agent("other", "plain");
    let lab = plan.start(Origin::saying("fine")).await;
    let explained = async |agent: &str| {
        let ask = json!({ "agent": agent, "url": format!("https://{HOST}/a") }).to_string();
        let told = lab.gateway.api("POST", "/rules/explain", &ask).await.json();
        assert_eq!(told["allowed"], true, "{told}");
        told["settings"].clone()
    };
    let told = explained("ci").await;
    assert_eq!((&told["timeout"], &told["rate_limit"]), (&json!("30s"), &json!("10/s")));
    assert_eq!(told["retry"]["attempts"], 2);
    assert!(explained("other").await.is_null());
    lab.finish().await;
}

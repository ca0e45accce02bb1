//! Sets of hosts that an agent may reach: what the origin receives, and what is refused all the same.

use test_support::install::Install;
use test_support::registries::{plan_of_registries, registries};
use test_support::*;

/// A lab with the agent `dev`, which the API added, and its sets.
async fn lab(allow: &str) -> Lab {
    let origin = registries();
    let mut lab = plan_of_registries(&origin).start(origin).await;
    lab.add_agent("dev").await;
    set(&lab, allow).await;
    lab
}

async fn set(lab: &Lab, allow: &str) {
    let body = format!(r#"{{"allow":{allow}}}"#);
    lab.gateway.api("PATCH", "/agents/dev", &body).await.is(200);
}

/// One request of `dev` in a tunnel of its own: status and Keyward's code.
async fn ask(lab: &Lab, request: &str, host: &str) -> (u16, String) {
    let mut wire = lab.tunnel_as("dev", host).await;
    let head = format!("{request} HTTP/1.1\r\nHost: {host}\r\nContent-Length: 0\r\n\r\n");
    let answer = wire.ask(head).await;
    let code = answer.head.all("keyward-error").first().map(ToString::to_string);
    (answer.head.status(), code.unwrap_or_default())
}

fn denied() -> (u16, String) {
    (403, "default_deny".to_owned())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_outside_the_agent_s_host_sets_does_not_reach_the_origin() {
    let lab = lab("[]").await;
    assert_eq!(ask(&lab, "GET /simple/six/", "pypi.org").await, denied(), "an answer, but none");
    set(&lab, r#"["packages"]"#).await;
    for (request, host) in [
        ("POST /legacy/", "pypi.org"),
        ("PUT /six", "registry.npmjs.org"),
        ("POST /-/v1/login", "registry.npmjs.org"),
        ("GET /o/r.git/info/refs", "github.com"),
    ] {
        assert_eq!(ask(&lab, request, host).await, denied(), "{request}");
    }
    set(&lab, r#"["github-read"]"#).await;
    assert_eq!(ask(&lab, "POST /o/r.git/git-receive-pack", "github.com").await, denied());
    assert_eq!(ask(&lab, "GET /simple/six/", "pypi.org").await, denied(), "no longer in a set");
    assert!(lab.origin.received().is_empty(), "{:#?}", lab.origin.received());
    lab.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_within_a_host_set_reaches_the_origin_with_its_target_unchanged() {
    let lab = lab(r#"["packages","github-read"]"#).await;
    for (request, host) in [
        ("GET /simple/six/", "pypi.org"),
        ("GET /@babel%2fcore", "registry.npmjs.org"),
        ("POST /-/npm/v1/security/advisories/bulk", "registry.npmjs.org"),
        ("POST /o/r.git/git-upload-pack", "github.com"),
    ] {
        assert_eq!(ask(&lab, request, host).await, (200, String::new()), "{request}");
    }
    let received = lab.origin.received();
    let targets: Vec<_> = received.iter().map(|it| it.head.target().to_owned()).collect();
    let [simple, core, bulk, pack] = [
        "/simple/six/",
        "/@babel%2fcore",
        "/-/npm/v1/security/advisories/bulk",
        "/o/r.git/git-upload-pack",
    ];
    assert_eq!(targets, [simple, core, bulk, pack]);
    assert!(received.iter().all(|it| it.head.all("x-api-key").is_empty()), "no credential");
    let records = lab.finish().await;
    let rules: Vec<_> = records.iter().filter_map(|it| it["rule"].as_str()).collect();
    let [packages, github] = ["allow:packages", "allow:github-read"];
    assert_eq!(rules, [packages, packages, packages, github]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_placeholder_is_refused_at_a_host_that_only_the_set_of_all_hosts_allows() {
    let lab = lab(r#"["web"]"#).await;
    lab.bind("dev", "acme").await;
    let placeholder = lab.gateway.placeholder("dev", "acme", "api_key");
    let mut wire = lab.tunnel_as("dev", STRANGER).await;
    wire.send(format!("GET / HTTP/1.1\r\nHost: {STRANGER}\r\nX-Api-Key: {placeholder}\r\n\r\n"))
        .await;
    let answer = wire.answer("GET").await;
    assert_eq!(answer.head.all("keyward-error"), ["placeholder_foreign"], "{}", answer.text());
    assert!(lab.origin.received().is_empty());
    assert_eq!(ask(&lab, "POST /x", STRANGER).await, (200, String::new()));
    assert!(lab.origin.only().head.all("x-api-key").is_empty());
    assert_eq!(ask(&lab, "GET /", HOST).await, (200, String::new()));
    let received = lab.origin.received();
    assert_eq!(received[1].head.all("x-api-key"), [&*lab.canary.text], "the binding decides first");
    lab.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_set_of_all_hosts_does_not_allow_private_addresses() {
    let origin = registries();
    let mut lab = plan_of_registries(&origin)
        .resolve("inside.acme.test: \"127.0.0.1:9\"")
        .start(origin)
        .await;
    lab.add_agent("dev").await;
    set(&lab, r#"["web"]"#).await;
    let (status, code) = ask(&lab, "GET /", "inside.acme.test").await;
    assert_eq!((status, &*code), (403, "address_refused"));
    lab.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_api_refuses_an_unknown_host_set_and_shows_the_sets_and_rules_in_force() {
    let lab = lab(r#"["packages"]"#).await;
    let refused = lab.gateway.api("PATCH", "/agents/dev", r#"{"allow":["pakages"]}"#).await.is(422);
    let error = &refused.json()["error"];
    assert_eq!(error["field"], "allow");
    let hint = error["hint"].as_str().expect("a hint");
    assert!(hint.starts_with("did you mean `packages`? the sets are pip, "), "{hint}");
    let shown = lab.gateway.api("GET", "/agents/dev", "").await.json();
    assert_eq!(shown["allow"], serde_json::json!(["packages"]));
    let rules = lab.gateway.api("GET", "/rules", "").await.json();
    let rules = rules["items"].as_array().expect("a list");
    let of_set = rules.iter().filter(|rule| rule["id"] == "allow:packages");
    let of_set: Vec<_> = of_set.collect();
    assert!(of_set.iter().all(|rule| rule["agents"] == serde_json::json!(["dev"])), "{of_set:#?}");
    let pip = of_set.iter().find(|rule| rule["hosts"].to_string().contains("\"pypi.org\""));
    assert_eq!(pip.expect("it is there")["methods"], serde_json::json!(["GET", "HEAD"]));
    assert_eq!(rules.last().expect("the default")["id"], "default");
    let asked = r#"{"agent":"dev","url":"https://pypi.org/simple/six/"}"#;
    let explained = lab.gateway.api("POST", "/rules/explain", asked).await.json();
    assert_eq!(explained["rule"], "allow:packages", "{explained:#}");
    set(&lab, "null").await;
    let shown = lab.gateway.api("GET", "/agents/dev", "").await.json();
    assert_eq!(shown.get("allow"), None, "as if it was never asked");
    lab.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_file_declares_host_sets_and_a_plan_shows_changes_and_unknown_names() {
    let origin = registries();
    let install = Install::new(&plan_of_registries(&origin), &origin);
    let file = install.folder().join("keyward.yaml");
    let text = std::fs::read_to_string(&file).expect("a file");
    let with = |allow: &str| {
        let text = text.replacen("use: [acme] }", &format!("use: [acme], allow: {allow} }}"), 1);
        assert!(text.contains("allow: ["), "{text}");
        std::fs::write(&file, text).expect("a file");
    };
    with("[pakages]");
    let refused = install.keyward(&["plan"]).output().expect("it runs");
    let said = [refused.stdout, refused.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    assert!(
        said.contains("agents[0].allow: `allow` names `pakages`, which is not a set"),
        "{said}"
    );
    assert!(said.contains("did you mean `packages`?"), "{said}");
    with("[packages]");
    let mut gateway = install.serve();
    assert_eq!(install.agent("ci")["allow"], serde_json::json!(["packages"]));
    with("[web]");
    let plan = install.keyward(&["plan"]).output().expect("it runs");
    let plan = String::from_utf8_lossy(&plan.stdout).into_owned();
    assert!(plan.contains("ci") && plan.contains("allow"), "{plan}");
    gateway.kill();
}

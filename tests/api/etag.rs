//! `ETag` and `If-Match`: a client cannot overwrite a change that it has not seen.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};

use crate::webhooks::{lab_of, post};
use test_support::canary::Canary;
use test_support::*;

const LAST: &str = "*";

/// A resource, and a change of it.
struct Changed {
    path: &'static str,
    change: Value,
    /// What can be removed when the test ends.
    removable: bool,
}

async fn etag(lab: &Lab, path: &str) -> String {
    let answer = lab.gateway.api("GET", path, "").await;
    assert_eq!(answer.head.status(), 200, "{path}: {}", answer.text());
    answer.head.one("etag").unwrap_or_else(|| panic!("{path} has no tag")).to_owned()
}

async fn with_tag(lab: &Lab, tag: &str, call: (&str, &str), body: &str) -> Message {
    lab.gateway.api_with(&format!("If-Match: {tag}\r\n"), call, body).await
}

/// The resource as the list of its kind has it.
async fn listed(lab: &Lab, path: &str) -> Value {
    let (list, name) = path.rsplit_once('/').expect("the path of a resource");
    let list = lab.gateway.api("GET", list, "").await.json();
    let mut items = list["items"].as_array().expect("a list").iter();
    items.find(|it| it["name"] == name).unwrap_or_else(|| panic!("{path}: {list}")).clone()
}

async fn lab() -> Lab {
    let lab = lab_of(Plan::api_key().allow("127.0.0.0/8:1-65535")).await;
    let deny = |name: &str| json!({ "name": name, "action": "deny", "methods": ["DELETE"] });
    for (path, new) in [
        ("/rules", deny("first")),
        ("/rules", deny("second")),
        ("/users", json!({ "name": "ann", "role": "member" })),
        ("/webhooks", json!({ "name": "ops", "url": "https://hooks.acme.test/in" })),
        ("/honeytokens", json!({ "name": "bait" })),
        ("/orgs", json!({ "name": "elsewhere" })),
    ] {
        post(&lab, path, &new).await;
    }
    lab
}

fn all() -> Vec<Changed> {
    let of = |path, change| Changed { path, change, removable: true };
    vec![
        of("/agents/ops-agent", json!({ "labels": { "team": "build" } })),
        of("/connections/mine", json!({ "description": "of the team" })),
        Changed { removable: false, ..of("/rules/second", json!({ "first": true })) },
        of("/rules/first", json!({ "hosts": [HOST] })),
        of("/users/ann", json!({ "role": "auditor" })),
        of("/webhooks/ops", json!({ "paused": true })),
    ]
}

#[tokio::test]
async fn a_token_of_a_user_conflicts_with_no_change_of_the_user() {
    let mut lab = lab().await;
    let path = "/users/ann";
    let (before, dated) = (etag(&lab, path).await, listed(&lab, path).await["updated"].clone());
    let issued = post(&lab, "/tokens", &json!({ "user": "ann", "label": "ci" })).await;
    lab.guard(Canary::of(issued["token"].as_str().expect("shown once").to_owned()));
    assert_eq!(etag(&lab, path).await, before);
    assert_eq!(listed(&lab, path).await["updated"], dated);
    with_tag(&lab, &before, ("PATCH", path), r#"{"role":"admin"}"#).await.is(200);
    assert_ne!(etag(&lab, path).await, before);
    assert_ne!(listed(&lab, path).await["updated"], dated);
    lab.finish().await;
}

#[tokio::test]
async fn a_change_or_removal_of_an_earlier_version_is_refused_and_changes_nothing() {
    let lab = lab().await;
    for Changed { path, change, removable } in all() {
        let before = etag(&lab, path).await;
        assert_eq!(etag(&lab, path).await, before, "{path}: reading changes nothing");
        let change = change.to_string();
        let changed = with_tag(&lab, &before, ("PATCH", path), &change).await;
        assert_eq!(changed.head.status(), 200, "{path}: {}", changed.text());
        let after = etag(&lab, path).await;
        assert_ne!(after, before, "{path}");
        let version = changed.json()["version"].clone();
        assert_eq!(after, format!("\"{}\"", version.as_str().expect("a version")), "{path}");
        assert_eq!(listed(&lab, path).await["version"], version, "{path}");
        let shown = lab.gateway.api("GET", path, "").await.json();
        for (method, body) in [("PATCH", "{}"), ("PATCH", &*change), ("DELETE", "")] {
            let refused = with_tag(&lab, &before, (method, path), body).await;
            assert_eq!(refused.head.status(), 412, "{method} {path}: {}", refused.text());
            let error = refused.json()["error"].clone();
            assert_eq!(error["code"], "stale", "{error}");
            let name = path.rsplit('/').next().expect("a name");
            let message = error["message"].as_str().expect("words");
            assert!(
                message.contains(&format!("`{name}` was changed since it was read")),
                "{error}"
            );
            assert_eq!(
                error["hint"],
                "read it again, and repeat the change with its present `ETag`"
            );
        }
        assert_eq!(lab.gateway.api("GET", path, "").await.json(), shown, "{path}");
        for tag in [LAST, version.as_str().expect("a version"), &format!("\"x\", {after}")] {
            let same = with_tag(&lab, tag, ("PATCH", path), "{}").await;
            assert_eq!(same.head.status(), 200, "{path} {tag}: {}", same.text());
        }
        if removable {
            let after = etag(&lab, path).await;
            let removed = with_tag(&lab, &after, ("DELETE", path), "").await;
            assert!(removed.head.status() < 300, "{path}: {}", removed.text());
        }
    }
    lab.finish().await;
}

#[tokio::test]
async fn a_honeytoken_or_organisation_is_removed_only_with_its_current_etag() {
    let lab = lab().await;
    for path in ["/honeytokens/bait", "/orgs/elsewhere"] {
        let refused = with_tag(&lab, "\"other\"", ("DELETE", path), "").await;
        assert_eq!(
            (refused.head.status(), refused.json()["error"]["code"].as_str()),
            (412, Some("stale"))
        );
        let tag = etag(&lab, path).await;
        assert_eq!(with_tag(&lab, &tag, ("DELETE", path), "").await.head.status(), 204, "{path}");
    }
    lab.finish().await;
}

#[tokio::test]
async fn an_order_of_rules_that_was_made_from_an_earlier_list_is_refused() {
    let lab = lab().await;
    let order = |names: [&str; 2]| json!({ "rules": names }).to_string();
    let read = etag(&lab, "/rules").await;
    lab.gateway.api("PATCH", "/rules/first", r#"{"methods":["PUT"]}"#).await.is(200);
    let call = ("PUT", "/rules/order");
    let refused = with_tag(&lab, &read, call, &order(["second", "first"])).await.is(412);
    assert_eq!(
        refused.json()["error"]["message"],
        "the list of rules was changed since it was read"
    );
    let names = |list: &Value| -> Vec<String> {
        let items = list["items"].as_array().expect("a list").iter();
        items.filter_map(|it| it["name"].as_str().map(str::to_owned)).collect()
    };
    let list = lab.gateway.api("GET", "/rules", "").await.json();
    assert_eq!(names(&list)[..2], ["first", "second"]);
    let read = etag(&lab, "/rules?limit=1").await;
    let ordered = with_tag(&lab, &read, call, &order(["second", "first"])).await;
    assert_eq!(
        (ordered.head.status(), &names(&ordered.json())[..]),
        (200, &["second".to_owned(), "first".to_owned()][..])
    );
    lab.finish().await;
}

/// Secrets are in rows of their own. The second of two people would replace one that they do not know of.
#[tokio::test]
async fn a_secret_that_replaces_an_outdated_version_is_refused_as_stale() {
    let mut lab = lab().await;
    let keys = [1_u8, 2].map(|byte| format!("whsec_{}", BASE64_STANDARD.encode([byte; 24])));
    let texts = ["a-first-secret-of-a-test", "a-second-secret-of-a-test"];
    for text in keys.iter().map(String::as_str).chain(texts) {
        lab.guard(test_support::canary::Canary::of(text.to_owned()));
    }
    let hook = json!({ "name": "in", "scheme": "gitlab", "secret": "the-secret-at-first" });
    post(&lab, "/hooks", &hook).await;
    let secrets = |text: &str| json!({ "secrets": { "client_secret": text } });
    let mut app = secrets("the-secret-at-first");
    for (key, value) in
        [("name", "hub"), ("provider", "github"), ("auth", "oauth_app"), ("client_id", "Iv1.x")]
    {
        app[key] = json!(value);
    }
    post(&lab, "/apps", &app).await;
    for (path, call, bodies) in [
        (
            "/webhooks/ops",
            ("POST", "/webhooks/ops/rotate"),
            keys.each_ref().map(|key| json!({ "signing_key": key })),
        ),
        ("/hooks/in", ("POST", "/hooks/in/rotate"), texts.map(|text| json!({ "secret": text }))),
        ("/apps/hub", ("PATCH", "/apps/hub"), texts.map(secrets)),
    ] {
        let [first, second] = bodies.map(|body| body.to_string());
        let read = etag(&lab, path).await;
        with_tag(&lab, &read, call, &first).await.is(200);
        let refused = with_tag(&lab, &read, call, &second).await.is(412);
        assert_eq!(refused.json()["error"]["code"], "stale", "{path}");
        let now = etag(&lab, path).await;
        with_tag(&lab, &now, call, &second).await.is(200);
    }
    lab.finish().await;
}

#[tokio::test]
async fn a_malformed_if_match_is_refused_and_unstored_resources_have_no_etag() {
    let lab = lab().await;
    for bad in ["abc", "", "\"a", "*, \"a\""] {
        for call in [
            ("PATCH", "/agents/ops-agent"),
            ("DELETE", "/agents/ops-agent"),
            ("PUT", "/rules/order"),
        ] {
            let refused = with_tag(&lab, bad, call, "{}").await;
            assert_eq!(refused.head.status(), 400, "{bad} {call:?}: {}", refused.text());
            assert!(
                refused.text().contains("`If-Match` must be an entity tag"),
                "{}",
                refused.text()
            );
        }
    }
    for path in ["/rules/default", "/providers/github", "/agents"] {
        let answer = lab.gateway.api("GET", path, "").await;
        assert_eq!((answer.head.status(), answer.head.one("etag")), (200, None), "{path}");
    }
    lab.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_one_of_concurrent_changes_of_one_version_succeeds() {
    let lab = lab().await;
    for path in ["/agents/ops-agent", "/rules/first"] {
        let read = etag(&lab, path).await;
        let member = if path.starts_with("/rules") { "hosts" } else { "allow" };
        let values = ["packages", "pip", "npm", "cargo", "apt", "go"];
        let calls = values.map(|value| {
            let value =
                if member == "hosts" { format!("{value}.acme.test") } else { value.to_owned() };
            let (lab, read) = (&lab, &read);
            async move {
                let body = json!({ member: [value] }).to_string();
                with_tag(lab, read, ("PATCH", path), &body).await.head.status()
            }
        });
        let mut statuses = futures_util::future::join_all(calls).await;
        statuses.sort_unstable();
        assert_eq!(statuses, [200, 412, 412, 412, 412, 412], "{path}");
    }
    lab.finish().await;
}

#[tokio::test]
async fn an_etag_is_not_changed_by_a_restart_or_a_new_run_token() {
    let mut lab = lab().await;
    let paths = ["/agents/ops-agent", "/connections/mine", "/rules/first", "/rules", "/users/ann"];
    let mut before = Vec::new();
    for path in paths {
        before.push(etag(&lab, path).await);
    }
    let run = post(&lab, "/agents/ops-agent/tokens", &json!({ "label": "a run" })).await;
    lab.guard(Canary::of(run["token"].as_str().expect("once").to_owned()));
    lab.gateway.restart().await;
    for (path, before) in paths.iter().zip(before) {
        assert_eq!(etag(&lab, path).await, before, "{path}");
    }
    lab.finish().await;
}

//! Providers that an organisation adds: what is refused, what the upstream receives, and who sees them.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};

use test_support::canary::Canary;
use test_support::*;

const OTHER: &str = "other.acme.test";

fn definition(place: &Value) -> Value {
    json!({
        "id": "corp", "name": "Corp", "hosts": [OTHER], "auth": [place],
        "test": {"url": format!("https://{OTHER}/me"), "rejects": [401, 403]},
    })
}

fn bearer() -> Value {
    definition(&json!({"id": "bearer", "kind": "bearer", "env": ["CORP_TOKEN"]}))
}

async fn post(lab: &Lab, path: &str, body: &Value) -> Message {
    lab.gateway.api("POST", path, &body.to_string()).await
}

/// A connection `corp` of the own provider, bound to the agent `bot`.
async fn connected(lab: &mut Lab, fields: Value) {
    lab.add_agent("bot").await;
    let new = json!({"provider": "corp", "name": "corp", "fields": fields});
    post(lab, "/connections", &new).await.is(201);
    post(lab, "/agents/bot/bindings", &json!({"connection": "corp"})).await.is(201);
}

async fn asked(lab: &Lab, path: &str) -> Message {
    let mut wire = lab.tunnel_to("bot", OTHER, OTHER).await;
    wire.ask(format!("GET {path} HTTP/1.1\r\nHost: {OTHER}\r\n\r\n")).await
}

#[tokio::test]
async fn an_invalid_or_conflicting_provider_definition_is_refused_with_the_reason() {
    let lab = Lab::simple().await;
    let with = |member: &str, value: Value| {
        let mut all = bearer();
        all[member] = value;
        all
    };
    let with_key = |more: Value| {
        let mut all = bearer();
        let method = all["auth"][0].as_object_mut().expect("a map");
        method.extend(more.as_object().expect("a map").clone());
        all
    };
    for (body, status, says) in [
        (json!({}), 422, "id"),
        (with("id", json!("Not An Id")), 422, "`Not An Id` is not an id"),
        (with("id", json!("github")), 409, "provider `github` exists already"),
        (with("id", json!("acme")), 409, "provider `acme` exists already"),
        (with("hosts", json!(["*.co.uk"])), 422, "covers a public suffix"),
        (with("auth", json!([])), 422, "there is no auth method"),
        (with("nope", json!(1)), 422, "unknown key `nope`"),
        (with_key(json!({"env": ["BASH_ENV"]})), 422, "cannot set an environment variable"),
        (with_key(json!({"env": ["R_PROFILE_USER"]})), 422, "cannot set an environment variable"),
        (
            with_key(json!({"key": {"placeholder": "$(touch ran)"}})),
            422,
            "a placeholder cannot begin with this",
        ),
        (
            with_key(json!({"key": {"prefixes": ["touch ran;#"]}})),
            422,
            "a prefix cannot begin a key",
        ),
        (with("test", json!({"url": "https://else.test/"})), 422, "is not one of the provider's"),
        (with("hosts", json!(["api.github.com"])), 422, "belongs to provider `github` (GitHub)"),
        (with("hosts", json!(["*.github.com"])), 422, "belongs to provider `github` (GitHub)"),
        (with("hosts", json!(["shop.myshopify.com"])), 422, "belongs to provider `shopify`"),
        (with("hosts", json!([HOST])), 422, "belongs to provider `acme` (Acme)"),
    ] {
        let mut body = body;
        // The host of the test follows, so that it is not what is refused.
        if body["hosts"][0] != OTHER && body["hosts"].is_array() {
            body.as_object_mut().expect("a map").remove("test");
        }
        let answer = post(&lab, "/providers", &body).await;
        let text = answer.text();
        assert!(text.contains(says), "{body}: {text}");
        if status == 409 || says.starts_with("belongs") {
            assert!((400..500).contains(&answer.head.status()), "{text}");
        } else {
            assert_eq!(answer.head.status(), status, "{text}");
        }
    }
    lab.gateway.api("GET", "/providers/corp", "").await.is(404);
    lab.finish().await;
}

#[tokio::test]
async fn a_path_with_an_empty_place_is_requested_without_the_credential_and_others_are_refused() {
    let mut lab = Lab::simple().await;
    let key = Canary::new("corp-");
    lab.guard(key.clone());
    let place = json!({"id": "b", "kind": "bearer", "placements": [
        {"paths": ["/v1/**", "/me"], "place": {"header": "Authorization", "prefix": "Bearer "}},
        {"paths": ["/hello"], "place": []},
    ]});
    post(&lab, "/providers", &definition(&place)).await.is(201);
    connected(&mut lab, json!({"token": key.text})).await;
    let bindings = lab.gateway.api("GET", "/agents/bot/bindings", "").await.json();
    let placeholder = bindings["items"][0]["placeholders"]["token"].as_str().expect("one");
    let mut wire = lab.tunnel_to("bot", OTHER, OTHER).await;
    let bearer = format!("Authorization: Bearer {placeholder}");
    let sent = wire.ask(format!("GET /hello HTTP/1.1\r\nHost: {OTHER}\r\n{bearer}\r\n\r\n")).await;
    assert_eq!(sent.text(), "fine");
    let received = lab.origin.arrival().await;
    assert_eq!(received.head.target(), "/hello");
    assert!(!received.head.has("authorization"));
    let refused =
        wire.ask(format!("GET /other HTTP/1.1\r\nHost: {OTHER}\r\n{bearer}\r\n\r\n")).await;
    assert_eq!(refused.head.status(), 400, "{}", refused.text());
    lab.finish().await;
}

#[tokio::test]
async fn the_upstream_receives_a_key_as_bearer_token_or_in_its_header_field() {
    for (place, fields, header, value) in [
        (json!({"id": "b", "kind": "bearer"}), "token", "authorization", "Bearer KEY"),
        (
            json!({"id": "h", "kind": "api_key", "placement": {"header": "X-Corp"}}),
            "api_key",
            "x-corp",
            "KEY",
        ),
    ] {
        let mut lab = Lab::simple().await;
        let key = Canary::new("corp-");
        lab.guard(key.clone());
        let made = post(&lab, "/providers", &definition(&place)).await.is(201);
        assert_eq!(made.json()["managed_by"], "store");
        let again = post(&lab, "/providers", &definition(&place)).await;
        assert!(
            again.text().contains("`keyward provider set FILE` changes it"),
            "{}",
            again.text()
        );
        connected(&mut lab, json!({fields: key.text})).await;
        assert_eq!(asked(&lab, "/v1/things").await.text(), "fine");
        let received = lab.origin.arrival().await;
        assert_eq!(received.head.target(), "/v1/things");
        assert_eq!(received.head.all(header), [value.replace("KEY", &key.text)]);
        lab.finish().await;
    }
}

#[tokio::test]
async fn an_own_provider_works_at_once_and_after_a_reload_and_a_restart() {
    let mut lab = Lab::simple().await;
    let key = Canary::new("corp-");
    lab.guard(key.clone());
    assert_eq!(post(&lab, "/providers", &bearer()).await.head.status(), 201);
    connected(&mut lab, json!({"token": key.text})).await;
    for step in ["at once", "after a reload", "after a restart"] {
        match step {
            "after a reload" => {
                post(&lab, "/reload", &json!({})).await.is(200);
            }
            "after a restart" => lab.gateway.restart().await,
            _ => {}
        }
        assert_eq!(asked(&lab, "/x").await.text(), "fine", "{step}");
        let received = lab.origin.arrival().await;
        assert_eq!(received.head.all("authorization"), [format!("Bearer {}", key.text)], "{step}");
    }
    lab.finish().await;
}

#[tokio::test]
async fn a_used_built_in_or_declared_provider_cannot_be_removed() {
    let mut lab = Lab::simple().await;
    let key = Canary::new("corp-");
    lab.guard(key.clone());
    assert_eq!(post(&lab, "/providers", &bearer()).await.head.status(), 201);
    connected(&mut lab, json!({"token": key.text})).await;
    for (id, says) in [
        ("corp", "provider `corp` is used by connection `corp`: remove that one first"),
        ("github", "provider `github` is built into Keyward: it cannot be changed or removed"),
        ("acme", "managed by the configuration file"),
        ("nope", "no provider is named `nope`"),
    ] {
        let answer = lab.gateway.api("DELETE", &format!("/providers/{id}"), "").await;
        assert!((400..500).contains(&answer.head.status()), "{id}");
        assert!(answer.text().contains(says), "{id}: {}", answer.text());
    }
    assert_eq!(asked(&lab, "/x").await.text(), "fine", "it works as before");
    let other = json!({"provider": "corp", "name": "other", "fields": {"token": key.text}});
    lab.gateway.api("POST", "/connections", &other.to_string()).await.is(201);
    let refused = lab.gateway.api("DELETE", "/providers/corp", "").await.text();
    assert!(refused.contains("and 1 more: remove them first"), "{refused}");
    lab.gateway.api("DELETE", "/connections/other", "").await;
    lab.gateway.api("DELETE", "/connections/corp", "").await;
    lab.gateway.api("DELETE", "/providers/corp", "").await.is(204);
    lab.gateway.api("GET", "/providers/corp", "").await.is(404);
    lab.finish().await;
}

#[tokio::test]
async fn another_organisation_cannot_see_use_or_block_an_own_provider() {
    let lab = Lab::simple().await;
    assert_eq!(post(&lab, "/providers", &bearer()).await.head.status(), 201);
    post(&lab, "/orgs", &json!({"name": "rival"})).await;
    let rival = "Keyward-Org: rival\r\n";
    let ask = async |method: &str, path: &str, body: &Value| {
        lab.gateway.api_with(rival, (method, path), &body.to_string()).await
    };
    ask("GET", "/providers/corp", &Value::Null).await.is(404);
    let listed = ask("GET", "/providers?limit=1000", &Value::Null).await;
    assert!(!listed.text().contains("corp\""), "{}", listed.text());
    let new = json!({"provider": "corp", "name": "theirs", "fields": {"token": "t-0123456789"}});
    assert!(ask("POST", "/connections", &new).await.head.status() >= 400);
    assert_eq!(ask("DELETE", "/providers/corp", &Value::Null).await.head.status(), 404);
    // They may have one of the same id and hosts.
    ask("POST", "/providers", &bearer()).await.is(201);
    lab.finish().await;
}

#[tokio::test]
async fn the_result_and_the_message_of_a_provider_test_follow_the_status() {
    let origin = Origin::answering(|request: &Message| {
        let status = request.head.target().trim_start_matches('/').to_owned();
        format!("HTTP/1.1 {status} X\r\nContent-Length: 0\r\n\r\n")
    });
    let lab = Plan::api_key().start(origin).await;
    for (status, ok, says) in [
        (401, false, "S401 rejected this key (401)"),
        (403, false, "S403 knows the key, but it may not do this (403)"),
        (429, false, "S429 received too many requests (429)"),
        (500, false, "S500 has an internal error (500)"),
        (200, true, "S200 accepted the key (200, "),
        (404, true, "S404 did not reject the key (404 to `GET "),
    ] {
        let id = format!("s{status}");
        let mut one = bearer();
        one["id"] = json!(id);
        one["name"] = json!(format!("S{status}"));
        one["test"]["url"] = json!(format!("https://{OTHER}/{status}"));
        post(&lab, "/providers", &one).await.is(201);
        let new = json!({"provider": id, "name": id, "fields": {"token": "t-0123456789"}});
        assert_eq!(post(&lab, "/connections", &new).await.head.status(), 201);
        let tested = post(&lab, &format!("/connections/{id}/test"), &json!({})).await.json();
        assert_eq!(tested["ok"], ok, "{tested}");
        assert!(tested["message"].as_str().expect("text").starts_with(says), "{tested}");
        lab.gateway.api("DELETE", &format!("/connections/{id}"), "").await;
        lab.gateway.api("DELETE", &format!("/providers/{id}"), "").await;
    }
    lab.finish().await;
}

#[tokio::test]
async fn a_file_that_defines_a_stored_provider_as_well_is_refused() {
    let lab = Lab::simple().await;
    assert_eq!(post(&lab, "/providers", &bearer()).await.head.status(), 201);
    let file = lab.gateway.folder().join("keyward.yaml");
    let text = std::fs::read_to_string(&file).expect("the configuration");
    let own = "{ id: corp, name: Corp, hosts: [third.acme.test], auth: [{ id: b, kind: bearer }] }";
    let changed = text.replace("providers:\n", &format!("providers:\n  - {own}\n"));
    assert_ne!(changed, text);
    std::fs::write(&file, changed).expect("a file");
    let answer = post(&lab, "/reload", &json!({})).await;
    assert!(answer.head.status() >= 400, "{}", answer.text());
    assert!(answer.text().contains("`corp` is stored as well"), "{}", answer.text());
    std::fs::write(&file, text).expect("a file");
    lab.finish().await;
}

#[tokio::test]
async fn a_provider_that_extends_github_works_like_an_enterprise_server() {
    let origin = Origin::answering(|request: &Message| match request.head.target() {
        "/api/v3/user" => ok(r#"{"login":"octocat"}"#),
        _ => ok("fine"),
    });
    let mut lab = Plan::api_key().start(origin).await;
    let key = Canary::new("ghp_");
    lab.guard(key.clone());
    let mine = json!({"id": "corp", "name": "Corp", "extends": "github", "hosts": [OTHER]});
    let made = post(&lab, "/providers", &mine).await.is(201);
    assert_eq!(made.json()["hosts"], json!([OTHER]));
    connected(&mut lab, json!({"token": key.text})).await;
    let tested = post(&lab, "/connections/corp/test", &json!({})).await.json();
    assert!(tested["message"].as_str().is_some_and(|it| it.contains("octocat")), "{tested}");
    assert_eq!(lab.origin.arrival().await.head.target(), "/api/v3/user");
    let bearer = format!("Bearer {}", key.text);
    let basic = format!("Basic {}", BASE64_STANDARD.encode(format!("x-access-token:{}", key.text)));
    for step in ["at once", "after a restart"] {
        if step == "after a restart" {
            lab.gateway.restart().await;
        }
        for (path, value) in [
            ("/api/v3/repos/o/r", &bearer),
            ("/api/graphql", &bearer),
            ("/o/r.git/info/refs", &basic),
        ] {
            assert_eq!(asked(&lab, path).await.head.status(), 200, "{step}: {path}");
            let received = lab.origin.arrival().await;
            assert_eq!(received.head.all("authorization"), [value.as_str()], "{step}: {path}");
        }
        for path in ["/login", "/o/r/settings", "/login/oauth/access_token"] {
            let refused = asked(&lab, path).await;
            assert!(refused.head.status() >= 400, "{step}: {path}: {}", refused.text());
        }
    }
    let nothing =
        json!({"id": "nothing", "name": "Nothing", "extends": "no-such", "hosts": [OTHER]});
    post(&lab, "/providers", &nothing).await.is(422).says("this is not a built-in provider");
    lab.finish().await;
}

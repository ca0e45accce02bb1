//! Changes of own providers: while connections use one, no secret is sent elsewhere or in another form, and what may
//! change is in force at once.

use serde_json::{Value, json};

use crate::admin_network::{ask_at, user_login};
use test_support::canary::Canary;
use test_support::*;

const OTHER: &str = "other.acme.test";
const AT: &str = "/providers/corp";

fn corp() -> Value {
    json!({
        "id": "corp", "name": "Corp", "hosts": [OTHER],
        "auth": [{"id": "key", "kind": "api_key", "placement": {"header": "X-Corp"}, "env": ["CORP_KEY"]}],
        "test": {"url": format!("https://{OTHER}/me")},
        "actions": [{"name": "read", "label": "Read", "requests": [{"methods": ["GET"], "paths": ["/v1/**"]}]}],
    })
}

fn with(change: impl FnOnce(&mut Value)) -> Value {
    let mut all = corp();
    change(&mut all);
    assert_ne!(all, corp());
    all
}

async fn api(lab: &Lab, method: &str, path: &str, body: &Value) -> Message {
    lab.gateway.api_json(method, path, body).await
}

/// An origin that names an account, before a gateway with the provider.
async fn lab() -> Lab {
    let origin = Origin::answering(|request: &Message| match request.head.target() {
        "/me" => ok(r#"{"user":{"email":"ann@corp.example"}}"#),
        _ => ok("fine"),
    });
    let lab = Plan::api_key().start(origin).await;
    api(&lab, "POST", "/providers", &corp()).await.is(201);
    lab
}

/// A connection `work` with a secret, bound to the agent `bot`.
async fn connected(lab: &mut Lab, binding: &Value) -> Canary {
    let key = Canary::new("corp-");
    lab.guard(key.clone());
    lab.add_agent("bot").await;
    let new = json!({"provider": "corp", "name": "work", "fields": {"api_key": key.text}});
    api(lab, "POST", "/connections", &new).await.is(201);
    api(lab, "POST", "/agents/bot/bindings", binding).await.is(201);
    key
}

async fn asked(lab: &Lab, path: &str) -> u16 {
    answered(lab, "GET", path).await.head.status()
}

async fn answered(lab: &Lab, method: &str, path: &str) -> Message {
    let mut wire = lab.tunnel_to("bot", OTHER, OTHER).await;
    let head = format!("{method} {path} HTTP/1.1\r\nHost: {OTHER}\r\nContent-Length: 0\r\n\r\n");
    wire.send(head).await;
    wire.answer(method).await
}

/// What the service got last.
async fn sent(lab: &mut Lab) -> Vec<String> {
    let received = lab.origin.arrival().await;
    received.head.all("x-corp").into_iter().map(str::to_owned).collect()
}

#[tokio::test]
async fn a_change_that_would_send_a_used_secret_to_other_hosts_or_places_is_refused() {
    let mut lab = lab().await;
    let key = connected(&mut lab, &json!({"connection": "work"})).await;
    for (definition, field) in [
        (with(|it| it["hosts"] = json!([OTHER, "third.acme.test"])), "hosts"),
        (
            with(|it| {
                it["hosts"] = json!(["third.acme.test"]);
                it["test"]["url"] = json!("https://third.acme.test/me");
            }),
            "hosts",
        ),
        (with(|it| it["paths"] = json!(["/v1/**"])), "paths"),
        (with(|it| it["auth"][0]["placement"] = json!({"query": "key"})), "auth[0].placement"),
        (with(|it| it["auth"][0]["placement"]["header"] = json!("X-Echoed")), "auth[0].placement"),
        (with(|it| it["auth"][0]["id"] = json!("other")), "auth[0].id"),
        (
            with(|it| {
                let method = json!({"id": "b", "kind": "bearer"});
                it["auth"].as_array_mut().expect("a list").push(method);
            }),
            "auth[1]",
        ),
        (
            with(|it| {
                it["test"] = json!({"url": it["test"]["url"], "method": "POST", "body": "x"})
            }),
            "test.body",
        ),
        (with(|it| it["default_headers"] = json!({"X-More": "1"})), "default_headers"),
        (json!({"id": "corp", "name": "Corp", "extends": "groq", "hosts": [OTHER]}), "auth"),
    ] {
        let answer = api(&lab, "PUT", AT, &definition).await;
        let text = answer.text();
        assert!((400..500).contains(&answer.head.status()), "{definition}: {text}");
        let named =
            format!("`{field}` of provider `corp` cannot change while connection `work` uses it");
        assert!(text.contains(&named), "{definition}: {text}");
        assert!(text.contains("remove what uses it first"), "a remedy: {text}");
        let now = api(&lab, "GET", AT, &Value::Null).await.json();
        assert_eq!(now["definition"], corp(), "{field}");
    }
    assert_eq!(asked(&lab, "/v1/x").await, 200);
    assert_eq!(sent(&mut lab).await, [key.text.as_str()]);
    // Without the connection there is no secret.
    assert_eq!(api(&lab, "DELETE", "/connections/work", &Value::Null).await.head.status() / 100, 2);
    let moved = with(|it| it["auth"][0]["placement"]["header"] = json!("X-Other"));
    api(&lab, "PUT", AT, &moved).await.is(200);
    lab.finish().await;
}

#[tokio::test]
async fn the_test_url_of_a_provider_with_a_private_connection_cannot_be_changed() {
    let lab = lab().await;
    let other = with(|it| {
        it["test"] = json!({"url": format!("https://{OTHER}/keys"), "account": ["key"]});
    });
    let account = with(|it| it["test"]["account"] = json!(["user.email"]));
    api(&lab, "POST", "/users", &json!({"name": "ann", "role": "member"})).await.is(201);
    let private = json!({
        "provider": "corp", "name": "work", "owner": "ann", "visibility": "private",
        "fields": {"api_key": "a-key-of-ann"},
    });
    api(&lab, "POST", "/connections", &private).await.is(201);
    let refused = api(&lab, "PUT", AT, &other).await;
    assert!(
        refused.text().contains("`test.url` of provider `corp` cannot change"),
        "{}",
        refused.text()
    );
    assert_eq!(api(&lab, "PUT", AT, &account).await.head.status(), 200);
    lab.finish().await;
}

#[tokio::test]
async fn the_token_endpoint_of_a_provider_with_an_app_cannot_be_changed() {
    let lab = Lab::simple().await;
    let oauth = |token: &str| {
        json!({
            "id": "corp", "name": "Corp", "hosts": [OTHER],
            "auth": [{
                "id": "oauth", "kind": "oauth2", "authorize": format!("https://{OTHER}/authorize"),
                "token": format!("https://{OTHER}{token}"),
            }],
        })
    };
    assert_eq!(api(&lab, "POST", "/providers", &oauth("/token")).await.head.status(), 201);
    let app = json!({
        "name": "portal", "provider": "corp", "client_id": "client",
        "secrets": {"client_secret": "canary-secret-of-an-app"},
    });
    api(&lab, "POST", "/apps", &app).await.is(201);
    let refused = api(&lab, "PUT", AT, &oauth("/elsewhere")).await.text();
    let named = "`auth[0].token` of provider `corp` cannot change while app `portal` uses it";
    assert!(refused.contains(named), "{refused}");
    lab.finish().await;
}

#[tokio::test]
async fn a_permitted_change_applies_at_once_and_after_a_restart_and_is_recorded() {
    let mut lab = lab().await;
    let binding = json!({"connection": "work", "allow": ["read"]});
    let key = connected(&mut lab, &binding).await;
    assert_eq!(asked(&lab, "/v1/x").await, 200);
    assert_eq!(sent(&mut lab).await, [key.text.as_str()]);
    assert_eq!(asked(&lab, "/v2/x").await, 403);
    let now = with(|it| {
        it["name"] = json!("Corp Billing");
        it["test"]["account"] = json!(["user.email"]);
        it["auth"][0]["env"] = json!(["BILLING_KEY"]);
        it["actions"][0]["requests"][0]["paths"] = json!(["/v2/**"]);
    });
    let changed = api(&lab, "PUT", AT, &now).await.is(200);
    assert_eq!(changed.json()["name"], "Corp Billing");
    for step in ["at once", "after a restart"] {
        if step == "after a restart" {
            lab.gateway.restart().await;
        }
        assert_eq!(asked(&lab, "/v1/x").await, 403, "{step}");
        assert_eq!(asked(&lab, "/v2/x").await, 200, "{step}");
        assert_eq!(sent(&mut lab).await, [key.text.as_str()], "{step}");
        let tested = api(&lab, "POST", "/connections/work/test", &json!({})).await.json();
        let message = tested["message"].as_str().expect("text");
        assert!(message.starts_with("Corp Billing accepted the key: ann@corp.example"), "{tested}");
        assert_eq!(sent(&mut lab).await, [key.text.as_str()], "{step}: the test");
        let shown = api(&lab, "GET", AT, &Value::Null).await.json();
        assert_eq!(shown["definition"], now, "{step}");
        assert_eq!(shown["auth"][0]["fields"][0]["env"], json!(["BILLING_KEY"]), "{step}");
    }
    let changes: Vec<_> =
        lab.gateway.stop_with_changes().await.into_iter().map(|it| it["change"].clone()).collect();
    let of_it = changes.iter().find(|it| it["what"] == "provider" && it["action"] == "changed");
    assert_eq!(of_it.map(|it| &it["name"]), Some(&json!("corp")), "{changes:?}");
    lab.finish().await;
}

#[tokio::test]
async fn a_binding_that_denies_a_removed_action_allows_nothing() {
    let mut lab = lab().await;
    let binding = json!({"connection": "work", "deny": ["read"]});
    let key = connected(&mut lab, &binding).await;
    assert_eq!(asked(&lab, "/v1/x").await, 403);
    assert_eq!(asked(&lab, "/v2/x").await, 200);
    assert_eq!(sent(&mut lab).await, [key.text.as_str()]);
    let none = with(|it| it["actions"] = json!([]));
    api(&lab, "PUT", AT, &none).await.is(200);
    for path in ["/v1/x", "/v2/x"] {
        assert_eq!(asked(&lab, path).await, 403, "{path}");
    }
    lab.finish().await;
}

/// The form sends both lists, so an action without a box would be removed by any save.
#[tokio::test]
async fn the_page_of_a_binding_keeps_an_action_that_is_gone_until_a_person_clears_it() {
    let mut lab = lab().await;
    connected(&mut lab, &json!({"connection": "work", "deny": ["read"]})).await;
    let login = user_login(&mut lab, "ann", "admin").await;
    for actions in [
        json!([]),
        json!([{"name": "list", "label": "List", "requests": [{"methods": ["GET"], "paths": ["/v1/**"]}]}]),
    ] {
        let definition = with(|it| it["actions"] = actions);
        assert_eq!(api(&lab, "PUT", AT, &definition).await.head.status(), 200);
        let page = ask_at(&lab, "GET /agents/bot/bindings/work", &login.cookie(), "").await.text();
        assert!(page.contains(r#"name="deny" checked value="read""#), "{page}");
        assert!(page.contains("data-tag=\""), "{page}");
        let one = "/agents/bot/bindings/work";
        let as_shown = json!({"allow": null, "deny": ["read"]});
        api(&lab, "PATCH", one, &as_shown).await.is(422);
        assert_eq!(asked(&lab, "/v2/x").await, 403);
    }
    lab.finish().await;
}

#[tokio::test]
async fn a_rule_whose_only_action_was_removed_allows_nothing() {
    let mut lab = lab().await;
    let key = connected(&mut lab, &json!({"connection": "work"})).await;
    let none = with(|it| it["actions"] = json!([]));
    let reads = json!({"name": "reads", "use": "work", "actions": ["read"]});
    let mut granted = reads.clone();
    granted["agents"] = json!(["bot"]);
    granted["methods"] = json!(["GET"]);
    let received =
        |lab: &Lab| lab.origin.received().iter().filter(|it| it.head.target() != "/me").count();
    for rule in [reads, granted] {
        api(&lab, "POST", "/rules", &rule).await.is(201);
        assert_eq!(asked(&lab, "/v1/x").await, 200);
        assert_eq!(sent(&mut lab).await, [key.text.as_str()]);
        let beyond = [("GET", "/v2/x"), ("POST", "/v1/x")];
        for (method, path) in beyond {
            let answer = answered(&lab, method, path).await;
            assert_eq!(answer.head.status(), 403, "before: {method} {path}");
        }
        let before = received(&lab);
        assert_eq!(api(&lab, "PUT", AT, &none).await.head.status(), 200);
        for step in ["at once", "after a restart"] {
            if step == "after a restart" {
                lab.gateway.restart().await;
            }
            for (method, path) in beyond.into_iter().chain([("GET", "/v1/x")]) {
                let answer = answered(&lab, method, path).await;
                assert_eq!(answer.head.status(), 403, "{step}: {rule} {method} {path}");
                let told = answer.json();
                let message = told["error"]["message"].as_str().unwrap_or_default();
                assert!(message.contains("rule `store:reads` allows nothing"), "{told}");
            }
            let ask =
                json!({"agent": "bot", "method": "POST", "url": format!("https://{OTHER}/v2/x")});
            let told = api(&lab, "POST", "/rules/explain", &ask).await.json();
            assert_eq!(told["rule"], "store:reads", "{told}");
        }
        assert_eq!(received(&lab), before, "the origin received nothing");
        // The remedy.
        assert_eq!(api(&lab, "PUT", AT, &corp()).await.head.status(), 200);
        assert_eq!(asked(&lab, "/v1/x").await, 200);
        assert_eq!(sent(&mut lab).await, [key.text.as_str()]);
        assert_eq!(api(&lab, "DELETE", "/rules/reads", &Value::Null).await.head.status(), 204);
    }
    lab.finish().await;
}

#[tokio::test]
async fn only_an_own_provider_can_be_changed_and_no_host_of_another_provider_added() {
    let lab = lab().await;
    let foreign = with(|it| {
        it["hosts"] = json!(["api.github.com"]);
        it["test"] = Value::Null;
    });
    for (path, definition, says) in [
        (AT, foreign, "api.github.com belongs to provider `github`"),
        (AT, with(|it| it["id"] = json!("corp-2")), "must stay `corp`"),
        (AT, with(|it| it["auth"] = json!([])), "there is no auth method"),
        (
            "/providers/github",
            corp(),
            "provider `github` is built into Keyward: it cannot be changed or removed",
        ),
        ("/providers/acme", corp(), "managed by the configuration file"),
        ("/providers/nope", corp(), "no provider is named `nope`"),
    ] {
        let answer = api(&lab, "PUT", path, &definition).await;
        assert!((400..500).contains(&answer.head.status()), "{path}: {}", answer.text());
        assert!(answer.text().contains(says), "{path}: {}", answer.text());
    }
    assert_eq!(api(&lab, "POST", "/orgs", &json!({"name": "rival"})).await.head.status(), 201);
    let rival = "Keyward-Org: rival\r\n";
    lab.gateway.api_with(rival, ("PUT", AT), &corp().to_string()).await.is(404);
    let stale = "If-Match: \"AAAAAAAAAAAAAAAAAAAAAA\"\r\n";
    let renamed = with(|it| it["name"] = json!("Renamed")).to_string();
    lab.gateway.api_with(stale, ("PUT", AT), &renamed).await.is(412);
    assert_eq!(api(&lab, "GET", AT, &Value::Null).await.json()["definition"], corp());
    // Its own hosts are no one else's, and no connection uses it.
    let more = with(|it| it["hosts"] = json!([OTHER, "third.acme.test"]));
    api(&lab, "PUT", AT, &more).await.is(200);
    lab.finish().await;
}

/// The console's editor has the stored definition, and sends what was changed of it to the same place.
#[tokio::test]
async fn the_console_offers_an_editor_for_own_providers_only() {
    let lab = lab().await;
    let new = json!({"name": "ann", "role": "admin"});
    assert_eq!(api(&lab, "POST", "/users", &new).await.head.status(), 201);
    let made = api(&lab, "POST", "/tokens", &json!({"user": "ann"})).await.json();
    let token = made["token"].as_str().expect("shown once").to_owned();
    let at = lab.gateway.admin;
    let page = async |path: &str| {
        let mut wire = Wire::to(at).await;
        wire.stop_recording();
        let head =
            format!("GET {path} HTTP/1.1\r\nHost: {at}\r\nAuthorization: Bearer {token}\r\n");
        wire.send(format!("{head}Connection: close\r\n\r\n")).await;
        let answer = wire.answer("GET").await;
        assert_eq!(answer.head.status(), 200, "{path}: {}", answer.text());
        answer.text()
    };
    let service = page("/services/corp").await;
    let (_, rest) =
        service.split_once("href=\"/services/new?as=text").expect("a way to the editor");
    let editor = rest.split('"').next().expect("an address").replace("&amp;", "&");
    let editor = page(&format!("/services/new?as=text{editor}")).await;
    assert!(
        editor.contains("PUT /providers/corp") && !editor.contains("POST /providers"),
        "{editor}"
    );
    assert!(editor.contains("id: corp\nname: Corp\n"), "{editor}");
    // Those of others have no way there.
    for other in ["github", "acme"] {
        let service = page(&format!("/services/{other}")).await;
        assert!(!service.contains("/services/new?as=text"), "{service}");
    }
    // A category has the title that the reference has; that of an own service stays as it is written.
    let github = page("/services/github").await;
    assert!(github.contains(" · Development") && !github.contains(" · dev"), "{github}");
    let all = page("/services?category=crm").await;
    assert!(all.contains(">Development (") && all.contains(">Customers ("), "{all}");
    let taken = page("/services/new?as=text&definition=%7Bid%3A%20acme%2C%20name%3A%20A%2C%20hosts%3A%20%5Bb.test%5D%2C%20auth%3A%20%5B%7Bid%3A%20k%2C%20kind%3A%20bearer%7D%5D%7D").await;
    assert!(!taken.contains("PUT /providers"), "{taken}");
    lab.finish().await;
}

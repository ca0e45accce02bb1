//! What must not be: sources of the gateway's machine by the API, references of people who are no admins, and values of
//! another organisation.

use serde_json::json;

use super::*;

#[tokio::test]
async fn the_api_adds_no_source_that_reads_the_gateways_machine() {
    let lab = Lab::simple().await;
    for local in [
        json!({"name": "a", "env": {"names": ["PATH"]}, "credentials": {"PATH": "x"}}),
        json!({"name": "a", "file": {"folder": "/etc"}}),
        json!({"name": "a", "command": {"run": ["id"]}}),
        json!({"name": "a", "keychain": {}}),
        json!({"name": "a", "vault": {"address": "https://v.test", "login": "kubernetes", "role": "r"}}),
    ] {
        let refused = api(&lab, "POST", "/sources", local.clone(), 422).await;
        let message = refused["error"]["message"].as_str().unwrap_or_default();
        assert!(message.contains("only the configuration file"), "{local}: {message}");
    }
    let added =
        json!({"name": "a", "vault": {"address": "https://v.test"}, "credentials": {"token": "t"}});
    api(&lab, "POST", "/sources", added, 201).await;
    let changed = json!({"vault": null, "file": {"folder": "/etc"}, "credentials": {}});
    api(&lab, "PATCH", "/sources/a", changed, 422).await;
    // The token was given for that server.
    let moved = json!({"vault": {"address": "https://evil.test"}});
    let refused = api(&lab, "PATCH", "/sources/a", moved, 422).await;
    let message = refused["error"]["message"].as_str().unwrap_or_default();
    assert!(message.contains("must be given again"), "{message}");
    lab.finish().await;
}

#[tokio::test]
async fn a_reference_to_an_unknown_source_or_by_a_member_is_refused() {
    let lab = Lab::simple().await;
    let new = json!({"name": "b", "provider": "acme", "fields": {"api_key": {"from": "kept", "ref": "a"}}});
    let refused = api(&lab, "POST", "/connections", new.clone(), 404).await;
    let message = refused["error"]["message"].as_str().unwrap_or_default();
    assert!(message.contains("there is no source `kept`"), "{message}");

    let source = json!({"name": "kept", "doppler": {}, "credentials": {"token": "t"}});
    api(&lab, "POST", "/sources", source, 201).await;
    api(&lab, "POST", "/users", json!({"name": "mia", "role": "member"}), 201).await;
    let token = json!({"user": "mia", "label": "first"});
    let token = api(&lab, "POST", "/tokens", token, 201).await;
    let token = token["token"].as_str().expect("shown once").to_owned();
    let of_mia = format!("Authorization: Bearer {token}\r\n");
    let asked =
        lab.gateway.api_with(&of_mia, ("POST", "/connections"), &new.to_string()).await.is(422);
    assert!(asked.text().contains("only if an admin"), "{}", asked.text());
    let seen = lab.gateway.api_with(&of_mia, ("GET", "/sources"), "").await;
    assert_eq!(seen.json()["items"], json!([]), "{}", seen.text());
    for (method, path) in
        [("GET", "/sources/kept"), ("POST", "/sources/kept/test"), ("DELETE", "/sources/kept")]
    {
        let seen = lab.gateway.api_with(&of_mia, (method, path), "{}").await;
        assert!(matches!(seen.head.status(), 403 | 404), "{method} {path}: {}", seen.text());
    }

    // The operator may, also where the value cannot be fetched yet.
    api(&lab, "POST", "/connections", new, 201).await;
    let refused = api(&lab, "DELETE", "/sources/kept", Value::Null, 422).await;
    let message = refused["error"]["message"].as_str().unwrap_or_default();
    assert!(message.contains("connection `b`"), "{message}");
    let secret = json!({"fields": {"api_key": "another"}, "test": false});
    let refused = api(&lab, "POST", "/connections/b/rotate", secret, 422).await;
    let message = refused["error"]["message"].as_str().unwrap_or_default();
    assert!(message.contains("secret source"), "{message}");
    lab.finish().await;
}

#[tokio::test]
async fn a_source_of_another_organisation_does_not_exist() {
    let value = Canary::new("cnry");
    let folder = folder("key", &value);
    let source = format!("file: {{ folder: '{}' }}", folder.path().display());
    let mut lab = planned(&source, "key").start(Origin::saying("fine")).await;
    lab.guard(value.clone());
    api(&lab, "POST", "/orgs", json!({"name": "other"}), 201).await;
    let of_other = "Keyward-Org: other\r\n";
    let new = json!({"name": "b", "provider": "acme", "fields": {"api_key": {"from": "kept", "ref": "key"}}});
    let asked =
        lab.gateway.api_with(of_other, ("POST", "/connections"), &new.to_string()).await.is(404);
    assert!(asked.text().contains("there is no source `kept`"), "{}", asked.text());
    lab.gateway.api_with(of_other, ("GET", "/sources/kept"), "").await.is(404);
    lab.finish().await;
}

#[tokio::test]
async fn a_file_with_an_unknown_source_or_a_wrong_one_is_refused_with_its_place() {
    let origin = Origin::saying("fine");
    let refused = plan("a").refused(&origin).await;
    assert!(
        refused.contains("connections[0]") && refused.contains("there is no source `kept`"),
        "{refused}"
    );
    let refused = planned("vault: { address: 'https://v.test' }", "a").refused(&origin).await;
    assert!(refused.contains("sources[0]") && refused.contains("`token`"), "{refused}");
    let refused = planned("file: { folder: secrets }", "a").refused(&origin).await;
    assert!(refused.contains("must be an absolute path"), "{refused}");
}

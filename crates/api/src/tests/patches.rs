//! Changes of members that only another request changes.

use super::*;

#[tokio::test]
async fn a_patch_of_a_member_that_another_request_changes_names_that_request() {
    let lab = Lab::stocked().await;
    let document = openapi();
    for (path, patch, requests) in [
        ("connections/work", json!({"fields": {"token": CANARY}}), &["rotate"][..]),
        ("connections/work", json!({"state": "paused"}), &["pause", "resume"]),
        ("connections/work", json!({"paused": true}), &["pause", "resume"]),
        ("agents/ci", json!({"paused": true}), &["pause", "resume"]),
        ("agents/ci", json!({"tokens": []}), &["tokens"]),
        ("agents/ci", json!({"bindings": []}), &["bindings"]),
    ] {
        let (status, body) = lab.patch(&format!("/api/v1/{path}"), patch.clone()).await;
        assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY, "{path}: {patch}: {body}");
        assert!(!body.to_string().contains(CANARY), "{body}");
        let hint = body["error"]["hint"].as_str().unwrap_or_default();
        let (many, _) = path.split_once('/').unwrap();
        for request in requests {
            let named = format!("`POST /{many}/{{id}}/{request}`");
            assert!(hint.contains(&named), "{path}: {patch}: {body}");
            let route = format!("/{many}/{{{}}}/{request}", many.trim_end_matches('s'));
            assert!(document["paths"][&route]["post"].is_object(), "{route} is no route");
        }
    }
}

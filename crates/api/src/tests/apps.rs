//! Changes of apps over the API.

use super::*;

/// An app of a provider whose variable has a default, with a secret.
async fn stocked() -> (Lab, Value) {
    let lab = Lab::new().await;
    let new = json!({
        "provider": "microsoft", "name": "hub", "client_id": "x", "scopes": ["User.Read"],
        "variables": {"tenant": "acme"}, "settings": {"refresh_buffer": "2m"},
        "secrets": {"client_secret": CANARY},
    });
    let (status, made) = lab.post("/api/v1/apps", new).await;
    assert_eq!(status, StatusCode::CREATED, "{made}");
    (lab, made)
}

#[tokio::test]
async fn a_patch_of_an_app_keeps_what_it_does_not_name_and_the_secret() {
    let (lab, before) = stocked().await;
    for patch in [
        json!({}),
        json!({"variables": {}}),
        json!({"settings": {}}),
        json!({"urls": null}),
        json!({"secrets": null}),
        json!({"client_id": "x"}),
    ] {
        let (status, after) = lab.patch("/api/v1/apps/hub", patch.clone()).await;
        assert_eq!(status, StatusCode::OK, "{patch}: {after}");
        assert_eq!(after["changed"], false, "{patch}: {after}");
        assert_eq!(lab.get("/api/v1/apps/hub").await.1, before, "{patch}");
    }
}

#[tokio::test]
async fn null_in_a_patch_of_an_app_removes_a_member_but_no_required_one_and_no_secret() {
    let (lab, before) = stocked().await;
    let secret = json!({"client_secret": CANARY});
    for (patch, field) in [
        (json!({"name": null}), "name"),
        (json!({"provider": null}), "provider"),
        (json!({"client_id": null}), "client_id"),
        // The secret would be sent to another tenant.
        (json!({"variables": null}), "secrets"),
        (json!({"variables": {"tenant": null}}), "secrets"),
    ] {
        let (status, body) = lab.patch("/api/v1/apps/hub", patch.clone()).await;
        assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY, "{patch}: {body}");
        assert_eq!(body["error"]["field"], field, "{patch}: {body}");
        assert_eq!(lab.get("/api/v1/apps/hub").await.1, before, "{patch}");
    }
    for (patch, member, left) in [
        (json!({"scopes": null}), "scopes", json!([])),
        (json!({"settings": {"refresh_buffer": null}}), "settings", json!({})),
        (json!({"variables": {"tenant": null}, "secrets": secret}), "variables", json!({})),
    ] {
        let (status, after) = lab.patch("/api/v1/apps/hub", patch.clone()).await;
        assert_eq!(status, StatusCode::OK, "{patch}: {after}");
        assert_eq!(after[member], left, "{patch}: {after}");
        assert_eq!(after["secrets"], json!(["client_secret"]), "{patch}: {after}");
        assert!(!after.to_string().contains(CANARY), "{after}");
    }
}

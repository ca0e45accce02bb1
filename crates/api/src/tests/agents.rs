//! Changes of agents over the API.

use super::*;

#[tokio::test]
async fn labels_and_environment_of_an_agent_are_changed_by_a_merge_patch() {
    let lab = Lab::new().await;
    let new = json!({"name": "ci", "labels": {"team": "a", "tier": "1"}, "environment": "dev"});
    let (status, before) = lab.post("/api/v1/agents", new).await;
    assert_eq!(status, StatusCode::CREATED, "{before}");
    for (refused, field) in [
        (json!({"name": "cd"}), "name"),
        (json!({"labels": {"team": ""}}), "labels.team"),
        (json!({"labels": {"team": 1}}), "labels.team"),
        (json!({"environment": ""}), "environment"),
        (json!({"paused": true}), "paused"),
        (json!({"tokens": []}), "tokens"),
    ] {
        let (status, body) = lab.patch("/api/v1/agents/ci", refused.clone()).await;
        assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY, "{refused}: {body}");
        assert_eq!(body["error"]["field"], field, "{refused}: {body}");
    }
    assert_eq!(lab.get("/api/v1/agents/ci").await.1, before);
    let patch = json!({"labels": {"tier": null, "x": "y"}, "environment": null});
    let (status, after) = lab.patch("/api/v1/agents/ci", patch).await;
    assert_eq!(status, StatusCode::OK, "{after}");
    assert_eq!(after["labels"], json!({"team": "a", "x": "y"}));
    assert_eq!(after["environment"], Value::Null);
    assert_eq!(after["id"], before["id"]);
    assert_eq!(lab.get("/api/v1/agents/ci").await.1, after);
}

#[tokio::test]
async fn an_agent_does_not_leave_the_environment_of_its_connections() {
    let lab = Lab::stocked().await;
    let (status, body) = lab.patch("/api/v1/agents/ci", json!({"environment": "dev"})).await;
    assert_eq!(status, StatusCode::OK, "{body}");
    let new = json!({"name": "prod", "provider": "github", "environment": "production",
                     "fields": {"token": "ghp_0123456789"}});
    let (status, body) = lab.post("/api/v1/connections", new).await;
    assert_eq!(status, StatusCode::CREATED, "{body}");
    let bind = json!({"connection": "prod"});
    let (status, body) = lab.post("/api/v1/agents/ci/bindings", bind.clone()).await;
    assert_eq!(status, StatusCode::CONFLICT, "{body}");
    let (status, _) = lab.patch("/api/v1/agents/ci", json!({"environment": "production"})).await;
    assert_eq!(status, StatusCode::OK);
    let (status, body) = lab.post("/api/v1/agents/ci/bindings", bind).await;
    assert_eq!(status, StatusCode::CREATED, "{body}");
    let (status, body) = lab.patch("/api/v1/agents/ci", json!({"environment": "dev"})).await;
    assert_eq!(status, StatusCode::CONFLICT, "{body}");
    assert_eq!(body["error"]["code"], "environment_mismatch");
}

//! Parameters of the query that an operation does not have.

use super::*;

#[tokio::test]
async fn an_unknown_parameter_is_refused_whatever_the_method_and_changes_nothing() {
    let lab = Lab::stocked().await;
    let table = [
        (Method::DELETE, "agents/ci?revoke=true", None, "revoke"),
        (Method::DELETE, "connections/work?revok=true", None, "revok"),
        (Method::PATCH, "agents/ci?dry_run=true", Some(json!({"name": "other"})), "dry_run"),
        (Method::POST, "agents/ci/pause?for=1h", None, "for"),
        (Method::POST, "agents?limit=1", Some(json!({"name": "new"})), "limit"),
        (Method::GET, "agents/ci?fields=name", None, "fields"),
        (Method::GET, "agents?filter=ci", None, "filter"),
    ];
    let agents = lab.get("/api/v1/agents").await;
    for (method, path, body, parameter) in table {
        let (status, body) = lab.call(method.clone(), &format!("/api/v1/{path}"), body).await;
        assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY, "{method} {path}: {body}");
        let error = &body["error"];
        assert_eq!((&error["code"], &error["field"]), (&json!("invalid_field"), &json!(parameter)));
    }
    assert_eq!(lab.get("/api/v1/agents").await, agents);
    assert_eq!(lab.get("/api/v1/connections/work").await.0, StatusCode::OK);
    assert_eq!(lab.delete("/api/v1/agents/ci?").await.0, StatusCode::NO_CONTENT);
}

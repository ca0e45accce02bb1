//! Requests that depend on rules with which no gateway would start.

use std::sync::Arc;

use super::*;

/// The API of a process without listeners, whose configuration names an agent that does not exist.
async fn at_rest() -> Lab {
    let refused = "keyward.yaml:3: rules[0]: there is no agent `missing`";
    let refused_rules = Arc::from([refused.to_owned(), "keyward.yaml:4: another".to_owned()]);
    let admin = Admin::in_process(Deps { refused_rules, ..services().await });
    let (draining, _) = watch::channel(false);
    Lab { router: socket_router(admin.clone()), admin, draining }
}

#[tokio::test]
async fn with_invalid_rules_only_requests_that_need_rules_are_refused() {
    let lab = at_rest().await;
    for (method, path) in [
        (Method::GET, "/api/v1/rules"),
        (Method::GET, "/api/v1/rules?limit=1"),
        (Method::GET, "/api/v1/export"),
        (Method::POST, "/api/v1/rules/explain"),
        (Method::POST, "/api/v1/rules/test"),
        (Method::POST, "/api/v1/connections/work/request"),
    ] {
        let (status, body) = lab.call(method, path, Some(json!({}))).await;
        let error = &body["error"];
        assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY, "{path}: {body}");
        assert_eq!(error["code"], "config_refused", "{path}: {body}");
        let lines = error["message"].as_str().unwrap_or_default().lines().count();
        assert_eq!(lines, 2, "{path}: {body}");
        let hint = error["hint"].as_str().unwrap_or_default();
        assert!(hint.starts_with("no gateway starts with these rules"), "{path}: {body}");
    }
    // Axum answers it by the handler of GET.
    let (status, _) = lab.call(Method::HEAD, "/api/v1/rules", None).await;
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY);
    let rule = json!({"name": "no-deletes", "action": "deny", "methods": ["DELETE"]});
    for (method, path, body, status) in [
        (Method::POST, "/api/v1/rules", Some(rule), StatusCode::CREATED),
        (Method::GET, "/api/v1/rules/no-deletes", None, StatusCode::OK),
        (Method::DELETE, "/api/v1/rules/no-deletes", None, StatusCode::NO_CONTENT),
        (Method::POST, "/api/v1/agents", Some(json!({"name": "missing"})), StatusCode::CREATED),
        (Method::POST, "/api/v1/connections/work/test", Some(json!({})), StatusCode::NOT_FOUND),
    ] {
        let (found, body) = lab.call(method, path, body).await;
        assert_eq!(found, status, "{path}: {body}");
    }
}

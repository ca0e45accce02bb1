//! Secrets that look like something else, which requests can have refused.

use super::*;

#[tokio::test]
async fn a_secret_that_looks_like_something_else_is_refused_where_a_request_asks_for_it() {
    let lab = Lab::stocked().await;
    let good = format!("ghp_{}", "a1B2".repeat(9));
    let add = |name: &str, token: &str, check: bool| json!({"provider": "github", "name": name, "fields": {"token": token}, "check_format": check});
    for (token, says) in [
        (format!("Bearer {good}"), "begins with `bearer`"),
        (format!("\"{good}\""), "is in quotes"),
        (format!("GITHUB_TOKEN={good}"), "is a line that sets a variable"),
        (format!("{good} "), "begins or ends with a blank"),
        (format!("glpat-{}", "a1B2".repeat(5)), "looks like a key of GitLab"),
        ("kwphzAIHQ9g1hmU9Gov3uXRl0z".to_owned(), "is a placeholder"),
    ] {
        let replaced = json!({"fields": {"token": token}, "test": false, "check_format": true});
        for (path, body) in [
            ("/api/v1/connections", add("new", &token, true)),
            ("/api/v1/connections/work/rotate", replaced.clone()),
            ("/api/v1/connections/work/activate", replaced),
        ] {
            let (status, answer) = lab.post(path, body).await;
            let error = &answer["error"];
            assert_eq!(
                (status.as_u16(), &error["field"]),
                (422, &json!("fields")),
                "{path} {answer}"
            );
            let message = error["message"].as_str().unwrap();
            assert!(message.starts_with("`token` ") && message.contains(says), "{message}");
            assert!(error["hint"].is_string() && !answer.to_string().contains(&good), "{answer}");
        }
    }
    assert_eq!(lab.get("/api/v1/connections/new").await.0, StatusCode::NOT_FOUND);
    let created = StatusCode::CREATED;
    assert_eq!(lab.post("/api/v1/connections", add("good", &good, true)).await.0, created);
    let unusual = format!("\"{good}\"");
    assert_eq!(lab.post("/api/v1/connections", add("unusual", &unusual, false)).await.0, created);
}

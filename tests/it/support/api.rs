//! Calls of the admin API whose answers are JSON.

use serde_json::Value;

use super::lab::Lab;

/// One call of the admin API: status and body.
pub(crate) async fn try_api(lab: &Lab, method: &str, path: &str, body: &Value) -> (u16, Value) {
    let body = if body.is_null() { String::new() } else { body.to_string() };
    let answer = lab.gateway.api(method, path, &body).await;
    let json = if answer.body.is_empty() { Value::Null } else { answer.json() };
    (answer.head.status(), json)
}

/// One call of the admin API that is answered with this status.
///
/// # Panics
/// When it is answered with another one.
pub(crate) async fn api(lab: &Lab, method: &str, path: &str, body: Value, status: u16) -> Value {
    let (found, answer) = try_api(lab, method, path, &body).await;
    assert_eq!(found, status, "{method} {path}: {answer}");
    answer
}

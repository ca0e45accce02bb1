//! Calls of the admin API whose answers are JSON.

use serde_json::Value;

use super::lab::Lab;

impl Lab {
    /// Lets an agent use a connection, by the API.
    pub async fn bind(&self, agent: &str, connection: &str) {
        let body = format!(r#"{{"connection":"{connection}"}}"#);
        self.gateway.api("POST", &format!("/agents/{agent}/bindings"), &body).await.is(201);
    }
}

/// One call of the admin API: status and body.
pub async fn try_api(lab: &Lab, method: &str, path: &str, body: &Value) -> (u16, Value) {
    let answer = lab.gateway.api_json(method, path, body).await;
    let json = if answer.body.is_empty() { Value::Null } else { answer.json() };
    (answer.head.status(), json)
}

/// One call of the admin API that is answered with this status.
///
/// # Panics
/// When it is answered with another one.
pub async fn api(lab: &Lab, method: &str, path: &str, body: Value, status: u16) -> Value {
    let (found, answer) = try_api(lab, method, path, &body).await;
    assert_eq!(found, status, "{method} {path}: {answer}");
    answer
}

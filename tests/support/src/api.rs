//! Calls of the admin API whose answers are JSON.

use serde_json::{Value, json};

use super::lab::{Lab, Plan};
use super::origin::Origin;

impl Lab {
    /// Of a plan without agents: with the connection [`mine`](Self::add_mine), and the agent `ci`, who may use it.
    pub async fn with_mine(plan: Plan, origin: Origin, more: Value) -> Self {
        let mut lab = plan.no_agents().start(origin).await;
        lab.add_agent("ci").await;
        lab.add_mine(more).await;
        lab.bind("ci", "mine").await;
        lab
    }

    /// Adds the connection `mine` with the canary as its key, and with these other members.
    pub async fn add_mine(&self, more: Value) {
        let fields = json!({ "api_key": self.canary.text });
        let mut mine = json!({ "provider": "acme", "name": "mine", "fields": fields });
        mine.as_object_mut().expect("a map").extend(more.as_object().expect("a map").clone());
        self.gateway.api("POST", "/connections", &mine.to_string()).await.is(201);
    }

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

//! Rights that have ended: kept answers and links of a person who is no admin any more.

use super::*;
use keyward_base::secret::Secret;

impl Lab {
    /// Asks with a token, and with this field in addition.
    async fn by_token(
        &self,
        token: &str,
        path: &str,
        field: (&str, &str),
        body: &Value,
    ) -> (StatusCode, Value) {
        let request = Request::post(format!("/api/v1{path}"))
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::AUTHORIZATION, format!("Bearer {token}"))
            .header(field.0, field.1)
            .body(Body::from(body.to_string()));
        let answer = self.router.clone().oneshot(request.unwrap()).await.unwrap();
        let status = answer.status();
        let bytes = answer.into_body().collect().await.unwrap().to_bytes();
        (status, serde_json::from_slice(&bytes).unwrap_or(Value::Null))
    }

    /// A token of a new admin `ann`, whom the admin `bob` can replace.
    async fn admins(&self) -> String {
        for name in ["ann", "bob"] {
            self.post("/api/v1/users", json!({"name": name, "role": "admin"})).await;
        }
        let (_, made) = self.post("/api/v1/tokens", json!({"user": "ann"})).await;
        made["token"].as_str().unwrap().to_owned()
    }
}

#[tokio::test]
async fn a_demoted_admin_gets_no_kept_answer_and_a_new_one_only_with_the_role_of_before() {
    let lab = Lab::stocked().await;
    let ann = lab.admins().await;
    let ask = async || {
        lab.by_token(&ann, "/agents/ci/tokens", ("idempotency-key", "k1"), &json!({})).await
    };
    let (status, first) = ask().await;
    assert_eq!((status, ask().await.1), (StatusCode::CREATED, first.clone()));
    for (role, status, code) in [
        ("auditor", StatusCode::FORBIDDEN, "not_allowed"),
        ("member", StatusCode::UNPROCESSABLE_ENTITY, "idempotency_key_reused"),
    ] {
        lab.patch("/api/v1/users/ann", json!({ "role": role })).await;
        let (answered, body) = ask().await;
        assert_eq!((answered, &body["error"]["code"]), (status, &json!(code)), "{role}: {body}");
        assert_eq!(body["token"], Value::Null, "{role}");
    }
    lab.patch("/api/v1/users/ann", json!({"role": "admin"})).await;
    assert_eq!(ask().await, (StatusCode::CREATED, first));
    let (_, tokens) = lab.get("/api/v1/agents/ci/tokens").await;
    assert_eq!(tokens["items"].as_array().map(Vec::len), Some(1), "{tokens}");
}

#[tokio::test]
async fn a_login_link_is_no_longer_valid_when_its_maker_is_no_admin() {
    let lab = Lab::new().await;
    let ann = lab.admins().await;
    let link = async || {
        let (_, made) =
            lab.by_token(&ann, "/login-links", ("accept", "*/*"), &json!({"user": "bob"})).await;
        let (_, link) = made["url"].as_str().unwrap().split_once("?link=").unwrap();
        Secret::from(link.to_owned())
    };
    let uses = async |link: Secret| lab.admin.deps().directory.use_login_link(&link).await.is_ok();
    assert!(uses(link().await).await);
    let made_before = link().await;
    lab.patch("/api/v1/users/ann", json!({"role": "member"})).await;
    assert!(!uses(made_before).await);
}

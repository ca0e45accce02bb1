//! Infisical, after a login by universal auth.
//!
//! <https://infisical.com/docs/api-reference/endpoints/universal-auth/login>
//! <https://infisical.com/docs/api-reference/endpoints/secrets/read>

use serde::Deserialize;
use serde_json::json;

use super::error::SourceError;
use super::request::{Ask, Requests, base, encoded};
use super::session::{Login, LoginSlot, Protected};
use keyward_base::secret::Secret;
use keyward_model::InfisicalSource;

const ADDRESS: &str = "https://app.infisical.com";

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct LoginAnswer {
    access_token: String,
    #[serde(default)]
    expires_in: u64,
}

#[derive(Deserialize)]
struct SecretAnswer {
    secret: Value,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Value {
    secret_value: String,
}

/// A secret of an environment.
struct Stored<'a> {
    requests: &'a Requests<'a>,
    base: &'a str,
    url: String,
}

pub(super) async fn value(
    source: &InfisicalSource,
    requests: &Requests<'_>,
    login: &LoginSlot<'_>,
    path: &str,
) -> Result<String, SourceError> {
    let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
    if name.is_empty() {
        return Err(SourceError::Reference("NAME or PATH/NAME"));
    }
    let base = base(source.address.as_deref(), ADDRESS);
    let url = format!(
        "{base}/api/v3/secrets/raw/{}?workspaceId={}&environment={}&secretPath={}",
        encoded(name),
        encoded(&source.project),
        encoded(&source.environment),
        encoded(&format!("/{}", folder.trim_matches('/')))
    );
    Ok(login.read(&Stored { requests, base, url }).await?.secret.secret_value)
}

impl Protected for Stored<'_> {
    type Answer = SecretAnswer;

    async fn log_in(&self) -> Result<Login, SourceError> {
        let body = json!({
            "clientId": self.requests.credential_text("client_id")?.trim(),
            "clientSecret": self.requests.credential_text("client_secret")?.trim(),
        });
        let url = format!("{}/api/v1/auth/universal-auth/login", self.base);
        let answer = self.requests.send(Ask::json(&url, &body)?).await?;
        let LoginAnswer { access_token, expires_in } = answer;
        Ok(Login { token: Secret::from(access_token), key: None, seconds: expires_in })
    }

    async fn read(&self, login: &Login) -> Result<SecretAnswer, SourceError> {
        self.requests.send(Ask::get(&self.url)?.bearer(&login.token)?).await
    }
}

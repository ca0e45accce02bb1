//! Infisical, after a login by universal auth.
//!
//! <https://infisical.com/docs/api-reference/endpoints/universal-auth/login>
//! <https://infisical.com/docs/api-reference/endpoints/secrets/read>

use serde::Deserialize;
use serde_json::json;

use super::error::SourceError;
use super::request::{SourceContext, SourceRequest, base, encoded};
use super::session::{LoginSlot, Protected, SourceLogin};
use keyward_base::secret::Secret;
use keyward_model::InfisicalSource;

const ADDRESS: &str = "https://app.infisical.com";

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct InfisicalLoginAnswer {
    access_token: String,
    #[serde(default)]
    expires_in: u64,
}

#[derive(Deserialize)]
struct InfisicalSecretAnswer {
    secret: InfisicalValue,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct InfisicalValue {
    secret_value: String,
}

/// A secret of an environment.
struct InfisicalSecret<'a> {
    requests: &'a SourceContext<'a>,
    base: &'a str,
    url: String,
}

pub(super) async fn value(
    source: &InfisicalSource,
    requests: &SourceContext<'_>,
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
    Ok(login.read(&InfisicalSecret { requests, base, url }).await?.secret.secret_value)
}

impl Protected for InfisicalSecret<'_> {
    type Answer = InfisicalSecretAnswer;

    async fn log_in(&self) -> Result<SourceLogin, SourceError> {
        let body = json!({
            "clientId": self.requests.credential_text("client_id")?.trim(),
            "clientSecret": self.requests.credential_text("client_secret")?.trim(),
        });
        let url = format!("{}/api/v1/auth/universal-auth/login", self.base);
        let answer = self.requests.send(SourceRequest::json(&url, &body)?).await?;
        let InfisicalLoginAnswer { access_token, expires_in } = answer;
        Ok(SourceLogin { token: Secret::from(access_token), key: None, seconds: expires_in })
    }

    async fn read(&self, login: &SourceLogin) -> Result<InfisicalSecretAnswer, SourceError> {
        self.requests.send(SourceRequest::get(&self.url)?.bearer(&login.token)?).await
    }
}

//! HashiCorp Vault and OpenBao: the key/value engine, version 1 and 2, after a login by a token, AppRole or Kubernetes.
//!
//! <https://developer.hashicorp.com/vault/api-docs/secret/kv/kv-v2#read-secret-version>
//! <https://developer.hashicorp.com/vault/api-docs/secret/kv/kv-v1#read-secret>
//! <https://developer.hashicorp.com/vault/api-docs/auth/approle#login-with-approle>
//! <https://developer.hashicorp.com/vault/api-docs/auth/kubernetes#login>

use std::fs::File;
use std::io::{self, Read};

use http::HeaderName;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::error::SourceError;
use super::request::{SourceContext, SourceRequest, base, encoded_path};
use super::session::{LoginSlot, Protected, SourceLogin};
use super::value::{filled, text};
use keyward_base::secret::Secret;
use keyward_model::{VaultLogin, VaultSource};

const TOKEN: HeaderName = HeaderName::from_static("x-vault-token");
const NAMESPACE: HeaderName = HeaderName::from_static("x-vault-namespace");

/// Requests without it may come from a page in a browser, which servers can refuse.
const REQUEST: HeaderName = HeaderName::from_static("x-vault-request");

/// Where Kubernetes puts the token of a pod's service account.
const POD_TOKEN: &str = "/var/run/secrets/kubernetes.io/serviceaccount/token";

/// Tokens of service accounts are about 1 KiB.
const POD_TOKEN_BYTES_MAX: u64 = 16 * 1024;

#[derive(Deserialize)]
struct ReadAnswer {
    data: Map<String, Value>,
}

#[derive(Deserialize)]
struct HashicorpLoginAnswer {
    auth: HashicorpAuth,
}

#[derive(Deserialize)]
struct HashicorpAuth {
    client_token: String,
    lease_duration: u64,
}

/// A value of the key/value engine.
struct HashicorpSecret<'a> {
    source: &'a VaultSource,
    requests: &'a SourceContext<'a>,
    url: String,
}

pub(super) async fn value(
    source: &VaultSource,
    requests: &SourceContext<'_>,
    login: &LoginSlot<'_>,
    path: &str,
    field: Option<&str>,
) -> Result<Secret, SourceError> {
    let rule = "PATH#FIELD, without the mount";
    let path = encoded_path(path).ok_or(SourceError::Reference(rule))?;
    let mount = source.mount.as_deref().unwrap_or("secret");
    let below = if source.version() == 1 { "" } else { "data/" };
    let url = format!("{}/v1/{mount}/{below}{path}", base(Some(&source.address), ""));
    let stored = HashicorpSecret { source, requests, url };
    let answer = match source.login {
        VaultLogin::Token => stored.read_with(requests.credential("token")?).await?,
        VaultLogin::Approle | VaultLogin::Kubernetes => login.read(&stored).await?,
    };
    let data = match source.version() {
        1 => answer.data,
        // `data` is `null` if the last version was deleted.
        _ => match answer.data.get("data") {
            Some(Value::Object(data)) => data.clone(),
            _ => return Err(SourceError::NotFound),
        },
    };
    let value = match (field, data.len()) {
        (Some(field), _) => text(data.get(field)).ok_or(SourceError::NotFound)?,
        (None, 1) => text(data.values().next()).ok_or(SourceError::NotFound)?,
        (None, 0) => return Err(SourceError::NotFound),
        (None, _) => return Err(SourceError::Several),
    };
    filled(Secret::from(value))
}

impl Protected for HashicorpSecret<'_> {
    type Answer = ReadAnswer;

    async fn log_in(&self) -> Result<SourceLogin, SourceError> {
        log_in(self.source, self.requests).await
    }

    async fn read(&self, login: &SourceLogin) -> Result<ReadAnswer, SourceError> {
        self.read_with(&login.token).await
    }
}

impl HashicorpSecret<'_> {
    async fn read_with(&self, token: &Secret) -> Result<ReadAnswer, SourceError> {
        let ask = SourceRequest::get(&self.url)?.with_secret(TOKEN, "", token)?;
        // A standby answers 307 with the address of the active server if it does not forward requests itself.
        self.requests.send_following(in_namespace(ask, self.source)?, refusal).await
    }
}

async fn log_in(
    source: &VaultSource,
    requests: &SourceContext<'_>,
) -> Result<SourceLogin, SourceError> {
    let mount = source.login_mount.as_deref().unwrap_or(source.login.as_str());
    let url = format!("{}/v1/auth/{mount}/login", base(Some(&source.address), ""));
    let body = match source.login {
        VaultLogin::Kubernetes => {
            let jwt = pod_token(source.token_file.as_deref().unwrap_or(POD_TOKEN)).await?;
            let jwt = jwt.expose_text().ok_or(SourceError::Malformed)?;
            json!({ "role": source.role, "jwt": jwt.trim() })
        }
        VaultLogin::Approle | VaultLogin::Token => json!({
            "role_id": requests.credential_text("role_id")?.trim(),
            "secret_id": requests.credential_text("secret_id")?.trim(),
        }),
    };
    let ask = in_namespace(SourceRequest::json(&url, &body)?, source)?;
    let HashicorpLoginAnswer { auth } = requests.send_following(ask, refusal).await?;
    let HashicorpAuth { client_token, lease_duration } = auth;
    Ok(SourceLogin { token: Secret::from(client_token), key: None, seconds: lease_duration })
}

fn in_namespace(ask: SourceRequest, source: &VaultSource) -> Result<SourceRequest, SourceError> {
    let ask = ask.with(REQUEST, "true")?;
    match &source.namespace {
        Some(namespace) => ask.with(NAMESPACE, namespace),
        None => Ok(ask),
    }
}

/// A wrong secret id is answered with 400.
fn refusal(status: http::StatusCode, _: &[u8]) -> Option<SourceError> {
    (status.as_u16() == 400)
        .then_some(SourceError::Status { status, detail: Some("login refused".to_owned()) })
}

async fn pod_token(path: &str) -> Result<Secret, SourceError> {
    let file = path.to_owned();
    let read = move || {
        let mut token = Vec::with_capacity(4 * 1024);
        File::open(file)?.take(POD_TOKEN_BYTES_MAX).read_to_end(&mut token)?;
        Ok::<_, io::Error>(Secret::new(token))
    };
    let token = tokio::task::spawn_blocking(read).await.map_err(|_| SourceError::Kind)?;
    token.map_err(|_| SourceError::TokenFile(path.to_owned()))
}

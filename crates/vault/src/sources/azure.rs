//! Azure Key Vault, after a login of an application by its client secret.
//!
//! <https://learn.microsoft.com/en-us/rest/api/keyvault/secrets/get-secret/get-secret>
//! <https://learn.microsoft.com/en-us/entra/identity-platform/v2-oauth2-client-creds-grant-flow>

use serde::Deserialize;

use super::error::SourceError;
use super::request::{SourceContext, SourceRequest, base, encoded, encoded_path};
use super::session::{LoginSlot, Protected, SourceLogin};
use keyward_base::secret::Secret;
use keyward_model::AzureSource;

const LOGIN: &str = "https://login.microsoftonline.com";

/// The clouds of Azure by the domain of their key vaults.
const VAULT_DOMAINS: [&str; 3] = ["vault.azure.net", "vault.azure.cn", "vault.usgovcloudapi.net"];

#[derive(Deserialize)]
struct AzureSecretAnswer {
    value: String,
}

#[derive(Deserialize)]
struct AzureTokenAnswer {
    access_token: String,
    #[serde(default)]
    expires_in: u64,
}

/// A secret of a key vault.
struct AzureSecret<'a> {
    source: &'a AzureSource,
    requests: &'a SourceContext<'a>,
    url: String,
}

pub(super) async fn value(
    source: &AzureSource,
    requests: &SourceContext<'_>,
    login: &LoginSlot<'_>,
    path: &str,
) -> Result<String, SourceError> {
    let is_name = path.split('/').count() <= 2;
    let path = encoded_path(path).filter(|_| is_name);
    let path = path.ok_or(SourceError::Reference("NAME or NAME/VERSION"))?;
    let url = format!("{}/secrets/{path}?api-version=7.4", base(Some(&source.address), ""));
    Ok(login.read(&AzureSecret { source, requests, url }).await?.value)
}

impl Protected for AzureSecret<'_> {
    type Answer = AzureSecretAnswer;

    async fn log_in(&self) -> Result<SourceLogin, SourceError> {
        log_in(self.source, self.requests).await
    }

    async fn read(&self, login: &SourceLogin) -> Result<AzureSecretAnswer, SourceError> {
        self.requests.send(SourceRequest::get(&self.url)?.bearer(&login.token)?).await
    }
}

async fn log_in(
    source: &AzureSource,
    requests: &SourceContext<'_>,
) -> Result<SourceLogin, SourceError> {
    let base = base(source.login_address.as_deref(), LOGIN);
    let url = format!("{base}/{}/oauth2/v2.0/token", encoded(&source.tenant));
    let domain = VAULT_DOMAINS.iter().find(|domain| source.address.contains(*domain));
    let scope = format!("https://{}/.default", domain.unwrap_or(&VAULT_DOMAINS[0]));
    let form = format!(
        "grant_type=client_credentials&client_id={}&client_secret={}&scope={}",
        encoded(requests.credential_text("client_id")?.trim()),
        encoded(requests.credential_text("client_secret")?.trim()),
        encoded(&scope),
    );
    let ask = SourceRequest::post(&url, "application/x-www-form-urlencoded", form.into_bytes())?;
    let AzureTokenAnswer { access_token, expires_in } = requests.send(ask).await?;
    Ok(SourceLogin { token: Secret::from(access_token), key: None, seconds: expires_in })
}

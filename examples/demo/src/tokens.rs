//! The demo's OAuth connection: an API with an authorization server whose refresh tokens work once. The
//! gateway's first token has already expired.

use std::sync::{Arc, Mutex};

use anyhow::{Context, Result};
use bytes::Bytes;
use http::{Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use keyward_app::Running;
use keyward_base::id::{AgentId, OrgId};
use keyward_base::secret::Secret;
use keyward_model::{ConnectionSpec, Visibility};
use keyward_state::directory::ManagedBy;
use keyward_vault::grant::Grant;
use keyward_vault::grant::oauth::{OAuthGrant, Tokens};
use keyward_vault::{Granted, NewConnection};

/// The API's host.
pub const NOTES: &str = "notes.demo.test";

/// The authorization server's host.
pub const LOGIN: &str = "login.demo.test";

/// The provider, for the configuration.
pub const PROVIDER: &str = "  - { id: notes, name: notes, hosts: [notes.demo.test], auth: [{ id: oauth, \
    kind: oauth2, client_auth: none, authorize: \"https://login.demo.test/authorize\", \
    token: \"https://login.demo.test/token\" }] }\n";

/// What the authorization server knows.
#[derive(Clone, Default)]
pub struct Bank(Arc<Mutex<Accounts>>);

#[derive(Default)]
struct Accounts {
    access: Option<String>,
    refresh: String,
    /// Everything that was ever issued.
    issued: Vec<String>,
    refreshed: usize,
}

impl Bank {
    /// A consent that was given long ago: its access token has expired.
    pub fn consent(&self) -> Result<Tokens> {
        let (access, refresh) = (super::random()?, super::random()?);
        if let Ok(mut accounts) = self.0.lock() {
            accounts.refresh.clone_from(&refresh);
            accounts.issued.extend([access.clone(), refresh.clone()]);
        }
        let hour = std::time::Duration::from_secs(3_600);
        let now = jiff::Timestamp::now();
        Ok(Tokens {
            access: Secret::from(access),
            refresh: Some(Secret::from(refresh)),
            sent: now - 2 * hour,
            expires: Some(now - hour),
            refresh_expires: None,
            scope: None,
            captured: Default::default(),
            account: None,
            id_token: None,
            more: Default::default(),
        })
    }

    /// The owner ends the access token at the API; the gateway is not told.
    pub fn revoke(&self) {
        if let Ok(mut accounts) = self.0.lock() {
            accounts.access = None;
        }
    }

    /// How often tokens were refreshed.
    pub fn refreshed(&self) -> usize {
        self.0.lock().map(|accounts| accounts.refreshed).unwrap_or_default()
    }

    /// Whether any token stands in this text.
    pub fn is_in(&self, text: &str) -> bool {
        let issued = self.0.lock().map(|accounts| accounts.issued.clone()).unwrap_or_default();
        issued.iter().any(|token| text.contains(token))
    }

    /// Whether the API takes the request.
    pub fn admits(&self, request: &Request<Incoming>) -> bool {
        let field = request.headers().get(header::AUTHORIZATION);
        let field = field.and_then(|value| value.to_str().ok());
        let access = self.0.lock().ok().and_then(|accounts| accounts.access.clone());
        access.is_some_and(|access| field == Some(&format!("Bearer {access}")))
    }

    /// The token endpoint: a refresh token works once.
    pub async fn token(&self, request: Request<Incoming>) -> http::Result<Response<Full<Bytes>>> {
        let body = request.into_body().collect().await.map(|body| body.to_bytes());
        let body = String::from_utf8_lossy(&body.unwrap_or_default()).into_owned();
        let (status, body) = match self.rotate(&body) {
            Some(body) => (StatusCode::OK, body),
            None => (StatusCode::BAD_REQUEST, "{\"error\":\"invalid_grant\"}".to_owned()),
        };
        let json = Response::builder().header(header::CONTENT_TYPE, "application/json");
        json.status(status).body(Full::from(body))
    }

    fn rotate(&self, form: &str) -> Option<String> {
        let (access, refresh) = (super::random().ok()?, super::random().ok()?);
        let mut accounts = self.0.lock().ok()?;
        let presented = format!("refresh_token={}", accounts.refresh);
        if !form.split('&').any(|pair| pair == presented) {
            return None;
        }
        accounts.refreshed += 1;
        accounts.issued.extend([access.clone(), refresh.clone()]);
        accounts.access = Some(access.clone());
        accounts.refresh.clone_from(&refresh);
        Some(format!(
            "{{\"access_token\":\"{access}\",\"refresh_token\":\"{refresh}\",\
             \"token_type\":\"Bearer\",\"expires_in\":3600}}"
        ))
    }
}

/// Stores the expired token, and lets the agent use it.
pub async fn connect(running: &Running, bank: &Bank, agent: &AgentId) -> Result<()> {
    let (vault, org) = (&running.services().vault, OrgId::default_org());
    let new = NewConnection {
        org: org.clone(),
        spec: ConnectionSpec {
            name: "my-notes".to_owned(),
            provider: "notes".to_owned(),
            ..ConnectionSpec::default()
        },
        owner: None,
        visibility: Visibility::Shared,
        managed_by: ManagedBy::Store,
    };
    let draft = vault.lifecycle().add_draft(new).await?;
    let grant = Grant::OAuth(OAuthGrant::of(bank.consent()?));
    let made = vault.lifecycle().connect(&org, &draft.id, grant, Granted::default()).await;
    let made = made.context("the grant cannot be stored")?;
    vault.lifecycle().bind(&org, agent, &made.id, ManagedBy::Store).await?;
    Ok(())
}

//! What a grant gives by itself, and what an authorization server gives for it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use http::Uri;
use jiff::Timestamp;

use super::backoff::Failed;
use super::error::VaultError;
use super::fresh::{Held, Life};
use super::record::Verdict;
use super::servers::Asked;
use super::{Vault, method};
use crate::base::tokens::TokenSettings;
use crate::directory::{AppRecord, BrokenReason, ConnectionRecord};
use crate::grant::oauth::{Ask, Client, Temporary};
use crate::grant::{Dead, Grant, MintContext, MintError, Minted};
use crate::inject::credential::Renews;
use crate::net::call::Caller;
use crate::provider::Instance;
use crate::provider::oauth::OAuth;
use crate::store::Version;

/// Why a server gave nothing.
#[derive(Debug)]
pub enum Fault {
    /// The grant is finished, until somebody acts.
    Dead(Verdict),
    /// It may give something later.
    Passing {
        /// What the pause depends on.
        failed: Failed,
        /// Nobody asks there as this client for so long.
        whole_client: Option<Duration>,
    },
}

/// Who asks authorization servers for the vault; nobody, until there is a way out.
#[derive(Clone, Debug, Default)]
pub(super) struct Asker(Arc<ArcSwapOption<By>>);

/// How they are asked.
#[derive(Debug)]
struct By {
    caller: Arc<Caller>,
    /// What a test says they answer.
    #[cfg(test)]
    script: Option<super::simulation::Script>,
}

/// Everything of a connection that asking needs, but for the client's secret.
pub(super) struct Basis {
    by: Option<Arc<By>>,
    instance: Instance,
    /// With what the app says otherwise.
    oauth: Option<OAuth>,
    app: Option<Arc<AppRecord>>,
    variables: BTreeMap<String, String>,
    scopes: Vec<String>,
    settings: Arc<TokenSettings>,
}

impl Asker {
    /// By this way from now on.
    pub fn calls(&self, caller: Arc<Caller>) {
        let by = By {
            caller,
            #[cfg(test)]
            script: None,
        };
        self.0.store(Some(Arc::new(by)));
    }

    /// As a test says.
    #[cfg(test)]
    pub fn scripted(&self, caller: Arc<Caller>, script: super::simulation::Script) {
        self.0.store(Some(Arc::new(By { caller, script: Some(script) })));
    }
}

impl Basis {
    /// Whether tokens are renewed without anybody asking for it.
    pub fn is_automatic(&self) -> bool {
        self.app.as_ref().is_none_or(|app| app.settings.auto_refresh != Some(false))
    }

    fn buffer(&self) -> Option<Duration> {
        let own = self.app.as_ref().and_then(|app| app.settings.refresh_buffer);
        self.is_automatic().then_some(own.unwrap_or(self.settings.refresh_buffer))
    }

    /// Nothing for kinds that ask nobody, and where there is no way out.
    fn ask<'a>(&'a self, client: &'a Client, now: Timestamp) -> Option<Ask<'a>> {
        Some(Ask {
            caller: &self.by.as_ref()?.caller,
            settings: &self.settings,
            oauth: self.oauth.as_ref()?,
            client,
            variables: &self.variables,
            scopes: &self.scopes,
            now,
        })
    }

    /// The minted credential, what follows when it is refused, and how long it lives.
    fn held(&self, minted: Minted, vault: &Vault) -> Held {
        let at = vault.clock.moment();
        let (life, mut credential) = (minted.life, minted.credential);
        // Also where nothing newer can be had: a refusal ends the connection then.
        credential.renews =
            self.oauth.as_ref().filter(|_| self.is_automatic()).map(|oauth| Renews {
                unsafe_too: !oauth.says.keeps_unsafe,
                expired_status: oauth.says.expired.as_ref().map(|expired| expired.status),
            });
        let span = |from: Timestamp, to: Timestamp| Duration::try_from(to.duration_since(from));
        let life = life.expires.map(|ends| {
            let left = span(at.day(), ends).unwrap_or_default();
            let whole = life.sent.map_or(left, |sent| span(sent, ends).unwrap_or_default());
            Life::new(left, whole, self.buffer().filter(|_| life.renewable))
        });
        Held::new(Arc::new(credential), at, life)
    }
}

impl Vault {
    /// Asks authorization servers by `caller` from now on.
    pub fn go_out_by(&self, caller: Arc<Caller>) {
        self.asker.calls(caller);
    }

    pub(super) fn basis(&self, connection: &ConnectionRecord) -> Result<Basis, VaultError> {
        let catalogue = self.catalogue();
        let (provider, auth) = method(&catalogue, &connection.provider, Some(&connection.auth))?;
        let hosts = connection.host_variables();
        let view = self.directory.view();
        let app = connection.app.as_ref().and_then(|id| view.app(&connection.org, id)).cloned();
        let of_app = |app: &Arc<AppRecord>| app.variables.clone();
        let mut variables = app.as_ref().map(of_app).unwrap_or_default();
        variables.extend(hosts.clone());
        Ok(Basis {
            by: self.asker.0.load_full(),
            instance: provider.instantiate(auth, &hosts)?,
            oauth: auth.oauth.as_deref().map(|oauth| match &app {
                Some(app) => app.applied(oauth),
                None => oauth.clone(),
            }),
            app,
            variables,
            scopes: connection.scopes.clone(),
            settings: self.token_settings(),
        })
    }

    /// The credential that a grant gives without asking anybody. What `other` holds is looked for in
    /// answers too: both are live while a secret is rotated.
    pub(super) fn held(
        &self,
        connection: &ConnectionRecord,
        basis: &Basis,
        (grant, other, version): (&Grant, Option<&Grant>, Version),
    ) -> Result<Option<Held>, VaultError> {
        let malformed = |source| VaultError::Mint { connection: connection.name.clone(), source };
        let (instance, generation) = (&basis.instance, version.0);
        let client = Client::default();
        let ask = basis.ask(&client, self.clock.now());
        let context = MintContext { connection: &connection.id, generation, instance, ask };
        let mut minted = grant.ready(&context).map_err(malformed)?;
        if let (Some(minted), Some(other)) = (&mut minted, other) {
            let both = minted.credential.needles.and(&other.needles_at(instance));
            minted.credential.needles = Arc::new(both);
        }
        Ok(minted.map(|minted| basis.held(minted, self)))
    }

    /// Whether somebody can be asked for a newer credential, with something to ask with.
    pub(super) fn renews(&self, basis: &Basis, grant: &Grant) -> bool {
        grant.is_renewable(basis.ask(&Client::default(), self.clock.now()).as_ref())
    }

    /// Whether the provider's file says that such an answer means 401.
    pub(super) fn expired(&self, connection: &ConnectionRecord, status: u16, body: &[u8]) -> bool {
        let catalogue = self.catalogue();
        let found = method(&catalogue, &connection.provider, Some(&connection.auth));
        let expired = found.ok().and_then(|(_, auth)| auth.oauth.as_ref()?.says.expired.as_ref());
        expired.is_some_and(|expired| expired.is(status, body))
    }

    /// Who is asked for newer credentials.
    pub(super) fn asked(&self, basis: &Basis) -> Asked {
        let client = Client::default();
        let url = basis.ask(&client, self.clock.now()).and_then(|ask| ask.token_url().ok());
        let host = url.and_then(|url| Some(url.parse::<Uri>().ok()?.host()?.to_owned()));
        let client = basis.app.as_ref().map(|app| app.client_id.clone()).unwrap_or_default();
        Asked { server: host.unwrap_or_default(), client }
    }

    /// Asks for the grant that follows this one.
    pub(super) async fn ask(
        &self,
        connection: &ConnectionRecord,
        basis: &Basis,
        grant: &Grant,
    ) -> Result<Result<Grant, Fault>, VaultError> {
        let client = match &basis.app {
            Some(app) => self.client(app).await?,
            None => Client::default(),
        };
        let asked = async {
            #[cfg(test)]
            if let Some(script) = basis.by.as_ref().and_then(|by| by.script.as_ref()) {
                return script.asked(connection, grant).await.map(Some);
            }
            grant.renewed(basis.ask(&client, self.clock.now()).as_ref()).await
        };
        let answer = asked.await;
        match answer {
            Ok(Some(newer)) => Ok(Ok(newer)),
            Ok(None) => Err(VaultError::NotRefreshable { connection: connection.name.clone() }),
            Err(error) => fault(error, &basis.settings)
                .map(Err)
                .map_err(|source| VaultError::Mint { connection: connection.name.clone(), source }),
        }
    }
}

fn fault(error: MintError, settings: &TokenSettings) -> Result<Fault, MintError> {
    match error {
        MintError::Dead { reason, code, .. } => {
            let reason = match reason {
                Dead::Revoked => BrokenReason::Revoked,
                Dead::NoRefreshToken => BrokenReason::NoRefreshToken,
                Dead::ClientRejected => BrokenReason::ClientRejected,
            };
            Ok(Fault::Dead(Verdict { reason, detail: Some(code.to_string()) }))
        }
        MintError::Unavailable(temporary) => {
            let Temporary { code, retry_after, limited, whole_client, .. } = *temporary;
            let pause = retry_after.unwrap_or(settings.backoff_first);
            Ok(Fault::Passing {
                failed: Failed { retry_after, code: code.map(|code| code.to_string()), limited },
                whole_client: whole_client.then(|| pause.min(settings.retry_after_max)),
            })
        }
        malformed @ MintError::Malformed { .. } => Err(malformed),
    }
}

//! SSH keys of connections: their public parts and their signatures. The private key stays in this crate.

use tokio::time::Instant;

use keyward_base::host::Target;
use keyward_base::id::{ConnectionId, OrgId};
use keyward_model::SshKeyShown;
use keyward_rules::inject::credential::ConnectionTls;
use keyward_rules::policy::SshPermit;
use keyward_ssh::agent::SignRequest;
use keyward_ssh::binding::LoginPath;
use keyward_ssh::login::SshLogin;
use keyward_state::directory::ConnectionRecord;

use super::Refresh;
use super::cache::Trigger;
use super::source_values::digest_of;
use crate::context::method;
use crate::error::VaultError;
use crate::grant::{Grant, MintError, OpenedSshKey};

/// The key of a connection.
#[derive(Debug)]
pub struct SshIdentity {
    opened: OpenedSshKey,
}

/// Why a key does not log in at a server.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum LoginRefused {
    /// The host key is not one of the connection's.
    #[error("the server's host key is not one of the connection's `known_hosts`")]
    HostKey,
    /// The account is not one of the connection's.
    #[error("the account is not one of the connection's `users`")]
    User,
    /// The agent is forwarded.
    #[error("the agent is forwarded, which the connection does not allow")]
    Forwarded,
    /// The text names another key or another algorithm than the request.
    #[error("the login is for another key or algorithm")]
    Mismatch,
}

impl Refresh {
    /// The key of a connection. A key by reference is fetched when its `ttl` has passed.
    ///
    /// # Errors
    /// When the connection is of another organisation or another kind, its grant cannot be opened, or its source gives no
    /// key.
    pub async fn ssh_identity(
        &self,
        org: &OrgId,
        id: &ConnectionId,
    ) -> Result<SshIdentity, VaultError> {
        let connection = self.context.connection(org, id)?;
        if !connection.references.is_empty() {
            self.fetch(connection, Trigger::Needed, Instant::now()).await?;
        }
        self.known_ssh_identity(org, id).await
    }

    /// The stored key. No source is read.
    ///
    /// # Errors
    /// When the connection is of another organisation or another kind, or its grant cannot be opened.
    pub async fn known_ssh_identity(
        &self,
        org: &OrgId,
        id: &ConnectionId,
    ) -> Result<SshIdentity, VaultError> {
        let connection = self.context.connection(org, id)?;
        let grant = self.grants.stored(&connection).await?.grant(&self.context, &connection)?;
        let now = self.clock.now();
        let grant = match &grant {
            Grant::Referred(referred) => {
                let fetched = referred.fetched(&digest_of(&connection.references), now);
                fetched.map(|fetched| &*fetched.grant)
            }
            grant => Some(grant),
        };
        let opened = match grant {
            Some(Grant::SshKey(key)) => key.opened(),
            _ => None,
        };
        let damaged = || MintError::Malformed { what: "this is no usable SSH key".to_owned() };
        let opened = opened.ok_or_else(|| self.context.unmintable(&connection, damaged()))?;
        Ok(SshIdentity { opened })
    }
}

impl Refresh {
    /// The certificates of a connection for TLS handshakes, as they are stored: no source is read. `None`: it has none.
    ///
    /// # Errors
    /// When its grant cannot be opened, or its source has given no value yet.
    pub async fn known_tls(
        &self,
        connection: &ConnectionRecord,
    ) -> Result<Option<ConnectionTls>, VaultError> {
        let catalogue = self.context.catalogue(&connection.org);
        let (_, auth) = method(&catalogue, &connection.provider, connection.auth.as_deref())?;
        let Some(names) = &auth.tls else {
            let context = self.guarded_token_context(connection).await?;
            return Ok(context.client_tls(&connection.id));
        };
        let grant = self.grants.stored(connection).await?.grant(&self.context, connection)?;
        let known = match &grant {
            Grant::Referred(referred) => {
                let fetched = referred.of(&digest_of(&connection.references));
                fetched.map(|fetched| &*fetched.grant)
            }
            grant => Some(grant),
        };
        let unknown = || MintError::Malformed { what: "its source has given no value".to_owned() };
        let known = known.ok_or_else(|| self.context.unmintable(connection, unknown()))?;
        Ok(known.tls(&connection.id, names))
    }
}

impl SshIdentity {
    /// The public key, in the protocol's form.
    pub fn public(&self) -> &[u8] {
        self.opened.key.public()
    }

    pub fn shown(&self) -> SshKeyShown {
        let OpenedSshKey { key, users, known_hosts, forwarding } = &self.opened;
        let mut servers: Vec<_> = known_hosts
            .all()
            .map(|it| format!("{}:{}", it.target.host(), it.target.port()))
            .collect();
        servers.dedup();
        SshKeyShown {
            public_key: key.public_line(),
            users: users.clone(),
            servers,
            forwarding: *forwarding,
        }
    }

    /// The first server with the host key.
    pub fn host_of(&self, host_key: &[u8]) -> Option<&Target> {
        self.opened.known_hosts.all().find(|it| it.key == host_key).map(|it| &it.target)
    }

    /// The servers of a login, if the connection is for them and for the account. Several may share a host key.
    ///
    /// # Errors
    /// When it is not.
    pub fn servers(
        &self,
        request: &SignRequest<'_>,
        login: &SshLogin<'_>,
        path: &LoginPath<'_>,
    ) -> Result<Vec<&Target>, LoginRefused> {
        let OpenedSshKey { key, users, known_hosts, forwarding } = &self.opened;
        if login.key != request.key || login.algorithm != key.algorithm(request.hash) {
            return Err(LoginRefused::Mismatch);
        }
        let is_known = |host_key: &[u8]| known_hosts.with_key(host_key).next().is_some();
        if !path.through.is_empty() && !forwarding {
            return Err(LoginRefused::Forwarded);
        }
        if !is_known(path.destination) || !path.through.iter().all(|host| is_known(host)) {
            return Err(LoginRefused::HostKey);
        }
        if !users.iter().any(|user| user == login.user) {
            return Err(LoginRefused::User);
        }
        let all = path.through.iter().copied().chain([path.destination]);
        let with = |host_key| known_hosts.all().filter(move |it| it.key == host_key);
        Ok(all.flat_map(with).map(|it| &it.target).collect())
    }

    /// The signature of a permitted login. `None` if the key does not sign it.
    pub fn sign(&self, _permit: &SshPermit, request: &SignRequest<'_>) -> Option<Vec<u8>> {
        self.opened.key.sign(request.data, request.hash).ok()
    }
}

//! Serves the SSH agent protocol to clients that CONNECT to [`HOST`]. Keys stay in the vault; each signature is a
//! separate decision with its own record. `keyward-ssh` has the protocol.

use std::io;
use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::exchange::respond;
use crate::gateway::Gateway;
use crate::record::Record;
use crate::refusal::Refusal;
use crate::session::{AcceptedStream, AttachedAgent};
use keyward_base::agent::Agent;
use keyward_base::host::Target;
use keyward_base::id::ConnectionId;
use keyward_rules::policy::{AccountState, Reason};
use keyward_ssh::agent::{self, AgentIdentity, AgentRequest, MESSAGE_BYTES_MAX, SignRequest};
use keyward_ssh::binding::SessionBindings;
use keyward_ssh::login::SshLogin;
use keyward_vault::ssh::SshIdentity;

/// The reserved host name: `.internal` is not a public domain.
pub const HOST: &str = "ssh-agent.keyward.internal";

/// One stream of a client, such as `ssh`.
struct AgentProtocol<'a> {
    gateway: &'a Arc<Gateway>,
    agent: &'a Arc<Agent>,
    accepted: &'a AcceptedStream,
    bindings: SessionBindings,
}

/// A key that the agent may use. Several connections may have the same, each for servers of its own.
struct UsableKey {
    id: ConnectionId,
    /// Of the connection.
    name: String,
    identity: SshIdentity,
}

/// Whether a CONNECT is for the SSH agent.
pub fn is_target(target: &Target) -> bool {
    target.host().name() == Some(HOST)
}

/// Serves the stream until it ends, idles, the agent's token is revoked, or the gateway ends its streams.
pub async fn serve<S>(mut stream: S, attached: AttachedAgent, gateway: Arc<Gateway>)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let (gateway, agent, accepted) = (&gateway, attached.agent(), attached.accepted());
    let mut protocol =
        AgentProtocol { gateway, agent, accepted, bindings: SessionBindings::default() };
    let served = async {
        let idle = gateway.limits.tunnel_idle_timeout;
        while let Some(message) = tokio::time::timeout(idle, read(&mut stream)).await?? {
            let answer = protocol.answer(&message).await;
            stream.write_all(&answer).await?;
            stream.flush().await?;
        }
        Ok::<(), io::Error>(())
    };
    tokio::select! {
        ended = served => if let Err(error) = ended {
            tracing::debug!(%error, agent = &*agent.name, "a stream of the SSH agent ended");
        },
        () = accepted.revocation.revoked(gateway) => {}
        () = gateway.cut() => {}
    }
}

/// The next message. `None` at the end of the stream.
async fn read<S: AsyncRead + Unpin>(stream: &mut S) -> io::Result<Option<Vec<u8>>> {
    let length = match stream.read_u32().await {
        Ok(length) => usize::try_from(length).unwrap_or(usize::MAX),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(error) => return Err(error),
    };
    if length > MESSAGE_BYTES_MAX {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "a message is too long"));
    }
    let mut message = vec![0; length];
    stream.read_exact(&mut message).await?;
    Ok(Some(message))
}

impl AgentProtocol<'_> {
    async fn answer(&mut self, message: &[u8]) -> Vec<u8> {
        match AgentRequest::parse(message) {
            Ok(AgentRequest::List) => agent::identities(&self.identities().await),
            Ok(AgentRequest::Sign(request)) => match self.sign(&request).await {
                Some(signature) => agent::signed(&signature),
                None => agent::failure(),
            },
            Ok(AgentRequest::Bind(proof)) => match self.bindings.bind(&proof) {
                Ok(()) => agent::success(),
                Err(error) => {
                    tracing::info!(%error, agent = &*self.agent.name, "an SSH session is not bound");
                    agent::failure()
                }
            },
            Ok(AgentRequest::OtherExtension) => agent::extension_failure(),
            Ok(AgentRequest::Other) | Err(_) => agent::failure(),
        }
    }

    /// The keys that may be used, each once, with the names of their connections.
    async fn identities(&self) -> Vec<AgentIdentity> {
        let mut listed = Vec::<AgentIdentity>::new();
        for UsableKey { name, identity, .. } in self.keys().await {
            match listed.iter_mut().find(|it| it.key == identity.public()) {
                Some(same) => same.comment.extend([", ", &name]),
                None => {
                    listed.push(AgentIdentity { key: identity.public().to_vec(), comment: name });
                }
            }
        }
        listed
    }

    async fn keys(&self) -> Vec<UsableKey> {
        let policy = self.gateway.rulebook.current();
        let usable: Vec<_> = policy
            .ssh_keys(self.agent)
            .into_iter()
            .filter(|account| account.state == AccountState::Active)
            .map(|account| (account.id.clone(), account.name.to_string()))
            .collect();
        let mut found = Vec::new();
        for (id, name) in usable {
            match self.gateway.vault.refresh().ssh_identity(&self.agent.org, &id).await {
                Ok(identity) => found.push(UsableKey { id, name, identity }),
                Err(error) => tracing::warn!(%error, connection = name, "an SSH key is not listed"),
            }
        }
        found
    }

    /// One decision, one record.
    async fn sign(&self, request: &SignRequest<'_>) -> Option<Vec<u8>> {
        let mut record = match Record::begin(self.gateway).await {
            Ok(record) => record,
            Err(error) => {
                tracing::warn!(%error, "an SSH login is not signed");
                return None;
            }
        };
        record.set_agent(self.agent);
        match self.signature(request, &mut record).await {
            Ok(signature) => {
                record.set_login_signed();
                Some(signature)
            }
            Err(refusal) => {
                respond::refusal_info(&refusal, Some(&mut record));
                None
            }
        }
    }

    async fn signature(
        &self,
        request: &SignRequest<'_>,
        record: &mut Record,
    ) -> Result<Vec<u8>, Refusal> {
        record.set_login(None, "");
        if !self.accepted.revocation.is_valid(self.gateway) {
            return Err(Refusal::Unauthenticated);
        }
        let refused = |detail: &str| {
            let detail = detail.to_owned();
            Refusal::Policy(Reason::Login { detail, connection: None })
        };
        let login = SshLogin::parse(request.data)
            .map_err(|_| refused("the text to sign is not an SSH login"))?;
        record.set_login(None, login.user);
        let mut keys = self.keys().await;
        keys.retain(|key| key.identity.public() == request.key);
        let first = keys.first().ok_or_else(|| refused("the agent may not use this key"))?;
        let path = self.bindings.path(&login).map_err(|error| first.refused(&error))?;
        let policy = self.gateway.rulebook.current();
        let permit = |key: &UsableKey| {
            let servers = key.identity.servers(request, &login, &path);
            let servers = servers.map_err(|error| key.refused(&error))?;
            policy.permit_ssh(self.agent, key.id.as_str(), &servers).map_err(Refusal::from)
        };
        let mut attempts: Vec<_> = keys.iter().map(|key| (key, permit(key))).collect();
        let signs = attempts.iter().position(|(_, permit)| permit.is_ok());
        // If none signs, the refusal of a connection that knows the server is reported.
        let knows = || keys.iter().position(|key| key.identity.host_of(path.destination).is_some());
        let (key, permit) = attempts.swap_remove(signs.or_else(knows).unwrap_or(0));
        record.set_login(key.identity.host_of(path.destination), login.user);
        let permit = permit?;
        record.set_ssh_permit(&permit);
        let signature = key.identity.sign(&permit, request);
        signature.ok_or_else(|| key.refused(&"the key does not sign this"))
    }
}

impl UsableKey {
    fn refused(&self, detail: &impl ToString) -> Refusal {
        let connection = Some(self.name.as_str().into());
        Refusal::Policy(Reason::Login { detail: detail.to_string(), connection })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_whole_message_is_read_and_a_cut_or_too_long_one_is_an_error() {
        let long = u32::try_from(MESSAGE_BYTES_MAX + 1).expect("it fits").to_be_bytes();
        assert!(read(&mut &long[..]).await.is_err());
        assert!(read(&mut &[0, 0, 0, 2, 11][..]).await.is_err(), "it is cut short");
        let whole = read(&mut &[0, 0, 0, 1, 11][..]).await.expect("a message");
        assert_eq!(whole.as_deref(), Some(&[11][..]));
        assert_eq!(read(&mut &[][..]).await.expect("the end"), None);
    }
}

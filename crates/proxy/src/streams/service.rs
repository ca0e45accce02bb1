//! The data path for listeners of other protocols than HTTP: accepted streams within the same limits, agents by
//! their tokens, permits, credentials, checked addresses, revocation, and one audit record for each session.
//! `keyward-databases` speaks the protocols.

mod session;

use std::fmt;
use std::pin::Pin;
use std::ptr;
use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;
use rustls::client::Resumption;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::Semaphore;
use tokio_rustls::client::TlsStream;

pub use self::session::SessionEnd;
use super::authenticate::{Authenticated, PresentedToken, TokenError, authenticate_token, failure};
use super::statement_log::StatementLog;
use crate::exchange::respond;
use crate::gateway::Gateway;
use crate::record::Record;
use crate::refusal::Refusal;
use crate::session::{AcceptedStream, AttachedAgent};
use crate::sockets::proxy_tls::{HANDSHAKE, ProxyTls};
use crate::sockets::streams::{AgentStream, ServiceTls, Socket};
use keyward_base::agent::Agent;
use keyward_base::codes::{Code, RefusalText};
use keyward_base::database::{DatabaseProtocol, StreamSecurity};
use keyward_base::id::OrgId;
use keyward_net::client::connect_tls;
use keyward_net::seed_list::{SeedList, SeedListError};
use keyward_net::wire::Wire;
use keyward_rules::inject::credential::Credential;
use keyward_rules::policy::{DatabasePermit, PermittedLogin};
use keyward_state::directory::ConnectionRecord;
use keyward_state::observe::event::Outcome;

/// Serves the streams of a listener in place of the HTTP proxy.
pub trait StreamService: fmt::Debug + Send + Sync {
    /// Serves one stream until it ends.
    fn serve(self: Arc<Self>, stream: ServiceStream) -> Pin<Box<dyn Future<Output = ()> + Send>>;
}

/// An accepted stream on which no agent has authenticated yet. It counts as such, and may be evicted.
pub struct ServiceStream {
    /// The data path.
    pub gateway: Arc<Gateway>,
    socket: AgentStream,
    /// What a client that asks for TLS gets.
    tls: Option<Arc<ProxyTls>>,
    accepted: Arc<AcceptedStream>,
}

/// The socket of an accepted stream, with the TLS of its listener.
pub(super) enum ServiceSocket {
    Tcp(TcpStream, Option<Arc<ProxyTls>>),
    Unix(UnixStream),
}

/// A connection to a database that an agent may name.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct DatabaseChoice {
    pub name: Arc<str>,
    /// The name of the database at the server.
    pub database: String,
    /// The protocol of the server.
    pub protocol: DatabaseProtocol,
}

/// A session while it is opened and open. Its audit record is written when this is dropped.
pub struct ServiceExchange {
    gateway: Arc<Gateway>,
    accepted: Option<Arc<AcceptedStream>>,
    record: Record,
}

/// A stream to the server of a permit, at a checked address. Its TLS has not begun.
pub type CheckedUpstream = Wire;

impl ServiceStream {
    pub(super) fn new(
        gateway: Arc<Gateway>,
        socket: ServiceSocket,
        accepted: AcceptedStream,
    ) -> Self {
        let (socket, tls) = match socket {
            ServiceSocket::Tcp(tcp, tls) => (Socket::Tcp(tcp), tls),
            ServiceSocket::Unix(unix) => (Socket::Unix(unix), None),
        };
        let socket = AgentStream::new(socket, accepted.watchdog.clone());
        Self { gateway, socket, tls, accepted: Arc::new(accepted) }
    }

    /// Whether a client that asks for TLS gets it. Not twice.
    pub fn offers_tls(&self) -> bool {
        self.tls.is_some()
    }

    /// Whether a client may send its token on the stream as it is: nothing but this machine sees it, or it is encrypted.
    pub fn is_confidential(&self) -> bool {
        match self.socket.socket() {
            Socket::Tls(_) | Socket::ServiceTls(_) | Socket::Unix(_) => true,
            Socket::Tcp(tcp) => {
                tcp.local_addr().is_ok_and(|at| at.ip().to_canonical().is_loopback())
            }
        }
    }

    /// Whether the client begins with TLS without asking for it, if the listener has TLS. Waits for its first byte.
    pub async fn begins_with_tls(&self) -> bool {
        let mut first = [0];
        match (self.socket.socket(), &self.tls) {
            (Socket::Tcp(tcp), Some(_)) => {
                tcp.peek(&mut first).await.is_ok_and(|_| first == [HANDSHAKE])
            }
            _ => false,
        }
    }

    /// Accepts the TLS that the client begins now, for the protocol that `alpn` names. `None` when that fails.
    pub async fn with_tls(self, alpn: &[u8]) -> Option<Self> {
        let Self { gateway, socket, tls, accepted } = self;
        let (Socket::Tcp(tcp), Some(tls)) = (socket.into_socket(), tls) else { return None };
        let (leaves, within) = (&gateway.leaves, gateway.limits.handshake_timeout);
        let entered = tls.accept_protocol(leaves, within, tcp, alpn).await;
        let entered = entered.inspect_err(|cause| {
            gateway.metrics.handshakes_failed.inc();
            let cause = cause.escape_debug().to_string();
            tracing::info!(cause, "the TLS handshake with a client of a listener failed");
        });
        let socket = Socket::ServiceTls(ServiceTls::new(entered.ok()?));
        let socket = AgentStream::new(socket, accepted.watchdog.clone());
        Some(Self { gateway, socket, tls: None, accepted })
    }

    /// The bytes.
    pub fn socket(&mut self) -> &mut (impl AsyncRead + AsyncWrite + Unpin + Send + use<>) {
        &mut self.socket
    }

    /// Whether the listener belongs to one agent, so that no token is needed.
    pub fn is_owned(&self) -> bool {
        self.accepted.owner.is_some()
    }

    /// Does `work` while no agent has authenticated. `None` when it takes too long, the stream is evicted, or the
    /// gateway ends its streams.
    pub async fn while_unauthenticated<T>(
        gateway: &Gateway,
        place: &StreamPlace,
        work: impl Future<Output = T>,
    ) -> Option<T> {
        tokio::select! {
            done = tokio::time::timeout(gateway.limits.handshake_timeout, work) => done.ok(),
            () = place.0.revocation.evicted() => None,
            () = gateway.cut() => None,
        }
    }

    /// The place of the stream among those on which no agent has authenticated.
    pub fn place(&self) -> StreamPlace {
        StreamPlace(self.accepted.clone())
    }

    /// Begins a session and its record.
    ///
    /// # Errors
    /// When the audit log cannot be written.
    pub async fn begin(&self, protocol: DatabaseProtocol) -> Result<ServiceExchange, RefusalText> {
        let record = Record::begin_session(&self.gateway, protocol).await;
        let record = record.map_err(|refusal| respond::refusal_info(&refusal, None))?;
        let accepted = Some(self.accepted.clone());
        Ok(ServiceExchange { gateway: self.gateway.clone(), accepted, record })
    }
}

/// The place of a stream among those on which no agent has authenticated.
#[derive(Clone, Debug)]
pub struct StreamPlace(Arc<AcceptedStream>);

impl ServiceExchange {
    /// Begins the session by which a person tests a connection. No agent takes part.
    ///
    /// # Errors
    /// When the audit log cannot be written, or the connection is no database's.
    pub async fn begin_test(
        gateway: &Arc<Gateway>,
        connection: &ConnectionRecord,
        trial: Option<Arc<Credential>>,
    ) -> Result<(Self, PermittedLogin), RefusalText> {
        let record = Record::begin(gateway).await;
        let record = record.map_err(|refusal| respond::refusal_info(&refusal, None))?;
        let mut exchange = Self { gateway: gateway.clone(), accepted: None, record };
        exchange.record.set_actor(&connection.org);
        let permitted = gateway.rulebook.permit_database_test(connection);
        let permit = match permitted {
            Ok(permit) => Arc::new(permit),
            Err(reason) => return Err(exchange.refuse(&Refusal::Policy(reason))),
        };
        exchange.record.set_database(&permit);
        let permitted = match trial.filter(|trial| trial.connection == connection.id) {
            Some(trial) => exchange.login(permit, Some(trial))?,
            None => exchange.permitted(&connection.org, permit).await?,
        };
        Ok((exchange, permitted))
    }

    /// The id in the audit log.
    pub fn id(&self) -> &str {
        self.record.exchange()
    }

    /// The agent of the token, or that of the listener if it belongs to one. The stream counts as the agent's.
    ///
    /// # Errors
    /// When the token proves no agent, or the agent has too many streams.
    pub fn authenticate(&mut self, token: Option<&str>) -> Result<AttachedAgent, RefusalText> {
        let proved = self.authenticate_token(token);
        proved.map_err(|refusal| self.refuse(&refusal))
    }

    fn authenticate_token(&mut self, token: Option<&str>) -> Result<AttachedAgent, Refusal> {
        let accepted = self.accepted.clone().ok_or(Refusal::Internal("a test has no agent"))?;
        let agent = match &accepted.owner {
            Some(owner) => {
                let agent =
                    self.gateway.directory.view().agent_of_listener(&owner.org, &owner.agent);
                let gone = || Refusal::ListenerAgentGone { agent: owner.agent.clone() };
                agent.map(Arc::new).ok_or_else(gone)?
            }
            None => self.by_token(&accepted, token)?,
        };
        self.record.set_agent(&agent);
        Ok(accepted.attach_agent(&self.gateway, agent)?)
    }

    fn by_token(
        &self,
        accepted: &AcceptedStream,
        token: Option<&str>,
    ) -> Result<Arc<Agent>, Refusal> {
        let token = token.ok_or(Refusal::Unauthenticated)?;
        match authenticate_token(&self.gateway, PresentedToken::bare(token)) {
            Ok(Authenticated { agent, .. }) => Ok(agent),
            Err(TokenError::SessionEnded) => Err(Refusal::SessionEnded),
            Err(TokenError::Unknown) => Err(failure(&self.gateway, accepted.peer)),
        }
    }

    /// The connections to databases that the agent may use, sorted by name.
    pub fn databases(&self, agent: &Agent) -> Vec<DatabaseChoice> {
        let policy = self.gateway.rulebook.current();
        let found = policy.databases(agent).into_iter();
        let choice = found.filter_map(|account| {
            let endpoint = account.database.as_ref()?;
            let (name, database) = (account.name.clone(), endpoint.database.clone());
            Some(DatabaseChoice { name, database, protocol: endpoint.protocol })
        });
        choice.collect()
    }

    /// The permit and the credential for a session of the agent with a database, by the connection's name.
    ///
    /// # Errors
    /// When policy refuses, or there is no usable credential.
    pub async fn permit(
        &mut self,
        attached: &AttachedAgent,
        connection: &str,
    ) -> Result<PermittedLogin, RefusalText> {
        let is_attached = |it: &Arc<AcceptedStream>| ptr::eq(&**it, attached.accepted());
        debug_assert!(self.accepted.as_ref().is_some_and(is_attached), "another stream's agent");
        let agent = attached.agent();
        let permitted = self.gateway.rulebook.current().permit_database(agent, connection);
        let permit = match permitted {
            Ok(permit) => Arc::new(permit),
            Err(reason) => return Err(self.refuse(&Refusal::Policy(reason))),
        };
        self.record.set_database(&permit);
        attached.accepted().revocation.begin_database(&permit, &self.record);
        self.permitted(&agent.org, permit).await
    }

    /// Gets the credential of a permit.
    async fn permitted(
        &mut self,
        org: &OrgId,
        permit: Arc<DatabasePermit>,
    ) -> Result<PermittedLogin, RefusalText> {
        let found = self.gateway.vault.refresh().credential_in(org, Some(permit.wanted())).await;
        let credential = found.map_err(|error| self.refuse(&Refusal::Vault(error)))?;
        self.record.set_credential(credential.as_deref());
        self.login(permit, credential)
    }

    fn login(
        &mut self,
        permit: Arc<DatabasePermit>,
        credential: Option<Arc<Credential>>,
    ) -> Result<PermittedLogin, RefusalText> {
        let now = self.gateway.clock.now();
        let tied = credential.and_then(|credential| PermittedLogin::new(permit, credential, now));
        tied.ok_or_else(|| self.refuse(&Refusal::Internal("a permit without its credential")))
    }

    /// Dials the server of the permit, at a checked address: for an attempt of a session, or to cancel its statement. Without
    /// TLS, the address is on the explicit private list.
    ///
    /// # Errors
    /// When no address may be dialled or accepts, which [`ServiceExchange::refused_attempt`] records.
    pub async fn dial(
        gateway: &Gateway,
        permit: &DatabasePermit,
    ) -> Result<CheckedUpstream, FailedAttempt> {
        let (endpoint, within) = (permit.endpoint(), gateway.limits.connect_timeout);
        let dialled = gateway.dialler.dial(&endpoint.target, within).await;
        let dialled = dialled.map_err(|error| FailedAttempt(error.into()))?;
        match endpoint.security == StreamSecurity::Cleartext && !dialled.private {
            true => Err(FailedAttempt(Refusal::Plaintext)),
            false => Ok(dialled.stream),
        }
    }

    /// Counts an attempt. The gateway is that of [`ServiceExchange::dial`].
    pub fn begin_attempt(&mut self) -> Arc<Gateway> {
        self.record.count_attempt();
        self.gateway.clone()
    }

    /// Records that no attempt succeeded, by one of the failures.
    pub fn refused_attempt(&mut self, failed: &FailedAttempt) -> RefusalText {
        self.refuse(&failed.0)
    }

    /// The servers that DNS lists under the host of the permit.
    ///
    /// # Errors
    /// When DNS lists none in time.
    pub async fn seed_list(&self, permit: &DatabasePermit) -> Result<SeedList, SeedListError> {
        let name = permit.endpoint().target.host().to_string();
        self.gateway.dialler.seed_list(&name, self.connect_timeout()).await
    }

    /// The time for connecting, and for each step of a login.
    pub fn connect_timeout(&self) -> Duration {
        self.gateway.limits.connect_timeout
    }

    /// Does the TLS handshake on a stream to the server of the permit. Chain and host name are verified.
    ///
    /// # Errors
    /// When the server does not prove to be the permit's host, which [`ServiceExchange::refused_attempt`] records.
    pub async fn secure(
        gateway: &Gateway,
        upstream: CheckedUpstream,
        permit: &DatabasePermit,
    ) -> Result<TlsStream<CheckedUpstream>, FailedAttempt> {
        let mut config = ClientConfig::clone(&gateway.upstream_tls());
        config.alpn_protocols = Vec::new();
        // A TLS session of an HTTP upstream at the same host is another server's.
        config.resumption = Resumption::disabled();
        let (target, within) = (&permit.endpoint().target, gateway.limits.connect_timeout);
        let secured = connect_tls(upstream, target, Arc::new(config), within).await;
        secured.map_err(|error| FailedAttempt(Refusal::Tls(error)))
    }

    /// Whether the listener belongs to one agent.
    pub fn is_owned(&self) -> bool {
        self.accepted.as_ref().is_some_and(|accepted| accepted.owner.is_some())
    }

    /// Notes the role of the login.
    pub fn set_role(&mut self, role: &str) {
        self.record.set_database_role(role);
    }

    /// Where statements of the session are recorded.
    pub fn statement_log(&self) -> StatementLog {
        let (audit, clock) = (self.gateway.audit.clone(), self.gateway.clock.clone());
        StatementLog::new(audit, clock, self.record.statement_event())
    }

    /// Places for checks of its bytes that take long, which all sessions share.
    pub fn long_checks(&self) -> Arc<Semaphore> {
        self.gateway.long_checks.clone()
    }

    /// Ends the session with a refusal that the protocol found, such as a server that does not prove itself.
    pub fn refused_by_protocol(&mut self, code: Code) {
        self.record.set_refused(code);
    }

    /// The session has done what it was for.
    pub fn completed(&mut self) {
        self.record.set_outcome(Outcome::Completed);
    }

    /// Whether everything that the session depends on is still permitted.
    pub fn still_permitted(&self) -> bool {
        self.accepted.as_ref().is_none_or(|it| it.revocation.is_valid(&self.gateway))
    }

    fn refuse(&mut self, refusal: &Refusal) -> RefusalText {
        respond::refusal_info(refusal, Some(&mut self.record))
    }
}

/// Why a stream was not opened.
#[derive(Debug)]
pub struct FailedAttempt(Refusal);

impl Drop for ServiceExchange {
    fn drop(&mut self) {
        let ended = self.accepted.as_ref().and_then(|it| it.revocation.end_exchange());
        if let Some(by) = ended {
            self.record.set_cut_by(&by);
        }
    }
}

impl fmt::Debug for ServiceStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServiceStream").finish_non_exhaustive()
    }
}

impl fmt::Debug for ServiceExchange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServiceExchange").field("id", &self.id()).finish_non_exhaustive()
    }
}

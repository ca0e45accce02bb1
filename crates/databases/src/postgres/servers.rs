//! Finds the server of a session among those of its connection: they are tried in their order, as libpq does, until one
//! opens a session of the wanted kind.

use std::slice::from_ref;
use std::sync::Arc;
use std::time::Duration;

use fallible_iterator::FallibleIterator;
use postgres_protocol::message::backend::DataRowBody;

use super::login::{LoggedIn, PostgresLogin};
use super::messages::{PostgresLoginError, ask};
use super::upstream::{self, UpstreamError};
use crate::refused::Refused;
use crate::upstream::Upstream;
use keyward_base::codes::Code;
use keyward_base::database::{Seeds, SessionAttrs};
use keyward_proxy::{Gateway, ServiceExchange};

/// The part of `limits.connect_timeout` that a server has for everything while others are left.
const PART: u32 = 3;

/// Whether the server replays the log of another, and whether its sessions may write.
const QUESTION: &str =
    "SELECT pg_catalog.pg_is_in_recovery()::text, current_setting('transaction_read_only')";

/// The server starts, stops or recovers: `cannot_connect_now`.
const NOT_NOW: &str = "57P03";

/// A session that a server has opened.
type Opened = (Upstream, LoggedIn);

/// Why there is no session with a server.
enum ServerFailure {
    Unreached(UpstreamError),
    Login(PostgresLoginError),
}

/// What a server says of a session.
#[derive(Clone, Copy, Debug)]
struct SessionKind {
    is_standby: bool,
    is_read_only: bool,
}

/// What the servers have said so far.
#[derive(Default)]
struct ServerSearch {
    failure: Option<ServerFailure>,
    /// The number of failures.
    failed: usize,
    /// The number of servers whose sessions are of another kind.
    others: usize,
    /// A session with a server that is not preferred.
    spare: Option<Opened>,
}

impl PostgresLogin {
    /// Logs in at the first server of the connection that opens a session of the wanted kind.
    ///
    /// # Errors
    /// When none does, or one rejects the login: the next one would too.
    pub async fn run(self, exchange: &mut ServiceExchange) -> Result<Opened, Refused> {
        let (mut servers, mut search) = (self.each_server()?.into_iter(), ServerSearch::default());
        while let Some(login) = servers.next() {
            let gateway = exchange.begin_attempt();
            let within = gateway.limits.connect_timeout / PART;
            let attempt = Box::pin(login.attempt(&gateway));
            let tried = match servers.len() {
                0 => attempt.await,
                _ => {
                    tokio::time::timeout(within, attempt).await.unwrap_or(Err(ServerFailure::LATE))
                }
            };
            match tried {
                Ok((opened, None)) => return Ok(opened),
                Ok((opened, Some(kind))) if login.wants(kind) => return Ok(opened),
                Ok((opened, Some(_))) => search.other(opened, login.attrs()),
                Err(ServerFailure::Login(error)) => {
                    tracing::info!(exchange = exchange.id(), %error, "the login at a database server failed");
                    if !error.is_of_this_server() {
                        return Err(error.into());
                    }
                    search.failed(ServerFailure::Login(error));
                }
                Err(failure) => search.failed(failure),
            }
        }
        search.end(exchange, self.attrs())
    }

    /// The login at each server, in their order.
    fn each_server(&self) -> Result<Vec<Self>, Refused> {
        let endpoint = self.permit().endpoint();
        let more = match &endpoint.seeds {
            Seeds::Listed(more) => &more[..],
            Seeds::Srv => &[],
        };
        let servers = from_ref(&endpoint.target).iter().chain(more);
        servers.filter_map(|server| self.at(server.clone())).collect()
    }

    /// A session with the server, and its kind where that matters.
    async fn attempt(
        &self,
        gateway: &Arc<Gateway>,
    ) -> Result<(Opened, Option<SessionKind>), ServerFailure> {
        let reached = upstream::reach(gateway, self.permit()).await;
        let mut upstream = reached.map_err(ServerFailure::Unreached)?;
        let within = gateway.limits.connect_timeout;
        let opened = self.open(&mut upstream, within).await.map_err(ServerFailure::Login)?;
        let kind = match self.attrs() {
            SessionAttrs::Any => None,
            _ => Some(SessionKind::of(&mut upstream, within).await.map_err(ServerFailure::Login)?),
        };
        Ok(((upstream, opened), kind))
    }

    fn attrs(&self) -> SessionAttrs {
        self.permit().endpoint().session_attrs
    }

    /// All sessions of a read-only connection are read-only: then the server decides.
    fn wants(&self, kind: SessionKind) -> bool {
        match self.attrs() {
            SessionAttrs::Any => true,
            SessionAttrs::ReadWrite if self.is_read_only() => !kind.is_standby,
            SessionAttrs::ReadWrite => !kind.is_read_only,
            SessionAttrs::ReadOnly => kind.is_read_only,
            SessionAttrs::Primary => !kind.is_standby,
            SessionAttrs::Standby | SessionAttrs::PreferStandby => kind.is_standby,
        }
    }
}

impl ServerFailure {
    const LATE: Self = Self::Login(PostgresLoginError::Timeout);
}

impl ServerSearch {
    fn failed(&mut self, failure: ServerFailure) {
        self.failed += 1;
        self.failure.get_or_insert(failure);
    }

    /// A session of another kind than the wanted one.
    fn other(&mut self, opened: Opened, wanted: SessionAttrs) {
        self.others += 1;
        if wanted == SessionAttrs::PreferStandby {
            self.spare.get_or_insert(opened);
        }
    }

    /// No server is left.
    fn end(self, exchange: &mut ServiceExchange, wanted: SessionAttrs) -> Result<Opened, Refused> {
        if let Some(spare) = self.spare {
            return Ok(spare);
        }
        Err(match self.failure {
            Some(ServerFailure::Unreached(unreached)) if self.others == 0 => {
                unreached.refused(exchange)
            }
            Some(ServerFailure::Login(error)) if self.others == 0 => error.into(),
            _ => {
                let (wanted, others, failed) = (wanted.as_str(), self.others, self.failed);
                let text = format!(
                    "no server of the connection is `{wanted}`: {others} opened a session of another kind, \
                     {failed} opened none"
                );
                let hint = "see `target_session_attrs` and `more_hosts` of the connection";
                Refused::Keyward(Code::UpstreamUnreachable.because(text).hint(hint))
            }
        })
    }
}

impl SessionKind {
    async fn of(upstream: &mut Upstream, within: Duration) -> Result<Self, PostgresLoginError> {
        let answer = tokio::time::timeout(within, ask(upstream, QUESTION, Self::of_row)).await;
        answer.unwrap_or(Err(PostgresLoginError::Timeout))?.ok_or(PostgresLoginError::Protocol)
    }

    fn of_row(row: &DataRowBody) -> Option<Self> {
        let mut ranges = row.ranges();
        let mut next = || std::str::from_utf8(row.buffer().get(ranges.next().ok()???)?).ok();
        Some(Self { is_standby: next()? == "true", is_read_only: next()? == "on" })
    }
}

impl PostgresLoginError {
    /// Whether another server of the connection may open a session. A login that one server rejects is not tried at the
    /// others: it would be rejected too, and servers lock users who try often.
    fn is_of_this_server(&self) -> bool {
        match self {
            Self::Read(_) | Self::Protocol | Self::Timeout => true,
            Self::Refused { state, .. } => state == NOT_NOW,
            Self::Weak { .. } | Self::Unsupported { .. } | Self::Unproved | Self::ModeMismatch => {
                false
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::postgres::messages::PostgresReadError;

    #[test]
    fn a_rejected_login_is_not_taken_for_a_failure_of_this_server_alone() {
        let refused = |state: &str| PostgresLoginError::Refused {
            state: state.to_owned(),
            message: "no".to_owned(),
        };
        for (error, is_of_this_server) in [
            (refused("28P01"), false),
            (refused("28000"), false),
            (refused("3D000"), false),
            (refused("53300"), false),
            (PostgresLoginError::Unproved, false),
            (PostgresLoginError::Weak { method: "md5" }, false),
            (PostgresLoginError::Unsupported { method: "GSSAPI" }, false),
            (PostgresLoginError::ModeMismatch, false),
            // It starts, stops or recovers.
            (refused("57P03"), true),
            (PostgresLoginError::Timeout, true),
            (PostgresLoginError::Protocol, true),
            (PostgresReadError::Malformed.into(), true),
            (PostgresReadError::Ended(std::io::ErrorKind::UnexpectedEof.into()).into(), true),
        ] {
            assert_eq!(error.is_of_this_server(), is_of_this_server, "{error}");
        }
    }
}

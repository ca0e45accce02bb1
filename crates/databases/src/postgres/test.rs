//! [`test`] logs in with a connection and asks the server who it is: the test of a connection. It leaves one audit event.

use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use fallible_iterator::FallibleIterator;
use postgres_protocol::message::backend::{DataRowBody, Message};
use postgres_protocol::message::frontend;
use tokio::io::AsyncWriteExt;
use tokio::time::Instant;

use super::login::{LoggedIn, Login, LoginError};
use super::messages;
use super::parameters::StartupParameters;
use super::refused::Refused;
use super::upstream::Upstream;
use keyward_base::codes::{Code, RefusalText};
use keyward_proxy::{Gateway, ServiceExchange};
use keyward_rules::inject::credential::Credential;
use keyward_state::directory::ConnectionRecord;

/// One row with everything. Strings are compared and shown; nothing is written.
const QUESTION: &str = "SELECT current_setting('server_version'), current_user, \
    current_setting('default_transaction_read_only'), \
    (SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname = current_user)::text";

/// Messages of the answer that are read.
const MESSAGES_MAX: usize = 64;

/// The result of a test.
#[derive(Clone, Debug)]
pub struct DatabaseReport {
    /// The id in the audit log; `None` when no session began.
    pub exchange: Option<String>,
    /// The time until the answer or the failure.
    pub took: Duration,
    /// What the server said, or why it said nothing.
    pub result: Result<DatabaseFacts, DatabaseTestError>,
}

/// What a server says about a login.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct DatabaseFacts {
    /// Such as `16.4`.
    pub version: String,
    /// The role.
    pub user: String,
    /// Whether transactions are read-only unless they say otherwise.
    pub read_only: bool,
    /// Whether the role is a superuser, whom nothing restricts.
    pub superuser: bool,
}

/// Why a test failed.
#[derive(Clone, Debug)]
pub struct DatabaseTestError {
    /// How it failed.
    pub failure: DatabaseTestFailure,
    /// Code, message and hint.
    pub text: RefusalText,
}

/// How a test failed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum DatabaseTestFailure {
    /// The server rejects the role or its password.
    RejectedLogin,
    /// No stream to the server.
    Unreachable,
    /// No answer in time.
    Timeout,
    /// No TLS, or another server than the connection's.
    UntrustedTls,
    /// The server's address may not be dialled.
    RefusedAddress,
    /// The server does not do what is asked.
    UnexpectedAnswer,
    /// Nothing was sent.
    NotTried,
}

/// Logs in with the connection and asks one question. `trial`: a credential that is not in use yet.
pub async fn test(
    gateway: &Arc<Gateway>,
    connection: &ConnectionRecord,
    trial: Option<Arc<Credential>>,
) -> DatabaseReport {
    let began = Instant::now();
    let begun = ServiceExchange::begin_test(gateway, connection, trial).await;
    let (mut exchange, permit, credential) = match begun {
        Ok(begun) => begun,
        Err(text) => {
            let failure = DatabaseTestFailure::of(text.code);
            let result = Err(DatabaseTestError { failure, text });
            return DatabaseReport { exchange: None, took: began.elapsed(), result };
        }
    };
    let id = exchange.id().to_owned();
    let asked = async {
        let login = Login::new(permit.clone(), &credential, StartupParameters::of_test(&permit))?;
        exchange.set_role(login.role());
        let upstream = Upstream::reach(&mut exchange, &permit).await?;
        let (mut upstream, LoggedIn { .. }) = login.run(&mut exchange, upstream).await?;
        let within = exchange.connect_timeout();
        let answer = tokio::time::timeout(within, ask(&mut upstream)).await;
        answer.unwrap_or(Err(LoginError::Timeout)).map_err(Refused::Server)
    };
    let result = asked.await.map_err(|refused: Refused| failed(&mut exchange, refused));
    if result.is_ok() {
        exchange.completed();
    }
    DatabaseReport { exchange: Some(id), took: began.elapsed(), result }
}

fn failed(exchange: &mut ServiceExchange, refused: Refused) -> DatabaseTestError {
    if let Some(code) = refused.code() {
        exchange.refused_by_protocol(code);
    }
    let mut rejects = false;
    let text = match refused {
        Refused::Recorded(text) | Refused::Keyward(text) => text,
        Refused::Client(malformed) => Code::Internal.because(malformed.to_string()),
        Refused::Server(error) => {
            rejects = matches!(&error, LoginError::Refused { state, .. } if state == "28P01");
            let text = error.code().because(error.to_string());
            text.hint_if(error.hint().map(str::to_owned))
        }
    };
    let failure = match rejects {
        true => DatabaseTestFailure::RejectedLogin,
        false => DatabaseTestFailure::of(text.code),
    };
    DatabaseTestError { failure, text }
}

impl DatabaseTestFailure {
    fn of(code: Code) -> Self {
        match code {
            Code::UpstreamUnreachable => Self::Unreachable,
            Code::UpstreamTimeout => Self::Timeout,
            Code::UpstreamTls => Self::UntrustedTls,
            Code::AddressRefused => Self::RefusedAddress,
            Code::UpstreamProtocol => Self::UnexpectedAnswer,
            _ => Self::NotTried,
        }
    }
}

async fn ask(upstream: &mut Upstream) -> Result<DatabaseFacts, LoginError> {
    let mut out = BytesMut::new();
    frontend::query(QUESTION, &mut out).map_err(|_| LoginError::Protocol)?;
    let sent = async {
        upstream.write_all(&out).await?;
        upstream.flush().await
    };
    sent.await.map_err(messages::ReadError::Ended)?;
    let mut facts = None;
    for _ in 0..MESSAGES_MAX {
        match messages::read(upstream).await?.0 {
            Message::DataRow(row) => facts = Some(facts_of(&row).ok_or(LoginError::Protocol)?),
            Message::ReadyForQuery(_) => return facts.ok_or(LoginError::Protocol),
            Message::ErrorResponse(_) => return Err(LoginError::Protocol),
            _ => {}
        }
    }
    Err(LoginError::Protocol)
}

fn facts_of(row: &DataRowBody) -> Option<DatabaseFacts> {
    let mut ranges = row.ranges();
    let mut next = || {
        let range = ranges.next().ok()??;
        let text = range.map(|range| String::from_utf8_lossy(&row.buffer()[range]).into_owned());
        let text: String = text?.chars().filter(|c| !c.is_control()).take(100).collect();
        Some(text)
    };
    Some(DatabaseFacts {
        version: next()?,
        user: next()?,
        read_only: next()? == "on",
        superuser: next()? == "true",
    })
}

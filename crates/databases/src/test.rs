//! [`test`]: the test of a connection. It logs in and asks the server who it is, and leaves one audit event.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::login::DatabaseFacts;
use crate::refused::Refused;
use crate::{bolt, mongodb, mysql, postgres, redis};
use keyward_base::codes::{Code, RefusalText};
use keyward_base::database::DatabaseProtocol;
use keyward_proxy::{Gateway, ServiceExchange};
use keyward_rules::inject::credential::Credential;
use keyward_state::directory::ConnectionRecord;

/// The result of a test.
#[derive(Clone, Debug)]
pub struct DatabaseReport {
    /// The id in the audit log; `None` when no session began.
    pub exchange: Option<String>,
    /// The time until the answer or the failure.
    pub took: Duration,
    /// The facts from the server, or why there are none.
    pub result: Result<DatabaseFacts, DatabaseTestError>,
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

/// Logs in with the connection and asks the server who it is. `trial`: a credential that is not in use yet.
pub async fn test(
    gateway: &Arc<Gateway>,
    connection: &ConnectionRecord,
    trial: Option<Arc<Credential>>,
) -> DatabaseReport {
    let began = Instant::now();
    let begun = ServiceExchange::begin_test(gateway, connection, trial).await;
    let (mut exchange, permitted) = match begun {
        Ok(begun) => begun,
        Err(text) => {
            let failure = DatabaseTestFailure::of(text.code);
            let result = Err(DatabaseTestError { failure, text });
            return DatabaseReport { exchange: None, took: began.elapsed(), result };
        }
    };
    let id = exchange.id().to_owned();
    let protocol = permitted.permit().endpoint().protocol;
    let asked = match protocol {
        DatabaseProtocol::Postgres => postgres::test::facts(&mut exchange, permitted).await,
        DatabaseProtocol::Redis => redis::test::facts(&mut exchange, permitted).await,
        DatabaseProtocol::Mysql => mysql::test::facts(&mut exchange, permitted).await,
        DatabaseProtocol::Mongodb => mongodb::test::facts(&mut exchange, permitted).await,
        DatabaseProtocol::Bolt => bolt::test::facts(&mut exchange, permitted).await,
    };
    let result = asked.map_err(|refused| failed(&mut exchange, refused));
    if result.is_ok() {
        exchange.completed();
    }
    DatabaseReport { exchange: Some(id), took: began.elapsed(), result }
}

fn failed(exchange: &mut ServiceExchange, refused: Refused) -> DatabaseTestError {
    if let Some(code) = refused.code() {
        exchange.refused_by_protocol(code);
    }
    let (text, rejects) = match refused {
        Refused::Recorded(text) | Refused::Keyward(text) => (text, false),
        Refused::Client(why) => (Code::Internal.because(why), false),
        Refused::Server(refusal) => (refusal.text, refusal.rejects_login),
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

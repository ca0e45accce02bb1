//! Logs in with a connection and asks the server who it is.

use fallible_iterator::FallibleIterator;
use postgres_protocol::message::backend::DataRowBody;

use super::login::{LoggedIn, PostgresLogin};
use super::login_error::PostgresLoginError;
use super::parameters::StartupParameters;
use super::question::ask;
use crate::facts::{DatabaseFacts, short};
use crate::refused::Refused;
use keyward_proxy::ServiceExchange;
use keyward_rules::policy::PermittedLogin;

/// One row with everything. Strings are compared and shown; nothing is written.
const QUESTION: &str = "SELECT current_setting('server_version'), current_user, \
    current_setting('transaction_read_only'), \
    (SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname = current_user)::text";

/// Logs in and asks one question.
///
/// # Errors
/// When the server opens no session, or does not answer.
pub async fn facts(
    exchange: &mut ServiceExchange,
    permitted: PermittedLogin,
) -> Result<DatabaseFacts, Refused> {
    let permit = permitted.permit().clone();
    let login = PostgresLogin::new(permitted, StartupParameters::of_test(&permit))?;
    exchange.set_role(login.role());
    let (mut upstream, LoggedIn { permit: at, .. }) = login.run(exchange).await?;
    let within = exchange.connect_timeout();
    let answer = tokio::time::timeout(within, ask(&mut upstream, QUESTION, facts_of)).await;
    let facts = answer.unwrap_or(Err(PostgresLoginError::Timeout))?;
    let facts = facts.ok_or(PostgresLoginError::Protocol)?;
    Ok(DatabaseFacts { server: permit.endpoint().one_of_several(&at.endpoint().target), ..facts })
}

fn facts_of(row: &DataRowBody) -> Option<DatabaseFacts> {
    let mut ranges = row.ranges();
    let mut next = || {
        let range = ranges.next().ok()??;
        range.map(|range| short(&String::from_utf8_lossy(&row.buffer()[range])))
    };
    Some(DatabaseFacts {
        server: None,
        version: next()?,
        user: next()?,
        read_only: next()? == "on",
        superuser: next()? == "true",
    })
}

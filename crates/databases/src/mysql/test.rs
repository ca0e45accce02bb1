//! Logs in with a connection and asks the server for its version and the user.

use super::login::{MysqlLogin, NegotiatedOptions};
use super::packet::Parts;
use super::question::{PROTOCOL, ask};
use crate::facts::{DatabaseFacts, short};
use crate::login::ServerError;
use crate::refused::Refused;
use keyward_proxy::ServiceExchange;
use keyward_rules::policy::PermittedLogin;

/// One row with everything; nothing is written. The last is the number of rights that nothing restricts.
const QUESTION: &str = "SELECT VERSION(), CURRENT_USER(), (SELECT COUNT(*) FROM information_schema.USER_PRIVILEGES \
    WHERE PRIVILEGE_TYPE = 'SUPER' AND GRANTEE = CONCAT('''', REPLACE(CURRENT_USER(), '@', '''@'''), ''''))";

/// Logs in and asks one question.
///
/// # Errors
/// When the server opens no session, or does not answer.
pub async fn facts(
    exchange: &mut ServiceExchange,
    permitted: PermittedLogin,
) -> Result<DatabaseFacts, Refused> {
    let settings = permitted.permit().wanted().settings.clone();
    let login = MysqlLogin::new(permitted, NegotiatedOptions::of_keyward())?;
    let mut upstream = login.run(exchange).await?.upstream;
    let within = exchange.connect_timeout();
    let answer = tokio::time::timeout(within, ask(&mut upstream, QUESTION)).await;
    let row = answer.unwrap_or(Err(ServerError::Timeout))?;
    let facts = row.and_then(|row| facts_of(&row)).ok_or(PROTOCOL)?;
    // The login has asked the server for it.
    let read_only = settings.is_some_and(|settings| settings.read_only == Some(true));
    Ok(DatabaseFacts { read_only, ..facts })
}

fn facts_of(row: &[u8]) -> Option<DatabaseFacts> {
    let mut parts = Parts(row);
    let mut next = || Some(short(&String::from_utf8_lossy(parts.length_encoded()?)));
    Some(DatabaseFacts {
        server: None,
        version: next()?,
        user: next()?,
        read_only: false,
        superuser: next()? != "0",
    })
}

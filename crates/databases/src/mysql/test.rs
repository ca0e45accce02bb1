//! Logs in with a connection and asks the server for its version and the user.

use tokio::io::AsyncWriteExt;

use super::login::{MysqlLogin, NegotiatedOptions};
use super::packet::{
    ERROR, MULTI_RESULTS, PROTOCOL_41, Parts, SECURE_CONNECTION, Sequence, TRANSACTIONS,
};
use crate::facts::{DatabaseFacts, short};
use crate::login::ServerError;
use crate::refused::Refused;
use crate::upstream::Upstream;
use keyward_base::database::DatabaseProtocol;
use keyward_proxy::ServiceExchange;
use keyward_rules::policy::PermittedLogin;

/// One row with everything; nothing is written. The last is the number of rights that nothing restricts.
const QUESTION: &[u8] = b"\x03SELECT VERSION(), CURRENT_USER(), (SELECT COUNT(*) FROM information_schema.USER_PRIVILEGES \
    WHERE PRIVILEGE_TYPE = 'SUPER' AND GRANTEE = CONCAT('''', REPLACE(CURRENT_USER(), '@', '''@'''), ''''))";

/// Packets of the answer that are read. Servers send seven.
const PACKETS_MAX: usize = 64;

/// Logs in and asks one question.
///
/// # Errors
/// When the server opens no session, or does not answer.
pub async fn facts(
    exchange: &mut ServiceExchange,
    permitted: PermittedLogin,
) -> Result<DatabaseFacts, Refused> {
    let agreed = NegotiatedOptions {
        flags: PROTOCOL_41 | SECURE_CONNECTION | TRANSACTIONS | MULTI_RESULTS,
        charset: 45,
        packet_bytes_max: 1 << 24,
        program: "keyward".to_owned(),
    };
    let settings = permitted.permit().wanted().settings.clone();
    let (mut upstream, _) = MysqlLogin::new(permitted, agreed)?.run(exchange).await?;
    let within = exchange.connect_timeout();
    let answer = tokio::time::timeout(within, ask(&mut upstream)).await;
    let facts = answer.unwrap_or(Err(ServerError::Timeout))?;
    // The login has asked the server for it.
    let read_only = settings.is_some_and(|settings| settings.read_only == Some(true));
    Ok(DatabaseFacts { read_only, ..facts })
}

async fn ask(upstream: &mut Upstream) -> Result<DatabaseFacts, ServerError> {
    let protocol = || ServerError::Protocol(DatabaseProtocol::Mysql);
    let mut sequence = Sequence::default();
    sequence.write(upstream, QUESTION).await?;
    upstream.flush().await?;
    let mut ends = 0;
    for _ in 0..PACKETS_MAX {
        let payload = sequence.read(upstream).await?;
        match payload.first() {
            Some(&ERROR) | None => return Err(protocol()),
            // `EOF_Packet`: behind the columns, and behind the row.
            Some(0xfe) if payload.len() < 9 => ends += 1,
            Some(_) if ends == 1 => return facts_of(&payload).ok_or_else(protocol),
            Some(_) => {}
        }
    }
    Err(protocol())
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

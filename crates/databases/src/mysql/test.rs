//! Logs in with a connection and asks the server for its version and the user.

use super::login::{MysqlLogin, NegotiatedOptions};
use super::packet::{PROTOCOL, Parts, ask};
use crate::login::{DatabaseFacts, ServerError, rights, short};
use crate::refused::Refused;
use keyward_proxy::ServiceExchange;
use keyward_rules::policy::PermittedLogin;

/// One row with everything; nothing is written. The last is the number of rights that nothing restricts.
const QUESTION: &str = "SELECT VERSION(), CURRENT_USER(), (SELECT COUNT(*) FROM information_schema.USER_PRIVILEGES \
    WHERE PRIVILEGE_TYPE = 'SUPER' AND GRANTEE = CONCAT('''', REPLACE(CURRENT_USER(), '@', '''@'''), ''''))";

/// Functions of libraries that the server has loaded, which every user may call. Few users may read the table.
const LOADED: &str = "SELECT COALESCE(GROUP_CONCAT(CONCAT('call the loaded function ', name) \
    ORDER BY 1 SEPARATOR ', '), '') FROM mysql.func";

/// Its rights at the server, its databases and tables, as far as the two lists have them, and the rights of administrators.
fn rights_question(writes: bool) -> String {
    const RIGHTS: &str =
        "'CREATE USER', 'FILE', 'PROCESS', 'RELOAD', 'REPLICATION SLAVE', 'SHUTDOWN'";
    const WRITES: &str = ", 'ALTER', 'CREATE', 'DELETE', 'DROP', 'EVENT', 'EXECUTE', 'INSERT', \
        'TRIGGER', 'UPDATE'";
    let tables = ["USER", "SCHEMA", "TABLE"].map(|of| {
        format!("SELECT GRANTEE, PRIVILEGE_TYPE FROM information_schema.{of}_PRIVILEGES")
    });
    let (tables, writes) = (tables.join(" UNION ALL "), if writes { WRITES } else { "" });
    format!(
        "SELECT COALESCE(GROUP_CONCAT(DISTINCT LOWER(PRIVILEGE_TYPE) ORDER BY 1 SEPARATOR ', '), '') \
         FROM ({tables}) AS p WHERE (PRIVILEGE_TYPE IN ({RIGHTS}{writes}) OR PRIVILEGE_TYPE LIKE '%ADMIN') \
         AND GRANTEE = CONCAT('''', REPLACE(CURRENT_USER(), '@', '''@'''), '''')"
    )
}

/// Logs in and asks.
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
    let writes = rights_question(DatabaseFacts::are_writes_beyond(settings.as_deref()));
    let asked = async {
        let row = ask(&mut upstream, QUESTION).await?;
        let facts = row.and_then(|row| facts_of(&row)).ok_or(PROTOCOL)?;
        let mut found = Vec::new();
        for question in [&*writes, LOADED] {
            // Servers that only speak the protocol may not know all of it.
            let row = ask(&mut upstream, question).await.ok().flatten();
            let list = row.and_then(|row| Some(rights(Parts(&row).length_encoded()?)));
            found.extend(list.unwrap_or_default());
        }
        Ok(DatabaseFacts { rights: found, ..facts })
    };
    let answer = tokio::time::timeout(within, asked).await;
    let facts = answer.unwrap_or(Err(ServerError::Timeout))?;
    // The login has asked the server for it.
    let read_only = settings.is_some_and(|settings| settings.read_only == Some(true));
    Ok(DatabaseFacts { read_only, ..facts })
}

fn facts_of(row: &[u8]) -> Option<DatabaseFacts> {
    let mut parts = Parts(row);
    let mut next = || Some(short(&String::from_utf8_lossy(parts.length_encoded()?)));
    Some(DatabaseFacts {
        version: next()?,
        user: next()?,
        superuser: next()? != "0",
        ..DatabaseFacts::default()
    })
}

//! Logs in with a connection and asks the server for its version and the user.

use bson::{RawBsonRef, RawDocument, RawDocumentBuf, rawdoc};

use super::login::{CommandStream, MongoLogin, is_ok};
use crate::login::{DatabaseFacts, ServerError, UNKNOWN_VERSION, short};
use crate::refused::Refused;
use crate::upstream::Upstream;
use keyward_proxy::ServiceExchange;
use keyward_rules::policy::PermittedLogin;

/// Logs in and asks.
///
/// # Errors
/// When the server opens no session, or does not answer.
pub async fn facts(
    exchange: &mut ServiceExchange,
    permitted: PermittedLogin,
) -> Result<DatabaseFacts, Refused> {
    let mut login = MongoLogin::new(permitted, "keyward")?;
    let mut upstream = login.run(exchange).await?;
    let within = exchange.connect_timeout();
    let asked = tokio::time::timeout(within, questions(&mut upstream)).await;
    let (version, status) = asked.unwrap_or(Err(ServerError::Timeout))?;
    let read_only = login.allowed().read_only;
    Ok(DatabaseFacts {
        server: login.server().map(short),
        version: version.unwrap_or_else(|| UNKNOWN_VERSION.to_owned()),
        user: user(&status).unwrap_or_else(|| login.user().to_owned()),
        read_only,
        rights: rights(&status, read_only).unwrap_or_default(),
        ..DatabaseFacts::default()
    })
}

/// The version, and what the server knows of the user. The user may lack the right to ask.
async fn questions(
    upstream: &mut Upstream,
) -> Result<(Option<String>, RawDocumentBuf), ServerError> {
    let mut commands = CommandStream::new(upstream);
    let build = commands.ask(&rawdoc! { "buildInfo": 1, "$db": "admin" }).await?;
    let version = build.get_str("version").ok().filter(|_| is_ok(&build)).map(short);
    let status = commands.ask(&rawdoc! { "connectionStatus": 1, "$db": "admin" }).await?;
    Ok((version, status))
}

/// The roles of `authInfo.authenticatedUserRoles` that permit more than the sessions.
fn rights(status: &RawDocument, read_only: bool) -> Option<Vec<String>> {
    let roles = status.get_document("authInfo").ok()?.get_array("authenticatedUserRoles").ok()?;
    let within: &[&str] = match read_only {
        true => &["read", "readAnyDatabase"],
        false => &["read", "readAnyDatabase", "readWrite", "readWriteAnyDatabase"],
    };
    let right = |role: RawBsonRef<'_>| {
        let role = role.as_document()?;
        let (name, database) = (role.get_str("role").ok()?, role.get_str("db").ok()?);
        let shown = || format!("use the role {} of {}", short(name), short(database));
        (!within.contains(&name)).then(shown)
    };
    Some(roles.into_iter().filter_map(|role| right(role.ok()?)).collect())
}

/// The first of `authInfo.authenticatedUsers`, as `user@database`.
fn user(status: &RawDocument) -> Option<String> {
    let users = status.get_document("authInfo").ok()?.get_array("authenticatedUsers").ok()?;
    let user = users.get_document(0).ok()?;
    let (user, database) = (user.get_str("user").ok()?, user.get_str("db").ok()?);
    Some(format!("{}@{}", short(user), short(database)))
}

//! Logs in with a connection and asks the server for its version and the user.

use super::login::{RedisLogin, RedisReply, ask};
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
    let login = RedisLogin::new(permitted, "keyward")?;
    let mut upstream = login.run(exchange).await?;
    let within = exchange.connect_timeout();
    let asked = tokio::time::timeout(within, questions(&mut upstream)).await;
    let (version, user) = asked.unwrap_or(Err(ServerError::Timeout))?;
    Ok(DatabaseFacts {
        version,
        user: user.unwrap_or_else(|| login.user().to_owned()),
        read_only: login.allowed().read_only,
        ..DatabaseFacts::default()
    })
}

/// The version and the user. The user may lack the right to ask.
async fn questions(upstream: &mut Upstream) -> Result<(String, Option<String>), ServerError> {
    let version = match ask(upstream, &[b"INFO", b"server"]).await? {
        RedisReply::Text(info) => version(&info),
        RedisReply::Line(_) | RedisReply::Error(_) => UNKNOWN_VERSION.to_owned(),
    };
    let user = match ask(upstream, &[b"ACL", b"WHOAMI"]).await? {
        RedisReply::Text(user) => Some(short(&user)),
        RedisReply::Line(_) | RedisReply::Error(_) => None,
    };
    Ok((version, user))
}

/// `7.0.15`, or `7.2.4 (Valkey 8.1.1)`.
fn version(info: &str) -> String {
    let value = |name: &str| {
        let mut lines = info.lines();
        lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(short)
    };
    let redis = value("redis_version").unwrap_or_else(|| UNKNOWN_VERSION.to_owned());
    match value("valkey_version") {
        Some(valkey) => format!("{redis} (Valkey {valkey})"),
        None => redis,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_of_redis_or_valkey_is_read_from_its_info() {
        for (info, expected) in [
            ("# Server\r\nredis_version:7.0.15\r\nredis_mode:standalone\r\n", "7.0.15"),
            (
                "redis_version:7.2.4\r\nserver_name:valkey\r\nvalkey_version:8.1.1\r\n",
                "7.2.4 (Valkey 8.1.1)",
            ),
            ("", "(of unknown version)"),
        ] {
            assert_eq!(version(info), expected);
        }
    }
}

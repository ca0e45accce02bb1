//! The variables by which a program finds its database: `DATABASE_URL` and those of libpq. The password is the run's token.

use std::net::SocketAddr;

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use super::gateway::Gateway;
use crate::cli::environment::{Environment, Facts};
use crate::cli::failure::Failure;
use keyward_api::wire::DatabaseListenerView;

/// Adds the variables for the agent's database: its only one, or its default. Notes what a program does not get.
///
/// # Errors
/// When the gateway does not answer.
pub(super) async fn add(
    made: &mut Environment,
    facts: &Facts,
    token: &str,
    gateway: &Gateway,
) -> Result<(), Failure> {
    let Some(connection) = facts.databases.first() else { return Ok(()) };
    let status = gateway.client().await?.status().await;
    let listeners = status.map(|status| status.databases).unwrap_or_default();
    let Some(at) = listener(&listeners, connection) else {
        made.notes.push(format!(
            "note: the gateway has no listener on 127.0.0.1 for the database of {connection}\n\
             hint: add one to `listen.databases`, such as `- at: \"127.0.0.1:6432\"`"
        ));
        return Ok(());
    };
    let others = &facts.databases[1..];
    if !others.is_empty() {
        made.notes.push(format!(
            "note: DATABASE_URL and PGHOST lead to {connection}\n\
             hint: for others, name them as the database: {}",
            others.join(", ")
        ));
    }
    made.variables.extend(variables(at, connection, token));
    Ok(())
}

/// A listener on this machine for the connection, that every agent with a token can use. It takes no TLS there.
fn listener(listeners: &[DatabaseListenerView], connection: &str) -> Option<SocketAddr> {
    let fits = |listener: &&DatabaseListenerView| {
        listener.agent.is_none()
            && listener.connection.as_deref().is_none_or(|own| own == connection)
    };
    let at = |listener: &DatabaseListenerView| listener.at.parse().ok();
    listeners.iter().filter(fits).filter_map(at).find(|at: &SocketAddr| at.ip().is_loopback())
}

/// The connection is named twice, because some programs replace the database and others the user.
fn variables(at: SocketAddr, connection: &str, token: &str) -> Vec<(String, String)> {
    let name = utf8_percent_encode(connection, NON_ALPHANUMERIC);
    let url = format!("postgres://{name}:{token}@{at}/{name}?sslmode=disable");
    [
        ("DATABASE_URL", url),
        ("PGHOST", at.ip().to_string()),
        ("PGPORT", at.port().to_string()),
        ("PGUSER", connection.to_owned()),
        ("PGPASSWORD", token.to_owned()),
        ("PGDATABASE", connection.to_owned()),
        // The listener is on this machine.
        ("PGSSLMODE", "disable".to_owned()),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listener_at(
        at: &str,
        connection: Option<&str>,
        agent: Option<&str>,
    ) -> DatabaseListenerView {
        let text = |text: &str| text.to_owned();
        DatabaseListenerView {
            at: text(at),
            connection: connection.map(text),
            agent: agent.map(text),
        }
    }

    #[test]
    fn a_program_is_led_to_a_listener_that_takes_its_token() {
        let all = [
            listener_at("unix:/run/.s.PGSQL.5432", None, None),
            listener_at("0.0.0.0:6", None, None),
            listener_at("127.0.0.1:1", None, Some("ci")),
            listener_at("127.0.0.1:2", Some("other"), None),
            listener_at("127.0.0.1:3", Some("main"), None),
            listener_at("127.0.0.1:4", None, None),
        ];
        let found = |connection: &str| listener(&all, connection).map(|at| at.port());
        assert_eq!(found("main"), Some(3));
        assert_eq!(found("third"), Some(4));
        assert_eq!(listener(&all[..4], "main"), None);
    }

    #[test]
    fn a_name_cannot_change_the_url() {
        let all = variables("[::1]:6432".parse().unwrap(), "a@b/c", "kwa_t");
        let url = all.iter().find(|(name, _)| name == "DATABASE_URL").unwrap();
        assert_eq!(url.1, "postgres://a%40b%2Fc:kwa_t@[::1]:6432/a%40b%2Fc?sslmode=disable");
        assert!(all.contains(&("PGHOST".to_owned(), "::1".to_owned())));
    }
}

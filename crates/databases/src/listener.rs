//! [`DatabaseListener`]: the protocol and connection of one listener for databases. [`choose`]: which connection a session
//! is for, where the client names it as its database or user.

use std::sync::Arc;

use crate::bolt::handshake::OfferedVersion;
use crate::mysql::login_key::LoginKey;
use crate::postgres::cancel::CancelKeys;
use keyward_base::codes::{Code, RefusalText};
use keyward_base::database::{DatabaseProtocol, ServerVersion};
use keyward_proxy::DatabaseChoice;

/// The service of one listener; `lib.rs` serves its streams.
#[derive(Debug)]
pub struct DatabaseListener {
    protocol: DatabaseProtocol,
    /// MySQL: the version with which clients are greeted.
    server_version: Option<ServerVersion>,
    /// The connection of all its sessions, by name; `None`: each session names one.
    connection: Option<String>,
    /// PostgreSQL: the keys by which statements are cancelled.
    cancels: Arc<CancelKeys>,
    /// MySQL: the key to which tokens are encrypted.
    login_key: Arc<LoginKey>,
    /// Bolt: the newest version that clients are offered.
    bolt_version: OfferedVersion,
}

impl DatabaseListener {
    /// `connection`: the connection of all sessions, by name; without one, each session names its own.
    pub fn new(
        protocol: DatabaseProtocol,
        server_version: Option<ServerVersion>,
        connection: Option<String>,
    ) -> Arc<Self> {
        let (cancels, login_key) = (Arc::default(), Arc::default());
        let bolt_version = OfferedVersion::default();
        Arc::new(Self { protocol, server_version, connection, cancels, login_key, bolt_version })
    }

    pub(crate) fn protocol(&self) -> DatabaseProtocol {
        self.protocol
    }

    pub(crate) fn server_version(&self) -> Option<&ServerVersion> {
        self.server_version.as_ref()
    }

    pub(crate) fn connection(&self) -> Option<&str> {
        self.connection.as_deref()
    }

    pub(crate) fn cancels(&self) -> &Arc<CancelKeys> {
        &self.cancels
    }

    pub(crate) fn bolt_version(&self) -> &OfferedVersion {
        &self.bolt_version
    }

    pub(crate) fn login_key(&self) -> &Arc<LoginKey> {
        &self.login_key
    }
}

/// What a client names.
#[derive(Clone, Copy, Debug)]
pub enum ClientChoice<'a> {
    /// A database and a user, either of which may be the name of a connection.
    Database { database: &'a str, user: &'a str },
    /// A user alone, in protocols whose databases have no names.
    User(&'a str),
}

/// The user name that clients send if none is configured (Redis, `AUTH`).
const DEFAULT_USER: &str = "default";

impl ClientChoice<'_> {
    /// Whether the client names nothing: then it sends the user's name as the database, or the default user.
    fn is_default(self) -> bool {
        match self {
            Self::Database { database, user } => database == user || database.is_empty(),
            Self::User(user) => user.is_empty() || user == DEFAULT_USER,
        }
    }

    /// The word for the naming parameter, in messages.
    fn what(self) -> &'static str {
        match self {
            Self::Database { .. } => "database",
            Self::User(_) => "user",
        }
    }
}

/// The name of the connection that the client selects by name, or by its database at the server. Any other name is an
/// error, even if the agent has only one connection: otherwise the client could, for example, empty a production
/// database that it takes for its test database.
///
/// # Errors
/// When nothing, or several connections, are meant.
pub fn choose(choices: &[DatabaseChoice], named: ClientChoice<'_>) -> Result<String, RefusalText> {
    let by_name = |name: &str| choices.iter().find(|choice| *choice.name == *name);
    let only = || choices.first().filter(|_| choices.len() == 1 && named.is_default());
    let found = match named {
        ClientChoice::User(user) => by_name(user),
        ClientChoice::Database { database, user } => {
            let mut at_server = choices.iter().filter(|choice| choice.database == database);
            let at_server = || match (at_server.next(), at_server.next()) {
                (Some(only), None) => Some(only),
                _ => None,
            };
            let fits = |choice: &&DatabaseChoice| named.is_default() || choice.database == database;
            by_name(database).or_else(|| by_name(user).filter(fits)).or_else(at_server)
        }
    };
    match found.or_else(only) {
        Some(choice) => Ok(choice.name.to_string()),
        None => Err(refused(choices, named)),
    }
}

fn refused(choices: &[DatabaseChoice], named: ClientChoice<'_>) -> RefusalText {
    if choices.is_empty() {
        return Code::ConnectionMissing
            .because("this agent has no connection to a database")
            .hint("bind one: `keyward agent bind NAME CONNECTION`");
    }
    let names: Vec<_> = choices.iter().map(|choice| &*choice.name).collect();
    let (names, what) = (names.join(", "), named.what());
    let hint = format!("name one as the {what}: {names}");
    if named.is_default() {
        return Code::ConnectionAmbiguous
            .because("the agent has several connections to databases")
            .hint(hint);
    }
    Code::ConnectionMissing
        .because(format!("the {what} is none of the agent's connections"))
        .hint(hint)
}

#[cfg(test)]
mod tests {
    use super::*;
    use keyward_base::database::DatabaseProtocol;

    fn choices(all: &[(&str, &str)]) -> Vec<DatabaseChoice> {
        let choice = |(name, database): &(&str, &str)| DatabaseChoice {
            name: (*name).into(),
            database: (*database).to_owned(),
            protocol: DatabaseProtocol::Postgres,
        };
        all.iter().map(choice).collect()
    }

    #[test]
    fn a_session_is_for_the_connection_that_the_client_names() {
        let two = choices(&[("main", "app"), ("stats", "warehouse")]);
        let one = choices(&[("main", "app")]);
        let same = choices(&[("main", "app"), ("copy", "app")]);
        for (choices, database, user, expected) in [
            (&one, "main", "x", Ok("main")),
            (&one, "x", "x", Ok("main")),
            (&one, "", "x", Ok("main")),
            (&one, "app", "x", Ok("main")),
            // A name of another database does not select the only connection.
            (&one, "prod", "x", Err(Code::ConnectionMissing)),
            (&two, "stats", "main", Ok("stats")),
            (&two, "main", "main", Ok("main")),
            (&two, "app", "main", Ok("main")),
            (&same, "app", "copy", Ok("copy")),
            (&two, "prod", "main", Err(Code::ConnectionMissing)),
            (&one, "test_app", "main", Err(Code::ConnectionMissing)),
            (&two, "warehouse", "x", Ok("stats")),
            (&two, "x", "x", Err(Code::ConnectionAmbiguous)),
            (&two, "prod", "x", Err(Code::ConnectionMissing)),
            (&same, "app", "x", Err(Code::ConnectionMissing)),
            (&Vec::new(), "x", "x", Err(Code::ConnectionMissing)),
        ] {
            let found = choose(choices, ClientChoice::Database { database, user });
            let found = found.map_err(|refusal| refusal.code);
            assert_eq!(found, expected.map(str::to_owned), "{database} {user}");
        }
    }
    #[test]
    fn a_user_name_selects_a_connection_and_a_wrong_name_selects_none() {
        let two = choices(&[("main", "0"), ("cache", "1")]);
        let one = choices(&[("main", "0")]);
        for (choices, user, expected) in [
            (&one, "main", Ok("main")),
            (&one, "default", Ok("main")),
            (&one, "", Ok("main")),
            // The number of a database is no name, and a wrong name does not select the only connection.
            (&one, "0", Err(Code::ConnectionMissing)),
            (&one, "cache", Err(Code::ConnectionMissing)),
            (&two, "cache", Ok("cache")),
            (&two, "default", Err(Code::ConnectionAmbiguous)),
            (&two, "other", Err(Code::ConnectionMissing)),
            (&Vec::new(), "main", Err(Code::ConnectionMissing)),
        ] {
            let found = choose(choices, ClientChoice::User(user)).map_err(|refusal| refusal.code);
            assert_eq!(found, expected.map(str::to_owned), "{user}");
        }
    }
}

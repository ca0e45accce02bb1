//! The variables by which a program finds its databases: `DATABASE_URL` and those of the protocols' own clients. The password
//! is the token of the environment.

use std::net::{Ipv4Addr, SocketAddr};

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::files::AgentEnvironment;
use keyward_api::wire::DatabaseListenerView;
use keyward_base::bolt;
use keyward_base::database::DatabaseProtocol;
use keyward_model::{Connection, Shown};

/// The variable of a database in any protocol.
const DATABASE_URL: &str = "DATABASE_URL";
/// What is encoded in the name of a database: some clients do not decode it.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_');
/// Variables of libpq that lead past `PGHOST`, or ask for what the listener does not have.
const LIBPQ_OVERRIDES: &[&str] = &[
    "PGCHANNELBINDING",
    "PGGSSENCMODE",
    "PGHOSTADDR",
    "PGREQUIREAUTH",
    "PGSERVICE",
    "PGSSLNEGOTIATION",
];

/// A connection to a database.
#[derive(Clone, Debug)]
pub(crate) struct Database {
    pub(crate) connection: String,
    pub(crate) protocol: DatabaseProtocol,
    /// Its name at the server.
    pub(crate) name: String,
}

impl Database {
    /// `None` for a service that is used over HTTP.
    pub(super) fn of(connection: &Shown<Connection>) -> Option<Self> {
        let url = connection.facts.database.as_deref()?;
        let name = url.rsplit_once('/').map_or("", |(_, name)| name).to_owned();
        let connection = connection.name.clone();
        Some(Self { connection, protocol: DatabaseProtocol::of_url(url)?, name })
    }
}

/// Inherited variables that a program must not have beside these.
fn overrides(variables: &[(String, String)]) -> &'static [&'static str] {
    if variables.iter().any(|(name, _)| name == "PGHOST") { LIBPQ_OVERRIDES } else { &[] }
}

/// Adds the variables for the agent's database of each protocol: its only one, or its default. Notes what a program does not
/// get; inherited variables of that name would lead it past the listeners, and are withheld.
pub(super) fn add(
    made: &mut AgentEnvironment,
    databases: &[Database],
    listeners: &[DatabaseListenerView],
    token: &str,
) {
    let mut wanted = Vec::new();
    for protocol in DatabaseProtocol::ALL {
        let mut own = databases.iter().filter(|database| database.protocol == protocol);
        let Some(first) = own.next() else { continue };
        let others: Vec<&str> = own.map(|database| database.connection.as_str()).collect();
        wanted.push((first, others, listener(listeners, first)));
    }
    let has_url =
        |protocol| matches!(protocol, DatabaseProtocol::Postgres | DatabaseProtocol::Mysql);
    let own = wanted.iter().filter(|(it, _, at)| at.is_some() && has_url(it.protocol)).count();
    // A binding to a file sets it too.
    let urls = own + made.variables.iter().filter(|(name, _)| name == DATABASE_URL).count();
    for (first, others, at) in wanted {
        let Some(at) = at else {
            // One that another database sets is not withheld, and one is named once.
            let is_withheld =
                |name: &String| !(made.removed.contains(name) || urls > 0 && name == DATABASE_URL);
            let names: Vec<String> = names(first).into_iter().filter(is_withheld).collect();
            made.notes.push(without_listener(first, &names));
            made.removed.extend(names);
            continue;
        };
        if !others.is_empty() {
            made.notes.push(with_others(first, &others, urls == 1));
        }
        let found = variables(at, &unambiguous(first, databases), token);
        made.removed.extend(overrides(&found).iter().map(ToString::to_string));
        // Another API of the same product may have placeholders for the same variables.
        made.variables.retain(|(name, _)| found.iter().all(|(own, _)| own != name));
        made.variables.extend(found);
    }
    // A program of one protocol would be led to a listener of another.
    if urls > 1 {
        made.variables.retain(|(name, _)| name != DATABASE_URL);
        made.removed.push(DATABASE_URL.to_owned());
        made.notes.push(
            "note: DATABASE_URL is not set: the agent has databases of several protocols\n\
             hint: use the variables of each, such as PGHOST, MYSQL_HOST and SQLITE_URI"
                .to_owned(),
        );
    }
}

/// What a client elsewhere does not get: the listeners are on the gateway's machine.
pub(super) fn note_elsewhere(databases: &[Database]) -> Option<String> {
    let names: Vec<_> = databases.iter().map(|it| it.connection.as_str()).collect();
    (!names.is_empty()).then(|| {
        format!(
            "note: no variable is set for the databases {}: the gateway's listeners are on its own machine\n\
             hint: pass the address of a listener that the program reaches, with the connection as user or \
             database and the token as password",
            names.join(", ")
        )
    })
}

/// The names of the variables for a database, and of those that a program must not have beside them.
fn names(database: &Database) -> Vec<String> {
    let set = variables(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), database, "");
    let beside = overrides(&set).iter().map(|name| (*name).to_owned());
    set.iter().map(|(name, _)| name.clone()).chain(beside).collect()
}

fn without_listener(database: &Database, withheld: &[String]) -> String {
    let place = match database.protocol {
        DatabaseProtocol::Postgres => "6432",
        DatabaseProtocol::Redis => "6380 --protocol redis",
        DatabaseProtocol::Mysql => "3307 --protocol mysql",
        DatabaseProtocol::Mongodb => "27018 --protocol mongodb",
        DatabaseProtocol::Bolt => "7688 --protocol bolt",
    };
    format!(
        "note: the gateway has no listener on 127.0.0.1 for the database of {}: the program does \
         not inherit {}\n\
         hint: open one, such as `keyward database-listener add NAME --at 127.0.0.1:{place}`",
        database.connection,
        withheld.join(", ")
    )
}

/// `has_url`: whether `DATABASE_URL` is set for it.
fn with_others(database: &Database, others: &[&str], has_url: bool) -> String {
    let bolt_leads = format!("{} leads", bolt::value("environment", "uri"));
    let (names, place) = match database.protocol {
        DatabaseProtocol::Postgres if has_url => ("DATABASE_URL and PGHOST lead", "database"),
        DatabaseProtocol::Postgres => ("PGHOST leads", "database"),
        DatabaseProtocol::Mysql if has_url => ("DATABASE_URL and MYSQL_HOST lead", "database"),
        DatabaseProtocol::Redis => ("REDIS_URL leads", "user"),
        DatabaseProtocol::Mysql => ("MYSQL_HOST leads", "database"),
        DatabaseProtocol::Mongodb => ("MONGODB_URI and MONGO_URL lead", "user"),
        DatabaseProtocol::Bolt => (bolt_leads.as_str(), "user"),
    };
    format!(
        "note: {names} to {}\nhint: for others, name them as the {place}: {}",
        database.connection,
        others.join(", ")
    )
}

/// A listener on this machine for the connection, that every agent with a token can use. It takes no TLS there.
fn listener(listeners: &[DatabaseListenerView], database: &Database) -> Option<SocketAddr> {
    let fits = |listener: &&DatabaseListenerView| {
        listener.protocol == database.protocol
            && listener.agent.is_none()
            && listener.connection.as_deref().is_none_or(|own| own == database.connection)
    };
    let at = |listener: &DatabaseListenerView| listener.at.parse().ok();
    listeners.iter().filter(fits).filter_map(at).find(|at: &SocketAddr| at.ip().is_loopback())
}

/// The database, without its name at the server if that is the name of another connection, which a client would get. Clients
/// of MySQL name both the connection and the database.
fn unambiguous(database: &Database, all: &[Database]) -> Database {
    let is_taken = all.iter().any(|other| {
        other.protocol == DatabaseProtocol::Mysql
            && other.connection == database.name
            && other.connection != database.connection
    });
    let mut database = database.clone();
    if database.protocol == DatabaseProtocol::Mysql && is_taken {
        database.name.clear();
    }
    database
}

pub(super) fn variables(at: SocketAddr, database: &Database, token: &str) -> Vec<(String, String)> {
    let connection = &database.connection;
    let name = utf8_percent_encode(connection, NON_ALPHANUMERIC).to_string();
    let at_server = utf8_percent_encode(&database.name, ENCODED).to_string();
    let url = database.protocol.client_url(at, &name, token, &at_server);
    let all = match database.protocol {
        DatabaseProtocol::Postgres => vec![
            (DATABASE_URL, url),
            ("PGHOST", at.ip().to_string()),
            ("PGPORT", at.port().to_string()),
            ("PGUSER", connection.clone()),
            ("PGPASSWORD", token.to_owned()),
            ("PGDATABASE", connection.clone()),
            // The listener is on this machine.
            ("PGSSLMODE", "disable".to_owned()),
        ],
        // Clients select the number of the URL.
        DatabaseProtocol::Redis => vec![("REDIS_URL", url)],
        DatabaseProtocol::Mysql => vec![
            (DATABASE_URL, url),
            ("MYSQL_HOST", at.ip().to_string()),
            ("MYSQL_TCP_PORT", at.port().to_string()),
            ("MYSQL_PWD", token.to_owned()),
        ],
        DatabaseProtocol::Mongodb => {
            vec![("MONGODB_URI", url.clone()), ("MONGO_URL", url)]
        }
        DatabaseProtocol::Bolt => {
            let value = |role: &str| match role {
                "uri" => format!("bolt://{at}"),
                "user" => connection.clone(),
                "password" => token.to_owned(),
                _ => database.name.clone(),
            };
            let all = bolt::names("environment").map(|(role, name)| (name, value(role)));
            all.filter(|(_, value)| value != bolt::HOME_DATABASE).collect()
        }
    };
    all.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

#[cfg(test)]
mod tests {
    use super::super::files::EnvironmentFiles;
    use super::*;

    fn listener_at(
        at: &str,
        connection: Option<&str>,
        agent: Option<&str>,
    ) -> DatabaseListenerView {
        let text = |text: &str| text.to_owned();
        DatabaseListenerView {
            at: text(at),
            protocol: DatabaseProtocol::Postgres,
            connection: connection.map(text),
            agent: agent.map(text),
            name: None,
        }
    }

    fn database(protocol: DatabaseProtocol, connection: &str, name: &str) -> Database {
        Database { connection: connection.to_owned(), protocol, name: name.to_owned() }
    }

    #[test]
    fn a_program_gets_a_database_listener_that_accepts_its_token() {
        let redis = DatabaseProtocol::Redis;
        let all = [
            listener_at("unix:/run/.s.PGSQL.5432", None, None),
            listener_at("0.0.0.0:6", None, None),
            listener_at("127.0.0.1:1", None, Some("ci")),
            listener_at("127.0.0.1:2", Some("other"), None),
            listener_at("127.0.0.1:3", Some("main"), None),
            DatabaseListenerView { protocol: redis, ..listener_at("127.0.0.1:5", None, None) },
            listener_at("127.0.0.1:4", None, None),
        ];
        let found = |protocol, connection| {
            listener(&all, &database(protocol, connection, "")).map(|at| at.port())
        };
        assert_eq!(found(DatabaseProtocol::Postgres, "main"), Some(3));
        assert_eq!(found(DatabaseProtocol::Postgres, "third"), Some(4));
        assert_eq!(found(redis, "main"), Some(5));
        let main = database(DatabaseProtocol::Postgres, "main", "");
        assert_eq!(listener(&all[..4], &main), None);
    }

    #[test]
    fn the_url_of_a_file_is_not_set_beside_that_of_a_server_and_stays_where_none_is_reached() {
        let file = (DATABASE_URL.to_owned(), "sqlite:////srv/app.db".to_owned());
        let main = [database(DatabaseProtocol::Postgres, "main", "app")];
        let made = |listeners: &[DatabaseListenerView]| {
            let mut made = AgentEnvironment {
                variables: vec![file.clone()],
                removed: Vec::new(),
                files: EnvironmentFiles { all: Vec::new() },
                notes: Vec::new(),
            };
            add(&mut made, &main, listeners, "kwa_t");
            made
        };
        let both = made(&[listener_at("127.0.0.1:1", None, None)]);
        assert!(both.variables.iter().all(|(name, _)| name != DATABASE_URL));
        assert!(both.removed.contains(&DATABASE_URL.to_owned()));
        assert!(both.notes.iter().any(|note| note.contains("SQLITE_URI")), "{:?}", both.notes);
        let alone = made(&[]);
        assert_eq!(alone.variables, std::slice::from_ref(&file));
        assert!(!alone.removed.contains(&DATABASE_URL.to_owned()), "{:?}", alone.removed);
    }

    #[test]
    fn variables_that_redirect_libpq_are_withheld_beside_pghost() {
        let at = "127.0.0.1:1".parse().unwrap();
        let of = |protocol| overrides(&variables(at, &database(protocol, "main", "app"), "kwa_t"));
        let postgres = of(DatabaseProtocol::Postgres);
        for name in ["PGCHANNELBINDING", "PGHOSTADDR", "PGSERVICE"] {
            assert!(postgres.contains(&name), "{name}");
        }
        assert!(of(DatabaseProtocol::Mysql).is_empty());
    }

    #[test]
    fn a_database_named_like_another_connection_is_absent_from_the_url() {
        let at = "127.0.0.1:1".parse().unwrap();
        let mysql = |connection, name| database(DatabaseProtocol::Mysql, connection, name);
        let all = [mysql("main", "shop"), mysql("shop", "app"), mysql("own", "own")];
        for (one, path) in all.iter().zip(["main", "app", "own"]) {
            let url = variables(at, &unambiguous(one, &all), "kwa_t").swap_remove(0).1;
            assert!(url.ends_with(&format!("/{path}")), "{url}");
        }
    }

    #[test]
    fn names_are_percent_encoded_in_database_urls() {
        let at = "[::1]:6432".parse().unwrap();
        let all = variables(at, &database(DatabaseProtocol::Postgres, "a@b/c", "app"), "kwa_t");
        let url = all.iter().find(|(name, _)| name == "DATABASE_URL").unwrap();
        assert_eq!(url.1, "postgres://a%40b%2Fc:kwa_t@[::1]:6432/a%40b%2Fc?sslmode=disable");
        assert!(all.contains(&("PGHOST".to_owned(), "::1".to_owned())));
        let all = variables(at, &database(DatabaseProtocol::Redis, "a@b/c", "3"), "kwa_t");
        let own = variables(at, &database(DatabaseProtocol::Mysql, "a@b/c", "my_a?p"), "kwa_t");
        let url = "mysql://a%40b%2Fc:kwa_t@[::1]:6432/my_a%3Fp";
        assert!(own.contains(&("DATABASE_URL".to_owned(), url.to_owned())), "{own:?}");
        let url = "redis://a%40b%2Fc:kwa_t@[::1]:6432/3";
        assert_eq!(all, [("REDIS_URL".to_owned(), url.to_owned())]);
        let all = variables(at, &database(DatabaseProtocol::Mongodb, "a@b/c", "app"), "kwa_t");
        let url = "mongodb://a%40b%2Fc:kwa_t@[::1]:6432/app?authMechanism=PLAIN&loadBalanced=true";
        let expected = ["MONGODB_URI", "MONGO_URL"].map(|name| (name.to_owned(), url.to_owned()));
        assert_eq!(all, expected);
        // Drivers take no user and password from the URL.
        let all = variables(at, &database(DatabaseProtocol::Bolt, "a@b/c", "~"), "kwa_t");
        let expected = [
            ("NEO4J_URI", "bolt://[::1]:6432"),
            ("NEO4J_USERNAME", "a@b/c"),
            ("NEO4J_PASSWORD", "kwa_t"),
        ];
        assert_eq!(all, expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
        let all = variables(at, &database(DatabaseProtocol::Bolt, "a", "movies"), "kwa_t");
        assert_eq!(all[3], ("NEO4J_DATABASE".to_owned(), "movies".to_owned()));
    }
}

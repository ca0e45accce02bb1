//! `listen.databases:`: listeners for sessions with databases. Agents send their tokens there, so only this machine can
//! connect unless the listener has TLS.

use serde::Deserialize;
use serde_yaml::Value;

use super::listen_at::{self, ListenAt};
use super::listen_tls::{self, Certificate};
use super::reading;
use super::reading::ConfigReading;
use keyward_base::database::{DatabaseProtocol, ServerVersion};
use keyward_base::id::OrgId;
use keyward_base::keys::section;
use keyward_rules::provider::document::{item_of, key_of};

/// A listener for sessions with databases.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ListenDatabase {
    pub at: ListenAt,
    /// What is spoken there.
    pub protocol: DatabaseProtocol,
    /// MySQL: the version that clients see before they log in.
    pub server_version: Option<ServerVersion>,
    /// The connection of all its sessions, by name; `None`: each session names one.
    pub connection: Option<String>,
    /// The agent whose sessions need no token: org and name.
    pub agent: Option<(OrgId, String)>,
    /// What the listener proves itself by to clients that ask for TLS.
    pub tls: Option<Certificate>,
}

impl ListenDatabase {
    /// A listener for the agents of all tokens, who name their connections.
    pub fn at(at: ListenAt) -> Self {
        Self {
            at,
            protocol: DatabaseProtocol::default(),
            server_version: None,
            connection: None,
            agent: None,
            tls: None,
        }
    }
}

section! {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    pub(super) struct ListenDatabaseText {
        /// On this machine, unless there is `tls`. Clients of PostgreSQL look for a socket named `.s.PGSQL.PORT`.
        #[key("`IP:PORT` or `unix:PATH`", required)]
        at: Option<Value>,
        /// What is spoken there. A listener takes sessions for databases of one protocol.
        #[key(one of ["postgres", "redis", "mysql", "mongodb", "bolt"], "postgres")]
        #[serde(default)]
        protocol: DatabaseProtocol,
        /// MySQL: the version that clients see before they log in, as `SELECT VERSION()` of the server says it. Clients
        /// choose their SQL by it. Default: `8.0.11-keyward`.
        #[key("version, such as `10.11.6-MariaDB`")]
        server_version: Option<String>,
        /// For clients that ask for TLS: with `cert` and `key`, PEM files whose changes are applied, or without them with
        /// leaves of Keyward's CA for its address, `localhost` and `names`. From other machines only TLS is accepted.
        #[key("`{ cert, key, names }`")]
        tls: Option<Value>,
        /// The connection of all sessions. Without it, the database or the user that a client names is the name of a
        /// connection.
        #[key("name of a connection")]
        connection: Option<String>,
        /// The agent of all sessions, which need no token then. Only Keyward's own user and root can use a socket.
        #[key("name of an agent")]
        agent: Option<String>,
        /// The agent's organisation, created when it is first named.
        #[key("name of an organisation", "default")]
        org: Option<String>,
        /// Must be `true` for an agent's listener over TCP, where every program of the machine can act as the agent.
        #[key(one of ["true", "false"], "false")]
        #[serde(default)]
        unsafe_no_auth: bool,
    }
}

pub(super) fn databases(
    value: Option<&Value>,
    reading: &mut ConfigReading<'_>,
) -> Vec<ListenDatabase> {
    let mut found = Vec::new();
    for (index, item) in reading.items(value, "listen.databases").iter().enumerate() {
        let path = item_of("listen.databases", index);
        let Some(text) = reading.section::<ListenDatabaseText>(Some(item), &path) else { continue };
        found.extend(database(text, &path, reading));
    }
    found
}

fn database(
    text: ListenDatabaseText,
    path: &str,
    reading: &mut ConfigReading<'_>,
) -> Option<ListenDatabase> {
    if let Some(agent) = &text.agent {
        reading::agent(agent, &key_of(path, "agent"), reading);
    }
    if let Some(connection) = &text.connection {
        reading::check_not_token(connection, &key_of(path, "connection"), reading);
    }
    let org = reading.org(text.org.as_deref(), &key_of(path, "org"));
    if text.org.is_some() && text.agent.is_none() {
        let remedy = "name the `agent`, or remove `org`: a token belongs to one organisation";
        reading.problems.add(&key_of(path, "org"), "`org` has no effect without `agent`", remedy);
    }
    let place = key_of(path, "at");
    let Some(at) = &text.at else {
        let remedy = "add `at: \"127.0.0.1:6432\"`, or `at: \"unix:.s.PGSQL.5432\"`";
        reading.problems.add(path, "`at` is missing", remedy);
        return None;
    };
    let at = listen_at::at(at, &place, reading)?;
    let tls = text.tls.as_ref().map(|tls| (tls, key_of(path, "tls")));
    if let (ListenAt::Unix(_), Some((_, path))) = (&at, &tls) {
        reading.problems.add(path, "a socket has no TLS", "remove `tls`");
    }
    let tls = tls.and_then(|(tls, path)| listen_tls::certificate(tls, &path, reading));
    if let ListenAt::Tcp(addr) = at {
        if !addr.ip().is_loopback() && text.tls.is_none() {
            let message = format!("{addr} is not loopback: tokens would go over the network");
            let remedy = "write `127.0.0.1:PORT` or a `unix:` socket, or add `tls: {}`";
            reading.problems.add(&place, message, remedy);
        } else if !addr.ip().is_loopback() && text.agent.is_some() {
            let message = "every machine of the network can act as the agent";
            reading.problems.add(path, message, "remove `agent`: agents send their tokens");
        } else if text.agent.is_some() && !text.unsafe_no_auth {
            let message = "every program of this machine can act as the agent over TCP";
            let remedy = "use a `unix:` socket, or add `unsafe_no_auth: true` when that is meant";
            reading.problems.add(path, message, remedy);
        }
    }
    let server_version = server_version(&text, &key_of(path, "server_version"), reading);
    let agent = text.agent.map(|agent| (org, agent));
    let ListenDatabaseText { protocol, connection, .. } = text;
    Some(ListenDatabase { at, protocol, server_version, connection, agent, tls })
}

fn server_version(
    text: &ListenDatabaseText,
    path: &str,
    reading: &mut ConfigReading<'_>,
) -> Option<ServerVersion> {
    let given = text.server_version.as_ref()?;
    if text.protocol != DatabaseProtocol::Mysql {
        let remedy = "add `protocol: mysql`, or remove it";
        reading.problems.add(path, "only listeners for MySQL have a version", remedy);
    }
    let version = given.parse().ok();
    if version.is_none() {
        let remedy = "write what `SELECT VERSION()` says, such as 10.11.6-MariaDB";
        reading.problems.add(path, "this is not the version of a server", remedy);
    }
    version
}

//! Database listeners: ports and sockets of the gateway's host at which agents reach databases. Those of the configuration
//! file are in `listen.databases`; these are added while the gateway runs.

use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;

use keyward_base::database::{DatabaseProtocol, ServerVersion};
use keyward_base::id::{AgentId, ConnectionId, DatabaseListenerId};
use keyward_base::keys::section;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::name;
use super::reference::Reference;
use super::refusal::{Refusal, failed};
use super::resource::{Kind, NoMembers, Resource};
use keyward_base::names::named_enum;

/// What stands before the name of a socket.
const SOCKET_PREFIX: &str = "unix:";

/// What a place may be, for people.
const PLACE_RULE: &str = "must be `127.0.0.1:PORT`, `[::1]:PORT` or `unix:NAME`: `listen.databases` of the configuration \
    file opens other addresses, with TLS";

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum DatabaseListener {}

/// Where a database listener is: only programs of this machine reach it.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[schemars(inline, with = "String")]
#[serde(try_from = "String", into = "String")]
pub enum ListenerPlace {
    /// A loopback address; port 0 is any free one, another one at each start.
    Tcp(SocketAddr),
    /// A unix socket of this name in the folder `databases` of the data directory.
    Socket(String),
}

section! {
    /// What a person gives.
    #[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
    #[serde(deny_unknown_fields)]
    pub struct DatabaseListenerSpec {
        /// Unique. 1 to 64 letters, digits or `-_.`.
        #[key("text", required)]
        pub name: String,
        /// A loopback address, whose port 0 is any free one, or a socket in the folder `databases` of the data directory.
        /// Clients of PostgreSQL look for a socket named `.s.PGSQL.PORT`.
        #[key("`127.0.0.1:PORT`, `[::1]:PORT` or `unix:NAME`", required)]
        #[option("at", "PLACE", "127.0.0.1:PORT or [::1]:PORT, port 0 for any; unix:NAME in the data directory")]
        pub at: ListenerPlace,
        /// What is spoken there.
        #[key(one of ["postgres", "redis", "mysql", "mongodb", "bolt"], "postgres")]
        #[option("protocol", "PROTOCOL", "what is spoken there; default: postgres")]
        #[serde(default)]
        pub protocol: DatabaseProtocol,
        /// MySQL: the version that clients see before they log in, as `SELECT VERSION()` of the server says it. Clients choose
        /// their SQL by it. Default: `8.0.11-keyward`.
        #[key("version, such as `10.11.6-MariaDB`")]
        #[option("server-version", "VERSION", "version that MySQL clients see before the login, such as 10.11.6-MariaDB", clear "no-server-version" "clients of MySQL see 8.0.11-keyward")]
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub server_version: Option<ServerVersion>,
        /// The connection of all sessions. Without it, the database or the user that a client names is the name of a
        /// connection.
        #[key("name or id of a connection")]
        #[option("connection", "NAME", "the connection of all sessions; default: each names one", clear "any-connection" "each session names its connection")]
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub connection: Option<Reference<ConnectionId>>,
        /// The agent of all sessions, which need no token then: only at a socket, which only Keyward's own user and root
        /// can use.
        #[key("name or id of an agent")]
        #[option("agent", "NAME", "the agent of all sessions, which need no token: only at a socket", clear "any-agent" "each session gives a token")]
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub agent: Option<Reference<AgentId>>,
    }
}

/// What is shown of it.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct DatabaseListenerShown {
    /// Whether the gateway that answers accepts there.
    pub state: ListenerState,
    /// Where it is open, with its real port: `127.0.0.1:6432`, or `unix:/var/lib/keyward/databases/.s.PGSQL.5432`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub open_at: Option<String>,
    /// Why it is not open.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
    /// The connection's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connection_name: Option<String>,
    /// The agent's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent_name: Option<String>,
    /// What a program connects with while it is open. `TOKEN` means the agent's token, `CONNECTION` the name of a
    /// connection.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
}

named_enum! {
    /// Whether a gateway accepts at a listener.
    #[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
    pub enum ListenerState by code {
        /// It does.
        Open = "open",
        /// The place is in use, or something that it needs is gone. It is tried again.
        Failed = "failed",
        /// No gateway runs, or the one that answers is a private one of `keyward run`.
        Closed = "closed",
    }
}

impl Resource for DatabaseListener {
    type Id = DatabaseListenerId;
    type Spec = DatabaseListenerSpec;
    type CreateOptions = NoMembers;
    type ChangeOptions = NoMembers;
    type Facts = NoMembers;
    type Shown = DatabaseListenerShown;

    const KIND: Kind = Kind {
        one: "database listener",
        article: "a database listener",
        many: "database-listeners",
        max: 50,
    };
    const FIXED: &[&str] = &["name"];
    const DATED: bool = true;
    // The section of the file is `listen.databases`.
    const DECLARABLE: bool = false;

    fn name(spec: &DatabaseListenerSpec) -> &str {
        &spec.name
    }

    fn refusals(spec: &DatabaseListenerSpec) -> Vec<Refusal> {
        let is_socket = matches!(spec.at, ListenerPlace::Socket(_));
        let rule = "is for a socket, such as `unix:.s.PGSQL.5432`: over TCP, every program of this machine could act as the agent";
        failed([
            name::plain(&spec.name),
            Refusal::unless(spec.agent.is_none() || is_socket, "agent", rule),
            Refusal::unless(
                spec.server_version.is_none() || spec.protocol == DatabaseProtocol::Mysql,
                "server_version",
                "is for the protocol `mysql`",
            ),
        ])
    }
}

impl FromStr for ListenerPlace {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(socket) = text.strip_prefix(SOCKET_PREFIX) {
            let rule = "must be `unix:NAME`, with a name of 1 to 64 letters, digits or `-_.` and no folder";
            let refused = name::plain(socket).is_err();
            return if refused {
                Err(rule.to_owned())
            } else {
                Ok(Self::Socket(socket.to_owned()))
            };
        }
        let addr: SocketAddr = text.parse().map_err(|_| PLACE_RULE.to_owned())?;
        match addr.ip().is_loopback() {
            true => Ok(Self::Tcp(addr)),
            false => Err(PLACE_RULE.to_owned()),
        }
    }
}

impl TryFrom<String> for ListenerPlace {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<ListenerPlace> for String {
    fn from(place: ListenerPlace) -> Self {
        place.to_string()
    }
}

impl fmt::Display for ListenerPlace {
    /// `127.0.0.1:6432` or `unix:.s.PGSQL.5432`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(addr) => addr.fmt(f),
            Self::Socket(name) => write!(f, "{SOCKET_PREFIX}{name}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn only_loopback_addresses_and_sockets_in_the_gateways_folder_are_accepted() {
        for bad in [
            "0.0.0.0:6432",
            "[::]:6432",
            "10.1.2.3:6432",
            "192.0.2.1:0",
            "[::ffff:127.0.0.1]:6432",
            "localhost:6432",
            "127.0.0.1",
            "6432",
            "",
            "unix:",
            "unix:.",
            "unix:..",
            "unix:/tmp/db.sock",
            "unix:../db.sock",
            "unix:a/b",
            "unix:a\0b",
            &format!("unix:{}", "x".repeat(65)),
        ] {
            assert!(bad.parse::<ListenerPlace>().is_err(), "{bad}");
        }
        for good in ["127.0.0.1:0", "127.0.0.2:6432", "[::1]:6432", "unix:.s.PGSQL.5432"] {
            let place: ListenerPlace = good.parse().unwrap();
            assert_eq!(place.to_string(), good);
        }
    }

    #[test]
    fn a_listener_may_name_an_agent_only_at_a_socket() {
        let refused = |at: &str, agent: Option<&str>| {
            let spec = json!({ "name": "local", "at": at, "agent": agent });
            let spec: DatabaseListenerSpec = serde_json::from_value(spec).unwrap();
            DatabaseListener::refusals(&spec).iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert!(refused("127.0.0.1:6432", Some("ci"))[0].starts_with("`agent` is for a socket"));
        assert!(refused("127.0.0.1:6432", None).is_empty());
        assert!(refused("unix:db.sock", Some("ci")).is_empty());
    }
}

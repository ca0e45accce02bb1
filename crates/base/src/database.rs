//! Databases that agents reach through listeners of their own: the protocol, and where a connection's database is.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::host::Target;

/// The wire protocol of a database.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, Hash, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum DatabaseProtocol {
    /// PostgreSQL, version 3 of its protocol.
    #[default]
    Postgres,
    /// Redis, Valkey and what else speaks RESP.
    Redis,
    /// MySQL and MariaDB, version 4.1 of their protocol.
    Mysql,
    /// MongoDB and what else speaks its `OP_MSG`.
    Mongodb,
}

/// Where a connection's database is.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct DatabaseEndpoint {
    /// The protocol of the server.
    pub protocol: DatabaseProtocol,
    /// Its host and port.
    pub target: Target,
    /// The name of the database at the server.
    pub database: String,
    /// How the stream to the server is secured.
    pub security: StreamSecurity,
    /// MongoDB: further servers of the replica set, of which one is the primary.
    pub others: Vec<Target>,
    /// MongoDB: the database that knows the user.
    pub auth_source: Option<String>,
}

/// How a stream to a database server is secured. There is nothing between: TLS whose certificate is not verified protects
/// from no active attacker.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum StreamSecurity {
    /// TLS; chain and host name are verified.
    VerifiedTls,
    /// No TLS. Only for addresses on the explicit private list.
    Cleartext,
}

impl DatabaseProtocol {
    /// All protocols.
    pub const ALL: [Self; 4] = [Self::Postgres, Self::Redis, Self::Mysql, Self::Mongodb];

    /// The port of servers, unless another one is given.
    pub fn default_port(self) -> u16 {
        match self {
            Self::Postgres => 5432,
            Self::Redis => 6379,
            Self::Mysql => 3306,
            Self::Mongodb => 27017,
        }
    }

    /// The scheme of connection strings, and the name in provider files.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Postgres => "postgres",
            Self::Redis => "redis",
            Self::Mysql => "mysql",
            Self::Mongodb => "mongodb",
        }
    }

    /// Whether a session can bound the time of a statement.
    pub fn has_statement_timeout(self) -> bool {
        match self {
            Self::Postgres => true,
            Self::Redis | Self::Mysql | Self::Mongodb => false,
        }
    }

    /// Whether statements can be read: for rules on them, and for the audit log.
    pub fn has_statements(self) -> bool {
        self == Self::Postgres
    }

    /// Whether a session can begin with another role than its login's.
    pub fn has_role(self) -> bool {
        self == Self::Postgres
    }

    /// Whether rows and bytes of answers can be limited.
    pub fn has_answer_limits(self) -> bool {
        self == Self::Postgres
    }

    /// The protocol of a name for people and the audit log, [`DatabaseEndpoint::url`].
    pub fn of_url(url: &str) -> Option<Self> {
        let (scheme, _) = url.split_once("://")?;
        Self::ALL.into_iter().find(|protocol| protocol.as_str() == scheme)
    }

    /// The name for people.
    pub fn name(self) -> &'static str {
        match self {
            Self::Postgres => "PostgreSQL",
            Self::Redis => "Redis",
            Self::Mysql => "MySQL",
            Self::Mongodb => "MongoDB",
        }
    }
}

impl DatabaseEndpoint {
    /// The name for people and the audit log: `postgres://host:port/database`.
    pub fn url(&self) -> String {
        let (host, port) = (self.target.host(), self.target.port());
        format!("{}://{host}:{port}/{}", self.protocol.as_str(), self.database)
    }
}

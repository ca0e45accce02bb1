//! Databases that agents reach through listeners of their own: the protocol, and where a connection's database is.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::host::Target;

/// The wire protocol of a database.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum DatabaseProtocol {
    /// PostgreSQL, version 3 of its protocol.
    Postgres,
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
    /// The port of servers, unless another one is given.
    pub fn default_port(self) -> u16 {
        match self {
            Self::Postgres => 5432,
        }
    }

    /// The name for people.
    pub fn name(self) -> &'static str {
        match self {
            Self::Postgres => "PostgreSQL",
        }
    }

    /// The scheme of connection strings, and the name in provider files.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Postgres => "postgres",
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

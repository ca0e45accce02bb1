//! Databases that agents reach through listeners of their own: the protocol, and where a connection's database is.

use std::net::IpAddr;

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
        matches!(self, Self::Postgres | Self::Mysql)
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
    /// Whether another server can be a member of the same replica set: its name differs in the first label alone, or the port
    /// does. So no server leads a login to another domain.
    pub fn may_have_member(&self, member: &Target) -> bool {
        let (own, other) = (self.target.host().to_string(), member.host().to_string());
        let is_address = |host: &str| host.starts_with('[') || host.parse::<IpAddr>().is_ok();
        let domain = |host: &str| host.split_once('.').map(|(_, domain)| domain.to_owned());
        self.protocol == DatabaseProtocol::Mongodb
            && (own == other
                || (!is_address(&own) && !is_address(&other) && domain(&own) == domain(&other)))
    }

    /// The name for people and the audit log: `postgres://host:port/database`.
    pub fn url(&self) -> String {
        let (host, port) = (self.target.host(), self.target.port());
        format!("{}://{host}:{port}/{}", self.protocol.as_str(), self.database)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::Scheme;

    fn target(text: &str) -> Target {
        Target::parse(Scheme::Https, text).expect("a target")
    }

    #[test]
    fn a_member_of_a_replica_set_is_a_server_of_the_same_domain() {
        for (own, other, expected) in [
            ("a.db.test:27017", "b.db.test:27018", true),
            ("a.db.test:27017", "a.db.test:27018", true),
            ("a.db.test:27017", "b.other.test:27017", false),
            ("a.db.test:27017", "db.test:27017", false),
            ("a.db.test:27017", "x.a.db.test:27017", false),
            // Names of a container network.
            ("mongo1:27017", "mongo2:27017", true),
            ("mongo1:27017", "mongo2.test:27017", false),
            ("10.0.0.1:27017", "10.0.0.1:27018", true),
            ("10.0.0.1:27017", "10.0.0.2:27017", false),
            ("10.0.0.1:27017", "11.0.0.1:27017", false),
            ("[2001:db8::1]:27017", "[2001:db8::2]:27017", false),
            ("a.db.test:27017", "10.0.0.1:27017", false),
        ] {
            let endpoint = |protocol| DatabaseEndpoint {
                protocol,
                target: target(own),
                database: "app".to_owned(),
                security: StreamSecurity::VerifiedTls,
                auth_source: None,
            };
            let found = endpoint(DatabaseProtocol::Mongodb).may_have_member(&target(other));
            assert_eq!(found, expected, "{own} {other}");
            assert!(!endpoint(DatabaseProtocol::Postgres).may_have_member(&target(other)));
        }
    }
}

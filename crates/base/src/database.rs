//! Databases that agents reach through listeners of their own: the protocol, and where a connection's database is.

use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::host::Target;
use super::names::named_enum;

/// The suffix of a scheme whose host is not a server, but a name under which DNS lists servers.
const SRV_SUFFIX: &str = "+srv";

/// The longest version of a server, in bytes.
const VERSION_BYTES_MAX: usize = 60;

named_enum! {
    /// The wire protocol of a database.
    #[derive(Clone, Copy, Debug, Default, Deserialize, Eq, Hash, JsonSchema, PartialEq, Serialize)]
    pub enum DatabaseProtocol by as_str {
        /// PostgreSQL, version 3 of its protocol.
        #[default]
        Postgres = "postgres",
        /// Redis, Valkey and what else speaks RESP.
        Redis = "redis",
        /// MySQL and MariaDB, version 4.1 of their protocol.
        Mysql = "mysql",
        /// MongoDB and what else speaks its `OP_MSG`.
        Mongodb = "mongodb",
        /// Bolt, of Neo4j and other graph databases.
        Bolt = "bolt",
    }
}

/// The version of a MySQL or MariaDB server, as `SELECT VERSION()` says it: `10.11.6-MariaDB`.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[schemars(inline, with = "String")]
#[serde(try_from = "String", into = "String")]
pub struct ServerVersion(String);

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
    /// The servers beside `target`.
    pub seeds: Seeds,
    /// PostgreSQL: which of several servers is used.
    pub session_attrs: SessionAttrs,
}

/// Which of several PostgreSQL servers a session uses: `target_session_attrs` of libpq.
/// <https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-CONNECT-TARGET-SESSION-ATTRS>
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum SessionAttrs {
    /// The first server that opens a session.
    #[default]
    Any,
    ReadWrite,
    /// A server whose sessions are read-only.
    ReadOnly,
    /// A server that is not a standby.
    Primary,
    /// A server that replays the log of another server.
    Standby,
    /// A standby; if no standby answers, any server.
    PreferStandby,
}

/// How the servers of a replica set are found, of which a session uses one.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Seeds {
    /// These, after the target.
    Listed(Vec<Target>),
    /// The target is a name under which DNS lists them: SRV records, as `mongodb+srv://` has it.
    Srv,
}

impl Default for Seeds {
    fn default() -> Self {
        Self::Listed(Vec::new())
    }
}

/// How a stream to a database server is secured. There is no unverified TLS: it does not protect against an active
/// attacker.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum StreamSecurity {
    /// TLS; chain and host name are verified.
    VerifiedTls,
    /// No TLS. Only for addresses on the explicit private list.
    Cleartext,
}

impl SessionAttrs {
    /// All of them, in the order of libpq's documentation.
    pub const ALL: [Self; 6] = [
        Self::Any,
        Self::ReadWrite,
        Self::ReadOnly,
        Self::Primary,
        Self::Standby,
        Self::PreferStandby,
    ];

    /// The name in connection strings.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Any => "any",
            Self::ReadWrite => "read-write",
            Self::ReadOnly => "read-only",
            Self::Primary => "primary",
            Self::Standby => "standby",
            Self::PreferStandby => "prefer-standby",
        }
    }

    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|attrs| attrs.as_str() == name)
    }
}

impl ServerVersion {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ServerVersion {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let is_part = |byte: u8| byte.is_ascii_alphanumeric() || b".-_+~:".contains(&byte);
        let is_version = text.starts_with(|c: char| c.is_ascii_digit())
            && text.contains('.')
            && text.len() <= VERSION_BYTES_MAX
            && text.bytes().all(is_part);
        match is_version {
            true => Ok(Self(text.to_owned())),
            false => Err("must be what `SELECT VERSION()` says, such as `10.11.6-MariaDB`"),
        }
    }
}

impl TryFrom<String> for ServerVersion {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<ServerVersion> for String {
    fn from(version: ServerVersion) -> Self {
        version.0
    }
}

impl DatabaseProtocol {
    /// All protocols.
    pub const ALL: [Self; 5] =
        [Self::Postgres, Self::Redis, Self::Mysql, Self::Mongodb, Self::Bolt];

    /// The port of servers, unless another one is given.
    pub fn default_port(self) -> u16 {
        match self {
            Self::Postgres => 5432,
            Self::Redis => 6379,
            Self::Mysql => 3306,
            Self::Mongodb => 27017,
            Self::Bolt => 7687,
        }
    }

    /// The URL with which a client connects to a listener of Keyward. `name`: the connection, encoded for URLs.
    /// `database`: the database that clients of Redis, MySQL and MongoDB select; empty if it is not known.
    pub fn client_url(self, at: SocketAddr, name: &str, token: &str, database: &str) -> String {
        match self {
            // The connection is named twice, because some programs replace the database and others the user. The listener
            // is on this machine.
            Self::Postgres => format!("postgres://{name}:{token}@{at}/{name}?sslmode=disable"),
            // Frameworks name the database again in statements: in `USE`, and when they look for tables.
            Self::Mysql if !database.is_empty() => {
                format!("mysql://{name}:{token}@{at}/{database}")
            }
            Self::Mysql => format!("mysql://{name}:{token}@{at}/{name}"),
            Self::Redis => format!("redis://{name}:{token}@{at}/{database}"),
            // With `loadBalanced`, clients keep cursors and transactions on their stream, and watch no server.
            Self::Mongodb => format!(
                "mongodb://{name}:{token}@{at}/{database}?authMechanism=PLAIN&loadBalanced=true"
            ),
            // Drivers take user and password apart from the URL.
            Self::Bolt => format!("bolt://{name}:{token}@{at}"),
        }
    }

    /// Whether a session can bound the time of a statement.
    pub fn has_statement_timeout(self) -> bool {
        match self {
            Self::Postgres => true,
            Self::Redis | Self::Mysql | Self::Mongodb | Self::Bolt => false,
        }
    }

    /// Whether statements can be read for rules on them.
    pub fn has_statement_rules(self) -> bool {
        matches!(self, Self::Postgres | Self::Mysql)
    }

    /// Whether statements can be read for the audit log.
    pub fn has_statements(self) -> bool {
        matches!(self, Self::Postgres | Self::Mysql | Self::Bolt)
    }

    /// Whether a session can begin with another role than its login's.
    pub fn has_role(self) -> bool {
        self == Self::Postgres
    }

    /// Whether rows and bytes of answers can be limited.
    pub fn has_answer_limits(self) -> bool {
        self == Self::Postgres
    }

    /// The protocol of a URL that [`DatabaseEndpoint::url`] returned.
    pub fn of_url(url: &str) -> Option<Self> {
        let (scheme, _) = url.split_once("://")?;
        let scheme = scheme.strip_suffix(SRV_SUFFIX).unwrap_or(scheme);
        Self::ALL.into_iter().find(|protocol| protocol.as_str() == scheme)
    }

    /// The product name, for messages.
    pub fn name(self) -> &'static str {
        match self {
            Self::Postgres => "PostgreSQL",
            Self::Redis => "Redis",
            Self::Mysql => "MySQL",
            Self::Mongodb => "MongoDB",
            Self::Bolt => "Bolt",
        }
    }
}

impl DatabaseEndpoint {
    /// Whether `member` may be a member of the same replica set. It must be a listed server (in MongoDB, port and first
    /// label may differ), or be in the domain of the name under which DNS lists servers. So neither a server nor DNS
    /// can redirect a login to another domain.
    pub fn may_have_member(&self, member: &Target) -> bool {
        let Seeds::Listed(more) = &self.seeds else {
            return is_listed_below(&self.target.host().to_string(), &member.host().to_string());
        };
        let mut listed = std::iter::once(&self.target).chain(more);
        match self.protocol {
            DatabaseProtocol::Mongodb => listed.any(|known| is_sibling(known, member)),
            _ => listed.any(|known| known == member),
        }
    }

    /// The host and port of a server, if the connection has several servers.
    pub fn one_of_several(&self, server: &Target) -> Option<String> {
        let is_one = self.seeds == Seeds::default() && *server == self.target;
        (!is_one).then(|| format!("{}:{}", server.host(), server.port()))
    }

    /// The name for people and the audit log: `postgres://host:port/database`.
    pub fn url(&self) -> String {
        let (scheme, database) = (self.protocol.as_str(), &self.database);
        let Seeds::Listed(more) = &self.seeds else {
            return format!("{scheme}{SRV_SUFFIX}://{}/{database}", self.target.host());
        };
        let servers = std::iter::once(&self.target).chain(more);
        let named = servers.map(|server| format!("{}:{}", server.host(), server.port()));
        format!("{scheme}://{}/{database}", named.collect::<Vec<_>>().join(","))
    }
}

/// Whether the names differ in the first label alone, or not at all. Names directly below a public suffix (`a.com`, `b.com`)
/// may have different owners.
fn is_sibling(own: &Target, other: &Target) -> bool {
    let (own, other) = (own.host().to_string(), other.host().to_string());
    let is_address = |host: &str| host.starts_with('[') || host.parse::<IpAddr>().is_ok();
    let domain = |host: &str| host.split_once('.').map(|(_, domain)| domain.to_owned());
    if own == other {
        return true;
    }
    let is_open = domain(&own).is_some_and(|domain| is_public_suffix(&domain));
    !is_open && !is_address(&own) && !is_address(&other) && domain(&own) == domain(&other)
}

/// Whether the Public Suffix List has `domain` itself. Unlisted top-level names (`local`, `internal`) are of private networks.
fn is_public_suffix(domain: &str) -> bool {
    let suffix = psl::suffix(domain.as_bytes());
    suffix.is_some_and(|suffix| suffix.is_known() && suffix.as_bytes() == domain.as_bytes())
}

/// Whether DNS may list the server under the name: it is below the name's domain, and below the name itself where that has
/// fewer than three labels.
/// <https://github.com/mongodb/specifications/blob/master/source/initial-dns-seedlist-discovery/initial-dns-seedlist-discovery.md>
fn is_listed_below(name: &str, server: &str) -> bool {
    let domain = match name.matches('.').count() {
        0 | 1 => name,
        _ => name.split_once('.').map_or(name, |(_, domain)| domain),
    };
    let below = server.strip_suffix(domain).and_then(|rest| rest.strip_suffix('.'));
    below.is_some_and(|labels| !labels.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::Scheme;

    fn target(text: &str) -> Target {
        Target::parse(Scheme::Https, text).expect("a target")
    }

    #[test]
    fn a_server_version_begins_with_a_digit_and_has_no_blank_or_control_character() {
        let long = format!("8.0.{}", "1".repeat(60));
        for bad in ["", "8", "MariaDB", "v8.0", ".8", "8.0 x", "8.0\0", "8.0\n", "8.0.ä", &long] {
            assert!(bad.parse::<ServerVersion>().is_err(), "{bad}");
        }
        for good in ["8.4.0", "10.11.6-MariaDB", "11.4.2-MariaDB-ubu2404-log", "5.7.44-0ubuntu~1"] {
            assert_eq!(good.parse::<ServerVersion>().unwrap().as_str(), good);
        }
    }

    #[test]
    fn a_member_of_a_replica_set_is_a_server_of_the_same_domain() {
        for (own, other, expected) in [
            ("a.db.test:27017", "b.db.test:27018", true),
            ("a.db.test:27017", "a.db.test:27018", true),
            ("a.db.test:27017", "b.other.test:27017", false),
            ("a.db.test:27017", "db.test:27017", false),
            ("a.db.test:27017", "x.a.db.test:27017", false),
            // Names that different owners can register.
            ("db.com:27017", "evil.com:27017", false),
            ("db.co.uk:27017", "evil.co.uk:27017", false),
            (
                "a.us-east-1.compute.amazonaws.com:27017",
                "b.us-east-1.compute.amazonaws.com:27017",
                false,
            ),
            ("a.example.com:27017", "b.example.com:27017", true),
            // Names of a private network.
            ("db1.internal:27017", "db2.internal:27017", true),
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
                seeds: Seeds::default(),
                session_attrs: SessionAttrs::Any,
            };
            let found = endpoint(DatabaseProtocol::Mongodb).may_have_member(&target(other));
            assert_eq!(found, expected, "{own} {other}");
            assert!(!endpoint(DatabaseProtocol::Postgres).may_have_member(&target(other)));
        }
    }

    fn endpoint(own: &str, seeds: Seeds) -> DatabaseEndpoint {
        DatabaseEndpoint {
            protocol: DatabaseProtocol::Mongodb,
            target: target(own),
            database: "app".to_owned(),
            security: StreamSecurity::VerifiedTls,
            auth_source: None,
            seeds,
            session_attrs: SessionAttrs::Any,
        }
    }

    #[test]
    fn a_postgresql_server_is_accepted_only_if_it_is_listed() {
        let more = ["b.db.test:5432", "b.db.test:5433"].map(target);
        let protocol = DatabaseProtocol::Postgres;
        let listed = Seeds::Listed(more.to_vec());
        let endpoint = DatabaseEndpoint { protocol, ..endpoint("a.db.test:5432", listed) };
        for (server, expected) in [
            ("a.db.test:5432", true),
            ("b.db.test:5433", true),
            ("a.db.test:5433", false),
            ("c.db.test:5432", false),
        ] {
            assert_eq!(endpoint.may_have_member(&target(server)), expected, "{server}");
        }
        assert!(SessionAttrs::ALL.iter().all(|it| SessionAttrs::named(it.as_str()) == Some(*it)));
    }

    #[test]
    fn a_server_from_dns_is_accepted_only_in_the_domain_of_the_name() {
        for (name, server, expected) in [
            ("cluster.db.test", "a.db.test", true),
            ("cluster.db.test", "a.shards.db.test", true),
            ("cluster.db.test", "cluster.db.test", true),
            ("cluster.db.test", "db.test", false),
            ("cluster.db.test", "evildb.test", false),
            ("cluster.db.test", "a.evil.test", false),
            ("cluster.db.test", "10.0.0.1", false),
            // A name without a domain of its own lists what is below it.
            ("db.test", "a.db.test", true),
            ("db.test", "db.test", false),
            ("db.test", "a.test", false),
            ("db", "a.db", true),
            ("db", "a", false),
        ] {
            let endpoint = endpoint(name, Seeds::Srv);
            assert_eq!(endpoint.may_have_member(&target(server)), expected, "{name} {server}");
        }
    }

    #[test]
    fn a_replica_set_member_may_be_in_the_domain_of_any_listed_server() {
        let more = ["b.other.test:27018", "10.0.0.1"].map(target);
        let listed = endpoint("a.db.test:27017", Seeds::Listed(more.to_vec()));
        for (member, expected) in [
            ("c.db.test:27017", true),
            ("c.other.test:27017", true),
            ("10.0.0.1:27019", true),
            ("10.0.0.2:27017", false),
            ("c.evil.test:27017", false),
        ] {
            assert_eq!(listed.may_have_member(&target(member)), expected, "{member}");
        }
        assert_eq!(listed.url(), "mongodb://a.db.test:27017,b.other.test:27018,10.0.0.1:443/app");
        let srv = endpoint("cluster.db.test:27017", Seeds::Srv).url();
        assert_eq!(srv, "mongodb+srv://cluster.db.test/app");
        assert_eq!(DatabaseProtocol::of_url(&srv), Some(DatabaseProtocol::Mongodb));
        assert_eq!(DatabaseProtocol::of_url("postgres+srv+srv://h/d"), None);
    }
}

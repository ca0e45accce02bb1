//! Converts connection strings, such as `postgres://user:password@host:port/database?sslmode=…`, into the variables and
//! fields of a connection. Errors name the part and repeat no value: any part may hold a password that was put there by
//! mistake.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use percent_encoding::percent_decode_str;
use zeroize::Zeroizing;

use super::database::{AUTH_SOURCE, DATABASE, DISABLE, HOST, SSLMODE, VERIFY_FULL};
use super::{Provider, Variable};
use keyward_base::bolt;
use keyward_base::database::DatabaseProtocol;
use keyward_base::secret::Secret;

/// The name of the field that takes a connection string.
pub const URL: &str = "url";

/// The parts of a connection string.
#[derive(Debug, Default)]
pub struct ConnectionUrl {
    /// Variables of the provider: host, database, sslmode.
    pub variables: BTreeMap<String, String>,
    /// The user name, if it has one.
    pub user: Option<String>,
    /// The password, if it has one.
    pub password: Option<Zeroizing<String>>,
    /// Names of parameters that say how a client works, which have no effect here.
    pub ignored: Vec<String>,
}

/// Parts of the names of parameters that say who logs in, where, or how the stream is secured. One that is not known is refused.
const DECIDING_PARTS: [&str; 10] =
    ["auth", "cert", "gss", "host", "krb", "pass", "proxy", "srv", "ssl", "tls"];

/// Such names as a whole.
const DECIDING: [&str; 10] = [
    "database",
    "db",
    "dbname",
    "options",
    "port",
    "replication",
    "role",
    "service",
    "user",
    "username",
];

/// The schemes of Bolt, which are data.
static BOLT_SCHEMES: LazyLock<Vec<(&str, Option<&str>)>> =
    LazyLock::new(|| bolt::names("scheme").map(|(name, mode)| (name, Some(mode))).collect());

/// How connection strings of a protocol look.
struct UrlForm {
    /// Their schemes; some say how the stream is secured.
    schemes: &'static [(&'static str, Option<&'static str>)],
    schemes_shown: &'static str,
    example: &'static str,
    /// Whether there may be a password without a user.
    user_is_optional: bool,
    /// Whether there may be no database: the variable has a default.
    database_is_optional: bool,
}

impl UrlForm {
    fn of(protocol: DatabaseProtocol) -> Self {
        match protocol {
            DatabaseProtocol::Postgres => Self {
                schemes: &[("postgresql", None), ("postgres", None)],
                schemes_shown: "`postgres://` or `postgresql://`",
                example: "postgres://USER:PASSWORD@HOST/DATABASE",
                user_is_optional: false,
                database_is_optional: false,
            },
            // https://www.iana.org/assignments/uri-schemes/prov/rediss
            DatabaseProtocol::Redis => Self {
                schemes: &[
                    ("rediss", Some(VERIFY_FULL)),
                    ("redis", Some(DISABLE)),
                    ("valkeys", Some(VERIFY_FULL)),
                    ("valkey", Some(DISABLE)),
                ],
                schemes_shown: "`rediss://` or `redis://`",
                example: "rediss://:PASSWORD@HOST",
                user_is_optional: true,
                database_is_optional: true,
            },
            // https://dev.mysql.com/doc/refman/8.4/en/connecting-using-uri-or-key-value-pairs.html
            DatabaseProtocol::Mysql => Self {
                schemes: &[("mysql", None), ("mariadb", None), ("mysql2", None)],
                schemes_shown: "`mysql://` or `mariadb://`",
                example: "mysql://USER:PASSWORD@HOST/DATABASE",
                user_is_optional: false,
                database_is_optional: false,
            },
            // https://www.mongodb.com/docs/manual/reference/connection-string/
            DatabaseProtocol::Mongodb => Self {
                schemes: &[("mongodb+srv", Some(VERIFY_FULL)), ("mongodb", Some(DISABLE))],
                schemes_shown: "`mongodb://` or `mongodb+srv://`",
                example: "mongodb://USER:PASSWORD@HOST/DATABASE",
                user_is_optional: false,
                database_is_optional: true,
            },
            // https://neo4j.com/docs/python-manual/current/connect-advanced/
            DatabaseProtocol::Bolt => Self {
                schemes: &BOLT_SCHEMES,
                schemes_shown: "`bolt://`, `neo4j://`, or one of both with `+s`",
                example: "bolt+s://USER:PASSWORD@HOST",
                user_is_optional: true,
                database_is_optional: true,
            },
        }
    }
}

/// Why text is not a connection string.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum UrlError {
    /// Another scheme, or none.
    #[error("the URL does not begin with {0}")]
    Scheme(&'static str),
    /// A port or several hosts in a URL whose host is no server.
    #[error("a URL of `mongodb+srv://` names one host without a port: DNS lists the servers")]
    Srv,
    /// No `@`, so neither user nor password.
    #[error("the URL names no user: write `{0}`")]
    User(&'static str),
    /// Several hosts, where the protocol has one.
    #[error("the URL names several hosts: give one")]
    SeveralHosts,
    /// A socket's path, or nothing.
    #[error("the URL names no host: databases are reached over TCP")]
    Host,
    /// No path.
    #[error("the URL names no database: write it after the host, `…/DATABASE`")]
    Database,
    /// Bad percent-encoding.
    #[error(
        "the {0} of the URL is not valid percent-encoded UTF-8: encode special characters as `%40`"
    )]
    Encoding(&'static str),
    /// A value that the connection's variable refuses.
    #[error("the {part} of the URL cannot be used: {why}")]
    Part {
        /// The variable.
        part: String,
        /// What values it accepts.
        why: String,
    },
    /// `sslmode` has no meaning.
    #[error("`sslmode` of the URL is unknown: write `verify-full`, or `disable`")]
    SslMode,
    /// `tls` has no meaning.
    #[error("`tls` of the URL is neither `true` nor `false`")]
    Tls,
    /// A parameter that would decide who logs in, where, or how the stream is secured.
    #[error(
        "parameter `{name}` of the URL is not supported: omit it (a private CA goes into \
         `upstream.trust`)"
    )]
    Parameter {
        /// Its name, if it looks like one.
        name: String,
    },
    /// A part that is given both in the URL and separately.
    #[error("`{0}` is given twice: in the URL, and separately")]
    DuplicateParameter(String),
}

impl Provider {
    /// Replaces the field `url` by the variables and fields that it contains. For providers that are not databases,
    /// `url` is an ordinary field. Returns the names of its parameters that have no effect.
    ///
    /// # Errors
    /// When it is not a connection string, or gives something that is given already.
    pub fn expand_url(
        &self,
        variables: &mut BTreeMap<String, String>,
        fields: &mut BTreeMap<String, Secret>,
    ) -> Result<Vec<String>, UrlError> {
        let Some(protocol) = self.protocol else { return Ok(Vec::new()) };
        let Some(url) = fields.remove(URL) else { return Ok(Vec::new()) };
        let text = url.expose_text().ok_or(UrlError::Encoding("text"))?;
        let parts = ConnectionUrl::parse(protocol, text.trim(), &self.variables)?;
        for (name, value) in parts.variables {
            if variables.insert(name.clone(), value).is_some() {
                return Err(UrlError::DuplicateParameter(name));
            }
        }
        let user = parts.user.map(|user| ("username", Secret::from(user)));
        let password =
            parts.password.as_ref().map(|text| ("password", Secret::new(text.as_bytes())));
        for (name, value) in user.into_iter().chain(password) {
            if fields.insert(name.to_owned(), value).is_some() {
                return Err(UrlError::DuplicateParameter(name.to_owned()));
            }
        }
        Ok(parts.ignored)
    }
}

impl ConnectionUrl {
    /// Parses a connection string (libpq, §34.1.1.2). `variables`: those of the provider, which say what values fit.
    ///
    /// # Errors
    /// The part that cannot be used.
    pub fn parse(
        protocol: DatabaseProtocol,
        text: &str,
        variables: &[Variable],
    ) -> Result<Self, UrlError> {
        let form = UrlForm::of(protocol);
        let found = text.split_once("://").and_then(|(scheme, rest)| {
            let of = |name: &str| form.schemes.iter().find(|(own, _)| *own == name);
            // Frameworks name their driver behind a `+`.
            let found = of(scheme).or_else(|| of(scheme.split('+').next()?));
            found.map(|(scheme, mode)| (*scheme, rest, *mode))
        });
        let (scheme, rest, mode) = found.ok_or(UrlError::Scheme(form.schemes_shown))?;
        let rest = rest.split_once('#').map_or(rest, |(before, _)| before);
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        // A password may hold a slash or an `@` that was not encoded: the last `@` ends it.
        let (login, rest) = rest.rsplit_once('@').ok_or(UrlError::User(form.example))?;
        let (host, database) = rest.split_once('/').unwrap_or((rest, ""));
        let (user, password) = match login.split_once(':') {
            Some((user, password)) => (user, Some(password)),
            None => (login, None),
        };
        let mut found = Self::default();
        match user {
            "" if form.user_is_optional => {}
            "" => return Err(UrlError::User(form.example)),
            user => found.user = Some(decoded(user, "user")?),
        }
        if let Some(password) = password.filter(|password| !password.is_empty()) {
            found.password = Some(Zeroizing::new(decoded(password, "password")?));
        }
        let is_srv = scheme == "mongodb+srv";
        match protocol {
            DatabaseProtocol::Mongodb => found.hosts_of_mongodb(host, is_srv, variables)?,
            DatabaseProtocol::Postgres => found.several_hosts(host, variables)?,
            _ => found.set(HOST, host_of(host)?, variables)?,
        }
        match database {
            "" if form.database_is_optional => {}
            "" => return Err(UrlError::Database),
            database => {
                let database = decoded(database, "database")?;
                found.set(DATABASE, database.clone(), variables)?;
                // With `mongodb+srv`, DNS says which database knows the users.
                if protocol == DatabaseProtocol::Mongodb && !is_srv {
                    found.set(AUTH_SOURCE, database, variables)?;
                }
            }
        }
        if let Some(mode) = mode {
            found.set(SSLMODE, mode.to_owned(), variables)?;
        }
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            match protocol {
                DatabaseProtocol::Postgres => {
                    found.parameter_of_postgres(name, value, variables)?
                }
                DatabaseProtocol::Redis => found.parameter_of_redis(name, value, variables)?,
                DatabaseProtocol::Mysql => found.parameter_of_mysql(name, value, variables)?,
                DatabaseProtocol::Mongodb => found.parameter_of_mongodb(name, value, variables)?,
                // The policy of a table of routes, which leads to the one server.
                DatabaseProtocol::Bolt => found.other_parameter(name)?,
            }
        }
        Ok(found)
    }

    fn parameter_of_redis(
        &mut self,
        name: &str,
        value: &str,
        variables: &[Variable],
    ) -> Result<(), UrlError> {
        match (name, value) {
            ("db", _) => self.set(DATABASE, decoded(value, "database")?, variables),
            // The scheme says whether there is TLS, and Keyward always verifies it.
            ("ssl_cert_reqs", "required" | "optional" | "none") => Ok(()),
            _ => self.other_parameter(name),
        }
    }

    fn parameter_of_mysql(
        &mut self,
        name: &str,
        value: &str,
        variables: &[Variable],
    ) -> Result<(), UrlError> {
        let value = decoded(value, "parameters")?.to_ascii_lowercase().replace('-', "_");
        let mode = match (&*name.to_ascii_lowercase().replace('-', "_"), &*value) {
            // As of PostgreSQL: the modes between become the stricter one.
            (
                "ssl_mode" | "sslmode",
                "verify_identity" | "verify_full" | "verify_ca" | "required" | "require"
                | "preferred" | "prefer",
            )
            | ("sslaccept", "strict" | "accept_invalid_certs")
            | ("ssl" | "tls" | "usessl", "true" | "1" | "preferred" | "skip_verify") => VERIFY_FULL,
            // An object of options, such as `{"rejectUnauthorized":true}`.
            ("ssl", options) if options.starts_with('{') => VERIFY_FULL,
            ("ssl_mode" | "sslmode", "disabled" | "disable")
            | ("ssl" | "tls" | "usessl", "false" | "0") => DISABLE,
            ("ssl_mode" | "sslmode", _) => return Err(UrlError::SslMode),
            _ => return self.other_parameter(name),
        };
        self.set(SSLMODE, mode.to_owned(), variables)
    }

    /// Notes a parameter that says how a client works.
    ///
    /// # Errors
    /// When it would say more than that.
    pub(super) fn other_parameter(&mut self, name: &str) -> Result<(), UrlError> {
        let is_of_name =
            |byte: u8| byte.is_ascii_alphabetic() || matches!(byte, b'_' | b'-' | b'.');
        let is_name = name.len() <= 40 && name.bytes().all(is_of_name);
        let lower = name.to_ascii_lowercase();
        let decides = DECIDING.contains(&lower.as_str())
            || DECIDING_PARTS.iter().any(|part| lower.contains(part));
        if decides || !is_name {
            let name = if is_name { name } else { "…" };
            return Err(UrlError::Parameter { name: name.to_owned() });
        }
        self.ignored.push(name.to_owned());
        Ok(())
    }

    pub(super) fn set(
        &mut self,
        name: &str,
        value: String,
        variables: &[Variable],
    ) -> Result<(), UrlError> {
        if let Some(variable) = variables.iter().find(|variable| variable.name == name) {
            let refused = |error: super::FormError| UrlError::Part {
                part: name.to_owned(),
                why: error.to_string(),
            };
            variable.accept(&value).map_err(refused)?;
        }
        self.variables.insert(name.to_owned(), value);
        Ok(())
    }
}

pub(super) fn host_of(host: &str) -> Result<String, UrlError> {
    match host {
        "" => Err(UrlError::Host),
        // A path, percent-encoded as in a host it must be.
        _ if host.starts_with("%2F") || host.starts_with("%2f") || host.starts_with('/') => {
            Err(UrlError::Host)
        }
        _ if host.contains(',') => Err(UrlError::SeveralHosts),
        _ => decoded(host, "host"),
    }
}

pub(super) fn decoded(text: &str, part: &'static str) -> Result<String, UrlError> {
    // `%` that encodes nothing is most likely a character of a password that was pasted as it is.
    let mut rest = text;
    while let Some((_, after)) = rest.split_once('%') {
        let digits = after.get(..2).ok_or(UrlError::Encoding(part))?;
        if !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(UrlError::Encoding(part));
        }
        rest = after;
    }
    let decoded = percent_decode_str(text).decode_utf8();
    decoded.map(std::borrow::Cow::into_owned).map_err(|_| UrlError::Encoding(part))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::provider::Catalogue;

    fn parsed_for(provider: &str, url: &str) -> Result<ConnectionUrl, UrlError> {
        let catalogue = Catalogue::built_in();
        let provider = catalogue.get(provider).unwrap();
        ConnectionUrl::parse(provider.protocol.unwrap(), url, &provider.variables)
    }

    fn parsed(url: &str) -> Result<ConnectionUrl, UrlError> {
        parsed_for("postgres", url)
    }

    #[test]
    fn a_redis_url_is_split_into_its_parts_and_its_scheme_decides_about_tls() {
        for (url, host, database, sslmode, user) in [
            ("rediss://:p%40@cache.test", "cache.test", None, "verify-full", None),
            (
                "rediss://app:p%40@cache.test:6380/3",
                "cache.test:6380",
                Some("3"),
                "verify-full",
                Some("app"),
            ),
            (
                "redis://default:p@@[::1]/0?protocol=3",
                "[::1]",
                Some("0"),
                "disable",
                Some("default"),
            ),
            ("redis://:p@@h?db=5", "h", Some("5"), "disable", None),
            ("valkeys://u:p@@h?family=0&ssl_cert_reqs=none", "h", None, "verify-full", Some("u")),
            ("valkey://:p@@h", "h", None, "disable", None),
            ("rediss+async://:p@@h", "h", None, "verify-full", None),
        ] {
            let found = parsed_for("redis", url).unwrap();
            assert_eq!(found.variables["host"], host, "{url}");
            assert_eq!(found.variables.get("database").map(String::as_str), database, "{url}");
            assert_eq!(found.variables["sslmode"], sslmode, "{url}");
            assert_eq!(found.user.as_deref(), user, "{url}");
            assert_eq!(found.password.unwrap().as_str(), "p@", "{url}");
        }
        for (url, says) in [
            ("postgres://u:canary@h/d", "does not begin with `rediss://` or `redis://`"),
            ("redis://canary", "names no user: write `rediss://:PASSWORD@HOST`"),
            ("redis://:canary@/0", "names no host"),
            ("redis://:p@h/canary%20", "the database of the URL cannot be used"),
            ("redis://:p@h?ssl_cert_reqs=canary", "parameter `ssl_cert_reqs`"),
        ] {
            let error = parsed_for("redis", url).unwrap_err().to_string();
            assert!(error.contains(says), "{url}: {error}");
            assert!(!error.contains("canary"), "{url}: {error}");
        }
    }

    #[test]
    fn the_scheme_of_a_bolt_url_decides_about_tls() {
        for (url, host, sslmode, user) in [
            ("neo4j+s://app:p%40@x.databases.test", "x.databases.test", "verify-full", Some("app")),
            ("bolt+s://app:p@@db.test:7688/", "db.test:7688", "verify-full", Some("app")),
            ("neo4j+ssc://app:p@@db.test?policy=eu", "db.test", "verify-full", Some("app")),
            ("bolt+ssc://:p@@db.test", "db.test", "verify-full", None),
            ("neo4j://app:p@@[::1]:7687", "[::1]:7687", "disable", Some("app")),
            ("bolt://app:p@@db.test", "db.test", "disable", Some("app")),
        ] {
            let found = parsed_for("neo4j-bolt", url).unwrap();
            assert_eq!(found.variables["host"], host, "{url}");
            assert_eq!(found.variables["sslmode"], sslmode, "{url}");
            assert_eq!(found.user.as_deref(), user, "{url}");
            assert_eq!(found.password.unwrap().as_str(), "p@", "{url}");
        }
        let database = parsed_for("neo4j-bolt", "neo4j://u:p@h/movies").unwrap();
        assert_eq!(database.variables["database"], "movies");
        for (url, says) in [
            ("http://u:canary@h", "does not begin with `bolt://`, `neo4j://`"),
            ("bolt://canary", "names no user: write `bolt+s://USER:PASSWORD@HOST`"),
            ("neo4j://u:canary@a,b", "several hosts"),
            ("neo4j://u:p@h?encrypted_tls=canary", "parameter `encrypted_tls`"),
        ] {
            let error = parsed_for("neo4j-bolt", url).unwrap_err().to_string();
            assert!(error.contains(says), "{url}: {error}");
            assert!(!error.contains("canary"), "{url}: {error}");
        }
    }

    #[test]
    fn an_invalid_url_is_refused_by_part_and_no_value_is_quoted() {
        for (url, says) in [
            ("mysql://u:canary@h/d", "does not begin with"),
            ("u:canary@h/d", "does not begin with"),
            ("postgres://canary", "names no user"),
            ("postgres://:canary@h/d", "names no user"),
            ("postgres://u:canary@/d", "names no host"),
            ("postgres://u:canary@%2Fvar%2Frun/d", "names no host"),
            ("postgres://u:canary@a,,b/d", "names no host"),
            ("postgres://u:p@a,can%20ary/d", "the more_hosts of the URL cannot be used"),
            ("postgres://u:p@a,b/d?target_session_attrs=canary", "must be one of any, read-write"),
            ("postgres://u:p@a,b/d?load_balance_hosts=canary", "parameter `load_balance_hosts`"),
            ("postgres://u:canary@h", "names no database"),
            ("postgres://u:canary@h/", "names no database"),
            ("postgres://u:canary%zz@h/d", "the password of the URL is not valid"),
            ("postgres://u:canary%ff@h/d", "the password of the URL is not valid"),
            ("postgres://u:canary%e2%82%@h/d", "the password of the URL is not valid"),
            ("postgres://u:p@h/d%20canary", "the database of the URL cannot be used"),
            ("postgres://u:p@*.canary.test/d", "the host of the URL cannot be used"),
            ("postgres://u:canary@h:port/d", "the host of the URL cannot be used"),
            ("postgres://u:p@h/d?sslmode=canary", "`sslmode` of the URL"),
            ("postgres://u:p@h/d?password=canary", "parameter `password`"),
            ("postgres://u:p@h/d?canary%20=1", "parameter `…`"),
            ("postgres://u:p@h/d?sslrootcert=/canary", "`upstream.trust`"),
            ("postgres://u:p@h/d?options=canary", "parameter `options`"),
        ] {
            let error = parsed(url).unwrap_err().to_string();
            assert!(error.contains(says), "{url}: {error}");
            assert!(!error.contains("canary"), "{url}: {error}");
        }
    }

    #[test]
    fn a_mysql_url_is_split_into_its_parts() {
        for (url, host, sslmode) in [
            ("mysql://u:p@sql.test/app", "sql.test", None),
            ("mariadb://u:p@sql.test:3307/app?charset=utf8mb4", "sql.test:3307", None),
            ("mysql://u:p@h/app?ssl-mode=REQUIRED", "h", Some("verify-full")),
            ("mysql://u:p@h/app?ssl-mode=DISABLED", "h", Some("disable")),
            (
                "mysql+pymysql://u:p@h/app?sslaccept=strict&connection_limit=1",
                "h",
                Some("verify-full"),
            ),
            (
                "mysql2://u:p@h/app?ssl=%7B%22rejectUnauthorized%22:true%7D",
                "h",
                Some("verify-full"),
            ),
            ("mariadb+mariadbconnector://u:p@h/app?tls=skip-verify", "h", Some("verify-full")),
            ("mysql://u:p@h/app?useSSL=false&serverTimezone=UTC", "h", Some("disable")),
        ] {
            let found = parsed_for("mysql", url).unwrap();
            assert_eq!((&*found.variables["host"], &*found.variables["database"]), (host, "app"));
            assert_eq!(found.variables.get("sslmode").map(String::as_str), sslmode, "{url}");
        }
        for (url, says) in [
            ("postgres://u:canary@h/d", "does not begin with `mysql://` or `mariadb://`"),
            ("mysql://u:canary@h", "names no database"),
            ("mysql://u:canary@a,b/d", "several hosts"),
            ("mysql://u:p@h/d?ssl-mode=canary", "`sslmode` of the URL"),
            ("mysql://u:p@h/d?allowPublicKeyRetrieval=canary&user=x", "parameter `user`"),
            ("mysql://u:p@h/d?ssl-ca=/canary", "parameter `ssl-ca`"),
            ("mysql://u:p@h/d?sslaccept=canary", "parameter `sslaccept`"),
        ] {
            let error = parsed_for("mysql", url).unwrap_err().to_string();
            assert!(error.contains(says), "{url}: {error}");
            assert!(!error.contains("canary"), "{url}: {error}");
        }
    }

    #[test]
    fn a_part_given_both_in_the_url_and_separately_is_refused() {
        let catalogue = Catalogue::built_in();
        let postgres = catalogue.get("postgres").unwrap();
        let url = || ("url".to_owned(), Secret::from("postgres://u:p@h/d".to_owned()));
        let mut variables = BTreeMap::from([("host".to_owned(), "other".to_owned())]);
        let mut fields = BTreeMap::from([url()]);
        let twice = postgres.expand_url(&mut variables, &mut fields);
        assert_eq!(twice, Err(UrlError::DuplicateParameter("host".to_owned())));
        let mut fields = BTreeMap::from([url(), ("password".into(), Secret::from("x".to_owned()))]);
        let twice = postgres.expand_url(&mut BTreeMap::new(), &mut fields);
        assert_eq!(twice, Err(UrlError::DuplicateParameter("password".to_owned())));
        let stripe = catalogue.get("stripe").unwrap();
        let mut fields = BTreeMap::from([url()]);
        stripe.expand_url(&mut BTreeMap::new(), &mut fields).unwrap();
        assert!(fields.contains_key("url"), "a field like any other");
    }
}

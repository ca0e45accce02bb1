//! What only connection strings of MongoDB have. <https://www.mongodb.com/docs/manual/reference/connection-string-options/>

use super::Variable;
use super::connection_url::{ConnectionUrl, UrlError, decoded, unsupported};
use super::database::{AUTH_SOURCE, DISABLE, SSLMODE, VERIFY_FULL};

/// Options that are the agent's to choose, in its own connection string.
const OF_AGENTS: [&str; 24] = [
    "appname",
    "compressors",
    "connecttimeoutms",
    "directconnection",
    "heartbeatfrequencyms",
    "journal",
    "loadbalanced",
    "localthresholdms",
    "maxidletimems",
    "maxpoolsize",
    "maxstalenessseconds",
    "minpoolsize",
    "readconcernlevel",
    "readpreference",
    "readpreferencetags",
    "replicaset",
    "retryreads",
    "retrywrites",
    "serverselectiontimeoutms",
    "sockettimeoutms",
    "uuidrepresentation",
    "w",
    "waitqueuetimeoutms",
    "wtimeoutms",
];

impl ConnectionUrl {
    /// Names of options are compared without case.
    pub(super) fn parameter_of_mongodb(
        &mut self,
        name: &str,
        value: &str,
        variables: &[Variable],
    ) -> Result<(), UrlError> {
        match (&*name.to_ascii_lowercase(), value) {
            ("tls" | "ssl", "true") => self.set(SSLMODE, VERIFY_FULL.to_owned(), variables),
            ("tls" | "ssl", "false") => self.set(SSLMODE, DISABLE.to_owned(), variables),
            ("tls" | "ssl", _) => Err(UrlError::Tls),
            ("authsource", _) => self.set(AUTH_SOURCE, decoded(value, "authSource")?, variables),
            // Keyward takes the strongest that the server offers the user.
            ("authmechanism", "SCRAM-SHA-256" | "SCRAM-SHA-1") => Ok(()),
            (option, _) if OF_AGENTS.contains(&option) => Ok(()),
            _ => Err(unsupported(name)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::provider::Catalogue;

    fn parsed(url: &str) -> Result<ConnectionUrl, UrlError> {
        let catalogue = Catalogue::built_in();
        let provider = catalogue.get("mongodb").unwrap();
        ConnectionUrl::parse(provider.protocol.unwrap(), url, &provider.variables)
    }

    #[test]
    fn a_url_of_mongodb_becomes_its_parts() {
        for (url, host, database, source, sslmode) in [
            ("mongodb://u:p%40@db.test", "db.test", None, None, "disable"),
            ("mongodb://u:p@@db.test:27018/", "db.test:27018", None, None, "disable"),
            // The database of the path knows the user, unless `authSource` says another.
            ("mongodb://u:p@@h/app?tls=true", "h", Some("app"), Some("app"), "verify-full"),
            (
                "mongodb://u:p@@h/app?ssl=true&authSource=admin&retryWrites=true&w=majority&appName=x",
                "h",
                Some("app"),
                Some("admin"),
                "verify-full",
            ),
            (
                "mongodb://u:p@@h/?authMechanism=SCRAM-SHA-256&tls=false&replicaSet=rs0",
                "h",
                None,
                None,
                "disable",
            ),
        ] {
            let found = parsed(url).unwrap();
            let variable = |name: &str| found.variables.get(name).map(String::as_str);
            assert_eq!(variable("host"), Some(host), "{url}");
            assert_eq!(variable("database"), database, "{url}");
            assert_eq!(variable("auth_source"), source, "{url}");
            assert_eq!(variable("sslmode"), Some(sslmode), "{url}");
            assert_eq!(found.user.as_deref(), Some("u"), "{url}");
            assert_eq!(found.password.unwrap().as_str(), "p@", "{url}");
        }
    }

    #[test]
    fn what_is_wrong_with_a_url_of_mongodb_is_named_and_no_part_is_repeated() {
        for (url, says) in [
            ("postgres://u:canary@h/d", "does not begin with `mongodb://`"),
            ("mongodb+srv://u:canary@h/d", "names no server: write `mongodb://`"),
            ("mongodb://canary", "names no user"),
            ("mongodb://u:canary@/d", "names no host"),
            ("mongodb://u:canary@a.test,b.test/d", "several hosts"),
            ("mongodb://u:p@h/canary%20", "the database of the URL cannot be used"),
            ("mongodb://u:p@h/?tls=canary", "`tls` of the URL"),
            ("mongodb://u:p@h/?authSource=canary%20", "the auth_source of the URL"),
            ("mongodb://u:p@h/?authMechanism=canary", "parameter `…`"),
            ("mongodb://u:p@h/?tlsAllowInvalidCertificates=true", "parameter `…`"),
            ("mongodb://u:p@h/?tlsCAFile=/canary", "`upstream.trust`"),
        ] {
            let error = parsed(url).unwrap_err().to_string();
            assert!(error.contains(says), "{url}: {error}");
            assert!(!error.contains("canary"), "{url}: {error}");
        }
    }
}

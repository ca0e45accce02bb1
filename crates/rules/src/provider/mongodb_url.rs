//! The parts that only connection strings of MongoDB have.
//! <https://www.mongodb.com/docs/manual/reference/connection-string-options/>

use super::Variable;
use super::connection_url::{ConnectionUrl, UrlError, decoded, host_of};
use super::database::{AUTH_SOURCE, DISABLE, HOST, SEEDS, SRV, SSLMODE, VERIFY_FULL};

impl ConnectionUrl {
    /// The servers of a replica set, or the name under which DNS lists them.
    pub(super) fn hosts_of_mongodb(
        &mut self,
        hosts: &str,
        is_srv: bool,
        variables: &[Variable],
    ) -> Result<(), UrlError> {
        if is_srv {
            if hosts.contains([',', ':']) {
                return Err(UrlError::Srv);
            }
            self.set(SEEDS, SRV.to_owned(), variables)?;
            return self.set(HOST, host_of(hosts)?, variables);
        }
        self.several_hosts(hosts, variables)
    }

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
            // The servers that DNS lists are all asked.
            ("srvmaxhosts", _) => Ok(()),
            _ => self.other_parameter(name),
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
    fn a_mongodb_url_is_split_into_its_parts() {
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
    fn a_url_names_the_servers_of_a_replica_set_or_their_dns_seed_name() {
        let found = parsed("mongodb://u:p@a.test:27018,b.test,[::1]:27019/app?replicaSet=rs0");
        let found = found.unwrap().variables;
        assert_eq!([&found["host"], &found["more_hosts"]], ["a.test:27018", "b.test,[::1]:27019"]);
        assert_eq!([&found["sslmode"], &found["auth_source"]], ["disable", "app"]);

        let found = parsed("mongodb+srv://u:p@cluster.db.test/app?retryWrites=true").unwrap();
        let found = found.variables;
        assert_eq!([&found["host"], &found["seeds"]], ["cluster.db.test", "srv"]);
        assert_eq!([&found["sslmode"], &found["database"]], ["verify-full", "app"]);
        assert!(!found.contains_key("auth_source"), "DNS says it: {found:?}");
        let found = parsed("mongodb+srv://u:p@c.db.test/app?authSource=own&tls=false").unwrap();
        assert_eq!(found.variables["auth_source"], "own");
        assert_eq!(found.variables["sslmode"], "disable");
    }

    #[test]
    fn an_invalid_mongodb_url_is_refused_by_part_and_no_value_is_quoted() {
        for (url, says) in [
            ("postgres://u:canary@h/d", "does not begin with `mongodb://`"),
            ("mongodb+srv://u:canary@h.test:27017/d", "one host without a port"),
            ("mongodb+srv://u:canary@a.test,b.test/d", "one host without a port"),
            ("mongodb+srv://u:canary@/d", "names no host"),
            ("mongodb+srv://u:p@h.test/?srvServiceName=canary", "parameter `srvServiceName`"),
            ("mongodb://canary", "names no user"),
            ("mongodb://u:canary@/d", "names no host"),
            ("mongodb://u:canary@a.test,,b.test/d", "names no host"),
            ("mongodb://u:p@a.test,can%20ary/d", "the more_hosts of the URL cannot be used"),
            ("mongodb://u:p@h/canary%20", "the database of the URL cannot be used"),
            ("mongodb://u:p@h/?tls=canary", "`tls` of the URL"),
            ("mongodb://u:p@h/?authSource=canary%20", "the auth_source of the URL"),
            ("mongodb://u:p@h/?authMechanism=canary", "parameter `authMechanism`"),
            ("mongodb://u:p@h/?tlsAllowInvalidCertificates=true", "parameter `tls"),
            ("mongodb://u:p@h/?tlsCAFile=/canary", "`upstream.trust`"),
        ] {
            let error = parsed(url).unwrap_err().to_string();
            assert!(error.contains(says), "{url}: {error}");
            assert!(!error.contains("canary"), "{url}: {error}");
        }
    }
}

//! The parts that only connection strings of PostgreSQL have.
//! <https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-CONNSTRING>

use super::Variable;
use super::connection_url::{ConnectionUrl, UrlError, decoded, host_of};
use super::database::{DISABLE, HOST, MORE_HOSTS, SESSION_ATTRS, SSLMODE, VERIFY_FULL};

impl ConnectionUrl {
    /// The first host, and those behind it.
    pub(super) fn several_hosts(
        &mut self,
        hosts: &str,
        variables: &[Variable],
    ) -> Result<(), UrlError> {
        let Some((first, more)) = hosts.split_once(',') else {
            return self.set(HOST, host_of(hosts)?, variables);
        };
        let more: Vec<String> = more.split(',').map(host_of).collect::<Result<_, _>>()?;
        self.set(HOST, host_of(first)?, variables)?;
        self.set(MORE_HOSTS, more.join(","), variables)
    }

    pub(super) fn parameter_of_postgres(
        &mut self,
        name: &str,
        value: &str,
        variables: &[Variable],
    ) -> Result<(), UrlError> {
        match (name, value) {
            // Keyward verifies the certificate, or does not encrypt: the modes between become the stricter one.
            (
                "sslmode",
                "verify-full" | "verify-ca" | "require" | "prefer" | "allow" | "no-verify",
            )
            | ("sslaccept", "strict" | "accept_invalid_certs")
            | ("ssl", "true" | "1") => self.set(SSLMODE, VERIFY_FULL.to_owned(), variables),
            ("sslmode", "disable") | ("ssl", "false" | "0") => {
                self.set(SSLMODE, DISABLE.to_owned(), variables)
            }
            ("sslmode", _) => Err(UrlError::SslMode),
            ("target_session_attrs", attrs) => {
                self.set(SESSION_ATTRS, decoded(attrs, "target_session_attrs")?, variables)
            }
            // Hosts are tried in their order.
            ("load_balance_hosts", "disable") => Ok(()),
            // Keyward uses what the server offers, and the roots of the system.
            ("channel_binding", _)
            | ("sslnegotiation", "postgres" | "direct")
            | ("sslrootcert", "system")
            | ("gssencmode", "disable" | "prefer") => Ok(()),
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
        let provider = catalogue.get("postgres").unwrap();
        ConnectionUrl::parse(provider.protocol.unwrap(), url, &provider.variables)
    }

    #[test]
    fn a_url_becomes_host_database_user_and_password() {
        for (url, host, sslmode, password) in [
            ("postgres://u:p@db.example.com/app", "db.example.com", None, Some("p")),
            ("postgresql://u:p%40ss@db:6543/app", "db:6543", None, Some("p@ss")),
            ("postgres://u:a/b@c@[::1]:5433/app", "[::1]:5433", None, Some("a/b@c")),
            ("postgres://u@h/app?sslmode=require", "h", Some("verify-full"), None),
            (
                "postgres://u:@h/app?sslmode=disable&channel_binding=prefer",
                "h",
                Some("disable"),
                None,
            ),
        ] {
            let url = parsed(url).unwrap();
            assert_eq!(url.variables["host"], host);
            assert_eq!(url.variables["database"], "app");
            assert_eq!(url.variables.get("sslmode").map(String::as_str), sslmode);
            assert_eq!(url.user.as_deref(), Some("u"));
            assert_eq!(url.password.as_ref().map(|text| text.as_str()), password);
        }
    }

    #[test]
    fn parameters_of_clients_are_ignored_and_named_and_those_that_decide_are_refused() {
        let url = parsed(
            "postgresql+psycopg2://u:p@h/app?pgbouncer=true&schema=public&connection_limit=1\
             &sslmode=require&channel_binding=require&tcp_user_timeout=5&application_name=canary",
        );
        let url = url.unwrap();
        let names =
            ["pgbouncer", "schema", "connection_limit", "tcp_user_timeout", "application_name"];
        assert_eq!(url.ignored, names);
        assert_eq!(url.variables["sslmode"], "verify-full");
        for (query, sslmode) in [
            ("sslaccept=strict", Some("verify-full")),
            ("ssl=true&sslnegotiation=direct&sslrootcert=system", Some("verify-full")),
            ("sslmode=no-verify", Some("verify-full")),
            ("ssl=false", Some("disable")),
        ] {
            let url = parsed(&format!("postgres+asyncpg://u:p@h/app?{query}")).unwrap();
            assert_eq!(url.variables.get("sslmode").map(String::as_str), sslmode, "{query}");
            assert!(url.ignored.is_empty(), "{query}");
        }
        for query in [
            "user=x",
            "HOST=x",
            "hostaddr=x",
            "sslcert=x",
            "sslPassword=x",
            "passfile=x",
            "requireauth=none",
            "options=x",
            "service=x",
            "role=x",
            "replication=database",
        ] {
            let refused = parsed(&format!("postgres://u:p@h/app?schema=a&{query}")).unwrap_err();
            assert!(matches!(refused, UrlError::Parameter { .. }), "{query}: {refused}");
        }
        assert!(parsed("mysql+postgres://u:p@h/app").is_err(), "what is before `+` decides");
    }

    #[test]
    fn a_url_may_name_several_hosts_and_the_required_session_attributes() {
        for (url, host, more, attrs) in [
            ("postgres://u:p@a.test/d", "a.test", None, None),
            ("postgres://u:p@a.test:5433,b.test/d", "a.test:5433", Some("b.test"), None),
            (
                "postgresql://u:p@a.test,b.test:5433,[::1]:5434/d?target_session_attrs=read-write",
                "a.test",
                Some("b.test:5433,[::1]:5434"),
                Some("read-write"),
            ),
            (
                "postgres://u:p@a,b/d?load_balance_hosts=disable&target_session_attrs=prefer-standby",
                "a",
                Some("b"),
                Some("prefer-standby"),
            ),
        ] {
            let found = parsed(url).unwrap().variables;
            let variable = |name: &str| found.get(name).map(String::as_str);
            assert_eq!(variable("host"), Some(host), "{url}");
            assert_eq!(variable("more_hosts"), more, "{url}");
            assert_eq!(variable("target_session_attrs"), attrs, "{url}");
        }
    }
}

//! Variables of an outer environment that this one may not replace: they lead to the databases and the SSH agent of
//! another agent.

use std::net::IpAddr;
use std::path::Path;

use keyward_base::agent::TOKEN_PREFIX;
use keyward_base::bolt;

/// The variable that SSH clients read.
pub(crate) const SSH_AGENT: &str = "SSH_AUTH_SOCK";

/// Variables with the token of the environment, and those that belong to each: the first one is the host.
const WITH_TOKEN: &[(&str, &[&str])] = &[
    ("DATABASE_URL", &[]),
    ("PGPASSWORD", &["PGHOST", "PGPORT", "PGUSER", "PGDATABASE", "PGSSLMODE"]),
    ("REDIS_URL", &[]),
    ("MYSQL_PWD", &["MYSQL_HOST", "MYSQL_TCP_PORT"]),
    ("MONGODB_URI", &[]),
    ("MONGO_URL", &[]),
];

/// Their names. `value`: the value of an inherited variable. A variable that the user has set since is left alone.
pub(super) fn variables(value: impl Fn(&str) -> Option<String>) -> Vec<&'static str> {
    let text = |name: &str| value(name).unwrap_or_default();
    let proxy = text("HTTPS_PROXY");
    let user = proxy.rsplit_once('@').and_then(|(user, _)| user.rsplit_once(':'));
    let Some((_, token)) = user.filter(|(_, token)| token.starts_with(TOKEN_PREFIX)) else {
        return Vec::new();
    };
    let mut found = Vec::new();
    for (name, beside) in WITH_TOKEN.iter().filter(|(name, _)| text(name).contains(token)) {
        found.push(*name);
        // A host that the user has set since needs no password here, such as with `~/.pgpass`.
        let host = beside.first().and_then(|host| text(host).parse::<IpAddr>().ok());
        if host.is_some_and(|host| host.is_loopback()) {
            found.extend_from_slice(beside);
        }
    }
    let of_bolt = |role: &str| bolt::value("environment", role);
    if text(of_bolt("password")).contains(token) {
        found.push(of_bolt("password"));
        // A server that the user has set since may need another password.
        let uri = text(of_bolt("uri"));
        if ["bolt://127.", "bolt://[::1]"].iter().any(|local| uri.starts_with(local)) {
            found.extend(["uri", "user", "database"].map(of_bolt));
        }
    }
    // All files of a run are in one folder.
    let (ca, socket) = (text("NODE_EXTRA_CA_CERTS"), text(SSH_AGENT));
    let folder = Path::new(&ca).parent();
    if folder.is_some() && folder == Path::new(&socket).parent() {
        found.push(SSH_AGENT);
    }
    found
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::super::{Database, databases};
    use super::*;
    use keyward_base::database::DatabaseProtocol;

    const TOKEN: &str = "kwa_of_the_outer";

    /// What an outer run sets for all protocols.
    fn outer() -> BTreeMap<String, String> {
        let at = "127.0.0.1:1".parse().unwrap();
        let all = DatabaseProtocol::ALL.into_iter().flat_map(|protocol| {
            let connection = "main".to_owned();
            databases::variables(at, &Database { connection, protocol, name: "app".into() }, TOKEN)
        });
        let files = [
            ("HTTPS_PROXY", format!("http://claude:{TOKEN}@127.0.0.1:8080")),
            ("NODE_EXTRA_CA_CERTS", "/data/run/7/ca.pem".to_owned()),
            (SSH_AGENT, "/data/run/7/ssh-agent.sock".to_owned()),
        ];
        all.chain(files.map(|(name, value)| (name.to_owned(), value))).collect()
    }

    fn found(shell: &BTreeMap<String, String>) -> Vec<&'static str> {
        variables(|name: &str| shell.get(name).cloned())
    }

    #[test]
    fn databases_and_the_ssh_agent_of_an_outer_run_are_withheld() {
        let outer = outer();
        let found = found(&outer);
        let ways = ["HTTPS_PROXY", "NODE_EXTRA_CA_CERTS"];
        for name in outer.keys().filter(|name| !ways.contains(&name.as_str())) {
            assert!(found.contains(&name.as_str()), "{name}");
        }
    }

    #[test]
    fn variables_that_the_user_has_set_stay() {
        let mut shell = outer();
        for (name, value) in [
            ("PGPASSWORD", "of the user"),
            ("PGHOST", "db.example"),
            ("DATABASE_URL", "postgres://db.example/app"),
            (SSH_AGENT, "/tmp/agent.1"),
        ] {
            shell.insert(name.to_owned(), value.to_owned());
        }
        let left = found(&shell);
        for name in ["PGPASSWORD", "PGHOST", "DATABASE_URL", SSH_AGENT] {
            assert!(!left.contains(&name), "{name}");
        }
        shell.insert("NEO4J_URI".to_owned(), "neo4j+s://graph.example".to_owned());
        let left = found(&shell);
        assert!(left.contains(&"NEO4J_PASSWORD") && !left.contains(&"NEO4J_URI"), "{left:?}");
        // Its password is in `~/.pgpass`.
        let mut shell = outer();
        shell.insert("PGHOST".to_owned(), "db.example".to_owned());
        shell.insert("PGUSER".to_owned(), "ann".to_owned());
        let left = found(&shell);
        assert!(left.contains(&"PGPASSWORD"));
        assert!(!left.contains(&"PGHOST") && !left.contains(&"PGUSER"), "{left:?}");
        shell.insert("HTTPS_PROXY".to_owned(), "http://user:word@proxy.example:3128".to_owned());
        assert!(found(&shell).is_empty());
        assert!(found(&BTreeMap::new()).is_empty());
    }
}

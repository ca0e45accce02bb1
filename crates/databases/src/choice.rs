//! Which connection a session is for: that of the listener, or the one that the client names as its database or user.

use keyward_base::codes::{Code, RefusalText};
use keyward_proxy::DatabaseChoice;

/// What a client names.
#[derive(Clone, Copy, Debug)]
pub struct Named<'a> {
    pub database: &'a str,
    pub user: &'a str,
}

impl Named<'_> {
    /// Whether the client names no database: then it sends the user's name.
    fn is_default(self) -> bool {
        self.database == self.user || self.database.is_empty()
    }
}

/// The name of the connection. A database that is none of the agent's is an error, also if the agent has one connection
/// only: the client would believe to be at another database than it is, such as a test database that may be emptied.
///
/// # Errors
/// When nothing, or several connections, are meant.
pub fn choose(choices: &[DatabaseChoice], named: Named<'_>) -> Result<String, RefusalText> {
    let by_name = |name: &str| choices.iter().find(|choice| *choice.name == *name);
    let mut at_server = choices.iter().filter(|choice| choice.database == named.database);
    let at_server = || match (at_server.next(), at_server.next()) {
        (Some(only), None) => Some(only),
        _ => None,
    };
    let by_user = || {
        let fits =
            |choice: &&DatabaseChoice| named.is_default() || choice.database == named.database;
        by_name(named.user).filter(fits)
    };
    let only = || choices.first().filter(|_| choices.len() == 1 && named.is_default());
    match by_name(named.database).or_else(by_user).or_else(at_server).or_else(only) {
        Some(choice) => Ok(choice.name.to_string()),
        None => Err(refused(choices, named)),
    }
}

fn refused(choices: &[DatabaseChoice], named: Named<'_>) -> RefusalText {
    if choices.is_empty() {
        return Code::ConnectionMissing
            .because("this agent has no connection to a database")
            .hint("bind one: `keyward agent bind NAME CONNECTION`");
    }
    let names: Vec<_> = choices.iter().map(|choice| &*choice.name).collect();
    let names = names.join(", ");
    if named.is_default() {
        return Code::ConnectionAmbiguous
            .because("the agent has several connections to databases")
            .hint(format!("name one as the database: {names}"));
    }
    Code::ConnectionMissing
        .because("the database is none of the agent's connections")
        .hint(format!("name one as the database: {names}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn choices(all: &[(&str, &str)]) -> Vec<DatabaseChoice> {
        let choice = |(name, database): &(&str, &str)| DatabaseChoice {
            name: (*name).into(),
            database: (*database).to_owned(),
        };
        all.iter().map(choice).collect()
    }

    #[test]
    fn a_session_is_for_the_connection_that_the_client_names() {
        let two = choices(&[("main", "app"), ("stats", "warehouse")]);
        let one = choices(&[("main", "app")]);
        let same = choices(&[("main", "app"), ("copy", "app")]);
        for (choices, database, user, expected) in [
            (&one, "main", "x", Ok("main")),
            (&one, "x", "x", Ok("main")),
            (&one, "", "x", Ok("main")),
            (&one, "app", "x", Ok("main")),
            // Another database than the only one is no reason to use that.
            (&one, "prod", "x", Err(Code::ConnectionMissing)),
            (&two, "stats", "main", Ok("stats")),
            (&two, "main", "main", Ok("main")),
            (&two, "app", "main", Ok("main")),
            (&same, "app", "copy", Ok("copy")),
            (&two, "prod", "main", Err(Code::ConnectionMissing)),
            (&one, "test_app", "main", Err(Code::ConnectionMissing)),
            (&two, "warehouse", "x", Ok("stats")),
            (&two, "x", "x", Err(Code::ConnectionAmbiguous)),
            (&two, "prod", "x", Err(Code::ConnectionMissing)),
            (&same, "app", "x", Err(Code::ConnectionMissing)),
            (&Vec::new(), "x", "x", Err(Code::ConnectionMissing)),
        ] {
            let found = choose(choices, Named { database, user });
            let found = found.map_err(|refusal| refusal.code);
            assert_eq!(found, expected.map(str::to_owned), "{database} {user}");
        }
    }
}

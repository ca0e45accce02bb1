//! [`changes_login`]: whether a text gives a user of the server another password or another proof. An agent would then know the
//! connection's login, or lock the connection out. What runs another text is not seen: `DO`, `PREPARE … FROM`, functions.

use super::dialect::Dialect;
use crate::sql::{Lexed, SqlToken, loose_tokens, statements};

/// Why it is refused, in every session.
pub const CHANGES_LOGIN: &str = "a session cannot change a password of the server";

/// One of these is in each of the statements, so that other texts are not read.
const PROOFS: [&[u8]; 2] = [b"password", b"identified"];

/// Words behind which a statement begins within another: in blocks of MariaDB, events, and `SET STATEMENT … FOR`.
const BEFORE_STATEMENTS: &[&str] =
    &["atomic", "begin", "do", "else", "for", "loop", "repeat", "then"];

/// Whether one of the statements in a text does so. `lexer`: that of the protocol; `None` for a text that it does not read.
pub fn changes_login(
    dialect: Dialect,
    text: &[u8],
    lexer: impl FnOnce(&[u8]) -> Option<Vec<Lexed>>,
) -> bool {
    if !PROOFS.iter().any(|word| contains(text, word)) {
        return false;
    }
    let tokens = lexer(text).unwrap_or_else(|| loose_tokens(text));
    statements(&tokens).any(|one| match dialect {
        Dialect::Postgres => sets_role_password(one),
        Dialect::Mysql => (0..one.len()).any(|at| begins(one, at) && sets_user_proof(&one[at..])),
    })
}

/// Nearly all texts end here, so only one byte is compared at each place.
fn contains(text: &[u8], word: &[u8]) -> bool {
    let middle = word.len() / 2;
    let is_it = |part: &[u8]| {
        part[middle].eq_ignore_ascii_case(&word[middle]) && part.eq_ignore_ascii_case(word)
    };
    text.windows(word.len()).any(is_it)
}

fn bare(tokens: &[Lexed], at: usize) -> Option<&str> {
    tokens.get(at).and_then(Lexed::bare_word)
}

/// `ALTER ROLE name … PASSWORD 'x'`, and the same of `CREATE` and `USER`. A setting of the role may have this name, and so may an
/// option of a `USER MAPPING`, which is about another server.
fn sets_role_password(tokens: &[Lexed]) -> bool {
    let is_of_role = match [0, 1, 2, 3].map(|at| bare(tokens, at)) {
        [_, Some("user"), Some("mapping"), Some("for" | "if")] => false,
        [Some("alter" | "create"), Some("role" | "user" | "group"), ..] => true,
        _ => false,
    };
    let begins_settings = |lexed: &Lexed| matches!(lexed.bare_word(), Some("set" | "reset"));
    let options = tokens.get(3..).unwrap_or_default().split(begins_settings).next();
    let is_password = |two: &[Lexed]| {
        two[0].bare_word() == Some("password")
            && (two[1].token == SqlToken::Constant || two[1].bare_word() == Some("null"))
    };
    is_of_role && options.unwrap_or_default().windows(2).any(is_password)
}

fn begins(tokens: &[Lexed], at: usize) -> bool {
    let before = at.checked_sub(1).map(|before| bare(tokens, before));
    before.is_none_or(|word| word.is_some_and(|word| BEFORE_STATEMENTS.contains(&word)))
}

/// `SET PASSWORD`, and `ALTER USER`, `CREATE USER` or `GRANT` with a proof.
fn sets_user_proof(tokens: &[Lexed]) -> bool {
    let identifies = |two: &[Lexed]| {
        two[0].bare_word() == Some("identified")
            && matches!(two[1].bare_word(), Some("as" | "by" | "via" | "with"))
    };
    let identifies = || tokens.windows(2).any(identifies);
    match [0, 1, 2, 3].map(|at| bare(tokens, at)) {
        [Some("set"), ..] => sets_password(tokens.get(1..).unwrap_or_default()),
        [Some("alter"), Some("user"), ..] => {
            identifies() || tokens.iter().any(|lexed| lexed.bare_word() == Some("password"))
        }
        [Some("create"), Some("user"), ..]
        | [Some("create"), Some("or"), Some("replace"), Some("user")]
        | [Some("grant"), ..] => identifies(),
        _ => false,
    }
}

/// Whether `PASSWORD` is set by a part of the list, as the server's and not as a variable.
fn sets_password(list: &[Lexed]) -> bool {
    let is_set = |at: usize| {
        let is_first = at == 0 || list[at - 1].is_symbol(b',');
        let is_target = list.get(at + 1).is_some_and(|sign| {
            sign.is_symbol(b'=')
                || sign.is_symbol(b':')
                || matches!(sign.bare_word(), Some("for" | "to"))
        });
        is_first && is_target && bare(list, at) == Some("password")
    };
    (0..list.len()).any(is_set)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{mysql, postgres};

    fn refused(dialect: Dialect, text: &str) -> bool {
        changes_login(dialect, text.as_bytes(), |text| match dialect {
            Dialect::Postgres => postgres::tokens(text).ok(),
            Dialect::Mysql => mysql::tokens(text).ok(),
        })
    }

    #[test]
    fn a_password_of_a_role_is_set_in_no_form() {
        for text in [
            "ALTER ROLE app PASSWORD 'x'",
            "alter user app with encrypted password 'x'",
            "ALTER USER CURRENT_USER PASSWORD NULL",
            "ALTER ROLE \"app\" LOGIN /* x */ PASSWORD $$x$$ VALID UNTIL 'infinity'",
            "ALTER/**/USER/**/app/**/PASSWORD/**/E'x'",
            "ALTER USER app PASSWORD U&'x'",
            "SELECT 1; ALTER GROUP app PASSWORD 'x'",
            "CREATE ROLE other LOGIN PASSWORD 'x'",
            "CREATE USER other IN ROLE app UNENCRYPTED PASSWORD 'x'",
            // Names that are keywords elsewhere.
            "ALTER ROLE set PASSWORD 'x'",
            "ALTER USER mapping PASSWORD 'x'",
            // Texts that are not read for certain.
            "ALTER USER U&\"app\" PASSWORD 'x'",
            "ALTER USER app PASSWORD 'x'; SELECT '",
        ] {
            assert!(refused(Dialect::Postgres, text), "{text}");
        }
    }

    #[test]
    fn what_only_names_a_password_passes() {
        for text in [
            "SELECT password FROM users WHERE password = 'ALTER USER app PASSWORD ''x'''",
            "UPDATE users SET password = 'x'",
            "CREATE TABLE role (password text DEFAULT 'x')",
            "ALTER TABLE users ADD password text",
            "ALTER ROLE app SET my.password = 'x'",
            "ALTER ROLE app RESET my.password",
            "ALTER ROLE app IN DATABASE d SET password TO 'x'",
            "ALTER ROLE \"password\" CREATEDB",
            "ALTER ROLE app RENAME TO password",
            "CREATE ROLE \"a password 'x'\"",
            "ALTER USER MAPPING FOR app SERVER s OPTIONS (SET password 'x')",
            "CREATE USER MAPPING IF NOT EXISTS FOR app SERVER s OPTIONS (password 'x')",
            "SET my.password = 'x'",
            "SHOW password_encryption",
        ] {
            assert!(!refused(Dialect::Postgres, text), "{text}");
        }
        for text in [
            "SELECT password FROM users",
            "UPDATE users SET password = 'x'",
            "INSERT INTO users SET password = 'x'",
            "INSERT INTO t VALUES (1) ON DUPLICATE KEY UPDATE password = 'x'",
            "SET @password = 'x'",
            "SET @a = 1, @password := 'x'",
            "SET @a = (SELECT a, password FROM users LIMIT 1)",
            "SELECT PASSWORD('x'), 'SET PASSWORD = 1'",
            "GRANT SELECT (password) ON users TO app",
            "ALTER USER app ACCOUNT LOCK",
            "ALTER USER app COMMENT 'IDENTIFIED BY'",
            "CREATE USER `identified by` COMMENT 'x'",
            "CREATE TABLE `user` (identified int)",
            "CREATE TRIGGER t BEFORE INSERT ON users FOR EACH ROW BEGIN SET NEW.password = 'x'; END",
            "/*!50003 CREATE TRIGGER t BEFORE INSERT ON u FOR EACH ROW SET NEW.password = 'x' */",
            "/*!40000 ALTER TABLE password DISABLE KEYS */",
        ] {
            assert!(!refused(Dialect::Mysql, text), "{text}");
        }
    }

    #[test]
    fn a_proof_of_a_user_is_set_in_no_form() {
        for text in [
            "SET PASSWORD = PASSWORD('x')",
            "SET PASSWORD FOR app@'%' = 'x'",
            "set password to random",
            "SET autocommit = 1, PASSWORD = 'x'",
            "SET/**/PASSWORD/**/:=/**/'x'",
            "ALTER USER app IDENTIFIED BY 'x'",
            "ALTER USER IF EXISTS USER() IDENTIFIED WITH mysql_native_password AS 'x'",
            "ALTER USER CURRENT_USER IDENTIFIED VIA ed25519 USING 'x'",
            "ALTER USER app@'%' DISCARD OLD PASSWORD",
            "CREATE USER IF NOT EXISTS app@localhost IDENTIFIED BY 'x'",
            "CREATE OR REPLACE USER app IDENTIFIED BY PASSWORD 'x'",
            "GRANT USAGE ON *.* TO app IDENTIFIED BY 'x'",
            "SELECT 1; ALTER USER app IDENTIFIED BY 'x'",
            "SET STATEMENT max_statement_time = 1 FOR SET PASSWORD = 'x'",
            "BEGIN NOT ATOMIC SET PASSWORD = 'x'; END",
            "IF 1 THEN ALTER USER app IDENTIFIED BY 'x'; END IF",
            "CREATE EVENT e ON SCHEDULE AT NOW() DO ALTER USER app IDENTIFIED BY 'x'",
            "/*!50000 SET PASSWORD = 'x' */",
            "/*!50000SET PASSWORD = 'x' */",
            "/*M!100100 ALTER */ USER app IDENTIFIED /*! BY 'x' */",
        ] {
            assert!(refused(Dialect::Mysql, text), "{text}");
        }
    }
}

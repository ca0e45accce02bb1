//! Which statements a read-only session may send. The first word must be one of those that read or that begin and end
//! transactions; then settings, functions and clauses that lead out of the mode or write are looked for.

use super::lexer::tokens;
use crate::sql::Token;

/// Why a statement is refused. A sentence without a full stop and without quotes.
pub type Reason = &'static str;

/// Statements that read, or only change the session.
const READING: &[&str] = &[
    "begin",
    "commit",
    "desc",
    "describe",
    "explain",
    "help",
    "release",
    "rollback",
    "savepoint",
    "select",
    "set",
    "show",
    "start",
    "table",
    "use",
    "values",
    "with",
];

/// Words of `SET` that decide about writes, rights, or how texts are read; and those that change more than the session.
const KEPT_SETTINGS: &[&str] = &[
    "character",
    "character_set_client",
    "charset",
    "collation_connection",
    "default",
    "global",
    "init_connect",
    "password",
    "persist",
    "persist_only",
    "resource",
    "role",
    "sql_mode",
    "statement",
    "transaction_read_only",
    "tx_read_only",
];

/// Clauses and functions that write files or sequences, or run a text.
const REFUSED_WORDS: &[&str] =
    &["dumpfile", "nextval", "outfile", "setval", "sys_eval", "sys_exec"];

/// Character sets whose texts are read here as by the server: no byte of a character looks like a quote or its escape.
const SAFE_CHARSETS: &[&str] = &["utf8", "utf8mb3", "utf8mb4", "latin1", "ascii", "binary"];

/// Checks a text with any number of statements.
///
/// # Errors
/// Why one of them is refused.
pub fn check(text: &[u8]) -> Result<(), Reason> {
    let tokens = tokens(text)?;
    tokens.split(|token| *token == Token::Symbol(b';')).try_for_each(statement)
}

fn statement(tokens: &[Token]) -> Result<(), Reason> {
    let words: Vec<&str> = tokens.iter().filter_map(word).collect();
    let Some(first) = tokens.iter().find(|token| **token != Token::Symbol(b'(')) else {
        return Ok(());
    };
    let Some(first) = word(first).filter(|word| READING.contains(word)) else {
        return Err("only statements that read are permitted");
    };
    if words.iter().any(|word| REFUSED_WORDS.contains(word)) || has(&words, ["next", "value"]) {
        return Err("a clause or a function in it writes");
    }
    match first {
        "set" => settings(&words, tokens),
        "begin" if words.get(1) == Some(&"not") => Err("only statements that read are permitted"),
        "begin" | "start" if has(&words, ["read", "write"]) => {
            Err("a transaction cannot be made read-write")
        }
        // MariaDB runs what it explains; a SELECT in a read-only transaction writes nothing.
        "with" | "explain" | "desc" | "describe" if words.iter().any(|word| is_write(word)) => {
            Err("only statements that read are permitted")
        }
        _ => Ok(()),
    }
}

fn is_write(word: &str) -> bool {
    matches!(word, "insert" | "update" | "delete" | "replace")
}

fn has(words: &[&str], pair: [&str; 2]) -> bool {
    words.windows(2).any(|two| two == pair)
}

fn word(token: &Token) -> Option<&str> {
    match token {
        Token::Word(word) => Some(word),
        Token::Constant | Token::Symbol(_) => None,
    }
}

fn settings(words: &[&str], tokens: &[Token]) -> Result<(), Reason> {
    if has(words, ["read", "write"]) {
        return Err("a transaction cannot be made read-write");
    }
    // `SET NAMES utf8mb4`: nothing else stands in it, so a word of another setting is not hidden behind it.
    if words.get(1) == Some(&"names") {
        return match words.get(2).is_some_and(|charset| SAFE_CHARSETS.contains(charset)) {
            true if !tokens.contains(&Token::Symbol(b',')) => Ok(()),
            _ => Err("the character set must be utf8mb4 or latin1, written without quotes"),
        };
    }
    match words.iter().any(|word| KEPT_SETTINGS.contains(word)) {
        true => Err("this setting cannot be changed"),
        false => Ok(()),
    }
}

/// Whether texts of a collation are read here as by the server, by its number: those of utf8mb4, utf8mb3, latin1, ascii and
/// binary.
pub fn is_safe_collation(number: u8) -> bool {
    matches!(number, 5 | 8 | 11 | 15 | 31 | 33 | 45 | 46 | 47 | 48 | 49 | 63 | 65 | 83 | 94 | 192..=215 | 223..=247 | 255)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statements_that_read_pass() {
        for text in [
            "",
            ";",
            "SELECT 1",
            "(SELECT 1) UNION (SELECT 2)",
            "select * from t where name = 'insert into x'; select 2;",
            "WITH x AS (SELECT 1) SELECT * FROM x",
            "SELECT * FROM `update`",
            "SHOW TABLES",
            "DESCRIBE t",
            "EXPLAIN SELECT * FROM t",
            "BEGIN",
            "START TRANSACTION READ ONLY",
            "START TRANSACTION WITH CONSISTENT SNAPSHOT",
            "COMMIT",
            "ROLLBACK TO SAVEPOINT a",
            "SET NAMES utf8mb4",
            "SET NAMES utf8mb4 COLLATE utf8mb4_general_ci",
            "SET autocommit=0",
            "SET @x = 1",
            "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED",
            "SET time_zone = '+00:00'",
            "USE shop",
            "SELECT SLEEP(1), @@tx_read_only",
        ] {
            assert_eq!(check(text.as_bytes()), Ok(()), "{text}");
        }
    }

    /// Each is tried at a real server too (`tests/real/mysql.rs`).
    #[test]
    fn ways_out_of_the_mode_are_refused() {
        for text in WAYS_OUT.lines().map(str::trim).filter(|line| !line.is_empty()) {
            let text = text.replace("\\n", "\n");
            assert!(check(text.as_bytes()).is_err(), "{text}");
        }
    }

    const WAYS_OUT: &str = include_str!("ways_out.sql");
}

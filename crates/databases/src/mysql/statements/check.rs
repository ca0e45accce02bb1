//! Which statements a session may send. In a read-only one, the first word must be one of those that read or that begin and
//! end transactions. Settings, functions and clauses that would lead out of what the session keeps are looked for; then rules on
//! statements decide.

use super::lexer::tokens;
use crate::rules::{KeptSettings, Reason, StatementRules};
use crate::sql::{Lexed, SqlToken, first_word, has_pair, span, statements};

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

/// Statements that rules decide on. MariaDB also runs blocks, conditions and loops outside of procedures.
const RULED: &[&str] = &[
    "delete", "desc", "describe", "explain", "insert", "replace", "select", "truncate", "update",
    "values", "with",
];

/// What `SHOW` may be about where there are rules: not other sessions, users, or the log of changes, which has data.
const SHOWN: &[&str] =
    &["character", "charset", "collation", "engines", "errors", "status", "variables", "warnings"];

/// The same, if the rules do not name tables.
const SHOWN_OF_TABLES: &[&str] =
    &["columns", "databases", "fields", "index", "indexes", "keys", "schemas", "table", "tables"];

/// Words of `SET` that decide about rights, or how texts are read; and those that change more than the session.
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
];

/// Settings that decide about writes.
const MODE_SETTINGS: &[&str] = &["transaction_read_only", "tx_read_only"];

const READ_WRITE: Reason = Reason::Borrowed("a transaction cannot be made read-write");
const ONLY_READING: Reason = Reason::Borrowed("only statements that read are permitted");

/// Clauses and functions that write files or sequences, or run a text.
const REFUSED_WORDS: &[&str] =
    &["dumpfile", "nextval", "outfile", "setval", "sys_eval", "sys_exec"];

/// Character sets whose texts are read here as by the server: no byte of a character looks like a quote or its escape.
const SAFE_CHARSETS: &[&str] = &["utf8", "utf8mb3", "utf8mb4", "latin1", "ascii", "binary"];

/// Checks a text with any number of statements.
///
/// # Errors
/// Why one of them is refused.
pub fn check(text: &[u8], kept: &KeptSettings) -> Result<(), Reason> {
    let tokens = tokens(text)?;
    statements(&tokens).try_for_each(|one| statement(one, &text[span(one)], kept))
}

fn statement(tokens: &[Lexed], text: &[u8], kept: &KeptSettings) -> Result<(), Reason> {
    let words: Vec<&str> = tokens.iter().filter_map(Lexed::word).collect();
    let Some(first) = first_word(tokens) else { return Ok(()) };
    let is_refused = |word: &&str| REFUSED_WORDS.contains(word);
    if words.iter().any(is_refused) || has_pair(&words, ["next", "value"]) {
        return Err("a clause or a function in it writes".into());
    }
    if kept.read_only {
        reads(first, &words)?;
    }
    if first == "set" {
        settings(&words, tokens, kept)?;
    }
    match &kept.rules {
        Some(rules) => ruled(rules, first, &words, tokens, text),
        None => Ok(()),
    }
}

/// Checks that a statement of a read-only session reads.
fn reads(first: &str, words: &[&str]) -> Result<(), Reason> {
    if !READING.contains(&first) {
        return Err(ONLY_READING);
    }
    match first {
        "begin" if words.get(1) == Some(&"not") => Err(ONLY_READING),
        "set" | "begin" | "start" if has_pair(words, ["read", "write"]) => Err(READ_WRITE),
        // MariaDB runs what it explains; a SELECT in a read-only transaction writes nothing.
        "with" | "explain" | "desc" | "describe" if words.iter().any(|word| is_write(word)) => {
            Err(ONLY_READING)
        }
        _ => Ok(()),
    }
}

/// Checks a statement of a session with rules. The parser reads only those on data: what it knows of the others is not all that
/// clients send.
fn ruled(
    rules: &StatementRules,
    first: &str,
    words: &[&str],
    tokens: &[Lexed],
    text: &[u8],
) -> Result<(), Reason> {
    // What a server does with other characters depends on the character set of the session.
    if rules.names_tables() && words.iter().any(|word| !word.is_ascii()) {
        return Err("a name in it is not in ASCII".into());
    }
    if has_pair(words, ["previous", "value"]) && rules.names_tables() {
        return Err("a sequence is read by a clause in it".into());
    }
    let has_parenthesis = tokens.iter().any(|lexed| lexed.token == SqlToken::Symbol(b'('));
    let is_transaction = match first {
        "begin" => matches!(words, ["begin"] | ["begin", "work"]),
        "start" => words.get(1) == Some(&"transaction"),
        "commit" | "rollback" | "savepoint" => true,
        "release" => words.get(1) == Some(&"savepoint"),
        _ => false,
    };
    match first {
        _ if is_transaction => Ok(()),
        // Expressions are in parentheses if a query is in them.
        "set" if !has_parenthesis => Ok(()),
        "use" if !rules.names_tables() => Ok(()),
        "show" if has_parenthesis => Err("SHOW has no parentheses here".into()),
        "show" if shows_only(words, SHOWN) => Ok(()),
        "show" if !rules.names_tables() && shows_only(words, SHOWN_OF_TABLES) => Ok(()),
        "set" => rules.check(text, words),
        _ if RULED.contains(&first) => rules.check(text, words),
        _ => {
            Err("only statements on data are permitted, and those of transactions and settings"
                .into())
        }
    }
}

/// Whether the first word behind `SHOW` that says what is one of these.
fn shows_only(words: &[&str], shown: &[&str]) -> bool {
    let is_scope = |word: &&&str| matches!(**word, "full" | "global" | "local" | "session");
    words.iter().skip(1).find(|word| !is_scope(word)).is_some_and(|word| shown.contains(word))
}

fn is_write(word: &str) -> bool {
    matches!(word, "insert" | "update" | "delete" | "replace")
}

fn settings(words: &[&str], tokens: &[Lexed], kept: &KeptSettings) -> Result<(), Reason> {
    // `SET NAMES utf8mb4`: nothing else stands in it, so a word of another setting is not hidden behind it.
    if words.get(1) == Some(&"names") {
        let is_alone = !tokens.iter().any(|lexed| lexed.token == SqlToken::Symbol(b','));
        return match words.get(2).is_some_and(|charset| SAFE_CHARSETS.contains(charset)) {
            true if is_alone => Ok(()),
            _ => Err("the character set must be utf8mb4 or latin1, written without quotes".into()),
        };
    }
    let is_kept = |word: &&str| {
        KEPT_SETTINGS.contains(word) || kept.read_only && MODE_SETTINGS.contains(word)
    };
    match words.iter().any(is_kept) {
        true => Err("this setting cannot be changed".into()),
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

    fn read_only() -> KeptSettings {
        KeptSettings { read_only: true, ..KeptSettings::default() }
    }

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
            assert_eq!(check(text.as_bytes(), &read_only()), Ok(()), "{text}");
        }
    }

    /// Each is tried at a real server too (`tests/real/mysql.rs`).
    #[test]
    fn ways_out_of_the_mode_are_refused() {
        for text in WAYS_OUT.lines().map(str::trim).filter(|line| !line.is_empty()) {
            let text = text.replace("\\n", "\n");
            assert!(check(text.as_bytes(), &read_only()).is_err(), "{text}");
        }
    }

    const WAYS_OUT: &str = include_str!("ways_out.sql");
}

//! Which statements a session may send. In a read-only one, the first word must be one of those that read or that begin and
//! end transactions. Settings, functions and clauses that would lift a restriction of the session are refused; then rules on
//! statements decide.

use super::lexer::{tokens, unwrapped};
use super::settings;
use crate::rules::{EnforcedSettings, Reason, StatementRules};
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
    "unlock",
    "use",
    "values",
    "with",
];

/// Statements that rules decide on. MariaDB also runs blocks, conditions and loops outside of procedures.
const RULED: &[&str] = &[
    "delete", "desc", "describe", "explain", "insert", "replace", "select", "truncate", "update",
    "values", "with",
];

/// The subjects of `SHOW` that are permitted if there are rules. Other sessions, users, and the log of changes, which
/// has data, are not among them.
const SHOWN: &[&str] =
    &["character", "charset", "collation", "engines", "errors", "status", "variables", "warnings"];

/// The same, if the rules do not name tables.
const SHOWN_OF_TABLES: &[&str] =
    &["columns", "databases", "fields", "index", "indexes", "keys", "schemas", "table", "tables"];

/// The same of one table, which is judged as `DESCRIBE` of it.
const SHOWN_OF_TABLE: &[&str] = &["columns", "fields", "index", "indexes", "keys"];

const READ_WRITE: Reason = Reason::Borrowed("a transaction cannot be made read-write");
const ONLY_READING: Reason = Reason::Borrowed("only statements that read are permitted");
const PASSWORD_HASH: Reason = Reason::Borrowed("it shows the hash of a password");

/// Clauses and functions that write files or sequences.
const REFUSED_WORDS: &[&str] = &["dumpfile", "nextval", "outfile", "setval"];

/// A lock that other sessions wait for, and what reads files. They are functions where they are called.
const REACHING: [Option<&str>; 2] = [Some("get_lock"), Some("load_file")];

/// Checks a text with any number of statements.
///
/// # Errors
/// Why one of them is refused.
pub fn check(text: &[u8], kept: &EnforcedSettings) -> Result<(), Reason> {
    let text = &*unwrapped(text);
    let tokens = tokens(text)?;
    if tokens.iter().any(|lexed| is_ambiguous(lexed, text)) {
        return Err("a name with the byte 0xA0, or with $ at its beginning, needs backticks".into());
    }
    statements(&tokens).try_for_each(|one| statement(one, text, kept))
}

/// Whether servers may find other tokens in a name without backticks: in latin1 the byte 0xA0 is a blank, which characters of
/// UTF-8 such as `à` have too, and MySQL quotes strings by `$$` since version 8.
fn is_ambiguous(lexed: &Lexed, text: &[u8]) -> bool {
    let source = &text[lexed.at.clone()];
    let is_bare = lexed.word().is_some() && !source.starts_with(b"`");
    is_bare && (source.contains(&0xa0) || source.starts_with(b"$"))
}

fn statement(tokens: &[Lexed], text: &[u8], kept: &EnforcedSettings) -> Result<(), Reason> {
    let words: Vec<&str> = tokens.iter().filter_map(Lexed::word).collect();
    let Some(first) = first_word(tokens) else { return Ok(()) };
    let is_refused = |word: &&str| REFUSED_WORDS.contains(word);
    if words.iter().any(is_refused) || has_pair(&words, ["next", "value"]) {
        return Err("a clause or a function in it writes".into());
    }
    if kept.read_only {
        reads(first, &words, tokens, text)?;
    }
    if first == "set" {
        settings::check(tokens, text, kept)?;
    }
    match &kept.rules {
        Some(rules) => ruled(rules, first, &words, tokens, text),
        None => Ok(()),
    }
}

/// Checks that a statement of a read-only session reads.
fn reads(first: &str, words: &[&str], tokens: &[Lexed], text: &[u8]) -> Result<(), Reason> {
    if !READING.contains(&first) {
        return Err(ONLY_READING);
    }
    let reaches = |two: &[Lexed]| REACHING.contains(&two[0].word()) && two[1].is_symbol(b'(');
    if tokens.windows(2).any(reaches) {
        return Err("a function in it reaches other sessions or files of the server".into());
    }
    match first {
        "begin" if words.get(1) == Some(&"not") => Err(ONLY_READING),
        // Dump programs send it. It ends what the session has locked.
        "unlock" if !matches!(words, ["unlock", "tables"]) => Err(ONLY_READING),
        "set" | "begin" | "start" if has_pair(words, ["read", "write"]) => Err(READ_WRITE),
        // MariaDB runs what it explains; a SELECT in a read-only transaction writes nothing.
        "with" | "explain" | "desc" | "describe" if writes(tokens, text) => Err(ONLY_READING),
        "show" if shows_password_hash(words) => Err(PASSWORD_HASH),
        _ => Ok(()),
    }
}

/// Checks a statement of a session with rules; `text` has its tokens. The parser reads only statements on data: what it knows
/// of the others is not all that clients send.
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
        return Err("a clause in it reads a sequence".into());
    }
    let statement = &text[span(tokens)];
    let has_parenthesis = tokens.iter().any(|lexed| lexed.token == SqlToken::Symbol(b'('));
    let is_transaction = match first {
        "begin" => matches!(words, ["begin"] | ["begin", "work"]),
        "start" => words.get(1) == Some(&"transaction"),
        "commit" | "rollback" | "savepoint" => true,
        "unlock" => matches!(words, ["unlock", "tables"]),
        "release" => words.get(1) == Some(&"savepoint"),
        _ => false,
    };
    match first {
        _ if is_transaction => Ok(()),
        // Expressions are in parentheses if a query is in them.
        "set" if !settings::has_parentheses(tokens, text) => Ok(()),
        "use" if !rules.fixes_path() => Ok(()),
        "show" if has_parenthesis => Err("SHOW has no parentheses here".into()),
        "show" if shows_only(words, SHOWN) => Ok(()),
        "show" if !rules.names_tables() && shows_only(words, SHOWN_OF_TABLES) => Ok(()),
        "show" if !rules.names_tables() && shows_definition(words) => Ok(()),
        "show" if shows_only(words, SHOWN_OF_TABLE) || shows_definition(words) => {
            rules.check(statement, words)
        }
        "set" => rules.check(statement, words),
        _ if RULED.contains(&first) => rules.check(statement, words),
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

/// Whether it shows how a table or a view was made. That of a user has the hash of the password.
fn shows_definition(words: &[&str]) -> bool {
    matches!(words, ["show", "create", "table" | "view", ..])
}

/// Whether it is `SHOW GRANTS` or `SHOW CREATE USER`, in which MariaDB shows the hash of the session's own user.
fn shows_password_hash(words: &[&str]) -> bool {
    matches!(words, ["show", "grants", ..] | ["show", "create", "user", ..])
}

/// Whether a statement in it writes. Before a parenthesis, `INSERT` and `REPLACE` are functions: the statements name a table
/// first.
fn writes(tokens: &[Lexed], text: &[u8]) -> bool {
    let is_bare = |lexed: &Lexed| !text[lexed.at.clone()].starts_with(b"`");
    tokens.iter().enumerate().filter(|(_, lexed)| is_bare(lexed)).any(|(at, lexed)| {
        let next = tokens.get(at + 1).map(|next| &next.token);
        match lexed.word() {
            Some("update" | "delete") => true,
            Some("insert" | "replace") => next != Some(&SqlToken::Symbol(b'(')),
            _ => false,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_only() -> EnforcedSettings {
        EnforcedSettings { read_only: true, ..EnforcedSettings::default() }
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
            "WITH x AS (SELECT REPLACE('aa', 'a', 'b') n) SELECT * FROM x",
            "EXPLAIN SELECT replace (a, 'a', 'b'), INSERT(a, 1, 2, 'x') FROM `replace`",
            "WITH x AS (SELECT `update` FROM t) SELECT * FROM x WHERE `delete` = 1",
            "DESCRIBE `insert`",
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
            "SELECT `größe` AS `à`, 'ä', \"ä\", n'ä' -- ä\n FROM t # ä",
            "SELECT a$b /* à */ FROM t",
            "SELECT a AS größe FROM t",
            "SELECT bücher.名前 FROM bücher",
            // What mariadb-dump and mysqldump send.
            "/*!40100 SET @@SQL_MODE='' */",
            "/*!40103 SET TIME_ZONE='+00:00' */",
            "/*!80000 SET SESSION information_schema_stats_expiry=0 */",
            "/*M!100100 SET @@MAX_STATEMENT_TIME=0.000000 */",
            "/*M!100100 SET WAIT_TIMEOUT=DEFAULT */",
            "START TRANSACTION /*!40100 WITH CONSISTENT SNAPSHOT */",
            "UNLOCK TABLES",
            "set optimizer_switch=default",
            "SET SESSION NET_READ_TIMEOUT= 86400, SESSION NET_WRITE_TIMEOUT= 86400",
            "SET SESSION character_set_results = 'binary'",
            "SELECT /*!40001 SQL_NO_CACHE */ `a`, `b` FROM `orders`",
        ] {
            assert_eq!(check(text.as_bytes(), &read_only()), Ok(()), "{text}");
        }
        // Texts in latin1.
        assert_eq!(check(b"SELECT 'gr\xf6\xdfe\xa0' -- \xa0", &read_only()), Ok(()));
        assert_eq!(check(b"SELECT a AS gr\xf6\xdfe FROM t", &read_only()), Ok(()));
    }

    #[test]
    fn a_statement_that_writes_is_refused_behind_with_and_explain() {
        for text in [
            "WITH x AS (SELECT REPLACE('aa', 'a', 'b')) DELETE FROM t",
            "WITH x AS (SELECT 1) UPDATE t SET a = REPLACE(a, 'a', 'b')",
            "EXPLAIN REPLACE t (a) VALUES (1)",
            "EXPLAIN REPLACE `t` (a) VALUES (1)",
            "EXPLAIN INSERT/* ( */INTO t VALUES (INSERT('a', 1, 1, 'b'))",
            "DESC INSERT t () VALUES ()",
            "EXPLAIN FORMAT=JSON DELETE FROM t",
        ] {
            assert_eq!(check(text.as_bytes(), &read_only()), Err(ONLY_READING), "{text}");
        }
    }

    #[test]
    fn what_shows_the_hash_of_a_password_is_refused() {
        for text in [
            "SHOW GRANTS",
            "show/**/grants for current_user()",
            "SHOW GRANTS FOR 'app'@'%'",
            "SELECT 1; SHOW CREATE USER",
        ] {
            assert_eq!(check(text.as_bytes(), &read_only()), Err(PASSWORD_HASH), "{text}");
        }
        for text in
            ["SHOW CREATE TABLE `user`", "SHOW TABLES LIKE 'grants'", "SELECT grants FROM t"]
        {
            assert_eq!(check(text.as_bytes(), &read_only()), Ok(()), "{text}");
        }
    }

    /// In latin1, servers take the byte 0xA0 for a blank, also behind two minus signs.
    #[test]
    fn bytes_that_some_servers_take_for_a_blank_are_refused_outside_of_quotes() {
        for text in [
            &b"SET @a = 1,\xa0tx_read_only = 0"[..],
            b"SELECT 1 --\xa0'\n; DELETE FROM t WHERE a = 2; -- '",
            b"SET @a = 1,\xa0sql_mode = 'NO_BACKSLASH_ESCAPES'",
            b"SELECT 1\xa0INTO\xa0OUTFILE\xa0'/tmp/keyward-out'",
            // The same byte as a part of characters in UTF-8.
            "SET @a = @b\u{e0}tx_read_only = 0".as_bytes(),
            "SELECT 1 --\u{a0}'\n; DELETE FROM t; -- '".as_bytes(),
            "SELECT 1 --\u{e0}'\n; DELETE FROM t; -- '".as_bytes(),
            "SELECT a AS voil\u{e0} FROM t".as_bytes(),
            b"SELECT 1\xa0",
            b"SELECT 1e5\xa0",
            b"SELECT $$ '$$, 1 -- '",
        ] {
            let shown = String::from_utf8_lossy(text);
            assert!(check(text, &read_only()).is_err(), "{shown}");
        }
    }

    /// Each is tried at a real server too (`tests/real/mysql.rs`).
    #[test]
    fn statements_that_escape_the_read_only_mode_are_refused() {
        for text in WAYS_OUT.lines().map(str::trim).filter(|line| !line.is_empty()) {
            let text = text.replace("\\n", "\n");
            assert!(check(text.as_bytes(), &read_only()).is_err(), "{text}");
        }
    }

    const WAYS_OUT: &str = include_str!("ways_out.sql");
}

//! Which statements a session may send. Settings and functions that would lift a restriction of the session are refused; then
//! rules on statements decide. `read_only.rs` has what a read-only session permits.

use std::borrow::Cow;

use super::lexer::{LexError, tokens};
use super::read_only::{REFUSED_FUNCTION, reads};
use super::{is_safe_encoding, sets_safe_path};
use crate::rules::{EnforcedSettings, Reason};
use crate::sql::{Lexed, SqlToken, first_word, lower, span, statements};
use keyward_base::settings::StatementKind;

/// Settings that decide about the role, or how texts are read.
const KEPT_SETTINGS: &[&str] = &[
    "authorization",
    "backslash_quote",
    "role",
    "session_authorization",
    "session_replication_role",
    "standard_conforming_strings",
];

/// Settings that decide about writes.
const MODE_SETTINGS: &[&str] = &["default_transaction_read_only", "transaction_read_only"];

/// Settings that decide which table a name means.
const PATH_SETTINGS: &[&str] = &["schema", "search_path"];

/// The setting that `statement_timeout` of the connection sets.
const STATEMENT_TIMEOUT: &str = "statement_timeout";

/// The statement by which `pg_dump` sets a setting that servers have or have not. It changes no other one.
const OF_PG_DUMP: &[u8] =
    b"SELECT set_config(name, 'view, foreign-table', false) FROM pg_settings \
    WHERE name = 'restrict_nonsystem_relation_kind'";

/// Functions that change a sequence, and what rules must permit for them. Frameworks get the key for an `INSERT` by `nextval`.
const OF_SEQUENCES: &[(&str, StatementKind)] =
    &[("nextval", StatementKind::Insert), ("setval", StatementKind::Update)];

/// The words of `BEGIN` and `SET TRANSACTION`. Whether it may be read-write is decided elsewhere.
const TRANSACTION_WORDS: &[&str] = &[
    "committed",
    "deferrable",
    "isolation",
    "level",
    "not",
    "only",
    "read",
    "repeatable",
    "serializable",
    "transaction",
    "uncommitted",
    "work",
    "write",
];

const OTHER_PATH: Reason = Cow::Borrowed(
    "search_path may name only schemas in which all tables and functions that are listed without a \
     schema are permitted",
);
const ENDS_ROLE: Reason =
    Cow::Borrowed("it would end the role of the connection at a server of this version");
const TWO_PHASES: Reason = Cow::Borrowed("transactions in two phases are not permitted");

/// Checks a text with any number of statements.
///
/// # Errors
/// Why one of them is refused.
pub fn check(text: &[u8], kept: &EnforcedSettings) -> Result<(), Reason> {
    let tokens = tokens(text).map_err(|error| match error {
        LexError::Unterminated => "a string, name or comment does not end",
        LexError::UnicodeEscapes => "names with U& are refused",
        LexError::Continued => "a string with escapes continues on another line",
        LexError::Control => "the statement has a control character",
    })?;
    statements(&tokens).try_for_each(|one| statement(one, text, kept))
}

fn statement(tokens: &[Lexed], text: &[u8], kept: &EnforcedSettings) -> Result<(), Reason> {
    let words: Vec<&str> = tokens.iter().filter_map(Lexed::word).collect();
    // A rule of this view calls set_config.
    if words.contains(&"pg_settings") && words.contains(&"update") {
        return Err("settings are not changed by an update of pg_settings".into());
    }
    if !configures_safely(tokens, text, kept) && text[span(tokens)] != *OF_PG_DUMP {
        return Err(REFUSED_FUNCTION);
    }
    let Some(first) = first_word(tokens) else { return Ok(()) };
    if kept.read_only {
        reads(first, &words, tokens)?;
    }
    match first {
        // The first part of DISCARD ALL, and of what Npgsql sends in its place.
        "set" if sets_own_user(tokens) && kept.loses_role => return Err(ENDS_ROLE),
        "set" if sets_own_user(tokens) => {}
        "set" if sets_usual_strings(tokens, text) => {}
        "set" if kept.rules.as_ref().is_some_and(|rules| sets_safe_path(tokens, text, rules)) => {}
        // The role is then the one with which the session has begun.
        "reset" if words == ["reset", "role"] && !kept.loses_role => {}
        "set" | "reset" => settings(&target(tokens), kept)?,
        // It contains SET SESSION AUTHORIZATION DEFAULT.
        "discard" if kept.loses_role && words.contains(&"all") => return Err(ENDS_ROLE),
        "commit" | "rollback" if words.contains(&"prepared") => return Err(TWO_PHASES),
        "prepare" if words.get(1) == Some(&"transaction") => return Err(TWO_PHASES),
        _ => {}
    }
    let names_encoding = || target(tokens).iter().any(is_of_encoding);
    if first == "set" && names_encoding() && !is_safe_encoding_set(tokens, text) {
        return Err("the client encoding must be UTF8, written as a word or a plain string".into());
    }
    match &kept.rules {
        Some(rules) if !is_of_session(&words, tokens) => {
            for (_, kind) in OF_SEQUENCES.iter().filter(|(name, _)| words.contains(name)) {
                rules.kind(*kind)?;
            }
            rules.check(&text[span(tokens)], &words)
        }
        _ => Ok(()),
    }
}

/// Whether it is about transactions or cursors in a form that the parser of the rules does not know.
fn is_of_session(words: &[&str], tokens: &[Lexed]) -> bool {
    let modes = match words {
        ["begin" | "start", modes @ ..]
        | ["set", "transaction", modes @ ..]
        | ["set", "local" | "session", "transaction", modes @ ..]
        | ["set", "session", "characteristics", "as", "transaction", modes @ ..] => modes,
        ["set", "constraints", "all", "deferred" | "immediate"] => &[],
        ["move", ..] => return !tokens.iter().any(|lexed| lexed.token == SqlToken::Symbol(b'(')),
        _ => return false,
    };
    let is_of_list =
        |lexed: &Lexed| lexed.word().is_some() || lexed.token == SqlToken::Symbol(b',');
    tokens.iter().all(is_of_list) && modes.iter().all(|word| TRANSACTION_WORDS.contains(word))
}

/// The words of the setting that `SET` or `RESET` names: those before its value.
fn target(tokens: &[Lexed]) -> Vec<&str> {
    let is_sign = |lexed: &Lexed| lexed.bare_word() == Some("to") || lexed.is_symbol(b'=');
    let named = tokens.split(is_sign).next().unwrap_or_default();
    named.iter().filter_map(Lexed::word).collect()
}

/// Whether each `set_config` is a call that names, as a plain string, a setting that `SET` may change. The comma must follow it: a
/// string may go on in another line.
fn configures_safely(tokens: &[Lexed], text: &[u8], kept: &EnforcedSettings) -> bool {
    let is_configured = |name: &str| {
        let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.');
        name.chars().all(is_plain) && !is_of_encoding(&name) && settings(&[name], kept).is_ok()
    };
    let is_safe = |at: usize| {
        let [_, open, name, comma, ..] = &tokens[at..] else { return false };
        let source = &text[name.at.clone()];
        let name = source.strip_prefix(b"'").and_then(|rest| rest.strip_suffix(b"'"));
        let is_servers = match &tokens[..at] {
            [.., catalogue, dot] if dot.is_symbol(b'.') => catalogue.word() == Some("pg_catalog"),
            _ => true,
        };
        let is_call = open.is_symbol(b'(') && comma.is_symbol(b',') && is_servers;
        is_call && name.is_some_and(|name| is_configured(&lower(name)))
    };
    let is_named = |at: &usize| tokens[*at].word() == Some("set_config");
    (0..tokens.len()).filter(is_named).all(is_safe)
}

/// Whether it is `SET standard_conforming_strings = on`, which the session has already.
fn sets_usual_strings(tokens: &[Lexed], text: &[u8]) -> bool {
    let [set, name, sign, value] = tokens else { return false };
    let is_sign = sign.word() == Some("to") || sign.token == SqlToken::Symbol(b'=');
    set.word() == Some("set")
        && name.word() == Some("standard_conforming_strings")
        && is_sign
        && text[value.at.clone()].eq_ignore_ascii_case(b"on")
}

/// Whether it is `SET SESSION AUTHORIZATION DEFAULT`, which gives the session the user of its login again. In quotes, the last
/// word is the name of a user.
fn sets_own_user(tokens: &[Lexed]) -> bool {
    let words = ["set", "session", "authorization", "default"];
    tokens.iter().map(Lexed::bare_word).eq(words.map(Some))
}

fn settings(words: &[&str], kept: &EnforcedSettings) -> Result<(), Reason> {
    let is_kept = |word: &&str| {
        KEPT_SETTINGS.contains(word)
            || kept.read_only && MODE_SETTINGS.contains(word)
            || kept.statement_timeout && *word == STATEMENT_TIMEOUT
    };
    if words.iter().any(is_kept) {
        return Err("this setting cannot be changed".into());
    }
    match kept.fixes_path() && words.iter().any(|word| PATH_SETTINGS.contains(word)) {
        true => Err(OTHER_PATH),
        false => Ok(()),
    }
}

fn is_of_encoding(word: &&str) -> bool {
    matches!(*word, "client_encoding" | "names")
}

/// Whether a statement is `SET client_encoding TO value` or `SET NAMES value` with a safe encoding, and nothing else.
fn is_safe_encoding_set(tokens: &[Lexed], text: &[u8]) -> bool {
    let is = |lexed: &Lexed, word: &str| lexed.word() == Some(word);
    let rest = match tokens {
        [set, scope, rest @ ..]
            if is(set, "set") && (is(scope, "session") || is(scope, "local")) =>
        {
            rest
        }
        [set, rest @ ..] if is(set, "set") => rest,
        _ => return false,
    };
    let value = match rest {
        [names, value] if is(names, "names") => value,
        [name, sign, value]
            if is(name, "client_encoding")
                && (is(sign, "to") || sign.token == SqlToken::Symbol(b'=')) =>
        {
            value
        }
        _ => return false,
    };
    let source = &text[value.at.clone()];
    let quoted = source.strip_prefix(b"'").and_then(|rest| rest.strip_suffix(b"'"));
    let name = quoted.unwrap_or(source);
    // Neither escapes nor other quotes.
    let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
    name.iter().all(is_plain) && std::str::from_utf8(name).is_ok_and(is_safe_encoding)
}

#[cfg(test)]
mod tests {
    use super::super::read_only::REACHES_OTHERS;
    use super::*;

    fn read_only() -> EnforcedSettings {
        EnforcedSettings { read_only: true, ..EnforcedSettings::default() }
    }

    const READING: &[&str] = &[
        "",
        ";",
        "  -- nothing\n",
        "SELECT 1",
        "(SELECT 1) UNION (SELECT 2)",
        "select * from t where name = 'set role'; select 2;",
        "WITH x AS (SELECT 1) SELECT * FROM x",
        "VALUES (1)",
        "TABLE t",
        "EXPLAIN ANALYZE SELECT 1",
        "BEGIN",
        "begin isolation level repeatable read read only",
        "START TRANSACTION READ ONLY",
        "COMMIT AND CHAIN",
        "ROLLBACK TO SAVEPOINT a",
        "SET search_path TO a, b",
        "SET LOCAL statement_timeout = '1s'",
        "SET TIME ZONE 'UTC'",
        "SET application_name = 'x'",
        "SET client_encoding TO 'UTF8'",
        "SET NAMES 'utf-8';",
        "SET client_encoding='UTF8'; SELECT 1",
        "SET SESSION client_encoding = utf8 -- SJIS",
        "SET LOCAL client_encoding /* SJIS */ TO LATIN1",
        "RESET client_encoding",
        "SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL READ COMMITTED",
        "SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY",
        "SHOW default_transaction_read_only",
        "RESET ALL",
        "RESET ROLE",
        "DISCARD ALL",
        // What Npgsql sends in place of that.
        "SET SESSION AUTHORIZATION DEFAULT;RESET ALL;CLOSE ALL;UNLISTEN *;\
             SELECT pg_advisory_unlock_all();DISCARD SEQUENCES;DISCARD TEMP",
        "COPY t TO STDOUT",
        "COPY (SELECT * FROM t) TO STDOUT WITH (FORMAT csv)",
        "COPY t TO STDIN WITH DELIMITER E'\t' NULL AS E'\\\\N'",
        "DECLARE c CURSOR FOR SELECT * FROM t",
        "FETCH 10 FROM c",
        "PREPARE p AS SELECT $1::int",
        "EXECUTE p(1)",
        "LISTEN a",
        "SELECT lo_get(1)",
        "SELECT lo_revenue, t.lo_tax, sum(lo_quantity) FROM lineorder t GROUP BY lo_orderdate",
        // What pgAdmin begins with.
        "SELECT set_config('bytea_output','hex',false) FROM pg_show_all_settings() \
             WHERE name = 'bytea_output'",
        "SELECT current_setting('jit') AS cur, set_config('jit', 'off', false) AS new",
        "SELECT set_config('jit', $1, false)",
        "SELECT set_config('TimeZone', 'UTC', false)",
        "SELECT pg_catalog.set_config('search_path', '', false);",
        "SELECT set_config('app.user_id', $1, true), set_config('lock_timeout', '5s', true)",
        "SET application_name TO role",
        "SELECT \"into\", t.into, (t).into, a[1].into, 1 AS into FROM t",
        "SELECT U&'d\\0061t\\+000061', U&'x' UESCAPE '!' FROM t",
        "EXPLAIN SELECT refresh, \"create\" FROM t",
        "EXPLAIN (ANALYZE, COSTS OFF) SELECT f(x) refresh FROM t",
        "EXPLAIN ANALYZE VERBOSE (SELECT refresh FROM t)",
        "SELECT set_config(name, 'view, foreign-table', false) FROM pg_settings \
             WHERE name = 'restrict_nonsystem_relation_kind'",
        "LOCK TABLE public.t, public.u IN ACCESS SHARE MODE",
        "SET standard_conforming_strings = on",
        "set standard_conforming_strings TO ON;",
        "SELECT current_setting('transaction_read_only')",
    ];

    #[test]
    fn statements_that_read_pass() {
        for &text in READING {
            assert_eq!(check(text.as_bytes(), &read_only()), Ok(()), "{text}");
        }
    }

    #[test]
    fn what_reaches_other_sessions_is_refused_in_a_read_only_one() {
        for text in [
            "SELECT pg_notify('a', 'b')",
            "SELECT pg_advisory_lock(1)",
            "SELECT pg_catalog.\"pg_advisory_xact_lock_shared\"(1)",
            "SELECT pg_try_advisory_lock(1, 2)",
        ] {
            assert_eq!(check(text.as_bytes(), &read_only()), Err(REACHES_OTHERS), "{text}");
        }
        assert!(check(b"NOTIFY a, 'b'", &read_only()).is_err());
    }

    #[test]
    fn a_statement_cannot_change_the_enforced_statement_timeout() {
        let kept = EnforcedSettings { statement_timeout: true, ..read_only() };
        for text in ["SET statement_timeout = 0", "SET LOCAL \"Statement_Timeout\" TO 0"] {
            assert!(check(text.as_bytes(), &kept).is_err(), "{text}");
        }
    }

    #[test]
    fn a_session_is_given_only_the_user_of_its_login() {
        let kept = EnforcedSettings { loses_role: true, ..read_only() };
        let own = b"SET SESSION AUTHORIZATION DEFAULT";
        assert!(check(own, &kept).expect_err("it ends the role").contains("would end the role"));
        for text in [
            "SET SESSION AUTHORIZATION \"default\"",
            "SET SESSION AUTHORIZATION 'default'",
            "SET SESSION AUTHORIZATION app",
            "SET LOCAL SESSION AUTHORIZATION DEFAULT",
            "SET session_authorization TO DEFAULT",
            "RESET SESSION AUTHORIZATION",
        ] {
            assert!(check(text.as_bytes(), &read_only()).is_err(), "{text}");
        }
    }

    /// The name of a function may be quoted, behind a schema, apart from its arguments, or behind the only one.
    #[test]
    fn functions_that_write_are_refused_wherever_their_names_are() {
        for text in [
            "SELECT lo_import('/etc/passwd')",
            "SELECT pg_catalog . \"lo_put\" /* a */ (1, 2, 'x')",
            "SELECT LO_UNLINK\n(1)",
            "SELECT (1::oid).lo_unlink",
            "SELECT x.lo_unlink FROM CAST(1 AS oid) x",
            "SELECT * FROM ts_stat('select set_config(''jit'', ''off'', false)::tsvector')",
            "WITH x AS (SELECT pg_terminate_backend(1)) TABLE x",
            "SELECT pg_logical_emit_message(false, 'a', 'b'), pg_wal_replay_pause()",
            "SELECT pg_read_file('/etc/passwd')",
            "SELECT ('/etc/passwd'::text).pg_read_binary_file",
            "SELECT * FROM pg_ls_dir('/')",
        ] {
            let reason = check(text.as_bytes(), &read_only()).expect_err(text);
            assert_eq!(reason, REFUSED_FUNCTION, "{text}");
        }
    }

    #[test]
    fn a_session_is_not_discarded_where_that_ends_the_role_of_the_connection() {
        let kept = EnforcedSettings { loses_role: true, ..read_only() };
        for text in ["DISCARD ALL", "SELECT 1; discard /* x */ all;"] {
            let reason = check(text.as_bytes(), &kept).expect_err(text);
            assert!(reason.contains("would end the role"), "{text}: {reason}");
        }
        for text in ["RESET ALL", "DISCARD TEMP", "DISCARD PLANS"] {
            assert_eq!(check(text.as_bytes(), &kept), Ok(()), "{text}");
        }
    }

    /// Each is tried at a real server too, where the others of `tests/real/postgres` are.
    #[test]
    fn statements_that_escape_the_read_only_mode_are_refused() {
        for text in WAYS_OUT.lines().map(str::trim).filter(|line| !line.is_empty()) {
            let text = text.replace("\\r", "\r").replace("\\n", "\n");
            assert!(check(text.as_bytes(), &read_only()).is_err(), "{text}");
        }
    }

    const WAYS_OUT: &str = include_str!("ways_out.sql");
}

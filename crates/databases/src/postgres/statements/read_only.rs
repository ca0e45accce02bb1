//! Which statements a read-only session may send: the first word must be one of those that read or that begin and end
//! transactions, and the statement may neither write nor reach other sessions.

use std::borrow::Cow;
use std::sync::LazyLock;

use crate::lists::lines;
use crate::rules::Reason;
use crate::sql::{Lexed, SqlToken, first_word, has_pair};

/// Statements that read, or only change the session.
const READING: &[&str] = &[
    "abort",
    "begin",
    "close",
    "commit",
    "copy",
    "deallocate",
    "declare",
    "discard",
    "end",
    "execute",
    "explain",
    "fetch",
    "listen",
    "move",
    "prepare",
    "release",
    "reset",
    "rollback",
    "savepoint",
    "select",
    "set",
    "show",
    "start",
    "table",
    "unlisten",
    "values",
    "with",
];

/// Functions of the server that reach outside of a transaction, by their names; `*` stands for the rest of one.
static OUTSIDE: LazyLock<Vec<&'static str>> =
    LazyLock::new(|| lines(include_str!("outside.txt")).flat_map(str::split_whitespace).collect());

/// Functions that reach other sessions as `NOTIFY` and locks do, by how their names begin. A read-only session calls none.
const REACHING_PREFIXES: &[&str] =
    &["pg_advisory_lock", "pg_advisory_xact_lock", "pg_notify", "pg_try_advisory_"];

pub(super) const REFUSED_FUNCTION: Reason =
    Cow::Borrowed("a function in it could change settings, run statements, write or reach files");
pub(super) const REACHES_OTHERS: Reason =
    Cow::Borrowed("notifications and advisory locks reach other sessions, which a read does not");

/// Checks that a statement of a read-only session reads.
pub(super) fn reads(first: &str, words: &[&str], tokens: &[Lexed]) -> Result<(), Reason> {
    // What a SELECT locks: `pg_dump` does so before it reads.
    // In quotes they would be names of tables, and the lock the strongest one.
    let locks_as_a_read = first == "lock"
        && words.ends_with(&["in", "access", "share", "mode"])
        && tokens.iter().rev().take(4).all(|lexed| lexed.bare_word().is_some());
    if !READING.contains(&first) && !locks_as_a_read {
        return Err("only statements that read are permitted".into());
    }
    // Servers create the table of a prepared SELECT … INTO for EXPLAIN ANALYZE EXECUTE also in a read-only transaction, at
    // least up to version 15. The same holds for EXPLAIN ANALYZE of the statement itself.
    if (0..tokens.len()).any(|at| is_into(tokens, at)) {
        return Err("only statements that read are permitted, none with INTO".into());
    }
    if words.iter().any(|word| REACHING_PREFIXES.iter().any(|prefix| word.starts_with(prefix))) {
        return Err(REACHES_OTHERS);
    }
    // Names of functions stand anywhere in a statement, also quoted, behind a schema, or behind a value: `(1::oid).lo_unlink`.
    if words.iter().any(|word| reaches_outside(word)) {
        return Err(REFUSED_FUNCTION);
    }
    match first {
        "set" | "begin" | "start" | "abort" | "commit" | "end" | "rollback" => mode(words),
        "copy" => copy(tokens),
        "explain" => explain(tokens),
        _ => Ok(()),
    }
}

fn reaches_outside(word: &str) -> bool {
    OUTSIDE.iter().any(|name| match name.strip_suffix('*') {
        Some(begin) => word.starts_with(begin),
        None => word == *name,
    })
}

/// Whether the keyword `INTO` is here: in quotes, behind `AS`, or as a field, it is a name. `1.` and `1_0.` are numbers.
fn is_into(tokens: &[Lexed], at: usize) -> bool {
    let before = |count: usize| at.checked_sub(count).map(|at| &tokens[at]);
    let is_field = match [before(1), before(2), before(3)] {
        [Some(dot), Some(row), _] if dot.is_symbol(b'.') && row.word().is_none() => {
            row.is_symbol(b')') || row.is_symbol(b']')
        }
        [Some(dot), Some(row), before] if dot.is_symbol(b'.') => {
            before.is_none_or(|it| it.token != SqlToken::Constant || it.at.end < row.at.start)
        }
        _ => false,
    };
    let is_label = before(1).is_some_and(|it| it.bare_word() == Some("as"));
    tokens[at].bare_word() == Some("into") && !is_field && !is_label
}

fn mode(words: &[&str]) -> Result<(), Reason> {
    match has_pair(words, ["read", "write"]) {
        true => Err("a transaction cannot be made read-write".into()),
        false => Ok(()),
    }
}

/// Servers create a table for `EXPLAIN ANALYZE CREATE TABLE … AS` also in a read-only transaction, at least up to version 15. What
/// is explained follows words and a list of options.
fn explain(tokens: &[Lexed]) -> Result<(), Reason> {
    let is_option = |lexed: &&Lexed| {
        matches!(lexed.bare_word(), Some("explain" | "analyze" | "analyse" | "verbose"))
    };
    let mut rest = &tokens[tokens.iter().take_while(is_option).count()..];
    if let [open, option, ..] = rest
        && open.is_symbol(b'(')
        && option.word().is_some_and(|word| !READING.contains(&word))
    {
        let end = rest.iter().position(|lexed| lexed.is_symbol(b')'));
        rest = end.map_or(rest, |end| &rest[end + 1..]);
    }
    match first_word(rest) {
        Some("create" | "refresh") => Err("only statements that read are explained".into()),
        _ => Ok(()),
    }
}

/// `COPY … TO STDOUT` alone: neither from anywhere, nor to a file or a program.
fn copy(tokens: &[Lexed]) -> Result<(), Reason> {
    let mut depth = 0_i32;
    let mut outside = Vec::new();
    for lexed in tokens {
        match &lexed.token {
            SqlToken::Symbol(b'(') => depth += 1,
            SqlToken::Symbol(b')') => depth -= 1,
            SqlToken::Word(word) if depth == 0 => outside.push(word.as_str()),
            _ => {}
        }
    }
    // Servers treat both words alike, and PHP sends the wrong one.
    let to_stdout = has_pair(&outside, ["to", "stdout"]) || has_pair(&outside, ["to", "stdin"]);
    let elsewhere = outside.iter().any(|word| matches!(*word, "from" | "program"));
    // A schema or a table may be named "to".
    let is_plain = outside.iter().filter(|word| **word == "to").count() == 1;
    match to_stdout && is_plain && !elsewhere {
        true => Ok(()),
        false => Err("only COPY to STDOUT is permitted".into()),
    }
}

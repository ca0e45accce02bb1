//! Which statements a session may send. All that change or show users of the server are refused in every session.
//! Read-only sessions refuse clauses that write, commands that are not listed, and calls of functions and procedures
//! that are not listed: the server's access mode does not hold what those do. The names are data: `names.tsv`.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::sync::LazyLock;

use super::cypher::unescaped;
use crate::lists::lines;
use crate::sql::{Lexed, SqlToken, loose_tokens};

/// The words of `SHOW` that are compared.
const SHOW_WORDS_MAX: usize = 4;

/// Longer names are not in the list.
const NAME_BYTES_MAX: usize = 200;

/// Stands before a word that does not follow.
const NOT: char = '!';

/// Why a statement is refused. A sentence without a full stop.
pub type Reason = Cow<'static, str>;

/// The rows of the list, by their kinds.
static NAMES: LazyLock<HashMap<&'static str, HashSet<&'static str>>> = LazyLock::new(|| {
    let mut all = HashMap::<&str, HashSet<&str>>::new();
    for (kind, name) in lines(include_str!("names.tsv")).filter_map(|line| line.split_once('\t')) {
        all.entry(kind).or_default().insert(name);
    }
    all
});

/// Words in a row that no session may send.
static REFUSED: LazyLock<Vec<Vec<&'static str>>> = LazyLock::new(|| phrases("every"));

/// Those that read-only sessions may not send.
static COMMANDS: LazyLock<Vec<Vec<&'static str>>> = LazyLock::new(|| phrases("command"));

fn phrases(kind: &str) -> Vec<Vec<&'static str>> {
    named(kind).map(|words| words.split(' ').collect()).collect()
}

fn named(kind: &str) -> impl Iterator<Item = &'static str> {
    NAMES.get(kind).into_iter().flatten().copied()
}

fn is_named(kind: &str, name: &str) -> bool {
    NAMES.get(kind).is_some_and(|names| names.contains(name))
}

/// Checks a statement. `tokens`: those of the text, if it is readable.
///
/// # Errors
/// Why it is refused.
pub fn check(statement: &str, tokens: Option<&[Lexed]>, read_only: bool) -> Result<(), Reason> {
    let Some(tokens) = tokens else {
        let loose = loose_tokens(unescaped(statement).as_bytes());
        every(&loose)?;
        return match read_only {
            true => {
                Err("the connection is read-only, and the statement cannot be read for certain: \
                         pass values as parameters, and write names without `\\u`"
                    .into())
            }
            false => Ok(()),
        };
    };
    every(tokens)?;
    match read_only {
        true => (0..tokens.len()).try_for_each(|at| token_reads(tokens, at)),
        false => Ok(()),
    }
}

/// What no session may send: words in a row, pairs of words with anything in between, and procedures.
fn every(tokens: &[Lexed]) -> Result<(), Reason> {
    let refused = |at: usize| {
        begins(tokens, at)
            && (REFUSED.iter().any(|words| follow(&tokens[at..], words))
                || is_refused_call(&tokens[at..]))
    };
    let is_pair = |pair: &str| {
        let (one, other) = pair.split_once(' ').unwrap_or((pair, ""));
        let is_begin = |at: &usize| tokens[*at].bare_word() == Some(one) && begins(tokens, *at);
        let begin = (0..tokens.len()).find(is_begin);
        begin.is_some_and(|at| tokens[at..].iter().any(|word| word.bare_word() == Some(other)))
    };
    match (0..tokens.len()).any(refused) || named("pair").any(is_pair) {
        true => Err("users and rights of the server are not for sessions".into()),
        false => Ok(()),
    }
}

fn is_refused_call(tokens: &[Lexed]) -> bool {
    let Some((call, after)) = tokens.split_first() else { return false };
    let is_refused = |name: String| named("refused").any(|space| name.starts_with(space));
    call.bare_word() == Some("call") && procedure(after).is_some_and(is_refused)
}

/// Whether the tokens begin with these words.
fn follow(mut tokens: &[Lexed], words: &[&str]) -> bool {
    for word in words {
        let next = tokens.first().and_then(Lexed::bare_word);
        if let Some(other) = word.strip_prefix(NOT) {
            return next != Some(other);
        }
        if next != Some(*word) {
            return false;
        }
        tokens = &tokens[1..];
    }
    true
}

/// Whether a bare word can be a keyword here: not the name of a property, a label, a parameter or a key of a map.
fn begins(tokens: &[Lexed], at: usize) -> bool {
    // `1.` may be a number.
    let is_number = |at: usize| at > 0 && tokens[at - 1].token == SqlToken::Constant;
    let is_name_after = |before: usize| match tokens[before].is_symbol(b'.') {
        true => !is_number(before),
        false => b":$|&!@".iter().any(|symbol| tokens[before].is_symbol(*symbol)),
    };
    tokens[at].bare_word().is_some()
        && !at.checked_sub(1).is_some_and(is_name_after)
        && !tokens.get(at + 1).is_some_and(|after| after.is_symbol(b':'))
}

/// Checks what begins with this token in a read-only session.
fn token_reads(tokens: &[Lexed], at: usize) -> Result<(), Reason> {
    if tokens[at].is_symbol(b'(') {
        return function_reads(tokens, at);
    }
    if !begins(tokens, at) {
        return Ok(());
    }
    let word = tokens[at].bare_word().unwrap_or_default();
    let after = &tokens[at + 1..];
    match word {
        "call" => procedure_reads(after),
        "show" => show_reads(after),
        "load" if after.first().and_then(Lexed::bare_word) == Some("csv") => {
            Err("the connection is read-only, and LOAD CSV reads files and other servers".into())
        }
        word if is_named("clause", word)
            || COMMANDS.iter().any(|words| follow(&tokens[at..], words)) =>
        {
            let word = word.to_ascii_uppercase();
            Err(format!("the connection is read-only, and {word} writes").into())
        }
        _ => Ok(()),
    }
}

/// The name before a parenthesis, with its namespace, and where it begins.
fn name_before(tokens: &[Lexed], end: usize) -> Option<(usize, String)> {
    let mut at = end.checked_sub(1)?;
    let mut name = tokens[at].word()?.to_owned();
    while at >= 2
        && name.len() < NAME_BYTES_MAX
        && tokens[at - 1].is_symbol(b'.')
        && let Some(space) = tokens[at - 2].word()
    {
        name = format!("{space}.{name}");
        at -= 2;
    }
    Some((at, name))
}

/// `at`: a parenthesis.
fn function_reads(tokens: &[Lexed], at: usize) -> Result<(), Reason> {
    let Some((begin, name)) = name_before(tokens, at) else { return Ok(()) };
    let is_bare = begin + 1 == at && tokens[begin].bare_word().is_some();
    let is_call = |at: usize| tokens[at].bare_word() == Some("call") && begins(tokens, at);
    let is_procedure = begin.checked_sub(1).is_some_and(is_call);
    if is_procedure || is_bare && is_named("keyword", &name) || is_named("function", &name) {
        return Ok(());
    }
    Err(format!(
        "the connection is read-only, and the function {} is not known to read",
        shown(&name)
    )
    .into())
}

/// The name of the procedure that is called; `None` for a subquery. `after`: what follows `CALL`.
fn procedure(after: &[Lexed]) -> Option<String> {
    after.first()?.word()?;
    let mut end = 1;
    while after.get(end).is_some_and(|dot| dot.is_symbol(b'.'))
        && after.get(end + 1).is_some_and(|word| word.word().is_some())
    {
        end += 2;
    }
    name_before(after, end).map(|(_, name)| name)
}

fn procedure_reads(after: &[Lexed]) -> Result<(), Reason> {
    let Some(name) = procedure(after) else { return Ok(()) };
    if is_named("procedure", &name) {
        return Ok(());
    }
    let name = shown(&name);
    Err(format!("the connection is read-only, and the procedure {name} is not known to read")
        .into())
}

/// `after`: what follows `SHOW`.
fn show_reads(after: &[Lexed]) -> Result<(), Reason> {
    let words: Vec<&str> = after.iter().map_while(Lexed::bare_word).take(SHOW_WORDS_MAX).collect();
    let is_listed = (1..=words.len()).any(|length| is_named("show", &words[..length].join(" ")));
    match is_listed {
        true => Ok(()),
        false => {
            Err("the connection is read-only, and this SHOW is not for read-only sessions".into())
        }
    }
}

/// A name for a message: any other text is not repeated.
fn shown(name: &str) -> &str {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.');
    if name.len() <= 100 && name.chars().all(is_plain) { name } else { "of this name" }
}

#[cfg(test)]
mod tests {
    use super::super::cypher::tokens;
    use super::*;

    fn checked(statement: &str, read_only: bool) -> Result<(), Reason> {
        check(statement, tokens(statement).as_deref(), read_only)
    }

    #[test]
    fn every_line_of_the_list_has_a_known_kind_and_a_name_in_lower_case() {
        for line in lines(include_str!("names.tsv")) {
            let (kind, name) = line.split_once('\t').unwrap_or_else(|| panic!("{line}"));
            let kinds =
                "every pair refused clause command show keyword function procedure".split(' ');
            assert!(kinds.into_iter().any(|it| it == kind), "{line}");
            assert_eq!(name, name.to_ascii_lowercase().trim(), "{line}");
        }
    }

    #[test]
    fn statements_that_read_pass_in_a_read_only_session() {
        for statement in include_str!("reading.cypher").split(";\n").filter(|it| !it.is_empty()) {
            assert_eq!(checked(statement, true), Ok(()), "{statement}");
            assert_eq!(checked(statement, false), Ok(()), "{statement}");
        }
    }

    #[test]
    fn ways_around_a_read_only_session_are_refused() {
        let ways = include_str!("ways_around.cypher");
        let ways: Vec<_> = ways.split(";\n").filter(|it| !it.trim().is_empty()).collect();
        assert!(ways.len() >= 25, "{}", ways.len());
        for statement in ways {
            assert!(checked(statement, true).is_err(), "{statement}");
        }
        // A carriage return ends a comment at some servers, and a blank of Unicode separates words.
        for statement in ["RETURN 1 // \rCALL dbms.killQuery('1')", "CALL\u{a0}dbms.shutdown()"] {
            assert!(checked(statement, true).is_err(), "{statement}");
        }
    }

    #[test]
    fn users_and_rights_of_the_server_are_refused_in_every_session() {
        for statement in [
            "ALTER USER app SET PASSWORD 'x'",
            "alter /* */ user app SET PASSWORD CHANGE NOT REQUIRED",
            "CYPHER 5 ALTER CURRENT USER SET PASSWORD FROM 'a' TO 'b'",
            "CREATE USER x SET PASSWORD 'y'",
            "CREATE OR REPLACE USER x SET PLAINTEXT PASSWORD 'y'",
            "DROP USER x",
            "RENAME USER x TO y",
            "SHOW USERS",
            "SHOW USERS WITH AUTH",
            "SHOW USER",
            "GRANT ROLE admin TO x",
            "DENY READ {*} ON GRAPH * TO x",
            "REVOKE ROLE admin FROM x",
            "USE system CREATE ROLE x",
            "CALL dbms.security.changePassword('x')",
            "CALL `dbms`.security.createUser('x', 'y')",
            "ALT\\u0045R USER app SET PASSWORD 'x'",
            "ALTER USER 'unreadable",
        ] {
            assert!(checked(statement, false).is_err(), "{statement}");
        }
        for statement in [
            "SHOW CURRENT USER",
            "SHOW USER DEFINED FUNCTIONS",
            "MATCH (n:User {user: 'a'}) SET n.password = $password",
            "CREATE (:User {grant: 1, to: 2})",
            "RETURN 'ALTER USER x SET PASSWORD 1' // DROP USER x",
            "MATCH (`drop user`) DELETE `drop user`",
        ] {
            assert_eq!(checked(statement, false), Ok(()), "{statement}");
        }
    }
}

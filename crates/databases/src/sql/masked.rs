//! [`masked`]: a statement for the audit log. Words and operators stay; each literal becomes `?`, and comments are omitted.

use super::{Lexed, SqlToken};

/// The longest text in a record, in bytes.
const MASKED_BYTES_MAX: usize = 4096;

/// Recorded for a text that Keyward may read otherwise than the server.
const UNREADABLE: &str = "(not readable)";

/// A statement without its literals. Nothing of a literal stays, also if the server reads backslashes in strings otherwise
/// than it does by default: behind such a string, the text is cut. `tokens`: those of the text, if it is readable.
pub fn masked(text: &[u8], tokens: Option<&[Lexed]>) -> String {
    let Some(tokens) = tokens else { return UNREADABLE.to_owned() };
    let mut out = String::new();
    let mut before: Option<&Lexed> = None;
    for lexed in tokens {
        // `0x1F` and `1_000` are a number and a word for old servers.
        let continues =
            |before: &Lexed| before.token == SqlToken::Constant && before.at.end == lexed.at.start;
        if matches!(lexed.token, SqlToken::Word(_)) && before.is_some_and(continues) {
            continue;
        }
        if out.len() > MASKED_BYTES_MAX {
            out.push('…');
            break;
        }
        if before.is_some_and(|before| is_apart(before, lexed)) {
            out.push(' ');
        }
        push(&lexed.token, &mut out);
        let source = &text[lexed.at.clone()];
        let is_string = matches!(source.last(), Some(b'\'' | b'"'))
            // `E'…'` of PostgreSQL always has escapes.
            && !matches!(source.first(), Some(b'e' | b'E'));
        if lexed.token == SqlToken::Constant && is_string && source.contains(&b'\\') {
            out.push('…');
            break;
        }
        before = Some(lexed);
    }
    out
}

fn push(token: &SqlToken, out: &mut String) {
    match token {
        SqlToken::Constant => out.push('?'),
        SqlToken::Symbol(symbol) => out.push(char::from(*symbol)),
        SqlToken::Word(word) => {
            let is_plain = |c: char| c.is_alphanumeric() || matches!(c, '_' | '$');
            let shown: String = word.chars().filter(|c| !c.is_control()).take(128).collect();
            match word.chars().all(is_plain) && !word.is_empty() {
                true => out.push_str(&shown),
                false => {
                    out.push('"');
                    out.push_str(&shown);
                    out.push('"');
                }
            }
        }
    }
}

/// Whether a blank is between two tokens. Operators of several characters are tokens in a row.
fn is_apart(before: &Lexed, after: &Lexed) -> bool {
    match (&before.token, &after.token) {
        (SqlToken::Symbol(b'(' | b'.'), _) | (_, SqlToken::Symbol(b')' | b'.' | b',' | b';')) => {
            false
        }
        (SqlToken::Symbol(_), SqlToken::Symbol(_)) => before.at.end != after.at.start,
        (_, SqlToken::Symbol(b'(')) => before.at.end != after.at.start,
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{mysql, postgres};

    #[test]
    fn literals_are_masked_and_the_rest_stays() {
        let masked = |text: &[u8]| masked(text, postgres::tokens(text).ok().as_deref());
        for (text, expected) in [
            (
                "SELECT a, b FROM t WHERE a='canary' AND b >= 1.5e7 -- canary",
                "select a, b from t where a = ? and b >= ?.?",
            ),
            (
                "INSERT INTO s.\"My T\" VALUES ('canary', E'can\\'ary', $$canary$$)",
                "insert into s.\"my t\" values (?, ?, ?)",
            ),
            ("select 0x1F, 1_000, x'ff', $1::int", "select ?, ?, ?, ? :: int"),
            ("select count(*) from t; select 2", "select count(*) from t; select ?"),
            ("select 'a\\' , canary", "select ?…"),
            ("select 'canary", "(not readable)"),
            ("select U&'canary', U&'ca\\0061ry', canary", "select ?, ?…"),
            ("select U&\"canary\"", "(not readable)"),
            ("", ""),
        ] {
            assert_eq!(masked(text.as_bytes()), expected, "{text}");
        }
        let long = format!("select {}", "a, ".repeat(10_000));
        assert!(masked(long.as_bytes()).len() < MASKED_BYTES_MAX + 200);
    }

    #[test]
    fn literals_of_mysql_are_masked() {
        let masked = |text: &[u8]| masked(text, mysql::tokens(text).ok().as_deref());
        for (text, expected) in [
            (
                "SELECT `My T` FROM t WHERE a=\"canary\" # canary",
                "select \"my t\" from t where a = ?",
            ),
            ("select 0x1F, 1e5, 1.5E+7, x'ff', b'1', n'canary'", "select ?, ?, ?.?, ?, ?, ?"),
            ("select _utf8mb4'canary', @a", "select _utf8mb4 ?, @ a"),
            ("select 'a\\'', canary", "select ?…"),
            ("select n'a\\'', canary", "select ?…"),
            ("select \"a\\\"\", canary", "select ?…"),
            ("select /*! 'canary' */ 1", "(not readable)"),
        ] {
            assert_eq!(masked(text.as_bytes()), expected, "{text}");
        }
    }
}

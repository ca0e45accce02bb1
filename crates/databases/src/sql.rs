//! What the lexers of all dialects of SQL share, and [`masked`], a statement for the audit log.

use std::ops::Range;

/// A token. Constants have no content: what is inside a string is not a statement.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum SqlToken {
    /// A keyword or a name, in lower case; also a quoted name, and the name of a variable.
    Word(String),
    /// A string, a number or a parameter.
    Constant,
    /// One character of an operator or a separator.
    Symbol(u8),
}

/// A token, and where it is in the text.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Lexed {
    pub token: SqlToken,
    pub at: Range<usize>,
}

/// A place in a statement.
#[derive(Clone, Debug)]
pub struct Cursor<'a> {
    pub text: &'a [u8],
    pub at: usize,
}

impl Lexed {
    pub fn word(&self) -> Option<&str> {
        match &self.token {
            SqlToken::Word(word) => Some(word),
            SqlToken::Constant | SqlToken::Symbol(_) => None,
        }
    }

    /// A word without quotes, which alone can be a keyword.
    pub fn bare_word(&self) -> Option<&str> {
        self.word().filter(|word| word.len() == self.at.len())
    }

    pub fn is_symbol(&self, symbol: u8) -> bool {
        self.token == SqlToken::Symbol(symbol)
    }
}

impl Cursor<'_> {
    /// The byte at this distance from the cursor; 0 after the end.
    pub fn peek(&self, ahead: usize) -> u8 {
        self.text.get(self.at + ahead).copied().unwrap_or_default()
    }

    /// Advances while `is_part` accepts the next byte.
    pub fn skip(&mut self, is_part: impl Fn(u8) -> bool) {
        while self.text.get(self.at).is_some_and(|byte| is_part(*byte)) {
            self.at += 1;
        }
    }

    /// The word of these bytes, from here on.
    pub fn word(&mut self, is_part: impl Fn(u8) -> bool) -> SqlToken {
        let from = self.at;
        self.skip(is_part);
        SqlToken::Word(lower(&self.text[from..self.at]))
    }

    /// A string, in which a quote is doubled, and with `escapes` a backslash escapes; `None` if it does not end.
    pub fn string(&mut self, quote: u8, escapes: bool) -> Option<SqlToken> {
        self.at += 1;
        loop {
            let byte = *self.text.get(self.at)?;
            if byte == b'\\' && escapes || byte == quote && self.peek(1) == quote {
                self.at += 2;
            } else {
                self.at += 1;
                if byte == quote {
                    return Some(SqlToken::Constant);
                }
            }
        }
    }

    /// A quoted name, in which a quote is doubled; `None` if it does not end. In lower case as well, because names of
    /// settings are compared so.
    pub fn quoted_name(&mut self, quote: u8) -> Option<SqlToken> {
        self.at += 1;
        let mut name = Vec::new();
        loop {
            let byte = *self.text.get(self.at)?;
            if byte != quote {
                self.at += 1;
            } else if self.peek(1) == quote {
                self.at += 2;
            } else {
                self.at += 1;
                return Some(SqlToken::Word(lower(&name)));
            }
            name.push(byte);
        }
    }
}

/// Converts to lower case. Only ASCII is folded, as servers fold the names that matter here.
pub fn lower(name: &[u8]) -> String {
    String::from_utf8_lossy(&name.to_ascii_lowercase()).into_owned()
}

/// Splits a text at semicolons. A semicolon inside parentheses also splits, which only makes the check stricter.
pub fn statements(tokens: &[Lexed]) -> impl Iterator<Item = &[Lexed]> {
    tokens.split(|lexed| lexed.token == SqlToken::Symbol(b';'))
}

/// The words of a text that no lexer reads for certain, without regard to strings and comments. A quote is a constant.
pub fn loose_tokens(text: &[u8]) -> Vec<Lexed> {
    let is_part = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte >= 0x80;
    let (mut cursor, mut found) = (Cursor { text, at: 0 }, Vec::new());
    while cursor.at < text.len() {
        let begun = cursor.at;
        let token = match cursor.peek(0) {
            // Marks of comments, and the versions in them.
            b'/' | b'*' | b'!' | b'0'..=b'9' | 0..=b' ' => {
                cursor.at += 1;
                continue;
            }
            byte if is_part(byte) => cursor.word(is_part),
            byte => {
                cursor.at += 1;
                match byte {
                    b'\'' | b'"' | b'$' => SqlToken::Constant,
                    symbol => SqlToken::Symbol(symbol),
                }
            }
        };
        // `/*M!`
        if cursor.peek(0) != b'!' {
            found.push(Lexed { token, at: begun..cursor.at });
        }
    }
    found
}

/// The first word of a statement, which may stand in parentheses; empty if it begins with something else. `None`: it is empty.
pub fn first_word(statement: &[Lexed]) -> Option<&str> {
    let first = statement.iter().find(|lexed| lexed.token != SqlToken::Symbol(b'('))?;
    Some(first.word().unwrap_or_default())
}

/// Whether these two words follow each other.
pub fn has_pair(words: &[&str], pair: [&str; 2]) -> bool {
    words.windows(2).any(|two| two == pair)
}

/// Where the tokens of one statement are in their text.
pub fn span(tokens: &[Lexed]) -> Range<usize> {
    match (tokens.first(), tokens.last()) {
        (Some(first), Some(last)) => first.at.start..last.at.end,
        _ => 0..0,
    }
}

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

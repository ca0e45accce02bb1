//! What the lexers of all dialects of SQL share, and [`masked`], a statement for the audit log.

mod masked;

use std::ops::Range;

pub use self::masked::masked;

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
